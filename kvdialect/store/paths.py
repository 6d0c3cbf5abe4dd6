"""Paths to the records of a table by columns of theirs: the primary key, an index, or all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import attrs

from kvdialect import exc
from kvdialect.schema.rows import IndexCodec
from kvdialect.storage.contract import Pair
from kvdialect.storage.ranges import KeyRange
from kvdialect.store.keyranges import key_range
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction

Key = tuple[Any, ...]


@attrs.frozen(eq=False)
class Path:
    """How records are found by columns of theirs.

    Attributes:
        table: whose records they are.
        columns: by which they are found.
        form: ``"key"``: the columns are the primary key; ``"range"``: the first columns of the key or of an index;
            ``"scan"``: neither, all records are read.
        index: of a range, or None for the primary key.
        order: positions in ``columns``, in the order of the key.
    """

    table: StoredTable
    columns: tuple[str, ...]
    form: Literal["key", "range", "scan"]
    index: IndexCodec | None
    order: tuple[int, ...]

    @property
    def family(self) -> str:
        """The family in which the path runs."""
        return self.table.family if self.index is None else self.index.family

    def span(self, values: Sequence[Any]) -> KeyRange:
        """Where what has these values of the columns stands; everything, of a scan.

        Raises:
            DataError: for a value that its column cannot have.
        """
        if self.form == "scan":
            return KeyRange()
        grammar = self.table.codec.grammar if self.index is None else self.index.columns
        return key_range(self.family, grammar, [values[place] for place in self.order])

    def point(self, values: Sequence[Any]) -> bytes | None:
        """The key at which the one record with these values stands, on a unique path; None if there can be none."""
        try:
            if self.index is None:
                return self.table.codec.key([values[place] for place in self.order])
            span = self.span(values)
        except (exc.DataError, exc.KeyTooLong):
            return None
        return None if span.empty else span.start

    def record_keys(self, txn: Transaction, values: Sequence[Any]) -> list[bytes]:
        """The keys of the records with these values; not of a scan."""
        span = self.span(values)
        if span.empty:
            return []
        pairs = txn.scan(self.family, span.start, span.stop)
        return [key for key, _ in pairs] if self.index is None else self.index.primary_keys(pairs)

    def scanned(self, txn: Transaction, wanted: Iterable[Key]) -> Iterator[tuple[Key, Pair]]:
        """Read all records; those with one of the wanted values, behind these."""
        codec, sought = self.table.codec, set(wanted)
        places = [codec.positions[name] for name in self.columns]
        for key, raw in txn.scan(self.table.family):
            row = codec.decode(key, raw)
            values = tuple([row[place] for place in places])
            if values in sought:
                yield values, (key, raw)


def path_to(table: StoredTable, columns: tuple[str, ...]) -> Path:
    """The best path to the records of a table by columns."""
    key = table.definition.primary_key
    if set(columns) == set(key):
        return Path(table, columns, "key", None, tuple(map(columns.index, key)))
    ways: list[tuple[IndexCodec | None, tuple[str, ...]]] = [(None, key)]
    ways += [(index, index.definition.columns) for index in table.readable.values() if _whole(index)]
    for index, names in ways:
        first = names[: len(columns)]
        if len(columns) <= len(names) and set(first) == set(columns):
            return Path(table, columns, "range", index, tuple(map(columns.index, first)))
    return Path(table, columns, "scan", None, ())


def unique_path(table: StoredTable, columns: tuple[str, ...]) -> Path | None:
    """The path on which these columns are a whole key, or all columns of a unique index; None if there is none."""
    if set(columns) == set(table.definition.primary_key):
        return path_to(table, columns)
    for index in table.readable.values():
        names = index.definition.columns
        if index.definition.unique and _whole(index) and set(names) == set(columns):
            return Path(table, columns, "range", index, tuple(map(columns.index, names)))
    return None


def _whole(index: IndexCodec) -> bool:
    return index.definition.where is None and index.definition.kind == "ordered"
