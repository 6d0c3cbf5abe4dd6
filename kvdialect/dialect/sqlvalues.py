"""The values of record tables as SQL sees them, and back.

SQL has integers of 64 bits with a sign, floats, text and blobs. A record's value is shown as SQLAlchemy's dialect for
SQLite would store it, so that Core finds what it knows on a mapped Table and on a reflected one:

=====================  =================================================================================
bool                   0 or 1
int                    itself; a UInt64 from ``2**63`` on is a blob of 8 bytes, big-endian
float                  itself; NaN is NULL, as SQLite knows no NaN
Decimal                float with up to 15 digits; beyond, a float or int where exact, and else text
str, bytes             itself
datetime               ``YYYY-MM-DD HH:MM:SS.ffffff``; one with a time zone the same, in UTC
date, time             ``YYYY-MM-DD``, ``HH:MM:SS.ffffff``
timedelta              as a datetime that far from 1970; beyond the years 1 to 9999 text that sorts before or behind
UUID                   32 hexadecimal digits
Enum                   its name
lists, dicts, records  JSON text (:mod:`kvdialect.codec.jsontext`)
=====================  =================================================================================

Nothing here is given None: NULL is None at both doors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from kvdialect import exc
from kvdialect.codec.composite import Composite, ConvertedKind, JsonKind
from kvdialect.codec.dynamic import apply_affinity
from kvdialect.codec.jsontext import Conversion, span, text_reader, text_writer
from kvdialect.codec.kinds import Kind, Namespace, Refused, compiled, put
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.schema.definition import FieldDefinition, TableDefinition
from kvdialect.schema.rows import Row

SIGNED_LIMIT: Final = 1 << 63
"""The first integer that SQL has no integer for."""

UNSIGNED_LIMIT: Final = 1 << 64
"""The first integer that no column of a record has."""

WIDE_TYPE: Final = "UINT64"
"""The declared type of columns whose integers may be blobs."""

_FLOAT_DIGITS: Final = 15
"""Decimal digits that any float carries exactly."""

_BEHIND_ALL: Final = b"\xff" * 9
"""SQL orders it behind all wide integers, and no column of integers takes it."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - spans are shown as naive datetimes, as SQLAlchemy does
_DATETIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?(Z|[+-]\d\d:?\d\d(?::?\d\d(?:\.\d{1,6})?)?)?"
)
_TIME: Final = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?")
_DIGITS: Final = re.compile(r"\s*[+-]?\d{1,20}\s*", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


# ------------------------------------------------------------------------------------------ wide integers


def wide(kind: Kind) -> bool:
    """Whether values of a kind may lie beyond SQL's integers: UInt64."""
    kind = kind.stored
    return isinstance(kind, IntKind) and kind.highest >= SIGNED_LIMIT


def wide_to_sql(number: int) -> int | bytes:
    """An integer from 0 to ``2**64 - 1`` as SQL sees it."""
    return number if number < SIGNED_LIMIT else number.to_bytes(8)


def wide_bound(value: Any) -> Any:
    """A value that is compared with a wide integer: a number beyond SQL's integers becomes the blob at its place."""
    if value.__class__ is int or value.__class__ is float:
        if SIGNED_LIMIT <= value < UNSIGNED_LIMIT:
            return int(value).to_bytes(8)
        if value >= UNSIGNED_LIMIT:
            return _BEHIND_ALL
    return value


def wide_from_sql(value: Any) -> Any:
    """The integer that a blob of 8 bytes from ``2**63`` on stands for; anything else as it is."""
    if value.__class__ is bytes and len(value) == 8 and value[0] >= 0x80:
        return int.from_bytes(value)
    return value


# ------------------------------------------------------------------------------------------ to SQL


def to_sql(kind: Kind) -> Conversion | None:
    """The function that makes a record's value SQL's; None where it is the same."""
    names: Namespace = {}
    source = to_sql_source(kind, "v", names)
    return None if source == "v" else compiled("to_sql", ["def to_sql(v):", f"    return {source}"], names)


def to_sql_source(kind: Kind, v: str, names: Namespace) -> str:
    """An expression for SQL's form of the record's value in the variable ``v``; the variable where it is the same."""
    match kind:
        case ConvertedKind():
            inner = to_sql(kind.inner)
            bound = f"{put(names, kind.bound_value)}({v})"
            return bound if inner is None else f"{put(names, inner)}({bound})"
        case BoolKind():
            return f"(1 if {v} else 0)"
        case IntKind():
            return f"({v} if {v} < {SIGNED_LIMIT} else {v}.to_bytes(8))" if wide(kind) else v
        case FloatKind():
            return f"({v} if {v} == {v} else None)"
        case DecimalKind():
            if kind.precision <= _FLOAT_DIGITS:
                return f"{put(names, float)}({v})"
            return f"{put(names, decimal_to_sql)}({v}, {kind.precision}, {kind.scale})"
        case DatetimeKind():
            naive = f"{v}.replace(tzinfo=None)" if kind.aware else v
            return f"{naive}.isoformat(' ', 'microseconds')"
        case DateKind():
            return f"{v}.isoformat()"
        case TimeKind():
            return f"{v}.isoformat('microseconds')"
        case TimedeltaKind():
            return f"{put(names, span_to_sql)}({v})"
        case UuidKind():
            return f"{v}.replace('-', '').lower()" if kind.as_text else f"{v}.hex"
        case EnumKind():
            return v if kind.plain else f"{put(names, kind.store)}({v})"
        case Composite() | JsonKind():
            return f"{put(names, text_writer(kind))}({v})"
        case _:
            return v


def decimal_to_sql(value: Decimal, precision: int, scale: int) -> int | float | str:
    """A Decimal of at most ``precision`` digits, ``scale`` of them behind the point, as SQL sees it.

    Up to 15 digits it is a float, which gives these digits back. A longer one is :func:`exact_number`.
    """
    if precision <= _FLOAT_DIGITS:
        return float(value)
    found = exact_number(value)
    return f"{value:.{scale}f}" if isinstance(found, str) else found


def exact_number(value: Decimal) -> int | float | str:
    """A Decimal as a float if this gives all digits back, as an int if it is one that SQL has, and else as text.

    SQL orders text behind all numbers, and adds and compares it as such where no column says otherwise.
    """
    near = float(value)
    if not math.isfinite(near):
        return near if value.is_infinite() or value.is_nan() else str(value)
    if Decimal(repr(near)) == value:
        return near
    whole = int(value)
    return whole if value == whole and -SIGNED_LIMIT <= whole < SIGNED_LIMIT else str(value)


_FAR_BEFORE: Final = 10**10
"""Added to the days of a span before the year 1, so that its text is in the order of the spans."""


def exact_decimal(number: float, scale: int) -> Decimal:
    """The shortest decimal that is this float, if it has no more than ``scale`` digits behind the point; else rounded.

    What :func:`exact_number` has made a float comes back so, where the digits of the float itself are others.
    """
    short = Decimal(repr(number))
    exponent = short.as_tuple().exponent
    return short if isinstance(exponent, int) and -exponent <= scale else Decimal(f"{number:.{scale}f}")


def span_to_sql(value: timedelta) -> str:
    """A span of time as SQL sees it: text in the order of the spans, also beyond the years 1 to 9999."""
    try:
        return (_EPOCH + value).isoformat(" ", "microseconds")
    except OverflowError:
        rest = f"{value.seconds:05d}.{value.microseconds:06d}"
        if value.days < 0:  # "-" stands before all digits, "P" behind
            return f"-{_FAR_BEFORE + value.days:010d} {rest}"
        return f"P{value.days:010d}DT{rest}S"


# ------------------------------------------------------------------------------------------ from SQL


def from_sql(kind: Kind) -> Conversion:
    """The function that makes SQL's value a record's, and refuses what the kind does not take.

    It takes what the column's affinity would make alike: text of digits for a number, a float without a fraction for an
    int, an int for text.

    It raises ValueError for everything else; :func:`row_writer` makes that a DataError which says what is allowed.
    """
    match kind:
        case ConvertedKind():
            inner = from_sql(kind.inner)
            return lambda value: kind.result_value(inner(value))
        case BoolKind():
            return lambda value: _bool(_number(value))
        case IntKind():
            return (
                (lambda value: kind.check(_whole(wide_from_sql(value))))
                if wide(kind)
                else (lambda value: kind.check(_whole(value)))
            )
        case FloatKind():
            return lambda value: kind.check(_number(value))
        case DecimalKind():
            return lambda value: kind.check(_decimal(value, kind.scale))
        case TextKind():
            return lambda value: kind.check(_text(value))
        case DatetimeKind(aware=True):
            return lambda value: kind.check(_aware(value))
        case DatetimeKind():
            return lambda value: kind.check(_datetime(value))
        case DateKind():
            return _date
        case TimeKind():
            return _time
        case TimedeltaKind():
            return span_from_sql
        case UuidKind(as_text=True):
            return lambda value: str(_uuid(value))
        case UuidKind():
            return _uuid
        case EnumKind():
            return lambda value: kind.load(_str(value))
        case Composite() | JsonKind():
            read = text_reader(kind)
            return lambda value: read(_str(value))
        case _:
            return kind.check


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("no text")
    return value


def _number(value: Any) -> int | float:
    """A number, or text that numeric affinity makes one."""
    if isinstance(value, str):
        value = apply_affinity(value, "NUMERIC")
    if not isinstance(value, int | float):
        raise Refused("no number")
    return int(value) if isinstance(value, bool) else value


def _whole(value: Any) -> int:
    if value.__class__ is int:
        whole: int = value
        return whole
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    number = _number(value)
    if isinstance(number, int):
        return number
    # Beyond 2**63 SQL's integers have become floats, which have lost digits by then.
    if not number.is_integer() or abs(number) >= SIGNED_LIMIT:
        raise Refused("a fraction, or an int that SQL made a float")
    return int(number)


def _bool(number: float) -> bool:
    if number not in (0, 1):
        raise Refused("neither 0 nor 1")
    return bool(number)


def _decimal(value: Any, scale: int) -> Decimal:
    if isinstance(value, str):
        try:
            return Decimal(value)
        except InvalidOperation as error:
            raise ValueError("no number") from error
    number = _number(value)
    if isinstance(number, int):
        return Decimal(number)
    if not math.isfinite(number):
        raise Refused("infinite")
    near = exact_decimal(number, scale)
    # 0.1 + 0.2 is 0.30000000000000004: what a float is beyond 15 digits is no one's intention.
    return near if float(near) == number else Decimal(f"{number:.{_FLOAT_DIGITS}g}")


def _text(value: Any) -> str:
    return _str(apply_affinity(value, "TEXT"))


def _datetime(value: Any) -> datetime:
    text = _str(value)
    match = _DATETIME.fullmatch(text)
    if match is None or match[1]:
        raise Refused("no datetime, or one with a time zone")
    return datetime.fromisoformat(text)


def _aware(value: Any) -> datetime:
    text = _str(value)
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise Refused("no datetime")
    moment = datetime.fromisoformat(text)
    return moment if match[1] else moment.replace(tzinfo=UTC)


def _date(value: Any) -> date:
    text = _str(value)
    if len(text) != 10:
        raise Refused("no date such as 2024-12-31")
    return date.fromisoformat(text)


def _time(value: Any) -> time:
    text = _str(value)
    if _TIME.fullmatch(text) is None:
        raise Refused("no time such as 23:59:59.000000")
    return time.fromisoformat(text)


def span_from_sql(value: Any) -> timedelta:
    """The span of time that :func:`span_to_sql` gave.

    Raises:
        ValueError: for anything else.
    """
    text = _str(value)
    if text[:1] == "P" or text[:2] == "-P":
        return span(text)
    if text[:1] != "-":
        return _datetime(text) - _EPOCH
    days, _, rest = text[1:].partition(" ")
    seconds, _, micros = rest.partition(".")
    return timedelta(int(days) - _FAR_BEFORE, int(seconds), int(micros))


def _uuid(value: Any) -> UUID:
    text = _str(value)
    if _UUID.fullmatch(text) is None:
        raise Refused("no UUID")
    return UUID(text)


# ------------------------------------------------------------------------------------------ rows

_PLAIN: Final[dict[type[Kind], type]] = {
    IntKind: int,
    FloatKind: float,
    TextKind: str,
    BytesKind: bytes,
    FixedBytesKind: bytes,
}
"""Kinds whose values SQL has alike, with their Python type: what else they ask of a value, the codec checks."""


def row_decoder(definition: TableDefinition, decode: Callable[[bytes, bytes], Row]) -> Callable[[bytes, bytes], Row]:
    """The function that decodes a row's key and value to SQL's values, of one that decodes them to the record's."""
    names: Namespace = {}
    parts = []
    for at, field in enumerate(definition.fields):
        v = f"v{at}"
        source = to_sql_source(field.kind, v, names)
        parts.append(f"(None if {v} is None else {source})" if field.nullable and source != v else source)
    if all(part == f"v{at}" for at, part in enumerate(parts)):
        return decode
    variables = "".join(f"v{at}, " for at in range(len(parts)))
    made = "".join(f"{part}, " for part in parts)
    lines = ["def read(key, raw):", f"    {variables}= {put(names, decode)}(key, raw)", f"    return ({made})"]
    return compiled("read", lines, names)


def row_writer(definition: TableDefinition) -> Callable[[Sequence[Any]], Row]:
    """The function that makes SQL's values, one for each column in order, a row for the table's codec to encode.

    It raises IntegrityError for NULL where that is not allowed, and DataError for a value that its column does not
    take; lengths and ranges the codec checks.
    """
    names: Namespace = {}
    parts = []
    for at, field in enumerate(definition.fields):
        v = f"v{at}"
        convert = f"{put(names, _converter(definition, field))}({v})"
        plain = _PLAIN.get(type(field.kind))
        keep = [f"{v} is None"] if field.nullable else []
        if plain is not None:
            keep.append(f"{v}.__class__ is {put(names, plain)}")
        parts.append(f"{v} if {' or '.join(keep)} else {convert}" if keep else convert)
    variables = "".join(f"v{at}, " for at in range(len(parts)))
    made = "".join(f"{part}, " for part in parts)
    return compiled("write", ["def write(values):", f"    {variables}= values", f"    return ({made})"], names)


def _converter(definition: TableDefinition, field: FieldDefinition) -> Conversion:
    convert = from_sql(field.kind)

    def converted(value: Any) -> Any:
        if value is None:
            if field.nullable:
                return None
            raise exc.IntegrityError(
                f"NOT NULL constraint failed: {definition.name}.{field.name}", table=definition.name, field=field.name
            )
        try:
            return convert(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise refusal(definition, field, value) from error

    return converted


def refusal(definition: TableDefinition, field: FieldDefinition, value: Any) -> exc.DataError:
    """The error for SQL's value that a column does not take."""
    shown = exc.shown(value) if isinstance(value, bytes) else f"{value!r:.80}"
    allowed = f"{field.kind.allowed}{', or None' if field.nullable else ''}"
    form = _FORMS.get(type(field.kind.stored))
    return exc.DataError(
        f"{definition.name}.{field.name} is {shown} ({type(value).__name__}); allowed: {allowed}"
        f"{f', written in SQL as {form}' if form else ''}",
        table=definition.name, field=field.name, value=value, allowed=field.kind.allowed,
    )  # fmt: skip


_FORMS: Final[dict[type[Kind], str]] = {
    BoolKind: "0 or 1",
    DatetimeKind: "'2024-12-31 23:59:59.000000'",
    DateKind: "'2024-12-31'",
    TimeKind: "'23:59:59.000000'",
    TimedeltaKind: "'1970-01-02 00:00:00.000000' for a day",
    UuidKind: "32 hexadecimal digits",
}
