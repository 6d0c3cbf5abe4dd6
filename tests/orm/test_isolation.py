"""Isolation: what two transactions at once can see and do, each anomaly by its name."""

from __future__ import annotations

import threading

import pytest
from orm_records import Coin, User, coin, coin_id
from sqlalchemy import func, select

from kvdialect import Session, exc


@pytest.fixture
def filled(engine):
    """A store with ten coins."""
    with Session(engine) as session, session.begin():
        session.add_all([coin(n) for n in range(10)])
    return engine


def test_reads_are_of_one_moment(filled):
    """No non-repeatable read: what others commit meanwhile is not seen, in no family."""
    with Session(filled) as reader, Session(filled) as writer:
        assert len(reader.lookup("coin_by_confirmed_height", 0)) == 3
        with writer.begin():
            writer.add(coin(100, confirmed_height=0))
            writer.get_one(Coin, coin_id(1)).amount = 7777

        assert len(reader.lookup("coin_by_confirmed_height", 0)) == 3
        assert reader.get_one(Coin, coin_id(1)).amount == 10
        assert reader.scalar(select(func.count()).select_from(Coin)) == 10


def test_the_first_committer_wins(filled):
    """No lost update: the second writer of a record gets a ConflictError that names record and key."""
    with Session(filled) as first, Session(filled) as second:
        one, two = first.get_one(Coin, coin_id(1)), second.get_one(Coin, coin_id(1))
        one.amount += 1
        two.amount += 1
        first.commit()
        with pytest.raises(exc.ConflictError, match=r"coin_records\(coin_id=0x0+1\)") as caught:
            second.commit()

        assert caught.value.key == coin_id(1)
        assert caught.value.retryable
        assert two.amount == 10
    with Session(filled) as session:
        assert session.get_one(Coin, coin_id(1)).amount == 11


def test_delete_conflicts_with_change(filled):
    """A record changed by one and deleted by another: the second commit fails."""
    with Session(filled) as first, Session(filled) as second:
        first.get_one(Coin, coin_id(1)).amount = 1
        second.delete(second.get_one(Coin, coin_id(1)))
        first.commit()
        with pytest.raises(exc.ConflictError):
            second.commit()
    with Session(filled) as session:
        assert session.get_one(Coin, coin_id(1)).amount == 1


def test_a_duplicate_committed_since_is_a_conflict(filled):
    """A duplicate that the snapshot shows is an IntegrityError, one committed since a ConflictError."""
    with Session(filled) as first, Session(filled) as second:
        second.get(Coin, coin_id(1))
        with first.begin():
            first.add(coin(50))
        second.add(coin(50))
        with pytest.raises(exc.ConflictError):
            second.commit()
        second.add(coin(50))
        with pytest.raises(exc.IntegrityError):
            second.commit()


def test_a_unique_value_committed_since_is_a_conflict(filled):
    """The same for unique indexes."""
    with Session(filled) as first, Session(filled) as second:
        second.get(Coin, coin_id(1))
        with first.begin():
            first.add(User(name="a", email="x"))
        second.add(User(name="b", email="x"))
        with pytest.raises(exc.ConflictError, match="ix_users_email"):
            second.commit()
        second.add(User(name="b", email="x"))
        with pytest.raises(exc.IntegrityError, match="ix_users_email"):
            second.flush()


def _skew(engine, level):
    """Two transactions, each reads both coins and lowers the one that the other leaves."""
    with Session(engine, isolation_level=level) as one, Session(engine, isolation_level=level) as two:
        for session, mine in ((one, 1), (two, 2)):
            total = sum(session.get_one(Coin, coin_id(n)).amount for n in (1, 2))
            session.get_one(Coin, coin_id(mine)).amount -= total // 2
        one.commit()
        two.commit()


def test_write_skew_is_possible_under_snapshot(filled):
    """The anomaly that SNAPSHOT permits: each left the other's coin as it was, and now both are lower."""
    with Session(filled) as session, session.begin():
        session.get_one(Coin, coin_id(1)).amount = 100
        session.get_one(Coin, coin_id(2)).amount = 100
    _skew(filled, "SNAPSHOT")

    with Session(filled) as session:
        assert [session.get_one(Coin, coin_id(n)).amount for n in (1, 2)] == [0, 0]


def test_write_skew_is_refused_under_serializable(filled):
    """What was read must still be so at the commit."""
    with Session(filled) as session, session.begin():
        session.get_one(Coin, coin_id(1)).amount = 100
        session.get_one(Coin, coin_id(2)).amount = 100
    with pytest.raises(exc.ConflictError):
        _skew(filled, "SERIALIZABLE")


@pytest.mark.parametrize("read", ["select", "lookup", "scan", "count", "absent"])
def test_phantoms_are_refused_under_serializable(filled, read):
    """A range that was read must have the same records at the commit, however it was read."""

    def look(session):
        if read == "select":
            return len(session.scalars(select(Coin).where(Coin.confirmed_height == 5)).all())
        if read == "lookup":
            return len(session.lookup("coin_by_confirmed_height", 5))
        if read == "scan":
            return len(list(session.scan("coin_by_confirmed_height", start=5, stop=6, reverse=True)))
        if read == "count":
            return session.scalar(select(func.count()).select_from(Coin)) - 10
        return 0 if session.get(Coin, coin_id(60)) is None else 1

    with Session(filled, isolation_level="SERIALIZABLE") as one, Session(filled) as two:
        assert look(one) == 0
        one.add(User(name="nobody was there"))
        with two.begin():
            two.add(coin(60, confirmed_height=5))
        with pytest.raises(exc.ConflictError):
            one.commit()


def test_a_phantom_in_the_table_that_is_written_is_a_conflict(filled):
    """The conflict's key is where the range begins, which need be no record's key."""
    with Session(filled, isolation_level="SERIALIZABLE") as one, Session(filled) as two:
        assert len(list(one.scan(Coin))) == 10
        one.add(coin(71))
        with two.begin():
            two.add(coin(60))
        with pytest.raises(exc.ConflictError, match="coin_records"):
            one.commit()


def test_what_was_not_read_does_not_conflict_under_serializable(filled):
    """A scan that stopped early expects only what it has passed."""
    with Session(filled, isolation_level="SERIALIZABLE") as one, Session(filled) as two:
        scan = one.scan(Coin, limit=2)
        assert len(list(scan)) == 2
        one.add(User(name="a"))
        with two.begin():
            two.get_one(Coin, coin_id(8)).amount = 1
            two.add(coin(70))
        one.commit()


def test_readers_under_serializable_never_fail(filled):
    """A transaction that writes nothing is at its snapshot's moment."""
    with Session(filled, isolation_level="SERIALIZABLE") as one, Session(filled) as two:
        assert len(list(one.scan(Coin))) == 10
        with two.begin():
            two.add(coin(70))
        one.commit()


def test_a_serializable_retry_ends(filled):
    """engine.transaction brings both of two skewed writers through, one after the other."""
    with Session(filled) as session, session.begin():
        for n in (1, 2):
            session.get_one(Coin, coin_id(n)).amount = 100
    start = threading.Barrier(2)
    first = threading.local()

    def lower(session, mine):
        total = sum(session.get_one(Coin, coin_id(n)).amount for n in (1, 2))
        if not hasattr(first, "met"):
            first.met = True
            start.wait(10)
        if total >= 150:
            session.get_one(Coin, coin_id(mine)).amount -= 100

    threads = [
        threading.Thread(
            target=lambda mine=mine: filled.transaction(lambda s: lower(s, mine), isolation_level="SERIALIZABLE")
        )
        for mine in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    with Session(filled) as session:
        assert sum(session.get_one(Coin, coin_id(n)).amount for n in (1, 2)) == 100


def test_many_threads_lose_no_increment(filled):
    """Eight threads, a counter record, retries: the sum is exact, and so is the row count."""

    def work(number):
        for step in range(10):

            def bump(session, step=step):
                session.get_one(Coin, coin_id(1)).amount += 1
                session.add(coin(1000 + number * 100 + step))

            filled.transaction(bump, retries=1000)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    with Session(filled) as session:
        assert session.get_one(Coin, coin_id(1)).amount == 50
        assert session.scalar(select(func.count()).select_from(Coin)) == 50 == len(list(session.scan(Coin)))


def test_with_for_update_makes_a_read_count(filled):
    """get(with_for_update=True) conflicts with a change of the record, under SNAPSHOT too."""
    with Session(filled) as one, Session(filled) as two:
        one.get(Coin, coin_id(1), with_for_update=True)
        one.add(User(name="a"))
        with two.begin():
            two.get_one(Coin, coin_id(1)).amount = 1
        with pytest.raises(exc.ConflictError, match="coin_records"):
            one.commit()
