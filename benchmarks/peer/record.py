"""The record of the peers that have none of their own, and its bytes for the drivers of key-value engines."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct


@dataclass(slots=True)
class Coin:
    """A coin as an object with slots."""

    coin_id: bytes
    parent_coin_info: bytes
    puzzle_hash: bytes
    amount: int
    confirmed_height: int
    spent_height: int | None
    coinbase: bool
    timestamp: int


# Fixed layout; what is outside of the key. The two flags: spent, coinbase.
_LAYOUT = Struct(">32s32sQQ?Q?Q")
_pack, _unpack = _LAYOUT.pack, _LAYOUT.unpack
height_key = Struct(">Q").pack
unpack_height = Struct(">Q").unpack


def encode(coin: Coin) -> bytes:
    """Return the value of a coin."""
    spent = coin.spent_height
    return _pack(
        coin.parent_coin_info,
        coin.puzzle_hash,
        coin.amount,
        coin.confirmed_height,
        spent is not None,
        spent or 0,
        coin.coinbase,
        coin.timestamp,
    )


def decode(key: bytes, value: bytes) -> Coin:
    """Return the coin of a key and a value."""
    parent, puzzle_hash, amount, confirmed, is_spent, spent, coinbase, timestamp = _unpack(value)
    return Coin(key, parent, puzzle_hash, amount, confirmed, spent if is_spent else None, coinbase, timestamp)
