"""The dialect for ``create_async_engine``: each connection has a thread of its own, on which its statements run.

After SQLAlchemy's own adapter of aiosqlite: the DBAPI's calls are awaited within SQLAlchemy's greenlets, so that the
event loop goes on meanwhile. The storage engines give up the GIL where they read and write.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import pool
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_module
from sqlalchemy.engine.interfaces import AdaptedConnection
from sqlalchemy.util.concurrency import await_

from kvdialect.dialect.base import KvDialect
from kvdialect.store.engine import Engine

_FETCHED: Final = 256
"""Rows that are brought over from the thread at once."""

_INTERRUPT_AGAIN: Final = 0.05
"""Seconds after which what was interrupted and still runs is interrupted once more."""


class AsyncCursor:
    """A cursor as SQLAlchemy's synchronous code sees it; each call is awaited.

    Attributes:
        server_side: rows are brought over as they are asked for, which has to be awaited; else all of them at once.
            The name is SQLAlchemy's.
    """

    def __init__(self, connection: AsyncConnection, server_side: bool) -> None:
        self._connection = connection
        self.server_side = server_side
        self._cursor: Any = connection.call(partial(connection.driver_connection.cursor, streaming=server_side))
        self._rows: deque[Any] = deque()
        self._done = True
        self.arraysize = 1

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount  # type: ignore[no-any-return]

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid  # type: ignore[no-any-return]

    def execute(self, operation: Any, parameters: Any = ()) -> Any:
        self._rows.clear()
        if self.server_side:
            self._connection.call(self._cursor.execute, operation, parameters)
            self._done = self._cursor.description is None
        else:
            self._rows.extend(self._connection.call(self._all, operation, parameters))
            self._done = True
        return self

    def _all(self, operation: Any, parameters: Any) -> Sequence[Any]:
        self._cursor.execute(operation, parameters)
        return () if self._cursor.description is None else self._cursor.fetchall()

    def executemany(self, operation: Any, seq_of_parameters: Any) -> Any:
        self._rows.clear()
        self._connection.call(self._cursor.executemany, operation, seq_of_parameters)
        self._done = True
        return self

    def _fetch(self, wanted: int) -> None:
        """Bring rows over until ``wanted`` are at hand or none is left."""
        while len(self._rows) < wanted and not self._done:
            size = max(_FETCHED, wanted - len(self._rows))
            rows = self._connection.call(self._cursor.fetchmany, size)
            self._rows.extend(rows)
            self._done = len(rows) < size

    def fetchone(self) -> Any:
        self._fetch(1)
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        wanted = self.arraysize if size is None else size
        self._fetch(wanted)
        return [self._rows.popleft() for _ in range(min(wanted, len(self._rows)))]

    def fetchall(self) -> Sequence[Any]:
        rows = list(self._rows)
        self._rows.clear()
        if not self._done:
            rows += self._connection.call(self._cursor.fetchall)
            self._done = True
        return rows

    def __iter__(self) -> Any:
        while (row := self.fetchone()) is not None:
            yield row

    def setinputsizes(self, *sizes: Any) -> None:
        """PEP 249's; nothing to do."""

    def nextset(self) -> None:
        """There is one set of rows."""

    def close(self) -> None:
        self._rows.clear()
        self._connection.later(self._cursor.close)

    async def _async_soft_close(self) -> None:
        """Nothing is open beside the rows."""


class AsyncConnection(AdaptedConnection):
    """A connection as SQLAlchemy's synchronous code sees it.

    Attributes:
        driver_connection: the DBAPI's connection, for its own thread only.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="kvdialect-aio")
        self._connection: Any = None
        try:
            self.call(lambda: setattr(self, "_connection", make()))
        except BaseException:
            self.later(self._abandon)  # of a task that was cancelled meanwhile, it may be made yet
            self._thread.shutdown(wait=False)
            raise

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def driver_connection(self) -> Any:
        return self._connection

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on the connection's thread and await its result."""
        return await_(asyncio.get_running_loop().run_in_executor(self._thread, function, *args))

    def later(self, function: Callable[..., Any], *args: Any) -> None:
        """Run a function on the connection's thread after all that were called before."""
        self._thread.submit(function, *args)

    def cursor(self, *, streaming: bool = False) -> AsyncCursor:
        return AsyncCursor(self, streaming)

    def execute(self, operation: Any, parameters: Any = ()) -> AsyncCursor:
        cursor = self.cursor()
        cursor.execute(operation, parameters)
        return cursor

    def commit(self) -> None:
        self.call(self._connection.commit)

    def rollback(self) -> None:
        self.call(self._connection.rollback)

    @property
    def closed(self) -> bool:
        return bool(self._connection.closed)

    @property
    def store(self) -> Any:
        return self._connection.store

    @property
    def isolation_level(self) -> str:
        return self._connection.isolation_level  # type: ignore[no-any-return]

    @isolation_level.setter
    def isolation_level(self, level: str) -> None:
        self.call(setattr, self._connection, "isolation_level", level)

    def create_function(self, *args: Any, **options: Any) -> None:
        self.call(lambda: self._connection.create_function(*args, **options))

    def close(self) -> None:
        try:
            self.call(self._connection.close)
        finally:
            self._thread.shutdown(wait=False)

    def terminate(self, closed: Callable[[], None]) -> None:
        """Close as soon as may be, without a loop to await it in: a task was cancelled, or has dropped its connection.

        Args:
            closed: called when that is done, on the connection's thread.
        """
        idle = self._thread.submit(lambda: None)  # done when nothing of before runs any more
        quiet = threading.Event()
        self.later(quiet.wait)
        self.later(self._connection.close)
        self.later(closed)
        self._thread.shutdown(wait=False)
        self._connection.interrupt()
        try:
            threading.Thread(target=self._interrupt, args=(idle, quiet), name="kvdialect-aio-interrupt").start()
        except RuntimeError:
            quiet.set()  # the interpreter ends, and starts no thread any more

    def _interrupt(self, idle: futures.Future[None], quiet: threading.Event) -> None:
        """Interrupt until nothing runs any more: SQLite forgets what comes before its statement has begun."""
        try:
            while not idle.done():
                self._connection.interrupt()
                futures.wait([idle], timeout=_INTERRUPT_AGAIN)
        finally:
            quiet.set()


class AsyncModule(AsyncAdapt_dbapi_module):
    """The DBAPI as SQLAlchemy's synchronous code sees it."""

    def __init__(self, dbapi: Any) -> None:
        super().__init__(dbapi)
        self._dbapi = dbapi
        for name in dbapi.__all__:
            if name != "connect":
                setattr(self, name, getattr(dbapi, name))
        self.sqlite_version_info = dbapi.sqlite_version_info

    def connect(self, *args: Any, **options: Any) -> AsyncConnection:
        options.pop("async_creator_fn", None)
        return AsyncConnection(lambda: self._dbapi.connect(*args, **options))


class AsyncKvDialect(KvDialect):
    """The dialect for asyncio."""

    is_async = True
    has_terminate = True
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        return AsyncModule(super().import_dbapi())

    @classmethod
    def get_pool_class(cls, url: sa.URL) -> type[pool.Pool]:  # noqa: ARG003
        return pool.AsyncAdaptedQueuePool

    def get_driver_connection(self, connection: Any) -> Any:
        return connection.driver_connection

    def _shared(self, url: sa.URL, options: dict[str, Any]) -> Engine:
        store: Engine = await_(asyncio.to_thread(super()._shared, url, options))
        return store

    def do_terminate(self, dbapi_connection: Any) -> None:
        dbapi_connection.terminate(partial(self._closed, dbapi_connection))


class AsyncRocksDBDialect(AsyncKvDialect):
    """``kvdialect+aiorocksdb``."""

    driver = "aiorocksdb"
    supports_statement_cache = True


class AsyncLmdbDialect(AsyncKvDialect):
    """``kvdialect+aiolmdb``."""

    driver = "aiolmdb"
    supports_statement_cache = True


class AsyncMemoryDialect(AsyncKvDialect):
    """``kvdialect+aiomemory``."""

    driver = "aiomemory"
    supports_statement_cache = True
