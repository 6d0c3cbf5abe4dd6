"""Golden bytes of every kind, in keys and on the wire, and golden specs. They stand in stores: never edit them.

A change here means that stores written before cannot be read. Add lines for new kinds; leave those that are there.
"""

from __future__ import annotations

import enum
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import attrs
import msgspec
import pytest

from kvdialect.codec.composite import DictKind, JsonKind, ListKind, Part, TupleKind
from kvdialect.codec.dynamic import DynamicKind, encode_value
from kvdialect.codec.keys import KeyGrammar, KeyPart
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordField, RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind


class Color(enum.Enum):
    """An enum."""

    red = 1
    green = 2


@attrs.frozen
class Point:
    """A nested class."""

    x: int
    y: float | None


COLOR = EnumKind(Color.__members__, Color)
POINT = RecordKind([RecordField("x", Part(IntKind())), RecordField("y", Part(FloatKind(), nullable=True))], Point)
NAIVE = datetime(2001, 2, 3, 4, 5, 6, 789012)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("kind", "value", "key", "wire"),
    [
        (BoolKind(), False, "00", "c2"),
        (BoolKind(), True, "01", "c3"),
        (IntKind(8), -128, "00", "d080"),
        (IntKind(8), 127, "ff", "7f"),
        (IntKind(16), -1, "7fff", "ff"),
        (IntKind(32), 1, "80000001", "01"),
        (IntKind(64), -(2**63), "0000000000000000", "d38000000000000000"),
        (IntKind(64), 0, "8000000000000000", "00"),
        (IntKind(64), 2**63 - 1, "ffffffffffffffff", "cf7fffffffffffffff"),
        (IntKind(8, signed=False), 200, "c8", "ccc8"),
        (IntKind(16, signed=False), 258, "0102", "cd0102"),
        (IntKind(32, signed=False), 2**32 - 1, "ffffffff", "ceffffffff"),
        (IntKind(64, signed=False), 2**64 - 1, "ffffffffffffffff", "cfffffffffffffffff"),
        (FloatKind(), 0.0, "8000000000000000", "cb0000000000000000"),
        (FloatKind(), -0.0, "8000000000000000", "cb8000000000000000"),
        (FloatKind(), 1.5, "bff8000000000000", "cb3ff8000000000000"),
        (FloatKind(), -1.5, "4007ffffffffffff", "cbbff8000000000000"),
        (FloatKind(), math.inf, "fff0000000000000", "cb7ff0000000000000"),
        (FloatKind(), -math.inf, "000fffffffffffff", "cbfff0000000000000"),
        (TextKind(), "aé\x00", "61c3a900", "a461c3a900"),
        (TextKind(5), "", "", "a0"),
        (BytesKind(), b"\x00\xff", "00ff", "c40200ff"),
        (FixedBytesKind(4), b"abcd", "61626364", "c40461626364"),
        (DatetimeKind(), datetime(1970, 1, 1), "8000000000000000", "00"),  # noqa: DTZ001
        (DatetimeKind(), NAIVE, "80037c5f2a7e4a94", "cf00037c5f2a7e4a94"),
        (DatetimeKind(), datetime.min, "7f23400100d44000", "d3ff23400100d44000"),  # noqa: DTZ901
        (DatetimeKind(aware=True), NAIVE.replace(tzinfo=UTC), "80037c5f2a7e4a94", "cf00037c5f2a7e4a94"),
        (DateKind(), date(1969, 12, 31), "7fffffff", "ff"),
        (DateKind(), date(2001, 2, 3), "80002c5c", "cd2c5c"),
        (TimeKind(), time(4, 5, 6, 789012), "000000036c97ca94", "cf000000036c97ca94"),
        (TimedeltaKind(), timedelta(0), "800000000000000000", "920000"),
        (TimedeltaKind(), timedelta(microseconds=-1), "7fffffff141dd75fff", "92ffcf000000141dd75fff"),
        (TimedeltaKind(), timedelta.max, "bb9ac9ff141dd75fff", "92ce3b9ac9ffcf000000141dd75fff"),
        (UuidKind(), UUID(int=0x0123456789), "00" * 11 + "0123456789", "c410" + "00" * 11 + "0123456789"),
        (DecimalKind(10, 2), Decimal("-1.50"), "7fffffffffffff6a", "d1ff6a"),
        (DecimalKind(18, 0), Decimal(1), "8000000000000001", "01"),
        (DecimalKind(19, 2), Decimal("1.50"), "80" + "00" * 14 + "96", "c41080" + "00" * 14 + "96"),
        (COLOR, Color.green, "677265656e", "a5677265656e"),
        (EnumKind(["a", "b"]), "b", "62", "a162"),
    ],
)  # fmt: skip
def test_golden_keys_and_values(kind, value, key, wire):
    """Key and wire form of one value of each kind."""
    checked = kind.check(value)

    assert kind.encode(checked).hex() == key
    assert msgspec.msgpack.encode(kind.store(checked)).hex() == wire
    assert kind.decode(bytes.fromhex(key)) == value
    assert kind.load(msgspec.msgpack.decode(bytes.fromhex(wire), type=kind.wire)) == value


@pytest.mark.parametrize(
    ("kind", "value", "key", "wire"),
    [
        (DynamicKind("INTEGER"), -(2**63), "15000000000000000000", "d38000000000000000"),
        (DynamicKind("INTEGER"), -1, "157fffffffffffffff00", "ff"),
        (DynamicKind("INTEGER"), 1, "15800000000000000100", "01"),
        (DynamicKind("INTEGER"), 2**63 - 1, "15ffffffffffffffff00", "cf7fffffffffffffff"),
        (DynamicKind("INTEGER"), "12", "15800000000000000c00", "0c"),
        (DynamicKind("NUMERIC"), "1.50", "15800000000000000101bff8000000000000", "cb3ff8000000000000"),
        (DynamicKind("NUMERIC"), "1.5x", "20312e35780000", "a4312e3578"),
        (DynamicKind("REAL"), 1, "15800000000000000100", "cb3ff0000000000000"),
        (DynamicKind("REAL"), -0.0, "15800000000000000000", "cb8000000000000000"),
        (DynamicKind("REAL"), 0.5, "15800000000000000001bfe0000000000000", "cb3fe0000000000000"),
        (DynamicKind("REAL"), -1.5, "157ffffffffffffffe014007ffffffffffff", "cbbff8000000000000"),
        (DynamicKind("REAL"), -5e-324, "157fffffffffffffff017ffffffffffffffe", "cb8000000000000001"),
        (DynamicKind("REAL"), -(2.0**63), "15000000000000000000", "cbc3e0000000000000"),
        (DynamicKind("REAL"), 2.0**63, "16c3e0000000000000", "cb43e0000000000000"),
        (DynamicKind("REAL"), -(2.0**64), "143c0fffffffffffff", "cbc3f0000000000000"),
        (DynamicKind("REAL"), math.inf, "16fff0000000000000", "cb7ff0000000000000"),
        (DynamicKind("REAL"), -math.inf, "14000fffffffffffff", "cbfff0000000000000"),
        (DynamicKind("TEXT"), "aé\x00", "2061c3a900ff0000", "a461c3a900"),
        (DynamicKind("TEXT"), "", "200000", "a0"),
        (DynamicKind("TEXT"), 7, "20370000", "a137"),
        (DynamicKind("TEXT", "NOCASE"), "AbÉ", "206162c3890000", "a44162c389"),
        (DynamicKind("TEXT", "RTRIM"), " a  ", "2020610000", "a420612020"),
        (DynamicKind("BLOB"), b"\x00\xff", "3000ffff0000", "c40200ff"),
        (DynamicKind("BLOB"), "7", "20370000", "a137"),
    ],
)  # fmt: skip
def test_golden_dynamic_values(kind, value, key, wire):
    """Key and wire form of SQL's values; a key of these is not decoded, as it does not tell 1 from 1.0."""
    checked = kind.check(value)

    assert kind.encode(checked).hex() == key
    assert msgspec.msgpack.encode(kind.store(checked)).hex() == wire
    loaded = kind.load(msgspec.msgpack.decode(bytes.fromhex(wire), type=kind.wire))
    assert (loaded, type(loaded)) == (checked, type(checked))


def test_golden_dynamic_null():
    """NULL in a key of SQL is one byte."""
    assert encode_value(None).hex() == "00"


@pytest.mark.parametrize(
    ("kind", "value", "wire"),
    [
        (JsonKind(), {"a": [None, True, -1, 1.5, "b"]}, "81a16195c0c3ffcb3ff8000000000000a162"),
        (ListKind(IntKind()), [1, -1], "9201ff"),
        (ListKind(COLOR, nullable=True), [Color.red, None], "92a3726564c0"),
        (ListKind(UuidKind(), python=tuple), (UUID(int=1),), "91c410" + "00" * 15 + "01"),
        (DictKind(DateKind()), {"b": date(1970, 1, 2)}, "81a16201"),
        (TupleKind([Part(IntKind()), Part(TextKind(), nullable=True)]), (1, None), "9201c0"),
        (POINT, Point(1, None), "82a17801a179c0"),
    ],
)
def test_golden_composite_values(kind, value, wire):
    """Wire forms of what stands in values alone."""
    assert msgspec.msgpack.encode(kind.store(kind.check(value))).hex() == wire
    assert kind.load(msgspec.msgpack.decode(bytes.fromhex(wire), type=kind.wire)) == value


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (BoolKind(), '{"kind": "bool"}'),
        (IntKind(8, signed=False), '{"kind": "int", "bits": 8, "signed": false}'),
        (IntKind(), '{"kind": "int", "bits": 64, "signed": true}'),
        (FloatKind(), '{"kind": "float"}'),
        (DecimalKind(10, 2), '{"kind": "decimal", "precision": 10, "scale": 2}'),
        (TextKind(), '{"kind": "text", "length": null}'),
        (TextKind(5), '{"kind": "text", "length": 5}'),
        (BytesKind(), '{"kind": "bytes", "length": null}'),
        (FixedBytesKind(32), '{"kind": "fixed_bytes", "length": 32}'),
        (UuidKind(), '{"kind": "uuid"}'),
        (COLOR, '{"kind": "enum", "names": ["green", "red"]}'),
        (DatetimeKind(), '{"kind": "datetime", "aware": false}'),
        (DatetimeKind(aware=True), '{"kind": "datetime", "aware": true}'),
        (DateKind(), '{"kind": "date"}'),
        (TimeKind(), '{"kind": "time"}'),
        (TimedeltaKind(), '{"kind": "timedelta"}'),
        (JsonKind(), '{"kind": "json"}'),
        (DynamicKind("INTEGER"), '{"kind": "sql", "affinity": "INTEGER"}'),
        (DynamicKind("TEXT", "NOCASE"), '{"kind": "sql", "affinity": "TEXT", "collation": "NOCASE"}'),
        (ListKind(BoolKind()), '{"kind": "list", "element": {"kind": {"kind": "bool"}, "nullable": false}}'),
        (DictKind(BoolKind(), True), '{"kind": "dict", "item": {"kind": {"kind": "bool"}, "nullable": true}}'),
        (TupleKind([Part(BoolKind())]), '{"kind": "tuple", "parts": [{"kind": {"kind": "bool"}, "nullable": false}]}'),
        (
            POINT,
            (
                '{"kind": "record", "fields": ['
                '{"name": "x", "kind": {"kind": "int", "bits": 64, "signed": true}, "nullable": false}, '
                '{"name": "y", "kind": {"kind": "float"}, "nullable": true}]}'
            ),
        ),
    ],
)
def test_golden_specs(kind, spec):
    """What the catalog says of each kind."""
    assert json.dumps(kind.spec()) == spec


def test_every_kind_has_its_golden_lines():
    """A new kind gets a line above."""
    assert sorted(Kind._by_tag) == [
        "bool", "bytes", "date", "datetime", "decimal", "dict", "enum", "fixed_bytes", "float", "int", "json", "list",
        "record", "sql", "text", "time", "timedelta", "tuple", "uuid",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "row", "golden"),
    [
        ([KeyPart(TextKind())], ("a\x00b",), "6100ff620001"),
        ([KeyPart(TextKind(), raw=True)], ("a\x00b",), "610062"),
        ([KeyPart(TextKind(), descending=True)], ("a\x00",), "9eff00fffe"),
        ([KeyPart(IntKind(8), nullable=True)], (None,), "00"),
        ([KeyPart(IntKind(8), nullable=True)], (1,), "0181"),
        ([KeyPart(IntKind(8), nullable=True, descending=True)], (None,), "ff"),
        ([KeyPart(IntKind(8), nullable=True, descending=True)], (1,), "fe7e"),
        ([KeyPart(BytesKind(), nullable=True)], (b"",), "010001"),
        ([KeyPart(TextKind()), KeyPart(IntKind(16, signed=False))], ("a", 258), "6100010102"),
        ([KeyPart(IntKind(16, False), descending=True), KeyPart(BytesKind(), raw=True)], (258, b"\x00"), "fefd00"),
    ],
)  # fmt: skip
def test_golden_composite_keys(parts, row, golden):
    """Tags, escapes, terminators, inversion."""
    grammar = KeyGrammar(parts)

    assert grammar.encode(row).hex() == golden
    assert grammar.decode(bytes.fromhex(golden)) == row
