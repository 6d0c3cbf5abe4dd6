"""Statements as text over UInt64 columns: right, or refused, and never silently wrong."""

from __future__ import annotations

import pytest

from kvdialect import Mapped, UInt64, create_engine, exc, field, mapped, registry
from kvdialect.dialect import functions
from kvdialect.dialect.dbapi import connect
from kvdialect.schema import tokens

models = registry()
BIG = 18_446_744_000_000_000_000
ROWS = [(1, 5, 10), (2, 2**63, 20), (3, BIG, 10), (4, 2**63 - 1, 20)]


@mapped(models)
class Coin:
    """A column that SQLite has no integers for."""

    __tablename__ = "coins"
    id: Mapped[int] = field(primary_key=True)
    amount: Mapped[UInt64] = field(index=True)
    height: Mapped[int] = 0


@pytest.fixture(scope="module")
def connection():
    """A connection to a store whose coins are those of ROWS, with a view of them and a table of SQL's."""
    with create_engine("memory://") as store:
        models.create_all(store)
        opened = connect(store=store)
        opened.executemany("insert into coins values (?, ?, ?)", ROWS)
        opened.execute("create view seen as select id, amount as much from coins")
        opened.execute("create table plain (id integer primary key, n)")
        opened.execute("insert into plain values (1, 7), (2, 8)")
        opened.commit()
        yield opened
        opened.close()


def rows(connection, sql, params=()):
    """The rows of a statement, with blobs as the integers that they stand for."""
    found = connection.execute(sql, params).fetchall()
    return [tuple(int.from_bytes(value) if isinstance(value, bytes) else value for value in row) for row in found]


RIGHT = {
    "select amount from coins order by amount": [(5,), (2**63 - 1,), (2**63,), (BIG,)],
    "select id from coins where amount > 9223372036854775807 order by id": [(2,), (3,)],
    "select id from coins where amount = 18446744000000000000": [(3,)],
    "select id from coins where amount in (5, 9223372036854775808) order by 1": [(1,), (2,)],
    "select id from coins where amount between 6 and 9223372036854775808 order by 1": [(2,), (4,)],
    "select count(*) from coins where amount < 18446744000000000000": [(3,)],
    "select amount from coins where amount > 1.8e19": [(BIG,)],
    "select max(amount), min(amount), count(distinct amount) from coins": [(BIG, 5, 4)],
    "select sum(amount) from coins where id < 3": [(2**63 + 5,)],
    "select height, sum ( amount ) from coins where id < 4 group by height order by 1": [(10, BIG + 5), (20, 2**63)],
    "select avg(amount) from coins where id in (2, 3)": [((2**63 + BIG) / 2,)],
    "select total(amount) from coins": [(float(sum(row[1] for row in ROWS)),)],
    "select abs(amount) from coins where id = 3": [(BIG,)],
    "select sum(amount) over (order by id rows 1 preceding) from coins where id <= 2": [(5,), (2**63 + 5,)],
    "select kv_add(amount, 1), kv_sub(amount, 1) from coins where id = 2": [(2**63 + 1, 2**63 - 1)],
    "select height + 1, amount from coins where id = 3": [(11, BIG)],
    "select p.n + 1, c.amount from coins c join plain p on p.id = c.id order by c.amount": [(8, 5), (9, 2**63)],
    "select coalesce(amount, 0), nullif(amount, 5), typeof(height) from coins where id = 3": [(BIG, BIG, "integer")],
    "select height + 1 from coins group by height having max(amount) > 2 order by 1": [(11,), (21,)],
    "select lag(amount) over (order by id), rank() over (order by amount) + 1 from coins where id > 1 order by id": [
        (None, 3), (2**63, 4), (BIG, 2),
    ],
    "with big as (select amount a, id from coins) select a, id * 2 from big where id = 2": [(2**63, 4)],
    "select distinct amount from (select amount from coins union select much from seen) order by 1": [
        (5,), (2**63 - 1,), (2**63,), (BIG,),
    ],
    "select much from seen where id = 3": [(BIG,)],
    "select (select amount from coins w where w.id = p.id), p.n * 2 from plain p order by p.id": [(5, 14), (2**63, 16)],
    "select n + 1 from plain where exists (select 1 from coins w where w.amount > plain.n) order by 1": [(8,), (9,)],
    "select case when amount > 6 then amount else 0 end from coins order by id": [(0,), (2**63,), (BIG,), (2**63 - 1,)],
}  # fmt: skip


@pytest.mark.parametrize("sql", RIGHT)
def test_statements_that_do_not_calculate_give_the_values(connection, sql):
    """Comparisons, order, groups, joins, and the aggregates that are ours."""
    assert rows(connection, sql) == RIGHT[sql]


REFUSED = [
    "select amount + 1 from coins",
    "select amount - amount from coins",
    "select -amount from coins",
    "select ~amount, amount & 1 from coins",
    "select cast(amount as text) from coins",
    "select cast(amount as real) from coins",
    "select amount || '' from coins",
    "select id from coins where amount",
    "select id from coins where not amount",
    "select id from coins where amount + 0 > 5",
    "select id from coins where coalesce(amount, 0) > 1.8e19",
    "select id from coins order by amount % 7",
    "select amount / 2, count(*) from coins group by amount / 2",
    "select round(amount) from coins",
    "select printf('%d', amount) from coins",
    "select group_concat(amount) from coins",
    "select amount like '1%' from coins",
    "select case when amount then 1 end from coins",
    "select max(amount) + 1 from coins group by height",
    "select kv_add(amount, 1) * 2 from coins",
    "select sum(amount) + 1 from coins where id = 3",
    "select a * 2 from (select distinct amount a, height from coins order by height)",
    "select much + 1 from seen",
    "select x.amount - y.amount from coins x join coins y on x.height = y.height",
    "select (select amount from coins w where w.id = p.id) + 1 from plain p",
    "with recursive r(n) as (select amount from coins union all select n + 1 from r where n < 9) select * from r",
    "select p.id from plain p join coins c on c.amount + 1 = p.n",
    "update coins set amount = amount + 1",
    "update plain set n = (select amount + 1 from coins w where w.id = 2)",
    "insert into plain (n) select amount * 2 from coins",
    "delete from coins where amount * 2 > 5",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_statements_that_calculate_are_refused(connection, sql):
    """SQLite would take the value for 0: the error says which value of which column."""
    with pytest.raises(exc.DataError, match=r"coins\.amount is (9223372036854775808|18446744000000000000)"):
        rows(connection, sql)
    connection.rollback()

    assert rows(connection, "select count(*), kv_total(amount) from coins") == [(4, float(sum(r[1] for r in ROWS)))]


def test_values_that_sqlite_can_calculate_with_are_calculated_with(connection):
    """Only what would be wrong is refused."""
    assert rows(connection, "select amount + 1 from coins where id = 1") == [(6,)]
    assert rows(connection, "select n + 1 from plain order by id") == [(8,), (9,)]


def test_one_statement_does_not_make_another_strict(connection):
    """Two cursors, read in turns."""
    plain = connection.execute("select amount from coins order by id")
    assert plain.fetchone() == (5,)
    strict = connection.execute("select amount + 1 from coins order by id")
    assert strict.fetchone() == (6,)

    assert plain.fetchone() == ((2**63).to_bytes(8),)
    with pytest.raises(exc.DataError, match="9223372036854775808"):
        strict.fetchall()


def test_columns_keep_the_names_that_were_written(connection):
    """What stands in a function's place does not show."""
    cursor = connection.execute("select sum(amount), avg(amount) as mean from coins where id = 1")

    assert [column[0] for column in cursor.description] == ["sum(amount)", "mean"]


def test_a_wide_integer_may_be_written_and_bound(connection):
    """As a number in the text, and as a parameter of VALUES."""
    connection.execute("insert into coins values (10, 18446744000000000001, 0)")
    connection.execute("insert into coins values (?, ?, 0)", (11, 2**64 - 1))

    assert rows(connection, "select amount from coins where id >= 10") == [(BIG + 1,), (2**64 - 1,)]
    connection.rollback()


@pytest.mark.parametrize("bound", [18 * 10**18, 1.8e19])
def test_numbers_beyond_sql_are_compared_as_numbers(connection, bound):
    """As parameters, on whatever way the rows are found."""
    for where in ("amount > ?", "amount >= ? and id + 0 > 0", "coalesce(amount, 0) > ?"):
        assert rows(connection, f"select id from coins where {where}", (bound,)) == [(3,)]
        below = where.replace(">= ?", "< ?").replace("> ?", "< ?")
        found = rows(connection, f"select id from coins where {below} order by id", (bound,))
        assert found == [(1,), (2,), (4,)]
    assert rows(connection, "select count(*) from coins where amount < ?", (2**64,)) == [(4,)]
    assert rows(connection, "select count(*) from coins where amount < ? and id + 0 > 0", (1e30,)) == [(4,)]


def test_what_is_no_wide_integer_is_refused(connection):
    """A float has lost digits, and other numbers have no place in the column."""
    for value in ("-1", "1.8e19", "18446744073709551616", "x'01'", "1.5", "'many'"):
        with pytest.raises(exc.DataError, match=r"coins\.amount"):
            connection.execute(f"insert into coins values (10, {value}, 0)")
    connection.rollback()


def test_the_rewriting_reads_tokens():
    """Names, strings and comments with the same words stay as they are."""
    sql = "select sum, t.sum, 'sum(x)', \"sum\"(x), SUM (x) /* sum(x) */ from t where n = 18446744073709551615"

    text = functions.rewritten(sql)

    assert text == (
        "select sum, t.sum, 'sum(x)', \"sum\"(x), kv_sum (x) /* sum(x) */ from t where n = X'ffffffffffffffff'"
    )
    assert len(tokens.tokenize(text)) == len(tokens.tokenize(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "insert into coins values (3, 1, 0) on conflict (id) do update set amount = coins.amount + 1",
        "insert into coins values (1, 18446744000000000000, 0) on conflict do update set amount = excluded.amount - 1",
        "insert into coins values (3, 1, 0) on conflict do update set height = 5 where coins.amount * 2 > 5",
        "insert into coins values (1, 1, 0) on conflict do update set height = (select max(amount) from coins) + 1",
        "insert into coins values (9, 18446744000000000000, 0) returning amount + 1",
        "update coins set height = height + 1 where id = 3 returning -amount",
        "delete from coins where id = 3 returning round(amount)",
    ],
)
def test_upserts_and_returning_that_calculate_are_refused(connection, sql):
    """The rows that a statement writes are read as strictly as those of a table; nothing is written."""
    with pytest.raises(exc.DataError, match=r"coins\.amount is (18446744000000000000|9223372036854775808)"):
        connection.execute(sql)

    assert rows(connection, "select * from coins order by id") == ROWS
    connection.rollback()


def test_upserts_and_returning_that_do_not_calculate_give_the_values(connection):
    """Comparisons, our functions, and numbers bound from 2**63 on."""
    upsert = "insert into coins values (3, ?, 0) on conflict (id) do update set amount = "
    for change, bound, wanted in (
        ("excluded.amount", (2**63,), 2**63),
        ("kv_add(excluded.amount, coins.height)", (2**63,), 2**63 + 10),
        ("max(coins.amount, excluded.amount) where coins.amount > ?", (7, 2**63), 2**63 + 10),
        ("7 where coins.amount < ?", (7, 2**63), 2**63 + 10),
    ):
        connection.execute(upsert + change, bound)
        assert rows(connection, "select amount from coins where id = 3") == [(wanted,)]
    cursor = connection.execute("update coins set height = 1 where id = 3 returning abs(amount), id + 1")

    assert cursor.fetchall() == [((2**63 + 10).to_bytes(8), 4)]
    assert [column[0] for column in cursor.description] == ["abs(amount)", "id + 1"]
    connection.rollback()


def test_tables_of_sqls_own_may_have_such_columns(connection):
    """A column declared UINT64 holds what SQLAlchemy's UnsignedInteger(64) binds, and is read as strictly."""
    connection.execute("create table own (id integer primary key, much UINT64)")
    connection.execute("insert into own values (1, ?), (2, 18446744000000000000)", ((2**63).to_bytes(8),))

    assert rows(connection, "select sum(much) from own where id = 1") == [(2**63,)]
    assert rows(connection, "select id from own where much > ?", (2**63,)) == [(2,)]
    assert rows(connection, "select kv_sub(much, 1) from own where id = 2") == [(BIG - 1,)]
    with pytest.raises(exc.DataError, match=r"own\.much is 9223372036854775808"):
        rows(connection, "select much + 1 from own order by id")
    connection.rollback()


def test_statements_over_such_columns_are_explained(connection):
    """EXPLAIN and EXPLAIN QUERY PLAN calculate nothing, and have their rows."""
    cursor = connection.execute("explain query plan select sum(amount) from coins where amount > 9223372036854775808")

    assert any("coins" in row[3] for row in cursor.fetchall())
    assert connection.execute("explain select amount + 1 from coins").fetchall()
    connection.rollback()
