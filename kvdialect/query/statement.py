"""Reading a statement: its structure, which is the key of its plan, and its parameters."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Final

import attrs
import sqlalchemy as sa
from sqlalchemy.sql import operators

from kvdialect import exc
from kvdialect.schema.clauses import ClauseReader, Structure, bound_values, unsupported

RECORD: Final = "kvdialect_record"
"""Annotation of a Table that stands for its record class in a statement."""


@attrs.frozen(slots=True)
class Reading:
    """A statement, read.

    Attributes:
        structure: what it is, but for the values of its parameters; hashable.
        table: the table that it reads or changes.
        record: the record class, if it selects whole records, columns beside them or not.
        binds: its parameters.
        stated: values of parameters that the statement itself has, as of ``.params(n=1)``.
    """

    structure: Structure
    table: sa.Table
    record: type | None
    binds: tuple[sa.BindParameter[Any], ...]
    stated: Mapping[str, Any] = attrs.field(factory=dict)

    def values(self, given: Mapping[str, Any] | None = None) -> list[Any]:
        """The values of the parameters, those in ``given`` by name first."""
        return bound_values(self.binds, {**self.stated, **(given or {})} if self.stated else given)

    def of_columns(self) -> Reading:
        """The same statement with the columns of each whole record in its place."""
        if self.record is None:
            return self
        form, outputs, *clauses = self.structure
        columns = tuple(("columns",) if output[0] == "record" else output for output in outputs)
        return attrs.evolve(self, structure=(form, columns, *clauses), record=None)


# A statement never changes: what was read of it holds as long as it lives.
_read: weakref.WeakKeyDictionary[Any, Reading] = weakref.WeakKeyDictionary()


def read_statement(statement: Any) -> Reading:
    """Read a ``select()``, or the WHERE part of an ``update()`` or ``delete()``.

    Raises:
        NotSupportedError: for what only the SQL door does, by name.
        ArgumentError: if it is no such statement, or has no table.
    """
    try:
        return _read[statement]
    except (KeyError, TypeError):
        pass
    form = getattr(statement, "__visit_name__", None)
    reader = ClauseReader()
    if form == "select":
        structure, record = _select(reader, statement)
    elif form in ("update", "delete"):
        structure, record = _changed_rows(reader, statement), None
    elif form == "compound_select":
        raise unsupported("a set operation (union, intersect, except)")
    elif isinstance(statement, sa.Executable):
        raise unsupported(f"{type(statement).__name__} ({form})")
    else:
        raise exc.ArgumentError(f"{statement!r:.80} is no statement; give select(...), update(...) or delete(...)")
    if reader.table is None:
        raise unsupported("a select() without a table")
    reading = Reading(structure, reader.table, record, tuple(reader.binds), getattr(statement, "_params", None) or {})
    _read[statement] = reading
    return reading


def _select(reader: ClauseReader, statement: Any) -> tuple[Structure, type | None]:
    columns = statement._raw_columns
    if len(columns) == 1 and _is_exists(columns[0]):
        return _exists(reader, statement, columns[0]), None
    _refuse_others(statement)
    for table in statement._from_obj:
        reader.adopt(table)
    outputs: list[Any] = []
    record: type | None = None
    for column in columns:
        form = column.__visit_name__
        if form == "table":
            reader.adopt(column)
            cls = column._annotations.get(RECORD)
            outputs.append(("columns",) if cls is None else ("record", cls))
            record = cls
        elif form == "label":
            name = column.name
            # An anonymous label has another name each time.
            outputs.append(("output", None if "%(" in name else name, reader.read(column.element)))
        else:
            outputs.append(("output", None, reader.read(column)))
    group = reader.read_all(statement._group_by_clauses)
    structure = (
        "select",
        tuple(outputs),
        reader.read_all(statement._where_criteria),
        group,
        reader.read_all(statement._having_criteria),
        reader.read_all(statement._order_by_clauses),
        _row_number(reader, statement._limit_clause),
        _row_number(reader, statement._offset_clause),
        statement._distinct,
        _alike(reader) if group else None,
    )
    return structure, record


def _alike(reader: ClauseReader) -> tuple[int, ...]:
    """For each parameter the first one with an equal value: with it ``n % 10`` is found again in GROUP BY.

    Not of those that have a name, as they may be given other values when the statement is executed.
    """
    firsts: dict[Any, int] = {}
    alike = []
    for number, bind in enumerate(reader.binds):
        value = bind.value
        literal = bind.unique and not bind.required and isinstance(value, int | float | str | bytes)
        key = (type(value), value) if literal else id(bind)
        alike.append(firsts.setdefault(key, number))
    return tuple(alike)


def _row_number(reader: ClauseReader, clause: Any) -> Structure | None:
    if clause is None:
        return None
    if clause.__visit_name__ != "bindparam":
        raise unsupported("a LIMIT or OFFSET that is computed")
    return reader.parameter(clause)


def _is_exists(column: Any) -> bool:
    if column.__visit_name__ == "label":
        column = column.element
    return column.__visit_name__ == "unary" and column.operator is operators.exists


def _exists(reader: ClauseReader, statement: Any, column: Any) -> Structure:
    _refuse_others(statement)
    for clause in ("_where_criteria", "_from_obj", "_group_by_clauses", "_having_criteria"):
        if getattr(statement, clause):
            raise unsupported("select(exists(...)) with a further clause")
    label = None
    if column.__visit_name__ == "label":
        label, column = column.name, column.element
    inner = column.element
    while inner.__visit_name__ == "grouping":
        inner = inner.element
    if inner.__visit_name__ != "select":
        raise unsupported("exists() of what is no select()")
    _refuse_others(inner)
    if inner._group_by_clauses or inner._having_criteria:
        raise unsupported("exists() of a select() with GROUP BY")
    for table in inner._from_obj:
        reader.adopt(table)
    for selected in inner._raw_columns:
        if selected.__visit_name__ == "table":
            reader.adopt(selected)
        elif getattr(selected, "table", None) is not None:
            reader.adopt(selected.table)
        elif selected.__visit_name__ == "function":
            raise unsupported("exists() of an aggregate")
    return (
        "exists",
        label if label is None or "%(" not in label else None,
        reader.read_all(inner._where_criteria),
        _row_number(reader, inner._limit_clause),
        _row_number(reader, inner._offset_clause),
    )


_REFUSED: Final[Mapping[str, str]] = {
    "_setup_joins": "a join",
    "_distinct_on": "DISTINCT ON",
    "_for_update_arg": "FOR UPDATE (a commit finds conflicts by itself)",
    "_fetch_clause": "fetch(); use limit()",
    "_independent_ctes": "a common table expression",
    "_prefixes": "a prefix",
    "_suffixes": "a suffix",
    "_hints": "a hint",
    "_statement_hints": "a hint",
    "_with_options": "an option (options())",
    "_memoized_select_entities": "with_only_columns() after a join",
    "_post_criteria_clause": "a syntax extension",
    "_post_select_clause": "a syntax extension",
    "_pre_columns_clause": "a syntax extension",
    "_post_body_clause": "a syntax extension",
}


def _refuse_others(statement: Any) -> None:
    """Refuse the clauses that no plan knows of, rather than leave them out in silence."""
    # What a statement has not got is an attribute of its class; only its own are looked at.
    own = vars(statement)
    for name in _REFUSED.keys() & own.keys():
        value = own[name]
        if value is not None and (not isinstance(value, tuple | dict) or value):
            raise unsupported(_REFUSED[name])


def _changed_rows(reader: ClauseReader, statement: Any) -> Structure:
    """The rows that an update() or delete() is about, as a select() of whole records."""
    for name, what in (
        ("_independent_ctes", "a common table expression"),
        ("_extra_froms", "a statement on two tables"),
        ("_prefixes", "a prefix"),
        ("_hints", "a hint"),
        ("_with_options", "an option (options())"),
        ("_post_criteria_clause", "a syntax extension"),
    ):
        if getattr(statement, name, None):
            raise unsupported(what)
    reader.adopt(statement.table)
    where = reader.read_all(statement._where_criteria)
    return ("select", (("record", None),), where, (), (), (), None, None, False, None)
