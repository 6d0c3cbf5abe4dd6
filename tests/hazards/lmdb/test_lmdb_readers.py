"""Readers that are many, old or dead (hazard 24)."""

import gc
import time

import pytest

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, open_backend, registry
from kvdialect.storage import WriteBatch

pytestmark = pytest.mark.engine("lmdb")


def test_exhausted_reader_slots_are_a_typed_error_and_pass(url):
    """With all slots taken a read says ReadersFull; after one snapshot ends it works again."""
    with open_backend(f"{url}?max_readers=4", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        snapshots = []
        with pytest.raises(exc.ReadersFull, match="max_readers") as caught:
            snapshots.extend(backend.snapshot() for _ in range(20))
        assert 1 <= len(snapshots) <= 4
        assert caught.value.retryable
        with pytest.raises(exc.ReadersFull):
            backend.get("a", b"k")
        backend.put("a", b"k", b"w")

        snapshots.pop().close()

        assert backend.get("a", b"k") == b"w"


def test_slots_of_killed_processes_are_cleared_when_needed(start, url):
    """A reader that was killed keeps its slots in LMDB's table until somebody looks."""
    with open_backend(f"{url}?max_readers=6", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        reader = start(
            """
            backend = open_backend(URL + "?max_readers=6")
            snapshots = []
            try:
                while True: snapshots.append(backend.snapshot())
            except exc.ReadersFull:
                print(len(snapshots), flush=True)
            sys.stdin.readline()
            """,
            url,
        )
        assert int(reader.line()) >= 3
        with pytest.raises(exc.ReadersFull):
            [backend.snapshot() for _ in range(4)]
        reader.kill()

        snapshots = [backend.snapshot() for _ in range(4)]

        assert [snapshot.get("a", b"k") for snapshot in snapshots] == [b"v"] * 4


def test_slots_of_killed_processes_are_cleared_at_open(start, url):
    """A dead reader's snapshot would keep LMDB from reusing pages: opening the store frees them."""
    with open_backend(f"{url}?durability=none", ["a"]) as keeper:
        keeper.put("a", b"k", b"v")
        reader = start(
            'backend = open_backend(URL); s = backend.snapshot(); print("open", flush=True); sys.stdin.readline()', url
        )
        assert reader.line() == "open"
        reader.kill()
        stale = keeper.engine.env.readers()

        opener = start('open_backend(URL).close(); print("opened")', url)

        assert opener.finish() == "opened"
        assert str(reader.pid) in stale
        assert str(reader.pid) not in keeper.engine.env.readers()


def test_file_does_not_grow_without_old_readers(url):
    """Overwriting one value for ever reuses pages, reads in between included."""
    with open_backend(f"{url}?durability=none", ["a"]) as backend:
        for number in range(50):
            backend.put("a", b"k", bytes([number]) * 100_000)
        before = backend.stats()["used_bytes"]
        for number in range(300):
            backend.put("a", b"k", bytes([number % 256]) * 100_000)
            assert backend.get("a", b"k")[0] == number % 256
            list(backend.scan("a"))

        assert backend.stats()["used_bytes"] <= before * 2


def test_a_session_has_let_go_of_its_snapshot_when_it_commits(url, monkeypatch):
    """LMDB cannot reuse pages that a reader holds, so a session that reads and writes must not be one as it commits."""
    models = registry()

    @mapped(models)
    class Page:
        __tablename__ = "pages"
        id: Mapped[int] = field(primary_key=True)
        number: Mapped[int]

    with create_engine(f"{url}?durability=none") as engine:
        models.create_all(engine)
        write, held = engine.backend.batch_write, []

        def batch_write(batch):
            held.append(engine.stats()["live_snapshots"])
            write(batch)

        monkeypatch.setattr(engine.backend, "batch_write", batch_write)
        for number in range(3):
            with Session(engine) as session, session.begin():
                session.get(Page, 1)
                session.merge(Page(1, number))

    assert held == [0, 0, 0]


def test_age_of_the_oldest_snapshot_is_visible(url):
    """stats() shows what holds pages back."""
    with open_backend(url, ["a"]) as backend:
        assert backend.stats()["oldest_snapshot_seconds"] == 0.0
        with backend.snapshot(), backend.snapshot():
            time.sleep(0.05)

            stats = backend.stats()
            assert stats["live_snapshots"] == 2
            assert stats["oldest_snapshot_seconds"] >= 0.05
        assert backend.stats()["live_snapshots"] == 0


ENDED = {
    "get": lambda snapshot, _: snapshot.get("a", b"k"),
    "multi_get": lambda snapshot, _: snapshot.multi_get("a", [b"k"]),
    "scan": lambda snapshot, _: snapshot.scan("a"),
    "iterator": lambda _, iterator: list(iterator),
}


@pytest.mark.parametrize("use", ENDED.values(), ids=ENDED)
@pytest.mark.parametrize("event", ["write", "snapshot"])
def test_snapshot_over_its_age_is_ended(url, use, event):
    """With max_snapshot_age a forgotten snapshot is ended by the next write or snapshot, and says so itself."""
    with open_backend(f"{url}?max_snapshot_age=0.05", ["a"]) as backend:
        batch = WriteBatch()
        for number in range(1000):
            batch.put("a", b"%d" % number, b"v")
        backend.batch_write(batch)
        old = backend.snapshot()
        iterator = old.scan("a")
        next(iterator)
        time.sleep(0.1)
        young = None
        if event == "write":
            backend.put("a", b"k", b"v")
        else:
            young = backend.snapshot()

        with pytest.raises(exc.SnapshotTooOld, match="take a new one"):
            use(old, iterator)

        assert young is None or young.get("a", b"1") == b"v"


def test_snapshot_within_its_age_lives(url):
    """A bound on the age ends no young one."""
    with open_backend(f"{url}?max_snapshot_age=100", ["a"]) as backend:
        snapshot = backend.snapshot()
        backend.put("a", b"k", b"v")

        assert snapshot.get("a", b"k") is None


def test_ending_old_snapshots_under_their_readers_is_safe(run, url):
    """A thread whose snapshot is ended by another one's commit gets the error, not a crash."""
    out = run(
        """
        backend = open_backend(URL + "?durability=none&max_snapshot_age=0.002", ["a"])
        batch = WriteBatch()
        for number in range(2000): batch.put("a", b"%04d" % number, b"v" * 200)
        backend.batch_write(batch)
        sys.setswitchinterval(1e-5)
        errors, ended, end = set(), [], time.monotonic() + 1.5
        def work():
            while time.monotonic() < end:
                try:
                    with backend.snapshot() as snapshot:
                        assert len(list(snapshot.scan("a"))) >= 2000
                        for number in range(300): assert snapshot.get("a", b"%04d" % number)
                except exc.SnapshotTooOld:
                    ended.append(1)
                except BaseException as error:
                    errors.add(repr(error))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        while time.monotonic() < end: backend.put("a", b"k", b"v")
        for thread in threads: thread.join()
        print(len(ended) > 0, errors)
        """,
        url,
    )

    assert out == "True set()"


def test_slots_of_what_nobody_can_reach_are_given_back(url):
    """Snapshots dropped without close, in cycles: the collector may be late, and reads must not fail for it."""
    with open_backend(f"{url}?max_readers=4", ["a"]) as backend:
        gc.disable()
        try:
            for _ in range(20):
                cycle = [backend.snapshot()]
                cycle.append(cycle)
                del cycle
            assert backend.get("a", b"k") is None
        finally:
            gc.enable()
