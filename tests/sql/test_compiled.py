"""The compiled virtual tables beside those of Python: the same rows, the same errors, nothing left behind."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import weakref

import pytest

from kvdialect import Mapped, UInt64, create_engine, exc, field, mapped, registry
from kvdialect.dialect import compiled, relations, virtual
from kvdialect.dialect.dbapi import connect

PURE = os.environ.get("KVDIALECT_PURE_PYTHON", "0") not in ("", "0")
needs_compiled = pytest.mark.skipif(not compiled.available, reason="the package was built without its compiled tables")

models = registry()


@mapped(models)
class Coin:
    """A record with a column that SQLite has no integers for."""

    __tablename__ = "coins"
    id: Mapped[int] = field(primary_key=True)
    amount: Mapped[UInt64] = field(index=True)
    note: Mapped[str | None] = None


WIDE = 70  # columns; SQLite tells the use of those from the 63rd on together

SCHEMA = [
    "create table a (id integer primary key, name text, x real, b blob, u unique)",
    "create index a_x on a (x)",
    "create table w (k text, j integer, v, primary key (k, j)) without rowid",
    "create table n (z, y)",
    "create table empty (id integer primary key)",
    f"create table wide (id integer primary key, {', '.join(f'c{at}' for at in range(1, WIDE))})",
]


def fill(connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)
    connection.executemany(
        "insert into a values (?, ?, ?, ?, ?)",
        [(n, f"nåme{n}", n / 4, b"b%d\0" % n, None if n % 3 else n) for n in range(-2, 1500)],
    )
    connection.execute(
        "insert into a values (5000, '', 1e300, x'', 'u'), (5001, 'nul' || char(0) || 'l', -1.5, null, 1.5)"
    )
    connection.executemany("insert into w values (?, ?, ?)", [(f"k{n % 7}", n, n % 5 or None) for n in range(700)])
    connection.execute("insert into n values (1, 'a'), (null, 'b'), ('t', x'00ff'), (9223372036854775807, 2.5)")
    connection.executemany(
        f"insert into wide values ({', '.join('?' * WIDE)})", [[n * 100 + at for at in range(WIDE)] for n in range(3)]
    )
    connection.executemany(
        "insert into coins values (?, ?, ?)", [(1, 5, "a"), (2, 2**63, None), (3, 2**64 - 1, "c"), (4, 7, "d")]
    )


@pytest.fixture
def pair(engine_name, tmp_path, monkeypatch):
    """Two connections to stores of the same rows: the compiled one, and one of Python."""
    with (
        create_engine("memory://" if engine_name == "memory" else f"{engine_name}:////{tmp_path}/one") as one,
        create_engine("memory://" if engine_name == "memory" else f"{engine_name}:////{tmp_path}/two") as two,
    ):
        opened = []
        for store in (one, two):
            models.create_all(store)
            opened.append(connect(store=store))
            monkeypatch.setattr(compiled, "create_module", lambda *_: False)
            fill(opened[-1])
        yield opened
        for connection in opened:
            connection.close()


def outcome(connection, sql, params=()):
    try:
        cursor = connection.execute(sql, params)
        return cursor.fetchall() if cursor.description else cursor.rowcount
    except exc.Error as error:
        return type(error).__name__, str(error)


def planned(connection, sql):
    """The plan of a statement, without what a module notes for itself behind the number of an index."""
    found = outcome(connection, "explain query plan " + sql)
    return (
        [(*row[:3], re.sub(r"(INDEX \d+:)\w+", r"\1", row[3])) for row in found] if isinstance(found, list) else found
    )


STATEMENTS = [
    "select count(*), sum(id), group_concat(name, '') from a where id + 0 < 40",
    "select id + 0, name || 'x', x + 1, b || '', typeof(u), u from a where id % 499 in (0, 1, 2) order by id + 0",
    "select length(name), hex(b), x from a where id + 0 >= 5000",
    "select max(name || ''), min(x + 0), count(distinct b) from a",
    "select a.name, c.x from a join a c on c.id = a.id + 1 where a.id + 0 between 3 and 6",
    "select count(*), sum(c.x) from a join a c on c.id = a.id + 1",
    "select count(*) from a left join w on w.j = a.id and w.k = 'k1' where w.v is null",
    "select k || '', count(v), sum(j) from w group by k having sum(j) > 10 order by 1 desc",
    "select j, v from w where k = 'k3' and j + 0 > 600 order by j desc limit 3 offset 1",
    "select rowid + 0, z, y, typeof(z) from n order by rowid desc",
    "select 1 from n",
    "select count(*) from n, n m",
    "select 'x' from w where j < 5",
    "select * from empty, a",
    "select id, c62 + c63 + c64, c69 from wide where c1 + c68 > 0",
    "select w.* from wide w join wide v on v.id = w.id where v.c66 > 100",
    "select id, amount from coins where note || '' = 'c'",
    "select sum(amount), max(amount) from coins where note is not 'x'",
    "select amount + 1 from coins where id + 0 < 4",
    "select amount * 2 from coins where id + 0 = 1",
    "with recursive t (i) as (values (1) union all select i + 1 from t where i < 9) select * from t join a on id = i",
    "select id, row_number() over (order by x desc) from a where id + 0 < 4",
    "update a set name = upper(name) where id % 500 = 1 and x + 0 > 0",
    "update a set id = id + 10000 where name like 'nåme7%' and id + 0 < 80",
    "update a set id = 3 where id + 0 = 4",
    "update w set v = j, k = k || '!' where j % 100 = 5 and v is not null or 0",
    "update coins set note = 'n' || id where amount > 5 and id + 0 > 0",
    "delete from a where x + 1 > 300 and id < 1400",
    "delete from w where k || j in ('k15', 'k21')",
    "insert into n select name, x from a where id + 0 < 3 union all select * from n",
    "select count(*), sum(length(name)), sum(x) from a where id + 0 <> 7",
    "select k, j, v from w where j + 0 < 30 order by 1, 2",
    "select rowid, z, y from n where typeof(z) <> 'x'",
    "select id + 0, note from coins where note is not null or 1",
    "select abs(-9223372036854775808 + id * 0) from a where id + 0 < 3",
    "select name from a where regexp_missing(name)",
]


@needs_compiled
def test_both_do_the_same(pair):
    ours, pure = pair
    for sql in STATEMENTS:
        assert outcome(ours, sql) == outcome(pure, sql), sql
        assert planned(ours, sql) == planned(pure, sql)
    assert len(outcome(ours, STATEMENTS[1])) > 5


@needs_compiled
def test_many_and_large_rows_come_whole(pair):
    for connection in pair:
        connection.execute("create table large (id integer primary key, b)")
        connection.executemany("insert into large values (?, ?)", [(n, bytes([n % 256]) * 70_000) for n in range(30)])
    for connection in pair:
        found = outcome(connection, "select id + 0, length(b), hex(substr(b, 1, 1)) from large where length(b) > 5")
        assert found == [(n, 70_000, f"{n:02X}") for n in range(30)]


def test_a_limit_reads_few_rows(monkeypatch):
    read = []
    rows = relations.Path.rows

    def counted(self, *args, **options):
        for pair in rows(self, *args, **options):
            read.append(pair)
            yield pair

    with create_engine("memory://") as store:
        connection = connect(store=store)
        connection.execute("create table a (id integer primary key, name)")
        connection.executemany("insert into a values (?, ?)", [(n, str(n)) for n in range(3000)])
        monkeypatch.setattr(relations.Path, "rows", counted)
        assert connection.execute("select name || '!' from a limit 1").fetchall() == [("0!",)]
        assert len(read) <= 5
        cursor = connection.execute("select name || '!' from a")
        assert cursor.fetchmany(30) == [(f"{n}!",) for n in range(30)]
        assert len(read) <= 200
        connection.close()


def test_an_error_while_rows_are_read_is_raised_and_no_other_follows(monkeypatch):
    with create_engine("memory://") as store:
        connection = connect(store=store)
        connection.execute("create table a (id integer primary key, name)")
        connection.executemany("insert into a values (?, ?)", [(n, str(n)) for n in range(300)])

        def damaged(self, txn, *args, **options):
            yield from list(rows(self, txn, *args, **options))[:100]
            raise exc.Corruption("a block is damaged", cf="a", key=b"k")

        rows = relations.Path.rows
        with monkeypatch.context() as patch:
            patch.setattr(relations.Path, "rows", damaged)
            for _ in range(3):
                with pytest.raises(exc.Corruption, match="a block is damaged"):
                    connection.execute("select count(name || '') from a").fetchall()
        assert connection.execute("select count(name || '') from a").fetchall() == [(300,)]
        with pytest.raises(exc.IntegrityError, match=r"UNIQUE constraint failed: a\.id"):
            connection.execute("update a set id = 5 where id + 0 = 6")
        assert connection.execute("select count(name || '') from a").fetchall() == [(300,)]
        connection.close()


def test_nothing_is_left_of_a_statement(monkeypatch):
    alive = []
    rows = relations.Path.rows

    def watched(self, *args, **options):
        found = rows(self, *args, **options)

        def each():
            yield from found

        alive.append(weakref.ref(each))
        return (pair for pair in each())

    made = []
    opened = virtual._Table.Open

    def open_table(self):
        cursor = opened(self)
        made.append(cursor)
        return cursor

    with create_engine("memory://") as store:
        connection = connect(store=store)
        connection.execute("create table a (id integer primary key, name)")
        connection.executemany("insert into a values (?, ?)", [(n, str(n)) for n in range(300)])
        monkeypatch.setattr(relations.Path, "rows", watched)
        monkeypatch.setattr(virtual._Table, "Open", open_table)
        assert len(connection.execute("select name || '' from a").fetchall()) == 300
        cursor = connection.execute("select name || '' from a")
        cursor.fetchone()
        cursor.close()
        connection.close()
        del cursor
        gc.collect()
        assert len(alive) == 2
        assert [each() for each in alive] == [None, None]
        # The list, the loop's variable and the argument of getrefcount: nothing of SQLite's or C's.
        assert [sys.getrefcount(cursor) for cursor in made] == [3, 3]


def test_threads_read_and_write_beside_each_other():
    errors: list[BaseException] = []
    with create_engine("memory://") as store:
        with connect(store=store) as connection:
            connection.execute("create table a (id integer primary key, t integer, name)")
            connection.executemany("insert into a values (?, ?, ?)", [(n, n % 4, str(n)) for n in range(2000)])
        connection.close()

        def work(mine: int) -> None:
            try:
                own = connect(store=store)
                for _ in range(5):
                    [(count, total)] = own.execute(
                        "select count(*), sum(b.id) from a join a b on b.id = a.id where a.t = ? and b.name <> ''",
                        (mine,),
                    ).fetchall()
                    assert (count, total) == (500, sum(range(mine, 2000, 4)))
                    own.execute("update a set name = name || '.' where t + 0 = ?", (mine,))
                    own.commit()
                own.close()
            except BaseException as error:  # noqa: BLE001 - told to the test
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        with connect(store=store) as connection:
            assert connection.execute("select count(*) from a where name like '%.....'").fetchall() == [(2000,)]
        connection.close()


def test_the_environment_forbids_the_compiled_tables():
    program = "from kvdialect.dialect import compiled; print(compiled.available)"
    environment = {**os.environ, "KVDIALECT_PURE_PYTHON": "1"}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


@pytest.mark.skipif(PURE, reason="KVDIALECT_PURE_PYTHON forbids them")
@pytest.mark.skipif(
    shutil.which("cc") is None, reason="without a compiler the package is built without the compiled tables"
)
def test_the_package_was_built_with_them():
    assert importlib.util.find_spec("kvdialect.dialect._tables") is not None, "why did hatch_build.py not build it?"
    assert compiled.available
