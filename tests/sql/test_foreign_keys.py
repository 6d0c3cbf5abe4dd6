"""Foreign keys at the SQL door: what SQLite does, statement by statement; and what two transactions may not do."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sql_consistency import check_sql_consistency
from twins import Twins

from kvdialect import Bytes32, Mapped, Session, UInt64, create_engine, exc, field, mapped, registry
from kvdialect.dialect import dbapi
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import commit

SEEDS = int(os.environ.get("KVDIALECT_FK_SEEDS", "25"))
STATEMENTS = 60


models = registry()


@mapped(models)
class Author:
    """A parent."""

    __tablename__ = "authors"
    id: Mapped[Bytes32] = field(primary_key=True)
    name: Mapped[str] = field(unique=True)
    n: Mapped[UInt64 | None] = None


@mapped(models)
class Book:
    """A child, of the records' own; with owner="sql" a table of the same name takes its place."""

    __tablename__ = "books"
    id: Mapped[int] = field(primary_key=True)
    author: Mapped[Bytes32 | None] = field(
        sa.ForeignKey("authors.id", ondelete="CASCADE", onupdate="CASCADE"), default=None, index=True
    )
    press: Mapped[str | None] = field(sa.ForeignKey("authors.name", ondelete="SET NULL"), default=None)


lone = registry()


@mapped(lone)
class LoneParent:
    """A table to which none refers yet."""

    __tablename__ = "parents"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str | None] = None


@pytest.fixture
def store(engine_name, tmp_path):
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    with create_engine(url) as engine:
        yield engine


@pytest.fixture
def memory():
    with create_engine("memory://") as engine:
        yield engine


@pytest.fixture
def twins(memory):
    both = Twins(memory)
    yield both
    both.close()


# ------------------------------------------------------------------------------------------ single rules


def test_a_child_without_parent_is_refused(twins):
    """Insert and update of the child; NULL refers to nothing."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p references p)",
        "insert into p values (1)",
        "insert into c values (1, 1), (2, null)",
    )

    assert twins.refused("insert into c values (3, 7)") == "FOREIGN KEY constraint failed"
    twins.refused("update c set p = 8 where id = 1")
    twins.refused("insert into c values (4, 1), (5, 9)")
    twins.refused("insert or ignore into c values (4, 9)")
    twins.script("update c set p = null", "insert into c values (6, '1')", "update c set p = 1.0 where id = 2")
    twins.same("p", "c")


@pytest.mark.parametrize("action", ["no action", "restrict", "cascade", "set null", "set default"])
@pytest.mark.parametrize("deferred", ["", " deferrable initially deferred"])
def test_actions(twins, action, deferred):
    """What each action does on delete, update, REPLACE and upsert of the parent."""
    twins.script(
        "create table p (id integer primary key, u text unique, n int)",
        "create table c (id integer primary key, p int default 2 references p(id)"
        f" on delete {action} on update {action}{deferred}, u text default 'b' references p(u)"
        f" on delete {action} on update {action}{deferred})",
        "insert into p values (1, 'a', 0), (2, 'b', 0), (3, 'c', 0), (4, 'd', 0)",
        "insert into c values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, null, 'a'), (5, 1, null)",
    )
    twins.commit()
    for statement in (
        "delete from p where id = 3",
        "update p set id = 10 where id = 1",
        "update p set u = 'z' where u = 'a'",
        "update p set n = n + 1",
        "update p set id = id where id = 2",
        "insert or replace into p values (1, 'a', 5)",
        "insert into p values (2, 'b', 1) on conflict (id) do update set u = 'y', id = 20",
        "delete from p where id = 4",
        "delete from p",
    ):
        twins.run("savepoint s")
        twins.run(statement)
        twins.same("p", "c")
        if twins.commit()[0] != "rows":
            twins.run("rollback to s")
            twins.script("release s")
            twins.commit()
        twins.same("p", "c")


def test_a_statement_may_mend_what_it_breaks(twins):
    """Constraints are looked at when the statement ends: rows of one insert may refer to each other."""
    twins.script(
        "create table t (id integer primary key, up references t(id))",
        "insert into t values (1, 2), (2, 1), (3, 3)",
        "update t set up = 4 - up where id < 3",
        "delete from t",
    )
    twins.refused("insert into t values (1, 2), (3, 1)")
    twins.same("t")


def test_deferred_constraints_wait_for_the_commit(twins):
    """The commit fails and leaves the transaction open; savepoints give back what they took."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p references p deferrable initially deferred)",
    )
    twins.commit()
    twins.script("insert into c values (1, 1)")
    assert twins.commit() == ("IntegrityError", "FOREIGN KEY constraint failed")
    twins.script("savepoint a", "insert into c values (2, 2)", "insert into p values (1)")
    assert twins.commit()[0] == "IntegrityError"
    twins.script("rollback to a")
    assert twins.commit()[0] == "IntegrityError"
    twins.script("insert into p values (1)")
    assert twins.commit()[0] == "rows"
    twins.script("delete from p", "delete from c")
    assert twins.commit()[0] == "rows"
    twins.same("p", "c")


def test_a_mended_violation_breaks_again_with_its_savepoint(twins):
    """A child inserted before the savepoint, its parent after it: rolled back, the child has none again."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p references p deferrable initially deferred)",
        "insert into c values (1, 1)",
        "savepoint a",
        "insert into p values (1)",
        "savepoint b",
        "delete from p",
        "rollback to b",
        "release b",
        "rollback to a",
    )
    assert twins.commit()[0] == "IntegrityError"


def test_defer_foreign_keys(twins):
    """PRAGMA defer_foreign_keys makes all wait, RESTRICT too, until the transaction ends."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p references p on delete restrict)",
        "insert into p values (1)",
        "insert into c values (1, 1)",
    )
    twins.commit()
    twins.ours.execute("pragma defer_foreign_keys = on")
    twins.theirs.execute("pragma defer_foreign_keys = on")
    twins.script("delete from p")
    assert twins.commit()[0] == "IntegrityError"
    twins.script("insert into p values (1)")
    assert twins.commit()[0] == "rows"
    twins.refused("delete from p")


def test_composite_keys(twins):
    """Columns in another order than the index has them; one NULL and the row refers to nothing."""
    twins.script(
        "create table p (a int, b text, c int, primary key (a, b), unique (c, b))",
        "create table x (id integer primary key, b text, a int, foreign key (b, a) references p(b, a)"
        " on update cascade)",
        "create table y (id integer primary key, b text, c int, foreign key (b, c) references p(b, c)"
        " on delete set null)",
        "create table z (id integer primary key, a int, b text, foreign key (a, b) references p on delete cascade)",
        "insert into p values (1, 'a', 10), (2, 'b', 20), (1, 'b', 30)",
        "insert into x values (1, 'a', 1), (2, 'b', null), (3, null, 9)",
        "insert into y values (1, 'b', 20), (2, null, 20), (3, 'b', 30)",
        "insert into z values (1, 2, 'b'), (2, 1, 'b')",
    )
    twins.refused("insert into x values (4, 'a', 2)")
    twins.refused("insert into y values (4, 'a', 20)")
    twins.script("update p set a = 5 where c = 10")
    twins.same("p", "x", "y", "z")
    twins.script("delete from p where c = 30")
    twins.same("p", "x", "y", "z")


def test_affinity_and_collation_of_the_parent_decide(twins):
    """Text finds a number and another case finds a NOCASE key, as SQLite looks parents up."""
    twins.script(
        "create table p (id integer primary key, name text collate nocase unique, n int unique)",
        "create table c (id integer primary key, p text references p(id) on delete cascade, name text"
        " references p(name) on delete set null, n text references p(n) on delete set null)",
        "insert into p values (1, 'Abc', 5), (2, 'def', 6), (3, 'x', x'35')",
        "insert into c values (1, '1', 'ABC', 5.0), (2, '02', 'DEF', '+6'), (3, ' 3', 'X', x'35')",
    )
    twins.refused("insert into c (name) values ('abcd')")
    twins.same("p", "c")
    for number in (2, 1, 3):
        twins.script(f"delete from p where id = {number}")
        twins.same("p", "c")


def test_a_change_of_case_is_no_change_of_a_nocase_key(twins):
    """No action runs where the parent's collation takes the old key and the new for equal."""
    twins.script(
        "create table p (name text collate nocase primary key)",
        "create table c (id integer primary key, name text collate nocase references p on update set null)",
        "insert into p values ('a')",
        "insert into c values (1, 'A')",
        "update p set name = 'A'",
    )
    twins.same("p", "c")
    twins.script("update p set name = 'b'")
    twins.same("p", "c")


def test_chains_and_cycles_of_cascades(twins):
    """A cascade goes as far as rows refer to rows, also to its own table and around a cycle."""
    twins.script(
        "create table a (id integer primary key, b int references b on delete cascade on update cascade)",
        "create table b (id integer primary key, a int references a on delete cascade on update cascade"
        " deferrable initially deferred)",
        "insert into b values (1, 1), (2, 2), (3, null)",
        "insert into a values (1, 2), (2, 3), (3, 1)",
        "update b set id = 30 where id = 3",
    )
    twins.same("a", "b")
    twins.script("delete from b where id = 30")
    twins.same("a", "b")
    twins.commit()


def test_a_long_chain_of_cascades(memory):
    """Longer than SQLite or Python's own stack would go."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table t (id integer primary key, up int references t on delete cascade)")
    connection.execute("create index t_up on t (up)")
    connection.executemany("insert into t values (?, ?)", [(n, n - 1 or None) for n in range(1, 5001)])
    connection.commit()

    cursor = connection.execute("delete from t where id = 1")

    assert cursor.rowcount == 1
    assert connection.execute("select count(*) from t").fetchall() == [(0,)]


def test_updates_of_keys_that_rows_of_the_same_table_refer_to(twins):
    """A statement changes rows that its own cascades have changed before it comes to them."""
    twins.script(
        "create table t (id integer primary key, up int references t on update cascade, n int default 0)",
        "insert into t (id, up) values (1, null), (2, 1), (3, 2), (4, 4)",
        "update t set id = id + 100",
    )
    twins.same("t")
    twins.script("update t set n = n + 1, id = id - 100 where id > 101")
    twins.same("t")


def test_deletes_of_rows_that_a_cascade_has_deleted(twins):
    """A statement comes to rows that its own cascades have deleted."""
    twins.script(
        "create table t (id integer primary key, up int references t on delete cascade)",
        "insert into t (id, up) values (1, null), (2, 1), (3, 2), (4, 4), (5, 3)",
        "delete from t where id > 1",
    )
    twins.same("t")


def test_actions_respect_other_constraints(twins):
    """SET NULL into NOT NULL, a cascade into a unique column or a CHECK: the statement fails and nothing is done."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p int not null references p on delete set null)",
        "create table d (p int unique references p on update cascade, q int default 1 references p"
        " on delete set default)",
        "create table e (p int check (p < 100) references p on update cascade)",
        "insert into p values (1), (2), (3), (4)",
        "insert into c values (1, 1)",
        "insert into d values (2, 3)",
        "insert into e values (4)",
    )
    assert twins.refused("delete from p where id = 1") == "NOT NULL constraint failed: c.p"
    assert twins.refused("update p set id = 100 where id = 4").startswith("CHECK constraint failed")
    twins.script("delete from p where id = 3")
    twins.same("p", "c", "d", "e")
    twins.script("delete from c")
    assert twins.refused("delete from p where id = 1") == "FOREIGN KEY constraint failed"
    twins.same("p", "c", "d", "e")


def test_missing_parents_and_mismatches(twins):
    """Errors of the schema show when rows are written, with SQLite's words."""
    twins.script(
        "create table p (id integer primary key, a int, b int)",
        "create table c1 (x references nowhere)",
        "create table c2 (x references p(a))",
        "create table c3 (x references p(missing))",
        "create table c4 (x, y, foreign key (x, y) references p)",
    )
    assert twins.refused("insert into c1 values (1)") == "no such table: main.nowhere"
    for table in ("c2", "c3"):
        assert twins.refused(f"insert into {table} values (1)") == f'foreign key mismatch - "{table}" referencing "p"'
    twins.refused("insert into c4 values (1, 2)")


def test_a_parent_that_comes_later(twins):
    """A table may refer to one that is made after it, under a name in another case."""
    twins.script(
        "create table c (x references PARENT)",
        "create table Parent (id integer primary key)",
        "insert into parent values (1)",
        "insert into c values (1)",
    )
    twins.refused("insert into c values (2)")
    twins.refused("delete from PARENT")
    twins.same("c", "parent")


@pytest.mark.parametrize("action", ["no action", "restrict", "cascade", "set null"])
def test_dropping_a_parent(twins, action):
    """DROP TABLE deletes the rows first, as the foreign keys that refer to them say."""
    twins.script(
        "create table p (id integer primary key)",
        f"create table c (id integer primary key, p int references p on delete {action})",
        "insert into p values (1), (2)",
        "insert into c values (1, 1), (2, null)",
    )
    twins.commit()
    twins.run("drop table p")
    twins.same("c")
    twins.script("update c set id = id + 10 where p is null")
    twins.same("c")


def test_dropping_the_child_and_then_the_parent(twins):
    """Without rows that refer to it a parent goes."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p int references p)",
        "insert into p values (1), (2)",
        "insert into c values (1, 1)",
        "drop table c",
        "drop table p",
        "create table p (id integer primary key)",
    )
    twins.commit()
    twins.same("p")


def test_changes_counts_the_statements_own_rows(twins):
    """The rowcount leaves out what foreign keys changed."""
    twins.script(
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p int references p on delete cascade)",
        "insert into p values (1), (2)",
        "insert into c values (1, 1), (2, 1), (3, 2)",
    )
    assert twins.run("delete from p where id = 1") == ("rows", ([], 1))
    twins.same("p", "c")


def test_without_foreign_keys_nothing_is_checked(memory):
    """PRAGMA foreign_keys = OFF, and on again: only new rows are looked at."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table p (id integer primary key)")
    connection.execute("create table c (id integer primary key, p int references p on delete cascade)")
    connection.commit()
    connection.execute("pragma foreign_keys = off")
    connection.execute("insert into c values (1, 1)")
    connection.commit()
    connection.execute("pragma foreign_keys = on")
    connection.execute("update c set id = 2")
    connection.commit()
    with pytest.raises(exc.IntegrityError, match="FOREIGN KEY constraint failed"):
        connection.execute("insert into c values (3, 1)")


def test_the_pragma_of_a_new_connection_begins_no_transaction(memory):
    """PRAGMA foreign_keys, as programs say it where a connection is made, does not fix what is read later."""
    early, late = dbapi.connect(store=memory), dbapi.connect(store=memory)

    early.execute("pragma foreign_keys = on")
    late.execute("create table t (id integer primary key)")
    late.commit()

    assert early.execute("select count(*) from t").fetchall() == [(0,)]


# ------------------------------------------------------------------------------------------ record tables


@pytest.mark.parametrize("owner", ["records", "sql"])
def test_record_tables_refer_and_are_referred_to(store, owner):
    """Mapped records as parents and as children, by key and by a unique index, of types that SQLite has not."""
    store.create_all([d for d in models.definitions if owner == "records" or d.name == "authors"])
    connection = dbapi.connect(store=store)
    if owner == "sql":
        connection.execute(
            "create table books (id integer primary key, author blob references authors on delete cascade on update"
            " cascade, press text references authors(name) on delete set null)"
        )
    key, other = b"\1" * 32, b"\2" * 32
    connection.execute("insert into authors values (?, 'a', ?), (?, 'b', null)", (key, 2**63 - 1, other))
    connection.execute("insert into books values (1, ?, 'b'), (2, ?, null), (3, null, 'a')", (key, other))
    connection.commit()

    for sql, params in (
        ("insert into books values (4, ?, null)", (b"\3" * 32,)),
        ("insert into books values (4, null, 'z')", ()),
        ("update books set author = x'0102' where id = 1", ()),
    ):
        with pytest.raises((exc.IntegrityError, exc.DataError)):
            connection.execute(sql, params)
    connection.execute("update authors set id = ? where id = ?", (b"\4" * 32, key))
    assert connection.execute("select author from books order by id").fetchall() == [(b"\4" * 32,), (other,), (None,)]
    connection.execute("delete from authors where name = 'b'")
    assert connection.execute("select * from books order by id").fetchall() == [(1, b"\4" * 32, None), (3, None, "a")]
    connection.commit()

    with dbapi.connect(store=store) as second:
        second.execute("select * from books").fetchall()
        connection.execute("insert into books values (5, ?, null)", (b"\4" * 32,))
        second.execute("delete from authors where name = 'a'")
        connection.commit()
        with pytest.raises(exc.ConflictError):
            second.commit()
    connection.close()
    check_sql_consistency(store)


def test_the_owner_of_a_transaction_cannot_commit_past_deferred_constraints(memory):
    """A connection inside another's transaction: its commit fails; what the owner's savepoint undoes is forgotten."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table p (id integer primary key)")
    connection.execute("create table c (id integer primary key, p int references p deferrable initially deferred)")
    connection.commit()
    for undone in (True, False):
        transaction = Transaction(memory)
        inside = dbapi.connect(store=memory, transaction=transaction)
        inside.execute("insert into p values (1)")
        mark = transaction.savepoint()
        inside.execute("insert into c values (1, 2)")
        if undone:
            transaction.rollback_to(mark)
            commit(transaction)
        else:
            transaction.release(mark)
            with pytest.raises(exc.IntegrityError, match="FOREIGN KEY constraint failed"):
                commit(transaction)
        inside.close()
        counts = connection.execute("select (select count(*) from c), (select count(*) from p)").fetchall()
        assert counts == [(0, int(undone))]
        connection.execute("delete from p")
        connection.commit()
    connection.close()


# ------------------------------------------------------------------------------------------ two transactions


@pytest.fixture
def two(store):
    """A parent 1 with a child, a parent 2 without; and two connections."""
    first, second = dbapi.connect(store=store), dbapi.connect(store=store)
    first.execute("create table p (id integer primary key, u text unique, n int default 0)")
    first.execute("create table c (id integer primary key, p int references p on delete cascade)")
    first.execute("create table d (id integer primary key, u text references p(u))")
    first.execute("create index c_p on c (p)")
    first.execute("insert into p (id, u) values (1, 'a'), (2, 'b')")
    first.execute("insert into c values (1, 1)")
    first.commit()
    yield first, second
    first.close()
    second.close()


def _orphans(connection: Any) -> list[Any]:
    found = connection.execute("select * from c where p not in (select id from p)").fetchall()
    found += connection.execute("select * from d where u not in (select u from p)").fetchall()
    connection.rollback()
    return found


@pytest.mark.parametrize(
    "child", ["insert into c values (9, 2)", "insert into d values (9, 'b')", "update c set p = 2"]
)
@pytest.mark.parametrize(
    "parent",
    ["delete from p where id = 2", "update p set id = 20, u = 'z' where id = 2", "delete from p where u = 'b'"],
)
@pytest.mark.parametrize("child_first", [True, False])
def test_a_child_and_the_end_of_its_parent_cannot_both_be_committed(two, child, parent, child_first):
    """Whoever commits second gets a ConflictError: no write skew over a foreign key, in either order."""
    first, second = two if child_first else two[::-1]
    one, other = (child, parent) if child_first else (parent, child)
    first.execute("select * from p").fetchall()
    second.execute("select * from p").fetchall()
    first.execute(one)
    second.execute(other)
    first.commit()
    with pytest.raises(exc.ConflictError):
        second.commit()

    assert _orphans(first) == []


def test_children_and_changes_of_the_parent_go_together(two):
    """A child does not stand in the way of a change of its parent's other columns, whoever is first."""
    first, second = two
    for one, other in ((first, second), (second, first)):
        one.execute("select * from p").fetchall()
        other.execute("select * from p").fetchall()
        one.execute("update p set n = n + 1 where id = 2")
        other.execute("insert into c (p) values (2)")
        one.commit()
        other.commit()
    assert first.execute("select n from p where id = 2").fetchall() == [(2,)]
    assert first.execute("select count(*) from c where p = 2").fetchall() == [(2,)]


def test_a_parent_and_children_of_another(two):
    """The end of a parent does not conflict with children of another one, where the columns have an index."""
    first, second = two
    first.execute("delete from d")
    first.execute("drop table d")
    first.commit()
    first.execute("select * from p").fetchall()
    second.execute("delete from p where id = 1")
    first.execute("insert into c values (9, 2)")
    second.commit()
    first.commit()
    assert first.execute("select * from c").fetchall() == [(9, 2)]


def test_a_table_that_refers_to_a_parent_which_goes(two):
    """A new referring table with rows, committed while the parent is deleted: the second commit fails."""
    first, second = two
    first.execute("select * from p").fetchall()
    first.execute("delete from p where id = 2")
    second.execute("create table e (p int references p)")
    second.execute("insert into e values (2)")
    second.commit()
    with pytest.raises(exc.ConflictError):
        first.commit()


def test_a_child_of_a_table_that_is_dropped(two):
    """A parent table dropped while a child of its rows is inserted: the second commit fails, in either order."""
    first, second = two
    first.execute("delete from c")
    first.execute("drop table d")
    first.commit()
    first.execute("select * from p").fetchall()
    first.execute("insert into c values (9, 2)")
    second.execute("drop table p")
    second.commit()
    with pytest.raises(exc.OperationalError):
        first.commit()
    assert first.execute("select * from c").fetchall() == []


def test_a_table_dropped_as_its_children_come(two):
    """The other order: the children are committed first."""
    first, second = two
    first.execute("delete from c")
    first.execute("drop table d")
    first.commit()
    first.execute("select * from p").fetchall()
    second.execute("drop table p")
    first.execute("insert into c values (9, 2)")
    first.commit()
    with pytest.raises(exc.ConflictError):
        second.commit()
    second.execute("select * from p").fetchall()


def test_threads_leave_no_orphans(two, store):
    """Parents come and go, change their keys and get children, in four threads: each row has what it refers to."""
    unexpected = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        connection = dbapi.connect(store=store)
        for step in range(60):
            number, other = rng.randint(1, 4), rng.randint(1, 4)
            try:
                for _ in range(rng.randint(1, 3)):
                    connection.execute(
                        rng.choice(
                            [
                                f"insert or ignore into p (id, u) values ({number}, 'u{number}')",
                                f"update p set u = 'v{seed}{step}' where id = {number}",
                                f"update p set id = {number} where id = {other}",
                                f"delete from p where id = {number}",
                                f"insert into c (p) values ({number})",
                                f"update c set p = {number} where p = {other}",
                                f"insert into d (u) select u from p where id = {number}",
                                f"delete from d where u in (select u from p where id = {number})",
                            ]
                        )
                    )
                connection.commit()
            except (exc.ConflictError, exc.IntegrityError):
                connection.rollback()
            except Exception as error:  # noqa: BLE001 - the test tells of it
                unexpected.append(error)
                connection.rollback()
        connection.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert unexpected == []
    assert _orphans(two[0]) == []
    check_sql_consistency(store)


# ------------------------------------------------------------------------------------------ at random


class _Schema:
    """Tables with keys of every sort that refer to each other at random."""

    ACTIONS = ("no action", "restrict", "cascade", "set null", "set default")

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tables = [f"t{n}" for n in range(rng.randint(2, 4))]
        self.keys = {name: rng.choice(["alias", "text", "pair", "without", "unique"]) for name in self.tables}
        self.statements = [self._table(name) for name in self.tables]
        for name in self.tables:
            if rng.random() < 0.5:
                self.statements.append(f"create index {name}_r on {name} (r)")

    def _table(self, name: str) -> str:
        rng = self.rng
        sort = self.keys[name]
        key = {
            "alias": "k integer primary key, l text unique",
            "text": "k text primary key collate nocase, l text unique",
            "pair": "k int, l text",
            "without": "k int primary key, l text not null unique",
            "unique": "k int unique not null, l text not null unique, m int",
        }[sort]
        types = {"r": "int", "s": "text"}
        keys = []
        for column in "rs":
            if rng.random() < 0.85:
                parent = rng.choice(self.tables)
                target = rng.choice("kl")
                # Where the types differ SQLite's own count of violations goes wrong.
                types[column] = "text" if target == "l" or self.keys[parent] == "text" else "int"
                keys.append(
                    f"foreign key ({column}) references {parent}({target}) on delete {rng.choice(self.ACTIONS)}"
                    f" on update {rng.choice(self.ACTIONS)}{rng.choice(['', '', ' deferrable initially deferred'])}"
                )
        pairs = [table for table, sort in self.keys.items() if sort == "pair"]
        if pairs and types == {"r": "int", "s": "text"} and rng.random() < 0.5:
            keys.append(f"foreign key (s, r) references {rng.choice(pairs)}(l, k) on delete {rng.choice(self.ACTIONS)}")
        if sort == "pair":
            keys.insert(0, "primary key (k, l), unique (k), unique (l)")
        default = rng.choice(["", " default 1", " not null default 2"])
        parts = [key, f"r {types['r']}{default}", f"s {types['s']}", "v int default 0", *keys]
        return f"create table {name} ({', '.join(parts)})" + (" without rowid" if sort == "without" else "")

    def value(self) -> str:
        return self.rng.choice(["1", "2", "3", "'1'", "'2'", "4", "null", "1", "2", "3"])

    def key(self) -> str:
        return self.rng.choice(["1", "2", "3", "4", "'1'"])

    def statement(self) -> str:
        rng = self.rng
        table = rng.choice(self.tables)
        match rng.randint(0, 9):
            case 0 | 1 | 2:
                how = rng.choice(["", "", "", "or ignore ", "or replace "])
                rows = [
                    f"({self.key()}, {self.key()}, {self.value()}, {self.value()})"
                    for _ in range(rng.choice([1, 1, 2, 3]))
                ]
                return f"insert {how}into {table} (k, l, r, s) values {', '.join(rows)}"
            case 3:
                row = f"{self.key()}, {self.key()}, {self.value()}, {self.value()}"
                return (
                    f"insert into {table} (k, l, r, s) values ({row})"
                    f" on conflict (k) do update set {rng.choice(['r', 's'])} = {self.value()}, v = v + 1"
                )
            case 4:
                return f"update {table} set {rng.choice(['r', 's'])} = {self.value()} where k = {self.key()}"
            case 5:
                return f"update {table} set {rng.choice(['r', 's'])} = {self.value()}"
            case 6 | 7:
                how = rng.choice(["", "", "or replace ", "or ignore "])
                return f"update {how}{table} set {rng.choice(['k', 'l'])} = {self.key()} where k = {self.key()}"
            case 8:
                return f"delete from {table} where {rng.choice(['k', 'l', 'r'])} = {self.key()}"
            case _:
                return f"delete from {table}"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_statements(twins, seed):
    """Random tables that refer to each other, random statements: each does what it does in SQLite."""
    rng = random.Random(seed)
    schema = _Schema(rng)
    twins.script(*schema.statements)
    twins.commit()
    savepoints = 0
    for _ in range(STATEMENTS):
        match rng.randint(0, 11):
            case 0:
                twins.script(f"savepoint s{savepoints}")
                savepoints += 1
            case 1 if savepoints:
                savepoints = rng.randrange(savepoints)
                twins.script(f"{rng.choice(['rollback to', 'release'])} s{savepoints}")
                if twins.log[-1].startswith("rollback"):
                    savepoints += 1
            case 2:
                twins.commit_judged()
                savepoints = 0
            case 3 if rng.random() < 0.3:
                twins.rollback()
                savepoints = 0
            case 4 if rng.random() < 0.2:
                twins.ours.execute("pragma defer_foreign_keys = on")
                twins.theirs.execute("pragma defer_foreign_keys = on")
                twins.log.append("pragma defer_foreign_keys = on")
            case _:
                statement = schema.statement()
                if "or replace" in statement:  # of which SQLite miscounts some
                    twins.attempt(statement)
                else:
                    twins.run(statement)
                twins.same(*schema.tables)


@pytest.mark.parametrize("level", ["SNAPSHOT", "SERIALIZABLE"])
@pytest.mark.parametrize("door", ["sql", "session"])
@pytest.mark.parametrize(
    ("statement", "conflicts"),
    [
        ("DELETE FROM parents WHERE id = 1", True),
        ("UPDATE parents SET id = 77 WHERE id = 1", True),
        ("INSERT INTO parents VALUES (9, NULL)", False),
    ],
)
def test_a_table_that_comes_to_refer_to_what_goes(store, level, door, statement, conflicts):
    """A table is made, and a row of it, that refers to what a transaction deletes which knows nothing of that table."""
    lone.create_all(store)
    with store.sqlalchemy().begin() as connection:
        connection.exec_driver_sql("INSERT INTO parents VALUES (1, 'a'), (2, 'b')")
    deleting, referring = store.sqlalchemy(isolation_level=level).connect(), store.sqlalchemy().connect()
    session = Session(store, isolation_level=level, foreign_keys=True)
    if door == "sql":
        deleting.exec_driver_sql(statement)
    elif statement.startswith("INSERT"):
        session.add(LoneParent(9))
        session.flush()
    elif statement.startswith("DELETE"):
        session.delete(session.get_one(LoneParent, 1))
        session.flush()
    else:
        session.execute(sa.update(LoneParent).where(LoneParent.id == 1).values(id=77))
    referring.exec_driver_sql("CREATE TABLE late (parent INTEGER NOT NULL REFERENCES parents (id))")
    referring.exec_driver_sql("INSERT INTO late VALUES (1)")
    referring.commit()

    commit_it = deleting.commit if door == "sql" else session.commit
    if conflicts:
        with pytest.raises((sa.exc.OperationalError, exc.ConflictError), match="refers to parents by now"):
            commit_it()
    else:
        commit_it()
    orphans = "SELECT count(*) FROM late LEFT JOIN parents ON parents.id = late.parent WHERE parents.id IS NULL"
    assert referring.exec_driver_sql(orphans).scalar() == 0
    for each in (deleting, referring, session):
        each.close()


# ------------------------------------------------------------------------------------------ what does not hold

CHECKED = (
    "create table p (i integer primary key, u text collate nocase unique, a, b, unique (a, b))",
    "create table c (x references p, y references p (u) on delete cascade, z references gone (k))",
    "create table d (k integer primary key, a, b, foreign key (b, a) references p (b, a))",
    "create table e (k text primary key, up references e, i references p (i)) without rowid",
    "create table f (n)",
    "create view v as select 1",
    "insert into p values (1, 'One', 'a', 2), (2, 'Two', null, 3)",
    "insert into c values (1, 'one', null), ('2', 'three', 5), (3, null, null), (null, 'TWO', 'x'), ('x', x'00', 1.5)",
    "insert into d values (7, 'a', 2), (8, 'a', 3), (9, null, 4), (12, 'b', 2)",
    "insert into e values ('a', 'a', 1), ('b', 'z', 9), ('c', null, 'q'), ('d', 'c', '2')",
)


@pytest.mark.parametrize("committed", [False, True])
def test_rows_that_refer_to_nothing_are_listed(store, committed):
    """PRAGMA foreign_key_check has the rows of SQLite's, of one table or of all of a schema, written or committed."""
    ours = dbapi.connect(store=store, schemas=["other"])
    ours.execute("pragma foreign_keys = off")
    theirs = sqlite3.connect(":memory:")
    theirs.execute("attach ':memory:' as other")
    for connection in (ours, theirs):
        for statement in (
            *CHECKED,
            "create table other.c (x references c (y))",
            "create temp table t (a references t)",
        ):
            connection.execute(statement)
        if committed:
            connection.commit()

    for argument in ("(c)", "(D)", " = e", "('f')", "(v)", "(t)", "(gone)"):
        statement = f"pragma foreign_key_check{argument}"
        assert _told(ours, statement) == _told(theirs, statement), statement
    for schema in ("main", "temp", "other", "no"):
        statement = f"pragma {schema}.foreign_key_check(c)"
        assert _told(ours, statement) == _told(theirs, statement), statement
    for prefix in ("", "main.", "TEMP.", "other.", "no."):
        statement = f"pragma {prefix}foreign_key_check"
        assert sorted(map(repr, _told(ours, statement))) == sorted(map(repr, _told(theirs, statement))), statement
    statement = "pragma foreign_key_check"
    assert ours.execute(statement).description == theirs.execute(statement).description
    ours.close()
    theirs.close()


def _told(connection: Any, statement: str) -> Any:
    """The rows of a statement, or the words of its error."""
    try:
        return connection.execute(statement).fetchall()
    except (sqlite3.OperationalError, exc.OperationalError) as error:
        return exc.message_of(error)


def test_records_that_refer_to_nothing_are_listed(store):
    """Of records as of tables that SQL made: they have no rowid. It is a reading, which no commit conflicts with."""
    models.create_all(store)
    with Session(store) as session, session.begin():
        session.add(Author(id=b"\1" * 32, name="Austen"))
        session.add(Book(id=1, author=b"\1" * 32, press="Austen"))
        session.add(Book(id=2, author=b"\2" * 32, press="Nobody"))
    with store.sqlalchemy().connect() as checking, store.sqlalchemy().connect() as deleting:
        found = checking.exec_driver_sql("pragma foreign_key_check").all()
        assert found == [("books", None, "authors", 0), ("books", None, "authors", 1)]
        deleting.exec_driver_sql("DELETE FROM books")
        deleting.exec_driver_sql("DELETE FROM authors")
        deleting.commit()
        checking.exec_driver_sql("CREATE TABLE another (a)")
        checking.commit()
        assert checking.exec_driver_sql("pragma foreign_key_check").all() == []
