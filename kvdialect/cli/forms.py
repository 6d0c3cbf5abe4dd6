r"""How the values of each column are written: as JSON, and as the text of a CSV field or an argument.

===================================  ==================================================================================
bool, int, float, str                themselves; in CSV ``true`` and ``false``. Floats that JSON has no numbers for are
                                     ``NaN``, ``Infinity`` and ``-Infinity``
bytes                                ``0x`` and hexadecimal digits
Decimal, date, time, datetime, UUID  text, in ISO 8601 where there is such a form
timedelta                            a duration: ``P1DT2.500000S``
Enum                                 its name
lists, dicts, tuples, classes, JSON  JSON (:mod:`kvdialect.codec.jsontext`: bytes inside are base64); in CSV its text
===================================  ==================================================================================

NULL is JSON's null, and ``\N`` in CSV, where a text that is ``\N`` itself, or has more backslashes in front, gets one
more. The columns of tables made by SQL have values of any type: blobs are ``{"blob": "0x00"}`` in JSON, infinities
``{"float": "Infinity"}``; in CSV a blob is ``\x00``, and a text that would be read otherwise has a backslash in front.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import attrs

from kvdialect import exc
from kvdialect.codec.composite import Composite, JsonKind
from kvdialect.codec.dynamic import DynamicKind
from kvdialect.codec.jsontext import Conversion, full_form, plain_form, text_reader, text_writer
from kvdialect.codec.kinds import Kind, Refused
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.schema.definition import FieldDefinition

NULL: Final = r"\N"
"""NULL in CSV, unless another text is chosen."""

_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:[eE][+-]?\d{1,4})?", re.ASCII)
_ALL_WHOLE: Final = 2.0**53
"""From here on floats are integers, and not all of them."""
_ESCAPED: Final = re.compile(r"\\+N")
_TRUTH: Final = {"true": True, "false": False, "1": True, "0": False, "t": True, "f": False}


@attrs.frozen
class Form:
    """How the values of one column are written. NULL is none of them: see :func:`text_of` and :func:`value_of`.

    Attributes:
        field: the column.
        to_json: what JSON has for a value.
        from_json: the value of it, checked. ValueError if it is none.
        to_text: the text of a value.
        from_text: the value of it, checked. ValueError if it is none.
        written: how the text is written, for messages.
    """

    field: FieldDefinition
    to_json: Conversion
    from_json: Conversion
    to_text: Callable[[Any], str]
    from_text: Callable[[str], Any]
    written: str

    def refusal(self, seen: Any, where: str = "") -> exc.DataError:
        """The error for what is no value of the column."""
        shown = f"{seen!r:.80}" if seen is not None else "NULL"
        allowed = self.field.kind.allowed + (", or NULL" if self.field.nullable else "")
        return exc.DataError(
            f"{where}{self.field.name} is {shown}; write it as {self.written}; allowed: {allowed}",
            field=self.field.name, value=seen, allowed=allowed,
        )  # fmt: skip


def form_of(field: FieldDefinition) -> Form:
    """How the values of a column are written."""
    kind = field.kind
    if isinstance(kind, DynamicKind):
        return Form(
            field, _dynamic_to_json, lambda value: kind.check(_dynamic_from_json(value)), _dynamic_writer(kind),
            _dynamic_reader(kind), "an integer, a number, text, or \\x and hexadecimal digits",
        )  # fmt: skip
    to_json, from_json = plain_form(kind), full_form(kind)
    match kind:
        case BytesKind() | FixedBytesKind():
            to_json, from_json = _hex, lambda value: kind.check(_bytes(value))
            return Form(field, to_json, from_json, _hex, from_json, "hexadecimal digits")
        case DecimalKind():
            from_json = _checked(kind, _decimal)
            return Form(field, to_json, from_json, to_json, from_json, "a decimal number")
        case IntKind():
            return Form(field, to_json, _checked(kind, _whole), str, _checked(kind, _int), "an integer")
        case BoolKind():
            return Form(field, to_json, from_json, _truth_text, _truth, "true or false")
        case FloatKind():
            return Form(field, to_json, from_json, _float_text, _checked(kind, _float), "a number")
        case Composite() | JsonKind():
            return Form(field, to_json, from_json, text_writer(kind), text_reader(kind), "JSON")
    return Form(field, to_json, from_json, to_json, from_json, _written(kind))


def _written(kind: Kind) -> str:
    if isinstance(kind, DatetimeKind):
        zone = " with a time zone" if kind.aware else ""
        return f"a date and time of ISO 8601{zone}, with at most 6 digits behind the point"
    for kinds, written in (
        (DateKind, "a date of ISO 8601"),
        (TimeKind, "a time of ISO 8601, with at most 6 digits behind the point"),
        (TimedeltaKind, "a duration such as P1DT2.500000S"),
        (UuidKind, "a UUID"),
        (EnumKind, "one of the names"),
    ):
        if isinstance(kind, kinds):
            return written
    return "text"


def parsed(field: FieldDefinition, text: str) -> Any:
    """The value of a column as a command line gives it.

    Raises:
        DataError: if it is none; the message says how values of this type are written.
    """
    form = form_of(field)
    try:
        return form.from_text(text)
    except (ValueError, ArithmeticError, TypeError) as error:
        raise form.refusal(text) from error


# ------------------------------------------------------------------------------------------ fields of CSV


def text_of(form: Form, null: str) -> Callable[[Any], str]:
    """What writes a value of a column, or NULL, as a field of CSV.

    It raises DataError for a text that would be read as NULL, where NULL is written in a way of its own.
    """
    write = form.to_text
    if isinstance(form.field.kind, DynamicKind):
        return lambda value: null if value is None else _refused(form, write(value), null)
    if null != NULL or not isinstance(form.field.kind, TextKind | EnumKind):
        return lambda value: null if value is None else _refused(form, write(value), null)

    def text(value: Any) -> str:
        if value is None:
            return null
        written = write(value)
        return f"\\{written}" if written[:1] == "\\" and _ESCAPED.fullmatch(written) else written

    return text


def _refused(form: Form, text: str, null: str) -> str:
    if text == null != NULL:
        raise exc.DataError(
            f"{form.field.name} is {text!r}, which stands for NULL (choose another text with --null)",
            field=form.field.name, value=text,
        )  # fmt: skip
    return text


def value_of(form: Form, null: str) -> Callable[[str], Any]:
    """What reads a field of CSV: a value of a column, or None. It raises ValueError for anything else."""
    read, kind = form.from_text, form.field.kind
    if isinstance(kind, DynamicKind):
        return lambda text: None if text == null else read(text)
    if isinstance(kind, TextKind | EnumKind) and null == NULL:
        read = _unescaped(read)
    has_empty = isinstance(kind, TextKind | BytesKind) or (isinstance(kind, EnumKind) and "" in kind.names)
    if has_empty or not form.field.nullable:
        return lambda text: None if text == null else read(text)
    # What many programs write for NULL, and no value of these types.
    return lambda text: None if text == null or not text else read(text)


def _unescaped(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: read(text[1:] if text[:1] == "\\" and _ESCAPED.fullmatch(text) else text)


# ------------------------------------------------------------------------------------------ types


def _checked(kind: Kind, convert: Conversion) -> Conversion:
    return lambda value: kind.check(convert(value))


def _hex(value: bytes) -> str:
    return f"0x{value.hex()}"


def _bytes(value: Any) -> bytes:
    return bytes.fromhex(_text(value).removeprefix("0x"))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("no text")
    return value


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused("no number")
    return Decimal(repr(value) if isinstance(value, float) else value)


def _int(text: str) -> int:
    return int(text)


def _float(text: str) -> float:
    """The nearest float of a number, which is neither zero nor infinite instead.

    Without an exponent all digits in front of the point count, unless they are those of the shortest text of the float.
    """
    number = float(text)
    if not math.isfinite(number):
        if any(map(str.isdigit, text)):
            raise Refused("too large for a float")
        return number
    if not number:
        if Decimal(text.strip()):
            raise Refused("too small for a float")
    elif abs(number) >= _ALL_WHOLE and "e" not in text.lower():
        exact = Decimal(text.strip())
        if int(exact) != int(number) and exact != Decimal(repr(number)):
            raise Refused("no float is exactly this number")
    return number


def _whole(value: Any) -> Any:
    # Programs whose numbers are floats write integers of 64 bits as text.
    return int(value) if isinstance(value, str) else value


def _truth(text: str) -> bool:
    try:
        return _TRUTH[text.strip().lower()]
    except KeyError as error:
        raise ValueError("neither true nor false") from error


def _truth_text(value: bool) -> str:
    return "true" if value else "false"


def _float_text(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# ------------------------------------------------------------------------------------------ values of SQL


def _dynamic_to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"blob": _hex(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": _float_text(value)}
    return value


def _dynamic_from_json(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        match value:
            case {"blob": str(text)} if len(value) == 1:
                return _bytes(text)
            case {"float": str(text)} if len(value) == 1:
                return float(text)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value


def _dynamic_writer(kind: DynamicKind) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        if isinstance(value, bytes):
            return f"\\x{value.hex()}"
        if isinstance(value, str):
            return f"\\{value}" if value[:1] == "\\" or _number(kind, value) is not None else value
        if isinstance(value, float) and math.isinf(value):
            return "9e999" if value > 0 else "-9e999"
        return repr(value)

    return write


def _dynamic_reader(kind: DynamicKind) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text[:1] == "\\":
            return kind.check(bytes.fromhex(text[2:]) if text[1:2] == "x" else text[1:])
        number = _number(kind, text)
        return kind.check(text if number is None else number)

    return read


def _number(kind: DynamicKind, text: str) -> int | float | None:
    """The number that a field stands for in a column which does not itself make numbers of text, nor text of them."""
    if kind.affinity != "BLOB" or not _NUMBER.fullmatch(text):
        return None
    whole = text.lstrip("+-").isdigit()
    return int(text) if whole and -(2**63) <= int(text) < 2**63 else float(text)
