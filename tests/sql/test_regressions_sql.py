"""What the differential fuzz has found, one test for each fault, on a store and on SQLite side by side."""

from __future__ import annotations

import pytest
from twins import Twins

from kvdialect import create_engine
from kvdialect.dialect import dbapi


@pytest.fixture
def memory():
    with create_engine("memory://") as engine:
        yield engine


@pytest.fixture
def twins(memory):
    both = Twins(memory)
    yield both
    both.close()


# ------------------------------------------------------------------------------------------ foreign keys


def test_which_statements_a_broken_foreign_key_refuses(twins):
    """A foreign key that fits no key of its parent refuses what uses it, and nothing else; SQLite says what does."""
    twins.script("create table p (a, b)", "create table c (x, y, foreign key (x) references p (a))")

    for statement in (
        "insert into c values (1, 2)",
        "insert into p values (1, 2)",  # of one row: that cannot break an immediate key
        "insert into p values (1, 2), (3, 4)",
        "insert into p select 1, 2",
        "update c set y = 1",
        "update c set x = 1",
        "update p set b = 1",
        "update p set a = 1",
        "delete from c",
        "delete from p",
        "pragma defer_foreign_keys = on",
        "insert into p values (1, 2)",
    ):
        twins.run(statement)


def test_dropping_a_table_near_a_broken_foreign_key(twins):
    """DROP TABLE is refused where an action that it may set off comes upon the key, rows or none."""
    twins.script(
        "create table q (a int, b int, foreign key (a, b) references r (id, missing))",
        "create table p (id integer primary key)",
        "create table c (x primary key, foreign key (x) references p on delete set default)",
        "create table r (id int, c int references c on update cascade)",
        "drop table q",
        "create table s (a int, b int, foreign key (a, b) references r (c, missing))",
    )
    assert twins.refused("drop table p").startswith("foreign key mismatch")
    twins.script("drop table s", "drop table p")


def test_a_broken_foreign_key_of_a_table_to_itself(twins):
    """An update that touches neither side of such a key is no matter of it."""
    twins.script(
        "create table n (a, b, foreign key (b) references t)", "alter table n rename to t", "update t set a = 1"
    )


def test_a_reference_to_a_declared_key_is_understood_by_every_connection(memory):
    """REFERENCES without columns means the primary key, also on a connection that has not read the parent yet."""
    with dbapi.connect(store=memory) as first:
        first.execute("create table p (k int primary key)")
        first.execute("create table c (k references p)")
    second = dbapi.connect(store=memory)

    second.execute("insert into p values (1)")
    second.execute("insert into c values (1)")
    second.close()


# ------------------------------------------------------------------------------------------ the schema


def test_ddl_after_a_savepoint_with_ddl_was_undone(memory):
    """The commit tells other connections of a new schema, though an earlier change of it was rolled back."""
    first, second = dbapi.connect(store=memory), dbapi.connect(store=memory)
    for statement in (
        "create table z (a)",
        "create table t (k text primary key, b text) without rowid",
        "insert into t values ('1', 'x'), ('2', 'y')",
    ):
        first.execute(statement)
    first.commit()
    first.execute("savepoint s")
    first.execute("drop table z")
    first.execute("rollback to s")
    first.execute("create unique index i on t (upper(b))")
    first.commit()

    first.execute("insert into t values ('3', 'z')")
    first.commit()
    assert second.execute("select k from t where upper(b) >= 'Y' order by k").fetchall() == [("2",), ("3",)]
    first.close()
    second.close()


def test_a_view_whose_table_another_connection_has_changed(memory):
    """A view that was read before the change is read after it."""
    first, second = dbapi.connect(store=memory), dbapi.connect(store=memory)
    first.execute("create table t (a)")
    first.execute("create view v as select a from t")
    first.execute("insert into t values (1)")
    first.commit()
    assert second.execute("select * from v").fetchall() == [(1,)]
    second.commit()
    first.execute("create index i on t (a)")
    first.commit()

    assert second.execute("select * from v").fetchall() == [(1,)]
    first.close()
    second.close()


@pytest.mark.parametrize("begun", ["create temp table w (x)", "alter table missing add column x"])
def test_tables_that_were_loaded_in_what_was_undone(memory, begun):
    """What a rollback makes SQLite forget is loaded again by the next statement that names it."""
    with dbapi.connect(store=memory) as first:
        first.execute("create table t (a)")
        first.execute("insert into t values (1)")
    second = dbapi.connect(store=memory)
    second.execute("savepoint s")
    if begun.startswith("create"):
        second.execute(begun)
    else:
        with pytest.raises(dbapi.OperationalError, match="no such table"):
            second.execute(begun)
    assert second.execute("select a from t where a + 0 = 1").fetchall() == [(1,)]
    second.execute("rollback to s")

    assert second.execute("select a from t where a + 0 = 1").fetchall() == [(1,)]
    assert second.execute("select name from sqlite_master").fetchall() == [("t",)]
    second.close()


def test_columns_of_a_view_that_was_made_anew(memory):
    """The description tells of the view as it is, not as it was before a savepoint was rolled back."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table t (a, b)")
    connection.execute("savepoint s")
    connection.execute("create view v as select a, b from t")
    assert [column[0] for column in connection.execute("select * from v").description] == ["a", "b"]
    connection.execute("rollback to s")
    connection.execute("create view v as select b from t")

    assert [column[0] for column in connection.execute("select * from v").description] == ["b"]
    connection.close()


def test_update_or_rollback_after_ddl_in_the_transaction(twins):
    """The rollback that the statement asks for undoes the DDL too, and no other error takes its place."""
    twins.script("create table t (a int check (a < 5), b)", "insert into t values (1, 1)")
    twins.commit()
    twins.script("alter table t add column c")

    assert twins.run("update or rollback t set a = 7 where b = 1")[0] == "IntegrityError"
    twins.theirs.execute("begin")
    assert twins.refused("select c from t") == "no such column: c"
    twins.same("t")


# ------------------------------------------------------------------------------------------ values


def test_the_lowest_integer_as_a_literal(twins):
    """-9223372036854775808 is an integer, though 9223372036854775808 is none."""
    twins.script(
        "create table t (id integer primary key, a)",
        "insert into t values (1, 1)",
        "update t set a = -9223372036854775808 where id = 1",
        "update t set a = -9223372036854775809 where id = 2",
    )
    assert "integer" in str(twins.run("select typeof(a), a from t where a = -9223372036854775808"))


def test_any_in_a_strict_table_keeps_values_as_they_are(twins):
    """ANY has no affinity in a STRICT table, but NUMERIC elsewhere."""
    for name, options in (("s", "strict"), ("n", "")):
        twins.script(
            f"create table {name} (k integer primary key, a any) {options}",
            f"insert into {name} (a) values ('10'), (' 7'), (10.0), (x'31'), (null)",
        )
        twins.run(f"select k, a, typeof(a) from {name}")
        twins.run(f"select k from {name} where a between ' 7' and '2'")
        twins.run(f"select count(*) from {name} where a = 10")


@pytest.mark.parametrize("resolution", ["ignore", "fail", "rollback", "replace"])
def test_a_wrong_type_is_no_matter_of_the_resolution(twins, resolution):
    """What is no rowid, or no value of a STRICT column, is an error whatever OR says, and the transaction stays."""
    twins.script(
        "create table t (id integer primary key, n not null unique)",
        "create table s (a int) strict",
        "insert into t values (1, 1)",
    )

    for statement in (
        f"insert or {resolution} into t values ('x', null)",
        f"insert or {resolution} into s values ('x')",
        f"update or {resolution} t set id = 'x', n = null",
    ):
        twins.refused(statement)
    twins.same("t", "s")


def test_ids_given_by_an_update_are_not_given_again(memory):
    """An id that a row got by UPDATE is passed over by those that the store gives."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table t (id integer primary key, a)")
    connection.execute("insert into t (a) values (1)")
    connection.commit()
    connection.execute("update t set id = 4")
    for _ in range(5):
        connection.execute("insert into t (a) values (2)")

    assert connection.execute("select count(*), min(id) from t").fetchall() == [(6, 4)]
    connection.close()


@pytest.mark.parametrize("autoincrement", ["", "autoincrement"])
def test_no_id_is_given_twice(memory, autoincrement):
    """The id of a row that was deleted, or never committed, is not given to another."""
    connection = dbapi.connect(store=memory)
    connection.execute(f"create table t (id integer primary key {autoincrement}, a)")
    connection.execute("insert into t values (7, 1)")
    connection.commit()
    seen = [7]
    for end in (connection.commit, connection.rollback, connection.commit):
        connection.execute("delete from t")
        seen.append(connection.execute("insert into t (a) values (2)").lastrowid)
        end()

    assert seen == sorted(set(seen))
    connection.close()


def test_the_largest_id_leaves_others(memory):
    """A row with the largest id there is does not end the ids that the store gives, whether it is committed or not."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table t (id integer primary key, a)")
    connection.commit()
    connection.execute("insert into t values (9223372036854775807, 1)")
    connection.rollback()
    connection.execute("insert into t (a) values (2)")
    connection.execute("insert into t values (9223372036854775807, 3)")
    connection.execute("insert into t (a) values (4)")

    assert connection.execute("select a from t order by id").fetchall() == [(2,), (4,), (3,)]
    connection.close()


# ------------------------------------------------------------------------------------------ upserts


def test_null_is_no_conflict_of_a_unique_index(twins):
    """A row whose key is taken, with NULL in a unique column, conflicts by its key alone."""
    twins.script("create table t (id integer primary key, a unique, b)", "insert into t values (1, null, 0)")

    twins.refused("insert into t values (1, null, 0) on conflict (a) do update set b = 5")
    twins.script("insert into t values (1, null, 0) on conflict (id) do update set b = 5")
    twins.same("t")


def test_excluded_is_what_would_have_been_stored(twins):
    """``excluded`` has values after the affinity of their columns; compared, they have no affinity and no collation."""
    twins.script(
        "create table t (a int primary key, b numeric, c text collate nocase, d real, e)",
        "insert into t values (1, 1, 'x', 1, 1)",
    )

    for value in (
        "typeof(excluded.b)",
        "typeof(excluded.d)",
        "excluded.b || ''",
        "excluded.b <= '1.5'",
        "excluded.b = '10'",
        "excluded.c = 'X'",
        "t.c = 'X'",
        "(select excluded.b = '10')",
    ):
        twins.run(f"insert into t values (1, '10', 'x', 3, 1) on conflict do update set e = {value} returning e")


@pytest.mark.parametrize("value", ["x", "X"])
@pytest.mark.parametrize(
    "target",
    [
        "(a)",
        "((a))",
        "(t.a)",
        "(A desc)",
        "(a collate binary)",
        "(a collate nocase)",
        "(a) where b = 2",
        "(b) where a > '1'",
        "(b) where (t.a > '1')",
        "(b) where '1' < a",
        "(b)",
        "(lower(c), b)",
        "(B, Lower( [c] ))",
        "(lower(c))",
        "(rowid)",
        "(a, b)",
    ],
)
def test_what_a_conflict_target_names(twins, target, value):
    """A clause is about one unique index, which its columns, collations and condition tell."""
    twins.script(
        "create table t (a text unique, b, c)",
        "create unique index i on t (a collate nocase)",
        "create unique index j on t (b) where a > '1'",
        "create unique index k on t (lower(c), b)",
        "insert into t values ('x', 1, 'Q')",
    )

    twins.run(f"insert into t values ('{value}', 2, 'q') on conflict {target} do update set a = 'hit'")
    twins.run(f"insert into t values ('{value}', 1, 'q') on conflict {target} do update set a = 'hit'")
    twins.same("t")


# ------------------------------------------------------------------------------------------ reading by keys


def test_an_update_by_a_key_that_is_compared_with_a_number(twins):
    """A number that a key without affinity is compared with: the row is found, though others are looked at before."""
    twins.script(
        "create table t (a any, b int, c text, primary key (a, b)) without rowid, strict",
        "insert into t values (10, 4, 'x'), (10.0, 2, 'y'), ('10', 4, 'z')",
    )

    assert twins.run("update t set c = c || '!' where a = ? and b = 4", (10.0,)) == ("rows", ([], 1))
    assert twins.run("delete from t where a = ? and b + 0 = 4", (10,)) == ("rows", ([], 1))
    twins.same("t")
