"""Row 4: damaged files.

A store is filled and closed, and its bytes are kept. Then, again and again: one file is damaged (a bit flipped, a page
overwritten with zeros or with another page, the file cut short), a process opens the store and reads everything in
every way, and says what it saw. A value that differs from what was stored is a violation, and so is a scan that ends
early without an error, and a record that is said to be absent. An error that says so is the right answer; that the
reading process is killed by the engine is counted. What any reading has noticed ``verify`` must find too.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from kvdialect import Session, exc
from kvdialect.storage.storedir import LOCK_FILE
from reliability.model import Account, State, after, opened, perform, stored, values
from reliability.model import Row as Values
from reliability.processes import Child
from reliability.scoreboard import Row

PAGE = 4096
_PATIENCE = 60
_UNTOUCHED = frozenset({LOCK_FILE, "LOCK", "lock.mdb", "LOG", "IDENTITY"})
"""Files that hold no data."""


class Seen(msgspec.Struct):
    """What a process has seen of a damaged store.

    Attributes:
        wrong: values other than those stored, records said to be absent, short scans; a sentence each.
        errors: reads that ended in a typed error.
        foreign: errors that are none of ours.
        found: what ``verify`` said, or None where the store did not open.
    """

    wrong: list[str]
    errors: int
    foreign: list[str]
    found: bool | None


def run(engine: str, folder: Path, tries: int, seed: int = 1) -> Row:
    """Damage stores, and count what is noticed."""
    began = time.monotonic()
    row = Row(4, "damaged files", engine, tries)
    rng = random.Random(seed)  # noqa: S311 - so that a run can be done again
    whole, expected = _made(engine, folder / "whole")
    names = ("told by an error", "not opened", "engine crashed", "in dead space")
    row.counts = dict.fromkeys(names, 0)
    for number in range(tries):
        path = folder / "damaged"
        what = _damaged_copy(whole, path, rng)
        seen = _looked_at(engine, path, expected)
        if isinstance(seen, int):
            row.counts["engine crashed"] += 1
            if not _verified(engine, path):
                row.violations.append(f"{number}: {what}: reading crashed ({seen}), and verify finds nothing")
        elif seen.found is None:
            row.counts["not opened"] += 1
        elif seen.errors:
            row.counts["told by an error"] += 1
            if seen.found is False:
                row.violations.append(f"{number}: {what}: reading failed, and verify finds nothing")
        elif not seen.wrong:
            row.counts["in dead space"] += 1
        elif seen.found is False:
            row.violations.append(f"{number}: {what}: records are hidden, and verify finds nothing")
        if not isinstance(seen, int):
            row.violations += [f"{number}: {what}: {wrong}" for wrong in (*seen.wrong, *seen.foreign)]
        shutil.rmtree(path)
    row.control["value changed behind the engine's back"] = _control(engine, folder / "control", expected, whole)
    row.seconds = time.monotonic() - began
    return row


def _made(engine: str, path: Path) -> tuple[Path, State]:
    """A store with some hundred commits, closed."""

    def fill() -> bytes:
        state: State = {}
        with opened(f"{engine}:///{path}") as store:
            for number in range(1, 200):
                perform(store, state, number)
                state = after(state, number)
            store.backend.flush()
            for family in store.backend.column_families():
                store.backend.compact(family)
        return msgspec.msgpack.encode(state)

    made = Child(fill, _PATIENCE).answer()
    if isinstance(made, int):
        raise SystemExit(f"the store could not be filled (status {made})")
    return path, msgspec.msgpack.decode(made, type=State)


def _damaged_copy(whole: Path, path: Path, rng: random.Random) -> str:
    """Copy a store and damage one of its files; say what was done."""
    shutil.copytree(whole, path)
    files = [file for file in sorted(path.iterdir()) if file.name not in _UNTOUCHED and file.stat().st_size]
    weights = [max(file.stat().st_size, 2000) for file in files]
    [file] = rng.choices(files, weights)
    raw = bytearray(file.read_bytes())
    kind = rng.choice(["bit", "bit", "zeros", "swap", "cut"])
    at = rng.randrange(len(raw))
    if kind == "bit":
        raw[at] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        at = at // PAGE * PAGE
        raw[at : at + PAGE] = bytes(len(raw[at : at + PAGE]))
    elif kind == "swap":
        at, other = at // PAGE * PAGE, rng.randrange(len(raw)) // PAGE * PAGE
        raw[at : at + PAGE], raw[other : other + PAGE] = raw[other : other + PAGE], raw[at : at + PAGE]
    else:
        del raw[at:]
    file.write_bytes(bytes(raw))
    return f"{kind} at {at} of {file.name}"


def _looked_at(engine: str, path: Path, expected: State) -> Seen | int:
    """What a process sees; an int is the signal that it died of."""
    answer = Child(lambda: msgspec.msgpack.encode(_look(f"{engine}:///{path}", expected)), _PATIENCE).answer()
    return answer if isinstance(answer, int) else msgspec.msgpack.decode(answer, type=Seen)


def _look(url: str, expected: State) -> Seen:
    seen = Seen([], 0, [], None)
    try:
        engine = opened(url)
    except exc.Error:
        return seen
    with engine:
        _try(seen, lambda session: _check(seen, "a scan", _rows(session.scan(Account)), expected), engine)
        for ident, row in expected.items():
            _try(seen, lambda session, i=ident, v=row: _check(seen, "a get", _one(session, i), {i: v}), engine)  # type: ignore[misc]
        owners = {owner for owner, *_ in expected.values()}
        for owner in owners:
            mine = {ident: row for ident, row in expected.items() if row[0] == owner}

            def lookup(session: Session, owner: str = owner, mine: State = mine) -> None:
                _check(seen, "a lookup", _rows(session.lookup("account_by_owner", owner)), mine)

            _try(seen, lookup, engine)
        try:
            seen.found = not engine.verify().ok
        except exc.Error:
            seen.found = True
    return seen


def _try(seen: Seen, work: Callable[[Session], None], engine: object) -> None:
    try:
        with Session(engine) as session:  # type: ignore[arg-type]
            work(session)
    except exc.Error:
        seen.errors += 1
    except Exception:
        seen.foreign.append(traceback.format_exc(limit=-2))


def _rows(accounts: Iterable[Account]) -> State:
    return {each.id: values(each) for each in accounts}


def _one(session: Session, ident: int) -> State:
    account = session.get(Account, ident)
    return {} if account is None else _rows([account])


def _check(seen: Seen, what: str, found: State, expected: State) -> None:
    absent = expected.keys() - found.keys()
    other: list[Values] = [found[ident] for ident in found if expected.get(ident) != found[ident]]
    if other:
        seen.wrong.append(f"{what} gives {len(other)} values that were never stored")
    if absent:
        seen.wrong.append(f"{what} leaves out {len(absent)} of {len(expected)} records without an error")


def _verified(engine: str, path: Path) -> bool:
    """Whether verify finds something in a store on which reading crashes."""

    def verify() -> bytes:
        try:
            with opened(f"{engine}:///{path}") as store:
                return b"" if store.verify().ok else b"found"
        except exc.Error:
            return b"found"

    return Child(verify, _PATIENCE).answer() not in (b"", signal.SIGALRM)


def _control(engine: str, path: Path, expected: State, whole: Path) -> bool:
    """A harness that reads nothing would find nothing: change a value through the storage layer, without its index."""
    shutil.copytree(whole, path)

    def change() -> bytes:
        from kvdialect import open_backend

        with open_backend(f"{engine}:///{path}") as backend:
            first, second = list(backend.scan("accounts"))[:2]
            backend.put("accounts", first[0], second[1])
        with opened(f"{engine}:///{path}") as store:
            assert stored(store) != expected
        return b"done"

    if Child(change, _PATIENCE).answer() != b"done":
        return False
    seen = _looked_at(engine, path, expected)
    return not isinstance(seen, int) and bool(seen.wrong) and seen.found is True
