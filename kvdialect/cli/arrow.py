"""Rows as Arrow's columns, for Parquet and Arrow files; needs pyarrow, the extra ``arrow``.

A UUID is 16 bytes, an Enum its name, a list of simple values a list; other structured values are text in JSON, as in
CSV. The columns of tables made by SQL have the type that their affinity names, and what is of another type is refused.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final
from uuid import UUID

from kvdialect import exc
from kvdialect.cli.files import Convert, Record, whole
from kvdialect.cli.forms import form_of
from kvdialect.codec.composite import Composite, JsonKind, ListKind
from kvdialect.codec.dynamic import DynamicKind
from kvdialect.codec.jsontext import full_form
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.orm.arrowvalues import python_values
from kvdialect.schema.definition import FieldDefinition
from kvdialect.schema.rows import Row

try:
    import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError as error:
    raise exc.NotSupportedError(
        'Parquet and Arrow files need pyarrow: pip install "kvdialect[arrow]" (CSV and JSON lines need nothing)'
    ) from error

_GROUP: Final = 10_000
"""Rows of one group: a bound on what is in memory at once."""

_AFFINITIES: Final = {
    "INTEGER": pa.int64(), "NUMERIC": pa.float64(), "REAL": pa.float64(), "TEXT": pa.string(), "BLOB": pa.binary(),
}  # fmt: skip


def arrow_type(kind: Kind) -> Any:
    """The type of Arrow for the values of a kind."""
    match kind:
        case DynamicKind():
            return _AFFINITIES[kind.affinity]
        case BoolKind():
            return pa.bool_()
        case IntKind():
            return getattr(pa, f"{'' if kind.signed else 'u'}int{kind.bits}")()
        case FloatKind():
            return pa.float64()
        case DecimalKind():
            return pa.decimal128(kind.precision, kind.scale)
        case BytesKind():
            return pa.binary()
        case FixedBytesKind():
            return pa.binary(kind.length)
        case UuidKind():
            return pa.binary(16)
        case DatetimeKind():
            return pa.timestamp("us", tz="UTC" if kind.aware else None)
        case DateKind():
            return pa.date32()
        case TimeKind():
            return pa.time64("us")
        case TimedeltaKind():
            return pa.duration("us")
        case ListKind(element=element) if not isinstance(element, Composite | JsonKind):
            return pa.list_(arrow_type(element))
        case _:
            return pa.string()


def _to_arrow(kind: Kind) -> Convert | None:
    """What makes a value one that pyarrow takes for :func:`arrow_type`; None where it is the same."""
    match kind:
        case UuidKind():
            return lambda value: value.bytes
        case ListKind(element=element) if not isinstance(element, Composite | JsonKind):
            convert = _to_arrow(element)
            if convert is None:
                return list
            return lambda value: [None if part is None else convert(part) for part in value]
        case Composite() | JsonKind():
            return form_of(FieldDefinition(name="", kind=kind)).to_text
    return None


def from_arrow(field: FieldDefinition) -> Convert:
    """What makes a column's value of one that pyarrow gives. It raises ValueError for what is none."""
    kind, form = field.kind, form_of(field)
    structured = isinstance(kind, Composite | JsonKind)
    simple_list = isinstance(kind, ListKind) and not isinstance(kind.element, Composite | JsonKind)
    element = _from_arrow(kind.element) if isinstance(kind, ListKind) else None

    def read(value: Any) -> Any:
        if value is None:
            return None
        if structured:
            if isinstance(value, str):
                return form.from_text(value)
            if simple_list and isinstance(value, list):
                assert element is not None
                return kind.check(kind.python(None if part is None else element(part) for part in value))
            return full_form(kind)(value)
        return convert(value)

    convert = _from_arrow(kind)
    return read


def _from_arrow(kind: Kind) -> Convert:
    form = form_of(FieldDefinition(name="", kind=kind))

    def read(value: Any) -> Any:
        if isinstance(kind, UuidKind) and isinstance(value, bytes):
            return kind.check(UUID(bytes=value))
        if isinstance(kind, DatetimeKind) and kind.aware and isinstance(value, dt.datetime):
            return kind.check(value.astimezone(dt.UTC) if value.tzinfo is not None else value)
        try:
            return kind.check(value)
        except (ValueError, TypeError):
            if isinstance(value, str):  # text of a program that knows no such type
                return form.from_text(value)
            raise

    return read


def _schema(fields: Sequence[FieldDefinition]) -> Any:
    return pa.schema([pa.field(field.name, arrow_type(field.kind), nullable=field.nullable) for field in fields])


def write_arrow(
    path: str, file_format: str, fields: Sequence[FieldDefinition], rows: Iterable[Row], *, overwrite: bool
) -> None:
    """Write rows as a Parquet or Arrow file.

    Raises:
        DataError: for a value that Arrow's type of its column does not have.
    """
    schema = _schema(fields)
    # The file is opened here, as pyarrow's own errors about files are many.
    with whole(path, overwrite=overwrite) as beside, open(beside, "wb") as file:
        made = pq.ParquetWriter(file, schema) if file_format == "parquet" else pa.ipc.new_file(file, schema)
        with made as writer:
            taken = iter(rows)
            while group := list(islice(taken, _GROUP)):
                writer.write_table(pa.Table.from_arrays(_arrays(fields, schema, group), schema=schema))


def _arrays(fields: Sequence[FieldDefinition], schema: Any, rows: Sequence[Row]) -> list[Any]:
    arrays = []
    for at, field in enumerate(fields):
        convert = _to_arrow(field.kind)
        values = [row[at] for row in rows]
        if convert is not None:
            values = [None if value is None else convert(value) for value in values]
        try:
            arrays.append(pa.array(values, type=schema.field(at).type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise exc.DataError(
                f"{field.name} has values that are no {schema.field(at).type} of Arrow: {error} (export CSV or JSON"
                " lines)",
                field=field.name,
            ) from error  # fmt: skip
    return arrays


@contextlib.contextmanager
def arrow_input(path: str, file_format: str) -> Iterator[tuple[Any, Iterator[Any]]]:
    """A Parquet or Arrow file to read: its schema, and its record batches, read as they are asked for.

    Raises:
        ArgumentError: if there is no file.
        DataError: if it is none of these, or two of its columns have one name.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
            if file_format == "parquet":
                parquet = pq.ParquetFile(file)
                schema, batches = parquet.schema_arrow, parquet.iter_batches(_GROUP)
            else:
                arrow = pa.ipc.open_file(file)
                schema, batches = arrow.schema, map(arrow.get_batch, range(arrow.num_record_batches))
        except pa.ArrowException as error:
            raise exc.DataError(f"{path}: {error}", path=path) from error
        except OSError as error:
            raise exc.ArgumentError(f"cannot read {path}: {error.strerror or error}") from error
        if len(set(schema.names)) != len(schema.names):
            raise exc.DataError(f"{path}: two columns have one name: {', '.join(schema.names)}", path=path)
        yield schema, batches


def read_arrow(path: str, schema: Any, batches: Iterator[Any]) -> Iterator[Record]:
    """Read what :func:`arrow_input` gives.

    Raises:
        ArgumentError: if the file cannot be read.
        DataError: if it is damaged.
    """
    row = 0
    try:
        for batch in batches:
            for values in zip(*map(_values, batch.columns), strict=True):
                row += 1
                yield Record(f"row {row}", dict(zip(schema.names, values, strict=True)))
    except pa.ArrowException as error:
        raise exc.DataError(f"{path}, row {row + 1}: {error}", path=path) from error
    except OSError as error:
        raise exc.ArgumentError(f"cannot read {path}: {error.strerror or error}") from error


def _values(array: Any) -> list[Any]:
    """The values of an array; what Python has no value for is refused when a row is made of it."""
    values, unfit = python_values(array)
    for at, value in unfit.items():
        values[at] = value
    return values


def arrow_columns(path: str, file_format: str) -> list[FieldDefinition]:
    """The columns that those of a Parquet or Arrow file stand for. Errors are those of :func:`arrow_input`."""
    with arrow_input(path, file_format) as (schema, _):
        return [
            FieldDefinition(name=each.name, kind=kind_of_arrow(each.type), nullable=each.nullable) for each in schema
        ]


def kind_of_arrow(of: Any) -> Kind:
    """The kind for the values of a type of Arrow; JSON for what has none of its own."""
    types = pa.types
    if types.is_boolean(of):
        return BoolKind()
    if types.is_integer(of):
        return IntKind(of.bit_width, types.is_signed_integer(of))
    if types.is_floating(of):
        return FloatKind()
    if types.is_decimal(of) and of.precision <= 38 and 0 <= of.scale <= of.precision:
        return DecimalKind(of.precision, of.scale)
    if types.is_fixed_size_binary(of):
        return FixedBytesKind(of.byte_width)
    if types.is_binary(of) or types.is_large_binary(of) or types.is_binary_view(of):
        return BytesKind()
    if types.is_timestamp(of):
        return DatetimeKind(aware=of.tz is not None)
    if types.is_date(of):
        return DateKind()
    if types.is_time(of):
        return TimeKind()
    if types.is_duration(of):
        return TimedeltaKind()
    if types.is_string(of) or types.is_large_string(of) or types.is_string_view(of):
        return TextKind()
    if types.is_dictionary(of):
        return kind_of_arrow(of.value_type)
    if types.is_list(of) or types.is_large_list(of):
        return ListKind(kind_of_arrow(of.value_type), nullable=True)
    return JsonKind()
