"""SQL's dynamic values: NULL, integers of 64 bits, floats, text and blobs, all of which one column may hold.

Their order is SQLite's (https://www.sqlite.org/datatype3.html): NULL first, then numbers by value, then text, then
blobs. In a key each value says where it ends, so that values follow one another:

- ``00``: NULL;
- numbers: ``15``, the number rounded down to an integer as 8 bytes, big-endian, sign bit flipped, and ``00``; or
  ``01`` and the number itself as 8 bytes in the order of the floats, for a float that is no integer. A float outside 64
  bits: ``16``, or ``14`` below zero, and 8 bytes in the order of the floats. So 1 and 1.0 have the same bytes, as they
  are equal. The order of the floats is that of their IEEE doubles, big-endian, with the sign bit flipped, or all bits
  of those below zero;
- text: ``20``, UTF-8 with ``00`` written as ``00 ff``, and ``00 00``. Under NOCASE ASCII letters are folded, under
  RTRIM spaces at the end are left out;
- blobs: ``30`` and the bytes, escaped and ended as text is.

Since 0.1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from kvdialect.codec.kinds import Kind, Refused

Affinity = Literal["INTEGER", "REAL", "NUMERIC", "TEXT", "BLOB"]
AFFINITIES: Final = ("INTEGER", "REAL", "NUMERIC", "TEXT", "BLOB")
COLLATIONS: Final = ("BINARY", "NOCASE", "RTRIM")

_SIGN: Final = 1 << 63
_HIGHEST: Final = _SIGN - 1
_ALL: Final = (1 << 64) - 1
_EXACT: Final = float(1 << 63)
_DIGITS: Final = len(str(_SIGN))

_pack: Final[Callable[[int], bytes]] = struct.Struct(">Q").pack
_pack_float: Final[Callable[[float], bytes]] = struct.Struct(">d").pack
_unpack: Final = struct.Struct(">Q").unpack

_UPPER: Final = {ord(letter): ord(letter) + 32 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def folded(text: str, collation: str) -> str:
    """What the collation compares of a text."""
    if collation == "NOCASE":
        return text.translate(_UPPER)
    if collation == "RTRIM":
        return text.rstrip(" ")
    return text


def encode_value(value: Any, collation: str = "BINARY") -> bytes:
    """The bytes of a value in a key.

    Raises:
        ValueError: for NaN, text that is no Unicode, and what is no value of SQL.
    """
    kind = type(value)
    if kind is int:
        try:
            return b"\x15" + _pack(value + _SIGN) + b"\x00"
        except struct.error as error:
            raise ValueError(f"{value!r:.80} does not fit into 64 bits") from error
    if kind is str:
        text = value if collation == "BINARY" else folded(value, collation)
        raw = text.encode()
        return b"\x20" + (raw.replace(b"\0", b"\0\xff") if b"\0" in raw else raw) + b"\0\0"
    if value is None:
        return b"\x00"
    if kind is float:
        return _encode_float(value)
    if kind is bytes:
        blob: bytes = value.replace(b"\0", b"\0\xff") if b"\0" in value else value
        return b"\x30" + blob + b"\0\0"
    raise ValueError(f"{value!r:.80} is no value of SQL")


def _encode_float(value: float) -> bytes:
    if value != value:
        raise ValueError("NaN has no place in an order")
    if value >= _EXACT:
        return b"\x16" + _ordered(value)
    if value < -_EXACT:
        return b"\x14" + _ordered(value)
    whole = math.floor(value)
    if whole == value:
        return b"\x15" + _pack(whole + _SIGN) + b"\x00"
    # Not the fraction: of a number just below zero it would be rounded, and others would have the same.
    return b"\x15" + _pack(whole + _SIGN) + b"\x01" + _ordered(value)


def _ordered(value: float) -> bytes:
    [bits] = _unpack(_pack_float(value))
    return _pack(bits ^ _ALL if bits & _SIGN else bits ^ _SIGN)


# ------------------------------------------------------------------------------------------ affinity


def _number_of(text: str) -> int | float | None:
    """The number that a text is written as, or None; an integer only where it is written as one."""
    stripped = text.strip(" \t\n\v\f\r")
    body = stripped[1:] if stripped[:1] in ("+", "-") else stripped
    if body.isascii() and body.isdigit():
        digits = body.lstrip("0") or "0"
        if len(digits) <= _DIGITS:  # of thousands of digits Python makes no int
            number = -int(digits) if stripped[0] == "-" else int(digits)
            if -_SIGN <= number <= _HIGHEST:
                return number
        return float(stripped)
    if not body.isascii() or not body or not all(char in "0123456789.eE+-" for char in body):
        return None
    try:
        return float(stripped)
    except ValueError:
        return None


def _whole(number: float) -> int | float:
    """A float that is an integer of 64 bits, as one."""
    if type(number) is float and -_EXACT <= number < _EXACT:
        whole = int(number)
        if whole == number and -_HIGHEST < whole < _HIGHEST:
            return whole
    return number


def _to_numeric(value: Any) -> Any:
    if type(value) is str:
        number = _number_of(value)
        return value if number is None else _whole(number)
    return _whole(value) if type(value) is float else value


def _to_real(value: Any) -> Any:
    if type(value) is int:
        return float(value)
    if type(value) is str:
        number = _number_of(value)
        return value if number is None else float(number)
    return value


def _to_text(value: Any) -> Any:
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return _floats.write(value)
    return value


class _Floats:
    """How a float is written as text."""

    def __init__(self) -> None:
        self.write: Callable[[float], str] = _float_text


def write_floats_by(write: Callable[[float], str]) -> None:
    """Have floats that become text written by a function.

    SQLite's releases write them differently, with 15 digits or 17 and rounded in their own way, and it is SQLite that
    compares what a column of text holds with a float: so the door gives the way of the SQLite that it runs on.
    """
    _floats.write = write


def _float_text(value: float) -> str:
    """A float as SQLite before 3.53 writes it: 15 significant digits, as ``%!.15g``."""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    text = f"{value:.15g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        if "." not in mantissa:
            mantissa += ".0"
        return f"{mantissa}e{exponent}"
    return text if "." in text else f"{text}.0"


_floats: Final = _Floats()


def _as_it_is(value: Any) -> Any:
    return value


_CONVERSIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "INTEGER": _to_numeric,
    "NUMERIC": _to_numeric,
    "REAL": _to_real,
    "TEXT": _to_text,
    "BLOB": _as_it_is,
}


def apply_affinity(value: Any, affinity: str) -> Any:
    """A value as a column of this affinity stores it; one that does not convert without loss stays as it is."""
    return _CONVERSIONS[affinity](value)


_PLAIN: Final[Mapping[str, str]] = {"INTEGER": "int", "NUMERIC": "int", "REAL": "float", "TEXT": "str", "BLOB": "bytes"}
_TYPES: Final = frozenset({int, str, float, bytes})


class DynamicKind(Kind):
    """The values of a column of an SQL table.

    Attributes:
        affinity: which type values are converted to, where that loses nothing.
        collation: how text compares.
    """

    tag = "sql"
    python = object
    wire = Any
    allowed = "an int of 64 bits, a float, text or bytes"

    def __init__(self, affinity: Affinity, collation: str = "BINARY") -> None:
        if affinity not in AFFINITIES or collation not in COLLATIONS:
            raise ValueError(f"affinity {affinity!r:.40} or collation {collation!r:.40} is unknown")
        self.affinity: Affinity = affinity
        self.collation = collation
        self._convert = _CONVERSIONS[affinity]

    def spec(self) -> dict[str, Any]:
        spec = {"kind": "sql", "affinity": self.affinity}
        return spec if self.collation == "BINARY" else {**spec, "collation": self.collation}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> DynamicKind:  # noqa: ARG003 - it has no parts
        unknown = spec.keys() - {"kind", "affinity", "collation"}
        if unknown:
            raise ValueError(f"{sorted(unknown)!r:.80} is unknown")
        return cls(spec["affinity"], spec.get("collation", "BINARY"))

    def check(self, value: Any) -> Any:
        kind = type(value)
        if kind not in _TYPES:
            raise Refused
        if kind is int and not -_SIGN <= value <= _HIGHEST:
            raise Refused
        if kind is float and value != value:
            raise Refused
        if kind is str:
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise Refused from error
        return self._convert(value)

    def encode(self, value: Any) -> bytes:
        return encode_value(value, self.collation)

    def plain_type(self) -> str:
        """Name of the Python type whose values are stored as they are."""
        return _PLAIN[self.affinity]
