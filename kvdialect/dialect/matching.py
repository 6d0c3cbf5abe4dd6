"""Rows by the values of columns that no key or index has; SQLite makes automatic indexes over its own tables for these.

A join on such columns asks for the rows of its inner table again and again. The first time they are all read, as SQLite
tests each row anyway; from the second time on they are looked up in a dict made for the statement. Its keys bring
together all values that SQLite could find equal, whatever affinity or collation it compares by: some rows too many are
given, and never one too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from kvdialect.dialect.functions import leading

if TYPE_CHECKING:
    from kvdialect.dialect.access import Plan
    from kvdialect.dialect.connection import Connection
    from kvdialect.dialect.relations import Relation

_KEPT: Final = 32 << 20
"""Bytes of stored rows up to which they are kept themselves, and beyond which only their keys are."""

_MOST: Final = 2_000_000
"""Rows of a table up to which their keys are kept."""

_SAMPLE: Final = 256
"""Rows of which the size of all is estimated."""


def match_key(value: Any) -> Any:
    """The same for all values that SQLite may find equal to this one; None for NULL, which only IS finds equal.

    Text that is a number may be compared as this, and other text without regard to case or spaces at its end.
    """
    if value.__class__ is str:
        raw = value.encode()
        number, whole = leading(raw.split(b"\0", 1)[0])
        if not whole:
            text = raw.rstrip(b" ").lower()
            return b"inf" if text == b"+inf" else text
        value = number
    if value.__class__ is float and not isfinite(value):
        return b"inf" if value > 0 else b"-inf"  # as it is written where it becomes text
    return value


class Matches:
    """What the statements of one connection look up; forgotten with each statement, and with each row written."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tables: dict[tuple[Any, ...], _Table] = {}

    def clear(self) -> None:
        """Another statement begins."""
        if self._tables:
            self._tables.clear()

    def written(self, relation: Relation) -> None:
        """A row of a table was written."""
        if self._tables:
            for where in [where for where in self._tables if where[0] == relation.id]:
                del self._tables[where]

    def rows(self, plan: Plan, values: Sequence[Any]) -> Iterator[Any]:
        """The rows of a plan whose ``matched`` columns may equal ``values``."""
        where = (plan.relation.id, plan.matched, plan.content)
        table = self._tables.get(where)
        if table is None:
            self._tables[where] = _Table()
            return plan.rows(self._connection.txn, ())
        if not table.made:
            table.make(plan, self._connection)
        return table.found(plan, self._connection, values)


class _Table:
    """The rows of one table by the values of some of its columns."""

    __slots__ = ("_keyed", "_rows", "made")

    def __init__(self) -> None:
        self.made = False
        self._keyed = False  # keys stand for rows
        self._rows: dict[Any, list[Any]] | None = None

    def make(self, plan: Plan, connection: Connection) -> None:
        """Read all rows of the table."""
        self.made = True
        count = connection.row_count(plan.relation)
        if count > _MOST:
            return
        pairs = iter(plan.pairs(connection.txn))
        first = list(islice(pairs, _SAMPLE))
        size = sum(len(key) + len(raw) for key, raw in first)
        self._keyed = bool(first) and size / len(first) * count > _KEPT
        rows: dict[Any, list[Any]] = {}
        self._rows = rows
        decode, show, matched = plan.relation.decode, plan.shown_row, plan.matched
        for some in (first, pairs):
            for key, raw in some:
                row = decode(key, raw)
                values = _keys([row[position] for position, _ in matched], plan)
                if values is not None:
                    rows.setdefault(values, []).append(key if self._keyed else show(row, key))

    def found(self, plan: Plan, connection: Connection, values: Sequence[Any]) -> Iterator[Any]:
        """The rows that may have these values."""
        if self._rows is None:
            return plan.rows(connection.txn, ())
        wanted = _keys(values, plan)
        found = self._rows.get(wanted, ()) if wanted is not None else ()
        return self._read(plan, connection, found) if self._keyed else iter(found)

    def _read(self, plan: Plan, connection: Connection, keys: Sequence[bytes]) -> Iterator[Any]:
        relation = plan.relation
        for key, raw in zip(keys, connection.txn.multi_get(relation.stored.family, keys), strict=True):
            if raw is not None:
                yield plan.shown_row(relation.decode(key, raw), key)


def _keys(values: Sequence[Any], plan: Plan) -> tuple[Any, ...] | None:
    keys = tuple(map(match_key, values))
    if None in keys and any(key is None and not null for key, (_, null) in zip(keys, plan.matched, strict=True)):
        return None
    return keys
