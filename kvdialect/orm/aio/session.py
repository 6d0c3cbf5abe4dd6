"""AsyncSession: a Session for asyncio, with SQLAlchemy's names.

Whatever may read or write the store is awaited and runs on a thread, which the session has for as long as its
transaction is open; all else (``add``, ``new``, attributes of objects) works at once, as it touches memory alone.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, overload

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Result, ScalarResult
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.util import IdentitySet

from kvdialect import exc
from kvdialect.orm.aio.results import STREAMED, AsyncResult, AsyncScan
from kvdialect.orm.aio.transactions import AsyncSessionTransaction
from kvdialect.orm.aio.workers import Worker, WorkerPool
from kvdialect.orm.factory import sessionmaker
from kvdialect.orm.session import Session
from kvdialect.orm.transactions import NestedTransaction, SessionTransaction

if TYPE_CHECKING:
    from kvdialect.orm.engine import Engine

T = TypeVar("T")
P = ParamSpec("P")

_NO_OPTIONS: Mapping[str, Any] = {}


class AsyncSession:
    """Records of one store as objects, for one asyncio task.

    Args:
        engine: the open store, as :func:`~kvdialect.create_engine` gives it.
        sync_session_class: class of the :class:`~kvdialect.Session` that does the work, or a ``sessionmaker``.
        options: of :class:`~kvdialect.Session`.

    Attributes:
        sync_session: the Session that does the work: for listeners, and within :meth:`run_sync`.
        last_commit: what became of the last commit that was tried: ``"applied"``, ``"not_applied"`` or ``"unknown"``;
            None if there was none. It is known after a cancelled ``commit()`` too, which runs to its end.
    """

    last_commit: exc.Outcome | None = None
    _worker: Worker | None = None
    _running: str | None = None
    """The call that runs on the worker."""

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        bind: Engine | None = None,
        sync_session_class: type[Session] | sessionmaker = Session,
        **options: Any,
    ) -> None:
        target = engine if engine is not None else bind
        if target is None and isinstance(sync_session_class, sessionmaker):
            self.sync_session = sync_session_class(**options)
        else:
            self.sync_session = sync_session_class(engine=target, **options)
        self.engine: Engine = self.sync_session.engine
        self.bind: Engine = self.engine

    # ------------------------------------------------------------------------------------------ threads

    @property
    def _in_use(self) -> bool:
        return self._running is not None

    def _check_free(self, name: str) -> None:
        if self._running is not None:
            raise sa_exc.IllegalStateChangeError(
                f"AsyncSession.{name}() was called while its {self._running}() runs; a session serves one task at a"
                " time: give each task a session of its own"
            )

    async def _call(self, name: str, function: Callable[..., Any], /, *args: Any, interrupted: bool = False) -> Any:
        """Run a function on the session's thread.

        Args:
            name: of the method, for who calls another one meanwhile.
            function: what to run.
            args: what to give it.
            interrupted: it only reads: when the task is cancelled it may be cut short.
        """
        self._check_free(name)
        self._running = name
        call = None
        try:
            worker = self._worker
            if worker is None:
                worker = self._worker = await self.engine.workers.take()
            call = worker.call(partial(function, *args) if args else function)
            return await call.result(self._interrupt if interrupted else None)
        finally:
            if call is None or call.done:
                self._running = None
                self._settle()
            else:
                self._drop()  # the coroutine itself is thrown away, and the thread goes on

    def _settle(self) -> None:
        """Give the thread back if no transaction is open."""
        worker = self._worker
        if worker is not None and self.sync_session.transaction is None:
            self._worker = None
            self.engine.workers.give_back(worker)

    def _drop(self) -> None:
        """Close the session behind whatever its thread does, and let others have the thread."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.later(partial(_close, self.sync_session, self.engine.workers, worker))

    def _interrupt(self) -> None:
        """Cut short what the session's thread reads; the transaction stays as it is."""
        session = self.sync_session
        if session._flushing:
            return  # a flush that fails takes the transaction along; the query behind it will be interrupted
        txn, door = session.transaction, session._door
        if txn is not None:
            txn.interrupt(_interrupted)
        if door is not None:
            door.interrupt()

    def _has_only_read(self) -> bool:
        """True if ending the transaction takes no more than letting go of its snapshot."""
        session = self.sync_session
        txn = session.transaction
        return txn is None or (
            session.work.untouched(txn)
            and not session.tracker
            and not any(txn.base.values())
            and not txn.checks
            and session._door is None
            and not session.listened
        )

    # ------------------------------------------------------------------------------------------ the transaction

    def begin(self) -> AsyncSessionTransaction:
        """A transaction that begins with ``async with``, or when it is awaited, and ends with the block."""
        return AsyncSessionTransaction(self)

    def begin_nested(self) -> AsyncSessionTransaction:
        """A savepoint that begins with ``async with``, or when it is awaited."""
        return AsyncSessionTransaction(self, nested=True)

    async def _begin(self, nested: bool) -> SessionTransaction | NestedTransaction:
        if nested:
            return await self._call("begin_nested", self.sync_session.begin_nested)  # type: ignore[no-any-return]
        self._check_free("begin")
        return self.sync_session.begin()

    def in_transaction(self) -> bool:
        """True if a transaction has begun."""
        return self.sync_session.in_transaction()

    def in_nested_transaction(self) -> bool:
        """True within ``begin_nested``."""
        return self.sync_session.in_nested_transaction()

    @property
    def is_active(self) -> bool:
        """False after a flush has failed, until ``rollback()``."""
        return self.sync_session.is_active

    async def commit(self) -> None:
        """Flush, and write everything as one batch, durably when this returns; see :meth:`kvdialect.Session.commit`.

        A commit that has begun runs to its end, even if the task is cancelled meanwhile; CancelledError is raised
        then, and :attr:`last_commit` says whether it was applied.
        """
        await self._commit("commit", self.sync_session.commit)

    async def _commit(self, name: str, commit: Callable[[], None]) -> None:
        self._check_free(name)
        self.last_commit = "not_applied"
        if self._has_only_read() and self.sync_session.transaction is not None:
            self._committed(commit)
            self._settle()
            return
        try:
            await self._call(name, self._committed, commit)
        except asyncio.CancelledError as error:
            error.add_note(f"the commit of the AsyncSession was {self.last_commit.replace('_', ' ')}")
            raise

    def _committed(self, commit: Callable[[], None]) -> None:
        """Commit, and note what became of it."""
        before = self.sync_session.commits
        try:
            commit()
        except BaseException as error:
            if self.sync_session.commits != before:
                self.last_commit = "applied"  # what failed came behind the commit: a listener
            elif isinstance(error, exc.Error):
                self.last_commit = error.outcome
            raise
        self.last_commit = "applied"

    async def rollback(self) -> None:
        """Undo everything since the transaction began; see :meth:`kvdialect.Session.rollback`."""
        await self._roll_back(self.sync_session.rollback)

    async def _roll_back(self, function: Callable[[], None]) -> None:
        self._check_free("rollback")
        if self._worker is None:
            function()  # nothing was read or written: there are objects to restore, and no more
        else:
            await self._call("rollback", function)

    async def close(self) -> None:
        """Roll back what is not committed and let go of all objects; the session can be used again."""
        self._check_free("close")
        session = self.sync_session
        if self._worker is None or self._has_only_read():
            session.close()
            self._settle()
            return
        try:
            await self._call("close", session.close)
        except exc.StoreClosed:
            session.close()  # the engine was closed, and the thread with it
            self._worker = None

    async def aclose(self) -> None:
        """As :meth:`close`, for ``contextlib.aclosing``."""
        await self.close()

    async def reset(self) -> None:
        """As :meth:`close`."""
        await self.close()

    async def invalidate(self) -> None:
        """As :meth:`close`: there is no connection that could be broken."""
        await self.close()

    async def flush(self) -> None:
        """Write pending objects into the transaction; see :meth:`kvdialect.Session.flush`."""
        await self._call("flush", self.sync_session.flush)

    async def run_sync(self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **options: P.kwargs) -> T:
        """Call ``fn(session, ...)`` with the :class:`~kvdialect.Session` itself, on the session's thread.

        Many reads and writes cost one change of threads that way, instead of one each. ``fn`` is not cut short when
        the task is cancelled.
        """
        result: T = await self._call("run_sync", partial(fn, self.sync_session, *args, **options))
        return result

    # ------------------------------------------------------------------------------------------ objects

    @property
    def new(self) -> IdentitySet:
        """The objects added and not yet flushed."""
        return self.sync_session.new

    @property
    def dirty(self) -> IdentitySet:
        """The objects with an attribute set since they were loaded or flushed."""
        return self.sync_session.dirty

    @property
    def deleted(self) -> IdentitySet:
        """The objects marked for deletion and not yet flushed."""
        return self.sync_session.deleted

    @property
    def info(self) -> dict[Any, Any]:
        """A dict of the caller's."""
        return self.sync_session.info

    @property
    def autoflush(self) -> bool:
        """Whether queries flush first."""
        return self.sync_session.autoflush

    @autoflush.setter
    def autoflush(self, value: bool) -> None:
        self.sync_session.autoflush = value

    @property
    def no_autoflush(self) -> Any:
        """A context manager, for a plain ``with``, within which queries do not flush."""
        return self.sync_session.no_autoflush

    def add(self, instance: Any) -> None:
        """Put an object into the session; the next flush stores it."""
        self._check_free("add")
        self.sync_session.add(instance)

    def add_all(self, instances: Iterable[Any]) -> None:
        """As :meth:`add` for each."""
        self._check_free("add_all")
        self.sync_session.add_all(instances)

    async def delete(self, instance: Any) -> None:
        """Mark an object for deletion by the next flush."""
        await self._call("delete", self.sync_session.delete, instance)

    async def delete_all(self, instances: Iterable[Any]) -> None:
        """As :meth:`delete` for each."""
        await self._call("delete_all", self.sync_session.delete_all, list(instances))

    async def merge(self, instance: T, *, load: bool = True, options: Sequence[Any] | None = None) -> T:
        """Copy an object's values onto the session's object of the same primary key; see :meth:`Session.merge`."""
        merged: T = await self._call("merge", partial(self.sync_session.merge, instance, load=load, options=options))
        return merged

    async def refresh(
        self, instance: Any, attribute_names: Iterable[str] | None = None, with_for_update: Any = None
    ) -> None:
        """Give an object the values that the transaction sees, discarding its pending changes."""
        await self._call("refresh", self.sync_session.refresh, instance, attribute_names, with_for_update)

    async def load(self, instances: Any, *attributes: Any) -> None:
        """See :meth:`.Session.load`."""
        await self._call("load", self.sync_session.load, instances, *attributes)

    def expire(self, instance: Any, attribute_names: Iterable[str] | None = None) -> None:
        """Discard an object's pending changes and let the next read of it refresh it in place."""
        self._check_free("expire")
        self.sync_session.expire(instance, attribute_names)

    def expire_all(self) -> None:
        """As :meth:`expire` for every object."""
        self._check_free("expire_all")
        self.sync_session.expire_all()

    def expunge(self, instance: Any) -> None:
        """Take an object out of the session; what it has pending is not stored."""
        self._check_free("expunge")
        self.sync_session.expunge(instance)

    def expunge_all(self) -> None:
        """Take all objects out of the session."""
        self._check_free("expunge_all")
        self.sync_session.expunge_all()

    def is_modified(self, instance: Any) -> bool:
        """True if the object's values are other than those loaded or flushed."""
        return self.sync_session.is_modified(instance)

    def __contains__(self, instance: Any) -> bool:
        """True if the object is in this session, stored or about to be."""
        return instance in self.sync_session

    def __iter__(self) -> Iterator[Any]:
        """Yield the objects of the session."""
        return iter(self.sync_session)

    # ------------------------------------------------------------------------------------------ reading

    async def get(
        self,
        entity: type[T],
        ident: Any,
        *,
        populate_existing: bool = False,
        with_for_update: Any = False,
        options: Sequence[Any] | None = None,
        execution_options: Mapping[str, Any] | None = None,
    ) -> T | None:
        """Return the record with this primary key, or None; see :meth:`kvdialect.Session.get`."""
        read = partial(
            self.sync_session.get,
            populate_existing=populate_existing,
            with_for_update=with_for_update,
            options=options,
            execution_options=execution_options,
        )
        found: T | None = await self._call("get", read, entity, ident)
        return found

    async def get_one(self, entity: type[T], ident: Any, **options: Any) -> T:
        """As :meth:`get`, for a record that must be there.

        Raises:
            sqlalchemy.exc.NoResultFound: if it is not.
        """
        found: T = await self._call("get_one", partial(self.sync_session.get_one, entity, ident, **options))
        return found

    async def get_many(self, entity: type[T], idents: Iterable[Any]) -> list[T | None]:
        """Return the records with these primary keys, None for each that is absent; see :meth:`Session.get_many`."""
        found: list[T | None] = await self._call("get_many", self.sync_session.get_many, entity, list(idents))
        return found

    @overload
    async def execute(
        self, statement: TypedReturnsRows[Any], params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> Result[Any]: ...
    @overload
    async def execute(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> Any: ...
    async def execute(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = _NO_OPTIONS
    ) -> Any:
        """Execute a statement; its rows are all there when this returns. See :meth:`kvdialect.Session.execute`.

        Raises:
            sqlalchemy.exc.InvalidRequestError: for ``yield_per``, which is :meth:`stream`'s.
        """
        return await self._read("execute", self.sync_session.execute, statement, params, execution_options)

    @overload
    async def scalars(
        self, statement: TypedReturnsRows[T], params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> ScalarResult[T]: ...
    @overload
    async def scalars(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> ScalarResult[Any]: ...
    async def scalars(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = _NO_OPTIONS
    ) -> ScalarResult[Any]:
        """Execute a statement and return the first element of each row, all of them read."""
        result: ScalarResult[Any] = await self._read(
            "scalars", self.sync_session.scalars, statement, params, execution_options
        )
        return result

    @overload
    async def scalar(
        self, statement: TypedReturnsRows[T], params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> T | None: ...
    @overload
    async def scalar(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> Any: ...
    async def scalar(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = _NO_OPTIONS
    ) -> Any:
        """Execute a statement and return the first element of the first row, or None if there is none."""
        return await self._read("scalar", self.sync_session.scalar, statement, params, execution_options)

    async def _read(
        self, name: str, method: Callable[..., Any], statement: Any, params: Any, given: Mapping[str, Any]
    ) -> Any:
        if _yield_per(statement, given) is not None:
            raise sa_exc.InvalidRequestError(
                f"yield_per reads while rows are taken, which would block the event loop in what {name}() returns; use"
                " await session.stream(statement) and iterate with async for"
            )
        run = partial(method, statement, params, execution_options=given)
        # What SQL writes is undone by statement; the session's own writes run to their end.
        writes = isinstance(statement, Insert | Update | Delete)
        return await self._call(name, run, interrupted=not writes)

    async def stream(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = _NO_OPTIONS
    ) -> AsyncResult[Any]:
        """Execute a select whose rows are read while they are iterated, with bounded memory.

        Args:
            statement: of SQLAlchemy's.
            params: values of its bind parameters.
            execution_options: as for :meth:`kvdialect.Session.execute`; ``yield_per`` rows are read at once.
        """
        size = _yield_per(statement, execution_options) or STREAMED
        options = {**execution_options, "yield_per": size}
        run = partial(self.sync_session.execute, statement, params, execution_options=options)
        return AsyncResult(self, await self._call("stream", run, interrupted=True), size)

    async def stream_scalars(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = _NO_OPTIONS
    ) -> AsyncResult[Any]:
        """As :meth:`stream`, of the first element of each row."""
        size = _yield_per(statement, execution_options) or STREAMED
        options = {**execution_options, "yield_per": size}
        run = partial(self.sync_session.scalars, statement, params, execution_options=options)
        return AsyncResult(self, await self._call("stream_scalars", run, interrupted=True), size)

    async def lookup(self, index: str | sa.Index, *values: Any) -> list[Any]:
        """Return the records whose index columns equal ``values``; see :meth:`kvdialect.Session.lookup`."""
        found: list[Any] = await self._call("lookup", self.sync_session.lookup, index, *values, interrupted=True)
        return found

    def scan(
        self,
        target: Any,
        *values: Any,
        start: Any = None,
        stop: Any = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncScan[Any]:
        """Records in the order of a primary key or an index; see :meth:`kvdialect.Session.scan`.

        ``async for record in session.scan(...)`` reads them in portions; ``await session.scan(...)`` is the list.
        """
        scan = self.sync_session.scan
        return AsyncScan(self, partial(scan, target, *values, start=start, stop=stop, reverse=reverse, limit=limit))

    async def explain(self, statement: Any, params: Any = None, *, analyze: bool = False) -> Any:
        """Return the plan of a statement; ``str()`` of it is the tree. See :meth:`kvdialect.Session.explain`."""
        run = partial(self.sync_session.explain, statement, params, analyze=analyze)
        return await self._call("explain", run, interrupted=True)

    async def page(self, statement: Any, limit: int, after: str | None = None, params: Any = None) -> Any:
        """Return one page of a select; see :meth:`kvdialect.Session.page`."""
        return await self._call("page", self.sync_session.page, statement, limit, after, params, interrupted=True)

    # ------------------------------------------------------------------------------------------ the end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._worker is not None:
            warnings.warn(
                f"{self!r} was dropped with a transaction open; close it", ResourceWarning, stacklevel=2, source=self
            )
            self._drop()

    def __repr__(self) -> str:
        return f"<AsyncSession {self.sync_session.isolation_level} on {self.engine!r}>"


def _yield_per(statement: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(statement, sa.Executable):
        given = {**statement.get_execution_options(), **given}
    return given.get("yield_per")


def _interrupted() -> exc.Error:
    return exc.OperationalError("the task that awaited this read was cancelled; read again")


def _close(session: Session, workers: WorkerPool, worker: Worker) -> None:
    try:
        session.close()
    finally:
        workers.give_back(worker)


__all__ = ["AsyncSession"]
