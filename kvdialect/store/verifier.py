"""Verification in a process of its own, which survives that the engine crashes on a damaged file.

The child opens the store for reading and prints a line of JSON for each step: what it reads, and what it finds. Where
it dies of a signal that is a finding, and another child goes on behind the table that it was reading.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

import attrs
import msgspec
from sqlalchemy import URL

from kvdialect import exc
from kvdialect.store.verification import MOST_FINDINGS, Finding, Progress, Verification, Verifier

_PROGRAM: Final = "from kvdialect.store.verifier import main; main()"


class _Task(msgspec.Struct):
    """What a child is to do."""

    url: str
    tables: list[str] | None
    rest: bool
    most: int


class _Line(msgspec.Struct, omit_defaults=True):
    """What a child says."""

    reading: tuple[str, int] | None = None
    index: bool = False
    finding: Finding | None = None
    done: Verification | None = None
    error: str | None = None


def verify_apart(
    url: URL,
    names: Sequence[str],
    *,
    tables: Sequence[str] | None,
    most: int = MOST_FINDINGS,
    progress: Progress | None = None,
) -> Verification:
    """As :func:`~kvdialect.store.verification.verify`, in a process of its own.

    Args:
        url: the store, which is opened with ``mode=ro``.
        names: of all its tables.
        tables: those to look at; None: all.
        most: findings after which it ends.
        progress: see :data:`~kvdialect.store.verification.Progress`.

    Raises:
        BackendError: if the child fails otherwise than by a crash of the engine; the message has what it said.
    """
    findings: list[Finding] = []
    rows: dict[str, int] = {}
    entries: dict[str, int] = {}
    left = sorted(names) if tables is None else list(tables)
    rest = tables is None
    more = False
    while left or rest:
        child = _Child(_Task(url.render_as_string(hide_password=False), left, rest, most), progress)
        child.run()
        findings += child.findings
        rows |= child.rows
        entries |= child.entries
        if child.done:
            more = child.more
            break
        where = child.table
        what = "while it was opened" if child.reading is None else f"while {child.reading} was read"
        message = f"the engine crashed ({child.death}) {what} (restore a backup)"
        findings.append(Finding("crash", message, child.reading or "", table=where))
        if where is None or where not in left:
            break  # it does not open, or crashes in what belongs to no table
        left = left[left.index(where) + 1 :]
    return Verification(tuple(findings[:most]), rows, entries, more or len(findings) > most)


class _Child:
    """A child, and what it has said."""

    def __init__(self, task: _Task, progress: Progress | None) -> None:
        self._task = task
        self._progress = progress
        self.findings: list[Finding] = []
        self.rows: dict[str, int] = {}
        self.entries: dict[str, int] = {}
        self.table: str | None = None
        self.reading: str | None = None
        self.done = self.more = False
        self.death = ""

    def run(self) -> None:
        task = msgspec.json.encode(self._task).decode()
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM, task], stdout=subprocess.PIPE)  # noqa: S603 - ours
        assert process.stdout is not None
        with process, process.stdout as lines:
            for raw in lines:
                self._hear(msgspec.json.decode(raw, type=_Line))
        code = process.returncode
        if self.done:
            return
        if code >= 0:
            raise exc.BackendError(f"the verifying process ended with code {code} and no result; see what it printed")
        self.death = signal.Signals(-code).name

    def _hear(self, line: _Line) -> None:
        if line.error is not None:
            self.done = True
            raise exc.BackendError(f"the store cannot be verified: {line.error}", url=self._task.url)
        if line.reading is not None:
            name, count = line.reading
            self.reading = name
            if count == 0:
                self.table = name
            else:
                (self.entries if line.index else self.rows)[name] = count
            if self._progress is not None:
                self._progress(name, count)
        if line.finding is not None:
            self.findings.append(line.finding)
        if line.done is not None:
            self.done, self.more = True, line.done.more
            self.rows, self.entries = line.done.rows, line.done.entries


def main() -> None:
    """The child's program: its task is the first argument."""
    from kvdialect.store.engine import Engine, open_engine  # the engine imports this module

    task = msgspec.json.decode(sys.argv[1], type=_Task)

    def say(**line: Any) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(_Line(**line)) + b"\n")
        sys.stdout.buffer.flush()

    def reading(name: str, count: int) -> None:
        say(reading=(name, count), index=name in indexes)

    try:
        engine: Engine = open_engine(task.url, mode="ro")
        with engine:
            indexes = {name for table in engine.catalog.tables.values() for name in table.indexes}
            verifier = Verifier(
                engine.backend, task.tables, task.most, reading, rest=task.rest, tell=lambda found: say(finding=found)
            )
            say(done=attrs.evolve(verifier.run(), findings=()))
    except exc.Error as error:
        say(error=error.message)
    except (KeyboardInterrupt, BrokenPipeError):
        raise SystemExit(130) from None  # who waits for it says so
