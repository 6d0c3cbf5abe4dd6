"""Partial indexes: which of them a query may use, where that depends on the values of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvdialect.query.implication import implies
from kvdialect.schema.definition import IndexDefinition
from kvdialect.schema.expressions import (
    Compare,
    Constant,
    Expression,
    In,
    Or,
    Parameter,
    columns_of,
    conjuncts,
    rebuild,
    walk,
)
from kvdialect.schema.functions import Choices, LikePattern
from kvdialect.store.table import StoredTable


def with_values(expression: Expression, params: Sequence[Any]) -> Expression:
    """An expression with constants for its parameters."""
    match expression:
        case Parameter(number):
            value = params[number]
            return Constant(value.text if isinstance(value, LikePattern) else value)
        case In(left, Parameter(number)):
            choices: Choices = params[number]
            options = [Constant(value) for value in choices.members] + ([Constant(None)] if choices.null else [])
            return In(with_values(left, params), tuple(options))
        case _:
            return rebuild(expression, lambda part: with_values(part, params))


def partial_indexes(table: StoredTable, where: Sequence[Expression]) -> tuple[IndexDefinition, ...]:
    """The partial indexes of which the values of parameters decide whether conditions allow their use."""
    columns = {name for part in where for name in columns_of(part)}
    valued = any(_depends(node) for part in where for node in walk(part))
    found = []
    for index in table.readable.values():
        predicate = index.definition.where
        if predicate is None or columns.isdisjoint(columns_of(predicate)):
            continue  # one branch of an OR is enough, so one column of the predicate is
        # Whether something is NULL is seen from the conditions alone.
        if valued or not all(_is_null_test(part) for part in conjuncts(predicate)):
            found.append(index.definition)
    return tuple(found)


def _is_null_test(condition: Expression) -> bool:
    return (
        isinstance(condition, Compare) and condition.operator in ("is", "is not") and condition.right == Constant(None)
    )


def _depends(condition: Expression) -> bool:
    """Whether the values of parameters decide what a condition says of NULL: with IS, and of an IN of none."""
    if isinstance(condition, In):
        return isinstance(condition.options, Parameter)
    if not isinstance(condition, Compare) or condition.operator not in ("is", "is not"):
        return False
    return isinstance(condition.left, Parameter) or isinstance(condition.right, Parameter)


def partial_uses(
    indexes: Sequence[IndexDefinition], where: Sequence[Expression], params: Sequence[Any]
) -> tuple[Any, ...]:
    """Which partial indexes these parameters allow, and what they prove: plans of one statement differ in it."""
    bound = tuple(with_values(part, params) for part in where)
    sets = [bound]
    for part in bound:
        if isinstance(part, Or):
            others = tuple(other for other in bound if other is not part)
            sets += [(*conjuncts(branch), *others) for branch in part.parts]
    uses: list[tuple[Any, ...]] = []
    for conditions in sets:
        for index in indexes:
            if implies(conditions, index.where):
                known = conjuncts(index.where)
                uses.append((index.name, tuple(implies(known, condition) for condition in conditions)))
            else:
                uses.append(())
    return tuple(uses)
