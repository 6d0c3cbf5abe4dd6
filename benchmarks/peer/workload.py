"""What every peer does: blocks of coins to ingest, samples to read, the results that must come out, and the clock.

All of it follows from a seed and the number of blocks. The process that runs the benchmark makes it once and leaves it
in files; the processes of the peers read their part, so that none of them times or holds the making of it.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import msgspec

T = TypeVar("T")

SEED = 17
INSERTS, UPDATES = 200, 100  # of a block
PER_PUZZLE_HASH = 20
GETS, SESSIONS, LOOKUPS, RANGES, COMMITS, OBJECTS = 1000, 300, 100, 10, 50, 1000  # of a round
RANGE_HEIGHTS = 5  # of 200 coins each: 1,000 records

Coin = tuple[bytes, bytes, bytes, int, int, int | None, bool, int]
"""coin id, parent, puzzle hash, amount, confirmed height, spent height, coinbase, timestamp; ids of 32 bytes."""

FIELDS = (
    "coin_id",
    "parent_coin_info",
    "puzzle_hash",
    "amount",
    "confirmed_height",
    "spent_height",
    "coinbase",
    "timestamp",
)


class Block(msgspec.Struct, array_like=True):
    """One transaction: coins that come to be, and ids of earlier ones that are spent."""

    height: int
    coins: list[Coin]
    spends: list[bytes]


class Summary(msgspec.Struct, array_like=True):
    """What a whole store amounts to. The digest does not depend on the order of the coins."""

    count: int
    total: int
    unspent: int
    digest: int


class Samples(msgspec.Struct, array_like=True):
    """What is asked, with the answers, after all blocks are ingested.

    Attributes:
        gets: ids and amounts.
        lookups: puzzle hashes of exactly 20 coins, with the summary of these.
        unspent: some of these puzzle hashes, with the ids of their unspent coins.
        ranges: heights, the second not included, with the summary of their coins.
        spendable: ids of coins that are not spent, for updates.
        whole: the store.
    """

    gets: list[tuple[bytes, int]]
    lookups: list[tuple[bytes, Summary]]
    unspent: list[tuple[bytes, list[bytes]]]
    ranges: list[tuple[int, int, Summary]]
    spendable: list[bytes]
    whole: Summary


def blocks(count: int) -> Iterator[Block]:
    """Make so many blocks, from height 1. Each spends 100 coins of earlier ones, which are the parents of its own."""
    source = random.Random(SEED)  # noqa: S311 - data, no secrets
    puzzle_hashes = [source.randbytes(32) for _ in range(max(1, count * INSERTS // PER_PUZZLE_HASH))]
    unspent: list[bytes] = []
    for height in range(1, count + 1):
        spends = []
        for _ in range(min(UPDATES, len(unspent))):
            place = source.randrange(len(unspent))
            unspent[place], unspent[-1] = unspent[-1], unspent[place]
            spends.append(unspent.pop())
        parents = spends or [source.randbytes(32)]
        coins: list[Coin] = [
            (
                source.randbytes(32),
                parents[number * len(parents) // INSERTS],
                source.choice(puzzle_hashes),
                source.randrange(1, 1 << source.randrange(8, 45)),  # so that sums fit 63 bits: SQLite's are signed
                height,
                None,
                number < 2,
                1_600_000_000 + 18 * height,
            )
            for number in range(INSERTS)
        ]
        unspent += [coin[0] for coin in coins]
        yield Block(height, coins, spends)


def summary(coins: Iterable[Coin]) -> Summary:
    """Count and add up coins."""
    result = Summary(0, 0, 0, 0)
    for coin in coins:
        result.count += 1
        result.total += coin[3]
        result.unspent += coin[5] is None
        result.digest = (result.digest + crc32(repr(coin).encode()) * 0x9E3779B97F4A7C15) % (1 << 64)
    return result


def samples(made: Iterable[Block]) -> Samples:
    """Choose what to ask about a store that has ingested these blocks, and find the answers in plain Python."""
    state: dict[bytes, Coin] = {}
    top = 0
    for block in made:
        for coin_id in block.spends:
            state[coin_id] = (*state[coin_id][:5], block.height, *state[coin_id][6:])
        state.update((coin[0], coin) for coin in block.coins)
        top = block.height
    source = random.Random(SEED + 1)  # noqa: S311
    by_puzzle_hash: dict[bytes, list[Coin]] = {}
    by_height: dict[int, list[Coin]] = {}
    for coin in state.values():
        by_puzzle_hash.setdefault(coin[2], []).append(coin)
        by_height.setdefault(coin[4], []).append(coin)
    twenties = [found for found in by_puzzle_hash.values() if len(found) == PER_PUZZLE_HASH]
    source.shuffle(twenties)
    starts = list(range(1, top - RANGE_HEIGHTS + 2, RANGE_HEIGHTS))
    source.shuffle(starts)
    spendable = [coin_id for coin_id, coin in state.items() if coin[5] is None]
    source.shuffle(spendable)
    return Samples(
        gets=[(coin[0], coin[3]) for coin in source.sample(list(state.values()), min(20_000, len(state)))],
        lookups=[(found[0][2], summary(found)) for found in twenties[:2000]],
        unspent=[(found[0][2], [coin[0] for coin in found if coin[5] is None]) for found in twenties[:50]],
        ranges=[
            (low, low + RANGE_HEIGHTS, summary(c for h in range(low, low + RANGE_HEIGHTS) for c in by_height[h]))
            for low in starts[:100]
        ],
        spendable=spendable[:20_000],
        whole=summary(state.values()),
    )


def prepare(folder: Path, count: int, slices: int) -> list[int]:
    """Write blocks, in slices, and samples; return how many blocks each slice has."""
    made = list(blocks(count))
    sizes = [count // slices + (number < count % slices) for number in range(slices)]
    start = 0
    for number, size in enumerate(sizes):
        (folder / f"blocks-{number}").write_bytes(msgspec.msgpack.encode(made[start : start + size]))
        start += size
    (folder / "samples").write_bytes(msgspec.msgpack.encode(samples(made)))
    return sizes


def load_blocks(folder: Path, number: int) -> list[Block]:
    """Read a slice of the blocks."""
    return msgspec.msgpack.decode((folder / f"blocks-{number}").read_bytes(), type=list[Block])


def load_samples(folder: Path) -> Samples:
    """Read the samples."""
    return msgspec.msgpack.decode((folder / "samples").read_bytes(), type=Samples)


def turn(items: list[T], count: int, number: int) -> list[T]:
    """Give each round its own part of the items, of at most ``count``; after the last part, the first again."""
    parts = max(1, len(items) // count)
    start = number % parts * count
    return items[start : start + count]


# ------------------------------------------------------------------------------------------------ the clock


class Timed(NamedTuple):
    """Seconds, and what the work returned."""

    seconds: float
    result: Any


def timed(work: Callable[[], object]) -> Timed:
    """Time a piece of work, with the garbage collector off."""
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        result = work()
        return Timed(time.perf_counter() - began, result)
    finally:
        gc.enable()


def calibration() -> float:
    """Seconds of a fixed loop of pure Python: the speed of the machine at this moment."""

    def loop() -> int:
        table: dict[int, int] = {}
        total = 0
        for number in range(100_000):
            table[number & 1023] = number
            total += table[number * 7 & 255 & number]
        return total

    return statistics.median(timed(loop).seconds for _ in range(5))
