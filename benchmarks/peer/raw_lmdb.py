"""LMDB by hand: what a careful user of py-lmdb writes for these records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import lmdb

from peer.base import Peer
from peer.record import Coin, decode, encode, height_key, unpack_height
from peer.workload import Block

_first = itemgetter(0)


class RawLmdb(Peer):
    """A database for the records and one for each index.

    Index entries are duplicates of a fixed size under the indexed value: measured beside plain keys of value and id,
    that is half the bytes and half the time of a lookup.
    """

    title = "py-lmdb, by hand"
    durable = "sync=True"
    relaxed = "sync=False: nothing synced, a power cut can damage the file"
    lacks = dict.fromkeys(("lookup_select", "range_select", "scan_select"), "no statements")
    packages = ("lmdb",)

    env: lmdb.Environment
    txn: lmdb.Transaction

    def open(self, durable: bool) -> None:
        self.folder.mkdir(exist_ok=True)
        self.env = lmdb.open(
            str(self.folder), map_size=16 << 30, max_dbs=8, sync=durable, metasync=durable, readahead=False
        )
        self.coins = self.env.open_db(b"coins")
        self.by_parent = self._index(b"by_parent")
        self.by_puzzle_hash = self._index(b"by_puzzle_hash")
        self.unspent_by_puzzle_hash = self._index(b"unspent_by_puzzle_hash")
        self.by_height = self._index(b"by_height")  # of id and amount: covering

    def _index(self, name: bytes) -> Any:
        return self.env.open_db(name, dupsort=True, dupfixed=True)

    def ingest(self, block: Block) -> None:
        coins = [Coin(*coin) for coin in block.coins]
        height = block.height
        with self.env.begin(write=True) as txn:
            # Sorted, each put is near the one before.
            rows = sorted([(coin.coin_id, encode(coin)) for coin in coins], key=_first)
            consumed, added = txn.cursor(self.coins).putmulti(rows, overwrite=False)
            if consumed != added:
                raise ValueError("a coin exists already")
            updates = []
            spent = []
            for key in sorted(block.spends):
                value = txn.get(key, db=self.coins)
                if value is None:
                    raise LookupError(key)
                coin = decode(key, value)
                if coin.spent_height is None:
                    spent.append((coin.puzzle_hash, key))
                coin.spent_height = height
                updates.append((key, encode(coin)))
            txn.cursor(self.coins).putmulti(updates)
            for puzzle_hash, key in spent:
                txn.delete(puzzle_hash, key, db=self.unspent_by_puzzle_hash)
            entries = sorted([(coin.puzzle_hash, coin.coin_id) for coin in coins])
            txn.cursor(self.by_puzzle_hash).putmulti(entries)
            unspent = sorted([(coin.puzzle_hash, coin.coin_id) for coin in coins if coin.spent_height is None])
            txn.cursor(self.unspent_by_puzzle_hash).putmulti(unspent)
            entries = sorted([(coin.parent_coin_info, coin.coin_id) for coin in coins])
            txn.cursor(self.by_parent).putmulti(entries)
            entries = sorted(
                [(height_key(coin.confirmed_height), coin.coin_id + height_key(coin.amount)) for coin in coins]
            )
            txn.cursor(self.by_height).putmulti(entries)

    def begin(self) -> None:
        self.txn = self.env.begin()
        self.coin_cursor = self.txn.cursor(self.coins)
        self.puzzle_hash_cursor = self.txn.cursor(self.by_puzzle_hash)
        self.height_cursor = self.txn.cursor(self.by_height)

    def end(self) -> None:
        self.txn.abort()

    def get(self, coin_id: bytes) -> Coin | None:
        value = self.txn.get(coin_id, None, self.coins)
        return None if value is None else decode(coin_id, value)

    def new_session_get(self, coin_id: bytes) -> Coin | None:
        with self.env.begin() as txn:
            value = txn.get(coin_id, None, self.coins)
        return None if value is None else decode(coin_id, value)

    def lookup(self, puzzle_hash: bytes) -> Sequence[Coin]:
        found = self.puzzle_hash_cursor.getmulti([puzzle_hash], dupdata=True, dupfixed_bytes=32)
        return [decode(k, v) for k, v in self.coin_cursor.getmulti([coin_id for _, coin_id in found])]

    def unspent(self, puzzle_hash: bytes) -> Sequence[Coin]:
        cursor = self.txn.cursor(self.unspent_by_puzzle_hash)
        found = cursor.getmulti([puzzle_hash], dupdata=True, dupfixed_bytes=32)
        return [decode(k, v) for k, v in self.coin_cursor.getmulti([coin_id for _, coin_id in found])]

    def _entries(self, low: int, high: int) -> Iterator[tuple[bytes, bytes]]:
        cursor = self.height_cursor
        if cursor.set_range(height_key(low)):
            stop = height_key(high)
            for key, entry in cursor:
                if key >= stop:
                    break
                yield key, entry

    def range(self, low: int, high: int) -> Sequence[Coin]:
        keys = [entry[:32] for _, entry in self._entries(low, high)]
        return [decode(k, v) for k, v in self.coin_cursor.getmulti(keys)]

    def range_covered(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        return [(unpack_height(key)[0], unpack_height(entry[32:])[0]) for key, entry in self._entries(low, high)]

    def scan(self) -> Iterator[Coin]:
        for key, value in self.txn.cursor(self.coins):
            yield decode(key, value)

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        with self.env.begin(write=True) as txn:
            value = txn.get(coin_id, db=self.coins)
            if value is None:
                raise LookupError(coin_id)
            coin = decode(coin_id, value)
            if coin.spent_height is None:
                txn.delete(coin.puzzle_hash, coin_id, db=self.unspent_by_puzzle_hash)
            coin.spent_height = height
            txn.put(coin_id, encode(coin), db=self.coins)

    def close(self) -> None:
        self.env.close()
