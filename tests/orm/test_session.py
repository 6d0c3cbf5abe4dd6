"""What a Session promises: identity, pending writes, one batch, rollback in place."""

from __future__ import annotations

import gc

import pytest
import sqlalchemy as sa
from orm_records import Coin, User, coin, coin_id, models
from sqlalchemy import exc as sa_exc
from sqlalchemy import select

from kvdialect import Session, create_engine, exc, object_session, sessionmaker


def test_the_identity_map_gives_the_same_object_every_time(engine):
    """get, scalars, lookup and scan give one object for one record."""
    with Session(engine) as session, session.begin():
        session.add(coin(1))
    with Session(engine) as session:
        first = session.get(Coin, coin_id(1))

        assert session.get(Coin, coin_id(1)) is first
        assert session.scalars(select(Coin)).one() is first
        assert session.lookup("coin_by_puzzle_hash", coin_id(1)) == [first]
        assert next(session.scan(Coin)) is first


def test_an_added_object_is_what_the_session_finds(engine):
    """Pending writes are visible to get, select, lookup and scan, and the object found is the one added."""
    with Session(engine) as session:
        mine = coin(3)
        session.add(mine)

        assert session.get(Coin, coin_id(3)) is mine
        assert session.scalars(select(Coin).where(Coin.amount == 30)).one() is mine
        assert session.lookup("coin_by_confirmed_height", 1) == [mine]
        assert list(session.scan("unspent_by_puzzle_hash")) == [mine]


def test_a_changed_attribute_moves_index_entries(engine):
    """An index follows a changed attribute, before the commit and after it."""
    with Session(engine) as session, session.begin():
        session.add(coin(1))
    with Session(engine) as session, session.begin():
        found = session.get_one(Coin, coin_id(1))
        found.spent_height = 17

        assert session.lookup("unspent_by_puzzle_hash", coin_id(1)) == []
    with Session(engine) as session:
        assert session.lookup("unspent_by_puzzle_hash", coin_id(1)) == []
        assert session.get_one(Coin, coin_id(1)).spent_height == 17


def test_a_commit_is_one_batch(engine, counting):
    """However much a transaction did, its commit is exactly one batch_write."""
    with Session(engine) as session, session.begin():
        session.add_all([coin(n) for n in range(20)])
        session.flush()
        session.delete(session.get_one(Coin, coin_id(3)))
        session.get_one(Coin, coin_id(4)).spent_height = 1
        session.add(coin(100))

    assert len(counting.batches) == 1


def test_a_transaction_that_only_reads_writes_nothing(engine, counting):
    """Reading takes no batch at all."""
    with Session(engine) as session, session.begin():
        assert session.get(Coin, coin_id(1)) is None

    assert counting.batches == []


def test_a_rollback_restores_values_in_place(engine):
    """After a rollback the objects have the values they had before the transaction."""
    with Session(engine) as session:
        session.add(coin(1))
        session.commit()
        held = session.get_one(Coin, coin_id(1))
        held.spent_height = 5
        session.flush()
        held.spent_height = 6
        added = coin(2)
        session.add(added)
        session.rollback()

        assert held.spent_height is None
        assert added not in session
        assert held in session
        assert session.get(Coin, coin_id(2)) is None


def test_a_nested_rollback_restores_values_in_place(engine):
    """begin_nested().rollback() undoes what was done since, and nothing before."""
    with Session(engine) as session:
        first = coin(1)
        session.add(first)
        first.amount = 11
        nested = session.begin_nested()
        first.amount = 12
        session.add(coin(2))
        session.flush()
        assert session.scalar(select(sa.func.count()).select_from(Coin)) == 2
        nested.rollback()

        assert first.amount == 11
        assert session.get(Coin, coin_id(2)) is None
        assert session.scalar(select(sa.func.count()).select_from(Coin)) == 1
        session.commit()
    with Session(engine) as session:
        assert [c.amount for c in session.scalars(select(Coin))] == [11]


def test_nested_transactions_nest(engine):
    """An inner savepoint that is kept goes with the outer one that is rolled back."""
    with Session(engine) as session, session.begin():
        session.add(coin(1))
        with session.begin_nested() as outer:
            session.add(coin(2))
            with session.begin_nested():
                session.get_one(Coin, coin_id(1)).amount = 99
                session.add(coin(3))
            assert session.get_one(Coin, coin_id(1)).amount == 99
            outer.rollback()

        assert session.get_one(Coin, coin_id(1)).amount == 10
        assert session.get_many(Coin, [coin_id(2), coin_id(3)]) == [None, None]


def test_an_error_in_a_nested_block_leaves_the_rest(engine):
    """The way to try an insert: IntegrityError inside begin_nested, and the transaction goes on."""
    with Session(engine) as session, session.begin():
        session.add(coin(1))
    with Session(engine) as session, session.begin():
        session.add(coin(2))
        with pytest.raises(sa_exc.IntegrityError), session.begin_nested():
            session.add(coin(1))
        session.add(coin(3))
    with Session(engine) as session:
        assert [int.from_bytes(c.coin_id, "big") for c in session.scan(Coin)] == [1, 2, 3]


def test_a_failed_flush_asks_for_a_rollback(engine):
    """As in SQLAlchemy: after a flush has failed nothing goes on before rollback()."""
    with Session(engine) as session:
        session.add(coin(1))
        session.commit()
        session.add(coin(1))
        with pytest.raises(exc.IntegrityError, match="coin_records"):
            session.flush()

        with pytest.raises(sa_exc.PendingRollbackError):
            session.get(Coin, coin_id(5))
        session.rollback()
        assert session.get_one(Coin, coin_id(1)).amount == 10


def test_a_failed_commit_leaves_the_session_usable(engine):
    """The store is as it was, and the next transaction of the session works."""
    with Session(engine) as session:
        session.add(coin(1))
        session.commit()
        session.add_all([coin(2), coin(1)])
        with pytest.raises(exc.IntegrityError):
            session.commit()

        assert session.get(Coin, coin_id(2)) is None
        session.add(coin(3))
        session.commit()
        assert session.get(Coin, coin_id(3)) is not None


def test_objects_stay_readable_after_commit_and_refresh_at_the_next_read(engine):
    """After a commit an object keeps its values; the next transaction's first read of it refreshes it in place."""
    with Session(engine) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        with Session(engine) as other, other.begin():
            other.get_one(Coin, coin_id(1)).amount = 77

        assert mine.amount == 10
        assert session.get(Coin, coin_id(1)) is mine
        assert mine.amount == 77


def test_writing_an_object_of_an_earlier_transaction_conflicts_if_it_was_changed(engine):
    """A lost update is impossible: what the object was loaded as must still be there."""
    with Session(engine) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        with Session(engine) as other, other.begin():
            other.get_one(Coin, coin_id(1)).amount = 77
        mine.spent_height = 3

        with pytest.raises(exc.ConflictError, match="coin_records"):
            session.commit()


def test_delete_detaches_after_the_commit(engine):
    """A deleted record is gone from reads at once, and its object from the session after the commit."""
    with Session(engine) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        session.delete(mine)
        assert session.get(Coin, coin_id(1)) is None
        session.commit()

        assert mine not in session
        assert object_session(mine) is None


def test_a_rolled_back_delete_brings_the_object_back(engine):
    """The same object is persistent again."""
    with Session(engine) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        session.delete(mine)
        session.flush()
        session.rollback()

        assert mine in session
        assert session.get(Coin, coin_id(1)) is mine


def test_the_primary_key_of_an_object_can_change(engine):
    """The record moves: the old key is free, the new one taken, the object the same."""
    with Session(engine) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        mine.coin_id = coin_id(9)
        session.commit()

        assert session.get(Coin, coin_id(9)) is mine
        assert session.get(Coin, coin_id(1)) is None
        assert session.scalar(select(sa.func.count()).select_from(Coin)) == 1


def test_merge_copies_onto_the_object_of_the_session(engine):
    """Merge of an object with a known key changes the session's; of an unknown one it adds a copy."""
    with Session(engine) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        merged = session.merge(coin(1, amount=5))
        added = session.merge(coin(2))
        session.commit()

        assert merged is mine
        assert mine.amount == 5
        assert session.get(Coin, coin_id(2)) is added


def test_refresh_and_expire_discard_changes(engine):
    """Refresh takes the stored values at once; expire with the next read."""
    with Session(engine) as session:
        mine = coin(1)
        session.add(mine)
        session.commit()
        mine.amount = 1
        session.refresh(mine)
        assert mine.amount == 10
        mine.amount = 2
        session.expire(mine)
        assert session.get_one(Coin, coin_id(1)).amount == 10
        mine.amount = 3
        with session.no_autoflush:
            assert session.get(Coin, coin_id(1), populate_existing=True) is mine

        assert mine.amount == 10
        assert not session.dirty


def test_get_many_reads_in_order(engine):
    """One call for many keys: objects in the order of the keys, None for what is absent."""
    with Session(engine) as session, session.begin():
        session.add_all([coin(n) for n in range(5)])
    with Session(engine) as session:
        four = session.get(Coin, coin_id(4))
        found = session.get_many(Coin, [coin_id(4), coin_id(99), coin_id(0), coin_id(4)])

        assert found[0] is four is found[3]
        assert found[1] is None
        assert found[2].amount == 0


def test_collections_say_what_is_pending(engine):
    """new, dirty and deleted, and ``in``."""
    with Session(engine) as session:
        session.add_all([coin(1), coin(2)])
        session.commit()
        one, two, three = session.get(Coin, coin_id(1)), session.get(Coin, coin_id(2)), coin(3)
        one.amount = 5
        session.delete(two)
        session.add(three)

        assert set(session.new) == {three}
        assert set(session.dirty) == {one}
        assert set(session.deleted) == {two}
        assert three in session
        assert coin(3) not in session
        assert {id(o) for o in session} >= {id(one), id(three)}


def test_an_object_belongs_to_one_session(engine):
    """Adding it to a second one is refused until it is expunged or the first is closed."""
    mine = coin(1)
    with Session(engine) as first, Session(engine) as second:
        first.add(mine)
        with pytest.raises(exc.ProgrammingError, match="another session"):
            second.add(mine)
        first.expunge(mine)
        second.add(mine)

        assert object_session(mine) is second


def test_what_is_no_record_is_refused(engine):
    """add, delete and get name what they were given."""
    with Session(engine) as session:
        with pytest.raises(exc.ArgumentError, match="int"):
            session.add(3)
        with pytest.raises(exc.ArgumentError, match="dict"):
            session.get(dict, 1)
        with pytest.raises(sa_exc.InvalidRequestError, match="not persisted"):
            session.delete(coin(1))


def test_values_are_refused_with_their_names(engine):
    """An out-of-range or wrong-typed value names record, field, value and what is allowed, at the flush."""
    for bad, words in (
        (coin(1, amount=2**64), ["coin_records.amount", str(2**64), "18446744073709551615"]),
        (coin(1, amount="7"), ["coin_records.amount", "'7'", "str"]),
        (coin(1, confirmed_height=None), ["coin_records.confirmed_height", "None"]),
    ):
        with Session(engine) as session:
            session.add(bad)
            with pytest.raises(exc.DataError) as caught:
                session.flush()
        for word in words:
            assert word in str(caught.value)


def test_autoincrement_ids_are_given_at_the_flush(engine):
    """Ids come from the allocator, once each; an explicit id is never given again."""
    with Session(engine) as session:
        first, second = User(name="a"), User(name="b")
        session.add_all([first, second])
        session.flush()
        assert first.id is not None
        assert second.id == first.id + 1
        session.add(User(id=1000, name="c"))
        session.flush()
        fourth = User(name="d")
        session.add(fourth)
        session.commit()

        assert fourth.id not in {first.id, second.id, 1000}


def test_unique_values_are_enforced_and_nulls_are_distinct(engine):
    """A unique field and a composite unique constraint; the error names index and values."""
    with Session(engine) as session, session.begin():
        session.add_all([User(name="a", email="x@y"), User(name="b"), User(name="c")])
        session.add_all([User(name="d", team="t", nick="n"), User(name="e", team="t"), User(name="f", team="t")])
    with Session(engine) as session:
        session.add(User(name="z", email="x@y"))
        with pytest.raises(exc.IntegrityError, match=r"ix_users_email.*email='x@y'"):
            session.commit()
        session.add(User(name="z", team="t", nick="n"))
        with pytest.raises(sa_exc.IntegrityError, match=r"users_team_nick.*team='t', nick='n'"):
            session.flush()


def test_unique_values_may_be_swapped_in_one_flush(engine):
    """The batch is atomic: only what stands at its end must be unique."""
    with Session(engine) as session:
        one, two = User(name="1", email="a"), User(name="2", email="b")
        session.add_all([one, two])
        session.commit()
        one.email, two.email = "b", "a"
        session.commit()
        assert [u.name for u in session.lookup("ix_users_email", "a")] == ["2"]
        session.delete(one)
        session.add(User(name="3", email="b"))
        session.commit()

        assert [u.name for u in session.lookup("ix_users_email", "b")] == ["3"]


def test_a_list_changed_in_place_is_seen(engine):
    """Models with mutable fields are compared by their bytes, and a rollback restores the list."""
    with Session(engine) as session:
        mine = User(name="a", tags=["x"])
        session.add(mine)
        session.commit()
        ident = mine.id
        session.get(User, ident)
        mine.tags.append("y")
        assert [u.name for u in session.lookup("users_by_tag", "y")] == ["a"]
        session.rollback()
        assert mine.tags == ["x"]
        session.get(User, ident).tags.append("z")
        del mine
        gc.collect()
        session.commit()

        again = session.get(User, ident)
        assert again.tags == ["x", "z"]
        assert session.lookup("users_by_tag", "x") == session.lookup("users_by_tag", "z")
        session.commit()
        again.tags.append("between transactions")
        session.commit()
        assert session.lookup("users_by_tag", "between transactions") == [again]


def test_records_may_be_selected_with_columns_beside_them(engine):
    """The object of the identity map and the value, in one row."""
    with Session(engine) as session:
        mine = coin(3)
        session.add(mine)

        assert session.execute(select(Coin, Coin.amount + 1)).one() == (mine, 31)
        assert session.execute(select(Coin.amount, Coin)).one()[1] is mine


def test_no_autoflush(engine):
    """Within no_autoflush a query sees only what was flushed."""
    with Session(engine) as session:
        session.add(coin(1))
        with session.no_autoflush:
            assert session.scalars(select(Coin)).all() == []

        assert len(session.scalars(select(Coin)).all()) == 1


def test_begin_twice_is_refused(engine):
    """As in SQLAlchemy."""
    with Session(engine) as session:
        session.get(Coin, coin_id(1))
        with pytest.raises(sa_exc.InvalidRequestError, match="already begun"):
            session.begin()


def test_an_error_in_the_block_rolls_back(engine):
    """``with session.begin()`` commits all or nothing."""

    def failing(session):
        with session.begin():
            session.add(coin(1))
            raise ZeroDivisionError

    with Session(engine) as session, pytest.raises(ZeroDivisionError):
        failing(session)
    with Session(engine) as session:
        assert session.get(Coin, coin_id(1)) is None


def test_a_sessionmaker_makes_sessions(engine):
    """Settings, ``begin`` and a class of its own for events."""
    local = sessionmaker(engine, isolation_level="SERIALIZABLE")
    with local.begin() as session:
        session.add(coin(1))

    with local() as session:
        assert session.isolation_level == "SERIALIZABLE"
        assert session.get(Coin, coin_id(1)).amount == 10


def test_events_come_in_order(engine):
    """SQLAlchemy's event.listen on a session, on a sessionmaker and on the class."""
    seen = []
    local = sessionmaker(engine)
    sa.event.listen(local, "before_commit", lambda _: seen.append("before_commit"))
    sa.event.listen(local, "after_commit", lambda _: seen.append("after_commit"))
    with local() as session:

        @sa.event.listens_for(session, "before_flush")
        def before_flush(session, _context, _instances):
            seen.append(f"before_flush {len(session.new)}")
            if len(session.new) == 1:
                session.add(coin(2))

        sa.event.listen(session, "after_flush", lambda s, _: seen.append(f"after_flush {len(s.new)}"))
        sa.event.listen(session, "after_rollback", lambda _: seen.append("after_rollback"))
        session.add(coin(1))
        session.commit()
        session.add(coin(3))
        session.rollback()
        assert session.get(Coin, coin_id(2)) is not None
    with Session(engine) as session:
        session.add(coin(4))
        session.commit()

    assert seen == ["before_commit", "before_flush 1", "after_flush 2", "after_commit", "after_rollback"]


def test_data_outlive_the_process_handle(engine_name, url):
    """Closed and opened again, everything is there, found by the indexes."""
    if engine_name == "memory":
        url = "memory:///kept"
    keeper = create_engine(url)
    models.create_all(keeper)
    with Session(keeper) as session, session.begin():
        session.add_all([coin(n) for n in range(10)])
    if engine_name != "memory":
        keeper.close()
    with create_engine(url) as again:
        models.create_all(again)
        with Session(again) as session:
            assert len(session.lookup("coin_by_puzzle_hash", coin_id(1))) == 2
            assert session.scalar(select(sa.func.count()).select_from(Coin)) == 10
    keeper.close()


def test_transaction_retries_on_conflict(engine):
    """engine.transaction runs the function again until it commits, and gives its result."""
    with Session(engine) as session, session.begin():
        session.add(coin(1, amount=0))
    calls = []

    def add_one(session):
        found = session.get_one(Coin, coin_id(1))
        calls.append(found.amount)
        if len(calls) == 1:
            with Session(engine) as rival, rival.begin():
                rival.get_one(Coin, coin_id(1)).amount = 50
        found.amount += 1
        return found.amount

    assert engine.transaction(add_one) == 51
    assert calls == [0, 50]


def test_transaction_gives_up_after_its_retries(engine):
    """The last ConflictError is raised, and other errors at once."""
    calls = []

    def conflict(_session):
        calls.append(1)
        raise exc.ConflictError("no")

    with pytest.raises(exc.ConflictError):
        engine.transaction(conflict, retries=2)
    with pytest.raises(ZeroDivisionError):
        engine.transaction(lambda _: 1 / 0)

    assert len(calls) == 3
