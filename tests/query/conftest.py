"""A store filled without a Session, and statements run on it: what the tests of queries work with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs
import pytest
import sqlalchemy as sa

from kvdialect import ColumnFamilyOptions, open_backend
from kvdialect.query.prepared import Prepared, QueryPlanner
from kvdialect.schema.declared import definition_of
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.storage.contract import Pair
from kvdialect.store.table import StoredTable


class View:
    """A snapshot of the store, with the row counts of the tables in it."""

    def __init__(self, store: Store) -> None:
        self.snapshot = store.backend.snapshot()
        self.get = self.snapshot.get
        self.multi_get = self.snapshot.multi_get
        self.scan = self.snapshot.scan
        self._counts = {name: len(rows) for name, rows in store.rows.items()}

    def short_scan(self, cf, start, stop, first, *, reverse=False):  # noqa: ARG002
        return iter(self.snapshot.first_pairs(cf, start, stop, 1 << 30, reverse=reverse))

    def count(self, table: StoredTable) -> int:
        return self._counts[table.name]


class Store:
    """Tables in a backend.

    Attributes:
        planner: prepares statements; made anew by ``create``.
        rows: per table the rows by key, as they were written.
    """

    def __init__(self, backend: StorageBackend) -> None:
        self.backend = backend
        self.tables: dict[str, StoredTable] = {}
        self.rows: dict[str, dict[bytes, tuple[Any, ...]]] = {}
        self.planner = QueryPlanner(lambda table: self.tables[table.name])

    def create(self, table: sa.Table, rows: Iterable[Sequence[Any]] = ()) -> StoredTable:
        """Create a table, empty even if there was one of this name, and fill it."""
        definition = attrs.evolve(definition_of(table), id=len(self.tables) + 1)
        stored = StoredTable(definition, {})
        families = self.backend.column_families()
        for family in (stored.name, *stored.indexes):
            if family in families:
                self.backend.drop_column_family(family)
            self.backend.create_column_family(family, ColumnFamilyOptions())
        self.tables[table.name] = stored
        self.rows[table.name] = {}
        self.planner = QueryPlanner(lambda table: self.tables[table.name])
        self.insert(table, rows)
        return stored

    def insert(self, table: sa.Table, rows: Iterable[Sequence[Any]]) -> None:
        stored = self.tables[table.name]
        batch = WriteBatch()
        for values in rows:
            key, value, row = stored.codec.encode(tuple(values))
            batch.put(stored.name, key, value)
            for index, entries in zip(stored.codec.indexes, stored.codec.entries(row, key), strict=True):
                for entry in entries:
                    batch.put(index.family, *entry)
            self.rows[table.name][key] = row
        self.backend.batch_write(batch)

    def delete(self, table: sa.Table, key: bytes) -> None:
        stored = self.tables[table.name]
        row = self.rows[table.name].pop(key)
        batch = WriteBatch().delete(stored.name, key)
        for index, entries in zip(stored.codec.indexes, stored.codec.entries(row, key), strict=True):
            for entry, _ in entries:
                batch.delete(index.family, entry)
        self.backend.batch_write(batch)

    def view(self) -> View:
        return View(self)

    def loader(self, table: sa.Table | str) -> Callable[[list[Pair]], list[Any]]:
        """What makes whole records: here their rows."""
        decode = self.tables[table if isinstance(table, str) else table.name].codec.decode
        return lambda pairs: [decode(key, value) for key, value in pairs]

    def prepare(self, statement: Any, parameters: Any = None, **options: Any) -> Prepared:
        return self.planner.prepare(statement, self.view(), parameters, **options)

    def run(self, statement: Any, parameters: Any = None, **options: Any) -> list[tuple[Any, ...]]:
        view = self.view()
        prepared = self.planner.prepare(statement, view, parameters, **options)
        return list(prepared.rows(view, self.loader(prepared.table.name)))

    def explain(self, statement: Any, parameters: Any = None, analyze: bool = False) -> str:
        view = self.view()
        return str(self.planner.prepare(statement, view, parameters).explain(view, analyze))


@pytest.fixture
def store() -> Iterator[Store]:
    """A store in memory."""
    with open_backend("memory://") as backend:
        yield Store(backend)


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Store]:
    """A store in memory for all examples of a property; each creates its tables anew."""
    with open_backend("memory://") as backend:
        yield Store(backend)


@pytest.fixture
def native_store(engine_name, tmp_path) -> Iterator[Store]:
    """A store on each engine in turn."""
    path = "" if engine_name == "memory" else f"{tmp_path}/store"
    with open_backend(f"{engine_name}:///{path}") as backend:
        yield Store(backend)
