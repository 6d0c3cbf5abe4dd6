"""Other processes: those that write too, those that must not, and those that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from kvdialect import exc
from kvdialect.storage import WriteBatch, decode_counter
from kvdialect.testing.suites.base import FAMILIES, OpenStore, Suite, contents, fill, needs
from kvdialect.testing.suites.threads import PATIENCE

Start = Callable[..., "subprocess.Popen[str]"]

PROLOGUE = """
import json, sys
from kvdialect import exc
from kvdialect.storage import WriteBatch, open_backend

def say(*words):
    print(*words, flush=True)

try:
    backend = open_backend(sys.argv[1], ["a", "b", "c"], **json.loads(sys.argv[2]))
except exc.Error as error:
    say(type(error).__name__)
    sys.exit()
"""

SAY_OPENED = "say('opened')\n"
SAY_VALUES = "say(*(backend.get(cf, b'k').decode() for cf in 'abc'))\n"
INCREMENT = """
say("ready")
sys.stdin.readline()
for number in range(50):
    backend.batch_write(WriteBatch().add("a", b"n", 1))
    while True:
        seen = backend.get("b", b"n")
        try:
            backend.batch_write(WriteBatch().expect("b", b"n", seen).put("b", b"n", b"%d" % (int(seen) + 1)))
            break
        except exc.ConflictError:
            pass
backend.close()
"""
COMMIT_FOR_EVER = """
number = 0
while True:
    batch = WriteBatch()
    for cf in "abc":
        batch.put(cf, b"%08d" % number, b"%d" % number * 50).put(cf, b"last", b"%d" % number)
    backend.batch_write(batch)
    say(number)
    number += 1
"""


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class ProcessSuite(Suite):
    """What a store promises to, and after, other processes; tests of it need :meth:`url`."""

    @pytest.fixture
    def start(self, open_store: OpenStore, tmp_path: Path) -> Generator[Start]:  # noqa: ARG002 - ends before it
        """Starts a process that opens the test's store and runs some code."""
        started: list[subprocess.Popen[str]] = []
        try:
            url = self.url(tmp_path / "store")
        except NotImplementedError:
            pytest.skip(f"{type(self).__name__} defines no url(), by which another process could open the store")

        def start(code: str, **options: Any) -> subprocess.Popen[str]:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-c", PROLOGUE + code, url, json.dumps({**self.options, **options})],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        yield start
        for process in started:
            with process:  # closes the pipes
                process.kill()

    def test_several_processes_write_without_losing_an_update(self, open_store: OpenStore, start: Start) -> None:
        """Additions must sum up, and expectations must hold, between processes as between threads."""
        backend = open_store()
        needs(backend, "persistent")
        needs(backend, "multi_process_writers")
        backend.put("b", b"n", b"0")
        others = [start(INCREMENT) for _ in range(2)]
        assert [_line(other) for other in others] == ["ready", "ready"]
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
        for number in range(50):
            backend.batch_write(WriteBatch().add("a", b"n", 1).put("c", b"%d" % number, b""))

        assert [other.wait(PATIENCE) for other in others] == [0, 0]
        assert decode_counter(backend.get("a", b"n")) == 150
        assert backend.get("b", b"n") == b"100"

    def test_a_second_writing_process_is_refused(self, open_store: OpenStore, start: Start) -> None:
        """An engine with one writing process must answer the second with StoreLocked and go on undisturbed."""
        backend = open_store()
        needs(backend, "persistent")
        if backend.capabilities.multi_process_writers:
            pytest.skip(f"{backend.name}: capabilities.multi_process_writers is True")
        backend.put("a", b"k", b"v")
        other = start(SAY_OPENED)

        assert _line(other) == "StoreLocked"
        backend.put("a", b"k", b"w")
        backend.close()
        assert open_store().get("a", b"k") == b"w"

    def test_another_process_reads_beside_the_writer(self, open_store: OpenStore, start: Start) -> None:
        """With mode=ro another process must read what was committed before it opened the open store."""
        backend = open_store()
        needs(backend, "persistent")
        needs(backend, "multi_process_readers")
        for cf in FAMILIES:
            backend.put(cf, b"k", cf.encode())
        backend.flush()

        assert _line(start(SAY_VALUES, mode="ro")) == "a b c"
        backend.put("a", b"k", b"still writable")
        assert _line(start(SAY_VALUES, mode="ro")) == "still writable b c"

    def test_a_secondary_catches_up(self, open_store: OpenStore, start: Start) -> None:
        """With mode=secondary another process must follow the writer when it is told to."""
        backend = open_store()
        needs(backend, "secondary")
        for cf in FAMILIES:
            backend.put(cf, b"k", b"1")
        follow = SAY_VALUES + "sys.stdin.readline()\nbackend.catch_up()\n" + SAY_VALUES
        other = start(follow, mode="secondary")
        assert _line(other) == "1 1 1"
        backend.batch_write(WriteBatch().put("a", b"k", b"2").put("b", b"k", b"2").put("c", b"k", b"2"))
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()

        assert _line(other) == "2 2 2"

    @pytest.mark.parametrize("durability", ["sync", "wal"])
    def test_a_killed_process_loses_no_commit_and_tears_none(
        self, open_store: OpenStore, start: Start, durability: str
    ) -> None:
        """What a process was told is committed must be there after kill -9, and every batch whole or not at all."""
        backend = open_store(durability=durability)
        needs(backend, "persistent")
        if durability not in backend.capabilities.durabilities:
            pytest.skip(f"{backend.name}: capabilities.durabilities has no {durability!r}")
        backend.close()
        victim = start(COMMIT_FOR_EVER, durability=durability)
        acknowledged = [int(_line(victim)) for _ in range(100)][-1]
        victim.kill()
        victim.wait(PATIENCE)
        found = contents(open_store(durability=durability))

        count = len(found["a"]) - 1
        assert count > acknowledged
        expected = {b"%08d" % number: b"%d" % number * 50 for number in range(count)}
        assert {cf: dict(pairs) for cf, pairs in found.items()} == {
            cf: {**expected, b"last": b"%d" % (count - 1)} for cf in FAMILIES
        }

    def test_a_store_is_free_after_its_process_was_killed(self, open_store: OpenStore, start: Start) -> None:
        """Locks and reader slots of a killed process must not keep others out."""
        backend = open_store()
        needs(backend, "persistent")
        backend.close()
        victim = start("snapshots = [backend.snapshot() for _ in range(20)]\nsay('opened')\nsys.stdin.readline()\n")
        assert _line(victim) == "opened"
        victim.kill()
        victim.wait(PATIENCE)
        backend = open_store()
        expected = fill(backend, "a", [b"%04d" % n for n in range(100)])

        assert list(backend.scan("a")) == expected

    def test_a_closed_store_is_free_for_another_process(self, open_store: OpenStore, start: Start) -> None:
        """After close nothing must be held: another process must be able to open the store for writing."""
        backend = open_store()
        needs(backend, "persistent")
        backend.put("a", b"k", b"v")
        snapshot, pairs = backend.snapshot(), backend.scan("a")
        next(pairs)
        backend.close()
        other = start("backend.put('a', b'k', b'w')\nbackend.close()\nsay('written')\n")

        assert _line(other) == "written"
        assert other.wait(PATIENCE) == 0
        with pytest.raises(exc.StoreClosed):
            snapshot.get("a", b"k")
        assert open_store().get("a", b"k") == b"w"
