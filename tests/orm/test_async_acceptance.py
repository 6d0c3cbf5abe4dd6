"""AsyncSession: what a review found, each with its example."""

from __future__ import annotations

import asyncio
import functools
import time

import pytest
import sqlalchemy as sa
from orm_records import Coin, coin, coin_id
from sqlalchemy import event, select
from sqlalchemy import exc as sa_exc

from kvdialect import AsyncSession, Session, exc
from kvdialect.storage.engine import Scan

COINS = 300
LOST = "an earlier read of this (stream|scan) (was cancelled|failed with OperationalError), and its rows are lost"


@pytest.fixture
def engine(open_store):
    return open_store()


@pytest.fixture
def filled(engine):
    with Session(engine) as session, session.begin():
        session.add_all(coin(number) for number in range(COINS))
    return engine


@pytest.fixture
def slow(monkeypatch):
    """While it has an element, scans take their time over each portion."""
    switch = []
    original = Scan.__next__
    monkeypatch.setattr(Scan, "LARGEST", 4)
    monkeypatch.setattr(Scan, "__next__", lambda scan: (switch and time.sleep(0.01)) or original(scan))
    return switch


def run(main):
    """Run a test's coroutine; one that hangs is a failure and no riddle."""
    return asyncio.run(asyncio.wait_for(main, 60))


# ------------------------------------------------------------------------------------------ reads that lose rows


async def _scan(session, statement):  # noqa: ARG001 - as the others
    return session.scan(Coin)


async def _stream(session, statement):
    return await session.stream(statement)


async def _scalars(session, statement):
    return await session.stream_scalars(statement)


async def _sql(session, statement):  # noqa: ARG001 - as the others
    pytest.importorskip("apsw", reason='needs pip install "kvdialect[sql]"')
    return await session.stream(sa.text("select amount from coin_records"), execution_options={"yield_per": 60})


async def _rest(result):
    return [row async for row in result]


REST = {
    "iteration": _rest,
    "all": lambda result: result.all(),
    "fetchmany": lambda result: result.fetchmany(5),
    "fetchone": lambda result: result.fetchone(),
    "first": lambda result: result.first(),
    "view": lambda result: result.scalars().all(),
}


@pytest.mark.parametrize("rest", REST)
def test_a_stream_whose_read_was_cut_short_does_not_end(filled, slow, rest):
    """The query is over, and rows are left: each later read says so, where it gave no rows and no error."""
    last = select(Coin).where(Coin.amount == 10 * (COINS - 1))

    async def main():
        async with AsyncSession(filled) as session:
            result = await session.stream(last)
            slow.append(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(result)
            slow.clear()
            for _ in range(2):
                with pytest.raises(exc.OperationalError, match=LOST):
                    await REST[rest](result)
            await result.close()
            return (await (await session.stream_scalars(last)).one()).amount

    assert run(main()) == 10 * (COINS - 1)


def test_a_scan_whose_read_was_cut_short_does_not_end(filled, slow):
    """As of streams; what is awaited for the list is refused too."""

    async def main():
        async with AsyncSession(filled) as session:
            await session.get(Coin, coin_id(0))
            scan = session.scan(Coin)
            slow.append(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await scan
            slow.clear()
            for _ in range(2):
                with pytest.raises(exc.OperationalError, match=LOST):
                    await anext(scan)
                with pytest.raises(exc.OperationalError, match=LOST):
                    await scan
            return len(await session.scan(Coin))

    assert run(main()) == COINS


@pytest.mark.parametrize("read", [_scan, _stream, _scalars, _sql])
def test_rows_that_were_on_their_way_to_a_cancelled_task_are_missed(filled, read):
    """The last portion is read, and thrown away with the task: the next read is no end of the result."""

    async def main():
        async with AsyncSession(filled) as session:
            result = await read(session, select(Coin).execution_options(yield_per=60))
            got = [await anext(result)]
            while True:
                reading = asyncio.ensure_future(anext(result))
                await asyncio.sleep(0)
                if not reading.done():  # it needs another portion, which arrives while the loop does not look
                    time.sleep(0.05)  # noqa: ASYNC251 - that is the point
                    reading.cancel()
                    break
                got.append(await reading)
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert len(got) in (60, 64)
            for _ in range(2):
                with pytest.raises(exc.OperationalError, match=LOST):
                    await anext(result)

    run(main())


def test_streams_beside_a_cancelled_read_do_not_end(filled, slow):
    """A cancelled read ends what else is half read in the session; each of their reads says so."""

    async def main():
        async with AsyncSession(filled) as session:
            stream = await session.stream(select(Coin), execution_options={"yield_per": 10})
            scan = session.scan(Coin)
            await anext(stream)
            await anext(scan)
            slow.append(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await session.scalars(select(Coin).where(Coin.amount == 3))
            slow.clear()
            for each in (stream, scan):
                with pytest.raises(exc.OperationalError, match="was cancelled; read again"):
                    await _rest(each)  # behind what had arrived
                with pytest.raises(exc.OperationalError, match=LOST):
                    await anext(each)
            assert len(await session.scan(Coin)) == COINS

    run(main())


def test_a_refused_read_loses_no_rows(filled):
    """A stream that is asked while another call of its session runs keeps what it has for the next time."""

    async def main():
        async with AsyncSession(filled) as session:
            result = await session.stream_scalars(select(Coin), execution_options={"yield_per": 10})
            await anext(result)
            other = asyncio.ensure_future(session.run_sync(lambda _session: time.sleep(0.05)))
            await asyncio.sleep(0.01)
            for refused in (result.fetchmany(20), result.all()):
                with pytest.raises(sa_exc.IllegalStateChangeError):
                    await refused
            await other
            return 1 + len(await result.all())

    assert run(main()) == COINS


def test_errors_about_the_number_of_rows_are_as_before(filled):
    """``one()`` of several is told as such, and reading on from it as SQLAlchemy does."""

    async def main():
        async with AsyncSession(filled) as session:
            many = await session.stream(select(Coin))
            with pytest.raises(sa_exc.MultipleResultsFound):
                await many.one()
            for _ in range(2):
                with pytest.raises(sa_exc.ResourceClosedError):
                    await many.all()

    run(main())


# ------------------------------------------------------------------------------------------ threads


def test_a_loop_that_has_stopped_is_handed_no_thread(open_store):
    """A task that waits for a thread in a loop that does not run: others get it, and the task if its loop goes on."""
    engine = open_store(pool_size=1, pool_timeout=5)
    stopped = asyncio.new_event_loop()
    holder = AsyncSession(engine)

    async def get():
        async with AsyncSession(engine) as session:
            return await session.get(Coin, coin_id(1))

    async def wait():
        await holder.get(Coin, coin_id(1))
        waiting = asyncio.create_task(get())
        await asyncio.sleep(0.01)
        return waiting

    async def other():
        await holder.close()
        return await get()

    waiting = stopped.run_until_complete(wait())
    assert engine.stats()["asyncio_pool"]["waiting"] == 1

    assert run(other()) is None
    assert engine.workers.taken == 0
    assert stopped.run_until_complete(waiting) is None
    assert engine.workers.taken == 0
    stopped.close()


def test_a_loop_that_goes_on_waits_for_its_turn_again(open_store):
    """The thread was taken by another one before the stopped loop went on: its task is not forgotten."""
    engine = open_store(pool_size=1, pool_timeout=5)
    stopped = asyncio.new_event_loop()
    first, second = AsyncSession(engine), AsyncSession(engine)

    async def wait():
        await first.get(Coin, coin_id(1))
        waiting = asyncio.create_task(second.get(Coin, coin_id(1)))
        await asyncio.sleep(0.01)
        return waiting

    async def go_on(waiting):
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await third.close()
        assert await waiting is None
        await second.close()

    waiting = stopped.run_until_complete(wait())
    run(first.close())
    third = AsyncSession(engine)
    run(third.get(Coin, coin_id(1)))
    stopped.run_until_complete(go_on(waiting))
    stopped.close()

    assert engine.workers.taken == 0


def test_a_stopped_loop_learns_that_the_engine_was_closed(open_store):
    """Its task gets StoreClosed when the loop goes on."""
    engine = open_store(pool_size=1, pool_timeout=5)
    stopped = asyncio.new_event_loop()
    first, second = AsyncSession(engine), AsyncSession(engine)

    async def wait():
        await first.get(Coin, coin_id(1))
        waiting = asyncio.create_task(second.get(Coin, coin_id(1)))
        await asyncio.sleep(0.01)
        return waiting

    waiting = stopped.run_until_complete(wait())
    run(first.close())
    engine.close()

    with pytest.raises(exc.StoreClosed):
        stopped.run_until_complete(waiting)
    stopped.close()


# ------------------------------------------------------------------------------------------ transactions of functions


class Asynchronous:
    async def __call__(self, session):
        session.add(coin(1))


async def _add(session):
    session.add(coin(1))


async def _yield(session):
    session.add(coin(1))
    yield


ASYNCHRONOUS = {
    "function": _add,
    "partial": functools.partial(_add),
    "object": Asynchronous(),
    "method": Asynchronous().__call__,
    "partial of object": functools.partial(Asynchronous()),
    "generator": _yield,
    "by its result": lambda session: _add(session),  # noqa: PLW0108 - what it is does not show
    "generator by its result": lambda session: _yield(session),  # noqa: PLW0108
}


@pytest.mark.parametrize("function", ASYNCHRONOUS)
def test_an_asynchronous_function_is_no_transaction(engine, function):
    """It would commit nothing and give a coroutine that nobody awaits: refused, with no warning of one."""
    with pytest.raises(exc.ArgumentError, match=r"it is asynchronous, .*; use await async_transaction\(\)"):
        engine.transaction(ASYNCHRONOUS[function])

    with Session(engine) as session:
        assert session.get(Coin, coin_id(1)) is None


def test_a_plain_function_is_no_asynchronous_transaction(engine):
    """It is seen from its result: what it did is rolled back; a plain function that gives a coroutine is one."""

    async def main():
        with pytest.raises(exc.ArgumentError, match="which cannot be awaited; give it an async def function"):
            await engine.async_transaction(lambda session: session.add(coin(1)))
        with pytest.raises(exc.ArgumentError, match="which cannot be awaited"):
            await engine.async_transaction(_yield)
        async with AsyncSession(engine) as session:
            assert await session.get(Coin, coin_id(1)) is None
        await engine.async_transaction(lambda session: _add(session))  # noqa: PLW0108 - as above
        async with AsyncSession(engine) as session:
            return (await session.get(Coin, coin_id(1))).amount

    assert run(main()) == 10
    assert engine.workers.taken == 0


@pytest.mark.parametrize("deadline", ["x", b"1", True, float("nan"), [1]])
def test_a_deadline_is_a_number_of_seconds(engine, deadline):
    """Anything else is an ArgumentError before the function runs."""
    ran = []

    with pytest.raises(exc.ArgumentError, match=r"deadline=.*; give a number of seconds"):
        engine.transaction(ran.append, deadline=deadline)
    with pytest.raises(exc.ArgumentError, match=r"deadline=.*; give a number of seconds"):
        run(engine.async_transaction(ran.append, deadline=deadline))

    assert ran == []


@pytest.mark.parametrize("deadline", [None, 5, 0.5, 0, -1.5, float("inf")])
def test_any_number_of_seconds_is_a_deadline(engine, deadline):
    """What is over is over, and the first run is made all the same."""
    assert engine.transaction(lambda session: 7, deadline=deadline) == 7  # noqa: ARG005 - as it is called


def test_an_asynchronous_transaction_that_was_committed_is_not_run_again(engine):
    """A listener behind the commit raises an error that would be worth another run."""
    runs = []

    def conflict(_session):
        raise exc.ConflictError("listener")

    async def function(session):
        runs.append(1)
        event.listen(session.sync_session, "after_commit", conflict)
        session.add(coin(len(runs)))

    with pytest.raises(exc.ConflictError, match="listener"):
        run(engine.async_transaction(function))

    assert runs == [1]


# ------------------------------------------------------------------------------------------ last_commit


@pytest.mark.parametrize("failure", [ValueError("listener"), exc.DataError("listener"), KeyError("listener")])
def test_a_listener_that_fails_behind_the_commit_does_not_undo_it(engine, failure):
    """``after_commit`` raises: the record is stored, and ``last_commit`` says so."""

    def fail(_session):
        raise failure

    async def main():
        async with AsyncSession(engine) as session:
            event.listen(session.sync_session, "after_commit", fail)
            session.add(coin(1))
            with pytest.raises(type(failure), match="listener"):
                await session.commit()
            assert session.last_commit == "applied"
            with pytest.raises(type(failure), match="listener"):
                async with session.begin():
                    session.add(coin(2))
            assert session.last_commit == "applied"
        async with AsyncSession(engine) as session:
            return [one.amount for one in await session.get_many(Coin, [coin_id(1), coin_id(2)])]

    assert run(main()) == [10, 20]


def test_what_was_not_committed_is_not_called_applied(engine):
    """After a commit that was applied: one that is refused, one that fails before, and a block that is rolled back."""

    def fail(_session):
        raise ValueError("listener")

    async def main():
        async with AsyncSession(engine) as session:
            async with session.begin() as transaction:
                session.add(coin(1))
            assert session.last_commit == "applied"
            with pytest.raises(sa_exc.ResourceClosedError):
                await transaction.commit()
            assert session.last_commit == "not_applied"
            async with session.begin():
                session.add(coin(2))
                await session.rollback()
            assert session.last_commit == "not_applied"
            await session.commit()
            event.listen(session.sync_session, "before_commit", fail)
            session.add(coin(3))
            with pytest.raises(ValueError, match="listener"):
                await session.commit()
            assert session.last_commit == "not_applied"

    run(main())


# ------------------------------------------------------------------------------------------ reads for update


def test_what_is_refreshed_for_update_counts_as_written(filled):
    async def main():
        async with AsyncSession(filled) as session:
            found = await session.get(Coin, coin_id(1), options=[])
            await session.refresh(found, with_for_update=True)
            (await session.get(Coin, coin_id(2))).amount = 5
            async with AsyncSession(filled) as other:
                (await other.get(Coin, coin_id(1))).amount = 9
                await other.commit()
            with pytest.raises(exc.ConflictError):
                await session.commit()

    run(main())
