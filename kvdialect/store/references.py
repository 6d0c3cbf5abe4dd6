"""Foreign keys of records, enforced as rows are written at the native door.

Who writes rows tells of them (:meth:`References.wrote`), and when a flush or a statement has written all of its rows,
:meth:`References.settle` does what ``ON DELETE`` and ``ON UPDATE`` say and looks whether each row has its parent. What
is there again by then is no error, RESTRICT included: a flush deletes children and parents in one. What is INITIALLY
DEFERRED may be there again by the commit.

Other transactions are kept out as at the SQL door, at either isolation level. The commit expects that each parent that
was looked up is still there; where a parent goes, that the range of its children is as the snapshot has it (without
an index on the foreign key: the whole table); and that the schema is the same, as another table may refer to the
parent by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import attrs

from kvdialect import exc
from kvdialect.schema.names import folded
from kvdialect.schema.rows import Pair, Row
from kvdialect.store.catalog import Catalog
from kvdialect.store.kin import Kin
from kvdialect.store.links import Link, Links, foreign_key_failed, sql_name
from kvdialect.store.paths import Path, path_to, unique_path
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, write_rows

Key = tuple[Any, ...]

_ACTING: Final = ("CASCADE", "SET NULL", "SET DEFAULT")


@attrs.frozen
class Written:
    """What an action has written to a table.

    Attributes:
        table: the table.
        changed: keys of the records that were changed.
        gone: keys of those that went.
        moved: keys of those that have another key now, and that.
    """

    table: StoredTable
    changed: list[bytes]
    gone: list[bytes]
    moved: dict[bytes, bytes]


@attrs.frozen(eq=False)
class Reference:
    """A foreign key between two tables as they are.

    Attributes:
        link: the foreign key.
        child: the referring table.
        parent: the table referred to; None if the store has none.
        columns: of the child.
        targets: the columns of the parent that they refer to, in the same order.
    """

    link: Link
    child: StoredTable
    parent: StoredTable | None
    columns: tuple[str, ...]
    targets: tuple[str, ...]

    def of_child(self, row: Row) -> Key | None:
        """What a row refers to; None if it refers to nothing."""
        return _chosen(self.child, row, self.columns)

    def of_parent(self, row: Row) -> Key | None:
        """What rows refer to this row of the parent by; None if none can."""
        assert self.parent is not None
        return _chosen(self.parent, row, self.targets)

    def way_to_parent(self) -> Path:
        """The path to a parent.

        Raises:
            ProgrammingError: if there can be none: no table, or no key or unique index of these columns.
            NotSupportedError: if the parent is a table that SQL has made.
        """
        child, name = self.child.name, sql_name(self.link.key.table)[1]
        if self.parent is None:
            raise exc.ProgrammingError(
                f"{child} refers to {name}, a table that the store does not have (create it first)"
            )
        if self.parent.definition.shared:
            raise exc.NotSupportedError(
                f"{child} refers to {name}, a table that SQL has made: such foreign keys are enforced at the SQL door"
                " alone (write these rows there, by session.connection())"
            )
        path = unique_path(self.parent, self.targets)
        if path is None:
            raise exc.ProgrammingError(
                f"{child} refers to {name}({', '.join(self.targets)}), which are neither its primary key nor those of"
                " a unique index (declare one)"
            )
        return path

    def way_to_children(self) -> Path:
        """The path to the rows that refer to a parent."""
        return path_to(self.child, self.columns)


def _chosen(table: StoredTable, row: Row, columns: Sequence[str]) -> Key | None:
    positions = table.codec.positions
    key = tuple([row[positions[name]] for name in columns])
    return None if None in key else key


def _present(keys: Sequence[bytes], values: Sequence[bytes | None]) -> Iterator[Pair]:
    """The pairs of keys that have a value."""
    for key, value in zip(keys, values, strict=True):
        if value is not None:
            yield key, value


class References:
    """Watches over the foreign keys of a transaction.

    Args:
        txn: the transaction.
        catalog: gives the catalog by which its rows are read and written.
        default: ``default(table, column)``: the default that a record declares; None if it has none.
    """

    def __init__(self, txn: Transaction, catalog: Callable[[], Catalog], default: Callable[[str, str], Any]) -> None:
        self._txn = txn
        self._catalog = catalog
        self._default = default
        self._seen: Catalog | None = None
        self._duties: dict[str, tuple[list[Reference], list[Reference]]] = {}
        # What came and went since it was settled last.
        self._came: dict[Reference, dict[Key, None]] = {}
        self._gone: deque[tuple[Reference, Key, Key | None]] = deque()
        self._written: list[Written] = []
        self._kin = Kin()
        self._waiting: dict[tuple[tuple[int, int], Key], None] = {}
        """By the numbers of deferred foreign keys, what had no parent: the commit looks again."""

    def wrote(
        self,
        table: StoredTable,
        changes: RowChanges,
        inserted: Sequence[Pair],
        updated: Sequence[bytes],
        moved: int = 0,
    ) -> None:
        """Rows were written.

        Args:
            table: whose they are.
            changes: as they were given to :func:`~kvdialect.store.writer.write_rows`.
            inserted: what that returned for new rows.
            updated: what that returned for changed ones.
            moved: the first so many of ``changes.gone`` have become the first so many of the new rows.
        """
        own, others = self._of(table.name)
        if not own and not others:
            return
        decode = self._table(table.name).codec.decode
        pairs: list[tuple[Row, Row, bytes]] = []
        for (key, before, _), value in zip(changes.changed, updated, strict=True):
            if before != value:
                pairs.append((decode(key, before), decode(key, value), key))
        for before_pair, now_pair in zip(changes.gone[:moved], inserted[:moved], strict=True):
            pairs.append((decode(*before_pair), decode(*now_pair), now_pair[0]))
        for before_row, row, key in pairs:
            for reference in own:
                if reference.of_child(row) != reference.of_child(before_row):
                    self._comes(reference, row)
                self._kin.add(reference, reference.of_child(row), key)
            for reference in others:
                left, now = reference.of_parent(before_row), reference.of_parent(row)
                if left is not None and left != now:
                    self._gone.append((reference, left, now))
        if own:
            for pair in inserted[moved:]:
                row = decode(*pair)
                for reference in own:
                    self._comes(reference, row)
                    self._kin.add(reference, reference.of_child(row), pair[0])
        if others:
            for pair in changes.gone[moved:]:
                row = decode(*pair)
                for reference in others:
                    left = reference.of_parent(row)
                    if left is not None:
                        self._gone.append((reference, left, None))

    def settle(self) -> list[Written]:
        """Do what foreign keys say, and check them.

        Returns:
            What was written besides.

        Raises:
            IntegrityError: a row refers to nothing.
        """
        try:
            left: dict[Reference, dict[Key, None]] = {}
            while self._gone:
                reference, key, now = self._gone.popleft()
                if self._act(reference, key, now):
                    left.setdefault(reference, {})[key] = None
            for noted in (left, self._came):
                for reference, keys in noted.items():
                    if reference.link.key.deferred:
                        self._wait(reference, list(keys))
                    else:
                        self._require_parents(reference, list(keys))
            return self._written
        finally:
            self.forget()

    def _wait(self, reference: Reference, keys: list[Key]) -> None:
        """Leave it to the commit to look for parents that are not there; a rollback needs no word of it."""
        for key in self._missing(reference, keys):
            self._waiting[reference.link.number, key] = None
        if self._waiting and self._check_commit not in self._txn.checks:
            self._txn.checks.append(self._check_commit)

    def _check_commit(self) -> None:
        numbered = Links.within(self._catalog()).numbered
        noted: dict[tuple[int, int], list[Key]] = {}
        for number, key in self._waiting:
            noted.setdefault(number, []).append(key)
        for number, keys in noted.items():
            if number in numbered:  # else the referring table was dropped
                self._require_parents(self._reference(numbered[number]), keys)

    def forget(self) -> None:
        """What was told of is undone."""
        self._came, self._gone, self._written = {}, deque(), []
        self._kin.end()

    def _comes(self, reference: Reference, row: Row) -> None:
        key = reference.of_child(row)
        if key is not None:
            self._came.setdefault(reference, {})[key] = None

    # ------------------------------------------------------------------------------------------ parents

    def _missing(self, reference: Reference, keys: list[Key]) -> list[Key]:
        """The keys that have no parent; the commit expects those of the others to stay."""
        path, txn = reference.way_to_parent(), self._txn
        points = {key: path.point(key) for key in keys}
        sought = {key: point for key, point in points.items() if point is not None}
        missing = [key for key, point in points.items() if point is None]
        written = txn.changes.get(path.family, {})
        found = txn.multi_get(path.family, sought.values())
        for (key, point), value in zip(sought.items(), found, strict=True):
            if value is None:
                missing.append(key)
            elif point not in written:
                txn.expect_present(path.family, point, value)
                txn.expect_schema(self._catalog().raw_version)
        return missing

    def _require_parents(self, reference: Reference, keys: list[Key]) -> None:
        """Raise if a row refers to one of these keys and that has no parent."""
        for key in self._missing(reference, keys):
            # The row that referred to it may be gone by now.
            if next(self._children(reference, key), None) is not None:
                raise foreign_key_failed(reference.link.key, reference.child.name, key)

    # ------------------------------------------------------------------------------------------ children

    def _children(self, reference: Reference, key: Key) -> Iterator[Pair]:
        path, txn = reference.way_to_children(), self._txn
        child = reference.child
        if path.form != "scan":
            keys = path.record_keys(txn, key)
            yield from _present(keys, txn.multi_get(child.family, keys))
            return
        known = self._kin.find(reference, key, txn.count(child), lambda: self._all_children(reference))
        if known is None:
            for _, pair in path.scanned(txn, [key]):
                yield pair
            return
        for found, raw in _present(known, txn.multi_get(child.family, known)):
            if reference.of_child(child.codec.decode(found, raw)) == key:
                yield found, raw

    def _all_children(self, reference: Reference) -> Iterator[tuple[Key | None, bytes]]:
        child = reference.child
        for key, raw in self._txn.scan(child.family, child.prefix, child.stop):
            yield reference.of_child(child.codec.decode(key, raw)), key

    def _act(self, reference: Reference, key: Key, now: Key | None) -> bool:
        """Do what is to be done as a parent is gone, or has another key; whether its children are to be looked for."""
        txn, child = self._txn, reference.child
        if child.definition.shared:
            self._refuse_unless_empty(reference)
            return False
        path = reference.way_to_children()
        span = path.span(key)
        if not span.empty:
            txn.expect_range(path.family, span.start, span.stop)
        txn.expect_schema(self._catalog().raw_version)
        if not self._missing(reference, [key]):
            return False  # it is there again
        said = reference.link.key.ondelete if now is None else reference.link.key.onupdate
        action = (said or "NO ACTION").upper()
        if action == "RESTRICT" and reference.link.key.deferred:
            self._require_parents(reference, [key])  # it never waits for the commit
            return False
        if action not in _ACTING:
            return True
        pairs = list(self._children(reference, key))
        if not pairs:
            return False
        if action == "CASCADE" and now is None:
            self._write(child, RowChanges(gone=pairs), [key for key, _ in pairs], 0)
            return False
        self._change(reference, pairs, action, now)
        return action == "SET DEFAULT"

    def _change(self, reference: Reference, pairs: list[Pair], action: str, now: Key | None) -> None:
        """Let children refer to something else."""
        codec = reference.child.codec
        changes = RowChanges()
        touched = []
        for key, raw in pairs:
            row = list(codec.decode(key, raw))
            for place, name in enumerate(reference.columns):
                value = None
                if action == "CASCADE":
                    value = None if now is None else now[place]
                elif action == "SET DEFAULT":
                    value = self._default(reference.child.name, name)
                row[codec.positions[name]] = value
            if codec.key(codec.identity(tuple(row))) == key:
                changes.changed.append((key, raw, tuple(row)))
            else:
                changes.gone.append((key, raw))
                changes.new.append(tuple(row))
            touched.append(key)
        self._write(reference.child, changes, touched, len(changes.new))

    def _write(self, table: StoredTable, changes: RowChanges, touched: list[bytes], moved: int) -> None:
        inserted, updated = write_rows(self._txn, table, changes)
        self.wrote(table, changes, inserted, updated, moved)
        gone = [key for key, _ in changes.gone]
        left = set(gone)
        changed = [key for key in touched if key not in left]
        moves = dict(zip(gone[:moved], [key for key, _ in inserted[:moved]], strict=True))
        self._written.append(Written(table, changed, gone[moved:], moves))

    def _refuse_unless_empty(self, reference: Reference) -> None:
        """Rows of a table that SQL made are of SQL's values: only the SQL door knows which of them refer to a key."""
        child = reference.child
        if self._txn.count(child):
            assert reference.parent is not None
            raise exc.NotSupportedError(
                f"{sql_name(child.name)[1]}, a table that SQL has made, refers to {reference.parent.name} and has rows:"
                " its foreign keys are enforced at the SQL door alone (delete there, by session.connection())",
                table=child.name,
            )
        self._txn.expect_range(child.family, child.prefix, child.stop)
        self._txn.expect_schema(self._catalog().raw_version)

    # ------------------------------------------------------------------------------------------ the schema

    def _table(self, name: str) -> StoredTable:
        return self._catalog().table(name)

    def _of(self, table: str) -> tuple[list[Reference], list[Reference]]:
        """The foreign keys of a table, and those that refer to it."""
        catalog = self._catalog()
        if catalog is not self._seen:
            self._seen = catalog
            self._duties.clear()
        duties = self._duties.get(table)
        if duties is None:
            links = Links.within(catalog)
            own = links.of.get(table, ())
            others = links.to.get(("main", folded(table)), ())
            duties = [self._reference(link) for link in own], [self._reference(link) for link in others]
            self._duties[table] = duties
        return duties

    def _reference(self, link: Link) -> Reference:
        catalog = self._catalog()
        name: str | None = link.key.table
        if name not in catalog.entries:
            name = next((each for each in catalog.entries if folded(each) == folded(link.key.table)), None)
        parent = None if name is None else catalog.table(name)
        targets = link.key.targets or (() if parent is None else parent.definition.primary_key)
        return Reference(link, catalog.table(link.child), parent, link.key.columns, targets)
