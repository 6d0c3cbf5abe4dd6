"""Hazards 1, 2, 3, 7, 8, 21, 26: what reaches the engine, shared syncs, and commits whose outcome is open."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kvdialect import exc, open_backend
from kvdialect.storage import StorageBackend, WriteBatch

pytestmark = pytest.mark.engine("rocksdb")

Open = Callable[..., StorageBackend]
Start = Callable[[str], Any]
PATIENCE = 30.0


class Database:
    """Stands before the driver's database and lets a test act at its calls."""

    def __init__(self, native: Any) -> None:
        self.native = native
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.native, name)

        def call(*args: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            try:
                if name in self.before:
                    self.before[name]()
                result = method(*args)
                if name in self.after:
                    self.after[name]()
                return result
            finally:
                args = ()  # no frame of the driver would keep them in a traceback

        return call


@pytest.fixture
def tapped(store: Open) -> Any:
    """Open a store and give it with the :class:`Database` before its driver."""

    def open_tapped(**options: Any) -> tuple[StorageBackend, Database]:
        backend = store(["a", "b"], **options)
        engine: Any = backend.engine  # type: ignore[attr-defined]
        engine.database = database = Database(engine.database)
        return backend, database

    return open_tapped


def fail(message: str) -> Callable[[], object]:
    def raise_it() -> object:
        raise Exception(message)  # noqa: TRY002 - as the driver does

    return raise_it


# --------------------------------------------------------------------------------------- what reaches the engine


@pytest.mark.parametrize("key", [b"", b"k" * 511, b"k" * 5000])
def test_keys_outside_the_limit_are_refused_before_the_engine(store: Open, key: bytes) -> None:
    """RocksDB takes keys of any length; one outside 1 to 510 bytes got through, or a read of one gave None."""
    backend = store()
    for call in (
        lambda: backend.put("a", key, b"v"),
        lambda: backend.delete("a", key),
        lambda: backend.get("a", key),
        lambda: backend.multi_get("a", [b"k", key]),
        lambda: backend.batch_write(WriteBatch().put("a", b"good", b"v").put("b", key, b"v")),
        lambda: backend.snapshot().get("a", key),
    ):
        with pytest.raises(exc.KeyTooLong) as caught:
            call()
        assert (caught.value.facts["key"], caught.value.facts["limit"]) == (key, 510)

    assert list(backend.scan("a")) == []


@pytest.mark.parametrize("key", ["text", 5, None, 1.5, True, bytearray(b"k"), [b"k"], (b"k",)])
def test_keys_that_are_not_bytes_are_type_errors(store: Open, key: Any) -> None:
    """Rocksdict answers a key of another type with KeyError, the class of a missing key; it must be a TypeError."""
    backend = store()
    backend.put("a", b"k", b"v")
    snapshot = backend.snapshot()
    backend.put("a", b"k", b"later")
    for call in (
        lambda: backend.put("a", key, b"v"),
        lambda: backend.delete("a", key),
        lambda: backend.get("a", key),
        lambda: backend.multi_get("a", [b"k", key]),
        lambda: snapshot.get("a", key),
        lambda: snapshot.multi_get("a", [key]),
        lambda: backend.scan("a", key),
    ):
        with pytest.raises(TypeError):
            call()

    assert backend.get("a", b"k") == b"later"


@pytest.mark.parametrize("bad", ["value", "key", "family", "long key", "counter"])
def test_a_bad_operation_anywhere_changes_nothing(tapped: Any, bad: str) -> None:
    """A batch with a bad operation at its end reached the engine, or was applied in part."""
    backend, database = tapped()
    batch = WriteBatch().put("a", b"1", b"v").put("b", b"1", b"v")
    backend.put("b", b"text", b"no counter")
    writes = database.calls["write"]
    operations: dict[str, tuple[type[Exception], Callable[[], WriteBatch]]] = {
        "value": (TypeError, lambda: batch.put("b", b"2", "text")),  # type: ignore[arg-type]
        "key": (TypeError, lambda: batch.put("b", 2, b"v")),  # type: ignore[arg-type]
        "family": (exc.UnknownColumnFamily, lambda: batch.put("nobody", b"2", b"v")),
        "long key": (exc.KeyTooLong, lambda: batch.put("b", b"k" * 511, b"v")),
        "counter": (exc.CounterError, lambda: batch.add("b", b"text", 1)),
    }
    error, operation = operations[bad]

    with pytest.raises(error):
        backend.batch_write(operation())
    assert database.calls["write"] == writes
    assert (backend.get("a", b"1"), backend.get("b", b"1")) == (None, None)


def test_one_batch_written_to_two_stores_lands_in_the_families_named(tmp_path: Path) -> None:
    """A batch landed in another store's family of the same number (a family handle crossed stores)."""
    batch = WriteBatch().put("a", b"k", b"in a").put("b", b"k", b"in b").delete("c", b"k")
    with (
        open_backend(f"rocksdb:///{tmp_path / '1'}", ["a", "b", "c"]) as first,
        open_backend(f"rocksdb:///{tmp_path / '2'}", ["c"]) as second,
    ):
        for family in ("b", "a"):  # families get other numbers than in the first store
            second.create_column_family(family)
        for backend in (first, second, first):
            backend.batch_write(batch)

        for backend in (first, second):
            assert {f: list(backend.scan(f)) for f in "abc"} == {
                "a": [(b"k", b"in a")],
                "b": [(b"k", b"in b")],
                "c": [],
            }


def test_a_family_dropped_and_created_again_is_another_one(store: Open) -> None:
    """A batch for a family that was dropped and created again went to the dropped one."""
    backend = store()
    backend.put("a", b"old", b"v")
    backend.snapshot().close()
    backend.drop_column_family("a")
    with pytest.raises(exc.UnknownColumnFamily):
        list(backend.scan("a"))
    backend.create_column_family("a")
    assert list(backend.scan("a")) == []
    backend.put("a", b"new", b"v")

    assert list(backend.scan("a")) == [(b"new", b"v")]


@pytest.mark.parametrize("name", ["default", "kvdialect"])
def test_the_engines_own_families_are_out_of_reach(store: Open, name: str) -> None:
    """``default`` (which RocksDB can half drop) or the library's own family could be dropped or created."""
    backend = store()

    with pytest.raises(exc.UnknownColumnFamily):
        backend.drop_column_family(name)
    with pytest.raises(exc.ArgumentError):
        backend.create_column_family(name)
    with pytest.raises(exc.UnknownColumnFamily):
        backend.put("default", b"k", b"v")


def test_families_come_and_go_while_threads_commit(store: Open) -> None:
    """Creating or dropping a family during commits failed, hid the new family, or leaked a driver's error."""
    backend = store()
    stop = threading.Event()

    def write(number: int) -> list[str]:
        wrong = []
        while not stop.is_set():
            try:
                backend.batch_write(WriteBatch().put("a", b"%d" % number, b"v").put("new", b"%d" % number, b"v"))
                backend.snapshot().close()
            except exc.UnknownColumnFamily as error:
                if error.name != "new":
                    wrong.append(repr(error))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is reported
                wrong.append(repr(error))
        return wrong

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        trouble = []
        for _ in range(15):
            backend.create_column_family("new")
            try:
                list(backend.scan("new"))
            except exc.UnknownColumnFamily as error:
                trouble.append(repr(error))
            time.sleep(0.005)
            backend.drop_column_family("new")
            if "new" in backend.column_families():
                trouble.append("still listed")
        stop.set()
        wrong = [writer.result(timeout=PATIENCE) for writer in writers]

    assert trouble == []
    assert wrong == [[], [], []]


def test_a_batch_that_was_built_before_its_family_was_made_anew_reaches_it(
    store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver's batch had of the dropped family was written nowhere."""
    backend = store()
    backend.create_column_family("new")
    committer = backend.engine._committer
    build = committer._native_batch

    def built(families: Any, changes: Any) -> Any:
        monkeypatch.undo()
        native = build(families, changes)
        backend.drop_column_family("new")
        backend.create_column_family("new")
        return native

    monkeypatch.setattr(committer, "_native_batch", built)

    backend.put("new", b"k", b"v")

    assert backend.get("new", b"k") == b"v"


# ---------------------------------------------------------------------------------------- hazard 26: shared syncs


def test_threads_share_syncs(tapped: Any) -> None:
    """Each of several threads' commits made a sync of its own."""
    backend, database = tapped()
    database.before["flush_wal"] = lambda: time.sleep(0.002)

    def write(number: int) -> None:
        for count in range(25):
            backend.put("a", b"%d-%d" % (number, count), b"v")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    stats = backend.stats()

    assert stats["batches"] == 200
    assert stats["commits"] < stats["batches"] / 2
    assert database.calls["flush_wal"] == stats["commits"]
    assert sum(1 for _ in backend.scan("a")) == 200


def test_one_thread_makes_one_write_and_one_sync_a_commit(tapped: Any) -> None:
    """A commit was more, or less, than one native write and one sync of the log; or an empty one did something."""
    backend, database = tapped()
    for number in range(5):
        backend.batch_write(WriteBatch().put("a", b"%d" % number, b"v").put("b", b"%d" % number, b"v"))
    backend.batch_write(WriteBatch())
    backend.batch_write(WriteBatch().expect("a", b"1", b"v"))

    assert (database.calls["write"], database.calls["flush_wal"]) == (5, 5)


def test_threads_write_while_another_syncs(store: Open) -> None:
    """The driver was asked to sync within its write, which keeps Python's lock for as long as the disk takes."""
    backend = store()
    engine: Any = backend.engine  # type: ignore[attr-defined]
    asked: list[bool] = []

    class Asked(Database):
        def write(self, batch: Any, options: Any) -> None:
            asked.append(options.sync)
            self.native.write(batch, options)

    engine.database = Asked(engine.database)
    backend.put("a", b"k", b"v")

    assert asked == [False]
    assert engine.database.calls["flush_wal"] == 1


def test_the_wait_for_another_thread_is_bounded(store: Open) -> None:
    """A writer waited longer than lock_timeout behind another thread, which may never end."""
    backend = store(["a"], lock_timeout=0.2)
    engine: Any = backend.engine  # type: ignore[attr-defined]
    with engine.commit_lock, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(backend.put, "a", b"k", b"v")
        error = waiting.exception(timeout=PATIENCE)

    assert isinstance(error, exc.LockTimeout)
    assert error.retryable
    assert backend.get("a", b"k") is None
    backend.put("a", b"k", b"w")
    assert backend.get("a", b"k") == b"w"


def test_a_stalled_batch_is_written_as_a_new_one(tapped: Any) -> None:
    """A write that RocksDB had no room for was tried again with the driver's batch, which is good for one write."""
    backend, database = tapped()
    stalls = [1, 2]

    def stall() -> None:
        # The driver's write has used the batch up; that it was applied too does no harm to a put.
        if stalls.pop():
            raise Exception("Result incomplete: Write stall")  # noqa: TRY002 - as the driver does

    database.after["write"] = lambda: stall() if stalls else None
    backend.batch_write(WriteBatch().put("a", b"k", b"v").put("b", b"k", b"w"))

    assert database.calls["write"] == 3
    assert (backend.get("a", b"k"), backend.get("b", b"k")) == (b"v", b"w")


def test_threads_whose_shared_sync_fails_learn_of_their_own_commits(tapped: Any, store: Open) -> None:
    """The second one's error had a token under which nothing was written: after reopening it was "not applied"."""
    backend, database = tapped()
    both = threading.Event()

    def fail() -> None:
        both.wait(PATIENCE)
        raise Exception("IO error: sync failed")  # noqa: TRY002 - as the driver does

    database.before["flush_wal"] = fail
    tokens = {}

    def write(key: bytes) -> None:
        with pytest.raises((exc.CommitOutcomeUnknown, exc.ReopenRequired)) as caught:
            backend.put("a", key, b"v")
        tokens[key] = caught.value.token

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, key) for key in (b"one", b"two")]
        deadline = time.monotonic() + PATIENCE
        while database.calls.get("write", 0) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        both.set()
        for each in writing:
            each.result(timeout=PATIENCE)
    assert [backend.commit_outcome(token) for token in tokens.values()] == ["unknown"] * 2
    backend.close()

    again = store()
    assert {key: again.get("a", key) for key in tokens} == {b"one": b"v", b"two": b"v"}
    assert {key: again.commit_outcome(token) for key, token in tokens.items()} == {b"one": "applied", b"two": "applied"}


@pytest.mark.parametrize("durability", ["wal", "none"])
def test_weaker_durability_makes_no_sync(tapped: Any, durability: str) -> None:
    """With ``durability=wal`` or ``none`` a commit synced the log."""
    backend, database = tapped(durability=durability)
    backend.put("a", b"k", b"v")

    assert "flush_wal" not in database.calls
    assert backend.get("a", b"k") == b"v"


def test_a_failed_expectation_rejects_only_its_own_batch(tapped: Any) -> None:
    """One thread's conflict took other threads' commits with it, or let part of its own through."""
    backend, database = tapped()
    database.before["flush_wal"] = lambda: time.sleep(0.001)
    backend.put("a", b"guard", b"1")

    def write(number: int) -> int:
        conflicts = 0
        for count in range(20):
            batch = WriteBatch().put("b", b"%d-%d" % (number, count), b"v")
            if count % 2:
                batch.expect("a", b"guard", b"other")
            try:
                backend.batch_write(batch)
            except exc.ConflictError:
                conflicts += 1
        return conflicts

    with ThreadPoolExecutor(6) as pool:
        conflicts = list(pool.map(write, range(6)))

    assert conflicts == [10] * 6
    assert {key for key, _ in backend.scan("b")} == {b"%d-%d" % (n, c) for n in range(6) for c in range(0, 20, 2)}
    assert backend.stats()["conflicts"] == 60


def test_compare_and_set_counts_every_success_once(store: Open) -> None:
    """Threads that increment by expectation lost an update."""
    backend = store()
    backend.put("a", b"n", b"0")

    def increment(_: int) -> None:
        for _ in range(15):
            while True:
                old = backend.get("a", b"n")
                assert old is not None
                try:
                    backend.batch_write(WriteBatch().expect("a", b"n", old).put("a", b"n", b"%d" % (int(old) + 1)))
                    break
                except exc.ConflictError:
                    continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(4)))

    assert backend.get("a", b"n") == b"60"


# ----------------------------------------------------------------------- durability: snapshots and syncs under way


@pytest.mark.parametrize("demand", [True, False], ids=["snapshots in demand", "first snapshot"])
def test_no_snapshot_shows_a_commit_before_its_sync(tapped: Any, demand: bool) -> None:
    """A snapshot or scan showed a commit whose sync had not returned: a power cut could take back what was seen."""
    backend, database = tapped()
    backend.put("a", b"k", b"durable")
    if demand:
        backend.snapshot().close()
    syncing, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        syncing.set()
        go_on.wait(PATIENCE)

    database.before["flush_wal"] = hold
    writer = threading.Thread(
        target=lambda: backend.batch_write(WriteBatch().put("a", b"k", b"new").put("b", b"x", b""))
    )
    writer.start()
    assert syncing.wait(PATIENCE)
    with ThreadPoolExecutor(2) as pool:

        def look() -> tuple[bytes | None, list[Any], bool]:
            with backend.snapshot() as snapshot:
                return snapshot.get("a", b"k"), list(snapshot.scan("b")), go_on.is_set()

        looks = [pool.submit(look), pool.submit(look)]
        if demand:
            # It must not wait either: snapshots stay at the last durable state.
            seen = [reader.result(timeout=PATIENCE) for reader in looks]
            go_on.set()
        else:
            time.sleep(0.05)
            go_on.set()
            seen = [reader.result(timeout=PATIENCE) for reader in looks]
    writer.join(PATIENCE)
    database.before.clear()

    if demand:
        assert seen == [(b"durable", [], False)] * 2
    else:
        assert seen == [(b"new", [(b"x", b"")], True)] * 2
    with backend.snapshot() as snapshot:
        assert snapshot.get("a", b"k") == b"new"


def test_a_snapshot_during_a_sync_keeps_its_state_after_it(tapped: Any) -> None:
    """A snapshot taken while a sync was under way moved on when the sync ended."""
    backend, database = tapped()
    backend.put("a", b"k", b"1")
    backend.snapshot().close()
    taken: list[Any] = []
    database.before["flush_wal"] = lambda: taken.append(backend.snapshot())
    backend.put("a", b"k", b"2")
    backend.put("a", b"k", b"3")
    database.before.clear()
    backend.put("a", b"k", b"4")

    assert [snapshot.get("a", b"k") for snapshot in taken] == [b"1", b"2"]
    assert [list(snapshot.scan("a")) for snapshot in taken] == [[(b"k", b"1")], [(b"k", b"2")]]


def test_a_commit_is_seen_by_its_own_thread_at_once(store: Open) -> None:
    """A thread did not see its own commit in the next snapshot or scan."""
    backend = store()

    def write(number: int) -> list[int]:
        missing = []
        for count in range(40):
            key = b"%d-%d" % (number, count)
            backend.put("a", key, b"v")
            with backend.snapshot() as snapshot:
                if snapshot.get("a", key) is None or not list(backend.scan("a", key, key + b"\0")):
                    missing.append(count)
        return missing

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(4))) == [[]] * 4


# ------------------------------------------------------------------------ hazards 7 and 8: failures of the engine


def test_a_failed_sync_leaves_the_outcome_open_until_reopening(tapped: Any, store: Open) -> None:
    """A failed sync was not CommitOutcomeUnknown, the next write not ReopenRequired, or the token tells nothing."""
    backend, database = tapped()
    backend.put("a", b"acknowledged", b"v")
    database.before["flush_wal"] = fail("IO error: While fdatasync: Input/output error")

    with pytest.raises(exc.CommitOutcomeUnknown) as unknown:
        backend.put("a", b"open", b"v")
    with pytest.raises(exc.ReopenRequired):
        backend.put("a", b"later", b"v")
    assert unknown.value.outcome == "unknown"
    assert unknown.value.token is not None
    assert backend.commit_outcome(unknown.value.token) == "unknown"
    assert backend.get("a", b"acknowledged") == b"v"
    backend.close()

    backend = store()
    assert backend.get("a", b"acknowledged") == b"v"
    there = backend.get("a", b"open") is not None
    assert backend.commit_outcome(unknown.value.token) == ("applied" if there else "not_applied")
    backend.put("a", b"later", b"v")


def test_a_failed_write_that_never_reached_the_log_is_not_applied(tapped: Any, store: Open) -> None:
    """After reopening, the token of a write that failed before the log does not say ``not_applied``."""
    backend, database = tapped()
    backend.put("a", b"1", b"v")
    database.before["write"] = fail("IO error: While appending to file: Input/output error")
    with pytest.raises(exc.CommitOutcomeUnknown) as unknown:
        backend.put("a", b"2", b"v")
    database.before.clear()
    backend.close()

    backend = store()
    assert backend.get("a", b"2") is None
    assert backend.commit_outcome(unknown.value.token or b"") == "not_applied"


def test_a_later_commit_leaves_the_outcome_of_a_failed_one(tapped: Any, store: Open) -> None:
    """After reopening, a commit that failed was said to be applied, as a later one had a higher number."""
    backend, database = tapped()
    database.before["write"] = fail("IO error: the device is gone")
    with pytest.raises(exc.CommitOutcomeUnknown) as caught:
        backend.put("a", b"k", b"v")
    database.before.clear()
    for number in range(3):
        backend.put("a", b"later", b"%d" % number)
    backend.close()

    backend = store()
    assert backend.get("a", b"k") is None
    assert backend.commit_outcome(caught.value.token) == "not_applied"
    assert backend.get("a", b"later") == b"2"


def test_a_write_that_failed_after_the_log_is_applied(tapped: Any, store: Open) -> None:
    """After reopening, the token of a write that raised although it was logged does not say ``applied``."""
    backend, database = tapped()
    database.after["write"] = fail("IO error: late")
    with pytest.raises(exc.CommitOutcomeUnknown) as unknown:
        backend.put("a", b"k", b"v")
    database.after.clear()
    backend.put("b", b"another commit does not change it", b"v")
    backend.close()

    backend = store()
    assert backend.get("a", b"k") == b"v"
    assert backend.commit_outcome(unknown.value.token or b"") == "applied"


def test_reads_go_on_after_a_failed_sync(tapped: Any) -> None:
    """After a failed sync plain reads failed too."""
    backend, database = tapped()
    backend.put("a", b"k", b"v")
    database.before["flush_wal"] = fail("IO error: Input/output error")
    with pytest.raises(exc.CommitOutcomeUnknown):
        backend.put("a", b"k2", b"v")

    assert backend.get("a", b"k") == b"v"
    assert backend.multi_get("a", [b"k"]) == [b"v"]


def test_a_full_disk_leaves_snapshots_readable(tapped: Any) -> None:
    """While the disk is full, snapshots and scans failed, or the store had to be reopened afterwards."""
    backend, database = tapped()
    backend.put("a", b"k", b"v")
    database.before["write"] = fail("IO error: No space left on device: While appending to file: 000004.log")
    database.before["flush_wal"] = fail("IO error: Writer has previous error.")
    with pytest.raises(exc.DiskFull) as full:
        backend.put("a", b"k", b"2")
    with backend.snapshot() as snapshot:
        assert snapshot.get("a", b"k") == b"v"
    assert list(backend.scan("a")) == [(b"k", b"v")]
    database.before.clear()
    backend.put("a", b"k", b"3")

    assert full.value.retryable
    assert full.value.outcome == "unknown"
    assert list(backend.scan("a")) == [(b"k", b"3")]


def test_an_error_that_is_kept_does_not_keep_the_store_open(tapped: Any, store: Open) -> None:
    """An exception held by the program (its traceback, the driver's batch) kept a closed store locked."""
    backend, database = tapped()
    database.after["write"] = fail("IO error: late")
    kept = []
    for _ in range(2):
        with pytest.raises(exc.CommitOutcomeUnknown) as caught:
            backend.put("a", b"k", b"v")
        kept.append(caught.value)
    database.after.clear()
    backend.close()

    assert store().get("a", b"k") == b"v"
    assert len(kept) == 2


# --------------------------------------------------------------------------------------------- hazard 7: Ctrl-C


def test_a_signal_waits_for_the_commit_to_end(tapped: Any) -> None:
    """Ctrl-C broke in between the write and what notes it, so that nobody knew what became of the commit."""
    backend, database = tapped()
    database.before["write"] = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(exc.CommitInterrupted) as caught:
        backend.put("a", b"k", b"v")
    database.before.clear()

    assert caught.value.outcome == "applied"
    assert database.calls["flush_wal"] == 1
    assert backend.get("a", b"k") == b"v"
    backend.put("a", b"k", b"w")
    assert backend.get("a", b"k") == b"w"


def test_ctrl_c_before_the_write_applies_nothing(tapped: Any) -> None:
    """An interrupt before anything was written is not a plain KeyboardInterrupt, or something was applied."""
    backend, _ = tapped()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    committer = backend.engine._committer
    committer._check_expectations, original = interrupted, committer._check_expectations
    with pytest.raises(KeyboardInterrupt) as caught:
        backend.put("a", b"k", b"v")
    committer._check_expectations = original

    assert not isinstance(caught.value, exc.Error)
    assert backend.get("a", b"k") is None
    backend.put("a", b"k", b"v")


def test_ctrl_c_during_the_sync_says_applied(tapped: Any, store: Open) -> None:
    """An interrupt between write and sync does not say that the batch is applied, or it is not there afterwards."""
    backend, database = tapped()

    def interrupt() -> None:
        raise KeyboardInterrupt

    database.before["flush_wal"] = interrupt
    with pytest.raises(exc.CommitInterrupted) as caught:
        backend.put("a", b"k", b"v")
    database.before.clear()

    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.outcome == "applied"
    backend.put("a", b"k2", b"v")
    assert [key for key, _ in backend.scan("a")] == [b"k", b"k2"]
    backend.close()
    backend = store()
    assert backend.commit_outcome(caught.value.token or b"") == "applied"
    assert backend.get("a", b"k") == b"v"


def test_ctrl_c_inside_the_write_is_decided_by_reopening(tapped: Any, store: Open) -> None:
    """An interrupt out of the driver's write does not say unknown, or its token does not tell the truth later."""
    outcomes = []
    for moment in ("before", "after"):
        backend, database = tapped()

        def interrupt() -> None:
            raise KeyboardInterrupt

        getattr(database, moment)["write"] = interrupt
        with pytest.raises(exc.CommitInterrupted) as caught:
            backend.put("a", moment.encode(), b"v")
        getattr(database, moment).clear()
        outcome = caught.value.outcome
        backend.close()
        backend = store()
        token = caught.value.token or b""
        outcomes.append((moment, outcome, backend.commit_outcome(token), backend.get("a", moment.encode())))
        backend.close()

    assert outcomes == [("before", "unknown", "not_applied", None), ("after", "unknown", "applied", b"v")]


def test_ctrl_c_while_states_are_pinned_does_not_move_snapshots(store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while a commit pinned a snapshot's families let the snapshot see that commit's successor."""
    backend = store(["a", "b", "c"])
    for family in "abc":
        backend.put(family, b"k", b"1")
    snapshot = backend.snapshot()
    states = backend.engine.states  # type: ignore[attr-defined]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(states), "_keep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        backend.put("a", b"k", b"2")
    monkeypatch.undo()
    backend.batch_write(WriteBatch().put("a", b"k", b"3").put("b", b"k", b"3").put("c", b"k", b"3"))

    assert [snapshot.get(family, b"k") for family in "abc"] == [b"1"] * 3


def test_ctrl_c_at_any_moment_leaves_a_working_store(process: Start) -> None:
    """After interrupts at random moments of commits the store hung, was locked, or an outcome was wrong."""
    other = process(
        """
        import random
        backend = open_backend(URL, ["a", "b"])
        main, stop = threading.main_thread().ident, threading.Event()
        wrong, interrupted, unknown = [], 0, []
        rng = random.Random(5)
        def shoot():
            while not stop.is_set():
                time.sleep(rng.random() * 0.004)
                signal.pthread_kill(main, signal.SIGINT)
        shooter = threading.Thread(target=shoot)
        number, end = 0, time.monotonic() + 2
        try:
            shooter.start()
        except KeyboardInterrupt:
            pass
        while time.monotonic() < end:
            try:
                number += 1
                error = None
                try:
                    backend.batch_write(WriteBatch().put("a", b"%d" % number, b"v").put("b", b"%d" % number, b"v"))
                    with backend.snapshot() as snapshot:
                        snapshot.get("a", b"1")
                except exc.CommitInterrupted as caught:
                    error = caught
                if error is not None:
                    interrupted += 1
                    (unknown if error.outcome == "unknown" else wrong).append((number, error.token, error.outcome))
            except KeyboardInterrupt:
                continue
            except exc.Error as caught:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                say("trouble", type(caught).__name__, caught)
                break
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop.set()
        shooter.join()
        for number, token, outcome in wrong:
            if (outcome == "applied") != (backend.get("a", b"%d" % number) is not None):
                say("wrong", number, outcome)
        torn = {k for k, _ in backend.scan("a")} ^ {k for k, _ in backend.scan("b")}
        say("torn", len(torn))
        backend.put("a", b"end", b"v")
        backend.close()
        again = open_backend(URL)
        for number, token, _ in unknown:
            if (again.commit_outcome(token) == "applied") != (again.get("a", b"%d" % number) is not None):
                say("wrong after reopening", number)
        say("end", again.get("a", b"end"), interrupted > 0)
        """
    )

    assert other.finish() == ["torn 0", "end b'v' True"]


def test_what_a_traceback_keeps_of_a_snapshot_does_not_keep_the_store_open(store: Open) -> None:
    """RocksDB stayed open, and locked, for as long as anything held one family at one moment."""
    backend = store()
    backend.put("a", b"k", b"v")
    snapshot: Any = backend.snapshot()
    backend.put("a", b"k", b"w")
    assert snapshot.get("a", b"k") == b"v"
    kept = snapshot._state.pinned["a"]
    backend.close()

    assert store().get("a", b"k") == b"w"
    assert kept is not None
