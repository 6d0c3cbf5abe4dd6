"""Rows and index entries: golden bytes, round trips, and what damaged bytes give."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import exc
from kvdialect.codec.composite import JsonKind
from kvdialect.codec.numeric import BoolKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, FixedBytesKind, TextKind
from kvdialect.schema.definition import FieldDefinition, IndexDefinition, IndexPart, TableDefinition
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.schema.rows import TableCodec

U64 = IntKind(64, signed=False)
I16 = IntKind(16, signed=True)


def part(name, descending=False):
    return IndexPart(name=name, descending=descending)


TABLE = TableDefinition(
    name="things",
    fields=(
        FieldDefinition(id=1, name="code", kind=TextKind()),
        FieldDefinition(id=2, name="number", kind=U64),
        FieldDefinition(id=3, name="note", kind=TextKind(), nullable=True),
        FieldDefinition(id=4, name="level", kind=I16),
        FieldDefinition(id=5, name="digest", kind=FixedBytesKind(4), nullable=True),
        FieldDefinition(id=6, name="ratio", kind=FloatKind()),
        FieldDefinition(id=7, name="flag", kind=BoolKind()),
        FieldDefinition(id=8, name="raw", kind=BytesKind()),
    ),
    primary_key=("number", "code"),
    indexes=(
        IndexDefinition(name="by_digest", parts=(part("digest"),), unique=True),
        IndexDefinition(
            name="by_level", parts=(part("level", descending=True), part("note")), include=("flag", "note")
        ),
        IndexDefinition(name="by_note", parts=(part("note"),), unique=True, include=("ratio",)),
        IndexDefinition(name="by_raw", parts=(part("raw"),), unique=True),
        IndexDefinition(
            name="some", parts=(part("digest"),), where=Compare("is not", Column("digest"), Constant(None))
        ),
    ),
    version=3,
)
CODEC = TableCodec(TABLE, {3: TABLE.fields})
ROW = ("ab", 7, None, -2, b"\x01\x02\x03\x04", 0.5, True, b"\x00z")

rows = st.tuples(
    st.text(max_size=8),
    st.integers(0, 2**64 - 1),
    st.none() | st.text(max_size=8),
    st.integers(-(2**15), 2**15 - 1),
    st.none() | st.binary(min_size=4, max_size=4),
    st.floats(allow_nan=False),
    st.booleans(),
    st.binary(min_size=1, max_size=8),
)


def test_golden_bytes_of_a_row():
    """Numbers on disk are for ever: key, header, msgpack array."""
    key, value, _ = CODEC.encode(ROW)

    assert key.hex() == "0000000000000007" + "6162"
    assert value.hex() == "010003" + "96" + "c0" + "fe" + "c40401020304" + "cb3fe0000000000000" + "c3" + "c402007a"


def test_golden_bytes_of_index_entries():
    """Unique, covering, descending, nullable, partial: each entry to the byte."""
    key, _, row = CODEC.encode(ROW)
    entries = {index.family: index.entries(row, key) for index in CODEC.indexes}

    assert {name: [(k.hex(), v.hex()) for k, v in pairs] for name, pairs in entries.items()} == {
        "by_digest": [("01" + "01020304", key.hex())],
        "by_level": [("8001" + "00" + key.hex(), "01" + "91" + "c3")],
        "by_note": [("00" + key.hex(), "01" + "92" + "c40a" + key.hex() + "cb3fe0000000000000")],
        "by_raw": [("007a", key.hex())],
        "some": [("01020304" + key.hex(), "")],
    }


@given(rows)
def test_rows_and_entries_round_trip(row):
    """Decoding gives what was encoded, and each entry leads back to its record."""
    key, value, normal = CODEC.encode(row)

    assert normal == row
    assert CODEC.decode(key, value) == row
    assert CODEC.decode_key(key) == (row[1], row[0])
    values = dict(zip(CODEC.names, row, strict=True))
    for index in CODEC.indexes:
        for entry, entry_value in index.entries(row, key):
            assert index.primary_key(entry, entry_value) == key
            assert index.decode(entry, entry_value) == tuple(values[name] for name in index.covered)


@given(st.lists(rows, max_size=20, unique_by=lambda row: (row[1], row[0])))
def test_entries_of_different_records_differ(many):
    """Whatever is NULL, no entry of an index that is not unique, or has a NULL, stands for two records."""
    seen = set()
    for given_row in many:
        key, _, row = CODEC.encode(given_row)
        for index in CODEC.indexes:
            distinct = not index.definition.unique or any(
                row[CODEC.positions[name]] is None for name in index.definition.columns
            )
            for entry, _ in index.entries(row, key):
                assert not distinct or (index.family, entry) not in seen
                seen.add((index.family, entry))


@given(rows, rows)
def test_entries_sort_as_their_columns_do(left, right):
    """by_level: level descending, then note ascending with NULL first."""
    index = next(index for index in CODEC.indexes if index.family == "by_level")
    encoded = [index.entries(row, CODEC.encode(row)[0])[0][0] for row in (left, right)]

    def wanted(row):
        return (-row[3], row[2] is not None, row[2] or "", row[1], row[0].encode())

    assert (encoded[0] < encoded[1]) == (wanted(left) < wanted(right))


@given(rows, st.data())
def test_damaged_bytes_give_serialization_errors_only(row, data):
    """Whatever stands in the store, decoding gives a row or the typed error."""
    key, value, _ = CODEC.encode(row)
    at = data.draw(st.integers(0, len(value) - 1))
    damaged = value[:at] + data.draw(st.binary(max_size=3)) + value[at + data.draw(st.integers(0, 3)) :]
    for bad_key, bad_value in ((key, damaged), (data.draw(st.binary(max_size=12)), value)):
        try:
            decoded = CODEC.decode(bad_key, bad_value)
        except exc.SerializationError:
            continue
        assert len(decoded) == len(row)
    for index in CODEC.indexes:
        for entry, entry_value in index.entries(row, key):
            try:
                index.decode(entry[: data.draw(st.integers(0, len(entry)))], entry_value)
                index.decode(entry, entry_value[: data.draw(st.integers(0, len(entry_value)))])
            except exc.SerializationError:
                continue


def test_an_extension_type_in_a_json_value_is_damage():
    """It was given out as an object of the decoder's."""
    fields = (FieldDefinition(id=1, name="number", kind=U64), FieldDefinition(id=2, name="note", kind=JsonKind()))
    codec = TableCodec(TableDefinition(name="notes", fields=fields, primary_key=("number",), version=1), {1: fields})
    key, value, _ = codec.encode((1, ["ab"]))
    assert value.endswith(b"\xa2ab")

    with pytest.raises(exc.SerializationError, match="extension type"):
        codec.decode(key, value[:-3] + b"\xd5\x05ab")


def test_rows_of_an_older_version_are_read_by_their_fields():
    """Added fields have their default, dropped ones are passed over, renamed ones keep their id, widened ones load."""
    key, value, _ = CODEC.encode(ROW)
    fields = (
        *(attrs.evolve(f, name={"note": "remark"}.get(f.name, f.name)) for f in TABLE.fields if f.name != "ratio"),
        FieldDefinition(id=9, name="extra", kind=TextKind(), default="new"),
        FieldDefinition(id=10, name="more", kind=U64, nullable=True, default=None),
    )
    fields = tuple(attrs.evolve(f, kind=IntKind(32, signed=True)) if f.name == "level" else f for f in fields)
    newer = attrs.evolve(TABLE, fields=fields, indexes=(), version=4)
    codec = TableCodec(newer, {3: TABLE.fields, 4: fields})

    assert codec.decode(key, value) == ("ab", 7, None, -2, b"\x01\x02\x03\x04", True, b"\x00z", "new", None)
    with pytest.raises(exc.SerializationError, match="version 3"):
        TableCodec(newer, {4: fields}).decode(key, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"number": -1}, ["things.number", "-1", "0 to 18446744073709551615"]),
        ({"number": "7"}, ["things.number", "'7'", "str"]),
        ({"level": 40_000}, ["things.level", "40000", "-32768 to 32767"]),
        ({"digest": b"123"}, ["things.digest", "0x", "4 bytes"]),
        ({"code": None}, ["things.code", "None"]),
        ({"flag": 2}, ["things.flag", "2"]),
    ],
)
def test_a_refused_value_is_named(change, words):
    """Record, field, value, type and what is allowed."""
    row = tuple(change.get(name, value) for name, value in zip(CODEC.names, ROW, strict=True))
    with pytest.raises(exc.DataError) as caught:
        CODEC.encode(row)

    for word in words:
        assert word in str(caught.value) or word == "0x"


def test_keys_beyond_the_limit_are_refused():
    """A long primary key, a long index entry, an empty key: KeyTooLong says whose, and what to do."""
    long_code = ("x" * 600, *ROW[1:])
    long_raw = (*ROW[:7], b"y" * 600)
    with pytest.raises(exc.KeyTooLong, match=r"things\(number=7.*takes 608 bytes.*510"):
        CODEC.encode(long_code)
    key, _, row = CODEC.encode(long_raw)
    with pytest.raises(exc.KeyTooLong, match="index by_raw takes 600 bytes"):
        CODEC.entries(row, key)
    empty = attrs.evolve(TABLE, fields=TABLE.fields[:2], primary_key=("code",), indexes=())
    with pytest.raises(exc.KeyTooLong, match="empty"):
        TableCodec(empty).encode(("", 1))


def test_nan_has_no_place_in_an_index():
    """It is refused with the field's and the index's name; outside keys it is a value like others."""
    table = attrs.evolve(TABLE, indexes=(IndexDefinition(name="by_ratio", parts=(part("ratio"),)),))
    codec = TableCodec(table)
    row = (*ROW[:5], float("nan"), *ROW[6:])
    key, value, _ = codec.encode(row)
    decoded = codec.decode(key, value)
    assert decoded[5] != decoded[5]

    with pytest.raises(exc.DataError, match=r"things\.ratio.*by_ratio"):
        codec.entries(row, key)
