"""The command that measures an engine where a store is: the raw backend, and a store of records on it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from tempfile import mkdtemp
from typing import Any, Final

import attrs
import click
from sqlalchemy import URL

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.group import group, json_option, store_argument
from kvdialect.cli.stores import url_of
from kvdialect.codec.numeric import IntKind
from kvdialect.codec.strings import FixedBytesKind, TextKind
from kvdialect.schema.definition import FieldDefinition, IndexDefinition, IndexPart, TableDefinition
from kvdialect.storage.batch import WriteBatch
from kvdialect.store.engine import Engine, open_engine
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, commit, write_rows

_BATCH: Final = 1000
_FAMILY: Final = "raw"
_TABLE: Final = TableDefinition(
    name="records",
    fields=(
        FieldDefinition(name="id", kind=FixedBytesKind(8)),
        FieldDefinition(name="number", kind=IntKind()),
        FieldDefinition(name="text", kind=TextKind(), nullable=True),
    ),
    primary_key=("id",),
    indexes=(IndexDefinition(name="records_by_number", parts=(IndexPart(name="number"),)),),
)


@attrs.frozen
class Measured:
    """One measurement.

    Attributes:
        what: what was done.
        count: how often.
        seconds: in all.
    """

    what: str
    count: int
    seconds: float

    @property
    def rate(self) -> float:
        """How often in a second."""
        return self.count / self.seconds if self.seconds else 0.0


@group.command()
@store_argument
@click.option("--rows", type=click.IntRange(_BATCH), default=50_000, show_default=True, help="Rows to write and read.")
@click.option("--commits", type=click.IntRange(1), default=200, show_default=True, help="Durable commits of one row.")
@json_option
def bench(store: str, rows: int, commits: int, as_json: bool) -> None:
    """Measure the engine of STORE on the disk where it is, with the options of its URL.

    It works on a store of its own beside STORE, which it removes; STORE need not be there, and is not touched.
    """
    url = url_of(store)
    path = os.path.abspath(url.database or "") if url.database else None
    folder = None
    if url.get_backend_name() != "memory":
        beside = os.path.dirname(path or "")
        if not os.path.isdir(beside):
            raise exc.ArgumentError(f"there is no directory {beside} to measure in")
        folder = mkdtemp(prefix=".kvdialect-bench-", dir=beside)
        url = url.set(database=os.path.join(folder, "store"))
    try:
        with output.progress("bench") as told:
            found = list(_measured(url, rows, commits, told))
    finally:
        if folder is not None:
            shutil.rmtree(folder)
    if as_json:
        listed = [{**attrs.asdict(each), "per second": round(each.rate, 1)} for each in found]
        output.facts({"engine": url.get_backend_name(), "measured": listed}, as_json=True)
        return
    lines = [(each.what, f"{each.count:,}", f"{each.seconds:.3f}", f"{each.rate:,.0f}") for each in found]
    output.rows(("what", "count", "seconds", "per second"), lines, "table")


def _measured(url: URL, rows: int, commits: int, told: output.Told | None) -> Iterator[Measured]:
    engine: Engine = open_engine(url, column_families=[_FAMILY])
    with engine:
        backend = engine.backend
        # Spread over the whole range, as digests are; the same every time.
        keys = [(number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8) for number in range(rows)]
        value = b"v" * 100
        engine.create_all([_TABLE])
        steps: list[tuple[str, int, Callable[[], Any]]] = [
            ("backend: puts, batches of 1,000", rows, lambda: _puts(engine, keys, value)),
            ("backend: gets", rows, lambda: [backend.get(_FAMILY, key) for key in keys]),
            ("backend: scan", rows, lambda: sum(1 for _ in backend.scan(_FAMILY))),
            ("backend: commits of one put", commits, lambda: _commits(engine, keys[:commits], value)),
            ("records: inserts, one index, 1,000 a commit", rows, lambda: _inserts(engine, keys)),
            ("records: gets, decoded", rows, lambda: _gets(engine, keys)),
            ("records: scan, decoded", rows, lambda: _scan(engine)),
            ("records: commits of one update", commits, lambda: _updates(engine, keys[:commits])),
        ]
        for number, (what, count, step) in enumerate(steps):
            if told is not None:
                told(what, number, len(steps))
            began = time.perf_counter()
            step()
            yield Measured(what, count, time.perf_counter() - began)


def _puts(engine: Engine, keys: list[bytes], value: bytes) -> None:
    for start in range(0, len(keys), _BATCH):
        batch = WriteBatch()
        for key in keys[start : start + _BATCH]:
            batch.put(_FAMILY, key, value)
        engine.backend.batch_write(batch)


def _commits(engine: Engine, keys: list[bytes], value: bytes) -> None:
    for key in keys:
        engine.backend.put(_FAMILY, key, value)


def _inserts(engine: Engine, keys: list[bytes]) -> None:
    table = engine.table(_TABLE.name)
    for start in range(0, len(keys), _BATCH):
        txn = Transaction(engine)
        rows = [(key, number, "text") for number, key in enumerate(keys[start : start + _BATCH], start)]
        write_rows(txn, table, RowChanges(new=rows), check=False)
        commit(txn)


def _gets(engine: Engine, keys: list[bytes]) -> None:
    table = engine.table(_TABLE.name)
    get, decode, key_of = engine.backend.get, table.codec.decode, table.codec.key
    for value in keys:
        key = key_of((value,))
        raw = get(table.family, key)
        assert raw is not None
        decode(key, raw)


def _scan(engine: Engine) -> None:
    table = engine.table(_TABLE.name)
    for key, raw in engine.backend.scan(table.family):
        table.codec.decode(key, raw)


def _updates(engine: Engine, keys: list[bytes]) -> None:
    table = engine.table(_TABLE.name)
    for number, value in enumerate(keys):
        txn = Transaction(engine)
        key = table.codec.key((value,))
        raw = txn.get(table.family, key)
        assert raw is not None
        write_rows(txn, table, RowChanges(changed=[(key, raw, (value, -number, "changed"))]))
        commit(txn)
