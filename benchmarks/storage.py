"""The storage layer against hand-written driver code, in one run, as ratios.

Every operation is timed in turn with its hand-written counterpart, round by round, so that both see the same machine;
the ratio is that of the medians. The hand-written code is what a careful user of the driver writes for the same job:
one transaction or batch, bounds tested, nothing cached. Durability is the same on both sides.

    python benchmarks/storage.py            # about two minutes
    python benchmarks/storage.py --quick    # about twenty seconds
    python benchmarks/storage.py --engine lmdb --json out.json

Targets: get 1.5, batch of 1,000 1.3, scan of 100,000 1.3 with checksums off; what checksums cost stands beside them.
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
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kvdialect import ColumnFamilyOptions, open_backend
from kvdialect.storage import StorageBackend, WriteBatch

KEY_BYTES, VALUE_BYTES = 32, 100
Work = Callable[[], object]


def key(number: int) -> bytes:
    """A key spread over the key space, as a hash would be; the same for every run."""
    return ((number * 0x9E3779B97F4A7C15) % (1 << 64)).to_bytes(8, "big") + number.to_bytes(KEY_BYTES - 8, "big")


def pairs(start: int, count: int) -> list[tuple[bytes, bytes]]:
    """Records with random-looking keys, in no order."""
    return [(key(n), n.to_bytes(8, "big") * (VALUE_BYTES // 8) + b"tail") for n in range(start, start + count)]


def measure(work: dict[str, Work], rounds: int, calls: int) -> dict[str, float]:
    """Median seconds per call of each piece of work, the pieces taking turns."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values():
        function()
    for _ in range(rounds):
        for name, function in work.items():
            gc.collect()
            gc.disable()
            began = time.perf_counter()
            for _ in range(calls):
                function()
            times[name].append((time.perf_counter() - began) / calls)
            gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}


class Lmdb:
    """What a user of py-lmdb writes by hand."""

    def __init__(self, path: Path) -> None:
        import lmdb

        self.env = lmdb.open(str(path), map_size=8 << 30, max_dbs=8, readahead=False)
        self.db = self.env.open_db(b"a")

    def fill(self, records: list[tuple[bytes, bytes]]) -> None:
        with self.env.begin(write=True) as txn:
            txn.cursor(self.db).putmulti(sorted(records))

    def get(self, k: bytes) -> bytes | None:
        with self.env.begin() as txn:
            return txn.get(k, db=self.db)  # type: ignore[return-value]

    def opened_get(self) -> Callable[[bytes], Any]:
        txn = self.env.begin()
        return lambda k: txn.get(k, db=self.db)

    def multi_get(self, keys: list[bytes]) -> list[Any]:
        with self.env.begin() as txn:
            return [txn.get(k, db=self.db) for k in keys]

    def batch(self, records: list[tuple[bytes, bytes]]) -> None:
        with self.env.begin(write=True) as txn:
            for k, v in records:
                txn.put(k, v, db=self.db)

    def scan(self) -> int:
        count = 0
        with self.env.begin() as txn:
            for _k, _v in txn.cursor(self.db).iternext():
                count += 1
        return count

    def prefix(self, prefix: bytes) -> list[Any]:
        found = []
        with self.env.begin() as txn:
            cursor = txn.cursor(self.db)
            if cursor.set_range(prefix):
                for k, v in cursor.iternext():
                    if not k.startswith(prefix):
                        break
                    found.append((k, v))
        return found

    def close(self) -> None:
        self.env.close()


class Rocks:
    """What a user of rocksdict writes by hand."""

    def __init__(self, path: Path) -> None:
        import rocksdict

        self.driver = rocksdict
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        family = rocksdict.Options(raw_mode=True)
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(rocksdict.Cache(256 << 20))
        family.set_block_based_table_factory(table)
        family.set_compression_type(rocksdict.DBCompressionType.lz4())
        self.database = rocksdict.Rdict(str(path), options, column_families={"a": family})
        self.a = self.database.get_column_family("a")
        self.handle = self.database.get_column_family_handle("a")
        self.synced = rocksdict.WriteOptions()
        self.synced.sync = True

    def fill(self, records: list[tuple[bytes, bytes]]) -> None:
        self.batch(records)

    def get(self, k: bytes) -> Any:
        return self.a.get(k)

    def opened_get(self) -> Callable[[bytes], Any]:
        snapshot = self.a.snapshot()
        return lambda k: snapshot[k]

    def multi_get(self, keys: list[bytes]) -> list[Any]:
        return self.a.get(keys)  # type: ignore[arg-type, return-value]

    def batch(self, records: list[tuple[bytes, bytes]]) -> None:
        batch = self.driver.WriteBatch(raw_mode=True)
        for k, v in records:
            batch.put(k, v, self.handle)
        self.database.write(batch, self.synced)

    def scan(self) -> int:
        count = 0
        for _k, _v in self.a.items():
            count += 1
        return count

    def prefix(self, prefix: bytes) -> list[Any]:
        found = []
        for k, v in self.a.items(from_key=prefix):
            if not k.startswith(prefix):
                break
            found.append((k, v))
        return found

    def close(self) -> None:
        del self.a, self.handle
        self.database.close()


HAND_WRITTEN: dict[str, type[Lmdb | Rocks]] = {"lmdb": Lmdb, "rocksdb": Rocks}


def batch_of(records: list[tuple[bytes, bytes]]) -> WriteBatch:
    """The batch as a user builds it."""
    batch = WriteBatch()
    for k, v in records:
        batch.put("a", k, v)
    return batch


def compare(engine: str, folder: Path, quick: bool) -> dict[str, dict[str, float]]:
    """Time every operation on one engine."""
    size = 20_000 if quick else 100_000
    records = pairs(0, size)
    raw = HAND_WRITTEN[engine](folder / f"{engine}-raw")
    variants: dict[str, StorageBackend] = {"kvdialect": open_backend(f"{engine}:///{folder}/{engine}", {"a": _OPTIONS})}
    if engine == "lmdb":
        url = f"lmdb:///{folder}/lmdb-off?checksum=off"
        variants = {"kvdialect checksum=off": open_backend(url, {"a": _OPTIONS}), **variants}
    raw.fill(records)
    for backend in variants.values():
        backend.batch_write(batch_of(records))
    if engine == "rocksdb":
        raw.a.flush()  # type: ignore[union-attr]
        variants["kvdialect"].flush()
    rounds = 5 if quick else 15
    sample = [k for k, _ in records[:: size // 1000]][:1000]
    hundred = sample[:100]
    prefixes = [k[:1] for k in sample[:200]]
    fresh = iter(range(10 * size, 10**9, 1000))

    def gets(get: Callable[[bytes], object]) -> Work:
        def work() -> None:
            for k in sample:
                get(k)

        return work

    def scans(backend: StorageBackend) -> Work:
        def work() -> int:
            count = 0
            for _k, _v in backend.scan("a"):
                count += 1
            assert count >= size
            return count

        return work

    def shorts(prefix_scan: Callable[[bytes], Any]) -> Work:
        def work() -> None:
            for p in prefixes[:20]:
                list(prefix_scan(p))

        return work

    def snapshot_get(backend: StorageBackend) -> Callable[[bytes], object]:
        snapshot = backend.snapshot()
        return lambda k: snapshot.get("a", k)

    results: dict[str, dict[str, float]] = {}

    def run(name: str, hand: Work, ours: Callable[[StorageBackend], Work], calls: int, rounds_: int = rounds) -> None:
        work = {"hand-written": hand, **{label: ours(backend) for label, backend in variants.items()}}
        results[name] = measure(work, rounds_, calls)
        show(engine, name, results[name])

    run("get x 1,000", gets(raw.get), lambda b: gets(lambda k: b.get("a", k)), 5)
    run("snapshot get x 1,000", gets(raw.opened_get()), lambda b: gets(snapshot_get(b)), 5)
    run("multi_get of 100", lambda: raw.multi_get(hundred), lambda b: lambda: b.multi_get("a", hundred), 50)
    run(f"scan of {size:,}", raw.scan, scans, 1)
    run(
        f"prefix_scan of {len(list(variants['kvdialect'].prefix_scan('a', prefixes[0])))} x 20",
        shorts(raw.prefix),
        lambda b: shorts(lambda p: b.prefix_scan("a", p)),
        1,
    )
    short = [k[:2] for k in sample[:200]]
    run(
        f"prefix_scan of {len(list(variants['kvdialect'].prefix_scan('a', short[0])))} x 200",
        lambda: [raw.prefix(p) for p in short],
        lambda b: lambda: [list(b.prefix_scan("a", p)) for p in short],
        1,
    )
    run(
        "batch of 1,000, durable",
        lambda: raw.batch(pairs(next(fresh), 1000)),
        lambda b: lambda: b.batch_write(batch_of(pairs(next(fresh), 1000))),
        1,
        rounds * 3,
    )
    run(
        "commit of 1, durable",
        lambda: raw.batch(pairs(next(fresh), 1)),
        lambda b: lambda: b.batch_write(batch_of(pairs(next(fresh), 1))),
        20,
        rounds * 2,
    )
    for backend in variants.values():
        backend.close()
    del backend
    variants.clear()
    raw.close()
    return results


_OPTIONS = ColumnFamilyOptions()


def show(engine: str, name: str, medians: dict[str, float]) -> None:
    """Print one row: the hand-written time and the ratios to it."""
    base = medians["hand-written"]
    ratios = "  ".join(f"{label} {value / base:5.2f}" for label, value in medians.items() if label != "hand-written")
    print(f"{engine:8} {name:26} {base * 1e6:12,.1f} us   {ratios}", flush=True)


def commits_per_second(commit: Callable[[int], object], threads: int, seconds: float) -> float:
    """Durable commits per second of so many threads, each committing one record at a time."""
    counts = [0] * threads
    start = threading.Barrier(threads + 1)
    stop = threading.Event()

    def loop(index: int) -> None:
        start.wait()
        number = index * 10_000_000
        while not stop.is_set():
            commit(number)
            number += 1
            counts[index] += 1

    workers = [threading.Thread(target=loop, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def group_commit(engine: str, folder: Path, quick: bool) -> dict[str, dict[str, float]]:
    """Durable commits per second by number of threads.

    By hand, one sync each; the same through kvdialect with its threads kept from meeting by a lock around every commit,
    so that each has a sync of its own; and with syncs shared, as they are.
    """
    seconds = 0.2 if quick else 0.5
    rounds = 3 if quick else 5
    raw = HAND_WRITTEN[engine](folder / f"{engine}-raw-threads")
    backend = open_backend(f"{engine}:///{folder}/{engine}-threads", {"a": _OPTIONS})
    value = b"v" * VALUE_BYTES
    one_by_one = threading.Lock()

    def apart(number: int) -> None:
        with one_by_one:
            backend.put("a", key(number), value)

    ways: dict[str, Callable[[int], object]] = {
        "hand-written": lambda n: raw.batch([(key(n), value)]),
        "one sync each": apart,
        "shared": lambda n: backend.put("a", key(n), value),
    }
    results: dict[str, dict[str, float]] = {}
    for threads in (1, 2, 4, 8, 16):
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, commit in ways.items():
                rates[way].append(commits_per_second(commit, threads, seconds))
        medians = results[str(threads)] = {way: statistics.median(values) for way, values in rates.items()}
        print(
            f"{engine:8} {threads:2} threads"
            + "".join(f"   {way} {rate:8,.0f}/s" for way, rate in medians.items())
            + f"   shared/each x{medians['shared'] / medians['one sync each']:.2f}",
            flush=True,
        )
    backend.close()
    raw.close()
    return results


def markdown(report: dict[str, Any]) -> str:
    """The report as tables for the documentation."""
    lines = []
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines += [f"Measured on Python {report['python']}, {report['cores']} cores, with {versions}.", ""]
    for engine, operations in report["operations"].items():
        ours = [label for label in next(iter(operations.values())) if label != "hand-written"]
        lines += [f"| {engine} | hand-written, µs | {' | '.join(f'{label}, ratio' for label in ours)} |"]
        lines += ["|---|" + "---:|" * (len(ours) + 1)]
        for name, medians in operations.items():
            base = medians["hand-written"]
            ratios = " | ".join(f"{medians[label] / base:.2f}" for label in ours)
            lines.append(f"| {name} | {base * 1e6:,.1f} | {ratios} |")
        lines.append("")
    for engine, rows in report["commits_per_second"].items():
        ways = list(next(iter(rows.values())))
        lines += [f"| {engine}, threads | {' | '.join(ways)} | shared / each |", "|---|" + "---:|" * (len(ways) + 1)]
        for threads, rates in rows.items():
            gain = rates["shared"] / rates["one sync each"]
            lines.append(f"| {threads} | {' | '.join(f'{rates[way]:,.0f}' for way in ways)} | {gain:.2f} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer records and rounds")
    parser.add_argument("--engine", choices=sorted(HAND_WRITTEN), action="append", help="only this engine")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the figures here as tables")
    parser.add_argument("--dir", type=Path, help="where the stores go; a temporary directory by default")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("kvdialect", "lmdb", "rocksdict", "xxhash")},
        "unit": "median seconds per call; commits per second",
        "operations": {},
        "commits_per_second": {},
    }
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        for engine in options.engine or sorted(HAND_WRITTEN):
            report["operations"][engine] = compare(engine, Path(folder), options.quick)
            report["commits_per_second"][engine] = group_commit(engine, Path(folder), options.quick)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
