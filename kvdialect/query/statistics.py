"""Statistics: how many rows there are, and how they lie, as far as a few reads tell.

Everything here is an estimate for choosing between plans, so it is read from the snapshot alone: a serializable
transaction does not come to depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import attrs

from kvdialect.query.bounds import Ranges
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.contract import Pair
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.view import ReadView

PROBED: Final = 100
"""The most entries that are read to count those of a statement's own ranges."""

_PLACES: Final = 24
_PER_PLACE: Final = 4
_PER_LEAP: Final = 12
_MOST_LEAPS: Final = 40
_UNCOUNTED: Final = 10_000


@attrs.frozen
class RowSample:
    """Some rows of a table, from several places.

    Attributes:
        table: the table.
        rows: how many it had.
        sample: some of them.
    """

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
    """Estimates. Samples of rows are kept until a table's row count has changed by half, for all sessions."""

    def __init__(self) -> None:
        self._samples: dict[str, RowSample] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()

    # ------------------------------------------------------------------------------------------ rows

    def rows(self, view: ReadView, table: StoredTable) -> int:
        """How many rows a table has, pending ones included; a guess where that is not kept."""
        if table.count_key is None:
            return _UNCOUNTED
        if isinstance(view, Transaction) and view.serializable:
            counted = decode_counter(view.snapshot.get(RESERVED_FAMILY, table.count_key))
            return counted + view.deltas.get(table.count_key, 0)
        return view.count(table)

    def sample(self, view: ReadView, table: StoredTable, rows: int) -> tuple[tuple[Any, ...], ...]:
        """Some rows of a table that has ``rows`` of them."""
        known = self._samples.get(table.name)
        if known is None or known.table is not table or changed_a_lot(known.rows, rows):
            read = untracked(view)
            decode = table.codec.decode
            pairs: dict[bytes, bytes] = {}
            for start in _places(read, table.name):
                pairs.update(islice(read.scan(table.name, start), _PER_PLACE))
            known = RowSample(table, rows, tuple(decode(key, value) for key, value in pairs.items()))
            self._samples[table.name] = known
        return known.sample

    def tested(
        self, view: ReadView, table: StoredTable, rows: int, test: Callable[[tuple[Any, ...]], Any]
    ) -> list[bool]:
        """What ``test`` says of each row of the sample."""
        return [bool(test(row)) for row in self.sample(view, table, rows)]

    # ------------------------------------------------------------------------------------------ entries

    def entries(
        self, view: ReadView, family: str, ranges: Ranges, most: float | None, guess: Callable[[], float]
    ) -> float:
        """How many entries of ``family`` are in ``ranges``: counted if they are few, else estimated.

        Args:
            view: where they are read.
            family: the column family.
            ranges: the ranges.
            most: how many entries it has in all; None if that is not known.
            guess: how many it is by a sample of rows; asked where the keys do not tell.
        """
        if ranges.points or not ranges.ranges:
            return float(len(ranges.ranges))
        if ranges.everything and most is not None:
            return most
        read = untracked(view)
        counted = 0
        for number, (start, stop) in enumerate(ranges.ranges):
            counted += sum(1 for _ in islice(read.scan(family, start, stop), PROBED - counted))
            if counted >= PROBED:
                # The ranges behind are taken to be as large as those so far.
                found = self._estimate(read, family, start, stop)
                estimate = guess() if found is None else found * (len(ranges.ranges) / (number + 1))
                return max(float(counted), estimate if most is None else min(estimate, most))
        return float(counted)

    def _estimate(self, read: Scanner, family: str, start: bytes, stop: bytes | None) -> float | None:
        """Entries of a range that has many, by how close together they lie; None if that varies too much.

        From the first entry on it looks at a few, leaps over about as many bytes as lie behind it, and looks again.
        So a cluster is measured in steps that grow, and what is empty is left in one.
        """
        first = next(read.scan(family, start, stop), None)
        last = next(read.scan(family, start, stop, reverse=True), None)
        if first is None or last is None:
            return 0.0
        common = _common(first[0], last[0])
        head, at, end = first[0][:common], _number(first[0], common), _number(last[0], common)
        entries = before = 0.0
        leap = 0
        for _ in range(_MOST_LEAPS):
            place = max(start, head + at.to_bytes(_DIGITS))
            keys = [_number(key, common) for key, _ in islice(read.scan(family, place, stop), _PER_LEAP)]
            if len(keys) < _PER_LEAP:
                return entries + len(keys)
            span = max(keys[-1] - keys[0], 1)
            rate = _PER_LEAP / span
            if keys[0] > at + leap // 2 or rate * 4 < before:
                # It has become empty here, somewhere in the last leap.
                entries -= leap * before / 2
                leap = 0
            elif rate > before * 4:
                leap = 0  # it has become dense, who knows where
            at = keys[0]
            leap = min(max(span, 2 * leap), end - at + 1)
            entries += leap * rate
            before = rate
            at += leap
            if at > end:
                return entries
        return None


def changed_a_lot(before: int, now: int) -> bool:
    """Whether a row count has changed so much that what was chosen by it should be chosen anew."""
    return abs(now - before) > max(before // 2, 100)


# --------------------------------------------------------------------------- keys as numbers

_DIGITS: Final = 16


def _places(read: Scanner, family: str) -> Sequence[bytes]:
    """Keys to begin reading at, spread evenly between the outermost ones."""
    first = next(read.scan(family), None)
    last = next(read.scan(family, reverse=True), None)
    if first is None or last is None:
        return ()
    common = _common(first[0], last[0])
    low, high = _number(first[0], common), _number(last[0], common)
    head = first[0][:common]
    return [
        first[0],
        *(head + (low + (high - low) * at // _PLACES).to_bytes(_DIGITS) for at in range(1, _PLACES)),
    ]


def _common(one: bytes, other: bytes) -> int:
    """How many bytes two keys have in common at the front."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))


def _number(key: bytes, offset: int) -> int:
    """The bytes of a key behind ``offset`` as a number."""
    return int.from_bytes(key[offset : offset + _DIGITS].ljust(_DIGITS, b"\0"))
