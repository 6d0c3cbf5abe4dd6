"""The records of the tests of the Session."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, UniqueConstraint

from kvdialect import (
    Bytes32,
    ColumnFamilyOptions,
    Mapped,
    UInt64,
    field,
    mapped,
    registry,
)

models = registry()


@mapped(models)
class Coin:
    """The record of the README."""

    __tablename__ = "coin_records"
    __table_args__ = (
        Index("coin_by_puzzle_hash", "puzzle_hash"),
        Index("unspent_by_puzzle_hash", "puzzle_hash", kvdialect_where=lambda c: c.spent_height.is_(None)),
        Index("coin_by_confirmed_height", "confirmed_height", kvdialect_include=["amount"]),
        {"kvdialect_options": ColumnFamilyOptions(bloom="full")},
    )
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    parent_coin_info: Mapped[Bytes32] = field(index=True)
    puzzle_hash: Mapped[Bytes32]
    amount: Mapped[UInt64]
    confirmed_height: Mapped[UInt64]
    spent_height: Mapped[UInt64 | None] = None
    coinbase: Mapped[bool] = False
    timestamp: Mapped[UInt64] = 0


@mapped(models)
class User:
    """A record with an allocated id, unique columns and a list."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("team", "nick", name="users_team_nick"),
        Index("users_by_tag", "tags", kvdialect_kind="multi"),
    )
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    name: Mapped[str]
    email: Mapped[str | None] = field(default=None, unique=True)
    team: Mapped[str | None] = None
    nick: Mapped[str | None] = None
    tags: Mapped[list[str]] = field(factory=list)


def coin(number: int, **values: Any) -> Coin:
    """A coin whose bytes follow from a number."""
    return Coin(
        coin_id=number.to_bytes(32, "big"),
        parent_coin_info=(number // 2).to_bytes(32, "big"),
        puzzle_hash=(number % 7).to_bytes(32, "big"),
        **{"amount": number * 10, "confirmed_height": number // 3, **values},
    )


def coin_id(number: int) -> bytes:
    return number.to_bytes(32, "big")
