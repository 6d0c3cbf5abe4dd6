"""The reliability scoreboard: every row is a harness, a figure, and a planted fault that it must notice.

python -m reliability                     # all rows as the targets ask for, three hours
python -m reliability --jobs 2            # the same, two at a time: within two hours on two cores
python -m reliability --quick             # a short form of each, about two minutes
python -m reliability --row 1 --engine lmdb --tries 1000
python -m reliability --join one.json other.json --json board.json --markdown board.md
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from reliability import (
    corruption,
    diskfull,
    doors,
    failures,
    faultio,
    fuzzing,
    guards,
    histories,
    kills,
    lifetimes,
    mapgrowth,
    powerloss,
    scoreboard,
    soak,
)
from reliability.scoreboard import Row

Harness = Callable[[str, Path, int], Row]

ROWS: dict[int, tuple[Harness, dict[str, int], int]] = {
    1: (kills.run, {"lmdb": 10_000, "rocksdb": 3_000}, 40),
    2: (powerloss.run, {"lmdb": 2_000, "rocksdb": 2_000}, 40),
    3: (failures.run, {"lmdb": 100_000, "rocksdb": 100_000}, 60),
    4: (corruption.run, {"lmdb": 1_000, "rocksdb": 1_000}, 40),
    5: (diskfull.run, {"lmdb": 60, "rocksdb": 60}, 3),
    6: (doors.run, {"memory": 100_000, "lmdb": 100_000, "rocksdb": 100_000}, 2_000),
    7: (histories.run, {"lmdb": 20_000, "rocksdb": 20_000}, 1_000),
    8: (lifetimes.run, {"memory": 1_000, "lmdb": 1_000, "rocksdb": 1_000}, 12),
    9: (fuzzing.run, {"any": 5_000_000}, 60_000),
    10: (soak.run, {"lmdb": 1_200, "rocksdb": 1_200}, 6),
    11: (mapgrowth.run, {"lmdb": 100_000}, 4_000),
    12: (guards.run, {"lmdb": 1_000, "rocksdb": 1_000}, 4),
}
"""By number: the harness, how often it tries on each engine, and how often in the short form."""

_LONG = (10, 1, 9, 12, 3, 4)
"""The rows that take longest, the longest first: side by side they begin first, so that none is left at the end."""


def commit() -> str:
    """The commit that is tested, with a ``+`` where the tree has changed since."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def main(arguments: list[str] | None = None) -> int:
    """Run rows and print the scoreboard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", type=int, choices=list(ROWS), action="append", help="only this row; repeatable")
    parser.add_argument(
        "--engine", choices=("memory", "lmdb", "rocksdb", "any"), action="append", help="only this engine"
    )
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument("--tries", type=int, help="how often, in place of the row's own number")
    parser.add_argument("--minutes", type=float, help="begin no further try of rows 2, 3 and 5 after so many of a row")
    parser.add_argument(
        "--join", type=Path, nargs="+", help="run nothing: put together what --json wrote; of a row the first"
    )
    parser.add_argument("--json", type=Path, help="write the scoreboard here")
    parser.add_argument("--markdown", type=Path, help="write the scoreboard here as a table")
    parser.add_argument("--jobs", type=int, default=1, help="so many harnesses at a time, each in a process of its own")
    options = parser.parse_args(arguments)
    if options.minutes is not None:
        os.environ[faultio.MINUTES] = str(options.minutes)

    boards = scoreboard.joined(options.join) if options.join else [(_run(options), scoreboard.environment(commit()))]
    if options.json:
        scoreboard.write(boards, options.json)
    if options.markdown:
        options.markdown.write_text("\n".join(scoreboard.markdown(rows, about) for rows, about in boards))
    return 0 if all(row.held for rows, _ in boards for row in rows) else 1


def _run(options: argparse.Namespace) -> list[Row]:
    chosen = [
        (number, engine, options.tries or (short if options.quick else count))
        for number, (_, tries, short) in ROWS.items()
        for engine, count in tries.items()
        if number in (options.row or ROWS) and engine in (options.engine or tries)
    ]
    rows = []
    for row in _one_by_one(chosen) if options.jobs == 1 else _side_by_side(chosen, options.jobs):
        rows.append(row)
        print(scoreboard.line(row), flush=True)
        for violation in row.violations[:20]:
            print(f"     {violation}", file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: row.number)


def _one_by_one(chosen: list[tuple[int, str, int]]) -> Iterator[Row]:
    for number, engine, tries in chosen:
        harness, _, _ = ROWS[number]
        with tempfile.TemporaryDirectory(prefix="kvdialect-reliability-") as folder:
            yield harness(engine, Path(folder), tries)


def _side_by_side(chosen: list[tuple[int, str, int]], jobs: int) -> Iterator[Row]:
    """Each in a process of its own, as harnesses fork and set alarms; threads only wait for them."""
    chosen = sorted(chosen, key=lambda row: _LONG.index(row[0]) if row[0] in _LONG else len(_LONG))
    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(_in_a_process, *row) for row in chosen]):
            yield done.result()


def _in_a_process(number: int, engine: str, tries: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="kvdialect-reliability-") as folder:
        written = Path(folder, "row.json")
        command = [sys.executable, "-m", "reliability", "--row", str(number), "--engine", engine]
        ended = subprocess.run(
            [*command, "--tries", str(tries), "--json", os.fspath(written)], capture_output=True, text=True, check=False
        )
        if not written.exists():
            broken = f"the harness ended with {ended.returncode} and no figures: {ended.stderr[-2000:]}"
            return Row(number, "a harness that broke", engine, 0, violations=[broken])
        [(rows, _)] = scoreboard.joined([written])
        return rows[0]


if __name__ == "__main__":
    raise SystemExit(main())
