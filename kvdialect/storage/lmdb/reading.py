"""Reading LMDB: snapshots are read transactions, scans are cursors."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final

import lmdb

from kvdialect import exc
from kvdialect.storage.batch import check_key, check_keys
from kvdialect.storage.contract import Pair, check_bounds
from kvdialect.storage.engine import EngineSnapshot, ErrorMaker, Scan
from kvdialect.storage.lmdb import checksums
from kvdialect.storage.lmdb.errors import damaged, hidden, translate
from kvdialect.storage.lmdb.families import EPOCH, Family
from kvdialect.storage.ranges import successor

if TYPE_CHECKING:
    from kvdialect.storage.lmdb.engine import LmdbEngine


class _Ended:
    """Stands where a transaction was."""

    def get(self, *_: object) -> Any:
        raise lmdb.BadTxnError("the transaction is over")

    cursor = get

    def abort(self) -> None:
        return


_ENDED: Final[Any] = _Ended()


class LmdbSnapshot(EngineSnapshot):
    """A read transaction.

    The driver reads without Python's lock, and LMDB wants one thread at a time in a transaction: another one that
    reads, or ends it (close, max_snapshot_age), crashes the process. So each use of the transaction and its cursors,
    its beginning and its end, is under a lock of the snapshot's own.
    """

    engine: LmdbEngine

    checked = False

    def __init__(self, engine: LmdbEngine) -> None:
        self.closed = True  # until there is something to release
        super().__init__(engine)
        self._using = threading.Lock()
        live, resizing = engine.live, engine.resizing
        # It goes with the snapshot by itself, wherever an exception out of nowhere cuts the ways short that remove it.
        announced = self._announced = weakref.ref(self, live.discard)
        try:
            with self._using:
                # Announce first, look second: so either this thread sees the resize, or the resize sees the snapshot.
                live.add(announced)
                while True:
                    while resizing.locked():
                        live.discard(announced)
                        with resizing:
                            pass
                        live.add(announced)
                    # Before the transaction: what was opened for it was opened before that.
                    epoch, settled = engine.epoch, engine.settled
                    try:
                        self._txn = engine.begin_read(adopt=False)
                    except lmdb.MapResizedError:
                        # The resize waits until no snapshot is announced, this one included.
                        live.discard(announced)
                        engine.adopt_map_size()
                        live.add(announced)
                        continue
                    self.moment = self._txn.id()
                    if self.moment == settled:
                        break
                    if self._txn.get(EPOCH, None, engine.own) == epoch:
                        engine.settled = self.moment
                        break
                    # Another process has made or dropped families. A transaction knows only databases that were opened
                    # in this process before it began.
                    self._txn.abort()
                    live.discard(announced)
                    engine.refresh_families()
                    live.add(announced)
        except BaseException:
            vars(self).pop("_txn", None)
            live.discard(announced)
            raise
        # The stubs allow for memoryviews, which only buffers=True gives.
        self._read = self._txn.get
        self._families = engine.known
        self.closed = False

    def get(self, cf: str, key: bytes) -> bytes | None:
        if key.__class__ is not bytes:
            check_key(key, cf)
        try:
            family = self._families[cf]
            with self._using:
                value = self._read(family.tag + key, None, family.db)
        except (lmdb.Error, TypeError) as error:
            if self._renewed(error):
                return self.get(cf, key)
            raise self._failure(cf, key, error) from error
        if value is None:
            check_key(key, cf)
        return value  # type: ignore[no-any-return]

    def _failure(self, cf: str, key: bytes, error: Exception) -> Exception:
        self._refuse_closed(cf)
        check_key(key, cf)
        return error if isinstance(error, TypeError) else translate(self.engine, error, "get", cf=cf, key=key)

    def _refuse_closed(self, cf: str) -> None:
        """Raise what the snapshot was ended for, if another thread has ended it during a call."""
        if self.closed:
            vars(self)["get"](cf, b"")

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        self._refuse_closed(cf)  # a method fetched before the end, or before a fork
        family = self._families[cf]
        keys = list(keys)
        tag = family.tag
        if not set(map(type, keys)) <= {bytes}:
            check_keys(keys, cf)
        try:
            wanted = [tag + key for key in keys] if tag else keys
            with self._using:
                found: Any = self._txn.cursor(family.db).getmulti(wanted)
        except lmdb.Error as error:
            if self._renewed(error):
                return self.multi_get(cf, keys)
            self._refuse_closed(cf)
            check_keys(keys, cf)
            raise translate(self.engine, error, "multi_get", cf=cf) from error
        if len(found) == len(wanted):
            raws = [raw for _, raw in found]
        else:
            check_keys(keys, cf)
            by_key = dict(found)
            raws = [by_key.get(key) for key in wanted]
        if not self.checked:
            return raws
        if self.engine.doubts and not self.tolerant:
            with self._using:
                refuse_missing(self.engine, self._txn, family, keys, raws)
        return verify_all(self.engine, family, keys, raws)

    def check_family(self, cf: str) -> None:
        self._families[cf]

    def first_pairs(
        self, cf: str, start: bytes, stop: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[Pair]:
        check_bounds(start, stop)
        self._refuse_closed(cf)
        family = self._families[cf]
        if stop is not None and start >= stop:
            return []
        low, high = _bounds(family, start, stop)
        try:
            with self._using:
                chunk = list(islice(_pairs(self._txn, family, low, high, reverse), limit))
                if self.engine.doubts and not self.tolerant and self.engine.doubtful(self._txn, family, low, high):
                    raise hidden(self.engine, cf, None)
        except lmdb.Error as error:
            if self._renewed(error):
                return self.first_pairs(cf, start, stop, limit, reverse=reverse)
            self._refuse_closed(cf)
            raise translate(self.engine, error, "scan", cf=cf) from error
        return _plain(self.engine, family, chunk, self.checked)

    def open_scan(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> LmdbScan:
        self._refuse_closed(cf)
        family = self._families[cf]
        try:
            with self._using:
                scan = LmdbScan(self.engine, family, self._txn, start, stop, reverse, self.checked, self._using)
                if self.engine.doubts and not self.tolerant:
                    scan.refuse_doubtful(self._txn)
                return scan
        except exc.Error as error:
            if self._renewed(error.__cause__):
                return self.open_scan(cf, start, stop, reverse)
            self._refuse_closed(cf)
            raise

    def _renewed(self, error: BaseException | None) -> bool:
        """Begin the transaction anew that LMDB has given up since it came upon damage, if the store has not changed.

        What is not damaged can be read on.
        """
        if not isinstance(error, lmdb.BadTxnError) or self.closed:
            return False
        with self._using:
            if self.closed or self._txn is _ENDED:
                return False
            txn = self.engine.begin_read(adopt=False)
            if txn.id() != self.moment or self.closed:
                txn.abort()
                return False
            self._txn.abort()
            self._txn, self._read = txn, txn.get
            return True

    def another(self, txn: lmdb.Transaction, error: BaseException) -> lmdb.Transaction | None:
        """The transaction in the place of one that a scan has failed in; None if it is no other."""
        if self._txn is txn and not self._renewed(error):
            return None
        return None if self.closed else self._txn

    def release(self) -> None:
        with self._using:
            self._txn.abort()
            self._let_go()

    def _let_go(self) -> None:
        # The driver gives the reader's slot back with the object.
        self._txn = _ENDED
        if "_refuse" not in vars(self):  # which stands there already
            self._read = _ENDED.get
        self.engine.live.discard(self._announced)

    def kill_unused(self, error: ErrorMaker) -> bool:
        """As :meth:`kill`; False, and nothing is done, if a thread is in the transaction just now.

        It ends too what an exception has kept :meth:`release` from ending.
        """
        if not self._using.acquire(blocking=False):
            return False
        try:
            vars(self).pop("_held", None)
            self.kill(error)
            self._txn.abort()
            self._let_go()
        finally:
            self._using.release()
        return True

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Nobody ends the snapshot, or the environment, for as long as the context is open."""
        with self._using:
            yield


class CheckedLmdbSnapshot(LmdbSnapshot):
    """A read transaction on a store with checksums."""

    checked = True

    def get(self, cf: str, key: bytes) -> bytes | None:
        if key.__class__ is not bytes:
            check_key(key, cf)
        try:
            family = self._families[cf]
            with self._using:
                raw = self._read(family.tag + key, None, family.db)
        except (lmdb.Error, TypeError) as error:
            if self._renewed(error):
                return self.get(cf, key)
            raise self._failure(cf, key, error) from error
        if raw is None:
            check_key(key, cf)
            if self.engine.doubts and not self.tolerant:
                with self._using:
                    self.engine.refuse_doubtful(self._txn, family, key)
            return None
        try:
            return checksums.value(key, raw, family.seed)
        except ValueError:
            raise damaged(self.engine, cf, key) from None


class LmdbScan(Scan):
    """A cursor over a range of one family."""

    __slots__ = ("_bounds", "_checked", "_engine", "_family", "_last", "_pairs", "_reverse", "_txn", "_using")

    def __init__(
        self,
        engine: LmdbEngine,
        family: Family,
        txn: lmdb.Transaction,
        start: bytes,
        stop: bytes | None,
        reverse: bool,
        checked: bool,
        using: threading.Lock,
    ) -> None:
        super().__init__()
        self._using = using
        self._engine, self._family, self._checked = engine, family, checked
        self._txn: lmdb.Transaction | None = txn
        self._reverse = reverse
        self._last: bytes | None = None
        self._bounds = low, high = _bounds(family, start, stop)
        try:
            self._pairs = _pairs(txn, family, low, high, reverse)
        except lmdb.Error as error:
            raise translate(engine, error, "scan", cf=family.name) from error

    def refuse_doubtful(self, txn: lmdb.Transaction) -> None:
        """Raise Corruption if the range may lack a record."""
        if self._engine.doubtful(txn, self._family, *self._bounds):
            raise hidden(self._engine, self._family.name, None)

    def read(self, size: int) -> list[Pair]:
        try:
            with self._using:
                chunk = list(islice(self._pairs, size))
            if self._error is not None:
                raise self._error()  # another thread ended the scan: an empty chunk is not the end of the range
        except lmdb.Error as error:
            if self._error is not None:
                raise self._error() from error
            if self.snapshot is not None and self.snapshot.closed:
                self.snapshot.get(self._family.name, b"")  # it ended before it knew of this scan; this says why
            try:
                if self._resumed(error):
                    return self.read(size)
            except lmdb.Error as another:
                error = another
            raise translate(self._engine, error, "scan", cf=self._family.name) from error
        if chunk:
            self._last = chunk[-1][0]
        return _plain(self._engine, self._family, chunk, self._checked)

    def _resumed(self, error: lmdb.Error) -> bool:
        """Go on behind the last pair in a transaction begun anew, where this one has ended by damage elsewhere."""
        snapshot, txn = self.snapshot, self._txn
        if not isinstance(snapshot, LmdbSnapshot) or txn is None:
            return False
        other = snapshot.another(txn, error)
        if other is None:
            return False
        low, high = self._bounds
        if self._last is not None:
            low, high = (low, self._last) if self._reverse else (self._last + b"\0", high)
        self._txn = other
        try:
            with self._using:
                self._pairs = _pairs(other, self._family, low, high, self._reverse)
        except lmdb.BadTxnError as again:
            return self._resumed(again)
        return True

    def release(self) -> None:
        self._pairs = iter(())
        self._txn = None


def _bounds(family: Family, start: bytes, stop: bytes | None) -> tuple[bytes, bytes | None]:
    """The bounds of a range of a family, in its database."""
    tag = family.tag
    return tag + start, successor(tag) if stop is None else tag + stop


def _pairs(txn: lmdb.Transaction, family: Family, low: bytes, high: bytes | None, reverse: bool) -> Iterator[Any]:
    """What the database has from ``low`` on and below ``high``, as it is stored.

    LMDB's cursors have no upper bound. The bound is tested in C all the same: ``(high,) > (key, value)`` holds exactly
    while ``key < high``, as of two tuples with equal first items the shorter one is the lesser.
    """
    cursor = txn.cursor(family.db)
    if reverse:
        pairs: Iterator[Any] = cursor.iterprev() if _seek_below(cursor, high) else iter(())
        return takewhile((low,).__le__, pairs) if low else pairs
    found = _seek(cursor, low) if low else cursor.first()
    pairs = cursor.iternext() if found else iter(())
    return takewhile((high,).__gt__, pairs) if high is not None else pairs


def _plain(engine: LmdbEngine, family: Family, chunk: list[Pair], checked: bool) -> list[Pair]:
    """Pairs as they were put, after testing their checksums."""
    tagged = len(family.tag)
    if not checked:
        return [(key[tagged:], value) for key, value in chunk] if tagged else chunk
    try:
        return checksums.pairs(chunk, tagged, family.seed)
    except ValueError as error:
        raise damaged(engine, family.name, chunk[error.args[0]][0][tagged:]) from None


def _seek(cursor: lmdb.Cursor, bound: bytes) -> bool:
    """Place the cursor on the first key that is not below ``bound``; False if there is none.

    LMDB refuses to look for more than 511 bytes, the length of its longest key; a longer bound is above such a key.
    """
    found = cursor.set_range(bound[:511])
    return cursor.next() if found and len(bound) > 511 and cursor.key() == bound[:511] else found


def _seek_below(cursor: lmdb.Cursor, bound: bytes | None) -> bool:
    """Place the cursor on the last key below ``bound``; False if there is none."""
    if bound is None or not _seek(cursor, bound):
        return cursor.last()
    return cursor.prev()


def refuse_missing(
    engine: LmdbEngine, txn: lmdb.Transaction, family: Family, keys: list[bytes], raws: list[bytes | None]
) -> None:
    """Raise Corruption if a key without a value may be that of a damaged pair."""
    for key, raw in zip(keys, raws, strict=True):
        if raw is None:
            engine.refuse_doubtful(txn, family, key)


def verify_all(engine: LmdbEngine, family: Family, keys: list[bytes], raws: list[bytes | None]) -> list[bytes | None]:
    """The values in ``raws``, each after testing its checksum."""
    try:
        return checksums.values(keys, raws, family.seed)
    except ValueError as error:
        raise damaged(engine, family.name, keys[error.args[0]]) from None
