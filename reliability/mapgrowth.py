"""Row 11: an LMDB map that grows while two processes write and read.

Each process has a writing and a reading thread, on a store whose map begins with a mebibyte. Nobody may get an error up
to ``max_map_size``, and all that was committed must be there in the end.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec

from kvdialect import Mapped, Session, create_engine, field, mapped, registry
from reliability.processes import Child
from reliability.scoreboard import Row

models = registry()
PROCESSES = 2
PER_COMMIT = 5
SIZE = 2000
_PATIENCE = 3600


@mapped(models)
class Page:
    """A record of some size."""

    __tablename__ = "pages"
    id: Mapped[int] = field(primary_key=True)
    body: Mapped[bytes]


class Told(msgspec.Struct, array_like=True):
    """What a process tells: records committed, reads, times that the map grew, and errors."""

    committed: int
    reads: int
    growths: int
    errors: list[str]


def run(engine: str, folder: Path, tries: int, seed: int = 1) -> Row:
    """Let stores grow by ``tries`` records in all."""
    del seed  # the machine's own timing is what varies
    row = Row(11, "LMDB map growth under load, two processes", engine, tries)
    began = time.monotonic()
    url = f"{engine}:///{folder}/store"
    limits = "map_size=1MiB&max_map_size=1GiB"
    told = _processes(f"{url}?{limits}", tries // PROCESSES)
    row.counts = {
        "records": sum(each.committed for each in told),
        "reads": sum(each.reads for each in told),
        "map growths": sum(each.growths for each in told),
    }
    row.violations += [error for each in told for error in each.errors]
    with create_engine(f"{url}?{limits}") as store:
        rows = store.verify(apart=False).rows["pages"]
        if rows != row.counts["records"] or rows != tries // PROCESSES * PROCESSES:
            row.violations.append(f"{row.counts['records']} of {tries} records were committed, and {rows} are there")
        if not row.counts["map growths"]:
            row.violations.append("the map never grew, so nothing was tried")
    small = _processes(f"{engine}:///{folder}/small?map_size=1MiB&max_map_size=1MiB", 2000)
    row.control["a map that may not grow"] = any("MapFull" in error for each in small for error in each.errors)
    row.seconds = time.monotonic() - began
    return row


def _processes(url: str, records: int) -> list[Told]:
    def child(number: int) -> Child:
        return Child(lambda: msgspec.msgpack.encode(_work(url, number, records)), _PATIENCE)

    children = [child(number) for number in range(PROCESSES)]
    return [msgspec.msgpack.decode(each.told(), type=Told) for each in children]


def _work(url: str, number: int, records: int) -> Told:
    told = Told(0, 0, 0, [])
    stop = threading.Event()
    with create_engine(url) as engine:
        models.create_all(engine)

        def write() -> None:
            try:
                for start in range(0, records, PER_COMMIT):
                    idents = [number << 32 | place for place in range(start, min(start + PER_COMMIT, records))]
                    with Session(engine) as session, session.begin():
                        session.add_all([Page(ident, bytes(SIZE)) for ident in idents])
                    told.committed += len(idents)
            except Exception as error:
                told.errors.append(f"{type(error).__name__}: {error}")
            finally:
                stop.set()

        def read() -> None:
            try:
                while not stop.is_set():
                    with Session(engine) as session:
                        told.reads += sum(len(page.body) == SIZE for page in session.scan(Page, limit=50, reverse=True))
            except Exception as error:
                told.errors.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=each) for each in (write, read)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        told.growths = engine.stats()["map_growths"]
    return told
