"""Hazard 15: a fork with an open store."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [
    pytest.mark.engine("rocksdb"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork; POSIX ones run it"),
]

Start = Callable[[str], Any]

# The parent is a process of its own: a child that goes wrong takes no part of the test run along.
PARENT = """
backend = open_backend(URL, ["a", "b"])
backend.put("a", b"k", b"1")
sealed = backend.snapshot()
backend.put("a", b"k", b"2")
live = backend.snapshot()
scans = [backend.scan("a"), sealed.scan("a"), live.scan("a")]
get, put = backend.get, backend.put
def fork(child):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        child()
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


CALLS = [
    "backend.get('a', b'k')",
    "backend.put('a', b'k', b'x')",
    "backend.batch_write(WriteBatch().put('a', b'k', b'x'))",
    "backend.delete('a', b'k')",
    "backend.multi_get('a', [b'k'])",
    "list(backend.scan('a'))",
    "list(backend.prefix_scan('a', b'k'))",
    "backend.snapshot()",
    "backend.flush()",
    "backend.compact('a')",
    "backend.create_column_family('c')",
    "backend.drop_column_family('a')",
    "backend.column_families()",
    "backend.stats()",
    "sealed.get('a', b'k')",
    "live.get('a', b'k')",
    "list(sealed.scan('a'))",
    "next(scans[0])",
    "next(scans[1])",
    "get('a', b'k')",
    "put('a', b'k', b'x')",
]


def test_every_call_in_the_child_is_refused_with_both_pids(process: Start) -> None:
    """A call in the child worked on the parent's store, or its error does not name the two processes."""
    other = process(
        PARENT
        + f"""
def child():
    try:
        eval(call)
    except exc.ForkedProcess as error:
        os._exit(7 if (error.opened_pid, error.pid) == (os.getppid(), os.getpid()) else 8)
for call in {CALLS!r}:
    if (status := fork(child)) != 7:
        say(call, status)
backend.put("a", b"after", b"v")
say([key for key, _ in backend.scan("a")], next(scans[1]), sealed.get("a", b"k"), live.get("a", b"k"))
"""
    )

    assert other.finish() == ["[b'after', b'k'] (b'k', b'1') b'1' b'2'"]


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("raise SystemExit", 0),
        ("raise ValueError", 1),
        ("backend.close(); live.close(); sys.exit(5)", 5),
        ("globals().clear(); __import__('gc').collect(); __import__('sys').exit(6)", 6),
    ],
)
def test_the_child_ends_as_it_wants_and_leaves_the_parent_alone(process: Start, ending: str, status: int) -> None:
    """A child of a process with an open store crashed at its end, or harmed the parent's store."""
    other = process(
        PARENT
        + f"""
def child():
    {ending}
say(fork(child))
for number in range(200):
    backend.put("b", b"%03d" % number, b"v" * 100)
backend.flush()
backend.compact("b")
backend.close()
with open_backend(URL) as again:
    say(sum(1 for _ in again.scan("b")), again.get("a", b"k"))
"""
    )

    assert other.finish() == [str(status), "200 b'2'"]


def test_a_child_of_a_process_that_closed_its_store_ends_in_peace(process: Start) -> None:
    """A child forked after the store was closed crashed at its end (RocksDB's destructors join lost threads)."""
    other = process(PARENT + "backend.close()\nsay(fork(lambda: sys.exit(3)))")

    assert other.finish() == ["3"]


def test_the_child_cannot_open_what_the_parent_holds(process: Start) -> None:
    """The child of a process with the store open could open it for writing too."""
    other = process(
        PARENT
        + """
def child():
    try:
        open_backend(URL)
    except exc.StoreLocked as error:
        os._exit(7 if error.holder_pid == os.getppid() else 8)
say(fork(child))
backend.put("a", b"k", b"3")
"""
    )

    assert other.finish() == ["7"]


@pytest.mark.parametrize("closed", [False, True], ids=["parent has it closed", "parent closes it meanwhile"])
def test_a_child_without_rocksdbs_threads_does_not_hang(process: Start, closed: bool) -> None:
    """Opening for writing in a child of a process that used RocksDB worked, to hang at the first flush for ever."""
    close = ("backend.close()\n", "") if not closed else ("", "backend.close()\n")
    other = process(
        PARENT
        + close[0]
        + f"""
ready, go = os.pipe()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    os.read(ready, 1)
    try:
        open_backend(URL)
    except exc.ForkedProcess as error:
        os._exit(7 if error.opened_pid == os.getppid() else 8)
    os._exit(9)
{close[1]}
os.write(go, b"x")
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
with open_backend(URL) as again:
    say(again.get("a", b"k"))
"""
    )

    assert other.finish() == ["7", "b'2'"]


@pytest.mark.parametrize("mode", ["ro", "secondary"])
def test_a_child_can_open_the_store_for_reading(process: Start, mode: str) -> None:
    """The child could not read the store by a handle of its own."""
    other = process(
        PARENT
        + f"""
def child():
    with open_backend(URL + "?mode={mode}") as own:
        own.catch_up()
        good = own.get("a", b"k") == b"2" and list(own.scan("a")) == [(b"k", b"2")]
    sys.exit(7 if good else 8)
say(fork(child))
backend.put("a", b"k", b"3")
"""
    )

    assert other.finish() == ["7"]


def test_a_grandchild_is_refused_too(process: Start) -> None:
    """A process forked twice from the one with the store could use it."""
    other = process(
        PARENT
        + """
def child():
    sys.exit(fork(lambda: os._exit(7 if failure(backend.get, "a", b"k") == "ForkedProcess" else 8)))
say(fork(child))
"""
    )

    assert other.finish() == ["7"]


def test_a_fork_while_threads_commit_leaves_the_parent_unharmed(process: Start) -> None:
    """A fork in the middle of other threads' commits hung the child, or lost the parent's commits."""
    other = process(
        PARENT
        + """
stop = threading.Event()
counts = [0, 0, 0]
def write(number):
    while not stop.is_set():
        backend.put("b", b"%d-%06d" % (number, counts[number]), b"v")
        counts[number] += 1
threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
statuses = set()
for _ in range(15):
    time.sleep(0.005)
    statuses.add(fork(lambda: sys.exit(7 if failure(backend.put, "b", b"child", b"v") == "ForkedProcess" else 8)))
stop.set()
for thread in threads:
    thread.join()
say(statuses)
backend.close()
with open_backend(URL) as again:
    say(sum(1 for _ in again.scan("b")) == sum(counts), again.get("b", b"child"))
"""
    )

    assert other.finish() == ["{7}", "True None"]
