"""What the built-in engines have in common: the driver's objects behind a handle, its snapshots, its scans."""

from __future__ import annotations

import abc
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Final, NoReturn, Self

from kvdialect import exc
from kvdialect.storage.batch import WriteBatch
from kvdialect.storage.contract import Capabilities, FamilyStats, Pair, ReaderStats, Snapshot, check_bounds
from kvdialect.storage.figures import CommitFigures
from kvdialect.storage.location import Location
from kvdialect.storage.options import ColumnFamilyOptions, StoreOptions
from kvdialect.storage.storedir import Marker

_log = logging.getLogger(__name__)

ErrorMaker = Callable[[], exc.Error]


class Children:
    """Weak references to what a handle has given out, as its snapshots. Adding costs far less than a WeakSet."""

    __slots__ = ("_discard", "_refs")

    def __init__(self) -> None:
        self._refs: set[weakref.ref[Any]] = set()
        self._discard = self._refs.discard

    def add(self, child: object) -> None:
        self._refs.add(weakref.ref(child, self._discard))

    def __iter__(self) -> Iterator[Any]:
        return iter([child for ref in list(self._refs) if (child := ref()) is not None])


def dead(error: ErrorMaker) -> Callable[..., NoReturn]:
    """A function that raises ``error()`` whatever it is given; it takes the place of the methods of what was ended.

    Replacing the methods spares the living ones a check on every call.
    """

    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise error()

    return refuse


class Engine(abc.ABC):
    """The driver's objects of one open store, and the calls on them that handles and snapshots share.

    Attributes:
        name, path, capabilities: as of :class:`~kvdialect.storage.contract.StorageBackend`.
        options: the options it was opened with.
        counters: what ``stats()`` counts: commits, batches, conflicts.
        figures: how long the batches took, and how large they were.
        marker: what was fixed when the store was created, or None if it has no directory.
        location: where it was opened, or None.
    """

    name: str
    capabilities: Capabilities
    marker: Marker | None = None
    location: Location | None = None

    def __init__(self, path: str | None, options: StoreOptions) -> None:
        self.path = path
        self.options = options
        self.pid = os.getpid()
        self.counters: dict[str, int] = {"commits": 0, "batches": 0, "conflicts": 0}
        self.figures = CommitFigures()
        self.handles = Children()
        self.references = 0
        self.closed = False

    # ---- what an engine's module provides

    @abc.abstractmethod
    def reader(self) -> Callable[[str, bytes], bytes | None]:
        """The function that is every handle's ``get``."""

    @abc.abstractmethod
    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]: ...

    @abc.abstractmethod
    def commit(self, batch: WriteBatch) -> None:
        """Apply a batch that was validated and names known families only."""

    @abc.abstractmethod
    def take_snapshot(self) -> EngineSnapshot: ...

    @abc.abstractmethod
    def families(self) -> Iterable[str]:
        """Names of all families, the reserved one included."""

    def family_options(self, name: str) -> ColumnFamilyOptions:  # noqa: ARG002 - those that keep some override it
        """The options of a family that is there, as far as the store keeps them."""
        return ColumnFamilyOptions()

    @abc.abstractmethod
    def create_family(self, name: str, options: ColumnFamilyOptions) -> None: ...

    @abc.abstractmethod
    def drop_family(self, name: str) -> None: ...

    @abc.abstractmethod
    def flush(self) -> None: ...

    @abc.abstractmethod
    def compact(self, cf: str) -> None: ...

    @abc.abstractmethod
    def close(self) -> None:
        """Close the driver's objects; no handle, snapshot or scan is alive any more."""

    @abc.abstractmethod
    def native_objects(self) -> Iterable[object]:
        """The driver's objects that must never be finalised in a forked child."""

    def refuse(self, error: ErrorMaker) -> None:  # noqa: B027 - optional
        """In a forked child: make functions that were fetched from handles before the fork raise ``error()``."""

    def commit_outcome(self, token: bytes) -> exc.Outcome:
        raise exc.NotSupportedError(f"{self.name} keeps no commit tokens", engine=self.name, token=token)

    def catch_up(self) -> None:
        return

    def copy_to(self, directory: str) -> None:
        """Write the store as of one moment, of now or later, into an empty directory, without a marker."""
        raise exc.NotSupportedError(f"{self.name} has no files to copy", engine=self.name, directory=directory)

    def faults(self) -> Iterable[tuple[str, str]]:
        """See :meth:`~kvdialect.storage.contract.StorageBackend.faults`."""
        return ()

    def still(self) -> AbstractContextManager[str]:
        """A path at which another process can read the store as of one moment."""
        raise exc.NotSupportedError(f"{self.name} has no files that another process can read", engine=self.name)

    def check_redeclared(self, name: str, options: ColumnFamilyOptions) -> None:  # noqa: B027 - optional
        """Refuse options of an existing family that may not change; by default all may."""

    def check_options(self, options: StoreOptions) -> None:  # noqa: B027 - optional
        """Refuse options of one more handle that the store cannot have; by default it can have all."""

    def stats(self) -> dict[str, Any]:
        return {}

    def family_stats(self) -> dict[str, FamilyStats]:
        """How large families are, by name; those of which nothing is known may be missing."""
        return {}

    def readers(self) -> list[ReaderStats]:
        """The read transactions of other processes."""
        return []

    # ---- what they share

    def facts(self, operation: str, **more: Any) -> dict[str, Any]:
        """The attributes that every error of this engine carries."""
        return {"engine": self.name, "path": self.path, "operation": operation, **more}

    def unknown(self, cf: object, operation: str) -> exc.Error:
        """The error for a family that is not there; a call that another thread's close overtook finds none at all."""
        if self.closed:
            return self.shut(operation)
        return exc.UnknownColumnFamily(str(cf), **self.facts(operation))

    def shut(self, operation: str) -> exc.StoreClosed:
        """The error of a call that another thread's close overtook."""
        return exc.StoreClosed(f"{self.name}:{self.path or ''} is closed; open it again", **self.facts(operation))

    def check_place(self, operation: str) -> None:
        """Refuse what goes by the store's path if another store is there by now, or none."""
        if self.location is not None and not self.location.holds():
            raise exc.ReopenRequired(self.elsewhere("nothing was done"), **self.facts(operation))

    def elsewhere(self, done: str) -> str:
        """The message of a store that is not at its path any more."""
        return (
            f"the store at {self.path} was moved, removed or replaced while it was open; {done} (close it and open it"
            " again)"
        )

    def tell_elsewhere(self, location: Location, *, lost: bool) -> None:
        """Say behind closing that the store is not at its path any more.

        Args:
            location: where it was.
            lost: whether commits are gone that were on no disk.

        Raises:
            BackendError: unless nothing is at the path, and nothing is lost: then it is in the log.
        """
        where = (
            "what was not flushed before is lost"
            if lost
            else "what was committed is where it was moved to, unless it was removed"
        )
        message = (
            f"the store at {self.path} was moved, removed or replaced while it was open: nothing was written to what is"
            f" there now, and {where} (stop programs before a store is moved or replaced)"
        )
        if lost or not location.vacant():
            raise exc.BackendError(message, **self.facts("close"))
        _log.info("%s", message)

    def check_process(self) -> None:
        """Refuse to go on in a child that was forked without Python's knowledge, such as by a C extension."""
        if os.getpid() != self.pid:
            error = forked(self)
            raise error()

    def snapshots(self) -> list[EngineSnapshot]:
        """The live snapshots made from any handle."""
        return [
            child
            for handle in self.handles
            for child in handle.children
            if isinstance(child, EngineSnapshot) and not child.closed
        ]

    def expire_snapshots(self) -> None:
        """End the snapshots older than ``max_snapshot_age``."""
        limit = self.options.max_snapshot_age
        if limit is None:
            return
        now = time.monotonic()
        for snapshot in self.snapshots():
            age = now - snapshot.taken
            if age > limit:
                facts = self.facts("snapshot", age=age)
                message = f"the snapshot is {age:.1f} s old; max_snapshot_age is {limit:g} s (take a new one)"
                snapshot.kill(lambda message=message, facts=facts: exc.SnapshotTooOld(message, **facts))  # type: ignore[misc]


def forked(engine: Engine) -> ErrorMaker:
    """The error of a store that was opened before the fork."""

    def make() -> exc.Error:
        return exc.ForkedProcess(
            f"{engine.name}:{engine.path or ''} was opened in pid {engine.pid}; reopen in pid {os.getpid()}",
            engine=engine.name, path=engine.path, opened_pid=engine.pid, pid=os.getpid(),
        )  # fmt: skip

    return make


class EngineSnapshot(Snapshot):
    """A snapshot that knows its age and can be ended from outside.

    Attributes:
        taken: when, by the monotonic clock.
        closed: it was ended.
        moment: tells states of the store apart: two snapshots with the same see the same. None where the engine cannot
            tell.
        owner: the handle it was made from, so that the store stays open for as long as the snapshot is in use.
    """

    # Defaults in the class: a session of one read begins and ends one of these.
    closed: bool = False
    moment: int | None = None
    owner: object = None
    _scans: Children | None = None
    _read: Callable[..., Any]
    _refuse: Callable[..., NoReturn]

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.taken = time.monotonic()
        self._held = True

    @property
    def scans(self) -> Iterable[Scan]:
        """The scans of it that somebody holds."""
        return () if self._scans is None else self._scans

    def keep(self, scan: Scan) -> None:
        """Remember a scan, which ends with the snapshot."""
        scan.snapshot = self
        if self._scans is None:
            self._scans = Children()
        self._scans.add(scan)
        if self.closed:  # by another thread, which may have looked for scans before this one was there
            scan.release()
            self._refuse()

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        check_bounds(start, stop)
        if stop is not None and start >= stop:
            self.check_family(cf)
            return iter(())
        pairs = self.open_scan(cf, start, stop, bool(reverse))
        self.keep(pairs)
        return chain.from_iterable(pairs)

    @abc.abstractmethod
    def open_scan(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> Scan:
        """Open a scan over a range that is not empty."""

    @abc.abstractmethod
    def check_family(self, cf: str) -> None:
        """Raise UnknownColumnFamily if the snapshot has no family ``cf``."""

    @abc.abstractmethod
    def release(self) -> None:
        """Give the driver's objects back; called once."""

    def unknown(self, cf: str) -> exc.Error:
        """The error for a family that is not there, which is none if another thread ended the snapshot meanwhile."""
        if self.closed:
            self._refuse()
        return self.engine.unknown(cf, "snapshot")

    def interrupt(self, error: ErrorMaker) -> None:
        for scan in self.scans:
            scan.kill(error)

    def close(self) -> None:
        engine = self.engine
        self.kill(lambda: exc.StoreClosed("the snapshot is closed; take a new one", **engine.facts("snapshot")))

    def end(self) -> None:
        """Close a snapshot that nobody but its scan knew."""
        if not self.closed:
            self.closed = True
            self._give_back()
            self.owner = None

    def kill(self, error: ErrorMaker) -> None:
        if self.closed:
            return
        refuse, attributes = dead(error), self.__dict__
        if attributes.setdefault("_refuse", refuse) is not refuse:
            return  # another thread is at it
        attributes.update(dict.fromkeys(("get", "multi_get", "scan", "prefix_scan", "first_pairs"), refuse))
        self._read = refuse  # for methods that were fetched before
        self.closed = True
        if self._scans is not None:
            for scan in self._scans:
                scan.kill(error)
        if os.getpid() == self.engine.pid:
            self._give_back()
        self.owner = None

    def _give_back(self) -> None:
        # Once, though one thread closes the store as another comes to the end of the scan that the snapshot is for.
        if self.__dict__.pop("_held", False):
            self.release()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a snapshot cannot be copied or pickled; threads may share it, or take another one: backend.snapshot()"
        )

    def __del__(self) -> None:
        # Without _held its making was cut short.
        if not self.closed and "_held" in vars(self) and os.getpid() == self.engine.pid:
            self.closed = True
            self._give_back()


class Scan(abc.ABC):
    """An iterator of chunks (lists) of pairs, to be flattened by ``itertools.chain``.

    Pairs then cost no Python code each, the driver's iterator is never handed out, and a scan can be ended from
    outside. Chunks grow, so that a short scan reads little ahead and a long one is fast; large values keep them short.
    """

    __slots__ = ("__weakref__", "_chunk", "_error", "_size", "own_snapshot", "snapshot")

    FIRST: Final = 16
    LARGEST: Final = 512
    BYTES: Final = 1 << 20

    def __init__(self) -> None:
        self._error: ErrorMaker | None = None
        self._chunk: list[Pair] = []
        self._size = self.FIRST
        self.snapshot: EngineSnapshot | None = None
        self.own_snapshot = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Pair]:
        if self._error is not None:
            raise self._error()
        size = self._size
        chunk = self.read(size) if size else []
        if len(chunk) < size and self._error is not None:
            raise self._error()  # ended by another thread meanwhile: what is short is not complete
        if not chunk:
            self.finish()
            raise StopIteration
        key, value = chunk[-1]
        self._size = (
            0 if len(chunk) < size else max(1, min(size * 4, self.LARGEST, self.BYTES // (len(key) + len(value) + 1)))
        )
        self._chunk = chunk
        return chunk

    @abc.abstractmethod
    def read(self, size: int) -> list[Pair]:
        """Return ``size`` next pairs; fewer only if the range is exhausted."""

    @abc.abstractmethod
    def release(self) -> None:
        """Drop the driver's objects; may be called more than once."""

    def finish(self) -> None:
        """The range is exhausted: let go of the driver's objects, and of the snapshot made for this scan."""
        self.release()
        snapshot, self.snapshot = self.snapshot, None
        if self.own_snapshot and snapshot is not None:
            snapshot.end()
        self._error = _exhausted

    def kill(self, error: ErrorMaker) -> None:
        """End the scan, and what the caller has not yet taken of its last chunk with it."""
        if self._error is not _exhausted or self._chunk:
            self._error = error
        self._chunk.clear()
        snapshot = self.snapshot  # which is let go of by another thread that comes to the end of the range
        if snapshot is None or os.getpid() == snapshot.engine.pid:
            self.release()
        self.snapshot = None


def _exhausted() -> NoReturn:
    raise StopIteration
