"""From statements to prepared queries: analysed once per structure, planned once, executed often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import sqlalchemy as sa

from kvdialect.query.analysis import Query, analyse
from kvdialect.query.explain import Explanation, explain
from kvdialect.query.nodes import Run
from kvdialect.query.partial import partial_indexes, partial_uses
from kvdialect.query.planner import Plan, Planner, Way
from kvdialect.query.statement import Reading, read_statement
from kvdialect.query.statistics import Statistics, changed_a_lot
from kvdialect.schema.clauses import Structure
from kvdialect.schema.definition import IndexDefinition
from kvdialect.schema.functions import Choices
from kvdialect.storage.contract import Pair
from kvdialect.store.table import StoredTable
from kvdialect.store.view import ReadView

Load = Callable[[list[Pair]], Sequence[Any]]
"""Makes record objects of their keys and values, in order."""

_MOST_PLANS: Final = 1000
_MOST_VARIANTS: Final = 32


@attrs.define
class _Cached:
    """What is known of statements of one structure.

    Attributes:
        partial: the partial indexes over columns that it has conditions on.
    """

    table: StoredTable
    query: Query
    partial: tuple[IndexDefinition, ...]
    plans: dict[Any, Plan] = attrs.field(factory=dict)


class QueryPlanner:
    """Prepares the statements of all sessions of an engine, and keeps their plans.

    Args:
        resolve: gives the stored table of a declared one, as the catalog has it now.

    Attributes:
        statistics: what is known of the tables' contents.
    """

    def __init__(self, resolve: Callable[[sa.Table], StoredTable]) -> None:
        self._resolve = resolve
        self.statistics = Statistics()
        self._cache: dict[tuple[str, Structure], _Cached] = {}

    def prepare(
        self,
        statement: Any,
        view: ReadView,
        parameters: Mapping[str, Any] | None = None,
        *,
        using: str | None = None,
        columns: bool = False,
    ) -> Prepared:
        """Prepare a ``select()``, or the WHERE part of an ``update()`` or ``delete()``.

        Args:
            statement: the statement.
            view: where statistics are read, if a plan has to be made.
            parameters: values of its parameters by name.
            using: read only this column family, that of the table or of an index (``"union"``: several indexes).
            columns: select the columns of a whole record instead of it.

        Raises:
            NotSupportedError: for what only the SQL door does, by name.
            DataError: for a parameter that compares with nothing in its column.
            ArgumentError: if a parameter has no value, or ``using`` cannot answer the statement.
        """
        reading = read_statement(statement)
        if columns:
            reading = reading.of_columns()
        table = self._resolve(reading.table)
        cached = self._analysed(reading, table)
        query = cached.query
        params = query.convert(reading.values(parameters))
        plan = self._planned(cached, view, params, None if using is None else Way(using), None)
        return Prepared(self, reading, cached, plan, params)

    def replan(
        self, prepared: Prepared, view: ReadView, *, way: Way | None = None, wanted: int | None = None
    ) -> Prepared:
        """The same statement with a plan that goes a given way, or for about so many rows.

        Raises:
            ArgumentError: if that way does not lead to them.
        """
        plan = self._planned(prepared.cached, view, prepared.params, way, wanted)
        return Prepared(self, prepared.reading, prepared.cached, plan, prepared.params)

    def _planned(
        self, cached: _Cached, view: ReadView, params: Sequence[Any], way: Way | None, wanted: int | None
    ) -> Plan:
        """The plan that is known, or a new one."""
        variant = _variant(cached, params), way, None if wanted is None else wanted.bit_length() // 3
        plan = cached.plans.get(variant)
        if plan is None or self._outdated(plan, view, cached.table):
            plan = Planner(cached.table, view, self.statistics, params, way=way, wanted=wanted).plan(cached.query)
            if len(cached.plans) >= _MOST_VARIANTS:
                cached.plans.clear()
            cached.plans[variant] = plan
        return plan

    def _analysed(self, reading: Reading, table: StoredTable) -> _Cached:
        key = table.name, reading.structure
        cached = self._cache.get(key)
        if cached is None or cached.table is not table:
            query = analyse(reading.structure, table.definition, len(reading.binds))
            cached = _Cached(table, query, partial_indexes(table, query.where))
            if len(self._cache) >= _MOST_PLANS:
                self._cache.clear()
            self._cache[key] = cached
        return cached

    def _outdated(self, plan: Plan, view: ReadView, table: StoredTable) -> bool:
        if plan.settled:
            return False
        return plan.delicate or plan.misjudged() or changed_a_lot(plan.rows, self.statistics.rows(view, table))

    def clear(self) -> None:
        """Forget all plans and statistics."""
        self._cache.clear()
        self.statistics.clear()


def _variant(cached: _Cached, params: Sequence[Any]) -> Any:
    """What of the parameters' values a plan depends on: partial indexes, and the magnitude of lists and of LIMIT."""
    query = cached.query
    limit = None if query.limit is None else params[query.limit]
    magnitude = None if limit is None else limit.bit_length() // 3
    lists = tuple([len(value.members).bit_length() // 3 for value in params if value.__class__ is Choices])
    return magnitude, lists, partial_uses(cached.partial, query.where, params) if cached.partial else None


class Prepared:
    """A statement with its plan and the values of its parameters: ready to be executed, any number of times.

    Attributes:
        planner: what prepared it.
        cached: what is known of statements like it.
        table: the table that it reads.
        columns: keys of the result's elements.
        entity: it selects exactly one whole record.
        record: the class of that record; None if a statement did not say.
        plan: how it is executed.
    """

    __slots__ = ("cached", "columns", "entity", "params", "plan", "planner", "query", "reading", "record", "table")

    def __init__(
        self, planner: QueryPlanner, reading: Reading, cached: _Cached, plan: Plan, params: Sequence[Any]
    ) -> None:
        self.planner = planner
        self.reading = reading
        self.cached = cached
        self.table = cached.table
        self.plan = plan
        self.query = plan.query
        self.params = params
        self.record = reading.record
        self.columns = tuple(output.name for output in plan.query.outputs)
        self.entity = plan.query.whole

    def rows(self, view: ReadView, load: Load) -> Iterator[tuple[Any, ...]]:
        """Yield the result, a tuple per row; whole records are what ``load`` makes of their keys and values."""
        return self.rows_of(Run(view, self.params), load)

    def rows_of(self, run: Run, load: Load) -> Iterator[tuple[Any, ...]]:
        """Yield the result of an execution."""
        root = self.plan.root
        if self.entity:
            for pairs in run.pull(root, "pair"):
                for record in load(pairs):
                    yield (record,)
        elif self.query.records:
            for chunk in run.pull(root, "mixed"):
                yield from self.mixed(chunk, load)
        else:
            for chunk in run.pull(root, "row"):
                yield from chunk

    def chunks(self, view: ReadView) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the result's rows in lists; it has no whole records (``prepare(..., columns=True)``)."""
        if self.query.records:
            raise TypeError("chunks() is for statements on columns")
        return Run(view, self.params).pull(self.plan.root, "row")

    def mixed(self, items: Sequence[tuple[bytes, bytes, tuple[Any, ...]]], load: Load) -> Iterator[tuple[Any, ...]]:
        """Yield result rows of items with a record's key and value and the outputs that are no whole records."""
        places = [output.expression is None for output in self.query.outputs]
        records = load([(key, value) for key, value, _ in items])
        for record, (_, _, values) in zip(records, items, strict=True):
            rest = iter(values)
            yield tuple([record if whole else next(rest) for whole in places])

    def scalars(self, view: ReadView, load: Load) -> Iterator[Any]:
        """Yield the first element of each row."""
        run = Run(view, self.params)
        if self.entity:
            for pairs in run.pull(self.plan.root, "pair"):
                yield from load(pairs)
        elif len(self.query.outputs) == 1:
            for chunk in run.pull(self.plan.root, "first"):
                yield from chunk
        else:
            for row in self.rows_of(run, load):
                yield row[0]

    def all_scalars(self, view: ReadView, load: Load) -> list[Any]:
        """Return what :meth:`scalars` yields."""
        if not self.entity:
            return list(self.scalars(view, load))
        found: list[Any] = []
        for pairs in Run(view, self.params).pull(self.plan.root, "pair"):
            found += load(pairs)
        return found

    def keys(self, view: ReadView) -> Iterator[Pair]:
        """Yield key and value of each record that an ``update()`` or ``delete()`` is about."""
        if not self.entity:
            raise TypeError("keys() is for statements on whole records")
        for pairs in Run(view, self.params).pull(self.plan.root, "pair"):
            yield from pairs

    def explain(self, view: ReadView, analyze: bool = False) -> Explanation:
        """The plan as a tree of text; with ``analyze`` it is executed, and the tree says what it did."""
        run = Run(view, self.params, analyze=analyze)
        if analyze:
            payload = "pair" if self.entity else "mixed" if self.query.records else "row"
            for _ in run.pull(self.plan.root, payload):  # type: ignore[arg-type]
                pass
        return explain(self.plan, run)
