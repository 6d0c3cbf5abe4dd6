"""Row 3: each call that writes or syncs is the last one of its process once, and fails once in each way.

A fixed workload opens a store, commits, flushes, compacts, closes it and opens it again, and goes on after errors as a
program would. First its calls are counted, then it is run again for each of them and each fault: the process is killed
before the call, or after half of a write; the call fails with EIO, or with ENOSPC, which may follow a short write. All
errors must be of the documented classes; and another process, which opens the store afterwards, must find what was
acknowledged, nothing of what was said not to be applied, and no commit in part.
"""

from __future__ import annotations

import errno
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kvdialect import Engine, exc
from kvdialect.storage import WriteBatch
from reliability import faultio
from reliability.attempts import Ended, Lost, Reopened, Seen, Told, Trouble, Worker, explained, fits, look, told
from reliability.faultio import Fault
from reliability.images import Kind, read_all
from reliability.kills import tear
from reliability.processes import Child
from reliability.scoreboard import Row

NAME = "every write and sync killed and failed"
_COUNTED = (
    *("calls", "tries for all", "killed", "failed", "not reached"),
    *("commits with an error", "of unknown outcome", "reopened"),
)
_PATIENCE = 60
_TRIALS = 250
"""Tries in which a planted fault has to be noticed."""


@dataclass(frozen=True)
class Try:
    """What is to happen to which call of the workload."""

    at: int
    site: str
    fault: Fault
    error: int = 0

    def __str__(self) -> str:
        error = errno.errorcode.get(self.error, "")
        return f"call {self.at}, {self.site}: {self.fault.name.lower()} {error}".rstrip()


@faultio.needs_calls(3, NAME)
def run(engine: str, folder: Path, tries: int) -> Row:
    """Let every call fail, or as many of them as are asked for."""
    row = Row(3, NAME, engine, 0)
    began = time.monotonic()
    rng = random.Random(1)  # noqa: S311 - so that a run can be done again
    everything = _tries(_sites(engine, folder / "counted"))
    row.counts = dict.fromkeys(_COUNTED, 0)
    row.counts["calls"], row.counts["tries for all"] = 1 + max(each.at for each in everything), len(everything)
    for name, planted in PLANTED.items():
        trial = Row(3, name, engine, 0, dict.fromkeys(_COUNTED, 0))
        telling = [each for each in everything if planted.fault in (None, each.fault)]
        for each in rng.sample(telling, min(_TRIALS, len(telling))):
            _try(trial, engine, folder / "tried", each, planted.prepare)
            row.control[name] = any(planted.shows in violation for violation in trial.violations)
            if row.control[name]:
                break
    for each in rng.sample(everything, min(tries, len(everything))):  # in any order, as there may not be time for all
        if not faultio.in_time(began):
            break
        _try(row, engine, folder / "tried", each, None)
    row.seconds = time.monotonic() - began
    return row


def _sites(engine: str, path: Path) -> list[str]:
    """The calls of the workload when none fails."""
    path.mkdir()
    record = path.with_suffix(".record")

    def work() -> bytes:
        faultio.Calls(path, record)
        _work(Worker(f"{engine}:///{path}/store", path.with_suffix(".told")))
        return b"done"

    Child(work, _PATIENCE).told()
    shutil.rmtree(path)
    if troubles := [event for event in told(path.with_suffix(".told")) if isinstance(event, Trouble)]:
        raise SystemExit(f"the workload fails where no call does: {troubles[0]}")
    return [entry.path for entry in read_all(record) if entry.kind == Kind.CALL]


def _tries(sites: list[str]) -> list[Try]:
    tries = []
    for at, site in enumerate(sites):
        tries.append(Try(at, site, Fault.KILL_BEFORE))
        tries += [Try(at, site, Fault.FAIL, error) for error in (errno.EIO, errno.ENOSPC)]
        if "write" in site.split()[0]:
            tries += [Try(at, site, Fault.KILL_HALFWAY), Try(at, site, Fault.FAIL_HALFWAY, errno.ENOSPC)]
    return tries


def _work(worker: Worker) -> None:
    """The workload."""
    if not worker.open():
        return
    for number in range(1, 7):
        worker.commit(number)
    worker.step("flush", lambda: worker.engine and worker.engine.backend.flush())
    for number in range(7, 10):
        worker.commit(number)
    worker.step("compact", lambda: worker.engine and worker.engine.backend.compact("accounts"))
    if not worker.reopen():
        return
    for number in range(10, 13):
        worker.commit(number)
    worker.close()


def _try(row: Row, engine: str, path: Path, this: Try, prepare: Callable[[Engine], None] | None) -> None:
    """Run the workload with one fault, and look at the store afterwards."""
    row.tried += 1
    path.mkdir()
    telling = path.with_suffix(".told")
    url = f"{engine}:///{path}/store"

    def work() -> bytes:
        calls = faultio.Calls(path)
        calls.trip(this.at, this.fault, this.error)
        _work(Worker(url, telling, prepare))
        return calls.tripped.encode()

    answer = Child(work, _PATIENCE).answer()
    events = told(telling)
    troubles = [event for event in events if isinstance(event, Trouble)]
    problems = [f"an error of no documented class: {event.foreign}" for event in troubles if event.foreign]
    if any(isinstance(event, Lost) for event in events):
        errors = "; then ".join(event.error for event in troubles if event.step.startswith("open"))
        problems.append(f"the store does not open in the process any more: {errors}")
    if answer == signal.SIGKILL and "KILL" in this.fault.name:
        row.counts["killed"] += 1
    elif isinstance(answer, int):
        problems.append(f"the process {'hung' if answer == signal.SIGALRM else f'died of signal {answer}'}")
    else:
        row.counts["failed" if answer else "not reached"] += 1
    failed = [event for event in events if isinstance(event, Ended) and event.error]
    row.counts["commits with an error"] += len(failed)
    row.counts["of unknown outcome"] += sum(event.outcome == "unknown" for event in failed)
    row.counts["reopened"] += sum(isinstance(event, Reopened) for event in events)
    problems += judged(url, path, events)
    row.violations += [f"{this}: {problem}" for problem in problems]
    shutil.rmtree(path)
    telling.unlink(missing_ok=True)


def judged(url: str, path: Path, events: list[Told]) -> list[str]:
    """What is wrong with a store, seen from another process, after what was told of it."""
    tokens = [event.token for event in events if isinstance(event, Ended) and event.token]

    def looking() -> bytes:
        faultio.Calls(path)  # so that it does not wait for the disk
        return msgspec.msgpack.encode(look(url, tokens))

    raw = Child(looking, _PATIENCE).answer()
    if isinstance(raw, int):
        return [f"the process that opened the store died of {signal.Signals(raw).name}"]
    seen = msgspec.msgpack.decode(raw, type=Seen, strict=False)
    if seen.wrong:
        return [seen.wrong]
    if not fits(seen.state, events):
        return [explained(seen.state, events)]
    resolved = [
        Ended(seen.outcomes[event.token.hex()], event.error)  # type: ignore[arg-type]
        if isinstance(event, Ended) and event.token
        else event
        for event in events
    ]
    return [] if fits(seen.state, resolved) else ["commit_outcome() says of a commit what is not so"]


# ------------------------------------------------------------------------------------------------ planted faults


def swallow(engine: Engine) -> None:
    """Acknowledge what has failed."""
    write = engine.backend.batch_write

    def batch_write(batch: WriteBatch) -> None:
        try:
            write(batch)
        except exc.Error:
            return

    engine.backend.batch_write = batch_write  # type: ignore[method-assign]


def _deny(engine: Engine) -> None:
    """Say of some commits that they were not applied."""
    write = engine.backend.batch_write

    def batch_write(batch: WriteBatch) -> None:
        write(batch)
        if len(batch) > 12:  # some of them
            raise exc.BackendError("nothing was applied", operation="batch_write", outcome="not_applied")

    engine.backend.batch_write = batch_write  # type: ignore[method-assign]


def _undress(engine: Engine) -> None:
    """Let errors through as no class of the library."""
    write = engine.backend.batch_write

    def batch_write(batch: WriteBatch) -> None:
        try:
            write(batch)
        except exc.Error as error:
            raise OSError(str(error)) from error

    engine.backend.batch_write = batch_write  # type: ignore[method-assign]


@dataclass(frozen=True)
class Planted:
    """A fault of the library.

    Attributes:
        prepare: what is done to its engine.
        shows: words of the violation that it must show as.
        fault: of a call, with which it shows; None: with any.
    """

    prepare: Callable[[Engine], None]
    shows: str
    fault: Fault | None = None


PLANTED = {
    "torn batch": Planted(tear, "", Fault.KILL_BEFORE),
    "failures acknowledged": Planted(swallow, "an acknowledged commit is lost", Fault.FAIL),
    "applied, and said not to be": Planted(_deny, "said not to be applied is there"),
    "an untyped error": Planted(_undress, "no documented class", Fault.FAIL),
}
