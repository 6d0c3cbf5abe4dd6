"""What objects have of their relationships: values that were loaded or set, and what has changed since the last flush.

It stands in one slot, ``_related``, of objects whose class has relationships; of an object that was just read the slot
is empty. Nothing here reads the store. Both sides of a relationship with ``back_populates`` are kept alike, as far as
they are loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import compress, count
from operator import is_
from typing import TYPE_CHECKING, Any, Final, Self, SupportsIndex

import attrs
from sqlalchemy import exc as sa_exc

from kvdialect import exc

if TYPE_CHECKING:
    from kvdialect.schema.relationships import Relationship

UNKNOWN: Final = attrs.NOTHING
"""Stands for the value before a change, of an attribute that was not loaded."""


@attrs.define(slots=True, eq=False)
class Related:
    """The relationships of one object, by name.

    Attributes:
        values: of those that are loaded or were set: a :class:`RelatedList`, an object, or None.
        before: of those that were changed since the last flush, what they were: a tuple, an object, None or UNKNOWN.
    """

    values: dict[str, Any] = attrs.field(factory=dict)
    before: dict[str, Any] = attrs.field(factory=dict)


def related_of(instance: Any) -> Related | None:
    """What an object has of its relationships; None if there is nothing."""
    found: Related | None = getattr(instance, "_related", None)
    return found


def made_related(instance: Any) -> Related:
    """The same, made if it is not there."""
    found = related_of(instance)
    if found is None:
        found = Related()
        object.__setattr__(instance, "_related", found)
    return found


def is_stored(instance: Any) -> bool:
    """True for an object that was read or flushed: what it does not have of its relationships is unknown."""
    return getattr(instance, "_key", None) is not None


DELETED: Final = b""
"""Stands where an object keeps its stored value, of one that no session knows since its record was deleted."""


def was_deleted(instance: Any) -> bool:
    """True for an object whose record was deleted, and that was not added again."""
    return getattr(instance, "_key", None) is None and getattr(instance, "_raw", None) == DELETED


def members(value: Any) -> tuple[Any, ...]:
    """The objects of a relationship's value, of either form."""
    if value is None or value is UNKNOWN:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


# ------------------------------------------------------------------------------------------------ the attribute


class RelatedAttribute:
    """A relationship as an attribute of objects."""

    __slots__ = ("name", "relationship")

    def __init__(self, relationship: Relationship) -> None:
        self.relationship = relationship
        self.name = relationship.name

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        try:
            return instance._related.values[self.name]
        except (AttributeError, KeyError):
            return self._missing(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        relationship = self.relationship
        if relationship.many:
            if not isinstance(value, Iterable):
                raise exc.ArgumentError(f"{relationship} is set to {value!r:.80}; give a list of objects")
            items = list(value)
            current: list[Any] = self.__get__(instance)
            current[:] = items
            return
        if value is not None:
            relationship.check(value)
        if not relationship.to_parent:
            self.__get__(instance)  # the one that is replaced has to be known
        _set_one(instance, relationship, value)

    def _missing(self, instance: Any) -> Any:
        if is_stored(instance):
            raise _unloaded(self.relationship, instance)
        if not self.relationship.many:
            return None
        made = made_related(instance).values[self.name] = RelatedList(instance, self.relationship)
        return made


def _unloaded(relationship: Relationship, instance: Any) -> sa_exc.InvalidRequestError:
    name, owner = relationship.name, type(instance).__name__
    other = ""
    if relationship.many:
        other = f"; to add to it alone, set {relationship.other_side}"
    return sa_exc.InvalidRequestError(
        f"'{owner}.{name}' is not loaded, and reading an attribute never reads the store: load it with"
        f' session.load(obj, "{name}"), or with the objects by select(...).options(selectinload({owner}.{name})){other}'
    )


class RelatedList(list[Any]):
    """The objects of a relationship to many. What is appended and removed is stored by the next flush."""

    __slots__ = ("_owner", "_relationship")

    def __init__(self, owner: Any, relationship: Relationship, items: Iterable[Any] = ()) -> None:
        super().__init__(items)
        self._owner = owner
        self._relationship = relationship

    def append(self, item: Any) -> None:
        """Add an object at the end."""
        self._relationship.check(item)
        note(self._owner, self._relationship)
        super().append(item)
        _came(self._owner, self._relationship, item)

    def remove(self, item: Any) -> None:
        """Remove an object: this very one, if it is there, else the first that is equal to it.

        Raises:
            ValueError: if there is none.
        """
        at = _place(item, self)
        del self[self.index(item) if at is None else at]

    def extend(self, items: Iterable[Any]) -> None:
        """Add objects at the end."""
        for item in list(items):
            self.append(item)

    def insert(self, index: SupportsIndex, item: Any) -> None:
        """Put an object before the one at ``index``; the store does not keep the place."""
        self[index:index] = [item]

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Remove the object at ``index`` and return it."""
        item = self[index]
        del self[index]
        return item

    def clear(self) -> None:
        """Remove all objects."""
        del self[:]

    def __iadd__(self, items: Iterable[Any]) -> Self:  # type: ignore[misc]
        self.extend(items)
        return self

    def __imul__(self, count: SupportsIndex) -> Self:
        if int(count) > 1:
            raise exc.ArgumentError(f"{self._relationship}: an object stands in it once")
        if int(count) < 1:
            self.clear()
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        items = list(value) if isinstance(index, slice) else [value]
        for item in items:
            self._relationship.check(item)
        before = tuple(self)
        note(self._owner, self._relationship)
        super().__setitem__(index, items if isinstance(index, slice) else value)
        self._differ(before)
        for item in items:
            _cascade(self._owner, self._relationship, item)  # the other side may have put it here, and adds nothing

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        gone = self[index] if isinstance(index, slice) else [self[index]]
        note(self._owner, self._relationship)
        super().__delitem__(index)
        if len(gone) == 1:
            if _place(gone[0], self) is None:
                _went(self._owner, self._relationship, gone[0])
        else:
            self._differ((*gone, *self))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return list, (list(self),)

    def _differ(self, before: tuple[Any, ...]) -> None:
        """Tell the objects that left and those that came."""
        now = {id(item) for item in self}
        then = {id(item) for item in before}
        for item in before:
            if id(item) not in now:
                _went(self._owner, self._relationship, item)
        for item in tuple(self):
            if id(item) not in then:
                _came(self._owner, self._relationship, item)

    def put(self, items: Iterable[Any]) -> None:
        """Have these objects, which the store has so."""
        super().__setitem__(slice(None), items)


# ------------------------------------------------------------------------------------------------ changes


def note(instance: Any, relationship: Relationship) -> None:
    """Remember what an attribute is before it changes, and have the session's next flush look at the object."""
    related = made_related(instance)
    name = relationship.name
    if name not in related.before:
        value = related.values.get(name, UNKNOWN)
        related.before[name] = tuple(value) if isinstance(value, list) else value
    tracker = getattr(instance, "_kv", None)
    if tracker is not None:
        tracker[id(instance)] = instance


def put_loaded(instance: Any, relationship: Relationship, value: Any) -> None:
    """Have what the store has; what the program has changed and not flushed stays."""
    related = made_related(instance)
    name = relationship.name
    if name in related.before:
        return
    if not relationship.many:
        related.values[name] = value
        return
    held = related.values.get(name)
    if held is None:
        related.values[name] = RelatedList(instance, relationship, value)
    else:
        held.put(value)


def forget_loaded(instance: Any, name: str) -> None:
    """Have a relationship be unknown again."""
    related = related_of(instance)
    if related is not None:
        related.values.pop(name, None)
        related.before.pop(name, None)


def _place(item: Any, items: Iterable[Any]) -> int | None:
    """Where this very object stands among others, if it does."""
    return next(compress(count(), map(partial(is_, item), items)), None)


def _set_one(instance: Any, relationship: Relationship, value: Any) -> None:
    related = made_related(instance)
    old = related.values.get(relationship.name, UNKNOWN)
    if old is value:
        return
    note(instance, relationship)
    related.values[relationship.name] = value
    inverse = relationship.inverse
    if inverse is not None:
        for gone in members(old):
            _take(gone, inverse, instance)
            if not relationship.to_parent:
                _orphaned(gone, relationship)
            elif value is None:
                _orphaned(instance, inverse)
        if value is not None:
            _give(value, inverse, instance)
    if value is not None:
        _cascade(instance, relationship, value)


def _came(owner: Any, relationship: Relationship, item: Any) -> None:
    """An object came to a list: it refers to the owner now, and no longer to another."""
    inverse = relationship.inverse
    if inverse is not None:
        _give(item, inverse, owner)
    _cascade(owner, relationship, item)


def _went(owner: Any, relationship: Relationship, item: Any) -> None:
    inverse = relationship.inverse
    if inverse is not None:
        _take(item, inverse, owner)
    _orphaned(item, relationship)


def _orphaned(item: Any, relationship: Relationship) -> None:
    """An object has lost its parent: one that is not stored yet is not to be stored, if it cannot be without one."""
    tracker = getattr(item, "_kv", None)
    if tracker is not None and "delete-orphan" in relationship.cascade and not is_stored(item):
        tracker.let_go(item)


def _give(instance: Any, relationship: Relationship, value: Any) -> None:
    """The other side has changed: ``value`` is part of this one."""
    related = made_related(instance)
    held = related.values.get(relationship.name, UNKNOWN)
    if relationship.many:
        if held is UNKNOWN:
            if is_stored(instance):
                return  # not loaded: whoever loads it will find it
            held = related.values[relationship.name] = RelatedList(instance, relationship)
        if _place(value, held) is None:
            note(instance, relationship)
            list.append(held, value)
        return
    if held is value or (held is UNKNOWN and not relationship.to_parent and is_stored(instance)):
        return
    note(instance, relationship)
    related.values[relationship.name] = value
    assert relationship.inverse is not None
    for other in members(held):
        _take(other, relationship.inverse, instance)
        if not relationship.to_parent:
            _orphaned(other, relationship)


def _take(instance: Any, relationship: Relationship, value: Any) -> None:
    """The other side has changed: ``value`` is no part of this one any more."""
    related = related_of(instance)
    held: Any = UNKNOWN if related is None else related.values.get(relationship.name, UNKNOWN)
    at = None if related is None else _place(value, members(held))
    if related is None or at is None:
        return
    note(instance, relationship)
    if relationship.many:
        list.__delitem__(held, at)
    else:
        related.values[relationship.name] = None


def _cascade(instance: Any, relationship: Relationship, other: Any) -> None:
    """What an object of a session is told of becomes part of that session, if the relationship says so."""
    tracker = getattr(instance, "_kv", None)
    if tracker is not None and "save-update" in relationship.cascade:
        tracker.cascade(other)
