"""Transaction: a snapshot with pending writes over it, and the one batch that a commit turns them into.

Both doors work on this class. Reads see the snapshot, which is taken at the first read, overlaid with what the
transaction has written. Nothing is written before :meth:`Transaction.commit`, which makes a single ``batch_write``:

- the pending puts and deletes of records and index entries;
- for each record and each unique entry written, the expectation that it is as it was when this transaction began, so
  that the first committer wins;
- the expectation that the catalog has not changed, so that no writer misses an index;
- the changes of the row counts;
- if SERIALIZABLE, the expectation that every key and every range read is as it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final, Literal, Protocol

from sortedcontainers import SortedList  # type: ignore[import-untyped]

from kvdialect import exc
from kvdialect.storage.batch import DELETE, UNBOUNDED, Deletion, WriteBatch, decode_counter, range_digest
from kvdialect.storage.contract import Pair, Snapshot, StorageBackend
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.table import StoredTable

IsolationLevel = Literal["SNAPSHOT", "SERIALIZABLE"]
ISOLATION_LEVELS: Final = ("SNAPSHOT", "SERIALIZABLE")

VERSION_KEY: Final = b"catalog/version"
"""Where the reserved family keeps the schema version that every commit expects."""

ABSENT: Final = object()
_ALL_NEW: Final = object()
_STALE_TRIES: Final = 8

Changes = dict[bytes, bytes | Deletion]
"""What each key of a family becomes."""

Reindex = Callable[["Transaction", StoredTable, StoredTable], None]
"""Makes the pending index entries of a table anew, after its indexes have changed: ``(txn, before, now)``."""


class Store(Protocol):
    """What a transaction needs of an engine."""

    backend: StorageBackend

    @property
    def catalog(self) -> object:
        """The catalog that this process works with; another object whenever it has changed."""

    @property
    def version_raw(self) -> bytes | None:
        """The schema version as it is stored, of the catalog that this process works with."""

    def refresh(self) -> None:
        """Load the catalog anew if another process or engine has changed it."""

    def rebind(self, table: StoredTable) -> StoredTable:
        """The same table under the catalog as it is now; SchemaChanged if its fields are others."""

    def newly_referred(self, table: StoredTable, before: Any) -> bool:
        """True if a table refers to this one now that did not under the catalog ``before``."""


class _Range:
    """A range that was read, as far as it was read."""

    __slots__ = ("cf", "done", "last", "reverse", "start", "stop")

    def __init__(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> None:
        self.cf, self.start, self.stop, self.reverse = cf, start, stop, reverse
        self.last: bytes | None = None
        self.done = False

    def bounds(self) -> tuple[bytes, bytes | None] | None:
        """The part that was really read; None if nothing was."""
        if self.done:
            return self.start, self.stop
        if self.last is None:
            return None
        return (self.last, self.stop) if self.reverse else (self.start, self.last + b"\0")


class Transaction:
    """One transaction. Not for several threads at once.

    Args:
        store: the engine.
        isolation_level: ``"SNAPSHOT"`` or ``"SERIALIZABLE"``.
        on_snapshot: called with the snapshot when it is taken, to see whether the catalog is of the same moment.

    Attributes:
        changes: pending writes: per family what each key becomes.
        base: per family what keys were before this transaction, as far as a commit must find them unchanged.
        tables: the tables written to, by the family of their records.
        deltas: by how much the row counts change, by their keys.
        undo: the journal of the open savepoints, or None where there is none.
        checks: called before the commit; one that raises prevents it.
        looked: a snapshot was taken at some time, so what is absent from it was seen to be absent.
    """

    def __init__(
        self,
        store: Store,
        isolation_level: IsolationLevel = "SNAPSHOT",
        on_snapshot: Callable[[Snapshot], None] | None = None,
    ) -> None:
        if isolation_level not in ISOLATION_LEVELS:
            raise exc.ArgumentError(
                f"isolation_level={isolation_level!r} is unknown; allowed: {', '.join(ISOLATION_LEVELS)}"
            )
        self.store = store
        self._catalog = store.catalog
        self._on_snapshot = on_snapshot
        self.isolation_level = isolation_level
        self.serializable = isolation_level == "SERIALIZABLE"
        self.changes: dict[str, Changes] = {}
        self.base: dict[str, dict[bytes, bytes | None]] = {}
        self.tables: dict[str, StoredTable] = {}
        self.deltas: dict[bytes, int] = {}
        self.undo: list[tuple[dict[Any, Any], Any, Any]] | None = None  # what is _ALL_NEW has a list for the key
        self.looked = False
        self._savepoints: list[int] = []
        self._snapshot: Snapshot | None = None
        self._sorted: dict[str, tuple[Any, int]] = {}
        self._reads: dict[str, dict[bytes, bytes | None]] = {}
        self._ranges: list[_Range] = []
        self._counts: dict[bytes, int] = {}  # as the snapshot has them: every statement asks for one
        self._present: dict[str, dict[bytes, bytes]] = {}
        self._watched: dict[tuple[str, bytes, bytes | None], _Range] = {}
        self._schema: bytes | None = None
        self.checks: list[Callable[[], None]] = []
        self.closed = False
        self.later: set[str] = set()
        """Families that were made after the snapshot was taken: for this transaction they are empty."""
        self.schema_version: bytes | None = None
        """The schema version that pending changes of the schema go by; None where there are none."""

    # ------------------------------------------------------------------------------------------ reading

    @property
    def snapshot(self) -> Snapshot:
        """The moment that this transaction reads; it begins with the first read."""
        if self._snapshot is None:
            if self.closed:
                raise exc.StoreClosed("the transaction is over; begin a new one")
            self._snapshot = self.store.backend.snapshot()
            self.looked = True
            if self._on_snapshot is not None:
                self._on_snapshot(self._snapshot)
        return self._snapshot

    @property
    def direct(self) -> Snapshot | None:
        """The snapshot, where reading it is all that :meth:`get` would do: nothing is pending, or noted."""
        return None if self.changes or self.later or self.serializable else self._snapshot

    @property
    def reading(self) -> bool:
        """True once a snapshot was taken."""
        return self._snapshot is not None

    def interrupt(self, error: Callable[[], exc.Error]) -> None:
        """End the scans that are under way, from another thread: they raise ``error()``; nothing else changes."""
        snapshot = self._snapshot
        if snapshot is not None:
            snapshot.interrupt(error)

    def get(self, cf: str, key: bytes) -> bytes | None:
        pending = self.changes.get(cf)
        if pending is not None:
            change = pending.get(key)
            if change is not None:
                return None if change is DELETE else change  # type: ignore[return-value]
        snapshot = self._snapshot
        if snapshot is None or self.serializable or cf in self.later:
            return self.get_base(cf, key)
        try:
            return snapshot.get(cf, key)
        except exc.UnknownColumnFamily as error:
            raise _dropped(cf) from error

    def get_base(self, cf: str, key: bytes) -> bytes | None:
        """What the snapshot has at ``key``, whatever was written since."""
        try:
            value = (self._snapshot or self.snapshot).get(cf, key)
        except exc.UnknownColumnFamily as error:
            if cf not in self.later:
                raise _dropped(cf) from error
            value = None
        if self.serializable:
            self._reads.setdefault(cf, {})[key] = value
        return value

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        keys = list(keys)
        pending = self.changes.get(cf)
        if not pending:
            return self.multi_get_base(cf, keys)
        missing = [key for key in keys if key not in pending]
        found = dict(zip(missing, self.multi_get_base(cf, missing), strict=True)) if missing else {}
        values: list[bytes | None] = []
        for key in keys:
            change = pending.get(key)
            if change is None:
                values.append(found[key])
            else:
                values.append(None if change is DELETE else change)  # type: ignore[arg-type]
        return values

    def multi_get_base(self, cf: str, keys: list[bytes]) -> list[bytes | None]:
        """What the snapshot has at ``keys``."""
        try:
            values = self.snapshot.multi_get(cf, keys)
        except exc.UnknownColumnFamily as error:
            if cf not in self.later:
                raise _dropped(cf) from error
            values = [None] * len(keys)
        if self.serializable:
            self._reads.setdefault(cf, {}).update(zip(keys, values, strict=True))
        return values

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        try:
            if self.serializable:
                pairs = self._tracked(cf, start, stop, reverse)
            else:
                pairs = self.snapshot.scan(cf, start, stop, reverse=reverse)
        except exc.UnknownColumnFamily as error:
            if cf not in self.later:
                raise _dropped(cf) from error
            pairs = iter(())
        if not self.changes.get(cf):
            return pairs
        return self._merged(cf, pairs, start, stop, reverse)

    def short_scan(
        self, cf: str, start: bytes, stop: bytes | None, first: int, *, reverse: bool = False
    ) -> Iterator[Pair]:
        """As :meth:`scan`, for a range that probably has fewer than ``first`` pairs: these are read at once."""
        if self.serializable or cf in self.changes:
            return self.scan(cf, start, stop, reverse=reverse)
        try:
            pairs = (self._snapshot or self.snapshot).first_pairs(cf, start, stop, first, reverse=reverse)
        except exc.UnknownColumnFamily as error:
            if cf not in self.later:
                raise _dropped(cf) from error
            return iter(())
        if len(pairs) < first:
            return iter(pairs)
        last = pairs[-1][0]
        start, stop = (start, last) if reverse else (last + b"\0", stop)
        return chain(pairs, self.snapshot.scan(cf, start, stop, reverse=reverse))

    def count(self, table: StoredTable) -> int:
        if table.count_key is None:
            return sum(1 for _ in self.scan(table.family, table.prefix, table.stop))
        counted = self._counts.get(table.count_key)
        if counted is None:
            counted = self._counts[table.count_key] = decode_counter(self.get_base(RESERVED_FAMILY, table.count_key))
        return counted + self.deltas.get(table.count_key, 0)

    def _tracked(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        pairs = self.snapshot.scan(cf, start, stop, reverse=reverse)
        read = _Range(cf, start, stop, reverse)
        self._ranges.append(read)

        def tracked() -> Iterator[Pair]:
            for pair in pairs:
                read.last = pair[0]
                yield pair
            read.done = True

        return tracked()

    def _merged(
        self, cf: str, pairs: Iterator[Pair], start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[Pair]:
        """The snapshot's pairs with the pending ones among them.

        The next pending key is found anew after each one, so writes during the scan do no harm.
        """
        pending = self.changes[cf]
        following = self._preceding if reverse else self._following
        ahead = following(cf, start, stop, None)
        for pair in pairs:
            key = pair[0]
            while ahead is not None and (ahead > key if reverse else ahead < key):
                change = pending.get(ahead)
                if change is not None and change is not DELETE:
                    yield ahead, change  # type: ignore[misc]
                ahead = following(cf, start, stop, ahead)
            if ahead == key:
                change = pending.get(key)
                if change is None:
                    yield pair
                elif change is not DELETE:
                    yield key, change  # type: ignore[misc]
                ahead = following(cf, start, stop, key)
            else:
                yield pair
        while ahead is not None:
            change = pending.get(ahead)
            if change is not None and change is not DELETE:
                yield ahead, change  # type: ignore[misc]
            ahead = following(cf, start, stop, ahead)

    def _pending_keys(self, cf: str) -> Any:
        """The pending keys of a family in order; keys that came since the last call are sorted in."""
        pending = self.changes[cf]
        keys, known = self._sorted.get(cf, (None, 0))
        if keys is None:
            keys = SortedList(pending)
        elif len(pending) != known:
            # Keys are only ever appended (a savepoint that is rolled back forgets the list).
            newest = reversed(pending)
            keys.update([next(newest) for _ in range(len(pending) - known)])
        else:
            return keys
        self._sorted[cf] = keys, len(pending)
        return keys

    def _following(self, cf: str, start: bytes, stop: bytes | None, last: bytes | None) -> bytes | None:
        keys = self._pending_keys(cf)
        at = keys.bisect_left(start) if last is None else keys.bisect_right(last)
        if at >= len(keys):
            return None
        key: bytes = keys[at]
        return key if stop is None or key < stop else None

    def _preceding(self, cf: str, start: bytes, stop: bytes | None, last: bytes | None) -> bytes | None:
        keys = self._pending_keys(cf)
        above = stop if last is None else last
        at = len(keys) if above is None else keys.bisect_left(above)
        if at == 0:
            return None
        key: bytes = keys[at - 1]
        return key if key >= start else None

    # ------------------------------------------------------------------------------------------ writing

    def pending(self, cf: str) -> Changes:
        """The pending changes of a family, to add to; see :mod:`kvdialect.store.writer`."""
        changes = self.changes.get(cf)
        if changes is None:
            changes = self.changes[cf] = {}
        return changes

    def expected(self, cf: str) -> dict[bytes, bytes | None]:
        """What is expected of a family's keys, to add to."""
        expected = self.base.get(cf)
        if expected is None:
            expected = self.base[cf] = {}
        return expected

    def expect_present(self, cf: str, key: bytes, value: bytes) -> None:
        """Expect that the commit finds ``key``, whatever its value is by then; it was read as ``value``."""
        self._present.setdefault(cf, {})[key] = value

    def expect_range(self, cf: str, start: bytes, stop: bytes | None) -> None:
        """Expect that the commit finds the range ``[start, stop)`` as the snapshot has it."""
        watched = _Range(cf, start, stop, reverse=False)
        watched.done = True
        self._watched[cf, start, stop] = watched

    def expect_schema(self, version: bytes | None) -> None:
        """Expect that the commit finds this schema version: what was written goes by tables that it does not touch."""
        self._schema = version

    def savepoint(self) -> int:
        """Begin a savepoint; give what is returned to :meth:`rollback_to` or :meth:`release`."""
        if self.undo is None:
            self.undo = []
        self._savepoints.append(len(self.undo))
        return len(self._savepoints)

    @property
    def depth(self) -> int:
        """How many savepoints are open."""
        return len(self._savepoints)

    def written_since(self, savepoint: int) -> list[tuple[dict[Any, Any], Any]]:
        """What was written to since a savepoint: the dicts of :attr:`changes` and others, with the keys in them."""
        assert self.undo is not None
        written: list[tuple[dict[Any, Any], Any]] = []
        for target, key, before in self.undo[self._savepoints[savepoint - 1] :]:
            if before is _ALL_NEW:
                written += [(target, each) for each in key]
            else:
                written.append((target, key))
        return written

    def rollback_to(self, savepoint: int) -> list[tuple[dict[Any, Any], Any]]:
        """Undo all writes since the savepoint, which is over then, with those inside it; return what they wrote to."""
        assert self.undo is not None
        undone: list[tuple[dict[Any, Any], Any]] = []
        mark = self._savepoints[savepoint - 1]
        while len(self.undo) > mark:
            target, key, before = self.undo.pop()
            if before is _ALL_NEW:
                undone += [(target, each) for each in key]
                for each in key:
                    target.pop(each, None)
                continue
            undone.append((target, key))
            if before is ABSENT:
                target.pop(key, None)
            else:
                target[key] = before
        self._sorted.clear()
        self.release(savepoint)
        return undone

    def release(self, savepoint: int) -> None:
        """End a savepoint, and those inside it; its writes stay."""
        del self._savepoints[savepoint - 1 :]
        if not self._savepoints:
            self.undo = None

    def remember(self, target: dict[Any, Any], key: Any) -> None:
        """Note in the journal what ``target`` has at ``key``, before it changes. Only while ``undo`` is not None."""
        assert self.undo is not None
        self.undo.append((target, key, target.get(key, ABSENT)))

    def add_new(self, target: dict[Any, Any], items: dict[Any, Any]) -> None:
        """Add items to ``target`` of :attr:`changes` or :attr:`base`, which has none of their keys."""
        if self.undo is not None:
            self.undo.append((target, list(items), _ALL_NEW))
        target.update(items)

    def adjust(self, table: StoredTable, delta: int) -> None:
        """Change the row count of a table."""
        assert table.count_key is not None
        if self.undo is not None:
            self.remember(self.deltas, table.count_key)
        self.deltas[table.count_key] = self.deltas.get(table.count_key, 0) + delta

    # ------------------------------------------------------------------------------------------ the end

    def commit(self, reindex: Reindex) -> None:
        """Write what is pending as one batch, durably, or nothing; the transaction is over either way.

        Args:
            reindex: called for each table written to whose indexes have changed meanwhile.

        Raises:
            ConflictError: another transaction has committed a change to what this one wrote (or, if SERIALIZABLE,
                read).
            SchemaChanged: the fields of a table were changed since this transaction began.
            Error: what ``batch_write`` raises.
        """
        try:
            for check in self.checks:
                check()
            if not any(self.changes.values()) and not any(self.base.values()):
                return
            ranges = self._digests()
            # LMDB cannot reuse pages that a reader holds: the file would grow with every commit.
            self._end_snapshot()
            for attempt in range(_STALE_TRIES):
                # The version first: a catalog that changes behind it fails the expectation, and this is done again.
                pinned = self._schema if self.schema_version is None else self.schema_version
                version = self.store.version_raw if pinned is None else pinned
                if pinned is None:
                    self._adopt_schema(reindex)
                    # It may have read; the next try has to see families that were made since.
                    self._end_snapshot()
                try:
                    self.store.backend.batch_write(self._batch(ranges, version))
                    return
                except (exc.ConflictError, exc.UnknownColumnFamily) as error:
                    again = self._still_present(error) or (pinned is None and self._stale(error, version))
                    if attempt == _STALE_TRIES - 1 or not again:
                        raise
        finally:
            self.close()

    def _batch(self, ranges: list[tuple[str, bytes, bytes | None, bytes]], version: bytes | None) -> WriteBatch:
        batch = WriteBatch(max_bytes=UNBOUNDED)
        for cf, changes in self.changes.items():
            if changes:
                batch.update(cf, changes)
        expect = batch.expect
        expect(RESERVED_FAMILY, VERSION_KEY, version)
        for cf, expected in self.base.items():
            batch.expect_all(cf, expected)
        for cf, reads in self._reads.items():
            known = self.base.get(cf, {})
            for key, value in reads.items():
                if key not in known:
                    expect(cf, key, value)
        for cf, present in self._present.items():
            known, read = self.base.get(cf, {}), self._reads.get(cf, {})
            for key, seen in present.items():
                if key not in known and key not in read:
                    expect(cf, key, seen)
        for cf, start, stop, digest in ranges:
            batch.expect_range(cf, start, stop, digest)
        for count_key, delta in self.deltas.items():
            if delta:
                batch.add(RESERVED_FAMILY, count_key, delta)
        return batch

    def _digests(self) -> list[tuple[str, bytes, bytes | None, bytes]]:
        """The digests of the ranges read; those that lie within another, or overlap it, are taken together."""
        families: dict[str, list[tuple[bytes, bytes | None]]] = {}
        for read in (*self._ranges, *self._watched.values()):
            bounds = read.bounds()
            if bounds is not None:
                families.setdefault(read.cf, []).append(bounds)
        digests = []
        for cf, ranges in families.items():
            ranges.sort(key=lambda bounds: bounds[0])
            merged: list[tuple[bytes, bytes | None]] = []
            for start, stop in ranges:
                if merged and (merged[-1][1] is None or start <= merged[-1][1]):
                    before, end = merged[-1]
                    merged[-1] = before, None if end is None or stop is None else max(end, stop)
                else:
                    merged.append((start, stop))
            for start, stop in merged:
                found = () if cf in self.later else self.snapshot.scan(cf, start, stop)
                digests.append((cf, start, stop, range_digest(found)))
        return digests

    def _still_present(self, error: exc.Error) -> bool:
        """True if a commit failed only because a key of :meth:`expect_present` has another value by now."""
        cf: Any = error.facts.get("cf")
        key: Any = error.facts.get("key")
        present = self._present.get(cf) if isinstance(error, exc.ConflictError) and cf is not None else None
        if present is None or key not in present or key in self.base.get(cf, {}) or key in self._reads.get(cf, {}):
            return False
        now = self.store.backend.get(cf, key)
        if now is None:
            return False
        present[key] = now
        return True

    def _stale(self, error: exc.Error, version: bytes | None) -> bool:
        """True if a commit failed because the catalog has changed since ``version``; it is up to date then."""
        conflict = isinstance(error, exc.ConflictError)
        if conflict and (error.facts.get("cf"), error.facts.get("key")) != (RESERVED_FAMILY, VERSION_KEY):
            return False
        # Otherwise a family is unknown that another engine or process may have dropped.
        self.store.refresh()
        return conflict or self.store.version_raw != version

    def _adopt_schema(self, reindex: Reindex) -> None:
        """Adopt a catalog that has changed since the rows were written: they stay, index entries are made anew.

        Raises:
            ConflictError: if a table refers by now to one of whose rows some were deleted or changed.
        """
        before, self._catalog = self._catalog, self.store.catalog
        if before is not self._catalog:
            self._refuse_newly_referred(before)
        for name, table in list(self.tables.items()):
            now = self.store.rebind(table)
            if now is not table:
                reindex(self, table, now)
                self.tables[name] = now

    def _refuse_newly_referred(self, before: object) -> None:
        for table in self.tables.values():
            if self.store.newly_referred(table, before) and any(
                value is not None and key.startswith(table.prefix)
                for key, value in self.base.get(table.family, {}).items()
            ):
                raise exc.ConflictError(
                    f"another table refers to {table.name} by now, and this transaction has deleted or changed rows of"
                    " that (run it again)",
                    cf=RESERVED_FAMILY,
                    key=VERSION_KEY,
                    table=table.name,
                )

    def close(self) -> None:
        """End the transaction; what is pending is lost. Harmless when it is over already."""
        self.closed = True
        self._end_snapshot()

    def _end_snapshot(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            self._counts.clear()
            snapshot.close()

    def __repr__(self) -> str:
        state = "over" if self.closed else f"{sum(map(len, self.changes.values()))} keys pending"
        return f"<Transaction {self.isolation_level}: {state}>"


def _dropped(cf: str) -> exc.SchemaChanged:
    return exc.SchemaChanged(f"{cf} was dropped while this transaction ran (run it again)", cf=cf)
