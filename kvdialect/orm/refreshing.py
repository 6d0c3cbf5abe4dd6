"""How the session's objects follow the store: refreshed, expired, and changed by what is written or undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sa_exc

from kvdialect.orm.identity import named
from kvdialect.schema.records import required_record
from kvdialect.schema.related import forget_loaded
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
    # What is pending on it is given up before the flush, or that would write it.
    if names is None:
        session.tracker.pop(id(instance), None)
        mapper.loading.fill(instance, instance._key, instance._raw)
    else:
        _set_attributes(mapper, instance, instance._raw, names)
    session._autoflush()
    raw = session._autobegin().get(mapper.table.name, instance._key)
    if raw is None:
        raise sa_exc.InvalidRequestError(f"Could not refresh instance {named(instance)}")
    if names is not None and (id(instance) in session.tracker or mapper.identity.get(instance._key) is instance):
        _set_attributes(mapper, instance, raw, names)
        return
    mapper.loading.fill(instance, instance._key, raw)  # of an earlier transaction: all of it, or the rest were stale
    session.enter(mapper, instance)


def expect(session: Session, instance: Any) -> None:
    """Expect that the commit finds the record of an object as this transaction sees it."""
    mapper = persistent(session, instance)
    txn = session._autobegin()
    expect_unchanged(txn, mapper, instance._key, txn.get(mapper.table.name, instance._key))


def expect_unchanged(txn: Transaction, mapper: Mapper, key: bytes, raw: bytes | None) -> None:
    """Expect that the commit finds a record as it was read, as if it were written."""
    if key not in txn.pending(mapper.table.name):
        txn.expected(mapper.table.name).setdefault(key, raw)
        txn.tables[mapper.table.name] = mapper.table


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
    identity.kept_before.pop(key, None)
    found = identity.live.pop(key, None)
    if found is not None:
        identity.stale[key] = found


def _columns(mapper: Mapper, instance: Any, names: Iterable[str]) -> list[str]:
    """The columns among names; relationships among them are unknown again, until ``Session.load``."""
    names = list(names)
    for name in mapper.record.relationships.keys() & set(names):
        forget_loaded(instance, name)
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
    mapper = session._mapper(type(instance)) if instance._kv is session.tracker else None
    if mapper is None or instance._key is None or mapper.identity.held(instance._key) is not instance:
        raise sa_exc.InvalidRequestError(f"Instance {named(instance)} is not persistent within this Session")
    return mapper


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
    session: Session,
    txn: Transaction,
    table: StoredTable,
    changed: Iterable[bytes],
    gone: Iterable[bytes],
    moved: Mapping[bytes, bytes] = MappingProxyType({}),
) -> None:
    """Let the session's objects follow what an update or delete of its own has written.

    Args:
        session: whose objects they are.
        txn: its transaction.
        table: what was written to.
        changed: keys of the records that were changed.
        gone: keys of those that were deleted.
        moved: keys of those that have another key now, and that.
    """
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
        movers = [(identity.held(key), key, now) for key, now in moved.items()]
        for instance, key, _ in movers:
            if instance is not None:
                session.work.levels[-1].note(instance, mapper)
            identity.discard(key)
        for instance, _, key in movers:
            raw = None if instance is None else txn.get(table.name, key)
            if raw is not None:
                mapper.loading.fill(instance, key, raw)
                session.enter(mapper, instance)
