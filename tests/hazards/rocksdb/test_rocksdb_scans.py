"""Hazards 13, 28 and 29: scans against prefix extractors, later writes and the driver's bounds."""

from __future__ import annotations

import bisect
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvdialect import ColumnFamilyOptions, open_backend
from kvdialect.storage import Snapshot, StorageBackend, WriteBatch
from kvdialect.storage.ranges import successor

pytestmark = pytest.mark.engine("rocksdb")

Open = Callable[..., StorageBackend]
Model = dict[str, dict[bytes, bytes]]
FAMILIES = {
    "plain": ColumnFamilyOptions(),
    "full": ColumnFamilyOptions(bloom="full"),
    "prefix": ColumnFamilyOptions(bloom="prefix", prefix_length=4),
}


def expected(pairs: dict[bytes, bytes], start: bytes, stop: bytes | None, reverse: bool) -> list[tuple[bytes, bytes]]:
    keys = sorted(pairs)
    low = bisect.bisect_left(keys, start)
    high = len(keys) if stop is None else max(low, bisect.bisect_left(keys, stop))
    found = [(key, pairs[key]) for key in keys[low:high]]
    return found[::-1] if reverse else found


# ---------------------------------------------------------------------------------- hazard 13: prefix extractors


PRESENT = [b"%04d" % number for number in range(0, 60, 3)]


@pytest.fixture(scope="module", params=["memtable", "flushed", "compacted", "half flushed"])
def prefixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageBackend]:
    """A store with rows at every third prefix, and nothing at the prefixes between."""
    with open_backend(f"rocksdb:///{tmp_path_factory.mktemp('prefixed') / 'store'}", FAMILIES) as backend:
        for part in (PRESENT[::2], PRESENT[1::2]):
            batch = WriteBatch()
            for family, prefix, number in itertools.product(FAMILIES, part, range(3)):
                batch.put(family, prefix + b"-%d" % number, b"v")
            backend.batch_write(batch)
            if request.param in ("flushed", "compacted") or (request.param == "half flushed" and part == PRESENT[::2]):
                backend.flush()
        if request.param == "compacted":
            for family in FAMILIES:
                backend.compact(family)
        yield backend


@pytest.fixture(scope="module")
def rows() -> dict[bytes, bytes]:
    return {prefix + b"-%d" % number: b"v" for prefix in PRESENT for number in range(3)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_range_from_an_absent_prefix_goes_on_to_what_follows(
    prefixed: StorageBackend, rows: dict[bytes, bytes], family: str, reverse: bool
) -> None:
    """A range that starts or stops at a prefix without rows lost rows (the prefix bloom hid them)."""
    edges = [b"%04d" % number for number in range(62)] + [b"", b"0", b"00", b"0030-1", b"0031-1", b"9999"]
    for start in edges:
        for stop in (None, *random.Random(start).sample(edges, 8)):
            found = list(prefixed.scan(family, start, stop, reverse=reverse))

            assert found == expected(rows, start, stop, reverse), (start, stop)


@pytest.mark.parametrize("family", FAMILIES)
def test_prefixes_of_every_length_give_exactly_their_rows(
    prefixed: StorageBackend, rows: dict[bytes, bytes], family: str
) -> None:
    """A prefix shorter or longer than the extractor's, or absent, gave too few or too many rows."""
    for key in [*rows, b"0001-0", b"0058-2", b"9999-9"]:
        for length in range(len(key) + 1):
            found = list(prefixed.prefix_scan(family, key[:length]))

            assert [pair[0] for pair in found] == [row for row in sorted(rows) if row.startswith(key[:length])]


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_one_prefix_backwards_gives_its_rows(prefixed: StorageBackend, family: str) -> None:
    """A reverse scan of exactly one full prefix found nothing: it seeks to the bound, which has another prefix."""
    for number in range(60):
        prefix = b"%04d" % number
        found = [key for key, _ in prefixed.scan(family, prefix, successor(prefix), reverse=True)]

        assert found == ([prefix + b"-%d" % n for n in (2, 1, 0)] if number % 3 == 0 else [])


@pytest.mark.parametrize("prefix", [b"\xff" * 4, b"\xff" * 3, b"\xff", b"a\xff\xff\xff", b"\x00" * 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_prefixes_at_the_ends_of_the_byte_order_work(store: Open, family: str, prefix: bytes) -> None:
    """A prefix of 0xff or 0x00 bytes, whose successor is short or missing, lost rows."""
    backend = store(FAMILIES)
    keys = sorted({prefix[:n] + tail for n in range(1, 5) for tail in (b"\x00", b"\xfe", b"\xff\xff")} | {b"m"})
    for key in keys:
        backend.put(family, key, b"v")

    assert [key for key, _ in backend.prefix_scan(family, prefix)] == [key for key in keys if key.startswith(prefix)]
    assert [key for key, _ in backend.scan(family, reverse=True)] == keys[::-1]


# -------------------------------------------------------------------- hazard 29: the driver's bounds of iterators


@pytest.mark.parametrize("pinned", [False, True], ids=["live", "pinned"])
def test_bounds_of_a_reverse_scan_are_both_honoured(store: Open, pinned: bool) -> None:
    """A reverse scan with both bounds gave rows outside them: rocksdict's lower bound sets the upper one."""
    backend = store()
    for number in range(2000):
        backend.batch_write(WriteBatch().put("a", b"%04d" % number, b"v"))
    with backend.snapshot() as snapshot:
        if pinned:
            backend.put("a", b"1500x", b"later")
        for low, high in ((0, 2000), (500, 1500), (1499, 1501), (1500, 1500), (1999, 2000), (0, 1), (3, 1200)):
            found = [key for key, _ in snapshot.scan("a", b"%04d" % low, b"%04d" % high, reverse=True)]

            assert found == [b"%04d" % number for number in reversed(range(low, high))]


def test_bounds_outlive_the_call_that_gave_them(store: Open) -> None:
    """Scans whose bounds were collected meanwhile went astray: the driver gives RocksDB pointers into them."""
    backend = store()
    batch = WriteBatch()
    for number in range(5000):
        batch.put("a", b"%04d" % number, b"v")
    backend.batch_write(batch)
    scans = [backend.scan("a", b"%04d" % (n * 50), b"%04d" % (n * 50 + 1000)) for n in range(50)]
    waste = [b"%04d" % number for number in range(100_000)]
    del waste

    for n, scan in enumerate(scans):
        assert sum(1 for _ in scan) == min(1000, 5000 - n * 50)


# ------------------------------------------------------------------------ hazard 28: scans of a snapshot stay put


class Work:
    """Random writes on a store and a dict model, with flushes and compactions between."""

    def __init__(self, backend: StorageBackend, seed: int) -> None:
        self.backend = backend
        self.random = random.Random(seed)
        self.model: Model = {family: {} for family in FAMILIES}

    def key(self) -> bytes:
        return b"%04d-%d" % (self.random.randrange(40), self.random.randrange(20))

    def commit(self) -> None:
        batch = WriteBatch()
        for _ in range(self.random.randrange(1, 30)):
            family, key = self.random.choice(list(FAMILIES)), self.key()
            if self.random.random() < 0.4:
                batch.delete(family, key)
                self.model[family].pop(key, None)
            else:
                value = b"%d" % self.random.randrange(10**6)
                batch.put(family, key, value)
                self.model[family][key] = value
        self.backend.batch_write(batch)

    def upheaval(self) -> None:
        chance = self.random.random()
        if chance < 0.05:
            self.backend.flush()
        elif chance < 0.1:
            self.backend.compact(self.random.choice(list(FAMILIES)))

    def frozen(self) -> Model:
        return {family: dict(pairs) for family, pairs in self.model.items()}

    def range(self) -> tuple[str, bytes, bytes | None, bool]:
        start = self.random.choice([b"", self.key(), self.key()[:4], self.key()[:3]])
        stop = self.random.choice([None, self.key(), successor(start), start + b"\xff"])
        return self.random.choice(list(FAMILIES)), start, stop, self.random.random() < 0.5


@pytest.mark.parametrize("durability", ["sync", "wal", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_scans_of_a_snapshot_show_its_moment(tmp_path: Path, durability: str, seed: int) -> None:
    """A snapshot's scan, opened or read on after later commits, differs from what was there when it was taken."""
    with open_backend(f"rocksdb:///{tmp_path / 'store'}?durability={durability}", FAMILIES) as backend:
        work = Work(backend, seed)
        live: list[tuple[Snapshot, Model, list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]]]] = []
        for step in range(150):
            work.commit()
            work.upheaval()
            if step % 7 == 0:
                live.append((backend.snapshot(), work.frozen(), []))
            for snapshot, model, scans in live:
                family, start, stop, reverse = work.range()
                scans.append(
                    (snapshot.scan(family, start, stop, reverse=reverse), expected(model[family], start, stop, reverse))
                )
                pairs, wanted = work.random.choice(scans)
                taken = list(itertools.islice(pairs, work.random.randrange(25)))
                assert taken == wanted[: len(taken)]
                del wanted[: len(taken)]
                key = work.key()
                assert snapshot.get(family, key) == model[family].get(key)
            if len(live) > 4:
                snapshot, model, scans = live.pop(work.random.randrange(len(live)))
                for family in FAMILIES:
                    assert list(snapshot.scan(family)) == expected(model[family], b"", None, False)
                    assert list(snapshot.scan(family, reverse=True)) == expected(model[family], b"", None, True)
                    keys = [work.key() for _ in range(20)]
                    assert snapshot.multi_get(family, keys) == [model[family].get(key) for key in keys]
                for pairs, wanted in scans:
                    assert list(pairs) == wanted
                snapshot.close()
        for snapshot, _, _ in live:
            snapshot.close()


def test_a_scan_half_read_when_commits_arrive_goes_on_unmoved(store: Open) -> None:
    """A scan that was under way when rows before and behind its place changed showed the change, or lost a row."""
    backend = store()
    keys = [b"%05d" % number for number in range(0, 6000, 2)]
    batch = WriteBatch()
    for key in keys:
        batch.put("a", key, b"old")
    backend.batch_write(batch)
    forward, backward = backend.scan("a"), backend.scan("a", reverse=True)
    seen, seen_back = [next(forward) for _ in range(100)], [next(backward) for _ in range(100)]
    for number in range(0, 6000, 5):
        backend.batch_write(WriteBatch().put("a", b"%05d" % number, b"new").delete("a", b"%05d" % (number + 2)))
    backend.flush()
    backend.compact("a")
    seen += forward
    seen_back += backward

    assert seen == [(key, b"old") for key in keys]
    assert seen_back == seen[::-1]


def test_threads_scan_one_snapshot_while_others_commit(tmp_path: Path) -> None:
    """Interleaved scans of one snapshot from several threads disturbed each other (they share an iterator)."""
    with open_backend(f"rocksdb:///{tmp_path / 'store'}", FAMILIES) as backend:
        work = Work(backend, 11)
        for _ in range(60):
            work.commit()
        model, stop = work.frozen(), threading.Event()

        def write() -> None:
            while not stop.is_set():
                work.commit()
                work.upheaval()

        with backend.snapshot() as snapshot, ThreadPoolExecutor(6) as pool:

            def read(seed: int) -> int:
                own, wrong = random.Random(seed), 0
                for _ in range(60):
                    family, reverse = own.choice(list(FAMILIES)), own.random() < 0.5
                    start = b"%04d" % own.randrange(40)
                    bound = own.choice([None, b"%04d" % own.randrange(40)])
                    wrong += list(snapshot.scan(family, start, bound, reverse=reverse)) != expected(
                        model[family], start, bound, reverse
                    )
                return wrong

            writer = pool.submit(write)
            readers = [pool.submit(read, seed) for seed in range(4)]
            wrong = [reader.result(timeout=60) for reader in readers]
            stop.set()
            writer.result(timeout=60)

        assert wrong == [0, 0, 0, 0]


def test_a_snapshot_spans_all_families_at_one_moment(tmp_path: Path) -> None:
    """A snapshot taken while batches over all families were committed showed part of one (hazard 23)."""
    families = [f"f{number}" for number in range(6)]
    with open_backend(f"rocksdb:///{tmp_path / 'store'}?durability=wal", families) as backend:
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                batch = WriteBatch()
                for family in families:
                    batch.put(family, b"k", b"%d" % number).put(family, b"%08d" % number, b"")
                backend.batch_write(batch)

        writer = threading.Thread(target=write)
        writer.start()
        torn: list[set[bytes | None]] = []
        try:
            for _ in range(300):
                with backend.snapshot() as snapshot:
                    values = {snapshot.get(family, b"k") for family in families}
                    last = {next(snapshot.scan(family, reverse=True), None) for family in families}
                    if len(values) > 1:
                        torn.append(values)
                    counts: set[bytes | None] = {
                        next(snapshot.scan(f, b"0", b"9", reverse=True), (b"0", b""))[0] for f in families
                    }
                    if len(counts) > 1 or len(last) > 1:
                        torn.append(counts)
        finally:
            stop.set()
            writer.join()

        assert torn == []


def test_a_snapshots_range_from_an_absent_prefix_goes_on(store: Open) -> None:
    """A snapshot that later commits have pinned found nothing from a prefix on that no key has."""
    backend = store({"p": ColumnFamilyOptions(bloom="prefix", prefix_length=4)})
    for key in (b"aaaa-1", b"cccc-1", b"cccc-2"):
        backend.put("p", key, b"v")
    backend.flush()
    backend.compact("p")
    with backend.snapshot() as snapshot:
        backend.put("p", b"dddd-1", b"later")

        assert [key for key, _ in snapshot.scan("p", b"bbbb")] == [b"cccc-1", b"cccc-2"]
        assert [key for key, _ in snapshot.scan("p", b"", b"bbbb", reverse=True)] == [b"aaaa-1"]
        assert snapshot.get("p", b"bbbb-1") is None
