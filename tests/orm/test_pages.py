"""Pages by token through a Session; the planner's own tests are in tests/query."""

from __future__ import annotations

import pytest
from orm_records import Coin, coin, models
from sqlalchemy import select

from kvdialect import Session, create_engine, exc


def test_pages_cover_everything_once(engine):
    """Page after page: each row once, in order, objects from the identity map, and a last page without a token."""
    with Session(engine) as session, session.begin():
        session.add_all([coin(n) for n in range(50)])
    statement = select(Coin).where(Coin.amount >= 100).order_by(Coin.confirmed_height.desc())
    seen, token = [], None
    while True:
        with Session(engine) as session:
            page = session.page(statement, 7, after=token)
            seen += [found.coin_id for found in page]
            assert all(session.get(Coin, found.coin_id) is found for found in page)
            token = page.next
        if token is None:
            break
        with Session(engine) as session, session.begin():
            session.delete(session.get_one(Coin, seen[-1]))

    assert len(seen) == len(set(seen)) == 40


def test_tokens_outlive_a_restart_and_refuse_others(engine_name, tmp_path):
    """A token works in a store opened anew, and not for another statement, another schema, or as garbage."""
    url = "memory:///pages" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    keeper = create_engine(url)
    models.create_all(keeper)
    with Session(keeper) as session, session.begin():
        session.add_all([coin(n) for n in range(20)])
    statement = select(Coin.amount).where(Coin.amount > 10).order_by(Coin.amount)
    with Session(keeper) as session:
        page = session.page(statement, 5)
        first = [row[0] for row in page]
    if engine_name != "memory":
        keeper.close()
    with create_engine(url) as engine:
        models.create_all(engine)
        with Session(engine) as session:
            second = [row[0] for row in session.page(statement, 5, after=page.next)]
            assert first + second == [n * 10 for n in range(2, 12)]
            for other, token in (
                (statement.where(Coin.amount < 90), page.next),
                (select(Coin).order_by(Coin.amount), page.next),
                (statement, "garbage"),
                (statement, page.next[:-4]),
            ):
                with pytest.raises(exc.ArgumentError):
                    session.page(other, 5, after=token)
            with pytest.raises(exc.ArgumentError, match="limit=0"):
                session.page(statement, 0)
    keeper.close()
