"""SQLAlchemy, its Core and its ORM, on SQLite; the SQL door runs the same code on another engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import Index, bindparam, event, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from peer.base import Peer
from peer.sqlite import DURABLE, RELAXED, pragmas
from peer.workload import FIELDS, Block


class Base(DeclarativeBase):
    pass


class Coin(Base):
    """The table of peer/sqlite.py."""

    __tablename__ = "coin_records"
    coin_id: Mapped[bytes] = mapped_column(primary_key=True)
    parent_coin_info: Mapped[bytes] = mapped_column(index=True)
    puzzle_hash: Mapped[bytes] = mapped_column(index=True)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    confirmed_height: Mapped[int] = mapped_column(sa.BigInteger)
    spent_height: Mapped[int | None] = mapped_column(sa.BigInteger)
    coinbase: Mapped[bool]
    timestamp: Mapped[int] = mapped_column(sa.BigInteger)
    __table_args__ = (
        Index("unspent_by_puzzle_hash", "puzzle_hash", sqlite_where=spent_height.column.is_(None)),
        Index("coin_by_confirmed_height", "confirmed_height", "amount"),
    )


def on_sqlite(peer: Peer, durable: bool) -> sa.Engine:
    """Open a file of SQLite."""
    peer.folder.mkdir(exist_ok=True)
    engine = sa.create_engine(f"sqlite:///{peer.folder}/coins.db")

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        for name, value in pragmas(durable).items():
            connection.execute(f"PRAGMA {name}={value}").close()

    Base.metadata.create_all(engine)
    return engine


class Sqlalchemy(Peer):
    """What Core and ORM have in common: statements, made once and executed with parameters."""

    lacks = dict.fromkeys(("lookup_select", "range_select", "scan_select"), "the same as without")
    packages = ("sqlalchemy",)
    opened: ClassVar[Callable[[Any, bool], sa.Engine]] = on_sqlite
    entity: ClassVar[Any] = Coin

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        table = sa.inspect(self.entity).local_table if isinstance(self.entity, type) else self.entity
        self.table = c = table
        columns, what = c.c, self.entity
        heights = (columns.confirmed_height >= bindparam("low"), columns.confirmed_height < bindparam("high"))
        self.by_id = select(what).where(columns.coin_id == bindparam("id"))
        self.by_puzzle_hash = select(what).where(columns.puzzle_hash == bindparam("puzzle_hash"))
        self.unspent_by_puzzle_hash = self.by_puzzle_hash.where(columns.spent_height.is_(None))
        self.by_height = select(what).where(*heights)
        self.covered = select(columns.confirmed_height, columns.amount).where(*heights)
        self.all = select(what).execution_options(yield_per=1000)

    def open(self, durable: bool) -> None:
        self.engine = type(self).opened(self, durable)

    def close(self) -> None:
        self.engine.dispose()


class Core(Sqlalchemy):
    """Statements on the table; rows as they come, which are named tuples."""

    lacks = Sqlalchemy.lacks | {"attribute_write": "rows are not written to"}
    entity = Coin.__table__

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spend = update(self.table).where(self.table.c.coin_id == bindparam("id"))

    def ingest(self, block: Block) -> None:
        with self.engine.begin() as connection:
            connection.execute(insert(self.table), [dict(zip(FIELDS, coin, strict=True)) for coin in block.coins])
            if block.spends:
                connection.execute(
                    self.spend.values(spent_height=bindparam("height")),
                    [{"id": coin_id, "height": block.height} for coin_id in block.spends],
                )

    def begin(self) -> None:
        self.connection = self.engine.connect()

    def end(self) -> None:
        self.connection.close()

    def get(self, coin_id: bytes) -> Any:
        return self.connection.execute(self.by_id, {"id": coin_id}).one_or_none()

    def new_session_get(self, coin_id: bytes) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(self.by_id, {"id": coin_id}).one_or_none()

    def lookup(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.connection.execute(self.by_puzzle_hash, {"puzzle_hash": puzzle_hash}).all()

    def unspent(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.connection.execute(self.unspent_by_puzzle_hash, {"puzzle_hash": puzzle_hash}).all()

    def range(self, low: int, high: int) -> Sequence[Any]:
        return self.connection.execute(self.by_height, {"low": low, "high": high}).all()

    def range_covered(self, low: int, high: int) -> Sequence[Any]:
        return self.connection.execute(self.covered, {"low": low, "high": high}).all()

    def scan(self) -> Iterable[Any]:
        return self.connection.execute(self.all)

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.by_id, {"id": coin_id}).one()
            connection.execute(self.spend.values(spent_height=bindparam("height")), {"id": coin_id, "height": height})


class Orm(Sqlalchemy):
    """Objects in a Session, through its unit of work."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.of_ids = select(self.entity).where(self.table.c.coin_id.in_(bindparam("ids", expanding=True)))

    def ingest(self, block: Block) -> None:
        make = self.entity
        with Session(self.engine) as session, session.begin():
            # One query for all, where a get for each is a hundred.
            for coin in session.scalars(self.of_ids, {"ids": block.spends}):
                coin.spent_height = block.height
            session.add_all([make(**dict(zip(FIELDS, coin, strict=True))) for coin in block.coins])

    def begin(self) -> None:
        self.session = Session(self.engine)
        self.get = partial(self.session.get, self.entity)

    def end(self) -> None:
        del self.get
        self.session.close()

    def new_session_get(self, coin_id: bytes) -> Any:
        with Session(self.engine) as session:
            return session.get(self.entity, coin_id)

    def lookup(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.session.scalars(self.by_puzzle_hash, {"puzzle_hash": puzzle_hash}).all()

    def unspent(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.session.scalars(self.unspent_by_puzzle_hash, {"puzzle_hash": puzzle_hash}).all()

    def range(self, low: int, high: int) -> Sequence[Any]:
        return self.session.scalars(self.by_height, {"low": low, "high": high}).all()

    def range_covered(self, low: int, high: int) -> Sequence[Any]:
        return self.session.execute(self.covered, {"low": low, "high": high}).all()

    def scan(self) -> Iterable[Any]:
        return self.session.scalars(self.all)

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        with Session(self.engine) as session, session.begin():
            session.get_one(self.entity, coin_id).spent_height = height


class CoreOnSqlite(Core):
    title = "SQLAlchemy Core, SQLite"
    durable = DURABLE
    relaxed = RELAXED


class OrmOnSqlite(Orm):
    title = "SQLAlchemy ORM, SQLite"
    durable = DURABLE
    relaxed = RELAXED
