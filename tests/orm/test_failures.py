"""A commit that fails: the store is as it was, or as it was to be, and the session goes on."""

from __future__ import annotations

import gc

import pytest
import sqlalchemy as sa
from consistency import check_consistency
from orm_records import Coin, coin, coin_id, models

from kvdialect import Engine, Session, exc, object_session, open_backend
from kvdialect.testing import Fault, FaultPlan, FaultyBackend


@pytest.fixture
def faulty(url):
    """An engine whose storage can be told to fail, see ``_plan``."""
    with open_backend(url) as backend:
        engine = Engine(backend, sa.make_url(url))
        models.create_all(engine)
        engine.sound = backend
        yield engine


def _plan(engine, *faults):
    engine.backend = FaultyBackend(engine.sound, FaultPlan(*faults))


def test_a_failed_write_changes_nothing(faulty):
    """The error comes through, objects get their values back, and the next commit works."""
    with Session(faulty) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        mine.amount = 5
        other = coin(2)
        session.add(other)
        _plan(faulty, Fault("batch_write"))
        with pytest.raises(exc.BackendError):
            session.commit()

        assert mine.amount == 10
        assert other not in session
        check_consistency(faulty)
        session.add(other)
        mine.amount = 6
        session.commit()
    with Session(faulty) as session:
        assert session.get_one(Coin, coin_id(1)).amount == 6
        assert session.get(Coin, coin_id(2)) is not None


def test_an_unknown_outcome_is_said_and_not_retried(faulty):
    """engine.transaction must not run a function twice whose commit may have been applied."""
    calls = []

    def add(session):
        calls.append(1)
        session.add(coin(1))

    _plan(faulty, Fault("batch_write", outcome="unknown", applied=True))
    with pytest.raises(exc.CommitOutcomeUnknown):
        faulty.transaction(add)

    assert len(calls) == 1
    with Session(faulty) as session:
        assert session.get(Coin, coin_id(1)) is not None


def test_a_retryable_failure_is_retried(faulty):
    """What the storage layer calls retryable and not applied is run again."""
    _plan(faulty, Fault("batch_write", error=exc.LockTimeout("busy"), times=2))
    faulty.transaction(lambda session: session.add(coin(1)))

    with Session(faulty) as session:
        assert session.get(Coin, coin_id(1)) is not None
    assert faulty.stats()["retries"] == 2


def test_a_read_that_fails_leaves_the_session_usable(faulty):
    """An error of a get or a scan is raised, and the same call works afterwards."""
    with Session(faulty) as session, session.begin():
        session.add_all([coin(n) for n in range(5)])
    calls = (
        lambda session: session.get_one(Coin, coin_id(1)),
        lambda session: session.lookup("coin_by_confirmed_height", 0),
        lambda session: list(session.scan(Coin)),
    )
    for call in calls:
        _plan(faulty, Fault("read"))
        with Session(faulty) as session:
            with pytest.raises(exc.BackendError):
                call(session)
            assert call(session)


def test_damaged_bytes_are_an_error_and_never_a_record(faulty):
    """A value that does not decode is a SerializationError that names table and key."""
    with Session(faulty) as session, session.begin():
        session.add(coin(1))
    _plan(faulty, Fault("get", times=100, corrupt=lambda value: value[:-3]))
    with (
        Session(faulty) as session,
        pytest.raises((exc.SerializationError, exc.Corruption), match=r"coin_records|catalog"),
    ):
        session.get(Coin, coin_id(1))


def test_a_session_that_nobody_closes_ends_with_its_last_reference(engine):
    """Its snapshot would otherwise hold pages and reader slots until the collector of cycles comes by."""
    with Session(engine) as session, session.begin():
        session.add(coin(1))
    gc.disable()
    try:
        mine = Session(engine).get_one(Coin, coin_id(1))
        session = Session(engine)
        session.scalars(sa.select(Coin)).all()
        session.begin_nested()
        session.add(coin(2))
        session.flush()
        del session

        assert engine.backend.stats()["live_snapshots"] == 0
        assert object_session(mine) is None
        assert mine.coin_id == coin_id(1)
    finally:
        gc.enable()
