"""States of a RocksDB store: what snapshots read, across all families at once.

RocksDB's snapshots belong to one family each, and those of rocksdict hold for ``get`` but not for iteration: its
``snapshot.items()`` shows later writes. A native iterator, however, stays at the moment it was made. So a state pins a
family with both, a snapshot for gets and an iterator for scans.

A family that no write has begun to change since is read in the live database, and needs none of that. Just before a
write the families that it changes are pinned, under the commit lock, for all states that are *kept*: those that
somebody holds, and with ``durability=sync`` the last one that reached the disk, which snapshots are of while the next
commit is on its way there. So a commit costs what it changes, however many families there are.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import rocksdict

from kvdialect import exc
from kvdialect.storage.contract import Pair
from kvdialect.storage.rocksdb.errors import pass_foreign, translate

if TYPE_CHECKING:
    from kvdialect.storage.rocksdb.engine import RocksDBEngine

# For how many commits after the last snapshot the last state is kept for snapshots that come mid-commit.
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
            pass_foreign(error)
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
        kept: the last write that all of it was kept through; none behind that leaves it readable.
        holders: how many snapshots there are of it.
        pinned: families that have changed since.
        unused: those of them that nobody has asked for yet.
    """

    __slots__ = ("__weakref__", "holders", "kept", "pinned", "sequence", "unused")

    def __init__(self, sequence: int) -> None:
        self.sequence = self.kept = sequence
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
        changed: the number of the last write begun to each family, which is counted up likewise.
    """

    def __init__(self, engine: RocksDBEngine, *, synced: bool, catch_up: Callable[[int], None]) -> None:
        """Args: ``catch_up(sequence)`` returns when that write is on disk; used if ``synced``."""
        self._engine = engine
        self._synced = synced
        self._catch_up = catch_up
        self._lock = threading.RLock()  # a finaliser may release a snapshot within
        self._current = State(0)
        self._candidate: State | None = None
        self._demand = 0
        self.sequence = 0
        self.changed: dict[str, int] = {}
        self._before: dict[str, int] = {}  # what of it the last write has replaced
        self._held: set[State] = set()
        self._all: weakref.WeakSet[Pinned] = weakref.WeakSet()
        self._keeping: weakref.WeakSet[State] = weakref.WeakSet()

    def take(self) -> State:
        """Return the state that a snapshot is of, with one more holder."""
        if not self._synced:
            with self._engine.commit_lock, self._lock:
                state = self._current
                if state.sequence != self.sequence:
                    state = self._current = State(self.sequence)
                return self._hold(state)
        self._demand = _DEMAND
        while True:
            with self._lock:
                state = self._current
                # Held first, looked at second: a writer counts up first and looks for holders second.
                self._hold(state)
            if state.kept >= self.sequence:
                return state
            with self._engine.commit_lock:
                kept = state.kept >= self.sequence  # a writer was just about to keep it
            if kept:
                return state
            # Nobody had asked for a snapshot for a while when the commit now under way began: wait for it.
            self.release(state)
            self._catch_up(self.sequence)

    def _hold(self, state: State) -> State:
        state.holders += 1
        self._held.add(state)
        return state

    def unchanged(self, state: State, cf: str) -> bool:
        """Whether no write has begun to change the family since: then the live database has it as it was."""
        return state.sequence >= self.changed.get(cf, 0)

    def release(self, state: State) -> None:
        """A snapshot of ``state`` ended."""
        with self._lock:
            state.holders -= 1
            if state.holders:
                return
            self._held.discard(state)
            # Without syncs the current state is replaced when the next snapshot is taken, which may be never.
            if state is not self._current or not self._synced:
                state.drop()

    def pin(self, state: State, cf: str) -> Pinned:
        """One family at ``state``.

        Raises:
            UnknownColumnFamily: if it was not there.
        """
        pinned = self._found(state, cf)
        if pinned is None:
            engine = self._engine
            with engine.commit_lock:
                pinned = self._found(state, cf)  # a writer was just about to pin it
                family = engine.known.get(cf)
                if pinned is None and family is not None and self.unchanged(state, cf):
                    self._keeping.add(state)
                    pinned = state.pinned[cf] = self._pinned(cf, self._natives(family.rdict))
        if pinned is None:
            raise self._engine.unknown(cf, "snapshot")
        return pinned

    def _found(self, state: State, cf: str) -> Pinned | None:
        pinned = state.pinned.get(cf)
        if pinned is None:
            with self._lock:
                pinned = state.pinned.get(cf)
                natives = state.unused.pop(cf, None)
                if pinned is None and natives is not None:
                    pinned = state.pinned[cf] = self._pinned(cf, natives)
        return pinned

    def advance(self, families: Iterable[str]) -> int:
        """Called under the commit lock just before a write to ``families``: pin them; return the write's number."""
        number = self.sequence + 1
        before = self._before = {cf: self.changed.get(cf, 0) for cf in families}
        try:
            self.sequence = number
            self.changed.update(dict.fromkeys(before, number))
            wanted = self._synced and self._demand > 0
            if wanted:
                self._demand -= 1
            keeping = []
            for state in self._readable():
                if state.kept < number - 1:
                    continue  # nobody holds it, and it was not wanted before: who takes it waits for another
                if state.holders or (wanted and (state is self._current or state is self._candidate)):
                    keeping.append(state)
                else:
                    state.drop()
            for cf, changed in before.items():
                self._keep(cf, [state for state in keeping if state.sequence >= changed])
            for state in keeping:
                state.kept = number
        except BaseException:
            # Interrupted: nothing is written, so what was pinned is as the live database still.
            self.sequence = number
            self.retreat()
            raise
        return number

    def _readable(self) -> set[State]:
        """The states that snapshots are of, or may be of."""
        return {self._current, self._candidate or self._current, *self._held}

    def created(self, cf: str) -> None:
        """Called under the commit lock: a family was made, which older states do not have."""
        self.changed[cf] = self.sequence

    def retreat(self) -> None:
        """Called under the commit lock: the write that :meth:`advance` announced changed nothing."""
        self.sequence -= 1
        self.changed.update(self._before)
        for state in self._readable():
            state.kept = min(state.kept, self.sequence)

    def _keep(self, cf: str, states: list[State]) -> None:
        """Pin a family for states that are of it as it is now."""
        family = self._engine.known.get(cf)
        states = [state for state in states if cf not in state.unused and cf not in state.pinned]
        if family is None or not states:
            return
        self._keeping.update(states)
        natives = self._natives(family.rdict)
        if len(states) == 1:
            # Most are never looked at: no more than the driver's objects is made here.
            states[0].unused[cf] = natives
            return
        pinned = self._pinned(cf, natives)
        for state in states:
            state.pinned[cf] = pinned

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
        for state in list(self._keeping):
            state.drop()
        for pinned in list(self._all):
            pinned.release()

    def natives(self) -> list[object]:
        """The driver's objects that are held."""
        states = list(self._keeping)
        pinned = [native for state in states for pinned in state.pinned.values() for native in pinned.natives]
        return pinned + [native for state in states for natives in state.unused.values() for native in natives]
