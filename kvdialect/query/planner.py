"""The planner: of all ways to answer a query the one that is expected to cost least.

Costs are microseconds, roughly, of a library in Python over an embedded engine: what counts is how they relate. They
come from row counts and from a few reads (:mod:`kvdialect.query.statistics`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import attrs

from kvdialect import exc
from kvdialect.query.access import IndexScan, Nothing, RangeAccess, TableScan, Union
from kvdialect.query.analysis import Aggregate, Order, Output, Query
from kvdialect.query.bounds import KeyBounds, Term, term_of
from kvdialect.query.implication import implies
from kvdialect.query.nodes import (
    AccessNode,
    Aggregated,
    Distinct,
    Extremes,
    First,
    Limit,
    Node,
    Results,
    RowCount,
    Rows,
    Sort,
    Top,
)
from kvdialect.query.partial import with_values
from kvdialect.query.shapes import Shape, shapes_of
from kvdialect.query.stages import SortKeys
from kvdialect.query.statistics import Statistics
from kvdialect.schema.expressions import (
    Call,
    Column,
    Compare,
    Constant,
    Expression,
    Or,
    columns_of,
    compile_predicate,
    conjuncts,
    excludes_null,
)
from kvdialect.store.table import StoredTable
from kvdialect.store.view import ReadView

_SEEK: Final = 8.0
_ENTRY: Final = 0.4
_ENTRY_TEST: Final = 0.6
_FETCH: Final = 2.5
_RECORD: Final = 0.5
_ROW: Final = 1.2
_SORT: Final = 0.3
_MERGE: Final = 1.0
_FEW: Final = 1000
"""Plans for smaller tables are made as if they had as many rows: tables grow."""
_UNKNOWN: Final = 20
"""Below as many rows a table says nothing of what it will hold."""
_MOST_BRANCHES: Final = 32
_DEAR: Final = 5000.0
"""A plan that costs more is worth the price of looking for a better one."""


@attrs.define
class Choice:
    """One way to read the rows, and what it is expected to cost."""

    access: AccessNode
    conditions: tuple[Expression, ...]
    ordered: bool
    rows: float
    cost: float
    family: str


@attrs.frozen
class Way:
    """Which of all ways to read a table is to be taken; None: whichever is best.

    Attributes:
        family: the column family that is read: that of the table, or of an index; ``"union"``: of several indexes.
        reverse: it is read backwards.
        merged: its ranges are read side by side.
        ordered: it gives the order asked for, so that nothing is sorted.
    """

    family: str
    reverse: bool | None = None
    merged: bool | None = None
    ordered: bool | None = None

    def takes(self, choice: Choice) -> bool:
        """Whether a choice goes this way."""
        if choice.family != self.family or self.ordered not in (None, choice.ordered):
            return False
        access = choice.access
        if not isinstance(access, RangeAccess):
            return True
        return self.reverse in (None, access.reverse) and self.merged in (None, access.merged)


@attrs.frozen
class Plan:
    """A plan.

    Attributes:
        root: its last node.
        query: what it answers.
        rows: of the table, when it was made.
        settled: there was nothing to choose, so it holds whatever the numbers of rows are.
        delicate: it costs so much, and another could cost so much less under other parameters, that it is made anew
            for each execution.
        accesses: what it reads, to learn whether it was misjudged.
        choice: how the rows are read, if that is one access.
    """

    root: Node
    query: Query
    rows: int
    settled: bool
    delicate: bool
    accesses: tuple[RangeAccess, ...]
    choice: Choice | None

    def misjudged(self) -> bool:
        """Whether it has read much more than was expected."""
        return any(access.misjudged for access in self.accesses)


class Planner:
    """Plans queries on one table under the parameters of one execution.

    Args:
        table: the table.
        view: where statistics are read.
        statistics: what is known already.
        params: converted values of the parameters.
        way: take only this way; for pages that go on, and for tests.
        wanted: so many rows will probably be taken.
    """

    def __init__(
        self,
        table: StoredTable,
        view: ReadView,
        statistics: Statistics,
        params: Sequence[Any],
        *,
        way: Way | None = None,
        wanted: int | None = None,
    ) -> None:
        self.table = table
        self.view = view
        self.statistics = statistics
        self.params = params
        self.way = way
        self.wanted = wanted
        self.kinds = {field.name: field.kind for field in table.definition.fields}
        self.nullable = frozenset(field.name for field in table.definition.fields if field.nullable)
        self.rows = statistics.rows(view, table)
        self._bits: dict[Expression, list[bool]] = {}
        self.shapes = shapes_of(table)
        self._settled = True
        self._delicate = False

    def plan(self, query: Query) -> Plan:
        """The plan of a query.

        Raises:
            ArgumentError: if a way is given, and it cannot answer the query.
        """
        choice: Choice | None = None
        if query.form == "exists":
            choice = self._choose(query.where, (), (), query.limit, query.offset, first=True)
            rows = Rows(choice.access, choice.conditions, query.outputs, None, choice.rows)
            root: Node = First(self._limited(rows, query))
        elif query.aggregated:
            root = self._aggregated(query)
        else:
            root, choice = self._rows(query)
        accesses = tuple(node for node in nodes_of(root) if isinstance(node, RangeAccess))
        return Plan(root, query, self.rows, self._settled, self._delicate, accesses, choice)

    # ------------------------------------------------------------------------------------------ rows

    def _rows(self, query: Query) -> tuple[Node, Choice]:
        choice = self._choose(
            query.where,
            _needed(query.outputs),
            query.order,
            None if query.distinct else query.limit,
            None if query.distinct else query.offset,
        )
        sort = None if choice.ordered else SortKeys.of(query.order)
        node: Node = Rows(choice.access, choice.conditions, query.outputs, sort, choice.rows)
        if query.distinct:
            node = self._distinct(node, sort, query)
        return self._limited(self._sorted(node, sort, query), query), choice

    def _distinct(self, node: Node, sort: SortKeys | None, query: Query) -> Node:
        floats = any(output.domain is not None and output.domain.number == "float" for output in query.outputs)
        return Distinct(node, keyed=sort is not None, floats=floats)

    def _sorted(self, node: Node, sort: SortKeys | None, query: Query) -> Node:
        if sort is None:
            return node
        return Sort(node, sort) if query.limit is None else Top(node, sort, query.limit, query.offset)

    def _limited(self, node: Node, query: Query) -> Node:
        return node if query.limit is None and query.offset is None else Limit(node, query.limit, query.offset)

    # ------------------------------------------------------------------------------------------ aggregates

    def _aggregated(self, query: Query) -> Node:
        sort = SortKeys.of(query.order) if query.order else None
        node: Node = Results(self._groups(query), query, sort)
        if query.distinct:
            node = self._distinct(node, sort, query)
        return self._limited(self._sorted(node, sort, query), query)

    def _groups(self, query: Query) -> Node:
        countable = not query.group and all(map(self._counts_rows, query.aggregates))
        if countable and not query.where and self.table.count_key is not None and self.way is None:
            return RowCount(self.table, len(query.aggregates))
        # A count of what is never NULL needs no value, which a covering index may not have.
        aggregates = [Aggregate("count", None) if self._counts_rows(a) else a for a in query.aggregates]
        arguments = [a.argument for a in aggregates if a.argument is not None]
        needed = () if countable else tuple(n for e in (*query.group, *arguments) for n in columns_of(e))
        choice = self._choose(query.where, needed, (), None, None, counting=countable)
        if not query.group and query.aggregates and all(map(_is_extreme, query.aggregates)):
            firsts = [self._first(query.where, aggregate) for aggregate in query.aggregates]
            if all(first is not None for first in firsts):
                cost = sum(first[1] for first in firsts if first is not None)
                if cost <= choice.cost:
                    return Extremes([first[0] for first in firsts if first is not None])
        groups = 1.0 if not query.group else min(choice.rows, max(1.0, choice.rows**0.5))
        return Aggregated(
            choice.access, choice.conditions, query.group, aggregates, countable=countable, estimate=groups
        )

    def _counts_rows(self, aggregate: Aggregate) -> bool:
        """Whether an aggregate is a count of every row."""
        if aggregate.function != "count" or aggregate.distinct:
            return False
        argument = aggregate.argument
        return argument is None or (isinstance(argument, Column) and argument.name not in self.nullable)

    def _first(self, where: Sequence[Expression], aggregate: Aggregate) -> tuple[Node, float] | None:
        """The least (or greatest) value of a column as the first row in its order, if an index has it."""
        column = aggregate.argument
        assert isinstance(column, Column)
        descending = aggregate.function == "max"
        order = (Order(column, descending, nulls_first=not descending),)
        conditions = tuple(where)
        if column.name in self.nullable and not any(excludes_null(part, column.name) for part in where):
            conditions += (Compare("is not", column, Constant(None)),)
        choice = self._choose(conditions, (column.name,), order, None, None, first=True)
        if not choice.ordered:
            return None
        # Not the bare column, whose value would be that of its type instead of the one that is compared.
        outputs = (Output("value", Call("coalesce", (column,))),)
        return Rows(choice.access, choice.conditions, outputs, None, 1.0), choice.cost

    # ------------------------------------------------------------------------------------------ choosing

    def _choose(
        self,
        where: Sequence[Expression],
        needed: Sequence[str] | None,
        order: Sequence[Order],
        limit: int | None,
        offset: int | None,
        *,
        first: bool = False,
        counting: bool = False,
    ) -> Choice:
        """The cheapest way to the rows for which ``where`` holds.

        Args:
            where: the conditions.
            needed: columns that are used of them; None: the whole records.
            order: the order that they are wanted in.
            limit: number of the parameter that says how many.
            offset: number of the parameter that says how many to leave out.
            first: one is enough.
            counting: only their number is wanted.
        """
        if self.way is None and any(isinstance(part, Constant) and not part.value for part in where):
            return Choice(Nothing(self.table), (), True, 0.0, 0.0, self.table.name)
        wanted = 1.0 if first else None if self.wanted is None else float(self.wanted)
        if limit is not None and self.params[limit] is not None:
            wanted = float(self.params[limit])
        if wanted is not None and offset is not None:
            wanted += float(self.params[offset] or 0)
        asked = _Asked(tuple(where), None if needed is None else frozenset(needed), tuple(order), wanted, counting)
        choices = self._lookups(asked) if self.way is None else []
        if not choices:
            choices = [choice for shape in self.shapes for choice in self._shape_choices(shape, asked)]
            choices += self._unions(asked)
        if self.way is not None:
            choices = list(filter(self.way.takes, choices))
            if not choices:
                raise exc.ArgumentError(
                    f"{self.way.family} cannot answer this query on {self.table.name}", family=self.way.family
                )
        # Of equals the one that leaves fewer conditions to test: a partial index before a whole one.
        best = min(choices, key=lambda choice: (choice.cost, len(choice.conditions)))
        looked_up = isinstance(best.access, RangeAccess) and best.access.bounds.complete
        if len(choices) > 1 and not looked_up:
            self._settled = False
            bounded = [c for c in choices if isinstance(c.access, RangeAccess) and c.access.bounds.parts]
            self._delicate |= best.cost > _DEAR and len(bounded) > (best in bounded)
        return best

    def _lookups(self, asked: _Asked) -> list[Choice]:
        """Ways to a single record by its whole key, to which nothing need be compared."""
        terms = self._terms(asked.where)
        for shape in self.shapes:
            if not shape.partial and not shape.multi:
                bounds = shape.bounds(terms)
                if bounds.complete and bounds.single:
                    return list(self._shape_choices(shape, asked))
        return []

    def _shape_choices(self, shape: Shape, asked: _Asked) -> Iterable[Choice]:
        if shape.partial and not implies(self._bound(asked.where), shape.where):
            return
        terms = self._terms(asked.where)
        bounds = shape.bounds(terms)
        if shape.multi and not bounds.parts:
            return  # it has a row several times, or not at all
        proven = self._proven(shape, asked.where)
        left = tuple(c for c in asked.where if c not in bounds.conditions and c not in proven)
        fixed = {column for column, of in terms.items() if any(t.operator in ("=", "is") for t in of)}
        present = {name for name in self.kinds if name not in self.nullable}
        present |= {name for name in self.nullable if any(excludes_null(part, name) for part in asked.where)}
        for reverse, merged, ordered in self._directions(shape, bounds, asked.order, fixed, present):
            covering = self._covers(shape, bounds, asked, left, ordered)
            if shape.index is not None and not (bounds.parts or covering or shape.partial or (ordered and asked.order)):
                continue
            yield self._costed(
                shape, bounds, left, asked, reverse=reverse, merged=merged, ordered=ordered, covering=covering
            )

    def _directions(
        self, shape: Shape, bounds: KeyBounds, order: Sequence[Order], fixed: set[str], present: set[str]
    ) -> Iterable[tuple[bool, bool, bool]]:
        """Ways to read a shape: backwards or not, merged or not, and whether that gives the order asked for."""
        if not order:
            return [(False, False, True)]
        reverse = shape.ordered(order, fixed, present)
        if reverse is not None:
            return [(reverse, False, True)]
        if bounds.pointed and not bounds.single and not bounds.ranges(self.params).cut:
            # Each range is in the order of what follows its points; side by side they give it for all.
            reverse = shape.ordered(order, fixed, present, begin=bounds.pointed)
            if reverse is not None:
                return [(reverse, True, True), (False, False, False)]
        return [(False, False, False)]

    def _covers(
        self, shape: Shape, bounds: KeyBounds, asked: _Asked, left: Sequence[Expression], ordered: bool
    ) -> bool:
        """Whether an index's entries hold all that is needed, even should its ranges turn out not to be exact."""
        if shape.index is None or asked.needed is None:
            return False
        if shape.multi:
            return asked.counting and not left and bounds.single and bounds.pointed == len(bounds.parts)
        needed = set(asked.needed).union(*map(columns_of, left))
        if not ordered:
            needed.update(*(columns_of(element.expression) for element in asked.order))
        return needed <= shape.covered

    def _costed(
        self,
        shape: Shape,
        bounds: KeyBounds,
        left: tuple[Expression, ...],
        asked: _Asked,
        *,
        reverse: bool,
        merged: bool,
        ordered: bool,
        covering: bool,
    ) -> Choice:
        ranges = bounds.ranges(self.params)
        share = self._selectivity(conjuncts(shape.where)) if shape.where is not None else 1.0
        most = None if shape.multi else self.rows * share
        entries = self.statistics.entries(
            self.view, shape.family, ranges, most, lambda: self.rows * self._selectivity(bounds.conditions)
        )
        on_entry: tuple[Expression, ...] = ()
        on_row = left
        if shape.index is not None and not covering and not shape.multi:
            on_entry = tuple(part for part in left if set(columns_of(part)) <= shape.covered)
            on_row = tuple(part for part in left if part not in on_entry)
        if not ranges.exact:
            on_row = (*on_row, *bounds.conditions)
        rows = entries * self._selectivity((*on_entry, *on_row))
        scaled = self._scaled(entries, bounds, shape)
        read = scaled
        if asked.wanted is not None and ordered:
            expected = max(scaled * self._selectivity((*on_entry, *on_row)), 1e-9)
            read = min(scaled, max(scaled * asked.wanted / expected, asked.wanted))
        cost = _SEEK * max(1, min(len(ranges.ranges), 50 if ranges.points else 10**6))
        used = asked.needed is None or bool(asked.needed)
        if shape.index is None:
            cost += read * (_RECORD + (_ROW if on_row or used else 0.0))
        elif covering:
            cost += read * (_ENTRY + (_ENTRY_TEST if on_row or used else 0.0))
        else:
            fetched = read * self._selectivity(on_entry)
            cost += read * (_ENTRY + (_ENTRY_TEST if on_entry else 0.0))
            if on_row or used or not asked.counting:
                cost += fetched * (_FETCH + _ROW)
        cost += read * _MERGE if merged else 0.0
        if not ordered:
            sorted_rows = scaled * self._selectivity((*on_entry, *on_row))
            cost += sorted_rows * (_ROW + _SORT * math.log2(sorted_rows + 2))
        access: AccessNode
        if shape.index is None:
            access = TableScan(self.table, bounds, reverse=reverse, merged=merged, entries=entries, estimate=entries)
        else:
            access = IndexScan(
                self.table, shape.index, bounds, on_entry,
                covering=covering, merged=merged, reverse=reverse, entries=entries,
                estimate=entries * self._selectivity(on_entry),
            )  # fmt: skip
        if ordered and isinstance(access, RangeAccess):
            access.order = asked.order
        conditions = tuple(part for part in left if part not in on_entry)
        # The ranges may be inexact under other parameters: then what they take care of is tested on rows.
        return Choice(access, conditions, ordered or not asked.order, rows, cost, shape.family)

    def _scaled(self, entries: float, bounds: KeyBounds, shape: Shape) -> float:
        """Entries as they will be when the table has grown."""
        if bounds.complete:
            return entries
        if self.rows >= _FEW:
            return entries
        if self.rows >= _UNKNOWN:
            return max(entries, 1.0) * _FEW / self.rows
        span = len(bounds.parts) - bounds.pointed
        share = 0.1**bounds.pointed * 0.3**span * (0.5 if shape.partial else 1.0)
        if shape.index is not None and not shape.index.keyed and bounds.pointed == shape.whole_key:
            return 1.0
        return max(1.0, _FEW * share)

    # ------------------------------------------------------------------------------------------ unions

    def _unions(self, asked: _Asked) -> list[Choice]:
        """For each OR a union of scans, one for each of its branches, if each has an index."""
        unions = []
        for condition in asked.where:
            if not isinstance(condition, Or) or len(condition.parts) > _MOST_BRANCHES:
                continue
            others = tuple(part for part in asked.where if part is not condition)
            scans: list[RangeAccess] = []
            consumed = True
            cost = 0.0
            entries = 0.0
            for branch in condition.parts:
                best = self._branch(others, branch)
                if best is None:
                    break
                assert isinstance(best.access, RangeAccess)
                scans.append(best.access)
                consumed = consumed and not set(conjuncts(branch)) & set(best.conditions)
                cost += best.cost
                entries += best.rows
            else:
                left = others if consumed else asked.where
                # The scans may test what is left as well; testing it again does no harm.
                access = Union(self.table, scans, (condition,), entries)
                rows = entries * self._selectivity(left)
                if asked.order:
                    cost += rows * (_ROW + _SORT * math.log2(rows + 2))
                unions.append(Choice(access, left, not asked.order, rows, cost, "union"))
        return unions

    def _branch(self, others: tuple[Expression, ...], branch: Expression) -> Choice | None:
        """The cheapest scan for one branch of an OR, if it is more than a scan of everything."""
        asked = _Asked((*conjuncts(branch), *others), None, (), None, False)
        choices = [
            choice
            for shape in self.shapes
            for choice in self._shape_choices(shape, asked)
            if isinstance(choice.access, RangeAccess) and (choice.access.bounds.parts or shape.partial)
        ]
        return min(choices, key=lambda choice: choice.cost, default=None)

    # ------------------------------------------------------------------------------------------ conditions

    def _terms(self, where: Sequence[Expression]) -> dict[str, list[Term]]:
        terms: dict[str, list[Term]] = {}
        for condition in where:
            term = term_of(condition, self.kinds)
            if term is not None:
                terms.setdefault(term.column, []).append(term)
        return terms

    def _bound(self, where: Sequence[Expression]) -> tuple[Expression, ...]:
        """Conditions with the values of their parameters in them, as those of partial indexes are."""
        return tuple(with_values(part, self.params) for part in where)

    def _proven(self, shape: Shape, where: Sequence[Expression]) -> frozenset[Expression]:
        """The conditions that hold for every row of a partial index."""
        if shape.where is None:
            return frozenset()
        known = conjuncts(shape.where)
        bound = self._bound(where)
        return frozenset(part for part, value in zip(where, bound, strict=True) if implies(known, value))

    def _selectivity(self, conditions: Sequence[Expression]) -> float:
        """The share of rows for which conditions hold."""
        if not conditions:
            return 1.0
        bits = [self._tested(condition) for condition in conditions]
        if not bits[0]:
            return 0.3 ** len(conditions)
        hits = sum(map(all, zip(*bits, strict=True)))
        return (hits + 0.5) / (len(bits[0]) + 1)

    def _tested(self, condition: Expression) -> list[bool]:
        known = self._bits.get(condition)
        if known is None:
            test = compile_predicate(condition, self.table.codec.names, self.nullable, kinds=self.kinds)
            params = self.params
            known = self.statistics.tested(self.view, self.table, self.rows, lambda row: test(row, params))
            self._bits[condition] = known
        return known


@attrs.frozen
class _Asked:
    """What is asked of an access."""

    where: tuple[Expression, ...]
    needed: frozenset[str] | None
    order: tuple[Order, ...]
    wanted: float | None
    counting: bool


def _needed(outputs: Sequence[Output]) -> tuple[str, ...] | None:
    if any(output.expression is None for output in outputs):
        return None
    return tuple(n for output in outputs if output.expression is not None for n in columns_of(output.expression))


def _is_extreme(aggregate: Aggregate) -> bool:
    return aggregate.function in ("min", "max") and isinstance(aggregate.argument, Column)


def nodes_of(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for child in node.children:
        yield from nodes_of(child)
