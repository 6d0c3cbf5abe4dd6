"""Bulk load of coin records: kvdialect, hand-written driver code, and executemany of sqlite3, as rates and ratios.

The same rows are loaded into new stores, sorted by primary key and unsorted. Each load is a process of its own; round
by round all sides take their turn, and the figures are medians. A load ends when all rows are durable. Reading the rows
from a file, one by one, is part of it, alike on all sides; what that takes alone, in time and memory, is printed too.
Closing the store is timed apart: sqlite3 writes its log back then. Afterwards the store is opened again, the rows are
counted, and one index lookup is done.

- kvdialect: ``engine.bulk_load`` of dicts with its defaults. Duplicates are found, every value is checked, and what was
  committed stays if a later row fails.
- by hand, LMDB: sorted records by putmulti with append, in a transaction for each 100,000; unsorted ones are sorted in
  these portions. Index entries are kept in memory, sorted, and appended.
- by hand, RocksDB: an SST file for each family, written in order and ingested. Unsorted records and all index entries
  are kept in memory and sorted first. And synced batches of 10,000 rows.
- sqlite3: WAL, synchronous=FULL, a table clustered by its key, executemany in one transaction; with its indexes made
  before the load, and after it. COPY of a server is of this kind.

By hand nothing is checked, no row is counted for later, and a failure leaves a part: these are bounds of what the
driver can do. No ratio is set as a target.

    python benchmarks/load.py            # a million rows, 3 rounds: about half an hour
    python benchmarks/load.py --quick    # 50,000 rows: about two minutes
    python benchmarks/load.py --engine lmdb --rows 200000 --json out.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any

from peer.model import CoinRecord, models

from kvdialect import Session, create_engine

ENGINES = ("lmdb", "rocksdb")
ORDERS = ("sorted", "unsorted")
DRIVERS = {"lmdb": "py-lmdb", "rocksdb": "rocksdict"}
PORTION = 100_000
BATCH = 10_000
GROUP = 20  # coins of a puzzle hash


# ------------------------------------------------------------------------------------------------ the rows

NAMES = (
    "coin_id",
    "parent_coin_info",
    "puzzle_hash",
    "amount",
    "confirmed_height",
    "spent_height",
    "coinbase",
    "timestamp",
)
Row = tuple[bytes, bytes, bytes, int, int, int | None, bool, int]
_LINE = Struct(">32s32s32sQQQ?Q")  # a spent height of 0 is that of an unspent coin
_VALUE = Struct(">32s32sQQ?Q?Q").pack
_number = Struct(">Q").pack


def digest(kind: bytes, number: int) -> bytes:
    """Thirty-two random-looking bytes, the same in every run."""
    return blake2b(number.to_bytes(8, "big"), digest_size=32, person=kind).digest()


def write_rows(path: Path, count: int) -> None:
    """Write the files of rows, sorted and unsorted."""
    lines = [
        _LINE.pack(
            digest(b"coin", n),
            digest(b"coin", n // 2),
            digest(b"puzzle", n // GROUP),
            n * 1000 + 1,
            n // 100,
            n // 100 + 7 if n % 3 == 0 else 0,
            n % 50 == 0,
            1_600_000_000 + n // 5,
        )
        for n in range(count)
    ]
    (path / "unsorted").write_bytes(b"".join(lines))
    lines.sort()
    (path / "sorted").write_bytes(b"".join(lines))


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a file one after the other."""
    with path.open("rb") as file:
        while chunk := file.read(_LINE.size * 1000):
            for coin, parent, puzzle, amount, confirmed, spent, coinbase, stamp in _LINE.iter_unpack(chunk):
                yield coin, parent, puzzle, amount, confirmed, spent or None, coinbase, stamp


def encoded(row: Row) -> bytes:
    """The value of a record, by hand."""
    _, parent, puzzle, amount, confirmed, spent, coinbase, stamp = row
    return _VALUE(parent, puzzle, amount, confirmed, spent is not None, spent or 0, coinbase, stamp)


# ------------------------------------------------------------------------------------------------ the sides


class Side:
    """One way to load; each is opened in a new folder, loaded once, closed, and opened again to be checked."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder
        self.engine = engine

    def open(self) -> None:
        """Open the store, with its families, tables and indexes."""
        raise NotImplementedError

    def load(self, rows: Iterator[Row], in_order: bool) -> None:
        """Load all rows; they are durable when it returns."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def found(self, puzzle_hash: bytes) -> tuple[int, list[bytes]]:
        """The number of records, and the sorted ids of those with a puzzle hash; the store is open."""
        raise NotImplementedError


class Kvdialect(Side):
    def open(self) -> None:
        self.store = create_engine(f"{self.engine}:///{self.folder}/store")
        models.create_all(self.store)

    def load(self, rows: Iterator[Row], in_order: bool) -> None:  # noqa: ARG002 - it is not told
        self.store.bulk_load(CoinRecord, (dict(zip(NAMES, row, strict=True)) for row in rows))

    def close(self) -> None:
        self.store.close()

    def found(self, puzzle_hash: bytes) -> tuple[int, list[bytes]]:
        count = sum(1 for _ in self.store.backend.scan("coin_records"))
        assert self.store.stats()["tables"]["coin_records"]["rows"] == count
        with Session(self.store) as session:
            return count, sorted(coin.coin_id for coin in session.lookup("coin_by_puzzle_hash", puzzle_hash))


class Lmdb(Side):
    """A database for the records, and one for each index with the ids as sorted duplicates."""

    def open(self) -> None:
        import lmdb

        self.env = lmdb.open(str(self.folder / "store"), map_size=64 << 30, max_dbs=8, readahead=False)
        self.coins = self.env.open_db(b"coins")
        self.indexes = [
            self.env.open_db(name, dupsort=True, dupfixed=True)
            for name in (b"by_parent", b"by_puzzle_hash", b"unspent_by_puzzle_hash", b"by_height")
        ]

    def load(self, rows: Iterator[Row], in_order: bool) -> None:
        # An entry as one bytes object: half the memory of a pair, and sorted faster.
        by_parent: list[bytes] = []
        by_puzzle: list[bytes] = []
        unspent: list[bytes] = []
        by_height: list[bytes] = []
        while portion := list(islice(rows, PORTION)):
            for coin, parent, puzzle, amount, confirmed, spent, _, _ in portion:
                by_parent.append(parent + coin)
                by_puzzle.append(puzzle + coin)
                if spent is None:
                    unspent.append(puzzle + coin)
                by_height.append(_number(confirmed) + coin + _number(amount))
            records = [(row[0], encoded(row)) for row in portion]
            if not in_order:
                records.sort()
            self._put(self.coins, records, append=in_order)
        for database, entries, width in zip(
            self.indexes, (by_parent, by_puzzle, unspent, by_height), (32, 32, 32, 8), strict=True
        ):
            entries.sort()
            for at in range(0, len(entries), PORTION):
                pairs = [(entry[:width], entry[width:]) for entry in entries[at : at + PORTION]]
                self._put(database, pairs, append=True)
            entries.clear()

    def _put(self, database: Any, pairs: list[tuple[bytes, bytes]], *, append: bool) -> None:
        with self.env.begin(write=True) as txn:
            consumed, added = txn.cursor(database).putmulti(pairs, append=append)
            assert consumed == added == len(pairs)

    def close(self) -> None:
        self.env.close()

    def found(self, puzzle_hash: bytes) -> tuple[int, list[bytes]]:
        with self.env.begin() as txn:
            cursor = txn.cursor(self.indexes[1])
            ids = list(cursor.iternext_dup()) if cursor.set_key(puzzle_hash) else []
            return txn.stat(self.coins)["entries"], ids


class Rocks(Side):
    """A family for the records and one for each index, each one SST file."""

    families = ("coins", "by_parent", "by_puzzle_hash", "unspent_by_puzzle_hash", "by_height")

    def open(self) -> None:
        import rocksdict

        self.driver = rocksdict
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        self.options = {name: self._family(bloom=name == "coins") for name in self.families}
        self.database = rocksdict.Rdict(str(self.folder / "store"), options, column_families=self.options)

    def _family(self, *, bloom: bool) -> Any:
        options = self.driver.Options(raw_mode=True)
        table = self.driver.BlockBasedOptions()
        if bloom:
            table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        options.set_compression_type(self.driver.DBCompressionType.lz4())
        return options

    def load(self, rows: Iterator[Row], in_order: bool) -> None:
        entries: dict[str, list[bytes]] = {name: [] for name in self.families[1:]}
        by_parent, by_puzzle, unspent, by_height = entries.values()

        def records() -> Iterator[tuple[bytes, bytes]]:
            for row in rows:
                coin, parent, puzzle, _, confirmed, spent, _, _ = row
                by_parent.append(parent + coin)
                by_puzzle.append(puzzle + coin)
                if spent is None:
                    unspent.append(puzzle + coin)
                by_height.append(_number(confirmed) + coin + _number(row[3]))
                yield coin, encoded(row)

        self._ingest("coins", records() if in_order else iter(sorted(records())))
        for name, keys in entries.items():
            keys.sort()
            # The covered amount is the value.
            self._ingest(name, ((k[:40], k[40:]) for k in keys) if name == "by_height" else ((k, b"") for k in keys))
            keys.clear()

    def _ingest(self, name: str, pairs: Iterator[tuple[bytes, bytes]]) -> None:
        path = str(self.folder / f"{name}.sst")
        writer = self.driver.SstFileWriter(self.options[name])
        writer.open(path)
        for key, value in pairs:
            writer[key] = value
        writer.finish()
        ingest = self.driver.IngestExternalFileOptions()
        ingest.set_move_files(True)
        self.database.get_column_family(name).ingest_external_file([path], ingest)

    def close(self) -> None:
        self.database.close()

    def found(self, puzzle_hash: bytes) -> tuple[int, list[bytes]]:
        count = sum(1 for _ in self.database.get_column_family("coins").items())
        ids = []
        for key in self.database.get_column_family("by_puzzle_hash").keys(from_key=puzzle_hash):
            if not key.startswith(puzzle_hash):
                break
            ids.append(key[32:])
        return count, ids


class RocksBatches(Rocks):
    """The same families, filled by batches that are synced."""

    def load(self, rows: Iterator[Row], in_order: bool) -> None:  # noqa: ARG002 - a memtable sorts
        options = self.driver.WriteOptions()
        options.sync = True
        handles = [self.database.get_column_family_handle(name) for name in self.families]
        while portion := list(islice(rows, BATCH)):
            families: list[list[tuple[bytes, bytes]]] = [[] for _ in self.families]
            coins, by_parent, by_puzzle, unspent, by_height = families
            for row in portion:
                coin, parent, puzzle, amount, confirmed, spent, _, _ = row
                coins.append((coin, encoded(row)))
                by_parent.append((parent + coin, b""))
                by_puzzle.append((puzzle + coin, b""))
                if spent is None:
                    unspent.append((puzzle + coin, b""))
                by_height.append((_number(confirmed) + coin, _number(amount)))
            batch = self.driver.WriteBatch(raw_mode=True)
            for handle, pairs in zip(handles, families, strict=True):
                batch.set_default_column_family(handle)
                for key, value in pairs:
                    batch[key] = value
            self.database.write(batch, options)


class Sqlite(Side):
    """The standard library's sqlite3 with the indexes made before the load."""

    indexes_first = True
    schema = """CREATE TABLE IF NOT EXISTS coin_records (
        coin_id BLOB NOT NULL PRIMARY KEY, parent_coin_info BLOB NOT NULL, puzzle_hash BLOB NOT NULL,
        amount INTEGER NOT NULL, confirmed_height INTEGER NOT NULL, spent_height INTEGER,
        coinbase INTEGER NOT NULL, timestamp INTEGER NOT NULL) WITHOUT ROWID"""
    indexes = (
        "CREATE INDEX IF NOT EXISTS coin_by_parent ON coin_records (parent_coin_info)",
        "CREATE INDEX IF NOT EXISTS coin_by_puzzle_hash ON coin_records (puzzle_hash)",
        "CREATE INDEX IF NOT EXISTS unspent_by_puzzle_hash ON coin_records (puzzle_hash) WHERE spent_height IS NULL",
        "CREATE INDEX IF NOT EXISTS coin_by_confirmed_height ON coin_records (confirmed_height, amount)",
    )

    def open(self) -> None:
        (self.folder / "store").mkdir(exist_ok=True)
        self.connection = sqlite3.connect(self.folder / "store" / "coins.db", isolation_level=None)
        # The cache is as large as the block cache of kvdialect on RocksDB.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"cache_size={-(256 << 10)}"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute(self.schema)
        if self.indexes_first:
            self._index()

    def _index(self) -> None:
        for statement in self.indexes:
            self.connection.execute(statement)

    def load(self, rows: Iterator[Row], in_order: bool) -> None:  # noqa: ARG002 - executemany is the same
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("INSERT INTO coin_records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            if not self.indexes_first:
                self._index()

    def close(self) -> None:
        self.connection.close()

    def found(self, puzzle_hash: bytes) -> tuple[int, list[bytes]]:
        (count,) = self.connection.execute("SELECT count(*) FROM coin_records").fetchone()
        found = self.connection.execute("SELECT coin_id FROM coin_records WHERE puzzle_hash = ?", (puzzle_hash,))
        return count, sorted(row[0] for row in found)


class SqliteAfter(Sqlite):
    """The same with the indexes made after the rows, in the same transaction."""

    indexes_first = False


class ReadOnly(Side):
    """Nothing but reading the rows: the part of a load that is not the store's."""

    def open(self) -> None:
        (self.folder / "store").mkdir()

    def load(self, rows: Iterator[Row], in_order: bool) -> None:  # noqa: ARG002 - it does not matter
        for _ in rows:
            pass

    def close(self) -> None:
        pass


SIDES: dict[str, tuple[type[Side], str]] = {
    "reading the rows": (ReadOnly, ""),
    **{f"kvdialect {engine}": (Kvdialect, engine) for engine in ENGINES},
    "py-lmdb": (Lmdb, "lmdb"),
    "rocksdict": (Rocks, "rocksdb"),
    "rocksdict, batches": (RocksBatches, "rocksdb"),
    "sqlite3, indexes before": (Sqlite, ""),
    "sqlite3, indexes after": (SqliteAfter, ""),
}
PEERS = ("sqlite3, indexes before", "sqlite3, indexes after")


# ------------------------------------------------------------------------------------------------ one process


def peak_memory() -> int:
    """Bytes of the largest resident set so far; getrusage would give that of the parent if it was larger."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


def disk_usage(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def run(name: str, task: dict[str, Any]) -> dict[str, float]:
    """Load once with one side, and check what is there."""
    cls, engine = SIDES[name]
    folder = Path(task["folder"])
    side = cls(folder, engine)
    side.open()
    before = peak_memory()
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    side.load(read_rows(Path(task["rows"])), task["sorted"])
    loaded = time.perf_counter()
    gc.enable()
    peak = peak_memory()
    closing = time.perf_counter()
    side.close()
    closed = time.perf_counter()
    figures = {
        "seconds": loaded - began,
        "closing": closed - closing,
        "peak": peak,
        "before": before,
        "disk": disk_usage(folder / "store"),
    }
    if cls is not ReadOnly:
        group = task["count"] // GROUP // 2
        expected = sorted(digest(b"coin", n) for n in range(group * GROUP, (group + 1) * GROUP))
        again = cls(folder, engine)
        again.open()
        count, ids = again.found(digest(b"puzzle", group))
        assert count == task["count"], f"{name} has {count:,} rows"
        assert ids == expected, f"{name} finds {len(ids)} rows of a puzzle hash"
        again.close()
    return figures


# ------------------------------------------------------------------------------------------------ all of them


def work(name: str, task: dict[str, Any]) -> dict[str, float]:
    """Load in a process of its own."""
    command = [sys.executable, __file__, "--worker", name, json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed; see above")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(names: list[str], folder: Path, count: int, rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Load by every side in both orders, round by round; medians, by order and side."""
    write_rows(folder, count)
    collected: dict[str, dict[str, list[dict[str, float]]]] = {order: {name: [] for name in names} for order in ORDERS}
    for number in range(rounds):
        for order in ORDERS:
            for name in names[::-1] if number % 2 else names:
                place = folder / "load"
                place.mkdir()
                task = {"folder": str(place), "rows": str(folder / order), "sorted": order == "sorted", "count": count}
                figures = work(name, task)
                shutil.rmtree(place)
                collected[order][name].append(figures)
                progress = f"round {number + 1}/{rounds}  {order:8}  {name:24} {figures['seconds']:7.2f} s"
                print(progress, file=sys.stderr, flush=True)
    return {
        order: {
            name: {
                **{key: statistics.median(figures[key] for figures in taken) for key in taken[0]},
                "all_seconds": [figures["seconds"] for figures in taken],
            }
            for name, taken in sides.items()
        }
        for order, sides in collected.items()
    }


def bases(name: str, names: list[str]) -> dict[str, str]:
    """What a side is compared with, by title of the column."""
    engine = SIDES[name][1]
    hand = DRIVERS.get(engine)
    compared = {"to by hand": hand} if hand in names and name != hand else {}
    if engine:
        compared |= dict(zip(("to sqlite before", "to sqlite after"), PEERS, strict=True))
    return compared


COLUMNS: dict[str, Callable[[dict[str, Any], int], str]] = {
    "rows/s": lambda f, count: f"{count / f['seconds']:,.0f}",
    "seconds": lambda f, _: f"{f['seconds']:,.2f}",
    "closing": lambda f, _: f"{f['closing']:,.2f}",
    "peak MiB": lambda f, _: f"{f['peak'] / 2**20:,.0f}",
    "disk MiB": lambda f, _: f"{f['disk'] / 2**20:,.0f}",
}
RATIOS = ("to by hand", "to sqlite before", "to sqlite after")


def table(report: dict[str, Any], order: str) -> list[list[str]]:
    """The rows of a table, the titles first; a ratio is of seconds, above 1 is slower."""
    sides = report["loads"][order]
    rows = [[f"{report['rows']:,} rows, {order}", *COLUMNS, *RATIOS]]
    for name, figures in sides.items():
        compared = bases(name, list(sides))
        ratios = [
            f"{figures['seconds'] / sides[compared[title]]['seconds']:.2f}" if title in compared else ""
            for title in RATIOS
        ]
        rows.append([name, *(cell(figures, report["rows"]) for cell in COLUMNS.values()), *ratios])
    return rows


def text(rows: list[list[str]]) -> str:
    """A table for a terminal."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(report: dict[str, Any]) -> str:
    """The report as tables for the documentation."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [f"Measured on Python {report['python']}, {report['cores']} cores, with {versions}.", ""]
    for order in ORDERS:
        titles, *rows = table(report, order)
        lines += [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 rows")
    parser.add_argument("--rows", type=int, help="rows to load; 1,000,000 by default, at least 100")
    parser.add_argument("--rounds", type=int, default=3, help="loads of each side; 3 by default")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this engine")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the figures here as tables")
    parser.add_argument("--dir", type=Path, help="where the stores go; a temporary directory by default")
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        name, task = options.worker
        print(json.dumps(run(name, json.loads(task))))
        return 0

    count = max(options.rows or (50_000 if options.quick else 1_000_000), 5 * GROUP)
    engines = options.engine or list(ENGINES)
    names = [name for name, (_, engine) in SIDES.items() if not engine or engine in engines]
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="load-") as folder:
        loads = measure(names, Path(folder).resolve(), count, options.rounds)
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {
            **{name: version(name) for name in ("kvdialect", "lmdb", "rocksdict")},
            "sqlite3": sqlite3.sqlite_version,
        },
        "rows": count,
        "rounds": options.rounds,
        "unit": "medians; seconds until all rows are durable, then to close; bytes of peak resident memory and of disk",
        "loads": loads,
    }
    for order in ORDERS:
        print(f"\n{text(table(report, order))}")
    print("\nA ratio is of seconds: 2.00 takes twice as long. The times have reading the rows in them, on every side.")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
