"""The engine as a session's user has it: an open store, with transactions that are run again on a conflict."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import URL

from kvdialect import exc
from kvdialect.orm import bulk
from kvdialect.orm.aio.factory import run_transaction
from kvdialect.orm.aio.workers import POOL_SIZE, POOL_TIMEOUT, WorkerPool
from kvdialect.orm.arrow import ArrowStream
from kvdialect.orm.loading import Loading
from kvdialect.orm.session import Session
from kvdialect.orm.transactions import attempts_at
from kvdialect.query.prepared import QueryPlanner
from kvdialect.schema.declared import definition_of
from kvdialect.schema.definition import TableDefinition
from kvdialect.schema.records import Record, records_for, required_record
from kvdialect.store import engine as store_engine
from kvdialect.store.catalog import Catalog
from kvdialect.store.echo import EchoFlag
from kvdialect.store.retrying import RETRIES, plain
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import IsolationLevel

if TYPE_CHECKING:
    from kvdialect.orm.aio.session import AsyncSession

T = TypeVar("T")


class Binding:
    """The record classes and tables of a program, as one state of the catalog has them.

    Attributes:
        catalog: that state.
        planner: plans statements over its tables.
    """

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self.engine = engine
        self.catalog = catalog
        self.planner = QueryPlanner(self.resolve)
        self._loadings: dict[Record, Loading] = {}

    def loading(self, record: Record) -> Loading:
        """The code for a record class.

        Raises:
            SchemaMismatch: if the store has its table otherwise, or not at all.
        """
        loading = self._loadings.get(record)
        if loading is None:
            table = self.engine.bind(record.definition, self.catalog)
            loading = self._loadings[record] = Loading(table, record)
        return loading

    def resolve(self, table: sa.Table) -> StoredTable:
        """The stored table of a Table in a statement."""
        cls = table._annotations.get("kvdialect_record")
        if cls is not None:
            return self.loading(required_record(cls)).table
        table = _plain(table)
        for record in records_for(table.name):
            if record.table is table:
                return self.loading(record).table
        return self.engine.bind(self._definition(table), self.catalog)

    def _definition(self, table: sa.Table) -> TableDefinition:
        definition = _definitions.get(table)
        if definition is None:
            definition = _definitions[table] = definition_of(table)
        return definition


_definitions: WeakKeyDictionary[sa.Table, TableDefinition] = WeakKeyDictionary()


def _plain(table: Any) -> sa.Table:
    return table._deannotate() if table._annotations else table  # type: ignore[no-any-return]


class Engine(store_engine.Engine):
    """An open store. It serves any number of sessions, of several threads.

    Attributes:
        backend: the storage layer's handle.
        isolation_level: of its sessions, unless they ask for another.
        workers: the threads of its asyncio sessions.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.workers = WorkerPool(repr(self))
        self.retries = 0
        self._pid = os.getpid()
        self._bindings = threading.Lock()
        self._binding: Binding | None = None
        self._sql: sa.Engine | None = None

    @property
    def sql(self) -> sa.Engine:
        """The SQLAlchemy engine whose connections sessions work with at the SQL door; it is closed with this one.

        Raises:
            NotSupportedError: if this installation has no SQL door.
            ForkedProcess: in a child of the process that opened the store.
        """
        self._check_process()
        with self._bindings:
            if self._sql is None:
                self._sql = self.sqlalchemy(max_overflow=-1)
            return self._sql

    def close(self) -> None:
        """Close the store; sessions on this engine cannot go on. Closing twice is harmless.

        In a forked child it does nothing, as all that it has is the parent's.
        """
        if os.getpid() != self._pid:
            return
        with self._bindings:
            sql, self._sql = self._sql, None
        if sql is not None:
            sql.dispose()
        super().close()
        self.workers.close()

    def binding(self, catalog: Catalog | None = None) -> Binding:
        """The record classes bound to a catalog; None stands for the one last seen."""
        binding = self._binding
        if catalog is None:
            catalog = self.catalog
        elif catalog is not self.catalog:
            return Binding(self, catalog)  # of an older moment, for one transaction
        if binding is None or binding.catalog is not catalog:
            self._check_process()
            with self._bindings:
                binding = self._binding
                if binding is None or binding.catalog is not catalog:
                    binding = self._binding = Binding(self, catalog)
        return binding

    def transaction(
        self,
        fn: Callable[[Session], T],
        *,
        retries: int = RETRIES,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> T:
        """Run ``fn(session)`` in a transaction and commit it; run it again, in a new session, when it conflicts.

        ``fn`` may run several times: what it does beside the session should bear that. Between two runs there is a
        pause, random and longer each time.

        Args:
            fn: called with a new Session; its return value is returned.
            retries: how often it is run again after a ConflictError (or another error that is ``retryable`` and whose
                batch was not applied).
            isolation_level: of the sessions; None: the engine's.
            deadline: seconds after which no further run is begun; None: no limit.

        Raises:
            ConflictError: that of the last run.
            Error: anything else that ``fn`` or the commit raises, at once.
        """
        attempts = attempts_at(fn, retries, deadline)
        fn = plain(fn)
        while True:
            session = Session(self, isolation_level=isolation_level)
            try:
                with session, session.begin():
                    return fn(session)
            except exc.Error as error:
                if session.commits or not attempts.again(error):
                    raise  # also what a listener raises behind the commit: it would be done twice
            self.count_retry()
            time.sleep(attempts.pause())

    async def async_transaction(
        self,
        fn: Callable[[AsyncSession], Awaitable[T]],
        *,
        retries: int = RETRIES,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> T:
        """As :meth:`transaction`, for asyncio: ``await fn(session)`` with a new :class:`~kvdialect.AsyncSession`.

        A function that has nothing else to await is faster in a thread: ``await asyncio.to_thread(engine.transaction,
        fn)``.
        """
        return await run_transaction(self, fn, retries=retries, isolation_level=isolation_level, deadline=deadline)

    def count_retry(self) -> None:
        """A transaction is run again: count it for :meth:`stats`."""
        self._check_process()
        with self._bindings:
            self.retries += 1

    def _check_process(self) -> None:
        """Refuse to take a lock that a thread of the parent may have held at the fork: in the child it stays held."""
        if os.getpid() != self._pid:
            raise exc.ForkedProcess(
                f"{self.url.render_as_string()} was opened in pid {self._pid}; reopen in pid {os.getpid()}",
                engine=self.name, path=self.url.database, opened_pid=self._pid, pid=os.getpid(),
            )  # fmt: skip

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "an Engine cannot be copied or pickled; threads may share it, and another process opens the store itself:"
            " pass the URL and call create_engine there"
        )

    def stats(self) -> dict[str, Any]:
        """Figures on the open store, see :meth:`StorageBackend.stats`, and the transactions that were run again."""
        return {**super().stats(), "retries": self.retries, "asyncio_pool": self.workers.stats()}

    def bulk_load(
        self,
        entity: type[Any],
        rows: Iterable[Any] | ArrowStream,
        *,
        batch_size: int = 10_000,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Load rows for a first import: in batches, each a commit of its own, with no object made for a row.

        Sorted by primary key they go in fastest. What was committed stays if a later batch fails.

        Args:
            entity: the record class.
            rows: dicts by field name, or objects of the class; or an Arrow stream with columns of these names, such as
                a table of pyarrow, or a DataFrame of polars or of pandas 2.2 and later.
            batch_size: rows of a batch.
            progress: called with the rows loaded so far, after each batch.

        Returns:
            The number of rows.

        Raises:
            IntegrityError: for a primary key or unique value that is there already; its batch is not applied.
            DataError: for a value that its column does not take; its batch is not applied.
            NotSupportedError: for an Arrow stream, if pyarrow is not installed.
            ArgumentError: for a column that the record has not, or one without value and default.
        """
        return bulk.load(self, required_record(entity), rows, batch_size, progress)


def create_engine(
    url: str | URL,
    *,
    isolation_level: IsolationLevel | None = None,
    foreign_keys: bool | None = None,
    pool_size: int = POOL_SIZE,
    pool_timeout: float = POOL_TIMEOUT,
    echo: EchoFlag = None,
    logging_name: str | None = None,
    **options: Any,
) -> Engine:
    """Open a store for sessions, creating it if need be.

    Args:
        url: ``rocksdb:///relative/path``, ``lmdb:////absolute/path`` or ``memory://``, with options in the query.
        isolation_level: ``"SNAPSHOT"``, the default, or ``"SERIALIZABLE"``, for sessions that do not say it themselves.
        pool_size: the most transactions of asyncio sessions that are open at once, each with a thread.
        pool_timeout: seconds that an asyncio session waits for one of them to end.
        echo: True logs transactions, statements and plans to the standard output, or where the logger
            ``kvdialect.engine`` has a handler; ``"debug"`` logs rows and reads too. Also an attribute of the engine.
        logging_name: the engine's logger is ``kvdialect.engine.<logging_name>``.
        foreign_keys: True: sessions that do not say it themselves enforce the foreign keys of records.
        options: of the engine, as in the URL's query, which they override.

    Raises:
        ArgumentError: if the URL or an option is not understood.
        BackendNotInstalled: if the engine's driver is missing; the message says what to install.
        StoreFormatError: if the store was written by a newer release.
        NotAStore, StoreLocked, Corruption: if what the URL names cannot be opened.
    """
    if isolation_level is not None:
        options["isolation_level"] = isolation_level
    if foreign_keys is not None:
        options["foreign_keys"] = foreign_keys
    workers = WorkerPool(str(url), pool_size, pool_timeout)
    engine = store_engine.open_engine(url, cls=Engine, echo=echo, logging_name=logging_name, **options)
    engine.workers = workers
    return engine
