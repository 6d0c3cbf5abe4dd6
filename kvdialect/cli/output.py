"""What commands print: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kvdialect.cli.values import plain, shown

FORMATS = ("table", "json", "csv")


def rows(names: Sequence[str], found: Iterable[Sequence[Any]], form: str) -> None:
    """Print rows: a table, a line of JSON each, or CSV with a head."""
    if form == "json":
        for row in found:
            click.echo(json.dumps(dict(zip(names, map(plain, row), strict=True)), ensure_ascii=False))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(["" if value is None else plain(value) for value in row] for row in found)
    else:
        table = Table(*names, box=None, header_style="bold", pad_edge=False)
        for row in found:
            table.add_row(*[escape(shown(value)) for value in row])
        # A pipe has no width that a table would have to fit.
        Console(width=None if sys.stdout.isatty() else 1000).print(table)


def facts(found: dict[str, Any], *, as_json: bool) -> None:
    """Print facts by name."""
    if as_json:
        click.echo(json.dumps(plain(found), ensure_ascii=False))
        return
    width = max(map(len, found), default=0)
    for name, value in found.items():
        click.echo(f"{name:{width}}  {plain(value)}")


@contextmanager
def progress() -> Iterator[Callable[[str, int], None] | None]:
    """A line that says what is being read and how much of it was; None where nobody looks at a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done: bar.update(task, description=what, completed=done)
