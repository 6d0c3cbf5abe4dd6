"""The identity map: at most one object per record in a session, held weakly.

Objects are found by the bytes of their key. A map has two generations: ``live`` holds what the current transaction has
read or written, ``stale`` what earlier ones had. The first read of a record in a transaction takes its object from
``stale`` to ``live`` and refreshes it in place, if its bytes have changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import ref

from kvdialect import exc
from kvdialect.schema.records import record_of

if TYPE_CHECKING:
    from kvdialect.orm.session import Session

_LIMIT = 4096


class Tracker(dict[int, Any]):
    """The changed objects of a session, by ``id``; each object of the session has it in its ``_kv`` slot.

    A record's ``__setattr__`` writes into it without knowing more. ``session`` is None once the session has let go of
    its objects.
    """

    # The session is held weakly, by all that belongs to it: one that nobody closes ends with its last reference, its
    # snapshot with it, and does not wait for the collector of cycles.
    __slots__ = ("_session",)

    _session: ref[Session] | None

    @property
    def session(self) -> Session | None:
        """The session, as long as it has its objects."""
        return None if self._session is None else self._session()

    @session.setter
    def session(self, session: Session | None) -> None:
        self._session = None if session is None else ref(session)

    def cascade(self, instance: Any) -> None:
        """An object of the session refers to this one: it becomes part of the session too."""
        session = self.session
        if session is not None and instance._kv is not self:
            session.add(instance)

    def let_go(self, instance: Any) -> None:
        """An object that was added, and is not stored yet, is an orphan: it is none of the session's any more."""
        session = self.session
        if session is not None and id(instance) in session.work.new:
            session.expunge(instance)


class IdentityMap:
    """The objects of one record class in a session.

    Dead references are not taken out one by one, by callbacks, but together when the maps have doubled: that is half
    the cost of loading an object.
    """

    __slots__ = ("kept", "kept_before", "limit", "live", "stale")

    def __init__(self) -> None:
        self.live: dict[bytes, ref[Any]] = {}
        self.stale: dict[bytes, ref[Any]] = {}
        self.limit = _LIMIT
        # Objects that can change without __setattr__ are held until the next transaction ends, or the change were lost.
        self.kept: dict[bytes, Any] = {}
        self.kept_before: dict[bytes, Any] = {}

    def get(self, key: bytes) -> Any:
        """The live object of a key, or None."""
        found = self.live.get(key)
        return None if found is None else found()

    def held(self, key: bytes) -> Any:
        """The object of a key, live or stale, or None."""
        for generation in (self.live, self.stale):
            found = generation.get(key)
            instance = None if found is None else found()
            if instance is not None:
                return instance
        return None

    def age(self) -> None:
        """The transaction is over: what was live is stale."""
        if self.stale:
            self.stale.update(self.live)
            self.live = {}
        else:
            self.stale, self.live = self.live, {}
        self.kept, self.kept_before = {}, self.kept
        if len(self.stale) > self.limit:
            self.purge()

    def purge(self) -> None:
        """Forget the references whose objects are gone."""
        self.live = {key: found for key, found in self.live.items() if found() is not None}
        self.stale = {key: found for key, found in self.stale.items() if found() is not None}
        self.limit = max(_LIMIT, 2 * (len(self.live) + len(self.stale)))

    def discard(self, key: bytes) -> Any:
        """Forget a key; return its object, or None."""
        self.kept.pop(key, None)
        self.kept_before.pop(key, None)
        found = self.live.pop(key, None) or self.stale.pop(key, None)
        return None if found is None else found()

    def __iter__(self) -> Iterator[Any]:
        """Yield every object that still exists, live and stale."""
        for found in [*self.live.values(), *self.stale.values()]:
            instance = found()
            if instance is not None:
                yield instance


def named(instance: Any) -> str:
    """An object as messages name it, by its primary key."""
    record = record_of(instance)
    if record is None:
        return repr(instance)
    values = ", ".join(f"{name}={_shown(getattr(instance, name, None))}" for name in record.definition.primary_key)
    return f"{type(instance).__name__}({values})"


def _shown(value: Any) -> str:
    return exc.shown(value) if isinstance(value, bytes) else repr(value)
