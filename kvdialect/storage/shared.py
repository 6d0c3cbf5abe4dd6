"""One engine per real path in a process, many handles on it.

What ``open_backend`` returns for the built-in engines is a :class:`Handle` on an
:class:`~kvdialect.storage.engine.Engine`: closing a handle ends the snapshots and iterators made from it, and the
engine closes with its last handle. After a fork the child's handles refuse to work and the driver's objects are leaked
on purpose.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Final, NoReturn, Self, TypeVar

import attrs

from kvdialect import exc
from kvdialect.storage.batch import WriteBatch
from kvdialect.storage.contract import Capabilities, FamilyStats, Pair, ReaderStats, StorageBackend, check_bounds
from kvdialect.storage.engine import Children, Engine, EngineSnapshot, ErrorMaker, dead, forked
from kvdialect.storage.interrupts import undisturbed
from kvdialect.storage.options import RESERVED_FAMILY, ColumnFamilyOptions, StoreOptions, check_family_name
from kvdialect.storage.storedir import copy, within

T = TypeVar("T")


class Handle(StorageBackend):
    """A handle on an :class:`Engine`: what ``open_backend`` returns for the built-in engines."""

    _refuse: Callable[..., NoReturn]

    def __init__(self, engine: Engine, capabilities: Capabilities | None = None) -> None:
        self.engine = engine
        self.name = engine.name
        self.path = engine.path
        self.capabilities = capabilities or engine.capabilities
        self.children = Children()
        self.closed = False
        self._read = engine.reader()
        engine.handles.add(self)

    @classmethod
    def on(
        cls,
        engine: Engine,
        families: Mapping[str, ColumnFamilyOptions],
        capabilities: Capabilities | None = None,
    ) -> Self:
        """A handle on an engine that was acquired for it, with ``families`` declared; closed again if that fails."""
        handle = cls(engine, capabilities)
        try:
            handle.declare(families)
        except BaseException:
            handle.close()
            raise
        return handle

    # The engine's own function in place of this method would save a frame, but then nothing would hold the handle
    # during ``open_backend(url).get(...)``.
    def get(self, cf: str, key: bytes) -> bytes | None:
        return self._read(cf, key)

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        if self.closed:
            self._refuse()
        return self.engine.multi_get(cf, keys)

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        check_bounds(start, stop)
        snapshot = self.snapshot()
        if stop is not None and start >= stop:
            snapshot.check_family(cf)
            snapshot.close()
            return iter(())
        pairs = snapshot.open_scan(cf, start, stop, bool(reverse))
        pairs.own_snapshot = True
        snapshot.keep(pairs)
        return chain.from_iterable(pairs)

    def snapshot(self) -> EngineSnapshot:
        engine = self.engine
        engine.check_process()
        try:
            snapshot = engine.take_snapshot()
        except Exception:
            if self.closed:  # by another thread, meanwhile
                self._refuse()
            raise
        snapshot.owner = self
        self.children.add(snapshot)
        if self.closed:  # by another thread, which may have looked for snapshots before this one was there
            snapshot.close()
            self._refuse()
        return snapshot

    def batch_write(self, batch: WriteBatch) -> None:
        engine = self.engine
        self._check_open()
        if not isinstance(batch, WriteBatch):
            raise TypeError(f"batch_write() takes a WriteBatch, not {type(batch).__name__}")
        if not self.capabilities.writable:
            raise exc.ReadOnlyStore(
                f"{self.name}:{self.path} is open for reading; writing needs mode=rw", **engine.facts("batch_write")
            )
        if batch.nbytes > engine.options.max_batch_bytes:
            raise exc.BatchTooLarge(
                f"the batch holds {batch.nbytes} bytes; max_batch_bytes is {engine.options.max_batch_bytes}"
                " (commit in smaller batches or raise it)",
                **engine.facts("batch_write", size=batch.nbytes, limit=engine.options.max_batch_bytes),
            )
        batch.validate(self.capabilities.key_limit)
        if engine.options.max_snapshot_age is not None:
            engine.expire_snapshots()
        if batch:
            begun = time.perf_counter()
            engine.commit(batch)
            try:
                if batch.changes:
                    engine.figures.add(time.perf_counter() - begun, batch.written_bytes)
            except KeyboardInterrupt as error:
                raise undisturbed(
                    lambda: exc.CommitInterrupted(
                        "interrupted behind the commit; the batch was applied",
                        **engine.facts("batch_write", outcome="applied"),
                    )
                ) from error

    def column_families(self) -> list[str]:
        self._check_open()
        return sorted(name for name in self.engine.families() if name != RESERVED_FAMILY)

    def column_family_options(self, name: str) -> ColumnFamilyOptions:
        self._check_open()
        if name == RESERVED_FAMILY or name not in self.engine.families():
            raise exc.UnknownColumnFamily(name, **self.engine.facts("column_family_options"))
        return self.engine.family_options(name)

    def create_column_family(self, name: str, options: ColumnFamilyOptions | None = None) -> None:
        self._check_writable("create_column_family")
        if options is not None and not isinstance(options, ColumnFamilyOptions):
            raise TypeError(f"options are ColumnFamilyOptions, not {type(options).__name__}")
        self.engine.create_family(check_family_name(name), options or ColumnFamilyOptions())

    def drop_column_family(self, name: str) -> None:
        self._check_writable("drop_column_family")
        if name == RESERVED_FAMILY or name not in self.engine.families():
            raise exc.UnknownColumnFamily(name, **self.engine.facts("drop_column_family"))
        self.engine.drop_family(name)

    def declare(self, families: Mapping[str, ColumnFamilyOptions]) -> None:
        """Create the families that are not there; refuse options of those that are and may not change."""
        known = set(self.engine.families())
        for name, options in families.items():
            check_family_name(name)
            if name in known:
                self.engine.check_redeclared(name, options)
            elif self.capabilities.writable:
                try:
                    self.engine.create_family(name, options)
                except exc.ColumnFamilyExists:
                    # Another process was first (LMDB); the two declarations must agree.
                    self.engine.check_redeclared(name, options)

    def flush(self) -> None:
        self._check_writable("flush")
        self._unless_closed(self.engine.flush)

    def compact(self, cf: str) -> None:
        self._check_open()
        if cf not in self.engine.families():
            raise exc.UnknownColumnFamily(cf, **self.engine.facts("compact"))
        self._check_writable("compact")
        self._unless_closed(lambda: self.engine.compact(cf))

    def backup(self, path: str | os.PathLike[str]) -> None:
        self._check_open()
        if not os.fspath(path):
            raise exc.ArgumentError("the path of the backup is empty; give a directory", **self.engine.facts("backup"))
        target = os.path.abspath(path)
        marker = self.engine.marker
        if marker is None or self.path is None:
            self.engine.copy_to(target)  # says that there are no files
            return
        if within(target, self.path):
            raise exc.ArgumentError(
                f"{target} is in the store at {self.path}, of which it would be a backup; give a path outside",
                **self.engine.facts("backup"),
            )
        copy(target, marker, self.engine.copy_to)

    def faults(self) -> Iterable[tuple[str, str]]:
        self._check_open()
        return self.engine.faults()

    def still(self) -> AbstractContextManager[str]:
        """A path at which another process can read the store as of one moment, for as long as the context is open.

        Raises:
            NotSupportedError: if the engine has no files.
        """
        self._check_open()
        return self.engine.still()

    def commit_outcome(self, token: bytes) -> exc.Outcome:
        self._check_open()
        return self.engine.commit_outcome(token)

    def catch_up(self) -> None:
        self._check_open()
        self.engine.catch_up()

    def stats(self) -> dict[str, Any]:
        self._check_open()
        return self._unless_closed(self._stats)

    def _stats(self) -> dict[str, Any]:
        snapshots = self.engine.snapshots()
        now = time.monotonic()
        return {
            "engine": self.name,
            "path": self.path,
            **self.engine.counters,
            **self.engine.figures.stats(),
            "live_snapshots": len(snapshots),
            "oldest_snapshot_seconds": max((now - snapshot.taken for snapshot in snapshots), default=0.0),
            **self.engine.stats(),
        }

    def family_stats(self) -> dict[str, FamilyStats]:
        self._check_open()
        found = self._unless_closed(self.engine.family_stats)
        return {name: found.get(name, FamilyStats()) for name in self.column_families()}

    def readers(self) -> list[ReaderStats]:
        self._check_open()
        return self._unless_closed(self.engine.readers)

    def close(self) -> None:
        engine = self.engine
        if self.kill(
            lambda: exc.StoreClosed(
                f"{engine.name}:{engine.path or ''} is closed; open it again", **engine.facts("use")
            )
        ):
            release(engine)

    def kill(self, error: ErrorMaker) -> bool:
        """Refuse every later call; return whether this call was the one that brought it about."""
        refuse = dead(error)
        if self.closed or vars(self).setdefault("_refuse", refuse) is not refuse:
            return False
        self.closed = True
        self._read = refuse
        for name in _REFUSED_WHEN_CLOSED:
            setattr(self, name, refuse)
        for child in self.children:
            child.kill(error)
        return True

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a handle on {self.name}:{self.path or ''} cannot be copied or pickled; threads may share it, and another"
            " process, or who wants another handle, opens the store by its URL"
        )

    def __del__(self) -> None:
        if not getattr(self, "closed", True) and os.getpid() == self.engine.pid:
            self.close()

    def _check_open(self) -> None:
        """Refuse a method that was fetched from the handle before it was closed, and the child of a fork."""
        if self.closed:
            self._refuse()
        self.engine.check_process()

    def _unless_closed(self, call: Callable[[], T]) -> T:
        """Call what another thread's ``close`` may overtake: its error then says so, and not what the driver says."""
        try:
            return call()
        except Exception:
            if self.closed:
                self._refuse()
            raise

    def _check_writable(self, operation: str) -> None:
        self._check_open()
        if not self.capabilities.writable:
            raise exc.ReadOnlyStore(
                f"{self.name}:{self.path} is open for reading; {operation} needs mode=rw",
                **self.engine.facts(operation),
            )


_REFUSED_WHEN_CLOSED: Final = (
    "get", "multi_get", "scan", "prefix_scan", "snapshot", "batch_write", "put", "delete", "column_families",
    "column_family_options", "create_column_family", "drop_column_family", "declare", "flush", "compact",
    "commit_outcome", "catch_up", "stats", "family_stats", "readers", "backup", "faults", "still",
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ engines by path

_log = logging.getLogger(__name__)

AnyEngine = TypeVar("AnyEngine", bound=Engine)

_LEAVE: Final = 0.05
"""Seconds that daemon threads have at the end of the program to leave the driver."""

_engines: dict[tuple[str, ...], Engine] = {}
_opening = threading.RLock()


def acquire(key: tuple[str, ...], options: StoreOptions, make: Callable[[], AnyEngine]) -> AnyEngine:
    """Return the engine open under ``key`` with one more reference, or the one that ``make`` opens.

    Raises:
        ArgumentError: if it is open in this process with other options.
        ReopenRequired: if what is open in this process is not at its path any more.
        DeviceError: if a file of it cannot be read.
    """
    with _opening:
        engine = _engines.get(key)
        if engine is None:
            try:
                engine = _engines[key] = make()
            except OSError as error:  # of a file that is read before the driver is
                if error.errno is None:
                    raise  # not of the system: of a program's signal handler, such as a TimeoutError
                raise exc.DeviceError(
                    f"cannot open {key[0]}:{key[-1]}: {error} (look at the rights to its files, and at the disk)",
                    engine=key[0], path=key[-1], operation="open", engine_message=str(error),
                ) from error  # fmt: skip
        else:
            if engine.location is not None and not engine.location.holds():
                raise exc.ReopenRequired(
                    f"{engine.name}:{engine.path} is open in this process, and was moved, removed or replaced since;"
                    " close it first (all handles on it)",
                    **engine.facts("open"),
                )
            check_same_options(engine, options)
            engine.check_options(options)
        engine.references += 1
        return engine  # type: ignore[return-value]  # a key begins with its engine's name


def check_same_options(engine: Engine, options: StoreOptions) -> None:
    """Refuse options that differ from those with which this process has the store open."""
    for field in attrs.fields(type(engine.options)):
        mine, theirs = getattr(engine.options, field.name), getattr(options, field.name)
        if mine != theirs and field.name not in ("mode", "checksum", "check_files"):
            raise exc.ArgumentError(
                f"{engine.name}:{engine.path} is open in this process with {field.name}={mine!r}, not {theirs!r};"
                " open it with the same options, or close it first",
                **engine.facts("open"),
            )


def release(engine: Engine) -> None:
    with _opening:
        engine.references -= 1
        if engine.references > 0:
            return
        for key, other in list(_engines.items()):
            if other is engine:
                del _engines[key]
        engine.close()


def is_open(key: tuple[str, ...]) -> bool:
    """True if this process has the store open."""
    return key in _engines


def _close_all() -> None:
    engines = list(_engines.values())
    for engine in engines:
        for handle in engine.handles:
            try:
                handle.close()
            except exc.Error:
                _log.exception("closing %s at exit failed", handle)
    if engines and threading.active_count() > 1:
        # A daemon thread that comes back from the driver when the interpreter is gone is unwound by force, which the
        # driver's own frames do not survive: the process would abort. Here it comes back to a closed handle.
        time.sleep(_LEAVE)


atexit.register(_close_all)

inherited_paths: set[str] = set()
"""Paths of stores that were open when this process was forked."""


def _after_fork_in_child() -> None:
    global _opening  # noqa: PLW0603 - another thread of the parent may have held it
    _opening = threading.RLock()
    for engine in _engines.values():
        error = forked(engine)
        if engine.path is not None:
            inherited_paths.add(engine.path)
        if engine.location is not None:
            engine.location.close()
        for handle in engine.handles:
            _leak_scans(handle)
            handle.kill(error)
        for native in engine.native_objects():
            leak(native)
        engine.refuse(error)
        leak(engine)
    _engines.clear()


def _leak_scans(handle: Handle) -> None:
    for child in handle.children:
        leak(child)
        for scan in child.scans:
            leak(scan)


def leak(thing: object) -> None:
    """Keep an object alive for ever.

    In a forked child, finalising the driver's objects would write into the parent's files or free its reader slots. A
    module global would not do, as the interpreter clears those at exit.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
