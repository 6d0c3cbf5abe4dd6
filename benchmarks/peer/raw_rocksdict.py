"""RocksDB by hand: what a careful user of rocksdict writes for these records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import rocksdict

from peer.base import Peer
from peer.record import Coin, decode, encode, height_key, unpack_height
from peer.workload import Block

FAMILIES = ("coins", "by_parent", "by_puzzle_hash", "unspent_by_puzzle_hash", "by_height")


class RawRocksdict(Peer):
    """A column family for the records and one for each index, in raw mode, with one WriteBatch for a block."""

    title = "rocksdict, by hand"
    durable = "sync=True"
    relaxed = "sync=False: in the log, not synced"
    lacks = dict.fromkeys(("lookup_select", "range_select", "scan_select"), "no statements")
    packages = ("rocksdict",)

    def open(self, durable: bool) -> None:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        cache = rocksdict.Cache(256 << 20)  # one for all families
        self.database = rocksdict.Rdict(
            str(self.folder),
            options,
            column_families={name: _family(cache, bloom=name == "coins") for name in FAMILIES},
        )
        self.coins, self.by_parent, self.by_puzzle_hash, self.unspent_by_puzzle_hash, self.by_height = (
            self.database.get_column_family(name) for name in FAMILIES
        )
        self.handles = [self.database.get_column_family_handle(name) for name in FAMILIES]
        self.write_options = rocksdict.WriteOptions()
        self.write_options.sync = durable

    def ingest(self, block: Block) -> None:
        coins = [Coin(*coin) for coin in block.coins]
        records, by_parent, by_puzzle_hash, unspent, by_height = self.handles
        if any(value is not None for value in self.coins.get([coin.coin_id for coin in coins])):
            raise ValueError("a coin exists already")
        batch = rocksdict.WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for coin in coins:
            coin_id = coin.coin_id
            put(coin_id, encode(coin), records)
            put(coin.parent_coin_info + coin_id, b"", by_parent)
            put(coin.puzzle_hash + coin_id, b"", by_puzzle_hash)
            if coin.spent_height is None:
                put(coin.puzzle_hash + coin_id, b"", unspent)
            put(height_key(coin.confirmed_height) + coin_id, height_key(coin.amount), by_height)
        for coin_id, value in zip(block.spends, self.coins.get(block.spends), strict=True):
            if value is None:
                raise LookupError(coin_id)
            coin = decode(coin_id, value)
            if coin.spent_height is None:
                delete(coin.puzzle_hash + coin_id, unspent)
            coin.spent_height = block.height
            put(coin_id, encode(coin), records)
        self.database.write(batch, self.write_options)

    def begin(self) -> None:
        """There is nothing to begin: reads go to the live families. The driver's snapshots are of one family each."""

    def end(self) -> None:
        """There is nothing to end."""

    def get(self, coin_id: bytes) -> Coin | None:
        value = self.coins.get(coin_id)
        return None if value is None else decode(coin_id, value)

    def new_session_get(self, coin_id: bytes) -> Coin | None:
        # What a session is for, one moment of all reads: a snapshot.
        try:
            return decode(coin_id, self.coins.snapshot()[coin_id])
        except KeyError:
            return None

    def _rows(self, coin_ids: list[bytes]) -> list[Coin]:
        return [decode(key, value) for key, value in zip(coin_ids, self.coins.get(coin_ids), strict=True)]

    def lookup(self, puzzle_hash: bytes) -> Sequence[Coin]:
        return self._rows(_prefixed(self.by_puzzle_hash, puzzle_hash))

    def unspent(self, puzzle_hash: bytes) -> Sequence[Coin]:
        return self._rows(_prefixed(self.unspent_by_puzzle_hash, puzzle_hash))

    def range(self, low: int, high: int) -> Sequence[Coin]:
        options = _below(height_key(high))
        return self._rows([key[8:] for key in self.by_height.keys(from_key=height_key(low), read_opt=options)])

    def range_covered(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        options = _below(height_key(high))
        entries = self.by_height.items(from_key=height_key(low), read_opt=options)
        return [(unpack_height(key[:8])[0], unpack_height(value)[0]) for key, value in entries]

    def scan(self) -> Iterator[Coin]:
        for key, value in self.coins.items():
            yield decode(key, value)

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        value = self.coins.get(coin_id)
        if value is None:
            raise LookupError(coin_id)
        coin = decode(coin_id, value)
        batch = rocksdict.WriteBatch(raw_mode=True)
        if coin.spent_height is None:
            batch.delete(coin.puzzle_hash + coin_id, self.handles[3])
        coin.spent_height = height
        batch.put(coin_id, encode(coin), self.handles[0])
        self.database.write(batch, self.write_options)

    def settle(self) -> None:
        for name in FAMILIES:
            family = self.database.get_column_family(name)
            family.flush()
            family.compact_range(None, None)

    def close(self) -> None:
        del self.coins, self.by_parent, self.by_puzzle_hash, self.unspent_by_puzzle_hash, self.by_height, self.handles
        self.database.close()


def _family(cache: rocksdict.Cache, *, bloom: bool) -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(cache)
    if bloom:  # spares the existence check of a new coin the read of a block
        table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    options.set_write_buffer_size(64 << 20)
    return options


def _below(stop: bytes) -> rocksdict.ReadOptions:
    """Options of an iterator that ends by itself in front of ``stop``, without a look at tombstones behind it.

    Keep them in a variable as long as the iterator is used: the driver lets go of the bound with them, and the iterator
    then ends anywhere.
    """
    options = rocksdict.ReadOptions()
    options.set_iterate_upper_bound(stop)
    return options


def _prefixed(family: rocksdict.Rdict, prefix: bytes) -> list[bytes]:
    """Return the ids behind a prefix of 32 bytes, which is a hash and so not all 0xFF."""
    options = _below((int.from_bytes(prefix) + 1).to_bytes(32))
    return [key[32:] for key in family.keys(from_key=prefix, read_opt=options)]
