"""Foreign keys, as SQLite enforces them (https://www.sqlite.org/foreignkeys.html).

The writer tells of each row that it has written. What a row's references must meet is noted and looked at when the
statement ends, or when the transaction commits if the constraint is deferred: what is mended until then is no error.
Actions (CASCADE, SET NULL, SET DEFAULT) run at once, RESTRICT fails at once.

Other transactions are kept out by expectations of the commit: that each parent which a new row refers to is still
there, and, where a parent goes, that no row came which refers to it. Without an index on the referring columns the
latter is the whole table: then a parent that goes conflicts with every change of the referring table. Changes of the
schema conflict with both, as they may bring a table that refers to the parent, or take the parent's away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from kvdialect import exc
from kvdialect.dialect.links import Bond, Key, Values
from kvdialect.dialect.relations import Relation, find
from kvdialect.schema.names import folded
from kvdialect.schema.rows import Pair
from kvdialect.store.catalog import Catalog
from kvdialect.store.kin import Kin
from kvdialect.store.links import Link, Links, foreign_key_failed, sql_name

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

_ACTING: Final = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


@attrs.frozen(eq=False)
class _Duties:
    """What is to be watched in the rows of one table: its own foreign keys, and those that refer to it."""

    own: Sequence[Bond]
    others: Sequence[Bond]

    @property
    def any(self) -> bool:
        return bool(self.own or self.others)


class ForeignKeys:
    """Watches over the foreign keys of a connection's transaction.

    Attributes:
        deferred: all constraints wait for the commit (``PRAGMA defer_foreign_keys``), until the transaction ends.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.deferred = False
        self._catalog: Catalog | None = None
        self._duties: dict[Relation, _Duties] = {}
        self._bonds: dict[Link, Bond] = {}
        self._sound: dict[Relation, bool] = {}
        # Of the statement: keys that must have a parent, and keys of parents that are gone.
        self._came: dict[Bond, dict[Key, None]] = {}
        self._gone: dict[Bond, dict[Key, None]] = {}
        # Of the transaction: foreign key, whether the parent went, and its key. Only ever appended to, so that a
        # savepoint is its length.
        self._waiting: dict[tuple[tuple[int, int], bool, Key], None] = {}
        self._kin = Kin()
        self._actions: list[Iterator[None]] = []
        self._acting = False

    # ------------------------------------------------------------------------------------------ what the writer tells

    def watches(self, relation: Relation) -> bool:
        """Whether the rows of a table have to be told of."""
        return self._of(relation).any

    def sound(self, relation: Relation) -> bool:
        """Whether all foreign keys that writing to a table may come upon, by actions too, can be used.

        One cannot if there is no parent table, or if that has no key or unique index of the columns referred to. Which
        statements are refused then SQLite tells, see :meth:`Connection._validate`; in others such a key has no meaning.
        """
        duties = self._of(relation)
        known = self._sound.get(relation)
        if known is None:
            known = self._sound[relation] = not duties.any or self._reached_are_sound(relation)
        return known

    def _reached_are_sound(self, relation: Relation) -> bool:
        sound = True
        reached = {relation}
        waiting = [relation]
        names = set()
        while waiting:
            duties = self._of(waiting.pop())
            for bond in (*duties.own, *duties.others):
                names |= {folded(bond.child.name), bond.link.parent[1]}
                sound = sound and bond.path is not None
            new = {bond.child for bond in duties.others} - reached
            reached |= new
            waiting += new
        if not sound:
            self._connection.shadow.ensure(names)
        return sound

    def inserted(self, relation: Relation, values: Values, record: bytes) -> None:
        """A row was inserted, whose key is ``record``."""
        for bond in self._of(relation).own:
            if bond.path is not None:
                key = bond.reference(values)
                if key is not None:
                    self._came.setdefault(bond, {})[key] = None
                    self._related(bond, key, record)

    def deleted(self, relation: Relation, values: Values) -> None:
        """A row was deleted; what its foreign keys say is done."""
        actions = []
        for bond in self._of(relation).others:
            if bond.path is not None:
                key = bond.identity(values)
                if key is not None:
                    actions += self._parent_gone(bond, key, None, bond.link.key.ondelete)
        self._act(actions)

    def updated(self, relation: Relation, old: Values, new: Values, record: bytes) -> None:
        """A row was changed, whose key is ``record`` now; what its foreign keys say is done."""
        duties = self._of(relation)
        for bond in duties.own:
            key = None if bond.path is None else bond.reference(new)
            if key is None:
                continue
            self._related(bond, key, record)
            if any(not _same(old[at], new[at]) for at in bond.columns):
                self._came.setdefault(bond, {})[key] = None
        actions = []
        for bond in duties.others:
            if all(_same(old[at], new[at]) for at in bond.targets) or bond.path is None:
                continue
            key = bond.identity(old)
            now = [new[at] for at in bond.targets]
            if key is not None and bond.folded(key) != bond.folded(now):
                actions += self._parent_gone(bond, key, now, bond.link.key.onupdate)
        self._act(actions)

    def _related(self, bond: Bond, key: Key, record: bytes) -> None:
        """A row refers to the parent with a key from now on."""
        if self._kin.knows(bond):
            self._kin.add(bond, bond.folded(key), record)

    def violations(self, relation: Relation) -> Iterator[tuple[str, int | None, str, int]]:
        """The rows of a table that refer to nothing, as ``PRAGMA foreign_key_check`` has them.

        Returns:
            The table, the rowid if there is one, the table referred to, and which foreign key, counted from the last.
        """
        txn = self._connection.txn
        bonds = list(enumerate(reversed(self._of(relation).own)))
        rowid = -1 if relation.alias is None else relation.alias
        for key, raw in find(txn, relation, (), ()) if bonds else ():
            row = relation.decode(key, raw)
            for number, bond in bonds:
                reference = bond.reference(row)
                if reference is None:
                    continue
                point = None if bond.path is None else bond.point(reference)
                if point is None or bond.path is None or bond.path.at(txn, point) is None:
                    shown = row[rowid] if relation.rowid else None
                    yield relation.name, shown, sql_name(bond.link.key.table)[1], number

    def dropping(self, relation: Relation) -> None:
        """A table is about to be dropped, with foreign keys on: its rows are deleted first, actions included.

        Raises:
            IntegrityError: rows of other tables would refer to nothing.
        """
        connection = self._connection
        others = [bond for bond in self._of(relation).others if bond.path is not None]
        strangers = [bond for bond in others if bond.child is not relation]
        for bond in strangers:
            connection.txn.expect_range(bond.child.stored.family, *_whole(bond.child))
        filled = [bond for bond in strangers if connection.txn.count(bond.child.stored)]
        if filled or any(
            (bond.link.key.ondelete or "").upper() == "RESTRICT" for bond in others if bond.child is relation
        ):
            try:
                with connection.writer.quietly():
                    for key in [key for key, _ in find(connection.txn, relation, (), ())]:
                        connection.writer.delete(relation, key)
                self.end_statement()
            finally:
                self.abort_statement()

    # ------------------------------------------------------------------------------------------ when it is checked

    def end_statement(self) -> None:
        """Check what must hold at the end of a statement.

        Raises:
            IntegrityError: a row refers to nothing.
        """
        if not self._came and not self._gone:
            self._kin.end()
            return
        waiting: list[tuple[tuple[int, int], bool, Key]] = []
        for gone, noted in ((True, self._gone), (False, self._came)):
            for bond, keys in noted.items():
                later = self.deferred or bond.link.key.deferred
                missing = self._without_parent(bond, list(keys))
                if later:
                    waiting += [(bond.link.number, gone, key) for key in missing]
                else:
                    self._require(bond, gone, missing)
        self.abort_statement()
        if waiting:
            self._wait(waiting)

    def _wait(self, waiting: Sequence[tuple[tuple[int, int], bool, Key]]) -> None:
        """Leave it to the commit to check these."""
        txn = self._connection.txn
        for each in waiting:
            if txn.undo is not None:
                txn.remember(self._waiting, each)  # a Session's savepoints know nothing of this object
            self._waiting[each] = None
        if self._connection.borrowed and self.check_commit not in txn.checks:
            txn.checks.append(self.check_commit)

    def abort_statement(self) -> None:
        """Forget what the statement has to meet: it was undone."""
        self._came.clear()
        self._gone.clear()
        self._kin.end()

    def check_commit(self) -> None:
        """Check what deferred constraints wait for. The transaction stays open if they do not hold.

        Raises:
            IntegrityError: a row refers to nothing.
        """
        if not self._waiting:
            return
        links = Links.within(self._connection.catalog)
        noted: dict[tuple[tuple[int, int], bool], list[Key]] = {}
        for number, gone, key in self._waiting:
            noted.setdefault((number, gone), []).append(key)
        for (number, gone), keys in noted.items():
            link = links.numbered.get(number)
            if link is None:
                continue  # the referring table was dropped
            bond = self._bond(link)
            self._require(bond, gone, keys if bond.path is None else self._without_parent(bond, keys))

    def savepoint(self) -> int:
        """A mark to give to :meth:`rollback_to`."""
        return len(self._waiting)

    def rollback_to(self, mark: int) -> None:
        """Forget what was noted since a mark."""
        while len(self._waiting) > mark:
            self._waiting.popitem()

    def reset(self) -> None:
        """The transaction is over."""
        self._waiting.clear()
        self.abort_statement()
        self.deferred = False

    # ------------------------------------------------------------------------------------------ parents

    def _without_parent(self, bond: Bond, keys: list[Key]) -> list[Key]:
        """The keys that have no parent; the commit expects the parents of the others to stay."""
        assert bond.path is not None
        txn = self._connection.txn
        family = bond.path.family
        missing = []
        points: list[bytes] = []
        sought: list[Key] = []
        for key in keys:
            point = bond.point(key)
            if point is None:
                missing.append(key)
            else:
                points.append(point)
                sought.append(key)
        written = txn.changes.get(family, {})
        for key, point, value in zip(sought, points, txn.multi_get(family, points), strict=True):
            if value is None:
                missing.append(key)
            elif point not in written:
                txn.expect_present(family, point, value)
                txn.expect_schema(self._connection.catalog.raw_version)
        return missing

    def _require(self, bond: Bond, gone: bool, keys: list[Key]) -> None:
        """Raise if a row refers to one of these keys, which have no parent."""
        if not keys:
            return
        if gone and bond.path is not None:
            found = next(bond.children(self._connection, keys), None)
        else:
            found = next(self._holding(bond, keys), None)
        if found is not None:
            raise _failed(bond, bond.reference(bond.child.decode(*found)))

    def _holding(self, bond: Bond, keys: list[Key]) -> Iterator[Pair]:
        """The rows of the child that hold one of these keys; a row that was noted may be gone since."""
        txn, child = self._connection.txn, bond.child
        wanted = set(keys)
        found = find(txn, child, bond.columns, keys[0]) if len(keys) == 1 else find(txn, child, (), ())
        for key, raw in found:
            if bond.reference(child.decode(key, raw)) in wanted:
                yield key, raw

    # ------------------------------------------------------------------------------------------ actions

    def _parent_gone(self, bond: Bond, key: Key, now: list[Any] | None, said: str | None) -> list[Iterator[None]]:
        """What is to be done as a parent is gone, or (``now``) has another key."""
        action = "NO ACTION" if said is None else said.upper()  # models say it in either case
        connection = self._connection
        span = bond.span_of_children(key)
        if span is not None:
            connection.txn.expect_range(*span)
        connection.txn.expect_schema(connection.catalog.raw_version)
        if action == "RESTRICT" and not self.deferred:
            return [self._restricted(bond, key)]
        if action in _ACTING:
            return [self._changed_children(bond, key, now, action)]
        self._gone.setdefault(bond, {})[key] = None
        return []

    def _restricted(self, bond: Bond, key: Key) -> Iterator[None]:
        found = next(self._children(bond, key), None)
        if found is not None:
            raise _failed(bond, bond.reference(bond.child.decode(*found)))
        yield

    def _children(self, bond: Bond, key: Key) -> Iterator[Pair]:
        """The rows that refer to a parent with this key."""
        connection, child = self._connection, bond.child
        txn = connection.txn
        if bond.direct and bond.path_of_children() is not None:
            return bond.children(connection, [key])
        known = self._kin.find(bond, bond.folded(key), txn.count(child.stored), lambda: bond.all_children(txn))
        return bond.children(connection, [key]) if known is None else bond.still_children(txn, key, known)

    def _changed_children(self, bond: Bond, key: Key, now: list[Any] | None, action: str) -> Iterator[None]:
        """Change or delete the rows that refer to ``key``, one at each step."""
        connection, child = self._connection, bond.child
        keys = [found for found, _ in self._children(bond, key)]
        if not keys:
            return
        if action == "SET DEFAULT":
            # As with SET NULL, the end of the statement sees whether what rows refer to now is there.
            self._gone.setdefault(bond, {})[key] = None
        for found in keys:
            if action == "CASCADE" and now is None:
                connection.writer.delete(child, found)
            else:
                values = child.get(connection.txn, found)
                if values is None:
                    continue
                for place, at in enumerate(bond.columns):
                    if action == "CASCADE":
                        assert now is not None
                        values[at] = now[place]
                    else:
                        values[at] = self._default(child, at) if action == "SET DEFAULT" else None
                connection.writer.update(child, found, values)
            yield

    def _default(self, relation: Relation, at: int) -> Any:
        default = relation.columns[at].default
        return None if default is None else self._connection.default(relation, at)[1]

    def _act(self, actions: list[Iterator[None]]) -> None:
        """Run actions, those of one row before those of the next, as deep as they go.

        They lie on a stack of their own: a chain of rows may be longer than Python's.
        """
        stack = self._actions
        stack.extend(reversed(actions))
        if self._acting or not stack:
            return
        self._acting = True
        try:
            with self._connection.writer.quietly():
                while stack:
                    try:
                        next(stack[-1])
                    except StopIteration:
                        stack.pop()
        finally:
            self._acting = False
            stack.clear()

    # ------------------------------------------------------------------------------------------ the schema

    def _of(self, relation: Relation) -> _Duties:
        catalog = self._connection.catalog
        if catalog is not self._catalog:
            self._catalog = catalog
            self._duties.clear()
            self._bonds.clear()
            self._sound.clear()
        duties = self._duties.get(relation)
        if duties is None:
            links = Links.within(catalog)
            own = links.of.get(relation.stored.name, ())
            others = links.to.get((folded(relation.schema), folded(relation.name)), ())
            duties = _Duties([self._bond(link) for link in own], [self._bond(link) for link in others])
            self._duties[relation] = duties
        return duties

    def _bond(self, link: Link) -> Bond:
        bond = self._bonds.get(link)
        if bond is None:
            child = self._connection.relation_named(link.child)
            assert child is not None
            bond = self._bonds[link] = Bond(self._connection, link, child)
        return bond


def _same(old: Any, new: Any) -> bool:
    return old is new or (old.__class__ is new.__class__ and old == new)


def _whole(relation: Relation) -> tuple[bytes, bytes | None]:
    span = relation.paths[0].range()
    assert span is not None
    return span


def _failed(bond: Bond, key: Key | None) -> exc.IntegrityError:
    return foreign_key_failed(bond.link.key, bond.child.name, key)
