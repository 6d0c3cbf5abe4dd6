"""insert(), update() and delete(): what they ask for, worked out here and carried out by the Session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from kvdialect import exc
from kvdialect.codec.kinds import Kind, Namespace, compiled, put
from kvdialect.query.prepared import Prepared, QueryPlanner
from kvdialect.schema.clauses import ClauseReader, Structure, bound_values, unsupported
from kvdialect.schema.expressions import Column, Constant, Expression, ExpressionWriter, has_own_order
from kvdialect.schema.translate import Translator
from kvdialect.store.table import StoredTable
from kvdialect.store.view import ReadView

Row = tuple[Any, ...]
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

_REFUSED: Final[Mapping[str, str]] = {
    "_returning": "RETURNING",
    "_independent_ctes": "a common table expression",
    "_prefixes": "a prefix",
    "_hints": "a hint",
    "_post_values_clause": "ON CONFLICT",
}


def _refuse_others(statement: Any) -> None:
    for name, what in _REFUSED.items():
        value = getattr(statement, name, None)
        if value is not None and (not isinstance(value, tuple | Mapping) or value):
            raise unsupported(what)


# --------------------------------------------------------------------------- insert


def insert_rows(statement: sa.Insert, params: Parameters) -> tuple[sa.Table, list[dict[str, Any]]]:
    """The table and the rows, by column name, of an ``insert()`` executed with ``params``.

    Raises:
        NotSupportedError: for what only the SQL door does, by name.
        ArgumentError: for a name that is no column's.
    """
    _refuse_others(statement)
    source: Any = statement
    table = source.table
    if table.__visit_name__ != "table":
        raise unsupported("an insert() into what is no table")
    if source.select is not None:
        raise unsupported("an insert() from a select()")
    many = source._multi_values
    if many:
        if params:
            raise exc.ArgumentError("an insert() with a list of values() takes no parameters besides")
        return table, [_named(table, row) for rows in many for row in rows]
    given: Sequence[Mapping[str, Any]]
    given = [{}] if params is None else [params] if isinstance(params, Mapping) else list(params)
    for row in given:
        check_row(table, row, "an insert() into")
    fixed = _named(table, source._values or {})
    if not fixed:
        return table, [_named(table, row) for row in given]
    return table, [_with_fixed(table, fixed, row) for row in given]


def check_row(table: Any, row: Any, what: str) -> None:
    """Refuse what is no row of a statement that takes a list of them."""
    if row.__class__ is not dict and not isinstance(row, Mapping):
        raise exc.ArgumentError(
            f"a row of {what} {table.name} is {row!r:.80}; give a dict of values by column name", table=table.name
        )


def rows_by_key(statement: Any, params: Any) -> tuple[sa.Table, list[dict[str, Any]]] | None:
    """The table and the rows of an ``update(Record)`` executed with a list of dicts: each names its primary key.

    Returns:
        None for any other update.

    Raises:
        ArgumentError: for a name that is no column's, or a value that is an expression.
        sqlalchemy.exc.InvalidRequestError: for a row without its primary key, as in SQLAlchemy.
    """
    if params is None or isinstance(params, Mapping) or statement._where_criteria or statement._values:
        return None
    if statement._multi_values or not params:
        return None
    if statement._returning:
        raise exc.NotSupportedError(
            "an update() by primary key, of a list of rows, with RETURNING (leave it out, and read the records after)"
        )
    _refuse_others(statement)
    table: Any = statement.table
    keys = [column.name for column in table.primary_key]
    rows = []
    for row in params:
        check_row(table, row, "an update() of")
        values = _named(table, row)
        missing = [name for name in keys if name not in values]
        if missing:
            raise sa.exc.InvalidRequestError(
                f"No primary key value supplied for column(s) {', '.join(f'{table.name}.{name}' for name in missing)};"
                " an update() with a list of rows changes the record that each row names by its primary key (for all"
                " records, give one dict, or values())"
            )
        for name, value in values.items():
            if isinstance(value, sa.ClauseElement) or hasattr(value, "__clause_element__"):
                raise exc.ArgumentError(f"{table.name}.{name} is {value!s:.80} in a row of an update(); give its value")
        rows.append(values)
    return table, rows


def _with_fixed(table: Any, fixed: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the statement's own values and those given besides."""
    used: set[str] = set()
    values = {}
    for name, clause in fixed.items():
        if isinstance(clause, sa.BindParameter) and clause.key in row:
            used.add(clause.key)
        values[name] = _value(clause, row)
    return values | _named(table, {key: value for key, value in row.items() if key not in used})


def _named(table: Any, values: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by column name, whose keys may be columns, and which may be clauses with a value."""
    known = {column.name for column in table.columns}
    named: dict[str, Any] = {}
    for key, value in values.items():
        name = key if isinstance(key, str) else getattr(key, "name", None)
        if not isinstance(name, str) or name not in known:
            raise exc.ArgumentError(
                f"{table.name} has no column {key!r}; its columns are {', '.join(known)}", table=table.name
            )
        named[name] = value
    return named


def _value(clause: Any, given: Mapping[str, Any]) -> Any:
    """The value of what an insert() sets a column to."""
    if not isinstance(clause, sa.ClauseElement):
        return clause
    reader = ClauseReader()
    structure = reader.read(clause)
    if structure[0] == "constant":
        return structure[1]
    if structure[0] == "parameter":
        return bound_values(tuple(reader.binds), given)[0]
    raise unsupported("an insert() of a computed value")


# --------------------------------------------------------------------------- update and delete


def prepare_delete(planner: QueryPlanner, statement: sa.Delete, view: ReadView, params: Parameters = None) -> Prepared:
    """The rows that a ``delete()`` is about: :meth:`Prepared.keys` gives them.

    Raises:
        NotSupportedError, DataError, ArgumentError: as :meth:`QueryPlanner.prepare` does.
    """
    _refuse_others(statement)
    return planner.prepare(statement, view, _one(params))


def prepare_update(
    planner: QueryPlanner, statement: sa.Update, view: ReadView, params: Parameters = None
) -> tuple[Prepared, Callable[[Row], Row]]:
    """The rows that an ``update()`` is about, and what makes the new row of an old one.

    Values are not checked here: that a column takes them is seen when the row is encoded.

    Raises:
        NotSupportedError: for what only the SQL door does, by name.
        DataError: if things are compared or computed with that do not go together.
        ArgumentError: if nothing is set, or what is no column.
    """
    _refuse_others(statement)
    source: Any = statement
    if source._multi_values:
        raise unsupported("an update() with a list of values()")
    given = _one(params)
    table = source.table
    prepared = planner.prepare(statement, view, given)
    binds = {bind.key for bind in prepared.reading.binds}
    clauses = _named(table, dict(source._values or {}))
    reader = ClauseReader(table)
    assigned: dict[str, Structure] = {}
    constants: dict[str, Any] = {}
    for name, clause in clauses.items():
        if isinstance(clause, sa.ClauseElement) or hasattr(clause, "__clause_element__"):
            assigned[name] = reader.read(getattr(clause, "__clause_element__", lambda c=clause: c)())
        else:
            constants[name] = clause
    binds |= {bind.key for bind in reader.binds}
    for key, value in given.items():
        if key not in binds:
            constants |= _named(table, {key: value})
    if not assigned and not constants:
        raise exc.ArgumentError(f"an update() of {table.name} sets nothing; give values(...)")
    return prepared, _assignment(prepared.table, assigned, bound_values(tuple(reader.binds), given), constants)


def _one(params: Parameters) -> Mapping[str, Any]:
    if params is None or isinstance(params, Mapping):
        return params or {}
    rows = list(params)
    if len(rows) > 1:
        raise unsupported("an update() or delete() executed with a list of parameters")
    return rows[0] if rows else {}


def _assignment(
    table: StoredTable, assigned: Mapping[str, Structure], values: Sequence[Any], constants: Mapping[str, Any]
) -> Callable[[Row], Row]:
    """A function from a row to the row with the assigned columns set."""
    fields = {field.name: field for field in table.definition.fields}
    kinds = {name: field.kind for name, field in fields.items()}
    translator = Translator(table.name, kinds, values)
    names: Namespace = {}
    columns = {name: f"row[{at}]" for at, name in enumerate(table.codec.names)}
    nullable = {name for name, field in fields.items() if field.nullable}
    writer = ExpressionWriter(columns, names, nullable=nullable, kinds=kinds)
    sources = dict(columns)
    for name, value in constants.items():
        sources[name] = put(names, (value,)) + "[0]"
    for name, structure in assigned.items():
        if name not in kinds:
            raise exc.ArgumentError(f"the stored table {table.name} has no column {name}", table=table.name)
        if structure[0] == "parameter":
            sources[name] = put(names, (values[structure[1]],)) + "[0]"
            continue
        expression = translator.expression(structure)
        sources[name] = _assigned(expression, columns, writer, kinds[name], names)
    source = "".join(f"{sources[name]}, " for name in table.codec.names)
    assign: Callable[[Row], Row] = compiled("assign", ["def assign(row):", f"    return ({source})"], names)
    return assign


def _assigned(
    expression: Expression, columns: Mapping[str, str], writer: ExpressionWriter, kind: Kind, names: Namespace
) -> str:
    """Source of a value as the column's kind has it."""
    if isinstance(expression, Column):
        return columns[expression.name]
    value = writer.value(expression)
    if has_own_order(kind) or isinstance(expression, Constant):
        return value
    load, check = kind.load, kind.check

    def loaded(stored: Any) -> Any:
        if stored is None:
            return None
        try:
            return load(stored)
        except (ValueError, TypeError, KeyError):
            pass  # a value that was given as it is, within a CASE for instance
        try:
            return check(stored)
        except (ValueError, TypeError, OverflowError) as error:
            raise exc.DataError(
                f"a column is set to {stored!r:.80} ({type(stored).__name__}); allowed: {kind.allowed}",
                value=stored, allowed=kind.allowed,
            ) from error  # fmt: skip

    return f"{put(names, loaded)}({value})"
