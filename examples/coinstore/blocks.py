"""What a chain is made of: coins, and the blocks that add and spend them."""

from __future__ import annotations

import hashlib

import attrs

from kvdialect import Bytes32, UInt64


@attrs.frozen
class Coin:
    """A coin, which is what its id is a digest of. It never changes."""

    parent_coin_info: Bytes32
    puzzle_hash: Bytes32
    amount: UInt64

    @property
    def coin_id(self) -> bytes:
        """SHA-256 of parent, puzzle hash and amount; the amount as an integer of CLVM, in as few bytes as it takes.

        That is two's complement, big-endian: an amount whose first bit is set has a zero byte before it, and 0 has no
        bytes at all.
        """
        amount = self.amount.to_bytes(self.amount.bit_length() // 8 + 1) if self.amount else b""
        return hashlib.sha256(self.parent_coin_info + self.puzzle_hash + amount).digest()


@attrs.frozen
class Addition:
    """A coin that a block adds.

    Attributes:
        coin: the coin.
        coinbase: it is a reward; it has no coin for a parent.
        hints: 32 bytes each, by which wallets find coins whose puzzle hash they do not know.
    """

    coin: Coin
    coinbase: bool = False
    hints: tuple[bytes, ...] = ()


@attrs.frozen
class Block:
    """A block: its place in the chain, the coins that it adds, and the ids of those that it spends.

    A coin may be added and spent by the same block.
    """

    height: int
    timestamp: int
    additions: tuple[Addition, ...] = ()
    spends: tuple[bytes, ...] = ()
