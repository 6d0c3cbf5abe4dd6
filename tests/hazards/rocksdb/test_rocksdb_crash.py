"""What is left after ``kill -9``: all that was acknowledged, and no commit in part."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from kvdialect.storage import StorageBackend

pytestmark = pytest.mark.engine("rocksdb")

Open = Callable[..., StorageBackend]
Start = Callable[[str], Any]

WRITER = """
backend = open_backend(URL, {{"a": SMALL, "b": SMALL, "c": SMALL}}, durability="{durability}")
lock = threading.Lock()
def write(thread):
    number = int(sys.stdin.readline()) if thread is None else 0
    while True:
        number += 1
        key = b"%d-%08d" % (thread, number)
        batch = WriteBatch()
        for family in "abc":
            batch.put(family, key, bytes(number % 300)).put(family, b"last-%d" % thread, key)
        backend.batch_write(batch)
        with lock:
            say(thread, number)
say("open")
for thread in range(3):
    threading.Thread(target=write, args=(thread,), daemon=True).start()
{besides}
time.sleep(60)
"""
SMALL = 'SMALL = ColumnFamilyOptions(write_buffer_size="64KiB", max_write_buffer_number=4)\n'


def acknowledged(process: Any, seconds: float) -> dict[int, int]:
    """Kill a writer after a while; the last number of each thread that it had acknowledged by then."""
    time.sleep(seconds)
    lines = process.kill()
    assert not process.said_wrong(), process.said_wrong()[-1500:]
    last: dict[int, int] = {}
    for line in lines:
        words = line.split()
        if len(words) == 2:
            last[int(words[0])] = int(words[1])
    return last


def families(backend: StorageBackend) -> list[dict[bytes, bytes]]:
    return [dict(backend.scan(family)) for family in "abc"]


@pytest.mark.parametrize("durability", ["sync", "wal"])
def test_a_kill_loses_nothing_acknowledged(process: Start, store: Open, durability: str) -> None:
    """After ``kill -9`` an acknowledged commit is missing, or one is there in part."""
    for seconds in (0.2, 0.4):
        other = process(SMALL + WRITER.format(durability=durability, besides=""))
        assert other.line() == "open"
        last = acknowledged(other, seconds)
        with store(["a", "b", "c"]) as backend:
            a, b, c = families(backend)

        assert last != {}
        assert a == b == c
        for thread, number in last.items():
            assert all(b"%d-%08d" % (thread, n) in a for n in range(1, number + 1))


@pytest.mark.parametrize(
    "besides",
    [
        "",
        "while True: backend.flush()",
        "while True: backend.compact('a'); backend.compact('b')",
        "while True: failure(backend.create_column_family, 'x'); backend.drop_column_family('x')",
    ],
    ids=["alone", "flushing", "compacting", "families"],
)
def test_a_kill_without_a_log_tears_no_commit(process: Start, store: Open, besides: str) -> None:
    """With ``durability=none`` a killed process left a commit in one family and not in another."""
    for seconds in (0.15, 0.3, 0.45):
        other = process(SMALL + WRITER.format(durability="none", besides=besides))
        assert other.line() == "open"
        acknowledged(other, seconds)
        with store(["a", "b", "c"]) as backend:
            a, b, c = families(backend)

        assert a == b == c
        for thread in range(3):
            if (key := a.get(b"last-%d" % thread)) is not None:
                assert key in a


@pytest.mark.parametrize("step", range(4))
def test_a_crash_inside_flush_without_a_log_tears_no_commit(process: Start, store: Open, step: int) -> None:
    """With ``durability=none`` a process that died inside ``flush`` left a commit in some families only.

    The process dies at the driver's flush number ``step``, which is between two families if they are flushed singly.
    """
    other = process(
        f"""
        backend = open_backend(URL, ["a", "b", "c"], durability="none")
        batch = WriteBatch()
        for family in "abc":
            batch.put(family, b"k", b"v")
        backend.batch_write(batch)
        calls = 0
        class Dying:
            def __init__(self, native):
                self.native = native
            def __getattr__(self, name):
                global calls
                if name in ("flush", "compact_range"):
                    if calls == {step}:
                        os._exit(0)
                    calls += 1
                return getattr(self.native, name)
        for family in backend.engine.known.values():
            family.rdict = Dying(family.rdict)
        backend.flush()
        os._exit(0)
        """
    )
    other.finish()
    with store(["a", "b", "c"]) as backend:
        a, b, c = families(backend)

    assert a == b == c
    if step > 0:
        assert a == {b"k": b"v"}


def test_flush_makes_everything_durable_whatever_was_promised(process: Start, store: Open) -> None:
    """After ``flush`` and ``kill -9``, rows written with ``durability=none`` are missing."""
    other = process(
        """
        backend = open_backend(URL, ["a", "b"], durability="none")
        for number in range(100):
            backend.batch_write(WriteBatch().put("a", b"%d" % number, b"v").put("b", b"%d" % number, b"v"))
        backend.flush()
        say("flushed")
        time.sleep(60)
        """
    )
    assert other.line() == "flushed"
    other.kill()
    backend = store()

    assert sum(1 for _ in backend.scan("a")) == sum(1 for _ in backend.scan("b")) == 100


def test_close_without_a_log_keeps_everything(store: Open) -> None:
    """An orderly close with ``durability=none`` lost rows."""
    with store(durability="none") as backend:
        for number in range(100):
            backend.put("a", b"%d" % number, b"v")

    assert sum(1 for _ in store().scan("a")) == 100
