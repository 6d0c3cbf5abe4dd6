"""A record with a field of every type, and values for it."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any

import attrs
import sqlalchemy as sa
from hypothesis import strategies as st

from kvdialect import (
    Bytes4,
    FixedBinary,
    Int8,
    Int16,
    Int32,
    Int64,
    Mapped,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    field,
    mapped,
    registry,
)

models = registry()


class Color(enum.Enum):
    """Ordered by name, as SQLAlchemy stores it."""

    red = 1
    green = 2
    blue = 3


@attrs.define
class Point:
    """A nested value."""

    x: int
    label: str | None = None


class Unsigned128(sa.TypeDecorator[int]):
    """A type that a decorator makes: integers in 16 bytes."""

    impl = FixedBinary(16)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Any) -> bytes | None:  # noqa: ARG002
        return None if value is None else value.to_bytes(16)

    def process_result_value(self, value: bytes | None, dialect: Any) -> int | None:  # noqa: ARG002
        return None if value is None else int.from_bytes(value)


@mapped(models)
class Everything:
    """One field of each type, each with an index where it can have one."""

    __tablename__ = "everything"
    id: Mapped[int] = field(primary_key=True)
    flag: Mapped[bool | None] = field(default=None, index=True)
    i8: Mapped[Int8 | None] = field(default=None, index=True)
    i16: Mapped[Int16 | None] = field(default=None, index=True)
    i32: Mapped[Int32 | None] = field(default=None, index=True)
    i64: Mapped[Int64 | None] = field(default=None, index=True)
    u8: Mapped[UInt8 | None] = field(default=None, index=True)
    u16: Mapped[UInt16 | None] = field(default=None, index=True)
    u32: Mapped[UInt32 | None] = field(default=None, index=True)
    u64: Mapped[UInt64 | None] = field(default=None, index=True)
    real: Mapped[float | None] = field(default=None, index=True)
    text: Mapped[str | None] = field(default=None, index=True)
    raw: Mapped[bytes | None] = field(default=None, index=True)
    fixed: Mapped[Bytes4 | None] = field(default=None, index=True)
    naive: Mapped[dt.datetime | None] = field(default=None, index=True)
    aware: Mapped[Annotated[dt.datetime, sa.DateTime(timezone=True)] | None] = field(default=None, index=True)
    day: Mapped[dt.date | None] = field(default=None, index=True)
    clock: Mapped[dt.time | None] = field(default=None, index=True)
    span: Mapped[dt.timedelta | None] = field(default=None, index=True)
    unique_id: Mapped[uuid.UUID | None] = field(default=None, index=True)
    money: Mapped[Annotated[Decimal, sa.Numeric(12, 2)] | None] = field(default=None, index=True)
    big_money: Mapped[Annotated[Decimal, sa.Numeric(30, 6)] | None] = field(default=None, index=True)
    color: Mapped[Color | None] = field(default=None, index=True)
    counted: Mapped[Annotated[int, Unsigned128()] | None] = field(default=None, index=True)
    data: Mapped[Annotated[Any, sa.JSON()] | None] = None
    words: Mapped[list[str] | None] = None
    sizes: Mapped[dict[str, UInt64] | None] = None
    pair: Mapped[tuple[int, str] | None] = None
    point: Mapped[Point | None] = None
    points: Mapped[list[Point] | None] = None
    many: Mapped[Annotated[list[int], sa.ARRAY(sa.BigInteger)] | None] = None


def ints(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def money(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda n: Decimal(f"{n}e-{scale}"))


moments = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001 - naive on purpose
zones = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)), dt.timezone(-dt.timedelta(hours=8))])
points = st.builds(Point, st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=3))
finite = st.floats(allow_nan=False, allow_infinity=False)
json = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | st.text(max_size=4),
    lambda inner: st.lists(st.none() | inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)

ORDERED = {
    "flag": st.booleans(),
    **{f"i{bits}": ints(bits, True) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": ints(bits, False) for bits in (8, 16, 32)},
    "u64": ints(64, False) | st.sampled_from([0, 2**63 - 1, 2**63, 2**64 - 1]),
    "real": st.floats(allow_nan=False),
    "text": st.text(max_size=6),
    "raw": st.binary(max_size=6),
    "fixed": st.binary(min_size=4, max_size=4),
    "naive": moments,
    "aware": st.builds(lambda moment, zone: moment.replace(tzinfo=zone), moments, zones),
    "day": st.dates(),
    "clock": st.times(),
    "span": st.timedeltas(dt.timedelta(-700_000), dt.timedelta(2_900_000)),
    "unique_id": st.uuids(),
    "money": money(12, 2),
    "color": st.sampled_from(Color),
    "counted": st.integers(0, 2**128 - 1),
}
"""Columns whose order in SQL is that of their values."""

OTHERS = {
    "big_money": money(30, 6),
    "data": json,
    "words": st.lists(st.text(max_size=3), max_size=3),
    "sizes": st.dictionaries(st.text(max_size=3), st.integers(0, 2**64 - 1), max_size=3),
    "pair": st.tuples(st.integers(0, 9), st.text(max_size=3)),
    "point": points,
    "points": st.lists(points, max_size=3),
    "many": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
}

values = st.fixed_dictionaries({}, optional={name: st.none() | some for name, some in {**ORDERED, **OTHERS}.items()})
rows = st.lists(values, min_size=1, max_size=6)


def plain(name: str, value: Any) -> Any:
    """A value as a reflected Table shows it, which knows no class and no decorator of the program's."""
    if value is None:
        return None
    match name:
        case "color":
            return value.name
        case "counted":
            return value.to_bytes(16)
        case "pair":
            return list(value)
        case "point":
            return attrs.asdict(value)
        case "points":
            return [attrs.asdict(point) for point in value]
        case _:
            return value
