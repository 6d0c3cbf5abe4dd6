"""SQLAlchemy's clauses read once: a nested tuple of their structure, and their parameters apart from it.

The tuple is hashable and says all that matters of a clause but the values of its parameters, so it serves as the key of
the cache of plans, and it is what :mod:`kvdialect.schema.translate` works from. One walk does for both, as it runs for
every statement executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql import operators

from kvdialect import exc
from kvdialect.schema.types import contains_element

Structure = tuple[Any, ...]
"""A clause: the name of its form and what belongs to it."""


def unsupported(what: str) -> exc.NotSupportedError:
    """The error for what only the SQL door does."""
    return exc.NotSupportedError(
        f"{what} is beyond the Session's queries, which read one table; the SQL door takes it"
        " (engine.sqlalchemy() gives an SQLAlchemy engine on the same store)",
        construct=what,
    )


class ClauseReader:
    """Reads the clauses of one statement.

    Attributes:
        table: the one table that they are about, as first met; None before any was.
        binds: the parameters, in the order in which the structure numbers them.
    """

    __slots__ = ("binds", "table")

    def __init__(self, table: Any = None) -> None:
        self.table = table
        self.binds: list[sa.BindParameter[Any]] = []

    def read(self, clause: Any) -> Structure:
        """The structure of a clause.

        Raises:
            NotSupportedError: for a form that is none of ours, by name.
        """
        try:
            reader = _READERS[clause.__visit_name__]
        except (KeyError, AttributeError):
            raise unsupported(_described(clause)) from None
        return reader(self, clause)

    def adopt(self, table: Any) -> None:
        """Take note of a table; a second one is refused."""
        if table is self.table:
            return
        if table is None or table.__visit_name__ != "table":
            raise unsupported("a column of no table" if table is None else _described(table))
        if self.table is None:
            self.table = table
        elif self.table != table:
            raise unsupported(f"a statement on two tables, {self.table.name} and {table.name},")

    def parameter(self, bind: sa.BindParameter[Any]) -> Structure:
        self.binds.append(bind)
        return ("parameter", len(self.binds) - 1)

    def read_all(self, clauses: Any) -> Structure:
        read = self.read
        return tuple([read(clause) for clause in clauses])


def bound_values(binds: tuple[sa.BindParameter[Any], ...], given: Mapping[str, Any] | None) -> list[Any]:
    """The values of parameters: those given by name, or else those in the statement.

    Raises:
        ArgumentError: if one has no value.
    """
    values = []
    for bind in binds:
        if given and bind.key in given:
            values.append(given[bind.key])
        elif bind.required:
            raise exc.ArgumentError(
                f"the statement's parameter {bind.key!r} has no value; give one where the statement is executed",
                parameter=bind.key,
            )
        else:
            values.append(bind.effective_value)
    return values


# --------------------------------------------------------------------------- readers of each form

_COMPARISONS: Final[Mapping[Any, str]] = {
    operators.eq: "=",
    operators.ne: "!=",
    operators.lt: "<",
    operators.le: "<=",
    operators.gt: ">",
    operators.ge: ">=",
    operators.is_: "is",
    operators.is_not: "is not",
    operators.is_distinct_from: "is not",
    operators.is_not_distinct_from: "is",
}

_ARITHMETIC: Final[Mapping[Any, str]] = {
    operators.add: "+",
    operators.sub: "-",
    operators.mul: "*",
    operators.truediv: "/",
    operators.floordiv: "//",
    operators.mod: "%",
    operators.concat_op: "||",
}

# operator: negated, folded, wildcard before, wildcard behind
_LIKE: Final[Mapping[Any, tuple[bool, bool, str, str]]] = {
    operators.like_op: (False, False, "", ""),
    operators.not_like_op: (True, False, "", ""),
    operators.ilike_op: (False, True, "", ""),
    operators.not_ilike_op: (True, True, "", ""),
    operators.startswith_op: (False, False, "", "%"),
    operators.not_startswith_op: (True, False, "", "%"),
    operators.istartswith_op: (False, True, "", "%"),
    operators.not_istartswith_op: (True, True, "", "%"),
    operators.endswith_op: (False, False, "%", ""),
    operators.not_endswith_op: (True, False, "%", ""),
    operators.iendswith_op: (False, True, "%", ""),
    operators.not_iendswith_op: (True, True, "%", ""),
    operators.contains_op: (False, False, "%", "%"),
    operators.not_contains_op: (True, False, "%", "%"),
    operators.icontains_op: (False, True, "%", "%"),
    operators.not_icontains_op: (True, True, "%", "%"),
}


def _column(reader: ClauseReader, column: Any) -> Structure:
    table = column.table
    if table is None:
        if column.is_literal and column.name == "*":
            return ("star",)
        raise unsupported("a column of no table")
    if table is not reader.table:
        reader.adopt(table)
    return ("column", column.name)


def _binary(reader: ClauseReader, clause: Any) -> Structure:
    operator = clause.operator
    symbol = _COMPARISONS.get(operator)
    if symbol is not None:
        return ("compare", symbol, reader.read(clause.left), reader.read(clause.right))
    symbol = _ARITHMETIC.get(operator)
    if symbol is not None:
        return ("arithmetic", symbol, reader.read(clause.left), reader.read(clause.right))
    like = _LIKE.get(operator)
    if like is not None:
        modifiers = clause.modifiers
        return ("like", reader.read(clause.left), reader.read(clause.right), modifiers.get("escape"), *like)
    if operator is operators.in_op or operator is operators.not_in_op:
        return ("in", operator is operators.not_in_op, reader.read(clause.left), reader.read(clause.right))
    if operator is operators.between_op or operator is operators.not_between_op:
        if clause.modifiers.get("symmetric"):
            raise unsupported("between(symmetric=True)")
        low, high = clause.right.clauses
        negated = operator is operators.not_between_op
        return ("between", negated, reader.read(clause.left), reader.read(low), reader.read(high))
    if operator is contains_element:
        return ("contains", reader.read(clause.left), reader.read(clause.right))
    raise unsupported(f"the operator {getattr(operator, 'opstring', None) or operator.__name__}")


def _clause_list(reader: ClauseReader, clause: Any) -> Structure:
    operator = clause.operator
    parts = reader.read_all(clause.clauses)
    if operator is operators.and_:
        return ("and", parts)
    if operator is operators.or_:
        return ("or", parts)
    if operator is operators.comma_op:
        return ("list", parts)
    symbol = _ARITHMETIC.get(operator)
    if symbol is None:
        raise unsupported(f"the operator {getattr(operator, '__name__', operator)}")
    left: Structure = parts[0]
    for right in parts[1:]:
        left = ("arithmetic", symbol, left, right)
    return left


def _unary(reader: ClauseReader, clause: Any) -> Structure:
    operator = clause.operator or clause.modifier
    if operator is operators.inv or operator is operators.is_false:
        return ("not", reader.read(clause.element))
    if operator is operators.is_true:
        return reader.read(clause.element)
    if operator is operators.neg:
        return ("negative", reader.read(clause.element))
    form = _UNARY.get(operator)
    if form is not None:
        return (form, reader.read(clause.element))
    if operator is operators.exists:
        raise unsupported("exists() within another expression")
    raise unsupported(f"the operator {getattr(operator, '__name__', operator)}")


_UNARY: Final[Mapping[Any, str]] = {
    operators.distinct_op: "distinct",
    operators.desc_op: "desc",
    operators.asc_op: "asc",
    operators.nulls_first_op: "nulls_first",
    operators.nulls_last_op: "nulls_last",
}


def _grouping(reader: ClauseReader, clause: Any) -> Structure:
    return reader.read(clause.element)


def _label(reader: ClauseReader, clause: Any) -> Structure:
    return reader.read(clause.element)


def _function(reader: ClauseReader, clause: Any) -> Structure:
    if getattr(clause, "packagenames", ()):
        raise unsupported(f"the function {'.'.join(clause.packagenames)}.{clause.name}")
    return ("function", clause.name.lower(), reader.read_all(clause.clauses))


def _filter(reader: ClauseReader, clause: Any) -> Structure:
    return ("filter", reader.read(clause.func), reader.read(clause.criterion))


def _case(reader: ClauseReader, clause: Any) -> Structure:
    value = None if clause.value is None else reader.read(clause.value)
    whens = tuple([(reader.read(when), reader.read(then)) for when, then in clause.whens])
    return ("case", value, whens, None if clause.else_ is None else reader.read(clause.else_))


def _type_coerce(reader: ClauseReader, clause: Any) -> Structure:
    return reader.read(clause.clause)


def _label_reference(reader: ClauseReader, clause: Any) -> Structure:
    return reader.read(clause.element)


def _textual_label_reference(_reader: ClauseReader, clause: Any) -> Structure:
    return ("named", clause.element)


_READERS: Final[dict[str, Callable[[ClauseReader, Any], Structure]]] = {
    "column": _column,
    "bindparam": ClauseReader.parameter,
    "binary": _binary,
    "expression_clauselist": _clause_list,
    "clauselist": _clause_list,
    "unary": _unary,
    "grouping": _grouping,
    "label": _label,
    "null": lambda _reader, _clause: ("constant", None),
    "true": lambda _reader, _clause: ("constant", True),
    "false": lambda _reader, _clause: ("constant", False),
    "function": _function,
    "funcfilter": _filter,
    "case": _case,
    "type_coerce": _type_coerce,
    "label_reference": _label_reference,
    "textual_label_reference": _textual_label_reference,
}

_NAMED: Final[Mapping[str, str]] = {
    "alias": "an alias of a table",
    "cast": "cast()",
    "try_cast": "cast()",
    "collation": "a collation",
    "compound_select": "a set operation (union, intersect, except)",
    "cte": "a common table expression",
    "extract": "extract()",
    "join": "a join",
    "over": "a window function",
    "select": "a subquery",
    "subquery": "a subquery",
    "text": "text()",
    "textclause": "text()",
    "tuple": "tuple_()",
    "within_group": "within_group()",
}


def _described(clause: Any) -> str:
    form = getattr(clause, "__visit_name__", None)
    if not isinstance(form, str):
        return f"{clause!r:.80}"
    return _NAMED.get(form, f"{form.replace('_', ' ')} ({type(clause).__name__})")
