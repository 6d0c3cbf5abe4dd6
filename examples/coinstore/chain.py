"""Chains to fill a store with: the first blocks of a real one, and made-up ones of any length."""

from __future__ import annotations

import csv
import hashlib
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from coinstore.blocks import Addition, Block, Coin

REAL_COINS: Final = Path(__file__).parents[1] / "data" / "chia_coin_records.csv"
"""The first coins of the Chia main network; see the README beside it."""

BLOCK_TIME: Final = 19
"""Seconds from one made-up block to the next."""

REWARDS: Final = (1_750_000_000_000, 250_000_000_000)


def read_chain(path: Path = REAL_COINS) -> Iterator[Block]:
    """Yield the blocks of a file of coin records, from that of its first coin on, those without coins too.

    Raises:
        ValueError: if a coin's id is not the digest of its contents.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    blocks: dict[int, list[Addition]] = {}
    times: dict[int, int] = {}
    for row in rows:
        coin = Coin(bytes.fromhex(row["parent_coin_info"]), bytes.fromhex(row["puzzle_hash"]), int(row["amount"]))
        if coin.coin_id.hex() != row["coin_id"]:
            raise ValueError(f"{path}: coin {row['coin_id']} is not the digest of its contents")
        height = int(row["confirmed_height"])
        blocks.setdefault(height, []).append(Addition(coin, coinbase=row["coinbase"] == "1"))
        times[height] = int(row["timestamp"])
    timestamp = 0
    for height in range(min(blocks), max(blocks) + 1):
        timestamp = times.get(height, timestamp)
        yield Block(height, timestamp, tuple(blocks.get(height, ())))


class Chain:
    """A chain that grows by made-up blocks, and can be cut and grow on in another way. One seed makes one chain.

    Each block has two rewards, and spends some coins: each for a few new ones, of which one may be spent at once and
    some have hints. Owners are few, so that puzzle hashes and hints have many coins.

    Attributes:
        blocks: the blocks so far.
        unspent: the coins that can be spent, by id.
    """

    def __init__(self, seed: int = 0, blocks: Iterable[Block] = (), *, owners: int = 12, first_height: int = 0) -> None:
        self.blocks: list[Block] = []
        self._random = random.Random(seed)  # noqa: S311 - repeatable, and no secret
        self._owners = [hashlib.sha256(b"owner %d" % number).digest() for number in range(owners)]
        self._first_height = first_height
        self.unspent: dict[bytes, Coin] = {}
        for block in blocks:
            self.append(block)

    def append(self, block: Block) -> Block:
        """Take a block, and return it."""
        self.blocks.append(block)
        self.unspent.update((addition.coin.coin_id, addition.coin) for addition in block.additions)
        for coin_id in block.spends:
            del self.unspent[coin_id]
        return block

    def grow(self, count: int = 1) -> list[Block]:
        """Grow by some blocks, and return these."""
        return [self.append(self._next()) for _ in range(count)]

    def cut(self, height: int) -> None:
        """Take off the blocks above a height."""
        kept = [block for block in self.blocks if block.height <= height]
        self.blocks.clear()
        self.unspent.clear()
        for block in kept:
            self.append(block)

    def _next(self) -> Block:
        last = self.blocks[-1] if self.blocks else None
        height = self._first_height if last is None else last.height + 1
        timestamp = 1_600_000_000 if last is None else last.timestamp + BLOCK_TIME
        additions: dict[bytes, Addition] = {}
        spends: list[bytes] = []
        for number, amount in enumerate(REWARDS):
            parent = hashlib.sha256(b"reward %d of block %d" % (number, height)).digest()
            coin = Coin(parent, self._owner(), amount)
            additions[coin.coin_id] = Addition(coin, coinbase=True)
        count = min(len(self.unspent), self._random.choice([0, 0, 1, 2, 3, 5]))
        for coin_id in self._random.sample(list(self.unspent), count):
            children = self._spend(coin_id, self.unspent[coin_id].amount)
            additions.update(children)
            spends.append(coin_id)
            if self._random.random() < 0.2:
                at_once, addition = self._random.choice(list(children.items()))
                additions.update(self._spend(at_once, addition.coin.amount))
                spends.append(at_once)
        return Block(height, timestamp, tuple(additions.values()), tuple(spends))

    def _spend(self, coin_id: bytes, amount: int) -> dict[bytes, Addition]:
        """What the spend of a coin makes: its amount in one to three parts."""
        children: dict[bytes, Addition] = {}
        for left in reversed(range(self._random.choice([1, 2, 2, 3]))):
            part = self._random.randint(0, amount) if left else amount
            amount -= part
            coin = Coin(coin_id, self._owner(), part)
            children[coin.coin_id] = Addition(coin, hints=self._hints())
        return children

    def _hints(self) -> tuple[bytes, ...]:
        return tuple(self._owner() for _ in range(self._random.choice([0, 0, 1, 2])))

    def _owner(self) -> bytes:
        return self._random.choice(self._owners)


def merkle_tree(coin_ids: Iterable[bytes], depth: int = 8) -> dict[tuple[int, bytes], bytes]:
    """The nodes of a tree over coin ids, by level and path; the root is at level 0 and path 0.

    A leaf is the digest of the sorted ids that share their first ``depth`` bits, a node that of its two children, where
    32 zero bytes stand for one that is not there.
    """
    leaves: dict[int, list[bytes]] = {}
    for coin_id in sorted(coin_ids):
        leaves.setdefault(int.from_bytes(coin_id) >> 256 - depth, []).append(coin_id)
    hashes = {bits: hashlib.sha256(b"".join(ids)).digest() for bits, ids in leaves.items()}
    nodes: dict[tuple[int, bytes], bytes] = {}
    for level in range(depth, -1, -1):
        nodes.update({(level, (bits << 256 - level).to_bytes(32)): node for bits, node in hashes.items()})
        missing = bytes(32)
        hashes = {
            bits: hashlib.sha256(hashes.get(2 * bits, missing) + hashes.get(2 * bits + 1, missing)).digest()
            for bits in {bits >> 1 for bits in hashes}
        }
    return nodes
