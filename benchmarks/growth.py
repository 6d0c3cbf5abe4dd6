"""What operations cost as a store grows, on each engine: a curve from 10,000 records to three million and more.

One store for each engine is grown step by step, not filled anew. At each size are measured:

- the fill, by ``engine.bulk_load`` of unsorted rows in portions, each a list made before its timing; on LMDB with
  durability=none, so that the disk's syncs do not hide the rest. Then the store is settled: flushed, and on RocksDB
  each family compacted, which is timed too. Both are of the rows that this step added.
- in a process of its own: gets by id, each 100 in a new session; index lookups of 20 records; ranges of 1,000 records
  by height; durable commits of one insert, and the processor's time for such, which leaves the disk out. The ids are
  random, others in each round, the same in each run.
- in another one, gets by id once more after the table was read whole, and on RocksDB with a block cache that holds it:
  by default its cache takes 256 MiB, and what is not in it is read from the system's cache and decompressed.
- opening, in fresh processes: until the engine is there, and until the first record was read; and the peak of the
  resident memory of such a process after it has opened the store and read. On LMDB pages of the file that were touched
  count as resident; anonymous memory is what the process has of its own.
- bytes on the disk for each record.

The machine drifts between sizes, as a fill takes minutes. So each size is timed in turn, round by round, with a second
store that stays at 100,000 records, and a ratio is of the two medians of the same rounds. The ratio at 100,000 itself
shows the noise. Ratios of fill, memory and disk are to the row of 100,000.

Targets: get at most 1.5 times that at 100,000, while the store fits memory, which is the cached one; nothing grows
faster than log n. Beside the ratios stands that of the logarithms; what is above 1.5 times it is marked with an
exclamation mark, but for the peak of the memory: the sampled reads touch more pages of a larger file. RocksDB's cache
is anonymous memory, and bounded.

    python benchmarks/growth.py            # to 3,000,000: about half an hour, and some 5 GB of disk
    python benchmarks/growth.py --quick    # to 100,000: about two minutes
    python benchmarks/growth.py --largest 10000000 --engine rocksdb --json out.json
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peer.model import CoinRecord, models

from kvdialect import Engine, Session, create_engine

Work = Callable[[], object]
ENGINES = ("lmdb", "rocksdb")
BASE = 100_000  # the size to which the others are compared
GET_TARGET = 1.5
SLACK = 1.5  # times the growth of log n
PORTION = 50_000
GROUP = 20  # coins of a puzzle hash
PER_HEIGHT = 100
OPENINGS = 5
CPU = "commit's CPU"
CACHED = "get, cached"
CACHE = "8GiB"  # a bound: it takes as much as is read


FAMILIES = (
    "coin_records",
    "ix_coin_records_parent_coin_info",
    "coin_by_puzzle_hash",
    "unspent_by_puzzle_hash",
    "coin_by_confirmed_height",
)


def digest(kind: bytes, number: int) -> bytes:
    """Thirty-two random-looking bytes, the same in every run."""
    return blake2b(number.to_bytes(8, "big"), digest_size=32, person=kind).digest()


def coin_id(number: int) -> bytes:
    """The id of the coin of a number."""
    return digest(b"coin", number)


def coin_row(number: int) -> dict[str, Any]:
    """The coin of a number; its place in every index is known from it."""
    height = number // PER_HEIGHT
    return {
        "coin_id": coin_id(number),
        "parent_coin_info": coin_id(number // 2),
        "puzzle_hash": digest(b"puzzle", number // GROUP),
        "amount": number * 1000 + 1,
        "confirmed_height": height,
        "spent_height": height + 7 if number % 3 == 0 else None,
        "coinbase": number % 50 == 0,
        "timestamp": 1_600_000_000 + number // 5,
    }


def sizes_to(largest: int) -> list[int]:
    """10,000, 30,000, 100,000 and so on, the largest included."""
    sizes = []
    size = 10_000
    while size < largest:
        sizes += [size, 3 * size]
        size *= 10
    return [size for size in sizes if size < largest] + [largest]


# ------------------------------------------------------------------------------------------------ in a process


def memory(name: str) -> int:
    """Bytes of a line of /proc/self/status; getrusage would give the peak of the parent if that was larger."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


def fill(task: dict[str, Any]) -> dict[str, float]:
    """Add the rows from one size to the next and settle the store; seconds of both."""
    options = {"durability": "none"} if task["engine"] == "lmdb" else {}
    store = create_engine(task["url"], **options)
    models.create_all(store)
    start, stop = task["start"], task["stop"]
    filling = 0.0
    for low in range(start, stop, PORTION):
        rows = [coin_row(number) for number in range(low, min(low + PORTION, stop))]
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        store.bulk_load(CoinRecord, rows)
        filling += time.perf_counter() - began
        gc.enable()
    began = time.perf_counter()
    store.backend.flush()
    for family in FAMILIES:
        store.backend.compact(family)
    settling = time.perf_counter() - began
    assert store.stats()["tables"]["coin_records"]["rows"] == stop
    store.close()
    return {"fill": filling, "settle": settling}


class Operations:
    """The operations on one store of a known size; each has a method that prepares a round and returns its work."""

    def __init__(self, store: Engine, size: int, rng: random.Random, quick: bool) -> None:
        self.store = store
        self.size = size
        self.rng = rng
        self.sessions, self.lookups, self.ranges, self.commits = (5, 20, 3, 20) if quick else (20, 50, 5, 50)
        self.calls = {
            "get by id": self.sessions * 100,
            "lookup of 20": self.lookups,
            "range of 1,000": self.ranges,
            "commit of 1": self.commits,
            CPU: self.commits,
        }
        self.added: list[bytes] = []

    def get(self) -> Work:
        samples = [[coin_id(self.rng.randrange(self.size)) for _ in range(100)] for _ in range(self.sessions)]

        def work() -> None:
            for sample in samples:
                with Session(self.store) as session:
                    for key in sample:
                        assert session.get(CoinRecord, key).coin_id == key  # type: ignore[union-attr]

        return work

    def lookup(self) -> Work:
        sample = [digest(b"puzzle", self.rng.randrange(self.size // GROUP)) for _ in range(self.lookups)]

        def work() -> None:
            with Session(self.store) as session:
                for puzzle_hash in sample:
                    assert len(session.lookup("coin_by_puzzle_hash", puzzle_hash)) == GROUP

        return work

    def range(self) -> Work:
        heights = 1000 // PER_HEIGHT
        starts = [self.rng.randrange(self.size // PER_HEIGHT - heights + 1) for _ in range(self.ranges)]

        def work() -> None:
            with Session(self.store) as session:
                for low in starts:
                    found = session.scan("coin_by_confirmed_height", start=low, stop=low + heights)
                    assert len(list(found)) == 1000

        return work

    def commit(self) -> Work:
        """Inserts beyond the ids, puzzle hashes and heights that are looked for."""
        first = 10**12 + len(self.added) * GROUP
        coins = [CoinRecord(**coin_row(first + at * GROUP)) for at in range(self.commits)]
        self.added += [coin.coin_id for coin in coins]

        def work() -> None:
            for coin in coins:
                with Session(self.store) as session, session.begin():
                    session.add(coin)

        return work

    def rounds(self) -> dict[str, Callable[[], Work]]:
        """The operations by name."""
        return dict(zip(self.calls, (self.get, self.lookup, self.range, self.commit, self.commit), strict=True))

    def undo(self) -> None:
        """Delete what the commits inserted."""
        with Session(self.store) as session, session.begin():
            for coin in session.get_many(CoinRecord, self.added):
                session.delete(coin)


def operate(task: dict[str, Any]) -> dict[str, Any]:
    """Time the operations on the grown store and on that of the base, in turn; seconds of one operation."""
    cached = task["cached"]
    options = {"block_cache_size": CACHE} if cached and task["engine"] == "rocksdb" else {}
    stores = {"grown": create_engine(task["url"], **options), "base": create_engine(task["base_url"], **options)}
    sides: dict[str, Operations] = {}
    for name, store in stores.items():
        models.create_all(store)
        size = task["size"] if name == "grown" else task["base"]
        sides[name] = Operations(store, size, random.Random(f"{name} {size}"), task["quick"])  # noqa: S311
        if cached:
            assert sum(1 for _ in store.backend.scan("coin_records")) == size
    times: dict[str, dict[str, list[float]]] = {
        operation: {} for operation in (["get by id"] if cached else sides["base"].calls)
    }
    for number in range(task["rounds"] + 1):  # the first round is not counted
        for operation, taken in times.items():
            # Who is first in one round is second in the next.
            for name in sorted(sides, reverse=bool(number % 2)):
                side = sides[name]
                work = side.rounds()[operation]()
                gc.collect()
                gc.disable()
                clock = time.process_time if operation == CPU else time.perf_counter
                began = clock()
                work()
                seconds = clock() - began
                gc.enable()
                if number:
                    taken.setdefault(name, []).append(seconds / side.calls[operation])
    for side in sides.values():
        if side.added:
            side.undo()
        side.store.close()
    return {
        operation: {name: statistics.median(taken) for name, taken in both.items()} for operation, both in times.items()
    }


def opened(task: dict[str, Any]) -> dict[str, float]:
    """Open the store in this fresh process, read one record, then some; seconds and bytes."""
    before = memory("VmRSS")
    rng = random.Random(task["seed"])  # noqa: S311 - a sample, no secret
    key = coin_id(rng.randrange(task["size"]))
    began = time.perf_counter()
    store = create_engine(task["url"])
    ready = time.perf_counter()
    with Session(store) as session:
        assert session.get(CoinRecord, key) is not None
    read = time.perf_counter()
    operations = Operations(store, task["size"], rng, task["quick"])
    for work in (operations.get(), operations.lookup(), operations.range()):
        work()
    figures = {
        "open": ready - began,
        "first get": read - began,
        "peak": memory("VmHWM"),
        "anonymous": memory("RssAnon"),
        "before": before,
    }
    store.close()
    return figures


TASKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"fill": fill, "operate": operate, "opened": opened}


# ------------------------------------------------------------------------------------------------ all of them


def work(name: str, **task: Any) -> dict[str, Any]:
    """Do a task in a process of its own."""
    command = [sys.executable, __file__, "--worker", name, json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} of {task['url']} failed; see above")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def disk_usage(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def measure(engines: list[str], folder: Path, sizes: list[int], rounds: int, quick: bool) -> dict[str, Any]:
    """Grow the store of each engine through the sizes; figures by engine and size."""
    base = min(BASE, sizes[-1])
    results: dict[str, Any] = {engine: {} for engine in engines}
    for engine in engines:
        work("fill", engine=engine, url=f"{engine}:///{folder}/{engine}-base", start=0, stop=base)
    start = 0
    for size in sizes:
        for engine in engines:
            began = time.perf_counter()
            path = folder / engine
            url, base_url = f"{engine}:///{path}", f"{engine}:///{path}-base"
            filled = work("fill", engine=engine, url=url, start=start, stop=size)
            disk = disk_usage(path)
            openings = [
                work("opened", url=url, size=size, seed=f"{engine} {size} {number}", quick=quick)
                for number in range(OPENINGS)
            ]
            both = {"engine": engine, "url": url, "base_url": base_url, "size": size, "base": base}
            operations = work("operate", **both, rounds=rounds, quick=quick, cached=False)
            cached = work("operate", **both, rounds=rounds, quick=quick, cached=True)
            operations = {"get by id": operations["get by id"], CACHED: cached["get by id"], **operations}
            results[engine][str(size)] = {
                "fill": filled["fill"] / (size - start),
                "settle": filled["settle"] / (size - start),
                "operations": operations,
                **{key: statistics.median(opening[key] for opening in openings) for key in openings[0]},
                "disk": disk / size,
            }
            progress = f"{engine:8} {size:10,} records  {time.perf_counter() - began:6.1f} s"
            print(progress, file=sys.stderr, flush=True)
        start = size
    return results


PLAIN: dict[str, tuple[str, float, str]] = {
    "fill, µs a row": ("fill", 1e6, ",.1f"),
    "settle, µs a row": ("settle", 1e6, ",.1f"),
    "open, ms": ("open", 1e3, ",.1f"),
    "first get, ms": ("first get", 1e3, ",.1f"),
    "peak MiB": ("peak", 2**-20, ",.0f"),
    "anonymous MiB": ("anonymous", 2**-20, ",.0f"),
    "disk, bytes a record": ("disk", 1, ",.0f"),
}
BESIDE_BASE = ("fill", "open", "first get", "peak", "anonymous", "disk")
NOT_JUDGED = ("peak",)  # the sampled reads touch more pages of a larger file, up to all of it


def ratios(rows: dict[str, Any], size: str, base_size: int) -> dict[str, float | None]:
    """How much more a size costs than the base, by what is measured; None where there is no base."""
    row, base = rows[size], rows.get(str(base_size))
    found: dict[str, float | None] = {
        operation: medians["grown"] / medians["base"] for operation, medians in row["operations"].items()
    }
    return found | {key: row[key] / base[key] if base else None for key in BESIDE_BASE}


def log_growth(size: int, base: int) -> float:
    """How much log n grows from the base to a size."""
    return math.log(size) / math.log(base)


def tables(report: dict[str, Any]) -> list[list[list[str]]]:
    """For each engine a table of costs and one of ratios, the titles first."""
    made = []
    base = report["base"]
    for engine, rows in report["sizes"].items():
        operations = list(next(iter(rows.values()))["operations"])
        costs = [[engine, *(f"{operation}, µs" for operation in operations), *PLAIN]]
        grown = [[f"{engine}, to {base:,}", "log n", *operations, *BESIDE_BASE]]
        for size, row in rows.items():
            line = [f"{int(size):,}"]
            line += [f"{row['operations'][operation]['grown'] * 1e6:,.1f}" for operation in operations]
            line += [format(row[key] * unit, form) for key, unit, form in PLAIN.values()]
            costs.append(line)
            bound = log_growth(int(size), base)
            found = ratios(rows, size, base)
            judged = int(size) > base
            cells = [_ratio(found[name], bound, judged and name not in NOT_JUDGED) for name in grown[0][2:]]
            grown.append([line[0], f"{bound:.2f}", *cells])
        made += [costs, grown]
    return made


def _ratio(value: float | None, bound: float, judged: bool) -> str:
    if value is None:
        return ""
    return f"{value:.2f}{'!' if judged and value > SLACK * bound else ''}"


def verdicts(report: dict[str, Any]) -> list[str]:
    """Sentences on the targets."""
    said = []
    base = report["base"]
    for engine, rows in report["sizes"].items():
        size = next(reversed(rows))
        found = ratios(rows, size, base)
        said.append(
            f"{engine}: a get at {int(size):,} takes {found[CACHED]:.2f} times that at {base:,} with all of the table"
            f" in memory (target: at most {GET_TARGET}), and {found['get by id']:.2f} times otherwise."
        )
        if int(size) <= base:
            continue
        bound = SLACK * log_growth(int(size), base)
        judged = {name: value for name, value in found.items() if value and name not in NOT_JUDGED}
        above = [f"{name} {value:.2f}" for name, value in judged.items() if value > bound]
        said.append(
            f"{engine}: grew by more than {bound:.2f}, which is {SLACK} times the growth of log n: "
            f"{', '.join(above) or 'nothing'}."
        )
    return said


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
    machine = f"{report['cores']} cores and {report['memory'] / 2**30:.0f} GiB of memory"
    lines = [f"Measured on Python {report['python']}, {machine}, with {versions}.", ""]
    for table in tables(report):
        titles, *rows = zip(*table, strict=True)  # a column for each size: there are fewer
        lines += [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *verdicts(report), ""])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="to 100,000 records, with fewer rounds")
    parser.add_argument("--largest", type=int, help="records at the end; 3,000,000 by default")
    parser.add_argument("--rounds", type=int, help="rounds of the operations; 15 by default, 5 if quick")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this engine")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the figures here as tables")
    parser.add_argument("--dir", type=Path, help="where the stores go; a temporary directory by default")
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        name, task = options.worker
        print(json.dumps(TASKS[name](json.loads(task))))
        return 0

    largest = max(options.largest or (BASE if options.quick else 3_000_000), 1000)
    rounds = options.rounds or (5 if options.quick else 15)
    sizes = sizes_to(largest)
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "versions": {name: version(name) for name in ("kvdialect", "lmdb", "rocksdict")},
        "base": min(BASE, largest),
        "rounds": rounds,
        "unit": "median seconds of one operation or row; bytes of memory; bytes of disk for each record",
        "targets": {CACHED: GET_TARGET},
    }
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="growth-") as folder:
        place = Path(folder).resolve()
        report["sizes"] = measure(options.engine or list(ENGINES), place, sizes, rounds, options.quick)
    print()
    for rows in tables(report):
        print(f"{text(rows)}\n")
    print("\n".join(verdicts(report)))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
