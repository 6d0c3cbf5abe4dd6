"""Stores that an earlier release has made: this one opens them, reads all that is in them, and goes on writing."""

from __future__ import annotations

import importlib.util
import json
import sys
import tarfile
from pathlib import Path

import pytest

from kvdialect import Session, create_engine, exc
from kvdialect.storage import WriteBatch
from kvdialect.storage.storedir import FORMAT

FIXTURES = Path(__file__).parent / "fixtures"


def _module(name):
    """A module beside the fixtures, which are no package: what makes them has to run by itself."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FIXTURES / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


records = _module("stored_records")
make = _module("make")


@pytest.fixture(params=range(1, FORMAT + 1), ids=lambda number: f"format {number}")
def number(request):
    return request.param


@pytest.fixture
def url(engine_name, number, tmp_path):
    """A store of a format, unpacked."""
    if engine_name == "memory":
        pytest.skip("a memory store ends with its process; the fixtures are of lmdb and rocksdb")
    pytest.importorskip("apsw", reason="the fixtures have tables of SQL: needs kvdialect[sql]; tox -e full has it")
    with tarfile.open(FIXTURES / f"format-{number}.{engine_name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return f"{engine_name}:///{tmp_path / 'store'}"


def _opened(url):
    engine = create_engine(url, column_families=[make.TALLIES])
    records.models.create_all(engine)
    return engine


def test_a_store_of_an_earlier_format_is_read(url, number):
    """Something that a release has stored is read as something else, or not at all."""
    expected = json.loads((FIXTURES / f"format-{number}.json").read_text())

    with _opened(url) as engine:
        found = make.found(engine)
        whole = engine.verify(apart=False)

    assert found == expected
    assert whole.ok, str(whole)


def test_a_store_of_an_earlier_format_is_written(url, number):
    """A store that a release has made takes no writes, or they do not fit what is there."""
    expected = json.loads((FIXTURES / f"format-{number}.json").read_text())
    with _opened(url) as engine:
        with Session(engine) as session, session.begin():
            session.get_one(records.Everything, 7).text = "another"
            session.delete(session.get_one(records.Evolved, 0))
            session.add(added := records.Numbered(name="more"))
        engine.backend.batch_write(WriteBatch().add(make.TALLIES, b"up", 1))
        with pytest.raises(exc.IntegrityError), Session(engine) as session, session.begin():
            session.add(records.Everything(8, text="another"))
        given = added.id

    with _opened(url) as engine:
        found = make.found(engine)
        whole = engine.verify(apart=False)

    assert whole.ok, str(whole)
    assert found["rows"]["evolved"] == expected["rows"]["evolved"] - 1
    assert found["rows"]["numbered"] == expected["rows"]["numbered"] + 1
    assert str(given) not in {each["id"] for each in expected["records"]["numbered"]}
    assert found["lookups"]["text"] == []
    assert found["lookups"]["word"] == [7]
    assert found["tallies"]["up"] == repr((43).to_bytes(8, "big"))


def test_there_is_a_fixture_of_each_format():
    """A new storage format came without a store of it: run tests/store/fixtures/make.py and commit what it makes."""
    for number in range(1, FORMAT + 1):
        for name in (*make.ENGINES, ""):
            packed = FIXTURES / (f"format-{number}.{name}.tar.xz" if name else f"format-{number}.json")
            assert packed.exists()
            assert packed.stat().st_size < 100_000
