"""Joins on columns without an index: the same rows as SQLite, by a few scans and not by one for each row."""

from __future__ import annotations

from itertools import product

import pytest
from twins import Twins

from kvdialect import Mapped, UInt64, create_engine, field, mapped, registry
from kvdialect.dialect import matching
from kvdialect.dialect.explaining import explained
from kvdialect.dialect.statements import parse
from kvdialect.store.engine import open_engine
from kvdialect.store.transaction import Transaction

AFFINITIES = ("integer", "real", "numeric", "text", "text collate nocase", "text collate rtrim", "blob", "")
VALUES = [
    "0", "1", "1.0", "'1'", "'1.0'", "' 1 '", "'1e0'", "'01'", "0.5", "'0.5'", "x'31'", "'a'", "'A'", "'a '", "'A  '",
    "''", "null",
    "9007199254740993", "'9007199254740993'", "'9223372036854775808'",
    "9223372036854775807", "'é'", "'É'", "'x1'", "'0x10'", "'inf'", "char(97, 0)",
]  # fmt: skip


@pytest.fixture
def twins(url):
    with open_engine(url) as store:
        both = Twins(store)
        yield both
        both.close()


@pytest.fixture
def scans(monkeypatch):
    """The scans of families since this fixture was set up."""
    made = []
    scan = Transaction.scan

    def counted(self, cf, *args, **options):
        made.append(cf)
        return scan(self, cf, *args, **options)

    monkeypatch.setattr(Transaction, "scan", counted)
    return made


def _table(twins, name, columns, rows=200):
    """A table of many rows, the first of which have the odd values in all columns."""
    twins.script(f"create table {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
    odd = ", ".join(f"({', '.join([value] * len(columns))})" for value in VALUES)
    twins.script(f"insert into {name} values {odd}")
    numbers = ", ".join(f"n % {7 + at}" for at in range(len(columns)))
    counted = f"with recursive g(n) as (select 2 union all select n + 1 from g where n < {rows})"
    twins.script(f"insert into {name} {counted} select {numbers} from g")


@pytest.mark.parametrize(("one", "other"), [(a, b) for a, b in product(AFFINITIES, AFFINITIES)])
def test_whatever_is_equal_is_found(twins, one, other):
    """By any affinity and collation of both sides: numbers as text, text in any case, NULL, which equals nothing."""
    _table(twins, "x", {"id": "", "a": one})
    _table(twins, "y", {"id": "", "a": other})

    for test in ("x.a = y.a", "y.a = x.a", "x.a = y.a collate nocase", "x.id = y.id and x.a = y.a", "x.a is y.a"):
        twins.run(f"select x.id, x.a, typeof(x.a), y.a, typeof(y.a) from x join y on {test} order by 1, 2, 3, 4, 5")
    twins.run("select count(*), count(y.id) from x left join y on y.a = x.a")


def test_what_is_written_otherwise_is_one_key():
    """Numbers end at a NUL, and infinity is a word where it becomes text."""
    assert matching.match_key("5\0") == matching.match_key(" 5 ") == matching.match_key(5.0) == 5
    assert len({matching.match_key(each) for each in (float("inf"), "Inf", "+inf", "9e999", "inf ")}) == 1
    assert matching.match_key(float("-inf")) == matching.match_key("-Inf") != matching.match_key("inf")
    assert matching.match_key("a\0") != matching.match_key("a")
    assert matching.match_key(None) is None


def test_few_scans_serve_a_join(twins, scans):
    """A scan for each row of the outer table would be a hang, where SQLite makes an index of its own."""
    _table(twins, "x", {"a": "integer", "b": "integer"}, 3000)
    _table(twins, "y", {"a": "integer", "b": "integer"}, 3000)
    for statement in (
        "select count(*) from x join y on x.a = y.b",
        "select count(*) from x left join y on x.a = y.b and y.a = x.b",
        "select count(*) from x where exists (select 1 from y where y.b = x.a)",
        "select count(*) from x where a in (select b from y)",
        "select x.a, (select max(y.a) from y where y.b = x.a) from x",
        "select x.a, (select y.a from y where y.b is x.a limit 1) is null from x",
        "select x.a from x where x.b > 2 and exists (select 1 from y where y.b = x.a limit 3) order by x.rowid limit 9",
        "select count(*) from x, y, x as z where x.a = y.b and y.a = z.b and z.a = 3",
        "update x set b = y.a from y where y.b = x.a and y.a < 5",
        "delete from x where (select count(*) from y where y.b = x.a) > 500",
        "insert into x select x.a, y.b from x join y on x.a = y.b where x.b = 3 and y.a = 4",
    ):
        scans.clear()
        twins.run(statement)
        assert len(scans) <= 8, statement
    twins.same("x", "y")


def test_rows_that_are_written_meanwhile(twins):
    """What was looked up for one statement is nothing to the next one, nor to one that is read while another writes."""
    _table(twins, "x", {"a": "integer"})
    _table(twins, "y", {"a": "integer", "b": "integer"})
    join = "select count(*) from x join y on x.a = y.a"
    twins.run(join)
    twins.script("update y set a = a + 1", "insert into y values (3, 3)")
    twins.run(join)
    twins.script("savepoint s", "delete from y where a < 5")
    twins.run(join)
    twins.script("rollback to s")
    twins.run(join)
    twins.script(
        "update y set b = (select count(*) from y as other where other.a = y.a)",
        "update y set a = (select min(a) from x where x.a = y.b)",
        "delete from y where exists (select 1 from y as other where other.a = y.a and other.rowid < y.rowid)",
    )
    twins.same("y")


@pytest.mark.parametrize("kept", ["rows", "keys", "nothing"])
def test_tables_of_any_size(twins, kept, monkeypatch):
    """Of large tables keys are kept for rows, and of larger ones nothing."""
    monkeypatch.setattr(matching, "_KEPT", 1 << 30 if kept == "rows" else 0)
    monkeypatch.setattr(matching, "_MOST", 0 if kept == "nothing" else 1 << 30)
    twins.script("create table w (k text, j integer, v integer, primary key (k, j)) without rowid")
    _table(twins, "x", {"a": "integer"})
    twins.script("insert into w select 'k' || rowid, a, rowid from x where typeof(a) = 'integer'")
    twins.run("select x.rowid, w.k, w.v from x join w on w.v = x.a order by 1, 2, 3")
    twins.script("update w set v = -1 from x where x.a = w.v and x.a > 3")
    twins.same("w")


def test_it_is_explained(twins):
    """EXPLAIN says so, as a hint that an index would help; with one, and where a constant is stated, it does not."""
    _table(twins, "x", {"a": "integer"})
    _table(twins, "y", {"a": "integer", "b": "integer"})
    text = "\n".join(explained(twins.ours, "select * from x join y on x.a = y.a"))
    assert "rows by an automatic index (a = ?)" in text
    twins.script("create index y_a on y (a)")
    assert "automatic" not in "\n".join(explained(twins.ours, "select * from x join y on x.a = y.a"))
    assert "automatic" not in "\n".join(explained(twins.ours, "select count(b + 1) from y where b = 5"))


def test_rows_in_order_are_read_no_further_than_needed(twins):
    """SQLite tells of LIMIT for the simplest statements only; the index in the order asked for was left for a sort."""
    _table(twins, "x", {"a": "integer", "b": "text"}, 2000)
    _table(twins, "y", {"c": "integer", "d": "integer"}, 300)
    twins.script("create index y_d on y (d)", "create index x_a on x (a)")
    for statement in (
        "select * from x where b in ('1', '2', '3') order by a, rowid limit 20",
        "select * from x where b like '%1%' order by a desc, rowid desc limit 20",
        "select x.rowid, y.d from x join y on y.d = x.b where x.b <> 3 order by x.a, x.rowid limit 5",
        "select f.*, y.d from (select * from x where b || a > '3' order by a limit 7) as f left join y on y.d = 5",
    ):
        assert any("x_a" in line for line in explained(twins.ours, statement)), statement
    twins.run("select a from x where b in ('1', '2', '3') order by a limit 20")
    twins.run("select a from x where b like '%1%' order by a desc limit 20")
    twins.run("select x.a from x join y on y.d = x.b where x.b <> 3 order by x.a limit 5")
    twins.run("select y.d from y left join x on x.b = y.d where y.c > 3 order by x.a limit 5")


def test_records_with_wide_integers():
    """Integers beyond SQL's are blobs to it, on both sides of a join."""
    models = registry()

    @mapped(models)
    class Coin:
        __tablename__ = "coins"
        id: Mapped[int] = field(primary_key=True)
        amount: Mapped[UInt64]
        other: Mapped[UInt64]

    with create_engine("memory://") as engine:
        models.create_all(engine)
        engine.bulk_load(Coin, [Coin(n, 2**63 + n % 90, 2**63 + n % 50) for n in range(300)])
        with engine.sqlalchemy().connect() as connection:
            sql = "select count(*) from coins as a join coins as b on a.amount = b.other"
            found = connection.exec_driver_sql(sql).scalar()
    assert found == sum(a % 90 == b % 50 for a in range(300) for b in range(300))


@pytest.mark.parametrize("action", ["cascade", "set null", "set default", "restrict", "no action"])
def test_few_scans_serve_the_actions_of_a_foreign_key(twins, scans, action):
    """A foreign key without an index, as SQLAlchemy makes them: a scan for each parent that goes would be a hang."""
    twins.script(
        "create table p (id integer primary key)",
        f"create table c (id integer primary key, p integer default 1 references p on delete {action}, q integer)",
        "insert into p with recursive g(n) as (select 1 union all select n + 1 from g where n < 300) select n from g",
        "insert into c with recursive g(n) as (select 1 union all select n + 1 from g where n < 900)"
        " select n, case when n % 3 then n % 290 + 10 end, n from g",
    )
    scans.clear()
    twins.run("delete from p where id > 20")
    twins.run("delete from p where id < 10 and id > 1")
    twins.run("delete from p")
    assert len(scans) <= 20
    twins.same("p", "c")


def test_children_that_get_another_parent_meanwhile(twins):
    """SET DEFAULT and ON UPDATE CASCADE make rows refer to others in the statement that takes these away too."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p integer default 40 references p on delete set default"
        " on update cascade)",
        "insert into p with recursive g(n) as (select 1 union all select n + 1 from g where n < 40) select n from g",
        "insert into c select id, id from p",
    )
    twins.run("delete from p where id < 40")
    twins.same("p", "c")
    twins.script("insert into p values (1), (2), (3), (4), (5), (6), (7)", "update c set p = id % 7 + 1")
    twins.run("update p set id = id + 100 where id < 8")
    twins.same("p", "c")


def test_a_tree_that_goes_root_first(twins, scans):
    """Rows that refer to rows of their own table."""
    twins.script(
        "create table t (id integer primary key, parent integer references t on delete cascade)",
        "insert into t with recursive g(n) as (select 1 union all select n + 1 from g where n < 500)"
        " select n, nullif(n / 2, 0) from g",
    )
    scans.clear()
    twins.run("delete from t where id = 3")
    assert len(scans) <= 12
    twins.same("t")
    twins.run("delete from t")
    twins.same("t")


def test_the_least_and_the_greatest_value_are_those_at_the_ends_of_an_index(twins):
    """And are found there: SQLite itself would read all rows of a virtual table."""
    twins.script(
        "create table k (id integer primary key, a integer, b text collate nocase, c real not null, d)",
        "create index ka on k (a)",
        "create index kb on k (b desc)",
        "create index kd on k (d, a)",
        "insert into k with recursive g(n) as (select 1 union all select n + 1 from g where n < 500)"
        " select n, nullif(n % 97, 3), char(65 + n % 50), n / 7.0, n % 5 from g",
        "insert into k (c) values (1), (2)",
    )
    direct = ["max(a)", "min(a)", "max(id)", "min(id)", "max(d)", "min(d) as m", "MAX ( k.a ) AS x"]
    other = [
        "max(b)",
        "min(b)",
        "max(c)",
        "min(c)",
        "max(a, b)",
        "max(distinct a)",
        "max(a), min(a)",
        "max(a + 1)",
        "max(a) + 1",
    ]
    conditions = ["", " where d = 3", " where a > 5", " where a < 0", " where id between 5 and 9", " where d = 77"]
    for what in direct + other:
        sql = f"select {what} from k"
        ours, theirs = twins.ours.execute(sql), twins.theirs.execute(sql)
        assert ours.description[0][0] == theirs.description[0][0]
        assert (twins.ours._plan(sql, parse(sql)) is not None) == (what in direct), what
        for condition in conditions:
            twins.run(sql + condition)
    twins.run("select max(a) from k where d = ?", (2,))
    twins.script("delete from k")
    twins.run("select max(a) from k")
    twins.run("select min(id) from k")
