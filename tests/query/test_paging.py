"""Pages: together they are the result, and their tokens hold as long as store and statement do."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvdialect import exc
from kvdialect.query.paging import Page, page

ints = st.integers(-3, 3)
NAMES = ["k", "a", "b", "t", "f"]


def make_table(indexes: list[sa.Index] | None = None, **columns: Any) -> sa.Table:
    return sa.Table(
        "p",
        sa.MetaData(),
        sa.Column("k", columns.get("k", sa.Integer()), primary_key=True),
        sa.Column("a", sa.Integer()),
        sa.Column("b", sa.Integer(), nullable=False),
        sa.Column("t", sa.String(), nullable=False),
        sa.Column("f", sa.Float()),
        *(indexes or []),
    )


rows = st.lists(st.tuples(ints | st.none(), ints, st.sampled_from(["", "a", "ab", "b"]), st.floats(-2, 2)), max_size=40)
index_sets = st.lists(
    st.lists(st.sampled_from(["a", "b", "t", "f"]), min_size=1, max_size=3, unique=True), max_size=3
).map(lambda sets: [sa.Index(f"p{n}", *names) for n, names in enumerate(sets)])


def get_page(store: Any, statement: Any, limit: int, after: str | None, parameters: Any = None) -> Page:
    view = store.view()
    prepared = store.planner.prepare(statement, view, parameters)
    return page(prepared, view, store.loader(prepared.table.name), limit, after)


def all_pages(store: Any, statement: Any, limit: int) -> list[Any]:
    items: list[Any] = []
    token = None
    while True:
        found = get_page(store, statement, limit, token)
        assert len(found) <= limit
        items += found
        token = found.next
        if token is None:
            return items
        assert len(found) == limit


@st.composite
def statements(draw: st.DrawFn, table: sa.Table) -> Any:
    c = table.columns
    statement = sa.select(table)
    for form in draw(st.lists(st.integers(0, 5), max_size=2)):
        match form:
            case 0:
                statement = statement.where(c.a == draw(ints))
            case 1:
                statement = statement.where(c.b.in_(draw(st.lists(ints))))
            case 2:
                statement = statement.where(c.t.startswith("a"))
            case 3:
                statement = statement.where(sa.or_(c.a == draw(ints), c.b > draw(ints)))
            case 4:
                statement = statement.where(c.f < draw(ints))
            case _:
                statement = statement.where(c.a.is_(None))
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True)):
        element = c[name].desc() if draw(st.booleans()) else c[name]
        statement = statement.order_by(element.nulls_last() if draw(st.integers(0, 4)) == 0 else element)
    if draw(st.integers(0, 4)) == 0:
        statement = statement.order_by(c.b * 2 - c.a)
    return statement


def _bare(element: Any) -> Any:
    """What an element of ORDER BY orders by."""
    while isinstance(element, sa.UnaryExpression) and element.modifier is not None:
        element = element.element
    return element


@given(data=st.data(), values=rows, indexes=index_sets, limit=st.integers(1, 7))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_pages_together_are_the_result(shared_store, data, values, indexes, limit):
    """Whatever the order and the indexes, the pages in sequence hold each row once, in the order asked for."""
    table = make_table(indexes)
    shared_store.create(table, [(number, *row) for number, row in enumerate(values)])
    statement = data.draw(statements(table))
    order = [_bare(part) for part in statement._order_by_clauses]
    everything = shared_store.run(statement)

    found = all_pages(shared_store, statement, limit)

    assert sorted(found, key=repr) == sorted(everything, key=repr)
    if order:
        with_keys = sa.select(table.c.k, *order)
        keys = {row[0]: row[1:] for row in shared_store.run(with_keys)}
        assert [keys[row[0]] for row in found] == [keys[row[0]] for row in everything]


@given(data=st.data(), values=rows, indexes=index_sets, limit=st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_rows_that_stay_are_given_once_whatever_comes_and_goes(shared_store, data, values, indexes, limit):
    """Rows inserted and deleted between pages make no other row appear twice or not at all."""
    table = make_table(indexes)
    stored = shared_store.create(table, [(number * 2, *row) for number, row in enumerate(values)])
    statement = data.draw(statements(table))
    stay = {row[0] for row in shared_store.run(statement)}

    seen: list[int] = []
    token = None
    fresh = 1
    while True:
        found = get_page(shared_store, statement, limit, token)
        seen += [row[0] for row in found]
        token = found.next
        if token is None:
            break
        for row in data.draw(rows.map(lambda listed: listed[:3])):
            if fresh < 2 * len(values):
                shared_store.insert(table, [(fresh, *row)])
                fresh += 2
        for number in data.draw(st.lists(st.integers(0, 80).map(lambda n: n * 2), max_size=3)):
            key = stored.codec.key((number,))
            if key in shared_store.rows["p"]:
                shared_store.delete(table, key)
                stay.discard(number)

    assert len(seen) == len(set(seen))
    assert stay <= set(seen)


def test_a_page_of_columns_is_of_tuples(store):
    """A statement that selects columns gives tuples, named by the page's columns."""
    table = make_table([sa.Index("by_a", "a")])
    store.create(table, [(n, n % 3, 0, "x", 0.5) for n in range(9)])

    found = get_page(store, sa.select(table.c.k, (table.c.a + 1).label("more")).order_by(table.c.a), 2, None)

    assert list(found) == [(0, 1), (3, 1)]
    assert found.columns == ("k", "more")
    assert found.next is not None


def test_a_page_reads_no_more_than_it_gives(store):
    """A page in the order of an index reads its own entries, wherever it begins."""
    table = make_table([sa.Index("by_a", "a")])
    store.create(table, [(n, n, 0, "x", 0.5) for n in range(3000)])
    statement = sa.select(table).where(table.c.a >= 0).order_by(table.c.a)
    token = get_page(store, statement, 1000, None).next

    view = store.view()
    read: list[bytes] = []
    scan = view.scan

    def counted(*args: Any, **options: Any) -> Any:
        for pair in scan(*args, **options):
            read.append(pair[0])
            yield pair

    view.scan = counted
    prepared = store.planner.prepare(statement, view)
    read.clear()
    planned = store.planner.replan(prepared, view, wanted=11)
    planning = len(read)
    found = page(prepared, view, store.loader(table), 10, token)

    assert [row[0] for row in found] == list(range(1000, 1010))
    assert planned.plan.choice is not None
    assert len(read) - planning < planning + 50


def token_of(store: Any, table: sa.Table, statement: Any = None) -> str:
    statement = sa.select(table).order_by(table.c.b) if statement is None else statement
    token = get_page(store, statement, 2, None).next
    assert token is not None
    return token


def test_a_token_of_another_statement_is_refused(store):
    """A token goes with its statement alone, and with its parameters."""
    table = make_table()
    store.create(table, [(n, n, n, "x", 0.5) for n in range(9)])
    token = token_of(store, table, sa.select(table).where(table.c.a >= 0).order_by(table.c.b))

    for other in (
        sa.select(table).where(table.c.a >= 1).order_by(table.c.b),
        sa.select(table).where(table.c.a > 0).order_by(table.c.b),
        sa.select(table).where(table.c.a >= 0).order_by(table.c.b.desc()),
        sa.select(table.c.k).where(table.c.a >= 0).order_by(table.c.b),
    ):
        with pytest.raises(exc.ArgumentError, match="another statement"):
            get_page(store, other, 2, token)


def test_a_token_of_another_schema_is_refused(store):
    """A token made before a column changed its type is not taken for one of the new table."""
    table = make_table([sa.Index("by_b", "b")])
    store.create(table, [(n, n, n, "x", 0.5) for n in range(9)])
    token = token_of(store, table)

    changed = make_table([sa.Index("by_b", "b")], k=sa.SmallInteger())
    store.create(changed, [(n, n, n, "x", 0.5) for n in range(9)])
    with pytest.raises(exc.ArgumentError, match="another schema"):
        get_page(store, sa.select(changed).order_by(changed.c.b), 2, token)

    without = make_table()
    store.create(without, [(n, n, n, "x", 0.5) for n in range(9)])
    with pytest.raises(exc.ArgumentError, match="begin with the first page"):
        get_page(store, sa.select(without).order_by(without.c.b), 2, token)


def test_changed_statistics_refuse_no_token(store):
    """A token carries its plan: rows that would make another plan the better one do not end it."""
    table = make_table([sa.Index("by_a", "a"), sa.Index("by_b", "b")])
    store.create(table, [(n, 0, n, "x", 0.5) for n in range(50)])
    statement = sa.select(table).where(table.c.a == 0).order_by(table.c.b)
    first = get_page(store, statement, 5, None)

    store.insert(table, [(n, 1, n, "x", 0.5) for n in range(1000, 4000)])
    store.planner.clear()
    rest: list[Any] = []
    token = first.next
    while token is not None:
        found = get_page(store, statement, 5, token)
        rest += found
        token = found.next

    assert [row[0] for row in [*first, *rest]] == list(range(50))


def test_a_token_holds_in_another_process_with_another_planner(store):
    """Nothing of a token is kept here: a planner that knows nothing takes it."""
    table = make_table([sa.Index("by_b", "b")])
    store.create(table, [(n, n, n, "x", 0.5) for n in range(9)])
    token = token_of(store, table)

    store.planner.clear()
    again = make_table([sa.Index("by_b", "b")])
    assert [row[0] for row in get_page(store, sa.select(again).order_by(again.c.b), 3, token)] == [2, 3, 4]


@pytest.mark.parametrize("statement", ["limit", "offset", "count", "distinct", "exists"])
def test_statements_that_have_no_pages_are_refused(store, statement):
    """A LIMIT of its own, aggregates, DISTINCT and EXISTS are refused, by name."""
    table = make_table()
    store.create(table)
    selects: dict[str, Any] = {
        "limit": sa.select(table).limit(3),
        "offset": sa.select(table).offset(3),
        "count": sa.select(sa.func.count()).select_from(table),
        "distinct": sa.select(table.c.a).distinct(),
        "exists": sa.select(sa.exists(sa.select(table))),
    }

    with pytest.raises((exc.ArgumentError, exc.NotSupportedError), match=r"LIMIT|DISTINCT"):
        get_page(store, selects[statement], 3, None)


@pytest.mark.parametrize("limit", [0, -1, 2.0, True, None])
def test_a_page_has_a_size(store, limit):
    """The size of a page is an int of at least 1."""
    table = make_table()
    store.create(table)

    with pytest.raises(exc.ArgumentError, match="1 or more rows"):
        get_page(store, sa.select(table), limit, None)


def mutated(token: str) -> st.SearchStrategy[str]:
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))

    def change(at: int, byte: int) -> str:
        data = bytearray(raw)
        data[at % len(data)] = byte
        return base64.urlsafe_b64encode(bytes(data)).decode().rstrip("=")

    return st.builds(change, st.integers(0, 500), st.integers(0, 255))


@given(data=st.data())
def test_any_text_is_a_page_or_an_argument_error(shared_store, data):
    """Garbage, and tokens with changed bytes, are refused by ArgumentError or lead to some page, nothing else."""
    table = make_table([sa.Index("by_a", "a")])
    if "p" not in shared_store.tables or len(shared_store.rows["p"]) != 20:
        shared_store.create(table, [(n, n % 4, n % 3, "x", 0.5) for n in range(20)])
    statement = data.draw(
        st.sampled_from(
            [
                sa.select(table).order_by(table.c.b, table.c.f.desc()),
                sa.select(table).order_by(table.c.a),
                sa.select(table).where(table.c.a.in_([1, 2])).order_by(table.c.k),
            ]
        )
    )
    shared_store.tables = {"p": shared_store.create(table, [(n, n % 4, n % 3, "x", 0.5) for n in range(20)])}
    token = token_of(shared_store, table, statement)
    text = data.draw(
        st.text(max_size=30)
        | st.binary(max_size=60).map(lambda b: base64.urlsafe_b64encode(b).decode())
        | mutated(token)
    )

    try:
        found = get_page(shared_store, statement, 2, text)
    except exc.ArgumentError:
        return
    assert len(found) <= 2


def test_a_token_of_a_newer_format_says_so(store):
    """A token of a later release is refused by its number."""
    table = make_table()
    store.create(table, [(n, n, n, "x", 0.5) for n in range(9)])
    raw = msgspec.msgpack.encode([2, b"", ["p", None, None, None], None, b"k"])

    with pytest.raises(exc.ArgumentError, match="format 2"):
        get_page(store, sa.select(table), 2, base64.urlsafe_b64encode(raw).decode())


@pytest.mark.parametrize("token", [b"bytes", 3, "x" * 40_000, "é", "====", "a"])
def test_what_is_no_token_is_refused(store, token):
    """A token is text of the URL-safe alphabet, and not endless."""
    table = make_table()
    store.create(table)

    with pytest.raises(exc.ArgumentError, match="page token"):
        get_page(store, sa.select(table), 2, token)
