"""Statements: what is read of them, what is refused by name, and what the result is called."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry
from kvdialect.query.statement import read_statement
from kvdialect.schema.translate import predicate

TABLE = sa.Table(
    "t",
    sa.MetaData(),
    sa.Column("k", sa.Integer(), primary_key=True),
    sa.Column("a", sa.Integer()),
    sa.Column("s", sa.String()),
    sa.Column("g", sa.Boolean(), nullable=False),
    sa.Index("t_a", "a"),
)
OTHER = sa.Table("o", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True))
c = TABLE.columns

REFUSED: dict[str, tuple[Any, str]] = {
    "join": (sa.select(TABLE).join(OTHER, c.k == OTHER.c.k), "a join"),
    "join in from": (sa.select(c.k).select_from(TABLE.join(OTHER, c.k == OTHER.c.k)), "a join"),
    "two tables": (sa.select(c.k, OTHER.c.k), "two tables, t and o"),
    "two tables in where": (sa.select(c.k).where(c.k == OTHER.c.k), "two tables, t and o"),
    "union": (sa.union(sa.select(c.k), sa.select(c.a)), "a set operation"),
    "window": (sa.select(sa.func.row_number().over(order_by=c.k)), "a window function"),
    "subquery in where": (sa.select(c.k).where(c.k.in_(sa.select(c.a))), "a subquery"),
    "subquery in from": (sa.select(sa.select(c.k).subquery().c.k), "a subquery"),
    "scalar subquery": (sa.select(c.k).where(c.k == sa.select(c.a).scalar_subquery()), "a subquery"),
    "exists in where": (sa.select(c.k).where(sa.exists(sa.select(OTHER.c.k))), "exists() within"),
    "common table expression": (sa.select(sa.select(c.k).cte("x").c.k), "a common table expression"),
    "alias": (sa.select(TABLE.alias("x").c.k), "an alias"),
    "text": (sa.select(TABLE).where(sa.text("a = 1")), "text()"),
    "literal column": (sa.select(TABLE).where(sa.literal_column("a") == 1), "a column of no table"),
    "cast": (sa.select(sa.cast(c.a, sa.String)), "cast()"),
    "unknown function": (sa.select(sa.func.soundex(c.s)), "the function soundex"),
    "for update": (sa.select(TABLE).with_for_update(), "FOR UPDATE"),
    "fetch": (sa.select(TABLE).fetch(3), "fetch()"),
    "prefix": (sa.select(TABLE).prefix_with("SQL_CALC"), "a prefix"),
    "computed limit": (sa.select(TABLE).limit(sa.func.abs(3)), "a LIMIT or OFFSET that is computed"),
    "collation": (sa.select(TABLE).order_by(sa.collate(c.s, "NOCASE")), "collat"),
    "regular expression": (sa.select(TABLE).where(c.s.regexp_match("a")), "regexp_match"),
    "tuples": (sa.select(TABLE).where(sa.tuple_(c.k, c.a).in_([(1, 2)])), "tuple_()"),
    "symmetric between": (sa.select(TABLE).where(c.a.between(1, 2, symmetric=True)), "between(symmetric=True)"),
    "no table": (sa.select(sa.literal(1)), "a select() without a table"),
    "ungrouped": (sa.select(c.a, sa.func.count()), "t.a beside aggregates"),
    "whole record and aggregate": (sa.select(TABLE, sa.func.count()), "beside aggregates"),
    "aggregate in where": (sa.select(c.k).where(sa.func.count() > 1), "the aggregate count in this place"),
    "nested aggregate": (sa.select(sa.func.sum(sa.func.count())).select_from(TABLE), "the aggregate count"),
    "text statement": (sa.text("select 1"), "TextClause"),
    "arithmetic on other than numbers": (sa.select(c.k).where(sa.type_coerce(c.s, sa.Integer) * 2 == 3), ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_the_sql_door_does_is_refused_by_name(store, name):
    """A construct beyond one table's queries is named, and so is the door that takes it."""
    store.create(TABLE)
    store.create(OTHER)
    statement, what = REFUSED[name]

    with pytest.raises((exc.NotSupportedError, exc.DataError)) as caught:
        store.run(statement)

    assert what in str(caught.value)
    if isinstance(caught.value, exc.NotSupportedError):
        assert "engine.sqlalchemy()" in str(caught.value)


WRONG: dict[str, Any] = {
    "text and number": sa.select(TABLE).where(c.s == c.a),
    "like of a number": sa.select(TABLE).where(sa.type_coerce(c.a, sa.String).like("x")),
    "sum of text": sa.select(sa.func.sum(c.s)),
    "lower of a number": sa.select(sa.func.lower(c.a)),
    "mixed case": sa.select(sa.case((c.a > 1, c.a), else_=c.s)),
    "negative limit": sa.select(TABLE).limit(-1),
    "text as condition": sa.select(TABLE).where(c.s),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_go_together_is_a_data_error(store, name):
    """Values of types that have nothing to do with each other are refused before anything is read."""
    store.create(TABLE)

    with pytest.raises(exc.DataError):
        store.run(WRONG[name])


@pytest.mark.parametrize("given_", ["select 1", 3, None, TABLE])
def test_what_is_no_statement_is_an_argument_error(store, given_):
    """Anything but a statement is refused."""
    with pytest.raises(exc.ArgumentError, match="is no statement"):
        store.run(given_)


def test_a_parameter_without_value_is_refused(store):
    """A bindparam() that nothing is given for is named."""
    store.create(TABLE)
    statement = sa.select(TABLE).where(c.a == sa.bindparam("wanted"))

    with pytest.raises(exc.ArgumentError, match="'wanted' has no value"):
        store.run(statement)
    assert store.run(statement, {"wanted": 3}) == []


def test_results_are_called_as_sqlalchemy_calls_them(store):
    """Keys of results are labels, column names, and SQLAlchemy's names for what has none."""
    store.create(TABLE)
    statement = sa.select(
        c.k, c.a.label("x"), sa.func.count(), sa.func.count(c.a), sa.func.max(c.a), c.a + 1, sa.literal(3)
    ).group_by(c.k, c.a, c.a + 1)

    assert store.prepare(statement).columns == ("k", "x", "count_1", "count_2", "max_1", "anon_1", "anon_2")


def test_statements_of_one_structure_share_a_plan(store):
    """Other values, in a statement built anew, are executed by the plan that is there."""
    store.create(TABLE, [(n, n % 5, "x", True) for n in range(20)])

    first = store.prepare(sa.select(TABLE).where(c.a == 1).limit(3))
    second = store.prepare(sa.select(TABLE).where(c.a == 2).limit(3))
    third = store.prepare(sa.select(TABLE).where(c.a > 2).limit(3))

    assert first.plan is second.plan
    assert first.plan is not third.plan


def test_tables_of_equal_columns_do_not_share_plans(store):
    """The same select of two tables reads each its own."""
    one = sa.Table("one", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True))
    two = sa.Table("two", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True))
    store.create(one, [(1,)])
    store.create(two, [(2,)])

    assert store.run(sa.select(one)) == [(1,)]
    assert store.run(sa.select(two)) == [(2,)]


@given(value=st.integers() | st.text() | st.none())
def test_a_structure_has_no_values_in_it(value):
    """Two statements that differ in values alone are one structure."""
    one = read_statement(sa.select(TABLE).where(c.a == sa.literal(value)).limit(5))
    two = read_statement(sa.select(TABLE).where(c.a == sa.literal(7)).limit(9))

    assert one.structure == two.structure
    assert hash(one.structure) == hash(two.structure)
    assert one.values()[0] == value


def test_a_statement_on_columns_not_in_the_store_is_refused(store):
    """A column that the declared table has and the stored one lacks is named."""
    store.create(TABLE)
    key, more = sa.Column("k", sa.Integer(), primary_key=True), sa.Column("more", sa.Integer())
    wider = sa.Table("t", sa.MetaData(), key, more)

    with pytest.raises(exc.ArgumentError, match="has no column more"):
        store.run(sa.select(wider.c.more))


def test_group_by_finds_expressions_written_twice(store):
    """``n % 10`` in the SELECT and again in the GROUP BY are the same, as are their parameters."""
    store.create(TABLE, [(n, n, "x", True) for n in range(25)])

    statement = sa.select(c.a % 10, sa.func.count()).group_by(c.a % 10).order_by(c.a % 10)

    assert store.run(statement)[:6] == [(0, 3), (1, 3), (2, 3), (3, 3), (4, 3), (5, 2)]


def test_labels_order_and_group(store):
    """ORDER BY and GROUP BY take the labels of outputs, as objects and as text."""
    store.create(TABLE, [(n, n % 3, "x", True) for n in range(10)])
    bucket = (c.a * 2).label("bucket")

    expected = [(4, 3), (2, 3), (0, 4)]
    assert store.run(sa.select(bucket, sa.func.count()).group_by(bucket).order_by(bucket.desc())) == expected
    assert store.run(sa.select(bucket, sa.func.count()).group_by("bucket").order_by(sa.desc("bucket"))) == expected


def test_predicates_of_indexes_have_their_constants_in_them():
    """What is stored of a predicate has no parameters, and its constants are those of the column's type."""
    tree = predicate(sa.and_(c.a > 3, c.s.startswith("x", autoescape=True), c.g, c.a.in_([1, 2])), TABLE)

    assert "Parameter" not in repr(tree)
    assert "Constant(value='x%')" in repr(tree)
    with pytest.raises(exc.DataError, match=r"t\.a is compared with 'x'"):
        predicate(c.a == sa.literal("x", sa.String()), TABLE)


models = registry()


@mapped(models)
class Note:
    __tablename__ = "notes"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(index=True)
    rank: Mapped[int] = 0


def test_records_and_columns_mix_in_a_session():
    """A record class selects whole objects, beside columns and labels, and they are those of the session."""
    engine = create_engine("memory://")
    models.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Note(id=n, text="abc"[n % 3], rank=n) for n in range(6)])
        statement = (
            sa.select(Note.rank, Note, (Note.rank * 2).label("twice")).where(Note.text == "a").order_by(Note.rank)
        )

        rows = session.execute(statement.order_by(Note.rank)).all()

        assert [(row.rank, row.Note.id, row.twice) for row in rows] == [(0, 0, 0), (3, 3, 6)]
        assert rows[0].Note is session.get(Note, 0)
        assert session.scalar(sa.select(sa.func.count()).select_from(Note)) == 6
        assert session.scalar(sa.select(sa.exists(sa.select(Note).where(Note.text == "z")))) is False
    engine.close()


def test_planning_is_no_read_of_a_serializable_transaction():
    """Row counts and samples read to choose a plan make no conflict with those who insert meanwhile."""
    engine = create_engine("memory://")
    models.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Note(id=n, text="a", rank=n) for n in range(500)])

    with Session(engine, isolation_level="SERIALIZABLE") as planner:
        planner.explain(sa.select(Note).where(Note.text == "a", Note.rank > 3).order_by(Note.rank))
        with Session(engine) as writer, writer.begin():
            writer.add(Note(id=1000, text="a"))
        planner.add(Note(id=2000, text="b"))
        planner.commit()

    engine.close()


def test_counting_is_a_read_of_a_serializable_transaction():
    """A row count that was the answer to a query must hold at the commit."""
    engine = create_engine("memory://")
    models.create_all(engine)

    with Session(engine, isolation_level="SERIALIZABLE") as counter:
        assert counter.scalar(sa.select(sa.func.count()).select_from(Note)) == 0
        with Session(engine) as writer, writer.begin():
            writer.add(Note(id=1, text="a"))
        counter.add(Note(id=2, text="b"))
        with pytest.raises(exc.ConflictError):
            counter.commit()

    engine.close()
