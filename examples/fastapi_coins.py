"""A web service over a store: coins that are made, listed page by page, and paid, with FastAPI and AsyncSession.

Each request has a session of its own. A payment reads and writes several coins; when two payments want the same one,
the second is run again and finds it spent.

    uvicorn --app-dir examples fastapi_coins:app                        # a store at ./coins.store
    COINS=lmdb:////data/coins uvicorn --app-dir examples fastapi_coins:app

    curl -X POST localhost:8000/coins -H 'content-type: application/json' -d '{"owner": "ann", "amount": 50}'
    curl 'localhost:8000/owners/ann/coins?limit=10'
    curl -X POST localhost:8000/payments -H 'content-type: application/json' \
        -d '{"giver": "ann", "taker": "bob", "amount": 20}'
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Index, func, select

from kvdialect import AsyncSession, Bytes32, Engine, Mapped, UInt64, create_engine, exc, field, mapped, registry

models = registry()


@mapped(models)
class Coin:
    """A coin of an owner, until it is spent."""

    __tablename__ = "coins"
    __table_args__ = (Index("unspent_by_owner", "owner", "amount", kvdialect_where=lambda coin: coin.spent.is_(False)),)
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    owner: Mapped[str]
    amount: Mapped[UInt64]
    spent: Mapped[bool] = False


# ------------------------------------------------------------------------------------------ what goes over the wire


class NewCoin(BaseModel):
    """A coin to be made."""

    owner: str = Field(min_length=1, max_length=100)
    amount: int = Field(gt=0, lt=2**63)


class CoinOut(NewCoin):
    """A coin."""

    coin_id: str
    spent: bool


class Page(BaseModel):
    """Some coins, and the token for those that follow."""

    coins: list[CoinOut]
    next: str | None


class Payment(BaseModel):
    """An amount that goes from one owner to another."""

    giver: str
    taker: str
    amount: int = Field(gt=0)


class Paid(BaseModel):
    """The coins that a payment made."""

    coins: list[CoinOut]


class Balance(BaseModel):
    """What an owner has."""

    amount: int
    coins: int


def _made(owner: str, amount: int) -> Coin:
    return Coin(coin_id=secrets.token_bytes(32), owner=owner, amount=amount)


def _out(coin: Coin) -> CoinOut:
    return CoinOut(coin_id=coin.coin_id.hex(), owner=coin.owner, amount=coin.amount, spent=coin.spent)


# ------------------------------------------------------------------------------------------ the application


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _session(engine: Annotated[Engine, Depends(_engine)]) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


Store = Annotated[Engine, Depends(_engine)]
Session = Annotated[AsyncSession, Depends(_session)]


def create_app(url: str) -> FastAPI:
    """The service on the store at ``url``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with create_engine(url) as engine:
            models.create_all(engine)
            app.state.engine = engine
            yield

    app = FastAPI(title="Coins", lifespan=lifespan)
    app.post("/coins", status_code=201)(make_coin)
    app.get("/coins/{coin_id}")(show_coin)
    app.get("/owners/{owner}/coins")(list_coins)
    app.get("/owners/{owner}/balance")(show_balance)
    app.post("/payments", status_code=201)(pay)
    return app


async def make_coin(new: NewCoin, session: Session) -> CoinOut:
    """Make a coin out of nothing."""
    coin = _made(new.owner, new.amount)
    session.add(coin)
    await session.commit()
    return _out(coin)


async def show_coin(coin_id: str, session: Session) -> CoinOut:
    """One coin."""
    try:
        coin = await session.get(Coin, bytes.fromhex(coin_id))
    except (ValueError, exc.DataError) as error:
        raise HTTPException(422, f"{coin_id!r} is no coin id: {error}") from error
    if coin is None:
        raise HTTPException(404, f"there is no coin {coin_id}")
    return _out(coin)


async def list_coins(
    owner: str, session: Session, limit: Annotated[int, Query(ge=1, le=1000)] = 100, after: str | None = None
) -> Page:
    """An owner's coins, the largest first."""
    unspent = select(Coin).where(Coin.owner == owner, Coin.spent.is_(False)).order_by(Coin.amount.desc())
    try:
        page = await session.page(unspent, limit, after=after)
    except exc.ArgumentError as error:
        raise HTTPException(422, str(error)) from error
    return Page(coins=[_out(coin) for coin in page], next=page.next)


async def show_balance(owner: str, session: Session) -> Balance:
    """What an owner has: one read of one index."""
    amounts = select(func.sum(Coin.amount), func.count()).where(Coin.owner == owner, Coin.spent.is_(False))
    amount, coins = (await session.execute(amounts)).one()
    return Balance(amount=amount or 0, coins=coins)


async def pay(payment: Payment, engine: Store) -> Paid:
    """Spend coins of the giver, the largest first, and make one for the taker and one for the change."""

    async def transfer(session: AsyncSession) -> list[Coin]:
        unspent = select(Coin).where(Coin.owner == payment.giver, Coin.spent.is_(False)).order_by(Coin.amount.desc())
        found = 0
        async for coin in await session.stream_scalars(unspent):
            coin.spent = True
            found += coin.amount
            if found >= payment.amount:
                break
        if found < payment.amount:
            raise HTTPException(409, f"{payment.giver} has {found} and not {payment.amount}")
        made = [_made(payment.taker, payment.amount)]
        if found > payment.amount:
            made.append(_made(payment.giver, found - payment.amount))
        session.add_all(made)
        return made

    # An HTTPException leaves the transaction like any error: nothing of it is written.
    return Paid(coins=[_out(coin) for coin in await engine.async_transaction(transfer)])


app = create_app(os.environ.get("COINS", "rocksdb:///coins.store"))
