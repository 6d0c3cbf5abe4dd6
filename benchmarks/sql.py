"""The SQL door against pysqlite on a file, both through SQLAlchemy, in one run, as ratios.

Every operation is timed in turn on each side, round by round, so that all see the same machine; the ratio is that of
the medians. Durability is the same: a commit has reached the disk when it returns (SQLite: WAL with synchronous=FULL).
The statements are the same too, those of SQLAlchemy Core and ORM, with its caches warm.

    python benchmarks/sql.py            # about three minutes
    python benchmarks/sql.py --quick    # about half a minute
    python benchmarks/sql.py --engine lmdb --json out.json

Targets: get and index lookup 1.3, ORM 1.2, scan and range 1.8, bulk insert 2.0, join with aggregate 2.5, 200 commits
1.5; count(*) does not grow with the table; 200 tables in 2 seconds, and then a connection in 10 ms.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, bindparam, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

Work = Callable[[], object]
ENGINES = ("lmdb", "rocksdb")
TARGETS = {
    "get by primary key": 1.3,
    "lookup by index": 1.3,
    "ORM add": 1.2,
    "ORM get": 1.2,
    "scan": 1.8,
    "range of primary key": 1.8,
    "bulk insert": 2.0,
    "join with aggregate": 2.5,
    "200 commits": 1.5,
}


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(40), index=True)
    email: Mapped[str] = mapped_column(sa.String(60), unique=True)
    age: Mapped[int]
    city: Mapped[str] = mapped_column(sa.String(20))


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    amount: Mapped[float]
    note: Mapped[str | None]


class Event(Base):
    """For inserts: two indexes less than users have."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(20))
    value: Mapped[float]
    at: Mapped[int] = mapped_column(index=True)


users, orders, events = User.__table__, Order.__table__, Event.__table__


def user_rows(start: int, count: int) -> list[dict[str, Any]]:
    """Rows of users."""
    return [
        {"id": n, "name": f"name{n % 1000}", "email": f"user{n}@example.org", "age": n % 90, "city": f"city{n % 50}"}
        for n in range(start, start + count)
    ]


def order_rows(start: int, count: int, people: int) -> list[dict[str, Any]]:
    """Rows of orders."""
    return [
        {"id": n, "user_id": 1 + n * 7919 % people, "amount": n % 1000 / 4, "note": f"note {n}"}
        for n in range(start, start + count)
    ]


def event_rows(start: int, count: int) -> list[dict[str, Any]]:
    """Rows of events, with ids of their own."""
    numbers = range(start, start + count)
    return [{"id": n, "kind": f"kind{n % 20}", "value": n / 8, "at": n * 31 % 100_000} for n in numbers]


def opened(side: str, folder: Path) -> sa.Engine:
    """An engine of SQLAlchemy on a new database."""
    if side == "pysqlite":
        engine = sa.create_engine(f"sqlite:///{folder}/sqlite.db")

        @event.listens_for(engine, "connect")
        def durable(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL").close()
            connection.execute("PRAGMA synchronous=FULL").close()
            connection.execute("PRAGMA foreign_keys=ON").close()  # as it always is on the other side

        return engine
    return sa.create_engine(f"kvdialect+{side}:////{folder}/{side}")


def filled(engine: sa.Engine, people: int, bought: int) -> None:
    """The tables and their rows."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(users.insert(), user_rows(1, people))
        connection.execute(orders.insert(), order_rows(1, bought, people))


def measure(work: dict[str, Work], rounds: int) -> dict[str, float]:
    """Median seconds of each piece of work, the pieces taking turns."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values():
        function()
    for _ in range(rounds):
        for name, function in work.items():
            gc.collect()
            gc.disable()
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
            gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}


class Side:
    """One database and the work on it."""

    def __init__(self, name: str, folder: Path, people: int, bought: int) -> None:
        self.engine = opened(name, folder)
        self.people = people
        filled(self.engine, people, bought)
        self.fresh = 10_000_000

    def operations(self, size: int) -> dict[str, Work]:
        """The work by name, each with the result that it must have."""
        engine, people = self.engine, self.people
        sample = [1 + n * 7919 % people for n in range(500)]
        get = select(users).where(users.c.id == bindparam("id"))
        named = select(users.c.id, users.c.age).where(users.c.name == bindparam("name"))
        span = select(users).where(users.c.id.between(bindparam("low"), bindparam("high")))
        joined = (
            select(users.c.city, func.count(), func.sum(orders.c.amount))
            .join(orders, orders.c.user_id == users.c.id)
            .where(users.c.age < 30)
            .group_by(users.c.city)
            .order_by(users.c.city)
        )

        def gets() -> None:
            with engine.connect() as connection:
                for number in sample:
                    assert connection.execute(get, {"id": number}).one().id == number

        def lookups() -> None:
            with engine.connect() as connection:
                for number in sample[:200]:
                    assert len(connection.execute(named, {"name": f"name{number % 1000}"}).all()) == people // 1000

        def adds() -> None:
            with Session(engine) as session, session.begin():
                for row in event_rows(self._next(200), 200):
                    session.add(Event(**row))

        def orm_gets() -> None:
            with Session(engine) as session:
                for number in sample[:200]:
                    assert session.get(User, number).age == number % 90  # type: ignore[union-attr]

        def scan() -> None:
            with engine.connect() as connection:
                count = 0
                for _ in connection.execute(select(users)):
                    count += 1
                assert count == people

        def ranges() -> None:
            with engine.connect() as connection:
                for start in range(1, people - 1000, people // 10):
                    assert len(connection.execute(span, {"low": start, "high": start + 999}).all()) == 1000

        def bulk() -> None:
            with engine.begin() as connection:
                connection.execute(events.insert(), event_rows(self._next(size), size))

        def join() -> None:
            with engine.connect() as connection:
                assert len(connection.execute(joined).all()) == 50

        def commits() -> None:
            for number in range(self._next(200), self.fresh):
                with engine.begin() as connection:
                    connection.execute(events.insert(), event_rows(number, 1))

        def count() -> None:
            with engine.connect() as connection:
                assert connection.scalar(select(func.count()).select_from(orders)) > 0

        return {
            "get by primary key": gets,
            "lookup by index": lookups,
            "ORM add": adds,
            "ORM get": orm_gets,
            "scan": scan,
            "range of primary key": ranges,
            "bulk insert": bulk,
            "join with aggregate": join,
            "200 commits": commits,
            "count(*)": count,
        }

    def _next(self, count: int) -> int:
        self.fresh += count
        return self.fresh - count


def compare(engines: list[str], folder: Path, quick: bool) -> dict[str, dict[str, float]]:
    """Time every operation on every side."""
    people, bought, inserted = (10_000, 20_000, 2000) if quick else (50_000, 100_000, 10_000)
    rounds = 5 if quick else 11
    sides = {name: Side(name, folder, people, bought) for name in ["pysqlite", *engines]}
    operations = {name: side.operations(inserted) for name, side in sides.items()}
    results: dict[str, dict[str, float]] = {}
    for operation in operations["pysqlite"]:
        results[operation] = measure({name: work[operation] for name, work in operations.items()}, rounds)
        show(operation, results[operation])
    # The same again over four times as many rows.
    for side in sides.values():
        with side.engine.begin() as connection:
            connection.execute(orders.insert(), order_rows(bought + 1, 3 * bought, people))
    results["count(*) of 4 times as many"] = measure(
        {name: work["count(*)"] for name, work in operations.items()}, rounds
    )
    show("count(*) of 4 times as many", results["count(*) of 4 times as many"])
    for side in sides.values():
        side.engine.dispose()
    return results


def schemas(engines: list[str], folder: Path) -> dict[str, dict[str, float]]:
    """Seconds to create 200 tables, and then to connect and read from one."""
    results: dict[str, dict[str, float]] = {"200 tables": {}, "connect to 200 tables": {}}
    metadata = sa.MetaData()
    for number in range(200):
        sa.Table(
            f"table{number}",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String, index=True),
            sa.Column("other", sa.Integer, unique=True),
        )
    read = sa.text("SELECT name FROM table77 WHERE id = 1")
    for side in ["pysqlite", *engines]:
        engine = opened(side, folder)
        with engine.begin() as connection:
            began = time.perf_counter()
            metadata.create_all(connection)
        results["200 tables"][side] = time.perf_counter() - began
        others = []
        with engine.connect() as held:  # the pool has none to give: each of these is new
            held.execute(read)
            taken = []
            for _ in range(5):
                began = time.perf_counter()
                others.append(engine.connect())
                others[-1].execute(read).all()
                taken.append(time.perf_counter() - began)
        results["connect to 200 tables"][side] = statistics.median(taken)
        for connection in others:
            connection.close()
        engine.dispose()
    for name, medians in results.items():
        show(name, medians)
    return results


def show(name: str, medians: dict[str, float]) -> None:
    """Print one row: the time of pysqlite and the ratios to it."""
    base = medians["pysqlite"]
    ratios = "  ".join(f"{side} {value / base:6.2f}" for side, value in medians.items() if side != "pysqlite")
    target = f"   (target {TARGETS[name]})" if name in TARGETS else ""
    print(f"{name:28} {base * 1e3:10,.2f} ms   {ratios}{target}", flush=True)


def markdown(report: dict[str, Any]) -> str:
    """The report as a table for the documentation."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    sides = [side for side in next(iter(report["operations"].values())) if side != "pysqlite"]
    lines = [
        f"Measured on Python {report['python']}, {report['cores']} cores, with {versions}.",
        "",
        f"| | pysqlite, ms | {' | '.join(f'{side}, ratio' for side in sides)} |",
        "|---|" + "---:|" * (len(sides) + 1),
    ]
    for name, medians in report["operations"].items():
        ratios = " | ".join(f"{medians[side] / medians['pysqlite']:.2f}" for side in sides)
        lines.append(f"| {name} | {medians['pysqlite'] * 1e3:,.2f} | {ratios} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    import sqlite3

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this engine")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the figures here as a table")
    parser.add_argument("--dir", type=Path, help="where the databases go; a temporary directory by default")
    options = parser.parse_args(arguments)
    engines = options.engine or list(ENGINES)
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {
            **{name: version(name) for name in ("kvdialect", "sqlalchemy", "apsw", "lmdb", "rocksdict")},
            "sqlite3": sqlite3.sqlite_version,
        },
        "unit": "median seconds of the whole operation",
        "targets": TARGETS,
        "operations": {},
    }
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        (Path(folder) / "tables").mkdir()
        report["operations"] = compare(engines, Path(folder), options.quick)
        report["operations"] |= schemas(engines, Path(folder) / "tables")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
