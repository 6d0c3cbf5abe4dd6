"""Row 8: forks, threads, closing and garbage collection over what a program holds of an open store.

Each thing that can be held (``subjects.py``) meets each thing that can happen to it, on each engine, in a process of
its own. Whatever happens, the use of it gives the right result or a typed error; no process hangs or dies of a signal;
and what was acknowledged is in the store afterwards, which opens again.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import sqlalchemy.exc

from kvdialect import Engine, create_engine, exc
from kvdialect.storage import engine as storage_engine
from kvdialect.storage import shared
from reliability.model import opened
from reliability.processes import Child
from reliability.scoreboard import Row
from reliability.subjects import NEW, ROWS, SUBJECTS, Held, Subject, fill, filled, idents

ROOT = Path(__file__).parents[1]
_PATIENCE = 20
_TYPED = (exc.Error, sqlalchemy.exc.SQLAlchemyError)

Outcome = str
"""``"right"``, ``"typed"``, or what is wrong."""


def run(engine: str, folder: Path, tries: int, seed: int = 1) -> Row:
    """Try every combination, or as many as are asked for."""
    began = time.monotonic()
    row = Row(8, "fork, thread and garbage-collection matrix", engine, 0)
    row.counts = dict.fromkeys(("right", "typed", "hangs", "signals"), 0)
    cases = list(itertools.product(SUBJECTS, [*EVENTS, *EXITS]))
    if tries < len(cases):
        cases = random.Random(seed).sample(cases, tries)  # noqa: S311 - so that a run can be done again
    whole = _made(engine, folder / "whole")
    for subject, event in cases:
        row.tried += 1
        outcome = _tried(engine, whole, folder / "case", subject, event)
        if outcome in row.counts:
            row.counts[outcome] += 1
        if outcome not in ("right", "typed"):
            row.violations.append(f"{subject}, {event}: {outcome}")
    for name, (fault, subject, event) in FAULTS.items():
        if engine == "memory" and name == "a child that does not hear of the fork":
            continue  # memory has no files to share: a copy of it does no harm
        outcome = _tried(engine, whole, folder / "case", subject, event, fault)
        row.control[name] = outcome not in ("right", "typed")
    row.seconds = time.monotonic() - began
    return row


def _made(engine: str, path: Path) -> Path:
    if engine != "memory":
        Child(lambda: filled(f"{engine}:///{path}") or b"", _PATIENCE).told()
    return path


def _tried(
    engine: str, whole: Path, path: Path, subject: str, event: str, fault: Callable[[], None] | None = None
) -> Outcome:
    """One combination on a fresh store, in a process."""
    url = "memory://"
    if engine != "memory":
        shutil.copytree(whole, path)
        url = f"{engine}:///{path}"
    try:
        if event in EXITS:
            return _left(url, subject, event)

        def work() -> bytes:
            if fault is not None:
                fault()
            return _case(url, SUBJECTS[subject], EVENTS[event]).encode()

        answer = Child(work, _PATIENCE if fault is None else 3).answer()
        if isinstance(answer, int):
            return "hangs" if answer == signal.SIGALRM else "signals"
        return answer.decode()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _case(url: str, subject: Subject, event: Callable[[Subject, Held], Outcome]) -> Outcome:
    try:
        engine = _open(url)
        held = subject.make(engine)
        outcome = event(subject, held)
        if outcome in ("right", "typed"):
            wrong = _afterwards(url, held, outcome)
            return wrong or outcome
    except BaseException:
        return traceback.format_exc(limit=-3)
    return outcome


def _open(url: str) -> Engine:
    engine = opened(url)
    if engine.name == "memory":
        fill(engine)
    return engine


def _used(subject: Subject, held: Held) -> Outcome:
    """Use a subject, and say how that ended."""
    try:
        found = subject.use(held)
    except _TYPED:
        return "typed"
    except BaseException as error:
        if sys.is_finalizing():
            # Python imports nothing any more, be it for whoever asks last; nor are there modules to print a traceback.
            return "typed" if isinstance(error, ImportError) else f"untyped: {error!r}"
        return "untyped: " + traceback.format_exc(limit=-3)
    right = subject.right(ROWS)
    return "right" if found == right else f"it gave {found!r}, where {right!r} is right"


def _afterwards(url: str, held: Held, outcome: Outcome) -> Outcome | None:
    """What is wrong with the store afterwards: the engine goes on or is closed, and opens again."""
    adds, memory = held.adds, held.engine.name == "memory"
    if not memory:
        held.engine.close()
    vars(held).clear()
    gc.collect()
    if memory:
        return None
    with create_engine(url) as engine:
        found = idents(engine)
        wanted = list(range(ROWS))
        if found not in (wanted, [*wanted, adds]):
            return f"the store holds {len(found)} accounts afterwards"
        if outcome == "right" and adds is not None and adds not in found:
            return "a commit was acknowledged and is lost"
        check = engine.verify(apart=False)
        if not check.ok:
            return f"verify: {check}"
        held.thing = None
    return None


# ------------------------------------------------------------------------------------------------ what happens


def _in_thread(work: Callable[[], Outcome]) -> Outcome:
    told: list[Outcome] = []
    thread = threading.Thread(target=lambda: told.append(work()))
    thread.start()
    thread.join()
    return told[0] if told else "the thread has died"


def _thread(subject: Subject, held: Held) -> Outcome:
    """Used from another thread, and closed by the first."""
    outcome = _in_thread(lambda: _used(subject, held))
    subject.close(held)
    return outcome


def _forked(subject: Subject, held: Held) -> Outcome:
    """Used in a forked child, which must be refused; the parent goes on undisturbed."""
    outcome = Child(lambda: _used(subject, held).encode(), _PATIENCE // 2).answer()
    if isinstance(outcome, int):
        return f"the child died of {signal.Signals(outcome).name}"
    if outcome != b"typed" and not subject.loaded and held.engine.name != "memory":
        return f"in the child: {outcome.decode()}"
    return _undisturbed(subject, held)


def _forked_drop(subject: Subject, held: Held) -> Outcome:
    """Dropped and collected in a forked child."""

    def drop() -> bytes:
        vars(held).clear()
        gc.collect()
        return b"dropped"

    outcome = Child(drop, _PATIENCE // 2).answer()
    return _undisturbed(subject, held) if outcome == b"dropped" else f"the child died of signal {outcome!r}"


def _forked_in_thread(subject: Subject, held: Held) -> Outcome:
    """Forked by another thread than the one that made it."""
    return _in_thread(lambda: _forked(subject, held))


def _undisturbed(subject: Subject, held: Held) -> Outcome:
    outcome = _used(subject, held)
    if outcome != "right":
        return f"the parent after the fork: {outcome}"
    subject.close(held)
    return outcome


def _closed(subject: Subject, held: Held) -> Outcome:
    """The engine is closed before it is used."""
    held.engine.close()
    return _used(subject, held)


def _closed_by_thread(subject: Subject, held: Held) -> Outcome:
    """The engine is closed by another thread while it is in use."""
    start = threading.Barrier(2)
    thread = threading.Thread(target=lambda: (start.wait(), held.engine.close()))
    thread.start()
    start.wait()
    outcome = _used(subject, held)
    thread.join()
    return outcome


def _closed_twice(subject: Subject, held: Held) -> Outcome:
    """Used after its own end, and ended once more."""
    subject.close(held)
    held.adds = None  # what was pending is gone: a commit is one of nothing
    outcome = _used(subject, held)
    subject.close(held)
    return outcome


def _collected(*order: str, thread: bool = False) -> Callable[[Subject, Held], Outcome]:
    def event(_subject: Subject, held: Held) -> Outcome:
        # Only the parts are held from here on, and each goes in its turn.
        parts = {"engine": [held.engine], "thing": [held.thing], "besides": list(held.besides)}
        name, adds = held.engine.name, held.adds
        held.engine = held.thing = None  # type: ignore[assignment]
        held.besides.clear()

        def collect() -> Outcome:
            for part in order:
                parts[part].clear()
                gc.collect()
            return "right"

        outcome = _in_thread(collect) if thread else collect()
        held.engine, held.adds = _Gone(name), None if adds is None else adds  # type: ignore[assignment]
        return "typed" if adds is not None else outcome  # nothing has acknowledged the pending commit

    event.__doc__ = f"Collected: {', '.join(order)}{' by another thread' if thread else ''}."
    return event


class _Gone:
    """In the place of an engine that was collected."""

    def __init__(self, name: str) -> None:
        self.name = name

    def close(self) -> None:
        """It is closed."""


class _Last:
    """Uses what it holds as it is collected."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.me = self  # so that it is the collector that comes to it

    def __del__(self) -> None:
        self.work()


def _used_by_finaliser(subject: Subject, held: Held) -> Outcome:
    """Used by a finaliser that the garbage collector calls, on another thread."""
    told: list[Outcome] = []
    _Last(lambda: told.append(_used(subject, held)))
    _in_thread(lambda: str(gc.collect()))
    return told[0] if told else "the finaliser was not called"


EVENTS: dict[str, Callable[[Subject, Held], Outcome]] = {
    "used from another thread": _thread,
    "used in a forked child": _forked,
    "collected in a forked child": _forked_drop,
    "forked by another thread": _forked_in_thread,
    "engine closed meanwhile": _closed,
    "engine closed by another thread": _closed_by_thread,
    "used after its end": _closed_twice,
    "used by a finaliser": _used_by_finaliser,
    **{
        f"collected, {first} first{by}": _collected(first, *rest, thread=bool(by))
        for first, *rest in itertools.permutations(("engine", "thing", "besides"))
        if rest == sorted(rest)
        for by in ("", ", by another thread")
    },
}
"""What happens, by name; those that end with the interpreter's own end are in :data:`EXITS`."""


# ------------------------------------------------------------------------------------------------ the end of a program

_kept: list[object] = []


def _exit_plain(_subject: Subject, held: Held) -> None:
    """Held by a global at the end."""
    _kept.append(held)


def _exit_cycle(subject: Subject, held: Held) -> None:
    """Held by a cycle whose finaliser uses it at the end."""
    _kept.append(_Last(lambda: _say(_used(subject, held))))


def _exit_thread(subject: Subject, held: Held) -> None:
    """In use by a daemon thread at the end."""

    def work() -> None:
        while _used(subject, held) in ("right", "typed"):
            pass

    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.02)


def _exit_child(_subject: Subject, held: Held) -> None:
    """A forked child ends in the ordinary way."""
    pid = os.fork()
    _kept.append(held)
    if pid:
        _, status = os.waitpid(pid, 0)
        _say("right" if status == 0 else f"the child ended with status {status}")


def _say(outcome: Outcome) -> None:
    if outcome not in ("right", "typed"):
        sys.stderr.write(outcome)


EXITS = {
    "held at the program's end": _exit_plain,
    "used by a finaliser at the program's end": _exit_cycle,
    "in a thread's use at the program's end": _exit_thread,
    "held by a forked child at its end": _exit_child,
}


def leave(url: str, subject: str, event: str) -> None:
    """The program that :func:`_left` starts."""
    signal.alarm(_PATIENCE)
    held = SUBJECTS[subject].make(_open(url))
    EXITS[event](SUBJECTS[subject], held)


def _left(url: str, subject: str, event: str) -> Outcome:
    program = "import sys; from reliability.lifetimes import leave; leave(*sys.argv[1:])"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, url, subject, event]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return "hangs" if -done.returncode == signal.SIGALRM else "signals"
    if done.returncode or done.stderr:
        return f"status {done.returncode}: {done.stderr[-1500:]}"
    if url != "memory://":

        def look() -> bytes:
            return (_afterwards(url, Held(create_engine(url), None, adds=NEW), "typed") or "").encode()

        return Child(look, _PATIENCE).told().decode() or "right"
    return "right"


# ------------------------------------------------------------------------------------------------ planted faults


def _deaf() -> None:
    """No guard hears of the fork."""
    parent = os.getpid()

    class Unseen(dict[tuple[str, ...], storage_engine.Engine]):
        def values(self):  # type: ignore[no-untyped-def]
            return super().values() if os.getpid() == parent else ()

    shared._engines = Unseen()
    storage_engine.Engine.check_process = lambda _engine: None  # type: ignore[method-assign]
    Engine._check_process = lambda _engine: None  # type: ignore[method-assign]


def _untyped() -> None:
    """What was ended says so with an error that is none of ours."""

    def dead(_error: object) -> Callable[..., None]:
        def refuse(*_args: object, **_kwargs: object) -> None:
            raise RuntimeError("closed")

        return refuse

    shared.dead = dead  # type: ignore[assignment]
    storage_engine.dead = dead  # type: ignore[assignment]


def _endless() -> None:
    """A read that never ends."""
    shared.Handle.snapshot = lambda _handle: time.sleep(3600)  # type: ignore[assignment,method-assign,return-value]


FAULTS: dict[str, tuple[Callable[[], None], str, str]] = {
    "a child that does not hear of the fork": (_deaf, "engine", "used in a forked child"),
    "an untyped error": (_untyped, "engine", "engine closed meanwhile"),
    "a read that never ends": (_endless, "session", "used from another thread"),
}
