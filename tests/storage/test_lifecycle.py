"""How handles, snapshots and engines come to their end: collected, in a forked child, or as an unwanted copy."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import time
import weakref

import pytest

from kvdialect import create_engine, exc, open_backend

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
}


class _Cycle:
    """Something that refers to itself, so that only the garbage collector ends what it has."""

    def __init__(self, url):
        self.itself = self
        self.backend = open_backend(url, ["a"])
        self.backend.put("a", b"k", b"v")
        self.snapshot = self.backend.snapshot()
        self.scan = self.snapshot.scan("a")
        next(self.scan)


def test_garbage_of_a_dropped_store_does_not_wait_for_itself(url):
    """A handle and its snapshot go in one pass of the collector: closing the one cannot wait for the other."""
    cycle = _Cycle(url)
    engine = weakref.ref(cycle.backend.engine)
    del cycle

    begun = time.monotonic()
    gc.collect()

    assert time.monotonic() - begun < 5
    gc.collect()
    assert engine() is None
    open_backend(url).close()


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_a_handle_and_a_snapshot_refuse_to_be_copied(url, how):
    """A copy would close the original as it is collected."""
    with open_backend(url, ["a"]) as backend, backend.snapshot() as snapshot:
        with pytest.raises(TypeError, match="opens the store by its URL"):
            how(backend)
        with pytest.raises(TypeError, match=r"take another one: backend\.snapshot\(\)"):
            how(snapshot)
        gc.collect()

        backend.put("a", b"k", b"v")
        assert snapshot.get("a", b"k") is None


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_an_engine_refuses_to_be_copied(url, how):
    """It says what to do instead."""
    with create_engine(url) as engine, pytest.raises(TypeError, match="pass the URL and call create_engine there"):
        how(engine)


@pytest.mark.engine("rocksdb")
def test_an_error_of_a_signal_handler_during_opening_is_no_error_of_the_device(tmp_path, monkeypatch):
    """A TimeoutError is an OSError too, and says nothing of files."""
    url = f"rocksdb:///{tmp_path}/store"
    open_backend(url).close()

    def late(_path):
        raise TimeoutError("the program's own time limit")

    monkeypatch.setattr("kvdialect.storage.closing.read", late)
    with pytest.raises(TimeoutError, match="the program's own time limit"):
        open_backend(url)


FORKED = """
import asyncio, gc, os, signal, threading
from kvdialect import create_engine, exc
from kvdialect.orm.aio.workers import Worker
engine = create_engine("memory://")
workers = engine.workers
worker = asyncio.run(workers.take())
locks = [engine._bindings, workers._lock, worker._lock]
held, done = threading.Event(), threading.Event()
def hold():
    for lock in locks: lock.acquire()
    held.set()
    done.wait()
    for lock in locks: lock.release()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    async def call():
        worker.call(print)
    for use in (lambda: engine.sql, engine.binding, engine.count_retry, lambda: asyncio.run(call())):
        try:
            use()
        except exc.ForkedProcess:
            continue
        os._exit(1)
    worker.later(print)
    workers.give_back(worker)
    engine.close()
    engine.close()
    workers.close()
    del engine, workers, worker, locks, use, call
    gc.collect()
    os._exit(0)
status = os.waitpid(child, 0)[1]
done.set()
thread.join()
workers.give_back(worker)
with engine.sql.connect(): pass
engine.close()
print("child ended with", status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork; Linux and macOS run this")
def test_a_child_takes_no_lock_that_was_held_at_the_fork():
    """The thread that holds it is not there, so that the child would wait for ever."""
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    assert ended.stdout.strip() == "child ended with 0", ended.stderr


def test_the_child_names_both_processes():
    """Who meets the error learns where the store was opened, and where to open it again."""
    with create_engine("memory://") as engine:
        engine._pid += 1
        try:
            with pytest.raises(exc.ForkedProcess, match="reopen in pid") as caught:
                engine.count_retry()
        finally:
            engine._pid -= 1

    assert (caught.value.opened_pid, caught.value.pid) == (os.getpid() + 1, os.getpid())
