"""Records as SQL sees them: their values, their types, and the statements that would have made their tables."""

from __future__ import annotations

import contextlib
import enum
import math
import sqlite3
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from uuid import UUID

import attrs
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import Bytes32, Int16, Mapped, UInt64, exc, field, mapped, registry
from kvdialect.codec.composite import ConvertedKind, JsonKind, ListKind
from kvdialect.codec.kinds import kind_from_spec
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.dialect import recordtables, sqlvalues
from kvdialect.schema.declared import definition_of
from kvdialect.schema.types import kind_of


class Color(enum.Enum):
    red = 1
    green = 2
    it_is = "'"


MOMENTS = st.datetimes() | st.sampled_from([datetime.min, datetime.max, datetime(1, 1, 1, 0, 0, 0, 1)])  # noqa: DTZ001, DTZ901


def decimals(precision, scale):
    highest = 10**precision - 1
    return st.integers(-highest, highest).map(lambda number: Decimal(f"{number}e-{scale}"))


KINDS = {
    "bool": (BoolKind(), st.booleans()),
    **{
        f"int {bits}": (IntKind(bits), st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
        for bits in (8, 16, 32, 64)
    },
    **{f"uint {bits}": (IntKind(bits, signed=False), st.integers(0, 2**bits - 1)) for bits in (8, 16, 32, 64)},
    "float": (FloatKind(), st.floats(allow_nan=False)),
    "decimal 10 2": (DecimalKind(10, 2), decimals(10, 2)),
    "decimal 15 15": (DecimalKind(15, 15), decimals(15, 15)),
    "decimal 18 0": (DecimalKind(18, 0), decimals(18, 0)),
    "decimal 38 10": (DecimalKind(38, 10), decimals(38, 10)),
    "text": (TextKind(), st.text()),
    "text 5": (TextKind(5), st.text(max_size=5)),
    "bytes": (BytesKind(), st.binary()),
    "bytes 9": (BytesKind(9), st.binary(max_size=9)),
    "fixed": (FixedBytesKind(8), st.binary(min_size=8, max_size=8)),
    "naive": (DatetimeKind(), MOMENTS),
    "aware": (DatetimeKind(aware=True), MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC))),
    "date": (DateKind(), st.dates()),
    "time": (TimeKind(), st.times()),
    "timedelta": (TimedeltaKind(), st.timedeltas()),
    "uuid": (UuidKind(), st.uuids()),
    "uuid text": (UuidKind(as_text=True), st.uuids().map(str)),
    "enum": (EnumKind(Color.__members__, Color), st.sampled_from(Color)),
    "names": (EnumKind(["a", "b'c, (x)"]), st.sampled_from(["a", "b'c, (x)"])),
    "json": (JsonKind(), st.lists(st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.none() | st.text())),
    "list": (ListKind(IntKind(64, False), True), st.lists(st.none() | st.integers(0, 2**64 - 1))),
}  # fmt: skip


@pytest.fixture
def db():
    """A database of the standard library's SQLite."""
    with contextlib.closing(sqlite3.connect(":memory:")) as opened:
        yield opened


def shown(kind, value):
    convert = recordtables.to_sql(kind)
    return value if convert is None else convert(value)


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_values_come_back_from_sql(name, data):
    """What SQL is shown of a value is something that SQLite stores, and stands for exactly this value."""
    kind, values = KINDS[name]
    value = data.draw(values)

    seen = shown(kind, value)

    assert type(seen) in (int, float, str, bytes)
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        assert db.execute("select ?", (seen,)).fetchone() == (seen,)
    assert recordtables.from_sql(kind)(seen) == value


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_the_catalogs_kind_shows_the_same(name, data):
    """What SQL sees does not depend on whether the mapped class is at hand."""
    kind, values = KINDS[name]
    value = data.draw(values)
    plain = kind_from_spec(kind.spec())

    assert shown(plain, plain.load(kind.store(value))) == shown(kind, value)


def _stored_by_sqlalchemy(type_, value):
    """What SQLAlchemy's dialect for SQLite stores."""
    engine = sa.create_engine("sqlite://")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", type_))
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values(a=value))
        stored = connection.exec_driver_sql("select a from t").scalar_one()
    engine.dispose()
    return stored


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (sa.Boolean(), True),
        (sa.BigInteger(), -(2**63)),
        (sa.Double(), 0.1),
        (sa.String(), "naïve"),
        (sa.LargeBinary(), b"\x00\xff"),
        (sa.DateTime(), datetime(2024, 2, 29, 23, 59, 59, 7)),  # noqa: DTZ001
        (sa.DateTime(), datetime(24, 2, 29)),  # noqa: DTZ001
        (sa.Date(), date(24, 2, 29)),
        (sa.Time(), time(1, 2, 3)),
        (sa.Interval(), timedelta(days=-3, microseconds=1)),
        (sa.Uuid(), UUID(int=5)),
        (sa.Enum(Color), Color.it_is),
        (sa.Enum("a", "b"), "b"),
        (sa.JSON(), {"é": [1, None, 2.5, "x"]}),
    ],
    ids=repr,
)
def test_values_are_what_sqlalchemy_stores_in_sqlite(type_, value):
    """So Core finds what it knows, whether the Table was mapped or reflected."""
    assert shown(kind_of(type_), value) == _stored_by_sqlalchemy(type_, value)


def test_decimals_are_the_numbers_that_sqlalchemy_stores():
    """Floats as far as these carry all digits; a long one is text rather than a number that is another."""
    short, long = DecimalKind(10, 2), DecimalKind(38, 5)
    stored = _stored_by_sqlalchemy(sa.Numeric(10, 2), Decimal("12.34"))

    assert shown(short, Decimal("12.34")) == stored == 12.34
    assert shown(long, Decimal(10) ** 18) == 10**18
    assert shown(long, Decimal("0.5")) == 0.5
    assert shown(long, Decimal("12345678901234567890.12345")) == "12345678901234567890.12345"


def test_integers_beyond_sql_are_blobs_that_sort_behind_all_integers(db):
    """UInt64 is ordered in SQL as it is in Python."""
    kind = IntKind(64, signed=False)
    numbers = [0, 1, 2**63 - 1, 2**63, 2**63 + 1, 18 * 10**18, 2**64 - 1]
    db.execute("create table t (a)")
    db.executemany("insert into t values (?)", [(shown(kind, number),) for number in reversed(numbers)])

    ordered = [recordtables.from_sql(kind)(seen) for (seen,) in db.execute("select a from t order by a")]

    assert ordered == numbers
    assert shown(kind, 2**63) == b"\x80" + bytes(7)


def test_nan_is_null():
    """SQLite knows no NaN: it would make it NULL itself, but not on every way."""
    assert shown(FloatKind(), math.nan) is None


def test_moments_are_shown_in_utc():
    """A datetime with a time zone is a moment, and text of moments must be in their order."""
    kind = DatetimeKind(aware=True)
    moment = kind.check(datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))))

    assert shown(kind, moment) == "2023-12-31 23:00:00.000000"
    assert recordtables.from_sql(kind)("2024-01-01 01:00:00+02:00") == moment


def test_spans_beyond_the_calendar_are_durations():
    """Where 1970 and the span leave the years 1 to 9999."""
    assert shown(TimedeltaKind(), timedelta(days=3_000_000)) == "P0003000000DT00000.000000S"
    assert shown(TimedeltaKind(), timedelta(days=1)) == "1970-01-02 00:00:00.000000"


@pytest.mark.parametrize(
    ("kind", "seen", "value"),
    [
        (BoolKind(), 1.0, True),
        (BoolKind(), "0", False),
        (IntKind(8), 3.0, 3),
        (IntKind(8), " -3 ", -3),
        (IntKind(64, False), "18446744073709551615", 2**64 - 1),
        (IntKind(64, False), 2**64 - 1, 2**64 - 1),
        (FloatKind(), 3, 3.0),
        (FloatKind(), "1e3", 1000.0),
        (DecimalKind(10, 2), 5, Decimal("5.00")),
        (DecimalKind(10, 2), "5.5", Decimal("5.50")),
        (DecimalKind(10, 2), 0.1 + 0.2, Decimal("0.30")),
        (TextKind(), 12, "12"),
        (TextKind(), 1.5, "1.5"),
        (BytesKind(), bytearray(b"ab"), b"ab"),
        (DatetimeKind(), "2024-01-02", datetime(2024, 1, 2)),  # noqa: DTZ001
        (DatetimeKind(), "2024-01-02T03:04", datetime(2024, 1, 2, 3, 4)),  # noqa: DTZ001
        (DatetimeKind(True), "2024-01-02 03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (TimeKind(), "03:04", time(3, 4)),
        (UuidKind(), "00000000-0000-0000-0000-00000000000A", UUID(int=10)),
    ],
    ids=repr,
)
def test_what_is_equal_without_loss_is_taken(kind, seen, value):
    """Other forms of the same value, and what a column's affinity would make alike."""
    taken = recordtables.from_sql(kind)(seen)

    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        (BoolKind(), 2),
        (BoolKind(), "true"),
        (IntKind(8), 128),
        (IntKind(8), 1.5),
        (IntKind(8), "x"),
        (IntKind(8), b"\x01"),
        (IntKind(64), b"\xff" * 8),
        (IntKind(64, False), -1),
        (IntKind(64, False), b"\x01" + bytes(7)),
        (IntKind(64, False), 1.8e19),
        (FloatKind(), 2**53 + 1),
        (FloatKind(), b"1"),
        (DecimalKind(10, 2), 0.125),
        (DecimalKind(10, 2), math.inf),
        (DecimalKind(10, 2), "NaN"),
        (TextKind(3), "abcd"),
        (TextKind(), b"a"),
        (BytesKind(), "a"),
        (FixedBytesKind(4), b"abc"),
        (DatetimeKind(), "2024-01-02 03:04:05+00:00"),
        (DatetimeKind(), "2024-01-02 03:04:05.1234567"),
        (DatetimeKind(), "20240102"),
        (DatetimeKind(), 0),
        (DatetimeKind(), "2024-02-30"),
        (DateKind(), "2024-01-02 00:00:00"),
        (TimeKind(), "24:00"),
        (TimedeltaKind(), "1 day"),
        (UuidKind(), "{00000000-0000-0000-0000-000000000000}"),
        (EnumKind(Color.__members__, Color), "blue"),
        (EnumKind(Color.__members__, Color), 1),
        (JsonKind(), "[NaN]"),
        (JsonKind(), 1),
        (ListKind(IntKind()), '["a"]'),
    ],
    ids=repr,
)
def test_what_the_kind_does_not_take_is_refused(kind, seen):
    """Nothing is stored as something else than what was given."""
    with pytest.raises(ValueError, match=r"."):
        recordtables.from_sql(kind)(seen)


def test_conversions_around_a_kind_are_undone():
    """SQL sees what is stored, whatever a TypeDecorator makes of it."""
    kind = ConvertedKind(IntKind(64, False), lambda value: value.count, attrs.make_class("Count", ["count"]))
    count = kind.load(2**63)

    assert shown(kind, count) == b"\x80" + bytes(7)
    assert recordtables.from_sql(kind)(5).count == 5


# ------------------------------------------------------------------------------------------ rows

models = registry()


@attrs.frozen
class Place:
    """A nested value."""

    x: int
    y: int


@mapped(models)
class Parent:
    """A table to refer to."""

    __tablename__ = "parents"
    a: Mapped[int] = field(primary_key=True)
    b: Mapped[str] = field(primary_key=True)


@mapped(models)
class Child:
    """Most of what a definition can say."""

    __tablename__ = 'children of "mine"'
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["parent_a", "parent_b"], ["parents.a", "parents.b"], name="fk_parent", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("parent_a", "size", name="uq_size"),
        sa.Index("by_height", "height", sa.desc("size")),
        sa.Index("heavy", "size", kvdialect_where=lambda c: (c.size > 2**63) | c.color.in_([Color.red])),
        sa.Index("when_unique", "when", unique=True, kvdialect_where=lambda c: c.when.is_not(None)),
        sa.Index("tags", "tags", kvdialect_kind="multi"),
    )
    id: Mapped[Bytes32] = field(primary_key=True)
    parent_a: Mapped[int | None] = None
    parent_b: Mapped[str | None] = None
    size: Mapped[UInt64] = 7
    height: Mapped[Int16] = field(default=-5)
    color: Mapped[Color] = Color.it_is
    when: Mapped[datetime | None] = None
    tags: Mapped[list[str]] = field(factory=list)
    place: Mapped[Place | None] = None
    blob: Mapped[bytes] = b"\x00'"
    note: Mapped[str] = "it's"


CHILD = definition_of(Child.__table__)
PARENT = definition_of(Parent.__table__)


def _row(**changes):
    values = {
        "id": bytes(32), "parent_a": None, "parent_b": None, "size": 2**63, "height": 1, "color": Color.red,
        "when": datetime(2024, 1, 1), "tags": ["a"], "place": Place(1, 2), "blob": b"", "note": "",  # noqa: DTZ001
    }  # fmt: skip
    return tuple((values | changes)[name] for name in CHILD.names)


def _decoded(_key, row):
    """In the place of a codec's decoder."""
    return row


read = partial(sqlvalues.row_decoder(CHILD, _decoded), b"")


def test_rows_come_back_from_sql():
    """A whole row, NULLs among its values."""
    write = sqlvalues.row_writer(CHILD)

    values = read(_row(place=None))

    assert values == (
        bytes(32), None, None, b"\x80" + bytes(7), 1, "red", "2024-01-01 00:00:00.000000", '["a"]', None, b"", "",
    )  # fmt: skip
    assert write(values) == _row(place=None)


def test_rows_that_sql_has_alike_are_not_converted():
    """Then nothing is called for each row."""
    assert sqlvalues.row_decoder(PARENT, _decoded) is _decoded


def test_null_where_it_is_not_allowed_is_named_as_sqlite_names_it():
    """Programs match on SQLite's words, which have a line of their own."""
    values = [*read(_row())]
    values[3] = None

    with pytest.raises(exc.IntegrityError, match=r'(?m)^NOT NULL constraint failed: children of "mine"\.size$'):
        sqlvalues.row_writer(CHILD)(values)


def test_a_refused_value_is_named_with_what_is_allowed():
    """The error says which column, which value, and how to write one."""
    values = [*read(_row())]
    values[6] = "tomorrow"

    with pytest.raises(
        exc.DataError, match=r"mine\"\.when is 'tomorrow' \(str\).*without a time zone.*2024-12-31"
    ) as caught:
        sqlvalues.row_writer(CHILD)(values)

    assert caught.value.field == "when"


# ------------------------------------------------------------------------------------------ declarations


@pytest.mark.parametrize("name", KINDS)
def test_a_declared_type_says_the_whole_kind(name, db):
    """What SQLite keeps of the type's name gives back a type of the same kind."""
    kind, _ = KINDS[name]
    wanted = kind_of(sa.JSON()) if name == "list" else kind
    text = recordtables.declared(kind)
    quoted = '"' + text + '"' if text.startswith("ENUM") else text
    db.execute(f"create table t (a {quoted})")

    [(_, _, kept, *_)] = db.execute("pragma table_xinfo(t)")

    assert kept == text
    assert kind_of(recordtables.type_of(kept)) == wanted


@pytest.mark.parametrize("text", ["", "POINT", "BINARY(0)", "INTEGER"])
def test_types_of_other_names_are_left_to_the_dialect(text):
    """None where the name says nothing of a record's kind."""
    assert recordtables.type_of(text) is None


@pytest.fixture
def shadow():
    """A SQLAlchemy engine on SQLite with the tables that the statements make."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with engine.begin() as connection:
        for definition in (PARENT, CHILD):
            connection.exec_driver_sql(recordtables.create_statement(definition))
            for statement in recordtables.index_statements(definition):
                connection.exec_driver_sql(statement)
    yield engine
    engine.dispose()


@pytest.mark.filterwarnings("ignore:Did not recognize type")
def test_the_statements_declare_all_that_the_definition_has(shadow):
    """Columns, keys, constraints and indexes, as reflection reads them."""
    inspector = sa.inspect(shadow)
    name = CHILD.name

    columns = inspector.get_columns(name)
    assert [column["name"] for column in columns] == list(CHILD.names)
    assert [column["nullable"] for column in columns] == [each.nullable for each in CHILD.fields]
    assert inspector.get_pk_constraint("parents")["constrained_columns"] == ["a", "b"]
    [key] = inspector.get_foreign_keys(name)
    assert key["name"] == "fk_parent"
    assert (key["constrained_columns"], key["referred_columns"]) == (["parent_a", "parent_b"], ["a", "b"])
    assert (key["referred_table"], key["options"]) == ("parents", {"ondelete": "CASCADE"})
    [unique] = inspector.get_unique_constraints(name)
    assert (unique["name"], unique["column_names"]) == ("uq_size", ["parent_a", "size"])
    indexes = {index["name"]: index for index in inspector.get_indexes(name)}
    assert set(indexes) == {"by_height", "heavy", "when_unique", "tags"}
    assert indexes["by_height"]["column_names"] == ["height", "size"]
    assert [name for name, index in indexes.items() if index["unique"]] == ["when_unique"]


def test_defaults_are_those_of_the_class(shadow):
    """A row that names the key alone has in SQL what an object of the class has."""
    with shadow.begin() as connection:
        connection.exec_driver_sql('insert into "children of ""mine""" (id, tags) values (?, ?)', (bytes(32), "[]"))
        row = connection.exec_driver_sql('select * from "children of ""mine"""').one()

    written = dict(zip(CHILD.names, sqlvalues.row_writer(CHILD)(row), strict=True))
    made = Child(id=bytes(32))
    assert written == {name: getattr(made, name) for name in CHILD.names}


@pytest.mark.filterwarnings("ignore:Did not recognize type")
def test_conditions_of_partial_indexes_are_said_in_sql(shadow):
    """Constants stand in them as the columns' values do."""
    with shadow.connect() as connection:
        rows = connection.exec_driver_sql("select name, sql from sqlite_master where sql like '% WHERE %'")
        texts = dict(list(rows))

    heavy = texts["heavy"].partition("WHERE ")[2]
    assert heavy == """("size" > X'8000000000000000') OR ("color" IN ('red'))"""
    assert texts["when_unique"].partition("WHERE ")[2] == '"when" IS NOT NULL'
