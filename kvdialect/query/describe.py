"""Expressions as ``explain`` prints them: SQL with ``?1`` for the first parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from kvdialect.query.analysis import Aggregate, Order
from kvdialect.schema.expressions import (
    And,
    Arithmetic,
    Call,
    Case,
    Column,
    Compare,
    Constant,
    Contains,
    Expression,
    In,
    Like,
    Negative,
    Not,
    Or,
    Parameter,
    StartsWith,
)
from kvdialect.schema.functions import LikePattern

if TYPE_CHECKING:
    from kvdialect.query.stages import SortKeys

_LOOSE: Final = (And, Or, Not, Compare, In, Like, StartsWith, Contains, Arithmetic)


def described(
    expressions: Sequence[Expression], names: Mapping[str, str] | None = None, *, joined: str = " AND "
) -> str:
    """Expressions, joined; columns in ``names`` by what stands there."""
    return joined.join(_text(expression, names or {}) for expression in expressions)


def described_order(sort: SortKeys, names: Mapping[str, str] | None = None) -> str:
    """What a sort orders by."""
    return order_text([element for run in sort.runs for element in run], names)


def order_text(order: Sequence[Order], names: Mapping[str, str] | None = None) -> str:
    """The elements of ORDER BY."""
    parts = []
    for element in order:
        nulls = "" if element.default_nulls else f" NULLS {'FIRST' if element.nulls_first else 'LAST'}"
        parts.append(f"{_text(element.expression, names or {})}{' DESC' if element.descending else ''}{nulls}")
    return ", ".join(parts)


def _text(expression: Expression, names: Mapping[str, str]) -> str:
    def one(part: Expression) -> str:
        text = _text(part, names)
        return f"({text})" if isinstance(part, _LOOSE) else text

    match expression:
        case Column(name):
            return names.get(name, name)
        case Constant(value):
            return _constant(value)
        case Parameter(number):
            return f"?{number + 1}"
        case Compare("is" | "is not" as operator, left, right):
            return f"{one(left)} {operator.upper()} {one(right)}"
        case Compare(operator, left, right) | Arithmetic(operator, left, right):
            return f"{one(left)} {operator} {one(right)}"
        case And(parts):
            return " AND ".join(map(one, parts)) or "TRUE"
        case Or(parts):
            return " OR ".join(map(one, parts)) or "FALSE"
        case Not(Compare("is", left, Constant(None))):
            return f"{one(left)} IS NOT NULL"
        case Not(part):
            return f"NOT {one(part)}"
        case In(left, options):
            listed = ", ".join(map(one, options)) if isinstance(options, tuple) else one(options)
            return f"{one(left)} IN ({listed})"
        case Like(left, pattern, escape, folded):
            ending = f" ESCAPE {escape!r}" if escape else ""
            return f"{one(left)} {'ILIKE' if folded else 'LIKE'} {one(pattern)}{ending}"
        case StartsWith(left, prefix):
            return f"{one(left)} STARTS WITH {one(prefix)}"
        case Contains(left, element):
            return f"{one(left)} CONTAINS {one(element)}"
        case Negative(part):
            return f"-{one(part)}"
        case Call(function, arguments):
            return f"{function}({', '.join(_text(argument, names) for argument in arguments)})"
        case Case(branches, otherwise):
            whens = " ".join(f"WHEN {_text(when, names)} THEN {_text(then, names)}" for when, then in branches)
            return f"CASE {whens} ELSE {_text(otherwise, names)} END"
        case Aggregate(function, argument, distinct):
            inner = "*" if argument is None else _text(argument, names)
            return f"{function}({'DISTINCT ' if distinct else ''}{inner})"
    return repr(expression)


def _constant(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, LikePattern):
        value = value.text
    if isinstance(value, bytes):
        return f"x'{value[:20].hex()}{'...' if len(value) > 20 else ''}'"
    text = repr(value) if not isinstance(value, str) else "'" + value.replace("'", "''") + "'"
    return text if len(text) <= 60 else f"{text[:57]}..."
