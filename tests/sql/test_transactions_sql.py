"""Transactions at the SQL door: what one sees of others, what conflicts, what is undone."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest
import sqlalchemy as sa
from sql_consistency import check_sql_consistency
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry

models = registry()


@mapped(models)
class Account:
    """An account, as the native door has it."""

    __tablename__ = "accounts"
    id: Mapped[int] = field(primary_key=True)
    owner: Mapped[str] = field(index=True)
    balance: Mapped[int] = 0


metadata = sa.MetaData()
items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), unique=True),
    sa.Column("n", sa.Integer, index=True),
)
accounts = models.metadata.tables["accounts"]


@pytest.fixture
def store(engine_name, tmp_path):
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    with create_engine(url) as engine:
        models.create_all(engine)
        yield engine


@pytest.fixture
def engine(store):
    """The SQL door, with three items and two accounts."""
    opened = store.sqlalchemy()
    metadata.create_all(opened)
    with opened.begin() as connection:
        connection.execute(items.insert(), [{"id": n, "name": f"item {n}", "n": n * 10} for n in (1, 2, 3)])
        connection.execute(accounts.insert(), [{"id": n, "owner": "ab"[n - 1], "balance": 100} for n in (1, 2)])
    yield opened
    opened.dispose()
    check_sql_consistency(store)


def _names(connection):
    return connection.execute(sa.select(items.c.name).order_by(items.c.id)).scalars().all()


def _bump(connection, number, by=1):
    connection.execute(items.update().where(items.c.id == number).values(n=items.c.n + by))


# ------------------------------------------------------------------------------------------ isolation


def test_reads_are_of_one_moment(engine):
    """What others commit meanwhile is not seen: no dirty read, no unrepeatable one, no phantom."""
    with engine.connect() as reader, engine.connect() as writer:
        assert len(_names(reader)) == 3
        writer.execute(items.insert().values(id=4, name="item 4", n=40))
        writer.execute(items.update().values(n=0))
        assert len(_names(reader)) == 3
        writer.commit()

        assert len(_names(reader)) == 3
        assert reader.scalar(sa.select(sa.func.sum(items.c.n))) == 60
        assert reader.scalar(sa.select(sa.func.count()).select_from(items)) == 3
        reader.rollback()
        assert len(_names(reader)) == 4


def test_a_transaction_sees_what_it_has_written(engine):
    """Through every path: by key, by index, in a join, in a count."""
    with engine.connect() as connection:
        connection.execute(items.insert().values(id=4, name="item 4", n=20))
        connection.execute(items.delete().where(items.c.id == 1))
        _bump(connection, 3, 5)

        assert connection.scalar(sa.select(items.c.name).where(items.c.id == 4)) == "item 4"
        assert connection.execute(sa.select(items.c.id).where(items.c.n == 20).order_by("id")).scalars().all() == [2, 4]
        assert connection.scalar(sa.select(items.c.id).where(items.c.n == 35)) == 3
        assert connection.scalar(sa.select(items.c.id).where(items.c.n == 30)) is None
        assert connection.scalar(sa.select(sa.func.count()).select_from(items)) == 3


def test_the_first_committer_wins(engine):
    """No lost update: the second writer of a row gets an OperationalError that says to run it again."""
    with engine.connect() as first, engine.connect() as second:
        _bump(first, 1)
        _bump(second, 1)
        first.commit()
        with pytest.raises(OperationalError, match="run the transaction again") as caught:
            second.commit()

        assert isinstance(caught.value.orig or caught.value, exc.ConflictError)
        assert (caught.value.orig or caught.value).retryable
        second.rollback()
        assert second.scalar(sa.select(items.c.n).where(items.c.id == 1)) == 11


def test_different_rows_do_not_conflict(engine):
    """Writers of different rows of one table, its index included."""
    with engine.connect() as first, engine.connect() as second:
        _bump(first, 1)
        _bump(second, 2, 9)
        first.execute(items.insert().values(name="new", n=1))
        second.execute(items.insert().values(name="newer", n=1))
        second.commit()
        first.commit()
        assert first.execute(sa.select(items.c.n).order_by(items.c.n)).scalars().all() == [1, 1, 11, 29, 30]


def test_a_duplicate_is_an_error_and_one_committed_since_a_conflict(engine):
    """IntegrityError for what the snapshot shows, OperationalError for what another has committed since."""
    with engine.connect() as first, engine.connect() as second:
        _names(second)
        first.execute(items.insert().values(id=50, name="same"))
        first.commit()
        second.execute(items.insert().values(id=51, name="same"))
        with pytest.raises(OperationalError):
            second.commit()
        second.rollback()
        with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: items\.name"):
            second.execute(items.insert().values(id=51, name="same"))


def _skew(engine):
    """Each of two transactions reads both items and changes the one that the other leaves."""
    with engine.connect() as one, engine.connect() as two:
        for connection, mine in ((one, 1), (two, 2)):
            total = connection.scalar(sa.select(sa.func.sum(items.c.n)).where(items.c.id < 3))
            _bump(connection, mine, -total)
        one.commit()
        two.commit()


def test_write_skew_under_snapshot_and_serializable(engine):
    """SNAPSHOT lets write skew pass, SERIALIZABLE refuses it."""
    _skew(engine)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.sum(items.c.n)).where(items.c.id < 3)) == -30

    with pytest.raises(OperationalError):
        _skew(engine.execution_options(isolation_level="SERIALIZABLE"))


@pytest.mark.parametrize(
    "where", [items.c.id == 60, items.c.n == 5, items.c.n.between(4, 6), items.c.name == "new", sa.true()]
)
def test_phantoms_are_refused_under_serializable(engine, where):
    """A range that was read, by key, by index or in whole, has the same rows at the commit."""
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    with strict.connect() as one, engine.connect() as two:
        seen = one.scalar(sa.select(sa.func.count(items.c.name)).where(where))
        one.execute(accounts.update().values(balance=seen))
        two.execute(items.insert().values(id=60, name="new", n=5))
        two.commit()
        with pytest.raises(OperationalError):
            one.commit()


def test_readers_never_fail(engine):
    """A serializable transaction that writes nothing commits, whatever was changed."""
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    with strict.connect() as one, engine.connect() as two:
        _names(one)
        _bump(two, 1)
        two.commit()
        one.commit()


def test_levels_of_a_connection(engine):
    """The level is the engine's, or a connection's, and is given back with it."""
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "SNAPSHOT"
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        assert connection.get_isolation_level() == "SERIALIZABLE"
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "SNAPSHOT"


def test_autocommit(engine):
    """Each statement is a transaction; a failed one leaves nothing, a rollback nothing to undo."""
    auto = engine.execution_options(isolation_level="AUTOCOMMIT")
    with auto.connect() as connection, engine.connect() as other:
        _bump(connection, 1)
        assert other.scalar(sa.select(items.c.n).where(items.c.id == 1)) == 11
        with pytest.raises(IntegrityError):
            connection.execute(items.insert(), [{"id": 8, "name": "x"}, {"id": 9, "name": "x"}])
        connection.rollback()
        other.rollback()

        assert other.scalar(sa.select(items.c.n).where(items.c.id == 1)) == 11
        assert len(_names(other)) == 3


@pytest.mark.parametrize("many", [False, True], ids=["execute", "executemany"])
def test_autocommit_does_not_repeat_what_may_have_been_applied(store, engine, many, monkeypatch):
    """A disk that was full leaves open whether the commit was applied: run again, an insert would be there twice."""
    commits = []
    write = store.backend.batch_write

    def full(batch):
        write(batch)
        commits.append(batch)
        raise exc.DiskFull("the disk is full")

    auto = engine.execution_options(isolation_level="AUTOCOMMIT")
    with auto.connect() as connection:
        connection.execute(items.insert(), {"name": "before", "n": 0})  # ids are taken from the allocator here
        monkeypatch.setattr(store.backend, "batch_write", full)
        with pytest.raises(OperationalError, match="the disk is full"):
            connection.execute(items.insert(), [{"name": None, "n": 77}] * 2 if many else {"name": None, "n": 77})
        monkeypatch.undo()

        assert len(commits) == 1
        assert connection.scalar(sa.select(sa.func.count()).where(items.c.n == 77)) == (2 if many else 1)


def test_autocommitted_statements_of_many_threads_lose_nothing(engine):
    """A statement that meets a conflict in AUTOCOMMIT is run again by the connection."""
    auto = engine.execution_options(isolation_level="AUTOCOMMIT")
    failures = []

    def work():
        try:
            for _ in range(10):
                with auto.connect() as connection:
                    _bump(connection, 1)
        except DBAPIError as error:
            failures.append(error)

    _together([work] * 3)

    with engine.connect() as connection:
        n = connection.scalar(sa.select(items.c.n).where(items.c.id == 1))
    assert (n, failures) == (40, [])


# ------------------------------------------------------------------------------------------ retries, threads


def _together(works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


def test_a_retry_loop_brings_all_through(engine):
    """Four threads move money about and retry on OperationalError: no cent is lost, no row either."""

    def work(number):
        def run():
            for step in range(8):
                while True:
                    try:
                        with engine.begin() as connection:
                            source, target = (1, 2) if (number + step) % 2 else (2, 1)
                            for account, sign in ((source, -1), (target, 1)):
                                connection.execute(
                                    accounts.update()
                                    .where(accounts.c.id == account)
                                    .values(balance=accounts.c.balance + sign * (step + 1))
                                )
                            connection.execute(items.insert().values(name=f"{number}/{step}", n=number))
                        break
                    except OperationalError as error:
                        if not (error.orig or error).retryable:
                            raise

        return run

    _together([work(number) for number in range(4)])

    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.sum(accounts.c.balance))) == 200
        assert connection.scalar(sa.select(sa.func.count()).select_from(items)) == 3 + 32
        assert len(_names(connection)) == 35
        assert len(connection.execute(sa.select(items.c.id).where(items.c.n < 4)).all()) == 32


def test_readers_in_threads_see_whole_commits(engine):
    """A commit changes two tables; no reader sees one without the other."""
    stop = threading.Event()
    torn = []

    def write():
        for _ in range(20):
            with engine.begin() as connection:
                connection.execute(accounts.update().where(accounts.c.id == 1).values(balance=accounts.c.balance + 1))
                _bump(connection, 1)
        stop.set()

    def read():
        while not stop.is_set():
            with engine.connect() as connection:
                n = connection.scalar(sa.select(items.c.n).where(items.c.id == 1))
                balance = connection.scalar(sa.select(accounts.c.balance).where(accounts.c.id == 1))
                if balance - n != 90:
                    torn.append((balance, n))

    _together([write, read, read])

    assert torn == []


# ------------------------------------------------------------------------------------------ undoing


def test_savepoints(engine):
    """Nested savepoints give back rows, index entries and counts."""
    with engine.connect() as connection:
        connection.execute(items.insert().values(id=4, name="kept", n=4))
        with connection.begin_nested() as outer:
            connection.execute(items.delete().where(items.c.id == 1))
            with connection.begin_nested() as inner:
                connection.execute(items.update().values(n=7))
                assert connection.scalar(sa.select(sa.func.count()).where(items.c.n == 7)) == 3
                inner.rollback()
            assert connection.scalar(sa.select(sa.func.count()).where(items.c.n == 7)) == 0
            with connection.begin_nested():
                connection.execute(items.insert().values(id=5, name="gone", n=5))
            assert connection.scalar(sa.select(sa.func.count()).select_from(items)) == 4
            outer.rollback()
        connection.commit()

        assert _names(connection) == ["item 1", "item 2", "item 3", "kept"]
        assert connection.scalar(sa.select(sa.func.count()).select_from(items)) == 4


def test_a_conflict_is_not_forgotten_with_a_savepoint(engine):
    """What stays after a savepoint was rolled back still conflicts; what went with it does not."""
    with engine.connect() as first, engine.connect() as second:
        nested = first.begin_nested()
        _bump(first, 1)
        nested.rollback()
        _bump(first, 2)
        _bump(second, 1)
        second.commit()
        first.commit()
        assert first.execute(sa.select(items.c.n).order_by(items.c.id)).scalars().all() == [11, 21, 30]


@pytest.mark.parametrize(
    "statement",
    [
        "insert into items (id, name) values (10, 'a'), (11, 'b'), (12, 'item 1')",
        "update items set name = 'same'",
        "update items set id = 2 where id in (1, 3)",
        "insert into items (id, name) select id + 100, case id when 3 then 'item 1' else name || '+' end from items",
        "update accounts set owner = case id when 2 then null else 'z' end",
        "insert into accounts (id, owner) values (3, 'c'), (1, 'd')",
    ],
)
def test_a_failed_statement_leaves_nothing(engine, statement):
    """A statement that fails at its last row has written none; the transaction goes on."""
    with engine.connect() as connection:
        _bump(connection, 3)
        before = connection.execute(sa.select(items).order_by(items.c.id)).all()
        owners = connection.execute(sa.select(accounts).order_by(accounts.c.id)).all()
        with pytest.raises(IntegrityError):
            connection.execute(sa.text(statement))

        assert connection.execute(sa.select(items).order_by(items.c.id)).all() == before
        assert connection.execute(sa.select(accounts).order_by(accounts.c.id)).all() == owners
        connection.commit()
        assert connection.scalar(sa.select(items.c.n).where(items.c.id == 3)) == 31


def test_a_rollback_undoes_ddl(engine):
    """Tables, indexes and columns made in a transaction are gone with it, for reflection too; so are rows."""
    with engine.connect() as connection:
        connection.execute(sa.text("create table extra (id integer primary key, x text)"))
        connection.execute(sa.text("insert into extra values (1, 'a')"))
        connection.execute(sa.text("create index items_name_n on items (name, n)"))
        connection.execute(sa.text("alter table items add column more text default 'm'"))
        assert connection.execute(sa.text("select more from items where id = 1")).scalar() == "m"
        connection.rollback()

        inspector = sa.inspect(connection)
        assert inspector.get_table_names() == ["accounts", "items"]
        assert "items_name_n" not in {index["name"] for index in inspector.get_indexes("items")}
        assert "more" not in {column["name"] for column in inspector.get_columns("items")}
        assert len(_names(connection)) == 3


def test_a_savepoint_undoes_ddl(engine):
    """A table dropped inside a savepoint is there again, with its rows."""
    with engine.connect() as connection:
        connection.execute(sa.text("create table before_it (x)"))
        nested = connection.begin_nested()
        connection.execute(sa.text("drop table items"))
        connection.execute(sa.text("create table items (x)"))
        connection.execute(sa.text("insert into items values (1)"))
        nested.rollback()
        assert len(_names(connection)) == 3
        connection.commit()
        assert sorted(sa.inspect(connection).get_table_names()) == ["accounts", "before_it", "items"]


def test_ddl_is_seen_by_others_once_committed(engine):
    """Other connections see a new table with the commit, not before, and an open transaction of theirs not at all."""
    with engine.connect() as first, engine.connect() as second, engine.connect() as third:
        _names(third)
        first.execute(sa.text("create table extra (id integer primary key)"))
        first.execute(sa.text("insert into extra values (1)"))
        with pytest.raises(OperationalError, match="no such table"):
            second.execute(sa.text("select * from extra"))
        second.rollback()
        first.commit()

        assert second.execute(sa.text("select * from extra")).all() == [(1,)]
        with pytest.raises(OperationalError, match="no such table"):
            third.execute(sa.text("select * from extra"))


def test_two_schema_changes_conflict(engine):
    """Two transactions that both change the schema: the second commit is a conflict, and can be run again."""
    with engine.connect() as first, engine.connect() as second:
        first.execute(sa.text("create table one (x)"))
        second.execute(sa.text("create table two (x)"))
        first.commit()
        with pytest.raises(OperationalError):
            second.commit()
        second.rollback()
        second.execute(sa.text("create table two (x)"))
        second.commit()
        assert {"one", "two"} < set(sa.inspect(second).get_table_names())


def test_rows_written_while_an_index_is_made(engine):
    """A row that is committed while another transaction makes an index is in it, or one of the two is run again."""
    with engine.connect() as first, engine.connect() as second:
        first.execute(items.insert().values(id=7, name="seven", n=7))
        second.execute(sa.text("create index items_by_name_n on items (name, n)"))
        second.commit()
        first.commit()  # it adopts the index
        second.execute(sa.text("create unique index items_n on items (n)"))
        first.execute(items.insert().values(id=8, name="eight", n=8))
        first.commit()
        with pytest.raises(OperationalError):
            second.commit()
        second.rollback()
        assert second.scalar(sa.select(items.c.n).where(items.c.name == "seven")) == 7


# ------------------------------------------------------------------------------------------ both doors


def test_a_session_and_a_connection_conflict(engine, store):
    """The doors work on the same rows: whoever commits second learns of it, whichever door it is."""
    with Session(store) as session, engine.connect() as connection:
        account = session.get_one(Account, 1)
        connection.execute(accounts.update().where(accounts.c.id == 1).values(balance=1))
        connection.commit()
        account.balance += 1
        with pytest.raises(exc.ConflictError):
            session.commit()

        session.get_one(Account, 2).balance = 5
        connection.execute(accounts.update().where(accounts.c.id == 2).values(balance=6))
        session.commit()
        with pytest.raises(OperationalError):
            connection.commit()


def test_the_doors_see_each_others_commits(engine, store):
    """Interleaved writes of both, read at the other door, by key and by index."""
    with engine.connect() as connection:
        for n in range(3, 9):
            if n % 2:
                with Session(store) as session, session.begin():
                    session.add(Account(id=n, owner=f"o{n}", balance=n))
            else:
                connection.execute(accounts.insert().values(id=n, owner=f"o{n}", balance=n))
                connection.commit()
            owner = connection.scalar(sa.select(accounts.c.owner).where(accounts.c.owner == f"o{n}"))
            connection.rollback()
            with Session(store) as session:
                found = session.scalars(sa.select(Account).where(Account.owner == f"o{n}")).one()
                assert (found.id, owner) == (n, f"o{n}")
                assert session.scalar(sa.select(sa.func.count()).select_from(Account)) == n


def test_a_connection_inside_a_session(engine, store):
    """session.connection(): one transaction for both doors, committed or rolled back by the Session."""
    with Session(store) as session:
        session.get_one(Account, 1).balance = 7
        connection = session.connection()
        assert connection.scalar(sa.select(accounts.c.balance).where(accounts.c.id == 1)) == 7
        connection.execute(items.insert().values(id=70, name="from inside"))
        connection.execute(accounts.update().where(accounts.c.id == 2).values(balance=8))
        session.rollback()
    with engine.connect() as outside:
        assert len(_names(outside)) == 3
        assert outside.execute(sa.select(accounts.c.balance)).scalars().all() == [100, 100]

    with Session(store) as session:
        session.get_one(Account, 1).balance = 7
        connection = session.connection()
        connection.execute(items.insert().values(id=70, name="from inside"))
        connection.execute(accounts.update().where(accounts.c.id == 2).values(balance=8))
        assert session.get_one(Account, 2).balance == 8
        session.commit()
    with engine.connect() as outside:
        assert len(_names(outside)) == 4
        assert outside.execute(sa.select(accounts.c.balance).order_by(accounts.c.id)).scalars().all() == [7, 8]


# ------------------------------------------------------------------------------------------ pools, forks


def test_a_connection_given_back_has_rolled_back(engine):
    """What was not committed is gone when the connection returns to the pool."""
    with engine.connect() as connection:
        connection.execute(items.delete())
    with engine.connect() as connection:
        assert len(_names(connection)) == 3


def _in_child(engine, answer):
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(items)).all()
        answer.send("worked")
    except BaseException as error:  # noqa: BLE001 - the parent judges it
        answer.send(f"{type(error).__name__}: {error}")
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork; Linux and macOS run this")
def test_a_fork_refuses_the_parents_store(engine):
    """A connection of the parent's store is of no use in a forked child, which is told so; the parent goes on."""
    context = multiprocessing.get_context("fork")
    ours, answer = context.Pipe()
    child = context.Process(target=_in_child, args=(engine, answer))
    child.start()
    assert ours.poll(60)
    message = ours.recv()
    child.join(60)

    assert "fork" in message.lower()
    with engine.connect() as connection:
        assert len(_names(connection)) == 3
