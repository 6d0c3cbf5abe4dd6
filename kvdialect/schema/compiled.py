"""The compiled decoder of rows, where the package was built with it; see :mod:`kvdialect._compiled`.

It does what generated code does: in keys it knows parts of fixed width, and one of variable width that stands raw at
the end; in values all that msgpack has. What else there is, older versions of a table's fields included, it hands to
the generated code, which also words the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect

from kvdialect._compiled import loaded
from kvdialect.codec.keys import KeyGrammar, KeyPart
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, IntKind
from kvdialect.codec.strings import BytesKind, FixedBytesKind, TextKind
from kvdialect.schema.definition import FieldDefinition

rows: Final = loaded("kvdialect.schema._rows")
"""The compiled module, or None."""

_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**64 - 1


def decoder(
    names: Sequence[str],
    grammar: KeyGrammar,
    key_names: Sequence[str],
    header: bytes | None,
    fields: Sequence[FieldDefinition],
    otherwise: Callable[[bytes, bytes], tuple[Any, ...]],
) -> Any:
    """What decodes pairs to rows, or None where only generated code can.

    Args:
        names: the columns of a row, in order.
        grammar: of the keys.
        key_names: the column of each of its parts; of a column that has several the first is taken.
        header: what values begin with, before a msgpack array of ``fields``; None: values are not looked at.
        fields: the columns in the array.
        otherwise: ``otherwise(key, value) -> row``, for pairs that hold anything unexpected.
    """
    if rows is None or not 1 <= len(names) <= rows.MOST or len(grammar.parts) + len(fields) > rows.MOST:
        return None
    place = {name: at for at, name in enumerate(names)}
    parts = []
    for name, part in zip(key_names, grammar.parts, strict=True):
        form = _part(part)
        if form is None:
            return None
        parts.append((place.get(name, -1), *form))
    stored = tuple([(place.get(field.name, -1), *_field(field.kind, field.nullable)) for field in fields])
    return rows.Decoder(len(names), tuple(parts), header, stored, otherwise)


def _part(part: KeyPart) -> tuple[str, bool, Any, int] | None:
    """Form, whether NULL is possible, what makes the value of the bytes, and how many these are (-1: all the rest)."""
    if part.descending or part.terminated:
        return None
    kind, width = part.kind, part.kind.width
    form = "o"
    if isinstance(kind, FixedBytesKind) or (isinstance(kind, BytesKind) and kind.length is None):
        form = "b"
    elif isinstance(kind, TextKind) and kind.length is None:
        form = "t"
    elif isinstance(kind, IntKind):
        form = "i" if kind.signed else "u"
    elif isinstance(kind, BoolKind):
        form = "?"
    return form, part.nullable, kind.decode if form == "o" else None, -1 if width is None else width


def _field(kind: Kind, nullable: bool) -> tuple[str, bool, Any, int, int]:
    """Form, whether NULL is possible, what makes the value of what was read, and the bounds of that."""
    load: Any = None if kind.plain else kind.load
    match inspect.type_info(kind.wire):
        case inspect.IntType(ge=ge, gt=gt, le=le, lt=lt, multiple_of=None):
            low = ge if ge is not None else gt + 1 if gt is not None else _LOWEST
            high = le if le is not None else lt - 1 if lt is not None else _HIGHEST
            if low >= _LOWEST and 0 <= high <= _HIGHEST:
                return "i", nullable, load, low, high
        case inspect.BytesType(min_length=least, max_length=most):
            return "b", nullable, load, least or 0, _HIGHEST if most is None else most
        case inspect.StrType(min_length=None, max_length=most, pattern=None):
            return "t", nullable, load, 0, _HIGHEST if most is None else most
        case inspect.BoolType():
            return "?", nullable, load, 0, 0
        case inspect.FloatType(ge=None, gt=None, le=None, lt=None, multiple_of=None):
            return "f", nullable, load, 0, 0
        case inspect.LiteralType(values=values) if all(type(value) is str for value in values):
            meanings: Mapping[Any, Any] = {value: kind.load(value) for value in values}
            return "n", nullable, meanings, 0, _HIGHEST
        case _:
            pass
    return "o", nullable, _unpacker(kind), 0, 0


def _unpacker(kind: Kind) -> Callable[[bytes], Any]:
    unpack = msgspec.msgpack.Decoder(kind.wire).decode
    if kind.plain:
        return unpack
    load = kind.load
    return lambda raw: load(unpack(raw))
