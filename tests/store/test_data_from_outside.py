"""What stands in a store is data from outside: nothing of it is run, and what is damaged is a typed error."""

import base64
import json
from decimal import Decimal
from typing import Annotated

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry
from kvdialect.storage.options import RESERVED_FAMILY

models = registry()


@mapped(models)
class Town:
    """A record."""

    __tablename__ = "towns"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(index=True)
    money: Mapped[Annotated[Decimal, sa.Numeric(10, 2)]] = Decimal("1.00")
    more: Mapped[dict] = field(factory=dict)


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


LATER = {
    "layout without a place for a field": lambda entry: entry.update(format="bincode"),
    "index over what has no order": lambda entry: entry["indexes"][0]["parts"][0].update(name="more"),
    "index of the elements of what has none": lambda entry: entry["indexes"][0].update(kind="multi"),
}


@pytest.mark.parametrize("change", LATER.values(), ids=LATER)
def test_a_changed_entry_that_no_code_can_be_made_of_is_corruption(engine, change):
    """The table's code is made when the table is first used."""
    tamper(engine, b"catalog/table/towns", change)
    engine.reload()

    with pytest.raises(exc.Corruption, match="catalog entry of table towns is damaged"):
        engine.table("towns")


def test_a_catalog_nested_without_end_is_corruption(engine):
    """Reading it ended in a RecursionError, or the process."""
    for raw in (b"[" * 200_000, b'{"entry":1,"x":' + b"[" * 200_000, b'{"entry":\xff}', b"\x00" * 10, b""):
        engine.backend.put(RESERVED_FAMILY, b"catalog/table/towns", raw)
        engine.backend.put(RESERVED_FAMILY, b"catalog/version", (1000).to_bytes(8, "big"))
        with pytest.raises(exc.Corruption):
            engine.reload()


@pytest.mark.parametrize(
    "raw", [b'{"format":1,"engine":"l\xff","checksum":true}', b"[" * 100_000, b"", b"\0", b'{"a":1}']
)
def test_a_marker_that_is_anything_is_a_typed_error(engine_name, tmp_path, raw):
    """The file that says what a store is ended opening in an error of Python's."""
    if engine_name == "memory":
        pytest.skip("a memory store has no marker; it is tested on lmdb and rocksdb")
    (tmp_path / "KVDIALECT").write_bytes(raw)
    with pytest.raises(exc.StoreFormatError, match="cannot be read"):
        create_engine(f"{engine_name}:///{tmp_path}")


@pytest.mark.engine("lmdb")
@pytest.mark.parametrize(
    "raw", [b"", b"\xc1", b"\x83", b"\x83\xa8database\xa1a\xa3tag\xcd\x01\x2c\xa4seed\x01", b"\x91" * 50_000]
)
def test_a_damaged_place_of_a_family_is_corruption(tmp_path, raw):
    """LMDB's own pages have no checksum: opening gave an error of msgspec."""
    import lmdb

    from kvdialect import open_backend

    open_backend(f"lmdb:///{tmp_path / 'store'}", ["a"]).close()
    with lmdb.open(str(tmp_path / "store"), max_dbs=4) as env:
        own = env.open_db(b"kvdialect")
        with env.begin(write=True, db=own) as txn:
            assert txn.get(b"fa")
            txn.put(b"fa", raw)

    with pytest.raises(exc.Corruption, match="where the column family"):
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


PLACES_IN_A_TOKEN = [
    {"d": "sNaN"}, {"d": "1E+999999999999999999"}, {"f": "nan"}, {"f": "0x1p+99999"}, {"i": "9" * 1000},
    {"i": "9" * 1001}, {"t": "2024-01-01T00:00:00+23:59"}, {"p": "9" * 300}, {"u": "x"}, {"__import__": "os"},
    [[[[[]]]]],
    "text", b"bytes", None, True, {"i": 5}, {}, {"i": "1", "d": "2"},
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES_IN_A_TOKEN, ids=lambda place: repr(place)[:30])
def test_a_page_token_that_somebody_has_changed(place):
    """A token comes back from outside: a place in it that is anything gives a page or ArgumentError, no other error."""
    with create_engine("memory://") as engine:
        models.create_all(engine)
        statement = select(Town).order_by(Town.money)
        with Session(engine) as session, session.begin():
            session.add_all([Town(number, "x", Decimal(number)) for number in range(4)])
        with Session(engine) as session:
            token = session.page(statement, 2).next
            data = msgspec.msgpack.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            data[3] = [place]
            changed = base64.urlsafe_b64encode(msgspec.msgpack.encode(data)).rstrip(b"=").decode()
            try:
                found = session.page(statement, 2, after=changed)
            except exc.ArgumentError:
                return

    assert len(found) <= 2


@pytest.mark.parametrize("token", ["", "a", "====", "\u00e9", "A" * 100_000, "k" * 32_768, "3d" * 16_000, 5, b"x"])
def test_a_page_token_that_is_none(token):
    """Nothing but ArgumentError, and no work that grows with what was given."""
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with Session(engine) as session, pytest.raises(exc.ArgumentError, match="page token"):
            session.page(select(Town).order_by(Town.money), 2, after=token)
