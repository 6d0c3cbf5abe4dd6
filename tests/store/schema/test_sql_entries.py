"""What the catalog keeps of tables and views that SQL makes, to the byte, and what becomes of those it drops."""

from __future__ import annotations

import json

import attrs
import pytest

from kvdialect import exc
from kvdialect.codec.dynamic import DynamicKind
from kvdialect.codec.numeric import IntKind
from kvdialect.schema.definition import (
    ROWID,
    FieldDefinition,
    ForeignKeyDefinition,
    IndexDefinition,
    IndexPart,
    TableDefinition,
)
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.schema.sqlrows import SHARED_FAMILY
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store import sqlschema
from kvdialect.store.catalog import Catalog, View, encode_view, view_key
from kvdialect.store.entries import TableEntry, decode_entry, encode_entry
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, commit, write_rows

KEY = b"catalog/table/archive\0notes"


def notes(name="archive\0notes"):
    """A table as ``CREATE TABLE`` gives it: no ids yet."""
    return TableDefinition(
        name=name,
        fields=(
            FieldDefinition(name="a", kind=DynamicKind("TEXT", "NOCASE"), nullable=True),
            FieldDefinition(name="\0some\0where", kind=DynamicKind("BLOB"), nullable=True, hidden=True),
            FieldDefinition(name=ROWID, kind=IntKind(64), autoincrement=True, hidden=True),
        ),
        primary_key=(ROWID,),
        indexes=(
            IndexDefinition(name="sqlite_autoindex_notes_1", parts=(IndexPart(name="a"),), unique=True),
            IndexDefinition(
                name="some",
                parts=(IndexPart(name="a", descending=True, collation="NOCASE"),),
                where=Compare("=", Column("\0some\0where"), Constant(1)),
                statement="CREATE INDEX some ON notes(a DESC) WHERE a > 1",
            ),
        ),
        foreign_keys=(
            ForeignKeyDefinition(columns=("a",), table="archive\0t", targets=(), ondelete="SET NULL", deferred=True),
        ),
        layout="rowid",
        statement="CREATE TABLE notes(a TEXT COLLATE NOCASE UNIQUE REFERENCES t)",
    )


def numbered():
    """The same with its ids."""
    definition = notes()
    fields = tuple(attrs.evolve(each, id=at) for at, each in enumerate(definition.fields, 1))
    indexes = tuple(attrs.evolve(each, id=at) for at, each in enumerate(definition.indexes, 8))
    return TableEntry.new(attrs.evolve(definition, id=7, fields=fields, indexes=indexes))


OPTIONS = (
    '{"bloom":"none","bloom_bits":10,"compaction":"level","compression":"lz4","fifo_max_size":1073741824,'
    '"level0_file_num_compaction_trigger":4,"level0_slowdown_writes_trigger":20,"level0_stop_writes_trigger":36,'
    '"lmdb_database":null,"lmdb_tag":null,"max_bytes_for_level_base":268435456,"max_bytes_for_level_multiplier":10,'
    '"max_write_buffer_number":2,"num_levels":7,"prefix_length":32,"target_file_size_base":67108864,'
    '"write_buffer_size":67108864}'
)
GOLDEN = (
    '{"entry":2,"id":7,"name":"archive\\u0000notes","version":1,"next_field_id":4,"format":"msgpack",'
    f'"primary_key":["\\u0000rowid"],"options":{OPTIONS},'
    '"fields":[{"id":1,"name":"a","kind":{"affinity":"TEXT","collation":"NOCASE","kind":"sql"},"nullable":true},'
    '{"id":2,"name":"\\u0000some\\u0000where","kind":{"affinity":"BLOB","kind":"sql"},"nullable":true,"hidden":true},'
    '{"id":3,"name":"\\u0000rowid","kind":{"bits":64,"kind":"int","signed":true},"autoincrement":true,"hidden":true}],'
    '"indexes":[{"name":"sqlite_autoindex_notes_1","parts":[{"name":"a"}],"state":"readable",'
    f'"options":{OPTIONS},"unique":true,"id":8}},'
    '{"name":"some","parts":[{"name":"a","descending":true,"collation":"NOCASE"}],"state":"readable",'
    f'"options":{OPTIONS},"where":["compare","=",["column","\\u0000some\\u0000where"],["constant","int","1"]],"id":9,'
    '"statement":"CREATE INDEX some ON notes(a DESC) WHERE a > 1"}],'
    '"foreign_keys":[{"columns":["a"],"table":"archive\\u0000t","targets":[],"ondelete":"SET NULL","deferred":true}],'
    '"layout":"rowid","statement":"CREATE TABLE notes(a TEXT COLLATE NOCASE UNIQUE REFERENCES t)"}'
)


def test_entry_to_the_byte():
    """Entries of 0.1 as they stand in stores; no refactoring may change this text."""
    assert encode_entry(numbered()).decode() == GOLDEN


def test_entry_comes_back():
    """Everything that an entry says is there again; encoding it once more gives the same bytes."""
    entry = numbered()

    back = decode_entry(KEY, encode_entry(entry))

    assert back.definition == entry.definition
    assert [index.id for index in back.definition.indexes] == [8, 9]
    assert (back.history, back.next_field_id) == (entry.history, 4)
    assert encode_entry(back) == encode_entry(entry) == back.raw
    assert back.definition.sql_name == ("archive", "notes")
    assert back.families == {}


def test_view_to_the_byte():
    """A view of 0.1 as it stands in stores."""
    view = View("archive\0v", "CREATE VIEW v AS SELECT 'é'")

    assert view_key(view.name) == b"catalog/view/archive\0v"
    assert encode_view(view).decode() == '{"name":"archive\\u0000v","statement":"CREATE VIEW v AS SELECT \'é\'"}'


@pytest.mark.parametrize(
    "damage",
    [
        {"entry": 1},
        {"layout": "record"},
        {"layout": "columns"},
        {"statement": None},
        {"primary_key": []},
        {"fields": []},
        {"fields": [{"id": 1, "name": "\0rowid", "kind": {"kind": "sql", "affinity": "ANY"}}]},
    ],
    ids=["layout number", "record", "unknown layout", "no statement", "no key", "no fields", "kind"],
)
def test_damaged_entry_is_corruption(damage):
    """The entry's key is named, and nothing is guessed."""
    raw = json.dumps({**json.loads(GOLDEN), **damage}).encode()

    with pytest.raises(exc.Corruption, match=f"kvdialect\\[0x{KEY.hex()}\\] is damaged"):
        decode_entry(KEY, raw)


# ------------------------------------------------------------------------------------------------ within a transaction


def created(engine, name="notes"):
    """A table made by a transaction of its own."""
    txn = Transaction(engine)
    sqlschema.create_table(txn, engine.catalog, notes(name))
    commit(txn)
    engine.reload()
    return engine.table(name)


def test_tables_and_indexes_take_their_numbers_from_one_row(engine, model):
    """A record table takes one number, an SQL table one for itself and one for each index; they share a family."""
    engine.create_all([model.people()])

    table = created(engine)

    assert table.definition.id == 2
    assert [index.id for index in table.definition.indexes] == [3, 4]
    assert engine.backend.get(RESERVED_FAMILY, b"catalog/next-id") == b"\0\0\0\0\0\0\0\x05"
    assert engine.backend.column_families() == [SHARED_FAMILY, "people", "people_by_age", "people_by_name"]


def test_what_is_dropped_becomes_garbage_that_is_collected(engine):
    """The batch that drops a table notes its numbers; its rows, entries, count and ids go, and the notes last."""
    table = created(engine)
    txn = Transaction(engine)
    write_rows(txn, table, RowChanges(new=[("a", 1, 1), ("b", 0, 2)]))
    commit(txn)
    assert [key[:4] for key, _ in engine.backend.scan(SHARED_FAMILY)] == [
        b"\0\0\0\x01", b"\0\0\0\x01", b"\0\0\0\x02", b"\0\0\0\x02", b"\0\0\0\x03",
    ]  # fmt: skip

    txn = Transaction(engine)
    sqlschema.drop_table(txn, engine.catalog, "notes")
    commit(txn)

    own = dict(engine.backend.scan(RESERVED_FAMILY, b"", b"\xff"))
    assert own == {
        b"catalog/format": b"\0\0\0\0\0\0\0\x01",
        b"catalog/garbage/\0\0\0\x01": b"",
        b"catalog/garbage/\0\0\0\x02": b"",
        b"catalog/garbage/\0\0\0\x03": b"",
        b"catalog/next-id": b"\0\0\0\0\0\0\0\x04",
        b"catalog/version": b"\0\0\0\0\0\0\0\x03",
    }
    sqlschema.collect(engine.backend)
    assert list(engine.backend.scan(SHARED_FAMILY)) == []
    assert list(engine.backend.prefix_scan(RESERVED_FAMILY, b"catalog/garbage/")) == []


def test_garbage_is_collected_when_the_store_is_opened(engine_name, url, opened):
    """A process that ends between the two leaves it to the next one."""
    if engine_name == "memory":
        pytest.skip("a memory store ends with its process; the engines on disk show it")
    engine = opened(url)
    table = created(engine)
    txn = Transaction(engine)
    write_rows(txn, table, RowChanges(new=[("a", 1, 1)]))
    commit(txn)
    txn = Transaction(engine)
    sqlschema.drop_table(txn, engine.catalog, "notes")
    commit(txn)
    engine.close()

    engine = opened(url)

    assert list(engine.backend.scan(SHARED_FAMILY)) == []


def test_a_schema_that_changed_meanwhile_refuses_the_commit(engine):
    """Changes of the schema expect the version that they began with, so numbers are given out once."""
    first, second = Transaction(engine), Transaction(engine)
    sqlschema.create_table(first, engine.catalog, notes("one"))
    sqlschema.create_table(second, engine.catalog, notes("two"))
    commit(first)

    with pytest.raises(exc.ConflictError):
        commit(second)

    engine.reload()
    assert set(engine.catalog.entries) == {"one"}


def test_views_are_part_of_the_catalog(engine):
    """They come and go with the transaction that makes them."""
    txn = Transaction(engine)
    catalog = sqlschema.put_view(txn, engine.catalog, View("v", "CREATE VIEW v AS SELECT 1"))
    commit(txn)
    engine.reload()
    assert engine.catalog.views == catalog.views == {"v": View("v", "CREATE VIEW v AS SELECT 1")}

    txn = Transaction(engine)
    sqlschema.drop_view(txn, engine.catalog, "v")
    commit(txn)

    with engine.backend.snapshot() as snapshot:
        assert Catalog.load(snapshot).views == {}
