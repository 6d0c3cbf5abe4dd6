"""Row 5: the disk is full, and then it is not.

A session commits while its files may grow by so many bytes and no more; writes beyond fail with ENOSPC, some after a
part. Commits are tried on until some have failed, and what is in the store is read. Then there is room again, and the
session goes on trying, without opening the store again unless an error asks for that: within ten seconds a commit must
succeed. Another process must then find what was acknowledged, and nothing of what was said not to be applied. Where the
harness may mount file systems, half of the tries are on a small one that is really full.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kvdialect import Engine, exc
from kvdialect.storage import WriteBatch
from reliability import faultio
from reliability.attempts import Ended, Lost, Reopened, Told, Trouble, Worker, told
from reliability.failures import judged, swallow
from reliability.processes import Child
from reliability.scoreboard import Row

NAME = "disk full, then freed"
_WITHIN = 10.0
_LITTLE = 1.0  # for planted faults
_PATIENCE = 120
_COMMITS = 400  # at most, until the disk must be full
_COMMITS_PLANTED = 40
_TRIALS = 5
_FAILURES = 4  # until there is room again
_SMALL = 24 << 20
_LEFT = 1 << 17  # at most, when it begins to count
_BALLAST = "ballast"
_SLOWEST = "ms until a commit, at most"
_COUNTED = ("on a small file system", "commits acknowledged", "commits refused", "reopened", _SLOWEST)


class Ran(msgspec.Struct):
    """How it went.

    Attributes:
        full: whether commits failed at all.
        errors: of the commits while the disk was full, by class.
        seconds: from when there was room until a commit succeeded; None: none did.
    """

    full: bool
    errors: dict[str, int]
    seconds: float | None


@faultio.needs_calls(5, NAME)
def run(engine: str, folder: Path, tries: int) -> Row:
    """Fill disks and free them."""
    row = Row(5, NAME, engine, 0)
    began = time.monotonic()
    rng = random.Random(1)  # noqa: S311 - so that a run can be done again
    row.counts = dict.fromkeys(_COUNTED, 0)
    for name, planted in PLANTED.items():
        trial = Row(5, name, engine, 0, dict.fromkeys(_COUNTED, 0))
        for _ in range(_TRIALS):
            _try(trial, engine, folder / "disk", rng, real=False, prepare=planted.prepare)
            row.control[name] = any(planted.shows in violation for violation in trial.violations)
            if row.control[name]:
                break
    with _small(folder / "small") as small:
        for number in range(tries):
            if not faultio.in_time(began):
                break
            real = small is not None and number % 2 == 1
            _try(row, engine, small if real and small else folder / "disk", rng, real=real)
    row.seconds = time.monotonic() - began
    return row


@contextlib.contextmanager
def _small(path: Path) -> Iterator[Path | None]:
    """A file system of some mebibytes, or None where it cannot be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "kvdialect", str(path)]
    may = os.geteuid() == 0 and shutil.which("mount") is not None
    if not may or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def _try(
    row: Row,
    engine: str,
    folder: Path,
    rng: random.Random,
    *,
    real: bool,
    prepare: Callable[[Engine], None] | None = None,
) -> None:
    row.tried += 1
    folder.mkdir(exist_ok=True)
    path, telling = folder / "store", folder.with_suffix(".told")
    url = f"{engine}:///{path}"
    left, ready = rng.randrange(_LEFT), rng.randrange(1, 20)

    def work() -> bytes:
        calls = None if real else faultio.Calls(folder)
        worker = Worker(url, telling, prepare, patient=True)
        if not worker.open():
            return b""
        for number in range(1, ready):
            worker.commit(number)

        def room(size: int | None) -> None:
            if calls is not None:
                calls.room(size)
            elif size is None:
                (folder / _BALLAST).unlink()
            else:
                _fill(folder / _BALLAST, size)

        most, within = (_COMMITS, _WITHIN) if prepare is None else (_COMMITS_PLANTED, _LITTLE)
        ran = _work(worker, range(ready + 1, ready + most), left, room, within)
        return msgspec.msgpack.encode(ran)

    answer = Child(work, _PATIENCE).answer()
    events = told(telling)
    problems = [
        f"an error of no documented class: {event.foreign}"
        for event in events
        if isinstance(event, Trouble) and event.foreign
    ]
    if isinstance(answer, int):
        problems.append("the process hung" if answer == signal.SIGALRM else f"the process died of signal {answer}")
    elif any(isinstance(event, Lost) for event in events):
        problems.append("the store does not open in the process any more")
    else:
        problems += _counted(row, msgspec.msgpack.decode(answer, type=Ran), events)
    row.counts["on a small file system"] += real
    with contextlib.suppress(FileNotFoundError):
        (folder / _BALLAST).unlink()
    problems += judged(url, folder, events)
    kind = "a small file system" if real else "no more growth"
    row.violations += [f"{kind}, {left} bytes left after commit {ready - 1}: {problem}" for problem in problems]
    shutil.rmtree(path, ignore_errors=True)
    telling.unlink(missing_ok=True)


def _work(worker: Worker, numbers: range, left: int, room: Callable[[int | None], None], within: float) -> Ran:
    """Commit until that fails, then make room and try until it works."""
    errors: dict[str, int] = {}
    room(left)
    for number in numbers:
        if not worker.commit(number):
            name = worker.last_error
            errors[name] = errors.get(name, 0) + 1
        if sum(errors.values()) >= _FAILURES:
            break
    ran = Ran(bool(errors), errors, None)
    room(None)
    began = time.monotonic()
    number = numbers.stop
    while time.monotonic() - began < within:
        number += 1
        if worker.commit(number):
            ran.seconds = time.monotonic() - began
            break
        time.sleep(0.05)
    for each in range(number + 1, number + 4):
        worker.commit(each)
    worker.close()
    return ran


def _fill(ballast: Path, left: int) -> None:
    """Fill a file system but for so many bytes."""
    status = os.statvfs(ballast.parent)
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(status.f_bavail * status.f_frsize - left, 1))


def _counted(row: Row, ran: Ran, events: list[Told]) -> list[str]:
    ended = [event for event in events if isinstance(event, Ended)]
    reopened = sum(isinstance(event, Reopened) for event in events)
    row.counts["commits acknowledged"] += sum(not event.error for event in ended)
    row.counts["commits refused"] += sum(bool(event.error) for event in ended)
    row.counts["reopened"] += reopened
    problems = []
    if not ran.full:
        problems.append(f"the disk did not get full with {_COMMITS} commits")
    if odd := ran.errors.keys() - {exc.DiskFull.__name__, exc.ReopenRequired.__name__}:
        problems.append(f"a full disk is reported as {', '.join(sorted(odd))}")
    if ran.seconds is None:
        problems.append(f"no commit succeeded within {_WITHIN:.0f} s after there was room")
    else:
        row.counts[_SLOWEST] = max(row.counts[_SLOWEST], round(ran.seconds * 1000))
    return problems


def _stay_full(engine: Engine) -> None:
    """Let no commit through any more once the disk was full."""
    write = engine.backend.batch_write
    full: list[exc.DiskFull] = []

    def batch_write(batch: WriteBatch) -> None:
        if full:
            raise exc.DiskFull(str(full[0]), outcome="not_applied")
        try:
            write(batch)
        except exc.DiskFull as error:
            full.append(error)
            raise

    engine.backend.batch_write = batch_write  # type: ignore[method-assign]


@dataclass(frozen=True)
class Planted:
    """A fault of the library: what is done to its engine, and the words of the violation that it must show as."""

    prepare: Callable[[Engine], None]
    shows: str


PLANTED = {
    "failures acknowledged": Planted(swallow, "an acknowledged commit is lost"),
    "writes that do not resume": Planted(_stay_full, "no commit succeeded"),
}
