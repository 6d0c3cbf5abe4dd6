"""Types of columns: SQLAlchemy's own, those that it lacks, and what each of them is in bytes.

``UInt64``, ``Bytes32`` and their like are annotations: ``amount: Mapped[UInt64]``. Each stands for a SQLAlchemy type,
and every SQLAlchemy type for a :class:`~kvdialect.codec.kinds.Kind`, so both doors of a store agree on its bytes.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import attrs
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.operators import OperatorClass, custom_op
from sqlalchemy.types import TypeEngine

from kvdialect import exc
from kvdialect.codec.composite import ConvertedKind, DictKind, JsonKind, ListKind, Part, TupleKind
from kvdialect.codec.jsontext import text_reader, text_writer
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordField, RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind

# ------------------------------------------------------------------------------------------ types that SQLAlchemy lacks


class SignedInteger(sa.BigInteger):
    """Integers from ``-2**(bits-1)`` to ``2**(bits-1) - 1``."""

    cache_ok = True

    def __init__(self, bits: Literal[8, 16, 32, 64] = 64) -> None:
        self.bits = _checked_bits(bits, type(self))


class UnsignedInteger(sa.BigInteger):
    """Integers from 0 to ``2**bits - 1``."""

    cache_ok = True

    def __init__(self, bits: Literal[8, 16, 32, 64] = 64) -> None:
        self.bits = _checked_bits(bits, type(self))


def _checked_bits(bits: int, of: type) -> Any:
    if bits not in (8, 16, 32, 64):
        raise exc.ArgumentError(f"{of.__name__} has {bits!r:.80} bits; allowed: 8, 16, 32, 64")
    return bits


class AnyBinary(sa.LargeBinary):
    """bytes of any length; unlike SQLAlchemy's own they may be asked for what they begin with."""

    cache_ok = True
    operator_classes = OperatorClass.BINARY | OperatorClass.STRING_MATCH


class FixedBinary(AnyBinary):
    """bytes of exactly one length, which stand in keys without any escaping."""

    cache_ok = True
    length: int

    def __init__(self, length: int) -> None:
        if type(length) is not int or length < 1:
            raise exc.ArgumentError(f"FixedBinary has length {length!r:.80}; allowed: 1 byte or more")
        super().__init__(length)


contains_element: Final = custom_op[bool]("@>", precedence=5, is_comparison=True, return_type=sa.Boolean())
"""Operator of ``Record.tags.contains(element)``: the list on the left has the element on the right."""


class Structured(sa.JSON):
    """Lists, dicts, tuples and attrs classes, to any depth: ``Structured(list[UInt64])``.

    Every part is checked by its annotation when it is stored. Annotations such as ``Mapped[list[UInt64]]`` make this
    type by themselves.

    Attributes:
        annotation: of the values.
    """

    cache_ok = True

    class Comparator(sa.JSON.Comparator[Any]):
        """Comparisons of structured values."""

        def contains(self, other: Any, **kwargs: Any) -> sa.ColumnElement[bool]:  # noqa: ARG002 - SQLAlchemy's signature
            """The list has ``other`` among its elements.

            Raises:
                ArgumentError: if the column holds no list.
            """
            of = self.type
            if not isinstance(of, Structured) or not isinstance(of.kind, ListKind):
                raise exc.ArgumentError(f"contains() asks for an element of a list; {self.expr} holds {of!r}")
            if not isinstance(other, sa.ColumnElement):
                other = sa.literal(other, of.element_type)
            return typing.cast("sa.ColumnElement[bool]", self.operate(contains_element, other))

    comparator_factory = Comparator

    def __init__(self, annotation: Any) -> None:
        try:
            hash(annotation)
        except TypeError as error:
            raise exc.ArgumentError(
                f"Structured takes an annotation such as list[int], not {annotation!r:.80}"
            ) from error
        super().__init__(none_as_null=True)
        self.annotation = annotation

    @property
    def python_type(self) -> type[Any]:
        return typing.cast("type[Any]", self.kind.python)

    @property
    def kind(self) -> Kind:
        """The kind of the values."""
        return _structured_kind(self.annotation, ())

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:  # noqa: ARG002 - SQLAlchemy's signature
        """Values as SQL has them: checked, as JSON text."""
        return json_binder(self.kind)

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:  # noqa: ARG002
        return json_literal(self.kind)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        return json_reader(self.kind)

    @property
    def element_type(self) -> TypeEngine[Any]:
        """The type of a list's elements."""
        arguments = typing.get_args(_stripped(self.annotation)[0])
        return resolve_annotation(arguments[0]).type if arguments and arguments[0] is not Any else sa.JSON()


def json_binder(kind: Kind) -> Callable[[Any], str | None]:
    """What checks values of a kind and makes JSON text of them, as SQL has them; of None nothing.

    It raises DataError for a value that the kind does not take.
    """
    write = text_writer(kind)

    def process(value: Any) -> str | None:
        if value is None or value is sa.null():
            return None
        try:
            return write(kind.check(value))
        except (ValueError, TypeError) as error:
            raise exc.DataError(f"a value is {value!r:.80}; allowed: {kind.allowed}", value=value) from error

    return process


def json_literal(kind: Kind) -> Callable[[Any], str]:
    """As :func:`json_binder`, as a literal of SQL."""
    bind = json_binder(kind)

    def process(value: Any) -> str:
        text = bind(value)
        return "NULL" if text is None else "'" + text.replace("'", "''") + "'"

    return process


def json_reader(kind: Kind) -> Callable[[str | None], Any]:
    """What makes values of a kind of JSON text."""
    read = text_reader(kind)
    return lambda text: None if text is None else read(text)


Int8 = Annotated[int, SignedInteger(8)]
Int16 = Annotated[int, SignedInteger(16)]
Int32 = Annotated[int, SignedInteger(32)]
Int64 = Annotated[int, SignedInteger(64)]
UInt8 = Annotated[int, UnsignedInteger(8)]
UInt16 = Annotated[int, UnsignedInteger(16)]
UInt32 = Annotated[int, UnsignedInteger(32)]
UInt64 = Annotated[int, UnsignedInteger(64)]
Bytes4 = Annotated[bytes, FixedBinary(4)]
Bytes8 = Annotated[bytes, FixedBinary(8)]
Bytes16 = Annotated[bytes, FixedBinary(16)]
Bytes20 = Annotated[bytes, FixedBinary(20)]
Bytes32 = Annotated[bytes, FixedBinary(32)]
Bytes48 = Annotated[bytes, FixedBinary(48)]
Bytes64 = Annotated[bytes, FixedBinary(64)]


# ------------------------------------------------------------------------------------------ kinds of types


class _Dialect(DefaultDialect):
    """What type decorators and variants see as their dialect; nothing is executed by it."""

    name = "kvdialect"
    supports_statement_cache = True


_DIALECT: Final = _Dialect()


def kind_of(type_: TypeEngine[Any], python: Any = None) -> Kind:
    """The kind of the values of a column of this type.

    Args:
        type_: an instance of a type.
        python: the annotation of the values where there is one, without None.

    Raises:
        ArgumentError: if values of the type cannot be stored; the message says what to write instead.
    """
    if isinstance(type_, sa.PickleType):
        raise _refusal(type_, "it stores code that runs when it is read; write an attrs class, list or dict")
    variant = type_.dialect_impl(_DIALECT)
    if isinstance(variant, sa.TypeDecorator) and not isinstance(variant, sa.Interval):
        return _decorated(variant, type_)
    for types_, make in _KINDS:
        if isinstance(variant, types_):
            try:
                return make(variant, python)
            except ValueError as error:
                raise _refusal(type_, str(error)) from error
    known = "those of SQLAlchemy that are not particular to a database, and those of kvdialect"
    if isinstance(variant, sa.types.NullType):
        raise exc.ArgumentError(
            "the column has no type; give it one, such as String or Integer, or annotate it", type=type_
        )
    raise _refusal(type_, f"allowed: {known}; a TypeDecorator makes others of these")


def _refusal(type_: TypeEngine[Any], why: str) -> exc.ArgumentError:
    return exc.ArgumentError(f"type {type_!r} cannot be stored: {why}", type=type_)


def _decorated(decorator: sa.TypeDecorator[Any], declared: TypeEngine[Any]) -> ConvertedKind:
    """The kind of a TypeDecorator: its order in keys is that of the bound values.

    None never reaches the decorator; it is NULL.
    """
    cls = type(decorator)
    bind: Callable[[Any], Any] | None = None
    result: Callable[[Any], Any] | None = None
    if cls.process_bind_param is not sa.TypeDecorator.process_bind_param:
        bind = lambda value: decorator.process_bind_param(value, _DIALECT)  # noqa: E731
    if cls.process_result_value is not sa.TypeDecorator.process_result_value:
        result = lambda value: decorator.process_result_value(value, _DIALECT)  # noqa: E731
    inner = kind_of(decorator.impl_instance)
    return ConvertedKind(inner, bind, result, python=_python_of(declared), name=cls.__name__)


def _python_of(type_: TypeEngine[Any]) -> Any:
    try:
        return type_.python_type
    except NotImplementedError:
        return object


def _enum(type_: sa.Enum, _python: Any) -> Kind:
    if type_.enum_class is None:
        return EnumKind(type_.enums)
    members = dict(type_.enum_class.__members__)
    if len(members) != len(type_.enums):  # without aliases, which is SQLAlchemy's default
        members = {name: member for name, member in members.items() if member.name == name}
    # ``enums`` are the names, or what values_callable gives, in the order of the members.
    return EnumKind(dict(zip(type_.enums, members.values(), strict=True)), type_.enum_class)


def _numeric(type_: sa.Numeric[Any], _python: Any) -> Kind:
    if not type_.asdecimal:
        raise ValueError("it gives floats of decimal numbers; write Float")
    if type_.precision is None or type_.scale is None:
        raise ValueError("it needs a precision and a scale; write Numeric(10, 2), say, with at most 38 digits")
    return DecimalKind(type_.precision, type_.scale)


def _float(type_: sa.Float[Any], _python: Any) -> Kind:
    if type_.asdecimal:
        raise ValueError("it gives Decimals of binary numbers; write Numeric(10, 2), say")
    return FloatKind()


def _time(type_: sa.Time, _python: Any) -> Kind:
    if type_.timezone:
        raise ValueError("a time of day with a time zone has no order; write Time, or DateTime(timezone=True)")
    return TimeKind()


def _array(type_: sa.ARRAY[Any], _python: Any) -> Kind:
    if type_.dimensions not in (None, 1) or isinstance(type_.item_type, sa.ARRAY):
        raise ValueError("it has more than one dimension; write Structured(list[list[...]])")
    return ListKind(kind_of(type_.item_type), nullable=True, python=tuple if type_.as_tuple else list)


_KINDS: Final[Sequence[tuple[Any, Callable[[Any, Any], Kind]]]] = (
    # Subclasses before the classes that they come of.
    (UnsignedInteger, lambda type_, _: IntKind(type_.bits, signed=False)),
    (SignedInteger, lambda type_, _: IntKind(type_.bits, signed=True)),
    (sa.SmallInteger, lambda *_: IntKind(16)),
    (sa.Integer, lambda *_: IntKind(64)),
    (sa.Boolean, lambda *_: BoolKind()),
    (sa.Enum, _enum),
    (sa.Float, _float),
    (sa.Numeric, _numeric),
    (sa.String, lambda type_, _: TextKind(type_.length)),
    (FixedBinary, lambda type_, _: FixedBytesKind(type_.length)),
    ((sa.LargeBinary, sa.BINARY, sa.VARBINARY), lambda type_, _: BytesKind(type_.length)),
    (sa.DateTime, lambda type_, _: DatetimeKind(bool(type_.timezone))),
    (sa.Date, lambda *_: DateKind()),
    (sa.Time, _time),
    (sa.Interval, lambda *_: TimedeltaKind()),
    (sa.Uuid, lambda type_, _: UuidKind(as_text=not type_.as_uuid)),
    (Structured, lambda type_, _: type_.kind),
    (sa.JSON, lambda *_: JsonKind()),
    (sa.ARRAY, _array),
)


# ------------------------------------------------------------------------------------------ annotations


@attrs.frozen
class ResolvedType:
    """What an annotation says.

    Attributes:
        type: SQLAlchemy's type of the column.
        kind: how values stand in bytes.
        nullable: None is allowed.
        python: the annotation without None and Annotated: ``int``, ``list[int]``, an Enum class.
    """

    type: TypeEngine[Any]
    kind: Kind
    nullable: bool
    python: Any


_SCALARS: Final[Mapping[Any, Callable[[], TypeEngine[Any]]]] = {
    bool: sa.Boolean,
    int: sa.BigInteger,
    float: sa.Double,
    str: sa.String,
    bytes: AnyBinary,
    datetime: sa.DateTime,
    date: sa.Date,
    time: sa.Time,
    timedelta: sa.Interval,
    UUID: sa.Uuid,
}

_ALLOWED: Final = (
    "bool, int, float, str, bytes, datetime, date, time, timedelta, UUID, Enum and attrs classes, list, dict, tuple,"
    " and Annotated[..., a SQLAlchemy type]"
)


def resolve_annotation(annotation: Any, explicit: TypeEngine[Any] | None = None) -> ResolvedType:
    """What an annotation says of its column: ``int``, ``UInt64 | None``, ``Annotated[Decimal, Numeric(10, 2)]``.

    Args:
        annotation: as ``typing.get_type_hints(include_extras=True)`` gives it.
        explicit: the type that the field names itself; it wins.

    Raises:
        ArgumentError: if values cannot be stored; the message says what to write.
    """
    return _resolve(annotation, explicit, ())


def _resolve(annotation: Any, explicit: Any, within: tuple[type, ...]) -> ResolvedType:
    """As :func:`resolve_annotation`, within the attrs classes ``within``."""
    python, extras, nullable = _stripped(annotation)
    type_ = explicit if explicit is not None else next(filter(_is_type, extras), None)
    if type_ is None:
        return _by_python(python, nullable, within)
    instance = sa.types.to_instance(type_)
    return ResolvedType(instance, kind_of(instance, python), nullable, python)


def _stripped(annotation: Any) -> tuple[Any, list[Any], bool]:
    """An annotation without its wrappers, what ``Annotated`` has in these (what wins first), whether None is allowed.

    Raises:
        ArgumentError: if it is a union of two types.
    """
    found: list[Any] = []
    nullable = False
    while True:
        origin = typing.get_origin(annotation)
        if origin is Annotated:
            annotation, *extras = typing.get_args(annotation)
            found += reversed(extras)
        elif origin in (typing.Union, types.UnionType):
            arguments = typing.get_args(annotation)
            given = [argument for argument in arguments if argument is not type(None)]
            nullable = nullable or len(given) < len(arguments)
            if len(given) > 1:
                raise exc.ArgumentError(
                    f"a column has one type, not {annotation}; give each type a column, or write a TypeDecorator",
                    annotation=annotation,
                )
            annotation = given[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # the type statement, from Python 3.12
            annotation = annotation.__value__
        elif origin is not None and type(origin).__name__ == "TypeAliasType":
            annotation = origin.__value__[typing.get_args(annotation)]
        else:
            return annotation, found, nullable


def fields_within(annotation: Any, field: type[Any]) -> list[Any]:
    """The fields and foreign keys that an annotation has beside its type, what wins first."""
    try:
        _, extras, _ = _stripped(annotation)
    except exc.ArgumentError:
        return []  # said with the name of the field where its column is made
    return [extra for extra in extras if isinstance(extra, field | sa.ForeignKey)]


def _is_type(extra: Any) -> bool:
    return isinstance(extra, TypeEngine) or (isinstance(extra, type) and issubclass(extra, TypeEngine))


def _by_python(python: Any, nullable: bool, within: tuple[type, ...]) -> ResolvedType:
    if python in _SCALARS:
        type_ = _SCALARS[python]()
        return ResolvedType(type_, kind_of(type_, python), nullable, python)
    origin = typing.get_origin(python)
    if isinstance(python, type) and origin is None and issubclass(python, enum.Enum):
        type_ = sa.Enum(python)
        return ResolvedType(type_, kind_of(type_, python), nullable, python)
    if origin is Literal:
        choices = typing.get_args(python)
        if not all(type(choice) is str for choice in choices):
            raise exc.ArgumentError(f"{python} has choices that are no str; write an Enum class", annotation=python)
        type_ = sa.Enum(*choices, native_enum=False)
        return ResolvedType(type_, EnumKind(choices), nullable, python)
    kind = _structured_kind(python, within)
    return ResolvedType(Structured(python), kind, nullable, python)


def _structured_kind(annotation: Any, within: tuple[type, ...]) -> Kind:
    """The kind of a list, dict, tuple or attrs class.

    Raises:
        ArgumentError: for any other annotation.
    """
    python = _stripped(annotation)[0]
    origin = typing.get_origin(python) or python
    arguments = typing.get_args(python)
    if origin is list:
        part = _part(arguments[0] if arguments else Any, within)
        return ListKind(part.kind, part.nullable)
    if origin is dict:
        key, item = arguments or (str, Any)
        if _stripped(key)[0] is not str:
            raise exc.ArgumentError(
                f"{annotation} has keys that are no str; write dict[str, ...] or list[tuple[...]]",
                annotation=annotation,
            )
        part = _part(item, within)
        return DictKind(part.kind, part.nullable)
    if origin is tuple:
        if not arguments and python is tuple:
            arguments = (Any, ...)
        if len(arguments) == 2 and arguments[1] is ...:
            part = _part(arguments[0], within)
            return ListKind(part.kind, part.nullable, tuple)
        return TupleKind(_part(argument, within) for argument in arguments)
    if isinstance(origin, type) and attrs.has(origin):
        return _record_kind(origin, python, within)
    raise exc.ArgumentError(_advice(annotation, python), annotation=annotation)


def _advice(annotation: Any, python: Any) -> str:
    shown = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if python is Decimal:
        return "a Decimal column needs a precision and a scale: write Annotated[Decimal, Numeric(10, 2)]"
    if python is Any or python is object:
        return f"{shown} does not say what is stored: write a type, or Annotated[Any, JSON] for what JSON can say"
    if python is None or python is type(None):
        return "a column that can only be None stores nothing: write a type, as in int | None"
    if (typing.get_origin(python) or python) in (set, frozenset):
        return f"{shown} has no order to be stored in: write list[...]"
    if isinstance(python, str | typing.ForwardRef):
        return f"the annotation {shown!r} is not resolved: import what it names, at run time too"
    if isinstance(python, type) and hasattr(python, "__dataclass_fields__"):
        return f"{shown} is a dataclass: make it an attrs class (attrs.define)"
    return (
        f"values of {shown} cannot be stored; allowed: {_ALLOWED}; write Annotated[..., a TypeDecorator] for a type of"
        " your own"
    )


def _part(annotation: Any, within: tuple[type, ...]) -> Part:
    """The kind of an element of a list, an item of a dict, or a field. Any is what JSON can say."""
    python, extras, nullable = _stripped(annotation)
    if python is Any and not any(map(_is_type, extras)):
        return Part(JsonKind())
    resolved = _resolve(annotation, None, within)
    return Part(resolved.kind, nullable)


def _record_kind(cls: type, annotation: Any, within: tuple[type, ...]) -> RecordKind:
    if cls in within:
        raise exc.ArgumentError(
            f"{cls.__name__} contains itself ({' > '.join(c.__name__ for c in (*within, cls))}); stored values have a"
            " fixed depth: store the parts as records of their own, or write Annotated[dict[str, Any], JSON]",
            annotation=annotation,
        )
    if typing.get_args(annotation):
        raise exc.ArgumentError(
            f"{annotation} is a generic class with arguments; write a subclass that fixes them", annotation=annotation
        )
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise exc.ArgumentError(
            f"an annotation of {cls.__name__} names what is not defined ({error}); import it at run time too",
            annotation=annotation,
        ) from error
    fields = []
    for attribute in attrs.fields(cls):
        hint = hints.get(attribute.name, attribute.type)
        if hint is None:
            raise exc.ArgumentError(
                f"{cls.__name__}.{attribute.name} has no annotation; its values are stored by it", annotation=annotation
            )
        try:
            part = _part(hint, (*within, cls))
            fields.append(RecordField(attribute.name, part, _default(attribute)))
        except exc.ArgumentError as error:
            raise exc.ArgumentError(
                f"{cls.__name__}.{attribute.name}: {error.message}", annotation=annotation
            ) from error
    try:
        return RecordKind(fields, cls)
    except ValueError as error:
        raise exc.ArgumentError(f"{cls.__name__} cannot be stored: {error}", annotation=annotation) from error


def _default(attribute: attrs.Attribute[Any]) -> Callable[[Any], Any] | None:
    """What gives the field of a record that was stored before its class had the field."""
    default: Any = attribute.default
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        factory: Any = default
        return factory.factory if factory.takes_self else lambda _record: factory.factory()
    return lambda _record: default
