"""A session at the SQL door: what its own queries do not do, in the same transaction, with the same objects."""

from __future__ import annotations

import sys

import pytest
import sqlalchemy as sa
from consistency import check_consistency
from orm_records import Coin, User, coin, coin_id
from sqlalchemy import func, select
from sqlalchemy.dialects.sqlite import insert

from kvdialect import Session, exc

COINS = Coin.__table__
PARENTS = COINS.alias()
WITH_PARENT = select(Coin).join(PARENTS, PARENTS.c.coin_id == COINS.c.parent_coin_info)


@pytest.fixture
def session(engine):
    """A session over thirty coins; coin n has coin n // 2 as its parent."""
    with Session(engine) as opened:
        with opened.begin():
            opened.add_all([coin(number) for number in range(1, 31)])
        yield opened
    check_consistency(engine)


def numbers(coins):
    return sorted(int.from_bytes(each.coin_id) for each in coins)


# ------------------------------------------------------------------------------------------------ queries


def test_a_join_gives_the_sessions_objects(session):
    """Records in a row are the objects of the identity map, as those of any other query."""
    known = session.get(Coin, coin_id(7))

    found = session.scalars(WITH_PARENT).all()

    assert numbers(found) == list(range(2, 31))
    assert any(each is known for each in found)


def test_rows_mix_records_and_columns(session):
    """Elements stand in their order; an outer join without a match has None for a whole record."""
    parent = sa.alias(COINS)
    statement = (
        select(COINS.c.amount, Coin, parent.c.amount.label("before"))
        .outerjoin(parent, parent.c.coin_id == COINS.c.parent_coin_info)
        .order_by(COINS.c.coin_id)
        .limit(2)
    )
    result = session.execute(statement)

    assert list(result.keys()) == ["amount", "Coin", "before"]
    assert [(row.amount, row.Coin.amount, row.before) for row in result] == [(10, 10, None), (20, 20, 10)]
    lonely = select(User, Coin).select_from(COINS).outerjoin(User.__table__, User.id == -1).limit(1)
    user, found = session.execute(lonely).one()
    assert user is None
    assert found is session.get(Coin, found.coin_id)


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        (select(func.count()).select_from(WITH_PARENT.subquery()), [(29,)]),
        (sa.union(select(Coin.amount), select(Coin.amount)).order_by("amount").limit(2), [(10,), (20,)]),
        (
            select(Coin.amount, func.row_number().over(order_by=Coin.amount.desc())).order_by(Coin.amount).limit(1),
            [(10, 30)],
        ),
        (sa.text("select count(*) from coin_records where amount > :least"), [(10,)]),
        (select(func.count()).where(Coin.coin_id.in_(select(PARENTS.c.parent_coin_info))), [(15,)]),
    ],
    ids=["subquery", "union", "window", "text", "in a select"],
)
def test_what_the_session_hands_over(session, statement, rows):
    """Everything that SQL can say is answered, with the values that the session itself would give."""
    parameters = {"least": 200} if isinstance(statement, sa.TextClause) else None

    assert [tuple(row) for row in session.execute(statement, parameters)] == rows


def test_pending_changes_are_seen(session):
    """The door reads the session's transaction: what is added, changed and deleted, and not yet committed."""
    session.add(coin(31))
    session.get(Coin, coin_id(2)).parent_coin_info = coin_id(0)
    session.delete(session.get(Coin, coin_id(30)))

    found = numbers(session.scalars(WITH_PARENT))

    assert found == [*range(3, 30), 31]


def test_wide_amounts_cross_the_door(session):
    """Amounts from 2**63 on come back as ints, and are added exactly."""
    session.get(Coin, coin_id(1)).amount = 2**64 - 100

    joined = select(Coin.amount + 5, PARENTS.c.amount).join(PARENTS, PARENTS.c.parent_coin_info == Coin.coin_id)
    assert session.execute(joined.where(Coin.amount > 2**63).limit(1)).one()[0] == 2**64 - 95


def test_a_large_result_is_read_in_parts(session):
    """yield_per reads a join lazily, within the transaction."""
    assert numbers(session.scalars(WITH_PARENT, execution_options={"yield_per": 4})) == list(range(2, 31))

    result = session.scalars(WITH_PARENT, execution_options={"yield_per": 4})
    assert len(numbers([next(result) for _ in range(4)])) == 4
    session.commit()
    with pytest.raises(exc.StoreClosed, match="take its rows before"):
        next(result)


def test_a_list_is_searched_at_the_door(engine):
    """contains() means the same in a query of the session and in one of the door."""
    with Session(engine) as session:
        session.add_all([User(name="a", tags=["x", "y"]), User(name="b", tags=["z"])])
        others = select(sa.alias(User.__table__).c.id)

        assert session.scalars(select(User.name).where(User.tags.contains("y"))).all() == ["a"]
        assert session.scalars(select(User.name).where(User.tags.contains("y"), User.id.in_(others))).all() == ["a"]


# ------------------------------------------------------------------------------------------------ writes


def test_objects_follow_what_sql_writes(session):
    """An UPDATE or DELETE of the door changes the session's objects in place; a rollback gives them back."""
    first, second = session.get(Coin, coin_id(1)), session.get(Coin, coin_id(2))
    parents = select(PARENTS.c.parent_coin_info)
    done = session.execute(sa.update(Coin).where(Coin.coin_id.in_(parents)).values(spent_height=9))
    assert done.rowcount == 15
    assert first.spent_height == second.spent_height == 9

    session.connection().execute(sa.delete(COINS).where(COINS.c.coin_id == coin_id(2)))
    assert session.get(Coin, coin_id(2)) is None

    session.rollback()
    assert first.spent_height is second.spent_height is None
    assert session.get(Coin, coin_id(2)) is second


def test_an_object_changed_after_sql_wrote_it(session):
    """The object goes on from what SQL wrote: both changes are committed."""
    changed = session.get(Coin, coin_id(5))
    session.execute(sa.text("update coin_records set amount = 77 where coin_id = :id"), {"id": coin_id(5)})
    changed.timestamp = 3
    session.commit()

    stored = session.get(Coin, coin_id(5))
    assert (stored.amount, stored.timestamp) == (77, 3)


def test_savepoints_of_both_doors(session):
    """A savepoint of either door takes back what was written at the other."""
    connection = session.connection()
    kept = session.get(Coin, coin_id(3))
    with session.begin_nested() as nested:
        connection.execute(sa.update(COINS).values(amount=1))
        assert kept.amount == 1
        nested.rollback()
    assert kept.amount == 30
    with connection.begin_nested() as savepoint:
        kept.amount = 2
        session.add(coin(40))
        session.flush()
        savepoint.rollback()
    assert kept.amount == 30
    assert session.get(Coin, coin_id(40)) is None
    session.commit()
    assert session.get(Coin, coin_id(3)).amount == 30


def test_upserts_and_returning(session):
    """Forms of insert() that the session leaves to the door."""
    values = {"coin_id": coin_id(1), "parent_coin_info": coin_id(0), "puzzle_hash": coin_id(0)}
    upsert = insert(COINS).values(amount=5, confirmed_height=1, **values)
    upsert = upsert.on_conflict_do_update(index_elements=["coin_id"], set_={"amount": upsert.excluded.amount})
    first = session.get(Coin, coin_id(1))

    session.execute(upsert)
    returned = session.execute(sa.update(Coin).where(Coin.amount == 5).values(amount=6).returning(Coin.amount)).all()

    assert returned == [(6,)]
    assert first.amount == 6


def test_a_failed_statement_undoes_itself_alone(session):
    """As SQL has it: the transaction stays open, with what came before."""
    session.add(coin(50))
    with pytest.raises(exc.IntegrityError, match="UNIQUE constraint failed"):
        session.execute(sa.text("insert into coin_records select * from coin_records"))
    session.commit()

    assert session.get(Coin, coin_id(50)) is not None


# ------------------------------------------------------------------------------------------------ the connection


def test_one_transaction_one_batch(session, counting):
    """What both doors write is one batch."""
    session.add(coin(60))
    session.connection().execute(sa.update(COINS).where(COINS.c.coin_id == coin_id(4)).values(amount=4))
    session.commit()

    assert len(counting.batches) == 1


def test_only_the_session_ends_the_transaction(session):
    """commit() and rollback() of the connection are refused, and closing it is harmless."""
    with session.connection() as connection:
        for end in (connection.commit, connection.rollback):
            with pytest.raises(exc.ProgrammingError, match=r"belongs to a Session: call session\.(commit|rollback)"):
                end()
    assert session.connection() is connection
    session.rollback()
    assert session.connection() is not connection


def test_a_conflict_of_both_doors(engine, session):
    """What the door has written takes part in the session's conflicts."""
    session.connection().execute(sa.update(COINS).where(COINS.c.coin_id == coin_id(4)).values(amount=4))
    with Session(engine) as other, other.begin():
        other.get(Coin, coin_id(4)).amount = 5

    with pytest.raises(exc.ConflictError):
        session.commit()


@pytest.mark.usefixtures("session")
def test_many_sessions_share_a_few_connections(engine):
    """Connections go back to the pool when a transaction is over, and no session waits for another's."""
    sessions = [Session(engine) for _ in range(30)]
    assert {each.scalar(sa.text("select count(*) from coin_records")) for each in sessions} == {30}
    for each in sessions:
        each.close()

    assert engine.sql.pool.checkedout() == 0


def test_without_the_extra_it_is_named(session, monkeypatch):
    """Without the SQL door NotSupportedError says what it was, and what to install."""
    monkeypatch.setitem(sys.modules, "apsw", None)

    for statement, word in (
        (WITH_PARENT, "a join"),
        (select(Coin.amount).union(select(Coin.amount)), "CompoundSelect"),
        (sa.text("select 1"), "TextClause"),
        (select(func.row_number().over(order_by=Coin.amount)), "a window function"),
    ):
        with pytest.raises(exc.NotSupportedError, match=rf'(?s){word} .*SQL door.*pip install "kvdialect\[sql\]"'):
            session.execute(statement)
        with pytest.raises(exc.NotSupportedError, match=word):
            session.scalars(statement)
