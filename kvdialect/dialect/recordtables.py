"""Tables of mapped records as SQL declares them.

What a record's table would be if SQL had created it: its statement and those of its indexes, from which reflection
reads columns, keys and constraints. A type's name says all of its kind, so :func:`type_of` gives the SQLAlchemy type
back that a mapped column of this kind has. The values are those of :mod:`kvdialect.dialect.sqlvalues`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from kvdialect import exc
from kvdialect.codec.kinds import Kind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.dialect.relations import SqlColumn
from kvdialect.dialect.sqlvalues import from_sql, to_sql
from kvdialect.schema.definition import MISSING, FieldDefinition, ForeignKeyDefinition, IndexDefinition, TableDefinition
from kvdialect.schema.expressions import (
    And,
    Arithmetic,
    Call,
    Case,
    Column,
    Compare,
    Constant,
    Expression,
    In,
    Like,
    Negative,
    Not,
    Or,
    StartsWith,
)
from kvdialect.schema.tokens import quoted
from kvdialect.schema.types import FixedBinary, SignedInteger, UnsignedInteger

UNIQUE_PREFIX: Final = "uq_"
"""A unique index whose name begins so is shown as a UNIQUE constraint: SQLAlchemy's convention names these so."""


# ------------------------------------------------------------------------------------------ types

_INTEGERS: Final = {
    (8, True): "INT8",
    (16, True): "SMALLINT",
    (32, True): "INT32",
    (64, True): "BIGINT",
    (8, False): "UINT8",
    (16, False): "UINT16",
    (32, False): "UINT32",
    (64, False): "UINT64",
}


def declared(kind: Kind) -> str:
    """The name of the type of a column of this kind."""
    kind = kind.stored
    match kind:
        case BoolKind():
            return "BOOLEAN"
        case IntKind():
            return _INTEGERS[kind.bits, kind.signed]
        case FloatKind():
            return "DOUBLE"
        case DecimalKind():
            return f"NUMERIC({kind.precision}, {kind.scale})"
        case TextKind():
            return "TEXT" if kind.length is None else f"VARCHAR({kind.length})"
        case BytesKind():
            return "BLOB" if kind.length is None else f"VARBINARY({kind.length})"
        case FixedBytesKind():
            return f"BINARY({kind.length})"
        case DatetimeKind():
            return "TIMESTAMP WITH TIME ZONE" if kind.aware else "DATETIME"
        case DateKind():
            return "DATE"
        case TimeKind():
            return "TIME"
        case TimedeltaKind():
            return "INTERVAL"
        case UuidKind():
            return "UUID"
        case EnumKind():
            return f"ENUM({', '.join(_literal(name) for name in kind.names)})"
        case _:
            return "JSON"


def affinity(kind: Kind) -> str:
    """The affinity of a column of this kind: that of the values which SQL sees, whatever the type's name would give."""
    kind = kind.stored
    match kind:
        case IntKind():
            return "INTEGER"
        case FloatKind():
            return "REAL"
        case DecimalKind(precision=precision):
            # Text of many digits must not be compared as the float that it is near to.
            return "NUMERIC" if precision <= 15 else "BLOB"
        case BoolKind():
            return "NUMERIC"
        case BytesKind() | FixedBytesKind():
            return "BLOB"
        case _:
            return "TEXT"


TypeMaker = Callable[..., TypeEngine[Any]]

TYPE_NAMES: Final[Mapping[str, TypeMaker]] = {
    "BOOLEAN": sa.Boolean,
    "INT8": lambda: SignedInteger(8),
    "INT16": lambda: SignedInteger(16),
    "INT32": lambda: SignedInteger(32),
    "INT64": lambda: SignedInteger(64),
    "SMALLINT": sa.SmallInteger,
    "BIGINT": sa.BigInteger,
    "UINT8": lambda: UnsignedInteger(8),
    "UINT16": lambda: UnsignedInteger(16),
    "UINT32": lambda: UnsignedInteger(32),
    "UINT64": lambda: UnsignedInteger(64),
    "DOUBLE": sa.Double,
    "NUMERIC": sa.Numeric,
    "TEXT": sa.Text,
    "VARCHAR": sa.String,
    "BLOB": sa.LargeBinary,
    "VARBINARY": sa.VARBINARY,
    "BINARY": FixedBinary,
    "DATETIME": sa.DateTime,
    "TIMESTAMP WITH TIME ZONE": lambda: sa.DateTime(timezone=True),
    "DATE": sa.Date,
    "TIME": sa.Time,
    "INTERVAL": sa.Interval,
    "UUID": sa.Uuid,
    "ENUM": sa.Enum,
    "JSON": sa.JSON,
}
"""What makes the SQLAlchemy type of each name, given the arguments that stand in parentheses behind it."""

_DECLARED: Final = re.compile(r"\s*([\w ]+?)\s*(?:\((.*)\))?\s*", re.DOTALL)
_ARGUMENT: Final = re.compile(r"'((?:[^']|'')*)'|(\d+)")


def type_of(text: str) -> TypeEngine[Any] | None:
    """The SQLAlchemy type that a declared type stands for; None if its name is not one of :data:`TYPE_NAMES`.

    ``kind_of(type_of(declared(kind)))`` is the kind itself, but for structured ones, which are JSON without the
    annotation that only the mapped class has.
    """
    match = _DECLARED.fullmatch(text)
    make = TYPE_NAMES.get(" ".join(match[1].upper().split())) if match else None
    if match is None or make is None:
        return None
    arguments = [
        int(number) if number else name.replace("''", "'") for name, number in _ARGUMENT.findall(match[2] or "")
    ]
    try:
        return make(*arguments)
    except (TypeError, exc.ArgumentError):
        return None


# ------------------------------------------------------------------------------------------ columns


def columns(definition: TableDefinition) -> tuple[SqlColumn, ...]:
    """The columns of a record table as SQL shows them."""
    return tuple(
        SqlColumn(
            name=field.name,
            declared=declared(field.kind),
            affinity=affinity(field.kind),
            nullable=field.nullable,
            default=default_text(field),
        )
        for field in definition.fields
    )


def default_text(field: FieldDefinition) -> str | None:
    """SQL text of what a row has in a column that it does not name; None if that is NULL or an error."""
    if field.default is MISSING or field.default is None or field.autoincrement:
        return None
    convert = to_sql(field.kind)
    return _literal(field.default if convert is None else convert(field.default))


def _names(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        # The least integer has no literal of its own: its digits alone are a float.
        return str(value) if value > -(2**63) else "(-9223372036854775807 - 1)"
    if isinstance(value, float):
        return repr(value) if abs(value) < float("inf") else "9e999" if value > 0 else "-9e999"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    text = str(value)
    if "\0" in text:
        # SQL text ends at its first NUL.
        return f"CAST(X'{text.encode().hex()}' AS TEXT)"
    return "'" + text.replace("'", "''") + "'"


# ------------------------------------------------------------------------------------------ statements


def create_statement(definition: TableDefinition) -> str:
    """CREATE TABLE as SQL would have declared the table."""
    parts = []
    for field in definition.fields:
        name = declared(field.kind)
        text = f"{quoted(field.name)} {quoted(name) if isinstance(field.kind.stored, EnumKind) else name}"
        if not field.nullable:
            text += " NOT NULL"
        default = default_text(field)
        if default is not None:
            text += f" DEFAULT {default}" if not default.startswith("CAST") else f" DEFAULT ({default})"
        parts.append(text)
    parts.append(f"PRIMARY KEY ({_names(definition.primary_key)})")
    parts += [
        f"CONSTRAINT {quoted(index.name)} UNIQUE ({_names(index.columns)})"
        for index in definition.indexes
        if is_constraint(index)
    ]
    parts += [_foreign_key(key) for key in definition.foreign_keys]
    for check in definition.checks:
        condition = condition_text(check.condition, definition)
        if condition is not None:
            parts.append(f"{f'CONSTRAINT {quoted(check.name)} ' if check.name else ''}CHECK ({condition})")
    body = ", \n\t".join(parts)
    return f"CREATE TABLE {quoted(definition.name)} (\n\t{body}\n) WITHOUT ROWID"


def is_constraint(index: IndexDefinition) -> bool:
    """Whether an index is shown as a UNIQUE constraint."""
    plain = index.where is None and not index.include and not any(part.descending for part in index.parts)
    return index.unique and index.kind == "ordered" and plain and index.name.startswith(UNIQUE_PREFIX)


def _foreign_key(key: ForeignKeyDefinition) -> str:
    text = f"CONSTRAINT {quoted(key.name)} " if key.name else ""
    text += f"FOREIGN KEY ({_names(key.columns)}) REFERENCES {quoted(key.table.rpartition(chr(0))[2])}"
    if key.targets:
        text += f" ({_names(key.targets)})"
    if key.ondelete:
        text += f" ON DELETE {key.ondelete}"
    if key.onupdate:
        text += f" ON UPDATE {key.onupdate}"
    if getattr(key, "deferred", False):
        text += " DEFERRABLE INITIALLY DEFERRED"
    return text


def index_statements(definition: TableDefinition) -> list[str]:
    """CREATE INDEX for each index that is no constraint of the table; of a multi-valued one over its list column."""
    statements = []
    for index in definition.indexes:
        if is_constraint(index):
            continue
        parts = ", ".join(f"{quoted(part.name)}{' DESC' if part.descending else ''}" for part in index.parts)
        # A list's elements are unique in a multi-valued index, which is no property of the column.
        unique = "UNIQUE " if index.unique and index.kind == "ordered" else ""
        where = None if index.where is None else condition_text(index.where, definition)
        text = f"CREATE {unique}INDEX {quoted(index.name)} ON {quoted(definition.name)} ({parts})"
        statements.append(f"{text} WHERE {where}" if where else text)
    return statements


# ------------------------------------------------------------------------------------------ conditions


def condition_text(expression: Expression, definition: TableDefinition) -> str | None:
    """SQL text of a condition on a record's columns; None if SQL cannot say it."""
    try:
        return _sql(expression, definition, None)
    except _Unsaid:
        return None


class _Unsaid(Exception):
    """An expression that SQL has no words for."""


_OPERATORS: Final = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "is": "IS", "is not": "IS NOT"}
_FUNCTIONS: Final = frozenset({"lower", "upper", "length", "abs", "coalesce", "nullif", "substr"})


def _kind_in(definition: TableDefinition, *expressions: Expression) -> Kind | None:
    """The kind of the column that constants beside it are values of."""
    for expression in expressions:
        if isinstance(expression, Call) and expression.function == "json":
            return _kind_in(definition, *expression.arguments)
        if isinstance(expression, Column):
            return definition.field(expression.name).kind
    return None


def _sql(expression: Expression, definition: TableDefinition, kind: Kind | None) -> str:
    def sql(part: Expression, beside: Kind | None = None) -> str:
        return _sql(part, definition, beside)

    match expression:
        case Column(name):
            return quoted(name)
        case Constant(value):
            return _constant(value, kind)
        case Call("json", (part,)):
            return sql(part, kind)
        case Compare(operator, left, right):
            beside = _kind_in(definition, left, right)
            return f"{sql(left, beside)} {_OPERATORS[operator]} {sql(right, beside)}"
        case And(parts) | Or(parts):
            word = " AND " if isinstance(expression, And) else " OR "
            return word.join(f"({sql(part)})" for part in parts)
        case Not(part):
            return f"NOT ({sql(part)})"
        case In(left, tuple(options)):
            beside = _kind_in(definition, left)
            return f"{sql(left)} IN ({', '.join(sql(option, beside) for option in options)})"
        case Like(left, pattern, escape, folded):
            if not isinstance(pattern, Constant) or not isinstance(pattern.value, str):
                raise _Unsaid
            told = f" ESCAPE {_literal(escape)}" if escape else ""
            if folded:
                return f"lower({sql(left)}) LIKE lower({sql(pattern)}){told}"
            return f"{sql(left)} LIKE {sql(pattern)}{told}"
        case StartsWith(left, Constant(str(prefix))):
            return f"substr({sql(left)}, 1, {len(prefix)}) = {_literal(prefix)}"
        case Arithmetic("+" | "-" | "*" | "%" | "||" as operator, left, right):
            return f"({sql(left)} {operator} {sql(right)})"
        case Negative(part):
            return f"-({sql(part)})"
        case Call(function, arguments) if function in _FUNCTIONS:
            return f"{function}({', '.join(sql(argument) for argument in arguments)})"
        case Case(branches, otherwise):
            whens = " ".join(f"WHEN {sql(when)} THEN {sql(then)}" for when, then in branches)
            return f"CASE {whens} ELSE {sql(otherwise)} END"
        case _:
            raise _Unsaid


def _constant(value: Any, kind: Kind | None) -> str:
    """A constant as SQL's literal, in the form of the column that it stands beside."""
    if value is None or kind is None:
        if not isinstance(value, bool | int | float | str | bytes | None):
            raise _Unsaid
        return _literal(value)
    # Enums, and what a decorator converts, stand in expressions as they are stored.
    kind = kind.stored
    if isinstance(kind, EnumKind) and isinstance(value, str):
        return _literal(value)
    try:
        checked = kind.check(value)
    except (ValueError, TypeError):
        if isinstance(value, bool | int | float | str | bytes):
            return _literal(value)
        raise _Unsaid from None
    convert = to_sql(kind)
    return _literal(checked if convert is None else convert(checked))


__all__ = [
    "TYPE_NAMES",
    "UNIQUE_PREFIX",
    "affinity",
    "columns",
    "condition_text",
    "create_statement",
    "declared",
    "default_text",
    "from_sql",
    "index_statements",
    "is_constraint",
    "to_sql",
    "type_of",
]
