"""Many threads on one store: commits per second, and readers beside a writer, for sessions and what one writes by hand.

All sides hold the same records, each with one index, and take their turn round by round; figures are medians of rounds.
A commit is durable when it returns.

- session: kvdialect on an engine; each commit and each read is a new session.
- by hand: code on the engine's driver. LMDB: a transaction for each commit. RocksDB: a look for the key, then a
  WriteBatch with a synced write; a read is of the driver's snapshot, as a session is of one moment.
- sqlite3: WAL, synchronous=FULL, a connection for each thread, BEGIN IMMEDIATE with a busy time-out.

Measured are

- commits per second of 1, 2, 4 and 8 threads, each inserting one record at a time;
- reads by id, per second and their latency, of 1 and 4 threads: alone; beside a thread that does nothing but count,
  so that they wait for Python's lock (the GIL) and nothing else; beside a thread that inserts blocks of 200; and on
  LMDB and sqlite3 beside a process that does so, with which they share no GIL;
- reads during one large commit of records that are prepared: the longest of them beside the time of the commit. Had
  readers to wait for a writer, one would take as long as the commit.

Targets: more threads never commit less than one does; no reader waits for a writer.

    python benchmarks/threads.py            # about ten minutes
    python benchmarks/threads.py --quick    # about two minutes
    python benchmarks/threads.py --engine lmdb --json out.json
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Index

from kvdialect import Bytes32, Mapped, Session, UInt64, create_engine, field, mapped, registry

ENGINES = ("lmdb", "rocksdb")
THREADS = (1, 2, 4, 8)
READERS = (1, 4)
BLOCK = 200
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

models = registry()


@mapped(models)
class Coin:
    __tablename__ = "coins"
    __table_args__ = (Index("coin_by_puzzle_hash", "puzzle_hash"),)
    coin_id: Mapped[Bytes32] = field(primary_key=True)
    puzzle_hash: Mapped[Bytes32]
    amount: Mapped[UInt64]


Row = tuple[bytes, bytes, int]


def digest(kind: bytes, number: int) -> bytes:
    """Thirty-two random-looking bytes, the same in every run."""
    return blake2b(number.to_bytes(8, "big"), digest_size=32, person=kind).digest()


def row(number: int) -> Row:
    """The record of a number."""
    return digest(b"coin", number), digest(b"puzzle", number // 20), number


def block(start: int, count: int) -> list[Row]:
    """The records of so many numbers."""
    return [row(number) for number in range(start, start + count)]


# ------------------------------------------------------------------------------------------------ the sides


class Worker:
    """What one thread does on a store; made and used on that thread."""

    def insert(self, rows: list[Row]) -> None:
        """Insert rows and their index entries in one durable commit."""
        raise NotImplementedError

    def prepared(self, rows: list[Row]) -> Callable[[], None]:
        """Return the commit of rows, with as much of the work done before as can be."""
        return lambda: self.insert(rows)

    def get(self, key: bytes) -> int:
        """Return the amount of a coin, read as of a new moment."""
        raise NotImplementedError

    def close(self) -> None:
        """End what the thread holds."""


class Store:
    """One side: an open store; threads and processes get a worker each."""

    other_process = True
    """Whether a second process may write to the store."""

    def __init__(self, folder: Path) -> None:
        raise NotImplementedError

    def worker(self) -> Worker:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Sessions(Store):
    engine = ""

    def __init__(self, folder: Path) -> None:
        self.store = create_engine(f"{self.engine}:///{folder}")
        models.create_all(self.store)

    def worker(self) -> Worker:
        return SessionWorker(self.store)

    def close(self) -> None:
        self.store.close()


class LmdbSessions(Sessions):
    engine = "lmdb"


class RocksSessions(Sessions):
    engine = "rocksdb"
    other_process = False


class SessionWorker(Worker):
    def __init__(self, store: Any) -> None:
        self.store = store

    def insert(self, rows: list[Row]) -> None:
        with Session(self.store) as session, session.begin():
            for values in rows:
                session.add(Coin(*values))

    def prepared(self, rows: list[Row]) -> Callable[[], None]:
        session = Session(self.store)
        session.add_all([Coin(*values) for values in rows])
        session.flush()

        def commit() -> None:
            session.commit()
            session.close()

        return commit

    def get(self, key: bytes) -> int:
        with Session(self.store) as session:
            return session.get(Coin, key).amount  # type: ignore[union-attr]


def encoded(values: Row) -> bytes:
    """The value of a record, by hand."""
    return values[1] + values[2].to_bytes(8, "big")


class Lmdb(Store):
    def __init__(self, folder: Path) -> None:
        import lmdb

        self.env = lmdb.open(str(folder), map_size=16 << 30, max_dbs=4, readahead=False)
        self.coins = self.env.open_db(b"coins")
        self.by_puzzle = self.env.open_db(b"by_puzzle_hash", dupsort=True, dupfixed=True)

    def worker(self) -> Worker:
        return LmdbWorker(self)

    def close(self) -> None:
        self.env.close()


class LmdbWorker(Worker):
    def __init__(self, store: Lmdb) -> None:
        self.store = store

    def insert(self, rows: list[Row]) -> None:
        self.prepared(rows)()

    def prepared(self, rows: list[Row]) -> Callable[[], None]:
        records = sorted([(values[0], encoded(values)) for values in rows])
        entries = sorted([(values[1], values[0]) for values in rows])
        store = self.store

        def commit() -> None:
            with store.env.begin(write=True) as txn:
                _, added = txn.cursor(store.coins).putmulti(records, overwrite=False)
                if added != len(records):
                    raise ValueError("a coin exists already")
                txn.cursor(store.by_puzzle).putmulti(entries)

        return commit

    def get(self, key: bytes) -> int:
        with self.store.env.begin() as txn:
            value = txn.get(key, None, self.store.coins)
        return int.from_bytes(value[32:], "big")  # type: ignore[index]


class Rocks(Store):
    other_process = False

    def __init__(self, folder: Path) -> None:
        import rocksdict

        self.driver = rocksdict
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        families = {name: self._family() for name in ("coins", "by_puzzle_hash")}
        self.database = rocksdict.Rdict(str(folder), options, column_families=families)
        self.coins = self.database.get_column_family("coins")
        self.handles = [self.database.get_column_family_handle(name) for name in families]
        self.synced = rocksdict.WriteOptions()
        self.synced.sync = True

    def _family(self) -> Any:
        options = self.driver.Options(raw_mode=True)
        table = self.driver.BlockBasedOptions()
        table.set_block_cache(self.driver.Cache(256 << 20))
        options.set_block_based_table_factory(table)
        options.set_compression_type(self.driver.DBCompressionType.lz4())
        return options

    def worker(self) -> Worker:
        return RocksWorker(self)

    def close(self) -> None:
        del self.coins, self.handles
        self.database.close()


class RocksWorker(Worker):
    def __init__(self, store: Rocks) -> None:
        self.store = store

    def insert(self, rows: list[Row]) -> None:
        self.prepared(rows)()

    def prepared(self, rows: list[Row]) -> Callable[[], None]:
        store = self.store
        coins, by_puzzle = store.handles
        if any(value is not None for value in store.coins.get([values[0] for values in rows])):
            raise ValueError("a coin exists already")
        batch = store.driver.WriteBatch(raw_mode=True)
        for values in rows:
            batch.put(values[0], encoded(values), coins)
            batch.put(values[1] + values[0], b"", by_puzzle)
        return lambda: store.database.write(batch, store.synced)

    def get(self, key: bytes) -> int:
        return int.from_bytes(self.store.coins.snapshot()[key][32:], "big")


class Sqlite(Store):
    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "coins.db"
        first = SqliteWorker(self.path)
        first.execute(
            "CREATE TABLE IF NOT EXISTS coins (coin_id BLOB NOT NULL PRIMARY KEY, puzzle_hash BLOB NOT NULL,"
            " amount INTEGER NOT NULL) WITHOUT ROWID"
        )
        first.execute("CREATE INDEX IF NOT EXISTS coin_by_puzzle_hash ON coins (puzzle_hash)")
        first.close()

    def worker(self) -> Worker:
        return SqliteWorker(self.path)

    def close(self) -> None:
        """Each worker has closed its connection."""


class SqliteWorker(Worker):
    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        self.execute = self.connection.execute
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=FULL")

    def insert(self, rows: list[Row]) -> None:
        self.execute("BEGIN IMMEDIATE")
        with self.connection:
            self.connection.executemany("INSERT INTO coins VALUES (?, ?, ?)", rows)

    def prepared(self, rows: list[Row]) -> Callable[[], None]:
        self.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO coins VALUES (?, ?, ?)", rows)
        return self.connection.commit

    def get(self, key: bytes) -> int:
        amount: int = self.execute("SELECT amount FROM coins WHERE coin_id = ?", (key,)).fetchone()[0]
        return amount

    def close(self) -> None:
        self.connection.close()


SIDES: dict[str, tuple[type[Store], str]] = {
    "session lmdb": (LmdbSessions, "lmdb"),
    "py-lmdb": (Lmdb, "lmdb"),
    "session rocksdb": (RocksSessions, "rocksdb"),
    "rocksdict": (Rocks, "rocksdb"),
    "sqlite3": (Sqlite, ""),
}
HAND = {"session lmdb": "py-lmdb", "session rocksdb": "rocksdict"}


class Numbers:
    """Numbers of records that nobody has inserted yet; threads ask for a run of them."""

    def __init__(self, start: int) -> None:
        self._next = start
        self._lock = threading.Lock()

    def take(self, count: int) -> int:
        with self._lock:
            start = self._next
            self._next += count
            return start


@contextlib.contextmanager
def running(loops: list[Callable[[threading.Event], None]]) -> Iterator[threading.Event]:
    """Run functions in threads while the block runs; the event tells them to stop, and errors of theirs are raised."""
    stop = threading.Event()
    ready = threading.Barrier(len(loops) + 1)
    errors: list[BaseException] = []

    def run(loop: Callable[[threading.Event], None]) -> None:
        ready.wait()
        try:
            loop(stop)
        except BaseException as error:  # noqa: BLE001 - raised below, on the thread of the caller
            errors.append(error)
            stop.set()

    threads = [threading.Thread(target=run, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


# ------------------------------------------------------------------------------------------------ commits


def commits_per_second(store: Store, numbers: Numbers, threads: int, seconds: float) -> float:
    """Durable commits of one record each, by so many threads."""
    counts = [0] * threads

    def loop_of(index: int) -> Callable[[threading.Event], None]:
        def loop(stop: threading.Event) -> None:
            worker = store.worker()
            while not stop.is_set():
                worker.insert([row(numbers.take(1))])
                counts[index] += 1
            worker.close()

        return loop

    with running([loop_of(index) for index in range(threads)]) as stop:
        began = time.perf_counter()
        stop.wait(seconds)
    return sum(counts) / (time.perf_counter() - began)


# ------------------------------------------------------------------------------------------------ readers


class Reader:
    """One thread that reads random records and notes how long each read took."""

    def __init__(self, store: Store, keys: list[tuple[bytes, int]]) -> None:
        self.store = store
        self.keys = keys
        self.nanoseconds = array("q")

    def loop(self, stop: threading.Event) -> None:
        worker = self.store.worker()
        get, note, clock, stopped = worker.get, self.nanoseconds.append, time.perf_counter_ns, stop.is_set
        while not stopped():
            for key, amount in self.keys:
                began = clock()
                found = get(key)
                note(clock() - began)
                assert found == amount
                if stopped():
                    break
        worker.close()


def latencies(readers: list[Reader], seconds: float) -> dict[str, float]:
    """Reads per second, and seconds of the percentiles and of the longest."""
    taken = sorted(value for reader in readers for value in reader.nanoseconds)
    found = {name: taken[min(int(len(taken) * part), len(taken) - 1)] / 1e9 for name, part in PERCENTILES.items()}
    return {"reads/s": len(taken) / seconds, **found, "max": taken[-1] / 1e9}


def count_up(stop: threading.Event) -> None:
    """Keep Python busy, and touch no store."""
    number = 0
    while not stop.is_set():
        for _ in range(1000):
            number += 1


def ingest(store: Store, numbers: Numbers, written: list[int], stop: threading.Event) -> None:
    """Insert blocks until told to stop."""
    worker = store.worker()
    while not stop.is_set():
        worker.insert(block(numbers.take(BLOCK), BLOCK))
        written.append(BLOCK)
    worker.close()


@contextlib.contextmanager
def writing_process(name: str, folder: Path, numbers: Numbers, written: list[int]) -> Iterator[None]:
    """Another process inserts blocks while the block runs."""
    command = [sys.executable, __file__, "--worker", name, str(folder), str(numbers.take(10_000_000))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "writing\n", f"the writing process of {name} failed; see above"
            yield
        finally:
            process.stdin.close()
            written.append(int(process.stdout.readline() or 0))
    assert process.returncode == 0, f"the writing process of {name} failed; see above"


def write_blocks(name: str, folder: Path, start: int) -> None:
    """Be that process: insert blocks until the standard input ends, then say how many rows."""
    store = SIDES[name][0](folder)
    stop = threading.Event()
    written: list[int] = []
    writer = threading.Thread(target=ingest, args=(store, Numbers(start), written, stop))
    writer.start()
    print("writing", flush=True)
    sys.stdin.read()
    stop.set()
    writer.join()
    print(sum(written), flush=True)
    store.close()


ALONE, BUSY, WRITER, PROCESS = "alone", "beside a busy loop", "beside a writer", "beside a writing process"


def read_beside(
    name: str, store: Store, folder: Path, case: str, readers: list[Reader], numbers: Numbers, seconds: float
) -> dict[str, float]:
    """Let the readers read in one of the cases."""
    written: list[int] = []
    loops: list[Callable[[threading.Event], None]] = [reader.loop for reader in readers]
    if case == BUSY:
        loops.append(count_up)
    if case == WRITER:
        loops.append(lambda stop: ingest(store, numbers, written, stop))
    other = writing_process(name, folder, numbers, written) if case == PROCESS else contextlib.nullcontext()
    with other:
        gc.collect()
        gc.disable()
        try:
            began = time.perf_counter()
            with running(loops) as stop:
                stop.wait(seconds)
            taken = time.perf_counter() - began
        finally:
            gc.enable()
    # A process begins a little before the readers and ends a little after them: its rate is a little too high.
    return {**latencies(readers, taken), "rows/s": sum(written) / taken}


def read_during_commit(store: Store, readers: list[Reader], numbers: Numbers, rows: int) -> dict[str, float]:
    """Let one thread read while a large commit is under way; seconds of the commit, and of reads that overlap it."""
    (reader,) = readers
    ends: list[tuple[int, int]] = []
    worker = store.worker()
    commit = worker.prepared(block(numbers.take(rows), rows))

    def loop(stop: threading.Event) -> None:
        own = reader.store.worker()
        clock = time.perf_counter_ns
        while not stop.is_set():
            for key, amount in reader.keys:
                began = clock()
                found = own.get(key)
                ends.append((began, clock()))
                assert found == amount
                if stop.is_set():
                    break
        own.close()

    gc.collect()
    gc.disable()
    with running([loop]):
        time.sleep(0.05)
        began = time.perf_counter_ns()
        commit()
        ended = time.perf_counter_ns()
    gc.enable()
    worker.close()
    overlapping = [end - start for start, end in ends if end > began and start < ended]
    within = sum(1 for start, end in ends if start > began and end < ended)
    return {
        "commit": (ended - began) / 1e9,
        "reads": within,
        "longest": max(overlapping, default=0) / 1e9,
        "part": max(overlapping, default=0) / (ended - began),
    }


# ------------------------------------------------------------------------------------------------ all of them


class Bench:
    """All stores, filled alike, and the measurements on them."""

    def __init__(self, names: list[str], folder: Path, quick: bool) -> None:
        self.folder = folder
        self.size = 10_000 if quick else 100_000
        self.rounds = 3 if quick else 7
        self.seconds = 0.3 if quick else 1.0
        self.large = 5000 if quick else 50_000
        self.stores = {name: SIDES[name][0](folder / name.replace(" ", "-")) for name in names}
        self.numbers = Numbers(self.size)
        for store in self.stores.values():
            worker = store.worker()
            for start in range(0, self.size, 5000):
                worker.insert(block(start, 5000))
            worker.close()

    def readers(self, name: str, count: int, seed: int) -> list[Reader]:
        """New readers, each with records of its own to read."""
        rng = random.Random(seed)  # noqa: S311 - a sample, no secret
        chosen = [[rng.randrange(self.size) for _ in range(2000)] for _ in range(count)]
        return [Reader(self.stores[name], [(row(n)[0], n) for n in numbers]) for numbers in chosen]

    def turns(self, measured: Callable[[str, Store, int], dict[str, float]], names: list[str]) -> dict[str, Any]:
        """Measure each side in each round, and return medians by side, and the longest of all."""
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(self.rounds):
            for name in names[::-1] if number % 2 else names:
                taken[name].append(measured(name, self.stores[name], number))
        return {name: {key: _middle(key, rounds) for key in rounds[0]} for name, rounds in taken.items()}

    def commits(self) -> dict[str, Any]:
        """Commits per second by number of threads and side."""
        results = {}
        for threads in THREADS:

            def measured(_name: str, store: Store, _number: int, threads: int = threads) -> dict[str, float]:
                return {"commits/s": commits_per_second(store, self.numbers, threads, self.seconds)}

            found = self.turns(measured, list(self.stores))
            results[str(threads)] = {name: figures["commits/s"] for name, figures in found.items()}
            _progress(f"commits of {threads} threads")
        return results

    def reads(self) -> dict[str, Any]:
        """Reads by number of threads, case and side."""
        results: dict[str, Any] = {}
        for count in READERS:
            results[str(count)] = {}
            for case in (ALONE, BUSY, WRITER, PROCESS):
                names = [name for name, store in self.stores.items() if case != PROCESS or store.other_process]

                def measured(
                    name: str, store: Store, number: int, case: str = case, count: int = count
                ) -> dict[str, float]:
                    folder = self.folder / name.replace(" ", "-")
                    readers = self.readers(name, count, number)
                    return read_beside(name, store, folder, case, readers, self.numbers, self.seconds)

                results[str(count)][case] = self.turns(measured, names)
                _progress(f"{count} reading {case}")
        return results

    def large_commit(self) -> dict[str, Any]:
        """Reads during a large commit, by side."""
        found = self.turns(
            lambda name, store, number: read_during_commit(
                store, self.readers(name, 1, number), self.numbers, self.large
            ),
            list(self.stores),
        )
        _progress("reads during a large commit")
        return found

    def close(self) -> None:
        for store in self.stores.values():
            store.close()


def _middle(key: str, rounds: list[dict[str, float]]) -> float:
    values = [figures[key] for figures in rounds]
    return max(values) if key == "max" else statistics.median(values)


def _progress(what: str) -> None:
    print(f"measured: {what}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------ what is said


def tables(report: dict[str, Any]) -> list[list[list[str]]]:
    """The tables, the titles first."""
    names = list(report["commits_per_second"]["1"])
    sessions = [name for name in names if name in HAND]
    commits = [["commits/s by threads", *(title for name in names for title in (name, "to 1"))]]
    beside = [["session to others, by threads", *(f"{name} to {peer}" for name in sessions for peer in _peers(name))]]
    single = report["commits_per_second"]["1"]
    for threads, rates in report["commits_per_second"].items():
        commits.append(
            [threads, *(c for name in names for c in (f"{rates[name]:,.0f}", f"{rates[name] / single[name]:.2f}"))]
        )
        ratios = [f"{rates[name] / rates[peer]:.2f}" for name in sessions for peer in _peers(name)]
        beside.append([threads, *ratios])
    made = [commits, beside]
    for count, cases in report["reads"].items():
        titles = [f"reads by {count} thread{'s' if count != '1' else ''}", "", "reads/s", "to alone"]
        rows = [[*titles, *(f"{name}, µs" for name in (*PERCENTILES, "max")), "rows written/s"]]
        for name in names:
            for case, sides in cases.items():
                if name in sides:
                    figures = sides[name]
                    rows.append(
                        [
                            name,
                            case,
                            f"{figures['reads/s']:,.0f}",
                            f"{figures['reads/s'] / cases[ALONE][name]['reads/s']:.2f}",
                            *(f"{figures[key] * 1e6:,.0f}" for key in (*PERCENTILES, "max")),
                            f"{figures['rows/s']:,.0f}" if figures["rows/s"] else "",
                        ]
                    )
        made.append(rows)
    titles = [f"reads during a commit of {report['large_commit_rows']:,}", "commit, ms", "reads within", "longest, ms"]
    rows = [[*titles, "longest / commit"]]
    for name, figures in report["large_commit"].items():
        rows.append(
            [
                name,
                f"{figures['commit'] * 1e3:,.1f}",
                f"{figures['reads']:,.0f}",
                f"{figures['longest'] * 1e3:,.1f}",
                f"{figures['part']:.2f}",
            ]
        )
    return [*made, rows]


def _peers(name: str) -> tuple[str, str]:
    return HAND[name], "sqlite3"


_GIL = """\
The GIL lets one thread at a time run Python, whatever the number of cores. Only what drivers do without it overlaps."""

_TAIL = """\
A thread that wants the GIL has it when the one that holds it waits for something, or after {interval}, and may have to
do so once for each other thread. That is the tail of the latencies. Compare a reader beside a writer with one beside a
busy loop, which touches no store: what is not above that is the GIL's. Beside a writing process there is no GIL to
wait for, but there is one core less. The tail of readers alone is what else the machine does."""

_DRIVERS = """\
A driver that keeps the GIL within a call makes all threads wait for as long as the call. Commits gain from threads what
they do without the GIL, which is to wait for the disk: sessions that commit at once share that, others queue."""


def remarks(report: dict[str, Any]) -> list[str]:
    """What the GIL does to the figures, and what became of the targets."""
    said = []
    if not report["gil"]:
        said.append("This Python runs without a GIL: its threads run at once, and only the stores make them wait.")
    else:
        one, four = (report["reads"][str(count)][ALONE] for count in READERS)
        gains = ", ".join(f"{name} {four[name]['reads/s'] / one[name]['reads/s']:.2f}" for name in one)
        interval = f"{report['switch_interval'] * 1e3:g} ms"
        said += [
            f"{_GIL} Four threads read so many times what one does: {gains}.",
            _TAIL.format(interval=interval),
            _DRIVERS,
        ]
    less = [
        f"{name} with {threads} ({rates[name] / report['commits_per_second']['1'][name]:.2f})"
        for threads, rates in report["commits_per_second"].items()
        for name in rates
        if name in HAND and rates[name] < report["commits_per_second"]["1"][name]
    ]
    said.append(f"Sessions that commit less with more threads: {', '.join(less) or 'none'}.")
    waits = [f"{name} ({f['part']:.2f})" for name, f in report["large_commit"].items() if f["part"] > 0.5]
    said.append(
        f"Sides where a read took more than half as long as the large commit beside it: {', '.join(waits) or 'none'}."
    )
    return said


def text(rows: list[list[str]]) -> str:
    """A table for a terminal: figures to the right, words to the left."""
    widths = [max(len(line[at]) for line in rows) for at in range(len(rows[0]))]
    words = [all(not line[at][:1].isdigit() for line in rows[1:]) for at in range(len(widths))]
    lines = []
    for line in rows:
        cells = zip(line, widths, words, strict=True)
        lines.append("  ".join(c.ljust(width) if word else c.rjust(width) for c, width, word in cells).rstrip())
    return "\n".join(lines)


def markdown(report: dict[str, Any]) -> str:
    """The report as tables for the documentation."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [f"Measured on Python {report['python']}, {report['cores']} cores, with {versions}.", ""]
    for titles, *rows in tables(report):
        lines += [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
        lines += [f"| {' | '.join(line)} |" for line in rows]
        lines.append("")
    return "\n".join([*lines, "\n\n".join(remarks(report)), ""])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer records, rounds and seconds")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this engine, beside sqlite3")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the figures here as tables")
    parser.add_argument("--dir", type=Path, help="where the stores go; a temporary directory by default")
    parser.add_argument("--worker", nargs=3, metavar=("NAME", "FOLDER", "START"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        name, folder, start = options.worker
        write_blocks(name, Path(folder), int(start))
        return 0

    engines = options.engine or list(ENGINES)
    names = [name for name, (_, engine) in SIDES.items() if not engine or engine in engines]
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "switch_interval": sys.getswitchinterval(),
        "versions": {
            **{name: version(name) for name in ("kvdialect", "lmdb", "rocksdict")},
            "sqlite3": sqlite3.sqlite_version,
        },
        "unit": "commits, reads and rows per second; seconds of latency: medians of the rounds, max of all rounds",
    }
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="threads-") as folder:
        bench = Bench(names, Path(folder).resolve(), options.quick)
        report |= {"records": bench.size, "rounds": bench.rounds, "seconds": bench.seconds}
        report["commits_per_second"] = bench.commits()
        report["reads"] = bench.reads()
        report["large_commit_rows"] = bench.large
        report["large_commit"] = bench.large_commit()
        bench.close()
    for rows in tables(report):
        print(f"\n{text(rows)}")
    print("\n" + "\n".join(remarks(report)))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
