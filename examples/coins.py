"""A coin store on the storage layer: real coin records in, atomic batches, queries out.

The first 124 coins of the Chia main network go into a RocksDB store (or any other engine, by its URL), one batch per
block, each with its records, its index entries and an expectation that no coin is there yet. Then the store is closed,
opened again and asked.

    python examples/coins.py                       # a temporary RocksDB store
    python examples/coins.py lmdb:///data/coins    # any engine, by its URL
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import struct
import sys
import tempfile
import time
from pathlib import Path

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import StorageBackend, WriteBatch, decode_counter

FAMILIES = {
    "coin_records": ColumnFamilyOptions(bloom="full", write_buffer_size="64MiB", max_write_buffer_number=3),
    "coin_by_puzzle_hash": ColumnFamilyOptions(bloom="prefix", write_buffer_size="32MiB"),
    "coin_by_confirmed_height": ColumnFamilyOptions(write_buffer_size="16MiB"),
    "metadata": ColumnFamilyOptions(bloom="full", write_buffer_size="4MiB"),
}
HEIGHT = struct.Struct(">Q")
RECORD = struct.Struct(">32s32sQQ?Q?Q")  # parent, puzzle hash, amount, height, spent, spent height, coinbase, time


def read_coins(path: Path) -> list[dict[str, str]]:
    """Read the coin records and check each id against what it is a digest of."""
    with path.open(newline="") as file:
        coins = list(csv.DictReader(file))
    for coin in coins:
        amount = int(coin["amount"])
        raw = amount.to_bytes(amount.bit_length() // 8 + 1, "big") if amount else b""
        content = bytes.fromhex(coin["parent_coin_info"]) + bytes.fromhex(coin["puzzle_hash"]) + raw
        if hashlib.sha256(content).hexdigest() != coin["coin_id"]:
            raise SystemExit(f"{path}: coin {coin['coin_id']} is not the digest of its contents")
    return coins


def block(coins: list[dict[str, str]]) -> WriteBatch:
    """One block's coins as one batch: records, index entries, a counter; refused if any coin is there already."""
    batch = WriteBatch()
    for coin in coins:
        coin_id, puzzle_hash = bytes.fromhex(coin["coin_id"]), bytes.fromhex(coin["puzzle_hash"])
        height, spent = int(coin["confirmed_height"]), coin["spent_height"]
        record = RECORD.pack(
            bytes.fromhex(coin["parent_coin_info"]), puzzle_hash, int(coin["amount"]), height,
            bool(spent), int(spent or 0), coin["coinbase"] == "1", int(coin["timestamp"]),
        )  # fmt: skip
        batch.expect("coin_records", coin_id, None).put("coin_records", coin_id, record)
        batch.put("coin_by_puzzle_hash", puzzle_hash + coin_id, b"")
        batch.put("coin_by_confirmed_height", HEIGHT.pack(height) + coin_id, b"")
    return batch.add("metadata", b"coins", len(coins))


def fill(store: StorageBackend, coins: list[dict[str, str]]) -> int:
    """Commit the coins, a batch per block; return the number of commits."""
    blocks = [list(group) for _, group in itertools.groupby(coins, key=lambda coin: int(coin["confirmed_height"]))]
    for coins_of_block in blocks:
        store.batch_write(block(coins_of_block))
    return len(blocks)


def ask(store: StorageBackend, coins: list[dict[str, str]]) -> None:
    """Answer some questions from one snapshot of the store."""
    with store.snapshot() as snapshot:
        count = decode_counter(snapshot.get("metadata", b"coins"))
        print(f"coins in the store: {count}")
        first = coins[0]
        record = snapshot.get("coin_records", bytes.fromhex(first["coin_id"]))
        assert record is not None
        print(f"coin {first['coin_id'][:12]}...: amount {RECORD.unpack(record)[2]}")
        puzzle_hash = bytes.fromhex(coins[-1]["puzzle_hash"])
        ids = [key[32:] for key, _ in snapshot.prefix_scan("coin_by_puzzle_hash", puzzle_hash)]
        total = sum(RECORD.unpack(raw)[2] for raw in snapshot.multi_get("coin_records", ids) if raw is not None)
        print(f"puzzle hash {puzzle_hash.hex()[:12]}...: {len(ids)} coins, {total} in all")
        heights = snapshot.scan("coin_by_confirmed_height", HEIGHT.pack(10), HEIGHT.pack(20), reverse=True)
        newest = [HEIGHT.unpack(key[:8])[0] for key, _ in itertools.islice(heights, 3)]
        print(f"newest coins of heights 10 to 19: at {newest}")


def main(url: str) -> None:
    """Fill a store, show that it refuses coins twice, close it, open it again and ask it."""
    coins = read_coins(Path(__file__).parent / "data" / "chia_coin_records.csv")
    with open_backend(url, column_families=FAMILIES) as store:
        began = time.perf_counter()
        commits = fill(store, coins)
        print(f"{store!r}: {len(coins)} coins in {commits} durable commits, {time.perf_counter() - began:.3f} s")
        try:
            store.batch_write(block(coins[:1]))
        except exc.ConflictError as error:
            print(f"the same coin again: ConflictError: {error}")
    with open_backend(url) as store:
        ask(store, coins)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(f"rocksdb:///{folder}/coins")
