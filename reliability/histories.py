"""Row 7: histories of concurrent transactions, searched for anomalies as Elle does (Kingsbury and Alvaro, VLDB 2020).

Each transaction reads and appends to a few lists, and each number is appended once. So a list that was read says by
which transactions it was made, in which order, and from what all committed transactions have read follow the edges
between them: who overwrote whom (ww), who read what (wr), and who read what somebody then overwrote (rw). A cycle is
an anomaly: none may be in a SERIALIZABLE history; one in a SNAPSHOT history must be write skew, with two rw edges in a
row.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from kvdialect import Engine, Mapped, Session, create_engine, exc, field, mapped, registry
from kvdialect.storage import WriteBatch
from reliability.processes import Child
from reliability.scoreboard import Row

models = registry()
KEYS = 12
AGE = 300  # transactions of a process after which it takes new lists, so that they stay short
THREADS = 4
PROCESSES = 3
_PATIENCE = 3600

Read = tuple[int, list[int]]


@mapped(models)
class Log:
    """A list that transactions append to."""

    __tablename__ = "logs"
    id: Mapped[int] = field(primary_key=True)
    values: Mapped[list[int]] = field(factory=list)


class Done(msgspec.Struct, array_like=True):
    """A transaction that was committed: its number, the lists that it read, and what it appended to which."""

    number: int
    reads: list[Read]
    appends: dict[int, int]


def run(engine: str, folder: Path, transactions: int, seed: int = 1) -> Row:
    """Run histories and search them."""
    row = Row(7, "concurrent histories", engine, 0)
    row.counts = {"SERIALIZABLE": 0, "SNAPSHOT": 0, "conflicts": 0, "write skew in SNAPSHOT": 0}
    began = time.monotonic()
    for level in ("SERIALIZABLE", "SNAPSHOT"):
        history, conflicts = _history(engine, folder / level, transactions, level, seed)
        row.tried += len(history)
        row.counts[level] = len(history)
        row.counts["conflicts"] += conflicts
        anomalies = list(search(history))
        row.counts["write skew in SNAPSHOT"] += sum(skew for _, skew in anomalies if level == "SNAPSHOT")
        row.violations += [f"{level}: {what}" for what, skew in anomalies if not skew or level == "SERIALIZABLE"]
    few = max(400, transactions // 10)
    history, _ = _history(engine, folder / "as if", few, "SNAPSHOT", seed)
    row.control["SNAPSHOT taken for SERIALIZABLE"] = bool(list(search(history)))
    history, _ = _history(engine, folder / "blind", few, "SNAPSHOT", seed, prepare=_blind)
    row.control["no expectations"] = any(not skew for _, skew in search(history))
    row.seconds = time.monotonic() - began
    return row


# ------------------------------------------------------------------------------------------------ the histories


def _history(
    engine: str,
    path: Path,
    transactions: int,
    level: str,
    seed: int,
    prepare: Callable[[Engine], None] | None = None,
) -> tuple[list[Done], int]:
    """Run transactions in threads, on LMDB in processes too; return the committed ones and how many conflicted."""
    processes = PROCESSES if engine == "lmdb" else 1
    share = transactions // processes

    def child(number: int) -> Child:
        base = number << 40

        def work() -> bytes:
            return msgspec.msgpack.encode(_work(f"{engine}:///{path}", share, level, seed + number, base, prepare))

        return Child(work, _PATIENCE)

    children = [child(number) for number in range(processes)]
    history: list[Done] = []
    conflicts = 0
    for each in children:
        part, failed = msgspec.msgpack.decode(each.told(), type=tuple[list[Done], int])
        history += part
        conflicts += failed
    return history, conflicts


def _work(
    url: str, transactions: int, level: str, seed: int, base: int, prepare: Callable[[Engine], None] | None
) -> tuple[list[Done], int]:
    done: list[Done] = []
    conflicts = itertools.count()
    numbers = iter(range(base + 1, base + transactions + 1))
    lock = threading.Lock()
    errors: list[str] = []
    with create_engine(url, isolation_level=level) as engine:  # type: ignore[arg-type]
        models.create_all(engine)
        if prepare is not None:
            prepare(engine)

        def thread(place: int) -> None:
            rng = random.Random(f"{seed} {place}")  # noqa: S311 - a workload, no secret
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    done.append(_transaction(engine, rng, number, (number - base) // AGE * KEYS))
                except exc.ConflictError:
                    next(conflicts)
                except exc.IntegrityError:
                    next(conflicts)  # two have made the same list
                except Exception:
                    errors.append(traceback.format_exc())
                    return

        threads = [threading.Thread(target=thread, args=(place,)) for place in range(THREADS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    if errors:
        raise RuntimeError(errors[0])
    return done, next(conflicts)


def _transaction(engine: Engine, rng: random.Random, number: int, first: int) -> Done:
    """One transaction on some of the lists from ``first`` on."""
    reads: list[Read] = []
    appends: dict[int, int] = {}
    with Session(engine) as session, session.begin():
        for step in range(rng.randint(1, 4)):
            key = first + rng.randrange(KEYS)
            log = session.get(Log, key)
            if key not in appends:
                reads.append((key, [] if log is None else list(log.values)))
                if rng.random() < 0.5:
                    value = number * 8 + step
                    appends[key] = value
                    if log is None:
                        session.add(Log(key, [value]))
                    else:
                        log.values = [*log.values, value]
            time.sleep(0)  # let others in
    return Done(number, reads, appends)


def _blind(engine: Engine) -> None:
    """Planted: commits that expect nothing."""
    write = engine.backend.batch_write

    def batch_write(batch: WriteBatch) -> None:
        batch.expectations.clear()
        batch.ranges.clear()
        write(batch)

    engine.backend.batch_write = batch_write  # type: ignore[method-assign]


# ------------------------------------------------------------------------------------------------ the search


def search(history: Iterable[Done]) -> Iterator[tuple[str, bool]]:
    """Yield the anomalies of a history: what it is, and whether it is write skew."""
    history = list(history)
    author = {value: txn.number for txn in history for value in txn.appends.values()}
    longest: dict[int, list[int]] = defaultdict(list)
    for txn in history:
        for key, values in txn.reads:
            if len(values) > len(longest[key]):
                longest[key] = values
    for txn in history:
        for key, values in txn.reads:
            if values != longest[key][: len(values)]:
                yield (
                    f"transaction {txn.number} read list {key} as no beginning of what it became: a lost append",
                    False,
                )
            elif any(value not in author for value in values):
                yield f"transaction {txn.number} read what was never committed from list {key}", False
    edges = _edges(history, author, longest)
    for cycle in _cycles(edges):
        kinds = [edges[a][b] for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
        pairs = zip(kinds, [*kinds[1:], kinds[0]], strict=True)
        skew = any(one == other == "rw" for one, other in pairs)
        yield (
            f"a cycle of {len(cycle)}: {' '.join(f'{n} -{kind}->' for n, kind in zip(cycle, kinds, strict=True))}",
            skew,
        )


def _edges(history: list[Done], author: dict[int, int], longest: dict[int, list[int]]) -> dict[int, dict[int, str]]:
    """Who must come before whom, and why; where there are several reasons, one that is not rw."""
    edges: dict[int, dict[int, str]] = {txn.number: {} for txn in history}

    def edge(before: int | None, behind: int | None, kind: str) -> None:
        if before is not None and behind is not None and before != behind and before in edges and behind in edges:
            known = edges[before].get(behind)
            if known is None or known == "rw":
                edges[before][behind] = kind

    for values in longest.values():
        for one, other in itertools.pairwise(values):
            edge(author.get(one), author.get(other), "ww")
    for txn in history:
        for key, values in txn.reads:
            if values:
                edge(author.get(values[-1]), txn.number, "wr")
            if len(values) < len(longest[key]):
                edge(txn.number, author.get(longest[key][len(values)]), "rw")
    return edges


def _cycles(edges: dict[int, dict[int, str]]) -> Iterator[list[int]]:
    """A shortest cycle of each strongly connected component, preferring those with the fewest rw edges."""
    for component in _components(edges):
        inside = set(component)
        best: list[int] | None = None
        for start in component[:50]:
            found = _shortest(edges, start, inside)
            if found is not None and (best is None or _weight(edges, found) < _weight(edges, best)):
                best = found
        if best is not None:
            yield best


def _weight(edges: dict[int, dict[int, str]], cycle: list[int]) -> tuple[int, int]:
    kinds = [edges[a][b] for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
    return kinds.count("rw"), len(cycle)


def _shortest(edges: dict[int, dict[int, str]], start: int, inside: set[int]) -> list[int] | None:
    """A cycle through ``start`` with as few rw edges as can be: a search by layers of equal cost."""
    came: dict[int, int] = {}
    layer, following = [start], []
    while layer or following:
        if not layer:
            layer, following = following, []
        at = layer.pop()
        for behind, kind in edges[at].items():
            if behind == start:
                path = [at]
                while path[-1] != start:
                    path.append(came[path[-1]])
                return path[::-1]
            if behind in inside and behind not in came:
                came[behind] = at
                (following if kind == "rw" else layer).append(behind)
    return None


def _components(edges: dict[int, dict[int, str]]) -> Iterator[list[int]]:
    """The strongly connected components of more than one transaction (Tarjan, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root, first in edges.items():
        if root in index:
            continue
        work = [(root, iter(first))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            at, left = work[-1]
            behind = next(left, None)
            if behind is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == at:
                            break
                    if len(component) > 1:
                        yield component
            elif behind not in index:
                index[behind] = low[behind] = len(index)
                stack.append(behind)
                on_stack.add(behind)
                work.append((behind, iter(edges[behind])))
            elif behind in on_stack:
                low[at] = min(low[at], index[behind])
