"""The kit on the memory engine: stores of their own, and stores shared by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvdialect.testing import BackendConformance

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.engine("memory")
class TestMemory(BackendConformance):
    def url(self, path: Path) -> str:
        return f"memory:///{path}"
