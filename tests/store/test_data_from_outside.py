"""What stands in a store is data from outside: nothing of it is run, and what is damaged is a typed error."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kvdialect import Mapped, create_engine, exc, field, mapped, registry
from kvdialect.storage.options import RESERVED_FAMILY

models = registry()


@mapped(models)
class Town:
    """A record."""

    __tablename__ = "towns"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(index=True)


@pytest.fixture
def engine():
    pytest.importorskip("apsw", reason="the SQL door needs kvdialect[sql]; tox -e full has it")
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with engine.sqlalchemy().begin() as connection:
            connection.execute(text("CREATE TABLE plain (id INTEGER PRIMARY KEY, t TEXT)"))
            connection.execute(text("CREATE INDEX plain_t ON plain (t)"))
            connection.execute(text("CREATE VIEW seen AS SELECT t FROM plain"))
        yield engine


def tamper(engine, key, change):
    """Change an entry of the catalog behind the library's back."""
    entry = json.loads(engine.backend.get(RESERVED_FAMILY, key))
    change(entry)
    engine.backend.put(RESERVED_FAMILY, key, json.dumps(entry).encode())
    version = int.from_bytes(engine.backend.get(RESERVED_FAMILY, b"catalog/version"), "big")
    engine.backend.put(RESERVED_FAMILY, b"catalog/version", (version + 1).to_bytes(8, "big"))


def _behind(entry, more):
    entry["statement"] += more


PLACES = {
    "table": (b"catalog/table/plain", _behind),
    "index": (b"catalog/table/plain", lambda entry, more: _behind(entry["indexes"][0], more)),
    "view": (b"catalog/view/seen", _behind),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("trick", ["; ATTACH '{file}' AS p; CREATE TABLE p.t (a)", ";VACUUM INTO '{file}'", "\0;x"])
def test_a_statement_behind_a_stored_one_is_not_run(engine, tmp_path, place, trick):
    """Opening a store whose catalog somebody has changed ran SQL of theirs, which can write files."""
    file = tmp_path / "written"
    key, change = PLACES[place]
    tamper(engine, key, lambda entry: change(entry, trick.format(file=file)))
    engine.reload()

    with engine.sqlalchemy().connect() as connection, pytest.raises(DBAPIError, match="one CREATE") as caught:
        connection.execute(text("SELECT count(*) FROM plain, seen"))
    assert isinstance(caught.value.orig, exc.Corruption)
    assert not file.exists()


@pytest.mark.parametrize("statement", ["ATTACH '{file}' AS p", "VACUUM INTO '{file}'", "CREATE TRIGGER a", "", "'"])
def test_a_stored_statement_of_another_sort_is_not_run(engine, tmp_path, statement):
    """As above, with another statement in the place of the stored one."""
    file = tmp_path / "written"
    tamper(engine, b"catalog/view/seen", lambda entry: entry.update(statement=statement.format(file=file)))
    engine.reload()

    with engine.sqlalchemy().connect() as connection, pytest.raises(DBAPIError, match="one CREATE") as caught:
        connection.execute(text("SELECT * FROM seen"))
    assert isinstance(caught.value.orig, exc.Corruption)
    assert not file.exists()


CHANGES = {
    "name with NUL": lambda entry: entry["indexes"][0].update(name="a\0b"),
    "reserved name": lambda entry: entry["indexes"][0].update(name="kvdialect"),
    "collation": lambda entry: entry["indexes"][0]["parts"][0].update(collation="x; y"),
    "action": lambda entry: entry.update(
        foreign_keys=[{"columns": ["name"], "table": "towns", "targets": ["name"], "ondelete": "CASCADE); ATTACH"}]
    ),
    "unknown kind": lambda entry: entry["fields"][0].update(kind={"kind": "__import__('os')"}),
    "kind with more": lambda entry: entry["fields"][0]["kind"].update(python="os.system"),
    "column that is not there": lambda entry: entry.update(primary_key=["id; import os"]),
    "deep predicate": lambda entry: entry["indexes"][0].update(where=["not", *[["not"]] * 3]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_entry_is_corruption(engine, change):
    """An entry that says what this library never writes was taken, or ended in an error of Python's."""
    tamper(engine, b"catalog/table/towns", change)

    with pytest.raises(exc.Corruption, match="is damaged"):
        engine.reload()


def test_a_catalog_nested_without_end_is_corruption(engine):
    """Reading it ended in a RecursionError, or the process."""
    for raw in (b"[" * 200_000, b'{"entry":1,"x":' + b"[" * 200_000, b'{"entry":\xff}', b"\x00" * 10, b""):
        engine.backend.put(RESERVED_FAMILY, b"catalog/table/towns", raw)
        engine.backend.put(RESERVED_FAMILY, b"catalog/version", (1000).to_bytes(8, "big"))
        with pytest.raises(exc.Corruption):
            engine.reload()


@pytest.mark.parametrize("raw", [b'{"format":1,"engine":"l\xff","checksum":true}', b"[" * 100_000, b"", b"\0", b'{"a":1}'])
def test_a_marker_that_is_anything_is_a_typed_error(tmp_path, raw):
    """The file that says what a store is ended opening in an error of Python's."""
    (tmp_path / "KVDIALECT").write_bytes(raw)
    for name in ("lmdb", "rocksdb"):
        try:
            create_engine(f"{name}:///{tmp_path}")
        except exc.BackendNotInstalled:
            continue
        except exc.StoreFormatError as error:
            assert "cannot be read" in str(error)
        else:
            pytest.fail("it was opened")


@pytest.mark.engine("lmdb")
@pytest.mark.parametrize(
    "raw", [b"", b"\xc1", b"\x83", b"\x83\xa8database\xa1a\xa3tag\xcd\x01\x2c\xa4seed\x01", b"\x91" * 50_000]
)
def test_a_damaged_place_of_a_family_is_corruption(tmp_path, raw):
    """LMDB's own pages have no checksum: where a family lives may say anything, and opening gave an error of msgspec."""
    import lmdb

    from kvdialect import open_backend

    open_backend(f"lmdb:///{tmp_path / 'store'}", ["a"]).close()
    with lmdb.open(str(tmp_path / "store"), max_dbs=4) as env:
        own = env.open_db(b"kvdialect")
        with env.begin(write=True, db=own) as txn:
            assert txn.get(b"fa")
            txn.put(b"fa", raw)

    with pytest.raises(exc.Corruption, match="where the column family 'a' lives|where the column family b'a' lives"):
        open_backend(f"lmdb:///{tmp_path / 'store'}")


def test_a_damaged_commit_number_is_corruption():
    """The number that commit_outcome looks up ended in a struct.error where it was damaged."""
    from kvdialect.storage import tokens

    assert tokens.reached(None) == 0
    assert tokens.reached(tokens.written(7)) == 7
    with pytest.raises(exc.Corruption, match="16 bytes are expected"):
        tokens.reached(b"short")
    many = [(b"%d" % n, tokens.written(n)) for n in range(300)]
    assert tokens.outdated([*many, (b"bad", b"short")]) == [b"bad"]
    assert tokens.outdated(many[:10]) == []
