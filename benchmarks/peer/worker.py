"""The work of one peer's process: ingest a slice of the blocks, or read; every result is checked."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from peer import workload
from peer.base import Peer
from peer.workload import Block, Samples, timed, turn

PEERS = {
    "raw-lmdb": "raw_lmdb:RawLmdb",
    "kvdialect-lmdb": "native:NativeLmdb",
    "kvdialect-lmdb-nochecksum": "native:NativeLmdbNoChecksum",
    "kvdialect-lmdb-insert": "native:BulkLmdb",
    "raw-rocksdict": "raw_rocksdict:RawRocksdict",
    "kvdialect-rocksdb": "native:NativeRocksdb",
    "kvdialect-rocksdb-insert": "native:BulkRocksdb",
    "sqlalchemy-orm": "sqlalchemy_sqlite:OrmOnSqlite",
    "sql-orm-lmdb": "sql_door:OrmOnLmdb",
    "sql-orm-rocksdb": "sql_door:OrmOnRocksdb",
    "sqlalchemy-core": "sqlalchemy_sqlite:CoreOnSqlite",
    "sql-core-lmdb": "sql_door:CoreOnLmdb",
    "sql-core-rocksdb": "sql_door:CoreOnRocksdb",
    "sqlite3": "sqlite:Sqlite",
    "peewee": "peewee_peer:Peewee",
    "objectbox": "objectbox_peer:Objectbox",
    "zodb": "zodb_peer:Zodb",
}
"""By name, in the order in which they run: what is compared runs one after the other."""

MODES = {"durable": True, "relaxed": False}
SPENT_AT = 1_000_000
COLLECT_EVERY = 20  # blocks
LONG = 3.0  # seconds of a scan that nothing needs to warm up for


def peer_class(name: str) -> type[Peer]:
    """Import a peer."""
    module, attribute = PEERS[name].split(":")
    found: type[Peer] = getattr(import_module(f"peer.{module}"), attribute)
    return found


def run(name: str, task: dict[str, Any]) -> dict[str, Any]:
    """Do a task and return the figures, times in seconds and sizes in bytes."""
    folder = Path(task["folder"])
    make = peer_class(name)
    imported = memory()["RssAnon"]
    before = workload.calibration()
    samples = workload.load_samples(folder)
    if task["phase"] == "ingest":
        blocks = workload.load_blocks(folder, task["slice"])
        figures = {mode: _ingest(make(folder / f"{name}-{mode}"), mode, blocks, samples, task) for mode in modes(make)}
    else:
        figures = _read(make, name, folder, samples, task)
    return {**figures, "imported": imported, "calibration": [before, workload.calibration()]}


def modes(make: type[Peer]) -> list[str]:
    """Return the columns that a peer has."""
    return [mode for mode in MODES if getattr(make, mode)]


def memory() -> dict[str, int]:
    """Return bytes of this process's memory, as Linux counts them.

    ``VmHWM`` is the most that was ever resident, the mapped part of files included; ``RssAnon`` is what is resident now
    without these.
    """
    fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0][:-1]: int(line[1]) << 10 for line in fields if line[0] in ("VmHWM:", "RssAnon:")}


# ------------------------------------------------------------------------------------------------ writing


def _ingest(peer: Peer, mode: str, blocks: list[Block], samples: Samples, task: dict[str, Any]) -> dict[str, Any]:
    peer.open(MODES[mode])
    seconds = 0.0
    for start in range(0, len(blocks), COLLECT_EVERY):
        part = blocks[start : start + COLLECT_EVERY]
        seconds += timed(lambda part=part: [peer.ingest(block) for block in part]).seconds
    figures: dict[str, Any] = {"seconds": seconds, "blocks": len(blocks), "peak": memory()["VmHWM"]}
    if task["last"]:
        peer.settle()
        verify(peer, samples)
        peer.close()
        figures["disk"] = peer.disk_bytes()
    else:
        peer.close()
    return figures


def verify(peer: Peer, samples: Samples) -> None:
    """Compare everything that the store says with what it should say."""
    lacks = peer.lacks if "get" not in peer.lacks else {}  # a variant that only ingests is checked all the same

    def check(what: str, found: Any, expected: Any) -> None:
        if found != expected:
            raise AssertionError(f"{peer.title}: {what} gives {found}; it should be {expected}")

    def summed(coins: Iterable[Any]) -> Any:
        return workload.summary(peer.fields(coin) for coin in coins)

    peer.begin()
    check("a scan", summed(peer.scan()), samples.whole)
    for coin_id, amount in samples.gets[:20]:
        check("a get", peer.get(coin_id).amount, amount)
    for puzzle_hash, expected in samples.lookups[:20]:
        check("a lookup", summed(peer.lookup(puzzle_hash)), expected)
        if "lookup_select" not in lacks:
            check("a lookup by select", summed(peer.lookup_select(puzzle_hash)), expected)
    for puzzle_hash, coin_ids in samples.unspent:
        check("unspent", sorted(peer.fields(coin)[0] for coin in peer.unspent(puzzle_hash)), sorted(coin_ids))
    for low, high, expected in samples.ranges[:5]:
        check("a range", summed(peer.range(low, high)), expected)
        if "range_select" not in lacks:
            check("a range by select", summed(peer.range_select(low, high)), expected)
        covered = peer.range_covered(low, high)
        check("a covered range", sum(amount for _, amount in covered), expected.total)
    if "scan_select" not in lacks:
        check("a scan by select", summed(peer.scan_select()), samples.whole)
    peer.end()


# ------------------------------------------------------------------------------------------------ reading, updates


def _read(make: type[Peer], name: str, folder: Path, samples: Samples, task: dict[str, Any]) -> dict[str, Any]:
    """Time reads, and then updates, in a process of its own."""
    peer = make(folder / f"{name}-durable")
    peer.open(True)
    times = Reading(peer, samples, task["rounds"], task["turn"]).times()
    peer.close()
    usage = memory()
    updates = 0
    for mode in modes(make):
        peer = make(folder / f"{name}-{mode}")
        peer.open(MODES[mode])
        times[f"update_{mode}"], updates = _updates(peer, samples, task["rounds"], task["turn"])
        if task["last"]:
            # Those of this pass and of the earlier ones.
            _recount(peer, samples, updates * (task["turn"] + 1))
        peer.close()
    return {"operations": times, "peak": usage["VmHWM"], "anonymous": usage["RssAnon"]}


class Reading:
    """The reads of one pass: for each operation the median seconds of one, over the rounds.

    Each round has a session of its own and asks for other records than the round before.
    """

    def __init__(self, peer: Peer, samples: Samples, rounds: int, turn_: int) -> None:
        self.peer, self.samples = peer, samples
        self.numbers = range(turn_ * rounds, (turn_ + 1) * rounds)

    def times(self) -> dict[str, float]:
        """Time all operations that the peer has."""
        peer, samples = self.peer, self.samples
        self._touch()
        work: dict[str, Callable[[], float]] = {
            "get": self._gets,
            "new_session_get": self._sessions,
            "lookup": lambda: self._lists(lambda: peer.lookup, samples.lookups, workload.LOOKUPS),
            "lookup_select": lambda: self._lists(lambda: peer.lookup_select, samples.lookups, workload.LOOKUPS),
            "range": lambda: self._lists(lambda: peer.range, samples.ranges, workload.RANGES),
            "range_select": lambda: self._lists(lambda: peer.range_select, samples.ranges, workload.RANGES),
            "range_covered": lambda: self._lists(lambda: peer.range_covered, samples.ranges, workload.RANGES),
            "scan": lambda: self._scans(peer.scan),
            "scan_select": lambda: self._scans(peer.scan_select),
            "attribute_read": lambda: self._attributes(_read_attributes, 20),
            "attribute_write": lambda: self._attributes(_write_attributes, 2),
        }
        return {name: function() for name, function in work.items() if name not in peer.lacks}

    def _touch(self) -> None:
        """Read everything once: what is measured is a process whose data are in memory.

        Where files are mapped, the first touch of a page is the operating system's work, and dear on some machines.
        """
        peer, samples = self.peer, self.samples
        peer.begin()
        for _ in peer.scan():
            pass
        peer.range_covered(0, 1 << 40)
        for puzzle_hash, _ in samples.lookups:
            peer.lookup(puzzle_hash)
        peer.end()

    def _with_warming(self) -> list[int]:
        """The rounds, and one in front of them to warm up statements, plans and pages. It asks for other records."""
        return [self.numbers[0] - 1, *self.numbers]

    def _gets(self) -> float:
        taken = []
        for number in self._with_warming():
            chosen = turn(self.samples.gets, workload.GETS, number)
            ids = [coin_id for coin_id, _ in chosen]
            self.peer.begin()
            get = self.peer.get
            seconds, found = timed(lambda get=get, ids=ids: [get(coin_id) for coin_id in ids])
            assert [coin.amount for coin in found] == [amount for _, amount in chosen]
            del found
            self.peer.end()
            taken.append(seconds / len(ids))
        return statistics.median(taken[1:])

    def _sessions(self) -> float:
        taken = []
        get = self.peer.new_session_get
        for number in self._with_warming():
            # From the other end, so that nobody has read these objects before.
            chosen = turn(self.samples.gets[::-1], workload.SESSIONS, number)
            ids = [coin_id for coin_id, _ in chosen]
            seconds, found = timed(lambda ids=ids: [get(coin_id).amount for coin_id in ids])
            assert found == [amount for _, amount in chosen]
            taken.append(seconds / len(ids))
        return statistics.median(taken[1:])

    def _lists(self, method: Callable[[], Callable[..., Any]], asked: list[Any], count: int) -> float:
        """Time an operation that returns a list: of objects, or of pairs of height and amount."""
        taken = []
        for number in self._with_warming():
            chosen = turn(asked, count, number)
            questions = [tuple(item[:-1]) for item in chosen]
            self.peer.begin()
            ask = method()
            seconds, found = timed(lambda ask=ask, questions=questions: [ask(*question) for question in questions])
            for (*_, expected), coins in zip(chosen, found, strict=True):
                assert len(coins) == expected.count
                assert sum(coin.amount if hasattr(coin, "amount") else coin[1] for coin in coins) == expected.total
            del coins, found
            self.peer.end()
            taken.append(seconds / len(questions))
        return statistics.median(taken[1:])

    def _scans(self, scan: Callable[[], Iterable[Any]]) -> float:
        """Time a scan, per record: each becomes an object, one attribute is read, and it is let go."""

        def work() -> tuple[int, int]:
            count = total = 0
            for coin in scan():
                count += 1
                total += coin.amount
            return count, total

        whole = self.samples.whole
        taken = []
        for _ in ("to warm up", "to measure"):  # long enough to be one round
            self.peer.begin()
            seconds, found = timed(work)
            assert found == (whole.count, whole.total)
            self.peer.end()
            taken.append(seconds / whole.count)
            if seconds > LONG:
                break
        return taken[-1]

    def _attributes(self, use: Callable[[list[Any]], object], uses: int) -> float:
        """Time the use of attributes of objects that were read before."""
        taken = []
        for number in self.numbers:
            ids = [coin_id for coin_id, _ in turn(self.samples.gets, workload.OBJECTS, number)]
            self.peer.begin()
            coins = [self.peer.get(coin_id) for coin_id in ids]
            taken.append(timed(lambda coins=coins: use(coins)).seconds / (uses * len(coins)))
            del coins
            self.peer.end()
        return statistics.median(taken)


def _read_attributes(coins: list[Any]) -> int:
    total = 0
    for _ in range(10):
        for coin in coins:
            total += coin.amount
            total += coin.confirmed_height
    return total


def _write_attributes(coins: list[Any]) -> None:
    for coin in coins:
        coin.spent_height = SPENT_AT
        coin.timestamp = SPENT_AT


def _updates(peer: Peer, samples: Samples, rounds: int, turn_: int) -> tuple[float, int]:
    """Time an update with its commit; every round takes coins that are not spent. Return how many were spent, too."""
    warming = 3
    each = rounds * workload.COMMITS + warming
    ids = samples.spendable[turn_ * each : (turn_ + 1) * each]
    if len(ids) < each:
        raise SystemExit("too few coins for so many updates; take fewer rounds or passes, or more blocks")

    def work(part: list[bytes]) -> None:
        for coin_id in part:
            peer.update_and_commit(coin_id, SPENT_AT)

    work(ids[:warming])
    taken = []
    for start in range(warming, each, workload.COMMITS):
        part = ids[start : start + workload.COMMITS]
        taken.append(timed(lambda part=part: work(part)).seconds / len(part))
    return statistics.median(taken), each


def _recount(peer: Peer, samples: Samples, updates: int) -> None:
    """Check that the updates are there and nothing else has changed."""
    peer.begin()
    found = workload.summary(peer.fields(coin) for coin in peer.scan())
    peer.end()
    whole = samples.whole
    assert (found.count, found.total, found.unspent) == (whole.count, whole.total, whole.unspent - updates), peer.title
