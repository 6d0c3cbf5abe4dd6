"""What the tests of the command line share: records of every type, stores of them, and how a command is run."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import uuid
from decimal import Decimal
from typing import Annotated, Any

import attrs
import pytest
import sqlalchemy as sa

pytest.importorskip("click", reason="the command line needs the extra cli; runs where full is installed")
pytest.importorskip("rich", reason="the command line needs the extra cli; runs where full is installed")

from click.testing import CliRunner

from kvdialect import (
    Bytes4,
    Int8,
    Mapped,
    Session,
    UInt8,
    UInt16,
    UInt64,
    create_engine,
    field,
    mapped,
    registry,
)
from kvdialect.cli.commands import group
from kvdialect.schema.definition import IndexDefinition, IndexPart

every = registry()


class Color(enum.Enum):
    """Stored by name."""

    red = 1
    green = 2


@attrs.define
class Point:
    """A nested value."""

    x: int
    label: str | None = None
    raw: bytes = b""


@mapped(every)
class Everything:
    """A field of each type."""

    __tablename__ = "everything"
    id: Mapped[int] = field(primary_key=True)
    flag: Mapped[bool | None] = None
    i8: Mapped[Int8 | None] = None
    i64: Mapped[int | None] = field(default=None, index=True)
    u8: Mapped[UInt8 | None] = None
    u64: Mapped[UInt64 | None] = field(default=None, index=True)
    real: Mapped[float | None] = None
    text: Mapped[str | None] = field(default=None, index=True)
    raw: Mapped[bytes | None] = None
    fixed: Mapped[Bytes4 | None] = None
    naive: Mapped[dt.datetime | None] = None
    aware: Mapped[Annotated[dt.datetime, sa.DateTime(timezone=True)] | None] = field(default=None, index=True)
    day: Mapped[dt.date | None] = None
    clock: Mapped[dt.time | None] = None
    span: Mapped[dt.timedelta | None] = None
    unique_id: Mapped[uuid.UUID | None] = field(default=None, unique=True)
    money: Mapped[Annotated[Decimal, sa.Numeric(12, 2)] | None] = None
    big_money: Mapped[Annotated[Decimal, sa.Numeric(30, 6)] | None] = None
    color: Mapped[Color | None] = None
    data: Mapped[Annotated[Any, sa.JSON()] | None] = None
    words: Mapped[list[str] | None] = None
    days: Mapped[list[dt.date | None] | None] = None
    sizes: Mapped[dict[str, int] | None] = None
    pair: Mapped[tuple[int, str] | None] = None
    point: Mapped[Point | None] = None
    points: Mapped[list[Point] | None] = None
    name: Mapped[str] = ""


UTC_NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=dt.UTC)
NAIVE = dt.datetime(1, 1, 1)  # noqa: DTZ001 - naive on purpose

EVERYTHING = [
    Everything(1),
    Everything(
        2, True, -128, -(2**63), 255, 2**64 - 1, math.inf, "", b"", b"\0\1\xfe\xff", NAIVE, UTC_NOON,
        dt.date(1, 1, 1), dt.time(23, 59, 59, 999999), dt.timedelta(-1, 0, 1), uuid.UUID(int=1), Decimal("-0.01"),
        Decimal("123456789012345678901234.567891"), Color.red, {"a": [1, None, 2.5, "ü"]}, [], [None, dt.date.max],
        {}, (1, ""), Point(1, "p", b"\xff"), [], "plain",
    ),
    Everything(
        3, False, 127, 2**63 - 1, 0, 2**63, -0.0, "\\N", b"\xff" * 40, b"abcd", dt.datetime(9999, 12, 31, 23, 59, 59),  # noqa: DTZ001
        UTC_NOON, dt.date.max, dt.time(0), dt.timedelta(3000, 5), uuid.UUID(int=2**128 - 1),
        Decimal("9999999999.99"), Decimal(0), Color.green, [], ["", "a,b", "\n"], [], {"k": -1}, (-5, "\r\n"),
        Point(-1), [Point(2**63 - 1, None), Point(0, "x")], 'quotes " and, commas\r and\nlines',
    ),
    Everything(4, real=math.nan, text="\\\\N", name="\0", data="text", words=["0x00"]),
    Everything(5, real=0.1, text="NULL", name="'", data=1.0),
    Everything(6, text="\r", name=" spaces ", data=True),
]  # fmt: skip
"""Values at the ends of their ranges, and those that a format might take for something else."""

parts = registry()


@mapped(parts)
class Part:
    """A record with a key of two columns."""

    __tablename__ = "parts"
    __table_args__ = (sa.Index("by_name", "name"), sa.Index("dear", "price", kvdialect_where=lambda c: c.price > 5))
    code: Mapped[Bytes4] = field(primary_key=True)
    number: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    price: Mapped[float | None] = None


def part(n: int) -> Part:
    return Part(n.to_bytes(4), -n, f"part {n}", n / 4 or None)


older = registry()


@mapped(older)
class Older:
    """A table that gets another field below, so that its rows are of two versions."""

    __tablename__ = "aged"
    id: Mapped[int | None] = field(primary_key=True, default=None)
    word: Mapped[str] = ""


newer = registry()


@mapped(newer)
class Newer:
    """The table of the later program."""

    __tablename__ = "aged"
    id: Mapped[int | None] = field(primary_key=True, default=None)
    size: Mapped[UInt16] = 7
    word: Mapped[str] = ""


SQL = """
CREATE TABLE towns (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, pop INT CHECK (pop > 0) DEFAULT 3, x,
    up TEXT GENERATED ALWAYS AS (upper(name)));
CREATE INDEX low ON towns (lower(name)) WHERE pop > 3;
CREATE TABLE plain (a, b REAL);
CREATE TABLE keyed (a TEXT COLLATE NOCASE, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE VIEW big AS SELECT * FROM towns WHERE pop > 3;
INSERT INTO towns (name, pop, x) VALUES
    ('a', 1, NULL), ('b', 5, '5'), ('c', 6, 5), ('d', 7, 1.0), ('e', 8, x'00ff'), ('f', 9, '\\N'), ('g', 10, ''),
    ('h', 11, '\\x00'), ('i', 12, 9e999), ('j', 13, ' 1 '), ('k', 14, '1e3');
INSERT INTO plain VALUES ('seven', 1.5), (0, 0), (NULL, NULL), (x'', -9e999);
DELETE FROM plain WHERE a = 0;
INSERT INTO keyed VALUES ('A', 1), ('b', 2), ('', -1);
"""


def index_of_price(name: str) -> IndexDefinition:
    """An index of parts that no model has."""
    return IndexDefinition(name=name, parts=(IndexPart(name="price"),))


def make(url: str, *, rows: int = 30) -> None:
    """A closed store with tables of records, of two versions, tables made by SQL, a view, and a family of its own."""
    with create_engine(url, durability="none") as engine:
        parts.create_all(engine)
        every.create_all(engine)
        older.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([part(n) for n in range(rows)])
            session.add_all([Older(word=f"old {n}") for n in range(3)])
        engine.bulk_load(Everything, EVERYTHING)
        newer.upgrade(engine)
        with Session(engine) as session, session.begin():
            session.add(Newer(word="new", size=9))
        engine.create_index("parts", index_of_price("extra"))
        engine.backend.create_column_family("own")
        engine.backend.put("own", b"key", b"value")
        door = engine.sqlalchemy()
        with door.begin() as connection:
            for statement in SQL.strip().removesuffix(";").split(";\n"):
                connection.exec_driver_sql(statement)
        door.dispose()


def contents(url: str) -> dict[str, Any]:
    """All rows of all tables as values, the views, and the names and states of indexes."""
    found: dict[str, Any] = {}
    with create_engine(url) as engine:
        for name, table in engine.catalog.tables.items():
            pairs = engine.backend.scan(table.family, table.prefix, table.stop)
            found[name] = [repr(table.codec.decode(key, raw)) for key, raw in pairs]
            found[f"{name} indexes"] = [(i.name, i.columns, i.unique, i.state) for i in table.definition.indexes]
            found[f"{name} fields"] = [(f.name, f.kind, f.nullable) for f in table.definition.fields]
        found["views"] = dict(engine.catalog.views)
        assert engine.verify(apart=False).ok
    return found


def run(*arguments: Any, code: int = 0, input: str | bytes | None = None) -> Any:  # noqa: A002 - click's name
    """Run a command; what it gives has ``stdout`` and ``stderr``. An error of the store is raised."""
    result = CliRunner().invoke(group, [str(each) for each in arguments], input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def json_of(*arguments: Any, code: int = 0) -> Any:
    """What a command prints with ``--json``."""
    return json.loads(run(*arguments, "--json", code=code).stdout)
