"""The dialect for ``create_async_engine``: each connection has a thread of its own, on which its statements run.

After SQLAlchemy's own adapter of aiosqlite: the DBAPI's calls are awaited within SQLAlchemy's greenlets, so that the
event loop goes on meanwhile. The storage engines give up the GIL where they read and write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import pool
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_module
from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.engine.interfaces import AdaptedConnection
from sqlalchemy.util.concurrency import await_

from kvdialect.dialect.base import KvDialect

_FETCHED: Final = 256
"""Rows that are brought over from the thread at once."""


class AsyncCursor:
    """A cursor as SQLAlchemy's synchronous code sees it; each call is awaited.

    Attributes:
        server_side: rows are brought over as they are asked for, which has to be awaited; else all of them at once.
    """

    def __init__(self, connection: AsyncConnection, server_side: bool) -> None:
        self._connection = connection
        self.server_side = server_side
        self._cursor: Any = connection.call(connection.driver_connection.cursor)
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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kvdialect-aio")
        try:
            self._connection = self.call(make)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    @property
    def driver_connection(self) -> Any:
        return self._connection

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on the connection's thread and await its result."""
        return await_(asyncio.get_running_loop().run_in_executor(self._thread, function, *args))

    def later(self, function: Callable[..., Any], *args: Any) -> None:
        """Run a function on the connection's thread after all that were called before."""
        self._thread.submit(function, *args)

    def cursor(self, server_side: bool = False) -> AsyncCursor:
        return AsyncCursor(self, server_side)

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

    def terminate(self) -> None:
        """Close without a loop to await it in."""
        self.later(self._connection.close)
        self._thread.shutdown(wait=False)


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


class AsyncExecutionContext(SQLiteExecutionContext):
    """Gives the same cursor for streams: rows are brought over a part at a time anyway."""

    def create_server_side_cursor(self) -> Any:
        return self._dbapi_connection.cursor(server_side=True)


class AsyncKvDialect(KvDialect):
    """The dialect for asyncio."""

    execution_ctx_cls = AsyncExecutionContext
    is_async = True
    supports_statement_cache = True
    supports_server_side_cursors = True

    @classmethod
    def import_dbapi(cls) -> Any:
        return AsyncModule(super().import_dbapi())

    @classmethod
    def get_pool_class(cls, url: sa.URL) -> type[pool.Pool]:  # noqa: ARG003
        return pool.AsyncAdaptedQueuePool

    def get_driver_connection(self, connection: Any) -> Any:
        return connection.driver_connection

    def do_terminate(self, dbapi_connection: Any) -> None:
        dbapi_connection.terminate()
        self._open.discard(dbapi_connection)


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
