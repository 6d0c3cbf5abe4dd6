"""What the differential fuzz has found, one test for each fault, on a store and on SQLite side by side."""

from __future__ import annotations

import pytest
from twins import Twins

from kvdialect import Mapped, Session, UInt64, create_engine, exc, field, mapped, registry
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


# ------------------------------------------------------------------------------------------ what a review found


def test_a_word_of_the_schema_that_names_no_table(twins):
    """A query with the text 'sqlite_master', or a column called pragma_..., ran where tables have no rows."""
    twins.script(
        "create table s (id integer primary key, name text, pragma_name text)",
        "insert into s values (1, 'sqlite_master', 'x'), (2, 'pragma_table_info', 'y'), (3, 'a', null)",
        "select * from s where name = 'sqlite_master'",
        "select s.id from s, (select 2 as id) as q where s.name like 'pragma%' and s.id = q.id",
        "select id as pragma_y, pragma_name from s order by pragma_name",
        "select count(*) from main.sqlite_master where name = 's'",
        "select type from (sqlite_schema)",
        "select name from pragma_table_info('s')",
        "create table pragma_notes (a)",
        "insert into pragma_notes values (1)",
        "select a from pragma_notes",
    )


def test_the_schema_beside_tables_is_refused(memory):
    """They had no rows there: the query gave none, without a word."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table s (a)")
    connection.execute("insert into s values (1)")
    for query in (
        "select m.name, s.a from sqlite_master m, s",
        "select (select count(*) from s) from sqlite_master",
        "select * from pragma_table_info('s') join s",
    ):
        with pytest.raises(exc.NotSupportedError, match="that reads s too"):
            connection.execute(query)
    connection.close()


def test_the_name_of_an_output_comes_before_a_column_in_order_by(twins):
    """Rows came in the order of the column of that name, and LIMIT took the wrong ones."""
    twins.script(
        "create table t (id integer primary key, v)",
        "insert into t values (1, 30), (2, 20), (3, 10)",
        "select v as id from t order by id",
        "select v as id from t order by id limit 1",
        "select v as id from t order by t.id limit 1",
        "select id as v, v as id from t order by id desc limit 2",
        "select v as ID, id as x from t order by iD",
        "select v as v, id from t order by v",
    )


def test_a_temporary_table_made_after_a_statement_was_run(twins):
    """The statement went on reading, and destroying, rows of the stored table of the same name."""
    statements = (
        "select * from t where id = 1",
        "delete from t where id = 9",
        "update t set v = 'new' where id = 2",
        "select * from t where id in (1, 2)",
    )
    twins.script(
        "create table t (id integer primary key, v)", "insert into t values (1, 30), (2, 40), (9, 90)", *statements,
        "create temp table t (id integer primary key, v)", "insert into t values (1, 'temp'), (2, 'temp'), (9, 'temp')",
        "insert into main.t values (9, 'again')", *statements, "select * from temp.t", "select * from main.t",
        "drop table temp.t", *statements, "select * from t",
    )  # fmt: skip


def test_an_update_from_changes_each_row_once(twins):
    """A row was changed once for each that it matched: rowcount was too high, and values in between were checked."""
    twins.script(
        "create table t (id integer primary key, a check (a <> 11))",
        "create table s (tid, b)",
        "insert into t values (1, 0), (2, 2), (3, 3)",
        "insert into s values (1, 11), (1, 20), (1, 21), (2, 5)",
        "update t set a = b from s where tid = t.id returning *",
        "select * from t",
        "update t set a = b from s where tid = t.id and b <> 11 returning id",
        "update t set a = 5 where a is not distinct from 3",
        "select * from t",
    )


def test_a_savepoint_in_autocommit_is_a_transaction(memory):
    """Its RELEASE committed nothing, and what came after it was lost."""
    sql = memory.sqlalchemy()
    with sql.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("create table t (a)")
        connection.exec_driver_sql("insert into t values (1)")
        with connection.begin_nested():
            connection.exec_driver_sql("insert into t values (2)")
            with connection.begin_nested():
                connection.exec_driver_sql("insert into t values (3)")
        with sql.connect() as other:
            assert other.exec_driver_sql("select a from t order by a").scalars().all() == [1, 2, 3]
        connection.exec_driver_sql("insert into t values (4)")
        undone = connection.begin_nested()
        connection.exec_driver_sql("insert into t values (5)")
        undone.rollback()
    with sql.connect() as other:
        assert other.exec_driver_sql("select a from t order by a").scalars().all() == [1, 2, 3, 4]
    sql.dispose()


def test_a_temporary_table_whose_deferred_key_is_broken_keeps_the_commit_back(memory):
    """The store was committed, and then a bare error of apsw's came, after which the connection was stuck."""
    connection, other = dbapi.connect(store=memory), dbapi.connect(store=memory)
    connection.execute("pragma foreign_keys = on")
    connection.execute("create table t (a)")
    connection.commit()
    connection.execute("create temp table p (a primary key)")
    connection.execute("create temp table x (a references p deferrable initially deferred)")
    connection.commit()
    connection.execute("insert into t values (1)")
    connection.execute("insert into x values (99)")
    with pytest.raises(exc.IntegrityError, match="FOREIGN KEY"):
        connection.commit()
    assert other.execute("select a from t").fetchall() == []
    connection.execute("delete from x")
    connection.commit()
    other.rollback()
    assert other.execute("select a from t").fetchall() == [(1,)]
    connection.close()
    other.close()


def test_or_rollback_in_a_temporary_table_rolls_all_back(memory):
    connection = dbapi.connect(store=memory)
    connection.execute("create table t (a)")
    connection.execute("create temp table x (a primary key)")
    connection.execute("insert into x values (1)")
    connection.commit()
    connection.execute("insert into t values (1)")
    with pytest.raises(exc.IntegrityError):
        connection.execute("insert or rollback into x values (1)")
    assert connection.execute("select a from t").fetchall() == []
    connection.execute("insert into x values (2)")
    connection.execute("create table u (a)")
    connection.commit()
    assert connection.execute("select a from x").fetchall() == [(1,), (2,)]
    connection.close()


def test_what_is_bound_to_a_statement_that_is_known(twins):
    """An empty mapping, NaN and the largest LIMIT were errors, some of them Python's own, when a plan was there."""
    nan = float("nan")
    twins.script(
        "create table t (id integer primary key, a)", "create index ta on t (a)", "insert into t values (1, 1), (2, 2)"
    )
    for _ in range(2):
        twins.run("select id from t limit 9223372036854775807 offset 1")
        twins.run("select * from t", {})
        twins.run("delete from t where id = 9", {})
        for query in ("select id from t where id > ?", "select id from t where a = ?", "delete from t where id = ?"):
            twins.run(query, (nan,))


def test_no_way_to_calculate_with_integers_beyond_sqls(memory):
    """Copies into tables and queries read half way calculated with the blobs that stand for them."""
    models = registry()

    @mapped(models)
    class Purse:
        __tablename__ = "purses"
        id: Mapped[int] = field(primary_key=True)
        amount: Mapped[UInt64]

    models.create_all(memory)
    with Session(memory) as session, session.begin():
        session.add_all([Purse(number, 2**63 + number) for number in range(1, 4)])
    connection = dbapi.connect(store=memory)
    connection.execute("create table plain (i integer primary key)")
    connection.execute("create table copied (a)")
    connection.execute("create temp table temporary (a)")
    connection.execute("insert into plain values (1), (2), (3)")
    for statement in (
        "create table x as select amount + 1 as a from purses",
        "create temp table y as select sum(amount) as a from purses",
        "insert into temporary select amount + 1 from purses",
        "insert into copied select amount + 1 from purses",
    ):
        with pytest.raises(exc.DataError):
            connection.execute(statement)
    for copied in ("create table z as select id from purses", "insert into temporary select id from purses"):
        connection.execute(copied)
    half = connection.execute("select i, (select amount + 1 from purses where id = i and i > 1) from plain")
    connection.execute("select count(*) from copied").fetchall()
    with pytest.raises(exc.DataError, match="cannot calculate"):
        half.fetchall()
    reading = connection.execute("select i, (select amount from purses where id = i) from plain order by i")
    with pytest.raises(exc.DataError):
        connection.execute("select amount + 1 from purses").fetchall()
    assert [row[0] for row in reading] == [1, 2, 3]
    connection.close()
