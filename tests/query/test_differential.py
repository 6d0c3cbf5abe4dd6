"""Queries give what SQLite gives on the same data, whatever tables, indexes and statements chance makes."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from kvdialect import exc

ints = st.integers(-4, 4)
floats = st.sampled_from([-2.5, -1.0, -0.5, 0.0, 0.25, 1.5, 2.0, 3.75])
texts = st.text(alphabet="ab%_é", max_size=3)
binary = st.binary(max_size=2)
dates = st.dates(dt.date(2024, 1, 1), dt.date(2024, 1, 6))

COLUMNS: dict[str, tuple[Any, bool, Any]] = {
    "a": (sa.Integer(), True, ints),
    "b": (sa.Integer(), False, ints),
    "s": (sa.String(20), True, texts),
    "t": (sa.String(20), False, texts),
    "f": (sa.Float(), True, floats),
    "g": (sa.Boolean(), True, st.booleans()),
    "y": (sa.LargeBinary(), True, binary),
    "d": (sa.Date(), True, dates),
}
INT, TEXT, OTHER = ("a", "b"), ("s", "t"), ("y", "d")
NUMBERS = (*INT, "f")

partials = st.sampled_from(
    [
        lambda c: c.a.is_(None),
        lambda c: c.a.is_not(None),
        lambda c: c.b > 0,
        lambda c: c.g.is_(True),
        lambda c: sa.and_(c.t == "a", c.s.is_not(None)),
        lambda c: sa.or_(c.b == 1, c.f > 0),
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> sa.Table:
    """A table with a single or composite key and up to four indexes of all forms."""
    key = draw(st.sampled_from([["k"], ["k", "b"], ["t", "k"], ["k", "t"]]))
    columns = [sa.Column("k", sa.Integer(), nullable=False)]
    columns += [sa.Column(name, type_, nullable=nullable) for name, (type_, nullable, _) in COLUMNS.items()]
    by_name = {column.name: column for column in columns}
    indexes = []
    for number in range(draw(st.integers(0, 4))):
        names = draw(st.lists(st.sampled_from(sorted(by_name)), min_size=1, max_size=3, unique=True))
        parts = [by_name[name].desc() if draw(st.booleans()) else by_name[name] for name in names]
        unique = draw(st.integers(0, 3)) == 0
        if unique:
            parts.append(by_name["k"]) if "k" not in names else None
        options: dict[str, Any] = {}
        if draw(st.integers(0, 2)) == 0:
            options["kvdialect_where"] = draw(partials)
        if draw(st.integers(0, 2)) == 0:
            options["kvdialect_include"] = draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=3, unique=True))
        indexes.append(sa.Index(f"i{number}", *parts, unique=unique, **options))
    return sa.Table("r", sa.MetaData(), *columns, sa.PrimaryKeyConstraint(*key), *indexes)


@st.composite
def row_lists(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    values = [strategy | st.none() if nullable else strategy for _, nullable, strategy in COLUMNS.values()]
    rows = draw(st.lists(st.tuples(*values), max_size=30))
    return [(number, *row) for number, row in enumerate(rows)]


def _comparison(draw: st.DrawFn, left: Any, right: Any) -> Any:
    match draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="])):
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def _number(draw: st.DrawFn, c: Any, depth: int = 1) -> Any:
    if depth == 0 or draw(st.booleans()):
        return c[draw(st.sampled_from(NUMBERS))]
    left, right = _number(draw, c, depth - 1), draw(ints)
    match draw(st.sampled_from(["+", "-", "*", "abs", "neg", "coalesce", "case"])):
        case "+":
            return left + right
        case "-":
            return left - c[draw(st.sampled_from(NUMBERS))]
        case "*":
            return left * right
        case "abs":
            return sa.func.abs(left)
        case "neg":
            return -left
        case "coalesce":
            return sa.func.coalesce(left, right)
        case _:
            return sa.case((c.b > right, left), else_=right)


def _condition(draw: st.DrawFn, c: Any, depth: int) -> Any:
    form = draw(st.integers(0, 13 if depth else 9))
    name = draw(st.sampled_from(sorted(COLUMNS)))
    _, _, values = COLUMNS[name]
    match form:
        case 0 | 1 | 2 if name != "g":
            return _comparison(draw, c[name], draw(values))
        case 3:
            return c[name].is_(None) if draw(st.booleans()) else c[name].is_not(None)
        case 4:
            chosen = draw(st.lists(values, max_size=4))
            return c[name].in_(chosen) if draw(st.booleans()) else c[name].not_in(chosen)
        case 5 if name != "g":
            between = c[name].between(draw(values), draw(values))
            return between if draw(st.booleans()) else ~between
        case 6:
            text = c[draw(st.sampled_from(TEXT))]
            pattern = draw(texts)
            return draw(
                st.sampled_from(
                    [
                        text.startswith(pattern),
                        text.startswith(pattern, autoescape=True),
                        text.like(pattern),
                        text.ilike(pattern),
                        text.contains(pattern, autoescape=True),
                        text.endswith(pattern),
                        ~text.startswith(pattern),
                    ]
                )
            )
        case 7:
            return _comparison(draw, _number(draw, c), draw(ints | floats))
        case 8:
            return _comparison(draw, c[draw(st.sampled_from(NUMBERS))], c[draw(st.sampled_from(NUMBERS))])
        case 9 if name == "g":
            return draw(st.sampled_from([c.g, ~c.g, c.g == True, c.g.is_(False)]))  # noqa: E712
        case 10 | 11:
            return sa.and_(*(_condition(draw, c, depth - 1) for _ in range(draw(st.integers(1, 3)))))
        case 12 | 13:
            either = sa.or_(*(_condition(draw, c, depth - 1) for _ in range(draw(st.integers(1, 3)))))
            return either if draw(st.integers(0, 3)) else ~either
        case _:
            return (
                c.k == draw(st.integers(0, 30)) if draw(st.booleans()) else c.k.in_(draw(st.lists(st.integers(0, 30))))
            )


def _where(draw: st.DrawFn, statement: Any, c: Any) -> Any:
    for _ in range(draw(st.integers(0, 3))):
        statement = statement.where(_condition(draw, c, 2))
    return statement


def _ordered(draw: st.DrawFn, expressions: list[Any]) -> list[Any]:
    order = []
    for expression in expressions:
        element = expression.desc() if draw(st.booleans()) else expression
        nulls = draw(st.integers(0, 5))
        order.append(element.nulls_first() if nulls == 0 else element.nulls_last() if nulls == 1 else element)
    return order


def _limited(draw: st.DrawFn, statement: Any) -> Any:
    if draw(st.booleans()):
        statement = statement.limit(draw(st.integers(0, 12)))
    if draw(st.integers(0, 2)) == 0:
        statement = statement.offset(draw(st.integers(0, 5)))
    return statement


@pytest.fixture(scope="module")
def sqlite() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA case_sensitive_like=ON")

    with engine.connect() as connection:
        yield connection
    engine.dispose()


def fill(sqlite: sa.Connection, store: Any, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
    """The same rows in both."""
    sqlite.exec_driver_sql(f"DROP TABLE IF EXISTS {table.name}")
    sqlite.execute(sa.schema.CreateTable(table))
    names = [column.name for column in table.columns]
    if rows:
        sqlite.execute(sa.insert(table), [dict(zip(names, row, strict=True)) for row in rows])
    store.create(table, rows)


def comparable(rows: list[Any]) -> list[tuple[Any, ...]]:
    return [tuple(float(v) if isinstance(v, Decimal) else v for v in row) for row in rows]


def counted(rows: list[Any]) -> Counter[Any]:
    # -0.0 + 0.0 is 0.0
    return Counter(repr([float(v) + 0.0 if isinstance(v, int | float | Decimal) else v for v in row]) for row in rows)


def check(sqlite: sa.Connection, store: Any, statement: Any, limited: Any, keys: int) -> None:
    """Both give the same rows, of which the last ``keys`` elements are in the same order; limited too."""
    expected = comparable(sqlite.execute(statement).all())
    note(str(statement.compile(compile_kwargs={"literal_binds": False})))
    note(store.explain(limited))
    assert counted(store.run(statement)) == counted(expected)

    wanted = comparable(sqlite.execute(limited).all())
    found = store.run(limited)
    assert len(found) == len(wanted)
    assert not counted(found) - counted(expected)
    if keys:
        assert [row[-keys:] for row in found] == [row[-keys:] for row in wanted]


@given(table=tables(), rows=row_lists(), data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_selects_give_what_sqlite_gives(sqlite, shared_store, table, rows, data):
    """WHERE, ORDER BY, LIMIT, OFFSET and DISTINCT over any indexes give the rows that SQLite gives."""
    fill(sqlite, shared_store, table, rows)
    c = table.columns
    draw = data.draw
    order = [c[name] for name in draw(st.lists(st.sampled_from(sorted(c.keys())), max_size=3, unique=True))]
    if draw(st.integers(0, 4)) == 0:
        order.append(_number(draw, c).label("computed"))
    columns = [c[name] for name in draw(st.lists(st.sampled_from(sorted(c.keys())), max_size=3, unique=True))]
    if not columns or draw(st.booleans()):
        columns = [_number(draw, c).label("number"), *columns]
    statement = _where(draw, sa.select(*columns, *order), c)
    if draw(st.integers(0, 3)) == 0:
        statement = statement.distinct()
    limited = _limited(draw, statement.order_by(*_ordered(draw, order)))

    check(sqlite, shared_store, statement, limited, len(order))


@given(table=tables(), rows=row_lists(), data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_index_gives_the_same_rows(sqlite, shared_store, table, rows, data):
    """Whichever index is forced, if it can answer the statement it gives the rows that SQLite gives."""
    fill(sqlite, shared_store, table, rows)
    c = table.columns
    statement = _where(data.draw, sa.select(table), c)
    columns = data.draw(st.lists(st.sampled_from(sorted(c.keys())), max_size=2, unique=True))
    if columns:
        statement = _where(data.draw, sa.select(*(c[name] for name in columns)), c)
    ordered = statement.order_by(*_ordered(data.draw, [c[name] for name in columns]))
    expected = counted(sqlite.execute(statement).all())
    in_order = comparable(sqlite.execute(ordered).all())

    for family in (table.name, "union", *shared_store.tables[table.name].indexes):
        try:
            found = shared_store.run(statement, using=family)
        except exc.ArgumentError:
            continue
        note(str(shared_store.prepare(ordered, using=family).explain(shared_store.view())))
        assert counted(found) == expected
        if columns:
            assert shared_store.run(ordered, using=family) == in_order


AGGREGATES: dict[str, Callable[[Any], Any]] = {
    "count": sa.func.count,
    "count distinct": lambda x: sa.func.count(x.distinct()),
    "sum": sa.func.sum,
    "sum distinct": lambda x: sa.func.sum(x.distinct()),
    "avg": sa.func.avg,
    "min": sa.func.min,
    "max": sa.func.max,
    "more": lambda x: sa.func.max(x) - sa.func.min(x) + 1,
}


def _aggregate(draw: st.DrawFn, c: Any) -> Any:
    name = draw(st.sampled_from(["rows", *sorted(AGGREGATES)]))
    if name == "rows":
        return sa.func.count()
    of = _number(draw, c)
    if name in ("min", "max", "count", "count distinct") and draw(st.booleans()):
        of = c[draw(st.sampled_from([*TEXT, *OTHER, "k"]))]
    aggregate = AGGREGATES[name](of)
    return aggregate.filter(c.b > 0) if name in ("count", "sum") and draw(st.booleans()) else aggregate


@given(table=tables(), rows=row_lists(), data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_aggregates_give_what_sqlite_gives(sqlite, shared_store, table, rows, data):
    """Aggregates, GROUP BY and HAVING, over any indexes, give the rows that SQLite gives."""
    fill(sqlite, shared_store, table, rows)
    c, draw = table.columns, data.draw
    group = [c[name] for name in draw(st.lists(st.sampled_from(sorted(c.keys())), max_size=2, unique=True))]
    if draw(st.integers(0, 3)) == 0:
        group.append(_number(draw, c).label("computed"))
    aggregates = [_aggregate(draw, c) for _ in range(draw(st.integers(1, 3)))]
    statement = _where(draw, sa.select(*aggregates, *group).select_from(table), c)
    if group:
        statement = statement.group_by(*group)
        if draw(st.booleans()):
            statement = statement.having(_comparison(draw, sa.func.count(), draw(st.integers(0, 3))))
    limited = _limited(draw, statement.order_by(*_ordered(draw, group)))

    check(sqlite, shared_store, statement, limited, len(group))


@given(table=tables(), rows=row_lists(), data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_counts_and_extremes_give_what_sqlite_gives(sqlite, shared_store, table, rows, data):
    """COUNT, MIN and MAX answered from keys, and EXISTS, give what SQLite gives."""
    fill(sqlite, shared_store, table, rows)
    c, draw = table.columns, data.draw
    name = draw(st.sampled_from([*NUMBERS, *TEXT, *OTHER, "k"]))
    forms = [
        sa.select(sa.func.count()).select_from(table),
        sa.select(sa.func.count(c.k)),
        sa.select(sa.func.min(c[name])),
        sa.select(sa.func.max(c[name])),
        sa.select(sa.func.min(c[name]), sa.func.max(c[name])),
    ]
    statement = _where(draw, draw(st.sampled_from(forms)), c)
    inner = _where(draw, sa.select(table), c)

    note(shared_store.explain(statement))
    assert shared_store.run(statement) == comparable(sqlite.execute(statement).all())
    assert shared_store.run(sa.select(sa.exists(inner))) == sqlite.execute(sa.select(sa.exists(inner))).all()
