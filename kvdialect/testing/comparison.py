"""A store and its model, taken through the same steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, Final, Protocol

import attrs

from kvdialect import exc
from kvdialect.storage import ColumnFamilyOptions, Snapshot, StorageBackend
from kvdialect.testing import strategies
from kvdialect.testing.model import StoreModel
from kvdialect.testing.strategies import Operation

FAMILIES: Final[Mapping[str, ColumnFamilyOptions]] = {
    "plain": ColumnFamilyOptions(),
    "bloom": ColumnFamilyOptions(bloom="prefix", prefix_length=2),
    "low": ColumnFamilyOptions(bloom="full", lmdb_database="shared", lmdb_tag=1),
    "high": ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=255),
}
"""The families of the store. The last two come and go."""

SLOTS: Final = 3
"""Snapshots, and iterators, that are open at a time at most."""


class StoreOpener(Protocol):
    """Opens the store called ``name``, and reopens it: the kit's ``open_store`` fixture is one."""

    def __call__(self, column_families: Mapping[str, ColumnFamilyOptions], *, name: str = ...) -> StorageBackend: ...


@attrs.frozen(repr=False)
class Step:
    """One operation on store and model: the name of a method of :class:`Comparison`, and its arguments."""

    action: str
    arguments: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"Step({self.action!r}, {_literal(self.arguments)})"


def _literal(value: object) -> str:
    """The value as code; runs of one byte, as in the longest keys, as a product."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    if isinstance(value, bytes):
        rest = value.lstrip(value[:1]) if value else b""
        run = len(value) - len(rest)
        if run > 8:
            return f"{value[:1]!r} * {run}" + (f" + {_literal(rest)}" if rest else "")
    return repr(value)


class Difference(AssertionError):
    """Store and model differ.

    Attributes:
        seed: seed of the walk, or None.
        history: steps that lead to the difference, as few as were found.
    """

    seed: int | None = None
    history: Sequence[Step] = ()


@attrs.define
class _HeldSnapshot:
    snapshot: Snapshot
    model: StoreModel
    # A snapshot may or may not read families that were dropped or created since.
    unsure: set[str]


@attrs.define
class _HeldScan:
    pairs: Iterator[tuple[bytes, bytes]]
    expected: Iterator[tuple[bytes, bytes]]


class Comparison:
    """A store and its model. Each method takes one step on both and raises :class:`Difference` if they differ.

    Every step is possible in every state: the model says which error a step must meet. So any part of a history is a
    history, which is what makes shrinking simple.
    """

    def __init__(self, open_store: StoreOpener, name: str = "store") -> None:
        self._open_store = open_store
        self._name = name
        self.model = StoreModel(FAMILIES)
        self.backend = open_store(FAMILIES, name=name)
        self._snapshots: dict[int, _HeldSnapshot] = {}
        self._scans: dict[int, _HeldScan] = {}

    def take(self, step: Step) -> None:
        """Take one step.

        Raises:
            Difference: if store and model differ, or the store raises what the model does not foresee.
        """
        try:
            getattr(self, step.action)(*step.arguments)
        except Difference:
            raise
        except Exception as error:
            raise Difference(f"{step!r} raised {type(error).__name__}: {error}") from error

    # ---- writes

    def put(self, cf: str, key: bytes, value: bytes) -> None:
        self._write([("put", cf, key, value)], lambda: self.backend.put(cf, key, value))

    def delete(self, cf: str, key: bytes) -> None:
        self._write([("delete", cf, key)], lambda: self.backend.delete(cf, key))

    def batch(self, *operations: Operation) -> None:
        self._write(operations, lambda: self.backend.batch_write(strategies.build_batch(operations)))

    def create(self, cf: str) -> None:
        try:
            self.backend.create_column_family(cf, FAMILIES[cf])
        except exc.ColumnFamilyExists:
            _agree("family exists", True, cf in self.model.families)
            return
        _agree("family exists", False, cf in self.model.families)
        self.model.families[cf] = {}
        self._unsure(cf)

    def drop(self, cf: str) -> None:
        # What an iterator does whose family is dropped under it is not promised.
        self._scans.clear()
        try:
            self.backend.drop_column_family(cf)
        except exc.UnknownColumnFamily:
            _agree("family exists", False, cf in self.model.families)
            return
        _agree("family exists", True, cf in self.model.families)
        del self.model.families[cf]
        self._unsure(cf)

    # ---- reads

    def get(self, cf: str, key: bytes) -> None:
        self._read(cf, lambda: self.backend.get(cf, key), lambda: self.model.families[cf].get(key))

    def multi_get(self, cf: str, *keys: bytes) -> None:
        self._read(
            cf, lambda: self.backend.multi_get(cf, keys), lambda: [self.model.families[cf].get(key) for key in keys]
        )

    def scan(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> None:
        self._read(
            cf,
            lambda: list(self.backend.scan(cf, start, stop, reverse=reverse)),
            lambda: self.model.scan(cf, start, stop, reverse=reverse),
        )

    def prefix_scan(self, cf: str, prefix: bytes) -> None:
        self._read(
            cf,
            lambda: list(self.backend.prefix_scan(cf, prefix)),
            lambda: [pair for pair in self.model.scan(cf) if pair[0].startswith(prefix)],
        )

    def compare_all(self) -> None:
        """Compare the list of families and all pairs, in both directions."""
        _agree("column_families", self.backend.column_families(), sorted(self.model.families))
        for cf, pairs in self.model.contents().items():
            _agree(f"scan of {cf}", list(self.backend.scan(cf)), pairs)
            _agree(f"reverse scan of {cf}", list(self.backend.scan(cf, reverse=True)), pairs[::-1])

    # ---- snapshots and iterators, held over later writes

    def snapshot_open(self, slot: int) -> None:
        self.snapshot_close(slot)
        self._snapshots[slot] = _HeldSnapshot(self.backend.snapshot(), self.model.copy(), set())

    def snapshot_close(self, slot: int) -> None:
        held = self._snapshots.pop(slot, None)
        if held is not None:
            held.snapshot.close()

    def snapshot_get(self, slot: int, cf: str, *keys: bytes) -> None:
        held = self._snapshots.get(slot)
        if held is not None:
            self._read_snapshot(held, cf, lambda: held.snapshot.multi_get(cf, keys), lambda p: [p.get(k) for k in keys])
            self._read_snapshot(held, cf, lambda: held.snapshot.get(cf, keys[0]), lambda p: p.get(keys[0]))

    def snapshot_scan(self, slot: int, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> None:
        held = self._snapshots.get(slot)
        if held is not None:
            self._read_snapshot(
                held,
                cf,
                lambda: list(held.snapshot.scan(cf, start, stop, reverse=reverse)),
                lambda _: held.model.scan(cf, start, stop, reverse=reverse),
            )

    def scan_open(self, slot: int, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> None:
        if cf in self.model.families:
            self._scans[slot] = _HeldScan(
                self.backend.scan(cf, start, stop, reverse=reverse),
                iter(self.model.scan(cf, start, stop, reverse=reverse)),
            )

    def scan_next(self, slot: int, pairs: int) -> None:
        held = self._scans.get(slot)
        if held is not None:
            _agree("scan held open", list(islice(held.pairs, pairs)), list(islice(held.expected, pairs)))

    # ---- the store as a whole

    def flush(self) -> None:
        self.backend.flush()

    def compact(self, cf: str) -> None:
        self._read(cf, lambda: self.backend.compact(cf), lambda: None)

    def reopen(self) -> None:
        """Close the store with all that is open on it, and open it again if it is persistent."""
        if not self.backend.capabilities.persistent:
            return
        self.backend.close()
        for held in self._scans.values():
            if next(held.expected, None) is not None:
                try:
                    list(held.pairs)
                except exc.StoreClosed:
                    continue
                raise Difference("a scan cut short by close ended silently")
        self._scans.clear()
        self._snapshots.clear()
        existing = {cf: FAMILIES[cf] for cf in self.model.families}
        self.backend = self._open_store(existing, name=self._name)
        self.compare_all()

    def close(self) -> None:
        """Close the store; no step."""
        self.backend.close()

    # ---- how they are compared

    def _write(self, operations: Sequence[Operation], write: Any) -> None:
        errors = self.model.apply(operations)
        try:
            write()
        except exc.Error as error:
            if not isinstance(error, tuple(errors)):
                raise
            return
        if errors:
            raise Difference(f"no error; expected one of {', '.join(sorted(e.__name__ for e in errors))}")

    def _read(self, cf: str, read: Any, expect: Any) -> None:
        try:
            found = read()
        except exc.UnknownColumnFamily:
            _agree("family exists", False, cf in self.model.families)
            return
        _agree("family exists", True, cf in self.model.families)
        _agree("result", found, expect())

    def _read_snapshot(self, held: _HeldSnapshot, cf: str, read: Any, expect: Any) -> None:
        try:
            found = read()
        except exc.UnknownColumnFamily:
            if cf not in held.unsure and cf in held.model.families:
                raise
            return
        if cf not in held.model.families:
            # Created since the snapshot: it may look unknown or empty, but not filled.
            _agree("result from a snapshot older than the family", found, [None] * len(found) if found else found)
        else:
            _agree("result from a snapshot", found, expect(held.model.families[cf]))

    def _unsure(self, cf: str) -> None:
        for held in self._snapshots.values():
            held.unsure.add(cf)


def _agree(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Difference(f"{what}: the store has {_short(found)}, the model {_short(expected)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:600]}... ({len(text)} characters)"


_names = count(1)


def new_name() -> str:
    """The name of a store that was not opened yet."""
    return f"compared-{next(_names)}"
