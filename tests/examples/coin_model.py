"""A coin store as a few dicts, and the twelve families that follow: written from the layouts, without the library."""

from __future__ import annotations

import struct
from typing import Any

import attrs

FAMILIES = (
    "coin_records",
    "coin_by_puzzle_hash",
    "unspent_by_puzzle_hash",
    "coin_by_parent",
    "coin_by_confirmed_height",
    "coin_by_spent_height",
    "hints",
    "hints_by_value",
    "merkle_nodes",
    "archive_coin_records",
    "state_snapshots",
    "metadata",
)

Pairs = dict[bytes, bytes]


@attrs.define
class ModelCoin:
    """A coin record."""

    parent: bytes
    puzzle_hash: bytes
    amount: int
    confirmed: int
    spent: int | None
    coinbase: bool
    timestamp: int

    def encoded(self) -> bytes:
        """The record as it stands in a value."""
        spent = b"\x00" if self.spent is None else b"\x01" + self.spent.to_bytes(8, "big")
        return (
            struct.pack(">32s32sQQ", self.parent, self.puzzle_hash, self.amount, self.confirmed)
            + spent
            + struct.pack(">?Q", self.coinbase, self.timestamp)
        )


class CoinModel:
    """A coin store that knows no engine.

    Blocks are taken as they come: the tests give it those alone that the store must take.
    """

    def __init__(self) -> None:
        self.coins: dict[bytes, ModelCoin] = {}
        self.hints: set[tuple[bytes, bytes]] = set()
        self.archive: dict[bytes, ModelCoin] = {}
        self.nodes: dict[tuple[int, bytes], bytes] = {}
        self.states: dict[int, bytes] = {}
        self.first: int | None = None
        self.peak: int | None = None
        self.archived_height: int | None = None

    # ---- changes

    def apply(self, block: Any) -> None:
        """Add a block."""
        if self.peak is None:
            self.first = block.height
        self.peak = block.height
        for addition in block.additions:
            coin = addition.coin
            self.coins[coin.coin_id] = ModelCoin(
                coin.parent_coin_info, coin.puzzle_hash, coin.amount,
                block.height, None, addition.coinbase, block.timestamp,
            )  # fmt: skip
            self.hints.update((coin.coin_id, hint) for hint in addition.hints)
        for coin_id in block.spends:
            self.coins[coin_id].spent = block.height

    def rollback(self, height: int | None) -> None:
        """Undo the blocks above a height."""
        lowest = 0 if height is None else height + 1
        self.coins = {coin_id: coin for coin_id, coin in self.coins.items() if coin.confirmed < lowest}
        for coin in self.coins.values():
            if coin.spent is not None and coin.spent >= lowest:
                coin.spent = None
        self.hints = {pair for pair in self.hints if pair[0] in self.coins}
        self.states = {saved: state for saved, state in self.states.items() if saved < lowest}
        self.peak = height
        if height is None:
            self.first = None

    def move_spent(self, through: int) -> None:
        """Move what was spent up to a height to the archive."""
        moved = {i: coin for i, coin in self.coins.items() if coin.spent is not None and coin.spent <= through}
        self.archive.update(moved)
        self.coins = {coin_id: coin for coin_id, coin in self.coins.items() if coin_id not in moved}
        self.hints = {pair for pair in self.hints if pair[0] in self.coins}
        self.archived_height = max(through, self.archived_height or 0)

    def save_state(self) -> None:
        """Save coins, hints and totals."""
        assert self.peak is not None
        coins = [coin_id + coin.encoded() for coin_id, coin in sorted(self.coins.items())]
        hints = [coin_id + hint for coin_id, hint in sorted(self.hints)]
        self.states[self.peak] = b"".join(
            [
                len(coins).to_bytes(8, "big"), *coins,
                len(hints).to_bytes(8, "big"), *hints,
                len(coins).to_bytes(8, "big"), self.unspent_amount.to_bytes(16, "big"),
            ]
        )  # fmt: skip

    # ---- what follows from it

    @property
    def unspent(self) -> list[ModelCoin]:
        """The coins that are not spent."""
        return [coin for coin in self.coins.values() if coin.spent is None]

    @property
    def unspent_amount(self) -> int:
        """What they hold."""
        return sum(coin.amount for coin in self.unspent)

    def ids(self, **wanted: Any) -> list[bytes]:
        """The ids of the coins that have these values, sorted."""
        return sorted(
            coin_id
            for coin_id, coin in self.coins.items()
            if all(getattr(coin, name) == value for name, value in wanted.items())
        )

    def ids_between(self, name: str, first: int, last: int) -> list[bytes]:
        """The ids of the coins whose height ``name`` is from ``first`` to ``last``, by height and id."""
        found = [(getattr(coin, name), coin_id) for coin_id, coin in self.coins.items()]
        return [coin_id for _, coin_id in sorted(p for p in found if p[0] is not None and first <= p[0] <= last)]

    def counters(self) -> dict[str, int]:
        """The counters by name; none for an empty store."""
        if self.peak is None:
            return {}
        counters = {
            "first_height": self.first,
            "peak_height": self.peak,
            "coins": len(self.coins),
            "unspent": len(self.unspent),
            "unspent_amount": self.unspent_amount,
            "hints": len(self.hints),
            "archived": len(self.archive),
            "archived_height": self.archived_height,
        }
        return {name: number for name, number in counters.items() if number is not None}

    def families(self) -> dict[str, Pairs]:
        """All twelve families, byte for byte."""
        found: dict[str, Pairs] = {name: {} for name in FAMILIES}
        for coin_id, coin in self.coins.items():
            found["coin_records"][coin_id] = coin.encoded()
            found["coin_by_puzzle_hash"][coin.puzzle_hash + coin_id] = b""
            found["coin_by_parent"][coin.parent + coin_id] = b""
            found["coin_by_confirmed_height"][coin.confirmed.to_bytes(8, "big") + coin_id] = b""
            if coin.spent is None:
                found["unspent_by_puzzle_hash"][coin.puzzle_hash + coin_id] = b""
            else:
                found["coin_by_spent_height"][coin.spent.to_bytes(8, "big") + coin_id] = b""
        for coin_id, hint in self.hints:
            found["hints"][coin_id + hint] = b""
            found["hints_by_value"][hint + coin_id] = b""
        for (level, path), node in self.nodes.items():
            found["merkle_nodes"][bytes((level,)) + path] = node
        for coin_id, coin in self.archive.items():
            found["archive_coin_records"][coin_id] = coin.encoded()
        for height, state in self.states.items():
            found["state_snapshots"][height.to_bytes(8, "big")] = state
        for name, number in self.counters().items():
            width = 16 if name == "unspent_amount" else 8
            found["metadata"][name.encode()] = width.to_bytes(8, "big") + number.to_bytes(width, "big")
        return found
