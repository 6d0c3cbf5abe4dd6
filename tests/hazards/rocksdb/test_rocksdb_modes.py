"""``mode=ro`` and ``mode=secondary``: reading beside a primary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.storage.rocksdb.engine import RocksDBEngine

pytestmark = pytest.mark.engine("rocksdb")

Open = Callable[..., StorageBackend]
Start = Callable[[str], Any]

# Does one step for each line that it is sent.
PRIMARY = """
backend = open_backend(URL, ["a", "b"])
backend.batch_write(WriteBatch().put("a", b"k", b"1").put("b", b"k", b"1"))
say("ready")
steps = [
    lambda: backend.batch_write(WriteBatch().put("a", b"k", b"2").put("b", b"k", b"2").put("a", b"new", b"v")),
    lambda: (backend.flush(), backend.compact("a"), backend.delete("a", b"new")),
    lambda: (backend.create_column_family("c"), backend.put("c", b"k", b"1")),
    lambda: [backend.put("a", b"%05d" % n, b"v") for n in range(500)],
]
for step in steps:
    input()
    step()
    say("done")
input()
"""


def advance(primary: Any) -> None:
    primary.go_on()
    assert primary.line() == "done"


@pytest.mark.parametrize("mode", ["ro", "secondary"])
def test_writes_to_a_reader_are_refused(store: Open, mode: str) -> None:
    """A write, flush, compaction or change of families on a reader was taken."""
    store().put("a", b"k", b"v")
    reader = store(["a", "b"], mode=mode)
    calls: list[Callable[[], object]] = [
        lambda: reader.put("a", b"k", b"2"),
        lambda: reader.delete("a", b"k"),
        lambda: reader.batch_write(WriteBatch()),
        reader.flush,
        lambda: reader.compact("a"),
        lambda: reader.create_column_family("c"),
        lambda: reader.drop_column_family("a"),
    ]
    for call in calls:
        with pytest.raises(exc.ReadOnlyStore):
            call()

    assert not reader.capabilities.writable
    assert reader.get("a", b"k") == b"v"


@pytest.mark.parametrize("mode", ["ro", "secondary"])
@pytest.mark.parametrize("primary", ["none", "same process", "other process"])
def test_a_reader_reads_with_and_without_a_primary(store: Open, process: Start, mode: str, primary: str) -> None:
    """A reader did not see what was committed before it opened: rows, ranges, both families."""
    if primary == "other process":
        assert process(PRIMARY).line() == "ready"
    else:
        backend = store()
        backend.batch_write(WriteBatch().put("a", b"k", b"1").put("b", b"k", b"1"))
        if primary == "none":
            backend.close()
    reader = store([], mode=mode)

    assert reader.column_families() == ["a", "b"]
    assert reader.get("a", b"k") == b"1"
    assert reader.get("a", b"absent") is None
    assert reader.multi_get("b", [b"k", b"l"]) == [b"1", None]
    assert list(reader.scan("b")) == list(reader.scan("b", reverse=True)) == [(b"k", b"1")]
    with reader.snapshot() as snapshot:
        assert list(snapshot.prefix_scan("a", b"k")) == [(b"k", b"1")]
        assert snapshot.get("b", b"k") == b"1"


@pytest.mark.parametrize("mode", ["ro", "secondary"])
def test_a_reader_changes_nothing_in_the_store(store: Open, path: Path, mode: str) -> None:
    """Opening for reading wrote into the store's directory."""
    backend = store()
    backend.put("a", b"k", b"v")
    backend.close()
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with store([], mode=mode) as reader:
        reader.catch_up()
        assert reader.get("a", b"k") == b"v"

    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_reader_does_not_lock_the_store(store: Open, process: Start) -> None:
    """With a reader open, no other process could open the store for writing."""
    store().close()
    reader = store([], mode="ro")

    assert process(PRIMARY).line() == "ready"
    assert reader.get("a", b"k") is None


def test_a_secondary_sees_new_commits_after_catch_up(store: Open, process: Start) -> None:
    """After ``catch_up`` a secondary lacks what another process committed, or a batch over families is torn."""
    primary = process(PRIMARY)
    assert primary.line() == "ready"
    secondary = store([], mode="secondary")
    assert secondary.get("a", b"k") == b"1"

    advance(primary)
    secondary.catch_up()
    assert (secondary.get("a", b"k"), secondary.get("b", b"k")) == (b"2", b"2")
    assert list(secondary.scan("a")) == [(b"k", b"2"), (b"new", b"v")]
    advance(primary)
    secondary.catch_up()
    assert list(secondary.scan("a")) == [(b"k", b"2")]


def test_a_secondary_follows_a_primary_in_its_own_process(store: Open) -> None:
    """A secondary beside its primary in one process does not catch up, or shares its engine."""
    primary = store()
    primary.put("a", b"k", b"1")
    secondary = store([], mode="secondary")
    primary.put("a", b"k", b"2")
    assert secondary.get("a", b"k") in (b"1", b"2")
    secondary.catch_up()
    assert secondary.get("a", b"k") == b"2"
    secondary.close()

    primary.put("a", b"k", b"3")
    assert primary.get("a", b"k") == b"3"


@pytest.mark.parametrize("read_before", [False, True])
def test_a_snapshot_of_a_secondary_stays_over_catch_up(store: Open, process: Start, read_before: bool) -> None:
    """A snapshot held over ``catch_up`` moved on with it: gets, scans begun before or after it, other families."""
    primary = process(PRIMARY)
    assert primary.line() == "ready"
    secondary = store([], mode="secondary")
    snapshot = secondary.snapshot()
    scan = snapshot.scan("a")
    if read_before:
        assert snapshot.get("a", b"k") == b"1"
    for _ in range(2):
        advance(primary)
        secondary.catch_up()

        assert [snapshot.get(family, b"k") for family in "ab"] == [b"1", b"1"]
        assert snapshot.multi_get("a", [b"k", b"new"]) == [b"1", None]
        for family in "ab":
            assert list(snapshot.scan(family)) == list(snapshot.scan(family, reverse=True)) == [(b"k", b"1")]
    assert list(scan) == [(b"k", b"1")]
    with secondary.snapshot() as later:
        assert list(later.scan("a")) == [(b"k", b"2")]


def test_families_created_after_a_secondary_opened_need_a_new_one(store: Open, process: Start) -> None:
    """A family that is new since the secondary opened broke ``catch_up``, or is missing after reopening."""
    primary = process(PRIMARY)
    assert primary.line() == "ready"
    secondary = store([], mode="secondary")
    for _ in range(4):
        advance(primary)
    secondary.catch_up()
    assert sum(1 for _ in secondary.scan("a")) == 501
    with pytest.raises(exc.UnknownColumnFamily):
        secondary.get("c", b"k")
    secondary.close()

    with store([], mode="secondary") as again:
        assert again.get("c", b"k") == b"1"


def test_a_secondary_scans_while_it_catches_up(store: Open) -> None:
    """A scan of a secondary that was half read when it caught up lost its place or showed later rows."""
    primary = store()
    batch = WriteBatch()
    for number in range(0, 3000, 2):
        batch.put("a", b"%05d" % number, b"old")
    primary.batch_write(batch)
    secondary = store([], mode="secondary")
    forward, backward = secondary.scan("a"), secondary.scan("a", reverse=True)
    seen, back = [next(forward)], [next(backward)]
    for number in range(0, 3000, 3):
        primary.batch_write(WriteBatch().put("a", b"%05d" % number, b"new").delete("a", b"%05d" % (number + 4)))
    primary.flush()
    primary.compact("a")
    secondary.catch_up()
    seen += forward
    back += backward

    assert seen == back[::-1] == [(b"%05d" % number, b"old") for number in range(0, 3000, 2)]


def test_prefix_blooms_work_on_readers(store: Open) -> None:
    """A reader that declares no families lost rows in ranges of a family with a prefix bloom."""
    primary = store({"p": ColumnFamilyOptions(bloom="prefix", prefix_length=2)})
    for number in range(0, 40, 4):
        primary.put("p", b"%02d-x" % number, b"v")
    primary.flush()
    primary.put("p", b"98-x", b"v")
    for mode in ("ro", "secondary"):
        with store([], mode=mode) as reader:
            assert [key for key, _ in reader.scan("p", b"05", b"13")] == [b"08-x", b"12-x"]
            assert [key for key, _ in reader.prefix_scan("p", b"36")] == [b"36-x"]
            assert [key for key, _ in reader.scan("p", b"37")] == [b"98-x"]
            assert sum(1 for _ in reader.scan("p", reverse=True)) == 11


def test_a_secondary_with_a_bound_on_open_files_is_refused(store: Open) -> None:
    """``mode=secondary`` with another ``max_open_files`` than -1 was taken: it would lose files under its feet."""
    store().close()

    with pytest.raises(exc.ArgumentError, match="max_open_files"):
        store([], mode="secondary", max_open_files=10)


@pytest.mark.parametrize("mode", ["ro", "secondary"])
def test_a_store_opened_beside_a_flush_has_no_hole(
    process: Start, url: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush between the reading of the manifest and of the logs took the commits in one log out of the middle."""
    other = process(
        """
        backend = open_backend(URL, ["a", "b"])
        backend.put("a", b"1", b"v")
        say("ready")
        input()
        backend.put("a", b"2", b"v")
        backend.flush()
        backend.put("a", b"3", b"v")
        say("flushed")
        input()
        """
    )
    assert other.line() == "ready"
    opened: list[object] = []
    original = RocksDBEngine._open_as_it_is

    def opening(engine: RocksDBEngine, declared: Any) -> Any:
        database = original(engine, declared)
        opened.append(engine)
        if len(opened) == 1:
            other.go_on()
            assert other.line() == "flushed"
        return database

    monkeypatch.setattr(RocksDBEngine, "_open_as_it_is", opening)
    with open_backend(f"{url}?mode={mode}") as backend:
        assert [key for key, _ in backend.scan("a")] == [b"1", b"2", b"3"]
    assert len(opened) == 2


@pytest.mark.parametrize("mode", ["ro", "secondary"])
def test_a_backup_is_made_by_the_writer(store: Open, url: str, mode: str, tmp_path: Path) -> None:
    """One that was made where the store is open for reading lacked what is only in the log, and was called good."""
    store().put("a", b"k", b"v")
    with open_backend(f"{url}?mode={mode}") as backend, pytest.raises(exc.NotSupportedError, match="open for writing"):
        backend.backup(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_secondary_says_that_it_cannot_follow_a_family_that_came_and_went(store: Open, url: str) -> None:
    """It was called damage, for which a backup is to be restored."""
    writer = store()
    with open_backend(f"{url}?mode=secondary") as backend:
        writer.create_column_family("c")
        writer.drop_column_family("c")
        writer.put("a", b"k", b"v")
        with pytest.raises(exc.ReopenRequired, match="close it and open it again"):
            backend.catch_up()
    with open_backend(f"{url}?mode=secondary") as backend:
        assert backend.get("a", b"k") == b"v"
