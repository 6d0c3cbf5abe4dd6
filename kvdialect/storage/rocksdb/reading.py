"""Reading RocksDB: snapshots are shares of a state, scans are native iterators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import rocksdict

from kvdialect import exc
from kvdialect.storage.batch import check_key, check_keys
from kvdialect.storage.contract import Pair, check_bounds
from kvdialect.storage.engine import EngineSnapshot, Scan
from kvdialect.storage.ranges import successor
from kvdialect.storage.rocksdb.errors import pass_foreign, translate
from kvdialect.storage.rocksdb.states import Pinned, State, incomplete

if TYPE_CHECKING:
    from kvdialect.storage.rocksdb.engine import RocksDBEngine


_STEPPED: Final = 64
"""Pairs that a bare iterator, which takes three calls for each, reads faster than one that has to be verified."""


class RocksDBSnapshot(EngineSnapshot):
    """A share of a :class:`~kvdialect.storage.rocksdb.states.State`."""

    engine: RocksDBEngine

    def __init__(self, engine: RocksDBEngine) -> None:
        self.closed = True  # until there is something to release
        super().__init__(engine)
        self._states = engine.states
        self._state = engine.states.take()
        if engine.options.mode == "rw":
            self.moment = self._state.sequence  # others write behind the back of a reader
        self.closed = False
        self._gets = engine.gets

    def get(self, cf: str, key: bytes) -> bytes | None:
        # The live database answers as long as no write to the family has begun; that is tested again after the read.
        states, state = self._states, self._state
        if state.sequence == states.sequence or states.unchanged(state, cf):
            try:
                value = self._gets[cf](key)
            except Exception as error:
                raise self.engine.read_error(error, "get", cf, key) from error
            if state.sequence == states.sequence or states.unchanged(state, cf):
                if value.__class__ is bytes:
                    return value
                check_key(key, cf)
                return None
        pinned = self._pin(cf)
        check_key(key, cf)
        return pinned.get(key)

    def _pin(self, cf: str) -> Pinned:
        try:
            return self._states.pin(self._state, cf)
        except exc.UnknownColumnFamily:
            raise self.unknown(cf) from None

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        states, state = self._states, self._state
        keys = list(keys)
        if states.unchanged(state, cf):
            values = self.engine.multi_get(cf, keys)
            if states.unchanged(state, cf):
                return values
        pinned = self._pin(cf)
        check_keys(keys, cf)
        return [pinned.get(key) for key in keys]

    def check_family(self, cf: str) -> None:
        self._pin(cf)

    def open_scan(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> RocksDBScan:
        try:
            return RocksDBScan(self.engine, self._state, cf, start, stop, reverse)
        except exc.UnknownColumnFamily:
            self._pin(cf)
            raise

    def first_pairs(
        self, cf: str, start: bytes, stop: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[Pair]:
        check_bounds(start, stop)
        if reverse or (stop is not None and start >= stop):
            return super().first_pairs(cf, start, stop, limit, reverse=reverse)
        some = min(limit, _STEPPED)
        pairs = self._stepped(cf, start, stop, some)
        if pairs is None:
            return super().first_pairs(cf, start, stop, limit)
        if len(pairs) == some < limit:
            pairs += super().first_pairs(cf, pairs[-1][0] + b"\0", stop, limit - some)
        return pairs

    def _stepped(self, cf: str, start: bytes, stop: bytes | None, limit: int) -> list[Pair] | None:
        """The first pairs by a bare iterator, which says itself whether it broke off; None if the state is not live."""
        engine = self.engine
        if self.closed:
            self._refuse()
        if not self._states.unchanged(self._state, cf):
            return None
        family = engine.family(cf, "scan")
        options = _options(family.prefix_length, start, stop)
        pairs: list[Pair] = []
        iterator: Any = family.rdict.iter(options)
        key, value, following = iterator.key, iterator.value, iterator.next
        try:
            if not self._states.unchanged(self._state, cf):
                return None
            if start:
                iterator.seek(start)
            else:
                iterator.seek_to_first()
            for _ in range(limit):
                found = key()
                if found is None:  # it is not valid any more
                    iterator.status()
                    break
                pairs.append((found, value()))
                following()
        except Exception as error:
            pass_foreign(error)
            raise incomplete(engine, cf, pairs[-1][0] if pairs else None, str(error)) from error
        finally:
            del iterator, key, value, following  # in a traceback they would keep the database open
        return pairs

    def release(self) -> None:
        self._states.release(self._state)


class RocksDBScan(Scan):
    """A native iterator over a range of one family.

    The driver's ``items()`` costs half as much as stepping its bare iterator, but hides the iterator's status and ends
    early on a damaged block without a word. So when it ends, a second iterator of the same state goes to the last key
    that was delivered and looks for itself whether anything follows, and for an error.

    Args:
        state: the state to read, or None for the live database under the commit lock.
    """

    __slots__ = ("_cf", "_ended", "_engine", "_last", "_options", "_pairs", "_reverse", "_start", "_state", "_stop")

    def __init__(
        self, engine: RocksDBEngine, state: State | None, cf: str, start: bytes, stop: bytes | None, reverse: bool
    ) -> None:
        super().__init__()
        self._engine, self._state, self._cf = engine, state, cf
        self._start, self._stop, self._reverse = start, stop, reverse
        self._last: bytes | None = None
        self._ended = False
        self._pairs: Iterator[Pair] | None = None
        # The driver gives RocksDB pointers into the bounds, so these options must live as long as the iterator.
        family = engine.known.get(cf)
        self._options = _options(None if family is None else family.prefix_length, start, stop, reverse=reverse)
        if self._is_live():
            family = engine.family(cf, "scan")
            # Without a bound to begin at the driver seeks to the first or, backwards, to the last key in bounds.
            try:
                pairs: Iterator[Any] = family.rdict.items(
                    backwards=reverse, from_key=None if reverse or not start else start, read_opt=self._options
                )
            except Exception as error:
                raise translate(engine, error, "scan", cf=cf) from error
            if self._is_live():
                self._pairs = pairs
                return
            del pairs  # in a traceback it would keep the database open
        assert state is not None
        engine.states.pin(state, cf)

    def _is_live(self) -> bool:
        return self._state is None or self._engine.states.unchanged(self._state, self._cf)

    def read(self, size: int) -> list[Pair]:
        if self._ended:
            return []
        if self._pairs is None:
            chunk = self._read_pinned(size)
        else:
            try:
                chunk = list(islice(self._pairs, size))
            except Exception as error:
                raise translate(self._engine, error, "scan", cf=self._cf) from error
        if chunk:
            self._last = chunk[-1][0]
            if self._reverse and self._last < self._start:
                self._ended = True
                return [pair for pair in chunk if pair[0] >= self._start]
        if len(chunk) < size and self._error is None:  # what another thread has ended is refused, see Scan
            self._ended = True
            if self._pairs is not None:
                self._verify_end()
        return chunk

    def _read_pinned(self, size: int) -> list[Pair]:
        state = self._state
        try:
            if state is None:
                return []
            pinned = self._engine.states.pin(state, self._cf)
        except exc.UnknownColumnFamily:
            if self._error is None:
                raise
            return []  # ended by another thread: Scan says so
        return pinned.read(self._start, self._stop, size, self._last, reverse=self._reverse)

    def _verify_end(self) -> None:
        """Make sure that the range is exhausted and did not break off."""
        error: Exception | None = None
        if self._is_live():
            iterator = self._engine.family(self._cf, "scan").rdict.iter(self._options)
            try:
                if self._is_live():
                    self._step_behind_last(iterator)
                    more = iterator.valid() and not (self._reverse and iterator.key() < self._start)
                    try:
                        iterator.status()
                    except Exception as caught:  # noqa: BLE001 - the driver raises nothing narrower; raised below
                        pass_foreign(caught)
                        error = caught
                else:
                    more = bool(self._read_pinned(1))
            finally:
                del iterator  # in a traceback it would keep the database open
        else:
            more = bool(self._read_pinned(1))
        if error is not None or more:
            raise incomplete(self._engine, self._cf, self._last, str(error or "more keys follow")) from error

    def _step_behind_last(self, iterator: rocksdict.RdictIter) -> None:
        last = self._last
        if self._reverse:
            if last is None:
                iterator.seek_to_last()
            else:
                iterator.seek_for_prev(last)
                if iterator.valid():
                    iterator.prev()
        elif last is None:
            if self._start:
                iterator.seek(self._start)
            else:
                iterator.seek_to_first()
        else:
            iterator.seek(last)
            if iterator.valid():
                iterator.next()

    def release(self) -> None:
        self._pairs = iter(())
        self._state = None


def _options(
    prefix_length: int | None, start: bytes, stop: bytes | None, *, reverse: bool = False
) -> rocksdict.ReadOptions:
    """How a range of a family is read that has a prefix extractor of so many bytes, or none."""
    options = rocksdict.ReadOptions()
    exact = prefix_length is not None and len(start) == prefix_length and stop == successor(start)
    if exact and not reverse:
        # Exactly one full prefix: files whose filter does not know it are skipped. Backwards the driver seeks to the
        # upper bound, which has another prefix, and would find nothing.
        options.set_prefix_same_as_start(True)
    else:
        # Or a family with a prefix extractor finds nothing from a prefix on that is absent.
        options.set_total_order_seek(True)
    if stop is not None:
        options.set_iterate_upper_bound(stop)
    # No lower bound: rocksdict's set_iterate_lower_bound sets the upper one. Backwards, read() looks for the start.
    return options
