"""Access paths: which key or index a virtual table is read by, for what SQLite asks of it.

SQLite's planner describes a statement's use of one table as a set of constraints, an order and the columns it needs
(https://www.sqlite.org/vtab.html#the_xbestindex_method). :func:`choose` weighs the table's :mod:`paths <.relations>`
and gives the :class:`Plan` of the best, which cursors then run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import chain, starmap
from typing import Any, Final

import apsw
import attrs

from kvdialect.codec.dynamic import encode_value
from kvdialect.dialect.parts import UNBOUNDED, RowidPart, Span
from kvdialect.dialect.relations import IS_NULL, Path, Relation
from kvdialect.schema.rows import Pair
from kvdialect.store.transaction import Transaction

_EQ: Final = apsw.SQLITE_INDEX_CONSTRAINT_EQ
_IS: Final = apsw.SQLITE_INDEX_CONSTRAINT_IS
_ISNULL: Final = apsw.SQLITE_INDEX_CONSTRAINT_ISNULL
_NOT_NULL: Final = apsw.SQLITE_INDEX_CONSTRAINT_ISNOTNULL
_LIMIT: Final = apsw.SQLITE_INDEX_CONSTRAINT_LIMIT
_LOWS: Final = {apsw.SQLITE_INDEX_CONSTRAINT_GT: False, apsw.SQLITE_INDEX_CONSTRAINT_GE: True}
_HIGHS: Final = {apsw.SQLITE_INDEX_CONSTRAINT_LT: False, apsw.SQLITE_INDEX_CONSTRAINT_LE: True}
_POINTS: Final = frozenset((_EQ, _IS, _ISNULL))
_NULLABLE: Final = frozenset((_IS, _ISNULL))

COMPARISONS: Final = _POINTS | _LOWS.keys() | _HIGHS.keys() | {_NOT_NULL}
"""The operators of constraints that a path can meet."""

_MATCHED: Final = 64
"""Rows of a table from which they are looked up by columns without a path."""

_FIRST_PART: Final = 1 / 64
"""The part of a table that a statement with ORDER BY and LIMIT reads in their order, until it has enough."""

COLUMNS_TOLD: Final = 63
"""SQLite tells the use of columns one by one up to here, and of all further ones together."""


@attrs.frozen(eq=False)
class Plan:
    """What a cursor does for one set of constraints.

    Attributes:
        relation: the table.
        path: the path that it reads.
        equals: operators of the constraints on the path's first columns; their values come first.
        low: whether the lower bound on the next column is inclusive; None: there is none.
        high: the same of the upper bound; its value comes last.
        stated: the upper bound stands in the statement.
        not_null: the next column is not NULL.
        point: there is one row at most.
        reverse: from the last row to the first.
        sorted_by: how rows are sorted where the path's order does not hold, as a widened range has others among them:
            ``(position, descending)``.
        content: ``"row"``: the columns; ``"key"``: nothing but the key; ``"both"``.
        matched: columns without a path of their own that are to equal the values, see :mod:`.matching`: their
            positions, each with whether NULL equals NULL.
    """

    relation: Relation
    path: Path
    equals: tuple[int, ...]
    low: bool | None
    high: bool | None
    stated: bool
    not_null: bool
    point: bool
    reverse: bool
    sorted_by: tuple[tuple[int, bool], ...]
    content: str
    matched: tuple[tuple[int, bool], ...] = ()

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

    def pairs(self, txn: Transaction) -> Iterator[Pair]:
        """All rows of the table, as they are stored."""
        span = self.path.range()
        assert span is not None, "all rows are a range"
        return self.path.rows(txn, *span)

    def shown_row(self, row: Any, key: bytes) -> Any:
        """A decoded row as a cursor has it."""
        if self.content == "row":
            return row
        return key if self.content == "key" else (*row[: self.relation.width], key)

    def _spans(self, values: list[Any], bounds: Sequence[Any]) -> tuple[list[Span], bool]:
        if self.low is None and self.high is None:
            return self.path.ranges(values, not_null=self.not_null)
        low = UNBOUNDED if self.low is None else bounds[0]
        high = UNBOUNDED if self.high is None else bounds[-1]
        return self.path.ranges(values, low, high, self.low or False, self.high or False, stated=self.stated)

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


# ------------------------------------------------------------------------------------------------ choosing a path


@attrs.frozen(eq=False)
class Request:
    """What SQLite asks for, when it plans a statement.

    Attributes:
        constraints: ``(position, operator, usable, collation)``; the position is -1 for the rowid.
        order: ``(position, descending)``.
        distinct: what the order is for, see ``sqlite3_vtab_distinct``.
        columns: positions of the columns that the statement uses; from 63 on all of them together, as 63.
        literal: gives the value that the constraint of a number compares with, as a tuple, if the statement has it.
        first_rows: the statement has ORDER BY and LIMIT, of which SQLite does not always tell.
        alone: it reads no other table.
    """

    constraints: Sequence[tuple[int, int, bool, str]]
    order: Sequence[tuple[int, bool]]
    distinct: int
    columns: Container[int]
    literal: Callable[[int], tuple[Any, ...]]
    first_rows: bool = False
    alone: bool = False


@attrs.frozen(eq=False)
class Answer:
    """What SQLite is told of a plan.

    Attributes:
        used: the constraints whose values the plan gets, in their order: ``(number, SQLite need not test it)``.
        one_row: there is one row at most.
        ordered: the rows come in the order asked for.
        cost: of the plan, in rows read.
        rows: how many there will be, about.
    """

    used: tuple[tuple[int, bool], ...]
    one_row: bool
    ordered: bool
    cost: float
    rows: int


def choose(relation: Relation, request: Request, count: int) -> tuple[Plan, Answer]:
    """The best plan for what SQLite asks of a table with about ``count`` rows."""
    return _Choice(relation, request, count).best()


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
    matched: tuple[tuple[int, bool], ...] = ()


class _Choice:
    """Chooses the path for the constraints, the order and the columns that SQLite asks for."""

    def __init__(self, relation: Relation, request: Request, count: int) -> None:
        self._relation = relation
        self._request = request
        self._count = max(float(count), 1.0)
        alias = -1 if relation.alias is None else relation.alias
        self._constraints: dict[int, list[tuple[int, int, str]]] = {}
        self._limited = False
        for number, (position, operator, usable, collation) in enumerate(request.constraints):
            if operator == _LIMIT:
                self._limited = True
            elif usable and operator in COMPARISONS and position < relation.width:
                where = (operator, number, collation)
                self._constraints.setdefault(alias if position < 0 else position, []).append(where)
        self._order = [(alias if position < 0 else position, descending) for position, descending in request.order]
        self._first_rows = bool(self._order) and (self._limited or request.first_rows)

    def best(self) -> tuple[Plan, Answer]:
        """The plan of the best path, and what SQLite is told of it."""
        offers = [self._considered(path) for path in self._relation.paths if path.where is None or self._implied(path)]
        matched = self._matched()
        return self._taken(min([*offers, *matched], key=lambda offer: offer.score))

    def _matched(self) -> list[_Offer]:
        """Looking rows up by columns without a path: worth it where a join asks again and again."""
        if self._count < _MATCHED or (self._first_rows and (self._limited or self._request.alone)):
            return []
        asked = {
            position: (operator, number)
            for position, constraints in self._constraints.items()
            for operator, number, _ in constraints
            if operator in (_EQ, _IS) and position != self._relation.alias and position >= 0
        }
        if all(self._literal(number) for _, number in asked.values()):
            return []  # as of no columns: what the statement states is asked for once
        rows = self._estimated(len(asked), False, None, None)
        cost = 20.0 + rows * 2.5
        return [
            _Offer(
                self._relation.paths[0], tuple(asked.values()), None, None, False, False, False, False, rows, cost,
                cost + (rows * 0.5 if self._order else 0.0),
                tuple((position, operator == _IS) for position, (operator, _) in asked.items()),
            )
        ]  # fmt: skip

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
        return self._request.literal(number)

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
            score += rows * (3.0 if self._first_rows else 0.5)
        elif ordered and self._first_rows and not equals and low is None and high is None:
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
        if self._request.distinct in (1, 2):
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

    def _taken(self, best: _Offer) -> tuple[Plan, Answer]:
        path = best.path
        used: list[tuple[int, bool]] = []
        if best.matched:
            answer = Answer(
                tuple((constraint, False) for _, constraint in best.equals), False, False, best.cost,
                math.ceil(best.rows),
            )  # fmt: skip
            plan = Plan(
                self._relation, path, (), None, None, False, False, False, False, (), self._content(), best.matched
            )
            return plan, answer
        exact = True
        for number, (operator, constraint) in enumerate(best.equals):
            # A range that is widened at one column says nothing of those behind it.
            exact = exact and self._exact(path, number, operator, constraint)
            used.append((constraint, exact))
        one_row = best.point and exact
        bounds = [bound for bound in (best.low, best.high) if bound is not None]
        exact = exact and all(self._exact(path, len(best.equals), *bound) for bound in bounds)
        used += [(constraint, exact) for _, constraint in bounds]
        # Of rows that come in the order asked for only the first are read.
        part = _FIRST_PART if self._first_rows and best.ordered and not used else 1.0
        answer = Answer(tuple(used), one_row, best.ordered, best.cost * part, math.ceil(best.rows * part))
        plan = Plan(
            relation=self._relation,
            path=path,
            equals=tuple(operator for operator, _ in best.equals),
            low=None if best.low is None else _LOWS[best.low[0]],
            high=None if best.high is None else _HIGHS[best.high[0]],
            stated=best.high is not None and bool(self._literal(best.high[1])),
            not_null=best.not_null,
            point=best.point,
            reverse=best.reverse,
            sorted_by=tuple(self._order) if best.ordered else (),
            content=self._content(),
        )
        return plan, answer

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
        used = self._request.columns
        width = self._relation.width
        if not self._relation.rowid and (width in used or (width >= COLUMNS_TOLD and COLUMNS_TOLD in used)):
            return "both"
        return "row" if any(at in used for at in range(COLUMNS_TOLD + 1)) else "key"
