"""Virtual tables: how SQLite reads and changes the rows of a store.

One module of SQLite's serves all tables of a connection. Its tables offer their :mod:`paths <.relations>` to SQLite's
planner, which asks for each statement what a set of constraints would cost and gets a :class:`Plan` for the best path;
cursors run the plan. A table with rowids is one for SQLite too; others are WITHOUT ROWID, with a hidden column that
holds the key of the row, since a writable virtual table is told apart by one column.
"""

# ruff: noqa: N802 - the names of methods are SQLite's

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import apsw

from kvdialect.dialect import compiled
from kvdialect.dialect.access import COLUMNS_TOLD, COMPARISONS, Answer, Plan, Request, choose
from kvdialect.dialect.functions import incalculable, wide_positions
from kvdialect.dialect.relations import SIGN, Relation
from kvdialect.schema.tokens import quoted
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

MODULE: Final = "kvdialect"

_ASKED: Final = 100
"""After so many rows by their rowids a cursor considers reading the whole table."""

_WORTH: Final = 10
"""Rows of a table that are read at once, for each that was asked for: a scan costs about a tenth for each."""

_KEPT: Final = 16 << 20
"""Bytes of stored rows that a cursor keeps at most."""

_NOTHING: Final[Iterator[Any]] = iter(())


def register(connection: Connection) -> None:
    """Give the database ``connection.main`` the module that its virtual tables are made with."""
    module = _Module(connection)
    if not compiled.create_module(connection.main, MODULE, module):
        connection.main.create_module(MODULE, module, use_bestindex_object=True, use_no_change=True)


def create_statement(relation: Relation) -> str:
    """The statement that makes the virtual table of a relation."""
    return f"create virtual table {quoted(relation.schema)}.{quoted(relation.name)} using {MODULE}({relation.id})"


def _declaration(relation: Relation, *extra: str) -> str:
    columns = []
    for column in relation.columns:
        affinity = "" if column.affinity == "BLOB" else f" {column.affinity}"
        collation = "" if column.collation == "BINARY" else f" collate {column.collation}"
        columns.append(f"{quoted(column.name)}{affinity}{collation}")
    return f"create table x({', '.join([*columns, *extra])})"


class _Module:
    """SQLite's view of the module, by way of apsw or of the compiled one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def Create(self, db: Any, _module: str, _schema: str, _name: str, number: str) -> tuple[str, _Table]:
        db.vtab_config(apsw.SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)
        return self.table(number)

    Connect = Create

    def table(self, number: str) -> tuple[str, _Table]:
        """The declaration of the table with an id, and the table."""
        table = _Table(self._connection, int(number))
        relation = table.relation
        if relation.rowid:
            return _declaration(relation), table
        hidden = "_kvdialect_key"
        while hidden in relation.positions:
            hidden += "_"
        return f"{_declaration(relation, f'{hidden} blob hidden primary key')} without rowid", table


# ------------------------------------------------------------------------------------------------ tables


class _Table:
    """A virtual table of a connection."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._relation: Relation = connection.relation_by_id(number)
        self._catalog = connection.catalog
        self._unsigned = wide_positions(self._relation)
        self._plans: list[Plan] = []
        self._numbers: dict[tuple[Any, ...], int] = {}

    @property
    def relation(self) -> Relation:
        """The table as it is in the connection's present catalog."""
        catalog = self._connection.catalog
        if catalog is not self._catalog:
            self._relation = self._connection.relation_by_id(self._number)
            self._catalog = catalog
        return self._relation

    def Disconnect(self) -> None:
        pass

    Destroy = Disconnect

    def Open(self) -> _Cursor:
        if self._unsigned and self._connection.strict_uint64:
            return _StrictCursor(self._connection, self._plans, self._relation, self._unsigned)
        return _Cursor(self._connection, self._plans, self._relation)

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        constraints = []
        for number in range(info.nConstraint):
            operator = info.get_aConstraint_op(number)
            collation = info.get_aConstraint_collation(number) if operator in COMPARISONS else ""
            column, usable = info.get_aConstraint_iColumn(number), info.get_aConstraint_usable(number)
            constraints.append((column, operator, usable, collation))
        order = [(info.get_aOrderBy_iColumn(at), info.get_aOrderBy_desc(at)) for at in range(info.nOrderBy)]

        def literal(number: int) -> tuple[Any, ...]:
            try:
                return (info.get_aConstraint_rhs(number),)
            except apsw.NotFoundError:
                return ()

        info.idxNum, answer = self.best_index(constraints, order, info.distinct, info.colUsed, literal)
        for argument, (constraint, omitted) in enumerate(answer.used, 1):
            info.set_aConstraintUsage_argvIndex(constraint, argument)
            info.set_aConstraintUsage_omit(constraint, omitted)
        if answer.one_row:
            info.idxFlags = apsw.SQLITE_INDEX_SCAN_UNIQUE  # then SQLite takes the first row, and tests no other
        info.orderByConsumed = answer.ordered
        info.estimatedCost, info.estimatedRows = answer.cost, answer.rows
        return True

    # What the compiled module asks.

    def facts(self) -> tuple[int, int, bool]:
        """How many columns there are, which one is the rowid (-1: none), and whether there are rowids."""
        relation = self._relation
        return relation.width, -1 if relation.alias is None else relation.alias, relation.rowid

    def opened(self) -> tuple[_Cursor, int]:
        """A cursor, and the columns whose blobs it has to look at, as bits; the last stands for all from there on."""
        cursor = self.Open()
        refused = self._unsigned if isinstance(cursor, _StrictCursor) else ()
        return cursor, sum({1 << min(position, COLUMNS_TOLD) for position in refused})

    def answer(self, asked: tuple[list[Any], list[tuple[int, bool]], int, int]) -> tuple[Any, ...]:
        """As :meth:`BestIndexObject`: ``([(constraint, (literal,))], order, distinct, columns used as bits)``."""
        constraints, order, distinct, bits = asked
        used = {at for at in range(COLUMNS_TOLD + 1) if bits >> at & 1}
        number, answer = self.best_index(
            [each for each, _ in constraints], order, distinct, used, lambda at: constraints[at][1]
        )
        return number, answer.used, answer.one_row, answer.ordered, answer.cost, answer.rows

    def best_index(
        self,
        constraints: Sequence[tuple[int, int, bool, str]],
        order: Sequence[tuple[int, bool]],
        distinct: int,
        columns: Container[int],
        literal: Callable[[int], tuple[Any, ...]],
    ) -> tuple[int, Answer]:
        """How the rows that SQLite asks for, see :class:`.Request`, are best read, and what it costs."""
        relation, statement = self.relation, self._connection.statement
        first_rows, alone = (False, False) if statement is None else (statement.first_rows, statement.alone)
        request = Request(constraints, order, distinct, columns, literal, first_rows, alone)
        plan, answer = choose(relation, request, self._connection.row_count(relation))
        if self._connection.explained is not None:
            # The plan is told, and not run: a number among those of all tables.
            self._connection.explained.append(plan)
            return len(self._connection.explained) - 1, answer
        number = self._numbers.get(plan.shape)
        if number is None:
            number = self._numbers[plan.shape] = len(self._plans)
            self._plans.append(plan)
        return number, answer

    # ------------------------------------------------------------------------------------------ writes

    def UpdateInsertRow(self, rowid: int | None, fields: tuple[Any, ...]) -> int:
        relation = self.relation
        values = fields[: relation.width]
        return self._connection.writer.insert(relation, values, rowid) or 0

    def UpdateDeleteRow(self, handle: Any) -> None:
        relation = self.relation
        self._connection.writer.delete(relation, relation.key_of_handle(handle))

    def UpdateChangeRow(self, handle: Any, new: Any, fields: tuple[Any, ...]) -> None:
        if self._connection.changes is None:
            self._change(handle, new, fields)
        else:
            self._connection.changes[self._number, handle] = partial(self._change, handle, new, fields)

    def _change(self, handle: Any, new: Any, fields: tuple[Any, ...]) -> None:
        relation, connection = self.relation, self._connection
        values = list(fields[: relation.width])
        key = relation.key_of_handle(handle)
        if connection.writer.is_overtaken(relation, key):
            connection.writer.assign_again(relation, key)
            return
        if apsw.no_change in values:
            # As the row is now: a foreign key's action may have changed it since SQLite read it.
            now = relation.get(connection.txn, key)
            if now is None:
                return
            values = [now[at] if value is apsw.no_change else value for at, value in enumerate(values)]
        if not relation.rowid or new == handle:
            connection.writer.update(relation, key, values)
            return
        if relation.alias is not None:
            values[relation.alias] = new
        connection.writer.update(relation, key, values, new)


class _Cursor:
    """Runs a plan. SQLite calls the methods for each row and column, so they do as little as can be.

    The inner table of a join is asked for one row after the other by its rowid. Such a cursor reads the whole table,
    once it has been asked for a part of it, if it fits :data:`_KEPT`.
    """

    __slots__ = ("_alias", "_asked", "_connection", "_kept", "_next", "_plans", "_row")

    def __init__(self, connection: Connection, plans: list[Plan], relation: Relation) -> None:
        self._connection = connection
        self._plans = plans
        self._alias = -1 if relation.alias is None else relation.alias
        self._next: Iterator[Any] = _NOTHING
        self._row: Any = None
        self._asked = 0
        self._kept: dict[int, Any] | None = None

    def Filter(self, number: int, _text: str | None, args: tuple[Any, ...]) -> None:
        if self._kept is not None and args[0].__class__ is int:
            self._row, self._next = self._kept.get(args[0]), _NOTHING
            return
        plan = self._plans[number]
        if plan.by_rowid and args[0].__class__ is int:
            self._row, self._next = self._by_rowid(plan, args[0]), _NOTHING
            return
        self._next = rows = self._rows(plan, args)
        self._row = next(rows, None)

    def start(self, number: int, args: tuple[Any, ...]) -> Any:
        """As :meth:`Filter`, for compiled cursors: a row, None, an iterator of rows, or all rows by their rowids."""
        plan = self._plans[number]
        if plan.by_rowid and args[0].__class__ is int:
            row = self._by_rowid(plan, args[0])
            return row if self._kept is None else self._kept
        return self._rows(plan, args)

    def _rows(self, plan: Plan, args: tuple[Any, ...]) -> Iterator[Any]:
        if plan.matched:
            return self._connection.matches.rows(plan, args)
        return plan.rows(self._connection.txn, args)

    def _by_rowid(self, plan: Plan, rowid: int) -> Any:
        relation, txn = plan.relation, self._connection.txn
        self._asked += 1
        if self._asked % _ASKED == 0 and self._connection.reading and not txn.serializable:
            self._keep(plan, txn)
            if self._kept is not None:
                return self._kept.get(rowid)
        key = relation.key_of_handle(rowid) if -SIGN <= rowid < SIGN else b""
        raw = txn.get(relation.stored.family, key) if key else None
        return None if raw is None else relation.decode(key, raw)

    def _keep(self, plan: Plan, txn: Transaction) -> None:
        """Read the whole table, if that is no more than what was read already, several times over."""
        relation = plan.relation
        if self._connection.row_count(relation) > _WORTH * self._asked:
            return
        span = relation.paths[0].range()
        assert span is not None
        kept, size = {}, 0
        for key, raw in relation.paths[0].rows(txn, *span):
            size += len(raw)
            if size > _KEPT:
                return
            kept[int.from_bytes(key[4:]) - SIGN] = relation.decode(key, raw)
        self._kept = kept

    def Next(self) -> None:
        self._row = next(self._next, None)

    def Eof(self) -> bool:
        return self._row is None

    def Column(self, number: int) -> Any:
        return self._row[number] if number >= 0 else self.Rowid()

    def ColumnNoChange(self, _number: int) -> Any:
        return apsw.no_change

    def Rowid(self) -> Any:
        row = self._row
        if row.__class__ is bytes:
            return int.from_bytes(row[4:]) - SIGN
        return row[self._alias]

    def Close(self) -> None:
        self._next = _NOTHING
        self._row = self._kept = None


class _StrictCursor(_Cursor):
    """Refuses to show an unsigned integer as the blob that SQLite would calculate with."""

    __slots__ = ("_relation", "_unsigned")

    def __init__(self, connection: Connection, plans: list[Plan], relation: Relation, unsigned: frozenset[int]) -> None:
        super().__init__(connection, plans, relation)
        self._relation = relation
        self._unsigned = unsigned

    def Column(self, number: int) -> Any:
        value = super().Column(number)
        self.look(number, value)
        return value

    def look(self, number: int, value: Any) -> None:
        """Look at the value of a column before SQLite gets it."""
        if value.__class__ is bytes and number in self._unsigned:
            raise incalculable(self._relation, number, value)


# ------------------------------------------------------------------------------------------------ sets of rows


class _RowSets:
    """The tables of one connection that show sets of rows."""

    def __init__(self) -> None:
        self.names: dict[tuple[int, str], tuple[Relation, str]] = {}
        self.made = 0


_row_sets: WeakKeyDictionary[Any, _RowSets] = WeakKeyDictionary()


def rows_table(connection: Connection, relation: Relation, slot: str, *, plain: bool = False) -> str:
    """The name of a table that has a relation's columns and shows the rows in ``connection.rowsets[slot]``.

    Each row is a sequence of the values of all columns and, behind them, the row's handle. ``plain`` columns have no
    affinity and no collation, as SQLite's ``excluded``.
    """
    sets = _row_sets.get(connection)
    if sets is None:
        sets = _row_sets[connection] = _RowSets()
    key = (relation.id, slot)
    known = sets.names.get(key)
    if known is not None:
        if known[0] is relation:
            return known[1]
        # SQLite keeps what it has prepared for a name, so one with other columns gets another.
        connection.main.create_module(known[1], None)
    sets.made += 1
    name = f"_kvdialect_{slot}_{sets.made}"
    module = _RowsModule(connection, relation, slot, plain=plain)
    connection.main.create_module(name, module, use_bestindex_object=True, eponymous_only=True, read_only=True)
    sets.names[key] = relation, name
    return name


class _RowsModule:
    def __init__(self, connection: Connection, relation: Relation, slot: str, *, plain: bool) -> None:
        self._connection, self._slot = connection, slot
        names = ", ".join(quoted(column.name) for column in relation.columns)
        self._declaration = f"create table x({names})" if plain else _declaration(relation)
        self._width = relation.width

    def Connect(self, _db: Any, _module: str, _schema: str, _name: str, *_args: str) -> tuple[str, _RowsTable]:
        return self._declaration, _RowsTable(self._connection, self._slot, self._width)

    Create = Connect


class _RowsTable:
    def __init__(self, connection: Connection, slot: str, width: int) -> None:
        self._connection, self._slot, self._width = connection, slot, width

    def BestIndexObject(self, _offer: apsw.IndexInfo) -> bool:
        return True

    def Open(self) -> _RowsCursor:
        return _RowsCursor(self._connection.rowsets[self._slot], self._width)

    def Disconnect(self) -> None:
        pass

    Destroy = Disconnect


class _RowsCursor:
    def __init__(self, rows: Sequence[Sequence[Any]], width: int) -> None:
        self._rows, self._at, self._width = rows, 0, width

    def Filter(self, _number: int, _text: str | None, _args: tuple[Any, ...]) -> None:
        self._at = 0

    def Next(self) -> None:
        self._at += 1

    def Eof(self) -> bool:
        return self._at >= len(self._rows)

    def Column(self, number: int) -> Any:
        return self._rows[self._at][number] if number >= 0 else self.Rowid()

    def Rowid(self) -> Any:
        handle = self._rows[self._at][self._width]
        return handle if isinstance(handle, int) else self._at

    def Close(self) -> None:
        self._rows = ()
