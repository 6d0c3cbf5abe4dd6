"""Structured values as JSON text, exactly: what SQL sees of lists, dicts, tuples and attrs classes.

Lists and tuples are arrays, dicts and records objects. Inside of them stand bytes as base64, decimals as text, points
in time, dates and times in ISO 8601, spans of time as its durations, UUIDs in their canonical form and enums by name.
Floats that JSON has no numbers for are the texts ``NaN``, ``Infinity`` and ``-Infinity``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from kvdialect.codec.composite import ConvertedKind, DictKind, ListKind, Part, TupleKind
from kvdialect.codec.kinds import Kind, Refused
from kvdialect.codec.numeric import DecimalKind, FloatKind
from kvdialect.codec.records import RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, UuidKind
from kvdialect.codec.temporal import DAY, SECOND, DateKind, DatetimeKind, TimedeltaKind, TimeKind, microseconds

Conversion = Callable[[Any], Any]
"""What makes one form of a value into another; it is never given None."""

_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FINER: Final = re.compile(r"[.,]\d{6}0*[1-9]")
_DURATION: Final = re.compile(r"(-?)P(\d{1,10})DT(\d{1,5})(?:\.(\d{6}))?S")


def text_writer(kind: Kind) -> Callable[[Any], str]:
    """The function that writes values of a kind as JSON text, as ``json.dumps`` spaces and escapes it."""
    plain = _plain(kind)
    if plain is None:
        return json.dumps
    return lambda value: json.dumps(plain(value))


def text_reader(kind: Kind) -> Callable[[str], Any]:
    """The function that reads what :func:`text_writer` wrote, and checks it.

    It raises ValueError for text that is no JSON, or whose value the kind does not take.
    """
    full = _full(kind)

    def read(text: str) -> Any:
        try:
            value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        except RecursionError as error:
            raise ValueError("too deep") from error
        if value is None:
            return None
        return kind.check(value if full is None else full(value))

    return read


def plain_form(kind: Kind) -> Conversion:
    """The function that makes a value what JSON can say: the form that :func:`text_writer` writes."""
    return _plain(kind) or _same


def full_form(kind: Kind) -> Conversion:
    """The function that makes a value of what :func:`plain_form` gave, and checks it.

    It raises ValueError for what the kind does not take.
    """
    full = _full(kind)
    return kind.check if full is None else lambda value: kind.check(full(value))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Refused("too large for a float")
    return number


# ------------------------------------------------------------------------------------------ values to what JSON can say


def _plain(kind: Kind) -> Conversion | None:
    """From a value to what ``json.dumps`` takes; None where that is the value itself."""
    match kind:
        case ConvertedKind():
            bound = _plain(kind.inner) or _same
            return lambda value: bound(kind.bound_value(value))
        case FloatKind():
            return _plain_float
        case DecimalKind():
            return lambda value: f"{value:f}"
        case BytesKind() | FixedBytesKind():
            return lambda value: base64.b64encode(value).decode()
        case DatetimeKind() | DateKind() | TimeKind():
            return lambda value: value.isoformat()
        case TimedeltaKind():
            return duration
        case UuidKind():
            return str
        case EnumKind():
            return None if kind.plain else kind.store
        case ListKind():
            element = _plain_part(kind.part) or _same
            return lambda value: [element(item) for item in value]
        case DictKind():
            item = _plain_part(kind.part) or _same
            return lambda value: {key: item(part) for key, part in value.items()}
        case TupleKind():
            parts = [_plain_part(part) or _same for part in kind.parts]
            return lambda value: [part(item) for part, item in zip(parts, value, strict=True)]
        case RecordKind():
            return _plain_record(kind)
        case _:
            return None


def _same(value: Any) -> Any:
    return value


def _plain_part(part: Part) -> Conversion | None:
    return _optional(part, _plain(part.kind))


def _optional(part: Part, convert: Conversion | None) -> Conversion | None:
    if convert is None or not part.nullable:
        return convert
    return lambda value: None if value is None else convert(value)


def _plain_record(kind: RecordKind) -> Conversion:
    parts = {field.name: _plain_part(field.part) or _same for field in kind.fields}
    if kind.python is dict:
        return lambda value: {name: parts[name](item) for name, item in value.items()}
    return lambda value: {name: part(item) for (name, part), item in zip(parts.items(), kind.taken(value), strict=True)}


def _plain_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def duration(span: timedelta) -> str:
    """A span of time as an ISO 8601 duration of days and seconds."""
    whole = microseconds(span)
    days, rest = divmod(abs(whole), DAY)
    seconds, rest = divmod(rest, SECOND)
    return f"{'-' if whole < 0 else ''}P{days}DT{seconds}.{rest:06d}S"


# ------------------------------------------------------------------------------------------ and back


def _full(kind: Kind) -> Conversion | None:
    """From what ``json.loads`` gave to a value that ``kind.check`` takes or refuses; None where that is the same."""
    match kind:
        case ConvertedKind():
            inner = _full(kind.inner)
            if inner is None:
                return lambda value: kind.result_value(kind.inner.check(value))
            return lambda value: kind.result_value(kind.inner.check(inner(value)))
        case FloatKind():
            return lambda value: _SPECIAL.get(value, value) if isinstance(value, str) else value
        case DecimalKind():
            return _decimal
        case BytesKind() | FixedBytesKind():
            return _bytes
        case DatetimeKind():
            return _exactly(datetime.fromisoformat)
        case DateKind():
            return lambda value: date.fromisoformat(_text(value))
        case TimeKind():
            return _exactly(time.fromisoformat)
        case TimedeltaKind():
            return span
        case UuidKind():
            return _text if kind.as_text else lambda value: UUID(_text(value))
        case EnumKind():
            return None if kind.plain else lambda value: kind.load(_text(value))
        case ListKind():
            element = _full_part(kind.part) or _same
            return lambda value: kind.python(element(part) for part in _of(list, value))
        case DictKind():
            item = _full_part(kind.part) or _same
            return lambda value: {key: item(part) for key, part in _of(dict, value).items()}
        case TupleKind():
            return _full_tuple(kind)
        case RecordKind():
            return _full_record(kind)
        case _:
            return None


def _full_part(part: Part) -> Conversion | None:
    return _optional(part, _full(part.kind))


def _full_tuple(kind: TupleKind) -> Conversion:
    parts = [_full_part(part) or _same for part in kind.parts]

    def read(value: Any) -> tuple[Any, ...]:
        if len(_of(list, value)) != len(parts):
            raise Refused("an array of another length")
        return tuple(part(item) for part, item in zip(parts, value, strict=True))

    return read


def _full_record(kind: RecordKind) -> Conversion:
    parts = {field.name: _full_part(field.part) or _same for field in kind.fields}
    kinds = {field.name: field.part for field in kind.fields}

    def read(value: Any) -> Any:
        if not parts.keys() >= _of(dict, value).keys():
            raise Refused("fields that the record has not")
        found = {name: kinds[name].check(parts[name](item)) for name, item in value.items()}
        return kind.completed(found)

    return read


def _of(python: type, value: Any) -> Any:
    if not isinstance(value, python):
        raise Refused(f"no {python.__name__}")
    return value


def _text(value: Any) -> str:
    text: str = _of(str, value)
    return text


def _exactly(read: Callable[[str], Any]) -> Conversion:
    def found(value: Any) -> Any:
        text = _text(value)
        if _FINER.search(text):  # fromisoformat cuts the further digits off
            raise Refused("finer than microseconds")
        return read(text)

    return found


def _decimal(value: Any) -> Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    try:
        return Decimal(_text(value))
    except InvalidOperation as error:
        raise ValueError("no number") from error


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def span(value: Any) -> timedelta:
    """A span of time from what :func:`duration` gave.

    Raises:
        ValueError: for anything else.
    """
    match = _DURATION.fullmatch(_text(value))
    if match is None:
        raise Refused("no duration such as P1DT2.500000S")
    sign, days, seconds, rest = match.groups()
    try:
        found = timedelta(int(days), int(seconds), int(rest or 0))
        return -found if sign else found
    except OverflowError as error:
        raise ValueError("longer than a timedelta") from error
