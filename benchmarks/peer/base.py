"""What a peer is: a class with these methods, one store, one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from peer.workload import FIELDS, Block, Coin


class Peer:
    """A store of coins, used as its own documentation would have it.

    Reads stand between ``begin`` and ``end``, which open and close the peer's session, transaction or cursor, whatever
    it reads by. Records are objects with an attribute for each field, as the peer makes them.

    Attributes:
        title: how the tables call it.
        baseline: the peer of hand-written code on the same engine, if there is one.
        durable, relaxed: what a commit does in either column; empty where the peer has no such setting.
        lacks: operations that the peer does not have, with the reason.
        notes: what its readers should know.
    """

    title: ClassVar[str]
    baseline: ClassVar[str | None] = None
    durable: ClassVar[str]
    relaxed: ClassVar[str] = ""
    lacks: ClassVar[dict[str, str]] = {}
    notes: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()

    get: Callable[[bytes], Any]
    """Return the coin of an id, read from the store, between ``begin`` and ``end``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, durable: bool) -> None:
        """Open the store, and create it if it is not there."""
        raise NotImplementedError

    def ingest(self, block: Block) -> None:
        """Apply a block in one transaction: coins are inserted, and refused if they are there; spends are updates.

        A peer whose records are objects makes them here: it is part of the work.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Begin to read."""
        raise NotImplementedError

    def end(self) -> None:
        """Discard what was changed since ``begin``, and let go of the session."""
        raise NotImplementedError

    def new_session_get(self, coin_id: bytes) -> Any:
        """Return a coin by a session of its own."""
        raise NotImplementedError

    def lookup(self, puzzle_hash: bytes) -> Sequence[Any]:
        """Return the coins of a puzzle hash."""
        raise NotImplementedError

    def lookup_select(self, puzzle_hash: bytes) -> Sequence[Any]:
        """Do the same by a statement, where ``lookup`` goes straight to the index."""
        raise NotImplementedError

    def unspent(self, puzzle_hash: bytes) -> Sequence[Any]:
        """Return the coins of a puzzle hash that are not spent."""
        raise NotImplementedError

    def range(self, low: int, high: int) -> Sequence[Any]:
        """Return the coins confirmed at heights from ``low``, below ``high``."""
        raise NotImplementedError

    def range_select(self, low: int, high: int) -> Sequence[Any]:
        """Do the same by a statement."""
        raise NotImplementedError

    def range_covered(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        """Return heights and amounts of these coins, from the index alone where that holds them."""
        raise NotImplementedError

    def scan(self) -> Iterable[Any]:
        """Give every coin as an object, not all at once if the peer can help it."""
        raise NotImplementedError

    def scan_select(self) -> Iterable[Any]:
        """Do the same by a statement."""
        raise NotImplementedError

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        """Read a coin in a session of its own, mark it spent, commit."""
        raise NotImplementedError

    def settle(self) -> None:
        """Leave the files as they are after a while: buffers written, logs merged. It is not timed."""

    def close(self) -> None:
        """Close the store."""
        raise NotImplementedError

    def fields(self, found: Any) -> Coin:
        """Return the values of a record as the workload has them."""
        values = [getattr(found, name) for name in FIELDS]
        values[6] = bool(values[6])
        return tuple(values)

    def disk_bytes(self) -> int:
        """Return the bytes that the files take on the disk, holes not counted."""
        return sum(
            os.stat(path).st_blocks * 512  # a block of st_blocks, whatever the file system's are
            for path in self.folder.rglob("*")
            if path.is_file()
        )
