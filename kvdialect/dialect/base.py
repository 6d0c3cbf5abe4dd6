"""SQLAlchemy's dialect: SQLite's, over the tables of a store."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, pool
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects.sqlite.base import SQLiteDialect, SQLiteExecutionContext
from sqlalchemy.types import TypeEngine

from kvdialect import exc
from kvdialect.dialect import recordtables
from kvdialect.dialect.compiler import KvCompiler, KvDDLCompiler, KvTypeCompiler
from kvdialect.dialect.types import KvArray, KvDateTime, KvInterval, KvNumeric, KvUnsignedInteger
from kvdialect.schema.types import Structured, UnsignedInteger
from kvdialect.store.engine import Engine, open_engine

DEFAULT_ENGINE: Final = "rocksdb"
"""What ``kvdialect:///path`` opens."""

SCHEMAS: Final = "schemas"
"""Option of a URL: names of further schemas, separated by commas."""


class KvExecutionContext(SQLiteExecutionContext):
    """Gives a cursor for streams where ``yield_per`` or ``stream_results`` asks for one."""

    def create_server_side_cursor(self) -> Any:
        return self._dbapi_connection.cursor(streaming=True)


class KvDialect(SQLiteDialect):
    """The dialect named ``kvdialect``: SQL on the tables of a store.

    ``kvdialect+rocksdb:////absolute/path``, ``kvdialect+lmdb:///relative/path``, ``kvdialect+memory://``; options of
    the storage engine in the query. One engine of SQLAlchemy opens the store once, at its first connection, and
    ``dispose()`` closes it.
    """

    name = "kvdialect"
    driver = DEFAULT_ENGINE
    default_paramstyle = "qmark"
    supports_statement_cache = True
    supports_sane_rowcount_returning = True
    supports_server_side_cursors = True
    execution_ctx_cls = KvExecutionContext
    statement_compiler = KvCompiler
    ddl_compiler = KvDDLCompiler
    type_compiler_cls = KvTypeCompiler
    construct_arguments = [  # noqa: RUF012 - SQLAlchemy's attribute
        (sa.Table, {"options": None, "format": None}),
        (sa.Index, {"options": None, "where": None, "include": None, "kind": None}),
    ]
    colspecs = {  # noqa: RUF012
        **SQLiteDialect.colspecs,
        UnsignedInteger: KvUnsignedInteger,
        sa.DateTime: KvDateTime,
        sa.Interval: KvInterval,
        sa.Numeric: KvNumeric,
        sa.Float: sa.Float,
        sa.ARRAY: KvArray,
        Structured: Structured,
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lock = threading.Lock()
        self._store: Engine | None = None
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._disposed = False
        event.listen(self, "handle_error", _wrapped)
        _tell_alembic()

    # ------------------------------------------------------------------------------------------ connecting

    @classmethod
    def import_dbapi(cls) -> Any:
        """The DBAPI.

        Raises:
            NotSupportedError: if SQLite with virtual tables is not installed.
        """
        try:
            import apsw  # noqa: F401
        except ImportError as error:
            raise exc.NotSupportedError(
                'the SQL door needs SQLite with virtual tables: pip install "kvdialect[sql]"'
            ) from error
        from kvdialect.dialect import dbapi

        return dbapi

    @classmethod
    def get_pool_class(cls, url: sa.URL) -> type[pool.Pool]:  # noqa: ARG003
        return pool.QueuePool

    @classmethod
    def engine_created(cls, engine: sa.Engine) -> None:
        event.listen(engine, "checkout", lambda _connection, _record, _fairy: _tell_alembic())
        event.listen(engine, "engine_disposed", lambda disposed: disposed.dialect._dispose())
        # SQLAlchemy asks an engine with this mark for listeners at every step of every statement, a seventh of the time
        # of a get. Of these two events one is the pool's, and the other is sent without it.
        vars(engine).pop("_has_events", None)

    def create_connect_args(self, url: sa.URL) -> Any:
        query = dict(url.query)
        schemas = query.pop(SCHEMAS, "")
        names = schemas.split(",") if isinstance(schemas, str) else list(schemas)
        engine = url.drivername.partition("+")[2] or DEFAULT_ENGINE
        store = url.set(drivername=engine.removeprefix("aio"), query=query)
        return [store], {SCHEMAS: tuple(name for name in names if name)}

    def connect(self, *args: Any, **options: Any) -> Any:
        """A connection to the store that all connections of this dialect share, or to the one given as ``store``."""
        if options.get("store") is None:
            own = {name: options.pop(name) for name in list(options) if name not in _CONNECT_OPTIONS}
            options["store"] = self._shared(args[0], own)
        connection = self.loaded_dbapi.connect(**options)
        with self._lock:
            self._open.add(connection)
        return connection

    def _shared(self, url: sa.URL, options: dict[str, Any]) -> Engine:
        with self._lock:
            self._disposed = False
            if self._store is None:
                self._store = open_engine(url, **options)
            return self._store

    def do_close(self, dbapi_connection: Any) -> None:
        dbapi_connection.close()
        self._closed(dbapi_connection)

    def _closed(self, dbapi_connection: Any) -> None:
        with self._lock:
            self._open.discard(dbapi_connection)
        if self._disposed:
            self._dispose()

    def _dispose(self) -> None:
        """Close the store, or let the last connection to be closed do so."""
        with self._lock:
            self._disposed = True
            if self._store is not None and not any(not connection.closed for connection in self._open):
                store, self._store = self._store, None
                store.close()

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:  # noqa: ARG002 - SQLAlchemy's signature
        return isinstance(e, exc.StoreClosed | exc.ForkedProcess | exc.ReopenRequired) or (
            isinstance(e, exc.ProgrammingError) and "the connection is closed" in str(e)
        )

    def _get_server_version_info(self, connection: Any) -> Any:  # noqa: ARG002
        return self.loaded_dbapi.sqlite_version_info

    # ------------------------------------------------------------------------------------------ isolation

    def get_isolation_level_values(self, dbapi_conn: Any) -> Any:  # noqa: ARG002
        return ["SNAPSHOT", "SERIALIZABLE", "AUTOCOMMIT"]

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        dbapi_connection.isolation_level = level

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        return dbapi_connection.isolation_level

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        return bool(dbapi_conn.isolation_level == "AUTOCOMMIT")

    # ------------------------------------------------------------------------------------------ reflection

    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        columns: Any = super().get_columns(connection, table_name, schema, **options)  # type: ignore[no-untyped-call]
        if not any(isinstance(column["type"], sa.Enum) for column in columns):
            return columns
        # The names of an enum are told apart by case, and SQLAlchemy has made them upper case.
        rows = self._get_table_pragma(connection, "table_xinfo", table_name, schema=schema)  # type: ignore[no-untyped-call]
        declared = {row[1]: row[2] for row in rows}
        return [
            {**column, "type": self._resolve_type_affinity(declared[column["name"]])}
            if isinstance(column["type"], sa.Enum)
            else column
            for column in columns
        ]

    def _resolve_type_affinity(self, type_: Any) -> TypeEngine[Any]:
        """The type of a column by its declared name: those of records, and what SQLite's rules say of others."""
        base = type_.partition("(")[0].strip().upper()
        if base not in self.ischema_names or base == "BINARY":
            found = recordtables.type_of(type_)
            if found is not None:
                return found
        resolved: TypeEngine[Any] = super()._resolve_type_affinity(type_)  # type: ignore[no-untyped-call]
        return resolved


class RocksDBDialect(KvDialect):
    """``kvdialect+rocksdb``."""

    driver = "rocksdb"
    supports_statement_cache = True


class LmdbDialect(KvDialect):
    """``kvdialect+lmdb``."""

    driver = "lmdb"
    supports_statement_cache = True


class MemoryDialect(KvDialect):
    """``kvdialect+memory``."""

    driver = "memory"
    supports_statement_cache = True


def _tell_alembic() -> None:
    """Make the dialect known to Alembic, where a program has it.

    Alembic has no entry point for dialects: it knows those that are imported after it. (Its plug-ins, since 1.18, would
    be imported by every program that imports Alembic.)
    """
    if "alembic.ddl.impl" in sys.modules:
        import kvdialect.dialect.migrations  # noqa: F401


_CONNECT_OPTIONS: Final = frozenset({"store", "transaction", SCHEMAS, "isolation_level"})

_WRAPPERS: Final = (
    sa_exc.DataError,
    sa_exc.IntegrityError,
    sa_exc.OperationalError,
    sa_exc.InternalError,
    sa_exc.ProgrammingError,
    sa_exc.NotSupportedError,
    sa_exc.InterfaceError,
    sa_exc.DatabaseError,
)


def _wrapped(context: Any) -> BaseException | None:
    """An error of ours as SQLAlchemy's users know errors of a DBAPI: of SQLAlchemy's class, with ours as ``orig``.

    Our errors are SQLAlchemy's too, so SQLAlchemy by itself would take them for none of the DBAPI's.
    """
    error: Any = context.original_exception
    seen = context.sqlalchemy_exception
    if not isinstance(error, exc.Error) or not isinstance(seen, sa_exc.StatementError):
        return None
    cls: Any = next((cls for cls in _WRAPPERS if issubclass(type(error), cls)), None)
    if cls is None:
        return None
    wrapped: BaseException = cls(
        seen.statement,
        seen.params,
        error,
        hide_parameters=seen.hide_parameters,
        connection_invalidated=context.is_disconnect,
        ismulti=seen.ismulti,
    )
    return wrapped
