"""Access nodes: the ways to read the records of a table."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final

from kvdialect import exc
from kvdialect.query.analysis import Order
from kvdialect.query.bounds import KeyBounds, Ranges
from kvdialect.query.describe import described, order_text
from kvdialect.query.nodes import AccessNode, Run
from kvdialect.query.stages import IndexPairs, Payload, RecordPairs, Stage, compile_keys
from kvdialect.schema.expressions import Expression
from kvdialect.schema.rows import IndexCodec, leads_nowhere
from kvdialect.storage.contract import Pair
from kvdialect.store.table import StoredTable

_FIRST_CHUNK: Final = 32
_LARGEST_CHUNK: Final = 512
_MOST_MERGED: Final = 64
"""The most scans that are open at once to merge them; of more ranges, the entries are collected and sorted."""


class RangeAccess(AccessNode):
    """What is common to the scans of a table's own keys and of an index.

    Attributes:
        table: the table.
        family: the column family read.
        bounds: how the ranges come about.
        reverse: it reads from the last key to the first.
        merged: its ranges are read side by side, in the order of what follows the points that they are bound to.
        entries: entries that it is expected to read.
        order: the elements of ORDER BY that its order answers.
        misjudged: it has read many more entries than were expected, so a plan with it should be made anew.
    """

    def __init__(
        self,
        table: StoredTable,
        family: str,
        bounds: KeyBounds,
        *,
        reverse: bool,
        merged: bool,
        entries: float,
        estimate: float,
    ) -> None:
        self.table = table
        self.family = family
        self.bounds = bounds
        self.reverse = reverse
        self.merged = merged
        self.entries = entries
        self.estimate = estimate
        self.consumed = bounds.conditions
        self.order: tuple[Order, ...] = ()
        self.misjudged = False

    def ranges(self, run: Run) -> Ranges:
        """The ranges that this execution reads."""
        ranges = run.ranges.get(id(self))
        if ranges is None:
            ranges = run.ranges[id(self)] = self.bounds.ranges(run.params, whole=self.merged)
        return ranges

    def exact(self, run: Run) -> bool:
        return self.ranges(run).exact

    def pairs(self, run: Run) -> Iterator[Pair]:
        """The family's pairs in the ranges, one by one, in order."""
        ranges = self.ranges(run)
        scan = run.view.scan
        family, reverse = self.family, self.reverse
        if ranges.points:
            return self._found(run, [start for start, _ in (ranges.ranges[::-1] if reverse else ranges.ranges)])
        if len(ranges.ranges) == 1:
            start, stop = ranges.ranges[0]
            if self.entries < _FIRST_CHUNK:
                return run.view.short_scan(family, start, stop, _FIRST_CHUNK, reverse=reverse)
            return scan(family, start, stop, reverse=reverse)
        if self.merged and len(ranges.ranges) > 1:
            return self._merge(run, ranges)
        ordered = ranges.ranges[::-1] if reverse else ranges.ranges
        return chain.from_iterable(scan(family, start, stop, reverse=reverse) for start, stop in ordered)

    def _found(self, run: Run, keys: Sequence[bytes]) -> Iterator[Pair]:
        """The pairs at whole keys."""
        for at in range(0, len(keys), _LARGEST_CHUNK):
            some = keys[at : at + _LARGEST_CHUNK]
            if len(some) == 1:
                value = run.view.get(self.family, some[0])
                if value is not None:
                    yield some[0], value
                continue
            for key, value in zip(some, run.view.multi_get(self.family, some), strict=True):
                if value is not None:
                    yield key, value

    def _merge(self, run: Run, ranges: Ranges) -> Iterator[Pair]:
        streams = [
            _by_suffix(run.view.scan(self.family, start, stop, reverse=self.reverse), length)
            for (start, stop), length in zip(ranges.ranges, ranges.prefix, strict=True)
        ]
        merged: Iterable[tuple[bytes, Pair]]
        if len(streams) > _MOST_MERGED:
            merged = sorted(chain.from_iterable(streams), reverse=self.reverse)
        else:
            merged = heapq.merge(*streams, reverse=self.reverse)
        return (pair for _, pair in merged)

    def entry_chunks(self, run: Run) -> Iterator[list[Pair]]:
        """The family's pairs in lists that grow, so that a few rows cost few reads and many cost little each."""
        pairs = self.pairs(run)
        if run.skip:
            pairs = islice(pairs, min(run.skip, sys.maxsize), None)
            run.skip = 0
        size = _FIRST_CHUNK if run.hint is None else max(1, min(run.hint, _LARGEST_CHUNK))
        figures = None if run.figures is None else run.of(self)
        left = self.entries * 8 + 2000
        while chunk := list(islice(pairs, size)):
            if figures is not None:
                figures.read += len(chunk)
            left -= len(chunk)
            if left < 0:
                self.misjudged = True
            yield chunk
            size = min(size * 4, _LARGEST_CHUNK)

    def record_keys(self, run: Run) -> Iterator[list[bytes]]:
        """The keys of the records, in lists."""
        raise NotImplementedError

    def _bounds_text(self) -> str:
        return f" ({described(self.consumed)})" if self.consumed else ""

    def _facts(self, *facts: str) -> str:
        order = [f"order: {order_text(self.order)}"] if self.order else []
        order += ["backwards"] if self.reverse else []
        order += ["merged"] if self.merged else []
        return "".join(f"  {fact}" for fact in (*order, *facts))


def _by_suffix(pairs: Iterator[Pair], length: int) -> Iterator[tuple[bytes, Pair]]:
    return ((pair[0][length:], pair) for pair in pairs)


class TableScan(RangeAccess):
    """The records of a table in the order of their keys, all or in ranges, or at whole keys."""

    def __init__(
        self, table: StoredTable, bounds: KeyBounds, *, reverse: bool, merged: bool, entries: float, estimate: float
    ) -> None:
        super().__init__(table, table.name, bounds, reverse=reverse, merged=merged, entries=entries, estimate=estimate)
        self.source = RecordPairs(table.codec)

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:  # noqa: ARG002 - items are pairs
        return self.entry_chunks(run)

    def record_keys(self, run: Run) -> Iterator[list[bytes]]:
        for chunk in self.entry_chunks(run):
            yield [key for key, _ in chunk]

    def title(self) -> str:
        name = "KeyLookup" if self.bounds.complete else "TableScan"
        return f"{name} {self.table.name}{self._bounds_text()}{self._facts()}"


class IndexScan(RangeAccess):
    """The records that the entries of an index lead to, or, if ``covering``, the entries themselves."""

    def __init__(
        self,
        table: StoredTable,
        index: IndexCodec,
        bounds: KeyBounds,
        conditions: Sequence[Expression],
        *,
        covering: bool,
        merged: bool,
        reverse: bool,
        entries: float,
        estimate: float,
    ) -> None:
        """A scan that tests ``conditions`` on each entry before it fetches the record."""
        super().__init__(
            table, index.family, bounds, reverse=reverse, merged=merged, entries=entries, estimate=estimate
        )
        self.index = index
        self.covering = covering
        self.conditions = tuple(conditions)
        self.skippable = not self.conditions
        self.entry_source = IndexPairs(index)
        self.source = self.entry_source if covering else RecordPairs(table.codec)
        self._keys: Stage | None = None
        self._lossy = table.definition.options.compaction == "fifo"

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:  # noqa: ARG002 - items are pairs
        if self.covering:
            yield from self.entry_chunks(run)
            return
        for keys in self.record_keys(run):
            yield fetched(run, self.table, keys, self.family, lossy=self._lossy)

    def record_keys(self, run: Run) -> Iterator[list[bytes]]:
        stage = self._keys
        if stage is None:
            stage = self._keys = compile_keys(self.entry_source, self.conditions)
        params = run.params
        for chunk in self.entry_chunks(run):
            keys = stage(chunk, params)
            if keys:
                yield keys

    def count(self, run: Run) -> int:
        counted = self.record_keys(run) if self.conditions else self.entry_chunks(run)
        return sum(map(len, run.measured(self, counted)))

    def title(self) -> str:
        covering = f"covering: {'yes' if self.covering else 'no'}"
        return f"IndexScan {self.family}{self._bounds_text()}{self._facts(covering)}"

    def details(self) -> list[str]:
        return [f"entry filter: {described(self.conditions)}"] if self.conditions else []


class Union(AccessNode):
    """The records that any of several scans finds, each once."""

    def __init__(
        self, table: StoredTable, scans: Sequence[RangeAccess], consumed: Sequence[Expression], estimate: float
    ) -> None:
        """The union of ``scans``, which together find the rows for which ``consumed`` hold."""
        self.table = table
        self.children = tuple(scans)
        self.scans = tuple(scans)
        self.consumed = tuple(consumed)
        self.estimate = estimate
        self.entries = sum(scan.entries for scan in scans)
        self.source = RecordPairs(table.codec)
        self.skippable = all(scan.skippable for scan in scans)
        self._lossy = table.definition.options.compaction == "fifo"

    def exact(self, run: Run) -> bool:
        return all(scan.exact(run) for scan in self.scans)

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:  # noqa: ARG002 - items are pairs
        skip, run.skip = run.skip, 0
        for keys in self._new_keys(run):
            if skip:
                kept = keys[skip:]
                skip = max(0, skip - len(keys))
                if not kept:
                    continue
            else:
                kept = keys
            yield fetched(run, self.table, kept, self.table.name, lossy=self._lossy)

    def _new_keys(self, run: Run) -> Iterator[list[bytes]]:
        seen: set[bytes] = set()
        for scan in self.scans:
            for keys in run.measured(scan, scan.record_keys(run)):
                new = [key for key in keys if key not in seen]
                seen.update(new)
                if new:
                    yield new

    def count(self, run: Run) -> int:
        return sum(map(len, run.measured(self, self._new_keys(run))))

    def title(self) -> str:
        return "Union"


class Nothing(AccessNode):
    """No rows: a condition that no row meets."""

    estimate = 0.0
    entries = 0.0

    def __init__(self, table: StoredTable) -> None:
        self.source = RecordPairs(table.codec)

    def exact(self, run: Run) -> bool:  # noqa: ARG002
        return True

    def chunks(self, run: Run, payload: Payload) -> Iterator[list[Any]]:  # noqa: ARG002
        return iter(())

    def title(self) -> str:
        return "Nothing"


def fetched(run: Run, table: StoredTable, keys: list[bytes], family: str, *, lossy: bool) -> list[Pair]:
    """The records at ``keys``, which entries of ``family`` lead to.

    Raises:
        Corruption: if one is missing, unless the table is ``lossy``: it drops old records by itself.
    """
    try:
        values = run.view.multi_get(table.name, keys)
    except exc.KeyTooLong as error:
        raise leads_nowhere(family, table.name, error) from error
    if None in values:
        if not lossy:
            at = keys[values.index(None)]
            raise exc.Corruption(
                f"an entry of {family} leads to the record {table.name}[{exc.shown(at)}], which is not there",
                cf=family, key=at,
            )  # fmt: skip
        return [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
    return list(zip(keys, values, strict=True))  # type: ignore[arg-type]
