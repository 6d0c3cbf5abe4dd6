"""What is done to related objects with an object: added, merged, deleted, expunged; and foreign keys set by a flush.

A flush first looks at the relationships that were changed (:func:`prepare`): who is an orphan is deleted, new parents
get their ids, and foreign keys get the values of the keys that they are to equal. What then is written are columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
from sqlalchemy import exc as sa_exc

from kvdialect.orm import attachment, relationships
from kvdialect.orm.identity import named
from kvdialect.orm.unitofwork import assign_ids
from kvdialect.schema.declared import sorted_tables
from kvdialect.schema.records import Record, required_record
from kvdialect.schema.related import is_stored, made_related, members, related_of
from kvdialect.schema.relationships import Relationship

if TYPE_CHECKING:
    from kvdialect.orm.session import Session


def _loaded(instance: Any, cascade: str) -> Iterator[Any]:
    """The objects that a cascade goes on to, as far as they are loaded.

    Those that were taken out too, where the flush is to store that.
    """
    related = related_of(instance)
    if related is None:
        return
    relationships_ = required_record(instance).relationships
    for name, value in list(related.values.items()):
        if cascade in relationships_[name].cascade:
            yield from members(value)
            if cascade == "save-update" and name in related.before and is_stored(instance):
                yield from members(related.before[name])


def reached(instance: Any, cascade: str, *, stop: Callable[[Any], bool] = lambda _: False) -> list[Any]:
    """All objects that a cascade reaches from one, as far as they are loaded; itself not.

    Args:
        instance: where it begins.
        cascade: its name.
        stop: whether an object is left out, with what is only reached by it.
    """
    found: dict[int, Any] = {id(instance): instance}
    waiting = [instance]
    while waiting:
        for other in _loaded(waiting.pop(), cascade):
            if id(other) not in found and not stop(other):
                found[id(other)] = other
                waiting.append(other)
    del found[id(instance)]
    return list(found.values())


def doomed(session: Session, instance: Any) -> list[Any]:
    """The objects to be deleted with one, as the store has them now, unless ``passive_deletes`` says no."""
    found: dict[int, Any] = {id(instance): instance}
    level = [instance]
    session._autoflush()
    while level:
        by_record: dict[Record, list[Any]] = {}
        for each in level:
            by_record.setdefault(required_record(each), []).append(each)
        level = []
        for record, instances in by_record.items():
            for relationship in record.relationships.values():
                if "delete" not in relationship.cascade:
                    continue
                _load_now(session, instances, relationship)
                for other in (other for each in instances for other in _members(each, relationship)):
                    if id(other) not in found:
                        found[id(other)] = other
                        level.append(other)
    del found[id(instance)]
    return list(found.values())


def _load_now(session: Session, instances: Iterable[Any], relationship: Relationship) -> None:
    """Load a relationship of objects that are to be deleted, also where it is loaded: that may be long ago."""
    if not relationship.declared.passive_deletes:
        relationships.load_one(session, [each for each in instances if is_stored(each)], relationship)


def _members(instance: Any, relationship: Relationship) -> tuple[Any, ...]:
    related = related_of(instance)
    return () if related is None else members(related.values.get(relationship.name))


def merge(session: Session, given: Any, found: Any, merged: dict[Any, Any]) -> None:
    """Merge the related objects of ``given``, as far as it has them, and let ``found`` have the outcome.

    Not those over a relationship by whose other side it was reached: of a parent that is merged with its child, the
    program has said this one child, and not that there are no others.
    """
    related = related_of(given)
    if related is None:
        return
    record = required_record(given)
    for name, value in list(related.values.items()):
        relationship = record.relationships[name]
        if "merge" not in relationship.cascade or (id(given), relationship.inverse) in merged:
            continue
        if relationship.many and not value and name not in related.before and not is_stored(given):
            continue  # it was asked for, and never set
        others = []
        for other in members(value):
            merged[id(other), relationship] = other
            others.append(attachment.merge(session, other, load=True, merged=merged))
        if is_stored(found) and name not in made_related(found).values:
            relationships.load_one(session, [found], relationship)
        setattr(found, name, others if relationship.many else next(iter(others), None))


# ------------------------------------------------------------------------------------------------ a flush


def prepare(session: Session) -> None:
    """Turn what was changed in relationships into changes of columns, deletions and ids; see the module."""
    _Preparation(session).run()


@attrs.frozen(eq=False)
class _Change:
    """A relationship of one object that was changed."""

    instance: Any
    relationship: Relationship
    before: tuple[Any, ...]
    now: tuple[Any, ...]

    @property
    def came(self) -> list[Any]:
        known = set(map(id, self.before))
        return [each for each in self.now if id(each) not in known]

    @property
    def went(self) -> list[Any]:
        known = set(map(id, self.now))
        return [each for each in self.before if id(each) not in known]


class _Preparation:
    """One call of :func:`prepare`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.touched = [
            each
            for each in {**session.work.new, **session.tracker}.values()
            if related_of(each) is not None and each._kv is session.tracker
        ]
        changes = [change for each in self.touched for change in self._changes(each)]
        self.parents = [change for change in changes if change.relationship.to_parent]
        self.children = [change for change in changes if not change.relationship.to_parent]
        # Who has a parent now: by object and foreign key.
        self.kept = {(id(each), c.relationship.way.remote) for c in self.children for each in c.now}
        self.kept |= {(id(c.instance), c.relationship.way.local) for c in self.parents if c.now}

    def _changes(self, instance: Any) -> Iterator[_Change]:
        related = related_of(instance)
        assert related is not None
        record = required_record(instance)
        stored = is_stored(instance)
        for name, value in list(related.values.items()):
            relationship = record.relationships[name]
            if name in related.before:
                before = members(related.before[name]) if stored else ()
                yield _Change(instance, relationship, before, members(value))
            elif not stored:
                if value is not None:
                    yield _Change(instance, relationship, (), members(value))
            elif relationship.to_parent and not _agrees(instance, relationship, value):
                del related.values[name]  # the program has set the foreign key itself

    def run(self) -> None:
        alone = self._orphans()
        alone += self._left_by_deleted()
        self._give_ids()
        copies: list[tuple[Any, Relationship, Any]] = []
        for child, relationship in alone:
            copies.append((child, relationship, None))
        copies += [(child, c.relationship, c.instance) for c in self.children for child in c.came]
        copies += [(c.instance, c.relationship, next(iter(c.now), None)) for c in self.parents]
        for child, relationship, parent in self._in_order(copies):
            self._refer(child, relationship, parent)
        level = self.session.work.levels[-1]
        for instance in self.touched:
            related = related_of(instance)
            if related is not None and related.before:
                if is_stored(instance):
                    level.note(instance, self.session.mapper_of(instance))
                related.before.clear()

    # -------------------------------------------------------------------------------------------- who goes

    def _orphans(self) -> list[tuple[Any, Relationship]]:
        """Delete the orphans; those that only lose their parent are returned."""
        alone = []
        for change in self.children:
            relationship = change.relationship
            for child in change.went:
                if (id(child), relationship.way.remote) in self.kept:
                    continue
                if "delete-orphan" in relationship.cascade:
                    self._drop(child)
                elif _refers(child, relationship, change.instance):
                    alone.append((child, relationship))
        for change in self.parents:
            inverse, child = change.relationship.inverse, change.instance
            if change.now or inverse is None or "delete-orphan" not in inverse.cascade or not is_stored(child):
                continue
            if None not in _values(child, change.relationship.way.local):
                self._drop(child)  # it had a parent
        return alone

    def _drop(self, child: Any) -> None:
        work = self.session.work
        if id(child) in work.new:
            attachment.expunge(self.session, child)
        elif is_stored(child) and child._kv is self.session.tracker and id(child) not in work.deleted:
            attachment.delete(self.session, child)

    def _left_by_deleted(self) -> list[tuple[Any, Relationship]]:
        """The children of deleted parents that are not deleted with them: they have no parent any more."""
        session, deleted = self.session, self.session.work.deleted
        by_record: dict[Record, list[Any]] = {}
        for instance in deleted.values():
            by_record.setdefault(required_record(instance), []).append(instance)
        alone = []
        for record, instances in by_record.items():
            for relationship in record.relationships.values():
                if relationship.to_parent or relationship.declared.passive_deletes == "all":
                    continue
                if "delete" not in relationship.cascade:
                    _load_now(session, instances, relationship)
                for child in (child for each in instances for child in _members(each, relationship)):
                    kept = (id(child), relationship.way.remote) in self.kept and not self._kept_by_deleted(child)
                    if id(child) not in deleted and not kept:
                        alone.append((child, relationship))
        return alone

    def _kept_by_deleted(self, child: Any) -> bool:
        owners = [c.instance for c in self.children if any(each is child for each in c.now)]
        owners += [parent for c in self.parents if c.instance is child for parent in c.now]
        return all(id(owner) in self.session.work.deleted for owner in owners)

    # -------------------------------------------------------------------------------------------- foreign keys

    def _give_ids(self) -> None:
        """New objects that others refer to get their ids now."""
        session = self.session
        parents = [c.instance for c in self.children if c.came] + [each for c in self.parents for each in c.now]
        for cls in {type(each): None for each in parents if id(each) in session.work.new}:
            mapper = session._mapper(cls)
            if mapper.record.auto is not None:
                assign_ids(session, mapper, [each for each in session.work.new.values() if type(each) is cls])

    def _in_order(self, copies: list[tuple[Any, Relationship, Any]]) -> list[tuple[Any, Relationship, Any]]:
        """Parents first where a foreign key is part of a key that others refer to."""
        if not any(set(_foreign_key(each)) & set(_child(each).definition.primary_key) for _, each, _ in copies):
            return copies
        tables = sorted_tables(_child(copies[0][1]).table.metadata)
        place = {table: at for at, table in enumerate(tables)}
        return sorted(copies, key=lambda each: place.get(_child(each[1]).table, len(place)))

    def _refer(self, child: Any, relationship: Relationship, parent: Any) -> None:
        """Set the foreign key of ``child`` to the key of ``parent``, or to None."""
        session = self.session
        if id(child) in session.work.deleted:
            return
        for each in (child, parent):
            if each is None:
                continue
            if getattr(each, "_kv", None) is not session.tracker or attachment.is_gone(session, each):
                warnings.warn(
                    f"{named(each)} is not in the session: {relationship} is not stored of it (add the object)",
                    sa_exc.SAWarning,
                    stacklevel=2,
                )
                return
        way = relationship.way
        columns, keys = (way.local, way.remote) if way.to_parent else (way.remote, way.local)
        if parent is None and is_stored(child):
            blank = [name for name in columns if name in _child(relationship).definition.primary_key]
            if blank:
                raise sa_exc.InvalidRequestError(
                    f"{named(child)} loses its parent ({relationship}), but {', '.join(blank)} is part of its primary"
                    ' key and cannot be None: delete it, or declare cascade="all, delete-orphan"'
                )
        for column, key in zip(columns, keys, strict=True):
            value = None if parent is None else getattr(parent, key, None)
            if getattr(child, column, None) != value:
                object.__setattr__(child, column, value)
                session.tracker[id(child)] = child


def _child(relationship: Relationship) -> Record:
    return relationship.owner if relationship.to_parent else relationship.target


def _foreign_key(relationship: Relationship) -> tuple[str, ...]:
    way = relationship.way
    return way.local if way.to_parent else way.remote


def _agrees(instance: Any, relationship: Relationship, parent: Any) -> bool:
    way = relationship.way
    found = _values(instance, way.local)
    if parent is None:
        return None in found
    return found == _values(parent, way.remote)


def _refers(child: Any, relationship: Relationship, parent: Any) -> bool:
    way = relationship.way
    return _values(child, way.remote) == _values(parent, way.local)


def _values(instance: Any, names: Iterable[str]) -> list[Any]:
    """Columns of an object; None too where a field that its constructor does not take was never set."""
    return [getattr(instance, name, None) for name in names]
