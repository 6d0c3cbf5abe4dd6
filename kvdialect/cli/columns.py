"""Columns of a table that is to be made for a file: as a command line gives them, or as the file's values suggest."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from kvdialect import exc
from kvdialect.cli.files import Record
from kvdialect.cli.forms import NULL, form_of
from kvdialect.codec.composite import JsonKind
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.dialect.recordtables import TYPE_NAMES, declared, type_of
from kvdialect.schema.definition import FieldDefinition, TableDefinition
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import quoted
from kvdialect.schema.types import kind_of

_DECLARED: Final = re.compile(r"""\s*(\w+|"(?:[^"]|"")+")\s+(.+?)(\s+NULL)?\s*""", re.IGNORECASE | re.DOTALL)
_PLAIN_NAME: Final = re.compile(r"\w+")
_LEADING_ZERO: Final = re.compile(r"[+-]?0\d")


def column(text: str) -> FieldDefinition:
    """A column as a command line gives it: ``"amount UINT64"``, ``"name VARCHAR(20) NULL"``, ``'"a name" TEXT'``.

    Raises:
        ArgumentError: if it is none.
    """
    match = _DECLARED.fullmatch(text)
    type_ = type_of(match[2]) if match else None
    if match is None or type_ is None:
        raise exc.ArgumentError(
            f"the column {text!r} is not understood; write a name, a type, and NULL where it may be that; types are"
            f" {', '.join(TYPE_NAMES)}"
        )
    name = match[1]
    if name[0] == '"':
        name = name[1:-1].replace('""', '"')
    return FieldDefinition(name=name, kind=kind_of(type_), nullable=match[3] is not None)


def described(field: FieldDefinition) -> str:
    """A column as :func:`column` reads it."""
    name = field.name if _PLAIN_NAME.fullmatch(field.name) else quoted(field.name)
    return f"{name} {declared(field.kind)}{' NULL' if field.nullable else ''}"


def table_of(name: str, fields: Sequence[FieldDefinition], primary_key: Sequence[str]) -> TableDefinition:
    """The definition of a new table of records.

    Raises:
        ArgumentError: if the primary key is none of these columns.
    """
    names = [field.name for field in fields]
    seen: dict[str, str] = {}
    for each in names:
        if not each or "\0" in each:
            raise exc.ArgumentError(f"a column is called {each!r}; give it a name, without NUL characters")
        if seen.setdefault(folded(each), each) is not each or names.count(each) > 1:
            raise exc.ArgumentError(
                f"two columns are called {each!r}, which SQL does not tell apart in upper and lower case; rename one"
            )
    if name.lower().startswith("sqlite_"):
        raise exc.ArgumentError(f"the name {name!r} is SQLite's own; choose another")
    if not primary_key:
        raise exc.ArgumentError(f"a new table needs a primary key; give --primary-key, of {', '.join(names)}")
    for key in primary_key:
        if primary_key.count(key) > 1:
            raise exc.ArgumentError(f"the primary key names {key!r} twice")
        if key not in names:
            raise exc.ArgumentError(f"the primary key names {key!r}; the columns are {', '.join(names)}")
        if not (kind := fields[names.index(key)].kind).keyable:
            raise exc.ArgumentError(f"{key} cannot be in the primary key: {kind.allowed} has no order of bytes")
    return TableDefinition(name=name, fields=tuple(fields), primary_key=tuple(primary_key))


# ------------------------------------------------------------------------------------------ of values


def suggested(
    records: Iterable[Record], file_format: str, primary_key: Sequence[str], null: str = NULL
) -> list[FieldDefinition]:
    """The columns that some records of a file suggest: each has the narrowest type that takes all their values.

    Columns outside the key may be NULL, whatever the first records say of the later ones.

    Raises:
        ArgumentError: if there are no records.
    """
    seen: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.values.items():
            values = seen.setdefault(name, [])
            if value is not None and not (file_format == "csv" and value in ("", null)):
                values.append(value)
    if not seen:
        raise exc.ArgumentError("the file has no records that would say what its columns are; give them with --column")
    suggest = _of_texts if file_format == "csv" else _of_json
    return [
        FieldDefinition(name=name, kind=suggest(values), nullable=name not in primary_key)
        for name, values in seen.items()
    ]


_TEXTS: Final[Sequence[tuple[Kind, Callable[[str], bool]]]] = (
    (BoolKind(), lambda text: text.lower() in ("true", "false")),
    (IntKind(), lambda text: not _LEADING_ZERO.match(text) and text.isascii() and "_" not in text),
    (IntKind(64, False), lambda text: not _LEADING_ZERO.match(text) and text.isascii() and "_" not in text),
    (FloatKind(), lambda text: not _LEADING_ZERO.match(text) and text.isascii() and "_" not in text and _exact(text)),
    (DateKind(), lambda text: len(text) == 10),
    (DatetimeKind(), lambda text: len(text) >= 16),
    (DatetimeKind(aware=True), lambda text: len(text) >= 16),
    (TimeKind(), lambda text: ":" in text),
    (TimedeltaKind(), lambda text: "DT" in text),
    (UuidKind(), lambda text: len(text) == 36),
    (BytesKind(), lambda text: text.startswith("0x")),
)


def _exact(text: str) -> bool:
    """Whether a number keeps all its digits as a float; an infinity or NaN is one by its name alone."""
    try:
        number = float(text)
        if not math.isfinite(number):
            return not any(map(str.isdigit, text))
        return Decimal(repr(number)) == Decimal(text.strip())
    except (ValueError, ArithmeticError):
        return False


def _of_texts(values: Sequence[str]) -> Kind:
    for kind, plausible in _TEXTS:
        read = form_of(FieldDefinition(name="", kind=kind)).from_text
        if values and all(plausible(text) and _reads(read, text) for text in values):
            return kind
    return TextKind()


def _reads(read: Callable[[Any], Any], value: Any) -> bool:
    try:
        read(value)
    except (ValueError, ArithmeticError, TypeError):
        return False
    return True


_INTEGERS: Final[Sequence[Kind]] = (IntKind(), IntKind(64, False), DecimalKind(38, 0))
_NUMBERS: Final[Sequence[Kind]] = (FloatKind(),)


def _of_json(values: Sequence[Any]) -> Kind:
    types = {type(value) for value in values}
    if types == {bool}:
        return BoolKind()
    if types and types <= {int, float}:
        kinds = _INTEGERS if types == {int} else _NUMBERS
        return next((kind for kind in kinds if all(_reads(kind.check, value) for value in values)), JsonKind())
    if types == {str}:
        kind = _of_texts(values)
        # A number in quotes was meant to be text.
        return kind if not isinstance(kind, BoolKind | IntKind | FloatKind) else TextKind()
    return TextKind() if not types else JsonKind()
