"""The storage contract: what every engine promises to whatever stands above it.

The statements are those of an ordered key-value store with column families and atomic batches, as RocksDB and LMDB
offer it; ``kvdialect.testing`` holds each of them as a test that any engine can run.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self

import attrs

from kvdialect import exc
from kvdialect.storage.batch import KEY_LIMIT, WriteBatch
from kvdialect.storage.options import ColumnFamilyOptions
from kvdialect.storage.ranges import successor

Pair = tuple[bytes, bytes]
"""A key and its value."""


@attrs.frozen(slots=True, kw_only=True)
class Capabilities:
    """What an engine, opened as it is, can do. The conformance kit is keyed by these, never by an engine's name.

    Attributes:
        key_limit: longest key, in bytes.
        persistent: data outlive ``close`` and are found by opening the same URL again.
        checksums: who notices a damaged value: ``"engine"``, ``"library"`` (a checksum beside every value), ``"none"``.
        multi_process_writers: several processes may have the store open for writing at once.
        multi_process_readers: processes may read while another writes.
        native_snapshots: a snapshot costs the engine no copy.
        secondary: ``mode=secondary`` is offered.
        writable: False if opened with ``mode=ro`` or ``mode=secondary``.
        durabilities: the values of ``durability=`` that differ in what they promise.
    """

    key_limit: int = KEY_LIMIT
    persistent: bool = True
    checksums: Literal["engine", "library", "none"] = "none"
    multi_process_writers: bool = False
    multi_process_readers: bool = False
    native_snapshots: bool = True
    secondary: bool = False
    writable: bool = True
    durabilities: frozenset[str] = frozenset({"sync"})


@attrs.frozen(slots=True)
class FamilyStats:
    """How large a column family is.

    Attributes:
        keys: number of keys; RocksDB estimates it. None: the engine cannot say.
        bytes: what they take on the disk and in memory; None: the engine cannot say.
    """

    keys: int | None = None
    bytes: int | None = None


@attrs.frozen(slots=True)
class ReaderStats:
    """A reader of another process.

    Attributes:
        pid: the process.
        transaction: number of the commit that its read transaction sees; None: it has a slot, and reads nothing now.
    """

    pid: int
    transaction: int | None


class Reader(abc.ABC):
    """Reads of one state of a store, shared by backends (the latest state) and snapshots (one moment)."""

    @abc.abstractmethod
    def get(self, cf: str, key: bytes) -> bytes | None:
        """Return the value at ``key``, or None if there is none.

        Raises:
            UnknownColumnFamily: if the store has no family ``cf``.
            KeyTooLong: if ``key`` is empty or longer than the limit.
            TypeError: if ``key`` is not bytes.
            Corruption: if the engine or the value's checksum reports damage.
            StoreClosed: if the backend or snapshot was closed.
        """

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        """Return the values at ``keys`` in their order, None for each that is absent. Errors are those of ``get``."""
        return [self.get(cf, key) for key in keys]

    @abc.abstractmethod
    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield ``(key, value)`` in byte order of key, descending if ``reverse``, over the range ``[start, stop)``.

        The iterator is lazy and reads ahead by a bounded number of pairs. All pairs are of one moment: that of the
        snapshot, or of the call; later writes are not seen. A bound may be longer than the longest key.

        Raises:
            UnknownColumnFamily: if the store has no family ``cf``; raised by the call, not by the first ``next``.
            TypeError: if a bound is not bytes.
            Corruption: while iterating, if damage ends the scan early: a scan that ends is complete.
            StoreClosed: while iterating, if the backend or snapshot was closed meanwhile.
        """

    def prefix_scan(self, cf: str, prefix: bytes) -> Iterator[Pair]:
        """Yield exactly the pairs whose key starts with ``prefix``, in byte order; the empty prefix yields all.

        Errors are those of :meth:`scan`.
        """
        return self.scan(cf, prefix, successor(_bound(prefix, "prefix")))


class Snapshot(Reader):
    """The store at one moment, over all families, unmoved by later writes. Usable from several threads.

    A snapshot holds on to what it can see (LMDB cannot reuse pages, RocksDB cannot drop versions) until it is closed;
    use it as a context manager.

    Attributes:
        tolerant: where damage that the engine knows of may hide a record, its reads say that it is not there, and not
            Corruption: for verification, which tells of the damage itself.
    """

    tolerant: bool = False

    def first_pairs(
        self, cf: str, start: bytes, stop: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[Pair]:
        """Return the first ``limit`` pairs that :meth:`scan` would yield, or all if there are fewer.

        For short ranges, where to set up a scan takes longer than to read it. Errors are those of ``scan``.
        """
        return list(islice(self.scan(cf, start, stop, reverse=reverse), limit))

    @abc.abstractmethod
    def close(self) -> None:
        """End the snapshot; closing twice is harmless. Reads after it raise StoreClosed."""

    def interrupt(self, error: Callable[[], exc.Error]) -> None:
        """End the scans that are under way, from any thread: they raise ``error()``. The snapshot stays as it is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StorageBackend(Reader):
    """An open store: ordered bytes in column families. Usable from several threads; not across a fork."""

    name: str
    """Name of the engine, as in its URL."""
    path: str | None
    """Directory of the store, absolute; of a memory store its name; None if it has neither."""
    capabilities: Capabilities

    @classmethod
    @abc.abstractmethod
    def open(
        cls, path: str | None, options: Mapping[str, Any], column_families: Mapping[str, ColumnFamilyOptions]
    ) -> StorageBackend:
        """Open the store at ``path`` (None if the URL had none), creating it and the families named if need be.

        Families that are there already and are not named keep their data and options and are open too.

        Raises:
            ArgumentError: for an option that is unknown or does not parse.
            NotAStore, StoreFormatError, StoreLocked, Corruption: if what is at ``path`` cannot be opened.
        """

    @abc.abstractmethod
    def batch_write(self, batch: WriteBatch) -> None:
        """Apply a batch: all of it, durably, or none of it.

        Expectations are tested against the state before the batch, under the writer's lock. A batch without changes
        writes nothing (no fsync), but its expectations are tested. The batch is not consumed and may be written again.

        Raises:
            ConflictError: if an expectation does not hold.
            CounterError: if an addition has no counter to add to, or overflows.
            UnknownColumnFamily, KeyTooLong, TypeError, BatchTooLarge: if any part of the batch is bad.
            MapFull, LockTimeout: nothing was applied, and it may be tried again.
            DiskFull, CommitOutcomeUnknown: see ``outcome``, and ``commit_outcome`` for what became of it.
            ReadOnlyStore: if the store was opened for reading.
        """

    @abc.abstractmethod
    def snapshot(self) -> Snapshot:
        """Return the latest durable state, as one moment across all families."""

    @abc.abstractmethod
    def column_families(self) -> list[str]:
        """Return the names of the column families, sorted."""

    def column_family_options(self, name: str) -> ColumnFamilyOptions:
        """Return the options of a column family, as far as the store keeps them: others are the defaults.

        RocksDB keeps all in its OPTIONS file but ``bloom_bits``; LMDB keeps where the family lives.

        Raises:
            UnknownColumnFamily: if there is none of this name.
        """
        if name not in self.column_families():
            raise exc.UnknownColumnFamily(name, operation="column_family_options")
        return ColumnFamilyOptions()

    @abc.abstractmethod
    def create_column_family(self, name: str, options: ColumnFamilyOptions | None = None) -> None:
        """Create a column family while the store is in use.

        Raises:
            ColumnFamilyExists: if there is one of this name.
            ArgumentError: if the name is not allowed.
        """

    @abc.abstractmethod
    def drop_column_family(self, name: str) -> None:
        """Drop a column family with all its data. Open snapshots may or may not still read it."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Make all that was committed durable, whatever ``durability`` says, in all families."""

    @abc.abstractmethod
    def compact(self, cf: str) -> None:
        """Rewrite a family compactly, where the engine does such a thing; the name is checked on every engine."""

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the store to ``path`` while it is in use: all of one moment, or nothing.

        The copy is a store like this one, at the latest state that was durable when it was made, or a later one.

        Args:
            path: a directory that is not there yet, or is empty.

        Raises:
            ArgumentError, NotAStore: if something is there, or it is in the store's own directory.
            NotSupportedError: if the engine has no files.
            Corruption: if the engine finds damage on the way.
            DiskFull, BackendError: if it cannot be written; nothing is left of it.
        """
        raise exc.NotSupportedError(f"{self.name} cannot be backed up to {os.fspath(path)}", engine=self.name)

    def faults(self) -> Iterable[tuple[str, str]]:
        """What is wrong with how the store's files are laid out, beyond what reading all families would find.

        Yields pairs of a column family, or ``""`` if it is about more than one, and a sentence. An engine whose reads
        notice everything by themselves has none to tell.
        """
        return ()

    @abc.abstractmethod
    def close(self) -> None:
        """Close this handle; snapshots and iterators made from it raise StoreClosed. Closing twice is harmless.

        The engine is closed with the last handle on it.

        Raises:
            BackendError: if another store is at its path by now, to which nothing is written. It is closed all the
                same.
        """

    def put(self, cf: str, key: bytes, value: bytes) -> None:
        """Set ``key`` to ``value`` in a commit of its own. Errors are those of :meth:`batch_write`."""
        self.batch_write(WriteBatch().put(cf, key, value))

    def delete(self, cf: str, key: bytes) -> None:
        """Remove ``key`` in a commit of its own; a key that is not there is no error."""
        self.batch_write(WriteBatch().delete(cf, key))

    def commit_outcome(self, token: bytes) -> exc.Outcome:
        """Return what became of the commit whose :class:`~kvdialect.exc.CommitOutcomeUnknown` carried ``token``.

        ``"unknown"`` means that the engine cannot say before it is reopened.
        """
        raise exc.NotSupportedError(f"{self.name} keeps no commit tokens", engine=self.name, token=token)

    def catch_up(self) -> None:
        """On a secondary, take over what the primary has committed since; elsewhere the latest state is always read."""

    def stats(self) -> dict[str, Any]:
        """Return figures on the open store: counts of commits and conflicts, live snapshots and the age of the oldest.

        Keys that every built-in engine has are listed in the documentation of the engines; others are the engine's own.
        """
        return {}

    def family_stats(self) -> dict[str, FamilyStats]:
        """Return how large each column family is, as far as the engine can say without reading it."""
        return {name: FamilyStats() for name in self.column_families()}

    def readers(self) -> list[ReaderStats]:
        """Return the read transactions of other processes, where the engine knows of them (LMDB)."""
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}:{self.path or ''}>"


def _bound(value: object, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{what} must be bytes, not {type(value).__name__}")
    return value


def check_bounds(start: object, stop: object) -> None:
    """Raise TypeError unless both bounds of a scan are bytes (or, for ``stop``, None)."""
    _bound(start, "start")
    if stop is not None:
        _bound(stop, "stop")
