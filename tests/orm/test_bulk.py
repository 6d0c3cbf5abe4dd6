"""Writes by statement, streaming, and the first import."""

from __future__ import annotations

import tracemalloc

import pytest
import sqlalchemy as sa
from consistency import check_consistency
from orm_records import Coin, User, coin, coin_id
from sqlalchemy import delete, func, insert, select, update

from kvdialect import Session, exc


def row(number):
    return {
        "coin_id": coin_id(number),
        "parent_coin_info": coin_id(0),
        "puzzle_hash": coin_id(number % 5),
        "amount": number,
        "confirmed_height": number // 10,
    }


def test_insert_takes_rows(engine, counting):
    """insert(Record) with a list of dicts: defaults, ids and indexes as for objects, and one batch."""
    with Session(engine) as session, session.begin():
        result = session.execute(insert(Coin), [row(n) for n in range(50)])
        assert result.rowcount == 50
        assert result.inserted_primary_key_rows[3] == (coin_id(3),)
        users = session.execute(insert(User), [{"name": "a", "email": "x"}, {"name": "b", "id": 77}])
        assert users.inserted_primary_key_rows[1] == (77,)
        session.execute(insert(User).values(name="c"))
        session.execute(insert(User).values([{"name": "d"}, {"name": "e"}]))
        session.execute(insert(User), {"name": "f"})
    assert len([b for b in counting.batches if "users" in b.changes or "coin_records" in b.changes]) == 1
    check_consistency(engine)
    with Session(engine) as session:
        assert session.get_one(Coin, coin_id(7)).coinbase is False
        assert {u.name for u in session.scan(User)} == set("abcdef")


def test_insert_refuses_and_leaves_nothing(engine):
    """A bad row anywhere: the statement has no effect, and the transaction goes on."""
    with Session(engine) as session:
        session.execute(insert(Coin), [row(1)])
        for bad, error, words in (
            (row(1), exc.IntegrityError, "exists already"),
            ({**row(3), "amount": -1}, exc.DataError, "coin_records.amount"),
            ({**row(3), "amuont": 1}, exc.ArgumentError, "amuont"),
            ({k: v for k, v in row(3).items() if k != "amount"}, exc.ArgumentError, "amount"),
        ):
            with pytest.raises(error, match=words):
                session.execute(insert(Coin), [row(2), bad])
            assert session.get(Coin, coin_id(2)) is None
        session.commit()
    check_consistency(engine)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Coin)) == 1


def test_update_by_statement(engine):
    """Values and expressions; indexes follow, and so do the objects of the session."""
    with Session(engine) as session, session.begin():
        session.execute(insert(Coin), [row(n) for n in range(50)])
    with Session(engine) as session:
        held = session.get_one(Coin, coin_id(12))
        pending = session.get_one(Coin, coin_id(13))
        pending.amount = 1000
        result = session.execute(
            update(Coin).where(Coin.confirmed_height == 1).values(amount=Coin.amount + 5, spent_height=9)
        )
        assert result.rowcount == 10
        assert (held.amount, held.spent_height) == (17, 9)
        assert pending.amount == 1005
        assert len(session.lookup("unspent_by_puzzle_hash", coin_id(2))) == 8
        session.rollback()
        assert (held.amount, held.spent_height, pending.amount) == (12, None, 13)
        session.execute(update(Coin).values(spent_height=1))
        session.commit()
        check_consistency(engine)
        assert list(session.scan("unspent_by_puzzle_hash")) == []


def test_update_does_not_meet_its_own_rows_again(engine):
    """Moving rows forward in the index that the statement reads changes each once."""
    with Session(engine) as session, session.begin():
        session.execute(insert(Coin), [row(n) for n in range(50)])
        session.execute(
            update(Coin).where(Coin.confirmed_height >= 0).values(confirmed_height=Coin.confirmed_height + 1)
        )
        heights = session.scalars(select(Coin.confirmed_height).order_by(Coin.confirmed_height)).all()
    assert heights == sorted(n // 10 + 1 for n in range(50))


def test_update_refused_in_the_middle_has_no_effect(engine):
    """A value out of range on the last row, a duplicate of a unique value: nothing of the statement stays."""
    with Session(engine) as session:
        session.add_all([User(id=n, name="n", email=f"{n}") for n in range(1, 4)])
        session.commit()
        with pytest.raises(exc.IntegrityError, match="ix_users_email"):
            session.execute(update(User).values(email="same"))
        assert [u.email for u in session.scan(User)] == ["1", "2", "3"]
        session.execute(update(User).where(User.id == 2).values(email="two"))
        session.commit()
    check_consistency(engine)


def test_update_of_a_primary_key_moves_the_records(engine):
    """A key may change by statement too."""
    with Session(engine) as session:
        session.add_all([User(id=n, name=f"{n}") for n in range(1, 4)])
        session.commit()
        session.execute(update(User).values(id=User.id + 1))
        session.commit()
        assert [(u.id, u.name) for u in session.scan(User)] == [(2, "1"), (3, "2"), (4, "3")]
    check_consistency(engine)


def test_delete_by_statement(engine):
    """Rows, entries and counts go; objects are detached after the commit, and back after a rollback."""
    with Session(engine) as session, session.begin():
        session.execute(insert(Coin), [row(n) for n in range(50)])
    with Session(engine) as session:
        held = session.get_one(Coin, coin_id(12))
        assert session.execute(delete(Coin).where(Coin.confirmed_height == 1)).rowcount == 10
        assert session.get(Coin, coin_id(12)) is None
        session.rollback()
        assert session.get(Coin, coin_id(12)) is held
        session.execute(delete(Coin).where(Coin.amount < 40))
        session.commit()
        assert held not in session
        assert session.scalar(select(func.count()).select_from(Coin)) == 10
        session.execute(delete(Coin))
        session.commit()
        assert session.scalar(select(func.count()).select_from(Coin)) == 0
    check_consistency(engine)


def test_yield_per_streams(engine):
    """Rows come in parts, objects are let go, and memory does not grow with the rows."""
    with Session(engine) as session, session.begin():
        session.execute(insert(Coin), [row(n) for n in range(20_000)])
    with Session(engine) as session:
        result = session.scalars(select(Coin).execution_options(yield_per=100))
        first = next(iter(result.partitions()))
        assert len(first) == 100
        del first
        tracemalloc.start()
        count = 1
        for part in result.partitions():
            count += len(part) // 100
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 200
    assert peak < 4_000_000


def test_a_result_is_sqlalchemys(engine):
    """Rows have names; one, first, all, mappings, unique and tuples work."""
    with Session(engine) as session, session.begin():
        session.execute(insert(Coin), [row(n) for n in range(5)])
    with Session(engine) as session:
        result = session.execute(select(Coin.amount, (Coin.amount * 2).label("double")).order_by(Coin.amount))
        assert result.keys() == sa.engine.result.RMKeyView(result._metadata)
        rows = result.all()
        assert rows[2].amount == 2
        assert rows[2].double == 4
        assert session.execute(select(Coin.amount).where(Coin.amount == 3)).mappings().one() == {"amount": 3}
        assert session.execute(select(Coin)).first()[0] is session.get(Coin, coin_id(0))
        with pytest.raises(sa.exc.MultipleResultsFound):
            session.scalars(select(Coin)).one()
        with pytest.raises(sa.exc.NoResultFound):
            session.scalars(select(Coin).where(Coin.amount == 99)).one()


def test_bind_parameters(engine):
    """A statement built once is executed with many values."""
    with Session(engine) as session, session.begin():
        session.execute(insert(Coin), [row(n) for n in range(30)])
    statement = select(Coin.amount).where(Coin.confirmed_height == sa.bindparam("height"))
    with Session(engine) as session:
        assert [len(session.scalars(statement, {"height": h}).all()) for h in (0, 2, 7)] == [10, 10, 0]


def test_bulk_load(engine):
    """A first import in batches, from dicts or objects, sorted or not, with progress."""
    seen = []
    assert engine.bulk_load(Coin, (row(n) for n in range(2500)), batch_size=1000, progress=seen.append) == 2500
    assert seen == [1000, 2000, 2500]
    assert engine.bulk_load(Coin, [coin(n) for n in (9000, 8000)]) == 2
    with pytest.raises(exc.IntegrityError, match="exists already"):
        engine.bulk_load(Coin, [row(10_000), row(5)])
    check_consistency(engine)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Coin)) == 2502
