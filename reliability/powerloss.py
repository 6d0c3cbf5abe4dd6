"""Row 2: the power goes.

A session commits, flushes, compacts, closes and opens its store again, and all its writes and syncs are recorded. From
the record come images of what a disk may hold if the power goes at some moment (:mod:`reliability.images`). Each is
opened by a process of its own: it must hold the state after all that was acknowledged by then, or after one commit
more, which was under way, and ``verify`` must find nothing.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kvdialect import Engine
from reliability import faultio, images
from reliability.images import Disk, Entry, Kind
from reliability.kills import tear
from reliability.model import State, after, opened, perform, stored
from reliability.processes import Child
from reliability.scoreboard import Row

NAME = "power-loss images"
_COMMITS = 24
_AFTER_REOPENING = 8
_IMAGES = 40  # of one record
_WHILE_CREATED = 0.1  # of the images are of a store whose creation was not acknowledged yet
_TRIALS = 160
_PATIENCE = 60
_NOT_RECORDED = ("LOG", "lock.mdb")  # written through the C library's buffers, and through a map; neither holds data


@dataclass(frozen=True)
class Fault:
    """A fault that is planted into what is recorded."""

    options: str = ""
    prepare: Callable[[Engine], None] | None = None


FAULTS = {"commits that are not synced": Fault(options="?durability=none"), "torn batch": Fault(prepare=tear)}


@faultio.needs_calls(2, NAME)
def run(engine: str, folder: Path, tries: int) -> Row:
    """Make images, and count what they have lost."""
    row = Row(2, NAME, engine, tries)
    began = time.monotonic()
    for name, fault in FAULTS.items():
        trial = Row(2, name, engine, 0)
        _images(trial, engine, folder / name, _TRIALS, fault, lambda trial: not trial.violations)
        row.control[name] = bool(trial.violations)
    _images(row, engine, folder / "images", tries, Fault(), lambda _: faultio.in_time(began))
    row.seconds = time.monotonic() - began
    return row


def _images(row: Row, engine: str, folder: Path, tries: int, fault: Fault, more: Callable[[Row], bool]) -> None:
    """Record, and look at images, until there are enough of them, or no more are wanted."""
    folder.mkdir()
    names = ("records", "with unsynced writes", "commits under way kept", "during creation")
    row.counts = dict.fromkeys(names, 0)
    row.tried = 0
    while row.tried < tries and more(row):
        number = row.counts["records"]
        row.counts["records"] += 1
        rng = random.Random(number)  # noqa: S311 - so that a run can be done again
        entries = _recorded(engine, folder, number, fault)
        moments = [at for at, entry in enumerate(entries) if entry.kind not in (Kind.MARK, Kind.MAPPED)]
        created = next(at for at, entry in enumerate(entries) if entry.kind == Kind.MARK)
        early = [at for at in moments if 0 < at < created]
        late = [at for at in moments if at > created]
        for _ in range(min(_IMAGES, tries - row.tried)):
            row.tried += 1
            end = rng.choice(early if rng.random() < _WHILE_CREATED else late)
            _try(row, engine, folder / "image", Disk(entries, end), entries[:end], rng, number)
            if not more(row):
                return


def _recorded(engine: str, folder: Path, number: int, fault: Fault) -> list[Entry]:
    """The calls of a process that works on a store."""
    disk, record = folder / "disk", folder / "record"
    disk.mkdir()
    first = number * 1000 + 1
    url = f"{engine}:///{disk}/store{fault.options}"

    def work() -> bytes:
        calls = faultio.Calls(disk, record)
        state: State = {}

        def commits(engine: Engine, first: int, count: int) -> None:
            nonlocal state
            if fault.prepare is not None:
                fault.prepare(engine)
            for each in range(first, first + count):
                perform(engine, state, each)
                calls.mark(each)
                state = after(state, each)

        with opened(url) as store:
            calls.mark(first - 1)
            commits(store, first, _COMMITS // 2)
            store.backend.flush()
            commits(store, first + _COMMITS // 2, _COMMITS // 2)
            store.backend.compact("accounts")
        with opened(url) as store:
            commits(store, first + _COMMITS, _AFTER_REOPENING)
        return b"done"

    Child(work, _PATIENCE).told()
    entries = images.read(record)
    _check_record(entries, disk, folder / "copy")
    shutil.rmtree(disk)
    return entries


def _check_record(entries: list[Entry], disk: Path, copy: Path) -> None:
    """A record that lacks calls would prove nothing: all of it must give the files as they are."""
    Disk(entries, len(entries)).whole(copy)
    for file in sorted(path.relative_to(disk) for path in disk.rglob("*") if path.is_file()):
        if not file.name.startswith(_NOT_RECORDED) and (copy / file).read_bytes() != (disk / file).read_bytes():
            raise SystemExit(f"{file} is not what the record of its writes says")
    shutil.rmtree(copy)


def _try(row: Row, engine: str, path: Path, disk: Disk, entries: list[Entry], rng: random.Random, number: int) -> None:
    """Open an image and compare it with what was acknowledged."""
    acknowledged = next((entry.first for entry in reversed(entries) if entry.kind == Kind.MARK), None)
    row.counts["during creation"] += acknowledged is None
    row.counts["with unsynced writes"] += bool(disk.unsynced)
    how = disk.image(path, rng)
    where = f"record {number}, cut at {len(entries)}, {how}"
    found = _found(engine, path / "store")
    shutil.rmtree(path)
    first = number * 1000
    state: State = {}
    for each in range(first + 1, (acknowledged or first) + 1):
        state = after(state, each)
    if isinstance(found, str):
        when = "during creation" if acknowledged is None else f"after commit {acknowledged - first}"
        row.violations.append(f"{where}, {when}: {found}")
    elif acknowledged is not None and found == after(state, acknowledged + 1):
        row.counts["commits under way kept"] += 1
    elif found != state:
        row.violations.append(f"{where}: {_explained(found, first, (acknowledged or first) - first)}")


def _explained(found: State, first: int, acknowledged: int) -> str:
    state: State = {}
    for each in range(acknowledged):
        if found == state:
            return f"{acknowledged - each} acknowledged commits of {acknowledged} are lost"
        state = after(state, first + each + 1)
    return f"a state that never was, after {acknowledged} acknowledged commits"


def _found(engine: str, path: Path) -> State | str:
    """What a store holds; a str is what is wrong with it."""

    def look() -> bytes:
        faultio.Calls(path.parent)  # so that it does not wait for the disk
        found: State | str
        try:
            with opened(f"{engine}:///{path}") as store:
                report = store.verify(apart=False)
                found = stored(store) if report.ok else str(report)
        except Exception:  # whatever it is, it is what the row reports
            found = traceback.format_exc(limit=-3)
        return msgspec.msgpack.encode(found)

    raw = Child(look, _PATIENCE).answer()
    if isinstance(raw, int):
        return f"the process that opened it died of {signal.Signals(raw).name}"
    return msgspec.msgpack.decode(raw, type=State | str, strict=False)
