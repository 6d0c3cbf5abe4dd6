"""The kinds under test, each with values, how these are ordered, and what it refuses."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
from hypothesis import strategies as st

from kvdialect.codec.composite import ConvertedKind, DictKind, JsonKind, ListKind, Part, TupleKind
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordField, RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind


class Color(enum.Enum):
    """An enum whose order of definition is not that of its names."""

    red = 1
    green = 2
    blue = "3"


class Level(enum.IntEnum):
    """An enum whose members are ints."""

    low = 1
    high = 2


@attrs.frozen
class Point:
    """A nested class that cannot change."""

    x: int
    y: float | None


@attrs.define
class Shape:
    """A nested class that can."""

    name: str
    corners: list[Point]
    color: Color = Color.red
    _tag: bytes = attrs.field(default=b"", alias="tag")


def identity(value: Any) -> Any:
    """Values that order themselves."""
    return value


@attrs.frozen
class Case:
    """A kind, its values and what it refuses."""

    kind: Kind
    values: st.SearchStrategy[Any]
    refused: tuple[Any, ...] = ()
    order: Callable[[Any], Any] = identity
    unordered: tuple[Any, ...] = ()

    def __str__(self) -> str:
        facts = self.kind.spec()
        return "-".join(str(fact) for fact in facts.values() if not isinstance(fact, list | dict))


LONE = "\ud800"
ZEROS = st.text(st.sampled_from("\x00\x01a\u00ff\uffff\U0001f600"), max_size=5)
TRICKY = st.lists(st.sampled_from(b"\x00\x01\x02a\xfe\xff"), max_size=5).map(bytes)


def _int_case(bits: int, signed: bool) -> Case:
    kind = IntKind(bits, signed)
    edges = [kind.lowest, kind.lowest + 1, 0, 1, kind.highest - 1, kind.highest]
    values = st.integers(kind.lowest, kind.highest) | st.sampled_from(edges)
    return Case(kind, values, (kind.lowest - 1, kind.highest + 1, True, 1.0, "1", b"1", Decimal(1), None))


def _decimal_case(precision: int, scale: int) -> Case:
    highest = 10**precision - 1
    numbers = st.integers(-highest, highest) | st.sampled_from([-highest, -1, 0, 1, highest])
    values = numbers.map(lambda number: Decimal(f"{number}e-{scale}"))
    refused = ("NaN", "sNaN", "inf", "-inf", f"1e-{scale + 1}", f"1e{precision - scale}", "1e999999", "1e-999999")
    return Case(
        DecimalKind(precision, scale),
        values,
        (*map(Decimal, refused), 1.5, "1", True, 10**precision, None),
    )


MOMENTS = st.datetimes() | st.sampled_from(
    [
        datetime.min,  # noqa: DTZ901
        datetime.max,  # noqa: DTZ901
        datetime(1970, 1, 1),  # noqa: DTZ001
        datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
    ]
)
AWARE = MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC))

KEYED = (
    Case(BoolKind(), st.booleans(), (0, 1, "", None)),
    *(_int_case(bits, signed) for bits in (8, 16, 32, 64) for signed in (True, False)),
    Case(
        FloatKind(),
        st.floats(allow_nan=False).map(lambda value: value + 0.0),
        (2**53 + 1, 10**400, True, "1", Decimal(1), None),
        unordered=(math.nan,),
    ),
    Case(TextKind(), ZEROS | st.text(), (LONE, f"é{LONE}", b"a", 1, None), lambda text: [ord(c) for c in text]),
    Case(TextKind(3), st.text(max_size=3), ("abcd", "éééé", LONE, b"a")),
    Case(BytesKind(), TRICKY | st.binary(), ("a", 1, [1], None)),
    Case(BytesKind(2), st.binary(max_size=2), (b"abc", "a")),
    Case(FixedBytesKind(4), st.binary(min_size=4, max_size=4), (b"", b"abc", b"abcde", "abcd", None)),
    Case(DatetimeKind(), MOMENTS, (datetime.now(UTC), date(2020, 1, 1), "2020-01-01", 0, None)),
    Case(
        DatetimeKind(aware=True),
        AWARE,
        (
            datetime(2020, 1, 1),  # noqa: DTZ001
            datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
            date(2020, 1, 1),
            None,
        ),
    ),
    Case(DateKind(), st.dates() | st.sampled_from([date.min, date.max]), (datetime.now(UTC), "2020-01-01", 0, None)),
    Case(TimeKind(), st.times() | st.sampled_from([time.min, time.max]), (time(1, tzinfo=UTC), timedelta(1), 0, None)),
    Case(
        TimedeltaKind(),
        st.timedeltas() | st.sampled_from([timedelta.min, timedelta.max, timedelta(0), timedelta(microseconds=-1)]),
        (1, time(1), None),
    ),
    Case(UuidKind(), st.uuids(), ("x", b"0" * 16, 5, None), lambda value: value.int),
    Case(UuidKind(as_text=True), st.uuids().map(str), ("x", b"0" * 16, UUID(int=1), None)),
    _decimal_case(1, 0),
    _decimal_case(10, 2),
    _decimal_case(18, 18),
    _decimal_case(19, 4),
    _decimal_case(38, 0),
    _decimal_case(38, 38),
    Case(EnumKind(Color.__members__, Color), st.sampled_from(Color), ("red", 1, Level.low, None), lambda c: c.name),
    Case(EnumKind(Level.__members__, Level), st.sampled_from(Level), (1, "low", True, None), lambda level: level.name),
    Case(EnumKind(["b", "a", "é"]), st.sampled_from(["a", "b", "é"]), ("c", "", 1, None)),
    Case(
        ConvertedKind(IntKind(32), lambda value: value * 2, lambda value: value // 2, python=int),
        st.integers(-(2**30), 2**30 - 1),
        (2**30, 1.5, None),
    ),
)
"""Kinds that stand in keys."""

POINT = RecordKind([RecordField("x", Part(IntKind())), RecordField("y", Part(FloatKind(), nullable=True))], Point)
SHAPE = RecordKind(
    [
        RecordField("name", Part(TextKind())),
        RecordField("corners", Part(ListKind(POINT))),
        RecordField("color", Part(EnumKind(Color.__members__, Color)), lambda _: Color.red),
        RecordField("_tag", Part(BytesKind(4)), lambda _: b""),
    ],
    Shape,
)

INTS = st.integers(-(2**63), 2**63 - 1)
POINTS = st.builds(Point, INTS, st.none() | st.floats(allow_nan=False))
SHAPES = st.builds(Shape, st.text(), st.lists(POINTS, max_size=3), st.sampled_from(Color), st.binary(max_size=4))
JSON = st.recursive(
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)

looped: list[Any] = []
looped.append(looped)

VALUES = (
    Case(
        JsonKind(),
        JSON | st.just(2**64 - 1),
        (
            math.nan,
            math.inf,
            2**64,
            -(2**63) - 1,
            b"",
            {1: 2},
            [{1: 2}],
            {1},
            object(),
            LONE,
            {LONE: 1},
            [LONE],
            looped,
        ),
    ),
    Case(ListKind(IntKind(8)), st.lists(st.integers(-128, 127)), ([128], [True], [None], (1,), ["1"], {1}, None)),
    Case(ListKind(TextKind(2), nullable=True), st.lists(st.none() | st.text(max_size=2)), (["abc"], [LONE], "ab")),
    Case(ListKind(DateKind()), st.lists(st.dates()), ([datetime.now(UTC)], [1])),
    Case(ListKind(UuidKind(), python=tuple), st.lists(st.uuids()).map(tuple), ([], ("x",))),
    Case(
        ListKind(ListKind(DecimalKind(20, 2))),
        st.lists(st.lists(st.decimals(0, 9**9, places=2), max_size=3), max_size=3),
        ([["1"]], [[1.5]]),
    ),
    Case(DictKind(IntKind()), st.dictionaries(st.text(), INTS), ({1: 1}, {"a": "b"}, {"a": 2**63}, {LONE: 1}, [])),
    Case(
        DictKind(TimedeltaKind(), nullable=True), st.dictionaries(st.text(), st.none() | st.timedeltas()), ({"a": 1},)
    ),
    Case(TupleKind([]), st.just(()), ((1,), [], None)),
    Case(
        TupleKind([Part(IntKind()), Part(BytesKind(), nullable=True), Part(ListKind(BoolKind()))]),
        st.tuples(INTS, st.none() | st.binary(), st.lists(st.booleans())),
        ((1, b"", [1]), (1, b""), (1, b"", [], 1), [1, b"", []], (None, b"", [])),
    ),
    Case(POINT, POINTS, (Point(1.0, 1.0), Point(True, None), Point(None, None), {"x": 1, "y": None}, (1, None), None)),
    Case(SHAPE, SHAPES, (Shape("a", [Point(2**63, None)]), Shape("a", [], "red"), Shape("a", [], tag=b"12345"))),
    Case(
        DictKind(SHAPE), st.dictionaries(st.text(max_size=3), SHAPES, max_size=2), ({"a": None}, {"a": Point(1, 2.0)})
    ),
)
"""Kinds that stand in values alone."""

ALL = KEYED + VALUES
