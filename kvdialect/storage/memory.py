"""The memory engine: sorted dictionaries of versions, for tests and for stores that need not outlive the process.

``memory://`` is a store of its own; ``memory:///name`` is shared by name within the process until its last handle is
closed. Each key has a list of versions, oldest first; a snapshot reads the last one that is not younger than itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count, islice
from typing import Any

from sortedcontainers import SortedDict  # type: ignore[import-untyped]

from kvdialect import exc
from kvdialect.storage import expectations, shared
from kvdialect.storage.batch import Deletion, WriteBatch, check_key
from kvdialect.storage.contract import Capabilities, Pair, StorageBackend
from kvdialect.storage.engine import Engine, EngineSnapshot, ErrorMaker, Scan, dead
from kvdialect.storage.interrupts import HeldInterrupts, undisturbed
from kvdialect.storage.options import RESERVED_FAMILY, ColumnFamilyOptions, StoreOptions, parse_store_options

_anonymous = count(1)


class _Family:
    """Versions by key: ``{key: [(sequence number, value or None), ...]}``, in byte order of key."""

    def __init__(self) -> None:
        self.versions: Any = SortedDict()
        # Keys whose older versions can go once no snapshot needs them.
        self.stale: set[bytes] = set()

    def value_at(self, key: bytes, sequence: int) -> bytes | None:
        for number, value in reversed(self.versions.get(key, ())):
            if number <= sequence:
                return value  # type: ignore[no-any-return]
        return None


class MemoryEngine(Engine):
    """A store in this process's memory."""

    name = "memory"
    capabilities = Capabilities(persistent=False, checksums="none", durabilities=frozenset({"none"}))

    def __init__(self, path: str | None, options: StoreOptions) -> None:
        super().__init__(path, options)
        self._families: dict[str, _Family] = {RESERVED_FAMILY: _Family()}
        self._lock = threading.RLock()
        self.sequence = 0
        # Of the live snapshots, by id. Handles learn of one only after it was taken: a commit between must keep for it.
        self.live: dict[int, int] = {}

    def reader(self) -> Callable[[str, bytes], bytes | None]:
        return self.get

    def get(self, cf: str, key: bytes) -> bytes | None:
        family = self.family(cf, "get")
        check_key(key, cf)
        # Under the lock, or a reader could see one key of a batch new and then another one old.
        with self._lock:
            versions = family.versions.get(key)
            return versions[-1][1] if versions else None

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        with self._lock:
            self.family(cf, "multi_get")
            return [self.get(cf, key) for key in keys]

    def commit(self, batch: WriteBatch) -> None:
        with HeldInterrupts() as interrupts:
            self._commit(batch)
        try:
            interrupts.deliver()
        except KeyboardInterrupt as error:
            raise undisturbed(
                lambda: exc.CommitInterrupted(
                    "interrupted during the commit; it is applied", **self.facts("batch_write", outcome="applied")
                )
            ) from error

    def _commit(self, batch: WriteBatch) -> None:
        if not self._lock.acquire(timeout=self.options.write_timeout):
            raise exc.LockTimeout("another thread holds the store", **self.facts("batch_write"))
        try:
            for cf in batch.families():
                self.family(cf, "batch_write")
            state = _Latest(self)
            try:
                expectations.check_expectations(batch, state, self.facts("batch_write"))
            except exc.ConflictError:
                self.counters["conflicts"] += 1
                raise
            changes = expectations.resolve(batch, state)
            if not any(changes.values()):
                return
            self._apply(changes)
            self.counters["commits"] += 1
            self.counters["batches"] += 1
        finally:
            self._lock.release()

    def _apply(self, changes: dict[str, dict[bytes, bytes | Deletion]]) -> None:
        oldest = min(list(self.live.values()), default=None)
        number = self.sequence + 1
        for cf, family_changes in changes.items():
            family = self._families[cf]
            if oldest is None:
                for key in family.stale:
                    _trim(family, key)
                family.stale.clear()
            for key, change in family_changes.items():
                value = None if isinstance(change, Deletion) else change
                if oldest is not None:
                    versions = [*family.versions.get(key, ()), (number, value)]
                    while len(versions) > 1 and versions[1][0] <= oldest:
                        del versions[0]
                    family.versions[key] = versions
                    family.stale.add(key)
                elif value is None:
                    family.versions.pop(key, None)
                else:
                    family.versions[key] = [(number, value)]
        self.sequence = number

    def take_snapshot(self) -> MemorySnapshot:
        with self._lock:
            self.expire_snapshots()
            return MemorySnapshot(self, self.sequence)

    def families(self) -> Iterable[str]:
        return list(self._families)

    def family(self, cf: str, operation: str) -> _Family:
        try:
            return self._families[cf]
        except (KeyError, TypeError):
            raise self.unknown(cf, operation) from None

    def create_family(self, name: str, options: ColumnFamilyOptions) -> None:  # noqa: ARG002 - none matters here
        with self._lock:
            if name in self._families:
                raise exc.ColumnFamilyExists(
                    f"column family {name} exists already", **self.facts("create_column_family", name=name)
                )
            self._families[name] = _Family()

    def drop_family(self, name: str) -> None:
        with self._lock:
            self.family(name, "drop_column_family")
            del self._families[name]

    def flush(self) -> None:
        return

    def compact(self, cf: str) -> None:
        self.family(cf, "compact")

    def close(self) -> None:
        self.closed = True
        self._families = {}

    def native_objects(self) -> Iterable[object]:
        return ()

    def refuse(self, error: ErrorMaker) -> None:
        self.family = dead(error)  # type: ignore[method-assign]
        self._lock = threading.RLock()  # another thread of the parent may have held it


def _trim(family: _Family, key: bytes) -> None:
    versions = family.versions.get(key)
    if versions is None:
        return
    if versions[-1][1] is None:
        del family.versions[key]
    else:
        family.versions[key] = versions[-1:]


class _Latest:
    """The latest state, read under the writer's lock."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def multi_get(self, cf: str, keys: list[bytes]) -> list[bytes | None]:
        return [self._engine.get(cf, key) for key in keys]

    def scan(self, cf: str, start: bytes, stop: bytes | None) -> Iterable[Pair]:
        family = self._engine.family(cf, "batch_write")
        for key in family.versions.irange(start, stop, (True, False)):
            value = family.value_at(key, self._engine.sequence)
            if value is not None:
                yield key, value


class MemorySnapshot(EngineSnapshot):
    """The store as of a sequence number."""

    engine: MemoryEngine

    def __init__(self, engine: MemoryEngine, sequence: int) -> None:
        self.closed = True  # until there is something to release
        super().__init__(engine)
        self.sequence = sequence
        # Families are kept by this snapshot even if they are dropped.
        self._families = dict(engine._families)
        self.closed = False
        engine.live[id(self)] = sequence

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        self.check_family(cf)
        return super().multi_get(cf, keys)

    def get(self, cf: str, key: bytes) -> bytes | None:
        with self.engine._lock:
            family = self._family(cf)
            check_key(key, cf)
            return family.value_at(key, self.sequence)

    def check_family(self, cf: str) -> None:
        self._family(cf)

    def _family(self, cf: str) -> _Family:
        """One look, as another thread may end the snapshot, which takes its families, at any moment."""
        self.engine.check_process()
        family = self._families.get(cf)
        if family is None:
            raise self.unknown(cf)
        return family

    def open_scan(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> MemoryScan:
        return MemoryScan(self.engine, self._family(cf), self.sequence, start, stop, reverse)

    def release(self) -> None:
        self._families = {}
        self.engine.live.pop(id(self), None)


class MemoryScan(Scan):
    """Chunks of a range; each is read under the lock and continues behind the last key of the one before."""

    __slots__ = ("_engine", "_family", "_inclusive", "_reverse", "_sequence", "_start", "_stop")

    def __init__(
        self, engine: MemoryEngine, family: _Family, sequence: int, start: bytes, stop: bytes | None, reverse: bool
    ) -> None:
        super().__init__()
        self._engine, self._family, self._sequence = engine, family, sequence
        self._start, self._stop, self._reverse = start, stop, reverse
        self._inclusive = (True, False)

    def read(self, size: int) -> list[Pair]:
        pairs: list[Pair] = []
        with self._engine._lock:
            value_at, sequence = self._family.value_at, self._sequence
            while len(pairs) < size:
                keys = list(
                    islice(
                        self._family.versions.irange(self._start, self._stop, self._inclusive, self._reverse),
                        size - len(pairs),
                    )
                )
                if not keys:
                    break
                if self._reverse:
                    self._stop = keys[-1]
                else:
                    self._start = keys[-1]
                    self._inclusive = (False, False)
                # Keys that this snapshot does not see make a part of less than was asked for.
                pairs += [(key, value) for key in keys if (value := value_at(key, sequence)) is not None]
        return pairs

    def release(self) -> None:
        self._family = _Family()


class MemoryBackend(shared.Handle):
    """``memory://`` and ``memory:///name``."""

    @classmethod
    def open(
        cls, path: str | None, options: Mapping[str, Any], column_families: Mapping[str, ColumnFamilyOptions]
    ) -> StorageBackend:
        parsed = parse_store_options(StoreOptions, "memory", options)
        if parsed.mode != "rw":
            raise exc.ArgumentError("mode=ro makes no sense for a memory store: it starts empty")
        key = ("memory", path or f"#{next(_anonymous)}")
        return cls.on(shared.acquire(key, parsed, lambda: MemoryEngine(path, parsed)), column_families)
