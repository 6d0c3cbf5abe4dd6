"""kvdialect's SQL door: SQLAlchemy's Core and ORM on the table of the mapped record."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy.orm import registry

from peer.native import RELAXED, CoinRecord, opened, settled
from peer.sqlalchemy_sqlite import Core, Orm, Sqlalchemy

TABLE = CoinRecord.__table__


class Coin:
    """The same table, mapped by SQLAlchemy's own ORM."""


registry().map_imperatively(Coin, TABLE)


class Door(Sqlalchemy):
    """A store with both doors open; the work goes through the SQL door."""

    scheme: ClassVar[str]
    durable = "durability=sync"
    packages = ("kvdialect", "sqlalchemy", "apsw")

    def open(self, durable: bool) -> None:
        self.store = opened(self.scheme, self.folder, durable)
        self.engine = self.store.sqlalchemy()

    def settle(self) -> None:
        settled(self.store)

    def close(self) -> None:
        self.engine.dispose()
        self.store.close()


class DoorCore(Door, Core):
    entity = TABLE


class DoorOrm(Door, Orm):
    entity = Coin


class CoreOnLmdb(DoorCore):
    title = "SQLAlchemy Core, kvdialect LMDB"
    scheme = "lmdb"
    relaxed = RELAXED["lmdb"]
    baseline = "raw-lmdb"


class CoreOnRocksdb(DoorCore):
    title = "SQLAlchemy Core, kvdialect RocksDB"
    scheme = "rocksdb"
    relaxed = RELAXED["rocksdb"]
    baseline = "raw-rocksdict"


class OrmOnLmdb(DoorOrm):
    title = "SQLAlchemy ORM, kvdialect LMDB"
    scheme = "lmdb"
    relaxed = RELAXED["lmdb"]
    baseline = "raw-lmdb"


class OrmOnRocksdb(DoorOrm):
    title = "SQLAlchemy ORM, kvdialect RocksDB"
    scheme = "rocksdb"
    relaxed = RELAXED["rocksdb"]
    baseline = "raw-rocksdict"
