"""What the differential fuzz has found, one test for each fault, on a store and on SQLite side by side."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
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


def test_a_chain_of_terms_with_integers_beyond_sqls(memory):
    """A sum of three terms, which is one expression to SQLAlchemy, was SQLite's own arithmetic, and so refused."""
    models = registry()

    @mapped(models)
    class Purse:
        __tablename__ = "purses"
        id: Mapped[int] = field(primary_key=True)
        amount: Mapped[UInt64]

    models.create_all(memory)
    with Session(memory) as session, session.begin():
        session.add(Purse(1, 2**63))
    sql = memory.sqlalchemy()
    with sql.connect() as connection:
        for expression, value in (
            (Purse.amount + 1 + 2, 2**63 + 3),
            (1 + Purse.amount + 2, 2**63 + 3),
            (Purse.amount * 1 * 1, 2**63),
            (sa.func.max(Purse.amount + 1 + 2), 2**63 + 3),
        ):
            assert connection.scalar(sa.select(expression)) == value
            assert connection.scalar(sa.select(expression.label("x"))) == value
    sql.dispose()


# ------------------------------------------------------------------------------------------ rows and columns


@pytest.mark.parametrize("kind", ["integer primary key)", "int primary key) without rowid"])
def test_a_row_that_is_moved_onto_another_selected_one_is_changed_as_it_is(twins, kind):
    """It got the values that had been worked out for the row which it replaced."""
    head, tail = kind.split(")")
    twins.script(
        f"create table t (id {head}, u int, v text){tail}",
        "insert into t values (1, 10, 'a'), (4, 40, 'd')",
        "update or replace t set id = 5 - id, v = v || '!' returning *",
    )
    assert twins.ours.execute("select * from t").fetchall() == [(1, 10, "a!!")]
    twins.script("delete from t", "insert into t (id, u) values (6, 7), (8, 0)")
    assert twins.run("update or replace t set id = u + 1 returning id, u")[1][1] == 2
    twins.same("t")


@pytest.mark.parametrize(
    "update",
    [
        "update or replace t set (id, v) = (8 - id, v || '!') returning id, u, v",
        "update or replace t set (v, id) = (select q.v || '?', 8 - t.id from t as q where q.id = t.id)",
        "update or replace t as x set id = 8 - x.id, v = x.v || g, u = u + 1 where u > 5 returning *",
        "with k (n) as (values (8)) update or replace t set id = (select n from k) - id, v = v || u",
        "update or replace t set rowid = 8 - rowid, u = u + 1, v = v || '!' returning *",
        "update or replace main.t set id = 8 - main.t.id, v = t.v || rowid",
        "update or replace t set id = n - id, v = v || '!' from (select 8 as n) returning id, u, v",
    ],
)
def test_how_values_of_a_moved_row_are_worked_out_again(twins, update):
    """Row values, names for the table, WITH, generated columns and indexes: all as in the first place."""
    twins.script(
        "create table t (id integer primary key, u int unique, v text, g as (u + id), check (u > 0))",
        "create index tv on t (upper(v))",
        "insert into t values (1, 10, 'a'), (4, 40, 'd'), (7, 70, 'e')",
    )
    for connection in (twins.ours, twins.theirs):  # sqlite3 counts no rows of a statement that begins with WITH
        cursor = connection.execute(update)
        if cursor.description:
            cursor.fetchall()
    twins.same("t")


def test_parameters_of_a_set_that_is_worked_out_again(twins):
    """Each stands for the value that it stood for before, whatever its number."""
    twins.script("create table t (u int, v text)", "insert into t values (10, 'a'), (40, 'd'), (3, 'e')")
    kind, _ = twins.run("update or replace t set rowid = ?2 - rowid, v = v || ?1 || u where u <> ?3", ("!", 4, 40))
    assert kind == "rows"
    assert twins.ours.execute("select rowid, * from t order by u, 1").fetchall() == [(1, 10, "a!10!10"), (2, 40, "d")]
    twins.same("t")


def test_a_row_of_records_that_is_moved_onto_another_selected_one(memory):
    """As in a table that SQL made, with integers beyond SQL's."""
    models = registry()

    @mapped(models)
    class Purse:
        __tablename__ = "purses"
        id: Mapped[int] = field(primary_key=True)
        amount: Mapped[UInt64]

    models.create_all(memory)
    connection = dbapi.connect(store=memory)
    connection.execute("insert into purses values (1, ?), (4, 5)", (2**64 - 1,))
    connection.execute("update or replace purses set id = 5 - id, amount = kv_sub(amount, 1)")

    found = connection.execute("select id, amount from purses").fetchall()
    assert [(number, int.from_bytes(amount)) for number, amount in found] == [(1, 2**64 - 3)]
    connection.close()


@pytest.mark.parametrize("action", ["cascade", "set null"])
def test_an_update_sees_what_a_foreign_keys_action_did_to_the_row(twins, action):
    """The values were those of the row before the action."""
    twins.script(
        f"create table n (id int primary key, p int references n on update {action}, k int)",
        "insert into n values (1, null, 0), (2, 1, 0), (3, 2, 0)",
        "update n set id = id + 10, k = coalesce(p, -1) returning *",
    )
    twins.same("n")


@pytest.mark.parametrize("rows", [True, False])
def test_the_default_of_a_column_added_to_a_strict_table(memory, rows):
    """What is of another type is refused where there are rows, as in SQLite 3.54: no row could be written any more."""
    connection = dbapi.connect(store=memory)
    for number, (column, fits) in enumerate(
        {
            "int default 'x'": False,
            "integer not null default x'00'": False,
            "int default 1.5": False,
            "int default '12'": True,
            "real default 'x'": False,
            "real default 1": True,
            "text default x'00'": False,
            "text default 1": True,
            "blob default 'x'": False,
            "blob default x'00'": True,
            "any default 'x'": True,
            "int default null": True,
        }.items()
    ):
        table = f"s{number}"
        connection.execute(f"create table {table} (i int, v text) strict")
        if rows:
            connection.execute(f"insert into {table} values (1, 'a')")
        added = f"alter table {table} add column n {column}"
        if rows and not fits:
            with pytest.raises(exc.OperationalError, match=r"^type mismatch on DEFAULT"):
                connection.execute(added)
        else:
            connection.execute(added)
        if rows or fits:
            connection.execute(f"insert into {table} (i) values (2)")
        else:
            with pytest.raises(exc.IntegrityError, match="cannot store"):
                connection.execute(f"insert into {table} (i) values (2)")
            connection.execute(
                f"insert into {table} (i, n) values (2, null)" if "not null" not in column else "select 1"
            )
    connection.close()


def test_what_can_be_added_to_a_table_with_rows(memory):
    """More than in SQLite, and another error, as the docs say."""
    connection = dbapi.connect(store=memory)
    connection.execute("create table t (a int)")
    connection.execute("insert into t values (1)")
    connection.execute("alter table t add column b int default (1 + 2)")
    connection.execute("alter table t add column c int as (a + b) stored")
    assert connection.execute("select * from t").fetchall() == [(1, 3, 4)]
    for column in ("d int default 1 check (d > 1)", "d int not null as (nullif(a, 1))"):
        with pytest.raises(exc.IntegrityError, match="constraint failed"):
            connection.execute(f"alter table t add column {column}")
    assert connection.execute("select * from t").fetchall() == [(1, 3, 4)]
    connection.close()


def test_what_excluded_has_where_the_rowid_is_taken(twins):
    """The values as given, as SQLite sees that before it applies affinities; but for clauses and CHECKs before it."""
    twins.script(
        "create table p (id integer primary key, b int unique, c text, r real)",
        "create table q (id integer primary key, b int, c text, r real, check (b > 0))",
        "create table w (id integer primary key, b int, c text, r real) without rowid",
    )
    told = "typeof(excluded.id) || typeof(excluded.b) || typeof(excluded.c) || typeof(excluded.r) || quote(excluded.b)"
    for table in ("p", "q", "w"):
        twins.script(f"insert into {table} values (3, 100, '', 1), (4, 101, '', 1)")
        for row in ("3, '1.0', 5, 1", "'3', 1.0, x'00', '2'", "4, '55.0', 5, -0.0"):
            for clause in ("on conflict (id)", "on conflict", "on conflict (rowid)"):
                if table != "w" or "rowid" not in clause:
                    twins.script(f"insert into {table} values ({row}) {clause} do update set c = {told}")
                    twins.same(table)
    for clauses in (
        f"on conflict (b) do update set c = {told}",
        f"on conflict (b) do nothing on conflict (id) do update set c = {told}",
        f"on conflict (id) do update set c = {told} on conflict (b) do nothing",
    ):
        for row in ("4, '77.0', 5, 1", "5, '101.0', 5, 1"):
            twins.run(f"insert into p values ({row}) {clauses}")
            twins.same("p")


def named(twins, sql):
    """The names of a statement's columns, which are the same on both sides."""
    ours, theirs = (
        [column[0] for column in connection.execute(sql).description] for connection in (twins.ours, twins.theirs)
    )
    assert ours == theirs, sql
    return ours


def test_a_rowid_is_called_as_its_column_is(twins):
    """The column of a result was called rowid, where SQLite says what INTEGER PRIMARY KEY it is."""
    twins.script(
        "create table p (Id integer primary key, b int)",
        "create table n (a int)",
        "insert into p values (1, 2), (2, 3)",
        "insert into n values (1)",
    )
    for name in ("rowid", "oid", "_ROWID_", "p.rowid", '"rowid"'):
        assert named(twins, f"select {name} from p") == ["Id"]
        assert named(twins, f"select {name} from p where b = 2 order by b") == ["Id"]
        assert named(twins, f"update p set b = 2 where id = 1 returning {name}, b") == ["Id", "b"]
        assert named(twins, f"update p set b = 2 where id = 1 returning {name}, {name} + 1 as c") == ["Id", "c"]
    for sql in (
        "select rowid as x, oid as rowid, rowid + 1 from p",
        "select n.oid, p.oid from n, p",
        "select a.rowid, c.rowid from p as a join p as c on a.id = c.id",
        "select rowid from (select rowid from p)",
        "select rowid from p union select b from p",
        "delete from p where id = 2 returning rowid as y, *",
        "insert into n values (2) returning oid",
    ):
        named(twins, sql)


def test_a_rowid_in_views_and_copies_is_called_as_its_column_is(twins):
    """A view's column and one of CREATE TABLE AS were called rowid, and could not be named as in SQLite."""
    twins.script(
        "create table p (id integer primary key, b int)",
        "insert into p values (1, 2)",
        "create view v as select rowid, b from p",
        "create view w (rowid) as select oid from p",
        "create temp view tv as select oid, rowid from p",
        "create table c as select rowid, b + 1 as d from p",
        "select id, b from v",
        "select rowid from w",
        "select id, d from c",
    )
    named(twins, "select * from tv")
    twins.script("alter table p rename column id to k", "select k from v", "select rowid from w")


def test_a_zero_has_no_sign_in_a_column_of_reals(twins):
    """-0.0 stayed, where SQLite, which keeps whole floats as integers there, gives 0.0."""
    twins.script(
        "create table z (r real, n numeric, i int, b blob, u, g real as (-r), k integer primary key)",
        "create table y (r real primary key, b) without rowid",
        "create table x (r double)",
    )
    for zero in (-0.0, "-0.0", 0.0, 0):
        twins.run("insert into z values (?1, ?1, ?1, ?1, ?1, null)", (zero,))
        twins.run("insert or replace into y values (?1, ?1)", (zero,))
        twins.run("insert into x values (?), (1.5), ('text')", (zero,))
        twins.same("z", "y", "x")
        twins.run("update x set r = ?", (zero,))
        twins.run("update y set r = ?1, b = ?1 where r = 0", (zero,))
        twins.same("y", "x")
        twins.run("insert into y values (?1, 0) on conflict (r) do update set b = excluded.r", (zero,))
        twins.same("y")
    twins.script("alter table z add column d real default -0.0", "create table w as select r, u from z")
    twins.same("z", "y", "x", "w")


@pytest.mark.parametrize("moment", ["create_statement", "_create_shadow", "main", "unload"])
@pytest.mark.parametrize("subject", ["table", "view"])
def test_what_breaks_off_as_a_table_is_first_used_leaves_the_connection_whole(monkeypatch, moment, subject):
    """By a signal handler's exception, or as a task is cancelled: the table was taken for loaded ever after."""
    from kvdialect.dialect import shadow

    engine = sa.create_engine("kvdialect+memory://", poolclass=sa.pool.StaticPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table things (id integer primary key, name text)")
        connection.exec_driver_sql("create view named as select name from things")
        connection.exec_driver_sql("insert into things values (1, 'a')")
    driver = engine.raw_connection().driver_connection
    loaded = driver.shadow
    for key in list(loaded.loaded):
        loaded.unload(key)

    def late(*_args, **_options):
        monkeypatch.undo()
        raise TimeoutError("the program's own time limit")

    class Late:
        def __init__(self, db):
            self._db = db

        def execute(self, *_args):
            loaded.main = self._db
            late()

    query = "select name from things" if subject == "table" else "select name from named"
    if moment == "create_statement":
        monkeypatch.setattr(shadow.virtual, "create_statement", late)
    elif moment == "_create_shadow":
        monkeypatch.setattr(shadow.Shadow, "_create_shadow", late)
    elif moment == "main":
        loaded.main = Late(loaded.main)
    else:
        with engine.connect() as connection:
            assert connection.exec_driver_sql(query).scalars().all() == ["a"]
        key = next(key for key in loaded.loaded if subject == "table" or key.endswith("named"))
        loaded.main = Late(loaded.main)
        with pytest.raises(TimeoutError):
            loaded.unload(key)
    if moment != "unload":
        with pytest.raises(TimeoutError):
            loaded.ensure({"things", "named"})
    with engine.connect() as connection:
        for _ in range(2):
            assert connection.exec_driver_sql(query).scalars().all() == ["a"]
            assert connection.exec_driver_sql("select count(*) from things a join things b using (id)").scalar() == 1
