"""What queries read from: one state of a store, or that state with the pending writes of a transaction over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from kvdialect.storage.contract import Pair
from kvdialect.store.table import StoredTable


class ReadView(Protocol):
    """One moment of a store, as a reader sees it. Errors are those of :class:`~kvdialect.storage.Reader`."""

    def get(self, cf: str, key: bytes) -> bytes | None:
        """Return the value at ``key``, or None."""

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        """Return the values at ``keys``, in their order."""

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the pairs of ``[start, stop)`` in byte order of key, descending if ``reverse``."""

    def short_scan(
        self, cf: str, start: bytes, stop: bytes | None, first: int, *, reverse: bool = False
    ) -> Iterator[Pair]:
        """As :meth:`scan`, for a range that probably has fewer than ``first`` pairs: these are read at once."""

    def count(self, table: StoredTable) -> int:
        """Return the exact number of rows of a table."""
