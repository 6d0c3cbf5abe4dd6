"""update(), delete() and insert() statements, as far as they are worked out before rows are written."""

from __future__ import annotations

import enum
from typing import Any

import pytest
import sqlalchemy as sa

from kvdialect import exc
from kvdialect.query import dml


class Level(enum.Enum):
    low = 1
    high = 2


TABLE = sa.Table(
    "t",
    sa.MetaData(),
    sa.Column("k", sa.Integer(), primary_key=True),
    sa.Column("a", sa.Integer()),
    sa.Column("s", sa.String(), nullable=False),
    sa.Column("e", sa.Enum(Level)),
    sa.Column("e2", sa.Enum(Level)),
    sa.Index("t_a", "a"),
)
c = TABLE.columns
ROWS = [(n, n % 3, f"s{n}", Level.low, None) for n in range(9)]


def updated(store: Any, statement: Any, params: Any = None) -> list[tuple[Any, ...]]:
    view = store.view()
    prepared, assign = dml.prepare_update(store.planner, statement, view, params)
    decode = prepared.table.codec.decode
    return [assign(decode(key, raw)) for key, raw in prepared.keys(view)]


@pytest.fixture
def filled(store):
    store.create(TABLE, ROWS)
    return store


def test_an_update_finds_its_rows_by_index_and_sets_values(filled):
    """The rows of WHERE are found as a select finds them; values may be computed from the old row."""
    statement = sa.update(TABLE).where(c.a == 1).values(a=c.a + 10, s=c.s + "!", e=Level.high)

    assert "IndexScan t_a" in str(filled.prepare(statement).explain(filled.view()))
    assert updated(filled, statement) == [(n, 11, f"s{n}!", Level.high, None) for n in (1, 4, 7)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": None}, (1, None, "s1", Level.low, None)),
        ({"a": sa.null()}, (1, None, "s1", Level.low, None)),
        ({"e2": c.e}, (1, 1, "s1", Level.low, Level.low)),
        ({"e2": sa.func.coalesce(c.e2, c.e)}, (1, 1, "s1", Level.low, Level.low)),
        ({c.s: sa.func.upper(c.s)}, (1, 1, "S1", Level.low, None)),
        ({"a": sa.case((c.a > 5, 1), else_=c.a * 7)}, (1, 7, "s1", Level.low, None)),
        ({"k": c.k + 100}, (101, 1, "s1", Level.low, None)),
    ],
)
def test_what_values_take(filled, values, expected):
    """Constants, columns and computed values, each as the column's own type has it."""
    assert updated(filled, sa.update(TABLE).where(c.k == 1).values(values)) == [expected]


def test_a_value_may_be_a_parameter(filled):
    """A bindparam() in values() is given its value where the statement is executed."""
    statement = sa.update(TABLE).where(c.k == sa.bindparam("key")).values(s=sa.bindparam("text"))

    assert updated(filled, statement, {"key": 1, "text": "given"}) == [(1, 1, "given", Level.low, None)]


def test_parameters_of_an_update_are_values_too(filled):
    """As with SQLAlchemy, parameters named like columns are set."""
    assert updated(filled, sa.update(TABLE).where(c.k == sa.bindparam("key")), {"key": 2, "s": "new"}) == [
        (2, 2, "new", Level.low, None)
    ]


def test_a_delete_gives_keys_and_values(filled):
    """A delete's rows are given with what was read of them, whatever index found them."""
    view = filled.view()
    prepared = dml.prepare_delete(filled.planner, sa.delete(TABLE).where(c.a.in_([0, 2]), c.k > 2), view)

    found = [prepared.table.codec.decode(key, raw)[0] for key, raw in prepared.keys(view)]

    assert sorted(found) == [3, 5, 6, 8]


@pytest.mark.parametrize(
    ("statement", "params", "rows"),
    [
        (sa.insert(TABLE), {"k": 1}, [{"k": 1}]),
        (sa.insert(TABLE), [{"k": 1}, {"k": 2}], [{"k": 1}, {"k": 2}]),
        (sa.insert(TABLE).values(k=1, s="x"), None, [{"k": 1, "s": "x"}]),
        (sa.insert(TABLE).values({c.k: 1, "a": None}), None, [{"k": 1, "a": None}]),
        (sa.insert(TABLE).values([{"k": 1}, {"k": 2}]), None, [{"k": 1}, {"k": 2}]),
        (sa.insert(TABLE).values(s="x"), [{"k": 1}, {"k": 2}], [{"s": "x", "k": 1}, {"s": "x", "k": 2}]),
        (sa.insert(TABLE).values(k=sa.bindparam("key")), [{"key": 5}], [{"k": 5}]),
        (sa.insert(TABLE), None, [{}]),
    ],
)
def test_rows_of_an_insert(statement, params, rows):
    """Values in the statement and parameters beside it make rows by column name."""
    table, given = dml.insert_rows(statement, params)

    assert table is TABLE
    assert given == rows


REFUSED: dict[str, tuple[Any, type[exc.Error], str]] = {
    "unknown column": (sa.insert(TABLE).values([{"zz": 1}]), exc.ArgumentError, "no column 'zz'"),
    "insert from select": (sa.insert(TABLE).from_select(["k"], sa.select(c.a)), exc.NotSupportedError, "from a select"),
    "insert returning": (sa.insert(TABLE).returning(c.k), exc.NotSupportedError, "RETURNING"),
    "computed insert": (sa.insert(TABLE).values(k=sa.func.abs(3)), exc.NotSupportedError, "a computed value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_inserts_that_are_refused(name):
    """What only the SQL door does, and what is no column, is named."""
    statement, error, what = REFUSED[name]

    with pytest.raises(error, match=what):
        dml.insert_rows(statement, None)


@pytest.mark.parametrize(
    ("statement", "error", "what"),
    [
        (sa.update(TABLE).values(a=1).returning(c.k), exc.NotSupportedError, "RETURNING"),
        (sa.update(TABLE).where(c.k == 1), exc.ArgumentError, "sets nothing"),
        (sa.update(TABLE).values(a=sa.select(c.k).scalar_subquery()), exc.NotSupportedError, "a subquery"),
        (sa.update(TABLE).values(a=c.s + 1), exc.DataError, "t.s"),
    ],
)
def test_updates_that_are_refused(filled, statement, error, what):
    """What cannot be set is named."""
    with pytest.raises(error, match=what):
        updated(filled, statement)


def test_a_list_of_parameters_is_refused(filled):
    """An update is executed once."""
    with pytest.raises(exc.NotSupportedError, match="a list of parameters"):
        updated(filled, sa.update(TABLE).values(a=1), [{"k": 1}, {"k": 2}])
