"""Each kind: what it takes, refuses and gives back; the order of its bytes."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kind_cases import ALL, KEYED, LONE, Color, Level, Point

from kvdialect.codec.composite import JsonKind, ListKind
from kvdialect.codec.kinds import DEEPEST_SPEC, Kind, OutOfRange, kind_from_spec, put
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind

each_kind = pytest.mark.parametrize("case", ALL, ids=str)
each_key_kind = pytest.mark.parametrize("case", KEYED, ids=str)


def through_wire(kind, value):
    """Store a value, pack and unpack its wire form, and load it."""
    packed = msgspec.msgpack.encode(kind.store(value))
    return kind.load(msgspec.msgpack.decode(packed, type=kind.wire))


def run(expression, names, **variables):
    """Evaluate generated source as generated code does."""
    return eval(expression, {**names, **variables})  # noqa: S307


# ------------------------------------------------------------------------------------------ all kinds


@each_kind
@given(st.data())
def test_value_comes_back_from_the_wire_as_it_was(case, data):
    """What is stored is what is loaded, of the same type."""
    value = case.kind.check(data.draw(case.values))

    loaded = through_wire(case.kind, value)

    assert loaded == value
    assert type(loaded) is type(value)


@each_kind
@given(st.data())
def test_checking_again_changes_nothing(case, data):
    """A checked value is taken as it is: normalising is done once."""
    value = case.kind.check(data.draw(case.values))

    assert case.kind.check(value) is value or case.kind.python is str
    assert case.kind.check(value) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(case.kind, value, id=f"{case}-{number}")
        for case in ALL
        for number, value in enumerate(case.refused)
    ],
)
def test_refused_values(kind, value):
    """Anything else raises ValueError, and the cheap test does not let it pass."""
    names = {}
    test = kind.test_source("v", names)

    with pytest.raises(ValueError):  # noqa: PT011 - the message is not for users
        kind.check(value)
    assert not run(test, names, v=value)


@each_kind
@given(st.data())
def test_generated_source_does_what_the_methods_do(case, data):
    """Source and methods of a kind are two forms of one thing."""
    kind = case.kind
    value = kind.check(data.draw(case.values))
    names = {}

    test = kind.test_source("v", names)
    stored = run(kind.store_source("v", names), names, v=value)

    assert run(test, names, v=value) or kind.python is str  # a UUID as text is made anew by check
    packed = msgspec.msgpack.encode(stored)
    assert packed == msgspec.msgpack.encode(kind.store(value))
    wire = msgspec.msgpack.decode(packed, type=kind.wire)
    assert run(kind.load_source("v", names), names, v=wire) == value
    if kind.keyable:
        raw = run(kind.encode_source("v", names), names, v=value)
        assert raw == kind.encode(value)
        assert run(kind.decode_source("raw", names), names, raw=raw) == value


@each_kind
def test_spec_makes_the_kind_again(case):
    """The catalog's JSON describes a kind completely, but for Python classes."""
    spec = json.loads(json.dumps(case.kind.spec()))

    again = kind_from_spec(spec)

    assert again == case.kind
    assert hash(again) == hash(case.kind)
    assert again.spec() == case.kind.spec()
    assert (again.width, again.keyable) == (case.kind.width, case.kind.keyable)
    assert again.widens(case.kind)
    assert case.kind.widens(again)


@each_kind
@given(st.data())
def test_kind_of_the_catalog_reads_and_writes_the_same_bytes(case, data):
    """Without the Python classes values are plain data, and their bytes the same."""
    packed = msgspec.msgpack.encode(case.kind.store(case.kind.check(data.draw(case.values))))
    plain = kind_from_spec(case.kind.spec())

    value = plain.load(msgspec.msgpack.decode(packed, type=plain.wire))

    assert plain.check(value) == value
    assert msgspec.msgpack.encode(plain.store(value)) == packed


@each_kind
@given(raw=st.binary(max_size=40))
def test_garbage_on_the_wire_is_refused_or_loads_a_valid_value(case, raw):
    """Decoding damaged bytes raises a decoding error or gives a value of the kind, never anything else."""
    try:
        value = case.kind.load(msgspec.msgpack.decode(raw, type=case.kind.wire))
    except (msgspec.DecodeError, ValueError):
        return
    if not isinstance(case.kind, JsonKind):  # which takes what msgpack says: bytes and NaN too
        assert repr(case.kind.check(value)) == repr(value)


def test_specs_differ():
    """No two different kinds have the same spec."""
    specs = [json.dumps(case.kind.spec(), sort_keys=True) for case in ALL if case.kind.tag is not None]

    assert len(set(specs)) == len(specs) - 1  # UUIDs as text are stored as UUIDs


# ------------------------------------------------------------------------------------------ kinds in keys


@each_key_kind
@given(st.data())
def test_key_comes_back(case, data):
    """A key part decodes to the value, and has the kind's width."""
    value = case.kind.check(data.draw(case.values))

    raw = case.kind.encode(value)

    assert case.kind.decode(raw) == value
    assert type(case.kind.decode(raw)) is type(value)
    assert case.kind.width in (None, len(raw))


@each_key_kind
@given(st.data())
def test_order_of_bytes_is_order_of_values(case, data):
    """A < b exactly if the bytes of a are less than those of b."""
    one, other = (case.kind.check(data.draw(case.values)) for _ in range(2))

    raw_one, raw_other = case.kind.encode(one), case.kind.encode(other)

    assert (raw_one < raw_other) is (case.order(one) < case.order(other))
    assert (raw_one == raw_other) is (case.order(one) == case.order(other))


@each_key_kind
@given(raw=st.binary(max_size=17))
def test_garbage_in_keys_raises_value_error(case, raw):
    """Bytes decode to a value that encodes to them, or raise ValueError."""
    try:
        value = case.kind.decode(raw)
    except ValueError:
        return
    if case.kind.tag is not None:  # a conversion may lose what the inner kind has
        assert case.kind.encode(case.kind.check(value)) == raw


@each_key_kind
@given(st.data())
def test_mutated_keys_raise_value_error_or_decode_strictly(case, data):
    """One changed byte gives another value, or ValueError."""
    raw = bytearray(case.kind.encode(case.kind.check(data.draw(case.values))))
    if not raw:
        return
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        value = case.kind.decode(bytes(raw))
    except ValueError:
        return
    if case.kind.tag is not None:
        assert case.kind.encode(value) == raw


@each_key_kind
@given(st.data())
def test_bound_of_a_value_is_its_encoding(case, data):
    """A query for a value of the kind looks where it is stored."""
    value = case.kind.check(data.draw(case.values))

    assert case.kind.bound(value) == case.kind.encode(value)


@pytest.mark.parametrize(("kind", "value"), [(case.kind, value) for case in KEYED for value in case.unordered])
def test_nan_has_no_place_in_keys(kind, value):
    """NaN is a value, and no key."""
    assert math.isnan(through_wire(kind, kind.check(value)))
    with pytest.raises(ValueError, match="order"):
        kind.encode(value)


def test_values_only_kinds_refuse_keys():
    """A list in a key is refused with its reason."""
    with pytest.raises(ValueError, match="no place in a key"):
        ListKind(IntKind()).encode([1])
    with pytest.raises(ValueError, match="no place in a key"):
        JsonKind().decode(b"")


# ------------------------------------------------------------------------------------------ numbers


class Index:
    """What numpy's integers are: no int, with __index__."""

    def __index__(self):
        return 7


def test_ints_of_other_types_become_ints():
    """Members of IntEnum and what has __index__ are stored as plain ints."""
    assert type(IntKind().check(Level.high)) is int
    assert IntKind(8).check(Index()) == 7
    assert DecimalKind(3, 1).check(Index()) == 7


@pytest.mark.parametrize("value", [0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308])
def test_floats_keep_their_bits(value):
    """Also the sign of zero."""
    loaded = through_wire(FloatKind(), FloatKind().check(value))

    assert struct.pack(">d", loaded) == struct.pack(">d", value)


def test_negative_zero_is_zero_in_keys():
    """They are equal, so they have one key."""
    assert FloatKind().encode(-0.0) == FloatKind().encode(0.0)
    assert math.copysign(1, FloatKind().decode(FloatKind().encode(-0.0))) == 1


def test_key_of_negative_zero_is_refused():
    """No value encodes to it: decoding is strict."""
    with pytest.raises(ValueError, match="no float"):
        FloatKind().decode(b"\x7f" + b"\xff" * 7)


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), (2**53, 2.0**53), (Fraction(1, 4), 0.25), (-(10**22), -1e22)])
def test_exact_numbers_become_floats(value, number):
    """An int that a float can say is taken."""
    assert FloatKind().check(value) == number
    assert type(FloatKind().check(value)) is float


def test_decimals_come_back_with_their_scale():
    """However they were written."""
    kind = DecimalKind(5, 2)

    assert [str(kind.check(Decimal(text))) for text in ("1", "1.5", "1.500", "-0", "1e1", "999.99")] == [
        "1.00", "1.50", "1.50", "0.00", "10.00", "999.99",
    ]  # fmt: skip
    assert str(kind.check(7)) == "7.00"
    assert str(through_wire(kind, kind.check(Decimal("-1.5")))) == "-1.50"


@pytest.mark.parametrize("given", [(0, 0), (39, 0), (5, 6), (5, -1)])
def test_impossible_decimals(given):
    """Precision is 1 to 38, scale 0 to precision."""
    with pytest.raises(ValueError, match="digits"):
        DecimalKind(*given)


@pytest.mark.parametrize(
    ("kind", "value", "same_as"),
    [
        (IntKind(), 3.0, 3),
        (IntKind(), Decimal("3.00"), 3),
        (IntKind(), True, 1),
        (IntKind(64, signed=False), Fraction(2**63), 2**63),
        (IntKind(64, signed=False), float(2**63), 2**63),
        (BoolKind(), 1, True),
        (BoolKind(), 0.0, False),
        (FloatKind(), 3, 3.0),
        (FloatKind(), Decimal("0.5"), 0.5),
        (FloatKind(), 10**22, 1e22),
        (FloatKind(), Decimal("-Infinity"), -math.inf),
        (FloatKind(), Decimal("-0"), 0.0),
        (DecimalKind(5, 2), 1.5, Decimal("1.50")),
        (DecimalKind(5, 2), 3, Decimal("3.00")),
        (DecimalKind(38, 2), Decimal("1.500"), Decimal("1.50")),
        (DatetimeKind(), date(2020, 1, 2), datetime(2020, 1, 2)),  # noqa: DTZ001
        (UuidKind(), str(UUID(int=5)), UUID(int=5)),
        (UuidKind(as_text=True), UUID(int=5), str(UUID(int=5))),
        (EnumKind(Color.__members__, Color), "red", Color.red),
        (BytesKind(), bytearray(b"a"), b"a"),
        (FixedBytesKind(2), memoryview(b"ab"), b"ab"),
    ],
)
def test_bounds_convert_where_that_is_exact(kind, value, same_as):
    """Comparing across types finds the equal value."""
    assert kind.bound(value) == kind.encode(same_as)


@pytest.mark.parametrize(
    ("kind", "value", "side"),
    [
        (IntKind(8), 128, 1),
        (IntKind(8), 127.5, 1),
        (IntKind(8), -128.5, -1),
        (IntKind(8), 2.5, 0),
        (IntKind(8), -(10**400), -1),
        (IntKind(8), math.inf, 1),
        (IntKind(8), math.nan, 0),
        (IntKind(8), Decimal("1e-999999"), 0),
        (IntKind(8), Decimal("1e999999"), 1),
        (IntKind(8), Decimal("-1e999999"), -1),
        (IntKind(8), Decimal("NaN"), 0),
        (IntKind(8), Decimal("-Infinity"), -1),
        (IntKind(64, signed=False), -1, -1),
        (IntKind(64, signed=False), -0.5, -1),
        (BoolKind(), 2, 1),
        (BoolKind(), 0.5, 0),
        (FloatKind(), 2**53 + 1, 0),
        (FloatKind(), 10**400, 0),
        (FloatKind(), Decimal("0.1"), 0),
        (FloatKind(), Decimal("1e-999999"), 0),
        (FloatKind(), math.nan, 0),
        (DecimalKind(5, 2), Decimal("0.001"), 0),
        (DecimalKind(5, 2), 0.1, 0),
        (DecimalKind(5, 2), 1000, 1),
        (DecimalKind(5, 2), -math.inf, -1),
        (FixedBytesKind(2), b"", -1),
        (FixedBytesKind(2), b"a", 0),
        (FixedBytesKind(2), b"abc", 0),
        (FixedBytesKind(2), b"\xff\xff\x00", 1),
        (DatetimeKind(aware=True), datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), -1),
        (DatetimeKind(aware=True), datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), 1),
    ],
)
def test_bounds_that_no_value_equals_tell_their_side(kind, value, side):
    """-1 below all values, +1 above, 0 between two or in no order at all."""
    with pytest.raises(OutOfRange) as caught:
        kind.bound(value)

    assert caught.value.side == side


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (IntKind(), "1"),
        (IntKind(), b"1"),
        (BoolKind(), "true"),
        (FloatKind(), "1"),
        (DecimalKind(5, 2), "1"),
        (TextKind(), 1),
        (BytesKind(), "a"),
        (FixedBytesKind(1), "a"),
        (DatetimeKind(), datetime(2020, 1, 1, tzinfo=UTC)),
        (DatetimeKind(aware=True), datetime(2020, 1, 1)),  # noqa: DTZ001
        (DatetimeKind(aware=True), date(2020, 1, 1)),
        (DatetimeKind(), 0),
        (DateKind(), datetime(2020, 1, 1)),  # noqa: DTZ001
        (TimeKind(), 0),
        (TimedeltaKind(), 0),
        (UuidKind(), 5),
        (UuidKind(), "x"),
        (EnumKind(Color.__members__, Color), 1),
        (EnumKind(Color.__members__, Color), Level.low),
    ],
)
def test_bounds_of_other_types_do_not_compare(kind, value):
    """ValueError, which is no OutOfRange."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        kind.bound(value)

    assert not isinstance(caught.value, OutOfRange)


@given(st.text(st.characters()), st.text(max_size=5))
def test_text_bounds_keep_their_place_in_the_order(bound, value):
    """Text that no value can be (too long, with lone surrogates) compares as Python compares it."""
    raw = TextKind(5).bound(bound)

    assert (TextKind(5).encode(value) < raw) is (value < bound)


@given(st.integers(-128, 127), st.fractions() | st.floats(allow_nan=False) | st.decimals(allow_nan=False))
def test_int_bounds_compare_as_numbers(value, bound):
    """Whatever type the other number is of, bytes or sides order the two as Python does."""
    kind = IntKind(8)
    side, raw = None, b""
    try:
        raw = kind.bound(bound)
    except OutOfRange as error:
        side = error.side

    if side is None:
        assert (kind.encode(value) < raw) is (value < bound)
        assert (kind.encode(value) == raw) is (value == bound)
    else:
        assert value != bound
        assert not side or (value < bound) is (side > 0)


# ------------------------------------------------------------------------------------------ text, bytes, time


class Text(str):
    """A str of another class, as template engines have."""

    __slots__ = ()


def test_strings_of_other_types_become_plain():
    """What msgpack would refuse, or give back as something else, is normalised first."""
    assert type(TextKind().check(Text("a"))) is str
    assert type(BytesKind().check(bytearray(b"a"))) is bytes
    assert type(FixedBytesKind(1).check(memoryview(b"a"))) is bytes
    assert type(EnumKind(["a"]).check(Text("a"))) is str


def test_prefixes():
    """A prefix is what the encodings of all values that begin so begin with."""
    assert TextKind().prefix("é") == "é".encode()
    assert FixedBytesKind(4).prefix(b"ab") == b"ab"
    assert BytesKind(1).prefix(b"ab") == b"ab"
    assert EnumKind(Color.__members__, Color).prefix("re") == b"re"
    for kind, value in [(IntKind(), 1), (FixedBytesKind(1), b"ab"), (TextKind(), b"a"), (BytesKind(), "a")]:
        with pytest.raises(ValueError):  # noqa: PT011
            kind.prefix(value)


def test_aware_datetimes_come_back_in_utc():
    """The moment is kept, the zone it was told in is not."""
    there = datetime(2020, 6, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    value = DatetimeKind(aware=True).check(there)

    assert value == there
    assert value.tzinfo is UTC
    assert DatetimeKind(aware=True).decode(DatetimeKind(aware=True).encode(value)).tzinfo is UTC


class Moment(datetime):
    """A datetime of another class, as pandas has, with nanoseconds that it compares by."""

    nanosecond = 0

    def __eq__(self, other):
        return not self.nanosecond and super().__eq__(other)

    def __ne__(self, other):
        return not self == other

    __hash__ = datetime.__hash__


def test_datetimes_of_subclasses_become_plain_or_are_refused():
    """Nothing is lost without a word: finer than microseconds is refused."""
    moment = Moment(2020, 1, 1)

    assert type(DatetimeKind().check(moment)) is datetime
    moment.nanosecond = 5
    with pytest.raises(ValueError, match="microseconds"):
        DatetimeKind().check(moment)


def test_enum_kinds_store_names():
    """As SQLAlchemy does; an alias is stored under the first name."""
    kind = EnumKind({"first": Color.red, "second": Color.green, "again": Color.red}, Color)

    assert kind.store(Color.red) == "first"
    assert kind.load("again") is Color.red
    assert kind.encode(Color.green) == b"second"
    with pytest.raises(ValueError, match="no name"):
        kind.check(Color.blue)
    with pytest.raises(ValueError, match="no name"):
        kind.load("blue")


def test_message_lists_names_up_to_a_limit():
    """An enum of many names does not fill the screen."""
    kind = EnumKind([f"name{number}" for number in range(100)])

    assert "(100 in all)" in kind.allowed
    assert len(kind.allowed) < 400


@pytest.mark.parametrize("length", [0, -1, True, 1.0, 2**31])
def test_impossible_lengths(length):
    """A length is an int from 1 on."""
    for kind in (TextKind, BytesKind, FixedBytesKind):
        with pytest.raises(ValueError, match="length"):
            kind(length)


# ------------------------------------------------------------------------------------------ widening, specs, source


@pytest.mark.parametrize(
    ("newer", "older", "widens"),
    [
        (IntKind(64), IntKind(8), True),
        (IntKind(16), IntKind(8, signed=False), True),
        (IntKind(64, signed=False), IntKind(8, signed=False), True),
        (IntKind(8), IntKind(8, signed=False), False),
        (IntKind(64, signed=False), IntKind(8), False),
        (IntKind(32), IntKind(64), False),
        (FloatKind(), IntKind(8), False),
        (TextKind(), TextKind(5), True),
        (TextKind(6), TextKind(5), True),
        (TextKind(4), TextKind(5), False),
        (TextKind(5), TextKind(), False),
        (BytesKind(), FixedBytesKind(4), True),
        (BytesKind(3), FixedBytesKind(4), False),
        (BytesKind(), TextKind(), False),
        (TextKind(), EnumKind(["a"]), True),
        (TextKind(1), EnumKind(["ab"]), False),
        (EnumKind(["a", "b"]), EnumKind(["a"]), True),
        (EnumKind(["a"]), EnumKind(["a", "b"]), False),
        (DecimalKind(18, 2), DecimalKind(5, 2), True),
        (DecimalKind(19, 2), DecimalKind(18, 2), False),
        (DecimalKind(18, 3), DecimalKind(5, 2), False),
        (DatetimeKind(), DatetimeKind(aware=True), False),
        (UuidKind(), UuidKind(as_text=True), True),
        (ListKind(IntKind(64)), ListKind(IntKind(8)), True),
        (ListKind(IntKind(8), nullable=True), ListKind(IntKind(8)), True),
        (ListKind(IntKind(8)), ListKind(IntKind(8), nullable=True), False),
        (JsonKind(), ListKind(IntKind(8)), False),
    ],
)
def test_widening(newer, older, widens):
    """True only where every stored value loads unchanged."""
    assert newer.widens(older) is widens


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "no such"},
        {"kind": ["int"]},
        {"kind": "int"},
        {"kind": "int", "bits": 64},
        {"kind": "int", "bits": 7, "signed": True},
        {"kind": "int", "bits": True, "signed": True},
        {"kind": "int", "bits": "64", "signed": True},
        {"kind": "int", "bits": 64, "signed": True, "more": 1},
        {"kind": "bool", "more": 1},
        {"kind": "text", "length": 0},
        {"kind": "text"},
        {"kind": "text", "length": None, "more": 1},
        {"kind": "fixed_bytes", "length": None},
        {"kind": "decimal", "precision": 99, "scale": 0},
        {"kind": "enum", "names": []},
        {"kind": "enum", "names": ["a", "a"]},
        {"kind": "enum", "names": [1]},
        {"kind": "enum", "names": "ab"},
        {"kind": "list", "element": {"kind": "bool"}},
        {"kind": "list", "element": {"kind": {"kind": "bool"}}},
        {"kind": "list", "element": []},
        {"kind": "tuple", "parts": [5]},
        {"kind": "record", "fields": [{"kind": {"kind": "bool"}, "nullable": False}]},
        {"kind": "record", "fields": [{"name": "a b", "kind": {"kind": "bool"}, "nullable": False}]},
        {"kind": "record", "fields": [{"name": "a", "kind": {"kind": "bool"}, "nullable": False}] * 2},
        [],
        None,
        "int",
    ],
)
def test_bad_specs_raise_value_error(spec):
    """A damaged catalog is noticed, whatever the damage."""
    with pytest.raises(ValueError):  # noqa: PT011
        kind_from_spec(spec)


def test_specs_nest_to_a_limit():
    """A spec cannot make the reader recurse without end."""
    spec = {"kind": "bool"}
    for _ in range(DEEPEST_SPEC - 1):
        spec = {"kind": "list", "element": {"kind": spec, "nullable": False}}

    kind_from_spec(spec)
    with pytest.raises(ValueError, match="levels"):
        kind_from_spec({"kind": "list", "element": {"kind": spec, "nullable": False}})


def test_kinds_are_equal_by_spec():
    """Python classes do not count."""
    assert EnumKind(Color.__members__, Color) == EnumKind(["blue", "green", "red"])
    assert IntKind(8) != IntKind(16)
    assert IntKind(8) != 8
    assert "int" in repr(IntKind(8))


def test_two_kinds_cannot_have_one_tag():
    """Else a spec would mean two things."""
    with pytest.raises(TypeError, match="two kinds"):
        type("Another", (Kind,), {"tag": "int"})


def test_put_names_each_thing_once():
    """Identical things, and bound methods of one object, share a name; equal ones do not."""
    kind, twin = IntKind(), IntKind()
    names = {"_1": "taken"}

    assert put(names, kind.encode) == put(names, kind.encode)
    assert put(names, kind.encode) != put(names, twin.encode)
    assert put(names, (1,).count) != put(names, (1.0,).count)
    assert put(names, 1) != put(names, True)
    assert names["_1"] == "taken"
    assert put(names, Point) == put(names, Point)


def test_lone_surrogates_are_refused_not_stored():
    """Msgpack could not pack them."""
    for kind in (TextKind(), TextKind(3), JsonKind(), EnumKind(["a"])):
        with pytest.raises(ValueError):  # noqa: PT011
            kind.check(LONE)


def test_time_of_day_keeps_microseconds():
    """The last moment of a day."""
    assert TimeKind().decode(TimeKind().encode(time.max)) == time.max
