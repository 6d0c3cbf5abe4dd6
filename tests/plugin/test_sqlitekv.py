"""A fourth backend, outside the package: found by its entry point, shown by the kit."""

from __future__ import annotations

from pathlib import Path

import kvdialect
from kvdialect.storage import known_engines
from kvdialect.testing import BackendConformance


class TestSqliteKV(BackendConformance):
    def url(self, path: Path) -> str:
        return f"sqlitekv:///{path}"


def test_the_plug_in_is_found_by_its_entry_point():
    """The registry must list an engine that only an entry point of another distribution names."""
    assert "sqlitekv" in known_engines()


def test_the_package_does_not_know_the_plug_in():
    """The seam is proved only if nothing in kvdialect names this backend."""
    sources = list(Path(kvdialect.__file__).parent.rglob("*.py"))

    assert sources
    assert [source for source in sources if "sqlitekv" in source.read_text("utf-8")] == []
