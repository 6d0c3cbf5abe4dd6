"""AsyncSession: the Session's promises in an event loop, on each engine: threads, cancellation, conflicts, the end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import warnings

import pytest
import sqlalchemy as sa
from orm_records import Coin, User, coin, coin_id, models
from sqlalchemy import event, func, select
from sqlalchemy import exc as sa_exc

from kvdialect import AsyncSession, Session, async_sessionmaker, create_engine, exc, sessionmaker
from kvdialect.storage.engine import Scan


@pytest.fixture
def engine(open_store):
    return open_store()


def run(main):
    """Run a test's coroutine; one that hangs is a failure and no riddle."""
    return asyncio.run(asyncio.wait_for(main, 60))


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("kvdialect-worker")]


class HeldCommit:
    """A commit that waits in the thread until it is let go."""

    def __init__(self, engine) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self._write = engine.backend.batch_write
        engine.backend.batch_write = self

    def __call__(self, batch) -> None:
        self.begun.set()
        assert self.let_go.wait(30)
        self._write(batch)

    async def wait(self) -> None:
        await asyncio.to_thread(self.begun.wait, 30)


# ------------------------------------------------------------------------------------------ the unit of work


def test_the_sessions_methods(engine):
    """Each method that reads or writes gives, awaited, what the Session's gives."""

    async def main():
        async with AsyncSession(engine) as session:
            session.add_all(coin(number) for number in range(20))
            first = coin(20)
            session.add(first)
            assert len(session.new) == 21
            assert first in session
            await session.flush()
            assert not session.new
            await session.commit()

            found = await session.get(Coin, coin_id(20))
            assert found is first
            assert await session.get(Coin, coin_id(99)) is None
            assert (await session.get_one(Coin, coin_id(3))).amount == 30
            with pytest.raises(sa_exc.NoResultFound):
                await session.get_one(Coin, coin_id(99))
            assert [one and one.amount for one in await session.get_many(Coin, [coin_id(1), coin_id(99)])] == [10, None]

            few = select(Coin).where(Coin.amount < 30).order_by(Coin.amount)
            assert [row[0].amount for row in (await session.execute(few)).all()] == [0, 10, 20]
            assert [each.amount for each in (await session.scalars(few)).all()] == [0, 10, 20]
            assert await session.scalar(select(func.count()).select_from(Coin)) == 21
            assert {each.amount for each in await session.lookup("coin_by_puzzle_hash", found.puzzle_hash)} == {
                60,
                130,
                200,
            }
            assert [each.amount for each in await session.scan(Coin, reverse=True, limit=2)] == [200, 190]
            page = await session.page(few, 2)
            assert [each.amount for each in page] == [0, 10]
            assert [each.amount for each in await session.page(few, 2, after=page.next)] == [20]
            assert "coin_records" in str(await session.explain(few))

            found.amount = 7
            assert list(session.dirty) == [found]
            assert session.is_modified(found)
            await session.refresh(found)
            assert (found.amount, session.is_modified(found)) == (200, False)
            merged = await session.merge(coin(20, amount=8))
            assert merged is found
            await session.delete(await session.get(Coin, coin_id(0)))
            assert len(session.deleted) == 1
            await session.commit()
        with Session(engine) as check:
            assert check.get(Coin, coin_id(0)) is None
            assert check.get_one(Coin, coin_id(20)).amount == 8

    run(main())


def test_a_block_commits_or_rolls_back(engine):
    """``begin`` commits at the end of its block, rolls back on an error; ``begin_nested`` undoes itself alone."""

    async def failing(session, block, added):
        async with block:
            session.add(added)
            await session.flush()
            1 / 0  # noqa: B018

    async def main():
        async with AsyncSession(engine) as session:
            async with session.begin():
                session.add(coin(1))
                async with session.begin_nested() as nested:
                    session.add(coin(2))
                    await session.flush()
                    await nested.rollback()
                with pytest.raises(ZeroDivisionError):
                    await failing(session, session.begin_nested(), coin(3))
                async with session.begin_nested():
                    session.add(coin(4))
            with pytest.raises(ZeroDivisionError):
                await failing(session, session.begin(), coin(5))
            assert not session.in_transaction()
            transaction = await session.begin()
            session.add(coin(6))
            assert transaction.is_active
            await transaction.commit()
            assert not transaction.is_active
            with pytest.raises(sa_exc.ResourceClosedError):
                await transaction.commit()
            with pytest.raises(sa_exc.ResourceClosedError, match="has not begun"):
                await session.begin().commit()
            async with session.begin():
                with pytest.raises(sa_exc.InvalidRequestError, match="already begun"):
                    await session.begin()
            return [each.amount for each in await session.scan(Coin)]

    assert run(main()) == [10, 40, 60]


def test_an_error_comes_as_it_is(engine):
    """What goes wrong on the thread is raised where it was awaited, and the session goes on as the Session does."""

    async def main():
        async with AsyncSession(engine) as session:
            session.add(coin(1))
            await session.commit()
            async with AsyncSession(engine) as other:
                other.add(coin(1))
                with pytest.raises(exc.IntegrityError, match="exists already"):
                    await other.commit()
                assert other.last_commit == "not_applied"
                await other.get(Coin, coin_id(1))
                other.add(User("a", email="e"))
                other.add(User("b", email="e"))
                with pytest.raises(exc.IntegrityError):
                    await other.flush()
                with pytest.raises(sa_exc.PendingRollbackError):
                    await other.scalar(select(func.count()).select_from(User))
                await other.rollback()
                assert await other.scalar(select(func.count()).select_from(User)) == 0
                with pytest.raises(exc.DataError):
                    await other.get(Coin, "no bytes")
            return await session.scalar(select(func.count()).select_from(Coin))

    assert run(main()) == 1


def test_run_sync(engine):
    """A function gets the Session itself, on the transaction's own thread, with the task's context variables."""
    said = contextvars.ContextVar("said")

    def work(session, number, *, amount):
        session.add(coin(number, amount=amount))
        return session.get_one(Coin, coin_id(number)), said.get(), threading.get_ident()

    async def main():
        said.set("hello")
        async with AsyncSession(engine) as session, session.begin():
            made, heard, thread = await session.run_sync(work, 1, amount=5)
            again = await session.run_sync(lambda _: threading.get_ident())
            assert thread == again != threading.get_ident()
            assert await session.get(Coin, coin_id(1)) is made
            with pytest.raises(KeyError):
                await session.run_sync(lambda _: {}["x"])
            return heard

    assert run(main()) == "hello"


def test_sessions_of_a_maker(engine):
    """``async_sessionmaker`` passes settings on, begins transactions, and takes a sessionmaker with its listeners."""
    sync = sessionmaker(engine)
    committed = []
    event.listen(sync, "after_commit", lambda session: committed.append(session.isolation_level))
    local = async_sessionmaker(sync_session_class=sync, isolation_level="SERIALIZABLE")

    async def main():
        async with local.begin() as session:
            session.add(coin(1))
        local.configure(isolation_level="SNAPSHOT")
        async with local() as session, session.begin():
            session.add(coin(2))
        async with async_sessionmaker(bind=engine, autoflush=False)() as session:
            assert session.autoflush is False
            with pytest.raises(exc.ArgumentError, match="give it an engine"):
                async_sessionmaker()()
            return [each.amount for each in await session.scan(Coin)]

    assert run(main()) == [10, 20]
    assert committed == ["SERIALIZABLE", "SNAPSHOT"]


# ------------------------------------------------------------------------------------------ results read by portions


def test_streams_and_scans_are_read_as_they_are_iterated(engine, monkeypatch):
    """A result of any size is read by portions, and between two of them the session does other things."""
    monkeypatch.setattr(Scan, "LARGEST", 16)
    read = []
    original = Scan.__next__
    monkeypatch.setattr(Scan, "__next__", lambda scan: read.append(1) or original(scan))
    statement = select(Coin).order_by(Coin.coin_id)

    async def main():
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(coin(number) for number in range(2000))
        async with AsyncSession(engine) as session:
            before = len(read)
            result = await session.stream_scalars(statement, execution_options={"yield_per": 50})
            first = await anext(result)
            assert (first.amount, await result.fetchone()) == (0, await session.get(Coin, coin_id(1)))
            assert len(read) - before < 20, "a portion is a few chunks, all of it over a hundred"
            assert [each.amount for each in await result.fetchmany(2)] == [20, 30]
            rest = [each.amount async for each in result]
            assert rest == [number * 10 for number in range(4, 2000)]
            assert [len(rows) async for rows in (await session.stream(statement)).partitions(900)] == [900, 900, 200]
            assert len(await (await session.stream(statement)).all()) == 2000
            assert (await (await session.stream(statement)).scalars().first()).amount == 0
            assert await (await session.stream(select(Coin.amount).limit(1))).one() == (0,)
            named = (await session.stream(select(Coin.amount).limit(1))).mappings()
            assert dict(await named.one_or_none()) == {"amount": 0}

            before = len(read)
            async for each in session.scan(Coin, reverse=True):
                assert each.amount == 19990
                break
            assert len(read) - before < 20
            assert [each.amount async for each in session.scan(Coin)] == [number * 10 for number in range(2000)]
            begun = session.scan(Coin)
            await anext(begun)
            with pytest.raises(exc.ProgrammingError, match="being iterated"):
                await begun
            late = await session.stream(statement)
            await session.commit()
            with pytest.raises(exc.StoreClosed, match="is over"):
                await late.all()

    run(main())


def test_a_lazy_result_is_not_given_to_the_event_loop(engine):
    """``yield_per`` would read the store while rows are taken; ``execute`` says to stream."""

    async def main():
        async with AsyncSession(engine) as session:
            for statement, options in (
                (select(Coin), {"execution_options": {"yield_per": 5}}),
                (select(Coin).execution_options(yield_per=5), {}),
            ):
                for method in (session.execute, session.scalars, session.scalar):
                    with pytest.raises(sa_exc.InvalidRequestError, match=r"session\.stream\(statement\)"):
                        await method(statement, **options)

    run(main())


def test_statements_of_sql(engine):
    """What only the SQL door does works from the thread, streams included."""
    pytest.importorskip("apsw", reason='needs pip install "kvdialect[sql]"')

    async def main():
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(coin(number) for number in range(10))
            assert await session.scalar(sa.text("select sum(amount) from coin_records")) == 450
            rows = await session.stream(sa.text("select amount from coin_records order by amount desc"))
            assert [row.amount async for row in rows] == [number * 10 for number in reversed(range(10))]
            return (await session.execute(sa.text("update coin_records set amount = amount + 1"))).rowcount

    assert run(main()) == 10
    with Session(engine) as session:
        assert session.scalar(select(func.sum(Coin.amount))) == 460


# ------------------------------------------------------------------------------------------ one task at a time


def test_two_tasks_on_one_session_are_refused(engine):
    """The second task is told so, by SQLAlchemy's error; the first one's call and the session come to no harm."""
    held = HeldCommit(engine)

    async def main():
        async with AsyncSession(engine) as session:
            session.add(coin(1))
            committing = asyncio.create_task(session.commit())
            await held.wait()
            message = r"AsyncSession\.get\(\) was called while its commit\(\) runs"
            with pytest.raises(sa_exc.IllegalStateChangeError, match=message):
                await session.get(Coin, coin_id(1))
            for misuse in (lambda: session.add(coin(2)), lambda: session.add_all([coin(2)]), session.expunge_all):
                with pytest.raises(sa_exc.IllegalStateChangeError):
                    misuse()
            for awaited in (session.close, session.rollback, session.commit):
                with pytest.raises(sa_exc.IllegalStateChangeError):
                    await awaited()
            held.let_go.set()
            await committing
            assert session.last_commit == "applied"
            return (await session.get(Coin, coin_id(1))).amount

    assert run(main()) == 10


def test_the_event_loop_goes_on_during_a_commit(engine):
    """A commit that takes long holds up its own task alone."""
    held = HeldCommit(engine)

    async def main():
        async with AsyncSession(engine) as session, AsyncSession(engine) as other:
            session.add(coin(1))
            committing = asyncio.create_task(session.commit())
            await held.wait()
            for _ in range(20):
                await asyncio.sleep(0)
                assert await other.get(Coin, coin_id(1)) is None
            assert not committing.done()
            held.let_go.set()
            await committing

    run(main())


def test_two_hundred_tasks_with_conflicts(engine):
    """Transactions that conflict are run again until all are done, and not one is lost or done twice."""
    tasks, accounts = 200, 60

    async def move(session, number):
        giver = await session.get_one(Coin, coin_id(number % accounts))
        taker = await session.get_one(Coin, coin_id((number * 7 + 1) % accounts))
        await asyncio.sleep(0)
        giver.amount -= 1
        taker.amount += 1
        giver.timestamp += 1
        return number

    async def main():
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(coin(number, amount=1000) for number in range(accounts))
        moves = [
            engine.async_transaction(lambda session, number=number: move(session, number), retries=1000)
            for number in range(tasks)
        ]
        assert await asyncio.gather(*moves) == list(range(tasks))
        async with AsyncSession(engine) as session:
            return await session.scan(Coin)

    coins = run(main())
    assert sum(each.amount for each in coins) == 1000 * accounts
    assert sum(each.timestamp for each in coins) == tasks
    assert engine.retries > 0
    assert len(workers()) <= 32


def test_a_transactions_last_conflict_is_raised(engine):
    """``async_transaction`` gives up after ``retries``, and at once for what is no conflict."""
    runs = []

    async def conflicting(session):
        runs.append(1)
        found = await session.get_one(Coin, coin_id(1))
        async with AsyncSession(engine) as rival, rival.begin():
            (await rival.get_one(Coin, coin_id(1))).amount += 1
        found.amount = 0

    async def failing(session):
        runs.append(session)
        raise exc.DataError("no")

    async def main():
        async with AsyncSession(engine) as session, session.begin():
            session.add(coin(1))
        with pytest.raises(exc.ConflictError):
            await engine.async_transaction(conflicting, retries=2)
        assert len(runs) == 3
        with pytest.raises(exc.DataError):
            await engine.async_transaction(failing)
        with pytest.raises(exc.ArgumentError, match="retries"):
            await engine.async_transaction(failing, retries=-1)

    run(main())
    assert len(runs) == 4


# ------------------------------------------------------------------------------------------ cancellation


def test_a_cancelled_commit_runs_to_its_end(engine):
    """CancelledError comes when the commit is over; ``last_commit`` says how, and the session can go on."""
    held = HeldCommit(engine)

    async def main():
        async with AsyncSession(engine) as session:
            session.add(coin(1))
            committing = asyncio.create_task(session.commit())
            await held.wait()
            for _ in range(3):
                committing.cancel()
                await asyncio.sleep(0.005)
                assert not committing.done()
            held.let_go.set()
            with pytest.raises(asyncio.CancelledError) as caught:
                await committing
            assert caught.value.__notes__ == ["the commit of the AsyncSession was applied"]
            assert session.last_commit == "applied"
            assert not session.in_transaction()
            return (await session.get(Coin, coin_id(1))).amount

    assert run(main()) == 10


def test_a_cancelled_commit_that_fails_has_rolled_back(engine):
    """The commit's own error is the cause of the CancelledError."""

    async def main():
        async with AsyncSession(engine) as session, session.begin():
            session.add(coin(1))
        held = HeldCommit(engine)
        async with AsyncSession(engine) as session:
            session.add(coin(1))
            committing = asyncio.create_task(session.commit())
            await held.wait()
            committing.cancel()
            held.let_go.set()
            with pytest.raises(asyncio.CancelledError) as caught:
                await committing
            assert isinstance(caught.value.__cause__, exc.IntegrityError)
            assert session.last_commit == "not_applied"
            session.add(coin(2))
            await session.commit()
            return session.last_commit

    assert run(main()) == "applied"


def test_a_timeout_in_a_block_leaves_nothing_behind(engine):
    """``asyncio.timeout`` within ``session.begin()``: rolled back, and the thread is free again."""

    async def slow():
        async with AsyncSession(engine) as session, session.begin():
            session.add(coin(1))
            await session.flush()
            await asyncio.sleep(30)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.02)
        assert engine.workers.taken == 0
        async with AsyncSession(engine) as session:
            return await session.get(Coin, coin_id(1))

    assert run(main()) is None


async def _streamed(session):
    return await (await session.stream(select(Coin))).all()


READS = {
    "execute": lambda session: session.execute(select(Coin).where(Coin.amount == 3)),
    "scan": lambda session: session.scan(Coin),
    "stream": _streamed,
}


@pytest.mark.parametrize("read", READS)
def test_a_cancelled_read_is_cut_short(engine, monkeypatch, read):
    """A query that is cancelled ends at its next portion, and its transaction goes on, at the same moment."""
    monkeypatch.setattr(Scan, "LARGEST", 16)
    original = Scan.__next__
    slow = []
    monkeypatch.setattr(Scan, "__next__", lambda scan: (slow and time.sleep(0.005)) or original(scan))

    async def main():
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(coin(number) for number in range(3000))
        async with AsyncSession(engine) as session:
            await session.get(Coin, coin_id(1))
            async with AsyncSession(engine) as other, other.begin():
                (await other.get_one(Coin, coin_id(1))).amount = 5
            slow.append(1)  # a second, were it not cut short
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(READS[read](session), 0.03)
            took = time.monotonic() - begun
            slow.clear()
            assert took < 0.5
            assert len(await session.scan(Coin)) == 3000
            return (await session.get(Coin, coin_id(1))).amount

    assert run(main()) == 10


def test_a_cancelled_statement_of_sql_is_cut_short(engine):
    """SQLite is interrupted too; what the transaction has written stays."""
    pytest.importorskip("apsw", reason='needs pip install "kvdialect[sql]"')
    endless = sa.text(
        "WITH RECURSIVE k (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 1e9) SELECT max(n) AS n FROM k"
    ).columns(sa.column("n"))

    async def main():
        async with AsyncSession(engine) as session, session.begin():
            session.add(coin(1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.scalar(select(endless.subquery().c.n)), 0.1)
        async with AsyncSession(engine) as session:
            return (await session.get(Coin, coin_id(1))).amount

    assert run(main()) == 10


# ------------------------------------------------------------------------------------------ threads


def test_transactions_beyond_the_pool_wait_for_their_turn(open_store):
    """No more than ``pool_size`` transactions are open at once; who waits too long, or is cancelled, is told."""
    engine = open_store(pool_size=2)

    async def use(number):
        async with AsyncSession(engine) as session, session.begin():
            session.add(coin(number))
            await session.flush()
            assert engine.workers.taken <= 2

    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(use(number))
        first, second, third = (AsyncSession(engine) for _ in range(3))
        async with first, second, third:
            await first.get(Coin, coin_id(1))
            await second.get(Coin, coin_id(1))
            engine.workers.timeout = 0.05
            with pytest.raises(
                sa_exc.TimeoutError, match=r"2 asyncio transactions are open .*, and none ended in 0\.05 s"
            ):
                await third.get(Coin, coin_id(1))
            engine.workers.timeout = 30
            waiting = asyncio.create_task(third.get(Coin, coin_id(1)))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            waiting = asyncio.create_task(third.get(Coin, coin_id(1)))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await first.commit()
            assert (await waiting).amount == 10
        assert engine.workers.taken == 0

    run(main())
    assert len(workers()) == 2


def test_a_worker_that_comes_with_a_cancellation_is_not_lost(open_store):
    """The thread is handed to a task in the same moment in which that is cancelled: others get it."""
    engine = open_store(pool_size=1)

    async def main():
        async with AsyncSession(engine) as holder, AsyncSession(engine) as session:
            await holder.get(Coin, coin_id(1))
            waiting = asyncio.create_task(session.get(Coin, coin_id(1)))
            await asyncio.sleep(0.01)
            holder.sync_session.close()
            holder._settle()
            for _ in range(3):  # the hand-over is on its way, or done
                waiting.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(0)
            assert engine.workers.taken == 0
            assert await session.get(Coin, coin_id(1)) is None

    run(main())


def test_closing_the_engine_ends_its_threads(engine):
    """After ``engine.close()`` no thread is left, and who still works or waits gets StoreClosed instead of silence."""

    async def main():
        session, idle = AsyncSession(engine), AsyncSession(engine)
        await session.get(Coin, coin_id(1))
        session.add(coin(1))
        engine.close()
        with pytest.raises(exc.StoreClosed):
            await session.commit()
        await session.close()
        with pytest.raises(exc.StoreClosed):
            await idle.get(Coin, coin_id(1))
        async with AsyncSession(engine):
            pass

    run(main())
    _await_no_workers()


def test_an_engine_that_is_dropped_takes_its_threads_along(url):
    """A program that never closes its engine leaves no thread behind either."""

    def use():
        engine = create_engine(url)
        models.create_all(engine)

        async def main():
            async with AsyncSession(engine) as session:
                await session.get(Coin, coin_id(1))

        run(main())
        assert workers()
        return engine.backend

    backend = use()
    gc.collect()
    _await_no_workers()
    backend.close()


def _await_none_taken(engine):
    deadline = time.monotonic() + 10
    while engine.workers.taken and time.monotonic() < deadline:
        time.sleep(0.002)


def _await_no_workers():
    deadline = time.monotonic() + 10
    while workers() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert workers() == []


def test_a_session_that_is_dropped_gives_its_thread_back(engine):
    """A forgotten ``close`` is a ResourceWarning, and neither a thread nor a snapshot is lost."""

    async def main():
        session = AsyncSession(engine)
        await session.get(Coin, coin_id(1))
        assert (engine.workers.taken, engine.stats()["live_snapshots"]) == (1, 1)
        del session
        gc.collect()
        await asyncio.to_thread(_await_none_taken, engine)
        return engine.workers.taken, engine.stats()["live_snapshots"]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        assert run(main()) == (0, 0)
    assert any("was dropped with a transaction open" in str(warning.message) for warning in caught)


def test_a_loop_that_ends_in_the_middle_of_a_call(engine):
    """The thread ends what it does; the session is closed behind it, and the thread is for others."""
    held = HeldCommit(engine)
    loop = asyncio.new_event_loop()

    async def main():
        async with AsyncSession(engine) as session:
            session.add(coin(1))
            await session.commit()

    task = loop.create_task(main())
    loop.run_until_complete(held.wait())
    loop.close()  # as a crashed server's; asyncio.run would have waited
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coroutine = task.get_coro()
        task._log_destroy_pending = False
        with pytest.raises(sa_exc.IllegalStateChangeError):
            coroutine.close()
    held.let_go.set()
    _await_none_taken(engine)

    assert engine.workers.taken == 0
    with Session(engine) as session:
        assert session.get_one(Coin, coin_id(1)).amount == 10


def test_event_loops_in_several_threads_share_an_engine(open_store):
    """The pool hands threads from one loop to another."""
    engine = open_store(pool_size=2)
    errors = []

    async def use(base):
        for number in range(10):
            async with AsyncSession(engine) as session, session.begin():
                session.add(coin(base + number))
                await session.flush()
                await asyncio.sleep(0)

    async def many(base):
        await asyncio.gather(*[use(base + 100 * each) for each in range(4)])

    def loop(base):
        try:
            run(many(base))
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(1000 * each,)) for each in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Coin)) == 120


def test_a_forked_child_is_refused(engine, monkeypatch):
    """The threads did not survive the fork: a call would wait for ever."""

    async def main():
        async with AsyncSession(engine) as session:
            with pytest.raises(exc.ForkedProcess, match="was opened in pid"):
                await session.get(Coin, coin_id(1))

    monkeypatch.setattr("kvdialect.orm.aio.workers.os.getpid", lambda: -1)
    asyncio.run(main())


def test_options_of_the_pool_are_checked():
    """A pool of no threads would never serve anybody."""
    for options in ({"pool_size": 0}, {"pool_size": 2.0}, {"pool_timeout": -1}, {"pool_timeout": "5"}):
        with pytest.raises(exc.ArgumentError, match="pool_"):
            create_engine("memory://", **options)
