"""Stores with tables, for the tests of the catalog and of what changes it: rows in, rows out, indexes verified."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import attrs
import pytest

from kvdialect.codec.numeric import IntKind
from kvdialect.codec.strings import TextKind
from kvdialect.schema.definition import MISSING, FieldDefinition, IndexDefinition, IndexPart, TableDefinition
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.engine import Engine, open_engine
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, commit, write_rows

_stores = count(1)


@pytest.fixture
def url(engine_name, tmp_path) -> str:
    """URL of a store of its own; a memory store lives for as long as one engine on it is open."""
    if engine_name == "memory":
        return f"memory:///schema-tests-{os.getpid()}-{next(_stores)}"
    return f"{engine_name}:///{tmp_path}/store"


@pytest.fixture
def opened() -> Iterator[Callable[..., Engine]]:
    """Open an engine that the test need not close: ``opened(url)``."""
    engines: list[Engine] = []

    def open_one(url: str, **options: Any) -> Engine:
        engines.append(open_engine(url, **options))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(url, opened) -> Engine:
    """An engine on an empty store."""
    return opened(url)


class Model:
    """Definitions, and what tests do with tables of them."""

    @staticmethod
    def field(name: str, kind: Any = None, **facts: Any) -> FieldDefinition:
        return FieldDefinition(name=name, kind=kind or IntKind(), **{"default": MISSING, **facts})

    @staticmethod
    def index(name: str, *columns: str, **facts: Any) -> IndexDefinition:
        parts = tuple(IndexPart(name=column.lstrip("-"), descending=column.startswith("-")) for column in columns)
        return IndexDefinition(name=name, parts=parts, **facts)

    def people(self, *, name: str = "people", indexes: bool = True, **changes: Any) -> TableDefinition:
        """A table with ids, names and ages; indexes by name and, where it is known, by age."""
        definition = TableDefinition(
            name=name,
            fields=(
                self.field("id", autoincrement=True),
                self.field("name", TextKind()),
                self.field("age", IntKind(8, signed=False), nullable=True),
            ),
            primary_key=("id",),
            indexes=(
                self.index(f"{name}_by_age", "age", where=Compare("is not", Column("age"), Constant(None))),
                self.index(f"{name}_by_name", "name", include=("age",)),
            )
            if indexes
            else (),
        )
        return attrs.evolve(definition, **changes)

    @staticmethod
    def insert(engine: Engine, table: StoredTable, *rows: tuple[Any, ...]) -> None:
        """Insert rows in a transaction of their own."""
        txn = Transaction(engine)
        write_rows(txn, table, RowChanges(new=list(rows)))
        commit(txn)

    @staticmethod
    def change(engine: Engine, table: StoredTable, *rows: tuple[Any, ...]) -> None:
        """Replace rows by others with the same keys."""
        txn = Transaction(engine)
        keys = [table.codec.encode(row)[0] for row in rows]
        before = Model._found(txn, table, keys)
        write_rows(txn, table, RowChanges(changed=list(zip(keys, before, rows, strict=True))))
        commit(txn)

    @staticmethod
    def remove(engine: Engine, table: StoredTable, *identities: tuple[Any, ...]) -> None:
        """Delete rows by their primary keys."""
        txn = Transaction(engine)
        keys = [table.codec.key(identity) for identity in identities]
        write_rows(txn, table, RowChanges(gone=list(zip(keys, Model._found(txn, table, keys), strict=True))))
        commit(txn)

    @staticmethod
    def _found(txn: Transaction, table: StoredTable, keys: list[bytes]) -> list[bytes]:
        values = txn.multi_get(table.name, keys)
        if None in values:
            raise LookupError(f"{table.name} has no {keys[values.index(None)]!r}")
        return values

    @staticmethod
    def rows(engine: Engine, table: StoredTable) -> list[tuple[Any, ...]]:
        return [table.codec.decode(key, value) for key, value in engine.backend.scan(table.name)]

    @staticmethod
    def verify(engine: Engine) -> None:
        """Check that families, rows, counts and index entries are exactly what the catalog and the records say."""
        engine.reload()
        backend, catalog = engine.backend, engine.catalog
        assert backend.column_families() == sorted(family for family, _ in catalog.families())
        assert list(backend.prefix_scan(RESERVED_FAMILY, b"catalog/intent/")) == []
        for table in catalog.tables.values():
            records = list(backend.scan(table.name))
            assert decode_counter(backend.get(RESERVED_FAMILY, table.count_key)) == len(records)
            for index in table.readable.values():
                entries = [pair for k, v in records for pair in index.entries(table.codec.decode(k, v), k)]
                assert sorted(entries) == list(backend.scan(index.family)), f"entries of {index.family}"
        building = {
            index.name
            for entry in catalog.entries.values()
            for index in entry.definition.indexes
            if index.state == "building"
        }
        noted = {
            key[len(b"catalog/building/") :] for key, _ in backend.prefix_scan(RESERVED_FAMILY, b"catalog/building/")
        }
        assert {name.encode() for name in building} == noted


@pytest.fixture(scope="session")
def model() -> Model:
    return Model()
