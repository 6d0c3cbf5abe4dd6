"""The bincode layout: golden bytes, round trips, and bounded, strict decoding."""

from __future__ import annotations

import enum
import math
import struct
import sys
import tracemalloc
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kind_cases import ALL, SHAPE, SHAPES

from kvdialect import exc
from kvdialect.codec.bincode import BincodeCodec
from kvdialect.codec.composite import ConvertedKind, DictKind, JsonKind, ListKind, Part, TupleKind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordField, RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind

UNSIGNED = IntKind(64, signed=False)
HASH = FixedBytesKind(32)


def has_json(spec):
    """Whether a kind has JSON in it."""
    return "json" in repr(spec)


LAID_OUT = [case for case in ALL if not has_json(case.kind.spec())]


def codec(*parts):
    """A codec of fields named by their number."""
    return BincodeCodec([(f"f{number}", kind, nullable) for number, (kind, nullable) in enumerate(parts)])


def single(kind, value, nullable=False):
    """The bytes of one value, which come back as that value."""
    made = codec((kind, nullable))
    raw = made.encode((value,))
    assert made.decode(raw) == (value,)
    return raw


# ------------------------------------------------------------------------------------------ golden bytes


class Color(enum.Enum):
    """An enum."""

    red = 1


@pytest.mark.parametrize(
    ("kind", "value", "golden"),
    [
        (BoolKind(), True, "01"),
        (BoolKind(), False, "00"),
        (IntKind(8), -2, "fe"),
        (IntKind(16), -2, "fffe"),
        (IntKind(32), -2, "fffffffe"),
        (IntKind(64), -2, "fffffffffffffffe"),
        (IntKind(8, signed=False), 255, "ff"),
        (IntKind(16, signed=False), 256, "0100"),
        (IntKind(32, signed=False), 1, "00000001"),
        (UNSIGNED, 2**64 - 1, "ffffffffffffffff"),
        (FloatKind(), -1.5, "bff8000000000000"),
        (FixedBytesKind(4), b"\x00\x01\x02\x03", "00010203"),
        (UuidKind(), UUID(int=1), "00" * 15 + "01"),
        (TextKind(), "é", "0000000000000002c3a9"),
        (BytesKind(), b"", "0000000000000000"),
        (BytesKind(), b"\x00\xff", "000000000000000200ff"),
        (EnumKind({"red": Color.red}, Color), Color.red, "0000000000000003726564"),
        (DatetimeKind(), datetime(1970, 1, 1, 0, 0, 1), "00000000000f4240"),  # noqa: DTZ001
        (DatetimeKind(aware=True), datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), "ffffffffffffffff"),
        (DateKind(), date(1970, 1, 2), "0000000000000001"),
        (TimeKind(), time(0, 0, 1), "00000000000f4240"),
        (TimedeltaKind(), timedelta(microseconds=-1), "ff" * 16),
        (TimedeltaKind(), timedelta(seconds=1), "00" * 13 + "0f4240"),
        (DecimalKind(18, 2), Decimal("-0.01"), "ffffffffffffffff"),
        (DecimalKind(19, 2), Decimal("0.01"), "00" * 15 + "01"),
        (ListKind(IntKind(8)), [1, -1], "000000000000000201ff"),
        (ListKind(IntKind(8), python=tuple), (1,), "000000000000000101"),
        (ListKind(IntKind(8), nullable=True), [None, 5], "0000000000000002000105"),
        (DictKind(IntKind(8)), {"b": 1, "a": 2}, "00000000000000020000000000000001620100000000000000016102"),
        (TupleKind([Part(IntKind(8)), Part(BoolKind(), nullable=True)]), (7, None), "0700"),
        (TupleKind([]), (), ""),
    ],
)  # fmt: skip
def test_golden_bytes(kind, value, golden):
    """These bytes stand in stores and are read by other programs: never edit them."""
    assert single(kind, value).hex() == golden


def test_golden_bytes_of_an_option():
    """One tag byte, and the value."""
    assert single(UNSIGNED, None, nullable=True).hex() == "00"
    assert single(UNSIGNED, 5, nullable=True).hex() == "010000000000000005"
    assert single(TextKind(), "a", nullable=True).hex() == "01000000000000000161"


PARENT, PUZZLE_HASH = bytes(range(32)), b"\xaa" * 32

COIN_RECORD = codec(
    (HASH, False), (HASH, False), (UNSIGNED, False), (UNSIGNED, False), (UNSIGNED, True), (BoolKind(), False),
    (UNSIGNED, False),
)  # fmt: skip
"""parent, puzzle_hash, amount, confirmed_height, spent_height, coinbase, timestamp."""


def test_golden_bytes_of_an_unspent_coin_record():
    """The record of the coin store, as its original writes it: never edit these."""
    row = (PARENT, PUZZLE_HASH, 10**12, 258, None, True, 1_600_000_000)
    golden = PARENT.hex() + "aa" * 32 + "000000e8d4a51000" + "0000000000000102" + "00" + "01" + "000000005f5e1000"

    assert COIN_RECORD.encode(row).hex() == golden
    assert COIN_RECORD.decode(bytes.fromhex(golden)) == row


def test_golden_bytes_of_a_spent_coin_record():
    """With the greatest amount; spent_height takes nine bytes."""
    row = (PARENT, PUZZLE_HASH, 2**64 - 1, 0, 65535, False, 0)
    golden = PARENT.hex() + "aa" * 32 + "ff" * 8 + "00" * 8 + "01000000000000ffff" + "00" + "00" * 8

    assert COIN_RECORD.encode(row).hex() == golden
    assert COIN_RECORD.decode(bytes.fromhex(golden)) == row


@attrs.frozen
class Coin:
    """A coin inside a snapshot."""

    parent: bytes
    puzzle_hash: bytes
    amount: int


@attrs.frozen
class Totals:
    """What a snapshot counts."""

    coins: int
    value: int | None


COIN = RecordKind(
    [RecordField("parent", Part(HASH)), RecordField("puzzle_hash", Part(HASH)), RecordField("amount", Part(UNSIGNED))],
    Coin,
)
TOTALS = RecordKind([RecordField("coins", Part(UNSIGNED)), RecordField("value", Part(UNSIGNED, nullable=True))], Totals)
SNAPSHOT = codec(
    (UNSIGNED, False),
    (ListKind(COIN), False),
    (ListKind(TupleKind([Part(HASH), Part(BytesKind())])), False),
    (TOTALS, False),
)
"""height, coins, hints, totals."""


def test_golden_bytes_of_a_snapshot():
    """Coins, hints and totals, nested classes field by field: never edit these."""
    row = (
        7,
        [Coin(PARENT, PUZZLE_HASH, 1), Coin(PUZZLE_HASH, PARENT, 2**63)],
        [(PARENT, b"hint")],
        Totals(2, None),
    )
    golden = (
        "0000000000000007"
         "0000000000000002"
        + PARENT.hex() + "aa" * 32 + "0000000000000001"
        + "aa" * 32 + PARENT.hex() + "8000000000000000"
        + "0000000000000001" + PARENT.hex() + "0000000000000004" + b"hint".hex()
        + "0000000000000002" + "00"
    )  # fmt: skip

    assert SNAPSHOT.encode(row).hex() == golden
    assert SNAPSHOT.decode(bytes.fromhex(golden)) == row


# ------------------------------------------------------------------------------------------ properties


@pytest.mark.parametrize("case", LAID_OUT, ids=str)
@given(st.data())
def test_values_come_back(case, data):
    """Every kind, alone, optional and between others."""
    value = case.kind.check(data.draw(case.values))
    made = codec((BoolKind(), False), (case.kind, False), (case.kind, True), (case.kind, True), (IntKind(16), False))
    row = (True, value, value, None, -3)

    raw = made.encode(row)

    assert made.decode(raw) == row
    with pytest.raises(ValueError):  # noqa: PT011
        made.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(ValueError, match="bytes where the fields take"):
        made.decode(raw + b"\x00")


@pytest.mark.parametrize("case", LAID_OUT, ids=str)
@given(st.data())
def test_damaged_bytes_raise_value_error_or_decode_strictly(case, data):
    """What decodes encodes to the same bytes."""
    made = codec((case.kind, True), (case.kind, False))
    value = case.kind.check(data.draw(case.values))
    raw = bytearray(made.encode((value, value)))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    check_strict(made, bytes(raw), case)


@pytest.mark.parametrize("case", LAID_OUT, ids=str)
@given(st.binary(max_size=60), st.data())
def test_garbage_raises_value_error_or_decodes_strictly(case, raw, data):
    """Bytes of no origin."""
    check_strict(codec((case.kind, data.draw(st.booleans()))), raw, case)


def check_strict(made, raw, case):
    """Decode and encode again; ValueError is the only error."""
    try:
        row = made.decode(raw)
    except ValueError:
        return
    if case.kind.tag is not None and "float" not in repr(case.kind.spec()):
        assert made.encode(row) == raw


@given(SHAPES)
def test_nested_classes_come_back_as_objects(shape):
    """With their private fields, enums and lists of further classes."""
    assert codec((SHAPE, False)).decode(codec((SHAPE, False)).encode((shape,))) == (shape,)


@pytest.mark.parametrize("bits", [0x7FF8000000000001, 0xFFF8000000000000, 0x8000000000000000, 0x7FF0000000000000])
def test_floats_keep_their_bits(bits):
    """NaN, -0.0 and infinity are values here."""
    raw = bits.to_bytes(8)
    (value,) = codec((FloatKind(), False)).decode(raw)

    assert math.isnan(value) or value == struct.unpack(">d", raw)[0]
    assert codec((FloatKind(), False)).encode((value,)) == raw


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("kind", "raw", "match"),
    [
        (BoolKind(), "02", "0 or 1"),
        (IntKind(16), "00", "1 bytes end within a value that begins at byte 0 and takes 2"),
        (IntKind(16), "000000", "3 bytes where the fields take 2"),
        (TextKind(), "00000000000000", "takes 8"),
        (TextKind(), "0000000000000002c3", "a count of 2 at byte 0; 1 bytes follow"),
        (TextKind(), "0000000000000001ff", "utf-8"),
        (TextKind(1), "00000000000000026161", "at most 1"),
        (BytesKind(1), "00000000000000026161", "at most 1"),
        (EnumKind(["a"]), "000000000000000162", "no name"),
        (ListKind(UNSIGNED), "0000000000000002" + "00" * 15, "a count of 2"),
        (DictKind(BoolKind()), "0000000000000002" + "00000000000000016100" * 2, "comes twice"),
        (TimedeltaKind(), "7f" + "00" * 15, "no timedelta"),
        (DatetimeKind(), "7f" + "ff" * 7, "years"),
        (DateKind(), "00000000ffffffff", "years"),
        (TimeKind(), "ffffffffffffffff", "midnight"),
        (DecimalKind(2, 0), "0000000000000064", "digits"),
    ],
)
def test_what_is_no_record_is_refused(kind, raw, match):
    """The message says what stands where."""
    with pytest.raises(ValueError, match=match):
        codec((kind, False)).decode(bytes.fromhex(raw))


def test_option_tag_is_0_or_1():
    """Nothing else, and not missing."""
    with pytest.raises(ValueError, match="byte 2 at byte 1"):
        codec((IntKind(8), False), (IntKind(8), True)).decode(b"\x07\x02\x00")
    with pytest.raises(ValueError, match="the end at byte 0"):
        codec((IntKind(8), True)).decode(b"")


@pytest.mark.parametrize("kind", [ListKind(IntKind(8)), BytesKind(), TextKind(), DictKind(IntKind(8))], ids=repr)
@pytest.mark.parametrize("count", [2**20, 2**40, 2**64 - 1])
def test_count_beyond_the_bytes_allocates_nothing(kind, count):
    """A damaged count is refused before any memory is taken for it."""
    raw = count.to_bytes(8) + b"\x00" * 100
    made = codec((kind, False))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="count"):
            made.decode(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 100_000


@pytest.mark.parametrize(
    "kind", [JsonKind(), ListKind(JsonKind()), ListKind(TupleKind([])), DictKind(ListKind(JsonKind()))], ids=repr
)
def test_kinds_without_a_layout_are_refused_by_field(kind):
    """JSON has none; a list of nothing would have a count without a bound."""
    with pytest.raises(exc.ArgumentError, match="field notes has no bincode layout") as caught:
        BincodeCodec([("id", UNSIGNED, False), ("notes", kind, True)])

    assert caught.value.field == "notes"


def test_record_without_fields():
    """All columns in the key: the value is empty."""
    assert codec().encode(()) == b""
    assert codec().decode(b"") == ()
    with pytest.raises(ValueError, match="1 bytes where the fields take 0"):
        codec().decode(b"\x00")


def test_conversions_stand_as_their_bound_values():
    """At any depth."""
    kind = ConvertedKind(IntKind(8), lambda value: value + 1, lambda value: value - 1)

    assert single(kind, 1).hex() == "02"
    assert single(ListKind(kind), [1]).hex() == "000000000000000102"


def test_long_lists_decode():
    """One item after another, without recursion."""
    items = list(range(sys.getrecursionlimit() * 2))

    assert single(ListKind(IntKind(32)), items)[:8] == len(items).to_bytes(8)
