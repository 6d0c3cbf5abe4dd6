"""Writes by statement, and the first import: rows through the row writer without an object for each."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.dml import Delete, Insert, Update

from kvdialect import exc
from kvdialect.orm import arrow
from kvdialect.orm.refreshing import follow_statement
from kvdialect.query import dml
from kvdialect.query.statement import RECORD
from kvdialect.schema.definition import MISSING
from kvdialect.schema.records import Record, record_of, records_for
from kvdialect.schema.rows import Pair, Row
from kvdialect.store.echo import LoggedTransaction
from kvdialect.store.references import References, Written
from kvdialect.store.table import StoredTable
from kvdialect.store.writer import RowChanges, write_rows
from kvdialect.store.writer import commit as commit_transaction

if TYPE_CHECKING:
    from kvdialect.orm.engine import Engine
    from kvdialect.orm.session import Session

_UPDATE_CHUNK = 2_000


class WriteResult(IteratorResult[Any]):
    """The result of an insert, update or delete: no rows, and how many were written.

    Attributes:
        rowcount: the rows inserted, matched by the update, or deleted.
        inserted_primary_key_rows: the primary key of each row inserted.
    """

    def __init__(self, rowcount: int, inserted: Sequence[tuple[Any, ...]] = ()) -> None:
        super().__init__(SimpleResultMetaData([]), iter(()))
        self.rowcount = rowcount
        self.inserted_primary_key_rows = list(inserted)

    @property
    def inserted_primary_key(self) -> tuple[Any, ...] | None:
        """The primary key of the one row inserted."""
        return self.inserted_primary_key_rows[0] if self.inserted_primary_key_rows else None

    @property
    def returns_rows(self) -> bool:
        """Always False, as there are none."""
        return False


# ------------------------------------------------------------------------------------------------ insert


def insert(session: Session, statement: Insert, params: Any) -> WriteResult:
    """Insert rows: ``insert(Record)`` with a dict or a list of dicts, or with ``values(...)``."""
    table, given = dml.insert_rows(statement, params)
    session.flush()
    txn = session._autobegin()
    stored = session.binding.resolve(table)
    rows = complete_rows(session.engine, stored, table, given)
    if isinstance(txn, LoggedTransaction):
        txn.note_statement(statement, f"{len(rows)} rows")
    inserted = _written(session, stored, RowChanges(new=rows))
    decode = stored.codec.decode_key
    return WriteResult(len(rows), [decode(key) for key, _ in inserted])


def alike(session: Session, statement: Any, params: Any) -> Any:
    """The parameters of an insert() of records for the SQL door, which takes the columns of the first row for all.

    Rows that name different columns are completed, as :func:`insert` completes them.
    """
    if not isinstance(statement, Insert) or not isinstance(params, list | tuple) or len(params) < 2:
        return params
    source: Any = statement
    if source.select is not None or source._multi_values or source._values or RECORD not in source.table._annotations:
        return params
    if len({frozenset(row) for row in params}) < 2:
        return params
    stored = session.binding.resolve(source.table)
    rows = complete_rows(session.engine, stored, source.table, params)
    return [dict(zip(stored.definition.names, row, strict=True)) for row in rows]


def complete_rows(
    engine: Engine, stored: StoredTable, table: sa.Table, given: Iterable[Mapping[str, Any]]
) -> list[Row]:
    """Rows in column order: what a dict does not name has its default, an id of the allocator, or None.

    Raises:
        ArgumentError: for a name that is no column, or a column without value and default.
    """
    definition = stored.definition
    names = definition.names
    known = set(names)
    auto = next((field.name for field in definition.fields if field.autoincrement), None)
    defaults = {column.name: _default(column) for column in table.columns}
    in_order = itemgetter(*names) if len(names) > 1 else None
    rows: list[Any] = []
    wanting: list[list[Any]] = []
    explicit: list[int] = []
    for values in given:
        if in_order is not None and auto is None and len(values) == len(names):
            try:
                rows.append(in_order(values))
                continue
            except KeyError:
                pass  # some other name: said below
        if not known.issuperset(values):
            unknown = sorted(set(values) - known)
            raise exc.ArgumentError(
                f"{definition.name} has no column {', '.join(map(repr, unknown))}; its columns are {', '.join(names)}"
            )
        row = []
        for name in names:
            if name in values:
                row.append(values[name])
            elif (default := defaults.get(name)) is not None:
                row.append(default())
            elif name == auto or definition.field(name).nullable:
                row.append(None)
            else:
                raise exc.ArgumentError(
                    f"{definition.name}.{name} has no value and no default; give it in each row", field=name
                )
        if auto is not None:
            ident = row[names.index(auto)]
            if ident is None:
                wanting.append(row)
            elif type(ident) is int:
                explicit.append(ident)
        rows.append(row)
    if auto is not None:
        allocator = engine.allocator(stored)
        if explicit:
            allocator.observe(max(explicit))
        if wanting:
            at = names.index(auto)
            for row, ident in zip(wanting, allocator.take(len(wanting)), strict=True):
                row[at] = ident
    return list(map(tuple, rows))


def _default(column: sa.Column[Any]) -> Callable[[], Any] | None:
    """What gives a column's value where a row has none."""
    default = column.default
    if default is None:
        return None
    value = getattr(default, "arg", None)
    if default.is_scalar:
        return lambda: value
    if default.is_callable:
        return lambda: value(None)  # type: ignore[misc]  # SQLAlchemy wraps it to take a context
    raise exc.NotSupportedError(
        f"the default of {column.table.name}.{column.name} is SQL; give a value or a Python function"
    )


# ------------------------------------------------------------------------------------------------ update and delete


def update(session: Session, statement: Update, params: Any) -> WriteResult:
    """Update the rows that a statement matches; objects of the session that they belong to are refreshed."""
    by_key = dml.rows_by_key(statement, params)
    if by_key is not None:
        return _update_by_key(session, statement, *by_key)
    session.flush()
    txn = session._autobegin()
    prepared, assign = dml.prepare_update(session.binding.planner, statement, txn, params)
    if isinstance(txn, LoggedTransaction):
        txn.note_statement(statement, prepared.params, prepared.explain(txn))
    table: StoredTable = prepared.table
    decode, key_of = table.codec.decode, table.codec.key
    identity_of = table.codec.identity
    # All matches are found before any is written: an update must not meet its own rows again.
    matches = list(prepared.keys(txn))
    changes = RowChanges()
    moved: list[bytes] = []
    auto = next((at for at, field in enumerate(table.definition.fields) if field.autoincrement), None)
    for key, raw in matches:
        row = assign(decode(key, raw))
        new_key = key_of(identity_of(row))
        if new_key == key:
            changes.changed.append((key, raw, row))
        else:
            changes.gone.append((key, raw))
            changes.new.append(row)
            moved.append(key)
            if auto is not None and type(row[auto]) is int:
                session.engine.allocator(table).observe(row[auto])
    inserted = _written(session, table, changes, len(moved))
    moves = dict(zip(moved, [key for key, _ in inserted], strict=True))
    follow_statement(session, txn, table, [key for key, _, _ in changes.changed], [], moves)
    return WriteResult(len(matches))


def _update_by_key(
    session: Session, statement: Update, table: sa.Table, given: Sequence[Mapping[str, Any]]
) -> WriteResult:
    """Change the records that rows name by their primary keys, as SQLAlchemy's bulk update by primary key does."""
    session.flush()
    txn = session._autobegin()
    stored = session.binding.resolve(table)
    codec = stored.codec
    if isinstance(txn, LoggedTransaction):
        txn.note_statement(statement, f"{len(given)} rows")
    wanted: dict[bytes, dict[str, Any]] = {}
    for values in given:
        key = codec.key(tuple([values[name] for name in stored.definition.primary_key]))
        wanted.setdefault(key, {}).update(values)
    keys = list(wanted)
    changes = RowChanges()
    for key, raw in zip(keys, txn.multi_get(stored.family, keys), strict=True):
        if raw is None:
            continue
        row = list(codec.decode(key, raw))
        for name, value in wanted[key].items():
            if name not in stored.definition.primary_key:
                row[codec.positions[name]] = value
        changes.changed.append((key, raw, tuple(row)))
    if len(changes.changed) < len(keys):
        from sqlalchemy.orm.exc import StaleDataError  # with all of SQLAlchemy's ORM, which is not needed otherwise

        raise StaleDataError(
            f"UPDATE statement on table '{table.name}' expected to update {len(keys)} row(s);"
            f" {len(changes.changed)} were matched."
        )
    _written(session, stored, changes)
    follow_statement(session, txn, stored, keys, [], {})
    return WriteResult(len(given))


def delete(session: Session, statement: Delete, params: Any) -> WriteResult:
    """Delete the rows that a statement matches; objects of the session that they belong to are detached."""
    session.flush()
    txn = session._autobegin()
    prepared = dml.prepare_delete(session.binding.planner, statement, txn, params)
    if isinstance(txn, LoggedTransaction):
        txn.note_statement(statement, prepared.params, prepared.explain(txn))
    matches = list(prepared.keys(txn))
    _written(session, prepared.table, RowChanges(gone=matches))
    follow_statement(session, txn, prepared.table, [], [key for key, _ in matches])
    return WriteResult(len(matches))


def declared_default(table: str, column: str) -> Any:
    """The default of a field, of the latest record class mapped to the table, for SET DEFAULT; None if it has none.

    The catalog does not have it: a table's own rows never need it.
    """
    for record in records_for(table):
        default = next((each.default for each in record.definition.fields if each.name == column), MISSING)
        if default is not MISSING:
            return default.name if isinstance(default, enum.Enum) else default
    return None


def _written(session: Session, table: StoredTable, changes: RowChanges, moved: int = 0) -> list[Pair]:
    """Write the rows of one statement, and what foreign keys make of it: all, or nothing if it raises an error."""
    txn, references = session._autobegin(), session.references
    savepoint = txn.savepoint()
    done: list[Written] = []
    try:
        inserted, updated = write_rows(txn, table, changes)
        if references is not None:
            references.wrote(table, changes, inserted, updated, moved)
            done = references.settle()
    except BaseException:
        txn.rollback_to(savepoint)
        raise
    txn.release(savepoint)
    for each in done:
        follow_statement(session, txn, each.table, each.changed, each.gone, each.moved)
    return inserted


# ------------------------------------------------------------------------------------------------ the first import


def load(engine: Engine, record: Record, rows: Any, batch_size: int, progress: Callable[[int], None] | None) -> int:
    """See :meth:`kvdialect.Engine.bulk_load`."""
    if type(batch_size) is not int or batch_size < 1:
        raise exc.ArgumentError(f"batch_size={batch_size!r}; give an int of 1 or more")
    items: Iterable[Any] = arrow.record_rows(record, rows) if arrow.has_stream(rows) else rows
    done = 0
    batch: list[Any] = []
    for row in items:
        batch.append(row)
        if len(batch) >= batch_size:
            done += _load_batch(engine, record, batch)
            batch.clear()
            if progress is not None:
                progress(done)
    if batch:
        done += _load_batch(engine, record, batch)
        if progress is not None:
            progress(done)
    return done


def _load_batch(engine: Engine, record: Record, batch: Sequence[Any]) -> int:
    engine.refresh()
    stored = engine.binding().loading(record).table
    if record.auto is None and all(item.__class__ is record.cls for item in batch):
        rows = list(map(record.values, batch))
    else:
        given = [
            item if item.__class__ is dict or isinstance(item, Mapping) else _as_mapping(record, item) for item in batch
        ]
        rows = complete_rows(engine, stored, record.table, given)
    txn = engine.new_transaction()
    try:
        # Without a snapshot: the commit itself finds duplicates, and its first read would be its only one.
        changes = RowChanges(new=rows)
        inserted, _ = write_rows(txn, stored, changes, check=engine.foreign_keys)
        if engine.foreign_keys:
            references = References(txn, lambda: engine.catalog_at(txn.snapshot), declared_default)
            references.wrote(stored, changes, inserted, ())
            references.settle()
        commit_transaction(txn)
    finally:
        txn.close()
    return len(rows)


def _as_mapping(record: Record, item: Any) -> Mapping[str, Any]:
    if record_of(item) is not record:
        raise exc.ArgumentError(f"a row of {record.table.name} is a dict or a {record.cls.__name__}, not {item!r:.80}")
    return dict(zip(record.names, record.values(item), strict=True))
