"""The one row writer: rows in, pending writes of records and index entries out. Both doors write through it.

A group of rows is written in two steps, first what goes and then what comes, so that values of unique columns may move
from one row to another within a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from kvdialect import exc
from kvdialect.schema.rows import IndexCodec, Move, Pair, Row
from kvdialect.storage.batch import DELETE
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Changes, Transaction


@attrs.define(slots=True)
class RowChanges:
    """Rows of one table to write together.

    Attributes:
        new: rows to insert.
        changed: ``(key, value before, row)``: rows whose key stays.
        gone: ``(key, value before)``: rows to delete.
    """

    new: list[Row] = attrs.field(factory=list)
    changed: list[tuple[bytes, bytes, Row]] = attrs.field(factory=list)
    gone: list[Pair] = attrs.field(factory=list)


def write_rows(
    txn: Transaction, table: StoredTable, changes: RowChanges, *, check: bool = True
) -> tuple[list[Pair], list[bytes]]:
    """Write rows into the transaction.

    Args:
        txn: what the writes are added to. After an error some of them are there: roll back, to a savepoint or wholly.
        table: whose rows they are.
        changes: the rows.
        check: look for duplicates in the snapshot now. Without, a commit finds them (a conflict on a key that was
            expected to be absent), which spares an insert its read.

    Returns:
        The key and the value of each new row, and the value of each changed one.

    Raises:
        DataError: for a value that its column does not take, or a key that is too long.
        IntegrityError: for a primary key, or a value of a unique index, that is taken, and a CHECK that is false.
        ProgrammingError: if the transaction itself has written the record since the value before was read.
    """
    return _Writing(txn, table, check).write(changes)


class _Writing:
    """One call of :func:`write_rows`."""

    def __init__(self, txn: Transaction, table: StoredTable, check: bool) -> None:
        self.txn, self.table, self.check = txn, table, check
        self.codec = table.codec
        self.counted = table.count_key is not None
        self.exempt = table.definition.options.compaction == "fifo"
        self.records = txn.pending(table.family)
        self.expected = txn.expected(table.family)
        self.unseen: list[tuple[IndexCodec, Changes, bytes]] = []
        self.indexes: list[tuple[IndexCodec, Changes, dict[bytes, bytes | None] | None]] = [
            (
                index,
                txn.pending(index.family),
                txn.expected(index.family) if index.definition.unique and not self.exempt else None,
            )
            for index in self.codec.indexes
        ]
        txn.tables[table.name] = table

    def write(self, changes: RowChanges) -> tuple[list[Pair], list[bytes]]:
        encode, entries, decode, moves = self.codec.encode, self.codec.entries, self.codec.decode, self.codec.moves
        check = self.codec.check
        indexed = bool(self.indexes)
        coming: list[Move] = []
        updated: list[bytes] = []
        puts: list[Pair] = []
        for key, before, row in changes.changed:
            new_key, value, row = encode(row)  # noqa: PLW2901 - normalised
            if new_key != key:
                raise exc.InternalError(
                    f"a changed row of {self.table.name} has another key: {exc.shown(key)} became {exc.shown(new_key)}"
                )
            updated.append(value)
            if value == before:
                continue
            if check is not None:
                check(row)
            self._refuse_stale(key, before)
            self._expect(key, before)
            puts.append((key, value))
            if indexed:
                for number, old, new in moves(decode(key, before), row, key):
                    self._remove(number, old, new)
                    coming.append((number, old, new))
        for key, before in changes.gone:
            self._refuse_stale(key, before)
            self._expect(key, before)
            self._set(self.records, key, DELETE)
            if indexed:
                for number, old in enumerate(entries(decode(key, before), key)):
                    self._remove(number, old, ())
        for key, value in puts:
            self._set(self.records, key, value)
        if check is not None:
            for new_row in changes.new:
                check(encode(new_row)[2])
        inserted, fresh = self._insert(changes.new) if changes.new else ([], [])
        for number, old, new in coming:
            self._put(number, old, new)
        if changes.new:
            self._put_fresh(changes.new, fresh)
        if self.check:
            self._check_unique()
        delta = len(inserted) - len(changes.gone)
        if delta and self.counted:
            self.txn.adjust(self.table, delta)
        return inserted, updated

    def _insert(self, rows: list[Row]) -> tuple[list[Pair], list[tuple[dict[bytes, bytes], int]]]:
        """Write the records of new rows; their index entries come back with them, to be written last."""
        inserted, entries = self.codec.insert(rows)
        puts = dict(inserted)
        if len(puts) == len(inserted) and self.records.keys().isdisjoint(puts):
            self.txn.add_new(self.records, puts)
            unseen = list(puts)
        else:
            unseen = self._insert_each(inserted)
        if unseen and not self.exempt:
            if self.check:
                for key, found in zip(unseen, self.txn.multi_get_base(self.table.family, unseen), strict=True):
                    if found is not None:
                        raise duplicate_key(self.table, key)
            if not self.expected.keys().isdisjoint(unseen):
                unseen = [key for key in unseen if key not in self.expected]
            self.txn.add_new(self.expected, dict.fromkeys(unseen))
        return inserted, entries

    def _insert_each(self, pairs: Sequence[Pair]) -> list[bytes]:
        """Write records of which this transaction has written some already; the keys that it has not."""
        unseen: list[bytes] = []
        for key, value in pairs:
            pending = self.records.get(key)
            if pending is None:
                unseen.append(key)
            elif pending is not DELETE:
                raise duplicate_key(self.table, key)
            self._set(self.records, key, value)
        return unseen

    def _put_fresh(self, rows: list[Row], entries: list[tuple[dict[bytes, bytes], int]]) -> None:
        """Write the index entries of new rows."""
        for number, (index, pending, expected) in enumerate(self.indexes):
            new: dict[bytes, Any]
            new, count = entries[number]
            if (
                len(new) == count
                and pending.keys().isdisjoint(new)
                and (expected is None or expected.keys().isdisjoint(new))
            ):
                self.txn.add_new(pending, new)
                if expected is not None:
                    self.txn.add_new(expected, dict.fromkeys(new))
                    self.unseen += [(index, pending, entry) for entry in new]
                continue
            for entry, value in new.items() if len(new) == count else self._each_entry(rows, number):
                if expected is not None:
                    self._claim(index, pending, expected, entry)
                self._set(pending, entry, value)

    def _each_entry(self, rows: list[Row], number: int) -> Iterator[Pair]:
        """The entries of rows in one index, equal ones too."""
        for key, _, row in map(self.codec.encode, rows):
            yield from self.codec.entries(row, key)[number]

    def _claim(self, index: IndexCodec, pending: Changes, expected: dict[bytes, bytes | None], entry: bytes) -> None:
        """Raise if a unique entry is taken, as far as the transaction itself knows; the snapshot is looked at later."""
        holder = pending.get(entry)
        if holder is not None and holder is not DELETE:
            raise duplicate_entry(self.table, index, entry)
        if holder is None and expected.get(entry) is not None:
            # Another record's, in an index that is being built.
            raise duplicate_entry(self.table, index, entry)
        if entry not in expected and holder is None:
            self._set(expected, entry, None)
            self.unseen.append((index, pending, entry))

    def _set(self, target: dict[Any, Any], key: Any, value: Any) -> None:
        if self.txn.undo is not None:
            self.txn.remember(target, key)
        target[key] = value

    def _expect(self, key: bytes, value: bytes | None) -> None:
        """Expect the record as this transaction found it; what it wrote itself meanwhile is no matter."""
        if key not in self.records and key not in self.expected and not self.exempt:
            self._set(self.expected, key, value)

    def _refuse_stale(self, key: bytes, before: bytes) -> None:
        """Index entries go by the value before: it must be the one that this transaction has written, if it did."""
        if self.records.get(key, before) != before:
            raise exc.ProgrammingError(
                f"{self.table.codec.named(self.table.codec.decode_key(key))} was written by this transaction after the"
                " object was read (refresh the object before it is changed)",
                table=self.table.name, cf=self.table.family, key=key,
            )  # fmt: skip

    def _remove(self, number: int, old: Sequence[Pair], new: Sequence[Pair]) -> None:
        """Remove the entries of a row in one index that it has no more."""
        index, pending, expected = self.indexes[number]
        kept = dict(new) if old and new else {}
        for entry, value in old:
            if entry in kept and expected is None:
                continue
            if expected is not None and entry not in expected and entry not in pending:
                if index.definition.state == "building":
                    # The record may have no entry yet, or its value may be another's by now.
                    [found] = self.txn.multi_get_base(index.family, [entry])
                    self._set(expected, entry, found)
                    if found is None or index.primary_key(entry, found) != index.primary_key(entry, value):
                        continue
                else:
                    self._set(expected, entry, value)
            self._set(pending, entry, DELETE)

    def _put(self, number: int, old: Sequence[Pair], new: Sequence[Pair]) -> None:
        """Put the entries of a row in one index that it has not had."""
        index, pending, expected = self.indexes[number]
        kept = dict(old) if old and new and expected is None else {}
        for entry, value in new:
            if entry in kept and kept[entry] == value:
                continue
            if expected is not None:
                self._claim(index, pending, expected, entry)
            self._set(pending, entry, value)

    def _check_unique(self) -> None:
        """Look up the unique entries that are new: the snapshot must have none."""
        wanted: dict[IndexCodec, list[bytes]] = {}
        for index, pending, entry in self.unseen:
            if pending.get(entry, DELETE) is not DELETE:
                wanted.setdefault(index, []).append(entry)
        for index, entries in wanted.items():
            for entry, found in zip(entries, self.txn.multi_get_base(index.family, entries), strict=True):
                if found is not None:
                    raise duplicate_entry(self.table, index, entry)


def conflicts(txn: Transaction, table: StoredTable, row: Row) -> Iterator[tuple[IndexCodec | None, bytes]]:
    """The records, pending ones too, that have the key of a row or values of it that are unique.

    Yields:
        The unique index, or None for the key, and the key of the record: the key first, then the newest index first.
    """
    key, _, row = table.codec.encode(row)
    if txn.get(table.family, key) is not None:
        yield None, key
    if not any(index.definition.unique for index in table.codec.indexes):
        return
    positions = table.codec.positions
    found_entries = zip(table.codec.indexes, table.codec.entries(row, key), strict=True)
    # The newest index first, as SQLite looks at them.
    for index, entries in sorted(found_entries, key=lambda pair: pair[0].definition.id, reverse=True):
        if not index.definition.unique or any(row[positions[part.name]] is None for part in index.definition.parts):
            continue  # NULL is nobody's duplicate: its entry is found if the key is taken
        for entry, _ in entries:
            found = txn.get(index.family, entry)
            if found is not None:
                yield index, index.primary_key(entry, found)


def duplicate_key(table: StoredTable, key: bytes) -> exc.IntegrityError:
    """The error for a primary key that is taken."""
    named = table.codec.named(table.codec.decode_key(key))
    return exc.IntegrityError(
        f"{named} exists already; a primary key is unique (get the record and change it, or use merge)",
        table=table.name, cf=table.family, key=key,
    )  # fmt: skip


def duplicate_entry(table: StoredTable, index: IndexCodec, entry: bytes) -> exc.IntegrityError:
    """The error for values of a unique index that are taken."""
    columns = index.definition.columns
    if table.definition.shared:  # the values of SQL are not to be had of the bytes in a key
        return exc.IntegrityError(
            f"unique index {index.definition.name} of {table.name} has these values already",
            table=table.name, index=index.definition.name, cf=index.family, key=entry,
        )  # fmt: skip
    values = index.columns.decode(entry)
    shown = ", ".join(
        f"{name}={exc.shown(value) if isinstance(value, bytes) else repr(value)}"
        for name, value in zip(columns, values, strict=True)
    )
    return exc.IntegrityError(
        f"unique index {index.family} of {table.name} has ({shown}) already; its values are distinct (change one of"
        " them)",
        table=table.name, index=index.family, values=tuple(values), cf=index.family, key=entry,
    )  # fmt: skip


def reindex(txn: Transaction, old: StoredTable, new: StoredTable) -> None:
    """Make the pending index entries of a table anew, from the rows that are pending, after its indexes changed.

    Raises:
        IntegrityError: for a row of which a CHECK is false that the table has by now.
    """
    if new.definition.shared:
        _forget_entries(txn, {*old.codec.indexes, *new.codec.indexes})
    else:
        for name in {*old.indexes, *new.indexes}:
            txn.changes.pop(name, None)
            txn.base.pop(name, None)
    writing = _Writing(txn, new, check=False)
    decode, entries = new.codec.decode, new.codec.entries
    expected = txn.base.get(new.family, {})
    nothing: tuple[tuple[Pair, ...], ...] = ((),) * len(new.codec.indexes)
    moves: list[Move] = []
    for key, change in list(txn.changes.get(new.family, {}).items()):
        if not key.startswith(new.prefix):
            continue
        before = expected.get(key)
        was = entries(decode(key, before), key) if before is not None else nothing
        now = nothing
        if change is not DELETE:
            row = decode(key, change)  # type: ignore[arg-type]
            if new.codec.check is not None:
                new.codec.check(row)
            now = entries(row, key)
        for number, (old_entries, new_entries) in enumerate(zip(was, now, strict=True)):
            if old_entries != new_entries:
                writing._remove(number, old_entries, new_entries)
                moves.append((number, old_entries, new_entries))
    for number, old_entries, new_entries in moves:
        writing._put(number, old_entries, new_entries)


def _forget_entries(txn: Transaction, indexes: set[IndexCodec]) -> None:
    """Forget the pending entries of indexes that share a family with others."""
    for index in indexes:
        prefix: bytes = index.prefix  # type: ignore[attr-defined]
        for target in (txn.changes.get(index.family, {}), txn.base.get(index.family, {})):
            for key in [key for key in target if key.startswith(prefix)]:
                del target[key]


def commit(txn: Transaction) -> None:
    """Commit a transaction.

    Raises:
        IntegrityError: for a primary key or a unique value that is taken, and was when the transaction began.
        ConflictError: if another transaction came first, naming the record or the unique values.
        SchemaChanged: if the fields of a table were changed meanwhile.
        Error: what ``batch_write`` raises.
    """
    try:
        txn.commit(reindex)
    except exc.ConflictError as error:
        explanation = explained(txn, error)
        if explanation is error:
            raise
        raise explanation from error


def explained(txn: Transaction, error: exc.ConflictError) -> exc.Error:
    """A storage conflict in terms of records: which record or unique value, and whether it is a duplicate.

    A key that an insert expected to be absent, without having looked, is a duplicate where the transaction has read
    nothing: it cannot have seen anything else.
    """
    cf, key = getattr(error, "cf", None), getattr(error, "key", None)
    if cf is None or key is None:
        return error
    facts: dict[str, Any] = {**error.facts}
    single = key in txn.base.get(cf, {}) or key in txn._reads.get(cf, {})  # else it is where a range begins
    for table in txn.tables.values():
        if cf == table.family and single and key.startswith(table.prefix):
            unseen = txn.base.get(cf, {}).get(key, b"") is None and not txn.looked
            if unseen:
                return duplicate_key(table, key)
            named = table.codec.named(table.codec.decode_key(key))
            return exc.ConflictError(
                f"{named} was changed by another transaction since this one began (run the transaction again)",
                **{**facts, "table": table.name},
            )
        index = _index_at(table, cf, key)
        if index is not None and index.definition.unique and key in txn.base.get(cf, {}):
            if not txn.looked:
                return duplicate_entry(table, index, key)
            if table.definition.shared:
                return exc.ConflictError(
                    f"values of unique index {index.definition.name} of {table.name} were taken or given up by another"
                    " transaction since this one began (run the transaction again)",
                    **{**facts, "table": table.name, "index": index.definition.name},
                )
            values = index.columns.decode(key)
            return exc.ConflictError(
                f"the values {values!r} of unique index {cf} of {table.name} were taken or given up by another"
                " transaction since this one began (run the transaction again)",
                **{**facts, "table": table.name, "index": cf},
            )
    return error


def _index_at(table: StoredTable, cf: str, key: bytes) -> IndexCodec | None:
    """The index of a table that an entry is of."""
    if not table.definition.shared:
        return table.indexes.get(cf)
    if cf != table.family:
        return None
    return next((index for index in table.codec.indexes if key.startswith(index.prefix)), None)  # type: ignore[attr-defined]
