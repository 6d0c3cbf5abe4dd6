"""A directory that is moved, removed or replaced while a process has the store in it open."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvdialect import exc, open_backend, restore
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.storage.filelock import FileLock
from kvdialect.storage.location import Location

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody move a directory with open files")

ENGINES = [
    pytest.param("lmdb", marks=pytest.mark.engine("lmdb")),
    pytest.param("rocksdb", marks=pytest.mark.engine("rocksdb")),
]
Open = Callable[..., StorageBackend]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def live(engine: str, tmp_path: Path) -> Path:
    """A store of 100 rows, some of them in table files, with a backup beside it."""
    with open_backend(f"{engine}:///{tmp_path / 'live'}", ["a"]) as backend:
        for part in range(2):
            backend.batch_write(rows(range(part * 50, part * 50 + 50)))
            backend.flush()
        backend.backup(tmp_path / "backup")
    return tmp_path / "live"


def rows(numbers: range) -> WriteBatch:
    batch = WriteBatch()
    for number in numbers:
        batch.put("a", b"%03d" % number, b"v")
    return batch


def other_process(path: Path, engine: str, code: str) -> None:
    """Run ``code`` in another process that has the store open as ``backend``."""
    program = (
        f"from kvdialect import open_backend\nwith open_backend({f'{engine}:///{path}'!r}) as backend:\n    {code}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def replace(live: Path, how: str) -> None:
    """Put the backup in the place of the store."""
    if how == "moved":
        live.rename(live.with_name("old"))
    else:
        shutil.rmtree(live)
    restore(live.with_name("backup"), live)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("used", [False, True], ids=["untouched", "in use"])
@pytest.mark.parametrize("how", ["moved", "removed"])
@pytest.mark.parametrize("durability", ["sync", "wal", "none"])
def test_a_process_that_closes_late_leaves_the_store_that_took_the_place_alone(
    engine: str, live: Path, durability: str, how: str, used: bool
) -> None:
    """RocksDB's close wrote its memtables, log and manifest into the restored store, and both engines their note."""
    late = open_backend(f"{engine}:///{live}?durability={durability}")
    for number in range(100):
        late.delete("a", b"%03d" % number)
    replace(live, how)
    if used:
        other_process(live, engine, 'backend.put("a", b"100", b"v")')
    before = contents(live)

    with pytest.raises(exc.BackendError, match="was moved, removed or replaced while it was open") as caught:
        late.close()

    assert (caught.value.path, caught.value.operation) == (str(live), "close")
    assert late.closed
    assert contents(live) == before
    with open_backend(f"{engine}:///{live}") as backend:
        assert len(list(backend.scan("a"))) == 100 + used


def test_the_end_of_the_program_leaves_the_store_that_took_the_place_alone(engine: str, live: Path) -> None:
    """A handle that is closed as the interpreter ends, or never, is no other case."""
    program = f"""
from kvdialect import open_backend
backend = open_backend({f"{engine}:///{live}"!r})
for number in range(100):
    backend.delete("a", b"%03d" % number)
print("up", flush=True)
input()"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as late:
        assert late.stdout is not None
        late.stdout.readline()
        replace(live, "moved")
        before = contents(live)
        _, said = late.communicate(b"\n", timeout=60)

    assert (late.returncode, contents(live) == before) == (0, True), said
    assert b"was moved, removed or replaced" in said


def test_what_was_committed_is_in_the_store_that_was_moved(engine: str, live: Path) -> None:
    """The moved files have all commits, and this process can open them, and what took the place."""
    late = open_backend(f"{engine}:///{live}")
    late.batch_write(rows(range(100, 120)))
    replace(live, "moved")
    with pytest.raises(exc.BackendError):
        late.close()

    for path, count in (live.with_name("old"), 120), (live, 100):
        with open_backend(f"{engine}:///{path}") as backend:
            assert len(list(backend.scan("a"))) == count
            backend.put("a", b"new", b"v")
            backend.flush()
    with open_backend(f"{engine}:///{live}") as backend:
        assert backend.get("a", b"new") == b"v"


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_what_is_open_is_not_given_for_what_took_its_place(engine: str, live: Path, how: str) -> None:
    """A second opening in the process gave the old engine, though nothing was there, or FileNotFoundError."""
    late = open_backend(f"{engine}:///{live}")
    if how == "replaced":
        replace(live, "moved")
    elif how == "moved":
        live.rename(live.with_name("old"))
    else:
        shutil.rmtree(live)

    with pytest.raises(exc.ReopenRequired, match="moved, removed or replaced since; close it first") as caught:
        open_backend(f"{engine}:///{live}", ["a"])

    assert caught.value.path == str(live)
    if how == "replaced":
        with pytest.raises(exc.BackendError):
            late.close()
    else:
        late.close()
    with open_backend(f"{engine}:///{live}", ["a"]) as backend:
        assert len(list(backend.scan("a"))) == (100 if how == "replaced" else 0)


def test_a_place_where_nothing_is_any_more_is_told_to_the_log(
    engine: str, live: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing what was removed, or moved away for good, harms nobody and is no error."""
    late = open_backend(f"{engine}:///{live}")
    late.put("a", b"k", b"v")
    live.rename(live.with_name("old"))

    with caplog.at_level(logging.INFO, "kvdialect.storage.engine"):
        late.close()

    assert f"the store at {live} was moved" in caplog.text
    assert not live.exists()
    with open_backend(f"{engine}:///{live.with_name('old')}") as backend:
        assert backend.get("a", b"k") == b"v"


def test_a_reader_closes_whatever_became_of_the_store(engine: str, live: Path) -> None:
    """It has nothing to write, so there is nothing to tell."""
    reader = open_backend(f"{engine}:///{live}?mode=ro")
    replace(live, "removed")
    before = contents(live)

    assert reader.get("a", b"000") == b"v"
    reader.close()

    assert contents(live) == before


CALLS: dict[str, Callable[[StorageBackend], object]] = {
    "put": lambda backend: backend.put("a", b"late", b"v"),
    "flush": lambda backend: backend.flush(),
    "compact": lambda backend: backend.compact("a"),
    "create": lambda backend: backend.create_column_family("b"),
    "drop": lambda backend: backend.drop_column_family("a"),
    "options": lambda backend: backend.column_family_options("a"),
    "backup": lambda backend: backend.backup(f"{backend.path}.copy"),
}


@pytest.mark.engine("rocksdb")
@pytest.mark.parametrize("engine", ["rocksdb"])
@pytest.mark.parametrize("durability", ["sync", "wal", "none"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_rocksdb_refuses_what_goes_by_the_path(
    engine: str,
    live: Path,
    durability: str,
    call: Callable[[StorageBackend], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RocksDB makes each new file by path: a log or a table of this process would be in the restored store."""
    monkeypatch.setattr("kvdialect.storage.rocksdb.commit._ATTENTION", 0.0)
    late = open_backend(f"{engine}:///{live}?durability={durability}")
    late.put("a", b"early", b"v")
    replace(live, "moved")
    before = contents(live)

    for _ in range(2):
        with pytest.raises(exc.ReopenRequired, match=r"while it was open; nothing was .+ \(close it and open it again"):
            call(late)
    assert late.get("a", b"early") == b"v"
    assert late.get("a", b"late") is None
    with pytest.raises(exc.BackendError):
        late.close()

    assert contents(live) == before
    with open_backend(f"{engine}:///{live.with_name('old')}") as backend:
        assert backend.get("a", b"early") == (None if durability == "none" else b"v")
        assert backend.get("a", b"late") is None


@pytest.mark.engine("rocksdb")
@pytest.mark.parametrize("engine", ["rocksdb"])
def test_a_lock_that_was_waited_for_is_that_of_the_store(
    engine: str, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had waited for the lock of a store that was moved opened the one in its place without a lock."""

    def acquire(lock: FileLock, timeout: float) -> bool:
        monkeypatch.undo()
        replace(live, "moved")
        return lock.acquire(timeout)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(exc.BackendError, match="was moved, removed or replaced meanwhile; try again") as caught:
        open_backend(f"{engine}:///{live}?lock_timeout=30")

    assert caught.value.retryable
    with open_backend(f"{engine}:///{live}") as backend:
        assert backend.get("a", b"000") == b"v"


@pytest.mark.engine("lmdb")
@pytest.mark.parametrize("engine", ["lmdb"])
def test_lmdb_goes_on_in_the_files_that_it_has_open(engine: str, live: Path) -> None:
    """LMDB has its file open: commits go where that was moved to, and a backup saves even what was removed."""
    late = open_backend(f"{engine}:///{live}")
    replace(live, "removed")
    before = contents(live)

    late.put("a", b"late", b"v")
    late.backup(live.with_name("saved"))
    with pytest.raises(exc.BackendError):
        late.close()

    assert contents(live) == before
    with open_backend(f"{engine}:///{live.with_name('saved')}") as backend:
        assert len(list(backend.scan("a"))) == 101


def test_a_location_holds_its_marker_open_until_it_is_closed(tmp_path: Path) -> None:
    """The number of a file that is removed and not open is soon another's, which would pass for the store."""
    (tmp_path / "KVDIALECT").write_text("{}")
    location = Location(str(tmp_path))
    for _ in range(5):
        (tmp_path / "KVDIALECT").unlink()
        (tmp_path / "KVDIALECT").write_text("{}")

        assert not location.holds()
    location.close()
    del location
    gc.collect()


def test_a_location_that_cannot_be_looked_at_is_taken_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing disk says nothing about where a store is."""
    (tmp_path / "KVDIALECT").write_text("{}")
    location = Location(str(tmp_path))

    def fail(_path: str) -> None:
        raise PermissionError

    monkeypatch.setattr("kvdialect.storage.location.os.stat", fail)

    assert location.holds()
