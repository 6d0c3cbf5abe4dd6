"""Arrow: the result of a query as columns, without an object or a tuple for the caller, and rows out of such columns.

What leaves and enters here is Apache Arrow's memory layout, which pandas, polars, DuckDB and Parquet share. The planner
chooses the way as for any query, so an index that covers the columns is all that is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeGuard

from sqlalchemy import exc as sa_exc

from kvdialect import exc
from kvdialect.orm import door
from kvdialect.orm.arrowforms import ArrowColumn, columns_of_query, form_of, pyarrow, strict
from kvdialect.orm.arrowvalues import Unfit
from kvdialect.schema.definition import FieldDefinition
from kvdialect.schema.records import Record
from kvdialect.schema.types import kind_of

if TYPE_CHECKING:
    from kvdialect.orm.session import Session

BATCH: Final = 16_384
"""Rows of a record batch, unless told otherwise: as Python's values they still fit a processor's cache."""

_READ: Final = 10_000
"""Rows that are turned into Python's values at once, out of an Arrow stream."""

Rows = Iterator[Sequence[Sequence[Any]]]
"""A result's rows, in lists."""


def table(session: Session, statement: Any, params: Any, batch_size: int) -> Any:
    """See :meth:`kvdialect.Session.to_arrow`."""
    return batches(session, statement, params, batch_size).read_all()


def batches(session: Session, statement: Any, params: Any, batch_size: int) -> Any:
    """See :meth:`kvdialect.Session.arrow_batches`."""
    pa = pyarrow()
    if type(batch_size) is not int or batch_size < 1:
        raise exc.ArgumentError(f"batch_size={batch_size!r}; give an int of 1 or more")
    columns, rows = _result(session, statement, params)
    names = [column.name for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise exc.ArgumentError(
            f"the statement selects several columns named {', '.join(map(repr, twice))}; give them names of their own"
            " with .label()"
        )
    schema = pa.schema([column.field for column in columns])
    return pa.RecordBatchReader.from_batches(schema, _batches(schema, columns, _sized(rows, batch_size)))


def _batches(schema: Any, columns: Sequence[ArrowColumn], rows: Rows) -> Iterator[Any]:
    pa = pyarrow()
    for chunk in rows:
        arrays = [
            column.form.array(values, column.name)
            for column, values in zip(columns, zip(*chunk, strict=True), strict=True)
        ]
        # A column of more than 2 GiB of text comes in several pieces.
        yield from pa.Table.from_arrays(arrays, schema=schema).to_batches()


def _sized(rows: Rows, size: int) -> Rows:
    """The same rows in lists of ``size``."""
    held: list[Any] = []
    try:
        for chunk in rows:
            held += chunk
            while len(held) >= size:
                yield held[:size]
                del held[:size]
    except exc.StoreClosed as error:
        raise exc.StoreClosed(door.OVER) from error
    if held:
        yield held


def _result(session: Session, statement: Any, params: Any) -> tuple[list[ArrowColumn], Rows]:
    """The columns of a result, and its rows, which are read as they are asked for."""
    session._autoflush()
    txn = session._autobegin()
    try:
        prepared = session.binding.planner.prepare(statement, txn, params or {}, columns=True)
    except exc.NotSupportedError as refusal:
        if "construct" not in refusal.facts:
            raise
        return _of_sql(session, statement, params, refusal)
    if prepared.query.records:
        raise exc.ArgumentError(f"{type(statement).__name__} gives no rows; give a select()")
    columns = list(columns_of_query(prepared.query.outputs, prepared.table.definition, prepared.params))
    return columns, prepared.chunks(txn)


def _of_sql(
    session: Session, statement: Any, params: Any, refusal: exc.NotSupportedError
) -> tuple[list[ArrowColumn], Rows]:
    """The same at the SQL door, whose columns are of the types that SQLAlchemy gives them."""
    try:
        selected = list(statement.selected_columns)
    except (AttributeError, sa_exc.InvalidRequestError):
        raise exc.ArgumentError(
            f"{statement!r:.80} has no columns whose types are known; give a select(), or text(...).columns(...)"
        ) from refusal
    found = door.rows(session, statement, params, refusal)
    columns = []
    for name, column in zip(found.keys(), selected, strict=True):
        try:
            form = strict(form_of(kind_of(column.type)))
        except exc.ArgumentError as error:
            found.close()
            raise exc.ArgumentError(f"column {name} of the result: {error}; use type_coerce() or cast()") from error
        columns.append(ArrowColumn(name, form, True))
    return columns, door.partitions(session, found)


# ------------------------------------------------------------------------------------------------ into records


class ArrowStream(Protocol):
    """What gives its columns by Arrow's PyCapsule protocol: tables and readers of pyarrow, pandas, polars, DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def has_stream(rows: Any) -> TypeGuard[ArrowStream]:
    """Whether something is an Arrow stream."""
    return hasattr(rows, "__arrow_c_stream__")


def record_rows(record: Record, stream: ArrowStream) -> Iterator[dict[str, Any]]:
    """Yield the rows of an Arrow stream as dicts by field name.

    Raises:
        ArgumentError: if it has a column that the record has not, or two of one name.
        DataError: for a value that Python has none for.
        NotSupportedError: if pyarrow is not installed.
    """
    reader = pyarrow().RecordBatchReader.from_stream(stream)
    names = reader.schema.names
    unknown = [name for name in names if name not in record.names]
    if unknown:
        raise exc.ArgumentError(
            f"{record.table.name} has no column {', '.join(map(repr, unknown))}; its columns are"
            f" {', '.join(record.names)} (rename or drop them; of pandas the index, with reset_index(drop=True))"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise exc.ArgumentError(
            f"several columns are named {', '.join(map(repr, twice))}; drop all but one, or rename them"
        )
    fields = [record.definition.field(name) for name in names]
    return _rows(record, reader, fields)


def _rows(record: Record, reader: Any, fields: Sequence[FieldDefinition]) -> Iterator[dict[str, Any]]:
    names = [field.name for field in fields]
    forms = [form_of(field.kind) for field in fields]
    done = 0
    for batch in reader:
        for start in range(0, batch.num_rows, _READ):
            columns = batch.slice(start, _READ).columns
            found = [form.values(column) for form, column in zip(forms, columns, strict=True)]
            wrong = min((at for _, unfit in found for at in unfit), default=None)
            for row in islice(zip(*[values for values, _ in found], strict=True), wrong):
                yield dict(zip(names, row, strict=True))
            if wrong is not None:
                at, value = next((at, unfit[wrong]) for at, (_, unfit) in enumerate(found) if wrong in unfit)
                raise _no_value(record, fields[at], done + wrong + 1, value)
            done += len(found[0][0]) if found else 0


def _no_value(record: Record, field: FieldDefinition, row: int, value: Unfit) -> exc.DataError:
    return exc.DataError(
        f"{record.table.name}.{field.name} in row {row} is {value!r}; allowed: {field.kind.allowed}",
        table=record.table.name, field=field.name, row=row, value=value.shown, allowed=field.kind.allowed,
    )  # fmt: skip
