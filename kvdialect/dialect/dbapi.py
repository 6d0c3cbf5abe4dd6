"""A DBAPI (:pep:`249`) over a store: SQLite reads and plans, the rows are the store's.

    connection = connect("rocksdb:////var/lib/coins")
    connection.execute("select count(*) from coin_records").fetchone()

A connection has one transaction at a time, which begins with its first statement: a
:class:`kvdialect.store.transaction.Transaction`, the same as a Session's. Nothing is written before
:meth:`Connection.commit`. Conflicts with others show there, as :class:`kvdialect.exc.ConflictError`, an
OperationalError: run the transaction again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import apsw

from kvdialect.dialect.connection import Connection, Warning  # noqa: A004 - PEP 249's name
from kvdialect.dialect.cursor import Cursor
from kvdialect.exc import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from kvdialect.store.engine import Engine, open_engine
from kvdialect.store.transaction import Transaction

apilevel: Final = "2.0"
threadsafety: Final = 1
paramstyle: Final = "qmark"

sqlite_version: Final = apsw.sqlite_lib_version()
sqlite_version_info: Final = tuple(int(part) for part in sqlite_version.split("."))


class _TypeObject:
    """A type that ``cursor.description`` can name; SQLite's columns have none, so none ever equals it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


STRING: Final = _TypeObject("STRING")
BINARY: Final = _TypeObject("BINARY")
NUMBER: Final = _TypeObject("NUMBER")
DATETIME: Final = _TypeObject("DATETIME")
ROWID: Final = _TypeObject("ROWID")

Binary = bytes
Date = dt.date
Time = dt.time
Timestamp = dt.datetime


def DateFromTicks(ticks: float) -> dt.date:  # noqa: N802 - PEP 249's name
    return dt.date.fromtimestamp(ticks)  # noqa: DTZ012 - local time, as PEP 249 has it


def TimeFromTicks(ticks: float) -> dt.time:  # noqa: N802
    return dt.datetime.fromtimestamp(ticks).time()  # noqa: DTZ006


def TimestampFromTicks(ticks: float) -> dt.datetime:  # noqa: N802
    return dt.datetime.fromtimestamp(ticks)  # noqa: DTZ006


def connect(
    url: str | None = None,
    *,
    store: Engine | None = None,
    transaction: Transaction | None = None,
    schemas: Sequence[str] = (),
    isolation_level: str | None = None,
    **options: Any,
) -> Connection:
    """Open a connection.

    Args:
        url: the store, as for :func:`kvdialect.create_engine`; it is closed with the connection.
        store: an engine that has the store open, in place of a URL; closing the connection leaves it open.
        transaction: a transaction of another owner, which alone commits it and rolls it back.
        schemas: names of schemas beside ``main``.
        isolation_level: ``"SNAPSHOT"``, ``"SERIALIZABLE"`` or ``"AUTOCOMMIT"``; None: the engine's.
        options: of the engine, with a URL.

    Raises:
        ProgrammingError: if it is not clear what to open.
        Error: what :func:`kvdialect.create_engine` raises.
    """
    if (url is None) == (store is None):
        raise ProgrammingError("give a URL or an open store, one of them", url=url)
    owned = store is None
    if store is None:
        assert url is not None
        store = open_engine(url, **options)
    try:
        return Connection(store, owned=owned, borrowed=transaction, schemas=schemas, isolation_level=isolation_level)
    except BaseException:
        if owned:
            store.close()
        raise


__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]
