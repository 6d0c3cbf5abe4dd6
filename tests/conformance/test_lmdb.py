"""The kit on LMDB, with the library's checksums and without them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kvdialect.testing import BackendConformance

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.engine("lmdb")
class TestLmdb(BackendConformance):
    def url(self, path: Path) -> str:
        return f"lmdb:///{path}"


if os.environ.get("KVDIALECT_TEST_ENGINES", "lmdb") == "lmdb":
    # Not in environments of several engines, whose suites are the longest: the one with LMDB alone runs it.

    @pytest.mark.engine("lmdb")
    class TestLmdbWithoutChecksums(TestLmdb):
        options = {"checksum": "off"}  # noqa: RUF012 - as an author writes it
