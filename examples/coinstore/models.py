"""The records of the coin store, and so its column families: each table is one, and each index.

Keys are those of the table in README.md. Values are in the fixed-width, big-endian layout of bincode and hold nothing
else, so that a program in another language reads and writes the same bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import attrs
import sqlalchemy as sa
from sqlalchemy import Index

from coinstore.blocks import Coin
from kvdialect import Bytes32, ColumnFamilyOptions, FixedBinary, Mapped, UInt8, UInt64, field, mapped, registry

models = registry()


def _family(
    bloom: Literal["full", "prefix", "none"],
    buffers: tuple[int, int],
    database: str,
    tag: int | None = None,
    compaction: Literal["level", "fifo"] = "level",
) -> ColumnFamilyOptions:
    """What the engines are told of a family.

    Args:
        bloom: filter over whole keys, over prefixes of 32 bytes, or none.
        buffers: size in MiB and number of RocksDB's write buffers.
        database: LMDB's named database.
        tag: byte that tells the family apart where several share a database.
        compaction: ``"fifo"`` drops the oldest data beyond 1 GiB.
    """
    return ColumnFamilyOptions(
        bloom=bloom,
        write_buffer_size=buffers[0] << 20,
        max_write_buffer_number=buffers[1],
        lmdb_database=database,
        lmdb_tag=tag,
        compaction=compaction,
    )


class _Unsigned128(sa.TypeDecorator[int]):
    """Integers from 0 to 2**128-1, as 16 bytes, big-endian: sums of amounts, which 64 bits do not hold."""

    impl = FixedBinary(16)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Any) -> bytes | None:  # noqa: ARG002
        return None if value is None else value.to_bytes(16)

    def process_result_value(self, value: bytes | None, dialect: Any) -> int | None:  # noqa: ARG002
        return None if value is None else int.from_bytes(value)


UInt128 = Annotated[int, _Unsigned128]


# ------------------------------------------------------------------------------------------------ coins


@mapped(models)
class CoinRecord:
    """A coin, when it came to be and when it was spent. A rollback can undo either."""

    __tablename__ = "coin_records"
    __table_args__ = (
        Index(
            "coin_by_puzzle_hash",
            "puzzle_hash",
            kvdialect_options=_family("prefix", (32, 2), "coins_by_ph", 1),
        ),
        Index(
            "unspent_by_puzzle_hash",
            "puzzle_hash",
            kvdialect_where=lambda coin: coin.spent_height.is_(None),
            kvdialect_options=_family("prefix", (32, 2), "coins_by_ph", 2),
        ),
        Index(
            "coin_by_parent",
            "parent_coin_info",
            kvdialect_options=_family("full", (16, 2), "coins", 2),
        ),
        Index(
            "coin_by_confirmed_height",
            "confirmed_height",
            kvdialect_options=_family("none", (16, 2), "coins", 3),
        ),
        Index(
            "coin_by_spent_height",
            "spent_height",
            # As NULL cannot stand in this index, its height takes no tag byte.
            kvdialect_where=lambda coin: coin.spent_height.is_not(None),
            kvdialect_options=_family("none", (16, 2), "coins", 4),
        ),
        {"kvdialect_format": "bincode", "kvdialect_options": _family("full", (64, 3), "coins", 1)},
    )
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    parent_coin_info: Mapped[Bytes32]
    puzzle_hash: Mapped[Bytes32]
    amount: Mapped[UInt64]
    confirmed_height: Mapped[UInt64]
    spent_height: Mapped[UInt64 | None]
    coinbase: Mapped[bool]
    timestamp: Mapped[UInt64]

    @property
    def coin(self) -> Coin:
        """The part that never changes."""
        return Coin(self.parent_coin_info, self.puzzle_hash, self.amount)


@mapped(models)
class ArchivedCoinRecord:
    """A coin that was spent so long ago that no rollback reaches it."""

    __tablename__ = "archive_coin_records"
    __table_args__ = (
        {
            "kvdialect_format": "bincode",
            "kvdialect_options": _family("full", (16, 2), "coins", 5, compaction="fifo"),
        },
    )
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    parent_coin_info: Mapped[Bytes32]
    puzzle_hash: Mapped[Bytes32]
    amount: Mapped[UInt64]
    confirmed_height: Mapped[UInt64]
    spent_height: Mapped[UInt64 | None]
    coinbase: Mapped[bool]
    timestamp: Mapped[UInt64]


# ------------------------------------------------------------------------------------------------ hints


@mapped(models)
class Hint:
    """A hint of a coin: the key says all, and the value is empty."""

    __tablename__ = "hints"
    __table_args__ = (
        Index("hints_by_value", "hint", kvdialect_options=_family("prefix", (16, 2), "hints_by_value")),
        {"kvdialect_format": "bincode", "kvdialect_options": _family("full", (16, 2), "hints")},
    )
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    hint: Mapped[Bytes32] = field(primary_key=True)


# ------------------------------------------------------------------------------------------------ the state as a whole


@mapped(models)
class MerkleNode:
    """A node of a tree over the coins: the first ``level`` bits of ``path`` count, the others are 0."""

    __tablename__ = "merkle_nodes"
    __table_args__ = ({"kvdialect_format": "bincode", "kvdialect_options": _family("full", (64, 3), "coins", 6)},)
    level: Mapped[UInt8] = field(primary_key=True)
    path: Mapped[Bytes32] = field(primary_key=True)
    hash: Mapped[Bytes32]


@attrs.frozen
class SavedCoin:
    """A coin record within a saved state."""

    coin_id: Bytes32
    coin: Coin
    confirmed_height: UInt64
    spent_height: UInt64 | None
    coinbase: bool
    timestamp: UInt64


@attrs.frozen
class SavedHint:
    """A hint within a saved state."""

    coin_id: Bytes32
    hint: Bytes32


@mapped(models)
class StateSnapshot:
    """All coins and hints of a height, with their totals: what another store can start from.

    Attributes:
        total_amount: of the coins that are not spent.
    """

    __tablename__ = "state_snapshots"
    __table_args__ = (
        {
            "kvdialect_format": "bincode",
            "kvdialect_options": _family("none", (8, 2), "snapshots", compaction="fifo"),
        },
    )
    height: Mapped[UInt64] = field(primary_key=True)
    coins: Mapped[tuple[SavedCoin, ...]]
    hints: Mapped[tuple[SavedHint, ...]]
    total_coins: Mapped[UInt64]
    total_amount: Mapped[UInt128]


@mapped(models)
class Metadata:
    """A fact on the store as a whole, by its name; see :class:`coinstore.store.Counters`."""

    __tablename__ = "metadata"
    __table_args__ = ({"kvdialect_format": "bincode", "kvdialect_options": _family("full", (4, 2), "metadata")},)
    name: Mapped[str] = field(primary_key=True)
    value: Mapped[bytes]
