"""Closing while snapshots, iterators and other threads are at work; nothing native handed out (hazards 22, 27)."""

import gc
import threading
import weakref

import pytest

from kvdialect import exc, open_backend
from kvdialect.storage import WriteBatch

pytestmark = pytest.mark.engine("lmdb")


@pytest.fixture
def backend(url):
    with open_backend(f"{url}?durability=none", ["a"]) as backend:
        batch = WriteBatch()
        for number in range(2000):
            batch.put("a", b"%04d" % number, b"v" * 100)
        backend.batch_write(batch)
        yield backend


USES = {
    "get": lambda reader: reader.get("a", b"0001"),
    "multi_get": lambda reader: reader.multi_get("a", [b"0001"]),
    "scan": lambda reader: list(reader.scan("a")),
    "prefix_scan": lambda reader: list(reader.prefix_scan("a", b"0")),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_snapshot_of_a_closed_store_is_closed(backend, use):
    """What was made from a handle ends with it."""
    snapshot = backend.snapshot()
    backend.close()

    with pytest.raises(exc.StoreClosed):
        use(snapshot)
    with pytest.raises(exc.StoreClosed):
        use(backend)


def test_snapshot_of_a_closed_handle_is_closed_though_another_has_the_store(url):
    """It went on to read, and held pages, for as long as the other handle was open."""
    with open_backend(url, ["a"]) as other:
        other.put("a", b"k", b"v")
        backend = open_backend(url)
        snapshot = backend.snapshot()
        backend.close()

        with pytest.raises(exc.StoreClosed):
            snapshot.get("a", b"k")
        assert other.stats()["live_snapshots"] == 0
        assert other.get("a", b"k") == b"v"


@pytest.mark.parametrize("source", ["backend", "snapshot"])
@pytest.mark.parametrize("taken", [0, 1, 16, 500])
def test_iterator_of_a_closed_store_says_so(backend, source, taken):
    """A scan that was cut off never looks finished."""
    snapshot = backend.snapshot()
    iterator = (backend if source == "backend" else snapshot).scan("a")
    rows = [next(iterator) for _ in range(taken)]

    backend.close()

    with pytest.raises(exc.StoreClosed):
        rows.extend(iterator)
    assert len(rows) < 2000


def test_iterator_of_a_closed_snapshot_says_so(backend):
    """So does one whose snapshot alone was closed."""
    snapshot = backend.snapshot()
    iterator = snapshot.scan("a")
    next(iterator)
    snapshot.close()

    with pytest.raises(exc.StoreClosed):
        list(iterator)
    assert backend.get("a", b"0001") == b"v" * 100


def test_scan_that_is_ended_during_a_read_says_so(backend):
    """Another thread's close empties the scan under the reader: that is no end of the range."""
    snapshot = backend.snapshot()
    iterator = snapshot.scan("a")
    next(iterator)
    (scan,) = snapshot.scans

    def closed_meanwhile():
        thread = threading.Thread(target=snapshot.close)
        thread.start()
        while scan._error is None:
            pass
        yield from ()

    scan._pairs = closed_meanwhile()

    with pytest.raises(exc.StoreClosed):
        list(iterator)


def test_exhausted_iterator_stays_exhausted_after_close(backend):
    """Closing does not make an iterator raise that has given all it had."""
    iterator = backend.scan("a")
    assert len(list(iterator)) == 2000
    backend.close()

    assert list(iterator) == []


def test_values_outlive_the_store(backend):
    """Keys and values are bytes of their own, never views of LMDB's map."""
    value = backend.get("a", b"0001")
    pairs = list(backend.scan("a", b"0001", b"0003"))
    many = backend.multi_get("a", [b"0001"])
    backend.close()

    assert type(value) is type(many[0]) is type(pairs[0][0]) is type(pairs[0][1]) is bytes
    assert value == many[0] == pairs[0][1] == b"v" * 100


def test_engine_really_closes(url, path):
    """After the last close the environment is gone: LMDB itself can open the path in this process again."""
    lmdb = pytest.importorskip("lmdb")
    backend = open_backend(url, ["a"])
    backend.put("a", b"k", b"v")
    kept = [backend.snapshot(), backend.scan("a"), backend.snapshot().scan("a")]
    backend.close()

    with lmdb.open(path, max_dbs=4) as env, env.begin(db=env.open_db(b"a")) as txn:
        assert txn.get(b"k")[:1] == b"v"
        assert env.info()["num_readers"] <= 1
    assert len(kept) == 3


def test_dropped_handle_closes_the_store(url):
    """A handle that nobody holds any more does not keep the store open."""
    backend = open_backend(url, ["a"])
    engine = weakref.ref(backend.engine)
    del backend
    gc.collect()

    assert engine() is None


CLOSED_UNDER_THREADS = """
how = sys.argv[2]
sys.setswitchinterval(1e-5)
errors = []
for turn in range(12):
    backend = open_backend(URL + "?durability=none", ["a"])
    batch = WriteBatch()
    for number in range(2000): batch.put("a", b"%04d" % number, b"v" * 200)
    backend.batch_write(batch)
    snapshots = [backend.snapshot() for _ in range(4)]
    shared = backend.scan("a")
    def work(n):
        try:
            while True:
                if how == "get":
                    for number in range(200): backend.get("a", b"%04d" % number)
                elif how == "scan":
                    assert len(list(backend.scan("a"))) == 2000
                elif how == "multi_get":
                    assert None not in backend.multi_get("a", [b"%04d" % number for number in range(500)])
                elif how == "snapshot get":
                    for number in range(200): snapshots[n % 2].get("a", b"%04d" % number)
                elif how == "snapshot scan":
                    assert len(list(snapshots[n].scan("a"))) == 2000
                elif how == "put":
                    backend.put("a", b"%04d" % n, b"v" * 200)
                elif how == "iterator of all":
                    for pair in shared: pass
                    return
        except exc.StoreClosed:
            pass
        except BaseException as error:
            errors.append(repr(error))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads: thread.start()
    time.sleep(random.random() * 0.01)
    if turn % 2:
        for snapshot in snapshots: snapshot.close()
    backend.close()
    for thread in threads: thread.join()
print(errors or "fine")
"""


@pytest.mark.parametrize("how", ["get", "scan", "multi_get", "snapshot get", "snapshot scan", "put", "iterator of all"])
def test_closing_while_other_threads_work_is_safe(run, url, how):
    """The driver reads without Python's lock: a transaction that is ended meanwhile crashes the process."""
    assert run(CLOSED_UNDER_THREADS, url, how) == "fine"


def test_threads_share_one_snapshot(backend):
    """Reads of one snapshot by many threads at once are right; LMDB wants one thread at a time in a transaction."""
    errors = []
    with backend.snapshot() as snapshot:

        def read():
            try:
                for number in range(0, 2000, 3):
                    assert snapshot.get("a", b"%04d" % number) == b"v" * 100
                assert len(list(snapshot.scan("a"))) == 2000
                assert len(list(snapshot.scan("a", reverse=True))) == 2000
                assert None not in snapshot.multi_get("a", [b"%04d" % number for number in range(500)])
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert errors == []


def test_snapshots_are_collected_on_any_thread(backend):
    """A snapshot made here and dropped there gives its reader slot back."""
    made = [backend.snapshot() for _ in range(50)]
    for snapshot in made:
        snapshot.get("a", b"0001")
    assert backend.stats()["live_snapshots"] == 50

    def drop():
        made.clear()
        gc.collect()

    thread = threading.Thread(target=drop)
    del snapshot
    thread.start()
    thread.join()

    assert backend.stats()["live_snapshots"] == 0
    assert not backend.engine.live
    backend.put("a", b"k", b"v")
