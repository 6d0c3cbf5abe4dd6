"""A store that holds something of everything, for row 9: what decoders are fed with comes from it."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

import attrs
import sqlalchemy as sa
from sqlalchemy import Index, text

from kvdialect import Bytes4, Engine, Int16, Mapped, Session, UInt64, create_engine, field, mapped, registry

models = registry()


class Color(enum.Enum):
    """Stored by name."""

    red = 1
    green = 2


@attrs.define
class Point:
    """A nested value."""

    x: int
    label: str | None = None


@mapped(models)
class Everything:
    """A field of each type, with indexes of each sort."""

    __tablename__ = "everything"
    __table_args__ = (
        Index("by_text", "text", "i16", kvdialect_include=["money", "real"]),
        Index("by_day", sa.desc("day"), "flag"),
        Index("by_words", "words", kvdialect_kind="multi"),
    )
    id: Mapped[int] = field(primary_key=True)
    flag: Mapped[bool | None] = None
    i16: Mapped[Int16 | None] = field(default=None, index=True)
    u64: Mapped[UInt64 | None] = field(default=None, index=True)
    real: Mapped[float | None] = field(default=None, index=True)
    text: Mapped[str | None] = field(default=None, unique=True)
    raw: Mapped[bytes | None] = field(default=None, index=True)
    fixed: Mapped[Bytes4 | None] = None
    naive: Mapped[dt.datetime | None] = field(default=None, index=True)
    aware: Mapped[Annotated[dt.datetime, sa.DateTime(timezone=True)] | None] = field(default=None, index=True)
    day: Mapped[dt.date | None] = field(default=None, index=True)
    clock: Mapped[dt.time | None] = field(default=None, index=True)
    span: Mapped[dt.timedelta | None] = field(default=None, index=True)
    name: Mapped[uuid.UUID | None] = field(default=None, index=True)
    money: Mapped[Annotated[Decimal, sa.Numeric(12, 2)] | None] = field(default=None, index=True)
    big_money: Mapped[Annotated[Decimal, sa.Numeric(30, 6)] | None] = field(default=None, index=True)
    color: Mapped[Color | None] = field(default=None, index=True)
    data: Mapped[Annotated[Any, sa.JSON()] | None] = None
    words: Mapped[list[str] | None] = None
    sizes: Mapped[dict[str, int] | None] = None
    pair: Mapped[tuple[int, str] | None] = None
    points: Mapped[list[Point] | None] = None


@mapped(models)
class Composite:
    """A key of several parts, of variable width."""

    __tablename__ = "composite"
    __table_args__ = (Index("composite_by_note", "note", "b"), {})
    a: Mapped[str] = field(primary_key=True)
    b: Mapped[int] = field(primary_key=True)
    c: Mapped[bytes] = field(primary_key=True)
    note: Mapped[str | None] = None


@mapped(models)
class Foreign:
    """The fixed layout of another program."""

    __tablename__ = "foreign_rows"
    __table_args__ = ({"kvdialect_format": "bincode"},)
    id: Mapped[Bytes4] = field(primary_key=True)
    height: Mapped[UInt64]
    spent: Mapped[UInt64 | None]
    done: Mapped[bool]
    words: Mapped[list[str]]


_SQL = (
    "CREATE TABLE plain (id INTEGER PRIMARY KEY, t TEXT, r REAL, n NUMERIC, b BLOB)",
    "CREATE INDEX plain_by_t ON plain (t COLLATE NOCASE, n)",
    "CREATE TABLE keyed (a TEXT, b INTEGER, c, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE VIEW seen AS SELECT t FROM plain",
    "INSERT INTO plain VALUES (1, 'one', 1.5, 10, x'00ff'), (2, NULL, NULL, 1e300, 'text'), (-5, '', -0.0, 'x', NULL)",
    "INSERT INTO keyed VALUES ('k', 1, 2.5), ('', -1, x''), ('\u00e9', 9223372036854775807, NULL)",
)


@cache
def store() -> Engine:
    """A store in memory that holds something of everything."""
    engine = create_engine("memory://")
    models.create_all(engine)
    moment = dt.datetime(2024, 2, 29, 12, 30, 1, 5)  # noqa: DTZ001 - naive on purpose
    with Session(engine) as session, session.begin():
        session.add_all([Everything(1), Everything(-(2**63)), Everything(2**63 - 1, text="", words=[], points=[])])
        session.add(
            Everything(
                7,
                True,
                -300,
                2**64 - 1,
                -1.5,
                "text \u00e9",
                b"\0raw",
                b"four",
                moment,
                moment.replace(tzinfo=dt.UTC),
                moment.date(),
                moment.time(),
                dt.timedelta(days=-1, microseconds=1),
                uuid.UUID(int=2**127 + 5),
                Decimal("1234.56"),
                Decimal("-123456789012345678.000001"),
                Color.green,
                {"a": [1, None, 2.5], "b": {"c": "d"}},
                ["one", "two"],
                {"x": 1},
                (1, "y"),
                [Point(1), Point(2, "z")],
            )
        )
        session.add_all([Composite("a\0b", -1, b"\0\0"), Composite("", 2**40, b"c", "note")])
        session.add(Foreign(b"abcd", 7, None, True, ["x", "yy"]))
        session.add(Foreign(b"efgh", 2**64 - 1, 3, False, []))
    with engine.sqlalchemy().begin() as connection:
        for statement in _SQL:
            connection.execute(text(statement))
    return engine
