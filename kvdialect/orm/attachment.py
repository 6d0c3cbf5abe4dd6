"""Objects in and out of a session: added, merged, marked for deletion, let go of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sa_exc

from kvdialect import exc
from kvdialect.orm import cascades
from kvdialect.orm.identity import Tracker, named
from kvdialect.orm.unitofwork import refuse_foreign
from kvdialect.schema.records import required_object, required_record
from kvdialect.schema.related import is_stored, was_deleted

if TYPE_CHECKING:
    from kvdialect.orm.session import Session
    from kvdialect.orm.unitofwork import Mapper


def add_all(session: Session, instances: Iterable[Any]) -> None:
    """See :meth:`Session.add_all`; objects new to all sessions, of classes that this one knows, take few steps."""
    new, mappers, attach = session.work.new, _plain(session), object.__setattr__
    for instance in instances:
        if (
            instance.__class__ in mappers
            and instance._kv is None
            and instance._key is None
            and session.transaction is not None
            and session._failed is None
            and not session.listened
        ):
            new[id(instance)] = instance
            attach(instance, "_kv", session.tracker)
        else:
            known = len(session._mappers)
            add(session, instance)
            if len(session._mappers) != known:
                mappers = _plain(session)


def _plain(session: Session) -> dict[type[Any], Mapper]:
    """The mappers of classes without relationships: their objects have none to be added with them."""
    mappers = session._mappers
    if not session.relational:
        return mappers
    return {cls: mapper for cls, mapper in mappers.items() if not mapper.record.relationships}


def add(session: Session, instance: Any, *, cascade: bool = True) -> None:
    """See :meth:`Session.add`; ``cascade``: with what its relationships say is added with it."""
    session._check_usable()
    record = required_object(instance)
    kv = getattr(instance, "_kv", session)
    if kv is session.tracker:
        if is_gone(session, instance):
            raise sa_exc.InvalidRequestError(f"Instance {named(instance)} has been deleted; add a new object")
        session.work.deleted.pop(id(instance), None)
        if cascade and record.relationships:
            _add_related(session, instance)
        return
    if kv is not None and kv is not session:
        refuse_foreign(session, instance)
    mapper = session.mapper_of(instance)
    if session.listened and session.dispatch.before_attach:
        session.dispatch.before_attach(session, instance)
    if session.transaction is None:
        session._autobegin()
    if getattr(instance, "_key", None) is not None:
        # It was loaded by a session that is closed: it goes on here as what it was.
        held = mapper.identity.held(instance._key)
        if held is not None and held is not instance:
            raise sa_exc.InvalidRequestError(
                f"another object with the key of {mapper.table.codec.named(mapper.record.identity(instance))} is"
                " already present in this session"
            )
        mapper.loading.attach(instance, instance._key, instance._raw, session.tracker)
        session.enter(mapper, instance)
        # Its values are of another moment: only a read of this transaction makes it live.
        mapper.identity.stale[instance._key] = mapper.identity.live.pop(instance._key)
        session.tracker[id(instance)] = instance
    else:
        session.work.new[id(instance)] = instance
        object.__setattr__(instance, "_kv", session.tracker)
    if session.listened:
        dispatch = session.dispatch
        if dispatch.after_attach:
            dispatch.after_attach(session, instance)
        if instance._key is None and dispatch.transient_to_pending:
            dispatch.transient_to_pending(session, instance)
    if cascade and record.relationships:
        _add_related(session, instance)


def _add_related(session: Session, instance: Any) -> None:
    """Add what an object leads to; not past what is in the session already, or was deleted."""

    def settled(other: Any) -> bool:
        return was_deleted(other) or contains(session, other)

    for other in cascades.reached(instance, "save-update", stop=settled):
        add(session, other, cascade=False)


def delete(session: Session, instance: Any) -> None:
    """See :meth:`Session.delete`."""
    session._check_usable()
    record = required_object(instance)
    if getattr(instance, "_key", None) is None:
        raise sa_exc.InvalidRequestError(f"Instance {named(instance)} is not persisted")
    if instance._kv is not session.tracker:
        refuse_foreign(session, instance)
        add(session, instance)
    if session.transaction is None:
        session._autobegin()
    if is_gone(session, instance):
        return
    others = cascades.doomed(session, instance) if record.relationships else ()
    if is_gone(session, instance):
        return  # an earlier deletion was flushed as these were looked for
    session.work.deleted[id(instance)] = instance
    for other in others:
        if id(other) in session.work.new:
            expunge(session, other)
        elif getattr(other, "_kv", None) is session.tracker and is_stored(other) and not is_gone(session, other):
            session.work.deleted[id(other)] = other


def merge(session: Session, instance: Any, *, load: bool, merged: dict[Any, Any] | None = None) -> Any:
    """See :meth:`Session.merge`; ``merged``: by id what objects have become, and over what others were reached."""
    if not load:
        raise exc.NotSupportedError("merge(load=False) is not offered: the values stored are needed to write indexes")
    record = required_object(instance)
    if instance._kv is session.tracker:
        return instance
    merged = {} if merged is None else merged
    if id(instance) in merged:
        return merged[id(instance)]
    session._autoflush()
    identity = record.identity(instance)
    found = None if None in identity else session.get(record.cls, identity if len(identity) > 1 else identity[0])
    if found is None:
        found = object.__new__(record.cls)
        for name, value in zip(record.names, record.values(instance), strict=True):
            object.__setattr__(found, name, value)
        for slot in ("_kv", "_key", "_raw"):
            object.__setattr__(found, slot, None)
        add(session, found)
    else:
        for name in record.names:
            value = getattr(instance, name)
            if getattr(found, name) != value:
                setattr(found, name, value)
    merged[id(instance)] = found
    if record.relationships:
        cascades.merge(session, instance, found, merged)
    return found


def expunge(session: Session, instance: Any) -> None:
    """See :meth:`Session.expunge`."""
    if not contains(session, instance):
        raise sa_exc.InvalidRequestError(f"Instance {named(instance)} is not present in this Session")
    _detach(session, instance)
    if required_record(instance).relationships:
        for other in cascades.reached(instance, "expunge"):
            if contains(session, other):
                _detach(session, other)


def _detach(session: Session, instance: Any) -> None:
    mapper = session.mapper_of(instance)
    was_new = session.work.new.pop(id(instance), None) is not None
    session.work.deleted.pop(id(instance), None)
    session.tracker.pop(id(instance), None)
    if instance._key is not None:
        mapper.identity.discard(instance._key)
    for level in session.work.levels:
        # A rollback has no business with it any more; but what was never committed is then not stored.
        if not was_new:
            level.touched.pop(id(instance), None)
    object.__setattr__(instance, "_kv", None)
    if was_new and session.dispatch.pending_to_transient:
        session.dispatch.pending_to_transient(session, instance)
    if not was_new and session.dispatch.persistent_to_detached:
        session.dispatch.persistent_to_detached(session, instance)


def expunge_all(session: Session) -> None:
    """See :meth:`Session.expunge_all`."""
    session.tracker.session = None
    session.tracker = Tracker()
    session.tracker.session = session
    session.work.new.clear()
    session.work.deleted.clear()
    for mapper in set(session._mappers.values()):
        mapper.identity = type(mapper.identity)()
    for level in session.work.levels:
        level.touched.clear()  # as one that is expunged: a rollback has no business with them any more
    session.has_mutable = False


def contains(session: Session, instance: Any) -> bool:
    """True if the object is in the session, stored or about to be."""
    required_record(instance)
    if getattr(instance, "_kv", None) is not session.tracker:
        return False
    if id(instance) in session.work.new:
        return True
    key = instance._key
    return key is not None and session.mapper_of(instance).identity.held(key) is instance


def is_gone(session: Session, instance: Any) -> bool:
    """True for an object of the session whose deletion was flushed."""
    key = instance._key
    return key is not None and session.mapper_of(instance).identity.held(key) is not instance
