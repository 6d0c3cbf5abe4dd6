"""Bounds: which ranges of keys can hold what a condition asks for.

A key's parts are bound from the first on: to points (equality, IN, IS NULL) as long as there are any, and then the
next one to a span (a comparison, a beginning). Which conditions bind which part is settled when the statement is
planned; the ranges are computed for each execution from the values of its parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal

import attrs

from kvdialect.codec.composite import ConvertedKind
from kvdialect.codec.keys import KeyPart
from kvdialect.codec.kinds import Kind, OutOfRange
from kvdialect.codec.strings import FixedBytesKind
from kvdialect.schema.expressions import (
    Column,
    Compare,
    Constant,
    Contains,
    Expression,
    In,
    Like,
    Not,
    Parameter,
    StartsWith,
    has_own_order,
)
from kvdialect.schema.functions import Choices, LikePattern, like_pattern
from kvdialect.storage.batch import KEY_LIMIT
from kvdialect.storage.ranges import successor

MOST_RANGES: Final = 1000
"""The most ranges that lists on several columns may multiply to; then the later columns are filtered instead."""

Operator = Literal["=", "is", "in", "<", "<=", ">", ">=", "not null", "prefix", "like", "contains"]

_FLIPPED: Final[Mapping[str, str]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "is": "is"}


@attrs.frozen
class Term:
    """A condition that can bind a part of a key.

    Attributes:
        column: the column it is about.
        operator: what it says of it.
        operand: of which values: one expression, or several for ``in``.
        condition: the condition itself.
    """

    column: str
    operator: Operator
    operand: Expression | tuple[Expression, ...]
    condition: Expression

    @property
    def pointed(self) -> bool:
        """It binds to points, so that the next part of the key can be bound too."""
        return self.operator in ("=", "is", "in", "contains")

    @property
    def single(self) -> bool:
        """It binds to at most one point."""
        return self.operator in ("=", "is", "contains")


def term_of(condition: Expression, kinds: Mapping[str, Kind]) -> Term | None:
    """The term that a condition makes, if it is of a form that can bind a key."""
    match condition:
        case Column(name) if kinds[name].python is bool:
            return Term(name, "=", Constant(True), condition)
        case Not(Column(name)) if kinds[name].python is bool:
            return Term(name, "=", Constant(False), condition)
        case Not(Compare("is", Column(name), Constant(None))) | Compare("is not", Column(name), Constant(None)):
            return Term(name, "not null", Constant(None), condition)
        case Compare(
            "=" | "<" | "<=" | ">" | ">=" | "is" as operator, Column(name), (Constant() | Parameter()) as value
        ):
            return Term(name, operator, value, condition)
        case Compare(
            "=" | "<" | "<=" | ">" | ">=" | "is" as operator, (Constant() | Parameter()) as value, Column(name)
        ):
            return Term(name, _FLIPPED[operator], value, condition)  # type: ignore[arg-type]
        case In(Column(name), Parameter() as options):
            return Term(name, "in", options, condition)
        case In(Column(name), tuple() as options) if all(isinstance(o, Constant | Parameter) for o in options):
            return Term(name, "in", options, condition)
        case Like(Column(name), (Constant() | Parameter()) as pattern, escape, False):
            if isinstance(pattern, Constant) and pattern.value is not None:
                pattern = Constant(like_pattern(pattern.value, escape, False))
            return Term(name, "like", pattern, condition)
        case StartsWith(Column(name), (Constant() | Parameter()) as prefix):
            return Term(name, "prefix", prefix, condition)
        case Contains(Column(name), (Constant() | Parameter()) as element):
            return Term(name, "contains", element, condition)
    return None


@attrs.frozen
class PartBound:
    """A part of the key and the terms that bind it."""

    part: KeyPart
    terms: tuple[Term, ...]

    @property
    def pointed(self) -> bool:
        return any(term.pointed for term in self.terms)

    @property
    def single(self) -> bool:
        return any(term.single for term in self.terms)


@attrs.frozen
class Ranges:
    """The ranges of keys to read, in order and apart from each other.

    Attributes:
        ranges: ``(start, stop)`` each; a stop of None is the end of the family.
        exact: they hold exactly the keys for which the conditions hold; if not, the conditions must be tested too.
        prefix: bytes that all keys of a range have in common with its start, per range.
        points: each range is a single, complete key, its start.
        cut: lists on several columns would multiply to too many ranges; the later ones bind nothing.
    """

    ranges: tuple[tuple[bytes, bytes | None], ...]
    exact: bool = True
    prefix: tuple[int, ...] = ()
    points: bool = False
    cut: bool = False

    @property
    def everything(self) -> bool:
        return self.ranges == ((b"", None),)


EVERYTHING: Final = Ranges(((b"", None),), True, (0,))
NOTHING: Final = Ranges((), True, ())


class KeyBounds:
    """The bounds of one index, or of a table's own keys, under given conditions.

    Attributes:
        parts: the parts that are bound, from the first on.
        conditions: the conditions that the bounds take care of, as long as the ranges are exact.
        complete: the parts bound to points are all that a key has, and none can be NULL, so a point is a whole key.
    """

    def __init__(self, parts: Sequence[PartBound], *, whole_key: int | None) -> None:
        """Bounds over ``parts``; a key of which ``whole_key`` parts are bound to points is complete (None: never)."""
        self.parts = tuple(parts)
        self.conditions = tuple(term.condition for bound in self.parts for term in bound.terms)
        self.pointed = sum(1 for bound in self.parts if bound.pointed)
        self._whole = whole_key is not None and self.pointed == len(self.parts) == whole_key
        self._perhaps_null = tuple(
            term.operand
            for bound in self.parts
            for term in bound.terms
            if term.operator == "is"
            and bound.part.nullable
            and all(t.operator == "is" for t in bound.terms if t.pointed)
        )
        self.complete = self._whole and not self._perhaps_null
        self._equal = self._equalities()

    @property
    def single(self) -> bool:
        """There is at most one range."""
        return all(bound.single for bound in self.parts if bound.pointed)

    def _equalities(self) -> tuple[tuple[KeyPart, int], ...]:
        """The parts and the parameters that they equal, if that is all there is: the commonest bounds."""
        equal = []
        for bound in self.parts:
            match bound.terms:
                case (Term(_, "=", Parameter(number)),):
                    equal.append((bound.part, number))
                case _:
                    return ()
        return tuple(equal)

    def ranges(self, params: Sequence[Any], *, whole: bool = False) -> Ranges:
        """The ranges under these values of the parameters.

        Args:
            params: the values.
            whole: bind all parts, to however many ranges lists multiply: what is read is to be in their order.
        """
        if self._equal:
            return self._equal_range(params)
        if not self.parts:
            return EVERYTHING
        prefixes = [b""]
        exact = True
        for bound in self.parts:
            spans = _Spans(bound, params)
            exact = exact and spans.exact
            if not bound.pointed:
                span = spans.span
                if span is None:
                    return NOTHING
                return _spanned(prefixes, span, exact)
            points = spans.points
            if not points:
                return NOTHING
            if not whole and len(prefixes) > 1 and len(prefixes) * len(points) > MOST_RANGES:
                return attrs.evolve(_prefixed(prefixes, False, False), cut=True)
            prefixes = points if prefixes == [b""] else [prefix + point for prefix in prefixes for point in points]
        complete = self._whole and not any(_value(operand, params) is None for operand in self._perhaps_null)
        return _prefixed(prefixes, exact, complete)

    def _equal_range(self, params: Sequence[Any]) -> Ranges:
        prefix = b""
        try:
            for part, number in self._equal:
                value = params[number]
                if value is None:
                    return NOTHING
                prefix += part.place(_encoded(part.kind, value))
        except (ValueError, TypeError, OverflowError):
            return NOTHING  # equals nothing that is stored
        size = len(prefix)
        if size > KEY_LIMIT or (self.complete and not size):
            return NOTHING
        stop = prefix + b"\0" if self.complete else successor(prefix)
        return Ranges(((prefix, stop),), True, (size,), self.complete)


def _prefixed(prefixes: list[bytes], exact: bool, complete: bool) -> Ranges:
    # An equality on a key that is too long to be stored finds no rows.
    kept = [prefix for prefix in prefixes if len(prefix) <= KEY_LIMIT]
    if complete:
        kept = [prefix for prefix in kept if prefix]
        ranges: list[tuple[bytes, bytes | None]] = [(prefix, prefix + b"\0") for prefix in kept]
    else:
        ranges = [(prefix, successor(prefix)) for prefix in kept]
    return Ranges(tuple(ranges), exact, tuple(map(len, kept)), complete)


def _spanned(prefixes: list[bytes], span: tuple[bytes, bytes | None], exact: bool) -> Ranges:
    low, high = span
    kept = [prefix for prefix in prefixes if len(prefix) <= KEY_LIMIT]
    ranges = tuple((prefix + low, successor(prefix) if high is None else prefix + high) for prefix in kept)
    return Ranges(ranges, exact, tuple(map(len, kept)))


class _Spans:
    """What the terms on one part of a key leave of it: points, or a span of encodings.

    Attributes:
        exact: what is left holds for all terms; False if some must be tested too.
        points: encodings in order, where the part is bound to points.
        span: first encoding and the one behind the last (None: to the end); None if nothing is left.
    """

    def __init__(self, bound: PartBound, params: Sequence[Any]) -> None:
        self.part = bound.part
        self.params = params
        self.exact = True
        self.points: list[bytes] = []
        self.span: tuple[bytes, bytes | None] | None = None
        points: set[bytes] | None = None
        span: tuple[bytes, bytes | None] | None = (b"", None)
        for term in bound.terms:
            if term.pointed:
                found = self._points(term)
                points = found if points is None else points & found
            elif span is not None:
                span = _intersection(span, self._span(term))
        if points is not None:
            if span is not None:
                low, high = span
                self.points = sorted(p for p in points if p >= low and (high is None or p < high))
        else:
            self.span = span

    def _value(self, operand: Expression) -> Any:
        return _value(operand, self.params)

    # ------------------------------------------------------------------------------------------ points

    def _points(self, term: Term) -> set[bytes]:
        if term.operator == "in":
            values = self._choices(term.operand)
        else:
            assert isinstance(term.operand, Expression)
            value = self._value(term.operand)
            if value is None and term.operator == "is":
                return {self.part.encode(None)} if self.part.nullable else set()
            values = {value}
        kind = self.part.kind
        # Elements are compared as they are in the list, columns by their stored forms.
        encoded = kind.encode if term.operator == "contains" else partial(_encoded, kind)
        points = set()
        for value in values:
            if value is None:
                continue
            try:
                points.add(self.part.place(encoded(value)))
            except OutOfRange:
                continue  # equals nothing that is stored
            except (ValueError, TypeError, OverflowError):
                continue
        return points

    def _choices(self, operand: Expression | tuple[Expression, ...]) -> Any:
        if isinstance(operand, tuple):
            return [self._value(option) for option in operand]
        choices: Choices = self._value(operand)
        return choices.members

    # ------------------------------------------------------------------------------------------ spans

    def _span(self, term: Term) -> tuple[bytes, bytes | None] | None:
        assert isinstance(term.operand, Expression)
        if term.operator == "not null":
            return self._not_null()
        value = self._value(term.operand)
        if value is None:
            return None  # a comparison with NULL holds for no row
        if term.operator == "like":
            return self._matching(value)
        if term.operator == "prefix":
            return self._beginning(value)
        return self._compared(term.operator, value)

    def _not_null(self) -> tuple[bytes, bytes | None]:
        if not self.part.nullable:
            return b"", None
        return (b"", b"\xff") if self.part.descending else (b"\x01", None)

    def _compared(self, operator: str, value: Any) -> tuple[bytes, bytes | None] | None:
        kind = self.part.kind
        if isinstance(value, float | Decimal) and kind.python is int and math.isfinite(value):
            whole = math.floor(value)
            if whole != value:
                # Between two ints: below it is up to the lower one, above it is beyond the lower one.
                operator = "<=" if operator in ("<", "<=") else ">"
            value = whole
        if isinstance(kind, FixedBytesKind) and isinstance(value, bytes) and len(value) != kind.length:
            # Among values of one length a shorter bound is as good as one filled up with zeros, and a longer one as one
            # that is cut: neither equals any value.
            below = operator in ("<", "<=")
            if len(value) < kind.length:
                operator, value = "<" if below else ">=", value.ljust(kind.length, b"\0")
            else:
                operator, value = "<=" if below else ">", value[: kind.length]
        try:
            encoded = self.part.place(_encoded(kind, value))
        except OutOfRange as error:
            if error.side == 0:
                self.exact = False
                return self._not_null()
            below = operator in ("<", "<=")
            return self._not_null() if below == (error.side > 0) else None
        except (ValueError, TypeError, OverflowError):
            self.exact = False
            return self._not_null()
        behind = self._behind(encoded)
        below = operator in ("<", "<=")
        inclusive = operator in ("<=", ">=")
        if below != self.part.descending:
            bound = (b"", behind if inclusive else encoded)
        else:
            start = encoded if inclusive else behind
            if start is None:
                return None
            bound = (start, None)
        return _intersection(bound, self._not_null())

    def _behind(self, encoded: bytes) -> bytes | None:
        """The first bytes behind all keys with this encoding; None if there are none."""
        if self.part.raw and self.part.kind.width is None:
            return encoded + b"\0"
        return successor(encoded)

    def _beginning(self, value: Any) -> tuple[bytes, bytes | None] | None:
        try:
            prefix = self.part.encode_prefix(value)
        except (ValueError, TypeError):
            self.exact = False
            return self._not_null()
        return _intersection((prefix, successor(prefix)), self._not_null())

    def _matching(self, pattern: LikePattern) -> tuple[bytes, bytes | None] | None:
        if pattern.exact:
            try:
                encoded = self.part.place(_encoded(self.part.kind, pattern.prefix))
            except (ValueError, TypeError):
                self.exact = False
                return self._not_null()
            return encoded, self._behind(encoded)
        if not pattern.prefix_only:
            self.exact = False
        return self._beginning(pattern.prefix) if pattern.prefix else self._not_null()


def _value(operand: Any, params: Sequence[Any]) -> Any:
    if isinstance(operand, Parameter):
        return params[operand.number]
    assert isinstance(operand, Constant)
    return operand.value


def _intersection(
    one: tuple[bytes, bytes | None], other: tuple[bytes, bytes | None] | None
) -> tuple[bytes, bytes | None] | None:
    if other is None:
        return None
    low = max(one[0], other[0])
    highs = [high for high in (one[1], other[1]) if high is not None]
    high = min(highs) if highs else None
    return None if high is not None and low >= high else (low, high)


def _encoded(kind: Kind, value: Any) -> bytes:
    """The bytes that stand for a value as expressions have it: as it is, or in its stored form."""
    if has_own_order(kind):
        return kind.bound(value)
    if isinstance(kind, ConvertedKind):
        return kind.inner.encode(kind.inner.load(value))
    return kind.encode(kind.load(value))


def bounds_of(
    columns: Sequence[str | None],
    parts: Sequence[KeyPart],
    terms: Mapping[str, Sequence[Term]],
    *,
    whole_key: int | None,
    multi: bool = False,
) -> KeyBounds:
    """The bounds that ``terms`` set on keys of ``parts``, which hold the values of ``columns``.

    Args:
        columns: the column of each part.
        parts: the parts.
        terms: by column.
        whole_key: how many parts are a complete key, or None if what is bound never is.
        multi: the first part holds an element of its column's list.
    """
    bound: list[PartBound] = []
    for number, (column, part) in enumerate(zip(columns, parts, strict=True)):
        of_element = multi and number == 0
        fitting = tuple(term for term in terms.get(column or "", ()) if (term.operator == "contains") == of_element)
        if of_element:
            fitting = fitting[:1]  # each asks for an element of its own
        if not fitting:
            break
        bound.append(PartBound(part, fitting))
        if not bound[-1].pointed:
            break
    return KeyBounds(bound, whole_key=whole_key)
