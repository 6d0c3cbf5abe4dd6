"""Rows and index entries of the tables that SQL makes: golden bytes, round trips, and what damaged bytes give.

The bytes stand in stores: never edit them. Each is derived from the docstrings of ``schema/sqlrows.py`` and
``codec/dynamic.py``.
"""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import exc
from kvdialect.codec.dynamic import DynamicKind
from kvdialect.codec.numeric import IntKind
from kvdialect.schema.definition import ROWID, FieldDefinition, IndexDefinition, IndexPart, TableDefinition
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.schema.sqlrows import SqlTableCodec, prefix_of


def field(number, name, affinity, collation="BINARY", **options):
    return FieldDefinition(id=number, name=name, kind=DynamicKind(affinity, collation), nullable=True, **options)


def index(number, name, *columns, collation="BINARY", **options):
    parts = tuple(
        IndexPart(name=column.lstrip("-"), descending=column.startswith("-"), collation=collation) for column in columns
    )
    return IndexDefinition(id=number, name=name, parts=parts, **options)


HIDDEN_ROWID = FieldDefinition(id=9, name=ROWID, kind=IntKind(64), autoincrement=True, hidden=True)

PEOPLE = TableDefinition(
    id=5,
    name="people",
    fields=(
        attrs.evolve(field(1, "id", "INTEGER"), nullable=False, autoincrement=True),
        field(2, "name", "TEXT"),
        field(3, "n", "NUMERIC"),
    ),
    primary_key=("id",),
    indexes=(
        index(6, "by_name", "name", collation="NOCASE", unique=True),
        index(7, "by_n", "-n"),
        index(0x01020304, "by_both", "n", "name"),
    ),
    version=2,
    layout="rowid",
    statement="CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, n NUMERIC)",
)
"""A table whose rowid is a column."""

NOTES = TableDefinition(
    id=9,
    name="notes",
    fields=(
        field(1, "a", "BLOB"),
        field(2, "\0some\0" + "0", "BLOB", hidden=True),
        field(3, "\0some\0where", "BLOB", hidden=True),
        HIDDEN_ROWID,
    ),
    primary_key=(ROWID,),
    indexes=(
        index(
            10,
            "some",
            "\0some\0" + "0",
            unique=True,
            where=Compare("=", Column("\0some\0where"), Constant(1)),
        ),
    ),
    layout="rowid",
    statement="CREATE TABLE notes(a)",
)
"""A table with a rowid that is no column, and a partial index on an expression."""

PAIRS = TableDefinition(
    id=0x0B,
    name="pairs",
    fields=(
        attrs.evolve(field(1, "a", "INTEGER"), nullable=False),
        attrs.evolve(field(2, "b", "TEXT", "NOCASE"), nullable=False),
        field(3, "c", "BLOB"),
    ),
    primary_key=("b", "a"),
    indexes=(index(12, "by_c", "c", unique=True), index(13, "by_a", "a"), index(14, "one_a", "a", unique=True)),
    layout="key",
    statement="CREATE TABLE pairs(a INTEGER, b TEXT COLLATE NOCASE, c, PRIMARY KEY (b, a)) WITHOUT ROWID",
)
"""A table WITHOUT ROWID."""


@pytest.mark.parametrize(
    ("table", "row", "key", "value", "entries"),
    [
        (
            PEOPLE, (1, "Ab", 1.5),
            "00000005 8000000000000001",
            "01 0002 93 01 a24162 cb3ff8000000000000",
            [
                ("00000006 2061620000", "8000000000000001"),  # unique: nothing behind the columns; "Ab" folded
                ("00000007 158000000000000001 01bff8000000000000 8000000000000001", "8000000000000001"),
                (
                    "01020304 158000000000000001 01bff8000000000000 2041620000 8000000000000001",
                    "8000000000000001",
                ),
            ],
        ),
        (
            PEOPLE, (-1, None, None),
            "00000005 7fffffffffffffff",
            "01 0002 93 ff c0 c0",
            [
                ("00000006 00 7fffffffffffffff", "7fffffffffffffff"),  # unique, NULL: NULLs are distinct
                ("00000007 00 7fffffffffffffff", "7fffffffffffffff"),
                ("01020304 00 00 7fffffffffffffff", "7fffffffffffffff"),
            ],
        ),
        (
            NOTES, (b"\0", "x", 1, 3),
            "00000009 8000000000000003",
            "01 0001 93 c40100 a178 01",  # the rowid is in the key alone
            [("0000000a 20780000", "8000000000000003")],
        ),
        (NOTES, (7, "x", 0, 4), "00000009 8000000000000004", "01 0001 93 07 a178 00", []),
        (NOTES, (None, None, None, 5), "00000009 8000000000000005", "01 0001 93 c0 c0 c0", []),
        (
            PAIRS, (2, "Q", b"\0"),
            "0000000b 20710000 15800000000000000200",
            "01 0001 93 02 a151 c40100",
            [
                ("0000000c 3000ff0000", "20710000 15800000000000000200"),
                ("0000000d 15800000000000000200 20710000 15800000000000000200", "20710000 15800000000000000200"),
                ("0000000e 15800000000000000200", "20710000 15800000000000000200"),
            ],
        ),
        (
            PAIRS, (-2, "", None),
            "0000000b 200000 157ffffffffffffffe00",
            "01 0001 93 fe a0 c0",
            [
                ("0000000c 00 200000 157ffffffffffffffe00", "200000 157ffffffffffffffe00"),
                ("0000000d 157ffffffffffffffe00 200000 157ffffffffffffffe00", "200000 157ffffffffffffffe00"),
                ("0000000e 157ffffffffffffffe00", "200000 157ffffffffffffffe00"),
            ],
        ),
    ],
)  # fmt: skip
def test_golden_rows_and_entries(table, row, key, value, entries):
    """A row and its entries, to the byte."""
    codec = SqlTableCodec(table)

    raw_key, raw_value, stored = codec.encode(row)

    assert raw_key == bytes.fromhex(key)
    assert raw_value == bytes.fromhex(value)
    made = [pair for pairs in codec.entries(stored, raw_key) for pair in pairs]
    assert made == [(bytes.fromhex(entry), bytes.fromhex(rest)) for entry, rest in entries]
    assert codec.decode(raw_key, raw_value) == row
    for of_index, pairs in zip(codec.indexes, codec.entries(stored, raw_key), strict=True):
        assert [of_index.primary_key(*pair) for pair in pairs] == [raw_key] * len(pairs)


def test_number_of_a_table_is_four_bytes():
    """Which is never used again, so that what is left of a dropped table belongs to no other."""
    assert prefix_of(0x01020304) == b"\x01\x02\x03\x04"


def test_affinity_is_applied_before_a_row_is_stored():
    """What is stored, and stands in entries, is what the column makes of a value."""
    codec = SqlTableCodec(PEOPLE)

    key, value, row = codec.encode(("7", 5, "1.0"))

    assert row == (7, "5", 1)
    assert key == bytes.fromhex("00000005 8000000000000007")
    assert value == bytes.fromhex("01 0002 93 07 a135 01")


def test_row_of_an_older_version_reads_as_the_table_is_now():
    """Fields are told apart by ids: one that was added has its default, one that is gone is passed over."""
    history = {1: (PEOPLE.fields[0], field(8, "gone", "TEXT"), PEOPLE.fields[1]), 2: PEOPLE.fields}
    fields = (*PEOPLE.fields[:2], attrs.evolve(PEOPLE.fields[2], default=4))
    codec = SqlTableCodec(attrs.evolve(PEOPLE, fields=fields), history)

    row = codec.decode(bytes.fromhex("00000005 8000000000000001"), bytes.fromhex("01 0001 93 01 a167 a141"))

    assert row == (1, "A", 4)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "begins with"),
        ("02 0002 93 01 c0 c0", "begins with"),
        ("01 0007 93 01 c0 c0", "version 7 of the table's fields is not in the catalog"),
        ("01 0002 92 01 c0", "not enough values"),
        ("01 0002 94 01 c0 c0 c0", "too many values"),
        ("01 0002 93 01 c0", "truncated"),
        ("01 0002 01", "Expected"),
        ("01 0002 93 01 d5 05 61 62 c0", "extension type of msgpack, 5"),
    ],
)
def test_damaged_row_is_named(value, says):
    """The table and the key that do not decode are in the message."""
    codec = SqlTableCodec(PEOPLE)

    with pytest.raises(exc.SerializationError, match=says) as caught:
        codec.decode(bytes.fromhex("00000005 8000000000000001"), bytes.fromhex(value))

    assert "people[0x000000058000000000000001] does not decode" in str(caught.value)


values = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()


@given(st.tuples(values, values, values, st.integers(-(2**63), 2**63 - 1)))
def test_row_comes_back_with_its_types(row):
    """1 and 1.0 have the same bytes in a key, and not in a value."""
    codec = SqlTableCodec(attrs.evolve(NOTES, indexes=()))

    key, value, _ = codec.encode(row)

    found = codec.decode(key, value)
    assert found == row
    assert [type(each) for each in found] == [type(each) for each in row]


@given(
    st.tuples(st.text(max_size=9), st.integers(-(2**63), 2**63 - 1)), st.tuples(st.text(max_size=9), st.integers(-9, 9))
)
def test_keys_are_equal_where_primary_keys_are(one, other):
    """The keys of a table WITHOUT ROWID have the order of its primary key, text under the column's collation."""
    codec = SqlTableCodec(PAIRS)

    def folded(pair):
        return "".join(chr(ord(each) | 32) if "A" <= each <= "Z" else each for each in pair[0]).encode(), pair[1]

    assert (codec.key(one) < codec.key(other)) == (folded(one) < folded(other))
    assert (codec.key(one) == codec.key(other)) == (folded(one) == folded(other))


def test_key_of_more_than_510_bytes_is_refused():
    """The rule of all keys: number, escapes and terminators count."""
    codec = SqlTableCodec(PAIRS)
    longest = "x" * (510 - 4 - 3 - 10)

    key, _, _ = codec.encode((1, longest, None))

    assert len(key) == 510
    with pytest.raises(exc.KeyTooLong, match="511 bytes"):
        codec.encode((1, longest + "x", None))


def test_entry_of_more_than_510_bytes_is_refused():
    """An index names itself where an entry is too long."""
    codec = SqlTableCodec(PEOPLE)
    key, _, row = codec.encode((1, "x" * 600, 2))

    with pytest.raises(exc.KeyTooLong, match="index by_name takes 607 bytes"):
        codec.entries(row, key)
