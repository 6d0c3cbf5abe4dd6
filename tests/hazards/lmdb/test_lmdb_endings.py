"""Snapshots that are cut short, collected or in use while their store is closed (hazards 22, 24)."""

import gc
import sys
import time

import pytest

from kvdialect import exc, open_backend
from kvdialect.storage.lmdb import reading

pytestmark = pytest.mark.engine("lmdb")


@pytest.fixture
def backend(url):
    with open_backend(f"{url}?durability=none", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        yield backend


def closing_time(backend):
    """Seconds that closing takes; it was ``lock_timeout`` where a snapshot was waited for in vain."""
    begun = time.monotonic()
    backend.close()
    return time.monotonic() - begun


class Cut(Exception):
    """What a program's signal handler raises."""


@pytest.mark.parametrize("kept", [True, False])
def test_an_end_that_is_cut_short_does_not_hold_up_closing(backend, monkeypatch, kept):
    """The driver's transaction has ended, and the engine was not told."""

    class Cutting:
        @property
        def get(self):
            raise Cut

        def abort(self):
            return

    snapshot = backend.engine.take_snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(reading, "_ENDED", Cutting())
        with pytest.raises(Cut):
            snapshot._give_back()
    if not kept:
        del snapshot
        gc.collect()

    assert closing_time(backend) < 5


def cut_at(number, work):
    """Run ``work``, raising Cut at this step of the storage layer; False if it has less steps.

    A step is where Python calls the handlers of signals: the beginning of a function, and the end of one in C.
    """
    left = number

    def step(frame, event, _argument):
        nonlocal left
        if event in ("call", "c_return") and "kvdialect/storage/" in frame.f_code.co_filename.replace("\\", "/"):
            left -= 1
            if left == 0:
                raise Cut

    before = sys.getprofile()
    sys.setprofile(step)
    try:
        work()
    except Cut:
        pass
    finally:
        sys.setprofile(before)
    return left <= 0


def test_wherever_a_snapshot_is_cut_short_nothing_of_it_is_left(backend, monkeypatch):
    """A signal handler raises between any two steps: of taking a snapshot, reading in it, and ending it."""
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: ignored.append(repr(found.exc_value)))

    def use():
        snapshot = backend.snapshot()
        snapshot.get("a", b"k")
        list(snapshot.scan("a"))
        snapshot.close()
        backend.snapshot()  # collected at once

    number = 1
    while cut_at(number, use):
        gc.collect()
        assert not backend.engine.live, f"cut at step {number}"
        number += 1

    assert number > 50
    assert set(ignored) <= {repr(Cut())}
    assert backend.stats()["live_snapshots"] == 0
    assert closing_time(backend) < 5


def test_an_environment_that_a_thread_is_in_is_not_closed(url, caplog):
    """To close it would crash the process; it goes with what is in it."""
    backend = open_backend(f"{url}?lock_timeout=0.2", ["a"])
    backend.put("a", b"k", b"v")
    engine = backend.engine
    snapshot = engine.take_snapshot()

    with snapshot.used():
        backend.close()
        assert engine.env.stat()["psize"] > 0

    assert "stays open" in caplog.text
    with pytest.raises(exc.StoreClosed):
        backend.get("a", b"k")
    snapshot.close()
    del engine, snapshot, backend
    gc.collect()
    with open_backend(url) as again:
        assert again.get("a", b"k") == b"v"


def test_a_read_that_closing_overtakes_says_so(backend):
    """A snapshot that no handle knows ends with the store too."""
    snapshot = backend.engine.take_snapshot()

    assert closing_time(backend) < 5
    with pytest.raises(exc.StoreClosed):
        snapshot.multi_get("a", [b"k"])


BACKUP_AND_CLOSE = """
backend = open_backend(URL + "?durability=none", ["a"])
for part in range(20):
    batch = WriteBatch()
    for number in range(200): batch.put("a", b"%04d %04d" % (part, number), os.urandom(4000))
    backend.batch_write(batch)
found = []
def back_up():
    try:
        backend.backup(sys.argv[2])
        found.append("fine")
    except exc.StoreClosed:
        found.append("fine")
thread = threading.Thread(target=back_up)
thread.start()
time.sleep(0.03)
backend.close()
thread.join()
print(*found)
"""


def test_closing_waits_for_a_backup(run, url, tmp_path):
    """The driver reads the environment meanwhile without Python's lock."""
    assert run(BACKUP_AND_CLOSE, url, str(tmp_path / "backup")) == "fine"


def test_a_verification_that_closing_overtakes_says_so(backend, monkeypatch):
    """It reads pages that nothing keeps from being used again."""
    found = [type("Fault", (), {"database": "a", "message": "damaged"})] * 2
    monkeypatch.setattr("kvdialect.storage.lmdb.engine.faults", lambda *_args, **_options: iter(found))
    faults = backend.faults()
    next(faults)

    assert closing_time(backend) < 5
    with pytest.raises(exc.StoreClosed):
        next(faults)
