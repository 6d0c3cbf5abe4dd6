"""Rows of files into tables, batch by batch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Literal, Protocol

from sqlalchemy import exc as sa_exc

from kvdialect import exc
from kvdialect.cli.files import Record, named, reader_of
from kvdialect.cli.forms import form_of
from kvdialect.cli.selecting import field_of
from kvdialect.schema.definition import MISSING, FieldDefinition
from kvdialect.schema.rows import Row
from kvdialect.storage.interrupts import HeldInterrupts
from kvdialect.store.allocator import autoincrement_field
from kvdialect.store.engine import Engine
from kvdialect.store.retrying import Attempts
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, commit, write_rows

Existing = Literal["fail", "skip", "replace"]
EXISTING: Final = ("fail", "skip", "replace")
_PATIENCE: Final = 10.0
"""Seconds for which a batch is written again after conflicts."""

Values = dict[str, Any]
"""A row by column name."""


class Reading:
    """Makes rows of a table of a file's records, and says where one is none.

    Args:
        table: the table.
        path: of the file, for messages.
        file_format: of the file.
        null: what stands for NULL in CSV.
        generated: names of columns that SQL works out itself: a file may have them, and they are passed over.
    """

    def __init__(
        self, table: StoredTable, path: str, file_format: str, null: str, generated: frozenset[str] = frozenset()
    ) -> None:
        self._table, self._path, self._generated = table, named(path), generated
        self._readers = {}
        for field in table.definition.visible:
            form = form_of(field)
            self._readers[field.name] = (field, form, reader_of(form, file_format, null))
        # SQL has defaults, and says itself what may not be NULL.
        self._lenient = table.definition.shared

    def values(self, record: Record) -> Values:
        """The row of a record.

        Raises:
            DataError: for a column that the table does not have, and a value that its column does not take; the message
                names the line and the column, and says what is allowed.
        """
        row: Values = {}
        for name, seen in record.values.items():
            known = self._readers.get(name)
            if known is None:
                self._unknown(record, name)
            elif name not in self._generated:
                field, form, read = known
                try:
                    value = read(seen)
                except (ValueError, ArithmeticError, TypeError) as error:
                    raise self._at(record, form.refusal(seen)) from error
                if value is None and not self._may_lack(field):
                    raise self._at(record, form.refusal(None))
                row[name] = value
        if not self._lenient and len(row) < len(self._readers):
            for name, (field, _, _) in self._readers.items():
                if name in row:
                    continue
                if field.default is not MISSING:
                    row[name] = copy.copy(field.default)  # what older rows have, and what SQL gives
                elif not self._may_lack(field):
                    raise exc.DataError(
                        f"{self._path}, {record.where}: there is no {name}; allowed: {field.kind.allowed}",
                        field=name, path=self._path,
                    )  # fmt: skip
        return row

    def _may_lack(self, field: FieldDefinition) -> bool:
        return field.nullable or field.autoincrement or self._lenient

    def _unknown(self, record: Record, name: str) -> None:
        try:
            field_of(self._table, name)
        except exc.ProgrammingError as error:
            raise exc.DataError(
                f"{self._path}, {record.where}: {error.message}", field=name, path=self._path
            ) from error

    def _at(self, record: Record, error: exc.DataError) -> exc.DataError:
        return exc.DataError(f"{self._path}, {record.where}: {error.message}", **error.facts, path=self._path)


class Target(Protocol):
    """Where rows go."""

    def write(self, rows: Sequence[Values]) -> int:
        """Write rows in one transaction, all of them or none; return how many, without those that were skipped."""

    def close(self) -> None:
        """Give back what it holds."""


class RecordTarget:
    """A table of records."""

    def __init__(self, engine: Engine, table: StoredTable, existing: Existing) -> None:
        self._engine, self._name, self._existing = engine, table.name, existing

    def write(self, rows: Sequence[Values]) -> int:
        return _retried(lambda: self._write(rows))

    def _write(self, rows: Sequence[Values]) -> int:
        engine = self._engine
        engine.refresh()
        table = engine.table(self._name)
        names = table.codec.names
        made: list[Row] = self._with_ids(table, [[row.get(name) for name in names] for row in rows])
        txn = Transaction(engine)
        try:
            # Without a snapshot where it fails: the commit itself finds duplicates.
            fails = self._existing == "fail"
            changes = RowChanges(new=made) if fails else self._changes(txn, table, made)
            write_rows(txn, table, changes, check=not fails)
            commit(txn)
        finally:
            txn.close()
        return len(changes.new) + len(changes.changed)

    def _with_ids(self, table: StoredTable, rows: list[list[Any]]) -> list[Row]:
        field = autoincrement_field(table)
        if field is not None:
            at = table.codec.positions[field.name]
            allocator = self._engine.allocator(table)
            given = [row[at] for row in rows if row[at] is not None]
            if given:
                allocator.observe(max(given))
            wanting = [row for row in rows if row[at] is None]
            for row, ident in zip(wanting, allocator.take(len(wanting)) if wanting else (), strict=True):
                row[at] = ident
        return [tuple(row) for row in rows]

    def _changes(self, txn: Transaction, table: StoredTable, rows: Sequence[Row]) -> RowChanges:
        """The rows that are new, and with ``replace`` those that are there already."""
        keyed: dict[bytes, Row] = {}
        for row in rows:
            key = table.codec.encode(row)[0]
            if self._existing == "replace" or key not in keyed:
                keyed[key] = row
        changes = RowChanges()
        for (key, row), found in zip(keyed.items(), txn.multi_get(table.family, keyed), strict=True):
            if found is None:
                changes.new.append(row)
            elif self._existing == "replace":
                changes.changed.append((key, found, row))
        return changes

    def close(self) -> None:
        """There is nothing to give back."""


class SqlTarget:
    """A table made by SQL: rows go the way of INSERT, with its defaults and constraints."""

    def __init__(self, engine: Engine, table: StoredTable, existing: Existing) -> None:
        self._door = engine.sqlalchemy()
        quote = self._quote = self._door.dialect.identifier_preparer.quote
        schema, name = table.definition.sql_name
        self._table = f"{quote(schema)}.{quote(name)}"
        self._verb = {"fail": "INSERT", "skip": "INSERT OR IGNORE", "replace": "INSERT OR REPLACE"}[existing]

    def generated(self) -> frozenset[str]:
        """Names of the columns that SQL works out itself."""
        schema, name = self._table.split(".", 1)
        with self._door.connect() as connection:
            rows = connection.exec_driver_sql(f"PRAGMA {schema}.table_xinfo({name})").all()
        return frozenset(row[1] for row in rows if row[6] in (2, 3))

    def write(self, rows: Sequence[Values]) -> int:
        return _retried(lambda: self._write(rows))

    def _write(self, rows: Sequence[Values]) -> int:
        written = 0
        try:
            with self._door.begin() as connection:
                for names, group in _alike(rows):
                    listed, marks = ", ".join(map(self._quote, names)), ", ".join("?" * len(names))
                    values = f"({listed}) VALUES ({marks})" if names else "DEFAULT VALUES"
                    text = f"{self._verb} INTO {self._table} {values}"
                    given = [tuple(row.values()) for row in group] if names else None
                    written += connection.exec_driver_sql(text, given).rowcount
        except sa_exc.DBAPIError as error:
            raise (error.orig if isinstance(error.orig, exc.Error) else error) from error
        return written

    def close(self) -> None:
        self._door.dispose()


def _alike(rows: Sequence[Values]) -> Iterator[tuple[tuple[str, ...], list[Values]]]:
    """Rows that follow one another and name the same columns, together."""
    group: list[Values] = []
    names: tuple[str, ...] = ()
    for row in rows:
        own = tuple(row)
        if group and (own != names or not own):
            yield names, group
            group = []
        names = own
        group.append(row)
    if group:
        yield names, group


def _retried(write: Callable[[], int]) -> int:
    """Write, again when another transaction came first."""
    attempts = Attempts(None, _PATIENCE)
    while True:
        try:
            return write()
        except exc.Error as error:
            if not attempts.again(error):
                raise
        time.sleep(attempts.pause())


class Loading:
    """Writes the records of a file, a transaction for so many rows.

    Attributes:
        done: how many rows of the file were dealt with, all in transactions that are committed.
        written: how many of these were written; the others were there, and skipped.
        where: the last of these in the file; "" before the first.
    """

    def __init__(self, target: Target, reading: Reading, batch_size: int) -> None:
        self._target, self._reading, self._size = target, reading, batch_size
        self.done = self.written = 0
        self.where = ""

    def run(self, records: Iterable[Record], progress: Callable[[int], object] | None = None) -> None:
        """Write all records. Ctrl-C takes effect between two transactions, or two records.

        Raises:
            DataError: for a record that is no row; what was committed before stays.
            Error: what a transaction raises; it has left nothing.
        """
        taken = iter(records)
        while True:
            batch = list(islice(taken, self._size))
            if not batch:
                return
            rows = list(map(self._reading.values, batch))
            # Between a commit and the line that counts it there is no place for an interruption.
            held = HeldInterrupts()
            with held:
                try:
                    self.written += self._target.write(rows)
                except exc.Error as error:
                    error.add_note(f"in {batch[0].where} to {batch[-1].where.split()[-1]} of the file")
                    raise
                self.done += len(rows)
                self.where = batch[-1].where
            held.deliver()
            if progress is not None:
                progress(self.done)


def target_of(engine: Engine, table: StoredTable, existing: Existing) -> Target:
    """Where rows of a table go.

    Raises:
        NotSupportedError: if it was made by SQL, and this installation has no SQL door.
    """
    if table.definition.shared:
        return SqlTarget(engine, table, existing)
    return RecordTarget(engine, table, existing)


def made_by_sql(engine: Engine, statements: Iterable[str]) -> None:
    """Create what statements of SQL say."""
    door = engine.sqlalchemy()
    try:
        with door.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
    except sa_exc.DBAPIError as error:
        raise (error.orig if isinstance(error.orig, exc.Error) else error) from error
    finally:
        door.dispose()
