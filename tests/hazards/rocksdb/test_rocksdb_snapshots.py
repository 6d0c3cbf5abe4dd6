"""Hazards 23 and 24: what snapshots cost, how long they live, what they leave behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kvdialect import exc
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.storage.options import RESERVED_FAMILY

pytestmark = pytest.mark.engine("rocksdb")

Open = Callable[..., StorageBackend]


def native_snapshots(backend: StorageBackend) -> int:
    """How many snapshots RocksDB itself holds, over all families."""
    database = backend.engine.known["a"].rdict  # type: ignore[attr-defined]
    return int(database.property_int_value("rocksdb.num-snapshots"))


def quiet(backend: StorageBackend) -> None:
    """Commit often enough that no state is kept for snapshots that may come."""
    for _ in range(70):
        backend.put("b", b"x", b"v")


@pytest.mark.parametrize("durability", ["sync", "wal", "none"])
def test_a_closed_snapshot_holds_nothing_in_the_engine(store: Open, durability: str) -> None:
    """After the last snapshot was closed RocksDB still keeps old versions for it."""
    backend = store(durability=durability)
    snapshots = []
    for number in range(10):
        snapshots.append(backend.snapshot())
        backend.put("a", b"k", b"%d" % number)
    assert native_snapshots(backend) > 0
    for snapshot in snapshots:
        snapshot.close()
    quiet(backend)

    assert native_snapshots(backend) == 0
    assert backend.stats()["live_snapshots"] == 0


def test_a_forgotten_snapshot_holds_nothing_in_the_engine(store: Open) -> None:
    """A snapshot, or a scan read in part, that was dropped without close holds on to old versions."""
    backend = store()
    for number in range(40):
        backend.put("a", b"%d" % number, b"v")
    snapshot, scan = backend.snapshot(), backend.scan("a")
    next(scan)
    backend.put("a", b"k", b"v")
    del snapshot, scan
    gc.collect()
    quiet(backend)

    assert native_snapshots(backend) == 0
    assert backend.stats()["live_snapshots"] == 0


def test_a_finished_scan_holds_no_snapshot(store: Open) -> None:
    """A scan of a backend that was read to its end left its snapshot open."""
    backend = store()
    backend.put("a", b"k", b"v")
    scan = backend.scan("a")
    assert backend.stats()["live_snapshots"] == 1
    assert list(scan) == [(b"k", b"v")]

    assert backend.stats()["live_snapshots"] == 0


def test_commits_pin_nothing_while_nobody_takes_snapshots(store: Open) -> None:
    """A commit pinned all families although no snapshot could want them: that is its cost, many times over."""
    backend = store()
    backend.snapshot().close()
    quiet(backend)
    states = backend.engine.states  # type: ignore[attr-defined]
    before = list(states._all)
    for _ in range(10):
        backend.put("a", b"k", b"v")

    assert list(states._all) == before == []


def test_a_commit_pins_what_it_changes(store: Open) -> None:
    """Each commit pinned all families for the snapshots before it, however few it changed."""
    families = [f"f{number}" for number in range(40)]
    backend = store(families)
    snapshots = []
    for number in range(5):
        snapshots.append(backend.snapshot())
        backend.put("f3", b"k", b"%d" % number)
    states = backend.engine.states  # type: ignore[attr-defined]
    pinned = {name for state in states._keeping for name in (*state.pinned, *state.unused)}

    assert pinned == {"f3", RESERVED_FAMILY}
    assert [snapshot.get("f3", b"k") for snapshot in snapshots] == [None, b"0", b"1", b"2", b"3"]
    assert [list(snapshot.scan("f3")) for snapshot in snapshots[:2]] == [[], [(b"k", b"0")]]


@pytest.mark.parametrize("durability", ["sync", "wal"])
def test_an_old_snapshot_keeps_a_family_that_is_changed_much_later(store: Open, durability: str) -> None:
    """A family that no commit had changed was not pinned when one did, as other states were current by then."""
    backend = store(durability=durability)
    backend.batch_write(WriteBatch().put("a", b"k", b"0").put("b", b"k", b"0"))
    held = []
    for number in range(1, 80):
        held.append((number - 1, backend.snapshot()))
        backend.put("a", b"k", b"%d" % number)
        if number in (20, 60):
            backend.batch_write(WriteBatch().put("b", b"k", b"%d" % number).put("b", b"new", b""))

    for number, snapshot in held:
        in_b = 0 if number < 20 else 20 if number < 60 else 60
        assert snapshot.get("a", b"k") == b"%d" % number
        assert snapshot.multi_get("b", [b"k", b"new"]) == [b"%d" % in_b, b"" if in_b else None]
        assert [value for _, value in snapshot.scan("b")] == [b"%d" % in_b, *([b""] if in_b else [])]
        assert [value for _, value in snapshot.scan("a", reverse=True)] == [b"%d" % number]


def test_a_snapshot_keeps_a_family_that_is_dropped_and_made_again(store: Open) -> None:
    """A snapshot of before saw the new family, or lost the old one."""
    backend = store()
    backend.put("a", b"k", b"1")
    before = backend.snapshot()
    backend.put("b", b"k", b"1")
    backend.drop_column_family("a")
    between = backend.snapshot()
    backend.put("b", b"k", b"2")
    backend.create_column_family("a")
    backend.put("a", b"k", b"2")

    assert (before.get("a", b"k"), list(before.scan("a"))) == (b"1", [(b"k", b"1")])
    with pytest.raises(exc.UnknownColumnFamily):
        between.get("a", b"k")
    with pytest.raises(exc.UnknownColumnFamily):
        between.scan("a")


def test_a_write_that_was_taken_back_leaves_snapshots_as_they_are(store: Open) -> None:
    """After a stalled write, which is announced twice, a snapshot was of the wrong moment, or could not be read."""
    backend = store()
    backend.batch_write(WriteBatch().put("a", b"k", b"1").put("b", b"k", b"1"))
    snapshot = backend.snapshot()
    states = backend.engine.states  # type: ignore[attr-defined]
    with backend.engine.commit_lock:  # type: ignore[attr-defined]
        states.advance(["a", RESERVED_FAMILY])
        states.retreat()
    again = backend.snapshot()
    quiet(backend)
    backend.put("a", b"k", b"2")

    assert [each.get("a", b"k") for each in (snapshot, again)] == [b"1", b"1"]
    assert [each.get("b", b"k") for each in (snapshot, again)] == [b"1", b"1"]
    assert backend.snapshot().get("a", b"k") == b"2"


def test_snapshots_between_two_commits_share_one_state(store: Open) -> None:
    """Each of many snapshots of one state pinned the families for itself."""
    backend = store()
    snapshots = [backend.snapshot() for _ in range(50)]
    backend.put("a", b"k", b"v")

    assert native_snapshots(backend) <= 3 * len(backend.column_families())
    assert {snapshot.get("a", b"k") for snapshot in snapshots} == {None}


def test_the_age_of_snapshots_is_visible(store: Open) -> None:
    """``stats()`` does not tell how many snapshots live, and how old the oldest is."""
    backend = store()
    assert (backend.stats()["live_snapshots"], backend.stats()["oldest_snapshot_seconds"]) == (0, 0.0)
    with backend.snapshot(), backend.snapshot():
        time.sleep(0.02)
        stats = backend.stats()

    assert stats["live_snapshots"] == 2
    assert 0.02 <= stats["oldest_snapshot_seconds"] < 30


def test_a_snapshot_past_its_age_is_ended(store: Open) -> None:
    """``max_snapshot_age`` did not end an old snapshot, or ended a young one."""
    backend = store(max_snapshot_age=0.2)
    backend.put("a", b"k", b"v")
    old = backend.snapshot()
    scan = old.scan("a")
    time.sleep(0.25)
    young = backend.snapshot()

    for call in (lambda: old.get("a", b"k"), lambda: list(scan)):
        with pytest.raises(exc.SnapshotTooOld) as caught:
            call()
        assert caught.value.age > 0.2  # type: ignore[attr-defined]
    assert young.get("a", b"k") == b"v"


def test_closing_a_snapshot_twice_is_harmless(store: Open) -> None:
    """The second close of a snapshot took the state from under another snapshot of it."""
    backend = store()
    backend.put("a", b"k", b"1")
    first, second = backend.snapshot(), backend.snapshot()
    backend.put("a", b"k", b"2")
    backend.put("a", b"k", b"3")
    first.close()
    first.close()

    assert second.get("a", b"k") == b"1"
    assert list(second.scan("a")) == [(b"k", b"1")]
    with pytest.raises(exc.StoreClosed):
        first.get("a", b"k")


@pytest.mark.parametrize("durability", ["sync", "wal"])
def test_a_finaliser_releases_a_snapshot_at_any_moment(store: Open, durability: str) -> None:
    """The collector ran while the thread took another snapshot, and the thread waited for itself."""
    backend = store(durability=durability)
    backend.put("a", b"k", b"1")
    snapshot = backend.snapshot()
    backend.put("a", b"k", b"2")
    states = backend.engine.states  # type: ignore[attr-defined]

    def collect() -> None:
        with states._lock:
            snapshot.close()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert backend.stats()["live_snapshots"] == 0


def test_no_statistics_are_written_into_the_log(process: Callable[[str], Any]) -> None:
    """RocksDB does so every ten minutes, and dies of a family that was dropped if only an iterator keeps it.

    The store that a process opens first has it at once.
    """
    process('open_backend(URL, ["a"]).close()').finish()
    other = process("""
        backend = open_backend(URL, ["a"])
        time.sleep(2)
        say("DUMPING STATS" in open(URL.partition("///")[2] + "/LOG").read())
    """)

    assert other.finish() == ["False"]
