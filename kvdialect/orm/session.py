"""Session: SQLAlchemy's unit of work over one store.

A session begins a transaction when it first needs one, reads one moment of the store with its own pending writes over
it, and commits everything as one atomic batch. It belongs to one thread; an engine serves many sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import INFO
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar, cast, overload
from weakref import ref

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Result, ScalarResult
from sqlalchemy.event import dispatcher
from sqlalchemy.event.registry import EventTarget
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.util import IdentitySet, memoized_property

from kvdialect import exc
from kvdialect.orm import arrow, attachment, bulk, flushing, refreshing, relationships, statements
from kvdialect.orm import door as sql
from kvdialect.orm.identity import Tracker
from kvdialect.orm.loading import Loading
from kvdialect.orm.transactions import NestedTransaction, SessionTransaction
from kvdialect.orm.unitofwork import Level, Mapper, UnitOfWork
from kvdialect.schema.clauses import unsupported
from kvdialect.schema.records import Record, required_record
from kvdialect.schema.related import DELETED
from kvdialect.schema.rows import IndexCodec
from kvdialect.storage.batch import Deletion
from kvdialect.storage.contract import Snapshot
from kvdialect.store.echo import LoggedTransaction
from kvdialect.store.references import References
from kvdialect.store.transaction import ISOLATION_LEVELS, Changes, IsolationLevel, Transaction
from kvdialect.store.writer import commit as commit_transaction

if TYPE_CHECKING:
    import pyarrow as pa

    from kvdialect.orm.engine import Binding, Engine

T = TypeVar("T")

_MOST_FLUSHES: Final = 100
"""How often a commit flushes what listeners of flushes add, as SQLAlchemy does."""


class Session(EventTarget):
    """Records of one store as objects: read, changed, and committed together.

    Args:
        engine: the open store, as :func:`~kvdialect.create_engine` gives it.
        isolation_level: ``"SNAPSHOT"``: all reads are of one moment, and the first of two transactions that write the
            same record wins; ``"SERIALIZABLE"``: besides, whatever was read must still be so at the commit. None stands
            for the engine's.
        autoflush: make pending changes visible to the session's own queries by flushing before each.
        expire_on_commit: False: objects keep their values after a commit, and the next transaction's first read of one
            refreshes it. There is no other way here: reading an attribute never reads the store.
        foreign_keys: True: enforce the foreign keys of the records. None stands for the engine's, which does not unless
            it was told to.
        info: a dict of the caller's.
    """

    dispatch: dispatcher[Session]

    _is_asyncio: ClassVar[bool] = False
    """What SQLAlchemy's ``scoped_session`` asks of sessions."""

    listened: ClassVar[bool] = False
    """Whether any session, or the class, was ever listened to: asking for its listeners costs as much as a read."""

    # Of a session that has not been used, in the class: many live for one read.
    transaction: Transaction | None = None
    has_mutable: bool = False
    relational: bool = False
    """Whether the session has used a class with relationships."""
    references: References | None = None
    """Of a session that enforces foreign keys: what watches over those of its transaction."""
    block: SessionTransaction | None = None
    """The ``with session.begin()`` block that runs: when its transaction is over it begins no other."""
    _binding: Binding | None = None
    _failed: BaseException | None = None
    """The error of a failed flush, and the level that it has undone."""
    _failed_level: Level | None = None
    _flushing: bool = False
    _committing: bool = False
    commits: int = 0
    """How many transactions of the session were committed."""
    _door: sql.Door | None = None

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        bind: Engine | None = None,
        isolation_level: IsolationLevel | None = None,
        autoflush: bool = True,
        expire_on_commit: bool = False,
        foreign_keys: bool | None = None,
        info: dict[Any, Any] | None = None,
    ) -> None:
        target = engine if engine is not None else bind
        if target is None or not callable(getattr(target, "binding", None)):
            raise exc.ArgumentError(f"Session({target!r}): give it an engine of kvdialect.create_engine(...)")
        if isolation_level is not None and isolation_level not in ISOLATION_LEVELS:
            raise exc.ArgumentError(
                f"isolation_level={isolation_level!r} is unknown; allowed: {', '.join(ISOLATION_LEVELS)}"
            )
        if expire_on_commit:
            raise exc.ArgumentError(
                "expire_on_commit=True is not offered: objects keep their values after a commit and are refreshed when"
                " the next transaction first reads them; leave it out"
            )
        self.engine: Engine = target
        self.bind: Engine = target
        self.isolation_level: IsolationLevel = isolation_level or target.isolation_level  # type: ignore[assignment]
        self.foreign_keys = target.foreign_keys if foreign_keys is None else foreign_keys
        self.autoflush = autoflush
        if info:
            self.info.update(info)
        self.tracker = Tracker()
        self.tracker.session = self
        self.work = UnitOfWork(self)
        self._mappers: dict[type[Any], Mapper] = {}

    @memoized_property
    def _indexes(self) -> dict[Any, tuple[Mapper, IndexCodec]]:
        """The indexes that were asked for, by what they were asked for with, as the catalog has them."""
        return {}

    @memoized_property
    def info(self) -> dict[Any, Any]:
        """A dict of the caller's."""
        return {}

    # ------------------------------------------------------------------------------------------ the transaction

    def begin(self, nested: bool = False) -> SessionTransaction | NestedTransaction:
        """Begin a transaction explicitly; without it the first use begins one.

        Raises:
            sqlalchemy.exc.InvalidRequestError: if one has begun already.
        """
        if nested:
            return self.begin_nested()
        if self.transaction is not None:
            raise sa_exc.InvalidRequestError("A transaction is already begun on this Session.")
        self._check_usable()
        self._autobegin()
        return SessionTransaction(self)

    def begin_nested(self) -> NestedTransaction:
        """Flush and begin a savepoint; its ``rollback()`` undoes what was done since, values of objects included."""
        self.flush()
        txn = self._autobegin()
        self.work.levels.append(Level(savepoint=txn.savepoint()))
        return NestedTransaction(self)

    def connection(
        self,
        bind_arguments: Mapping[str, Any] | None = None,  # noqa: ARG002 - SQLAlchemy's; a session has one store
        execution_options: Mapping[str, Any] | None = None,
    ) -> sa.Connection:
        """A SQLAlchemy connection inside this session's transaction: the SQL door.

        Its statements see what the session has pending, and the session's objects follow what they write. The session
        commits and rolls back; the connection is good until then.

        Raises:
            NotSupportedError: if this installation has no SQL door (``pip install "kvdialect[sql]"``).
        """
        self._check_usable()
        self._autoflush()
        txn = self._autobegin()
        if self._door is None:
            self._door = sql.Door(self, txn)
        connection: sa.Connection = self._door.connection
        return connection.execution_options(**execution_options) if execution_options else connection

    def in_transaction(self) -> bool:
        """True if a transaction has begun."""
        return self.transaction is not None

    def in_nested_transaction(self) -> bool:
        """True within ``begin_nested``."""
        return len(self.work.levels) > 1

    @property
    def is_active(self) -> bool:
        """False after a flush has failed, until ``rollback()``."""
        return self._failed is None

    def commit(self) -> None:
        """Flush, and write everything as one batch, durably when this returns.

        If it fails nothing is written, the transaction is rolled back, and the session can go on with a new one.

        Raises:
            ConflictError: if another transaction has committed a change to what this one wrote (or, if SERIALIZABLE,
                read); run it again.
            IntegrityError, DataError: what :meth:`flush` raises.
            SchemaChanged: if the fields of a table were changed meanwhile; run it again.
            Error: what the storage layer's ``batch_write`` raises; ``outcome`` says whether it was applied.
        """
        self._check_usable()
        if self._flushing or self._committing:
            raise self._busy("commit()")
        txn = self._autobegin()
        try:
            self._committing = True
            if self.listened and self.dispatch.before_commit:
                self.dispatch.before_commit(self)
            flushing.flush(self, check=txn.reading)
            for _ in range(_MOST_FLUSHES):
                if not (self.work.new or self.tracker or self.work.deleted):
                    break
                flushing.flush(self, check=txn.reading)  # what listeners have added since
            if self.transaction is not txn:
                raise sa_exc.IllegalStateChangeError(
                    "the transaction was ended while it was committed; nothing is stored"
                )
            while len(self.work.levels) > 1:
                self.work.keep_level()
            commit_transaction(txn)
        except BaseException:
            self._rollback()
            raise
        finally:
            self._committing = False
        self.commits += 1
        self.work.keep_level()
        self._end(committed=True)
        if self.listened and self.dispatch.after_commit:
            self.dispatch.after_commit(self)

    def rollback(self) -> None:
        """Undo everything since the transaction began: pending writes, and the values of all its objects, in place.

        Raises:
            sqlalchemy.exc.IllegalStateChangeError: in a listener of a flush or a commit, which is not over: raise an
                error there, which undoes it.
        """
        if self._flushing or self._committing:
            raise self._busy("rollback()")
        self._rollback()

    def _busy(self, method: str) -> sa_exc.IllegalStateChangeError:
        busy = "commit()" if self._committing else "flush()"
        return sa_exc.IllegalStateChangeError(
            f"Method '{method}' can't be called here; method '{busy}' is already in progress (raise an error in the"
            " listener, which undoes it)"
        )

    def _rollback(self) -> None:
        self._failed = None
        self.work.belong(self)
        txn = self.transaction
        if txn is None:
            if not self.work.pending:
                return
            block, self.block = self.block, None
            try:
                txn = self._autobegin()  # objects were changed since the last transaction
            finally:
                self.block = block
        self._undo(txn)
        if self.dispatch.after_rollback:
            self.dispatch.after_rollback(self)
        if self.dispatch.after_soft_rollback:
            self.dispatch.after_soft_rollback(self, txn)

    def close(self) -> None:
        """Roll back what is not committed and let go of all objects; the session can be used again."""
        if self._flushing or self._committing:
            raise self._busy("close()")
        self._failed = None
        self.work.belong(self)
        txn = self.transaction
        if txn is not None:
            if self.work.untouched(txn):
                txn.close()
                self.transaction = None
                self.work.levels.clear()
                self._close_door(committed=False)
            else:
                self._undo(txn)
        if self._mappers or self.tracker or self.work.new:
            self._mappers.clear()  # with their identity maps; the next use makes others
            self._indexes.clear()
            self.expunge_all()

    def invalidate(self) -> None:
        """As :meth:`close`: there is no connection that could be broken."""
        self.close()

    def reset(self) -> None:
        """As :meth:`close`."""
        self.close()

    def _undo(self, txn: Transaction) -> None:
        while self.work.levels:
            self.work.undo_level()
        refreshing.restore_loaded(self, txn)
        txn.close()
        self._end()

    def _recover(self, level: Level) -> None:
        """The level that a failed flush has undone is rolled back: the session can go on."""
        if self._failed is not None and self._failed_level is level:
            self._failed = None

    def _autobegin(self) -> Transaction:
        txn = self.transaction
        if txn is None:
            self._check_usable()
            if self.block is not None:
                raise sa_exc.InvalidRequestError(
                    "Can't operate on closed transaction inside context manager.  Please complete the context manager"
                    " before emitting further commands."
                )
            binding = self.engine.binding()
            if binding is not self._binding:
                self._rebind(binding)
            # As Engine.new_transaction does, without its frame: many sessions live for one read.
            cls = LoggedTransaction if self.engine.logger.isEnabledFor(INFO) else Transaction
            txn = self.transaction = cls(self.engine, self.isolation_level, _Seeing(self))
            if self.foreign_keys:
                self.references = References(txn, lambda: self.binding.catalog, bulk.declared_default)
            self.work.levels.append(Level())
            if self.listened and self.dispatch.after_begin:
                self.dispatch.after_begin(self, txn, None)
        return txn

    def _see_schema(self, snapshot: Snapshot) -> None:
        """A snapshot is read by the catalog of its own moment: take that over if it is another."""
        assert self._binding is not None
        catalog = self.engine.catalog_at(snapshot)
        if catalog is not self._binding.catalog:
            self._rebind(self.engine.binding(catalog))

    def _rebind(self, binding: Binding) -> None:
        """Take the code that fits the catalog as it is now."""
        self._binding = binding
        self._indexes.clear()
        for entity, mapper in list(self._mappers.items()):
            try:
                mapper.bind(binding.loading(mapper.record))
            except exc.SchemaMismatch:
                del self._mappers[entity]  # who uses the class again is told

    def _end(self, *, committed: bool = False) -> None:
        """The transaction is over: objects keep their values, and are refreshed when the next one first reads them."""
        self.transaction = None
        self._close_door(committed=committed)
        self.work.levels.clear()
        for mapper in set(self._mappers.values()):
            mapper.identity.age()

    def _close_door(self, *, committed: bool) -> None:
        if self._door is not None:
            door, self._door = self._door, None
            door.close(committed=committed)

    def _release(self, level: Level) -> None:
        assert self.transaction is not None
        assert level.savepoint is not None
        while self.work.within(level):
            self.work.keep_level()
        self.transaction.release(level.savepoint)

    def _rollback_to(self, level: Level) -> None:
        assert self.transaction is not None
        assert level.savepoint is not None
        self._failed = None
        while self.work.within(level):
            self.work.undo_level()
        refreshing.rewind(self, level.savepoint)
        if self.dispatch.after_soft_rollback:
            self.dispatch.after_soft_rollback(self, self.transaction)

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise sa_exc.PendingRollbackError(
                "This Session's transaction has been rolled back due to a previous exception during flush. To begin a"
                " new transaction with this Session, first issue Session.rollback(). Original exception was:"
                f" {self._failed}"
            )

    # ------------------------------------------------------------------------------------------ flush

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Write pending objects into the transaction (not yet to the store), so that its queries see them.

        Raises:
            DataError: for a value that its column does not take, naming record, field, value and what is allowed.
            IntegrityError: for a primary key or a unique value that is taken.
            sqlalchemy.exc.PendingRollbackError: if an earlier flush failed; ``rollback()`` first.
        """
        if objects is not None:
            raise exc.NotSupportedError("flush(objects) is not offered: a flush writes everything that is pending")
        self._check_usable()
        if self.work.pending:
            flushing.flush(self, check=True)

    @contextmanager
    def _no_autoflush(self) -> Iterator[Self]:
        before, self.autoflush = self.autoflush, False
        try:
            yield self
        finally:
            self.autoflush = before

    @property
    def no_autoflush(self) -> Any:
        """A context manager within which queries do not flush."""
        return self._no_autoflush()

    def _autoflush(self) -> None:
        if self.autoflush and not self._flushing and self.work.pending:
            self.flush()

    # ------------------------------------------------------------------------------------------ objects

    @property
    def new(self) -> IdentitySet:
        """The objects added and not yet flushed."""
        return IdentitySet(self.work.new.values())

    @property
    def dirty(self) -> IdentitySet:
        """The objects with an attribute set since they were loaded or flushed."""
        work = self.work
        return IdentitySet([o for i, o in self.tracker.items() if i not in work.new and i not in work.deleted])

    @property
    def deleted(self) -> IdentitySet:
        """The objects marked for deletion and not yet flushed."""
        return IdentitySet(self.work.deleted.values())

    # Parameters that nothing else says of are those by which SQLAlchemy's scoped_session calls a session.

    def add(self, instance: Any, *, _warn: bool = True) -> None:
        """Put an object into the session; the next flush stores it.

        Raises:
            ArgumentError: if it is no object of a record class.
            ProgrammingError: if it belongs to another session.
        """
        attachment.add(self, instance)

    def add_all(self, instances: Iterable[Any]) -> None:
        """As :meth:`add` for each."""
        attachment.add_all(self, instances)

    def delete(self, instance: Any) -> None:
        """Mark an object for deletion by the next flush.

        Raises:
            sqlalchemy.exc.InvalidRequestError: if it is not stored.
        """
        attachment.delete(self, instance)

    def delete_all(self, instances: Iterable[Any]) -> None:
        """As :meth:`delete` for each."""
        for instance in instances:
            self.delete(instance)

    def merge(self, instance: T, *, load: bool = True, options: Sequence[Any] | None = None) -> T:
        """Copy an object's values onto the session's object of the same primary key, which is loaded or made.

        Args:
            instance: any object of a record class; it is left as it is.
            load: False takes the values without reading the store, and is not offered.
            options: relationships to load of it, as ``[selectinload(Parent.children)]``.
        """
        merged = attachment.merge(self, instance, load=load)
        return cast(T, relationships.with_loaded(self, type(instance), merged, options) if options else merged)

    def expunge(self, instance: Any) -> None:
        """Take an object out of the session; what it has pending is not stored.

        Raises:
            sqlalchemy.exc.InvalidRequestError: if it is not in this session.
        """
        attachment.expunge(self, instance)

    def expunge_all(self) -> None:
        """Take all objects out of the session."""
        attachment.expunge_all(self)

    def refresh(self, instance: Any, attribute_names: Iterable[str] | None = None, with_for_update: Any = None) -> None:
        """Give an object the values that the transaction sees, discarding its pending changes.

        Args:
            instance: an object of this session.
            attribute_names: only these; None: all.
            with_for_update: as for :meth:`get`.

        Raises:
            sqlalchemy.exc.InvalidRequestError: if it is not stored, or not there any more.
        """
        refreshing.refresh(self, instance, attribute_names)
        if with_for_update not in (None, False):
            refreshing.expect(self, instance)

    def expire(self, instance: Any, attribute_names: Iterable[str] | None = None) -> None:
        """Discard an object's pending changes and let the next read of it refresh it in place.

        Reading an attribute never reads the store: ``get``, a query or ``refresh`` does.
        """
        refreshing.expire(self, instance, attribute_names)

    def expire_all(self) -> None:
        """As :meth:`expire` for every object."""
        for mapper in set(self._mappers.values()):
            for instance in list(mapper.identity):
                self.expire(instance)

    def __contains__(self, instance: Any) -> bool:
        """True if the object is in this session, stored or about to be."""
        return attachment.contains(self, instance)

    def __iter__(self) -> Iterator[Any]:
        """Yield the objects of the session: those that are added, and those of the identity map."""
        yield from self.new
        for mapper in dict.fromkeys(self._mappers.values()):
            yield from mapper.identity

    def is_modified(self, instance: Any, include_collections: bool = True) -> bool:  # noqa: ARG002
        """True if the object's values are other than those loaded or flushed; relationships are not looked at."""
        if id(instance) in self.work.new:
            return True
        return refreshing.persistent(self, instance).loading.modified(instance)

    # ------------------------------------------------------------------------------------------ reading

    def get(
        self,
        entity: type[T],
        ident: Any,
        *,
        populate_existing: bool = False,
        with_for_update: Any = False,
        options: Sequence[Any] | None = None,
        execution_options: Mapping[str, Any] | None = None,
        identity_token: None = None,
        bind_arguments: None = None,
    ) -> T | None:
        """Return the record with this primary key, or None.

        Args:
            entity: a record class.
            ident: the value of its primary key; a tuple, or a dict by name, where that has several columns.
            populate_existing: refresh an object that the session has already. What is pending is flushed first, or with
                ``no_autoflush`` discarded.
            with_for_update: let the commit fail with ConflictError if the record is changed meanwhile, even if this
                transaction only reads it.
            options: relationships to load, as ``[selectinload(Parent.children)]``.
            execution_options: ``{"populate_existing": True}``, as SQLAlchemy has it.
            identity_token: what SQLAlchemy chooses one of several engines by; None.
            bind_arguments: the same.

        Raises:
            DataError: if ``ident`` can be no primary key of the table.
        """
        if options:
            return relationships.with_loaded(
                self, entity, self.get(
                    entity, ident, populate_existing=populate_existing, with_for_update=with_for_update,
                    execution_options=execution_options,
                ), options,
            )  # fmt: skip
        mapper, txn = self._mappers.get(entity), self.transaction
        if mapper is None or txn is None:
            mapper = self._mapper(entity)
            txn = self._autobegin()
        try:
            key = mapper.loading.quick_key(ident) or mapper.loading.key_of(ident)
        except exc.KeyTooLong:
            return None  # no record has such a key
        _refuse_binds(bind_arguments or identity_token)
        if populate_existing or with_for_update or execution_options:
            return cast("T | None", self._read(mapper, key, populate_existing, with_for_update, execution_options))
        instance: Any
        found = mapper.identity.live.get(key)
        if found is not None:
            instance = found()
            if instance is not None:
                return instance  # type: ignore[no-any-return]
        work = self.work
        if work.new or self.tracker or work.deleted:
            return cast("T | None", self._read(mapper, key))
        direct = txn.direct
        if direct is None:
            raw = txn.get(mapper.table.name, key)
        else:
            try:
                raw = direct.get(mapper.table.name, key)  # what txn.get comes to
            except exc.UnknownColumnFamily:
                raw = txn.get(mapper.table.name, key)  # which says what became of the table
        if raw is None:
            self._forget(mapper, key)
            return None
        if mapper.record.mutable:
            self.has_mutable = True
        # The loading of now: a first read may have taken over another catalog, see _see_schema.
        instance = mapper.loading.load_one(key, raw, mapper.identity, self.tracker)
        return instance  # type: ignore[no-any-return]

    def _read(
        self,
        mapper: Mapper,
        key: bytes,
        populate_existing: bool = False,
        with_for_update: Any = False,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Flush if need be, and read the record even if the session has its object."""
        if self.work.new or self.tracker or self.work.deleted:
            self._autoflush()
        txn = self._autobegin()
        raw = txn.get(mapper.table.name, key)
        if with_for_update not in (None, False):
            refreshing.expect_unchanged(txn, mapper, key, raw)
        if raw is None:
            self._forget(mapper, key)
            return None
        if populate_existing or (execution_options or {}).get("populate_existing"):
            return self.loader(mapper, populate_existing=True)([(key, raw)])[0]
        if mapper.record.mutable:
            self.has_mutable = True
        return mapper.loading.load(((key, raw),), mapper.identity, self.tracker)[0]

    def _forget(self, mapper: Mapper, key: bytes) -> None:
        """A record is gone: an object that an earlier transaction had of it is detached."""
        found = mapper.identity.stale.pop(key, None)
        instance = None if found is None else found()
        if instance is not None and id(instance) not in self.tracker:
            self.make_transient(instance, deleted=True)

    def get_one(self, entity: type[T], ident: Any, **options: Any) -> T:
        """As :meth:`get`, for a record that must be there.

        Raises:
            sqlalchemy.exc.NoResultFound: if it is not.
        """
        instance = self.get(entity, ident, **options)
        if instance is None:
            raise sa_exc.NoResultFound(f"No row was found when one was required: {entity.__name__} {ident!r}")
        return instance

    def get_many(self, entity: type[T], idents: Iterable[Any]) -> list[T | None]:
        """Return the records with these primary keys, in their order, None for each that is absent, by one read."""
        mapper = self._mapper(entity)
        self._autoflush()
        txn = self._autobegin()
        keys = [_key_or_none(mapper, ident) for ident in idents]
        held = {key: None if key is None else mapper.identity.get(key) for key in keys}
        missing = [key for key, instance in held.items() if instance is None and key is not None]
        raws = txn.multi_get(mapper.table.name, missing) if missing else []
        pairs = [(key, raw) for key, raw in zip(missing, raws, strict=True) if raw is not None]
        for key, raw in zip(missing, raws, strict=True):
            if raw is None:
                self._forget(mapper, key)
        held.update(zip([key for key, _ in pairs], self.loader(mapper)(pairs), strict=True))
        return [held[key] for key in keys]

    def load(self, instances: Any, *attributes: Any) -> None:
        """Load relationships of objects, all of them at once, also those that are loaded already.

        Args:
            instances: an object of this session, or several in a list.
            attributes: relationships, as ``Parent.children`` or by name, or
                ``selectinload(Parent.children).selectinload(Child.toys)`` for more than one step; none stands for all
                of the class.

        Raises:
            ArgumentError: for what is no relationship of the class.
            sqlalchemy.exc.InvalidRequestError: if an object is not stored and this session's, or not there any more.
        """
        relationships.load(self, instances, attributes)

    @overload
    def execute(
        self, statement: TypedReturnsRows[Any], params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> Result[Any]: ...
    @overload
    def execute(self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...) -> Any: ...
    def execute(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = {},
        bind_arguments: None = None,
        _parent_execute_state: None = None,
        _add_event: None = None,
    ) -> Any:
        """Execute a statement.

        Those over one table run on the store directly. All others (joins, subqueries, windows, set operations,
        ``text()``) run at the SQL door, in the same transaction, where the extra ``sql`` is installed.

        Args:
            statement: of SQLAlchemy's.
            params: values of its bind parameters; for ``insert`` a dict or a list of dicts, a row each.
            execution_options: ``yield_per=n``: fetch lazily, n rows at a time, with bounded memory;
                ``populate_existing=True``: refresh objects that the session has already; ``autoflush=False``: a select
                does not flush first.
            bind_arguments: what SQLAlchemy chooses one of several engines by; None.

        Returns:
            A SQLAlchemy Result; of insert, update and delete with ``rowcount``.

        Raises:
            NotSupportedError: for what needs the SQL door, naming it, where that is not installed.
        """
        _refuse_binds(bind_arguments)
        if isinstance(statement, sa.Select):
            return statements.select_rows(self, statement, params, execution_options)
        self._check_usable()
        try:
            if isinstance(statement, Insert):
                return bulk.insert(self, statement, params)
            if isinstance(statement, Update):
                return bulk.update(self, statement, params)
            if isinstance(statement, Delete):
                return bulk.delete(self, statement, params)
            raise unsupported(f"{type(statement).__name__} ({getattr(statement, '__visit_name__', 'no statement')})")
        except exc.NotSupportedError as refusal:
            if "construct" not in refusal.facts:
                raise
            return sql.execute(self, statement, bulk.alike(self, statement, params), execution_options, refusal)

    @overload
    def scalars(
        self, statement: TypedReturnsRows[T], params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> ScalarResult[T]: ...
    @overload
    def scalars(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> ScalarResult[Any]: ...
    def scalars(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = {},
        bind_arguments: None = None,
    ) -> ScalarResult[Any]:
        """Execute a statement and return the first element of each row: the objects, for ``select(Record)``."""
        _refuse_binds(bind_arguments)
        if isinstance(statement, sa.Select):
            return statements.select_scalars(self, statement, params, execution_options)
        result: Result[Any] = self.execute(statement, params, execution_options=execution_options)
        return result.scalars()

    @overload
    def scalar(
        self, statement: TypedReturnsRows[T], params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> T | None: ...
    @overload
    def scalar(self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...) -> Any: ...
    def scalar(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = {},
        bind_arguments: None = None,
    ) -> Any:
        """Execute a statement and return the first element of the first row, or None if there is none."""
        _refuse_binds(bind_arguments)
        return self.scalars(statement, params, execution_options=execution_options).first()

    def lookup(self, index: str | sa.Index, *values: Any) -> list[Any]:
        """Return the records whose index columns equal ``values``, in the order of the index, straight from it.

        Args:
            index: its name, or SQLAlchemy's Index.
            values: of its columns; of the first few for all records that share them. None stands for NULL.

        Raises:
            ArgumentError: for an unknown index, one that is being built, or too many values.
        """
        return statements.lookup(self, index, values)

    def scan(
        self,
        target: Any,
        *values: Any,
        start: Any = None,
        stop: Any = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Yield records in the order of a primary key or an index, lazily, straight from it.

        Args:
            target: a record class, for the order of its primary key, or an index as for :meth:`lookup`.
            values: what the first columns must equal.
            start: the least value of the next column, None for no bound.
            stop: the value of the next column to end before, None for no bound.
            reverse: yield in descending order, from below ``stop`` down to ``start``.
            limit: the most records to yield.
        """
        return statements.scan(self, target, values, start, stop, reverse, limit)

    def to_arrow(self, statement: Any, params: Any = None, *, batch_size: int = arrow.BATCH) -> pa.Table:
        """Execute a select and return its rows as an Arrow table, with no object made for a row.

        A record stands for its columns; objects of the session are neither made nor refreshed.

        Args:
            statement: the select.
            params: values of its bind parameters.
            batch_size: rows that are held as Python's values at once.

        Returns:
            A ``pyarrow.Table``; ``.to_pandas()`` and ``polars.from_arrow()`` make data frames of it.

        Raises:
            NotSupportedError: if pyarrow is not installed, or for what needs the SQL door, where that is not.
            ArgumentError: if two columns have the same name, or one has no type.
            DataError: for a value beyond its Arrow type, such as a sum of more than 64 bits.
        """
        return arrow.table(self, statement, params, batch_size)

    def arrow_batches(
        self, statement: Any, params: Any = None, *, batch_size: int = arrow.BATCH
    ) -> pa.RecordBatchReader:
        """As :meth:`to_arrow`, a ``pyarrow.RecordBatchReader`` that reads as it is asked, with bounded memory.

        It is good until the transaction ends.
        """
        return arrow.batches(self, statement, params, batch_size)

    def explain(self, statement: Any, params: Any = None, *, analyze: bool = False) -> Any:
        """Return the plan of a select, update or delete; ``str()`` of it is the tree.

        Args:
            statement: the statement; it is not executed, unless ``analyze``.
            params: values of its bind parameters.
            analyze: execute it (a select) and add the rows and the time that each step really took.
        """
        return statements.explain(self, statement, params, analyze=analyze)

    def page(self, statement: Any, limit: int, after: str | None = None, params: Any = None) -> Any:
        """Return one page of a select: an iterable with ``.next``, the token of the page after it, or None.

        The token carries the plan and the place, so that pages neither repeat nor skip rows while others write; it
        outlives a restart.

        Args:
            statement: the select; with an ``order_by`` the pages follow that order.
            limit: rows of a page.
            after: the token of the page before.
            params: values of its bind parameters.

        Raises:
            ArgumentError: if the token is none, or belongs to another statement or schema.
        """
        return statements.page(self, statement, limit, after, params)

    # ------------------------------------------------------------------------------------------ for the unit of work

    def mapper_of(self, instance: Any) -> Mapper:
        """The mapper of an object's class."""
        mapper = self._mappers.get(type(instance))
        return self._mapper(type(instance)) if mapper is None else mapper

    def _mapper(self, entity: Any) -> Mapper:
        """The mapper of a record class, in a transaction."""
        self._autobegin()
        mapper = self._mappers.get(entity)
        if mapper is None:
            record = required_record(entity)
            assert self._binding is not None
            mapper = self._mappers.get(record.cls)
            if mapper is None:
                mapper = self._mappers[record.cls] = Mapper(self._loading(record))
                if record.relationships:
                    self.relational = True
            self._mappers[entity] = mapper
        return mapper

    def _loading(self, record: Record) -> Loading:
        assert self._binding is not None
        try:
            return self._binding.loading(record)
        except exc.SchemaMismatch:
            # It may have been created, or changed, by another engine since the catalog was last seen.
            self.engine.refresh()
            if self._autobegin().reading or self.engine.catalog is self._binding.catalog:
                raise
            self._rebind(self.engine.binding())
            return self._binding.loading(record)

    @property
    def binding(self) -> Binding:
        """The tables as the catalog has them at the moment that this transaction reads."""
        _ = self._autobegin().snapshot
        assert self._binding is not None
        return self._binding

    def mutable_mappers(self) -> list[Mapper]:
        """The mappers whose objects can change unnoticed."""
        if not self.has_mutable:
            return []
        return [mapper for mapper in dict.fromkeys(self._mappers.values()) if mapper.record.mutable]

    def enter(self, mapper: Mapper, instance: Any) -> None:
        """Put an object into the identity map under its key."""
        identity = mapper.identity
        identity.stale.pop(instance._key, None)
        identity.live[instance._key] = statements.weak(instance)
        if mapper.record.mutable:
            identity.kept[instance._key] = instance
            self.has_mutable = True

    def make_transient(self, instance: Any, *, deleted: bool = False) -> None:
        """Make an object one that no session knows; it keeps its values.

        Args:
            instance: the object.
            deleted: its record is gone: who adds what refers to it does not add it.
        """
        for slot, value in (("_kv", None), ("_key", None), ("_raw", DELETED if deleted else None)):
            object.__setattr__(instance, slot, value)

    def loader(self, mapper: Mapper, *, populate_existing: bool = False, all_pairs: bool = False) -> Any:
        """``load(pairs) -> objects``, through the identity map.

        A scan that began before this transaction's first write to a family gives the pairs of the snapshot: what was
        written since is taken instead, and what was deleted is passed over, unless there must be an object for each of
        ``all_pairs``.
        """
        load, identity, tracker, name = mapper.loading.load, mapper.identity, self.tracker, mapper.table.name
        changes = self._autobegin().changes
        if mapper.record.mutable:
            self.has_mutable = True
        if not populate_existing:

            def current(pairs: Iterable[tuple[bytes, bytes]]) -> list[Any]:
                pending = changes.get(name)
                return load(_newest(pairs, pending, all_pairs) if pending else pairs, identity, tracker)

            return current

        def reload(pairs: Iterable[tuple[bytes, bytes]]) -> list[Any]:
            pairs = list(_newest(pairs, changes.get(name) or {}, all_pairs))
            objects = load(pairs, identity, tracker)
            for instance, (key, value) in zip(objects, pairs, strict=True):
                tracker.pop(id(instance), None)
                mapper.loading.fill(instance, key, value)
            return objects

        return reload

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.isolation_level} on {self.engine!r}>"


class _Seeing:
    """Tells a session of the snapshot that its transaction takes, without holding the session."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = ref(session)

    def __call__(self, snapshot: Snapshot) -> None:
        session = self._session()
        if session is not None:
            session._see_schema(snapshot)


def object_session(instance: Any) -> Session | None:
    """The session that an object belongs to, or None."""
    tracker = getattr(instance, "_kv", None)
    return None if tracker is None else tracker.session


def _refuse_binds(bind_arguments: object) -> None:
    if bind_arguments is not None and bind_arguments != {}:
        raise exc.ArgumentError(f"{bind_arguments!r:.80} is to choose an engine, and a session is of one")


def _key_or_none(mapper: Mapper, ident: Any) -> bytes | None:
    try:
        return mapper.loading.key_of(ident)
    except exc.KeyTooLong:
        return None


def _newest(pairs: Iterable[tuple[bytes, bytes]], pending: Changes, all_pairs: bool) -> Iterator[tuple[bytes, bytes]]:
    for key, value in pairs:
        change = pending.get(key, value)
        if not isinstance(change, Deletion):
            yield key, change
        elif all_pairs:
            yield key, value
