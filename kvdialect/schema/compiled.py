"""The compiled decoder and encoder of rows, where the package was built with them; see :mod:`kvdialect._compiled`.

They do what generated code does. In keys the decoder knows parts of fixed width, and one of variable width that stands
raw at the end; in values all that msgpack has. What else there is, older versions of a table's fields and values that
have to be normalised included, they hand to the generated code, which also words the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect

from kvdialect._compiled import loaded
from kvdialect.codec.keys import KeyGrammar, KeyPart
from kvdialect.codec.kinds import Kind, Namespace, compiled, unpacker
from kvdialect.codec.numeric import BoolKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, FixedBytesKind, TextKind
from kvdialect.schema.definition import FieldDefinition
from kvdialect.schema.expressions import Column, Compare, Constant, Expression

rows: Final = loaded("kvdialect.schema._rows")
"""The compiled module that decodes, or None."""

encoding: Final = loaded("kvdialect.schema._encoding")
"""The compiled module that encodes, or None."""

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


def dynamic_decoder(
    count: int, header: bytes, rowid: bool, hidden_rowid: bool, otherwise: Callable[[bytes, bytes], tuple[Any, ...]]
) -> Any:
    """What decodes the pairs of a table made by SQL to rows of ``count`` values, or None where only generated code can.

    Args:
        count: values of a row.
        header: what values begin with, before a msgpack array.
        rowid: a key is four bytes, and a rowid of eight.
        hidden_rowid: the rowid is the last value of a row; all others are in the array.
        otherwise: ``otherwise(key, value) -> row``, for pairs that hold anything unexpected.
    """
    if rows is None or not 1 <= count <= rows.MOST - 2:
        return None
    parts: tuple[Any, ...] = ((-1, "b", False, None, -1),)
    if rowid:
        parts = ((-1, "b", False, None, 4), (count - 1 if hidden_rowid else -1, "i", False, None, 8))
    stored = tuple([(place, "d", True, None, 0, _HIGHEST) for place in range(count - hidden_rowid)])
    return rows.Decoder(count, parts, header, stored, otherwise)


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
    unpack = unpacker(kind.wire)
    if kind.plain:
        return unpack
    load = kind.load
    return lambda raw: load(unpack(raw))


# ------------------------------------------------------------------------------------------------ encoding


def encoder(
    fields: Sequence[FieldDefinition],
    grammar: KeyGrammar,
    key_names: Sequence[str],
    header: bytes,
    value_names: Sequence[str],
    indexes: Sequence[Any],
    limit: int,
    encode: Callable[[tuple[Any, ...]], tuple[bytes, bytes, tuple[Any, ...]]],
    entries: Callable[[tuple[Any, ...], bytes], tuple[Any, ...]],
) -> Any:
    """What encodes rows and makes their index entries, or None where only generated code can.

    Args:
        fields: the columns of a row, in order.
        grammar: of the keys.
        key_names: the column of each of its parts.
        header: what values begin with, before a msgpack array of the columns ``value_names``.
        value_names: those columns.
        indexes: of each index what :func:`index_spec` gives, or a function ``entries(row, key)``.
        limit: bytes of the longest key.
        encode: ``encode(row) -> (key, value, row)``, for rows that hold anything unexpected.
        entries: ``entries(row, key)``: for each index a tuple of its entries, for such rows.
    """
    if encoding is None or not 1 <= len(fields) <= encoding.MOST or len(indexes) > encoding.MOST:
        return None
    columns = []
    for field in fields:
        column = _column(field.kind, field.nullable)
        if column is None:
            return None
        columns.append(column)
    place = {field.name: at for at, field in enumerate(fields)}
    return encoding.Encoder(
        tuple(columns),
        key_spec(grammar.parts, [place[name] for name in key_names]),
        header,
        tuple([place[name] for name in value_names]),
        tuple(indexes),
        limit,
        encode,
        entries,
    )


def key_spec(parts: Sequence[KeyPart], places: Sequence[int]) -> tuple[Any, ...]:
    """Parts of a key, whose columns stand at ``places`` of a row, as the compiled encoder takes them."""
    return tuple([_key_part(part, place) for part, place in zip(parts, places, strict=True)])


def index_spec(
    key: tuple[Any, ...],
    where: Expression | None,
    holds: Callable[[tuple[Any, ...]], bool] | None,
    places: Mapping[str, int],
    *,
    floats: Collection[str],
    unique: bool,
    keyed: bool,
    included: Sequence[int] | None,
    header: bytes,
) -> tuple[Any, ...]:
    """An index as the compiled encoder takes it.

    Args:
        key: of :func:`key_spec`.
        where: its predicate.
        holds: ``holds(row)``: the same as a function.
        places: of the columns in a row.
        floats: the columns that may hold NaN, which counts as NULL.
        unique: the record's key is its value, and stands behind its key only where a column is NULL.
        keyed: the record's key stands behind its key.
        included: places of the columns in its value, or None if it has none but that.
        header: one byte that such a value begins with.
    """
    when, place = 0, 0
    match where:
        case None:
            pass
        case Compare("is" | "is not" as operator, Column(name), Constant(None)) if name not in floats:
            when, place = (1 if operator == "is" else 2), places[name]
        case _:
            when = 3
    asked = holds if when == 3 else None
    fields = None if included is None else tuple(included)
    return key, when, place, asked, unique, keyed, fields, header[0]


def _column(kind: Kind, nullable: bool) -> tuple[str, bool, int, int, Any] | None:
    """Form, whether NULL is possible, the bounds, and what packs a value that C does not know."""
    if type(kind) is IntKind:
        return "i", nullable, kind.lowest, kind.highest, None
    if type(kind) is FixedBytesKind:
        return "b", nullable, kind.length, kind.length, None
    if type(kind) is BytesKind:
        return "b", nullable, 0, _HIGHEST if kind.length is None else kind.length, None
    if type(kind) is TextKind:
        return "t", nullable, 0, _HIGHEST if kind.length is None else kind.length, None
    if type(kind) is BoolKind:
        return "?", nullable, 0, 0, None
    if type(kind) is FloatKind:
        return "f", nullable, 0, 0, None
    names: Namespace = {"pack": msgspec.msgpack.Encoder().encode}
    test = kind.test_source("v", names)
    if test is None:
        return None
    source = f"    return pack({kind.store_source('v', names)}) if {test} else None"
    return "o", nullable, 0, 0, compiled("packed", ["def packed(v):", source], names)


def _key_part(part: KeyPart, place: int) -> tuple[int, str, bool, bool, bool, bool, int, Any]:
    """Place, form, whether it is nullable, terminated, descending, signed, its width, and what encodes other values."""
    kind = part.kind
    signed = type(kind) is IntKind and kind.signed
    known = {IntKind: "i", FixedBytesKind: "b", BytesKind: "b", TextKind: "t", BoolKind: "?"}
    form = known.get(type(kind), "o")
    encode = None
    if form == "o":
        names: Namespace = {}
        test = kind.test_source("v", names) or "False"
        source = f"    return {kind.encode_source('v', names)} if {test} else None"
        encode = compiled("encoded", ["def encoded(v):", source], names)
    width = kind.width if form == "i" else 0
    return place, form, part.nullable, part.terminated, part.descending, signed, width or 0, encode
