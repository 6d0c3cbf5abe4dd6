"""Values of every type compare, order, group and page as their keys do, with an index and without."""

from __future__ import annotations

import datetime as dt
import enum
import operator
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from kvdialect import exc
from kvdialect.query.paging import page
from kvdialect.schema.types import FixedBinary, Structured, UnsignedInteger

UTC = dt.UTC
ZONES = [UTC, dt.timezone(dt.timedelta(hours=5))]
FIRST, LAST = dt.datetime.fromisoformat("2000-01-01"), dt.datetime.fromisoformat("2001-01-01")


class Color(enum.Enum):
    red = 3
    green = 1
    blue = 2


class Reversed(sa.types.TypeDecorator[int]):
    """Ints stored as their negatives: their order is that of what is stored."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> Any:
        return None if value is None else -value

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        return None if value is None else -value


def same(value: Any) -> Any:
    return value


# per type: values, and what they are ordered by
TYPES: dict[str, tuple[Any, st.SearchStrategy[Any], Callable[[Any], Any]]] = {
    "enum": (sa.Enum(Color), st.sampled_from(Color), lambda color: color.name),
    "uuid": (sa.Uuid(), st.uuids(), lambda value: value.int),
    "uuid_text": (sa.Uuid(as_uuid=False), st.uuids().map(str), same),
    "decimal": (sa.Numeric(10, 2), st.decimals(-999, 999, places=2), same),
    "wide_decimal": (sa.Numeric(30, 4), st.decimals(-(10**20), 10**20, places=4), same),
    "aware": (sa.DateTime(timezone=True), st.datetimes(FIRST, LAST, timezones=st.sampled_from(ZONES)), same),
    "naive": (sa.DateTime(), st.datetimes(FIRST, LAST), same),
    "date": (sa.Date(), st.dates(), same),
    "time": (sa.Time(), st.times(), same),
    "interval": (sa.Interval(), st.timedeltas(dt.timedelta(-9), dt.timedelta(9)), same),
    "float": (sa.Float(), st.floats(allow_nan=False), same),
    "unsigned": (UnsignedInteger(64), st.integers(2**63 - 5, 2**64 - 1), same),
    "small": (UnsignedInteger(8), st.integers(0, 255), same),
    "fixed": (FixedBinary(4), st.binary(min_size=4, max_size=4), same),
    "text": (sa.String(), st.text(max_size=4), lambda text: text.encode()),
    "binary": (sa.LargeBinary(), st.binary(max_size=4), same),
    "bool": (sa.Boolean(), st.booleans(), same),
    "decorated": (Reversed(), st.integers(-9, 9), lambda value: -value),
}  # fmt: skip

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def table_of(type_: Any, indexed: bool, descending: bool = False) -> sa.Table:
    column = sa.Column("v", type_)
    index = [sa.Index("by_v", sa.desc("v") if descending else column)] if indexed else []
    return sa.Table(
        "y", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True), column, sa.Column("n", sa.Integer()), *index
    )


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
@settings(max_examples=15)
def test_a_type_compares_orders_and_groups_as_its_keys_do(shared_store, name, data):
    """Comparisons, IN, ORDER BY, MIN, MAX, GROUP BY, DISTINCT and pages agree with Python, index or not."""
    type_, values, order = TYPES[name]
    given_values = data.draw(st.lists(values | st.none(), max_size=12))
    some = [value for value in given_values if value is not None]
    against = data.draw(st.sampled_from(some) | values if some else values)
    comparison = data.draw(st.sampled_from(sorted(COMPARISONS)))
    present = [(k, v) for k, v in enumerate(given_values) if v is not None]

    for indexed, descending in ((False, False), (True, False), (True, True)):
        table = table_of(type_, indexed, descending)
        shared_store.create(table, [(k, v, k) for k, v in enumerate(given_values)])
        run, c = shared_store.run, table.columns

        compare = COMPARISONS[comparison]
        if name != "bool" or comparison in ("==", "!="):
            found = run(sa.select(c.k).where(compare(c.v, against)))
            assert sorted(found) == [(k,) for k, v in present if compare(order(v), order(against))]
        found = run(sa.select(c.k).where(c.v.in_([against, *some[:1], None])))
        assert sorted(found) == [(k,) for k, v in present if v in (against, *some[:1])]
        assert sorted(run(sa.select(c.k).where(c.v.is_(None)))) == [
            (k,) for k, v in enumerate(given_values) if v is None
        ]

        in_order = [order(v) for _, v in sorted(present, key=lambda pair: order(pair[1]))]
        nulls = len(given_values) - len(present)
        ascending = [row[0] for row in run(sa.select(c.v).order_by(c.v))]
        assert ascending[:nulls] == [None] * nulls
        assert [order(v) for v in ascending[nulls:]] == in_order
        backwards = [row[1] for row in run(sa.select(c.n, c.v).order_by(c.v.desc()))]
        assert [order(v) for v in backwards[: len(present)]] == in_order[::-1]

        least, greatest = run(sa.select(sa.func.min(c.v), sa.func.max(c.v)))[0]
        assert [order(v) for v in (least, greatest) if v is not None] == ([in_order[0], in_order[-1]] if some else [])
        assert all(type(v) is type(some[0]) for v in (least, greatest) if v is not None)

        groups = {(None if v is None else order(v)): n for v, n in run(sa.select(c.v, sa.func.count()).group_by(c.v))}
        assert groups == {key: [None if v is None else order(v) for v in given_values].count(key) for key in groups}
        assert len(run(sa.select(c.v).distinct())) == len(groups)

        token, paged = None, []
        while True:
            view = shared_store.view()
            found = page(shared_store.planner.prepare(sa.select(c.n, c.v).order_by(c.v), view), view, list, 3, token)
            paged += [row[1] for row in found]
            token = found.next
            if token is None:
                break
        assert [order(v) for v in paged[nulls:]] == in_order


def test_an_aware_datetime_of_another_zone_is_the_same_moment(store):
    """A parameter in another time zone finds the row that was stored in UTC."""
    table = table_of(sa.DateTime(timezone=True), True)
    store.create(table, [(1, dt.datetime(2024, 1, 1, 12, tzinfo=UTC), 0)])
    other = dt.datetime(2024, 1, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2)))

    assert store.run(sa.select(table.c.k).where(table.c.v == other)) == [(1,)]
    assert store.run(sa.select(table.c.k).where(table.c.v > other)) == []


def test_a_date_is_midnight_where_datetimes_are(store):
    """A date compared with a datetime column is the moment at which it begins, with an index and without."""
    for indexed in (False, True):
        table = table_of(sa.DateTime(), indexed)
        store.create(
            table,
            [
                (1, dt.datetime.fromisoformat("2024-01-01T00:00"), 0),
                (2, dt.datetime.fromisoformat("2024-01-02T05:00"), 0),
            ],
        )

        assert store.run(sa.select(table.c.k).where(table.c.v >= dt.date(2024, 1, 2))) == [(2,)]
        assert store.run(sa.select(table.c.k).where(table.c.v == dt.date(2024, 1, 1))) == [(1,)]


@pytest.mark.parametrize(
    ("type_", "value", "allowed"),
    [
        (sa.Integer(), "3", "a number"),
        (sa.String(), 3, "a str"),
        (sa.LargeBinary(), "x", "bytes"),
        (sa.Uuid(), "x", "a UUID"),
        (sa.Enum(Color), "purple", "a Color"),
        (sa.DateTime(timezone=True), dt.datetime.fromisoformat("2024-01-01T00:00"), "a datetime with a time zone"),
        (sa.DateTime(), dt.datetime(2024, 1, 1, tzinfo=UTC), "a datetime without a time zone"),
        (sa.Date(), 3, "a date"),
    ],
)
def test_a_value_that_compares_with_nothing_is_refused_by_column(store, type_, value, allowed):
    """A parameter of a wrong type names the column, the value and what compares with it."""
    table = table_of(type_, False)
    store.create(table)

    for statement in (
        sa.select(table).where(table.c.v == sa.literal(value, sa.types.NullType())),
        sa.select(table).where(table.c.v < sa.bindparam("x", value, sa.types.NullType())),
        sa.select(table).where(table.c.v.in_([value])),
    ):
        with pytest.raises(exc.DataError, match=r"y\.v is compared with") as caught:
            store.run(statement)
        assert allowed in str(caught.value)


def test_nan_is_null_to_a_query(store):
    """NaN as a parameter equals nothing, and a stored NaN is ordered with the NULLs and left out of sums."""
    table = table_of(sa.Float(), False)
    nan = float("nan")
    store.create(table, [(1, nan, 0), (2, 1.5, 0), (3, None, 0), (4, -2.0, 0)])
    c = table.columns

    assert store.run(sa.select(c.k).where(c.v == nan)) == []
    assert [row[0] for row in store.run(sa.select(c.k).order_by(c.v))][2:] == [4, 2]
    assert store.run(sa.select(sa.func.sum(c.v), sa.func.max(c.v), sa.func.min(c.v))) == [(-0.5, 1.5, -2.0)]


def test_sums_are_exact(store):
    """Sums of ints beyond 64 bits and of decimals lose nothing."""
    table = sa.Table(
        "e", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True), sa.Column("u", UnsignedInteger(64)),
        sa.Column("d", sa.Numeric(38, 10)),
    )  # fmt: skip
    large = Decimal("1234567890123456789012345678.0123456789")
    store.create(table, [(n, 2**64 - 1, large) for n in range(3)])
    c = table.columns

    total = store.run(sa.select(sa.func.sum(c.u), sa.func.sum(c.d), sa.func.sum(c.d * 2), sa.func.avg(c.d)))[0]

    assert total == (3 * (2**64 - 1), Decimal("3703703670370370367037037034.0370370367"),
                     Decimal("7407407340740740734074074068.0740740734"), large)  # fmt: skip
    assert store.run(sa.select(c.u + 1).where(c.k == 0)) == [(2**64,)]


LISTS = sa.Table(
    "lists",
    sa.MetaData(),
    sa.Column("k", sa.Integer(), primary_key=True),
    sa.Column("tags", Structured(list[str])),
    sa.Column("sizes", Structured(list[int]), nullable=False),
    sa.Column("n", sa.Integer(), nullable=False),
    sa.Index("by_tag", "tags", kvdialect_kind="multi"),
    sa.Index("by_size", "sizes", kvdialect_kind="multi", kvdialect_where=lambda c: c.n > 3),
)

list_rows = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abc"), max_size=3) | st.none(),
        st.lists(st.integers(0, 3), max_size=3),
        st.integers(0, 6),
    ),
    max_size=15,
)


@given(rows=list_rows, tag=st.sampled_from("abcd"), size=st.integers(0, 4), least=st.integers(0, 6))
def test_elements_of_lists_are_found(shared_store, rows, tag, size, least):
    """contains() finds each row whose list has the element, once, through a multi-valued index or without."""
    shared_store.create(LISTS, [(k, *row) for k, row in enumerate(rows)])
    c = LISTS.columns
    statements: dict[Any, Callable[[Any], bool]] = {
        sa.select(c.k).where(c.tags.contains(tag)): lambda row: tag in (row[0] or ()),
        sa.select(c.k).where(c.sizes.contains(size), c.n > 3): lambda row: size in row[1] and row[2] > 3,
        sa.select(c.k).where(c.tags.contains(tag), c.tags.contains("a"), c.n >= least): lambda row: (
            {tag, "a"} <= set(row[0] or ()) and row[2] >= least
        ),
        sa.select(c.k).where(sa.or_(c.tags.contains(tag), c.sizes.contains(size))): lambda row: (
            tag in (row[0] or ()) or size in row[1]
        ),
        sa.select(c.k).where(~c.tags.contains(tag)): lambda row: row[0] is not None and tag not in row[0],
    }
    for statement, holds in statements.items():
        expected = [(k,) for k, row in enumerate(rows) if holds(row)]

        assert sorted(shared_store.run(statement)) == expected
        for family in ("lists", "by_tag", "by_size", "union"):
            try:
                found = shared_store.run(statement, using=family)
            except exc.ArgumentError:
                continue
            assert sorted(found) == expected
    counted = shared_store.run(sa.select(sa.func.count()).select_from(LISTS).where(c.tags.contains(tag)))
    assert counted == [(sum(1 for tags, _, _ in rows if tags is not None and tag in tags),)]


def test_an_element_of_a_wrong_type_is_refused(store):
    """contains() takes what can be an element."""
    store.create(LISTS)

    with pytest.raises(exc.DataError, match=r"lists\.tags\.contains\(\) is given 3"):
        store.run(sa.select(LISTS).where(LISTS.c.tags.contains(3)))


def test_uuid_texts_are_compared_in_one_form(store):
    """A UUID as text is found however its text is written."""
    table = table_of(sa.Uuid(as_uuid=False), True)
    value = uuid.uuid4()
    store.create(table, [(1, str(value), 0)])

    assert store.run(sa.select(table.c.k).where(table.c.v == str(value).upper())) == [(1,)]
    assert store.run(sa.select(table.c.n).where(table.c.v == str(value).upper()), using="y") == [(0,)]
