"""States of a RocksDB store: what snapshots read, across all families at once.

RocksDB's snapshots belong to one family each, and those of rocksdict hold for ``get`` but not for iteration: its
``snapshot.items()`` shows later writes. A native iterator, however, stays at the moment it was made. So a state pins a
family with both, a snapshot for gets and an iterator for scans.

While no write has begun since, a state is the live database and needs none of that. Just before a write it is
*sealed*: all families are pinned, under the commit lock, so that no commit lies between two of them. Nothing is pinned
for a state that nobody holds, unless a snapshot may still ask for it: with ``durability=sync``, a snapshot is of the
last state that reached the disk, while the next commit is on its way there.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import rocksdict

from kvdialect import exc
from kvdialect.storage.contract import Pair
from kvdialect.storage.rocksdb.errors import translate

if TYPE_CHECKING:
    from kvdialect.storage.rocksdb.engine import RocksDBEngine

# For how many commits after the last snapshot states go on being sealed for snapshots that come mid-commit.
_DEMAND: Final = 64


Natives = tuple[rocksdict.RdictIter, rocksdict.Snapshot | None]
"""The driver's objects that keep a family at one moment."""


class Pinned:
    """One family at one moment."""

    __slots__ = ("__weakref__", "_cf", "_engine", "_iterator", "_lock", "_snapshot")

    def __init__(self, engine: RocksDBEngine, cf: str, natives: Natives) -> None:
        self._engine, self._cf = engine, cf
        self._lock = threading.Lock()
        self._iterator, self._snapshot = natives

    def release(self) -> None:
        """Let go of the driver's objects, which keep the database open, even if a traceback keeps this one."""
        with self._lock:
            self._iterator = self._snapshot = None  # type: ignore[assignment]

    def get(self, key: bytes) -> bytes | None:
        """The value at ``key``, or None."""
        if self._snapshot is None:
            pairs = self.read(key, key + b"\0", 1, None, reverse=False)
            return pairs[0][1] if pairs else None
        try:
            return self._snapshot[key]  # type: ignore[no-any-return]
        except Exception as error:
            if error.args == ("key not found",):
                return None
            raise translate(self._engine, error, "get", cf=self._cf, key=key) from error

    def read(self, start: bytes, stop: bytes | None, size: int, last: bytes | None, *, reverse: bool) -> list[Pair]:
        """Up to ``size`` pairs of a range, behind the key ``last`` if there is one.

        The iterator is shared by all scans of this state, so each chunk seeks first.
        """
        pairs: list[Pair] = []
        with self._lock:
            iterator = self._iterator
            if iterator is None:
                raise self._engine.unknown(self._cf, "scan")
            try:
                valid, key, value = iterator.valid, iterator.key, iterator.value
                step = iterator.prev if reverse else iterator.next
                self._seek(start, stop, last, reverse)
                # next() on an invalid iterator is a segmentation fault.
                while len(pairs) < size and valid():
                    found = key()
                    if found < start if reverse else stop is not None and found >= stop:
                        return pairs
                    pairs.append((found, value()))
                    step()
                if not valid():
                    self._check_status(last if not pairs else pairs[-1][0])
            finally:
                # In a traceback they would keep the database open.
                iterator = valid = key = value = step = None  # type: ignore[assignment]
        return pairs

    def _seek(self, start: bytes, stop: bytes | None, last: bytes | None, reverse: bool) -> None:
        iterator = self._iterator
        edge = last if last is not None else stop if reverse else start
        if reverse:
            if edge is None:
                iterator.seek_to_last()
                return
            # Below ``last`` or ``stop``, neither of which belongs to what is left.
            iterator.seek_for_prev(edge)
            if iterator.valid() and iterator.key() == edge:
                iterator.prev()
        else:
            if not edge:
                iterator.seek_to_first()
                return
            iterator.seek(edge)
            if last is not None and iterator.valid() and iterator.key() == last:
                iterator.next()

    def _check_status(self, last: bytes | None) -> None:
        try:
            self._iterator.status()
        except Exception as error:
            raise incomplete(self._engine, self._cf, last, str(error)) from error

    @property
    def natives(self) -> tuple[object, ...]:
        """The driver's objects."""
        return (self._iterator, self._snapshot)


def incomplete(engine: RocksDBEngine, cf: str, last: bytes | None, message: str) -> exc.Corruption:
    """The error of a scan that broke off."""
    where = "at its first key" if last is None else f"behind {exc.shown(last)}"
    return exc.Corruption(
        f"scan incomplete: {cf} broke off {where}: {message} (restore a backup)",
        **engine.facts("scan", cf=cf, key=last, engine_message=message),
    )


class State:
    """The store after write number ``sequence``, as all its snapshots share it.

    Attributes:
        sealed: all families are kept: in ``pinned``, or in ``unused`` where nobody has asked for them yet.
        holders: how many snapshots there are of it.
    """

    __slots__ = ("__weakref__", "holders", "pinned", "sealed", "sequence", "unused")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.sealed = False
        self.holders = 0
        self.pinned: dict[str, Pinned] = {}
        self.unused: dict[str, Natives] = {}

    def drop(self) -> None:
        """Nobody needs the families any more."""
        self.pinned = {}
        self.unused = {}


class States:
    """The states of one store.

    Attributes:
        sequence: number of the last write begun. It is counted up before the write, so that a reader that finds it
            unchanged after its read knows that it saw no part of a later write.
    """

    def __init__(self, engine: RocksDBEngine, *, synced: bool, catch_up: Callable[[int], None]) -> None:
        """Args: ``catch_up(sequence)`` returns when that write is on disk; used if ``synced``."""
        self._engine = engine
        self._synced = synced
        self._catch_up = catch_up
        self._lock = threading.Lock()
        self._current = State(0)
        self._candidate: State | None = None
        self._demand = 0
        self.sequence = 0
        self._all: weakref.WeakSet[Pinned] = weakref.WeakSet()
        self._sealed: weakref.WeakSet[State] = weakref.WeakSet()

    def take(self) -> State:
        """Return the state that a snapshot is of, with one more holder."""
        if not self._synced:
            with self._engine.commit_lock, self._lock:
                state = self._current
                if state.sequence != self.sequence:
                    state = self._current = State(self.sequence)
                state.holders += 1
                return state
        self._demand = _DEMAND
        while True:
            with self._lock:
                state = self._current
                # Held first, looked at second: a writer counts up first and looks for holders second.
                state.holders += 1
            if self._usable(state):
                return state
            with self._engine.commit_lock:
                usable = self._usable(state)  # a writer was just sealing it
            if usable:
                return state
            # Nobody had asked for a snapshot for a while when the commit now under way began: wait for it.
            self.release(state)
            self._catch_up(self.sequence)

    def _usable(self, state: State) -> bool:
        return state.sealed or state.sequence == self.sequence

    def release(self, state: State) -> None:
        """A snapshot of ``state`` ended."""
        with self._lock:
            state.holders -= 1
            # Without syncs the current state is replaced when the next snapshot is taken, which may be never.
            if state.holders == 0 and (state is not self._current or (state.sealed and not self._synced)):
                state.drop()

    def pin(self, state: State, cf: str) -> Pinned:
        """One family at ``state``.

        Raises:
            UnknownColumnFamily: if it was not there.
        """
        pinned = state.pinned.get(cf)
        if pinned is None and not state.sealed:
            engine = self._engine
            with engine.commit_lock:
                pinned = state.pinned.get(cf)
                family = engine.known.get(cf)
                if pinned is None and not state.sealed and family is not None:
                    pinned = state.pinned[cf] = self._pinned(cf, self._natives(family.rdict))
        if pinned is None:
            with self._lock:
                pinned = state.pinned.get(cf)
                natives = state.unused.pop(cf, None)
                if pinned is None and natives is not None:
                    pinned = state.pinned[cf] = self._pinned(cf, natives)
        if pinned is None:
            raise self._engine.unknown(cf, "snapshot")
        return pinned

    def advance(self) -> int:
        """Called under the commit lock just before a write: seal what the write would change; return its number."""
        before = self.sequence
        try:
            self.sequence = before + 1
            wanted = self._synced and self._demand > 0
            if wanted:
                self._demand -= 1
            for state in (self._current, self._candidate):
                if state is not None and not state.sealed and state.sequence == before:
                    if wanted or state.holders:
                        self._seal(state)
                    else:
                        state.drop()
        except BaseException:
            # Interrupted: nothing is written, so the state is the live one still, and the next write seals it.
            self.sequence = before
            raise
        return self.sequence

    def retreat(self) -> None:
        """Called under the commit lock: the write that :meth:`advance` announced changed nothing."""
        self.sequence -= 1

    def _seal(self, state: State) -> None:
        # Most are never looked at: no more than the driver's objects is made here.
        self._sealed.add(state)
        unused, pinned = state.unused, state.pinned
        for name, family in self._engine.known.items():
            if name not in pinned:
                unused[name] = self._natives(family.rdict)
        state.sealed = True

    def _natives(self, rdict: rocksdict.Rdict) -> Natives:
        engine = self._engine
        # A secondary's snapshots move when it catches up; its iterators do not.
        return rdict.iter(engine.total_order), None if engine.options.mode == "secondary" else rdict.snapshot()

    def _pinned(self, cf: str, natives: Natives) -> Pinned:
        pinned = Pinned(self._engine, cf, natives)
        self._all.add(pinned)
        return pinned

    def prepare(self) -> State:
        """Called under the commit lock before a sync: the state that the sync will have reached."""
        self._candidate = State(self.sequence)
        return self._candidate

    def publish(self, state: State) -> None:
        """The state that :meth:`prepare` gave is on disk: snapshots are of it from now on."""
        with self._lock:
            old, self._current = self._current, state
            self._candidate = None
            if old.holders == 0:
                old.drop()

    def clear(self) -> None:
        """Let go of the driver's objects."""
        for state in (self._current, self._candidate, *self._sealed):
            if state is not None:
                state.drop()
        for pinned in list(self._all):
            pinned.release()

    def natives(self) -> list[object]:
        """The driver's objects that are held."""
        states = [state for state in (self._current, self._candidate, *self._sealed) if state is not None]
        pinned = [native for state in states for pinned in state.pinned.values() for native in pinned.natives]
        return pinned + [native for state in states for natives in state.unused.values() for native in natives]
