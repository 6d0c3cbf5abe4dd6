"""The schema of SQL tables, changed within a transaction.

SQL tables share one column family, so that making, altering and dropping one is a matter of keys: the catalog's entries
and the rows become pending writes of the transaction, which others see when it commits, or never. Such a commit expects
the schema version that the transaction began with, and writes the next one.

What a dropped table or index has stored is noted as garbage in the same batch, and deleted after it by
:func:`collect`, in batches: the number that its keys begin with is never given out again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import attrs

from kvdialect import exc
from kvdialect.schema.definition import MISSING, FieldDefinition, IndexDefinition, TableDefinition
from kvdialect.schema.sqlrows import HIGHEST, SHARED_FAMILY, prefix_of
from kvdialect.storage.batch import DELETE, WriteBatch
from kvdialect.storage.contract import StorageBackend
from kvdialect.storage.options import RESERVED_FAMILY, ColumnFamilyOptions
from kvdialect.storage.ranges import successor
from kvdialect.store.catalog import (
    COUNT,
    GARBAGE,
    IDS,
    NEXT_ID_KEY,
    VERSION_KEY,
    Catalog,
    View,
    building_key,
    encode_view,
    intent_key,
    number,
    table_key,
    view_key,
)
from kvdialect.store.entries import TableEntry, encode_entry
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import duplicate_entry

Convert = Callable[[Sequence[Any]], tuple[Any, ...]]
"""Makes a row anew: it takes one as the new fields read it, and gives the one to store."""

# Rows that are inserted are looked up first, and are not there: what filters are for.
SHARED_OPTIONS: Final = ColumnFamilyOptions(bloom="full")
"""Options of the family of all SQL tables."""

_COLLECTED: Final = 5000
"""Keys that one batch of :func:`collect` deletes."""


def create_table(txn: Transaction, catalog: Catalog, definition: TableDefinition) -> Catalog:
    """Create a table; ids are given to it, its fields and its indexes.

    Raises:
        ProgrammingError: if there is a table of this name.
    """
    if definition.name in catalog.entries:
        raise exc.ProgrammingError(f"the store has a table {definition.name} already", table=definition.name)
    _begin(txn, catalog)
    ids = _Ids(catalog)
    definition = attrs.evolve(
        definition,
        id=ids.take(),
        version=1,
        fields=tuple(attrs.evolve(field, id=at, default=MISSING) for at, field in enumerate(definition.fields, 1)),
        indexes=tuple(attrs.evolve(index, id=ids.take()) for index in definition.indexes),
    )
    entry = TableEntry.new(definition)
    return _put(txn, catalog, {definition.name: entry}, next_id=ids.next)


def alter_table(
    txn: Transaction, catalog: Catalog, name: str, definition: TableDefinition, convert: Convert | None = None
) -> Catalog:
    """Make a table another one: its name, fields and indexes may change.

    Args:
        txn: the transaction.
        catalog: as it is so far.
        name: of the table.
        definition: what it becomes. Fields and indexes that stay have their ids, new ones 0.
        convert: makes each row anew; None: rows stay as they are stored.

    Raises:
        IntegrityError: if a new unique index has values twice.
    """
    _begin(txn, catalog)
    before = catalog.entries[name]
    old = before.definition
    ids = _Ids(catalog)
    next_field = before.next_field_id
    fields: list[FieldDefinition] = []
    for field in definition.fields:
        if field.id == 0:
            fields.append(attrs.evolve(field, id=next_field))
            next_field += 1
        else:
            known = next((each for each in old.fields if each.id == field.id), None)
            fields.append(field if known is None else attrs.evolve(field, default=known.default))
    changed = [(f.id, f.name, f.kind.spec()) for f in fields] != [(f.id, f.name, f.kind.spec()) for f in old.fields]
    indexes = tuple(attrs.evolve(index, id=index.id or ids.take()) for index in definition.indexes)
    definition = attrs.evolve(
        definition,
        id=old.id,
        fields=tuple(fields),
        indexes=indexes,
        version=old.version + 1 if changed or convert is not None else old.version,
    )
    after = before.becoming(definition)
    after = attrs.evolve(after, next_field_id=max(after.next_field_id, next_field))
    known_indexes = {index.id: index for index in old.indexes}
    for index in old.indexes:
        if index.id not in {each.id for each in indexes}:
            _discard(txn, index.id)
    if convert is not None:
        _rewrite(txn, before.table, after.table, convert)
    fresh = [index for index in indexes if index.id not in known_indexes]
    if convert is not None:  # the entries of rows that were made anew may be others
        _clear_indexes(txn, [index for index in indexes if index.id in known_indexes])
        fresh = list(indexes)
    for index in fresh:
        _build(txn, after.table, index)
    catalog = _put(txn, catalog, {definition.name: after}, next_id=ids.next)
    if name != definition.name:
        catalog = _forget(txn, catalog, name)
    return catalog


def drop_table(txn: Transaction, catalog: Catalog, name: str) -> Catalog:
    """Drop a table with its indexes: of a table of records the families go when the transaction has committed."""
    _begin(txn, catalog)
    entry = catalog.entries[name]
    definition = entry.definition
    if definition.shared:
        for number_ in (definition.id, *(index.id for index in definition.indexes)):
            _discard(txn, number_)
    else:
        for family in entry.families:
            _set(txn, RESERVED_FAMILY, intent_key(family), b"drop")
            _set(txn, RESERVED_FAMILY, building_key(family), DELETE)
        if name in txn.tables:
            if txn.undo is not None:
                txn.remember(txn.tables, name)
            del txn.tables[name]
    table_id = prefix_of(definition.id)
    _set(txn, RESERVED_FAMILY, COUNT + table_id, DELETE)
    _set(txn, RESERVED_FAMILY, IDS + table_id, DELETE)
    if entry.table.count_key in txn.deltas:
        txn.adjust(entry.table, -txn.deltas[entry.table.count_key])
    return _forget(txn, catalog, name)


def put_view(txn: Transaction, catalog: Catalog, view: View) -> Catalog:
    """Create a view, or give one another text."""
    _begin(txn, catalog)
    _set(txn, RESERVED_FAMILY, view_key(view.name), encode_view(view))
    return attrs.evolve(catalog, views=MappingProxyType({**catalog.views, view.name: view}))


def drop_view(txn: Transaction, catalog: Catalog, name: str) -> Catalog:
    """Drop a view."""
    _begin(txn, catalog)
    _set(txn, RESERVED_FAMILY, view_key(name), DELETE)
    views = dict(catalog.views)
    del views[name]
    return attrs.evolve(catalog, views=MappingProxyType(views))


class LocalIds:
    """Ids of a table that the transaction itself has made: nobody else can take any before it commits."""

    def __init__(self, txn: Transaction, table: StoredTable) -> None:
        self._txn, self._table = txn, table
        self._key = IDS + prefix_of(table.definition.id)

    def take(self, count: int) -> range:
        """``count`` ids that no row has."""
        last = self._last()
        if last + count > HIGHEST:
            raise exc.DataError(f"the ids of {self._table.name} are used up", table=self._table.name)
        self._note(last + count)
        return range(last + 1, last + count + 1)

    def observe(self, given: int) -> None:
        """Note an explicit id, so that what is given out from now on is larger."""
        if given > self._last():
            self._note(given)

    def _last(self) -> int:
        raw = self._txn.get(RESERVED_FAMILY, self._key)
        return 0 if raw is None else int.from_bytes(raw, "big")

    def _note(self, last: int) -> None:
        _set(self._txn, RESERVED_FAMILY, self._key, number(last))


def collect(backend: StorageBackend) -> None:
    """Delete what dropped tables and indexes have stored. What is cut off is gone on with at the next call."""
    garbage = list(backend.prefix_scan(RESERVED_FAMILY, GARBAGE))
    if not garbage:
        return
    batch, room = WriteBatch(), _COLLECTED
    for key, _ in garbage:
        prefix = key[len(GARBAGE) :]
        with contextlib.suppress(exc.UnknownColumnFamily):
            while True:
                for each, _value in islice(backend.scan(SHARED_FAMILY, prefix, successor(prefix)), room):
                    batch.delete(SHARED_FAMILY, each)
                    room -= 1
                if room:
                    break
                backend.batch_write(batch)
                batch, room = WriteBatch(), _COLLECTED
        batch.delete(RESERVED_FAMILY, key)
    backend.batch_write(batch)


# ------------------------------------------------------------------------------------------ pending changes


class _Ids:
    """The numbers of new tables and indexes."""

    def __init__(self, catalog: Catalog) -> None:
        self.next = catalog.next_id

    def take(self) -> int:
        given = self.next
        self.next += 1
        return given


def _begin(txn: Transaction, catalog: Catalog) -> None:
    """Make the transaction one that changes the schema."""
    if VERSION_KEY in txn.pending(RESERVED_FAMILY):
        return  # (that schema_version is set would not do: a savepoint may have been rolled back)
    backend = txn.store.backend
    if SHARED_FAMILY not in backend.column_families():
        with contextlib.suppress(exc.ColumnFamilyExists):
            backend.create_column_family(SHARED_FAMILY, SHARED_OPTIONS)
        txn.later.add(SHARED_FAMILY)
    if catalog.raw_version is None:
        raise exc.ReadOnlyStore("the store has no catalog and is open for reading", engine=backend.name)
    txn.schema_version = catalog.raw_version
    _set(txn, RESERVED_FAMILY, VERSION_KEY, number(catalog.version + 1))


def _set(txn: Transaction, cf: str, key: bytes, value: Any) -> None:
    pending = txn.pending(cf)
    if txn.undo is not None:
        txn.remember(pending, key)
    pending[key] = value


def _put(txn: Transaction, catalog: Catalog, entries: Mapping[str, TableEntry], next_id: int) -> Catalog:
    kept = []
    for name, entry in entries.items():
        raw = encode_entry(entry)
        _set(txn, RESERVED_FAMILY, table_key(name), raw)
        kept.append((name, attrs.evolve(entry, raw=raw)))
    if next_id != catalog.next_id:
        _set(txn, RESERVED_FAMILY, NEXT_ID_KEY, number(next_id))
    return attrs.evolve(catalog, entries=MappingProxyType({**catalog.entries, **dict(kept)}), next_id=next_id)


def _forget(txn: Transaction, catalog: Catalog, name: str) -> Catalog:
    _set(txn, RESERVED_FAMILY, table_key(name), DELETE)
    entries = dict(catalog.entries)
    del entries[name]
    return attrs.evolve(catalog, entries=MappingProxyType(entries))


def _discard(txn: Transaction, table_or_index: int) -> None:
    """Note what has this number as garbage, and forget what is pending of it."""
    prefix = prefix_of(table_or_index)
    _set(txn, RESERVED_FAMILY, GARBAGE + prefix, b"")
    for target in (txn.pending(SHARED_FAMILY), txn.expected(SHARED_FAMILY)):
        for key in [key for key in target if key.startswith(prefix)]:
            if target is txn.changes.get(SHARED_FAMILY):
                _set(txn, SHARED_FAMILY, key, DELETE)


def _rows(txn: Transaction, table: StoredTable) -> Iterable[tuple[bytes, bytes]]:
    """All rows of a table; the commit expects that nobody has written to it."""
    txn.expect_range(SHARED_FAMILY, table.prefix, table.stop)
    return list(txn.scan(SHARED_FAMILY, table.prefix, table.stop))


def _rewrite(txn: Transaction, before: StoredTable, after: StoredTable, convert: Convert) -> None:
    decode, encode = after.codec.decode, after.codec.encode
    for key, raw in _rows(txn, before):
        new_key, value, _ = encode(convert(decode(key, raw)))
        assert new_key == key
        _set(txn, SHARED_FAMILY, key, value)


def _clear_indexes(txn: Transaction, indexes: Sequence[IndexDefinition]) -> None:
    for index in indexes:
        prefix = prefix_of(index.id)
        for key, _ in list(txn.scan(SHARED_FAMILY, prefix, successor(prefix))):
            _set(txn, SHARED_FAMILY, key, DELETE)


def _build(txn: Transaction, table: StoredTable, index: IndexDefinition) -> None:
    """Write the entries of a new index."""
    codec = table.indexes[index.name]
    pending = txn.pending(SHARED_FAMILY)
    for key, raw in _rows(txn, table):
        for entry, value in codec.entries(table.codec.decode(key, raw), key):
            if index.unique:
                found = pending.get(entry)
                if found is not None and found is not DELETE and found != value:
                    raise _taken(table, index, duplicate_entry(table, codec, entry))
            _set(txn, SHARED_FAMILY, entry, value)


def _taken(table: StoredTable, index: IndexDefinition, error: exc.IntegrityError) -> exc.IntegrityError:
    """The error for values that a new unique index has twice, in SQLite's words."""
    name = table.definition.sql_name[1]
    hidden = any(column.startswith("\0") for column in index.columns)
    what = f"index '{index.name}'" if hidden else ", ".join(f"{name}.{column}" for column in index.columns)
    return exc.IntegrityError(f"UNIQUE constraint failed: {what} ({error.message})", **error.facts)


__all__ = ["LocalIds", "alter_table", "collect", "create_table", "drop_table", "drop_view", "put_view"]
