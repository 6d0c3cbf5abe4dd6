"""What the program prints, and which of its checks failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table


@attrs.frozen
class Loaded:
    """What it took to load a table."""

    table: str
    rows: int
    commits: int
    seconds: float


@attrs.define
class Report:
    """Prints to a console, and keeps what belongs into the summary.

    Attributes:
        checks: the number of checks made.
        failures: what failed, a line each.
        loaded: figures of each table.
        phases: seconds of each phase.
    """

    console: Console = attrs.field(factory=lambda: Console(highlight=False))
    checks: int = 0
    failures: list[str] = attrs.field(factory=list)
    loaded: list[Loaded] = attrs.field(factory=list)
    phases: dict[str, float] = attrs.field(factory=dict)

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """A part of the run, under a heading, with its time kept."""
        self.console.print(f"\n[bold]{title}[/]")
        began = perf_counter()
        yield
        self.phases[title] = perf_counter() - began

    def say(self, text: str, *, style: str = "", indent: int = 2) -> None:
        """Print text; what it contains is not markup."""
        for line in text.splitlines():
            self.console.print(" " * indent + line, style=style, markup=False, soft_wrap=True)

    def check(self, what: str, seen: Any, expected: Any) -> None:
        """Compare; what differs is printed, and makes the run fail."""
        self.checks += 1
        if seen != expected:
            self.failures.append(f"{what}: {shown(seen)}; expected {shown(expected)}")
            self.say(f"FAILED: {self.failures[-1]}", style="bold red")

    def summary(self, engine: str, size: int | None) -> None:
        """Print the figures of all phases, and what failed."""
        table = Table(title=f"loaded into {engine}", title_justify="left")
        table.add_column("table")
        for name in ("rows", "commits", "seconds", "rows/s"):
            table.add_column(name, justify="right")
        rows, commits, seconds = (sum(getattr(t, name) for t in self.loaded) for name in ("rows", "commits", "seconds"))
        for each in [*self.loaded, Loaded("all", rows, commits, seconds)]:
            rate = f"{each.rows / each.seconds:,.0f}"
            table.add_row(each.table, f"{each.rows:,}", f"{each.commits:,}", f"{each.seconds:.2f}", rate)
        table.rows[-2].end_section = True
        self.console.print()
        self.console.print(table)
        times = ", ".join(f"{name.lower()} {seconds:.1f} s" for name, seconds in self.phases.items())
        on_disk = "" if size is None else f"; {size / 1e6:,.0f} MB on disk"
        self.say(f"{times}; {sum(self.phases.values()):.1f} s in all{on_disk}", indent=0)
        for failure in self.failures:
            self.say(f"FAILED: {failure}", style="bold red", indent=0)
        held = self.checks - len(self.failures)
        self.say(f"{held} of {self.checks} checks hold", style="bold red" if self.failures else "bold green", indent=0)


def shown(answer: Any, most: int = 3) -> str:
    """An answer as a person reads it; of a long list the beginning."""
    match answer:
        case bool():
            return "yes" if answer else "no"
        case datetime():
            return answer.strftime("%d %b %H:%M")
        case float():
            return f"{answer:,.2f}"
        case int() if answer >= 10_000:
            return f"{answer:,}"
        case tuple():
            return ", ".join(shown(part) for part in answer)
        case list():
            parts = "; ".join(shown(part) for part in answer[:most])
            return f"{parts}; ... ({len(answer):,} in all)" if len(answer) > most else parts or "none"
        case _:
            return str(answer)
