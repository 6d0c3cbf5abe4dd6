"""Hazards 18, 19, 20, 22, 25: who may open a path, what is a store, and what closing leaves behind."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import rocksdict

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import StorageBackend, WriteBatch

pytestmark = pytest.mark.engine("rocksdb")

Open = Callable[..., StorageBackend]
Start = Callable[[str], Any]

HOLD = """
backend = open_backend(URL, ["a", "b"])
backend.put("a", b"k", b"v")
say("open")
input()
backend.close()
say("closed")
input()
"""


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "kvdialect.lock"}


# ------------------------------------------------------------------------------------------- hazard 18: the lock


def test_a_second_process_is_refused_at_once_with_the_holders_pid(process: Start, store: Open) -> None:
    """A store that another process holds was not refused at once, or the error does not name the holder."""
    other = process(HOLD)
    assert other.line() == "open"
    began = time.monotonic()

    with pytest.raises(exc.StoreLocked, match=f"pid {other.pid}") as caught:
        store()
    assert caught.value.holder_pid == other.pid  # type: ignore[attr-defined]
    assert caught.value.retryable
    assert time.monotonic() - began < 5


def test_a_refused_opener_changes_nothing(process: Start, store: Open, path: Path) -> None:
    """A refused opener rewrote files of the store (rocksdict writes its config file before it looks at the lock)."""
    other = process(HOLD)
    assert other.line() == "open"
    config = path / "rocksdict-config.json"
    before, stamp = contents(path), config.stat().st_mtime_ns

    for _ in range(3):
        with pytest.raises(exc.StoreLocked):
            store(["a", "new"])
    assert contents(path) == before
    assert config.stat().st_mtime_ns == stamp


def test_an_opener_with_lock_timeout_waits(process: Start, store: Open) -> None:
    """``lock_timeout`` did not wait for the holder to close."""
    other = process(HOLD)
    assert other.line() == "open"
    timer = threading.Timer(0.3, other.go_on)
    timer.start()
    backend = store(lock_timeout=30)

    assert backend.get("a", b"k") == b"v"
    timer.join()


def test_an_opener_with_lock_timeout_gives_up(process: Start, store: Open) -> None:
    """``lock_timeout`` ran out without StoreLocked."""
    other = process(HOLD)
    assert other.line() == "open"
    began = time.monotonic()

    with pytest.raises(exc.StoreLocked):
        store(lock_timeout=0.3)
    assert 0.25 < time.monotonic() - began < 10


def test_the_lock_is_free_when_its_holder_was_killed(process: Start, store: Open) -> None:
    """After ``kill -9`` of its holder the store stayed locked, or lost what was acknowledged."""
    other = process(HOLD)
    assert other.line() == "open"
    other.kill()

    assert store().get("a", b"k") == b"v"


def test_one_process_shares_one_engine_by_real_path(store: Open, path: Path, tmp_path: Path) -> None:
    """The same store under another name (a link, a relative path) was opened a second time."""
    first = store()
    link = tmp_path / "link"
    link.symlink_to(path)
    names = [str(link), str(path.parent / "x" / ".." / "store"), os.path.relpath(path)]
    for name in names:
        with open_backend(f"rocksdb:///{name}") as second:
            second.put("a", name.encode(), b"v")

            assert first.get("a", name.encode()) == b"v"
    first.put("a", b"still open", b"v")


def test_another_process_opens_the_store_after_close(process: Start, store: Open) -> None:
    """After ``close`` another process could not open the store."""
    backend = store()
    backend.put("a", b"k", b"v")
    backend.close()
    other = process(HOLD)

    assert other.line() == "open"


# ------------------------------------------------------------------------------------- hazard 22: close is a close


def test_close_ends_snapshots_and_iterators_and_frees_the_store(process: Start, store: Open) -> None:
    """With snapshots and iterators alive, ``close`` left RocksDB open: the lock stayed, or reads went on."""
    backend = store()
    batch = WriteBatch()
    for number in range(1000):
        batch.put("a", b"%04d" % number, b"v")
    backend.batch_write(batch)
    live, sealed = backend.snapshot(), backend.snapshot()
    scans = [backend.scan("a"), sealed.scan("a"), sealed.scan("a", reverse=True), backend.prefix_scan("a", b"0")]
    backend.put("a", b"later", b"v")
    scans.append(sealed.scan("a"))
    get, snapshot_get = backend.get, live.get
    for scan in scans:
        next(scan)
    backend.close()
    backend.close()

    calls: list[Callable[[], object]] = [
        lambda: backend.get("a", b"k"),
        lambda: get("a", b"k"),
        lambda: backend.put("a", b"k", b"v"),
        backend.snapshot,
        lambda: backend.scan("a"),
        lambda: live.get("a", b"0001"),
        lambda: snapshot_get("a", b"0001"),
        lambda: sealed.scan("a"),
        *(partial(list, scan) for scan in scans),
    ]
    for call in calls:
        with pytest.raises(exc.StoreClosed):
            call()
    other = process(HOLD)
    assert other.line() == "open"
    other.go_on()
    assert other.line() == "closed"
    assert store().get("a", b"later") == b"v"


def test_a_store_dropped_without_close_is_freed(url: str) -> None:
    """A backend that was merely forgotten kept the store locked."""
    open_backend(url, ["a"]).put("a", b"k", b"v")

    with open_backend(url) as backend:
        assert backend.get("a", b"k") == b"v"


def test_the_last_handle_closes_the_engine(store: Open, process: Start) -> None:
    """Closing one of two handles closed the other, or closing both left the store open."""
    first, second = store(), store()
    scan = second.scan("a")
    first.put("a", b"k", b"v")
    first.close()
    with pytest.raises(exc.StoreClosed):
        first.get("a", b"k")

    assert second.get("a", b"k") == b"v"
    assert list(scan) == []
    second.close()
    assert process(HOLD).line() == "open"


def test_closing_while_threads_read_and_write_gives_store_closed(store: Open, process: Start) -> None:
    """Threads at work while the store was closed saw another error than StoreClosed, or the store stayed open."""
    backend = store()
    backend.put("a", b"k", b"v")
    errors: list[BaseException] = []

    def work(kind: int) -> None:
        try:
            while True:
                if kind == 0:
                    backend.get("a", b"k")
                elif kind == 1:
                    backend.put("a", b"k", b"v")
                elif kind == 2:
                    list(backend.scan("a"))
                else:
                    with backend.snapshot() as snapshot:
                        snapshot.get("a", b"k")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at
            errors.append(error)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in (0, 1, 2, 3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    backend.close()
    for thread in threads:
        thread.join(30)

    assert [type(error) for error in errors] == [exc.StoreClosed] * 4
    assert process(HOLD).line() == "open"


# --------------------------------------------------------------------------- hazards 19 and 20: what is a store


def test_an_existing_empty_directory_becomes_a_store(store: Open, path: Path) -> None:
    """A store could not be made in an empty directory that was there already."""
    path.mkdir()
    began = time.monotonic()
    store().put("a", b"k", b"v")

    assert time.monotonic() - began < 5


def test_a_foreign_directory_is_refused_and_untouched(url: str, path: Path) -> None:
    """A directory of other files was taken for a store, or something was written into it."""
    path.mkdir()
    (path / "letter.txt").write_text("dear")

    for mode in ("rw", "ro", "secondary"):
        with pytest.raises(exc.NotAStore):
            open_backend(f"{url}?mode={mode}")
    assert [file.name for file in path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("kind", ["raw", "pickled", "ttl"])
def test_a_database_of_another_program_is_refused_and_untouched(url: str, path: Path, kind: str) -> None:
    """A RocksDB database that is no store of ours (other raw mode, a time to live) was opened, or written to."""
    options = rocksdict.Options(raw_mode=kind != "pickled")
    options.create_if_missing(True)
    access = rocksdict.AccessType.with_ttl(3600) if kind == "ttl" else rocksdict.AccessType.read_write()
    database = rocksdict.Rdict(str(path), options, access_type=access)
    database[b"k"] = b"value"
    database.close()
    before = contents(path)

    with pytest.raises(exc.NotAStore):
        open_backend(url)
    assert contents(path) == before


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_nothing_or_a_file_at_the_path_is_not_a_store(url: str, path: Path, name: str) -> None:
    """Reading where there is nothing, or a plain file, is not NotAStore, or something was created."""
    if name == "file":
        path.write_text("a file")

    for mode in ("ro", "secondary", *(["rw"] if name == "file" else [])):
        with pytest.raises(exc.NotAStore):
            open_backend(f"{url}?mode={mode}")
    assert path.is_file() == (name == "file")
    assert path.is_dir() is False


def test_a_newer_format_is_refused(store: Open, path: Path) -> None:
    """A store of a newer storage format was opened."""
    store().close()
    marker = path / "KVDIALECT"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 99}))

    with pytest.raises(exc.StoreFormatError, match="99"):
        store()


def test_a_store_of_another_engine_is_refused(store: Open, path: Path) -> None:
    """A store whose marker names another engine was opened."""
    store().close()
    marker = path / "KVDIALECT"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "engine": "lmdb"}))

    with pytest.raises(exc.StoreFormatError, match="lmdb"):
        store()


def test_a_kill_during_creation_leaves_the_whole_store_or_none(process: Start, store: Open, path: Path) -> None:
    """A store whose creation was killed could not be opened or created again."""
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04):
        other = process(
            """
            say("ready")
            open_backend(URL, ["a", "b"])
            say("made")
            time.sleep(60)
            """
        )
        assert other.line() == "ready"
        time.sleep(delay)
        other.kill()
        if path.exists():
            assert (path / "KVDIALECT").exists()

        backend = store()
        backend.put("a", b"k", b"v")
        assert backend.column_families() == ["a", "b"]
        backend.close()
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert [file.name for file in path.parent.iterdir()] == []


def test_a_process_killed_as_it_builds_a_store_leaves_nothing_at_its_path(
    process: Start, store: Open, path: Path
) -> None:
    """Half a store stood where the next one looks."""
    other = process(
        """
        from kvdialect.storage import storedir
        storedir._write_marker = lambda *_: (say("built"), time.sleep(60))
        open_backend(URL, ["a"])
        """
    )
    assert other.line() == "built"
    other.kill()

    assert not path.exists()
    store().close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# ------------------------------------------------------------------------------------- hazard 25: unsafe options


@pytest.mark.parametrize("option", ["sync", "disable_wal", "ttl", "raw_mode", "comparator", "compaction", "lock"])
def test_options_that_can_lose_data_are_refused(url: str, path: Path, option: str) -> None:
    """A driver's option that can lose or tear data was taken, or ignored in silence."""
    with pytest.raises(exc.ArgumentError, match=option) as caught:
        open_backend(f"{url}?{option}=1")

    assert "refused" in str(caught.value)
    assert not path.exists()


def test_a_misspelt_option_names_its_near_match(url: str) -> None:
    """A misspelt option was taken, or the error does not say what was meant."""
    with pytest.raises(exc.ArgumentError, match="block_cache_size"):
        open_backend(f"{url}?block_cach_size=1MiB")


def test_fifo_is_never_a_default() -> None:
    """A family that was not asked to has FIFO compaction, which drops old data."""
    assert ColumnFamilyOptions().compaction == "level"
