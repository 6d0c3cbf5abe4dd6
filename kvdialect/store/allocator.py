"""Ids for autoincrement columns: blocks reserved in the store, handed out in memory.

The store keeps the highest id reserved. A block is reserved by a batch of its own, so inserters, who take their ids
from blocks of their own, never conflict. What is left of a block when the process ends is lost: ids have gaps, and are
not in the order of the commits.
"""

from __future__ import annotations

import threading
from typing import Final

from kvdialect import exc
from kvdialect.codec.dynamic import DynamicKind
from kvdialect.codec.numeric import IntKind
from kvdialect.schema.definition import FieldDefinition
from kvdialect.schema.sqlrows import HIGHEST
from kvdialect.storage.batch import WriteBatch
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.catalog import IDS, VERSION_KEY, LiveCatalog
from kvdialect.store.table import StoredTable

FIRST_BLOCK: Final = 100
LARGEST_BLOCK: Final = 6400


def autoincrement_field(table: StoredTable) -> FieldDefinition | None:
    """The column of a table whose ids come from its allocator, or None."""
    return next((field for field in table.definition.fields if field.autoincrement), None)


class Allocator:
    """Hands out the ids of one table to one engine, from 1 up. For use by several threads.

    An id is never handed out twice, by whatever engine or process, nor one that an explicit id given to :meth:`observe`
    has passed. One case is left: an explicit id within a block that another engine has reserved but not used up; an
    insert of that id there is refused as a duplicate, and the next one succeeds.
    """

    def __init__(self, live: LiveCatalog, table: StoredTable) -> None:
        field = autoincrement_field(table)
        if field is None or not isinstance(field.kind, IntKind | DynamicKind):
            raise exc.ProgrammingError(f"table {table.name} has no autoincrement column", table=table.name)
        self._live = live
        self._table = table
        self._field = field.name
        self._highest = field.kind.highest if isinstance(field.kind, IntKind) else HIGHEST
        # A block is at most a thousandth of the range, so that a small range is not used up by restarts.
        self._largest = max(1, min(LARGEST_BLOCK, self._highest >> 10))
        self._size = min(FIRST_BLOCK, self._largest)
        self._key = IDS + table.definition.id.to_bytes(4, "big")
        self._lock = threading.Lock()
        self._next = 1
        self._end = 0
        """The last id of the block at hand."""

    def next(self) -> int:
        """An id that nobody has.

        Raises:
            DataError: if the column's range is used up.
            ReadOnlyStore: if the store is open for reading.
        """
        with self._lock:
            if self._next > self._end:
                self._reserve(1)
            given = self._next
            self._next += 1
            return given

    def take(self, count: int) -> range:
        """``count`` ids that nobody has, one after another. Errors are those of :meth:`next`."""
        with self._lock:
            if self._end - self._next + 1 < count:
                self._reserve(count)
            given = range(self._next, self._next + count)
            self._next += count
            return given

    def observe(self, given: int) -> None:
        """Note an explicit id, so that it is not handed out: what is handed out from now on is larger.

        Costs nothing unless the id is above all that are reserved; then a block behind it is reserved.
        """
        if given < self._next:
            return
        with self._lock:
            if given < self._next:
                return
            if given <= self._end:
                self._next = given + 1
            else:
                self._reserve(0, given)

    def _reserve(self, count: int, above: int = 0) -> None:
        """Reserve a block of at least ``count`` ids larger than ``above``, and take it in place of the one at hand.

        If the store has reserved ``above`` already, nothing is done for an explicit id.
        """
        backend = self._live.backend
        while True:
            # The catalog's version with it: the mark of a dropped table must not come back.
            version = self._live.current.raw_version
            raw = backend.get(RESERVED_FAMILY, self._key)
            try:
                reserved = self._seed() if raw is None else self._decode(raw)
            except exc.UnknownColumnFamily:
                self._live.refresh()
                self._live.rebind(self._table)  # the table was dropped: this says so
                raise
            start = max(reserved, above)
            follows = start == self._end and not above
            wanted = count - (self._end - self._next + 1) if follows else count
            if start + wanted > self._highest:
                raise exc.DataError(
                    f"the ids of {self._table.name}.{self._field} are used up: {reserved} of {self._highest} are"
                    f" reserved, and {count} more {'is' if count == 1 else 'are'} wanted (widen the column)",
                    table=self._table.name, field=self._field,
                )  # fmt: skip
            end = min(start + max(wanted, self._size), self._highest)
            batch = WriteBatch().expect(RESERVED_FAMILY, self._key, raw).expect(RESERVED_FAMILY, VERSION_KEY, version)
            try:
                backend.batch_write(batch.put(RESERVED_FAMILY, self._key, end.to_bytes(8, "big")))
            except exc.ConflictError:
                self._live.refresh()
                self._live.rebind(self._table)
                continue
            if follows:
                self._end = end
            else:
                self._next, self._end = start + 1, end
            self._size = min(self._size * 2, self._largest)
            return

    def _decode(self, raw: bytes) -> int:
        if len(raw) != 8:
            raise exc.Corruption(
                f"{RESERVED_FAMILY}[{exc.shown(self._key)}] holds {len(raw)} bytes and is no mark of ids; 8 are"
                " expected (restore a backup)",
                cf=RESERVED_FAMILY, key=self._key,
            )  # fmt: skip
        return int.from_bytes(raw, "big")

    def _seed(self) -> int:
        """Where the ids of a table that has no mark yet begin: behind those that its records have."""
        definition = self._table.definition
        if definition.primary_key[0] != self._field:
            return 0
        table = self._table
        for key, _ in self._live.backend.scan(table.family, table.prefix, table.stop, reverse=True):
            return max(int(self._table.codec.decode_key(key)[0]), 0)
        return 0
