"""Statistics: how many rows there are, and how they lie, as far as a few reads tell.

Everything here is an estimate for choosing between plans, so it is read from the snapshot alone: a serializable
transaction does not come to depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import attrs

from kvdialect.codec.keys import KeyGrammar
from kvdialect.query.bounds import Ranges
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.contract import Pair
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.ranges import successor
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.view import ReadView

PROBED: Final = 100
"""The most entries that are read to count those of a statement's own ranges."""

_PLACES: Final = 12
_PER_PLACE: Final = 12
_LONGEST_RUN: Final = 200
_UNCOUNTED: Final = 10_000


@attrs.frozen
class Density:
    """How the keys of a family lie.

    Attributes:
        rows: of the table, when this was looked up.
        total: estimated entries of the family.
        first, last: its outermost keys; None if it is empty.
        repeats: for each number of leading parts, how many entries share their values, on average.
    """

    rows: int
    total: float
    first: bytes | None
    last: bytes | None
    repeats: tuple[float, ...]


@attrs.frozen
class RowSample:
    """Some rows of a table, from several places."""

    table: StoredTable
    rows: int
    sample: tuple[tuple[Any, ...], ...]


class Scanner(Protocol):
    """What statistics are read from."""

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the pairs of a range."""


def untracked(view: ReadView) -> Scanner:
    """A view of the same moment whose reads a serializable commit does not depend on; pending writes are not in it."""
    return view.snapshot if isinstance(view, Transaction) and view.serializable else view


class Statistics:
    """Estimates, kept until a table's row count has changed by half. For all sessions of an engine."""

    def __init__(self) -> None:
        self._densities: dict[tuple[int, str], Density] = {}
        self._samples: dict[int, RowSample] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._densities.clear()
        self._samples.clear()

    # ------------------------------------------------------------------------------------------ rows

    def rows(self, view: ReadView, table: StoredTable) -> int:
        """How many rows a table has, pending ones included; a guess where that is not kept."""
        if table.count_key is None:
            return _UNCOUNTED
        if isinstance(view, Transaction) and view.serializable:
            counted = decode_counter(view.snapshot.get(RESERVED_FAMILY, table.count_key))
            return counted + view.deltas.get(table.name, 0)
        return view.count(table)

    def sample(self, view: ReadView, table: StoredTable, rows: int) -> RowSample:
        """Some rows of a table that has ``rows`` of them."""
        table_id = table.definition.id
        known = self._samples.get(table_id)
        if known is not None and known.table is table and not changed_a_lot(known.rows, rows):
            return known
        read = untracked(view)
        decode = table.codec.decode
        pairs: dict[bytes, bytes] = {}
        for start in _places(read, table.name):
            pairs.update(islice(read.scan(table.name, start), _PER_PLACE))
        known = self._samples[table_id] = RowSample(
            table, rows, tuple(decode(key, value) for key, value in pairs.items())
        )
        return known

    def selectivity(
        self, view: ReadView, table: StoredTable, rows: int, test: Callable[[tuple[Any, ...]], Any]
    ) -> list[bool]:
        """What ``test`` says of each row of the sample."""
        return [bool(test(row)) for row in self.sample(view, table, rows).sample]

    # ------------------------------------------------------------------------------------------ entries

    def density(
        self, view: ReadView, table: StoredTable, rows: int, family: str, grammar: KeyGrammar, share: float
    ) -> Density:
        """How the entries of ``family`` lie, of which there are ``share`` for each row."""
        known = self._densities.get((table.definition.id, family))
        if known is not None and not changed_a_lot(known.rows, rows):
            return known
        known = _density(untracked(view), family, grammar, rows, rows * share)
        self._densities[table.definition.id, family] = known
        return known

    def entries(
        self,
        view: ReadView,
        table: StoredTable,
        rows: int,
        family: str,
        grammar: KeyGrammar,
        ranges: Ranges,
        pointed: int,
        share: float,
    ) -> float:
        """How many entries are in ``ranges``: counted if they are few, else estimated.

        Args:
            view: where they are read.
            table: whose index or records they are.
            rows: of the table.
            family: the column family.
            grammar: of its keys.
            ranges: the ranges.
            pointed: how many parts of the key these bind to points.
            share: entries per row of the whole family.
        """
        if ranges.points or not ranges.ranges:
            return float(len(ranges.ranges))
        if ranges.everything and share == 1.0:
            return float(rows)
        read = untracked(view)
        counted = 0
        for number, (start, stop) in enumerate(ranges.ranges):
            counted += sum(1 for _ in islice(read.scan(family, start, stop), PROBED - counted))
            if counted >= PROBED:
                # Those not counted are taken to be as large as an estimate makes the one that ended the count.
                estimate = self._estimate(view, table, rows, family, grammar, ranges, number, pointed, share)
                return max(counted, counted - PROBED / (number + 1) + estimate * (len(ranges.ranges) - number))
        return float(counted)

    def _estimate(
        self,
        view: ReadView,
        table: StoredTable,
        rows: int,
        family: str,
        grammar: KeyGrammar,
        ranges: Ranges,
        number: int,
        pointed: int,
        share: float,
    ) -> float:
        """Entries of one range that has more than were counted."""
        density = self.density(view, table, rows, family, grammar, share)
        start, stop = ranges.ranges[number]
        prefix = start[: ranges.prefix[number]]
        within = density.total
        if pointed:
            repeats = density.repeats[min(pointed, len(density.repeats)) - 1] if density.repeats else 1.0
            within = max(float(PROBED), repeats)
        if (start, stop) == (prefix, successor(prefix)):
            return within
        read = untracked(view)
        if grammar.parts[pointed].nullable:
            # The entries with NULL lie far from the others, and are in no span.
            prefix += b"\xfe" if grammar.parts[pointed].descending else b"\x01"
        end = successor(prefix)
        first = next(read.scan(family, prefix, end), (prefix, b""))[0]
        last = next(read.scan(family, prefix, end, reverse=True), (prefix, b""))[0]
        low, high = _fraction(start, first, last), 1.0 if stop is None else _fraction(stop, first, last)
        return max(float(PROBED), within * max(high - low, 0.0))


def changed_a_lot(before: int, now: int) -> bool:
    """Whether a row count has changed so much that what was chosen by it should be chosen anew."""
    return abs(now - before) > max(before // 2, 100)


def _outermost(read: Scanner, family: str) -> tuple[bytes, bytes] | None:
    first = next(read.scan(family), None)
    last = next(read.scan(family, reverse=True), None)
    return None if first is None or last is None else (first[0], last[0])


def _places(read: Scanner, family: str) -> Sequence[bytes]:
    """Keys to begin reading at, spread evenly between the outermost ones."""
    ends = _outermost(read, family)
    if ends is None:
        return ()
    first, last = ends
    common = _common(first, last)
    low, high = _number(first, common), _number(last, common)
    head = first[:common]
    step = (high - low) / _PLACES
    return [first, *(head + int(low + step * at).to_bytes(_DIGITS) for at in range(1, _PLACES))]


def _density(read: Scanner, family: str, grammar: KeyGrammar, rows: int, total: float) -> Density:
    ends = _outermost(read, family)
    parts = len(grammar.parts)
    if ends is None:
        return Density(rows, 0.0, None, None, ())
    entries = [0] * parts
    distinct = [0] * parts
    for start in _places(read, family):
        keys = [key for key, _ in islice(read.scan(family, start), _PER_PLACE)]
        for part in range(parts):
            prefixes = _prefixes(grammar, keys, part + 1)
            if len(set(prefixes)) == 1 and len(keys) == _PER_PLACE:
                prefix = prefixes[0]
                run = sum(1 for _ in islice(read.scan(family, prefix, successor(prefix)), _LONGEST_RUN))
                entries[part] += run
                distinct[part] += 1
            else:
                # The run that the place began in is cut off: the whole ones tell.
                entries[part] += len(prefixes)
                distinct[part] += max(1, len(set(prefixes)))
    repeats = tuple(entries[part] / distinct[part] if distinct[part] else 1.0 for part in range(parts))
    return Density(rows, total, *ends, repeats)


def _prefixes(grammar: KeyGrammar, keys: Sequence[bytes], count: int) -> list[bytes]:
    prefixes = []
    for key in keys:
        try:
            prefixes.append(key[: grammar.skip(key, count)])
        except ValueError:
            prefixes.append(key)
    return prefixes


# --------------------------------------------------------------------------- keys as numbers

_DIGITS: Final = 8


def _common(one: bytes, other: bytes) -> int:
    """How many bytes two keys have in common at the front."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))


def _number(key: bytes, offset: int) -> int:
    return int.from_bytes(key[offset : offset + _DIGITS].ljust(_DIGITS, b"\0"))


def _fraction(bound: bytes, first: bytes, last: bytes) -> float:
    """Where a bound lies between two keys, from 0 to 1, if keys lie evenly between them."""
    if bound <= first:
        return 0.0
    if bound > last:
        return 1.0
    offset = _common(first, last)
    low, high = _number(first, offset), _number(last, offset)
    return min(1.0, max(0.0, (_number(bound, offset) - low) / max(high - low, 1)))
