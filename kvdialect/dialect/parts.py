"""Parts of keys, as SQL compares the values that stand in them.

A part knows where an SQL value lies among the encodings of its column's values: the point of those that equal it, or
the edge between those below and those above. SQLite has an order over all values, NULL before numbers before text
before blobs, so every value has such a place, whatever type the column has.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Literal

from kvdialect import exc
from kvdialect.codec.composite import ConvertedKind
from kvdialect.codec.dynamic import apply_affinity, encode_value
from kvdialect.codec.keys import KeyPart
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimeKind
from kvdialect.dialect import sqlvalues
from kvdialect.storage.ranges import successor

if TYPE_CHECKING:
    from kvdialect.dialect.relations import SqlColumn

UNBOUNDED: Final = object()
"""Stands for the bound that a span does not have."""

Span = tuple[bytes, bytes | None]
"""From the first bytes up to, not including, the second; None: to the end."""

Edge = tuple[bytes, bool] | Literal["lowest", "highest"] | None
"""A place among the encodings of a part: before one, or (if True) behind it, or at either end; None: unknown."""

_NUMERIC: Final = ("INTEGER", "REAL", "NUMERIC")

_MOMENTS: Final = (DatetimeKind, DateKind, TimeKind)

_BEHIND_NUMBERS: Final = ":"
"""Text that lies behind all text which can be read as a number, as that begins with a space, a sign, a dot or a digit.
"""


class Part(abc.ABC):
    """One part of a path's keys.

    Attributes:
        position: of its column; -1 is a rowid without a column.
        collation: by which its text is compared.
        descending: its keys are in descending order.
        exact: its spans hold exactly the values between the bounds; if False they may hold others too.
        ordered: its keys are in the order that SQL has for the values.
        raw: it has no end mark, so other keys may begin with the bytes of one.
        null: what NULL is encoded as; None if it cannot be.
    """

    collation = "BINARY"
    descending = False
    exact = True
    ordered = True
    raw = False
    null: bytes | None = None

    def __init__(self, position: int, affinity: str) -> None:
        self.position = position
        self.affinity = affinity
        self._numeric = affinity in _NUMERIC
        self._first = b""
        self._last: bytes | None = None

    def converted(self, value: Any) -> Any:
        """A value, not NULL, after the column's affinity, as it is before a comparison."""
        kind = value.__class__
        if self._numeric:
            return apply_affinity(value, "NUMERIC") if kind is str else value
        if self.affinity == "TEXT" and (kind is int or kind is float):
            return apply_affinity(value, "TEXT")
        return value

    def ambiguous(self, value: Any) -> bool:
        """Whether the comparison depends on where ``value`` comes from; see :meth:`Path.ranges`."""
        return not self._numeric and isinstance(value, int | float)

    def reached(self, high: Any, inclusive: bool) -> tuple[Any, bool]:
        """The upper bound, inclusive or not, of all that may be below ``high``, wherever this comes from.

        Below text of a column of numbers is what can be read as a number: that is how SQLite reads it there.
        """
        if (
            high.__class__ is str
            and high < _BEHIND_NUMBERS
            and not self._numeric
            and apply_affinity(high, "NUMERIC").__class__ is str  # else it cannot stand in such a column
        ):
            return _BEHIND_NUMBERS, False
        return high, inclusive

    @abc.abstractmethod
    def point(self, value: Any) -> bytes | None:
        """The encoding of a value that :meth:`converted` gave; None if no value of the column equals it."""

    @abc.abstractmethod
    def edge(self, value: Any, above: bool) -> Edge:
        """Where a converted value lies among the encodings: before those that equal it, or above them."""

    def span(self, low: Any, high: Any, low_inclusive: bool, high_inclusive: bool) -> Span | None:
        """The encodings of the values, other than NULL, between two bounds; None if there are none."""
        first: Edge = "lowest" if low is UNBOUNDED else self.edge(low, not low_inclusive)
        last: Edge = "highest" if high is UNBOUNDED else self.edge(high, high_inclusive)
        if first == "highest" or last == "lowest":
            return None
        if self.descending:
            first, last = _turned(last), _turned(first)
        start = self._place(first) or self._first
        stop = self._place(last) if isinstance(last, tuple) else self._last
        if stop is None:
            stop = self._last
        if isinstance(first, tuple) and self._place(first) is None:
            return None  # behind the very last
        return None if stop is not None and start >= stop else (start, stop)

    def loose(self, low: Any, high: Any, low_inclusive: bool, high_inclusive: bool) -> Sequence[Span]:  # noqa: ARG002
        """The spans of all that may lie between the bounds, whatever affinity these had; in order."""
        return [(self._first, self._last)]

    def _place(self, edge: Edge) -> bytes | None:
        """The first bytes behind an edge, of those that stand in keys; None where that is the end, or unknown."""
        if not isinstance(edge, tuple):
            return None
        encoded, above = edge
        return successor(encoded) if above else encoded


def _turned(edge: Edge) -> Edge:
    """An edge seen from the other side."""
    if isinstance(edge, tuple):
        return edge[0], not edge[1]
    return {"lowest": "highest", "highest": "lowest", None: None}[edge]


class RowidPart(Part):
    """The rowid: eight bytes, the sign bit flipped."""

    def __init__(self, position: int) -> None:
        super().__init__(position, "INTEGER")

    def point(self, value: Any) -> bytes | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int):
            return None
        return (value + (1 << 63)).to_bytes(8) if -(1 << 63) <= value < 1 << 63 else None

    def edge(self, value: Any, above: bool) -> Edge:
        return _integer_edge(value, above, -(1 << 63), (1 << 63) - 1, self._encoded)

    def _encoded(self, value: int) -> bytes:
        return (value + (1 << 63)).to_bytes(8)


class DynamicPart(Part):
    """A column of an SQL table, which takes values of every type."""

    null = encode_value(None)
    _text = encode_value("")
    _blob = encode_value(b"")

    def __init__(self, position: int, affinity: str, collation: str) -> None:
        super().__init__(position, affinity)
        self.collation = collation
        self._first = successor(self.null) or b""

    def point(self, value: Any) -> bytes | None:
        return encode_value(value, self.collation)

    def edge(self, value: Any, above: bool) -> Edge:
        return encode_value(value, self.collation), above

    def loose(self, low: Any, high: Any, low_inclusive: bool, high_inclusive: bool) -> Sequence[Span]:
        text: Span = self._text, self._blob
        if self.affinity == "TEXT":
            # A bound of another type than a number still holds.
            open_low = low is UNBOUNDED or self.ambiguous(low)
            open_high = high is UNBOUNDED
            if high is not UNBOUNDED and self.ambiguous(high):
                return [text]
            span = self.span(
                UNBOUNDED if open_low else low, UNBOUNDED if open_high else high, low_inclusive, high_inclusive
            )
            return [] if span is None else [span]
        span = self.span(low, high, low_inclusive, high_inclusive)
        spans = [] if span is None else [span]
        if high is not UNBOUNDED and self.ambiguous(high):
            spans.append(text)  # text that is read as a number may be below the bound
        return spans


class RecordPart(Part):
    """A column of a record table: values of one kind, which SQL sees as :mod:`sqlvalues` says.

    A value finds a point if it is exactly what SQL would be shown for a record; another form of it (a date written
    without its time, say) equals no record's value, and as a bound it may have no known place.
    """

    def __init__(self, position: int, part: KeyPart, column: SqlColumn) -> None:
        super().__init__(position, column.affinity)
        kind = part.kind
        while isinstance(kind, ConvertedKind):
            kind = kind.inner
        self.kind = kind
        self.descending = part.descending
        self.raw = part.raw and kind.width is None
        self._part = KeyPart(kind, part.nullable, part.descending, part.raw)
        self._to_sql = sqlvalues.to_sql(kind)
        self._from_sql = sqlvalues.from_sql(kind)
        self._integral = isinstance(kind, IntKind | BoolKind)
        self._wide = sqlvalues.wide(kind)
        self._numbers = isinstance(kind, FloatKind | DecimalKind)
        edge = _edge_of(kind)
        self.exact = edge is not None and not isinstance(kind, _PADDED)
        self.ordered = edge is not None
        self._edge: Callable[[Any, bool], Edge] = edge or (lambda value, above: None)  # noqa: ARG005
        if part.nullable:
            self.null = self._part.encode(None)
            self._first, self._last = (b"", b"\xff") if part.descending else (b"\x01", None)

    def converted(self, value: Any) -> Any:
        value = super().converted(value)
        if self._wide:
            return sqlvalues.wide_bound(value)
        # An int beyond SQL's is bound as the blob that UInt64 columns have.
        return sqlvalues.wide_from_sql(value) if self._numbers else value

    def ambiguous(self, value: Any) -> bool:
        # Blobs are never read as numbers.
        return not isinstance(self.kind, BytesKind | FixedBytesKind) and super().ambiguous(value)

    def reached(self, high: Any, inclusive: bool) -> tuple[Any, bool]:
        # Neither are dates and times.
        return (high, inclusive) if isinstance(self.kind, _MOMENTS) else super().reached(high, inclusive)

    def point(self, value: Any) -> bytes | None:
        if value.__class__ is float and self._integral and value.is_integer():
            value = int(value)
        try:
            stored = self.kind.check(value if self._from_sql is None else self._from_sql(value))
            shown = stored if self._to_sql is None else self._to_sql(stored)
            if shown != value:
                return None
            return self._part.encode(stored)
        except (exc.DataError, ValueError, TypeError, ArithmeticError):
            return None

    def edge(self, value: Any, above: bool) -> Edge:
        edge = self._edge(value, above)
        if edge is None:
            point = self.point(value)
            return None if point is None or not self.ordered else (point, above)
        if not isinstance(edge, tuple):
            return edge
        return self._part.place(edge[0]), edge[1]

    def _place(self, edge: Edge) -> bytes | None:
        if isinstance(edge, tuple) and edge[1] and self.raw:
            return edge[0] + b"\0"
        return super()._place(edge)


# -------------------------------------------------------------------------------------------- edges by kind

_HIGHEST_INT: Final = (1 << 63) - 1


def _edge_of(kind: Kind) -> Callable[[Any, bool], Edge] | None:
    """What finds the edge of an SQL value among the encodings of a kind; None if their order is not that of SQL."""
    match kind:
        case IntKind() if kind.highest > _HIGHEST_INT:
            return _UnsignedEdge(kind)
        case IntKind():
            return lambda value, above: _integer_edge(value, above, kind.lowest, kind.highest, kind.encode)
        case BoolKind():
            return lambda value, above: _integer_edge(value, above, 0, 1, lambda number: kind.encode(bool(number)))
        case FloatKind():
            return lambda value, above: _float_edge(value, above, kind)
        case DecimalKind(precision=precision) if precision <= 15:
            return lambda value, above: _decimal_edge(value, above, kind)
        case TextKind() | EnumKind():
            return _text_edge
        case FixedBytesKind():
            return lambda value, above: _fixed_edge(value, above, kind.length)
        case BytesKind():
            return lambda value, above: "lowest" if not isinstance(value, bytes) else (value, above)
        case DatetimeKind() | DateKind() | TimeKind() | UuidKind():
            return _PaddedEdge(kind)
    return None


def _integer_edge(value: Any, above: bool, lowest: int, highest: int, encode: Callable[[int], bytes]) -> Edge:
    if not isinstance(value, int | float):
        return "highest"  # text and blobs come behind all numbers
    if isinstance(value, float):
        if math.isinf(value):
            return "highest" if value > 0 else "lowest"
        whole = math.floor(value)
        above = above or whole != value  # between two ints: behind the lower one
        value = whole
    if value < lowest:
        return "lowest"
    if value > highest:
        return "highest"
    return encode(value), above


class _UnsignedEdge:
    """Unsigned ints of 64 bits: from 2**63 on, SQL sees them as blobs of eight bytes."""

    def __init__(self, kind: IntKind) -> None:
        self._encode = kind.encode
        self._between: tuple[bytes, bool] = kind.encode(_HIGHEST_INT), True

    def __call__(self, value: Any, above: bool) -> Edge:
        if isinstance(value, bytes):
            edge = _fixed_edge(value, above, 8)
            return edge if isinstance(edge, tuple) and edge[0] > self._between[0] else self._between
        edge = _integer_edge(value, above, 0, _HIGHEST_INT, self._encode)
        return self._between if edge == "highest" else edge


def _float_edge(value: Any, above: bool, kind: FloatKind) -> Edge:
    if not isinstance(value, int | float):
        return "highest"
    nearest = float(value)
    if nearest == value:
        return kind.encode(nearest), above
    return kind.encode(nearest), nearest < value


def _decimal_edge(value: Any, above: bool, kind: DecimalKind) -> Edge:
    if not isinstance(value, int | float):
        return "highest"
    if isinstance(value, float) and math.isinf(value):
        return "highest" if value > 0 else "lowest"
    # What SQL sees of a decimal is the float nearest to it: the edge is among those.
    unit = 10**kind.scale
    number = math.floor(Fraction(value) * unit)
    for candidate in (number, number + 1):
        if candidate / unit == value:
            return _integer_edge(candidate, above, -kind.highest, kind.highest, _decimal_encoder(kind))
    return _integer_edge(number, True, -kind.highest, kind.highest, _decimal_encoder(kind))


def _decimal_encoder(kind: DecimalKind) -> Callable[[int], bytes]:
    return lambda number: kind.encode(kind.scaled(number))


def _text_edge(value: Any, above: bool) -> Edge:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass"), above
    return "highest" if isinstance(value, bytes) else "lowest"


def _fixed_edge(value: Any, above: bool, length: int) -> Edge:
    if not isinstance(value, bytes):
        return "lowest"
    if len(value) == length:
        return value, above
    # Among values of one length a shorter bound lies where one does that is filled up with zeros, and a longer one
    # behind the one that it begins with: neither equals any value.
    return (value.ljust(length, b"\0"), False) if len(value) < length else (value[:length], True)


_PADDED: Final = (*_MOMENTS, UuidKind)


class _PaddedEdge:
    """Kinds that SQL sees as text of one form: the beginning of such a text is filled up with the least end of it."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._to_sql = sqlvalues.to_sql(kind)
        self._from_sql = sqlvalues.from_sql(kind)
        self._least, self._cuts = "", frozenset[int]()
        if isinstance(kind, DatetimeKind | DateKind):
            self._least = "0001-01-01 00:00:00.000000"
            self._cuts = frozenset((4, 5, 7, 8, 10, 11, 13, 14, 16, 17, *range(19, 26)))
            if isinstance(kind, DateKind):
                self._least, self._cuts = self._least[:10], frozenset((4, 5, 7, 8))
        elif isinstance(kind, TimeKind):
            self._least = "00:00:00.000000"
            self._cuts = frozenset((2, 3, 5, 6, *range(8, 15)))

    def __call__(self, value: Any, above: bool) -> Edge:
        if not isinstance(value, str):
            return "highest" if isinstance(value, bytes) else "lowest"
        encoded = self._encoded(value)
        if encoded is not None:
            return encoded, above
        if len(value) in self._cuts:
            encoded = self._encoded(value + self._least[len(value) :])
            if encoded is not None:
                return encoded, False
        return None

    def _encoded(self, text: str) -> bytes | None:
        """The encoding of the value that SQL sees as exactly this text."""
        try:
            value = text if self._from_sql is None else self._from_sql(text)
            if (value if self._to_sql is None else self._to_sql(value)) != text:
                return None
            return self._kind.encode(value)
        except (exc.DataError, ValueError, TypeError, ArithmeticError):
            return None
