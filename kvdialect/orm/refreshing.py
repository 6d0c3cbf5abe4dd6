"""How the session's objects follow the store: refreshed, expired, and changed by what is written or undone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sa_exc

from kvdialect.orm.identity import named
from kvdialect.schema.records import required_record
from kvdialect.schema.related import related_of
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.orm.session import Session
    from kvdialect.orm.unitofwork import Mapper


def refresh(session: Session, instance: Any, attribute_names: Iterable[str] | None) -> None:
    """See :meth:`Session.refresh`."""
    mapper = persistent(session, instance)
    session._check_usable()
    names = None if attribute_names is None else _columns(mapper, instance, attribute_names)
    if names is None:
        session.tracker.pop(id(instance), None)
    session._autoflush()
    raw = session._autobegin().get(mapper.table.name, instance._key)
    if raw is None:
        raise sa_exc.InvalidRequestError(f"Could not refresh instance {named(instance)}")
    if names is None:
        mapper.loading.fill(instance, instance._key, raw)
    else:
        _set_attributes(mapper, instance, raw, names)
    session.enter(mapper, instance)


def expire(session: Session, instance: Any, attribute_names: Iterable[str] | None) -> None:
    """See :meth:`Session.expire`."""
    mapper = persistent(session, instance)
    key, raw = instance._key, instance._raw
    if attribute_names is not None:
        _set_attributes(mapper, instance, raw, _columns(mapper, instance, attribute_names))
        return
    session.tracker.pop(id(instance), None)
    mapper.loading.fill(instance, key, raw)
    identity = mapper.identity
    identity.kept.pop(key, None)
    found = identity.live.pop(key, None)
    if found is not None:
        identity.stale[key] = found


def _columns(mapper: Mapper, instance: Any, names: Iterable[str]) -> list[str]:
    """The columns among names; relationships among them are unknown again, until ``Session.load``."""
    names = list(names)
    related = related_of(instance)
    for name in mapper.record.relationships.keys() & set(names):
        if related is not None:
            related.values.pop(name, None)
            related.before.pop(name, None)
    return [name for name in names if name not in mapper.record.relationships]


def _set_attributes(mapper: Mapper, instance: Any, raw: bytes, names: Iterable[str]) -> None:
    row = dict(zip(mapper.record.names, mapper.table.codec.decode(instance._key, raw), strict=True))
    for name in names:
        if name not in row:
            raise sa_exc.InvalidRequestError(f"{mapper.record.cls.__name__} has no field {name!r}")
        object.__setattr__(instance, name, row[name])


def persistent(session: Session, instance: Any) -> Mapper:
    """The mapper of an object that is stored and the session's.

    Raises:
        sqlalchemy.exc.InvalidRequestError: if it is not.
    """
    required_record(instance)
    if instance._kv is not session.tracker or instance._key is None:
        raise sa_exc.InvalidRequestError(f"Instance {named(instance)} is not persistent within this Session")
    return session._mapper(type(instance))


# ------------------------------------------------------------------------------------------------ what was undone


def restore_loaded(session: Session, txn: Transaction) -> None:
    """At a rollback: objects that were loaded from what statements had written get the values from before."""
    for mapper in set(session._mappers.values()):
        base = txn.base.get(mapper.table.name, {})
        for key in txn.changes.get(mapper.table.name, ()):
            instance = mapper.identity.held(key)
            before = base.get(key, b"")
            if instance is None or before in (b"", instance._raw):
                continue
            if before is None:
                mapper.identity.discard(key)
                session.make_transient(instance)
            else:
                mapper.loading.fill(instance, key, before)


def rewind(session: Session, savepoint: int) -> None:
    """Undo a savepoint in the store's view; objects that were loaded from what it undid follow."""
    txn = session.transaction
    assert txn is not None
    follow(session, txn, txn.rollback_to(savepoint), kept=False)


def follow(session: Session, txn: Transaction, journal: Iterable[tuple[dict[Any, Any], Any]], *, kept: bool) -> None:
    """Let the session's objects follow what was written behind its back, or undone.

    Args:
        session: whose objects they are.
        txn: its transaction.
        journal: the dicts and keys that were written to, as :meth:`Transaction.written_since` gives them.
        kept: they were written, and are part of the innermost level; else they were undone.
    """
    keys = [(target, key) for target, key in journal if key.__class__ is bytes]
    for mapper in set(session._mappers.values()):
        name, identity = mapper.table.name, mapper.identity
        records = txn.changes.get(name)
        for target, key in keys:
            instance = identity.held(key) if target is records else None
            if instance is None or (kept and id(instance) in session.tracker):
                continue  # what the program has changed since is not overwritten: its flush is refused
            raw = txn.get(name, key)
            if kept:
                session.work.levels[-1].note(instance, mapper)
                session.work.levels[-1].departed |= raw is None
            if raw is not None:
                mapper.loading.fill(instance, key, raw)
                continue
            identity.discard(key)
            if not kept:
                session.make_transient(instance)


# ------------------------------------------------------------------------------------------------ what was written


def follow_statement(
    session: Session, txn: Transaction, table: StoredTable, changed: Iterable[bytes], gone: Iterable[bytes]
) -> None:
    """Let the session's objects follow what an update or delete of its own has written."""
    for mapper in set(session._mappers.values()):
        if mapper.table.name != table.name:
            continue
        identity = mapper.identity
        if not identity.live and not identity.stale:
            continue
        for key in changed:
            instance = identity.held(key)
            raw = None if instance is None else txn.get(table.name, key)
            if raw is not None:
                session.work.levels[-1].note(instance, mapper)
                mapper.loading.fill(instance, key, raw)
        for key in gone:
            instance = identity.held(key)
            if instance is not None:
                session.work.levels[-1].note(instance, mapper)
                session.work.levels[-1].departed = True
            identity.discard(key)
