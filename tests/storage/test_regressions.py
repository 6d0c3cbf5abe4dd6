"""Bugs that were fixed: each keeps its example."""

from __future__ import annotations

import copy
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from unittest import mock

import pytest

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import WriteBatch
from kvdialect.storage.engine import EngineSnapshot
from kvdialect.storage.filelock import FileLock
from kvdialect.storage.interrupts import HeldInterrupts

ENGINES = [
    pytest.param("memory:///{}", marks=pytest.mark.engine("memory"), id="memory"),
    pytest.param("lmdb:///{}", marks=pytest.mark.engine("lmdb"), id="lmdb"),
    pytest.param("rocksdb:///{}", marks=pytest.mark.engine("rocksdb"), id="rocksdb"),
]


@pytest.fixture(params=ENGINES)
def url(request, tmp_path):
    """The URL of a store of each engine."""
    return request.param.format(tmp_path / "store")


class SubBytes(bytes):
    """Bytes of a subclass, as numpy has."""


def test_a_subclass_of_bytes_is_a_value_like_another(url):
    """A put whose value is of a subclass of bytes was turned into something else."""
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"gone", b"1")
        backend.batch_write(WriteBatch().put("a", b"sub", SubBytes(b"value")).delete("a", b"gone"))

        assert list(backend.scan("a")) == [(b"sub", b"value")]


@pytest.mark.parametrize("end", ["backend", "snapshot"])
def test_an_iterator_yields_nothing_after_its_end(url, end):
    """An iterator went on from what it had read ahead after its snapshot or store was closed."""
    backend = open_backend(url, ["a"])
    backend.batch_write(WriteBatch().put("a", b"1", b"").put("a", b"2", b"").put("a", b"3", b""))
    snapshot = backend.snapshot()
    pairs = snapshot.scan("a")
    assert next(pairs) == (b"1", b"")

    (backend if end == "backend" else snapshot).close()

    with pytest.raises(exc.StoreClosed):
        next(pairs)
    backend.close()


@pytest.mark.parametrize("step", ["keep", "snapshot"])
def test_a_scan_that_a_close_overtakes_ends_with_its_store(url, monkeypatch, step):
    """A scan or snapshot made while another thread closed the handle was not ended, and said "unknown family"."""
    backend = open_backend(url, ["a"])
    other = open_backend(url)  # keeps the engine open
    for value in (b"1", b"2"):
        backend.put("a", b"k", value)  # so that the state that the scan is of is no longer the current one
    if step == "keep":
        keep = EngineSnapshot.keep

        def closed_before(snapshot, scan):
            other.put("a", b"k", b"3")
            backend.close()
            keep(snapshot, scan)

        monkeypatch.setattr(EngineSnapshot, "keep", closed_before)
    else:
        take = backend.engine.take_snapshot

        def closed_behind():
            snapshot = take()
            backend.close()
            return snapshot

        monkeypatch.setattr(backend.engine, "take_snapshot", closed_behind)

    with pytest.raises(exc.StoreClosed):
        list(backend.scan("a"))
    monkeypatch.undo()
    engine = other.engine
    assert not engine.snapshots()
    other.close()
    assert engine.closed or not engine.capabilities.persistent


def test_closing_under_load_gives_store_closed_and_the_files_back(url):
    """Calls that a close overtook said many things (unknown family, an attribute's name), or kept RocksDB's lock."""
    calls = [
        lambda backend: backend.get("a", b"k"),
        lambda backend: backend.multi_get("a", [b"k", b"l"]),
        lambda backend: backend.put("a", b"k", b"v"),
        lambda backend: list(backend.scan("a")),
        lambda backend: list(backend.scan("a", b"", b"z", reverse=True)),
        _read_a_snapshot,
    ]
    interval = sys.getswitchinterval()
    failed = threading.Event()
    try:
        sys.setswitchinterval(1e-5)
        for number in range(8):
            backend = open_backend(f"{url}{number}", ["a"])
            errors: list[BaseException] = []

            def work(call, backend=backend, errors=errors):
                try:
                    while not failed.is_set():
                        call(backend)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at
                    errors.append(error)  # noqa: B023 - it is this function's own

            threads = [threading.Thread(target=work, args=(call,)) for call in calls * 2]
            for thread in threads:
                thread.start()
            time.sleep(0.005 * number)
            backend.close()
            for thread in threads:
                thread.join(30)

            assert [type(error) for error in errors] == [exc.StoreClosed] * len(threads)
            open_backend(f"{url}{number}").close()  # with the errors' tracebacks still held
    finally:
        failed.set()
        sys.setswitchinterval(interval)


def _read_a_snapshot(backend):
    with backend.snapshot() as snapshot:
        snapshot.get("a", b"k")
        snapshot.multi_get("a", [b"k"])
        snapshot.first_pairs("a", b"", None, 5)


def test_a_commit_right_behind_a_snapshot_is_not_in_it(url, monkeypatch):
    """In memory, a commit between the taking of a snapshot and its entry with the handle took its values away."""
    with open_backend(url, ["a"]) as backend:
        backend.batch_write(WriteBatch().put("a", b"1", b"old").put("a", b"2", b"old"))

        def commit_first(child, add=backend.children.add):
            backend.batch_write(WriteBatch().put("a", b"1", b"new").delete("a", b"2").put("a", b"3", b"new"))
            add(child)

        children = mock.Mock(wraps=backend.children)
        children.add.side_effect = commit_first
        children.__iter__ = mock.Mock(side_effect=backend.children.__iter__)
        monkeypatch.setattr(backend, "children", children)
        with backend.snapshot() as snapshot:
            assert list(snapshot.scan("a")) == [(b"1", b"old"), (b"2", b"old")]
            assert snapshot.get("a", b"2") == b"old"


def test_closing_a_handle_from_many_threads_closes_no_other(url):
    """Several threads that closed one handle at once took references away that were another handle's."""
    with open_backend(url, ["a"]) as other:
        for _ in range(20):
            handle = open_backend(url)
            threads = [threading.Thread(target=handle.close) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        other.put("a", b"k", b"v")
        assert other.get("a", b"k") == b"v"


@pytest.mark.engine("rocksdb")
@pytest.mark.parametrize("name", ["users:by_email", "a#b", "a\\b", "#a", 'a"b', "a]b", "a = b", "ä", " "])
def test_names_with_signs_survive_reopening(tmp_path, name):
    """RocksDB escapes some characters of a family's name in its options file."""
    url = f"rocksdb:///{tmp_path / 'store'}"
    with open_backend(url, [name]) as backend:
        backend.put(name, b"k", b"v")

    with open_backend(url) as backend:
        assert backend.column_families() == [name]
        assert backend.get(name, b"k") == b"v"
    with pytest.raises(exc.StoreFormatError, match="compaction='level'"):
        open_backend(url, {name: ColumnFamilyOptions(compaction="fifo", fifo_max_size="1KiB")})


@pytest.mark.parametrize("database", ["x\0y", "", "x" * 501, 5, b"x", "\ud800"])
def test_a_database_name_that_lmdb_would_misread_is_refused(database):
    """LMDB ends a name at a NUL: two families fell into one database."""
    with pytest.raises(exc.ArgumentError, match="lmdb_database"):
        ColumnFamilyOptions(lmdb_database=database)


def test_expectations_count_for_the_bound_of_a_batch():
    """A batch could hold any amount in its expectations."""
    batch = WriteBatch(max_bytes=100)

    with pytest.raises(exc.BatchTooLarge):
        batch.expect("a", b"k", bytes(200))
    with pytest.raises(exc.BatchTooLarge):
        batch.expect_range("a", bytes(200), None, b"")
    assert not batch


def test_an_expectation_of_a_wrong_type_leaves_nothing_behind():
    """The batch kept the bad value, and conflicted for ever."""
    batch = WriteBatch()

    with pytest.raises(TypeError):
        batch.expect("a", b"k", "text")  # type: ignore[arg-type]
    assert not batch


def test_an_addition_after_a_copied_deletion_counts_from_zero():
    """A deletion was known by identity, which a copy has not."""
    batch = copy.deepcopy(WriteBatch().delete("a", b"k")).add("a", b"k", 1)

    assert batch.changes["a"][b"k"] == (1).to_bytes(8, "big")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        pytest.param("lmdb:///x", {"map_size": 2**70}, marks=pytest.mark.engine("lmdb")),
        pytest.param("lmdb:///x", {"max_dbs": 2**31}, marks=pytest.mark.engine("lmdb")),
        pytest.param("rocksdb:///x", {"block_cache_size": 2**70}, marks=pytest.mark.engine("rocksdb")),
        pytest.param("rocksdb:///x", {"max_background_jobs": 2**40}, marks=pytest.mark.engine("rocksdb")),
    ],
)
def test_a_number_that_no_engine_takes_is_an_argument_error(url, options):
    """The driver's OverflowError reached the caller."""
    with pytest.raises(exc.ArgumentError):
        open_backend(url, **options)


@pytest.mark.engine("rocksdb")
def test_writes_that_outrun_the_flushes_wait_and_get_through(tmp_path):
    """RocksDB stalled within the driver, holding the interpreter, while memtables waited to be flushed."""
    small = ColumnFamilyOptions(write_buffer_size="64KiB")
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.005)

    with open_backend(f"rocksdb:///{tmp_path / 'store'}?durability=wal", {"a": small}) as backend:
        ticker = threading.Thread(target=tick)
        ticker.start()
        for number in range(4000):
            backend.put("a", b"%08d" % number, bytes(5000))
        stop.set()
        ticker.join()

        assert sum(1 for _ in backend.scan("a")) == 4000
    assert len(ticks) > 3


FETCHED = """
import os, sys
from kvdialect import exc, open_backend

backend = open_backend(sys.argv[1], ["a"])
backend.put("a", b"k", b"v")
snapshot = backend.snapshot()
calls = [
    (backend.get, ("a", b"k")), (backend.multi_get, ("a", [b"k"])), (snapshot.get, ("a", b"k")),
    (snapshot.multi_get, ("a", [b"k"])), (snapshot.scan, ("a",)), (backend.scan, ("a",)), (backend.stats, ()),
    (backend.column_families, ()), (backend.compact, ("a",)), (backend.put, ("a", b"x", b"y")),
]
child = os.fork()
if child == 0:
    bad = []
    for call, arguments in calls:
        try:
            bad.append((call.__name__, call(*arguments)))
        except exc.ForkedProcess:
            pass
        except BaseException as error:
            bad.append((call.__name__, repr(error)))
    print(bad, flush=True)
    os._exit(0)
os.waitpid(child, 0)
assert snapshot.get("a", b"k") == backend.get("a", b"k") == b"v"
backend.put("a", b"z", b"z")
backend.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_methods_fetched_before_a_fork_refuse_in_the_child(url):
    """A method taken from a handle or snapshot before the fork went on in the child, through the parent's files."""
    done = subprocess.run([sys.executable, "-c", FETCHED, url], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.engine("rocksdb")
def test_a_dropped_family_gives_its_files_back_while_the_store_is_open(tmp_path):
    """The store held on to a dropped family, and RocksDB to its files, until it was closed."""
    folder = tmp_path / "store"
    with open_backend(f"rocksdb:///{folder}", {"a": ColumnFamilyOptions(compression="none")}) as backend:
        batch = WriteBatch()
        for number in range(1000):
            batch.put("a", b"%05d" % number, os.urandom(4000))
        backend.batch_write(batch)
        backend.flush()
        held = sum(file.stat().st_size for file in folder.glob("*.sst"))

        backend.drop_column_family("a")
        left = held
        until = time.monotonic() + 20
        while left > held / 10 and time.monotonic() < until:
            time.sleep(0.05)
            left = sum(file.stat().st_size for file in folder.glob("*.sst"))

    assert held > 4_000_000
    assert left <= held / 10


@pytest.mark.parametrize("refused", ["ftruncate", "write"])
def test_a_lock_is_held_though_its_holder_cannot_be_noted(tmp_path, monkeypatch, refused):
    """On a full or failing disk the id could not be written into the file: an OSError came out, and the lock stayed."""
    lock = FileLock(str(tmp_path / "lock"))
    other = FileLock(str(tmp_path / "lock"))
    assert lock.acquire(0.0)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, refused, fail)
        lock.note_holder()

    assert not other.acquire(0.0)
    lock.release()
    assert other.acquire(0.0)
    other.release()
    lock.close()
    other.close()


def test_a_store_that_another_process_makes_at_this_moment_is_one(url, monkeypatch):
    """Between the look for the marker and that at the directory it was put there: "no store of kvdialect"."""
    if url.startswith("memory"):
        pytest.skip("a memory store has no directory; lmdb and rocksdb have")
    path = url.partition(":///")[2]
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")
    os.rename(path, f"{path}.made")
    listed = os.listdir

    def made_first(directory):
        if directory == path and not os.path.exists(path):
            os.rename(f"{path}.made", path)
        return listed(directory)

    monkeypatch.setattr(os, "listdir", made_first)
    with open_backend(url) as backend:
        assert backend.get("a", b"k") == b"v"


# ------------------------------------------------------------------------------------------ signals

SIGNALLED = """
import random, signal, sys, threading
from kvdialect import exc, open_backend
from kvdialect.storage import WriteBatch

class Expired(BaseException):
    pass

def expire(*_):
    raise Expired

signal.signal(signal.SIGALRM, expire)
backend = open_backend(sys.argv[1], ["a", "b"])
stop = threading.Event()

def beside():
    while not stop.is_set():
        backend.put("a", b"beside", b"1")

thread = threading.Thread(target=beside)
thread.start()
expired, rng = 0, random.Random(1)
for number in range(250):
    key = b"%d" % number
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00001, 0.002))
        while True:
            backend.batch_write(WriteBatch().put("a", key, b"1").put("b", key, b"1"))
    except Expired:
        expired += 1
    torn = [cf for cf in ("a", "b") if backend.get(cf, key) is None]
    assert len(torn) in (0, 2), f"{key} is not in {torn}"
stop.set()
thread.join(20)
assert not thread.is_alive()
backend.put("a", b"last", b"1")
backend.close()
assert signal.getsignal(signal.SIGALRM) is expire
print(expired)
"""


def test_a_signal_handler_that_raises_leaves_no_commit_half_done(url):
    """Only Ctrl-C was held back: whoever led the commits of all threads was gone, and they waited for ever."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, url], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_all_signals_that_came_are_handled():
    """Those that were held back together, though the first handler raises; and each has its handler back."""
    came = []

    def note(number, _):
        came.append(number)
        if number == signal.SIGUSR1:
            raise ZeroDivisionError

    numbers = (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR2)
    for number in numbers:
        signal.signal(number, note)
    try:
        with HeldInterrupts() as held:
            for number in numbers:
                signal.raise_signal(number)
            assert (held.pending, came) == (True, [])
        with pytest.raises(ZeroDivisionError):
            held.deliver()
        assert came == list(numbers)
        assert [signal.getsignal(number) for number in numbers] == [note] * 3
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


# ------------------------------------------------------------------------------------------ RocksDB


@pytest.mark.engine("rocksdb")
@pytest.mark.parametrize("call", ["create_column_family", "drop_column_family"])
def test_a_family_whose_making_or_dropping_failed_needs_reopening(tmp_path, call):
    """The manifest may have it: the store went on with what it knew, until a write to the family stopped all others."""

    class Failing:
        def __init__(self, database):
            self._database = database

        def __getattr__(self, name):
            if name == call:
                raise Exception("IO error: No space left on device")  # noqa: TRY002 - as the driver does
            return getattr(self._database, name)

    with open_backend(f"rocksdb:///{tmp_path}/store", ["a", "b"]) as backend:
        backend.put("a", b"k", b"v")
        whole, backend.engine.database = backend.engine.database, Failing(backend.engine.database)
        with pytest.raises(exc.DiskFull):
            getattr(backend, call)("a" if call.startswith("drop") else "c")
        backend.engine.database = whole
        assert backend.get("a", b"k") == b"v"
        for write in (
            lambda: backend.put("b", b"k", b"v"),
            lambda: getattr(backend, call)("b" if "drop" in call else "d"),
        ):
            with pytest.raises(exc.ReopenRequired, match="made or dropped a column family"):
                write()
        del whole
    with open_backend(f"rocksdb:///{tmp_path}/store") as backend:
        backend.put("b", b"k", b"v")


@pytest.mark.engine("rocksdb")
def test_a_compaction_that_fails_says_so(tmp_path):
    """The driver's call returns as if it had been done."""
    url = f"rocksdb:///{tmp_path}/store"
    with open_backend(url, ["a"]) as backend:
        for _ in range(3):
            backend.batch_write(WriteBatch().update("a", {b"%06d" % n: os.urandom(100) for n in range(3000)}))
            backend.flush()
    file = max((tmp_path / "store").glob("*.sst"), key=lambda path: path.stat().st_size)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)

    with open_backend(url) as backend, pytest.raises(exc.BackendError, match="could not compact a"):
        backend.compact("a")


@pytest.mark.engine("rocksdb")
def test_families_that_are_dropped_beside_reads_and_flushes(tmp_path):
    """A get said KeyError, and a flush of all families that one of them was dropped."""
    stop = threading.Event()
    seen: list[BaseException] = []
    with open_backend(f"rocksdb:///{tmp_path}/store?durability=wal", ["a", "b"]) as backend:

        def work(call):
            while not stop.is_set():
                try:
                    call()
                except exc.UnknownColumnFamily:
                    pass
                except BaseException as error:  # noqa: BLE001 - it is told
                    seen.append(error)

        calls = (lambda: backend.get("a", b"k"), lambda: backend.multi_get("a", [b"k"]), backend.flush, backend.stats)
        threads = [threading.Thread(target=work, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for _ in range(30):
            backend.drop_column_family("a")
            backend.create_column_family("a")
        stop.set()
        for thread in threads:
            thread.join()
    assert seen == []


# ------------------------------------------------------------------------------------------ closed, and of a wrong type


def test_stats_that_a_close_overtakes(url):
    """A thread that polls them as a program ends got the driver's own errors."""
    seen = set()
    for _ in range(20):
        backend = open_backend(url, ["a"])
        started = threading.Barrier(4)

        def poll(name, backend=backend, started=started):
            started.wait()
            try:
                while True:
                    getattr(backend, name)()
            except BaseException as error:  # noqa: BLE001 - it is looked at
                seen.add(type(error))

        threads = [threading.Thread(target=poll, args=(name,)) for name in ("stats", "family_stats", "column_families")]
        for thread in threads:
            thread.start()
        started.wait()
        time.sleep(0.005)
        backend.close()
        for thread in threads:
            thread.join()
    assert seen == {exc.StoreClosed}


def test_arguments_of_a_wrong_type(url):
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")
        with pytest.raises(TypeError, match="takes a WriteBatch, not list"):
            backend.batch_write([])
        with pytest.raises(TypeError, match="options are ColumnFamilyOptions, not str"):
            backend.create_column_family("b", "fifo")
        assert list(backend.scan("a", reverse=1)) == [(b"k", b"v")]


@pytest.mark.parametrize("name", ["KVDIALECT.closed", "CURRENT"])
@pytest.mark.engine("rocksdb")
def test_a_file_that_cannot_be_read_is_a_typed_error(tmp_path, name):
    """Python's own error came through; a directory in the place of a file is one that root cannot read either."""
    url = f"rocksdb:///{tmp_path}/store"
    open_backend(url, ["a"]).close()
    file = tmp_path / "store" / name
    file.unlink()
    file.mkdir()
    with pytest.raises(exc.Error):
        open_backend(url)


@pytest.mark.engine("lmdb")
def test_another_handle_cannot_have_another_checksum(tmp_path):
    """It was accepted where this process had the store open, and did nothing."""
    url = f"lmdb:///{tmp_path}/store"
    with open_backend(url, ["a"]), open_backend(url, checksum=True):
        with pytest.raises(exc.StoreFormatError, match="created with checksum=on"):
            open_backend(url, checksum=False)
        open_backend(url).close()


@pytest.mark.parametrize("name", ["stats", "family_stats", "readers", "faults"])
def test_what_tells_of_a_closed_store_refuses(url, name):
    """Fetched before the close: what it said was the driver's error, or of nothing."""
    backend = open_backend(url, ["a"])
    method = getattr(backend, name)
    backend.close()
    with pytest.raises(exc.StoreClosed):
        method()
