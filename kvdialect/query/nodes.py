"""Plan nodes: what runs, and what ``explain`` prints of it.

A node yields its items in lists, so that the loops over rows are those of the generated stages. Below a :class:`Rows`
or :class:`Aggregated` stand the nodes of :mod:`kvdialect.query.access`, whose items are pairs of a record's (or an
index entry's) key and value.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, Final

import attrs

from kvdialect.query.analysis import Aggregate, Output, Query, aggregate_name, group_name
from kvdialect.query.bounds import Ranges
from kvdialect.query.describe import described, described_order
from kvdialect.query.stages import (
    Aggregation,
    Aggregator,
    GroupRows,
    Params,
    Payload,
    SortKeys,
    Source,
    Stage,
    compile_stage,
)
from kvdialect.schema.expressions import Expression
from kvdialect.store.table import StoredTable
from kvdialect.store.view import ReadView

_TOP_SLACK: Final = 1024
"""How many items more than wanted are collected before the surplus is sorted out."""


@attrs.define
class Figures:
    """What a node did in one execution: items given, entries read from the store, seconds with the nodes below it."""

    rows: int = 0
    read: int = 0
    seconds: float = 0.0


class Run:
    """One execution of a plan.

    Attributes:
        view: what it reads.
        params: converted values of the parameters.
        ranges: of each access node, computed when it is first asked for.
        hint: how many rows will probably be taken, if the number is small.
        skip: how many entries an access node leaves out before its first.
        figures: of each node, if they are wanted.
        replaced: ranges that stand for those of an access node, where a page goes on.
    """

    __slots__ = ("figures", "hint", "params", "ranges", "skip", "view")

    def __init__(self, view: ReadView, params: Params, *, analyze: bool = False) -> None:
        self.view = view
        self.params = params
        self.ranges: dict[int, Ranges] = {}
        self.hint: int | None = None
        self.skip = 0
        self.figures: dict[int, Figures] | None = {} if analyze else None

    def pull(self, node: Node, payload: Payload) -> Iterator[list[Any]]:
        """The items of a node, measured if that is wanted."""
        return self.measured(node, node.chunks(self, payload))

    def of(self, node: Node) -> Figures:
        assert self.figures is not None
        return self.figures.setdefault(id(node), Figures())

    def measured(self, node: Node, chunks: Iterator[list[Any]]) -> Iterator[list[Any]]:
        """What a node gives, measured if that is wanted."""
        return chunks if self.figures is None else self._measured(self.of(node), chunks)

    @staticmethod
    def _measured(figures: Figures, chunks: Iterator[list[Any]]) -> Iterator[list[Any]]:
        while True:
            started = time.perf_counter()
            chunk = next(chunks, None)
            figures.seconds += time.perf_counter() - started
            if chunk is None:
                return
            figures.rows += len(chunk)
            yield chunk


class Node(abc.ABC):
    """A node of a plan.

    Attributes:
        children: the nodes that it reads.
        estimate: rows that it is expected to give.
    """

    children: tuple[Node, ...] = ()
    estimate: float | None = None

    @abc.abstractmethod
    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        """Yield the node's items in lists; where they are rows of the result, in the form of ``payload``."""

    @abc.abstractmethod
    def title(self) -> str:
        """The node's line in explain."""

    def details(self) -> list[str]:
        """Further lines below it."""
        return []


class Rows(Node):
    """The rows of an access: conditions tested, outputs computed, keys to sort by beside them."""

    def __init__(
        self,
        access: AccessNode,
        conditions: Sequence[Expression],
        outputs: Sequence[Output],
        sort: SortKeys | None,
        estimate: float,
    ) -> None:
        self.children = (access,)
        self.access = access
        self.conditions = tuple(conditions)
        self.outputs = tuple(outputs)
        self.sort = sort
        self.estimate = estimate
        self._stages: dict[tuple[Payload, bool], Stage | None] = {}

    def stage(self, payload: Payload, exact: bool) -> Stage | None:
        """The generated loop; None where pairs pass as they are."""
        try:
            return self._stages[payload, exact]
        except KeyError:
            stage = compile_stage(self.access.source, self.tested(exact), self.outputs, payload, self.sort)
            self._stages[payload, exact] = stage
            return stage

    def tested(self, exact: bool) -> tuple[Expression, ...]:
        """The conditions to test, given whether the access's ranges are exact."""
        if exact:
            return self.conditions
        return (*self.conditions, *(c for c in self.access.consumed if c not in self.conditions))

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        stage = self.stage(payload, self.access.exact(run))
        pairs = run.pull(self.access, "pair")
        if stage is None:
            yield from pairs
            return
        params = run.params
        for chunk in pairs:
            items = stage(chunk, params)
            if items:
                yield items

    def title(self) -> str:
        return "Rows"

    def details(self) -> list[str]:
        return [f"filter: {described(self.conditions)}"] if self.conditions else []


class AccessNode(Node):
    """A node that reads the store.

    Attributes:
        source: what its pairs hold.
        consumed: the conditions that its ranges take care of, as long as they are exact.
        skippable: it gives each entry that it reads, so that OFFSET can be left to it.
    """

    source: Source
    consumed: tuple[Expression, ...] = ()
    skippable: bool = True

    @abc.abstractmethod
    def exact(self, run: Run) -> bool:
        """Whether all that it gives meets the conditions in ``consumed``."""

    def count(self, run: Run) -> int:
        """How many pairs there are."""
        return sum(map(len, run.pull(self, "pair")))


class Sort(Node):
    """All rows, sorted."""

    def __init__(self, child: Node, sort: SortKeys) -> None:
        self.children = (child,)
        self.sort = sort
        self.estimate = child.estimate

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        items: list[Any] = []
        for chunk in run.pull(self.children[0], payload):
            items += chunk
        if items:
            in_order(items, self.sort)
            yield [item[-1] for item in items]

    def title(self) -> str:
        return f"Sort {described_order(self.sort, names_below(self))}"


class Top(Node):
    """The first rows in order, of which no more are held than are wanted and some."""

    def __init__(self, child: Node, sort: SortKeys, limit: int, offset: int | None) -> None:
        """The first rows of ``child``: as many as the parameters number ``limit`` and ``offset`` say together."""
        self.children = (child,)
        self.sort = sort
        self.limit, self.offset = limit, offset
        self.estimate = child.estimate

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        wanted = rows_wanted(run, self.limit, self.offset)
        items: list[Any] = []
        for chunk in run.pull(self.children[0], payload):
            items += chunk
            if wanted is not None and len(items) > 2 * wanted + _TOP_SLACK:
                in_order(items, self.sort)
                del items[wanted:]
        in_order(items, self.sort)
        if wanted is not None:
            del items[wanted:]
        if items:
            yield [item[-1] for item in items]

    def title(self) -> str:
        return f"Top {described_order(self.sort, names_below(self))}"


def names_below(node: Node) -> dict[str, str]:
    """What stands for the columns of groups in explain, if the node's rows are groups."""
    for child in node.children:
        return child.names if isinstance(child, Results) else names_below(child)
    return {}


def in_order(items: list[Any], sort: SortKeys) -> None:
    """Sort items that begin with their keys; those with equal keys stay in their order."""
    for number, descending in reversed(list(enumerate(sort.directions))):
        items.sort(key=itemgetter(number), reverse=descending)


def rows_wanted(run: Run, limit: int | None, offset: int | None) -> int | None:
    """LIMIT and OFFSET together."""
    wanted = None if limit is None else run.params[limit]
    if wanted is None:
        return None
    return wanted + (run.params[offset] or 0 if offset is not None else 0)  # type: ignore[no-any-return]


class Distinct(Node):
    """Of rows with equal outputs the first."""

    def __init__(self, child: Node, *, keyed: bool, floats: bool) -> None:
        """The different rows of ``child``.

        Args:
            child: what gives the rows.
            keyed: keys to sort by stand before the payload of an item.
            floats: there may be NaN in a row, which is equal to NULL here.
        """
        self.children = (child,)
        self.keyed = keyed
        self.floats = floats
        self.estimate = child.estimate

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        seen: set[Any] = set()
        for chunk in run.pull(self.children[0], payload):
            items = []
            for item in chunk:
                row = item[-1] if self.keyed else item
                if self.floats:
                    row = _without_nan(row)
                if row not in seen:
                    seen.add(row)
                    items.append(item)
            if items:
                yield items

    def title(self) -> str:
        return "Distinct"


def _without_nan(row: Any) -> Any:
    """A row, or the one value of it, with None in place of NaN."""
    if row.__class__ is tuple:
        return tuple([value if value == value else None for value in row])
    return row if row == row else None


class Limit(Node):
    """The rows from OFFSET on, up to LIMIT."""

    def __init__(self, child: Node, limit: int | None, offset: int | None) -> None:
        self.children = (child,)
        self.limit, self.offset = limit, offset
        self.estimate = child.estimate

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        left = None if self.limit is None else run.params[self.limit]
        skip = (run.params[self.offset] or 0) if self.offset is not None else 0
        if left == 0:
            return
        child = self.children[0]
        if isinstance(child, Rows):
            if skip and child.access.skippable and not child.tested(child.access.exact(run)):
                # What is skipped need be neither fetched nor decoded.
                run.skip, skip = skip, 0
            run.hint = None if left is None else left + skip
        for chunk in run.pull(child, payload):
            if skip:
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                chunk = chunk[skip:]  # noqa: PLW2901 - what is left of it
                skip = 0
            if left is not None:
                if len(chunk) >= left:
                    yield chunk[:left]
                    return
                left -= len(chunk)
            yield chunk

    def title(self) -> str:
        limit = f"Limit ?{self.limit + 1}" if self.limit is not None else "Limit none"
        return limit if self.offset is None else f"{limit} offset ?{self.offset + 1}"


class Results(Node):
    """Rows over groups: HAVING tested, outputs computed, keys to sort by beside them."""

    def __init__(self, child: Node, query: Query, sort: SortKeys | None) -> None:
        self.children = (child,)
        self.query = query
        self.sort = sort
        self.estimate = child.estimate
        names = [group_name(number) for number in range(len(query.group))]
        names += [aggregate_name(number) for number in range(len(query.aggregates))]
        self._source = GroupRows(names)
        self._stages: dict[Payload, Stage | None] = {}

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        if payload not in self._stages:
            self._stages[payload] = compile_stage(
                self._source, self.query.having, self.query.outputs, payload, self.sort
            )
        stage = self._stages[payload]
        for chunk in run.pull(self.children[0], payload):
            items = chunk if stage is None else stage(chunk, run.params)
            if items:
                yield items

    def title(self) -> str:
        return "Results"

    @property
    def names(self) -> dict[str, str]:
        """What stands for the columns of the groups in explain."""
        names = {group_name(number): described((part,)) for number, part in enumerate(self.query.group)}
        return names | {aggregate_name(number): described((part,)) for number, part in enumerate(self.query.aggregates)}

    def details(self) -> list[str]:
        return [f"having: {described(self.query.having, self.names)}"] if self.query.having else []


class Aggregated(Node):
    """The groups of an access's rows, or all of them as one, with the values of aggregates."""

    def __init__(
        self,
        access: AccessNode,
        conditions: Sequence[Expression],
        group: Sequence[Expression],
        aggregates: Sequence[Aggregate],
        *,
        countable: bool,
        estimate: float,
    ) -> None:
        """Aggregates of an access's rows; ``countable`` if all are counts of every row, in one group."""
        self.children = (access,)
        self.access = access
        self.rows = Rows(access, conditions, (), None, 0.0)
        self.aggregation = Aggregation(group, aggregates)
        self.countable = countable
        self.estimate = estimate
        self._aggregators: dict[bool, Aggregator] = {}

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:  # noqa: ARG002 - items are groups
        exact = self.access.exact(run)
        tested = self.rows.tested(exact)
        if self.countable and not tested:
            yield [self.aggregation.counted(self.access.count(run))]
            return
        aggregator = self._aggregators.get(exact)
        if aggregator is None:
            aggregator = self._aggregators[exact] = self.aggregation.compile(self.access.source, tested)
        state: Any = {} if self.aggregation.group else self.aggregation.start()
        for chunk in run.pull(self.access, "pair"):
            aggregator(chunk, run.params, state)
        groups = self.aggregation.rows(state)
        if groups:
            yield groups

    def title(self) -> str:
        aggregates = described(self.aggregation.aggregates, joined=", ")
        if not self.aggregation.group:
            keys = self.countable and not self.rows.conditions
            return f"Aggregate {aggregates}" + ("  of keys alone" if keys else "")
        return f"Group by {described(self.aggregation.group, joined=', ')}: {aggregates or 'no aggregates'}"

    def details(self) -> list[str]:
        return self.rows.details()


class RowCount(Node):
    """The number of rows that the store keeps for the table."""

    estimate = 1.0

    def __init__(self, table: StoredTable, aggregates: int) -> None:
        self.table = table
        self.aggregates = aggregates

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:  # noqa: ARG002 - items are groups
        yield [(run.view.count(self.table),) * self.aggregates]

    def title(self) -> str:
        return f"RowCount {self.table.name}"


class Extremes(Node):
    """Each of several min() and max() from the first row of an access in its order."""

    estimate = 1.0

    def __init__(self, firsts: Sequence[Node]) -> None:
        """One node per aggregate, whose first item is its value."""
        self.children = tuple(firsts)

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:  # noqa: ARG002 - items are groups
        yield [tuple(self._first(run, child) for child in self.children)]

    @staticmethod
    def _first(run: Run, child: Node) -> Any:
        run.hint = 1
        for chunk in run.pull(child, "first"):
            return chunk[0]
        return None

    def title(self) -> str:
        return "Extremes"


class First(Node):
    """Whether there is any row: one row with True or False."""

    estimate = 1.0

    def __init__(self, child: Node) -> None:
        self.children = (child,)

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:
        if run.hint is None:
            run.hint = 1
        found = any(True for _ in run.pull(self.children[0], "row"))
        yield [found if payload == "first" else (found,)]

    def title(self) -> str:
        return "Exists"
