"""Row 1: kill -9 while a session commits.

A writer commits as fast as it can and says on a pipe when a commit has returned. It is killed at a random moment, and
another process opens the store: it must hold the state after all that was acknowledged, or after one commit more, which
was under way; its indexes and counts must agree with its records. Then the next writer goes on from there.

Writers and readers are forked from this process, which never opens a store, so that a cycle takes no start of Python.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kvdialect import Engine
from kvdialect.storage import WriteBatch
from reliability.model import State, after, opened, perform, stored
from reliability.processes import Child, leave_after
from reliability.scoreboard import Row

_number = struct.Struct(">q")
_LONGEST = 0.03  # seconds that a writer lives from then on, at most
_AFTER_ONE = 0.98  # of the writers are killed after they have acknowledged a commit
_WITH_SOME = 0.95  # of the cycles of a run of many, at least, have a commit to lose
_MANY = 100
_PATIENCE = 60


@dataclass(frozen=True)
class Fault:
    """A fault that is planted into a writer: what is done to its engine, and whether it acknowledges too early."""

    prepare: Callable[[Engine], None] | None = None
    early: bool = False


def run(engine: str, folder: Path, cycles: int, seed: int = 1) -> Row:
    """Kill writers, and count what was lost."""
    row = Row(1, "kill -9 during Session commits", engine, cycles)
    began = time.monotonic()
    _cycles(row, engine, folder / "kills", cycles, seed, Fault())
    with_some = row.counts["cycles with acknowledged commits"]
    if row.tried >= _MANY and with_some < _WITH_SOME * row.tried:
        row.violations.append(f"only {with_some} of {row.tried} cycles had an acknowledged commit to lose")
    for name, fault in FAULTS.items():
        trial = Row(1, name, engine, 0)
        _cycles(trial, engine, folder / f"kills {name}", _TRIALS, seed, fault)
        row.control[name] = bool(trial.violations)
    row.seconds = time.monotonic() - began
    return row


def _cycles(row: Row, engine: str, path: Path, cycles: int, seed: int, fault: Fault) -> None:
    """Cycles until something is violated."""
    rng = random.Random(seed)  # noqa: S311 - so that a run can be done again
    url = f"{engine}:///{path}"
    state: State = {}
    done = 0
    counts = dict.fromkeys(("commits acknowledged", "cycles with acknowledged commits", "commits under way kept"), 0)
    row.counts = counts
    for cycle in range(cycles):
        row.tried = cycle + 1
        acknowledged = _killed_writer(url, state, done, rng, fault)
        expected = state
        for number in range(done + 1, acknowledged + 1):
            expected = after(expected, number)
        counts["commits acknowledged"] += acknowledged - done
        counts["cycles with acknowledged commits"] += acknowledged > done
        found = _in_child(lambda: _read(url))
        if isinstance(found, str):
            row.violations.append(f"cycle {cycle}: {found}")
            return
        if found == expected:
            state, done = expected, acknowledged
        elif found == (one_more := after(expected, acknowledged + 1)):
            counts["commits under way kept"] += 1
            state, done = one_more, acknowledged + 1
        else:
            wrong = sum(found.get(ident) != expected.get(ident) for ident in found.keys() | expected.keys())
            row.violations.append(
                f"cycle {cycle}: {wrong} records are neither as after commit {acknowledged} nor as after the next"
            )
            return


def _killed_writer(url: str, state: State, done: int, rng: random.Random, fault: Fault) -> int:
    """Let a writer commit from commit ``done`` on, kill it, and return the last commit that it has acknowledged."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        leave_after(lambda: _write(url, state, done, writer, fault), _PATIENCE)
    os.close(writer)
    raw = os.read(reader, _number.size)  # the store is open: what is killed from now on is commits
    if rng.random() < _AFTER_ONE:
        raw += os.read(reader, 1 << 16)
    time.sleep(rng.random() ** 2 * _LONGEST)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("a writer failed by itself; see above")
    while more := os.read(reader, 1 << 16):
        raw += more
    os.close(reader)
    if not raw:
        raise SystemExit("a writer ended before its first commit; see above")
    whole = len(raw) // _number.size * _number.size
    return int(_number.unpack(raw[whole - _number.size : whole])[0])


def _write(url: str, state: State, done: int, acknowledge: int, fault: Fault) -> None:
    engine = opened(url)
    os.write(acknowledge, _number.pack(done))
    if fault.prepare is not None:
        fault.prepare(engine)
    number = done
    while True:
        number += 1
        if fault.early:
            os.write(acknowledge, _number.pack(number))
        perform(engine, state, number)
        if not fault.early:
            os.write(acknowledge, _number.pack(number))
        state = after(state, number)


def _read(url: str) -> State:
    with opened(url) as engine:
        found = engine.verify(apart=False)
        if not found.ok:
            raise AssertionError(str(found))
        return stored(engine)


def _in_child(work: Callable[[], State]) -> State | str:
    """Do something in a forked process; a str is the error that it ended with."""

    def answer() -> bytes:
        try:
            found: State | str = work()
        except Exception:  # whatever it is, it is what the row reports
            found = traceback.format_exc(limit=-3)
        return msgspec.msgpack.encode(found)

    raw = Child(answer, _PATIENCE).answer()
    if isinstance(raw, int):
        return f"the process that opened the store died of {signal.Signals(raw).name}"
    return msgspec.msgpack.decode(raw, type=State | str, strict=False)


# ------------------------------------------------------------------------------------------------ planted faults


def tear(engine: Engine) -> None:
    """Let each family of a batch be written by itself."""
    write = engine.backend.batch_write

    def batch_write(batch: WriteBatch) -> None:
        for cf, changes in batch.changes.items():
            part = WriteBatch()
            part.changes[cf], part.adds = changes, batch.adds
            write(part)

    engine.backend.batch_write = batch_write  # type: ignore[method-assign]


FAULTS = {"torn batch": Fault(prepare=tear), "acknowledged too early": Fault(early=True)}
_TRIALS = 400
"""Cycles in which a planted fault has to be noticed."""
