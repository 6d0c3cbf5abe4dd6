"""The schema of a coin store: twelve families as a real program declares them, and their key layouts.

Names, keys, blooms, buffers and LMDB placement are those of contract/storage.md, "The coin store's own schema".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from kvdialect.storage import ColumnFamilyOptions


def _family(
    bloom: Literal["full", "prefix", "none"],
    buffer: int,
    buffers: int,
    database: str,
    tag: int | None = None,
    compaction: Literal["level", "fifo"] = "level",
) -> ColumnFamilyOptions:
    return ColumnFamilyOptions(
        bloom=bloom,
        compaction=compaction,
        write_buffer_size=buffer << 20,
        max_write_buffer_number=buffers,
        lmdb_database=database,
        lmdb_tag=tag,
    )


COIN_FAMILIES: Final[Mapping[str, ColumnFamilyOptions]] = MappingProxyType(
    {
        "coin_records": _family("full", 64, 3, "coins", 1),
        "coin_by_puzzle_hash": _family("prefix", 32, 2, "coins_by_ph", 1),
        "unspent_by_puzzle_hash": _family("prefix", 32, 2, "coins_by_ph", 2),
        "coin_by_parent": _family("full", 16, 2, "coins", 2),
        "coin_by_confirmed_height": _family("none", 16, 2, "coins", 3),
        "coin_by_spent_height": _family("none", 16, 2, "coins", 4),
        "hints": _family("full", 16, 2, "hints"),
        "hints_by_value": _family("prefix", 16, 2, "hints_by_value"),
        "merkle_nodes": _family("full", 64, 3, "coins", 6),
        "archive_coin_records": _family("full", 16, 2, "coins", 5, compaction="fifo"),
        "state_snapshots": _family("none", 8, 2, "snapshots", compaction="fifo"),
        "metadata": _family("full", 4, 2, "metadata"),
    }
)
"""The twelve families in the order of the coin store."""

KEY_SIZES: Final[Mapping[str, int | None]] = MappingProxyType(
    {
        "coin_records": 32,
        "coin_by_puzzle_hash": 64,
        "unspent_by_puzzle_hash": 64,
        "coin_by_parent": 64,
        "coin_by_confirmed_height": 40,
        "coin_by_spent_height": 40,
        "hints": 64,
        "hints_by_value": 64,
        "merkle_nodes": 33,
        "archive_coin_records": 32,
        "state_snapshots": 8,
        "metadata": None,
    }
)
"""Bytes of the keys of each family; None where they vary."""

HEIGHTS: Final = (0, 1, 255, 256, 65535, 2**32 - 1, 2**64 - 1)
"""Heights whose order as numbers differs from their order in most other encodings."""


def identifier(number: int) -> bytes:
    """A 32-byte identifier, such as a coin id, that differs in its first bytes."""
    return (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") + number.to_bytes(24, "big")


def height_key(height: int, coin_id: bytes = b"") -> bytes:
    """The key of ``coin_by_confirmed_height`` and ``coin_by_spent_height``; without a coin, of ``state_snapshots``."""
    return height.to_bytes(8, "big") + coin_id


def merkle_key(level: int, path: bytes) -> bytes:
    """The key of ``merkle_nodes``: the level in one byte, the path in 32."""
    return level.to_bytes(1, "big") + path
