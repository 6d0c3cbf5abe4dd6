"""Commits of many threads and processes: grouping, waiting, and what a killed writer leaves (hazards 16, 17, 26)."""

import os
import signal
import threading
import time

import pytest

from kvdialect import exc, open_backend
from kvdialect.storage import WriteBatch

pytestmark = pytest.mark.engine("lmdb")


def in_threads(*works):
    """Run each callable on a thread of its own, to the end."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"


def test_commits_of_threads_are_grouped(url):
    """Batches that wait for the same lock share one commit, so there are fewer commits than batches."""
    with open_backend(url, ["a"]) as backend:

        def write(name):
            for number in range(50):
                backend.put("a", b"%s%d" % (name, number), b"v")

        in_threads(*[lambda name=b"%c" % letter: write(name) for letter in b"abcdefgh"])

        stats = backend.stats()
        assert stats["batches"] == 400
        assert stats["commits"] < stats["batches"]
        assert len(list(backend.scan("a"))) == 400


def test_failed_expectation_rejects_only_its_own_batch(url):
    """Of the batches that share a commit, one with a false expectation leaves the others alone."""
    with open_backend(url, ["a"]) as backend:
        outcomes = {}

        def good(name):
            for number in range(40):
                backend.put("a", b"%s%d" % (name, number), b"v")

        def bad(name):
            for number in range(40):
                batch = WriteBatch().put("a", b"%s%d" % (name, number), b"v").expect("a", b"never", b"there")
                try:
                    backend.batch_write(batch)
                except exc.ConflictError:
                    outcomes[name, number] = "rejected"

        in_threads(lambda: good(b"g"), lambda: bad(b"x"), lambda: good(b"h"), lambda: bad(b"y"))

        assert len(outcomes) == 80
        assert {key[:1] for key, _ in backend.scan("a")} == {b"g", b"h"}
        assert len(list(backend.scan("a"))) == 80
        assert backend.stats()["conflicts"] == 80


def test_batch_too_large_for_the_map_does_not_fail_its_neighbours(url):
    """A group that overflows the map is taken apart, so that only the batch that does not fit gets MapFull."""
    with open_backend(f"{url}?map_size=1MiB&durability=none", ["a"]) as backend:
        full = []

        def small(name):
            for number in range(30):
                backend.put("a", b"%s%d" % (name, number % 5), b"v" * 100)

        def large():
            for _ in range(30):
                try:
                    backend.put("a", b"large", bytes(2 << 20))
                except exc.MapFull:
                    full.append(1)

        in_threads(lambda: small(b"x"), large, lambda: small(b"y"), lambda: small(b"z"))

        assert len(full) == 30
        assert len(list(backend.scan("a"))) == 15


def test_each_commit_sees_those_before_it_in_its_group(url):
    """Counters that threads compare and set, or add to, lose no step."""
    with open_backend(f"{url}?durability=none", ["a"]) as backend:
        backend.put("a", b"set", b"0")

        def compare_and_set():
            for _ in range(40):
                while True:
                    seen = backend.get("a", b"set")
                    batch = WriteBatch().expect("a", b"set", seen).put("a", b"set", b"%d" % (int(seen) + 1))
                    try:
                        backend.batch_write(batch.add("a", b"added", 1))
                        break
                    except exc.ConflictError:
                        pass

        in_threads(*[compare_and_set] * 6)

        assert backend.get("a", b"set") == b"240"
        assert int.from_bytes(backend.get("a", b"added")) == 240


def test_counters_of_two_processes_lose_nothing(start, url):
    """Expectations are tested inside LMDB's write transaction, so they hold between processes."""
    code = """
        backend = open_backend(URL + "?durability=none", ["a"])
        for _ in range(200):
            while True:
                seen = backend.get("a", b"n")
                new = b"%d" % (int(seen or b"0") + 1)
                try:
                    backend.batch_write(WriteBatch().expect("a", b"n", seen).put("a", b"n", new))
                    break
                except exc.ConflictError:
                    pass
        """
    for script in [start(code, url) for _ in range(3)]:
        script.finish()

    with open_backend(url) as backend:
        assert backend.get("a", b"n") == b"600"


def test_processes_that_commit_without_a_pause_take_turns(start, url):
    """On one processor the one that slept whenever the lock was free never got it."""
    code = """
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        backend = open_backend(URL + "?lock_timeout=3", ["a"])
        print("ready", flush=True)
        input()
        commits, end = 0, time.monotonic() + 4
        while time.monotonic() < end:
            backend.put("a", b"%d" % os.getpid(), b"%d" % commits)
            commits += 1
        print(commits)
        """
    scripts = [start(code, url) for _ in range(3)]
    for script in scripts:
        assert script.line() == "ready"
    for script in scripts:
        script.tell()

    assert all(int(script.finish()) > 1 for script in scripts)


@pytest.mark.parametrize("reads", ["get", "scan", "snapshot"])
def test_rejected_batch_does_not_wait_for_busy_readers(run, url, reads):
    """The driver's abort() waits for a moment without reads; with some threads that read all the time it never ends."""
    out = run(
        """
        backend = open_backend(URL + "?durability=none", ["a"])
        backend.batch_write(WriteBatch().put("a", b"k", b"v" * 1000))
        for n in range(300): backend.put("a", b"%d" % n, b"v" * 1000)
        stop = threading.Event()
        def read():
            snapshot = backend.snapshot()
            while not stop.is_set():
                if sys.argv[2] == "get":
                    for n in range(100): backend.get("a", b"%d" % n)
                elif sys.argv[2] == "scan":
                    list(backend.scan("a"))
                else:
                    for n in range(100): snapshot.get("a", b"%d" % n)
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads: thread.start()
        rejected = 0
        for n in range(50):
            try:
                backend.batch_write(WriteBatch().expect("a", b"k", None).put("a", b"z", b"1"))
            except exc.ConflictError:
                rejected += 1
        stop.set()
        for thread in threads: thread.join()
        print(rejected, backend.get("a", b"z"))
        """,
        url,
        reads,
    )

    assert out == "50 None"


def test_batch_that_overflows_the_map_does_not_wait_for_busy_readers(run, url):
    """Nor does a transaction that has to be rolled back with changes in it."""
    out = run(
        """
        backend = open_backend(URL + "?durability=none&map_size=1MiB", ["a"])
        for n in range(300): backend.put("a", b"%d" % n, b"v" * 100)
        stop = threading.Event()
        def read():
            while not stop.is_set():
                for n in range(100): backend.get("a", b"%d" % n)
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads: thread.start()
        full = 0
        for n in range(30):
            try:
                backend.batch_write(WriteBatch().put("a", b"y", b"1").put("a", b"z", bytes(2 << 20)))
            except exc.MapFull:
                full += 1
        backend.put("a", b"after", b"1")
        stop.set()
        for thread in threads: thread.join()
        print(full, backend.get("a", b"y"))
        """,
        url,
    )

    assert out == "30 None"


HOLDER = """
# Takes the writer's lock as a commit does, and keeps it.
backend = open_backend(URL, ["a"])
with backend.engine._exclusive("test"):
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
"""

WRITES = {
    "put": lambda backend: backend.put("a", b"k", b"v"),
    "create_column_family": lambda backend: backend.create_column_family("b"),
    "drop_column_family": lambda backend: backend.drop_column_family("a"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_wait_for_another_process_is_bounded(start, url, write):
    """LMDB itself would wait for ever."""
    with open_backend(f"{url}?lock_timeout=0.2", ["a"]) as backend:
        holder = start(HOLDER, url)
        assert holder.line() == "held"

        with pytest.raises(exc.LockTimeout, match="another process") as caught:
            write(backend)

        assert caught.value.retryable
        assert caught.value.outcome == "not_applied"
        holder.tell()
        assert holder.line() == "free"
        write(backend)


def test_reads_go_on_while_another_process_holds_the_lock(start, url):
    """Readers never wait for a writer, nor does opening a store for reading."""
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")
        holder = start(HOLDER, url)
        assert holder.line() == "held"

        assert backend.get("a", b"k") == b"v"
        assert list(backend.scan("a")) == [(b"k", b"v")]
        reader = start('reader = open_backend(URL + "?mode=ro"); print(reader.get("a", b"k"))', url)
        assert reader.finish() == "b'v'"


def test_wait_for_another_thread_is_bounded(url):
    """A thread that waits behind another one of its own process gives up after lock_timeout too."""
    with open_backend(f"{url}?lock_timeout=0.2", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        with backend.engine._exclusive("test"):
            errors = []

            def write():
                try:
                    backend.put("a", b"k", b"w")
                except exc.LockTimeout as error:
                    errors.append(error)

            in_threads(write)

        assert len(errors) == 1
        assert backend.get("a", b"k") == b"v"
        backend.put("a", b"k", b"x")
        assert backend.get("a", b"k") == b"x"


def test_stopped_writer_blocks_others_no_longer_than_the_timeout(start, url):
    """A process that is stopped in the middle of its commits costs others a LockTimeout, not their life."""
    with open_backend(f"{url}?lock_timeout=0.2", ["a"]) as backend:
        holder = start(HOLDER, url)
        assert holder.line() == "held"
        os.kill(holder.pid, signal.SIGSTOP)

        with pytest.raises(exc.LockTimeout):
            backend.put("a", b"k", b"v")

        os.kill(holder.pid, signal.SIGCONT)


def test_lock_of_a_killed_process_is_free(start, url):
    """The kernel gives a dead process's locks back, LMDB's own too."""
    writer = start(
        """
        backend = open_backend(URL, ["a"])
        with backend.engine._exclusive("test"):
            txn = backend.engine.env.begin(write=True)
            print("held", flush=True)
            sys.stdin.readline()
        """,
        url,
    )
    assert writer.line() == "held"
    writer.kill()

    with open_backend(f"{url}?lock_timeout=5", ["a"]) as backend:
        backend.put("a", b"k", b"v")

        assert backend.get("a", b"k") == b"v"


@pytest.mark.parametrize("durability", ["sync", "wal"])
def test_writer_killed_in_mid_commit_loses_nothing_acknowledged(start, url, durability):
    """Every batch whose batch_write returned is there after kill -9, whole; of the last one, all or nothing."""
    for turn in range(4):
        writer = start(
            """
            backend = open_backend(URL + "?durability=" + sys.argv[2], ["a", "b"])
            def write(thread):
                for number in range(1_000_000):
                    key = b"%s-%d-%d" % (sys.argv[3].encode(), thread, number)
                    backend.batch_write(WriteBatch().put("a", key, key * 50).put("b", key, b""))
                    os.write(1, key + b"\\n")
            for thread in range(3):
                threading.Thread(target=write, args=(thread,)).start()
            """,
            url,
            durability,
            str(turn),
        )
        acknowledged = [writer.line().encode() for _ in range(150)]
        writer.process.kill()
        acknowledged += [line.strip().encode() for line in writer.process.stdout if line.endswith("\n")]
        writer.kill()

        with open_backend(f"{url}?durability={durability}") as backend:
            rows = dict(backend.scan("a"))
            assert rows.keys() == {key for key, _ in backend.scan("b")}
            assert rows.keys() >= set(acknowledged)
            assert all(value == key * 50 for key, value in rows.items())


def test_every_commit_is_synced_by_default(run, url):
    """durability=sync means a call of fdatasync or msync per commit, counted here by the driver's own flags."""
    out = run(
        """
        for durability in ("sync", "wal", "none"):
            backend = open_backend(URL + "?durability=" + durability, ["a"])
            flags = backend.engine.env.flags()
            print(durability, flags["sync"], flags["metasync"], flags["writemap"], flags["lock"])
            backend.close()
        """,
        url,
    )

    assert out.splitlines() == ["sync True True False True", "wal True False False True", "none False False False True"]


def test_families_of_another_process_appear_and_vanish_under_load(start, url):
    """Threads that read and write while another process makes and drops families neither hang nor see another error."""
    maker = start(
        """
        backend = open_backend(URL + "?durability=none", ["a"])
        for turn in range(40):
            backend.create_column_family("f")
            backend.put("f", b"k", b"%d" % turn)
            time.sleep(0.002)
            backend.drop_column_family("f")
        """,
        url,
    )
    reader = start(
        """
        backend = open_backend(URL + "?durability=none", ["a"])
        errors = set()
        seen = []
        end = time.monotonic() + 1.5
        def work():
            while time.monotonic() < end:
                try:
                    value = backend.get("f", b"k")
                    seen.append(value)
                    backend.put("a", b"n", b"v")
                    list(backend.scan("f"))
                except exc.UnknownColumnFamily:
                    pass
                except BaseException as error:
                    errors.add(repr(error))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(errors or "fine")
        """,
        url,
    )

    maker.finish()
    assert reader.finish() == "fine"


def test_family_made_and_dropped_while_threads_use_it(run, url):
    """To look a new family up, the driver would wait for the write transaction with Python's lock held: for ever."""
    out = run(
        """
        backend = open_backend(URL + "?durability=none", ["a", "f"])
        errors, stop = set(), threading.Event()
        def work():
            while not stop.is_set():
                try:
                    backend.get("f", b"k")
                    list(backend.scan("f"))
                except exc.UnknownColumnFamily:
                    pass
                except BaseException as error:
                    errors.add(repr(error))
        sys.setswitchinterval(1e-5)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for turn in range(60):
            backend.drop_column_family("f")
            backend.create_column_family("f")
            backend.put("f", b"k", bytes(5000))
        stop.set()
        for thread in threads: thread.join()
        print(errors or "fine")
        """,
        url,
    )

    assert out == "fine"


def test_no_transaction_outlives_its_call(url):
    """What a rejected batch raises holds no open transaction, so the next writer, on any thread, goes on."""
    with open_backend(f"{url}?lock_timeout=5", ["a"]) as backend:
        kept = []
        for batch in (
            WriteBatch().expect("a", b"k", b"there"),
            WriteBatch().put("a", b"text", b"no number"),
            WriteBatch().put("a", b"k2", b"v").add("a", b"text", 1),
        ):
            try:
                backend.batch_write(batch)
            except exc.Error as error:
                kept.append(error)
        started = time.monotonic()

        in_threads(lambda: backend.put("a", b"k", b"v"))

        assert time.monotonic() - started < 5
        assert len(kept) == 2
        assert backend.get("a", b"k2") is None


def test_an_error_that_is_kept_holds_no_transaction(url):
    """The traceback of a commit that failed kept its write transaction alive, and the next writer waited for ever."""
    with open_backend(f"{url}?map_size=256KiB&lock_timeout=5", ["a"]) as backend:
        with pytest.raises(exc.MapFull) as kept:
            backend.put("a", b"k", bytes(1 << 20))

        in_threads(lambda: backend.put("a", b"k", b"v"))

        assert backend.get("a", b"k") == b"v"
        assert kept.value.__traceback__ is not None
