"""Row 10: a mixed load for a long time, in which nothing may grow without end.

Threads of one process insert, change, delete and read through sessions and the SQL door, roll back, conflict, break off
scans and take snapshots, on records whose number does not grow. Meanwhile the process's memory, its file handles, the
live snapshots, LMDB's reader slots and the size of the files are sampled. After a while each must level off: what it
gains over the last third of the samples must be little, or little beside what it gained over the first.
"""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy.exc
from sqlalchemy import Index, select, text

from kvdialect import ColumnFamilyOptions, Engine, Mapped, Session, create_engine, exc, field, mapped, registry
from reliability.processes import Child
from reliability.scoreboard import Row

models = registry()
RECORDS = 1500
OWNERS = 13
SAMPLES = 90
LEAKED = 300
_LITTLE = 0.25
_SMALL = ColumnFamilyOptions(write_buffer_size="1MiB")
_OPTIONS = {
    # Buffers that fill within the run: what grows behind them is then seen.
    "rocksdb": "block_cache_size=8MiB&max_total_wal_size=8MiB&durability=wal",
    "lmdb": "durability=wal&map_size=1GiB&max_readers=512",
}


@mapped(models)
class Note:
    """A record with a body of some length."""

    __tablename__ = "notes"
    __table_args__ = (
        Index("note_by_owner", "owner", "version", kvdialect_options=_SMALL),
        {"kvdialect_options": _SMALL},
    )
    id: Mapped[int] = field(primary_key=True)
    owner: Mapped[int]
    version: Mapped[int]
    body: Mapped[bytes]


class Sample(msgspec.Struct):
    """What was seen at one moment.

    Attributes:
        at: seconds since the beginning.
        seen: by name of a measure.
    """

    at: float
    seen: dict[str, float]


class Told(msgspec.Struct):
    """What a process tells in the end."""

    samples: list[Sample]
    done: dict[str, int]
    errors: list[str]


TOLERATED: dict[str, tuple[float, float]] = {
    "resident memory, KiB": (12 * 1024, 0.05),
    "file handles": (6, 0.0),
    "live snapshots": (8, 0.0),
    "reader slots": (8, 0.0),
    "file size, KiB": (8 * 1024, 0.1),
}
"""By measure the gain over the last third that is little: so much, and this part of the greatest value beside it."""


def run(engine: str, folder: Path, tries: int, seed: int = 1) -> Row:
    """Load a store for ``tries`` seconds, and judge what grew."""
    began = time.monotonic()
    row = Row(10, "soak: mixed load, in seconds", engine, tries)
    told = _loaded(engine, folder / "soak", tries, seed, None)
    row.counts = dict(sorted(told.done.items()))
    row.violations += told.errors
    if len(told.samples) < SAMPLES // 2:
        row.violations.append(f"only {len(told.samples)} samples were taken")
    row.violations += grown(told.samples)
    for sample in told.samples[-1:]:
        row.counts |= {f"{name} at the end": round(value) for name, value in sample.seen.items()}
    for name, leak in LEAKS.items():
        trial = _loaded(engine, folder / name.replace(" ", "-"), max(5, min(tries, 20)), seed, leak)
        row.control[name] = any("live snapshots" in what for what in grown(trial.samples))
    row.seconds = time.monotonic() - began
    return row


def grown(samples: Sequence[Sample]) -> list[str]:
    """The measures that do not level off, a sentence each."""
    third = len(samples) // 3
    found: list[str] = []
    if third < 2:
        return found
    for name, (least, part) in TOLERATED.items():
        if name not in samples[0].seen:
            continue
        values = [sample.seen[name] for sample in samples]
        first, last = _gain(values[:third]), _gain(values[-third:])
        if last > least + part * max(values) and last > _LITTLE * first:
            found.append(
                f"{name} went from {values[0]:,.0f} to {values[-1]:,.0f}: it gained {first:,.0f} over the first third"
                f" and {last:,.0f} over the last"
            )
    return found


def _gain(values: Sequence[float]) -> float:
    """What values in equal steps gain by the line that fits them best."""
    middle = (len(values) - 1) / 2
    mean = sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in range(len(values)))
    return sum((at - middle) * (value - mean) for at, value in enumerate(values)) / spread * len(values)


# ------------------------------------------------------------------------------------------------ the load


def _loaded(engine: str, path: Path, seconds: int, seed: int, leak: Callable[[Engine], object] | None) -> Told:
    def work() -> bytes:
        return msgspec.msgpack.encode(_load(f"{engine}:///{path}?{_OPTIONS[engine]}", seconds, seed, leak))

    return msgspec.msgpack.decode(Child(work, seconds * 2 + 120).told(), type=Told)


def _load(url: str, seconds: int, seed: int, leak: Callable[[Engine], object] | None) -> Told:
    began = time.monotonic()
    told = Told([], dict.fromkeys(WORKS, 0) | {"conflicts": 0, "rows verified": 0}, [])
    kept: list[object] = []
    stop = threading.Event()
    with create_engine(url) as engine:
        models.create_all(engine)
        door = engine.sqlalchemy()
        with door.begin() as connection:
            connection.execute(text("CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER)"))

        def turn(number: int) -> None:
            rng = random.Random(f"{seed} {number}")  # noqa: S311 - so that a run can be done again
            try:
                while not stop.is_set():
                    name = rng.choice(list(WORKS))
                    try:
                        WORKS[name](engine, door, rng)
                        told.done[name] += 1
                    except exc.ConflictError:
                        told.done["conflicts"] += 1
                    except exc.IntegrityError:
                        told.done["conflicts"] += 1  # two threads have inserted one record
                    except sqlalchemy.exc.DBAPIError as error:
                        if not isinstance(error.orig, exc.ConflictError):
                            raise
                        told.done["conflicts"] += 1
                    if leak is not None and len(kept) < LEAKED * (time.monotonic() - began) / seconds:
                        kept.append(leak(engine))  # evenly: on a fast machine it would be over soon, and level off
            except BaseException:
                told.errors.append(traceback.format_exc(limit=-4))
                stop.set()

        threads = [threading.Thread(target=turn, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        _sampled(engine, told.samples, seconds, stop)
        stop.set()
        for thread in threads:
            thread.join()
        kept.clear()
        door.dispose()
        check = engine.verify(apart=False)
        if not check.ok:
            told.errors.append(f"verify: {check}")
        told.done["rows verified"] = check.rows["notes"]
        if engine.stats()["live_snapshots"]:
            told.errors.append(f"{engine.stats()['live_snapshots']} snapshots are alive in the end")
    return told


def _sampled(engine: Engine, samples: list[Sample], seconds: int, stop: threading.Event) -> None:
    began = time.monotonic()
    path = Path(str(engine.url.database))
    for number in range(1, SAMPLES + 1):
        if stop.wait(max(0.0, began + number * seconds / SAMPLES - time.monotonic())):
            return
        stats = engine.stats()
        seen: dict[str, float] = {
            "resident memory, KiB": int(Path("/proc/self/statm").read_text().split()[1]) * 4,
            "file handles": len(os.listdir("/proc/self/fd")),
            "live snapshots": stats["live_snapshots"],
            "file size, KiB": sum(_size(entry) for entry in path.iterdir()) / 1024,
        }
        if "readers" in stats:
            seen["reader slots"] = stats["readers"]
        samples.append(Sample(time.monotonic() - began, seen))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.name != "lock.mdb" else 0
    except FileNotFoundError:
        return 0  # RocksDB has just removed it


def _note(rng: random.Random) -> Note:
    return Note(rng.randrange(RECORDS), rng.randrange(OWNERS), rng.randrange(1000), rng.randbytes(rng.randrange(1200)))


def _writes(engine: Engine, _door: Any, rng: random.Random) -> None:
    with Session(engine) as session, session.begin():
        for _ in range(rng.randrange(1, 12)):
            session.merge(_note(rng))
        found = session.get(Note, rng.randrange(RECORDS))
        if found is not None:
            session.delete(found)


def _retries(engine: Engine, _door: Any, rng: random.Random) -> None:
    def change(session: Session) -> None:
        for note in session.scalars(select(Note).where(Note.owner == rng.randrange(OWNERS)).limit(5)):
            note.version += 1

    engine.transaction(change, retries=20)


def _conflicts(engine: Engine, _door: Any, rng: random.Random) -> None:
    with Session(engine, isolation_level="SERIALIZABLE") as session, session.begin():
        hot = session.get(Note, rng.randrange(3))
        session.merge(Note(rng.randrange(3), 0, 0 if hot is None else hot.version + 1, b""))


def _rolls_back(engine: Engine, _door: Any, rng: random.Random) -> None:
    with Session(engine) as session:
        session.merge(_note(rng))
        session.flush()
        with session.begin_nested() as nested:
            session.merge(_note(rng))
            nested.rollback()
        session.rollback()


def _queries(engine: Engine, _door: Any, rng: random.Random) -> None:
    with Session(engine) as session:
        statement = select(Note).where(Note.owner == rng.randrange(OWNERS)).order_by(Note.version)
        session.scalars(statement.limit(rng.randrange(1, 40))).all()
        page = session.page(statement, 10)
        if page.next:
            session.page(statement, 10, after=page.next)


def _breaks_off(engine: Engine, _door: Any, rng: random.Random) -> None:
    with Session(engine) as session:
        for notes in (session.scan(Note), iter(session.scalars(select(Note)))):
            for _ in range(rng.randrange(1, 60)):
                next(notes, None)
    pairs = engine.backend.scan("notes")
    next(pairs, None)


def _snapshots(engine: Engine, _door: Any, rng: random.Random) -> None:
    snapshot = engine.backend.snapshot()
    pairs = snapshot.scan("notes", reverse=rng.random() < 0.5)
    next(pairs, None)
    if rng.random() < 0.5:
        snapshot.close()


def _sql(engine: Engine, door: Any, rng: random.Random) -> None:
    del engine
    with door.connect() as connection:
        result = connection.execute(
            text("SELECT owner, count(*), max(version) FROM notes GROUP BY owner ORDER BY 2 DESC, 1")
        )
        result.fetchmany(rng.randrange(1, 5))
        result.close()
        connection.execute(
            text("INSERT INTO counters VALUES (:name, 1) ON CONFLICT (name) DO UPDATE SET n = n + 1"),
            {"name": f"counter {rng.randrange(50)}"},
        )
        connection.execute(
            text("UPDATE notes SET version = version + 1 WHERE id = :id"), {"id": rng.randrange(RECORDS)}
        )
        if rng.random() < 0.6:
            connection.commit()


WORKS: dict[str, Callable[[Engine, Any, random.Random], None]] = {
    "writes": _writes,
    "transactions with retries": _retries,
    "transactions on few records": _conflicts,
    "rollbacks": _rolls_back,
    "queries": _queries,
    "scans broken off": _breaks_off,
    "snapshots": _snapshots,
    "SQL transactions": _sql,
}


def _begun(engine: Engine) -> object:
    pairs = engine.backend.scan("notes")
    next(pairs, None)
    return pairs


LEAKS: dict[str, Callable[[Engine], object]] = {
    "snapshots that are kept": lambda engine: engine.backend.snapshot(),
    "iterators that are kept": _begun,
}
