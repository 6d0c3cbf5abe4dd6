"""Ctrl-C at any moment of a commit (hazards 7, 17)."""

import os
import signal
import threading
import time

import pytest

from kvdialect import exc, open_backend

pytestmark = pytest.mark.engine("lmdb")

TORTURE = """
durability, threads = sys.argv[2], int(sys.argv[3])
backend = open_backend(URL + "?lock_timeout=5&durability=" + durability, ["a"])
begun = time.monotonic()
def goes_on():
    return time.monotonic() < begun + 1.2 or (not interrupted and time.monotonic() < begun + 30)
interrupted = 0
armed, stop, wrong, acknowledged = False, False, [], [[] for _ in range(threads)]
def interrupt():
    while goes_on():
        time.sleep(random.random() * 0.004)
        if armed:
            os.kill(os.getpid(), signal.SIGINT)
def write(mine):
    while not stop:
        key = b"%d-%d" % (id(mine), len(mine))
        try:
            backend.put("a", key, b"v")
            mine.append(key)
        except BaseException as error:
            wrong.append(repr(error))
            return
workers = [threading.Thread(target=write, args=(mine,)) for mine in acknowledged]
workers.append(threading.Thread(target=interrupt))
for worker in workers: worker.start()
number = 0
while goes_on():
    number += 1
    key, said = b"m%d" % number, None
    try:
        try:
            armed = True
            backend.put("a", key, b"v")
            said = "applied"
        except exc.CommitInterrupted as error:
            armed = False
            said = error.outcome
            interrupted += 1
            if backend.commit_outcome(error.token) != said:
                wrong.append("commit_outcome disagrees")
        except exc.Error as error:
            wrong.append(repr(error))
        armed = False
        time.sleep(0)
    except KeyboardInterrupt:
        armed = False
    for _ in range(2):
        try:
            there = backend.get("a", key) is not None
            break
        except KeyboardInterrupt:
            pass
    if said is not None and there != (said == "applied"):
        wrong.append((said, there))
stop = True
for worker in workers: worker.join()
lost = [key for mine in acknowledged for key in mine if backend.get("a", key) is None]
print(interrupted > 0, wrong[:3], lost[:3])
"""


@pytest.mark.parametrize("threads", ["0", "2"])
@pytest.mark.parametrize("durability", ["sync", "none"])
def test_interrupts_at_random_moments_leave_a_true_account(run, url, durability, threads):
    """CommitInterrupted tells rightly what became of the batch; no lock stays held; other threads notice nothing."""
    assert run(TORTURE, url, durability, threads) == "True [] []"


def test_commit_interrupted_is_a_keyboard_interrupt(monkeypatch, url):
    """A program that handles Ctrl-C as usual handles this one, and can learn that its batch is there."""
    with open_backend(url, ["a"]) as backend:
        apply = backend.engine._committer._apply

        def interrupted(group):
            apply(group)
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(backend.engine._committer, "_apply", interrupted)

        with pytest.raises(KeyboardInterrupt) as caught:
            backend.put("a", b"k", b"v")

        assert isinstance(caught.value, exc.CommitInterrupted)
        assert caught.value.outcome == "applied"
        assert backend.commit_outcome(caught.value.token) == "applied"
        assert backend.get("a", b"k") == b"v"


def test_handler_of_the_program_is_kept(url):
    """A program with a handler of its own for Ctrl-C finds it in place, and it is called for a signal in a commit."""
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        with open_backend(url, ["a"]) as backend:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            end = time.monotonic() + 20
            while not calls and time.monotonic() < end:
                backend.put("a", b"k", b"v")

            assert calls == [1]
            signal.raise_signal(signal.SIGINT)
            assert calls == [1, 1]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("write", ['backend.put("a", b"k", b"v")', 'backend.create_column_family("b")'])
def test_wait_for_a_lock_hears_ctrl_c(start, url, write):
    """While another process holds the writer's lock, Ctrl-C ends the wait at once, and nothing is applied."""
    with open_backend(url, ["a"]) as backend:
        waiter = start(
            f"""
            backend = open_backend(URL + "?lock_timeout=50")
            print("ready", flush=True)
            sys.stdin.readline()
            try:
                {write}
            except KeyboardInterrupt as error:
                print(type(error).__name__)
            backend.close()
            """,
            url,
        )
        assert waiter.line() == "ready"
        with backend.engine._exclusive("test"):
            waiter.tell()
            time.sleep(0.3)
            os.kill(waiter.pid, signal.SIGINT)

            assert waiter.finish() == "KeyboardInterrupt"

        assert backend.get("a", b"k") is None
        assert backend.column_families() == ["a"]


def test_wait_for_another_thread_hears_ctrl_c(run, url):
    """So does a wait behind a thread of the same process."""
    out = run(
        """
        backend = open_backend(URL + "?lock_timeout=50", ["a"])
        held, free = threading.Event(), threading.Event()
        def hold():
            with backend.engine._exclusive("test"):
                held.set()
                free.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            backend.put("a", b"k", b"v")
        except KeyboardInterrupt as error:
            print(type(error).__name__, backend.get("a", b"k"))
        free.set()
        thread.join()
        backend.put("a", b"k", b"w")
        print(backend.get("a", b"k"))
        """,
        url,
    )

    assert out.splitlines() == ["KeyboardInterrupt None", "b'w'"]


def test_unknown_token_is_refused_and_a_future_one_not_applied(url):
    """commit_outcome says not_applied for what was never committed, and refuses what is no token."""
    with open_backend(url, ["a"]) as backend:
        assert backend.commit_outcome(bytes(15) + b"\x01") == "not_applied"
        for wrong in (b"", b"short", bytes(17), "text", None):
            with pytest.raises(exc.ArgumentError):
                backend.commit_outcome(wrong)


def test_tokens_do_not_pile_up(url):
    """Each commit overwrites its writer's token: a million commits leave as many tokens as there were writers."""
    with open_backend(f"{url}?durability=none", ["a"]) as backend:
        for number in range(200):
            backend.put("a", b"k", b"%d" % number)

        with backend.engine.begin_read() as txn:
            keys = [key for key, _ in txn.cursor(backend.engine.own).iternext() if key.startswith(b"t")]
        assert len(keys) == 1
