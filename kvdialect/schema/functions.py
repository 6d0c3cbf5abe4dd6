"""What expressions do when they run: SQL's arithmetic, text functions and matching, as SQLite has them.

None stands for NULL. Functions whose name ends in ``_3`` give one of SQL's three truth values: True, False or None.
"""

from __future__ import annotations

import decimal
import functools
import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

import attrs

from kvdialect.schema.names import folded

EXACT: Final = decimal.Context(prec=100, rounding=decimal.ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, traps=[])
"""Where decimals are added and multiplied: wide enough that no 38-digit operand is rounded."""

_QUOTIENT: Final = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN, traps=[])


# --------------------------------------------------------------------------- matching


class Choices:
    """The right side of IN.

    Attributes:
        members: the values other than NULL.
        null: NULL is among them.
        empty: there are none at all; then NULL is not in them either, instead of perhaps.
    """

    __slots__ = ("empty", "members", "null")

    def __init__(self, values: Iterable[Any]) -> None:
        listed = list(values)
        self.members = frozenset(value for value in listed if value is not None)
        self.null = any(value is None for value in listed)
        self.empty = not listed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choices) and (self.members, self.null) == (other.members, other.null)

    def __hash__(self) -> int:
        return hash((self.members, self.null))

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self.members))}{', NULL' if self.null else ''})"


@attrs.frozen(slots=True)
class LikePattern:
    """A pattern of LIKE: ``%`` is any text, ``_`` any character, but for those behind the escape character.

    Attributes:
        text: the pattern as written.
        escape: the escape character, or None.
        folded: upper and lower case of the letters A to Z are the same.
        prefix: what every matching text begins with; empty if folded.
        exact: only the text ``prefix`` matches.
        prefix_only: every text that begins with ``prefix`` matches.
        matches: tests a text.
    """

    text: str
    escape: str | None = None
    folded: bool = False
    prefix: str = attrs.field(init=False, eq=False)
    exact: bool = attrs.field(init=False, eq=False)
    prefix_only: bool = attrs.field(init=False, eq=False)
    matches: Callable[[str], Any] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        pieces, valid = _pieces(self.text, self.escape)
        prefix = pieces[0] if pieces and isinstance(pieces[0], str) and not self.folded else ""
        rest = pieces[1:] if prefix else pieces
        exact = valid and not rest and not (self.folded and pieces)
        prefix_only = valid and not self.folded and rest == [_ANY]
        matches: Callable[[str], Any]
        if not valid:
            matches = _never
        elif exact:
            matches = prefix.__eq__
        elif prefix_only:
            matches = _Prefix(prefix)
        else:
            source = "".join(re.escape(piece) if isinstance(piece, str) else piece.regex for piece in pieces)
            flags = re.DOTALL | (re.IGNORECASE | re.ASCII if self.folded else re.NOFLAG)
            matches = re.compile(source, flags).fullmatch
        for name, value in (("prefix", prefix), ("exact", exact), ("prefix_only", prefix_only), ("matches", matches)):
            object.__setattr__(self, name, value)


@attrs.frozen
class _Wildcard:
    regex: str


_ANY: Final = _Wildcard(".*")
_ONE: Final = _Wildcard(".")


class _Prefix:
    __slots__ = ("prefix",)

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, text: str) -> bool:
        return text.startswith(self.prefix)


def _never(_text: str) -> bool:
    return False


def _pieces(text: str, escape: str | None) -> tuple[list[str | _Wildcard], bool]:
    """The pattern in pieces; and False if it ends in its escape character, so that nothing matches, as in SQLite."""
    pieces: list[str | _Wildcard] = []
    literal: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == escape:
            following = next(characters, None)
            if following is None:
                return [], False
            literal.append(following)
            continue
        if character not in "%_":
            literal.append(character)
            continue
        if literal:
            pieces.append("".join(literal))
            literal.clear()
        wildcard = _ANY if character == "%" else _ONE
        if wildcard is _ONE or not pieces or pieces[-1] is not _ANY:
            pieces.append(wildcard)
    if literal:
        pieces.append("".join(literal))
    return pieces, True


@functools.lru_cache(maxsize=256)
def like_pattern(text: str, escape: str | None, folded: bool) -> LikePattern:
    """The pattern of a text; those made last are kept."""
    return LikePattern(text, escape, folded)


def like_3(text: str | None, pattern: str | LikePattern | None, escape: str | None, folded: bool) -> bool | None:
    if text is None or pattern is None:
        return None
    compiled = pattern if isinstance(pattern, LikePattern) else like_pattern(pattern, escape, folded)
    return bool(compiled.matches(text))


def starts_with_3(value: Any, prefix: Any) -> bool | None:
    return None if value is None or prefix is None else value.startswith(prefix)


def contains_3(elements: Any, element: Any) -> bool | None:
    return None if elements is None or element is None else element in elements


def in_3(value: Any, choices: Choices) -> bool | None:
    if choices.empty:
        return False
    if value is None:
        return None
    if value in choices.members:
        return True
    return None if choices.null else False


def and_3(*values: Any) -> bool | None:
    result: bool | None = True
    for value in values:
        if value is None:
            result = None
        elif not value:
            return False
    return result


def or_3(*values: Any) -> bool | None:
    result: bool | None = False
    for value in values:
        if value is None:
            result = None
        elif value:
            return True
    return result


# --------------------------------------------------------------------------- arithmetic


def divide(left: Any, right: Any) -> Any:
    """True division; NULL if ``right`` is 0."""
    if left is None or right is None or right == 0:
        return None
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return _QUOTIENT.divide(left, right)
    return left / right


def floor_divide(left: Any, right: Any) -> Any:
    """Of ints the quotient without its fraction, as SQLite's ``/`` gives it (towards zero); of others the floor."""
    if left is None or right is None or right == 0:
        return None
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return _QUOTIENT.divide(left, right).to_integral_value(decimal.ROUND_FLOOR)
    quotient = left / right
    return float(math.floor(quotient)) if math.isfinite(quotient) else quotient


def remainder(left: Any, right: Any) -> Any:
    """The remainder, with the sign of ``left``; floats lose their fractions first, as in SQLite."""
    if left is None or right is None:
        return None
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return None if right == 0 else EXACT.remainder(left, right)
    if isinstance(left, float) or isinstance(right, float):
        if not (math.isfinite(left) and math.isfinite(right)):
            return None
        result = remainder(math.trunc(left), math.trunc(right))
        return None if result is None else float(result)
    if right == 0:
        return None
    result = abs(left) % abs(right)
    return -result if left < 0 else result


# --------------------------------------------------------------------------- text

_UPPER: Final = {lower: lower - 32 for lower in range(ord("a"), ord("z") + 1)}


lower: Final = folded
"""Lower case of A to Z alone, as in SQLite."""


def upper(text: str) -> str:
    """Upper case of a to z alone, as in SQLite."""
    return text.upper() if text.isascii() else text.translate(_UPPER)


_TRUE: Final = object()
_FALSE: Final = object()


def json_form(value: Any) -> Any:
    """A JSON value as it is compared: its true and false are equal to no number."""
    if value is True:
        return _TRUE
    if value is False:
        return _FALSE
    if isinstance(value, list):
        return list(map(json_form, value))
    return {key: json_form(item) for key, item in value.items()} if isinstance(value, dict) else value


def substring(text: Any, start: int | None, length: int | None = -1, *, bounded: bool = True) -> Any:
    """SQLite's ``substr``: ``start`` counts from 1, or from the end if negative; a negative length goes backwards."""
    if text is None or start is None or (bounded and length is None):
        return None
    size = len(text)
    if start > 0:
        begin = start - 1
    elif start < 0:
        begin = size + start
    else:
        begin = -1
    if not bounded or length is None:
        return text[max(begin, 0) :]
    end = begin + length
    if length < 0:
        begin, end = end, begin
        if start == 0:
            end = 0
            begin = 0
    return text[max(begin, 0) : max(end, 0)]
