"""The standard library's sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from peer.base import Peer
from peer.record import Coin
from peer.workload import Block

# With rowids: measured beside WITHOUT ROWID, which is a little faster to get and a quarter slower in all the rest.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS coin_records (
        coin_id BLOB NOT NULL PRIMARY KEY,
        parent_coin_info BLOB NOT NULL,
        puzzle_hash BLOB NOT NULL,
        amount INTEGER NOT NULL,
        confirmed_height INTEGER NOT NULL,
        spent_height INTEGER,
        coinbase INTEGER NOT NULL,
        timestamp INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS coin_by_parent ON coin_records (parent_coin_info)",
    "CREATE INDEX IF NOT EXISTS coin_by_puzzle_hash ON coin_records (puzzle_hash)",
    "CREATE INDEX IF NOT EXISTS unspent_by_puzzle_hash ON coin_records (puzzle_hash) WHERE spent_height IS NULL",
    "CREATE INDEX IF NOT EXISTS coin_by_confirmed_height ON coin_records (confirmed_height, amount)",
)

DURABLE = "WAL, synchronous=FULL"
RELAXED = "WAL, synchronous=NORMAL: synced at checkpoints"


def pragmas(durable: bool) -> dict[str, str | int]:
    """Return the settings of every peer on SQLite."""
    return {
        "journal_mode": "WAL",
        "synchronous": "FULL" if durable else "NORMAL",
        "cache_size": -(256 << 10),  # KiB: as large as the block cache on RocksDB
    }


class Sqlite(Peer):
    """One connection, statements as text, rows into objects with slots."""

    title = "sqlite3"
    durable = DURABLE
    relaxed = RELAXED
    lacks = dict.fromkeys(("lookup_select", "range_select", "scan_select"), "the same as without")

    def open(self, durable: bool) -> None:
        self.folder.mkdir(exist_ok=True)
        self.connection = sqlite3.connect(self.folder / "coins.db", isolation_level=None)  # BEGIN is written out
        for name, value in pragmas(durable).items():
            self.connection.execute(f"PRAGMA {name}={value}")
        for statement in SCHEMA:
            self.connection.execute(statement)

    def ingest(self, block: Block) -> None:
        execute, many = self.connection.execute, self.connection.executemany
        execute("BEGIN IMMEDIATE")
        with self.connection:
            many("INSERT INTO coin_records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", block.coins)
            many(
                "UPDATE coin_records SET spent_height = ? WHERE coin_id = ?",
                [(block.height, coin_id) for coin_id in block.spends],
            )

    def begin(self) -> None:
        self.execute = self.connection.cursor().execute
        self.execute("BEGIN")

    def end(self) -> None:
        self.connection.rollback()

    def get(self, coin_id: bytes) -> Coin | None:
        row = self.execute("SELECT * FROM coin_records WHERE coin_id = ?", (coin_id,)).fetchone()
        return None if row is None else Coin(*row)

    def new_session_get(self, coin_id: bytes) -> Coin | None:
        # A read transaction on the open connection, as opening one would read the schema each time.
        self.connection.execute("BEGIN")
        row = self.connection.execute("SELECT * FROM coin_records WHERE coin_id = ?", (coin_id,)).fetchone()
        self.connection.commit()
        return None if row is None else Coin(*row)

    def lookup(self, puzzle_hash: bytes) -> Sequence[Coin]:
        return [Coin(*row) for row in self.execute("SELECT * FROM coin_records WHERE puzzle_hash = ?", (puzzle_hash,))]

    def unspent(self, puzzle_hash: bytes) -> Sequence[Coin]:
        found = self.execute(
            "SELECT * FROM coin_records WHERE puzzle_hash = ? AND spent_height IS NULL", (puzzle_hash,)
        )
        return [Coin(*row) for row in found]

    def range(self, low: int, high: int) -> Sequence[Coin]:
        found = self.execute(
            "SELECT * FROM coin_records WHERE confirmed_height >= ? AND confirmed_height < ?", (low, high)
        )
        return [Coin(*row) for row in found]

    def range_covered(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        return self.execute(
            "SELECT confirmed_height, amount FROM coin_records WHERE confirmed_height >= ? AND confirmed_height < ?",
            (low, high),
        ).fetchall()

    def scan(self) -> Iterable[Any]:
        for row in self.execute("SELECT * FROM coin_records"):
            yield Coin(*row)

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        with self.connection:
            row = execute("SELECT * FROM coin_records WHERE coin_id = ?", (coin_id,)).fetchone()
            if row is None:
                raise LookupError(coin_id)
            execute("UPDATE coin_records SET spent_height = ? WHERE coin_id = ?", (height, coin_id))

    def close(self) -> None:
        self.connection.close()  # the last connection: the log is merged
