"""Numbers: booleans, integers of fixed width, floats, decimals of fixed scale."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Mapping
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from fractions import Fraction
from numbers import Rational, Real
from typing import Annotated, Any, Final, Self

from msgspec import Meta

from kvdialect.codec.kinds import Kind, Namespace, OutOfRange, Refused, facts, put

Exact = int | Fraction | float
"""A number to compare with: exact, or an infinity."""


def comparable(value: Any) -> Exact:
    """A number of any type, exactly, as something that Python compares with integers; an infinity as it is.

    Raises:
        OutOfRange: for NaN, with side 0.
        ValueError: if it is no number.
    """
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        if value.is_nan():
            raise OutOfRange(0)
        if value.is_infinite():
            return math.inf if value > 0 else -math.inf
        # An exponent of a million would take a million digits to write out; no kind reaches 10**1000, or tells
        # 10**-1000 from its neighbours.
        if value and not -1000 < value.adjusted() < 1000:
            if value.adjusted() < 0:
                return Fraction(1 if value > 0 else -1, 10**1000)
            return 10**1000 if value > 0 else -(10**1000)
        return Fraction(value)
    if isinstance(value, Rational):
        return Fraction(int(value.numerator), int(value.denominator))
    if isinstance(value, Real):
        number = float(value)
        if math.isnan(number):
            raise OutOfRange(0)
        return number if math.isinf(number) else Fraction(number)
    if hasattr(value, "__index__"):
        return operator.index(value)
    raise ValueError(f"{value!r:.80} is no number")


def integral(value: Any, lowest: int, highest: int, scale: int = 1) -> int:
    """``value * scale`` as an integer from ``lowest`` to ``highest``.

    Raises:
        OutOfRange: if there is none.
        ValueError: if ``value`` is no number.
    """
    number = comparable(value)
    if not isinstance(number, float):
        number *= scale
    if number < lowest:
        raise OutOfRange(-1)
    if number > highest:
        raise OutOfRange(1)
    if number != (whole := int(number)):
        raise OutOfRange(0)
    return whole


class BoolKind(Kind):
    """bool: one byte in keys, 0 or 1; False comes before True."""

    tag = "bool"
    python = bool
    width = 1
    wire = bool
    allowed = "a bool"

    def spec(self) -> dict[str, Any]:
        return {"kind": "bool"}

    def check(self, value: Any) -> bool:
        if value is True or value is False:
            return value
        raise ValueError("no bool")

    def encode(self, value: bool) -> bytes:
        return b"\x01" if value else b"\x00"

    def decode(self, raw: bytes) -> bool:
        if raw == b"\x01":
            return True
        if raw == b"\x00":
            return False
        raise ValueError("a bool is one byte, 0 or 1")

    def bound(self, value: Any) -> bytes:
        return self.encode(bool(integral(value, 0, 1)))

    def test_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return f"{v}.__class__ is bool"

    def encode_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return rf"(b'\x01' if {v} else b'\x00')"


class IntKind(Kind):
    """Integers of 8, 16, 32 or 64 bits: big-endian in keys, signed ones with the sign bit flipped.

    Attributes:
        bits: width in bits.
        signed: negative values are allowed.
        lowest, highest: the range.
    """

    tag = "int"
    python = int

    def __init__(self, bits: int = 64, signed: bool = True) -> None:
        if bits not in (8, 16, 32, 64):
            raise ValueError(f"an int has 8, 16, 32 or 64 bits, not {bits!r:.80}")
        self.bits = bits
        self.signed = bool(signed)
        self.width = bits // 8
        self.lowest = -(1 << bits - 1) if signed else 0
        self.highest = (1 << bits - 1) - 1 if signed else (1 << bits) - 1
        self.allowed = f"an int from {self.lowest} to {self.highest}"
        # msgspec's own limits are those of 64 bits, and its Meta takes no larger numbers than signed ones.
        limits = Meta(ge=self.lowest) if self.highest >= 2**63 else Meta(ge=self.lowest, le=self.highest)
        self.wire = Annotated[int, limits]

    def spec(self) -> dict[str, Any]:
        return {"kind": "int", "bits": self.bits, "signed": self.signed}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003
        return cls(**facts(spec, bits=int, signed=bool))

    def check(self, value: Any) -> int:
        if value.__class__ is not int:
            if isinstance(value, bool):
                raise ValueError("a bool")
            try:
                value = operator.index(value)
            except TypeError as error:
                raise ValueError("no integer") from error
        if not self.lowest <= value <= self.highest:
            raise ValueError("out of range")
        return value  # type: ignore[no-any-return]

    def encode(self, value: int) -> bytes:
        return (value - self.lowest).to_bytes(self.bits // 8)

    def decode(self, raw: bytes) -> int:
        if len(raw) != self.width:
            raise ValueError(f"{self.allowed} takes {self.width} bytes in a key, not {len(raw)}")
        return int.from_bytes(raw) + self.lowest

    def bound(self, value: Any) -> bytes:
        return self.encode(integral(value, self.lowest, self.highest))

    def _widens(self, older: Kind) -> bool:
        return isinstance(older, IntKind) and self.lowest <= older.lowest and older.highest <= self.highest

    def test_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return f"{v}.__class__ is int and {self.lowest} <= {v} <= {self.highest}"

    def encode_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        value = f"({v} + {-self.lowest})" if self.signed else v
        return f"{value}.to_bytes({self.width})"

    def decode_source(self, raw: str, names: Namespace) -> str:
        value = f"{put(names, int.from_bytes)}({raw})"
        return f"({value} - {-self.lowest})" if self.signed else value


_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_to_double = struct.Struct(">d").unpack
_from_double = struct.Struct(">d").pack


class FloatKind(Kind):
    """float: IEEE 754, ordered in keys by flipping the sign bit, and all bits of negative values.

    Values keep -0.0, infinities and NaN exactly. In keys -0.0 is 0.0, and NaN, without a place in an order, is refused.
    """

    tag = "float"
    python = float
    width = 8
    wire = float
    allowed = "a float"

    def spec(self) -> dict[str, Any]:
        return {"kind": "float"}

    def check(self, value: Any) -> float:
        if isinstance(value, float):
            return float(value)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise Refused("no float")
        try:
            number = float(value)
        except OverflowError as error:
            raise ValueError("too large for a float") from error
        if number != value and not (math.isnan(number) and value != value):
            raise ValueError("no float is exactly this number")
        return number

    def encode(self, value: float) -> bytes:
        if math.isnan(value):
            raise ValueError("NaN has no place in an order")
        bits = int.from_bytes(_from_double(value + 0.0))  # -0.0 + 0.0 is 0.0
        return (bits ^ _ALL if bits & _SIGN else bits | _SIGN).to_bytes(8)

    def decode(self, raw: bytes) -> float:
        if len(raw) != 8:
            raise ValueError(f"a float takes 8 bytes in a key, not {len(raw)}")
        bits = int.from_bytes(raw)
        value: float = _to_double((bits ^ _SIGN if bits & _SIGN else bits ^ _ALL).to_bytes(8))[0]
        if math.isnan(value) or (not value and bits != _SIGN):
            raise ValueError("no float has these bytes in a key")
        return value

    def bound(self, value: Any) -> bytes:
        number = comparable(value)
        try:
            nearest = float(number)
        except OverflowError:
            nearest = math.inf if number > 0 else -math.inf
        if nearest != number:
            raise OutOfRange(0)  # between two floats, or between the largest and infinity
        return self.encode(nearest)

    def test_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return f"{v}.__class__ is float"


class DecimalKind(Kind):
    """Decimal of fixed precision and scale, stored as an integer of its last decimal place.

    It takes 8 bytes in a key for up to 18 digits and 16 beyond, and comes back with exactly ``scale`` decimals. On the
    wire it is an int up to 18 digits and those 16 bytes beyond, as msgpack has no longer ints.

    Attributes:
        precision: digits in all, 1 to 38.
        scale: digits behind the point, 0 to ``precision``.
    """

    tag = "decimal"
    python = Decimal

    def __init__(self, precision: int, scale: int) -> None:
        if not 1 <= precision <= 38:
            raise ValueError(f"a decimal has 1 to 38 digits, not {precision!r:.80}")
        if not 0 <= scale <= precision:
            raise ValueError(f"the scale of a decimal of {precision} digits is 0 to {precision}, not {scale!r:.80}")
        self.precision = precision
        self.scale = scale
        self.highest = 10**precision - 1
        self.width = 8 if precision <= 18 else 16
        self._offset = 1 << self.width * 8 - 1
        self._unit = Decimal(1).scaleb(-scale)
        self._context = Context(
            prec=precision, Emin=-100, Emax=100, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero]
        )
        whole = precision - scale
        self.allowed = f"a Decimal with at most {whole} digits before the point and {scale} behind it"
        if self.width == 8:
            self.wire = Annotated[int, Meta(ge=-self.highest, le=self.highest)]
        else:
            self.wire = Annotated[bytes, Meta(min_length=16, max_length=16)]

    def spec(self) -> dict[str, Any]:
        return {"kind": "decimal", "precision": self.precision, "scale": self.scale}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003
        return cls(**facts(spec, precision=int, scale=int))

    def check(self, value: Any) -> Decimal:
        if not isinstance(value, Decimal):
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise Refused("no Decimal")
            number = operator.index(value)
            if abs(number) > self.highest:
                raise ValueError("too many digits")
            value = Decimal(number)
        try:
            exact = Decimal(value).quantize(self._unit, context=self._context)
        except ArithmeticError as error:
            raise ValueError("NaN, infinite, or too many digits") from error
        if not exact.is_finite():
            raise ValueError("infinite")
        if not exact:
            exact = exact.copy_abs()
        # The same object where nothing had to change, so that lists of decimals need no copy.
        return value if value.__class__ is Decimal and value.compare_total(exact) == 0 else exact

    def unscaled(self, value: Decimal) -> int:
        """A checked value as the integer of its last decimal place."""
        return int(value.scaleb(self.scale, self._context))

    def scaled(self, number: int) -> Decimal:
        """The value of such an integer.

        Raises:
            ValueError: if it has more digits than the precision.
        """
        if not -self.highest <= number <= self.highest:
            raise ValueError(f"{number} has more than {self.precision} digits")
        return Decimal(number).scaleb(-self.scale, self._context)

    def encode(self, value: Decimal) -> bytes:
        return (self.unscaled(value) + self._offset).to_bytes(self.width or 0)

    def decode(self, raw: bytes) -> Decimal:
        if len(raw) != self.width:
            raise ValueError(f"{self.allowed} takes {self.width} bytes in a key, not {len(raw)}")
        return self.scaled(int.from_bytes(raw) - self._offset)

    def bound(self, value: Any) -> bytes:
        number = integral(value, -self.highest, self.highest, 10**self.scale)
        return (number + self._offset).to_bytes(self.width or 0)

    def store(self, value: Decimal) -> int | bytes:
        return self.unscaled(value) if self.width == 8 else self.encode(value)

    def load(self, wire: Any) -> Decimal:
        return self.scaled(wire) if self.width == 8 else self.decode(wire)

    def _widens(self, older: Kind) -> bool:
        return (
            isinstance(older, DecimalKind)
            and self.scale == older.scale
            and self.precision >= older.precision
            and self.width == older.width
        )
