"""What type checkers say to a program like a user's. Not run: mypy --strict and pyright check it, ``tox -e types``."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy import ColumnElement, ForeignKey, Index, func, select

from kvdialect import (
    AsyncSession,
    Bytes32,
    ColumnFamilyOptions,
    Mapped,
    Session,
    UInt64,
    async_sessionmaker,
    create_engine,
    field,
    mapped,
    registry,
    sessionmaker,
)

models = registry()


@mapped(models)
class CoinRecord:
    __tablename__ = "coin_records"
    __table_args__ = (
        Index("coin_by_puzzle_hash", "puzzle_hash"),
        Index("unspent_by_puzzle_hash", "puzzle_hash", kvdialect_where=lambda c: c.spent_height.is_(None)),
        Index("coin_by_confirmed_height", "confirmed_height", kvdialect_include=["amount"]),
        {"kvdialect_options": ColumnFamilyOptions(bloom="full", write_buffer_size="64MiB")},
    )
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    parent_coin_info: Mapped[Bytes32] = field(index=True)
    puzzle_hash: Mapped[Bytes32]
    amount: Mapped[UInt64]
    confirmed_height: Mapped[UInt64]
    spent_height: Mapped[UInt64 | None] = None
    coinbase: Mapped[bool] = False
    timestamp: Mapped[UInt64] = 0


@mapped(models)
class Note:
    __tablename__ = "notes"
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    coin_id: Mapped[Bytes32] = field(ForeignKey("coin_records.coin_id"))
    text: Mapped[str] = ""
    tags: Mapped[list[str]] = field(factory=list)


engine = create_engine("rocksdb:////var/lib/coins")
models.create_all(engine)
Local = sessionmaker(engine, isolation_level="SERIALIZABLE")


def use(coins: list[CoinRecord], coin_id: bytes, ph: bytes) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(coins)
        coin = session.get(CoinRecord, coin_id)
        assert_type(coin, CoinRecord | None)
        assert coin is not None
        coin.spent_height = 17
        rows = session.scalars(
            select(CoinRecord)
            .where(CoinRecord.puzzle_hash == ph)
            .order_by(CoinRecord.confirmed_height.desc())
            .limit(10)
        ).all()
        for row in rows:
            assert_type(row, CoinRecord)
        print(session.explain(select(CoinRecord).where(CoinRecord.puzzle_hash == ph)))
    with Local.begin() as session:
        assert_type(session.get_one(Note, 3), Note)
        assert_type(session.scalar(select(func.count()).select_from(CoinRecord)), int | None)
        found = session.lookup("coin_by_puzzle_hash", ph)
        print(found, session.get_many(CoinRecord, [coin_id]))


async def use_awaited(coin_id: bytes) -> None:
    async with AsyncSession(engine) as session, session.begin():
        assert_type(await session.get(CoinRecord, coin_id), CoinRecord | None)
        assert_type(await session.get_many(CoinRecord, [coin_id]), list[CoinRecord | None])
        for row in await session.scalars(select(CoinRecord)):
            assert_type(row, CoinRecord)
        assert_type(await session.run_sync(transfer), int)
        assert_type(await session.scalar(select(func.count()).select_from(CoinRecord)), int | None)
    async with async_sessionmaker(engine).begin() as session:
        async for each in session.scan(CoinRecord):
            print(each)
    assert_type(await engine.async_transaction(transfer_awaited), int)


def types(coin: CoinRecord) -> None:
    assert_type(coin.amount, int)
    assert_type(coin.spent_height, int | None)
    assert_type(coin.coin_id, bytes)
    condition: ColumnElement[bool] = CoinRecord.amount == 3
    print(condition)
    CoinRecord(b"", b"", b"", 1, 2, coinbase=True)
    Note(b"", tags=["a"])


def mistakes(coin: CoinRecord) -> None:
    """Each is an error; were it none, the unused ignore would be one."""
    coin.amount = "3"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    CoinRecord("x", b"", b"", 1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    CoinRecord(b"", b"")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    coin.amuont = 3  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def transfer(session: Session) -> int:
    return session.get_one(Note, 1).id


async def transfer_awaited(session: AsyncSession) -> int:
    return (await session.get_one(Note, 1)).id


assert_type(engine.transaction(transfer, retries=3), int)
