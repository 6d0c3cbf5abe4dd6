"""asyncio: the same dialect with a thread for each connection, on each engine. The loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import warnings

import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

import kvdialect
from kvdialect import exc
from kvdialect.dialect import cursor


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"), index=True)
    author: Mapped[Author] = relationship(back_populates="books")


class Counter(Base):
    __tablename__ = "counters"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


authors, counters = Author.__table__, Counter.__table__

# Takes half a second for a million.
SLOW = "WITH RECURSIVE k (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < {}) SELECT count(*), max(n) FROM k"
MINUTES = 1_000_000_000


@pytest.fixture
def url(engine_name, tmp_path):
    if engine_name == "memory":
        return "kvdialect+aiomemory://"
    return f"kvdialect+aio{engine_name}:////{tmp_path}/store?durability=none"


@pytest.fixture
def run(url):
    """Runs ``program(engine)`` in a loop of its own, on an engine with the tables."""

    def run(program, **options):
        async def main():
            engine = create_async_engine(url, **options)
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(Base.metadata.create_all)
                return await program(engine)
            finally:
                await engine.dispose()

        return asyncio.run(asyncio.wait_for(main(), 60))

    return run


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kvdialect-aio")]


# ------------------------------------------------------------------------------------------ Core and ORM


def test_core(run):
    """Statements, results, RETURNING, errors and a rollback."""

    async def program(engine: AsyncEngine):
        async with engine.begin() as connection:
            names = [{"name": name} for name in ("Austen", "Darwin", "Woolf")]
            inserted = await connection.execute(authors.insert().returning(authors.c.id), names)
            ids = inserted.scalars().all()
        async with engine.connect() as connection:
            with pytest.raises(sa.exc.IntegrityError, match=r"UNIQUE constraint failed: authors\.name") as caught:
                await connection.execute(authors.insert().values(name="Austen"))
            assert isinstance(caught.value.orig, exc.IntegrityError)
            changed = await connection.execute(authors.update().values(name=authors.c.name + "!"))
            assert changed.rowcount == 3
            assert await connection.scalar(select(func.max(authors.c.name))) == "Woolf!"
            await connection.rollback()
            assert await connection.scalar(select(func.max(authors.c.name))) == "Woolf"
            async with connection.begin_nested() as nested:
                await connection.execute(authors.delete())
                await nested.rollback()
            rows = await connection.execute(select(authors).order_by(authors.c.id))
            return ids, rows.all()

    ids, rows = run(program)
    assert [tuple(row) for row in rows] == list(zip(ids, ["Austen", "Darwin", "Woolf"], strict=True))


def test_orm(run):
    """Sessions: a flush, eager loading, a refresh, a merge, a rollback."""

    async def program(engine: AsyncEngine):
        session_of = async_sessionmaker(engine, expire_on_commit=False)
        async with session_of() as session, session.begin():
            session.add(Author(name="Austen", books=[Book(title="Emma"), Book(title="Persuasion")]))
        async with session_of() as session:
            author = (await session.scalars(select(Author).options(selectinload(Author.books)))).one()
            assert [book.title for book in author.books] == ["Emma", "Persuasion"]
            author.name = "Jane Austen"
            author.books.pop()
            await session.commit()
            book = await session.get(Book, author.books[0].id)
            assert (await book.awaitable_attrs.author if hasattr(book, "awaitable_attrs") else author) is author
            author.name = "nobody"
            await session.flush()
            await session.rollback()
            await session.refresh(author, ["name", "books"])
            return author.name, [book.title for book in author.books]

    assert run(program) == ("Jane Austen", ["Emma"])


def test_the_stores_engine_is_shared(engine_name, tmp_path):
    """An asyncio engine on a store that the program has open, beside the native Session."""
    models = kvdialect.registry()

    @kvdialect.mapped(models)
    class Coin:
        __tablename__ = "coins"
        id: kvdialect.Mapped[int] = kvdialect.field(primary_key=True)
        amount: kvdialect.Mapped[int]

    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    with kvdialect.create_engine(url) as store:
        models.create_all(store)
        with kvdialect.Session(store) as session, session.begin():
            session.add(Coin(1, 10))

        async def main():
            engine = create_async_engine(f"kvdialect+aio{engine_name}://", connect_args={"store": store})
            async with engine.begin() as connection:
                await connection.exec_driver_sql("UPDATE coins SET amount = amount + 1")
            await engine.dispose()

        asyncio.run(main())
        with kvdialect.Session(store) as session:
            assert session.get(Coin, 1).amount == 11


# ------------------------------------------------------------------------------------------ streams


def test_streams(run):
    """Parts of a result while others write; a stream left early; one of the ORM's."""

    async def program(engine: AsyncEngine):
        async with engine.begin() as connection:
            await connection.execute(counters.insert(), [{"id": n, "n": n} for n in range(1, 1001)])
        parts = []
        async with engine.connect() as connection:
            async with connection.stream(select(counters.c.id).order_by(counters.c.id)) as result:
                async for part in result.scalars().yield_per(300).partitions():
                    parts.append(list(part))
                    async with engine.begin() as other:
                        await other.execute(counters.delete().where(counters.c.id > 500))
            await connection.rollback()
            rows = await connection.stream(select(counters).execution_options(yield_per=10))
            first = [row async for row in rows.scalars()][:3]
            result = await connection.stream(select(counters.c.id).execution_options(yield_per=10))
            assert (await result.fetchone()) == (1,)
            await result.close()
            await connection.execute(counters.update().values(n=0))
            await connection.commit()
        async with AsyncSession(engine) as session:
            objects = await session.stream_scalars(select(Counter).execution_options(yield_per=7))
            return parts, first, sum([counter.id async for counter in objects])

    parts, first, total = run(program)
    assert [len(part) for part in parts] == [300, 300, 300, 100]
    assert [number for part in parts for number in part] == list(range(1, 1001))
    assert first == [1, 2, 3]
    assert total == sum(range(1, 501))


def test_a_stream_brings_over_what_is_asked_for(run):
    """No more than the part is read, and a stream that its connection outlives is over."""

    async def program(engine: AsyncEngine):
        async with engine.begin() as connection:
            await connection.execute(counters.insert(), [{"id": n} for n in range(1, 2001)])
        async with engine.connect() as connection:
            result = await connection.stream(select(counters.c.id).execution_options(yield_per=50))
            part = await anext(result.partitions())
            driver = (await connection.get_raw_connection()).driver_connection
            [cursor] = driver._cursors
            left = len(cursor.fetchall())
        return len(part), left

    part, left = run(program)
    assert part == 50
    assert left >= 1000


# ------------------------------------------------------------------------------------------ tasks


def test_tasks_at_once_conflict_and_try_again(run):
    """Ten tasks that add to one counter: each conflict is told as one, and with another try none is lost."""

    async def program(engine: AsyncEngine):
        conflicts = 0

        async def add() -> None:
            nonlocal conflicts
            for attempt in range(200):
                try:
                    async with AsyncSession(engine) as session, session.begin():
                        counter = await session.get_one(Counter, 1)
                        await asyncio.sleep(0)
                        counter.n += 1
                    return
                except sa.exc.OperationalError as error:
                    if not isinstance(error.orig, exc.ConflictError) or not error.orig.retryable:
                        raise
                    conflicts += 1
                    await asyncio.sleep(0.001 * attempt)
            raise AssertionError("200 conflicts in a row")

        async with AsyncSession(engine) as session, session.begin():
            session.add(Counter(id=1))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(add())
        async with engine.connect() as connection:
            return conflicts, await connection.scalar(select(counters.c.n))

    conflicts, total = run(program, pool_size=5, max_overflow=0)
    assert total == 10
    assert conflicts > 0


def test_tasks_have_transactions_of_their_own(run):
    """Readers go on in their snapshots while a writer commits, each on its own connection of the pool."""

    async def program(engine: AsyncEngine):
        begun, written = asyncio.Barrier(4), asyncio.Event()

        async def read() -> tuple[int, int]:
            async with engine.connect() as connection:
                before = await connection.scalar(select(func.count()).select_from(counters))
                await begun.wait()
                await written.wait()
                return before, await connection.scalar(select(func.count()).select_from(counters))

        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(read()) for _ in range(3)]
            await begun.wait()
            assert engine.pool.checkedout() == 3
            async with engine.begin() as connection:
                await connection.execute(counters.insert().values(id=1))
            written.set()
        assert engine.pool.checkedout() == 0
        return [reader.result() for reader in readers]

    assert run(program, pool_size=4) == [(0, 0)] * 3


def test_the_loop_is_not_blocked(run):
    """A task that only sleeps gets its turns while a statement runs for long on another connection."""

    async def program(engine: AsyncEngine):
        turns: list[float] = []

        async def tick() -> None:
            while True:
                turns.append(time.perf_counter())
                await asyncio.sleep(0.005)

        async with engine.connect() as connection:
            await connection.execute(select(1))
            ticker = asyncio.create_task(tick())
            await asyncio.sleep(0)
            began = time.perf_counter()
            counted = (await connection.exec_driver_sql(SLOW.format(1_000_000))).one()
            took = time.perf_counter() - began
            ticker.cancel()
        within = [turn for turn in turns if began < turn < began + took]
        return counted, len(within), took

    counted, turns, took = run(program)
    assert counted == (1_000_000, 1_000_000)
    assert turns >= 5
    assert turns >= took / 0.25


# ------------------------------------------------------------------------------------------ cancellation and the end


@pytest.mark.parametrize("pool_size", [1, 3])
def test_a_cancelled_task_leaves_the_pool_usable(run, pool_size):
    """What it wrote is undone, its statement is interrupted, and another connection takes the place of its own."""

    async def program(engine: AsyncEngine):
        async def write_and_wait(number: int) -> None:
            async with engine.begin() as connection:
                await connection.execute(counters.insert().values(id=number))
                await connection.exec_driver_sql(SLOW.format(MINUTES))

        for number in range(4):
            task = asyncio.create_task(write_and_wait(number))
            await asyncio.sleep(0.02 * number)  # at another point of its work each time
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert _gone(lambda: len(_threads()) > pool_size)
            async with engine.begin() as connection:
                await connection.execute(counters.insert().values(id=100 + number))
        async with engine.connect() as connection:
            found = (await connection.scalars(select(counters.c.id).order_by(counters.c.id))).all()
        return found, engine.pool.checkedout()

    assert run(program, pool_size=pool_size, max_overflow=0, pool_timeout=20) == ([100, 101, 102, 103], 0)


def test_a_timeout_ends_a_statement_that_takes_too_long(run):
    """The usual way to bound a statement."""

    async def program(engine: AsyncEngine):
        async with engine.connect() as connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await connection.exec_driver_sql(SLOW.format(MINUTES))
        async with engine.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(counters))

    assert run(program, pool_size=1, max_overflow=0, pool_timeout=20) == 0


def test_a_task_cancelled_while_it_connects(run):
    """A connection that is made nevertheless is closed, at whichever turn of the loop the task was cancelled."""

    async def program(engine: AsyncEngine):
        cancelled = 0
        for turns in range(12):
            task = asyncio.create_task(engine.connect().start())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            [made] = await asyncio.gather(task, return_exceptions=True)
            if isinstance(made, asyncio.CancelledError):
                cancelled += 1
            else:
                await made.close()
        assert _gone(_threads)
        async with engine.connect() as connection:
            return cancelled, await connection.scalar(select(func.count()).select_from(counters))

    cancelled, count = run(program, poolclass=NullPool)
    assert cancelled > 3
    assert count == 0


def test_a_connection_that_is_dropped(run):
    """One that nobody gives back is closed when the garbage collector finds it; SQLAlchemy warns."""

    async def program(engine: AsyncEngine):
        held = [await engine.connect()]
        await held[0].execute(counters.insert().values(id=1))
        with pytest.warns(sa.exc.SAWarning, match="garbage collector is trying to clean up non-checked-in"):
            _drop(held)
        assert _gone(_threads)
        async with engine.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(counters))

    assert run(program, pool_size=1, max_overflow=0, pool_timeout=20) == 0


def _drop(held: list[AsyncConnection]) -> None:
    held.clear()
    gc.collect()


def test_dispose_waits_for_what_is_interrupted(url):
    """The store closes when the last connection has, not under a statement that still runs."""

    async def main():
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(counters.insert(), [{"id": n} for n in range(500)])

        async def read() -> None:
            async with engine.connect() as connection:
                await connection.scalar(select(func.count()).select_from(counters, counters.alias(), counters.alias()))

        tasks = [asyncio.create_task(read()) for _ in range(2)]
        await asyncio.sleep(0.05)
        async with engine.connect() as connection:
            store = (await connection.get_raw_connection()).driver_connection.store
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await engine.dispose()
        return store

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # a cartesian product, on purpose
        store = asyncio.run(main())
    assert _gone(_threads)
    with pytest.raises(exc.StoreClosed):
        store.backend.get("kvdialect", b"x")


def test_a_statement_cancelled_before_sqlite_runs_it(run, monkeypatch):
    """SQLite forgets an interruption that comes while the statement is still being read."""
    begun = threading.Event()

    def parse(sql: str):
        if sql == SLOW.format(MINUTES):
            begun.set()
            time.sleep(0.2)
        return original(sql)

    original = cursor.parse
    monkeypatch.setattr(cursor, "parse", parse)

    async def program(engine: AsyncEngine):
        async def wait_for_minutes() -> None:
            async with engine.connect() as connection:
                await connection.exec_driver_sql(SLOW.format(MINUTES))

        task = asyncio.create_task(wait_for_minutes())
        assert await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return _gone(_threads)

    assert run(program)


CANCELLED_AT_THE_END = """
import asyncio, sys
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

async def main():
    engine = create_async_engine(sys.argv[1])
    async with engine.begin() as connection:
        await connection.execute(text("create table t (id integer primary key, n int)"))
        await connection.execute(text("insert into t (n) values (:n)"), [{"n": n} for n in range(3000)])
    try:
        async with asyncio.timeout(0.02):
            async with engine.begin() as connection:
                await connection.execute(text("update t set n = n + 1"))
                await connection.execute(text("select count(*) from t, t as u, t as v"))
    except TimeoutError:
        print("cancelled")

asyncio.run(main())
"""


def test_a_program_that_ends_soon_after_a_cancelled_statement(url):
    """No thread is left without what it needs as the interpreter ends."""
    command = [sys.executable, "-c", CANCELLED_AT_THE_END, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cancelled\n", "")


@pytest.mark.parametrize("pool", [AsyncAdaptedQueuePool, NullPool, StaticPool])
def test_pools(url, pool):
    """Whichever pool there is, connections work one after another, and dispose() ends their threads."""

    async def main():
        engine = create_async_engine(url, poolclass=pool)
        assert isinstance(engine.pool, pool)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        for number in range(3):
            async with engine.begin() as connection:
                await connection.execute(counters.insert().values(id=number))
        async with engine.connect() as connection:
            found = (await connection.scalars(select(counters.c.id))).all()
        await engine.dispose()
        return sorted(found)

    assert asyncio.run(main()) == [0, 1, 2]
    assert _gone(_threads)


def _gone(things) -> bool:
    """Threads end a little after they were told to."""
    until = time.monotonic() + 10
    while things() and time.monotonic() < until:
        time.sleep(0.01)
    return not things()


def test_dispose_closes_the_store(url, engine_name):
    """The next engine, in another loop, opens it again and finds what was committed; the driver of one is free."""

    async def write():
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(counters.insert().values(id=1, n=5))
            store = (await connection.get_raw_connection()).driver_connection.store
        await engine.dispose()
        return store

    async def read():
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            n = await connection.scalar(select(counters.c.n))
        await engine.dispose()
        return n

    store = asyncio.run(write())
    with pytest.raises(exc.StoreClosed):
        store.backend.get("kvdialect", b"x")
    assert _gone(_threads)
    if engine_name != "memory":
        assert asyncio.run(read()) == 5


def test_an_engine_is_used_after_dispose(run):
    """dispose() is no end: what is asked of the engine afterwards opens the store again."""

    async def program(engine: AsyncEngine):
        await engine.dispose()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(counters.insert().values(id=1))
            return await connection.scalar(select(counters.c.id))

    assert run(program) == 1


def test_isolation_levels(run):
    """AUTOCOMMIT and SERIALIZABLE are set on the connection's own thread."""

    async def program(engine: AsyncEngine):
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(counters.insert().values(id=1))
            await connection.execute(counters.insert().values(id=2))
        async with engine.connect() as first, engine.connect() as second:
            for connection in (first, second):
                await connection.execution_options(isolation_level="SERIALIZABLE")
                assert await connection.scalar(select(func.sum(counters.c.n))) == 0
            await first.execute(counters.update().where(counters.c.id == 1).values(n=1))
            await second.execute(counters.update().where(counters.c.id == 2).values(n=1))
            await first.commit()
            with pytest.raises(sa.exc.OperationalError) as caught:
                await second.commit()
            assert isinstance(caught.value.orig or caught.value, exc.ConflictError)
            await second.rollback()
            return await second.scalar(select(func.sum(counters.c.n)))

    assert run(program) == 1
