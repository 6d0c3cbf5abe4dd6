"""The record of the benchmarks: the README's."""

from __future__ import annotations

from sqlalchemy import Index

from kvdialect import Bytes32, ColumnFamilyOptions, Mapped, UInt64, field, mapped, registry

models = registry()


@mapped(models)
class CoinRecord:
    """A coin."""

    __tablename__ = "coin_records"
    __table_args__ = (
        Index("coin_by_puzzle_hash", "puzzle_hash"),
        Index("unspent_by_puzzle_hash", "puzzle_hash", kvdialect_where=lambda c: c.spent_height.is_(None)),
        Index("coin_by_confirmed_height", "confirmed_height", kvdialect_include=["amount"]),
        {"kvdialect_options": ColumnFamilyOptions(bloom="full", write_buffer_size="64MiB")},
    )
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    parent_coin_info: Mapped[Bytes32] = field(index=True)
    puzzle_hash: Mapped[Bytes32]
    amount: Mapped[UInt64]
    confirmed_height: Mapped[UInt64]
    spent_height: Mapped[UInt64 | None] = None
    coinbase: Mapped[bool] = False
    timestamp: Mapped[UInt64] = 0
