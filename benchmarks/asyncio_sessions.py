"""AsyncSession beside Session: the same work by one task and by one thread, as the ratio of their times.

Rounds of both take turns, and the best of each counts. Processor time says what a change of threads costs by itself,
also on a machine that has other things to do; where a commit waits for a disk the clock is fairer.

    python benchmarks/asyncio_sessions.py            # processor time
    python benchmarks/asyncio_sessions.py --clock
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable

from kvdialect import AsyncSession, Engine, Mapped, Session, create_engine, field, mapped, registry

ROUNDS = 60
RECORDS = 40
STORES = (
    "memory://",
    "lmdb:///{}/s?durability=none",
    "rocksdb:///{}/s?durability=none",
    "lmdb:///{}/s",
    "rocksdb:///{}/s",
)

models = registry()


@mapped(models)
class Counter:
    """What is read and counted up."""

    __tablename__ = "counters"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = 0


def _gets(session: Session, first: int) -> None:
    for number in range(first, first + 10):
        session.get(Counter, number)


class Plain:
    """By a Session."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get(self) -> None:
        for number in range(RECORDS):
            with Session(self.engine) as session:
                session.get(Counter, number)

    def ten_gets(self) -> None:
        for first in range(0, RECORDS, 10):
            with Session(self.engine) as session:
                _gets(session, first)

    run_sync = ten_gets

    def commit(self) -> None:
        for number in range(RECORDS):
            with Session(self.engine) as session, session.begin():
                session.get_one(Counter, number).n += 1


class Awaited:
    """By an AsyncSession."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def get(self) -> None:
        for number in range(RECORDS):
            async with AsyncSession(self.engine) as session:
                await session.get(Counter, number)

    async def ten_gets(self) -> None:
        for first in range(0, RECORDS, 10):
            async with AsyncSession(self.engine) as session:
                for number in range(first, first + 10):
                    await session.get(Counter, number)

    async def run_sync(self) -> None:
        for first in range(0, RECORDS, 10):
            async with AsyncSession(self.engine) as session:
                await session.run_sync(_gets, first)

    async def commit(self) -> None:
        for number in range(RECORDS):
            async with AsyncSession(self.engine) as session, session.begin():
                (await session.get_one(Counter, number)).n += 1


def ratio(engine: Engine, work: str, clock: Callable[[], float], runner: asyncio.Runner) -> tuple[float, float]:
    """Seconds of one round by each, the best of all."""
    plain, awaited = Plain(engine), Awaited(engine)
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        begun = clock()
        getattr(plain, work)()
        middle = clock()
        runner.run(getattr(awaited, work)())
        best = [min(best[0], middle - begun), min(best[1], clock() - middle)]
    return best[0], best[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="AsyncSession beside Session.")
    parser.add_argument("--clock", action="store_true", help="by the clock instead of processor time")
    clock = time.perf_counter if parser.parse_args().clock else time.process_time
    for store in STORES:
        with tempfile.TemporaryDirectory() as folder, create_engine(store.format(folder)) as engine:
            models.create_all(engine)
            with Session(engine) as session, session.begin():
                session.add_all(Counter(number) for number in range(2000))
            with asyncio.Runner() as runner:
                for work in ("get", "ten_gets", "run_sync", "commit"):
                    plain, awaited = ratio(engine, work, clock, runner)
                    each = RECORDS if work in ("get", "commit") else RECORDS // 10
                    print(
                        f"{store.split('/')[0]:9} {'durable' if store.endswith('/s') else '':8} {work:9}"
                        f" {plain / each * 1e6:8.1f} us {awaited / each * 1e6:8.1f} us  {awaited / plain:5.2f}"
                    )


if __name__ == "__main__":
    main()
