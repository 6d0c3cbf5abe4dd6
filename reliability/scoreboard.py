"""Rows of the scoreboard, as text and as Markdown."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kvdialect._compiled import loaded

PACKAGES = ("kvdialect", "lmdb", "rocksdict", "sqlalchemy", "msgspec", "attrs")


@dataclass
class Row:
    """What a harness has counted on one engine.

    Attributes:
        number: of the row in the scoreboard.
        name: what was tried.
        engine: on what.
        tried: how often.
        counts: what came of it, by name.
        violations: what must not be, each in a sentence; empty if the promise held.
        control: the planted fault, and whether the harness has noticed it; without that the figure does not count.
        seconds: how long it took.
    """

    number: int
    name: str
    engine: str
    tried: int
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    control: dict[str, bool] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether nothing was violated, and the harness would have noticed."""
        return not self.violations and bool(self.control) and all(self.control.values())


Board = tuple[list[Row], dict[str, Any]]
"""Rows, and what was tested on what."""


def environment(commit: str) -> dict[str, Any]:
    """What was tested on what."""
    return {
        "commit": commit,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in PACKAGES},
        "compiled": loaded("kvdialect.schema._rows") is not None,
    }


def line(row: Row) -> str:
    """A row for a terminal."""
    counts = ", ".join(f"{count:,} {name}" for name, count in row.counts.items())
    controls = ", ".join(f"{name}: {'noticed' if seen else 'NOT NOTICED'}" for name, seen in row.control.items())
    verdict = "held" if row.held else f"{len(row.violations)} VIOLATIONS" if row.violations else "DOES NOT COUNT"
    return (
        f"{row.number:>2} {row.name}, {row.engine}: {row.tried:,} tried, {verdict}; {counts}"
        f" (control: {controls or 'none'}; {row.seconds:.0f} s)"
    )


def markdown(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """The scoreboard for the documentation."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    pure = "" if about.get("compiled", True) else ", without the compiled modules"
    lines = [
        f"At commit `{about['commit']}`, on Python {about['python']}, with {versions}{pure}.",
        "",
        "| # | what | engine | tried | violations | counted | planted faults noticed |",
        "|---:|---|---|---:|---:|---|---|",
    ]
    for row in rows:
        counts = ", ".join(f"{count:,} {name}" for name, count in row.counts.items())
        noticed = "; ".join(f"{name}: {'yes' if seen else '**no**'}" for name, seen in row.control.items())
        cells = [row.number, row.name, row.engine, f"{row.tried:,}", len(row.violations), counts, noticed]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def write(boards: Sequence[Board], path: Path) -> None:
    """Write scoreboards as JSON: one, or a list of several."""
    written = [{**about, "rows": [asdict(row) for row in rows]} for rows, about in boards]
    path.write_text(json.dumps(written[0] if len(written) == 1 else written, indent=2) + "\n")


def joined(paths: Sequence[Path]) -> list[Board]:
    """Scoreboards that were written, put together: one for each commit and set of versions, in the order of the paths.

    A row stands in the first of them that has it: the paths of the latest commit come first.
    """
    boards: list[Board] = []
    for path in paths:
        read = json.loads(path.read_text())
        for board in read if isinstance(read, list) else [read]:
            rows = [Row(**row) for row in board.pop("rows")]
            known = {(row.number, row.engine) for others, about in boards if about != board for row in others}
            rows = [row for row in rows if (row.number, row.engine) not in known]
            same = next((others for others, about in boards if about == board), None)
            if same is None:
                boards.append((rows, board))
            else:
                same += rows
    for rows, _ in boards:
        rows.sort(key=lambda row: (row.number, row.engine))
    return [board for board in boards if board[0]]
