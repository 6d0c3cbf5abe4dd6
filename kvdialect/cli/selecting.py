"""Rows of a table, whole or those that conditions hold for, without the classes of a program."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import attrs
import sqlalchemy as sa
from sqlalchemy.types import NullType

from kvdialect import exc
from kvdialect.cli.forms import parsed
from kvdialect.query.prepared import Prepared, QueryPlanner
from kvdialect.schema.definition import FieldDefinition
from kvdialect.schema.rows import Row
from kvdialect.store.engine import Engine
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction

WRITTEN: Final = (
    'COLUMN = VALUE, with =, !=, <, <=, >, >= or LIKE, or COLUMN IS NULL, COLUMN IS NOT NULL; "A COLUMN" with spaces in'
    " quotes"
)

_CONDITION: Final = re.compile(
    r'\s*(?P<column>"(?:[^"]|"")+"|[^\s=<>!]+)\s*(?:(?P<null>is\s+(?:not\s+)?null)\s*'
    r"|(?P<operator>==?|!=|<>|<=|>=|<|>|like\s)\s?(?P<value>.*))",
    re.IGNORECASE | re.DOTALL,
)


@attrs.frozen
class Condition:
    """A condition on one column.

    Attributes:
        column: its name.
        operator: ``"="``, ``"!="``, ``"<"``, ``"<="``, ``">"``, ``">="``, ``"like"``, ``"is null"``, ``"is not null"``.
        value: what it is compared with, as text; "" where it is with nothing.
    """

    column: str
    operator: str
    value: str = ""


def condition(text: str) -> Condition:
    """A condition as a command line gives it.

    Raises:
        ArgumentError: if it is none.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise exc.ArgumentError(f"the condition {text!r} is not understood; write {WRITTEN}")
    column = match["column"]
    if len(column) > 1 and column[0] == column[-1] == '"':
        column = column[1:-1].replace('""', '"')
    if match["null"]:
        return Condition(column, " ".join(match["null"].lower().split()))
    operator = match["operator"].strip().lower()
    return Condition(column, {"==": "=", "<>": "!="}.get(operator, operator), match["value"])


def field_of(table: StoredTable, name: str) -> FieldDefinition:
    """A column by its name.

    Raises:
        ProgrammingError: if there is none.
    """
    names = [field.name for field in table.definition.visible]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"its columns are {', '.join(names)}"
        raise exc.ProgrammingError(f"{table.name} has no column {name!r} ({hint})", table=table.name, field=name)
    return table.definition.field(name)


@attrs.frozen(kw_only=True)
class Selection:
    """Which rows of a table, and what of them.

    Attributes:
        table: the table.
        columns: names of the columns; (): all.
        where: conditions, all of which hold.
        limit: the most rows; 0: all.
        reverse: from the last key to the first.
    """

    table: StoredTable
    columns: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    limit: int = 0
    reverse: bool = False

    @property
    def fields(self) -> list[FieldDefinition]:
        """The columns, in the order asked for."""
        if self.columns:
            return [field_of(self.table, name) for name in self.columns]
        return list(self.table.definition.visible)


@contextmanager
def selected(engine: Engine, selection: Selection) -> Iterator[Iterator[Row]]:
    """The rows, all of one moment, read as they are asked for."""
    if selection.where and selection.table.definition.shared:
        with _by_sql(engine, selection) as rows:
            yield rows
        return
    txn = Transaction(engine)
    try:
        if selection.where:
            prepared = prepare(txn, selection)
            yield prepared.rows(txn, lambda pairs: pairs)
        else:
            yield _scanned(txn, selection)
    finally:
        txn.close()


def _scanned(txn: Transaction, selection: Selection) -> Iterator[Row]:
    table = selection.table
    pairs = txn.scan(table.family, table.prefix, table.stop, reverse=selection.reverse)
    rows: Iterator[Row] = itertools.starmap(table.codec.decode, itertools.islice(pairs, selection.limit or None))
    places = [table.codec.positions[field.name] for field in selection.fields]
    if places == list(range(len(table.codec.names))):
        return rows
    return (tuple([row[at] for at in places]) for row in rows)


def plan(engine: Engine, selection: Selection) -> str:
    """How the rows of a table of records are found.

    Raises:
        NotSupportedError: for a table made by SQL.
    """
    if selection.table.definition.shared:
        raise exc.NotSupportedError(f"{selection.table.name} was made by SQL; its plans are of: kvdialect explain")
    txn = Transaction(engine)
    try:
        return str(prepare(txn, selection).explain(txn))
    finally:
        txn.close()


def prepare(txn: Transaction, selection: Selection) -> Prepared:
    """The query of a selection from a table of records, with its plan."""
    stored, definition = selection.table, selection.table.definition
    # Of no type, as what conditions compare with was made a value of the column's kind already.
    table = sa.Table(definition.name, sa.MetaData(), *[sa.Column(name, NullType()) for name in definition.names])
    statement = sa.select(*[table.c[field.name] for field in selection.fields])
    for each in selection.where:
        field = field_of(stored, each.column)
        statement = statement.where(_clause(table.c[field.name], field, each))
    if selection.reverse:
        statement = statement.order_by(*[table.c[name].desc() for name in definition.primary_key])
    if selection.limit:
        statement = statement.limit(selection.limit)
    return QueryPlanner(lambda _: stored).prepare(statement, txn)


def _clause(column: Any, field: FieldDefinition, each: Condition) -> Any:
    match each.operator:
        case "is null":
            return column.is_(None)
        case "is not null":
            return column.is_not(None)
        case "like":
            return column.like(each.value)
    value = parsed(field, each.value)
    match each.operator:
        case "=":
            return column == value
        case "!=":
            return column != value
        case "<":
            return column < value
        case "<=":
            return column <= value
        case ">":
            return column > value
    return column >= value


@contextmanager
def _by_sql(engine: Engine, selection: Selection) -> Iterator[Iterator[Row]]:
    door = engine.sqlalchemy()
    quote = door.dialect.identifier_preparer.quote
    schema, name = selection.table.definition.sql_name
    tests: list[str] = []
    values: list[Any] = []
    for each in selection.where:
        column = quote(field_of(selection.table, each.column).name)
        if each.operator.startswith("is"):
            tests.append(f"{column} {each.operator}")
            continue
        meant = _meant(each.value)
        if each.operator in ("=", "!="):
            tests.append(f"{column} {'NOT ' if each.operator == '!=' else ''}IN ({', '.join('?' * len(meant))})")
            values += meant
        else:
            tests.append(f"{column} {each.operator} ?")
            values.append(each.value if each.operator == "like" else meant[-1])
    listed = ", ".join(quote(field.name) for field in selection.fields)
    text = f"SELECT {listed} FROM {quote(schema)}.{quote(name)} WHERE {' AND '.join(tests)}"  # noqa: S608 - quoted
    if selection.reverse:
        key = [field for field in selection.table.definition.primary_key if field in selection.table.codec.names]
        order = ["rowid"] if selection.table.definition.layout == "rowid" else [quote(each) for each in key]
        text += f" ORDER BY {', '.join(f'{each} DESC' for each in order)}"
    if selection.limit:
        text += f" LIMIT {selection.limit}"
    try:
        with door.connect() as connection:
            yield (tuple(row) for row in connection.exec_driver_sql(text, tuple(values)))
    finally:
        door.dispose()


def _meant(text: str) -> list[Any]:
    """What a text on the command line may stand for in a column of SQL, which takes all types: itself first."""
    meant: list[Any] = [text]
    if re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", text):
        meant.append(bytes.fromhex(text[2:]))
    if text[:1] == "{":
        with suppress(ValueError):
            match json.loads(text):
                case {"blob": str(found)} if re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", found):
                    meant.append(bytes.fromhex(found[2:]))
                case {"float": "Infinity" | "-Infinity" as found}:
                    meant.append(float(found))
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if str(value) == text or text in ("Infinity", "-Infinity"):
            meant.append(value)
            break
    return meant


def columns_of(text: str | None) -> tuple[str, ...]:
    """Names as an option gives them, with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Conditions as a command line gives them. Errors are those of :func:`condition`."""
    return tuple(map(condition, texts))
