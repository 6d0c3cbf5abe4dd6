"""Which plan is chosen, as explain prints it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa

from kvdialect import exc
from kvdialect.query.bounds import MOST_RANGES
from kvdialect.schema.types import FixedBinary, Structured, UnsignedInteger

COINS = sa.Table(
    "coins",
    sa.MetaData(),
    sa.Column("coin_id", FixedBinary(8), primary_key=True),
    sa.Column("puzzle", FixedBinary(8), nullable=False),
    sa.Column("amount", UnsignedInteger(64), nullable=False),
    sa.Column("height", sa.Integer(), nullable=False),
    sa.Column("spent", sa.Integer()),
    sa.Column("name", sa.String(20), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("tags", Structured(list[str]), nullable=False),
    sa.Index("by_puzzle", "puzzle", "height"),
    sa.Index("unspent_by_puzzle", "puzzle", kvdialect_where=lambda c: c.spent.is_(None)),
    sa.Index("by_height", sa.desc("height"), kvdialect_include=["amount"]),
    sa.Index("by_spent", "spent", kvdialect_where=lambda c: c.spent.is_not(None)),
    sa.Index("by_name", "name", unique=True),
    sa.Index("by_tag", "tags", kvdialect_kind="multi"),
    sa.Index("rare", "amount", kvdialect_where=lambda c: c.kind == "rare"),
)
c = COINS.columns
COUNT = 3000


def key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def coin_rows() -> list[tuple[Any, ...]]:
    chance = random.Random(7)
    return [
        (
            key(number),
            key(chance.randrange(100)),
            chance.randrange(10**6),
            number // 10,
            None if chance.random() < 0.3 else number // 10 + 5,
            f"coin {number:05}",
            "rare" if number % 500 == 0 else chance.choice(["common", "usual"]),
            chance.sample(["red", "green", "blue"], chance.randrange(3)),
        )
        for number in range(COUNT)
    ]


@pytest.fixture
def coins(store):
    store.create(COINS, coin_rows())
    return store


def first_line(text: str, word: str) -> str:
    return next(line.strip("│├└─ ") for line in text.splitlines() if word in line)


CHOICES: dict[str, tuple[Any, str]] = {
    "the primary key is looked up": (sa.select(COINS).where(c.coin_id == key(3)), "KeyLookup coins (coin_id = ?1)"),
    "so are many": (sa.select(COINS).where(c.coin_id.in_([key(3), key(5)])), "KeyLookup coins (coin_id IN (?1))"),
    "a range of primary keys is scanned": (
        sa.select(COINS).where(c.coin_id >= key(3), c.coin_id < key(9)),
        "TableScan coins (coin_id >= ?1 AND coin_id < ?2)",
    ),
    "a unique index finds one": (sa.select(COINS).where(c.name == "coin 00009"), "IndexScan by_name (name = ?1)"),
    "an equality prefix and one range": (
        sa.select(COINS).where(c.puzzle == key(3), c.height.between(20, 30)),
        "IndexScan by_puzzle (puzzle = ?1 AND height >= ?2 AND height <= ?3)",
    ),
    "order comes from the index": (
        sa.select(COINS).where(c.puzzle == key(3)).order_by(c.height),
        "IndexScan by_puzzle (puzzle = ?1)  order: height  covering: no",
    ),
    "backwards too": (
        sa.select(COINS).where(c.puzzle == key(3)).order_by(c.height.desc()),
        "IndexScan by_puzzle (puzzle = ?1)  order: height DESC  backwards  covering: no",
    ),
    "from a descending part forwards": (
        sa.select(COINS).order_by(c.height.desc()).limit(5),
        "IndexScan by_height  order: height DESC  covering: no",
    ),
    "ranges are merged for order": (
        sa.select(COINS).where(c.puzzle.in_([key(1), key(2)])).order_by(c.height).limit(3),
        "IndexScan by_puzzle (puzzle IN (?1))  order: height  merged  covering: no",
    ),
    "what is fixed needs no order": (
        sa.select(COINS).where(c.puzzle == key(1)).order_by(c.puzzle, c.height, c.coin_id),
        "IndexScan by_puzzle (puzzle = ?1)  order: puzzle, height, coin_id  covering: no",
    ),
    "a partial index whose predicate is given": (
        sa.select(COINS).where(c.puzzle == key(3), c.spent.is_(None)),
        "IndexScan unspent_by_puzzle (puzzle = ?1)  covering: no",
    ),
    "a partial index whose predicate follows": (
        sa.select(COINS).where(c.spent > 290),
        "IndexScan by_spent (spent > ?1)",
    ),
    "a partial index whose predicate is a parameter's value": (
        sa.select(COINS).where(c.kind == "rare"),
        "IndexScan rare  covering: no",
    ),
    "included columns are read from the entries": (
        sa.select(c.amount, c.height).where(c.height < 10),
        "IndexScan by_height (height < ?1)  covering: yes",
    ),
    "and so is the key": (
        sa.select(c.coin_id).where(c.puzzle == key(3)),
        "IndexScan by_puzzle (puzzle = ?1)  covering: yes",
    ),
    "a beginning is a range": (
        sa.select(COINS).where(c.name.startswith("coin 0001")),
        "IndexScan by_name (name LIKE ?1)",
    ),
    "an element of a list": (sa.select(COINS).where(c.tags.contains("red"), c.height < 3), "IndexScan by_height"),
    "an element of a list, alone": (sa.select(COINS).where(c.tags.contains("gold")), "IndexScan by_tag (tags CONTAINS"),
    "what no index knows is filtered": (sa.select(COINS).where(c.kind == "usual"), "TableScan coins"),
    "a negation is turned round": (sa.select(COINS).where(~(c.height >= 5)), "IndexScan by_height (height < ?1)"),
    "equalities joined by OR are one scan": (
        sa.select(COINS).where(sa.or_(c.height == 3, c.height == 5)),
        "IndexScan by_height (height IN (?1, ?2))",
    ),
    "a false condition reads nothing": (sa.select(COINS).where(sa.false()), "Nothing"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choice(coins, name):
    """The planner takes the access that a person would."""
    statement, expected = CHOICES[name]

    assert expected in coins.explain(statement)


def test_or_over_two_indexes_is_a_union(coins):
    """Each branch of an OR is answered by its own index, and a record found twice is given once."""
    statement = sa.select(COINS).where(sa.or_(c.name == "coin 00009", c.height == 0))

    text = coins.explain(statement)

    assert text.splitlines()[0].startswith("Union")
    assert "├─ IndexScan by_name (name = ?1)" in text
    assert "└─ IndexScan by_height (height = ?2)" in text
    assert len(coins.run(statement)) == 10


def test_an_or_with_a_branch_without_index_is_a_scan(coins):
    """One branch that needs a scan of everything makes the others needless."""
    assert "TableScan coins" in coins.explain(sa.select(COINS).where(sa.or_(c.height == 3, c.kind == "usual")))


def test_count_of_everything_is_the_row_count(coins):
    """count(*) without a condition reads one key."""
    text = coins.explain(sa.select(sa.func.count()).select_from(COINS))

    assert "RowCount coins" in text


def test_count_of_an_exact_range_decodes_nothing(coins):
    """count(*) of what an index bounds exactly counts its entries."""
    statement = sa.select(sa.func.count()).select_from(COINS).where(c.puzzle == key(3))

    text = coins.explain(statement)

    assert "Aggregate count(*)  of keys alone" in text
    assert "filter" not in text
    assert coins.run(statement) == [(sum(row[1] == key(3) for row in coin_rows()),)]


def test_a_count_of_what_is_never_null_needs_no_column(coins):
    """count(column) beside a group is answered by an index without that column, if it is never NULL."""
    statement = sa.select(c.height, sa.func.count(c.kind)).where(c.height < 3).group_by(c.height).order_by(c.height)

    assert "covering: yes" in coins.explain(statement)
    assert coins.run(statement) == [(0, 10), (1, 10), (2, 10)]


def test_extremes_are_one_seek_each(coins):
    """min() and max() of an indexed column read one entry each."""
    text = coins.explain(sa.select(sa.func.min(c.height), sa.func.max(c.height)), analyze=True)

    assert text.count("entries read: 1") == 2
    assert "Extremes" in text


def test_a_limit_reads_little(coins):
    """LIMIT on an index's order reads as many entries as it gives rows."""
    text = coins.explain(sa.select(COINS).order_by(c.height.desc()).limit(3), analyze=True)

    assert "entries read: 3" in text


def test_an_offset_fetches_nothing_that_it_leaves_out(coins):
    """OFFSET leaves entries out before their records are fetched."""
    view = coins.view()
    fetched: list[bytes] = []
    multi_get = view.multi_get
    view.multi_get = lambda cf, keys: fetched.extend(keys) or multi_get(cf, keys)  # type: ignore[func-returns-value]

    statement = sa.select(COINS).order_by(c.height.desc()).limit(3).offset(1000)
    prepared = coins.planner.prepare(statement, view)
    rows = list(prepared.rows(view, coins.loader(COINS)))

    assert [row[3] for row in rows] == [199, 199, 199]
    assert len(fetched) == 3


def test_a_limit_makes_a_top(coins):
    """What must be sorted for a LIMIT is held only as far as the limit reaches."""
    text = coins.explain(sa.select(COINS).order_by(c.amount).limit(3))

    assert "Top amount" in text
    assert text.splitlines()[0] == "Limit 3"


def test_few_rows_in_order_are_sorted_rather_than_sought(coins):
    """A selective condition and a sort beat walking an order for rows that are rare in it."""
    text = coins.explain(sa.select(COINS).where(c.puzzle == key(3)).order_by(c.name).limit(5))

    assert "by_puzzle (puzzle = ?1)" in text
    assert "Top name" in text


def test_conditions_on_entries_save_fetching(coins):
    """A condition on what an entry holds is tested before the record is fetched."""
    text = coins.explain(sa.select(COINS).where(c.height < 20, c.amount > 999_000), analyze=True)

    assert "entry filter: amount > ?2" in text
    assert "filter: height" not in text


def test_parameters_decide_the_plan_of_partial_indexes(coins):
    """One statement, two values: the index of rare coins serves one of them alone."""
    statement = sa.select(COINS).where(c.kind == sa.bindparam("kind"))

    assert "IndexScan rare" in coins.explain(statement, {"kind": "rare"})
    assert "TableScan" in coins.explain(statement, {"kind": "usual"})
    assert "IndexScan rare" in coins.explain(statement, {"kind": "rare"})
    assert len(coins.run(statement, {"kind": "rare"})) == 6


def test_a_table_that_grows_is_planned_anew(store):
    """A plan made for an empty table does not outlive its growth."""
    table = sa.Table(
        "g", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True), sa.Column("a", sa.Integer()),
        sa.Column("b", sa.Integer()), sa.Index("g_a", "a"), sa.Index("g_b", "b"),
    )  # fmt: skip
    store.create(table)
    statement = sa.select(table).where(table.c.a == 1, table.c.b == 1)
    store.run(statement)

    store.insert(table, [(n, 1, n) for n in range(2000)])
    assert "IndexScan g_b" in store.explain(statement)


def test_rare_and_common_values_have_plans_of_their_own(store):
    """A plan for a common value, which scans, is not taken for a rare one, which seeks."""
    table = sa.Table(
        "v", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True), sa.Column("a", sa.Integer()),
        sa.Column("b", sa.Integer()), sa.Index("v_a", "a"),
    )  # fmt: skip
    store.create(table, [(n, 1 if n else 0, n) for n in range(8000)])
    statement = sa.select(table).where(table.c.a == sa.bindparam("a"))

    assert "TableScan" in store.explain(statement, {"a": 1})
    assert "IndexScan v_a" in store.explain(statement, {"a": 0})


@pytest.mark.parametrize(
    ("value", "rows"), [(2.5, 30), (2, 20), (-1, 0), (10**30, COUNT), (float("inf"), COUNT), (-0.5, 0)]
)
def test_bounds_between_values_are_exact(coins, value, rows):
    """An int column compared with what lies between ints, or beyond all, is bound, not filtered."""
    statement = sa.select(COINS).where(c.height < value)

    text = str(coins.prepare(statement, using="by_height").explain(coins.view()))

    assert "filter" not in text
    assert len(coins.run(statement, using="by_height")) == rows


def test_bytes_of_another_length_are_bounds(coins):
    """A range of ids may be given by their beginnings."""
    first = key(256)[:7]

    assert len(coins.run(sa.select(COINS).where(c.coin_id < first))) == 256
    assert len(coins.run(sa.select(COINS).where(c.coin_id >= first + b"\0\0"))) == COUNT - 257
    assert coins.run(sa.select(COINS).where(c.coin_id == first)) == []


def test_a_key_too_long_to_be_stored_equals_nothing(store):
    """An equality with more bytes than a key can have finds no rows, and is no error."""
    table = sa.Table("l", sa.MetaData(), sa.Column("k", sa.String(), primary_key=True), sa.Column("a", sa.String()))
    sa.Index("l_a", table.c.a)
    store.create(table, [("x", "y")])

    assert store.run(sa.select(table).where(table.c.k == "x" * 600)) == []
    assert store.run(sa.select(table).where(table.c.a == "x" * 600)) == []
    assert store.run(sa.select(table).where(table.c.k <= "x" * 600)) == [("x", "y")]


def test_lists_that_multiply_to_many_ranges_are_filtered(store):
    """Two long IN lists on one index give ranges for the first and a filter for the second."""
    table = sa.Table(
        "m", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True), sa.Column("a", sa.Integer()),
        sa.Column("b", sa.Integer()), sa.Index("m_ab", "a", "b"),
    )  # fmt: skip
    store.create(table, [(n, n % 100, n // 100) for n in range(5000)])
    many = list(range(100))
    assert len(many) ** 2 > MOST_RANGES

    found = store.run(sa.select(table).where(table.c.a.in_(many), table.c.b.in_(many)), using="m_ab")

    assert len(found) == 5000


def test_many_merged_ranges_are_in_order(store):
    """More ranges than are merged side by side give their rows in order all the same."""
    table = sa.Table(
        "o", sa.MetaData(), sa.Column("k", sa.Integer(), primary_key=True), sa.Column("a", sa.Integer()),
        sa.Column("b", sa.Integer()), sa.Index("o_ab", "a", "b"),
    )  # fmt: skip
    store.create(table, [(n, n % 100, (n * 7919) % 1000) for n in range(1000)])
    statement = sa.select(table).where(table.c.a.in_(range(100))).order_by(table.c.b.desc())

    found = [row[2] for row in store.run(statement, using="o_ab")]

    assert found == sorted(found, reverse=True)


def test_explain_is_a_tree_with_figures(coins):
    """The tree names index, bounds, filter, order and the estimate; analyze adds what happened."""
    statement = sa.select(COINS).where(c.puzzle == key(3), c.kind == "usual").order_by(c.height).limit(10)

    lines = coins.explain(statement).splitlines()
    assert lines[0] == "Limit 10"
    assert lines[1].startswith("└─ IndexScan by_puzzle (puzzle = ?1)  order: height  covering: no  estimated rows: ")
    assert lines[2].strip() == "filter: kind = ?2"

    measured = coins.explain(statement, analyze=True)
    assert "actual rows: 10" in measured
    assert "entries read: " in measured
    assert "time: " in measured


def test_an_index_that_leads_nowhere_is_corruption(coins):
    """An entry whose record is not there is reported, not left out."""
    stored = coins.tables["coins"]
    coins.backend.delete("coins", stored.codec.key((key(9),)))

    with pytest.raises(exc.Corruption, match="by_name leads to the record coins"):
        coins.run(sa.select(COINS).where(c.name == "coin 00009"))


def test_indexes_that_are_being_built_are_not_used(store):
    """An index is no plan's before it is readable."""
    store.create(COINS, coin_rows()[:50])
    stored = store.tables["coins"]
    del stored.readable["by_name"]

    assert "TableScan" in store.explain(sa.select(COINS).where(c.name == "coin 00009"))


def test_forcing_an_index_that_cannot_answer_is_refused(coins):
    """``using`` names a family that must be able to answer the statement."""
    with pytest.raises(exc.ArgumentError, match="by_spent cannot answer this query on coins"):
        coins.run(sa.select(COINS), using="by_spent")
