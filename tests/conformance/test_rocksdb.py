"""The kit on RocksDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvdialect.testing import BackendConformance

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.engine("rocksdb")
class TestRocksDB(BackendConformance):
    def url(self, path: Path) -> str:
        return f"rocksdb:///{path}"
