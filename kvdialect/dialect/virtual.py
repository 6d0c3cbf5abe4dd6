"""Virtual tables: how SQLite reads and changes the rows of a store.

One module of SQLite's serves all tables of a connection. Its tables offer their :mod:`paths <.relations>` to SQLite's
planner, which asks for each statement what a set of constraints would cost and gets a :class:`Plan` for the best path;
cursors run the plan. A table with rowids is one for SQLite too; others are WITHOUT ROWID, with a hidden column that
holds the key of the row, since a writable virtual table is told apart by one column.
"""

# ruff: noqa: N802 - the names of methods are SQLite's

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, starmap
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import apsw
import attrs

from kvdialect.codec.dynamic import encode_value
from kvdialect.dialect.functions import incalculable, wide_positions
from kvdialect.dialect.parts import UNBOUNDED, RowidPart, Span
from kvdialect.dialect.relations import IS_NULL, SIGN, Path, Relation
from kvdialect.dialect.tokens import quoted
from kvdialect.schema.rows import Pair
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

MODULE: Final = "kvdialect"

_EQ: Final = apsw.SQLITE_INDEX_CONSTRAINT_EQ
_IS: Final = apsw.SQLITE_INDEX_CONSTRAINT_IS
_ISNULL: Final = apsw.SQLITE_INDEX_CONSTRAINT_ISNULL
_NOT_NULL: Final = apsw.SQLITE_INDEX_CONSTRAINT_ISNOTNULL
_LIMIT: Final = apsw.SQLITE_INDEX_CONSTRAINT_LIMIT
_LOWS: Final = {apsw.SQLITE_INDEX_CONSTRAINT_GT: False, apsw.SQLITE_INDEX_CONSTRAINT_GE: True}
_HIGHS: Final = {apsw.SQLITE_INDEX_CONSTRAINT_LT: False, apsw.SQLITE_INDEX_CONSTRAINT_LE: True}
_POINTS: Final = frozenset((_EQ, _IS, _ISNULL))
_USED: Final = _POINTS | _LOWS.keys() | _HIGHS.keys() | {_NOT_NULL}
_NULLABLE: Final = frozenset((_IS, _ISNULL))

_COLUMNS_TOLD: Final = 63
"""SQLite tells the use of columns one by one up to here, and of all further ones together."""

_LARGEST_CHUNK: Final = 512

_ASKED: Final = 100
"""After so many rows by their rowids a cursor considers reading the whole table."""

_WORTH: Final = 10
"""Rows of a table that are read at once, for each that was asked for: a scan costs about a tenth for each."""

_KEPT: Final = 16 << 20
"""Bytes of stored rows that a cursor keeps at most."""

_NOTHING: Final[Iterator[Any]] = iter(())


def register(connection: Connection) -> None:
    """Give the database ``connection.main`` the module that its virtual tables are made with."""
    connection.main.create_module(MODULE, _Module(connection), use_bestindex_object=True, use_no_change=True)


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
    """SQLite's view of the module."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def Create(self, db: Any, _module: str, _schema: str, _name: str, number: str) -> tuple[str, _Table]:
        db.vtab_config(apsw.SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)
        table = _Table(self._connection, int(number))
        relation = table.relation
        if relation.rowid:
            return _declaration(relation), table
        hidden = "_kvdialect_key"
        while hidden in relation.positions:
            hidden += "_"
        return f"{_declaration(relation, f'{hidden} blob hidden primary key')} without rowid", table

    Connect = Create


@attrs.frozen(eq=False)
class Plan:
    """What a cursor does for one set of constraints.

    Attributes:
        relation: the table.
        path: the path that it reads.
        equals: operators of the constraints on the path's first columns; their values come first.
        low: whether the lower bound on the next column is inclusive; None: there is none.
        high: the same of the upper bound; its value comes last.
        not_null: the next column is not NULL.
        point: there is one row at most.
        reverse: from the last row to the first.
        sorted_by: how rows are sorted where the path's order does not hold, as a widened range has others among them:
            ``(position, descending)``.
        content: ``"row"``: the columns; ``"key"``: nothing but the key; ``"both"``.
    """

    relation: Relation
    path: Path
    equals: tuple[int, ...]
    low: bool | None
    high: bool | None
    not_null: bool
    point: bool
    reverse: bool
    sorted_by: tuple[tuple[int, bool], ...]
    content: str

    @property
    def by_rowid(self) -> bool:
        """The one row with a rowid, of an SQL table."""
        return self.point and self.relation.rowid and self.path.primary and self.content == "row"

    @property
    def shape(self) -> tuple[Any, ...]:
        return (self.relation, self.path, *attrs.astuple(self, recurse=False)[2:])

    def rows(self, txn: Transaction, args: Sequence[Any]) -> Iterator[Any]:
        """The rows for these values of the constraints."""
        count = len(self.equals)
        values: list[Any] = list(args[:count])
        for number, operator in enumerate(self.equals):
            if operator == _ISNULL or (operator == _IS and values[number] is None):
                values[number] = IS_NULL
        path = self.path
        if self.point and not any(map(_ambiguous, path.parts, values)):
            point = path.point(values)
            pair = None if point is None else path.at(txn, point)
            return iter(()) if pair is None else self._shown(iter((pair,)))
        spans, widened = self._spans(values, args[count:])
        if not spans:
            return iter(())
        reverse = self.reverse
        if self.content == "key" and not (widened and self.sorted_by):
            if len(spans) == 1:
                return path.keys(txn, *spans[0], reverse)
            return chain.from_iterable(
                path.keys(txn, start, stop, reverse) for start, stop in (spans[::-1] if reverse else spans)
            )
        if len(spans) == 1:
            pairs = path.rows(txn, *spans[0], reverse)
        else:
            pairs = chain.from_iterable(
                path.rows(txn, start, stop, reverse) for start, stop in (spans[::-1] if reverse else spans)
            )
        if widened and self.sorted_by:
            pairs = iter(_resorted(self.relation, pairs, self.sorted_by))
        return self._shown(pairs)

    def _spans(self, values: list[Any], bounds: Sequence[Any]) -> tuple[list[Span], bool]:
        if self.low is None and self.high is None:
            return self.path.ranges(values, not_null=self.not_null)
        low = UNBOUNDED if self.low is None else bounds[0]
        high = UNBOUNDED if self.high is None else bounds[-1]
        return self.path.ranges(values, low, high, self.low or False, self.high or False)

    def _shown(self, pairs: Iterator[Pair]) -> Iterator[Any]:
        if self.content == "row":
            return starmap(self.relation.decode, pairs)
        if self.content == "key":
            return (key for key, _ in pairs)
        decode, width = self.relation.decode, self.relation.width
        return ((*decode(key, raw)[:width], key) for key, raw in pairs)


def _ambiguous(part: Any, value: Any) -> bool:
    return value is not None and value is not IS_NULL and part.ambiguous(value)


def _resorted(relation: Relation, pairs: Iterable[Pair], keys: Sequence[tuple[int, bool]]) -> list[Pair]:
    """Rows in the order of some columns; a rowid without a column is at position -1."""
    listed = [(relation.decode(key, raw), (key, raw)) for key, raw in pairs]
    for position, descending in reversed(keys):
        collation = "BINARY" if position < 0 else relation.columns[position].collation
        listed.sort(key=lambda item, at=position, by=collation: encode_value(item[0][at], by), reverse=descending)  # type: ignore[misc]
    return [pair for _, pair in listed]


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

    def BestIndexObject(self, offer: apsw.IndexInfo) -> bool:
        relation = self.relation
        connection = self._connection
        choice = _Choice(relation, offer, connection.row_count(relation))
        plan = choice.best()
        shape = plan.shape
        number = self._numbers.get(shape)
        if number is None:
            number = self._numbers[shape] = len(self._plans)
            self._plans.append(plan)
        offer.idxNum = number
        return True

    # ------------------------------------------------------------------------------------------ writes

    def UpdateInsertRow(self, rowid: int | None, fields: tuple[Any, ...]) -> int:
        relation = self.relation
        values = fields[: relation.width]
        return self._connection.writer.insert(relation, values, rowid) or 0

    def UpdateDeleteRow(self, handle: Any) -> None:
        relation = self.relation
        self._connection.writer.delete(relation, relation.key_of_handle(handle))

    def UpdateChangeRow(self, handle: Any, new: Any, fields: tuple[Any, ...]) -> None:
        relation, connection = self.relation, self._connection
        values = list(fields[: relation.width])
        key = relation.key_of_handle(handle)
        if apsw.no_change in values:
            # As the row is now: a foreign key's action may have changed it since SQLite read it.
            now = relation.get(connection.txn, key)
            if now is None:
                return
            values = [now[at] if value is apsw.no_change else value for at, value in enumerate(values)]
        conflict = connection.main.vtab_on_conflict()
        if not relation.rowid or new == handle:
            connection.writer.update(relation, key, values, conflict)
            return
        if relation.alias is not None:
            values[relation.alias] = new
        connection.writer.update(relation, key, values, conflict, new)


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
        self._next = rows = plan.rows(self._connection.txn, args)
        self._row = next(rows, None)

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
        if value.__class__ is bytes and number in self._unsigned:
            raise incalculable(self._relation, number, value)
        return value


# ------------------------------------------------------------------------------------------------ choosing a path


@attrs.frozen
class _Offer:
    """One way to meet the constraints, and what it costs."""

    path: Path
    equals: tuple[tuple[int, int], ...]  # (operator, number of the constraint)
    low: tuple[int, int] | None
    high: tuple[int, int] | None
    not_null: bool
    point: bool
    ordered: bool
    reverse: bool
    rows: float
    cost: float
    score: float


class _Choice:
    """Chooses the path for the constraints, the order and the columns that SQLite asks for."""

    def __init__(self, relation: Relation, offer: apsw.IndexInfo, count: int) -> None:
        self._relation = relation
        self._offer = offer
        self._count = max(float(count), 1.0)
        alias = -1 if relation.alias is None else relation.alias
        self._constraints: dict[int, list[tuple[int, int, str]]] = {}
        self._limited = False
        for number in range(offer.nConstraint):
            operator = offer.get_aConstraint_op(number)
            if operator == _LIMIT:
                self._limited = True
            elif operator in _USED and offer.get_aConstraint_usable(number):
                position = offer.get_aConstraint_iColumn(number)
                if position < relation.width:
                    collation = offer.get_aConstraint_collation(number)
                    where = (operator, number, collation)
                    self._constraints.setdefault(alias if position < 0 else position, []).append(where)
        self._order = []
        for number in range(offer.nOrderBy):
            position = offer.get_aOrderBy_iColumn(number)
            self._order.append((alias if position < 0 else position, offer.get_aOrderBy_desc(number)))

    def best(self) -> Plan:
        """The plan of the best path, which is told to SQLite too."""
        offers = [self._considered(path) for path in self._relation.paths if path.where is None or self._implied(path)]
        return self._taken(min(offers, key=lambda offer: offer.score))

    def _implied(self, path: Path) -> bool:
        """Whether the constraints let only rows through that a partial index has."""
        for test in path.where or ():
            for operator, number, _ in self._constraints.get(test.position, ()):
                if test.operator == "is null":
                    met = operator == _ISNULL or (operator == _IS and self._literal(number) == (None,))
                elif test.operator == "not null":
                    met = operator not in _NULLABLE
                else:
                    met = operator == _EQ and self._literal(number) == (test.value,)
                if met:
                    break
            else:
                return False
        return True

    def _literal(self, number: int) -> tuple[Any, ...]:
        """What a constraint compares with, if that stands in the statement."""
        try:
            return (self._offer.get_aConstraint_rhs(number),)
        except apsw.NotFoundError:
            return ()

    def _considered(self, path: Path) -> _Offer:
        equals: list[tuple[int, int]] = []
        low = high = None
        not_null = False
        for part in path.parts:
            fitting = [
                (operator, number)
                for operator, number, collation in self._constraints.get(part.position, ())
                if collation == part.collation or isinstance(part, RowidPart)
            ]
            pointed = next((each for each in fitting if each[0] in _POINTS), None)
            if pointed is not None:
                equals.append(pointed)
                continue
            for each in fitting:
                if each[0] in _LOWS:
                    low = low or each
                elif each[0] in _HIGHS:
                    high = high or each
                else:
                    not_null = True
            break
        full = path.unique is not None and len(equals) >= path.unique
        if full:
            assert path.unique is not None
            equals, low, high, not_null = equals[: path.unique], None, None, False
        point = full and not any(operator in _NULLABLE for operator, _ in equals)
        rows = self._estimated(len(equals), point, low, high)
        cost = 4.0 + rows * (1.0 if path.primary else 2.5)
        ordered, reverse = self._ordered(path, len(equals), point)
        score = cost
        if self._order and not ordered:
            # A sort costs little next to reading, but with LIMIT it reads all rows for a few.
            score += rows * (3.0 if self._limited else 0.5)
        elif ordered and self._limited and not equals and low is None and high is None:
            score = cost / 4
        return _Offer(path, tuple(equals), low, high, not_null, point, ordered, reverse, rows, cost, score)

    def _estimated(self, equal: int, point: bool, low: Any, high: Any) -> float:
        # As SQLite does without statistics: ten rows for each value of an index's first column, fewer with more.
        if point:
            rows = 1.0
        else:
            rows = min(self._count, float(max(11 - equal, 2))) if equal else self._count
            rows /= (4.0 if low else 1.0) * (4.0 if high else 1.0)
        return max(1.0, min(rows, self._count))

    def _ordered(self, path: Path, equal: int, point: bool) -> tuple[bool, bool]:
        """Whether the path has the rows in the order asked for, and whether it must be read backwards for that."""
        if not self._order:
            return False, False
        fixed = set(path.positions[:equal])
        if point:
            return True, False
        wanted = [each for each in self._order if each[0] not in fixed]
        given = [each for each in path.order if each[0] not in fixed]
        columns = self._relation.columns
        if self._offer.distinct in (1, 2):
            # Equal rows need to come together, in whatever order.
            leading = {position for position, collation, _ in given[: len(wanted)]
                       if position < 0 or collation == columns[position].collation}  # fmt: skip
            return leading == {position for position, _ in wanted}, False
        reverse: bool | None = None
        for number, (position, descending) in enumerate(wanted):
            if number >= len(given):
                # What is equal in the whole key is one row.
                return path.primary and len(path.order) >= len(path.parts), bool(reverse)
            at, collation, turned = given[number]
            if at != position or (at >= 0 and collation != columns[at].collation and at != self._relation.alias):
                return False, False
            if reverse is None:
                reverse = descending != turned
            elif reverse != (descending != turned):
                return False, False
        return True, bool(reverse)

    def _taken(self, best: _Offer) -> Plan:
        offer, path = self._offer, best.path
        argument = 0
        exact = True
        for number, (operator, constraint) in enumerate(best.equals):
            argument += 1
            offer.set_aConstraintUsage_argvIndex(constraint, argument)
            # A range that is widened at one column says nothing of those behind it.
            exact = exact and self._exact(path, number, operator, constraint)
            offer.set_aConstraintUsage_omit(constraint, exact)
        if best.point and exact:
            offer.idxFlags = apsw.SQLITE_INDEX_SCAN_UNIQUE  # then SQLite takes the first row, and tests no other
        bounds = [bound for bound in (best.low, best.high) if bound is not None]
        exact = exact and all(self._exact(path, len(best.equals), *bound) for bound in bounds)
        for _, constraint in bounds:
            argument += 1
            offer.set_aConstraintUsage_argvIndex(constraint, argument)
            offer.set_aConstraintUsage_omit(constraint, exact)
        offer.orderByConsumed = best.ordered
        offer.estimatedCost = best.cost
        offer.estimatedRows = math.ceil(best.rows)
        return Plan(
            relation=self._relation,
            path=path,
            equals=tuple(operator for operator, _ in best.equals),
            low=None if best.low is None else _LOWS[best.low[0]],
            high=None if best.high is None else _HIGHS[best.high[0]],
            not_null=best.not_null,
            point=best.point,
            reverse=best.reverse,
            sorted_by=tuple(self._order) if best.ordered else (),
            content=self._content(),
        )

    def _exact(self, path: Path, number: int, operator: int, constraint: int) -> bool:
        """Whether SQLite need not test a constraint again."""
        part = path.parts[number]
        if operator not in _POINTS and not part.exact:
            return False
        if part.affinity not in ("TEXT", "BLOB") or operator == _ISNULL:
            return True
        # Text compared with a number depends on where the number comes from.
        literal = self._literal(constraint)
        return bool(literal) and isinstance(literal[0], str | bytes)

    def _content(self) -> str:
        used = self._offer.colUsed
        width = self._relation.width
        if not self._relation.rowid and (width in used or (width >= _COLUMNS_TOLD and _COLUMNS_TOLD in used)):
            return "both"
        return "row" if used else "key"


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
