"""A real schema: the twelve families of a coin store."""

from __future__ import annotations

import pytest

from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.testing.coinstore import COIN_FAMILIES, HEIGHTS, KEY_SIZES, height_key, identifier, merkle_key
from kvdialect.testing.suites.base import OpenStore, Suite, contents, needs


def _key(cf: str, number: int) -> bytes:
    """A key of the size that the family's keys have."""
    size = KEY_SIZES[cf]
    return b"peak height" if size is None else (identifier(number) * 2)[:size]


class CoinSuite(Suite):
    """Blooms, extractors, FIFO, buffers, shared databases and tags, all in one store."""

    @pytest.fixture
    def coins(self, open_store: OpenStore) -> StorageBackend:
        """An empty coin store."""
        return open_store(COIN_FAMILIES)

    def test_the_schema_opens_with_its_twelve_families(self, coins: StorageBackend) -> None:
        """All twelve must be there, empty, and each hold its own value at a key of its own size."""
        assert coins.column_families() == sorted(COIN_FAMILIES)
        batch = WriteBatch()
        for cf in COIN_FAMILIES:
            batch.put(cf, _key(cf, 1), cf.encode())
        coins.batch_write(batch)

        assert contents(coins) == {cf: [(_key(cf, 1), cf.encode())] for cf in sorted(COIN_FAMILIES)}

    def test_a_store_of_eleven_families_reopens_with_twelve(self, open_store: OpenStore) -> None:
        """The twelfth family must work after reopening under the full schema, and the others keep their data."""
        *eleven, twelfth = COIN_FAMILIES
        coins = open_store({cf: COIN_FAMILIES[cf] for cf in eleven})
        needs(coins, "persistent")
        for cf in eleven:
            coins.put(cf, _key(cf, 1), cf.encode())
        coins.close()
        coins = open_store(COIN_FAMILIES)
        coins.put(twelfth, _key(twelfth, 1), twelfth.encode())

        assert contents(coins) == {cf: [(_key(cf, 1), cf.encode())] for cf in sorted(COIN_FAMILIES)}

    @pytest.mark.parametrize("cf", ["coin_by_confirmed_height", "coin_by_spent_height", "state_snapshots"])
    def test_heights_sort_as_numbers(self, coins: StorageBackend, cf: str) -> None:
        """Big-endian heights from 0 to 2^64-1 must come back in the order of the numbers, in both directions."""
        coin_id = b"" if cf == "state_snapshots" else identifier(7)
        for height in reversed(HEIGHTS):
            coins.put(cf, height_key(height, coin_id), b"")

        keys = [height_key(height, coin_id) for height in HEIGHTS]
        assert [key for key, _ in coins.scan(cf)] == keys
        assert [key for key, _ in coins.scan(cf, reverse=True)] == keys[::-1]
        assert [key for key, _ in coins.scan(cf, height_key(255), height_key(65535))] == keys[2:4]

    @pytest.mark.parametrize("settled", [False, True], ids=["fresh", "compacted"])
    def test_coins_are_found_by_puzzle_hash(self, coins: StorageBackend, settled: bool) -> None:
        """A prefix scan of 32 bytes must find the coins of one puzzle hash, in the family asked and no other."""
        batch = WriteBatch()
        for number in range(1000):
            key = identifier(number % 10) + identifier(number)
            batch.put("coin_by_puzzle_hash", key, b"")
            if number % 3:
                batch.put("unspent_by_puzzle_hash", key, b"")
        coins.batch_write(batch)
        if settled:
            coins.flush()
            for cf in COIN_FAMILIES:
                coins.compact(cf)

        of_third = sorted(identifier(3) + identifier(number) for number in range(3, 1000, 10))
        unspent = sorted(identifier(3) + identifier(number) for number in range(3, 1000, 10) if number % 3)
        assert list(coins.prefix_scan("coin_by_puzzle_hash", identifier(3))) == [(key, b"") for key in of_third]
        assert list(coins.prefix_scan("unspent_by_puzzle_hash", identifier(3))) == [(key, b"") for key in unspent]
        assert list(coins.prefix_scan("coin_by_puzzle_hash", identifier(11))) == []

    def test_merkle_nodes_are_grouped_by_level(self, coins: StorageBackend) -> None:
        """A prefix of one byte, the level, must give the nodes of that level, 0 and 255 included."""
        for level in (0, 1, 128, 255):
            for number in range(5):
                coins.put("merkle_nodes", merkle_key(level, identifier(number)), b"%d" % level)

        for level in (0, 1, 128, 255):
            values = [value for _, value in coins.prefix_scan("merkle_nodes", bytes((level,)))]
            assert values == [b"%d" % level] * 5

    def test_a_block_is_one_batch(self, coins: StorageBackend) -> None:
        """A block's additions and removals over seven families must be applied together."""
        block = WriteBatch()
        for number in range(500):
            coin, puzzle, parent = identifier(number), identifier(number + 1000), identifier(number + 2000)
            block.put("coin_records", coin, b"r" * 97).put("coin_by_puzzle_hash", puzzle + coin, b"")
            block.put("unspent_by_puzzle_hash", puzzle + coin, b"").put("coin_by_parent", parent + coin, b"")
            block.put("coin_by_confirmed_height", height_key(5, coin), b"")
            if number % 2:
                block.delete("unspent_by_puzzle_hash", puzzle + coin)
                block.put("coin_by_spent_height", height_key(6, coin), b"")
        coins.batch_write(block.put("metadata", b"peak", b"6").expect("metadata", b"peak", None))

        counts = {cf: len(pairs) for cf, pairs in contents(coins).items() if pairs}
        assert counts == {
            "coin_records": 500,
            "coin_by_puzzle_hash": 500,
            "unspent_by_puzzle_hash": 250,
            "coin_by_parent": 500,
            "coin_by_confirmed_height": 500,
            "coin_by_spent_height": 250,
            "metadata": 1,
        }
