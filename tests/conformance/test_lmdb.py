"""The kit on LMDB, with the library's checksums and without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvdialect.testing import BackendConformance

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.engine("lmdb")
class TestLmdb(BackendConformance):
    def url(self, path: Path) -> str:
        return f"lmdb:///{path}"


@pytest.mark.engine("lmdb")
class TestLmdbWithoutChecksums(TestLmdb):
    options = {"checksum": "off"}  # noqa: RUF012 - as an author writes it
