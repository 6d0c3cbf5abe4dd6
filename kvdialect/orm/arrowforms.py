"""What each type of column is in Arrow, and how its values get there and back."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import attrs

from kvdialect import exc
from kvdialect.codec.composite import ConvertedKind, DictKind, JsonKind, ListKind, TupleKind
from kvdialect.codec.jsontext import text_reader, text_writer
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.orm.arrowvalues import Unfit, python_values
from kvdialect.query.analysis import Aggregate, Output
from kvdialect.schema.definition import TableDefinition
from kvdialect.schema.expressions import (
    And,
    Arithmetic,
    Call,
    Case,
    Column,
    Compare,
    Constant,
    Contains,
    Expression,
    In,
    Like,
    Negative,
    Not,
    Or,
    Parameter,
    StartsWith,
    walk,
)

Conversion = Callable[[Any], Any]
"""Makes one form of a value of another; it is never given None."""

_CONDITIONS: Final = (And, Or, Not, Compare, In, Like, StartsWith, Contains)
_UNSIGNED: Final = IntKind(64, signed=False)
_MOST_DIGITS: Final = 38


def pyarrow() -> Any:
    """The module.

    Raises:
        NotSupportedError: if it is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise exc.NotSupportedError('Arrow tables need pyarrow: pip install "kvdialect[arrow]"') from error
    return pa


@attrs.frozen
class Form:
    """How the values of a column stand in Arrow.

    Attributes:
        type: of Arrow.
        write: makes of a value what pyarrow takes for the type; None: the value itself.
        read: makes a value of what pyarrow gives; None: that itself. What it cannot read it leaves, to be refused as
            any value of the column is.
        names: of an enum, in the order of its dictionary.
    """

    type: Any
    write: Conversion | None = None
    read: Conversion | None = None
    names: tuple[str, ...] | None = None

    def array(self, values: Sequence[Any], owner: str) -> Any:
        """An Arrow array of values.

        Raises:
            DataError: if one does not fit the type.
        """
        pa = pyarrow()
        try:
            if self.write is not None:
                write = self.write
                values = [None if value is None else write(value) for value in values]
            if self.names is None:
                return pa.array(values, self.type)
            place = {name: number for number, name in enumerate(self.names)}
            return pa.DictionaryArray.from_arrays(
                pa.array([None if name is None else place[name] for name in values], self.type.index_type),
                pa.array(self.names, self.type.value_type),
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise exc.DataError(
                f"{owner} has a value that is no {self.type} of Arrow: {error} (select the columns that it is computed"
                " from, or read it without Arrow)",
                field=owner,
            ) from error

    def values(self, array: Any) -> tuple[list[Any], dict[int, Unfit]]:
        """The values of an Arrow array, which may be of another type: the row writer refuses what does not fit.

        What Python has no value for is None there, and stands beside them by its place.
        """
        pa = pyarrow()
        if pa.types.is_floating(array.type) and pa.types.is_integer(self.type):
            with contextlib.suppress(pa.ArrowInvalid):  # a fraction: said of the value
                array = array.cast(self.type)  # what pandas makes of integers with gaps
        values, unfit = python_values(array)
        if self.read is None:
            return values, unfit
        read = self.read
        return [None if value is None else read(value) for value in values], unfit


def form_of(kind: Kind) -> Form:
    """How the values of a kind stand in Arrow."""
    pa = pyarrow()
    match kind:
        case ConvertedKind(inner=inner):
            form = form_of(inner)
            return attrs.evolve(
                form, write=_chain(kind.bound_value, form.write), read=_chain(form.read, kind.result_value)
            )
        case BoolKind():
            return Form(pa.bool_())
        case IntKind(bits=bits, signed=signed):
            return Form(getattr(pa, f"int{bits}" if signed else f"uint{bits}")())
        case FloatKind():
            return Form(pa.float64())
        case DecimalKind(precision=precision, scale=scale):
            return Form(pa.decimal128(precision, scale))
        case TextKind():
            return Form(pa.string())
        case FixedBytesKind(length=length):
            return Form(pa.binary(length))
        case BytesKind():
            return Form(pa.binary())
        case UuidKind(as_text=True):
            return Form(pa.string())
        case UuidKind():
            return Form(pa.binary(16), lambda value: value.bytes, _reader(_uuid))
        case EnumKind(names=names):
            load = None if kind.plain else _reader(kind.load)
            return Form(pa.dictionary(pa.int32(), pa.string()), None if kind.plain else kind.store, load, names)
        case DatetimeKind(aware=aware):
            return Form(pa.timestamp("us", "UTC" if aware else None))
        case DateKind():
            return Form(pa.date32())
        case TimeKind():
            return Form(pa.time64("us"))
        case TimedeltaKind():
            return Form(pa.duration("us"))
        case ListKind():
            return _list(kind)
        case JsonKind() | DictKind() | TupleKind() | RecordKind():
            return Form(pa.string(), text_writer(kind), _reader(text_reader(kind), str))
        case _:
            raise exc.NotSupportedError(f"{kind!r} has no type in Arrow")


def strict(form: Form) -> Form:
    """The form of values that may be others than their type says: of a float pyarrow drops the fraction."""
    return attrs.evolve(form, write=_whole) if pyarrow().types.is_integer(form.type) else form


def _list(kind: ListKind) -> Form:
    pa = pyarrow()
    element = form_of(kind.element)
    item = pa.field("item", pa.string() if element.names is not None else element.type, kind.nullable)
    return Form(pa.list_(item), _each(element.write), _each(element.read, kind.python))


def _each(convert: Conversion | None, made: Callable[[Iterable[Any]], Any] = list) -> Conversion | None:
    if convert is None:
        return None if made is list else made
    return lambda values: made([None if value is None else convert(value) for value in values])


def _chain(first: Conversion | None, second: Conversion | None) -> Conversion | None:
    if first is None or second is None:
        return first or second
    return lambda value: second(first(value))


def _uuid(value: bytes | str) -> UUID:
    return UUID(value) if isinstance(value, str) else UUID(bytes=value)


def _reader(read: Conversion, takes: type = object) -> Conversion:
    def attempt(value: Any) -> Any:
        try:
            return read(value) if isinstance(value, takes) else value
        except (ValueError, TypeError, AttributeError):
            return value

    return attempt


# ------------------------------------------------------------------------------------------------ outputs of a query


@attrs.frozen
class ArrowColumn:
    """A column of an Arrow table."""

    name: str
    form: Form
    nullable: bool

    @property
    def field(self) -> Any:
        """Arrow's field."""
        return pyarrow().field(self.name, self.form.type, self.nullable)


def columns_of_query(
    outputs: Iterable[Output], definition: TableDefinition, params: Sequence[Any]
) -> Iterator[ArrowColumn]:
    """The columns that a query's outputs are.

    Args:
        outputs: none of which is a whole record.
        definition: of the table that it reads.
        params: the values of its parameters.

    Raises:
        NotSupportedError: for one without a type.
    """
    for output in outputs:
        expression = output.computed if output.computed is not None else output.expression
        kind = output.kind or (output.domain.kind if output.domain is not None else None)
        nullable = not isinstance(expression, Constant)
        if isinstance(expression, Column):
            nullable = definition.field(expression.name).nullable
        elif isinstance(expression, Aggregate):
            nullable = expression.function != "count"
        form = form_of(kind) if kind is not None else _computed(output, expression, definition, params)
        if not isinstance(expression, Column):
            form = strict(form)
        yield ArrowColumn(output.name, form, nullable)


def _computed(
    output: Output, expression: Expression | None, definition: TableDefinition, params: Sequence[Any]
) -> Form:
    """The form of what is no column's value."""
    pa = pyarrow()
    if isinstance(expression, _CONDITIONS):
        return Form(pa.bool_(), bool)
    if output.domain is None or expression is None:
        return _of_value(output.name, expression, params)
    if output.domain.name == "text":
        return Form(pa.string())
    if output.domain.name == "bytes":
        return Form(pa.binary())
    if isinstance(expression, Aggregate) and expression.function == "count":
        return Form(pa.int64())
    nodes = list(_nodes(expression))
    kinds = [definition.field(node.name).kind.stored for node in nodes if isinstance(node, Column)]
    match expression, output.domain.number:
        case Aggregate("sum", Column()), "decimal":
            return Form(pa.decimal128(_MOST_DIGITS, getattr(kinds[0], "scale", 0)))
        case _, "decimal" | "float":
            return Form(pa.float64(), float)  # how many decimals there are depends on the values
    if any(isinstance(_given(node, params), float | Decimal) for node in nodes):
        return Form(pa.float64(), float)
    unsigned = bool(kinds) and all(isinstance(kind, IntKind) and kind == _UNSIGNED for kind in kinds)
    if unsigned and not any(map(_goes_below_zero, nodes)):
        return Form(pa.uint64(), _whole)
    return Form(pa.int64(), _whole)


def _nodes(expression: Expression) -> Iterator[Expression]:
    """An expression and all below it, arguments of aggregates included."""
    for node in walk(expression):
        yield node
        if isinstance(node, Aggregate) and node.argument is not None:
            yield from _nodes(node.argument)


def _given(node: Expression, params: Sequence[Any]) -> Any:
    """The value of a parameter or constant."""
    if isinstance(node, Parameter):
        return params[node.number]
    return node.value if isinstance(node, Constant) else None


def _goes_below_zero(node: Expression) -> bool:
    """Whether it can make a negative number of others."""
    return isinstance(node, Negative) or (isinstance(node, Arithmetic) and node.operator == "-")


def _whole(value: Any) -> int:
    return int(operator.index(value))


def _of_value(name: str, expression: Expression | None, params: Sequence[Any]) -> Form:
    """The form of what literals alone say the type of."""
    pa = pyarrow()
    literals = [] if expression is None else [_given(node, params) for node in _outcomes(expression)]
    values = [value for value in literals if value is not None]
    classes = {type(value) for value in values}
    if len(classes) > 1 and classes <= {int, float, Decimal}:
        return Form(pa.float64(), float)
    try:
        form = Form(pa.array(values).type)
    except (ValueError, TypeError, OverflowError) as error:
        shown = ", ".join(f"{value!r:.80}" for value in values)
        raise exc.NotSupportedError(f"{name} is {shown}, which has no type in Arrow") from error
    return attrs.evolve(form, write=float) if classes == {float} else form


def _outcomes(expression: Expression) -> Iterator[Expression]:
    """The expressions of whose values an expression's value is one, as far as literals go."""
    if isinstance(expression, Case):
        for _, result in expression.branches:
            yield from _outcomes(result)
        yield from _outcomes(expression.otherwise)
    elif isinstance(expression, Call) and expression.function in ("coalesce", "nullif"):
        for argument in expression.arguments[: 1 if expression.function == "nullif" else None]:
            yield from _outcomes(argument)
    else:
        yield expression
