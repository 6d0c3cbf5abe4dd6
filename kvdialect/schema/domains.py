"""Domains: what compares with what, and how a statement's parameters become values that compare with a column.

All numbers are one domain, as are text of any length, and bytes. Every other type is a domain of its own. A parameter
is converted to the domain of what it is compared with when the statement is executed, so that a value that compares
with nothing in the column is refused there, by the column's name.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Literal

import attrs

from kvdialect import exc
from kvdialect.codec.kinds import Kind
from kvdialect.codec.temporal import DatetimeKind
from kvdialect.schema.expressions import has_own_order
from kvdialect.schema.functions import Choices, LikePattern

Converter = Callable[[Any], Any]
"""Makes of a parameter's value what expressions work with. Raises DataError."""


@attrs.frozen
class Domain:
    """The type of an expression.

    Attributes:
        name: ``"number"``, ``"text"``, ``"bytes"``, or ``"kind"`` for a domain of its own.
        number: of numbers which.
        kind: of a domain of its own.
        owner: the column that it comes from, for messages.
    """

    name: Literal["number", "text", "bytes", "kind"]
    number: Literal["int", "float", "decimal"] | None = None
    kind: Kind | None = None
    owner: str = attrs.field(default="an expression", eq=False)

    def compares_with(self, other: Domain) -> bool:
        return self.name == other.name and self.kind == other.kind

    @property
    def allowed(self) -> str:
        if self.kind is not None:
            return self.kind.allowed
        return {"number": "a number", "text": "a str", "bytes": "bytes"}[self.name]

    def convert(self, value: Any) -> Any:
        """The value as expressions compare it; None, and NaN of which SQL knows nothing, give None.

        Raises:
            DataError: if it compares with no value of the domain.
        """
        if value is None:
            return None
        if self.name == "number":
            return self._number(value)
        if self.name == "text":
            if isinstance(value, str):
                return str(value)
        elif self.name == "bytes":
            if isinstance(value, bytes | bytearray | memoryview):
                return bytes(value)
        elif self.kind is not None:
            if isinstance(self.kind, DatetimeKind) and not self.kind.aware and type(value) is dt.date:
                value = dt.datetime.combine(value, dt.time.min)  # midnight, as SQL compares the two
            try:
                checked = self.kind.check(value)
            except (ValueError, TypeError, OverflowError) as error:
                raise self.refusal(value) from error
            return checked if has_own_order(self.kind) else self.kind.store(checked)
        raise self.refusal(value)

    def _number(self, value: Any) -> Any:
        """A number as it is compared with one of this domain: a decimal with decimals, a float with floats."""
        if isinstance(value, Decimal):
            if value.is_nan():
                return None
            return float(value) if self.number == "float" else value
        if isinstance(value, float):
            if math.isnan(value):
                return None
            return Decimal(repr(value)) if self.number == "decimal" and math.isfinite(value) else value
        if isinstance(value, int):
            return value
        try:
            return operator.index(value)
        except TypeError:
            raise self.refusal(value) from None

    def operand(self, value: Any) -> Any:
        """A number as it is added to one of this domain: no decimal, if it is of integers or floats.

        Raises:
            DataError: if it is none, or an integer that no float comes near to.
        """
        value = self._number(value) if value is not None else None
        if self.number == "int" and isinstance(value, Decimal):
            return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
        if self.number == "float" and isinstance(value, int):
            try:
                float(value)
            except OverflowError:
                raise self.refusal(value) from None
        return value

    def choices(self, values: Any) -> Choices:
        """The right side of IN."""
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise exc.DataError(
                f"{self.owner} is compared by IN with {values!r:.80}; give a list, tuple or set", value=values
            )
        convert = self.convert
        return Choices([convert(value) for value in values])

    def refusal(self, value: Any) -> exc.DataError:
        shown = exc.shown(value) if isinstance(value, bytes) else exc.short(value)
        return exc.DataError(
            f"{self.owner} is compared with {shown} ({type(value).__name__}); it compares with {self.allowed}",
            value=value, allowed=self.allowed, owner=self.owner,
        )  # fmt: skip


NUMBER = Domain("number", "int")
FLOAT = Domain("number", "float")
DECIMAL = Domain("number", "decimal")
TEXT = Domain("text")


def domain_of(kind: Kind, owner: str) -> Domain:
    """The domain of a column's kind."""
    python = kind.python if has_own_order(kind) else None
    if python is bool or python is int:
        return Domain("number", "int", owner=owner)
    if python is float:
        return Domain("number", "float", owner=owner)
    if python is Decimal:
        return Domain("number", "decimal", owner=owner)
    if python is str and kind.plain:  # not a UUID as text, whose values must be brought to one form
        return Domain("text", owner=owner)
    if python is bytes:
        return Domain("bytes", owner=owner)
    return Domain("kind", kind=kind, owner=owner)


def like_converter(owner: str, escape: str | None, folded: bool, before: str = "", after: str = "") -> Converter:
    """Makes a LikePattern of a parameter's text, with wildcards ``before`` and ``after`` it."""

    def convert(value: Any) -> LikePattern | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise exc.DataError(
                f"{owner} is compared by LIKE with {value!r:.80} ({type(value).__name__}); give a str", value=value
            )
        return LikePattern(f"{before}{value}{after}", escape, folded)

    return convert


def plain(value: Any) -> Any:
    """The converter of a parameter that is compared with nothing."""
    return value


def row_number(what: str) -> Converter:
    """The converter of LIMIT and OFFSET: a number of rows, or None."""

    def convert(value: Any) -> int | None:
        if value is None:
            return None
        try:
            number = operator.index(value)
        except TypeError:
            number = -1
        if number < 0 or isinstance(value, bool):
            raise exc.DataError(f"{what} is {value!r:.80}; give a number of rows, 0 or more", value=value)
        return number

    return convert
