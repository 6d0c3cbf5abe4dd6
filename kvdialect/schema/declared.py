"""From SQLAlchemy's Table to a definition: what a declared table asks of the store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import sqlalchemy as sa
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import TextClause, UnaryExpression

from kvdialect import exc
from kvdialect.codec.bincode import BincodeCodec
from kvdialect.codec.kinds import Kind
from kvdialect.schema.conditions import condition
from kvdialect.schema.definition import (
    ACTIONS,
    MISSING,
    CheckDefinition,
    FieldDefinition,
    ForeignKeyDefinition,
    IndexDefinition,
    IndexPart,
    TableDefinition,
)
from kvdialect.schema.expressions import Expression
from kvdialect.schema.translate import predicate
from kvdialect.schema.trees import encode_tree
from kvdialect.schema.types import kind_of
from kvdialect.storage.options import ColumnFamilyOptions, check_family_name

INFO: Final = "kvdialect"
"""Key of ``Column.info`` under which a record's field keeps what SQLAlchemy's Column has no place for."""

_TEXT_PART: Final = re.compile(r"\s*(\w+)(?:\s+(asc|desc))?\s*", re.IGNORECASE)
_FORMATS: Final = ("msgpack", "bincode")
_KINDS: Final = ("ordered", "multi")


@attrs.frozen
class FieldInfo:
    """What a record's field says beyond its Column.

    Attributes:
        kind: of its values, with the Python classes of its annotation.
        default: what rows that lack the field have; MISSING if it has none.
        previously: the name that it had before.
    """

    kind: Kind
    default: Any = MISSING
    previously: str | None = None


def definition_of(table: sa.Table) -> TableDefinition:
    """The definition of a declared table.

    Raises:
        ArgumentError: if it has no primary key, or an option, type or index that the store cannot take.
    """
    name = check_family_name(_text(table.name))
    options = table.dialect_options["kvdialect"]
    keys = [column for column in table.columns if column.primary_key]
    if not keys:
        raise exc.ArgumentError(f"table {name} has no primary key; declare field(primary_key=True)", table=name)
    fields = tuple(_field(table, column) for column in table.columns)
    kinds = {field.name: field.kind for field in fields}
    for column in keys:
        if not kinds[column.name].keyable:
            raise exc.ArgumentError(
                f"{name}.{column.name} cannot be in a primary key: {kinds[column.name].allowed} has no order of bytes",
                table=name, field=column.name,
            )  # fmt: skip
    _refuse_unkept(table)
    indexes = [_index(table, index, kinds) for index in table.indexes]
    unique = [each for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
    indexes += [_unique(table, constraint, kinds) for constraint in unique]
    definition = TableDefinition(
        name=name,
        fields=fields,
        primary_key=tuple(_text(column.name) for column in keys),
        indexes=tuple(sorted(indexes, key=lambda index: index.name)),
        foreign_keys=tuple(
            sorted((_foreign_key(key) for key in table.foreign_key_constraints), key=lambda key: key.columns)
        ),
        checks=_checks(table, kinds),
        format=_choice(options.get("format") or "msgpack", _FORMATS, f"kvdialect_format of table {name}"),
        options=_options(options.get("options"), f"kvdialect_options of table {name}"),
    )
    if definition.format == "bincode":
        # What has no layout is refused here, and not at the first use of a table that the catalog has by then.
        BincodeCodec([(field.name, field.kind, field.nullable) for field in definition.value_fields])
    return definition


def _refuse_unkept(table: sa.Table) -> None:
    """Refuse what a table of records does not keep: a constraint is enforced, or is not accepted."""
    if table.schema is not None:
        raise exc.NotSupportedError(
            f"table {table.name} is in the schema {table.schema!r}; tables of records are in none (leave it out, or"
            " make the table by SQL)",
            table=table.name,
        )
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint) and (constraint.deferrable or constraint.initially):
            raise exc.NotSupportedError(
                f"a unique constraint of table {table.name} is deferrable; uniqueness is checked by each flush and each"
                " statement (leave it out)",
                table=table.name,
            )


def sorted_tables(metadata: sa.MetaData) -> list[sa.Table]:
    """The tables, each behind those it refers to; SQLAlchemy's own of this name warns where they do so in a circle."""
    tables = sorted(metadata.tables.values(), key=lambda table: table.key)
    ordered: Any = sa.schema.sort_tables_and_constraints(tables)  # type: ignore[no-untyped-call]
    return [table for table, _ in ordered if table is not None]


def _text(name: Any) -> str:
    """A name as a plain str: SQLAlchemy's quoted names are a subclass that says how they are to be written in SQL."""
    return "".join(name)


def _field(table: sa.Table, column: sa.Column[Any]) -> FieldDefinition:
    if column.computed is not None or column.identity is not None:
        raise exc.NotSupportedError(
            f"{table.name}.{column.name} is a computed or identity column; the store has fields and autoincrement"
        )
    collation = getattr(column.type, "collation", None)
    if collation is not None and collation.upper() != "BINARY":
        raise exc.NotSupportedError(
            f"{table.name}.{column.name} has the collation {collation}; fields of records compare by code point"
            " (leave it out, or make the table by SQL)",
            table=table.name, field=column.name,
        )  # fmt: skip
    info: FieldInfo | None = column.info.get(INFO)
    kind = info.kind if info is not None else kind_of(column.type)
    nullable = bool(column.nullable) and not column.primary_key
    return FieldDefinition(
        name=_text(column.name),
        kind=kind,
        nullable=nullable,
        default=info.default if info is not None else _scalar_default(column),
        previously=info.previously if info is not None else None,
        autoincrement=column is table.autoincrement_column,
    )


def _scalar_default(column: sa.Column[Any]) -> Any:
    default = column.default
    if default is not None and default.is_scalar:
        return default.arg  # type: ignore[attr-defined]
    return None if column.nullable and not column.primary_key else MISSING


def index_definition(index: sa.Index) -> IndexDefinition:
    """The definition of an Index of SQLAlchemy's that belongs to a table.

    Raises:
        ArgumentError: if it belongs to none, or the store cannot have it.
    """
    table = index.table
    if table is None:
        raise exc.ArgumentError(
            f"Index {index.name!r} belongs to no table; give it columns of one, as in Index('by_amount', Coin.amount)"
        )
    return _index(table, index, {_text(column.name): _field(table, column).kind for column in table.columns})


def _index(table: sa.Table, index: sa.Index, kinds: Mapping[str, Kind]) -> IndexDefinition:
    options = index.dialect_options["kvdialect"]
    name = check_family_name(_text(index.name))
    parts = tuple(_part(table, expression, name) for expression in index.expressions)
    where = _where(table, options.get("where"), name, kinds)
    include = tuple(_column_name(table, column, name) for column in options.get("include") or ())
    return _checked(
        table,
        kinds,
        IndexDefinition(
            name=name,
            parts=parts,
            unique=bool(index.unique),
            where=where,
            include=include,
            kind=_choice(options.get("kind") or "ordered", _KINDS, f"kvdialect_kind of index {name}"),
            options=_options(options.get("options"), f"kvdialect_options of index {name}"),
        ),
    )


def _unique(table: sa.Table, constraint: sa.UniqueConstraint, kinds: Mapping[str, Kind]) -> IndexDefinition:
    columns = [_text(column.name) for column in constraint.columns]
    name = _text(constraint.name) if constraint.name else f"uq_{table.name}_{'_'.join(columns)}"
    parts = tuple(IndexPart(name=column) for column in columns)
    return _checked(table, kinds, IndexDefinition(name=check_family_name(name), parts=parts, unique=True))


def _checked(table: sa.Table, kinds: Mapping[str, Kind], index: IndexDefinition) -> IndexDefinition:
    if not index.parts:
        raise exc.ArgumentError(f"index {index.name} of {table.name} has no columns", table=table.name)
    if len(set(index.columns)) != len(index.columns):
        raise exc.ArgumentError(f"index {index.name} names a column twice: {', '.join(index.columns)}")
    if index.kind == "multi":
        element = getattr(kinds[index.columns[0]], "element", None)
        if len(index.parts) != 1 or element is None or not element.keyable:
            raise exc.ArgumentError(
                f"index {index.name} is multi-valued; it takes one column, a list whose elements can stand in keys, not"
                f" {', '.join(index.columns)}",
                table=table.name, index=index.name,
            )  # fmt: skip
        if index.include:
            raise exc.ArgumentError(f"index {index.name} is multi-valued; it cannot include further columns")
        return index
    for column in index.columns:
        if not kinds[column].keyable:
            hint = '; a list can have an index with kvdialect_kind="multi"' if hasattr(kinds[column], "element") else ""
            raise exc.ArgumentError(
                f"{table.name}.{column} cannot be in index {index.name}: {kinds[column].allowed} has no order of"
                f" bytes{hint}",
                table=table.name, index=index.name, field=column,
            )  # fmt: skip
    return index


def _part(table: sa.Table, expression: Any, index: str) -> IndexPart:
    descending = False
    if isinstance(expression, UnaryExpression) and expression.modifier in (operators.desc_op, operators.asc_op):
        descending = expression.modifier is operators.desc_op
        expression = expression.element
    if isinstance(expression, TextClause):
        match = _TEXT_PART.fullmatch(expression.text)
        if match is not None:
            return IndexPart(name=_column_name(table, match[1], index), descending=(match[2] or "").lower() == "desc")
    # ``desc("height")`` names its column by a label reference.
    inner = getattr(expression, "element", expression)
    named = inner if isinstance(inner, str | sa.Column) else expression
    return IndexPart(name=_column_name(table, named, index), descending=descending)


def _column_name(table: sa.Table, column: Any, index: str) -> str:
    name = column.name if isinstance(column, sa.Column) else column
    if not isinstance(name, str):
        raise exc.NotSupportedError(
            f"index {index} of {table.name} has the expression {column}; the Session's indexes are over columns"
            " (store the value in a column of its own)",
            table=table.name, index=index,
        )  # fmt: skip
    if name not in table.columns:
        raise exc.ArgumentError(
            f"index {index} names {name!r}, which is no column of {table.name}; its columns are"
            f" {', '.join(table.columns.keys())}",
            table=table.name, index=index,
        )  # fmt: skip
    return _text(name)


def _where(table: sa.Table, where: Any, index: str, kinds: Mapping[str, Kind]) -> Expression | None:
    if where is None:
        return None
    try:
        clause = where(table.columns) if callable(where) and not isinstance(where, sa.ColumnElement) else where
    except AttributeError as error:
        raise exc.ArgumentError(
            f"kvdialect_where of index {index} names {error}, which is no column of {table.name}; its columns are"
            f" {', '.join(table.columns.keys())}",
            table=table.name, index=index,
        ) from error  # fmt: skip
    try:
        return predicate(clause, table, kinds)
    except exc.NotSupportedError as error:
        raise exc.NotSupportedError(
            f"kvdialect_where of index {index}: {error.message}", table=table.name, index=index
        ) from error


def _checks(table: sa.Table, kinds: Mapping[str, Kind]) -> tuple[CheckDefinition, ...]:
    """The CHECKs of a table, in an order of their own: SQLAlchemy keeps constraints in a set."""
    checks = [
        CheckDefinition(condition=_checked_condition(table, each, kinds), name=_text(each.name) if each.name else None)
        for each in table.constraints
        if isinstance(each, sa.CheckConstraint) and not each._type_bound  # an Enum's own
    ]
    return tuple(sorted(checks, key=lambda check: (check.name or "", str(encode_tree(check.condition)))))


def _checked_condition(table: sa.Table, check: sa.CheckConstraint, kinds: Mapping[str, Kind]) -> Expression:
    clause: Any = check.sqltext
    try:
        if isinstance(clause, TextClause):
            # SQLAlchemy's text takes :name for a parameter, unless the colon is escaped.
            return condition(clause.text.replace("\\:", ":"), table.name, kinds)
        # Before there is a table, a column is one of none: column("amount") > 0.
        return predicate(visitors.replacement_traverse(clause, {}, partial(_own_column, table)), table, kinds)
    except exc.NotSupportedError as error:
        raise exc.NotSupportedError(
            f"CHECK ({clause}) of table {table.name}: {error.facts.get('construct', error.message)} is nothing that the"
            " Session evaluates, so it could not be enforced (say it with comparisons, AND, OR, NOT, IN, LIKE, CASE,"
            " arithmetic and functions such as length; or give the field a validator, which holds for objects)",
            table=table.name,
        ) from error
    except (exc.ArgumentError, exc.ProgrammingError, exc.DataError) as error:
        raise exc.ArgumentError(f"CHECK ({clause}) of table {table.name}: {error.message}", table=table.name) from error


def _own_column(table: sa.Table, element: Any, **_: Any) -> Any:
    if not isinstance(element, sa.ColumnClause) or element.table is not None or element.is_literal:
        return None
    found = table.columns.get(element.name)
    if found is None:
        raise exc.ArgumentError(
            f"it names {element.name!r}, which is no column of the table; its columns are"
            f" {', '.join(table.columns.keys())}"
        )
    return found


def _foreign_key(constraint: sa.ForeignKeyConstraint) -> ForeignKeyDefinition:
    targets = [element.target_fullname.rpartition(".") for element in constraint.elements]
    for option, action in (("ondelete", constraint.ondelete), ("onupdate", constraint.onupdate)):
        if action is not None:
            _choice(action.upper(), sorted(ACTIONS), f"{option} of a foreign key to {targets[0][0]}")
    return ForeignKeyDefinition(
        columns=tuple(_text(column.name) for column in constraint.columns),
        table=targets[0][0],
        targets=tuple(target for _, _, target in targets),
        ondelete=constraint.ondelete,
        onupdate=constraint.onupdate,
        name=_text(constraint.name) if constraint.name else None,
        deferred=(constraint.initially or "").upper() == "DEFERRED",
    )


def _options(given: Any, where: str) -> ColumnFamilyOptions:
    if given is None:
        return ColumnFamilyOptions()
    if not isinstance(given, ColumnFamilyOptions):
        raise exc.ArgumentError(f"{where} is {given!r}; give ColumnFamilyOptions(...)")
    return given


def _choice(given: Any, allowed: Iterable[str], where: str) -> Any:
    if given not in allowed:
        raise exc.ArgumentError(f"{where} is {given!r}; allowed: {', '.join(allowed)}")
    return given
