"""What a process tells of its commits, one by one, and what the store may hold after that.

A commit that was acknowledged is in the store, one whose error says that it was not applied is not, and one of unknown
outcome, or under way when the process died, is there wholly or not at all. Each is a set of puts and deletions, so the
states that may be are those that the certain ones make with any of the others.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from kvdialect import Engine, create_engine, exc
from reliability.model import State, commit_of, models, perform, stored

_FAILURES = 3  # in a row, until the store is closed and opened again


class Begun(msgspec.Struct, tag="begun"):
    """A commit is under way: what it sets and deletes."""

    number: int
    puts: State
    gone: list[int]


class Ended(msgspec.Struct, tag="ended"):
    """It came back: what is known of it, the class of its error (empty: acknowledged) and the token in it."""

    outcome: exc.Outcome
    error: str = ""
    token: bytes | None = None


class Trouble(msgspec.Struct, tag="trouble"):
    """Something else than a commit failed, or a commit with an error of no documented class (``foreign``)."""

    step: str
    error: str
    foreign: str = ""


class Reopened(msgspec.Struct, tag="reopened"):
    """The store was closed and opened again, as an error had asked for it or commits went on failing."""


class Lost(msgspec.Struct, tag="lost"):
    """The store did not open, and not at a second try either."""


Told = Begun | Ended | Trouble | Reopened | Lost


def told(path: Path) -> list[Told]:
    """What a process has told."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [msgspec.json.decode(line, type=Told) for line in lines]


class Worker:
    """Works on a store as a program does that goes on after errors, and tells of it.

    Args:
        url: of the store.
        path: where to tell.
        prepare: what is done to each engine that it opens.
        patient: True lets it go on with the open store while commits fail, unless an error asks for reopening.

    Attributes:
        state: what is in the store, as far as it has seen.
        engine: the open store, or None.
        last_error: class of the error of the last commit that failed.
    """

    def __init__(
        self, url: str, path: Path, prepare: Callable[[Engine], None] | None = None, *, patient: bool = False
    ) -> None:
        self._url, self._prepare, self._patient = url, prepare, patient
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._failed = 0
        self.state: State = {}
        self.engine: Engine | None = None
        self.last_error = ""

    def tell(self, what: Told) -> None:
        """Say something that outlives this process."""
        os.write(self._descriptor, msgspec.json.encode(what) + b"\n")

    def step(self, name: str, work: Callable[[], object]) -> bool:
        """Do something that is no commit; return whether it went well."""
        try:
            work()
        except exc.Error as error:
            self.tell(Trouble(name, f"{type(error).__name__}: {error}"))
            return False
        except Exception:
            self.tell(Trouble(name, "", traceback.format_exc(limit=-4)))
            return False
        return True

    def open(self) -> bool:
        """Open the store, if need be at the second try."""

        def attempt() -> None:
            engine = create_engine(self._url)
            try:
                models.create_all(engine)
                self.state = stored(engine)
            except BaseException:
                engine.close()
                raise
            if self._prepare is not None:
                self._prepare(engine)
            self.engine = engine

        if self.step("open", attempt) or self.step("open again", attempt):
            return True
        self.tell(Lost())
        return False

    def close(self) -> None:
        """Close the store."""
        if self.engine is not None:
            self.step("close", self.engine.close)
            self.engine = None

    def reopen(self) -> bool:
        """Close the store and open it."""
        self.close()
        return self.open()

    def commit(self, number: int) -> bool:
        """Commit once and learn what is in the store then; return whether it was acknowledged."""
        assert self.engine is not None, "it is open"
        puts, gone = commit_of(self.state, number)
        self.tell(Begun(number, puts, gone))
        try:
            perform(self.engine, self.state, number)
        except exc.Error as error:
            self._failed += 1
            self.last_error = type(error).__name__
            self.tell(Ended(error.outcome, self.last_error, getattr(error, "token", None)))
            tired = self._failed >= _FAILURES and not self._patient
            if isinstance(error, exc.ReopenRequired) or tired or not self._look():
                self.tell(Reopened())
                self._failed = 0
                if not self.reopen():
                    os._exit(0)  # which it has told
            return False
        except Exception:
            self.tell(Trouble("commit", "", traceback.format_exc(limit=-4)))
            self._look()
            return False
        self._failed = 0
        self.state = {ident: row for ident, row in {**self.state, **puts}.items() if ident not in gone}
        self.tell(Ended("applied"))
        return True

    def _look(self) -> bool:
        engine = self.engine
        assert engine is not None, "it is open"

        def look() -> None:
            self.state = stored(engine)

        return self.step("read", look)


_Choices = dict[exc.Outcome, tuple[bool, ...]]
_BOTH: Final = (False, True)
_SAID: Final[_Choices] = {"applied": (True,), "not_applied": (False,), "unknown": _BOTH}


def fits(found: State, events: Sequence[Told]) -> bool:
    """Whether a store may hold this after what was told."""
    return _fits(found, events, _SAID)


def explained(found: State, events: Sequence[Told]) -> str:
    """What is wrong with a state that does not fit."""
    if _fits(found, events, {**_SAID, "not_applied": _BOTH}):
        return "a commit that was said not to be applied is there"
    if _fits(found, events, {**_SAID, "applied": _BOTH}):
        return "an acknowledged commit is lost"
    return "a commit is there in part, or in a wrong order"


def _fits(found: State, events: Sequence[Told], choices: _Choices) -> bool:
    """Whether commits that may have been applied make this state.

    It is read backwards: the last commit that touched a record says what it is. A row names the commit that wrote it,
    so one of unknown outcome is tried both ways only where later ones hide what it has written.
    """
    hidden_by: set[frozenset[int]] = {frozenset()}
    for at in reversed(range(len(events))):
        begun = events[at]
        if not isinstance(begun, Begun):
            continue
        ended = events[at + 1] if at + 1 < len(events) else None
        choice = choices[ended.outcome if isinstance(ended, Ended) else "unknown"]
        before: set[frozenset[int]] = set()
        for hidden in hidden_by:
            seen = {ident: row for ident, row in begun.puts.items() if ident not in hidden}
            there = [found.get(ident) == row for ident, row in seen.items()]
            if True in choice and all(there) and not found.keys() & set(begun.gone) - hidden:
                before.add(hidden.union(begun.puts, begun.gone))
            if False in choice and not any(there):
                before.add(hidden)
        hidden_by = before
    return any(found.keys() <= hidden for hidden in hidden_by)


class Seen(msgspec.Struct):
    """What another process has seen of the store afterwards.

    Attributes:
        state: what is in it.
        outcomes: what it says of the commits of these tokens.
        wrong: what is wrong with it, in a sentence.
    """

    state: State = {}
    outcomes: dict[str, str] = {}
    wrong: str = ""


def look(url: str, tokens: Sequence[bytes]) -> Seen:
    """Open the store afresh, verify it, read it and commit into it."""
    seen = Seen()
    try:
        with create_engine(url) as engine:
            models.create_all(engine)
            report = engine.verify(apart=False)
            if not report.ok:
                seen.wrong = str(report)
            seen.state = stored(engine)
            seen.outcomes = {token.hex(): engine.backend.commit_outcome(token) for token in tokens}
            perform(engine, seen.state, 10**9)
    except Exception:  # whatever it is, it is what the row reports
        seen.wrong = traceback.format_exc(limit=-4)
    return seen
