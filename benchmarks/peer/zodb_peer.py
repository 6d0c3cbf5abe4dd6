"""ZODB, on a FileStorage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import transaction
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent
from ZODB import DB
from ZODB.FileStorage import FileStorage

from peer.base import Peer
from peer.record import height_key, unpack_height
from peer.workload import Block


class Coin(Persistent):
    """A coin, a persistent object of its own."""

    def __init__(
        self,
        coin_id: bytes,
        parent_coin_info: bytes,
        puzzle_hash: bytes,
        amount: int,
        confirmed_height: int,
        spent_height: int | None,
        coinbase: bool,
        timestamp: int,
    ) -> None:
        self.coin_id = coin_id
        self.parent_coin_info = parent_coin_info
        self.puzzle_hash = puzzle_hash
        self.amount = amount
        self.confirmed_height = confirmed_height
        self.spent_height = spent_height
        self.coinbase = coinbase
        self.timestamp = timestamp


class Zodb(Peer):
    """BTrees in the root: the coins by id, and a set of value and id for each index, kept up by hand.

    There are no indexes of the database's own, so the partial one is a set like the others.
    """

    title = "ZODB"
    durable = "FileStorage, which syncs"
    relaxed = ""  # no setting for it
    lacks = dict.fromkeys(("lookup_select", "range_select", "scan_select"), "no statements")
    notes = "indexes are BTrees kept up by the program; the file holds the history, and was not packed"
    packages = ("ZODB", "BTrees", "persistent")

    def open(self, durable: bool) -> None:  # noqa: ARG002 - no choice
        self.folder.mkdir(exist_ok=True)
        # How many objects a connection keeps, by default 400: here room for the nodes that a block touches.
        self.database = DB(FileStorage(str(self.folder / "coins.fs")), cache_size=20_000)
        with self.database.transaction() as connection:
            root = connection.root()
            if "coins" not in root:
                root["coins"] = OOBTree()
                root["by_parent"] = OOTreeSet()
                root["by_puzzle_hash"] = OOTreeSet()
                root["unspent_by_puzzle_hash"] = OOTreeSet()
                root["by_height"] = OOBTree()  # to amounts: covering

    def ingest(self, block: Block) -> None:
        with self.database.transaction() as connection:
            root = connection.root()
            coins, unspent = root["coins"], root["unspent_by_puzzle_hash"]
            by_parent, by_puzzle_hash, by_height = root["by_parent"], root["by_puzzle_hash"], root["by_height"]
            for coin_id in block.spends:
                coin = coins[coin_id]
                if coin.spent_height is None:
                    unspent.remove(coin.puzzle_hash + coin_id)
                coin.spent_height = block.height
            for values in block.coins:
                coin = Coin(*values)
                coin_id = coin.coin_id
                if not coins.insert(coin_id, coin):
                    raise ValueError("a coin exists already")
                by_parent.add(coin.parent_coin_info + coin_id)
                by_puzzle_hash.add(coin.puzzle_hash + coin_id)
                if coin.spent_height is None:
                    unspent.add(coin.puzzle_hash + coin_id)
                by_height[height_key(coin.confirmed_height) + coin_id] = coin.amount

    def begin(self) -> None:
        self.connection = self.database.open()
        root = self.connection.root()
        self.coins, self.by_puzzle_hash = root["coins"], root["by_puzzle_hash"]
        self.unspent_by_puzzle_hash, self.by_height = root["unspent_by_puzzle_hash"], root["by_height"]

    def end(self) -> None:
        transaction.abort()
        # Records that were read are let go, as by every other peer; nodes of the BTrees stay, as pages do elsewhere.
        for _, kept in self.connection._cache.lru_items():
            if isinstance(kept, Coin):
                kept._p_deactivate()
        self.connection.close()

    def get(self, coin_id: bytes) -> Any:
        coin = self.coins.get(coin_id)
        if coin is not None:
            coin._p_activate()  # it is a ghost until an attribute is read
        return coin

    def new_session_get(self, coin_id: bytes) -> Any:
        connection = self.database.open()
        try:
            coin = connection.root()["coins"].get(coin_id)
            coin._p_activate()
            return coin
        finally:
            connection.close()

    def _coins(self, coin_ids: Iterable[bytes]) -> list[Any]:
        found = [self.coins[coin_id] for coin_id in coin_ids]
        for coin in found:
            coin._p_activate()
        return found

    def lookup(self, puzzle_hash: bytes) -> Sequence[Any]:
        keys = self.by_puzzle_hash.keys(puzzle_hash + bytes(32), puzzle_hash + b"\xff" * 32)
        return self._coins(key[32:] for key in keys)

    def unspent(self, puzzle_hash: bytes) -> Sequence[Any]:
        keys = self.unspent_by_puzzle_hash.keys(puzzle_hash + bytes(32), puzzle_hash + b"\xff" * 32)
        return self._coins(key[32:] for key in keys)

    def range(self, low: int, high: int) -> Sequence[Any]:
        keys = self.by_height.keys(height_key(low), height_key(high), excludemax=True)
        return self._coins(key[8:] for key in keys)

    def range_covered(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        items = self.by_height.items(height_key(low), height_key(high), excludemax=True)
        return [(unpack_height(key[:8])[0], amount) for key, amount in items]

    def scan(self) -> Iterable[Any]:
        for number, coin in enumerate(self.coins.values()):
            yield coin
            if number % 10_000 == 0:
                self.connection.cacheGC()  # memory stays bounded, as docs of ZODB advise for long loops

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        with self.database.transaction() as connection:
            root = connection.root()
            coin = root["coins"][coin_id]
            if coin.spent_height is None:
                root["unspent_by_puzzle_hash"].remove(coin.puzzle_hash + coin_id)
            coin.spent_height = height

    def close(self) -> None:
        self.database.close()
