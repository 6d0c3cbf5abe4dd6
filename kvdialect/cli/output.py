"""What commands print: tables for people, JSON and CSV for programs, and how far they are."""

from __future__ import annotations

import csv
import itertools
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kvdialect.cli.values import plain, shown, text_of

FORMATS = ("table", "json", "csv")

SILENT: Final = 1.0
"""Seconds for which a command says nothing of how far it is."""


def rows(names: Sequence[str], found: Iterable[Sequence[Any]], form: str) -> None:
    """Print rows: a table, a line of JSON each, or CSV with a head."""
    if form == "json":
        names = _distinct(names)
        for row in found:
            values = dict(zip(names, map(plain, row), strict=True))
            click.echo(json.dumps(values, ensure_ascii=False, allow_nan=False))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(map(text_of, row) for row in found)
    else:
        table = Table(*map(escape, names), box=None, header_style="bold", pad_edge=False)
        for row in found:
            table.add_row(*[escape(shown(value)) for value in row])
        # A pipe has no width that a table would have to fit.
        _Console(width=None if sys.stdout.isatty() else 1000).print(table)


class _Console(Console):
    """A console that leaves it to the command what to do where nobody reads on."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, of which a second one of the same name gets a number."""
    found: list[str] = []
    for name in names:
        tries = (name if number == 0 else f"{name}:{number}" for number in itertools.count())
        found.append(next(each for each in tries if each not in found))
    return found


def say(told: Told | None, text: str) -> None:
    """Print a line to standard error, beside what tells how far a command is."""
    if told is None:
        click.echo(text, err=True)
    else:
        told.say(text)


def counted(number: int, what: str) -> str:
    """A number of things: ``"1 table"``, ``"1,200 tables"``."""
    plural = f"{what}es" if what.endswith("x") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def facts(found: dict[str, Any], *, as_json: bool) -> None:
    """Print facts by name."""
    if as_json:
        click.echo(json.dumps(plain(found), ensure_ascii=False, allow_nan=False))
        return
    width = max(map(len, found), default=0)
    for name, value in found.items():
        click.echo(f"{name:{width}}  {text_of(value, 'NULL')}")


class Told:
    """How far a command is, on a terminal: nothing within the first second, then a bar with the rate.

    Called with what is being done, how much of it is done, and of how much, where that is known.
    """

    def __init__(self, console: Console, what: str) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            _Count(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._what = what
        self._task = self._bar.add_task(what, total=None)
        # By the clock, as what takes long may have nothing to say meanwhile.
        self._timer = threading.Timer(SILENT, self._bar.start)
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        if what != self._what:
            self._what = what
            self._bar.remove_task(self._task)
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line above it."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Take it off the terminal."""
        self._timer.cancel()
        self._timer.join()
        self._bar.stop()


class _Count(ProgressColumn):
    """What is done, and of how much."""

    def render(self, task: Task) -> Text:
        if not task.completed:
            return Text("")
        of = "" if task.total is None else f" of {task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{of}")


class _Rate(ProgressColumn):
    """How much of it in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


@contextmanager
def progress(what: str = "", *, beside: bool = False) -> Iterator[Told | None]:
    """What tells how far a command is; None where nobody looks at a terminal.

    Args:
        what: what it does at first.
        beside: rows are printed meanwhile: nothing is told if these go to the terminal too.
    """
    console = Console(stderr=True)
    if not console.is_terminal or (beside and sys.stdout.isatty()):
        yield None
        return
    told = Told(console, what)
    try:
        yield told
    finally:
        told.end()
