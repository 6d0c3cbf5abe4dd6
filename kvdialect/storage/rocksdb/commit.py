"""Committing to RocksDB: one native batch each, one sync of the log for all that wait.

The write goes to the write-ahead log without sync, under the commit lock, which guards the expectations too. Then one
thread syncs the log for all that wrote before it: ``flush_wal`` releases the interpreter's lock, a synced write keeps
it for as long as the disk takes.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import rocksdict

from kvdialect import exc
from kvdialect.storage import expectations, tokens
from kvdialect.storage.batch import Deletion, WriteBatch
from kvdialect.storage.contract import Pair
from kvdialect.storage.group import Group, Request, Withdrawn
from kvdialect.storage.interrupts import POLL, HeldInterrupts, undisturbed
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.rocksdb.abandoned import stop_writing
from kvdialect.storage.rocksdb.errors import disk_full, stall
from kvdialect.storage.rocksdb.reading import RocksDBScan

if TYPE_CHECKING:
    from kvdialect.storage.rocksdb.engine import Family, RocksDBEngine

# Key of the number of a writer's last commit, in the library's own family.
_TOKEN: Final = b"\xfft"
_STALL_SECONDS: Final = 60.0
_LITTLE_SPACE: Final = 256 << 20
_ATTENTION: Final = 0.005
"""Seconds after which a commit looks whether the store is where it was: at each it would be a sixth of a small one."""


class _Sync(Request):
    """A thread that waits until write number ``sequence`` is on disk, which ``token`` stands for if it is its own."""

    __slots__ = ("sequence", "token")

    def __init__(self, sequence: int, token: bytes | None = None) -> None:
        super().__init__()
        self.sequence = sequence
        self.token = token


class _Attempt:
    """How far a commit has come."""

    __slots__ = ("durable", "sequence", "token", "written")

    def __init__(self) -> None:
        self.sequence = 0
        self.token = b""
        self.written = False
        self.durable = False


def _with_interrupt(failure: exc.Error) -> exc.CommitInterrupted:
    """A commit failed and Ctrl-C came too: the interrupt goes on, with what is known of the commit."""
    return exc.CommitInterrupted(f"interrupted during a commit that failed: {failure.message}", **failure.facts)


class Committer:
    """Writes batches to one database.

    Attributes:
        failed: why the database can no longer be written, or None.
        moved: that the store is not at its path any more, or None. What is under way goes on: the log is held open.
    """

    def __init__(self, engine: RocksDBEngine) -> None:
        self._engine = engine
        self._synced = engine.options.durability == "sync"
        self._syncs: Group[_Sync] = Group()
        self._durable = 0
        self._writer_id = secrets.token_bytes(8)
        self._own_writers = {self._writer_id}
        # RocksDB tries every five seconds whether there is room again; meanwhile its log has "previous error".
        self._disk_full = False
        self.failed: str | None = None
        self.moved: str | None = None
        self.looked = 0.0
        self._options = rocksdict.WriteOptions()
        self._options.sync = False
        self._options.no_slowdown = True
        # The driver's stub calls it a method; it is a property.
        setattr(self._options, "disable_wal", engine.options.durability == "none")  # noqa: B010

    def commit(self, batch: WriteBatch) -> None:
        """Apply a batch and return when it is as durable as the store was asked to be."""
        failure: exc.Error | None = None
        attempt = _Attempt()
        with HeldInterrupts() as interrupts:
            try:
                if len(batch):
                    self._commit(batch, attempt, interrupts)
                else:
                    with self.locked("batch_write", interrupts):
                        self._check_expectations(batch)
            except exc.Error as error:
                failure = error
            except KeyboardInterrupt as error:
                if not attempt.sequence:
                    raise  # nothing was written
                raise undisturbed(lambda: self._interrupted(attempt)) from error
        if interrupts.pending:
            try:
                interrupts.deliver()
            except KeyboardInterrupt as error:
                raise undisturbed(
                    lambda: self._interrupted(attempt) if failure is None else _with_interrupt(failure)
                ) from error
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or error, traceback and this frame would keep each other, and the driver's objects

    def _commit(self, batch: WriteBatch, attempt: _Attempt, interrupts: HeldInterrupts) -> None:
        engine = self._engine
        families = engine.known
        # The driver's batch is built before the lock is taken, unless it depends on what is read under the lock.
        native = None if batch.adds else self._native_batch(families, batch.changes)
        stalled = 0.0
        try:
            while not attempt.written:
                with self.locked("batch_write", interrupts):
                    self._check_expectations(batch)
                    if native is None or engine.known is not families:
                        for cf in batch.families():
                            engine.family(cf, "batch_write")
                        changes: Any = expectations.resolve(batch, _Live(engine)) if batch.adds else batch.changes
                        native = self._native_batch(engine.known, changes)
                    self._write(native, batch, attempt)
                if not attempt.written:
                    native = None  # the driver has used it up
                    stalled = stalled or time.monotonic()
                    self._wait_out(stalled, interrupts)
            if self._synced:
                self._sync(_Sync(attempt.sequence, attempt.token), interrupts)
                attempt.durable = True
            else:
                engine.counters["commits"] += 1
                self._disk_full = False
        finally:
            # The driver's batch keeps the database open, and a traceback would keep the batch.
            native = None

    def _write(self, native: rocksdict.WriteBatch, batch: WriteBatch, attempt: _Attempt) -> None:
        """Write a batch, under the commit lock; ``attempt.written`` stays False if RocksDB stalls."""
        engine = self._engine
        try:
            sequence = attempt.sequence = engine.states.advance((*batch.changes, RESERVED_FAMILY))
            attempt.token = self._token(sequence)
            native.put(
                _TOKEN + attempt.token[:8],
                tokens.written(sequence),
                engine.known[RESERVED_FAMILY].handle,
            )
            try:
                engine.database.write(native, self._options)
            except Exception as error:  # noqa: BLE001 - the driver raises nothing narrower; this raises ours
                if not stall(error):
                    self._write_failed(error, attempt.token)
                engine.states.retreat()
                attempt.sequence = 0
                return
            attempt.written = True
            engine.counters["batches"] += 1
        finally:
            del native  # a traceback would keep it, and it the database

    def _wait_out(self, since: float, interrupts: HeldInterrupts) -> None:
        """Wait a little, as RocksDB stalls writes until memtables are flushed or files compacted.

        Left to itself the driver would wait within the write, with the interpreter's lock held: for ever where the
        disk is full and the flush cannot be done.
        """
        engine = self._engine
        interrupts.deliver()
        waited = time.monotonic() - since
        facts = engine.facts("batch_write", waited=waited)
        if waited > 1.0 and engine.background_errors() and _free_bytes(engine.path) < _LITTLE_SPACE:
            self._disk_full = True
            raise exc.DiskFull(
                "the disk is full: RocksDB cannot flush its memtables; free space and try again", **facts
            )
        limit = engine.options.lock_timeout
        if waited > (_STALL_SECONDS if limit is None else limit):
            raise exc.BackendError(
                f"RocksDB has stalled writes for {waited:.0f} s, as flushes or compactions are behind; nothing was"
                " applied, try again later (or give more max_background_jobs, or larger write buffers)",
                retryable=True,
                **facts,
            )
        time.sleep(0.0005 if waited < 0.01 else 0.005)

    def _interrupted(self, attempt: _Attempt) -> exc.CommitInterrupted:
        if attempt.durable or not self._synced:
            what = "it is applied"
        elif attempt.written:
            what = "it is applied, and on disk with the next commit"
        else:
            what = "reopening decides its outcome"
        self._retire(attempt.token)
        return exc.CommitInterrupted(
            f"interrupted during the commit; {what}",
            **self._engine.facts(
                "batch_write", token=attempt.token, outcome="applied" if attempt.written else "unknown"
            ),
        )

    def _native_batch(self, families: Mapping[str, Family], changes: Mapping[str, Any]) -> rocksdict.WriteBatch:
        native = rocksdict.WriteBatch(raw_mode=True)
        for cf, family_changes in changes.items():
            # With a default family the driver clones no handle per key, which saves a third of the time.
            family = families.get(cf)
            if family is None:  # dropped by another thread since the batch was looked at
                raise self._engine.unknown(cf, "batch_write")
            native.set_default_column_family(family.handle)
            if Deletion in set(map(type, family_changes.values())):
                for key, change in family_changes.items():
                    if change.__class__ is Deletion:
                        del native[key]
                    else:
                        native[key] = change
            else:
                for key, change in family_changes.items():
                    native[key] = change
        return native

    def _check_expectations(self, batch: WriteBatch) -> None:
        if batch.expectations or batch.ranges:
            try:
                expectations.check_expectations(batch, _Live(self._engine), self._engine.facts("batch_write"))
            except exc.ConflictError:
                self._engine.counters["conflicts"] += 1
                raise

    def sync(self, sequence: int) -> None:
        """Return when write number ``sequence`` is on disk: the first to come syncs for all that wrote before."""
        if self._durable >= sequence:
            return
        with HeldInterrupts() as held:
            self._sync(_Sync(sequence), held)
        held.deliver()

    def _sync(self, request: _Sync, interrupts: HeldInterrupts) -> None:
        if self._durable >= request.sequence or not self._join(request, interrupts):
            return
        reached: list[_Sync] = []
        try:
            if self._durable < request.sequence:
                self._sync_log(request.token)
            reached = self._syncs.take(lambda waiting: waiting.sequence <= self._durable)
        finally:
            self._syncs.finish(reached, request)

    def _join(self, request: _Sync, interrupts: HeldInterrupts) -> bool:
        while True:
            try:
                return self._syncs.join(request, None, interrupts)
            except Withdrawn:
                interrupts.deliver()

    def _sync_log(self, token: bytes | None) -> None:
        engine = self._engine
        if self.failed is not None:
            raise exc.ReopenRequired(self.failed, **engine.facts("batch_write", outcome="unknown", token=token))
        with engine.commit_lock:
            reached = engine.states.prepare()
        if engine.closed:
            self._raise_failure(engine.shut("batch_write"), token)
        try:
            engine.database.flush_wal(True)
        except Exception as error:  # noqa: BLE001 - the driver raises nothing narrower; this raises ours
            self._sync_failed(error, token)
        engine.counters["commits"] += 1
        self._disk_full = False
        self._durable = reached.sequence
        engine.states.publish(reached)

    def look(self, now: float) -> None:
        """Called under the commit lock: notice that the store was moved, as RocksDB makes its next files by path."""
        self.looked = now
        engine = self._engine
        if self.moved is None and engine.location is not None and not engine.closed and not engine.location.holds():
            self.moved = engine.elsewhere("nothing was written")
            stop_writing(engine.database, logged=engine.logged)

    def settle(self) -> None:
        """Return when snapshots are of the families as they are now."""
        if self._synced:
            self.sync(self._engine.states.sequence)

    def locked(self, operation: str, interrupts: HeldInterrupts) -> _Locked:
        """Hold the commit lock for a ``with`` block within one that holds Ctrl-C back."""
        return _Locked(self, self._engine, operation, interrupts)

    @contextlib.contextmanager
    def exclusive(self, operation: str) -> Iterator[None]:
        """Hold the commit lock, for what is no commit."""
        with HeldInterrupts() as interrupts:
            try:
                with self.locked(operation, interrupts):
                    yield
            finally:
                interrupts.deliver()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Hold all locks: no commit and no sync is under way, and what was written is on disk if that can be had."""
        engine = self._engine
        with HeldInterrupts() as interrupts:
            request = _Sync(sys.maxsize)  # which no sync reaches, so that it ends up leading
            self._join(request, interrupts)
            try:
                engine.commit_lock.acquire()
                try:
                    while self._synced and self._durable < engine.states.sequence and self.failed is None:
                        # A commit that was written and waits behind this for its sync: it would find no database.
                        engine.commit_lock.release()
                        try:
                            self._sync_log(None)
                        except exc.Error:
                            break  # it will be told
                        finally:
                            engine.commit_lock.acquire()
                    yield
                finally:
                    engine.commit_lock.release()
            finally:
                self._syncs.finish([], request)
                interrupts.deliver()

    # ---- tokens and outcomes

    def _token(self, sequence: int) -> bytes:
        return self._writer_id + sequence.to_bytes(8, "big")

    def _retire(self, token: bytes | None) -> None:
        """The outcome of a commit is open: later ones leave its token alone, or it were taken for one of them."""
        if token is not None and token[:8] == self._writer_id:
            self._writer_id = secrets.token_bytes(8)
            self._own_writers.add(self._writer_id)

    def _write_failed(self, error: Exception, token: bytes) -> None:
        if self._full(error):
            # Nothing reached the memtables, so readers have nothing to wait for.
            self._engine.states.retreat()
        # What failed may yet be in the log and come back on reopening.
        self._raise_failure(error, token)

    def _sync_failed(self, error: Exception, token: bytes | None) -> None:
        if not self._full(error):
            self.failed = (
                f"RocksDB could not sync its log ({error}); close the store and open it again"
                " (all that was acknowledged is there)"
            )
        self._raise_failure(error, token)

    def lost(self, error: Exception) -> None:
        """Making or dropping a family has failed: only reopening tells whether RocksDB's manifest has it."""
        if not disk_full(error) and not str(error).startswith(("IO error", "Corruption")):
            return  # it was refused
        self.failed = (
            f"RocksDB failed as it made or dropped a column family ({error}); close the store and open it again (all"
            " that was acknowledged is there)"
        )

    def _full(self, error: Exception) -> bool:
        if disk_full(error):
            self._disk_full = True
        return self._disk_full

    def _raise_failure(self, error: Exception, token: bytes | None) -> None:
        self._retire(token)
        facts = self._engine.facts("batch_write", token=token, outcome="unknown", engine_message=str(error))
        if self._disk_full:
            raise exc.DiskFull(
                f"the disk is full: {error}; free space and try again (RocksDB resumes some seconds after there is room"
                " for a write buffer)",
                **facts,
            ) from error
        raise exc.CommitOutcomeUnknown(
            f"the commit failed in the engine: {error}; after reopening, commit_outcome(token) says whether it was"
            " applied",
            **facts,
        ) from error

    def outcome(self, token: bytes) -> exc.Outcome:
        """What became of the commit that ``token`` stands for."""
        if not isinstance(token, bytes) or len(token) != 16:
            raise exc.ArgumentError(f"{token!r} is no commit token; one is the 16 bytes of CommitOutcomeUnknown.token")
        if token[:8] in self._own_writers:
            return "unknown"  # the log may hold what the memtables do not; reopening decides
        raw = self._engine.get(RESERVED_FAMILY, _TOKEN + token[:8])
        reached = tokens.reached(raw, **self._engine.facts("commit_outcome"))
        return "applied" if reached >= int.from_bytes(token[8:], "big") else "not_applied"

    def sweep(self) -> None:
        """Remove the tokens of writers long gone."""
        old = WriteBatch()
        scan = RocksDBScan(self._engine, None, RESERVED_FAMILY, _TOKEN, None, False)
        for key in tokens.outdated(pair for chunk in scan for pair in chunk):
            old.delete(RESERVED_FAMILY, key)
        if old:
            self.commit(old)


def _free_bytes(path: str) -> int:
    """Bytes free on the disk of the store."""
    return shutil.disk_usage(path).free


class _Locked:
    """Holds the commit lock. A class, as a generator would cost three times as much on every commit."""

    __slots__ = ("_committer", "_engine", "_interrupts", "_operation")

    def __init__(self, committer: Committer, engine: RocksDBEngine, operation: str, interrupts: HeldInterrupts) -> None:
        self._committer, self._engine, self._operation = committer, engine, operation
        self._interrupts = interrupts

    def __enter__(self) -> None:
        engine = self._engine
        if not engine.commit_lock.acquire(blocking=False):
            self._wait()
        committer, now = self._committer, time.monotonic()
        if now - committer.looked >= _ATTENTION or self._operation != "batch_write":
            committer.look(now)
        failed = committer.failed or committer.moved
        if failed is not None or engine.closed:
            engine.commit_lock.release()
            if failed is None:
                raise engine.shut(self._operation)
            raise exc.ReopenRequired(failed, **engine.facts(self._operation))

    def _wait(self) -> None:
        engine = self._engine
        deadline = time.monotonic() + engine.options.write_timeout
        while not engine.commit_lock.acquire(timeout=max(min(deadline - time.monotonic(), POLL), 0.0)):
            self._interrupts.deliver()
            if time.monotonic() >= deadline:
                raise exc.LockTimeout(
                    f"{engine.path} is held by another thread for longer than lock_timeout,"
                    f" {engine.options.write_timeout:g} s; nothing was applied, try again",
                    **engine.facts(self._operation),
                )

    def __exit__(self, *_: object) -> None:
        self._engine.commit_lock.release()


class _Live:
    """The live database, for expectations and additions under the commit lock."""

    def __init__(self, engine: RocksDBEngine) -> None:
        self._engine = engine

    def multi_get(self, cf: str, keys: list[bytes]) -> list[bytes | None]:
        return self._engine.multi_get(cf, keys)

    def scan(self, cf: str, start: bytes, stop: bytes | None) -> Iterator[Pair]:
        if stop is not None and start >= stop:
            return
        for chunk in RocksDBScan(self._engine, None, cf, start, stop, False):
            yield from chunk
