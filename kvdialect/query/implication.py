"""Whether one condition follows from others: what lets a query use a partial index. Sound, and not complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kvdialect.schema.expressions import (
    And,
    Column,
    Compare,
    Constant,
    Expression,
    In,
    Not,
    Or,
    conjuncts,
    excludes_null,
    rebuild,
)

_NEGATED: Final = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<", "is": "is not", "is not": "is"}
_FLIPPED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def implies(known: Sequence[Expression], wanted: Expression | None) -> bool:
    """Whether every row for which all of ``known`` are true is one for which ``wanted`` is true."""
    return all(_follows(known, part) for part in conjuncts(wanted))


def _follows(known: Sequence[Expression], wanted: Expression) -> bool:
    wanted = normal(wanted)
    if any(normal(part) == wanted for part in known):
        return True
    if isinstance(wanted, And):
        return all(_follows(known, part) for part in wanted.parts)
    if isinstance(wanted, Or) and any(_follows(known, part) for part in wanted.parts):
        return True
    match wanted:
        case Compare("is not", Column(name), Constant(None)):
            return any(excludes_null(part, name) for part in known)
        case Column(name):
            wanted = Compare("=", wanted, Constant(True))
        case Not(Column() as column):
            wanted = Compare("=", column, Constant(False))
    return any(_one_follows(normal(part), wanted) for part in known)


def normal(condition: Expression) -> Expression:
    """A condition in the one form that it is compared in: negations inside, the column on the left."""
    match condition:
        case Not(Not(part)):
            return normal(part)
        case Not(Compare(operator, left, right)):
            return normal(Compare(_NEGATED[operator], left, right))  # type: ignore[arg-type]
        case Compare(operator, Constant() as left, right) if not isinstance(right, Constant):
            return Compare(_FLIPPED.get(operator, operator), right, left)  # type: ignore[arg-type]
        case Compare("=", Column() as left, Constant(bool() as value)):
            return left if value else Not(left)
        case In(left, (single,)):
            return normal(Compare("=", left, single))
        case _:
            return rebuild(condition, normal) if isinstance(condition, And | Or) else condition


def _one_follows(known: Expression, wanted: Expression) -> bool:
    """Whether one comparison with constants follows from another on the same value."""
    match known:
        case Or(parts):
            return bool(parts) and all(_one_follows(normal(part), wanted) for part in parts)
        case And(parts):
            return any(_one_follows(normal(part), wanted) for part in parts)
        case In(left, tuple() as options) if options and all(isinstance(option, Constant) for option in options):
            # NULL among the options makes no row more true.
            values = [option for option in options if isinstance(option, Constant) and option.value is not None]
            return all(_one_follows(Compare("=", left, value), wanted) for value in values)
        case Column():
            known = Compare("=", known, Constant(True))
        case Not(Column() as column):
            known = Compare("=", column, Constant(False))
    match wanted:
        case In(left, tuple() as options):
            return any(_one_follows(known, Compare("=", left, option)) for option in options)
    if not (isinstance(known, Compare) and isinstance(wanted, Compare)) or known.left != wanted.left:
        return False
    if not (isinstance(known.right, Constant) and isinstance(wanted.right, Constant)):
        return False
    return _values_follow(known.operator, known.right.value, wanted.operator, wanted.right.value)


def _values_follow(known: str, have: Any, wanted: str, want: Any) -> bool:
    """Whether ``x wanted want`` is true of every x that ``x known have`` is true of."""
    if have is None or want is None:
        return False
    if known == "is":
        known = "="
    if wanted == "is":
        wanted = "="
    try:
        if known == "=":
            return _holds(have, wanted, want)
        if known in ("<", "<="):
            if wanted == "!=":
                return bool(have < want) or (known == "<" and bool(have == want))
            return wanted in ("<", "<=") and (
                bool(have < want) or (bool(have == want) and not (known == "<=" and wanted == "<"))
            )
        if known in (">", ">="):
            if wanted == "!=":
                return bool(have > want) or (known == ">" and bool(have == want))
            return wanted in (">", ">=") and (
                bool(have > want) or (bool(have == want) and not (known == ">=" and wanted == ">"))
            )
        if known == "!=":
            return wanted == "!=" and bool(have == want)
    except TypeError:
        return False
    return False


def _holds(have: Any, operator: str, want: Any) -> bool:
    match operator:
        case "=":
            return bool(have == want)
        case "!=":
            return bool(have != want)
        case "<":
            return bool(have < want)
        case "<=":
            return bool(have <= want)
        case ">":
            return bool(have > want)
        case ">=":
            return bool(have >= want)
    return False
