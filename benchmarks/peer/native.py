"""kvdialect's Session."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import bindparam, insert, select

from kvdialect import Engine, Session, create_engine
from peer.base import Peer
from peer.model import CoinRecord, models
from peer.workload import FIELDS, Block

# Made once and executed with parameters: the form that docs/queries.md calls the fastest.
BY_PUZZLE_HASH = select(CoinRecord).where(CoinRecord.puzzle_hash == bindparam("puzzle_hash"))
BY_HEIGHT = select(CoinRecord).where(
    CoinRecord.confirmed_height >= bindparam("low"), CoinRecord.confirmed_height < bindparam("high")
)
COVERED = select(CoinRecord.confirmed_height, CoinRecord.amount).where(
    CoinRecord.confirmed_height >= bindparam("low"), CoinRecord.confirmed_height < bindparam("high")
)
ALL = select(CoinRecord).execution_options(yield_per=1000)

RELAXED = {
    "lmdb": "durability=none: nothing synced, a power cut can damage the file",
    "rocksdb": "durability=wal: in the log, not synced",
}


def opened(scheme: str, folder: Any, durable: bool, query: str = "") -> Engine:
    """Open a store and its table."""
    durability = "sync" if durable else {"lmdb": "none", "rocksdb": "wal"}[scheme]
    engine = create_engine(f"{scheme}:///{folder}?durability={durability}{query}")
    models.create_all(engine)
    return engine


def settled(engine: Engine) -> None:
    """Write buffers and merge logs, all families."""
    engine.backend.flush()
    for family in engine.backend.column_families():
        engine.backend.compact(family)


class Native(Peer):
    """Records in a Session."""

    scheme: ClassVar[str]
    query: ClassVar[str] = ""
    packages = ("kvdialect", "sqlalchemy")

    engine: Engine
    session: Session

    def open(self, durable: bool) -> None:
        self.engine = opened(self.scheme, self.folder, durable, self.query)

    def ingest(self, block: Block) -> None:
        with Session(self.engine) as session, session.begin():
            # One read of the engine, where a get for each is a hundred: measured, that saves a sixth of a block's time.
            for coin in session.get_many(CoinRecord, block.spends):
                coin.spent_height = block.height
            session.add_all([CoinRecord(*coin) for coin in block.coins])

    def begin(self) -> None:
        self.session = Session(self.engine)
        # A user calls session.get itself: no method of this class stands between.
        self.get = partial(self.session.get, CoinRecord)
        self.get(bytes(32))  # the snapshot is taken with the first read

    def end(self) -> None:
        del self.get
        self.session.close()

    def new_session_get(self, coin_id: bytes) -> Any:
        with Session(self.engine) as session:
            return session.get(CoinRecord, coin_id)

    def lookup(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.session.lookup("coin_by_puzzle_hash", puzzle_hash)

    def lookup_select(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.session.scalars(BY_PUZZLE_HASH, {"puzzle_hash": puzzle_hash}).all()

    def unspent(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.session.lookup("unspent_by_puzzle_hash", puzzle_hash)

    def range(self, low: int, high: int) -> Sequence[Any]:
        return list(self.session.scan("coin_by_confirmed_height", start=low, stop=high))

    def range_select(self, low: int, high: int) -> Sequence[Any]:
        return self.session.scalars(BY_HEIGHT, {"low": low, "high": high}).all()

    def range_covered(self, low: int, high: int) -> Sequence[Any]:
        return self.session.execute(COVERED, {"low": low, "high": high}).all()

    def scan(self) -> Iterable[Any]:
        return self.session.scan(CoinRecord)

    def scan_select(self) -> Iterable[Any]:
        return self.session.scalars(ALL)

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        with Session(self.engine) as session, session.begin():
            session.get_one(CoinRecord, coin_id).spent_height = height

    def settle(self) -> None:
        settled(self.engine)

    def close(self) -> None:
        self.engine.close()
        gc.collect()


class NativeLmdb(Native):
    title = "kvdialect, LMDB"
    scheme = "lmdb"
    baseline = "raw-lmdb"
    durable = "durability=sync"
    relaxed = RELAXED["lmdb"]


class NativeLmdbNoChecksum(NativeLmdb):
    title = "kvdialect, LMDB, checksum=off"
    query = "&checksum=off"


class NativeRocksdb(Native):
    title = "kvdialect, RocksDB"
    scheme = "rocksdb"
    baseline = "raw-rocksdict"
    durable = "durability=sync"
    relaxed = RELAXED["rocksdb"]


ONLY_INGEST = dict.fromkeys(
    (
        "get",
        "new_session_get",
        "lookup",
        "lookup_select",
        "range",
        "range_select",
        "range_covered",
        "scan",
        "scan_select",
        "attribute_read",
        "attribute_write",
        "update_and_commit",
    ),
    "as with objects",
)


class Bulk(Native):
    """The same store; coins are inserted as rows, without objects, in the same transaction as the updates."""

    lacks = ONLY_INGEST

    def ingest(self, block: Block) -> None:
        with Session(self.engine) as session, session.begin():
            for coin in session.get_many(CoinRecord, block.spends):
                coin.spent_height = block.height
            session.execute(insert(CoinRecord), [dict(zip(FIELDS, coin, strict=True)) for coin in block.coins])


class BulkLmdb(Bulk, NativeLmdb):
    title = "kvdialect, LMDB, insert() of rows"


class BulkRocksdb(Bulk, NativeRocksdb):
    title = "kvdialect, RocksDB, insert() of rows"
