"""A session at the SQL door: a connection of SQLAlchemy inside the session's transaction.

What the session's own queries cannot do (joins, subqueries, windows, set operations, text) is executed there. The
dialect is reached by SQLAlchemy's plugin loader alone; of its DBAPI's connections three methods are called here:
``borrow``, ``give_back`` and ``interrupt``.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import CursorResult, IteratorResult, Result
from sqlalchemy.engine.result import ChunkedIteratorResult, SimpleResultMetaData
from sqlalchemy.sql.dml import Delete

from kvdialect import exc
from kvdialect.orm import refreshing
from kvdialect.query.statement import RECORD
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.orm.relationships import Then
    from kvdialect.orm.session import Session

OVER: Final = (
    "the transaction that this result is read in is over; take its rows before, as by .all(), or execute it again"
)

_CHUNK: Final = 1000
"""Rows of a result whose objects are loaded at once."""


class SessionConnection(sa.Connection):
    """A connection whose transaction is that of a Session, which alone ends it."""

    def close(self) -> None:
        """Harmless: the session gives the connection back when its transaction is over."""

    def commit(self) -> NoReturn:
        """Refused.

        Raises:
            ProgrammingError: always.
        """
        raise exc.ProgrammingError("the transaction belongs to a Session: call session.commit()")

    def rollback(self) -> NoReturn:
        """Refused.

        Raises:
            ProgrammingError: always.
        """
        raise exc.ProgrammingError("the transaction belongs to a Session: call session.rollback()")


class Door:
    """The SQL door of one session, for one transaction.

    Attributes:
        connection: of SQLAlchemy.
    """

    def __init__(self, session: Session, txn: Transaction) -> None:
        # Weakly: the driver, which has the door, is held by what the collector of cycles cannot see into.
        self._held = weakref.ref(session)
        self._txn = txn
        self.connection = SessionConnection(session.engine.sql)
        driver: Any = self.connection.connection.driver_connection
        self._driver = driver
        self._driver.borrow(txn, self)
        # A session that nobody closes: the connection goes back to its pool.
        self._abandoned = weakref.finalize(session, _abandon, self._driver, self.connection, txn)
        self._abandoned.atexit = False
        self.connection.begin()  # or SQLAlchemy would roll back after an error of the first statement's parameters

    @property
    def _session(self) -> Session:
        session = self._held()
        if session is None:
            raise exc.StoreClosed("the session of this connection is gone; keep it for as long as the connection")
        return session

    # ------------------------------------------------------------------------------------------ what the DBAPI tells

    def before_statement(self) -> None:
        """A statement is about to run: it sees what the session has pending."""
        self._session._check_usable()
        self._session._autoflush()

    def written(self, journal: Sequence[tuple[dict[Any, Any], Any]]) -> None:
        """A statement has written: the session's objects follow."""
        refreshing.follow(self._session, self._txn, journal, kept=True)

    def undone(self, journal: Sequence[tuple[dict[Any, Any], Any]]) -> None:
        """A savepoint of SQL was rolled back: the session's objects follow."""
        refreshing.follow(self._session, self._txn, journal, kept=False)

    # ------------------------------------------------------------------------------------------ the end

    def interrupt(self) -> None:
        """End the statement that runs, from any thread, with an OperationalError."""
        self._driver.interrupt()

    def close(self, *, committed: bool) -> None:
        """The transaction is over; the connection goes back to its pool."""
        self._abandoned.detach()
        if self.connection.invalidated:
            return
        self._driver.give_back(committed=committed)
        sa.Connection.close(self.connection)


def _abandon(driver: Any, connection: sa.Connection, txn: Transaction) -> None:
    if not connection.invalidated and not connection.closed:
        driver.give_back(committed=False)
        sa.Connection.close(connection)
    txn.close()


# ------------------------------------------------------------------------------------------------ statements


def execute(
    session: Session,
    statement: Any,
    params: Any,
    given: Mapping[str, Any],
    refusal: exc.NotSupportedError,
    then: Then | None = None,
) -> Result[Any]:
    """Execute a statement that the session itself does not.

    Args:
        session: whose transaction it is.
        statement: of SQLAlchemy's.
        params: values of its parameters.
        given: execution options.
        refusal: why the session does not; raised if there is no SQL door either.
        then: what its options ask to be loaded of its objects.

    Raises:
        NotSupportedError: this installation has no SQL door.
    """
    if isinstance(statement, Delete) and any(map(record_class, statement._returning)):
        raise exc.NotSupportedError(
            "a delete() that returns records, which are gone by then (return their columns, or load them before)",
        )
    if getattr(statement, "_distinct_on", None):
        # SQLite has no such thing, and its compiler leaves it out.
        raise exc.NotSupportedError("DISTINCT ON is not offered; rank the rows with func.row_number().over(...)")
    connection = _connection(session, statement, refusal)
    options = {**statement.get_execution_options(), **given}
    size = options.pop("yield_per", None)
    populate = bool(options.pop("populate_existing", False))
    if size is not None:
        options["yield_per"] = size
    with _own_errors():
        found: CursorResult[Any] = connection.execute(statement, params, execution_options=options)
    if not found.returns_rows:
        return found
    widths = _widths(statement, len(found.keys()))
    if then is not None:
        then.require([cls for cls, _, _ in widths or ()])
    names = _names(list(found.keys()), widths)
    keys = SimpleResultMetaData(names)
    rows: Iterator[Any] = iter(found) if widths is None else _with_objects(session, found, widths, populate, then)
    if size is None:
        with _own_errors():
            made = [tuple(row) for row in rows]
        return RowsOfWrite(keys, made, found.rowcount) if statement.is_dml else IteratorResult(keys, iter(made))

    txn = session.transaction

    def chunks(asked: int | None) -> Iterator[list[Any]]:
        while True:
            if session.transaction is not txn:
                raise exc.StoreClosed(OVER)
            with _own_errors():
                chunk = [tuple(row) for row in islice(rows, asked or size)]
            if not chunk:
                return
            yield chunk

    result: Result[Any] = ChunkedIteratorResult(keys, chunks)
    return result.yield_per(size)


class RowsOfWrite(IteratorResult[Any]):
    """What a write with RETURNING gives, and how many rows it has written."""

    def __init__(self, keys: SimpleResultMetaData, made: Sequence[Any], rowcount: int) -> None:
        super().__init__(keys, iter(made))
        self.rowcount = rowcount


def rows(session: Session, statement: Any, params: Any, refusal: exc.NotSupportedError) -> CursorResult[Any]:
    """As :func:`execute`, with the columns of records instead of their objects."""
    connection = _connection(session, statement, refusal)
    with _own_errors():
        return connection.execute(statement, params, execution_options={"yield_per": _CHUNK})


def partitions(session: Session, found: CursorResult[Any]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a result in lists, read as they are asked for, while the transaction goes on."""
    txn = session.transaction
    while True:
        if session.transaction is not txn:
            raise exc.StoreClosed(OVER)
        with _own_errors():
            chunk = [tuple(row) for row in found.fetchmany(_CHUNK)]
        if not chunk:
            return
        yield chunk


def _connection(session: Session, statement: Any, refusal: exc.NotSupportedError) -> sa.Connection:
    if not isinstance(statement, sa.Executable):
        raise refusal
    try:
        return session.connection()
    except exc.NotSupportedError as missing:
        raise exc.NotSupportedError(
            f"{refusal.message}; here it is not installed: {missing.message}", **refusal.facts
        ) from missing


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise the library's own errors as they are everywhere else in a session, not as those of a DBAPI."""
    try:
        yield
    except sa_exc.DBAPIError as error:
        if isinstance(error.orig, exc.Error):
            raise error.orig from error
        raise


_OF_COLUMNS: Final = ("table", "alias", "subquery", "cte")
"""Forms of elements that stand for all their columns."""

Width = tuple[type | None, int, Any]
"""A record class, or None, how many columns it takes, and the element."""


def _widths(statement: Any, count: int) -> list[Width] | None:
    """The elements of a select that has records among them; None where it has none."""
    elements = getattr(statement, "_returning", None) or getattr(statement, "_raw_columns", None)
    if elements is None or not any(record_class(each) for each in elements):
        return None
    widths: list[Width] = [
        (
            record_class(each),
            len(each.columns) if each.__visit_name__ in _OF_COLUMNS else 1,
            each,
        )
        for each in elements
    ]
    # A form of element that is not known here: rows stay as they are.
    return widths if sum(width for _, width, _ in widths) == count else None


def record_class(element: Any) -> type | None:
    """The record class that an element of a select stands for, or None."""
    if element.__visit_name__ != "table":
        return None
    found: type | None = element._annotations.get(RECORD)
    return found


def _names(columns: list[str], widths: Iterable[Width] | None) -> list[str]:
    """The names of a row's elements, of those of its columns."""
    if widths is None:
        return columns
    names: list[str] = []
    at = 0
    for cls, width, _ in widths:
        names += columns[at : at + width] if cls is None else [cls.__name__]
        at += width
    return names


def _with_objects(
    session: Session, rows: Iterable[Any], widths: Sequence[Width], populate: bool, then: Then | None
) -> Iterator[Any]:
    """Rows with objects in the place of their columns; None where an outer join has no record."""
    rows = iter(rows)
    while chunk := list(islice(rows, _CHUNK)):
        made: list[Sequence[Any]] = []
        at = 0
        for cls, width, table in widths:
            if cls is None:
                made += [[row[place] for row in chunk] for place in range(at, at + width)]
            else:
                places = [at + number for number, column in enumerate(table.columns) if column.primary_key]
                identities = [tuple([row[place] for place in places]) for row in chunk]
                made.append(_objects(session, cls, identities, populate))
                if then is not None:
                    then.load(made[-1])
            at += width
        yield from zip(*made, strict=True)


def _objects(session: Session, cls: type, identities: Sequence[tuple[Any, ...]], populate: bool) -> list[Any]:
    mapper = session._mapper(cls)
    key_of = mapper.loading.key_of
    keys = [None if None in each else key_of(each if len(each) > 1 else each[0]) for each in identities]
    wanted = list(dict.fromkeys(key for key in keys if key is not None))
    txn = session._autobegin()
    pairs = [
        (key, raw) for key, raw in zip(wanted, txn.multi_get(mapper.table.name, wanted), strict=True) if raw is not None
    ]
    loaded = session.loader(mapper, populate_existing=populate, all_pairs=True)(pairs)
    by_key = {key: instance for (key, _), instance in zip(pairs, loaded, strict=True)}
    return [None if key is None else by_key.get(key) for key in keys]
