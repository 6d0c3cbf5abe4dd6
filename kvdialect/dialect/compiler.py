"""Compilers: SQLAlchemy's statements, DDL and types as text, as SQLite's dialect has them but for what is ours.

Arithmetic on UInt64 columns becomes calls of the functions of :mod:`kvdialect.dialect.functions`, as SQLite would take
integers from ``2**63`` on for 0. Arithmetic on dates and times is refused, as SQLite would take their texts for the
years that they begin with. Of DDL, what belongs to records alone is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDDLCompiler, SQLiteTypeCompiler
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    ExpressionClauseList,
    False_,
    Grouping,
    Label,
    True_,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement

from kvdialect import exc
from kvdialect.schema.records import records_for
from kvdialect.schema.types import UnsignedInteger, contains_element

_WIDE_BITS: Final = 64

_ARITHMETIC: Final[dict[Any, str]] = {
    operators.add: "kv_add",
    operators.sub: "kv_sub",
    operators.mul: "kv_mul",
    operators.truediv: "kv_truediv",
    operators.floordiv: "kv_div",
    operators.mod: "kv_mod",
}

_AGGREGATES: Final = frozenset(("sum", "min", "max", "abs", "coalesce"))
"""Functions of wide integers that give wide integers."""

_SYMBOLS: Final[dict[Any, str]] = {
    operators.add: "+",
    operators.sub: "-",
    operators.mul: "*",
    operators.truediv: "/",
    operators.floordiv: "//",
    operators.mod: "%",
}

_SUMS: Final = frozenset(("sum", "avg", "total"))

_TEMPORAL: Final = (sa.DateTime, sa.Date, sa.Time, sa.Interval)


def is_wide(expression: Any) -> bool:
    """Whether the values of an expression may be integers from ``2**63`` on."""
    match expression:
        case BinaryExpression() if expression.operator in _ARITHMETIC:
            return is_wide(expression.left) or is_wide(expression.right)
        case ExpressionClauseList() if expression.operator in _ARITHMETIC:
            return any(is_wide(clause) for clause in expression.clauses)
        case UnaryExpression() if expression.operator is operators.neg:
            return is_wide(expression.element)
        case Grouping() | Label():
            return is_wide(expression.element)
        case FunctionElement() if getattr(expression, "name", "").lower() in _AGGREGATES:
            return any(is_wide(clause) for clause in expression.clauses)
    type_ = getattr(expression, "type", None)
    if isinstance(type_, sa.TypeDecorator):
        type_ = type_.impl_instance
    return isinstance(type_, UnsignedInteger) and type_.bits == _WIDE_BITS


def _refuse_temporal(symbol: str, operands: Iterable[Any], dialect: Dialect) -> None:
    """Raise for a calculation with dates, times or spans of time."""
    for operand in operands:
        type_ = getattr(operand, "type", None)
        if type_ is None:
            continue
        stored = type_.dialect_impl(dialect)
        while isinstance(stored, sa.TypeDecorator) and not isinstance(stored, sa.Interval):
            stored = stored.impl_instance
        if isinstance(stored, _TEMPORAL):
            name = type(type_).__name__
            seen = f"{operand if isinstance(operand, sa.Column) else 'a value'}, of type {name}"
            raise exc.NotSupportedError(
                f"{symbol} of {seen}: dates, times and intervals are texts in SQL, of which SQLite would take the year"
                " (calculate in Python and bind what comes out, or use func.julianday(), func.unixepoch() or"
                " func.datetime(column, '+30 days'))",
                operation=symbol, type=name,
            )  # fmt: skip


class KvCompiler(SQLiteCompiler):
    """Statements."""

    def visit_binary(self, binary: Any, override_operator: Any = None, **options: Any) -> str:  # type: ignore[override]
        operator = override_operator or binary.operator
        if isinstance(binary.right, True_ | False_) and isinstance(binary.left.type, sa.JSON):
            binary = binary._clone()  # JSON has a true and a false of its own, and 1 is neither
            binary.right = sa.literal_column("'true'" if isinstance(binary.right, True_) else "'false'")
        if operator in _SYMBOLS:
            _refuse_temporal(_SYMBOLS[operator], (binary.left, binary.right), self.dialect)
        function = _ARITHMETIC.get(operator)
        if function is not None and (is_wide(binary.left) or is_wide(binary.right)):
            sides = (self.process(side, **options) for side in (binary.left, binary.right))
            return f"{function}({', '.join(sides)})"
        text: str = super().visit_binary(binary, override_operator=override_operator, **options)  # type: ignore[no-untyped-call]
        return text

    def visit_expression_clauselist(self, clauselist: Any, **options: Any) -> str:
        """``a + b + c``."""
        if clauselist.operator in _SYMBOLS:
            _refuse_temporal(_SYMBOLS[clauselist.operator], clauselist.clauses, self.dialect)
            if is_wide(clauselist):
                options.pop("add_to_result_map", None)
                first, *others = (self.process(clause, **options) for clause in clauselist.clauses)
                return reduce(lambda left, right: f"{_ARITHMETIC[clauselist.operator]}({left}, {right})", others, first)
        text: str = super().visit_expression_clauselist(clauselist, **options)  # type: ignore[no-untyped-call]
        return text

    def visit_function(self, func: Any, *args: Any, **options: Any) -> str:
        if func.name.lower() in _SUMS:
            _refuse_temporal(f"{func.name}()", func.clauses, self.dialect)
        text: str = super().visit_function(func, *args, **options)
        return text

    def visit_unary(self, unary: Any, **options: Any) -> str:  # type: ignore[override]
        if unary.operator is operators.neg:
            _refuse_temporal("-", (unary.element,), self.dialect)
        if unary.operator is operators.neg and is_wide(unary.element):
            options.pop("add_to_result_map", None)
            return f"kv_neg({self.process(unary.element, **options)})"
        text: str = super().visit_unary(unary, **options)  # type: ignore[no-untyped-call]
        return text

    def visit_custom_op_binary(self, element: Any, operator: Any, **options: Any) -> str:
        """``Record.tags.contains(tag)``: a list is JSON text here."""
        if operator is contains_element:
            column, wanted = (self.process(side, **options) for side in (element.left, element.right))
            among = f"EXISTS (SELECT 1 FROM json_each({column}) WHERE json_each.value = {wanted})"
            return f"CASE WHEN {column} IS NOT NULL THEN {among} END"
        text: str = super().visit_custom_op_binary(element, operator, **options)  # type: ignore[no-untyped-call]
        return text

    def visit_startswith_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        """Of bytes, which LIKE never matches in SQLite."""
        if isinstance(binary.left.type, sa.LargeBinary):
            return f"{self._beginning(binary, **options)} = {self.process(binary.right, **options)}"
        text: str = super().visit_startswith_op_binary(binary, operator, **options)  # type: ignore[no-untyped-call]
        return text

    def visit_not_startswith_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        """The contrary."""
        if isinstance(binary.left.type, sa.LargeBinary):
            return f"{self._beginning(binary, **options)} != {self.process(binary.right, **options)}"
        text: str = super().visit_not_startswith_op_binary(binary, operator, **options)  # type: ignore[no-untyped-call]
        return text

    def _beginning(self, binary: Any, **options: Any) -> str:
        whole, prefix = (self.process(side, **options) for side in (binary.left, binary.right))
        return f"ifnull(substr({whole}, 1, length({prefix})), {whole})"  # substr() makes NULL of an empty blob

    def visit_regexp_replace_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:  # noqa: ARG002
        """All matches are replaced."""
        if binary.modifiers["flags"] is not None:
            raise exc.ArgumentError("regexp_replace() takes no flags here; write them in the pattern, as (?i)")
        subject, pattern = (self.process(side, **options) for side in (binary.left, binary.right))
        return f"regexp_replace({subject}, {pattern})"

    def _add_to_result_map(self, keyname: Any, name: Any, objects: Any, type_: Any) -> None:
        """An expression with wide integers gives them, whatever SQLAlchemy takes its type for."""
        plain = isinstance(type_, sa.Integer) and not isinstance(type_, UnsignedInteger)
        if plain and any(is_wide(each) for each in objects if isinstance(each, sa.ColumnElement)):
            type_ = UnsignedInteger(_WIDE_BITS)
        super()._add_to_result_map(keyname, name, objects, type_)


class KvDDLCompiler(SQLiteDDLCompiler):
    """DDL."""

    def visit_create_table(self, create: Any, **options: Any) -> str:
        table = create.element
        for record in records_for(table.name):
            if record.table is table:
                raise exc.NotSupportedError(
                    f"table {table.name} is that of record class {record.cls.__name__}, whose column families are made"
                    " with the model: call models.create_all(engine) on an engine of kvdialect.create_engine()",
                    table=table.name,
                )
        _refuse(table, f"table {table.name}", "options", "format")
        text: str = super().visit_create_table(create, **options)  # type: ignore[no-untyped-call]
        return text

    def visit_create_index(self, create: Any, **options: Any) -> str:  # type: ignore[override]
        index = create.element
        _refuse(index, f"index {index.name}", "options", "include", "kind")
        text: str = super().visit_create_index(create, **options)  # type: ignore[no-untyped-call]
        where = index.dialect_options["kvdialect"]["where"]
        if where is None:
            return text
        if index.dialect_options["sqlite"]["where"] is not None:
            raise exc.ArgumentError(f"index {index.name} has both kvdialect_where and sqlite_where; give one of them")
        condition = where(index.table.c) if callable(where) and not isinstance(where, sa.ColumnElement) else where
        return f"{text} WHERE {self.sql_compiler.process(condition, include_table=False, literal_binds=True)}"


def _refuse(item: Any, what: str, *names: str) -> None:
    """Raise for an option that only a record's table or index has."""
    for name in names:
        if item.dialect_options["kvdialect"][name] is not None:
            raise exc.NotSupportedError(
                f"kvdialect_{name} of {what}: tables that SQL creates share one column family and one layout; declare a"
                " record with kvdialect.mapped to choose them",
                option=f"kvdialect_{name}",
            )


class KvTypeCompiler(SQLiteTypeCompiler):
    """Names of types. SQLite derives a column's affinity from them, so each has a name whose affinity fits."""

    def visit_big_integer(self, type_: Any, **options: Any) -> str:
        bits = getattr(type_, "bits", None)
        if bits is None:
            text: str = super().visit_big_integer(type_, **options)
            return text
        return f"{'UINT' if isinstance(type_, UnsignedInteger) else 'INT'}{bits}"

    def visit_UUID(self, type_: Any, **options: Any) -> str:  # noqa: ARG002, N802 - SQLAlchemy's name
        # "UUID" would have numeric affinity, which takes 32 digits for a number.
        return "CHAR(32)"

    def visit_ARRAY(self, type_: Any, **options: Any) -> str:  # noqa: ARG002, N802
        return "JSON_TEXT"


__all__ = ["KvCompiler", "KvDDLCompiler", "KvTypeCompiler", "is_wide"]
