"""A store that was open when the process forked (hazard 15)."""

import os

import pytest

pytestmark = [
    pytest.mark.engine("lmdb"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork; Linux and macOS run this"),
]

# What the child does with what it inherited, and how it ends.
PARENT = """
backend = open_backend(URL + "?lock_timeout=5", ["a", "b"])
for number in range(200): backend.put("a", b"%03d" % number, b"v" * 100)
snapshot = backend.snapshot()
iterator = backend.scan("a")
of_snapshot = snapshot.scan("a")
next(iterator), next(of_snapshot)
me = os.getpid()
{before}
child = os.fork()
if child == 0:
    signal.alarm(20)
    {child}
    {end}
status = os.waitpid(child, 0)[1]
assert status == 0, status
# The parent is unharmed.
assert snapshot.get("a", b"000") == b"v" * 100
assert len(list(iterator)) == 199
assert len(list(of_snapshot)) == 199
backend.put("a", b"after", b"v")
assert backend.get("a", b"after") == b"v"
backend.create_column_family("later")
snapshot.close()
for thread in globals().get("threads", ()): thread.join()
assert backend.stats()["live_snapshots"] == 0
backend.put("b", b"k", b"v")
backend.close()
with open_backend(URL) as again: assert len(list(again.scan("a"))) == 201 + {added}
print("parent well")
"""

ENDS = {
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "end of the program": "raise SystemExit",
    "collected, then exit": "del backend, snapshot, iterator, of_snapshot; gc.collect(); sys.exit(0)",
    "closed, then exit": "snapshot.close(); backend.close(); backend.close(); gc.collect(); sys.exit(0)",
}


def script(child="pass", end="sys.exit(0)", before="pass", added=0):
    """The parent's program with what its child does."""
    child = child.replace("\n", "\n    ")
    return PARENT.format(child=child, end=end, before=before, added=added)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_child_that_does_not_touch_the_store_ends_in_peace(run, url, end):
    """Neither finalisers nor the driver's own clean-up hang the child, kill it, or touch the parent's store."""
    assert run(script(end=end), url) == "parent well"


USES = [
    'backend.get("a", b"000")',
    'backend.multi_get("a", [b"000"])',
    'backend.scan("a")',
    'backend.prefix_scan("a", b"0")',
    'backend.put("a", b"k", b"v")',
    'backend.delete("a", b"k")',
    'backend.batch_write(WriteBatch().put("a", b"k", b"v"))',
    "backend.snapshot()",
    "backend.column_families()",
    'backend.create_column_family("c")',
    'backend.drop_column_family("b")',
    "backend.flush()",
    'backend.compact("a")',
    "backend.stats()",
    "backend.commit_outcome(bytes(16))",
    'snapshot.get("a", b"000")',
    'snapshot.multi_get("a", [b"000"])',
    'snapshot.scan("a")',
]

CHECK = """
for use in {uses!r}:
    try:
        eval(use)
    except exc.ForkedProcess as error:
        assert "opened in pid %d; reopen in pid %d" % (me, os.getpid()) in str(error), error
        assert (error.opened_pid, error.pid) == (me, os.getpid())
        assert error.path == backend.path
    else:
        print("not refused:", use, flush=True)
        os._exit(1)
""".strip()


def test_every_use_in_the_child_is_refused_with_both_pids(run, url):
    """The error says where the store was opened and where to open it again."""
    assert run(script(CHECK.format(uses=USES)), url) == "parent well"


@pytest.mark.parametrize("which", ["iterator", "of_snapshot"])
def test_iterator_in_the_child_is_refused(run, url, which):
    """An inherited iterator gives at most what it had read ahead before the fork, then the error; no end too soon."""
    child = f"""
rows = []
try:
    for pair in {which}: rows.append(pair)
except exc.ForkedProcess as error:
    assert "reopen in pid %d" % os.getpid() in str(error)
else:
    os._exit(1)
assert len(rows) < 199
""".strip()

    assert run(script(child), url) == "parent well"


REOPEN = """
own = open_backend(URL + "?lock_timeout=5", ["a", "c"])
assert own.get("a", b"000") == b"v" * 100
own.put("a", b"child", b"w")
with own.snapshot() as shot:
    own.put("a", b"child", b"v")
    assert shot.get("a", b"child") == b"w"
assert len(list(own.scan("a"))) == 201
""".strip()


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_child_can_open_the_store_again(run, url, end):
    """py-lmdb remembers the parent's open paths in the child; a new handle works all the same, and the parent's too."""
    assert run(script(REOPEN, end, added=1), url) == "parent well"


def test_child_can_close_what_it_opened(run, url):
    """Closing the child's own handle leaves the parent's store open."""
    assert run(script(f"{REOPEN}\nown.close()", added=1), url) == "parent well"


def test_child_can_open_and_close_repeatedly(run, url):
    """Reopening works more than once, through the same path."""
    child = "for _ in range(3):\n    with open_backend(URL) as own: assert own.get('a', b'000')"

    assert run(script(child), url) == "parent well"


def test_grandchild_is_refused_too(run, url):
    """A child's own handle is as dead in its child as the parent's."""
    child = (
        REOPEN
        + """
grandchild = os.fork()
if grandchild == 0:
    signal.alarm(20)
    for handle, pid in ((own, os.getppid()), (backend, me)):
        try:
            handle.get("a", b"000")
        except exc.ForkedProcess as error:
            assert error.opened_pid == pid, error
        else:
            os._exit(1)
    with open_backend(URL) as third: assert third.get("a", b"child") == b"v"
    sys.exit(0)
assert os.waitpid(grandchild, 0)[1] == 0
assert own.get("a", b"child") == b"v"
own.close()
""".rstrip()
    )

    assert run(script(child, added=1), url) == "parent well"


@pytest.mark.parametrize("load", ["reads", "writes", "waits"])
def test_fork_while_other_threads_use_the_store(run, url, load):
    """Locks that another thread held at the fork do not hang the child; both sides go on."""
    before = f"""
stop = threading.Event()
def use():
    while not stop.is_set():
        if {load!r} == "reads": list(backend.scan("a"))
        elif {load!r} == "writes": backend.put("b", b"k", b"v")
        else:
            with backend.engine._exclusive("test"): stop.wait(5)
threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads: thread.start()
time.sleep(0.1)
threading.Timer(0.5, stop.set).start()
""".strip()
    own = "with open_backend(URL + '?lock_timeout=5') as own: assert own.get('a', b'000')"
    child = f"{CHECK.format(uses=USES)}\n{own}"

    assert run(script(child, before=before), url) == "parent well"


def test_multiprocessing_by_fork(run, url):
    """Pools that fork work for programs that open the store in the worker."""
    out = run(
        """
        import multiprocessing
        backend = open_backend(URL, ["a"])
        backend.put("a", b"k", b"v")
        def inherited(_):
            try:
                return backend.get("a", b"k")
            except exc.ForkedProcess:
                with open_backend(URL) as own:
                    own.batch_write(WriteBatch().add("a", b"n", 1))
                    return own.get("a", b"k")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(set(pool.map(inherited, range(20))))
        print(int.from_bytes(backend.get("a", b"n")))
        """,
        url,
    )

    assert out.splitlines() == ["{b'v'}", "20"]


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="finds the C library as on Linux, where this runs")
def test_fork_behind_pythons_back_is_noticed(run, url):
    """A fork by a C extension runs no at-fork handlers: what writes, or takes a snapshot, looks at the pid itself."""
    out = run(
        """
        import ctypes
        backend = open_backend(URL, ["a"])
        backend.put("a", b"k", b"v")
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            signal.alarm(20)
            refused = 0
            for use in (lambda: backend.put("a", b"k", b"w"), backend.snapshot, lambda: backend.scan("a"),
                        lambda: backend.create_column_family("c"), backend.flush):
                try:
                    use()
                except exc.ForkedProcess:
                    refused += 1
            os._exit(refused)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        backend.put("a", b"k", b"x")
        print(backend.get("a", b"k"))
        """,
        url,
    )

    assert out.splitlines() == ["5", "b'x'"]
