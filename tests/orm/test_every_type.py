"""Every type through the whole of it: stored, read back exactly, ordered by its index, found by queries."""

from __future__ import annotations

import datetime as dt
import enum
import math
import uuid
from decimal import Decimal
from typing import Annotated, Any

import attrs
import pytest
import sqlalchemy as sa
from consistency import check_consistency
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from kvdialect import (
    Bytes4,
    Int8,
    Int16,
    Int32,
    Int64,
    Mapped,
    Session,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    create_engine,
    exc,
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
    data: Mapped[Annotated[Any, sa.JSON()] | None] = None
    words: Mapped[list[str] | None] = None
    sizes: Mapped[dict[str, int] | None] = None
    pair: Mapped[tuple[int, str] | None] = None
    point: Mapped[Point | None] = None
    points: Mapped[list[Point] | None] = None


def ints(bits, signed):
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def money(digits, scale):
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda n: Decimal(f"{n}e-{scale}"))


moments = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001 - naive on purpose
zones = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)), dt.timezone(-dt.timedelta(hours=8))])
points = st.builds(Point, st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=3))
finite = st.floats(allow_nan=False, allow_infinity=False)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)

INDEXED = {
    "flag": st.booleans(),
    **{f"i{bits}": ints(bits, True) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": ints(bits, False) for bits in (8, 16, 32, 64)},
    "real": st.floats(allow_nan=False),
    "text": st.text(max_size=6),
    "raw": st.binary(max_size=6),
    "fixed": st.binary(min_size=4, max_size=4),
    "naive": moments,
    "aware": st.builds(lambda moment, zone: moment.replace(tzinfo=zone), moments, zones),
    "day": st.dates(),
    "clock": st.times(),
    "span": st.timedeltas(),
    "unique_id": st.uuids(),
    "money": money(12, 2),
    "big_money": money(30, 6),
    "color": st.sampled_from(Color),
}
OTHERS = {
    "data": json,
    "words": st.lists(st.text(max_size=3), max_size=3),
    "sizes": st.dictionaries(st.text(max_size=3), st.integers(-(2**63), 2**63 - 1), max_size=3),
    "pair": st.tuples(st.integers(0, 9), st.text(max_size=3)),
    "point": points,
    "points": st.lists(points, max_size=3),
}
rows = st.lists(
    st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in {**INDEXED, **OTHERS}.items()}),
    min_size=1,
    max_size=6,
)


def order(name, value):
    """What a value sorts by: NULL first, an Enum by its name."""
    return (value is not None, value.name if name == "color" and value is not None else value)


def same(left, right):
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return left == right and type(left) is type(right)


def test_every_type_round_trips_is_ordered_and_is_found(engine_name, tmp_path):
    """Values exact, indexes in the order of values, equality and ranges find what they must."""
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store?durability=none"
    with create_engine(url) as engine:
        models.create_all(engine)

        @given(given_rows=rows)
        @settings(max_examples=40 if engine_name == "memory" else 10)
        def check(given_rows):
            with Session(engine) as session, session.begin():
                session.execute(delete(Everything))
            _check(engine, given_rows)

        check()


def _check(engine, given_rows):
    with Session(engine) as session, session.begin():
        session.add_all([Everything(id=n, **values) for n, values in enumerate(given_rows)])
    check_consistency(engine)
    with Session(engine) as session:
        for n, values in enumerate(given_rows):
            found = session.get_one(Everything, n)
            for name, value in values.items():
                got = getattr(found, name)
                assert same(got, value) or (name == "aware" and got == value), name
                if name == "aware" and value is not None:
                    assert got.tzinfo is dt.UTC
        for name in {name for values in given_rows for name in values} & set(INDEXED):
            wanted = sorted((order(name, values.get(name)), n) for n, values in enumerate(given_rows))
            scanned = [found.id for found in session.scan(f"ix_everything_{name}")]
            assert [order(name, given_rows[n].get(name)) for n in scanned] == [key for key, _ in wanted], name
            column = getattr(Everything, name)
            for pivot in {order(name, v.get(name)): v.get(name) for v in given_rows}.values():
                matches = {n for n, v in enumerate(given_rows) if v.get(name) == pivot}
                found = session.scalars(select(Everything.id).where(column == pivot)).all()
                assert set(found) == matches, name
                if pivot is not None and name != "flag":
                    least = order(name, pivot)
                    below = {
                        n
                        for n, v in enumerate(given_rows)
                        if v.get(name) is not None and order(name, v.get(name)) < least
                    }
                    assert set(session.scalars(select(Everything.id).where(column < pivot)).all()) == below, name
            backwards = session.scalars(select(Everything.id).order_by(column.desc(), Everything.id.desc())).all()
            assert backwards == [n for _, n in reversed(wanted)], name


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("i8", 128, "-128 to 127"),
        ("u16", -1, "0 to 65535"),
        ("u64", 2**64, "18446744073709551615"),
        ("i64", True, "int"),
        ("i32", 1.5, "int"),
        ("real", "1", "float"),
        ("text", b"x", "str"),
        ("text", "\ud800", "UTF-8|surrogate|text"),
        ("raw", "x", "bytes"),
        ("fixed", b"123", "4 bytes"),
        ("naive", dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "naive|without"),
        ("aware", dt.datetime(2020, 1, 1), "aware|time zone|timezone"),  # noqa: DTZ001
        ("day", "2020-01-01", "date"),
        ("clock", dt.time(1, tzinfo=dt.UTC), "time"),
        ("unique_id", "x", "UUID"),
        ("money", Decimal("1.234"), "2"),
        ("money", Decimal("NaN"), "Decimal|decimal"),
        ("color", "purple", "Color|red"),
        ("words", ["a", 3], "str"),
        ("sizes", {"a": "b"}, "int"),
        ("pair", (1,), "tuple"),
        ("point", {"x": 1}, "Point"),
        ("data", {1: object()}, "JSON|json"),
    ],
)
def test_a_wrong_value_is_refused_at_the_flush(name, value, words):
    """DataError naming the field, the value, and what is allowed; nothing is stored."""
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with Session(engine) as session:
            session.add(Everything(id=1, **{name: value}))
            with pytest.raises(exc.DataError, match=rf"(?s)everything\.{name}.*id=1.*({words})"):
                session.commit()
            assert session.get(Everything, 1) is None


def test_nan_is_kept_in_values_and_refused_in_indexes():
    """It has no place in an order."""
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with Session(engine) as session:
            session.add(Everything(id=1, real=math.nan))
            with pytest.raises(exc.DataError, match=r"everything\.real.*ix_everything_real"):
                session.commit()
