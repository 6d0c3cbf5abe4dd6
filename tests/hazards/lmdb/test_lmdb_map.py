"""A full map, and a map that another process grew (hazards 4, 5)."""

import threading

import pytest

from kvdialect import exc, open_backend
from kvdialect.storage import WriteBatch

pytestmark = pytest.mark.engine("lmdb")


def test_full_map_ends_in_map_full_and_nothing_else(url):
    """A map of 96 KiB takes some rows of 4 KiB, then says MapFull, before 10,000 puts."""
    with open_backend(f"{url}?map_size=96KiB&durability=none", ["a"]) as backend:
        written = 0

        def fill():
            nonlocal written
            for number in range(10_000):
                backend.put("a", b"%08d" % number, bytes(4096))
                written += 1

        with pytest.raises(exc.MapFull, match="LMDB map full: increase map_size and reopen, ") as caught:
            fill()

        assert written > 0
        assert caught.value.map_size == 96 << 10
        assert caught.value.retryable
        assert caught.value.outcome == "not_applied"
        assert [key for key, _ in backend.scan("a")] == [b"%08d" % number for number in range(written)]


def test_store_stays_usable_after_map_full(url):
    """The transaction that overflowed is given up; the store reads, deletes and then writes on."""
    with open_backend(f"{url}?map_size=256KiB", ["a"]) as backend:
        backend.put("a", b"small", b"1")
        big = WriteBatch()
        for number in range(200):
            big.put("a", b"%d" % number, bytes(4000))
        with pytest.raises(exc.MapFull):
            backend.batch_write(big)

        backend.put("a", b"small", b"2")

        assert list(backend.scan("a")) == [(b"small", b"2")]


def test_larger_map_size_takes_effect_at_reopening(url):
    """What MapFull advises works."""
    with open_backend(f"{url}?map_size=96KiB", ["a"]) as backend, pytest.raises(exc.MapFull):
        backend.put("a", b"k", bytes(200_000))

    with open_backend(f"{url}?map_size=1MiB") as backend:
        backend.put("a", b"k", bytes(200_000))

        assert len(backend.get("a", b"k")) == 200_000


def test_map_grows_up_to_max_map_size(url):
    """With max_map_size a full map is enlarged and the batch written once, until that size too is full."""
    with open_backend(f"{url}?map_size=96KiB&max_map_size=8MiB&durability=none", ["a"]) as backend:
        written = 0

        def fill():
            nonlocal written
            for number in range(10_000):
                backend.batch_write(WriteBatch().put("a", b"%08d" % number, bytes(4096)).add("a", b"count", 1))
                written += 1

        with pytest.raises(exc.MapFull, match="max_map_size"):
            fill()

        assert 1000 < written < 2048
        assert backend.stats()["map_growths"] > 2
        assert backend.stats()["map_size"] == 8 << 20
        assert int.from_bytes(backend.get("a", b"count")) == written


def test_map_that_may_grow_starts_no_larger_than_it_may_get(url):
    """max_map_size alone bounds the map, as the default size would be above it."""
    with open_backend(f"{url}?max_map_size=4MiB", ["a"]) as backend:
        assert backend.stats()["map_size"] == 4 << 20
        with pytest.raises(exc.MapFull):
            backend.put("a", b"k", bytes(8 << 20))


def test_open_snapshot_holds_growth_back_for_the_lock_timeout(url):
    """LMDB cannot remap under a reader: growth waits for it, then says MapFull; without it the same batch goes in."""
    with open_backend(f"{url}?map_size=96KiB&max_map_size=8MiB&lock_timeout=0.2", ["a"]) as backend:
        backend.put("a", b"k", b"1")
        with backend.snapshot() as snapshot:
            with pytest.raises(exc.MapFull, match="close the snapshots"):
                backend.put("a", b"big", bytes(200_000))
            assert snapshot.get("a", b"k") == b"1"

        backend.put("a", b"big", bytes(200_000))

        assert len(backend.get("a", b"big")) == 200_000


def test_map_grows_when_the_snapshot_in_its_way_ends(url):
    """Growth waits for a reader that ends in time."""
    with open_backend(f"{url}?map_size=96KiB&max_map_size=8MiB&lock_timeout=30", ["a"]) as backend:
        snapshot = backend.snapshot()
        timer = threading.Timer(0.1, snapshot.close)
        timer.start()

        backend.put("a", b"big", bytes(200_000))

        timer.join()
        assert len(backend.get("a", b"big")) == 200_000


def test_map_grows_under_load_of_many_threads(run, url):
    """Reading and writing threads notice nothing of a map that grows beneath them."""
    out = run(
        """
        backend = open_backend(URL + "?map_size=128KiB&max_map_size=64MiB&durability=none", ["a"])
        backend.put("a", b"first", b"x" * 100)
        errors, stop = [], threading.Event()
        def guarded(work):
            def loop():
                try:
                    while not stop.is_set():
                        work()
                except BaseException as error:
                    errors.append(repr(error))
            return loop
        def read():
            assert backend.get("a", b"first") == b"x" * 100
            assert backend.multi_get("a", [b"first", b"none"]) == [b"x" * 100, None]
        def scan():
            for key, value in backend.scan("a"):
                assert value == key[:1] * len(value) or key == b"first"
        def write(n):
            for i in range(150):
                backend.put("a", b"%d-%d" % (n, i), (b"%d" % n) * 20000)
        readers = [threading.Thread(target=guarded(work)) for work in (read, read, scan)]
        writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for thread in readers + writers: thread.start()
        for thread in writers: thread.join()
        stop.set()
        for thread in readers: thread.join()
        print(errors, backend.stats()["map_growths"] > 3, len(list(backend.scan("a"))))
        backend.close()
        """,
        url,
    )

    assert out == "[] True 451"


GROWER = """
backend = open_backend(URL + "?map_size=128KiB&max_map_size=64MiB&durability=none&lock_timeout=10", ["a"])
print("open", flush=True)
for line in sys.stdin:
    backend.put("a", b"grown", bytes(int(line)))
    print("written", flush=True)
"""

CALLS = {
    "get": lambda backend: backend.get("a", b"k"),
    "multi_get": lambda backend: backend.multi_get("a", [b"k"])[0],
    "scan": lambda backend: next(backend.scan("a", b"k"))[1],
    "snapshot": lambda backend: backend.snapshot().get("a", b"k"),
    "put": lambda backend: backend.put("a", b"other", b"") or b"v",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_map_grown_by_another_process_is_adopted(start, url, call):
    """Every first call after another process grew the map takes the new size over and succeeds."""
    with open_backend(f"{url}?map_size=128KiB&lock_timeout=2", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        other = start(GROWER, url)
        assert other.line() == "open"
        other.tell("1000000")
        assert other.line() == "written"

        assert call(backend) == b"v"

        assert backend.stats()["map_size"] > 1_000_000
        assert len(backend.get("a", b"grown")) == 1_000_000


def test_grown_map_is_adopted_once_own_snapshots_end(start, url):
    """A snapshot of the old map goes on reading; the writer waits for its end, no longer than lock_timeout."""
    with open_backend(f"{url}?map_size=128KiB&lock_timeout=0.2", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        snapshot = backend.snapshot()
        other = start(GROWER, url)
        assert other.line() == "open"
        other.tell("1000000")
        assert other.line() == "written"
        with pytest.raises(exc.LockTimeout):
            backend.put("a", b"k", b"w")
        assert snapshot.get("a", b"k") == b"v"
        snapshot.close()

        backend.put("a", b"k", b"w")

        assert backend.get("a", b"k") == b"w"


def test_two_processes_grow_one_map_under_load(start, url):
    """Writers of two processes that both fill and grow the map lose nothing and see no error."""
    code = """
        backend = open_backend(URL + "?map_size=128KiB&max_map_size=256MiB&durability=none", ["a"])
        for number in range(300):
            backend.batch_write(WriteBatch().put("a", b"%s-%d" % (sys.argv[2].encode(), number), bytes(8000))
                                .add("a", b"count", 1))
            assert backend.get("a", b"count") is not None
        print("done")
        backend.close()
        """
    writers = [start(code, url, name) for name in ("x", "y")]

    assert [writer.finish() for writer in writers] == ["done", "done"]

    with open_backend(url) as backend:
        assert int.from_bytes(backend.get("a", b"count")) == 600
        assert len(list(backend.scan("a"))) == 601


def test_map_size_below_what_is_stored_does_no_harm(url):
    """A store that is reopened with a map smaller than its file is whole."""
    values = {b"%d" % number: bytes([number]) * 5000 for number in range(100)}
    with open_backend(url, ["a"]) as backend:
        batch = WriteBatch()
        for key, value in values.items():
            batch.put("a", key, value)
        backend.batch_write(batch)

    with open_backend(f"{url}?map_size=64KiB") as backend:
        assert dict(backend.scan("a")) == values


def test_a_map_that_grows_while_it_is_opened_is_opened(url, monkeypatch):
    """The driver's open begins a transaction, which fails if another process has grown the map since LMDB looked."""
    import lmdb

    open_backend(url, ["a"]).close()
    real, failures = lmdb.open, [lmdb.MapResizedError("mdb_txn_begin: MDB_MAP_RESIZED")] * 3

    def late(*args, **options):
        if failures:
            raise failures.pop()
        return real(*args, **options)

    monkeypatch.setattr(lmdb, "open", late)
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")
        assert backend.get("a", b"k") == b"v"
    assert failures == []


def test_a_map_that_always_grows_is_given_up(url, monkeypatch):
    """Whatever the reason, opening ends, with a typed error."""
    import lmdb

    open_backend(url, ["a"]).close()

    def late(*_args, **_options):
        raise lmdb.MapResizedError("mdb_txn_begin: MDB_MAP_RESIZED")

    monkeypatch.setattr(lmdb, "open", late)
    with pytest.raises(exc.BackendError, match="MDB_MAP_RESIZED"):
        open_backend(url, ["a"])
