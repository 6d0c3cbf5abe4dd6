"""peewee on SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import peewee

from peer.base import Peer
from peer.sqlite import DURABLE, RELAXED, pragmas
from peer.workload import Block

database = peewee.SqliteDatabase(None)


class Coin(peewee.Model):
    """The table of peer/sqlite.py."""

    coin_id = peewee.BlobField(primary_key=True)
    parent_coin_info = peewee.BlobField(index=True)
    puzzle_hash = peewee.BlobField(index=True)
    amount = peewee.BigIntegerField()
    confirmed_height = peewee.BigIntegerField()
    spent_height = peewee.BigIntegerField(null=True)
    coinbase = peewee.BooleanField()
    timestamp = peewee.BigIntegerField()

    class Meta:
        database = database
        indexes = ((("confirmed_height", "amount"), False),)


Coin.add_index(Coin.index(Coin.puzzle_hash, where=Coin.spent_height.is_null(), name="unspent_by_puzzle_hash"))


class Peewee(Peer):
    """Models; inserts and updates of many rows as one query each."""

    title = "peewee, SQLite"
    durable = DURABLE
    relaxed = RELAXED
    lacks = dict.fromkeys(("lookup_select", "range_select", "scan_select"), "the same as without")
    packages = ("peewee",)

    def open(self, durable: bool) -> None:
        self.folder.mkdir(exist_ok=True)
        database.init(self.folder / "coins.db", pragmas=pragmas(durable))
        database.connect()
        database.create_tables([Coin])

    def ingest(self, block: Block) -> None:
        with database.atomic("IMMEDIATE"):
            Coin.insert_many(block.coins, fields=Coin._meta.sorted_fields).execute()
            Coin.update(spent_height=block.height).where(Coin.coin_id.in_(block.spends)).execute()

    def begin(self) -> None:
        database.begin()
        self.get = Coin.get_by_id

    def end(self) -> None:
        database.rollback()

    def new_session_get(self, coin_id: bytes) -> Any:
        with database.atomic():
            return Coin.get_by_id(coin_id)

    def lookup(self, puzzle_hash: bytes) -> Sequence[Any]:
        return list(Coin.select().where(Coin.puzzle_hash == puzzle_hash))

    def unspent(self, puzzle_hash: bytes) -> Sequence[Any]:
        return list(Coin.select().where(Coin.puzzle_hash == puzzle_hash, Coin.spent_height.is_null()))

    def range(self, low: int, high: int) -> Sequence[Any]:
        return list(Coin.select().where(Coin.confirmed_height >= low, Coin.confirmed_height < high))

    def range_covered(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        chosen = Coin.select(Coin.confirmed_height, Coin.amount)
        return list(chosen.where(Coin.confirmed_height >= low, Coin.confirmed_height < high).tuples())

    def scan(self) -> Iterable[Any]:
        return Coin.select().iterator()

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        with database.atomic("IMMEDIATE"):
            coin = Coin.get_by_id(coin_id)
            coin.spent_height = height
            coin.save(only=[Coin.spent_height])

    def close(self) -> None:
        database.close()
