"""The unit of work: what a session's objects ask of the store, in order, and how they get their values back.

A flush turns new, changed and deleted objects into rows for the row writer. For every object that it touches it notes
what the object was before, once for each level (the transaction, and each ``begin_nested`` in it): so a rollback,
nested too, restores values in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import attrs

from kvdialect import exc
from kvdialect.orm.identity import IdentityMap
from kvdialect.orm.loading import Loading
from kvdialect.orm.refreshing import follow_statement
from kvdialect.schema.declared import sorted_tables
from kvdialect.schema.related import forget_loaded
from kvdialect.schema.rows import Pair
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, duplicate_key, write_rows

if TYPE_CHECKING:
    from kvdialect.orm.session import Session


class Before(NamedTuple):
    """What the object of a record was before its level: its key and value as stored."""

    instance: Any
    mapper: Mapper
    key: bytes
    raw: bytes


@attrs.define(slots=True)
class Level:
    """A transaction or a savepoint: the objects that it has flushed, as they were before.

    Attributes:
        savepoint: the transaction's, or None for the outermost level.
        touched: what objects were, by ``id``.
        arrived: those that were new and are stored now, by ``id``, which need no more than that.
        departed: records were deleted, so that objects may have to be let go of when the level succeeds.
        loaded: objects with relationships, by ``id`` and name, that were loaded from what is not committed.
    """

    savepoint: int | None = None
    touched: dict[int, Before] = attrs.field(factory=dict)
    arrived: dict[Mapper, dict[int, Any]] = attrs.field(factory=dict)
    departed: bool = False
    loaded: dict[tuple[int, str], ref[Any]] = attrs.field(factory=dict)

    def knows(self, ident: int) -> bool:
        """Whether the object with this ``id`` was noted."""
        return ident in self.touched or any(ident in instances for instances in self.arrived.values())

    def note(self, instance: Any, mapper: Mapper) -> None:
        """Remember an object of a stored record, once."""
        if not self.knows(id(instance)):
            self.touched[id(instance)] = Before(instance, mapper, instance._key, instance._raw)

    def note_loaded(self, instance: Any, name: str) -> None:
        """Remember that a relationship was loaded; the object itself is not held."""
        self.loaded[id(instance), name] = ref(instance)

    def note_new(self, instances: list[Any], mapper: Mapper) -> None:
        """Remember objects that are stored now."""
        found = dict(zip(map(id, instances), instances, strict=True))
        if self.touched:
            found = {ident: instance for ident, instance in found.items() if ident not in self.touched}
        known = self.arrived.setdefault(mapper, found)
        if known is not found:
            known.update(found)

    def into(self, outer: Level) -> None:
        """This level has succeeded: what it noted, the outer one needs to know."""
        for ident, before in self.touched.items():
            if not outer.knows(ident):
                outer.touched[ident] = before
        for mapper, instances in self.arrived.items():
            outer.note_new(list(instances.values()), mapper)
        outer.departed = outer.departed or self.departed
        outer.loaded |= self.loaded


class Mapper:
    """A record class in one session: how it is loaded, and the objects that the session has."""

    __slots__ = ("identity", "loading", "record", "table")

    def __init__(self, loading: Loading) -> None:
        self.bind(loading)
        self.identity = IdentityMap()

    def bind(self, loading: Loading) -> None:
        """Take the code that fits the table as the catalog has it now."""
        self.loading = loading
        self.record = loading.record
        self.table: StoredTable = loading.table


def _unset(mapper: Mapper, error: AttributeError) -> exc.DataError:
    """The error for an object that has no value of a field."""
    name = mapper.table.name
    return exc.DataError(
        f"{name}.{error.name} of {error.obj.__class__.__name__} was never set (give the field a value, or a default)",
        table=name, field=error.name,
    )  # fmt: skip


class UnitOfWork:
    """The new, changed and deleted objects of one session, and the levels of its transaction."""

    def __init__(self, session: Session) -> None:
        self._session = ref(session)  # as the tracker does
        self.new: dict[int, Any] = {}
        self.deleted: dict[int, Any] = {}
        self.levels: list[Level] = []

    @property
    def session(self) -> Session:
        """The session that this is of.

        Raises:
            StoreClosed: if a finaliser uses the session as the collector of cycles has already let go of it.
        """
        session = self._session()
        if session is None:
            raise exc.StoreClosed("the session is collected as garbage just now; keep it for as long as it is used")
        return session

    def belong(self, session: Session) -> None:
        """Know the session again: in a finaliser the collector of cycles has let go of it, and it may yet be closed."""
        if self._session() is None:
            self._session = ref(session)

    @property
    def pending(self) -> bool:
        """True if a flush might have something to write."""
        session = self.session
        return bool(self.new or session.tracker or self.deleted or session.has_mutable)

    def untouched(self, txn: Transaction) -> bool:
        """True if the transaction has only read, and no object was changed: there is nothing to undo."""
        return (
            not self.pending
            and not txn.changes
            and len(self.levels) == 1
            and not self.levels[0].touched
            and not self.levels[0].arrived
        )

    # ------------------------------------------------------------------------------------------ flush

    def flush(self, txn: Transaction, *, check: bool) -> None:
        """Write all pending objects into the transaction.

        Raises:
            DataError, IntegrityError: as the row writer and foreign keys do; the caller rolls back.
        """
        session = self.session
        if session.references is not None:
            _ = session.binding  # parents are looked up: by the catalog of the moment that is read
            check = True
        groups: dict[Mapper, _Group] = {}
        group: _Group | None = None
        cls: type[Any] | None = None
        for instance in self.new.values():
            if group is None or instance.__class__ is not cls:
                cls = instance.__class__
                group = _group(groups, session.mapper_of(instance))
            group.new.append(instance)
        for ident, instance in self.deleted.items():
            if ident not in self.new:
                _group(groups, session.mapper_of(instance)).deleted.append(instance)
        for ident, instance in session.tracker.items():
            if ident not in self.new and ident not in self.deleted:
                mapper = session.mapper_of(instance)
                if (
                    mapper.identity.held(instance._key) is instance
                ):  # else it was deleted, and a change must not bring it back
                    _group(groups, mapper).changed[ident] = instance
        for mapper in session.mutable_mappers():
            for instance in mapper.identity:
                ident = id(instance)
                if ident not in self.deleted and mapper.loading.modified(instance):
                    _group(groups, mapper).changed[ident] = instance
        for mapper in self._ordered(groups):
            self._flush_group(txn, mapper, groups[mapper], check=check)
        if session.references is not None:
            for done in session.references.settle():
                follow_statement(session, txn, done.table, done.changed, done.gone, done.moved)
        self.new.clear()
        self.deleted.clear()
        session.tracker.clear()

    def _ordered(self, groups: dict[Mapper, _Group]) -> list[Mapper]:
        """In order of the tables' foreign keys, as SQLAlchemy sorts them."""
        if len(groups) < 2:
            return list(groups)
        first = next(iter(groups)).record.table.metadata
        position = {table: at for at, table in enumerate(sorted_tables(first))}
        return sorted(groups, key=lambda mapper: position.get(mapper.record.table, len(position)))

    def _flush_group(self, txn: Transaction, mapper: Mapper, group: _Group, *, check: bool) -> None:
        session, loading, identity = self.session, mapper.loading, mapper.identity
        values, level = mapper.record.values, self.levels[-1]
        rows = RowChanges()
        if mapper.record.auto is not None and group.new:
            assign_ids(session, mapper, group.new)
        changed: list[tuple[Any, bool]] = []
        for instance in group.changed.values():
            key = loading.key_of_object(instance)
            if key == instance._key:
                rows.changed.append((key, instance._raw, values(instance)))
            else:
                # Another primary key is another record.
                rows.gone.append((instance._key, instance._raw))
                rows.new.append(values(instance))
                if mapper.record.auto is not None:
                    assign_ids(session, mapper, [instance])  # it is told of the new id
            changed.append((instance, key == instance._key))
        moved = len(rows.new)
        rows.gone += [(instance._key, instance._raw) for instance in group.deleted]
        try:
            rows.new += [values(instance) for instance in group.new]
        except AttributeError as error:
            raise _unset(mapper, error) from error
        written, updated = write_rows(txn, mapper.table, rows, check=check)
        if not check:
            self._refuse_held(txn, mapper, written, rows.gone)
        if session.references is not None:
            session.references.wrote(mapper.table, rows, written, updated, moved)
        for instance in group.deleted:
            level.note(instance, mapper)
            level.departed = True
            identity.discard(instance._key)
        same = iter(updated)
        arrived = iter(written[:moved])
        for instance, kept_key in changed:
            if kept_key:
                value = next(same)
                if value == instance._raw and identity.get(instance._key) is not instance:
                    continue  # nothing was written, nor read: it stays stale, to be refreshed by the first read
                level.note(instance, mapper)
                loading.attach(instance, instance._key, value, session.tracker)
            else:
                level.note(instance, mapper)
                if identity.held(instance._key) is instance:  # else its key is another's by now
                    identity.discard(instance._key)
                key, value = next(arrived)
                loading.attach(instance, key, value, session.tracker)
            session.enter(mapper, instance)
        if group.new:
            self._enter_new(mapper, group.new, written[moved:])

    def _refuse_held(self, txn: Transaction, mapper: Mapper, written: list[Pair], gone: list[Pair]) -> None:
        """Look for duplicates among the records that the session has objects of: a new one must not take their place.

        Raises:
            IntegrityError: if there is one.
        """
        identity, table = mapper.identity, mapper.table
        keys = [key for key, _ in written]
        if identity.stale.keys().isdisjoint(keys) and identity.live.keys().isdisjoint(keys):
            return
        leaving = {key for key, _ in gone}
        held = [key for key in keys if key not in leaving and identity.held(key) is not None]
        stored = {key: raw for key in held if (raw := txn.get_base(table.family, key)) is not None}
        txn.expected(table.family).update(stored)  # a rollback asks it what was there
        if stored:
            raise duplicate_key(table, next(iter(stored)))

    def _enter_new(self, mapper: Mapper, instances: list[Any], pairs: list[Pair]) -> None:
        """New objects are those of the records that were written of them: note and enter, many at once."""
        self.levels[-1].note_new(instances, mapper)
        mapper.loading.enter(instances, pairs, mapper.identity)
        if mapper.record.mutable:
            self.session.has_mutable = True

    # ------------------------------------------------------------------------------------------ the end of a level

    def undo_level(self) -> None:
        """Put the objects back to where they were when the innermost level began, and end it."""
        session = self.session
        level = self.levels.pop()
        for instance in self.new.values():
            if not level.knows(id(instance)):
                session.make_transient(instance)
                if session.dispatch.pending_to_transient:
                    session.dispatch.pending_to_transient(session, instance)
        unflushed = dict(session.tracker)
        self.new.clear()
        self.deleted.clear()
        session.tracker.clear()
        for mapper in session.mutable_mappers():
            unflushed.update((id(instance), instance) for instance in mapper.identity)
        for ident, instance in unflushed.items():
            if instance._key is not None and instance._raw is not None and not level.knows(ident):
                session.mapper_of(instance).loading.fill(instance, instance._key, instance._raw)
        for mapper, instances in level.arrived.items():
            for instance in instances.values():
                self._take_out(mapper, instance)
                if instance._kv is None or instance._kv.session in (session, None):  # else it is another's by now
                    session.make_transient(instance)
        for (_, name), found in level.loaded.items():
            loaded = found()
            if loaded is not None:
                forget_loaded(loaded, name)
        for before in level.touched.values():
            self._take_out(before.mapper, before.instance)
        for before in level.touched.values():
            instance, mapper = before.instance, before.mapper
            mapper.loading.attach(instance, before.key, before.raw, session.tracker)
            mapper.loading.fill(instance, before.key, before.raw)
            session.enter(mapper, instance)

    def within(self, level: Level) -> bool:
        """Whether a level is not over: itself, not one that is equal to it."""
        return any(each is level for each in self.levels)

    def keep_level(self) -> None:
        """The innermost level has succeeded."""
        level = self.levels.pop()
        if self.levels:
            level.into(self.levels[-1])
            return
        if not level.departed:
            return
        for before in level.touched.values():
            self._let_go(before.mapper, before.instance)
        for mapper, instances in level.arrived.items():
            for instance in instances.values():
                self._let_go(mapper, instance)

    def _take_out(self, mapper: Mapper, instance: Any) -> None:
        """Take an object out of the identity map, if it is there."""
        if instance._key is not None and mapper.identity.held(instance._key) is instance:
            mapper.identity.discard(instance._key)

    def _let_go(self, mapper: Mapper, instance: Any) -> None:
        """Let go of an object whose record was deleted."""
        if instance._kv is not self.session.tracker:
            return  # it was expunged
        if instance._key is None or mapper.identity.held(instance._key) is not instance:
            self.session.make_transient(instance, deleted=True)


@attrs.define(slots=True)
class _Group:
    """The objects of one record class that a flush writes."""

    new: list[Any] = attrs.field(factory=list)
    changed: dict[int, Any] = attrs.field(factory=dict)
    deleted: list[Any] = attrs.field(factory=list)


def _group(groups: dict[Mapper, _Group], mapper: Mapper) -> _Group:
    group = groups.get(mapper)
    if group is None:
        group = groups[mapper] = _Group()
    return group


def assign_ids(session: Session, mapper: Mapper, instances: Iterable[Any]) -> None:
    """Give ids from the allocator to the objects that have none, and tell it of those that have."""
    name = mapper.record.auto
    assert name is not None
    allocator = session.engine.allocator(mapper.table)
    wanting = []
    for instance in instances:
        value = getattr(instance, name)
        if value is None:
            wanting.append(instance)
        elif type(value) is int:
            allocator.observe(value)
    if wanting:
        for instance, ident in zip(wanting, allocator.take(len(wanting)), strict=True):
            object.__setattr__(instance, name, ident)


def refuse_foreign(session: Session, instance: Any) -> None:
    """Raise unless an object may be attached to a session.

    Raises:
        ProgrammingError: if it belongs to another session.
    """
    tracker = instance._kv
    if tracker is not None and tracker is not session.tracker and tracker.session is not None:
        raise exc.ProgrammingError(
            f"{type(instance).__name__} object is attached to another session; expunge it there, or merge it here"
        )
