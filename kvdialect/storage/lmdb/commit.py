"""Committing to LMDB: waiting batches share one write transaction.

Whoever gets the writer's lock leads: it applies all batches that wait, each with its own expectations, and commits
once. A batch whose expectations fail leaves nothing behind and does not touch the others. The transaction begins, is
filled and ends within one function on one thread, as LMDB's lock belongs to the thread.
"""

from __future__ import annotations

import secrets
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import lmdb

from kvdialect import exc
from kvdialect.storage import expectations, tokens
from kvdialect.storage.batch import Deletion, WriteBatch
from kvdialect.storage.contract import Pair
from kvdialect.storage.group import Group, Request, Withdrawn
from kvdialect.storage.interrupts import HeldInterrupts, undisturbed
from kvdialect.storage.lmdb import checksums
from kvdialect.storage.lmdb.errors import disk_full, translate
from kvdialect.storage.lmdb.families import EPOCH, TOKEN, Family, prefixed
from kvdialect.storage.lmdb.reading import LmdbScan, refuse_missing, verify_all

if TYPE_CHECKING:
    from kvdialect.storage.lmdb.engine import LmdbEngine


_first: Final = itemgetter(0)


class _Request(Request):
    """A batch that waits for its commit, and the token that stands for it in the end."""

    __slots__ = ("batch", "token")

    def __init__(self, batch: WriteBatch) -> None:
        super().__init__()
        self.batch = batch
        self.token: bytes | None = None


class Committer:
    """Writes batches to one environment.

    Attributes:
        failed: why the environment can no longer be written, or None.
    """

    def __init__(self, engine: LmdbEngine) -> None:
        self._engine = engine
        self._group: Group[_Request] = Group()
        self._writer_id = secrets.token_bytes(8)
        self._sequence = 0
        self.failed: str | None = None

    def commit(self, batch: WriteBatch) -> None:
        """Apply a batch, together with whatever else waits."""
        request = _Request(batch)
        with HeldInterrupts() as interrupts:
            if self._join(request, interrupts):
                self._lead(request, interrupts)
        if interrupts.pending:
            self._deliver(interrupts, request)
        if request.error is not None:
            raise request.error

    def _join(self, request: _Request, interrupts: HeldInterrupts) -> bool:
        """Wait until the batch is committed by another thread, or until it is this one's turn to lead: then True."""
        deadline = time.monotonic() + self._engine.options.write_timeout
        while True:
            try:
                return self._group.join(request, max(deadline - time.monotonic(), 0.0), interrupts)
            except Withdrawn:
                if not interrupts.pending:
                    raise self._engine.lock_timeout("another thread of this process") from None
                interrupts.deliver()

    def _deliver(self, interrupts: HeldInterrupts, request: _Request) -> None:
        """Let a Ctrl-C through that came during the commit, with what became of the batch."""
        error = request.error
        try:
            interrupts.deliver()
        except KeyboardInterrupt:
            raise undisturbed(lambda: self._interrupted(request)) from error

    def _interrupted(self, request: _Request) -> exc.CommitInterrupted:
        error = request.error
        outcome: exc.Outcome = "applied" if error is None else getattr(error, "outcome", "not_applied")
        return exc.CommitInterrupted(
            f"interrupted during the commit; the batch was {outcome.replace('_', ' ')}",
            **self._engine.facts(
                "batch_write", outcome=outcome, token=request.token if error is None else getattr(error, "token", None)
            ),
        )

    def _lead(self, own: _Request, interrupts: HeldInterrupts) -> None:
        """Apply all requests that wait, ``own`` among them. Each is done afterwards, whatever happened."""
        engine = self._engine
        group: list[_Request] = []
        try:
            with engine.writing("batch_write", interrupts):
                group = self._group.take()
                self._apply_group(group)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not group:
                raise  # while waiting for another process; the other threads' batches go on without this one
            group = group or self._group.take()
            for request in group:
                if not request.done and request is not own:
                    request.error = self._shared_error(error)
            own.error = self._own_error(own, error)
        finally:
            self._group.finish(group, own)

    def _own_error(self, own: _Request, error: BaseException) -> BaseException | None:
        """What the leader itself gets when its work for the group ends in ``error``."""
        if not own.done or isinstance(error, exc.CommitInterrupted):
            return error
        if isinstance(error, Exception):
            return own.error  # it struck another's batch after this one had ended
        return exc.CommitInterrupted(
            "interrupted after the commit; the batch was applied",
            **self._engine.facts("batch_write", token=self._token(), outcome="applied"),
        )

    def _shared_error(self, error: BaseException) -> exc.Error:
        """What the other threads of a group get when the leader's commit ends in ``error``: an instance each."""
        if isinstance(error, exc.Error) and not isinstance(error, KeyboardInterrupt):
            copy = type(error)(*error.args, **error.facts)
            copy.__cause__ = error.__cause__
            return copy
        outcome = error.outcome if isinstance(error, exc.CommitInterrupted) else "not_applied"
        return exc.BackendError(
            f"the thread that was committing this batch together with its own was stopped: {error!r}",
            **self._engine.facts("batch_write", outcome=outcome, retryable=outcome == "not_applied"),
        )

    def _apply_group(self, group: list[_Request]) -> None:
        try:
            self._apply(group)
        except lmdb.MapFullError as error:
            if self._engine.grow():
                self._apply_group(group)
            elif len(group) == 1:
                raise self._engine.map_full("batch_write", error) from error
            else:
                # One of them is too large for what is left: each for itself, so that the others get through.
                for request in group:
                    try:
                        self._apply_group([request])
                    except exc.MapFull as full:
                        request.done, request.error = True, full

    def _apply(self, group: list[_Request]) -> None:
        engine = self._engine
        engine.expire_snapshots()
        done: list[_Request] = []
        rejected: list[tuple[_Request, exc.Error]] = []
        txn = engine.begin_write()
        if txn.get(EPOCH, None, engine.own) != engine.epoch:
            # Another process made or dropped a family, whose database is opened in a transaction of its own.
            txn.commit()
            engine.refresh_families(locked=True)
            txn = engine.begin_write()
        try:
            applied = 0
            for request in group:
                try:
                    applied += self._apply_one(txn, request.batch)
                    done.append(request)
                except (exc.ConflictError, exc.CounterError, exc.UnknownColumnFamily, exc.Corruption) as error:
                    # Raised before the first put of this batch, so the transaction holds nothing of it.
                    rejected.append((request, error))
                    engine.counters["conflicts"] += isinstance(error, exc.ConflictError)
            if applied:
                self._put_token(txn)
        except BaseException as error:
            held = [txn]
            del txn
            roll_back(held, error)
            if isinstance(error, lmdb.Error) and not isinstance(error, lmdb.MapFullError):
                raise translate(engine, error, "batch_write") from error
            raise
        if applied:
            self._finish(txn, done)
            engine.counters["commits"] += 1
            engine.counters["batches"] += applied
        else:
            txn.commit()  # nothing was put, so nothing is written; abort() could wait for ever, see roll_back()
        for request in done:
            request.done = True
        for request, rejection in rejected:
            request.done, request.error = True, rejection

    def _apply_one(self, txn: lmdb.Transaction, batch: WriteBatch) -> bool:
        """Test and apply one batch in the open transaction; return whether it changes anything."""
        engine = self._engine
        opened = [engine.known[cf] for cf in batch.changes]
        if batch.expectations or batch.ranges:
            expectations.check_expectations(batch, _State(engine, txn), engine.facts("batch_write"))
        changes: Any = batch.changes
        if batch.adds:
            changes = expectations.resolve(batch, _State(engine, txn))
        for family in opened:
            self._put_all(txn, family, changes[family.name])
        return any(changes.values())

    def _put_all(self, txn: lmdb.Transaction, family: Family, changes: dict[bytes, bytes | Deletion]) -> None:
        tag, seed, db = family.tag, family.seed, family.db
        puts: list[Pair]
        if Deletion in set(map(type, changes.values())):
            puts = [(key, value) for key, value in changes.items() if isinstance(value, bytes)]
            for key in sorted([key for key, change in changes.items() if type(change) is Deletion]):
                txn.delete(tag + key, db=db)
        else:
            puts = list(changes.items())  # type: ignore[arg-type]
        if self._engine.checked:
            puts = checksums.sealed(puts, tag, seed)
        elif tag:
            puts = [(tag + key, value) for key, value in puts]
        if len(puts) == 1:
            txn.put(*puts[0], db=db)
        elif puts:
            # In key order LMDB finds each page once.
            puts.sort(key=_first)
            txn.cursor(db).putmulti(puts)

    # ---- tokens and outcomes

    def _put_token(self, txn: lmdb.Transaction) -> None:
        """Write the number of this commit under this writer's name, so that its outcome can be looked up later."""
        if self._sequence == 0:
            for key in tokens.outdated(prefixed(txn, self._engine.own, TOKEN)):
                txn.delete(key, db=self._engine.own)
        self._sequence += 1
        txn.put(TOKEN + self._writer_id, tokens.written(self._sequence), db=self._engine.own)

    def _token(self) -> bytes:
        return self._writer_id + self._sequence.to_bytes(8, "big")

    def outcome(self, token: bytes) -> exc.Outcome:
        """What became of the commit that ``token`` stands for."""
        if not isinstance(token, bytes) or len(token) != 16:
            raise exc.ArgumentError(f"{token!r} is no commit token; one is the 16 bytes of CommitOutcomeUnknown.token")
        if self.failed is not None:
            return "unknown"
        with self._engine.begin_read() as txn:
            raw: Any = txn.get(TOKEN + token[:8], None, self._engine.own)
        reached = tokens.reached(raw, **self._engine.facts("commit_outcome"))
        return "applied" if reached >= int.from_bytes(token[8:], "big") else "not_applied"

    def _finish(self, txn: lmdb.Transaction, requests: list[_Request]) -> None:
        number = txn.id()
        try:
            txn.commit()
            token = self._token()
            for request in requests:
                request.done, request.token = True, token
        except BaseException as error:  # noqa: BLE001 - what it was is told to whoever waits
            # Ctrl-C comes out of commit() with everything committed. The writer's locks are held, so the last
            # transaction is this one or the one before it.
            applied = self._last_transaction() >= number
            token = self._token()
            # A later commit must not overwrite the token of this one.
            self._writer_id, self._sequence = secrets.token_bytes(8), 0
            if applied and isinstance(error, KeyboardInterrupt):
                for request in requests:
                    request.done = True
            self._raise_failure(error, applied, token)

    def _raise_failure(self, error: BaseException, applied: bool, token: bytes) -> None:
        engine = self._engine
        facts = engine.facts("batch_write", token=token, engine_message=str(error))
        if isinstance(error, KeyboardInterrupt):
            facts["outcome"] = "applied" if applied else "not_applied"
            raise exc.CommitInterrupted(
                f"interrupted during the commit; the batch was {facts['outcome'].replace('_', ' ')}", **facts
            ) from error
        if isinstance(error, lmdb.MapFullError) or not isinstance(error, lmdb.Error):
            raise error
        panicked = self._panicked()
        if panicked:
            self.failed = (
                f"LMDB gave up after a failed commit ({error}); close the store and open it again"
                " (all that was acknowledged is there)"
            )
        facts["outcome"] = "unknown" if panicked or applied else "not_applied"
        if disk_full(error, engine.path):
            raise exc.DiskFull(f"the disk is full: {error}; free space and try again", **facts) from error
        raise exc.CommitOutcomeUnknown(
            f"the commit failed in the engine: {error}; commit_outcome(token) says whether it was applied", **facts
        ) from error

    def _last_transaction(self) -> int:
        try:
            return int(self._engine.env.info()["last_txnid"])
        except lmdb.Error:
            return -1

    def _panicked(self) -> bool:
        try:
            self._engine.env.begin(write=True).commit()
        except lmdb.Error:
            return True
        return False


def roll_back(held: list[lmdb.Transaction], error: BaseException) -> None:
    """End a write transaction, the only item of ``held``, without what was done in it.

    The driver's ``abort()`` waits, holding LMDB's writer lock, for a moment in which no thread of the process reads;
    with a few busy readers that moment never comes. When the last reference goes, it ends the transaction at once. The
    caller must have none left, so those in the frames of ``error`` are cleared.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    left = weakref.ref(held.pop())
    txn = left()
    if txn is not None:
        txn.abort()


class _State:
    """The state inside a write transaction, for expectations and additions."""

    def __init__(self, engine: LmdbEngine, txn: lmdb.Transaction) -> None:
        self._engine, self._txn = engine, txn

    def multi_get(self, cf: str, keys: list[bytes]) -> list[bytes | None]:
        family = self._engine.known[cf]
        tag, db = family.tag, family.db
        if len(keys) == 1:
            values: Any = [self._txn.get(tag + keys[0], None, db)]
        else:
            wanted = [tag + key for key in keys] if tag else keys
            found: Any = dict(self._txn.cursor(db).getmulti(wanted))
            if not found and not self._engine.doubts:
                return [None] * len(keys)
            values = [found.get(key) for key in wanted]
        if self._engine.doubts:
            refuse_missing(self._engine, self._txn, family, keys, values)
        return verify_all(self._engine, family, keys, values) if self._engine.checked else list(values)

    def scan(self, cf: str, start: bytes, stop: bytes | None) -> Iterator[Pair]:
        engine = self._engine
        using = threading.Lock()
        scan = LmdbScan(engine, engine.known[cf], self._txn, start, stop, False, engine.checked, using)
        if engine.doubts:
            scan.refuse_doubtful(self._txn)
        for chunk in scan:
            yield from chunk
