"""The engine: an open store with its catalog. Sessions and the SQL door work on one."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import URL
from sqlalchemy import exc as sa_exc

from kvdialect import exc
from kvdialect.schema.declared import index_definition
from kvdialect.schema.definition import IndexDefinition, TableDefinition
from kvdialect.schema.evolution import Difference
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.contract import Snapshot, StorageBackend
from kvdialect.storage.options import RESERVED_FAMILY, ColumnFamilyOptions, parse_choice, parse_switch
from kvdialect.storage.registry import open_backend, parse_url
from kvdialect.storage.shared import Handle
from kvdialect.store.allocator import Allocator
from kvdialect.store.building import BATCH_SIZE, Progress, create_indexes
from kvdialect.store.catalog import REOPEN_KEY, Catalog, LiveCatalog, create_catalog
from kvdialect.store.checking import validate_checks
from kvdialect.store.ddl import SchemaEditor
from kvdialect.store.echo import EchoFlag, Logged, LoggedTransaction
from kvdialect.store.links import Links, lower_name
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import ISOLATION_LEVELS, IsolationLevel, Transaction
from kvdialect.store.verification import MOST_FINDINGS, Verification, repair, verify
from kvdialect.store.verification import Progress as VerifyProgress
from kvdialect.store.verifier import verify_apart

AnyEngine = TypeVar("AnyEngine", bound="Engine")

_ISOLATION: Final = "isolation_level"
_FOREIGN_KEYS: Final = "foreign_keys"


class Engine(Logged):
    """An open store: its backend and its catalog. For use by several threads, as its backend is.

    Made by :func:`open_engine`. Several engines, in one process or (LMDB) in several, may have one store open: each
    notices what another has done to the schema.

    Attributes:
        backend: the storage layer's handle on the store.
        url: what was opened.
        name: name of the storage engine: ``"rocksdb"``, ``"lmdb"``, ``"memory"``, ...
        isolation_level: of sessions that ask for none: ``"SNAPSHOT"`` or ``"SERIALIZABLE"``.
        foreign_keys: whether sessions that do not say it enforce foreign keys. At the SQL door a connection does, until
            ``PRAGMA foreign_keys=OFF``.
    """

    def __init__(
        self,
        backend: StorageBackend,
        url: URL,
        *,
        isolation_level: str = "SNAPSHOT",
        foreign_keys: bool = False,
        keep: Iterable[str] = (),
        echo: EchoFlag = None,
        logging_name: str | None = None,
    ) -> None:
        self.begin_logging(echo, logging_name)
        self.backend = backend
        self.url = url
        self.name = backend.name
        self.isolation_level = parse_choice(isolation_level, _ISOLATION, ISOLATION_LEVELS)
        self.foreign_keys = foreign_keys
        create_catalog(backend)
        self._live = LiveCatalog(backend)
        self._editor = SchemaEditor(self._live)
        self._allocators: dict[int, Allocator] = {}
        self._lock = threading.Lock()
        if backend.capabilities.writable:
            self._editor.recover(list(keep))

    # ------------------------------------------------------------------------------------------ the catalog

    @property
    def catalog(self) -> Catalog:
        """The catalog as this engine last saw it."""
        return self._live.current

    @property
    def version_raw(self) -> bytes | None:
        """The schema version as it is stored, of :attr:`catalog`: what every commit expects."""
        return self._live.current.raw_version

    def refresh(self) -> None:
        """Load the catalog anew if another engine or process has changed it: costs the read of one key."""
        self._live.refresh()

    def reload(self) -> None:
        """Load the catalog anew."""
        self._live.reload()

    def catalog_at(self, snapshot: Snapshot) -> Catalog:
        """The catalog as of a snapshot of this store: the one by which its records and indexes are to be read."""
        return self._live.at(snapshot)

    def table(self, name: str) -> StoredTable:
        """A table of the store by its name; its values are of plain types (an Enum's are names).

        Raises:
            ProgrammingError: if there is none of this name.
        """
        current = self._live.current
        return (current if name in current.entries else self._live.reload()).table(name)

    def bind(self, declared: TableDefinition, catalog: Catalog | None = None) -> StoredTable:
        """The table in the store that a declared one stands for, with the declared one's Python classes.

        Raises:
            SchemaMismatch: if they differ; the message says in what, and what to call.
        """
        return self._live.bind(declared, catalog)

    def rebind(self, table: StoredTable) -> StoredTable:
        """The same table under the catalog as it is now: the same object if nothing of it has changed.

        Raises:
            SchemaChanged: if it was dropped, or its fields are others.
        """
        return self._live.rebind(table)

    def newly_referred(self, table: StoredTable, before: Catalog) -> bool:
        """True if a table refers to this one now that did not under the catalog ``before``."""
        name = lower_name(table.name)
        known = {link.number for link in Links.within(before).to.get(name, ())}
        return any(link.number not in known for link in Links.within(self.catalog).to.get(name, ()))

    def allocator(self, table: StoredTable) -> Allocator:
        """The allocator of a table's autoincrement ids: one for each table of this engine.

        Raises:
            ProgrammingError: if it has no autoincrement column.
        """
        found = self._allocators.get(table.definition.id)
        if found is None:
            with self._lock:
                found = self._allocators.setdefault(table.definition.id, Allocator(self._live, table))
        return found

    def new_transaction(
        self, isolation_level: IsolationLevel = "SNAPSHOT", on_snapshot: Callable[[Snapshot], None] | None = None
    ) -> Transaction:
        """A transaction on this store; see :class:`~kvdialect.store.transaction.Transaction`."""
        cls = LoggedTransaction if self.logger.isEnabledFor(logging.INFO) else Transaction
        return cls(self, isolation_level, on_snapshot)

    # ------------------------------------------------------------------------------------------ the schema

    def create_all(self, definitions: Iterable[TableDefinition], checkfirst: bool = True) -> None:
        """Create the tables that the store does not have, with their indexes; those that are there are compared.

        Args:
            definitions: the tables.
            checkfirst: False refuses tables that are there already.

        Raises:
            SchemaMismatch: if a table that is there is another; the message lists all differences, and nothing was
                created.
        """
        self._editor.create(list(definitions), checkfirst=checkfirst)

    def drop_all(self, definitions: Iterable[TableDefinition]) -> None:
        """Drop the tables with these names, whatever is in them, and their indexes; their data are freed."""
        self._editor.drop([definition.name for definition in definitions])

    def drop_table(self, name: str) -> None:
        """Drop a table with its indexes; its data are freed.

        Raises:
            ProgrammingError: if there is none of this name.
        """
        self._live.reload().entry(name)
        self._editor.drop([name])

    def create_index(
        self,
        table: str | TableDefinition,
        index: IndexDefinition | sa.Index,
        *,
        progress: Progress | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """Create an index that belongs to no model, and build it while others read and write.

        Called again after a crash it goes on where it ended; an index that is there and complete is left as it is.

        Args:
            table: the table, or its name.
            index: the index, as SQLAlchemy's Index over columns of the table or as a definition.
            progress: called after each batch with the number of records done and of all.
            batch_size: records that one batch takes.

        Raises:
            ProgrammingError: if there is no such table, or another index of this name.
            IntegrityError: if it is unique and two records have the same values; the store is as before.
            DataError: if a record can have no entry; the store is as before.
        """
        name = table if isinstance(table, str) else table.name
        index = index_definition(index) if isinstance(index, sa.Index) else index
        create_indexes(self._editor, [(name, index)], extra=True, progress=progress, batch_size=batch_size)

    def finish_drops(self) -> None:
        """Free the data of tables of records that a transaction at the SQL door has dropped."""
        self._editor.finish_drops()

    def drop_index(self, name: str) -> None:
        """Drop an index; its data are freed.

        Raises:
            ProgrammingError: if there is none of this name.
        """
        self._editor.drop_index(name)

    def upgrade(
        self,
        definitions: Iterable[TableDefinition],
        *,
        progress: Progress | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """Make the store what the tables declare, without rewriting a record.

        Missing tables are created, fields added, dropped, renamed and widened, all in one step, and CHECKs enforced
        from then on; then the rows that are there are looked at for new CHECKs, and missing indexes are built one after
        another, while others read and write. If that is cut off, calling it again goes on.

        Args:
            definitions: the tables.
            progress: called after each batch of an index, or of rows looked at, with the number of records done and of
                all.
            batch_size: records that one batch takes.

        Raises:
            SchemaMismatch: if a change would lose or misread data; the message lists every reason, and nothing was
                changed.
            IntegrityError, DataError: as from :meth:`create_index`, or for a row of which a new CHECK is false; the
                fields are changed then.
        """
        wanted = list(definitions)
        self._editor.evolve(wanted)
        validate_checks(self._editor, wanted, progress=progress)
        indexes = [(definition.name, index) for definition in wanted for index in definition.indexes]
        create_indexes(self._editor, indexes, extra=False, progress=progress, batch_size=batch_size)

    def differences(self, definitions: Iterable[TableDefinition]) -> list[Difference]:
        """What differs between the store and the tables, in their order; an empty list if nothing does."""
        catalog = self._live.reload()
        return [difference for declared in definitions for difference in catalog.differences(declared)]

    # ------------------------------------------------------------------------------------------ the rest

    def stats(self) -> dict[str, Any]:
        """Figures on the open store: those of the backend, and under ``"tables"`` rows, version and index states."""
        catalog = self._live.reload()
        tables: dict[str, Any] = {}
        with self.backend.snapshot() as snapshot:
            for name, entry in catalog.entries.items():
                key = entry.table.count_key
                rows = None if key is None else decode_counter(snapshot.get(RESERVED_FAMILY, key))
                indexes = {index.name: index.state for index in entry.definition.indexes}
                tables[name] = {"rows": rows, "version": entry.definition.version, "indexes": indexes}
        return {**self.backend.stats(), "schema_version": catalog.version, "tables": tables}

    def verify(
        self,
        tables: Iterable[str] | None = None,
        *,
        most: int = MOST_FINDINGS,
        progress: VerifyProgress | None = None,
        apart: bool | None = None,
    ) -> Verification:
        """Read the whole store, of one moment and while it is in use, and say what is wrong and where.

        Records are decoded and compared with the indexes both ways, counts are counted, checksums and the catalog are
        read. What cannot be read is a finding like the rest.

        Args:
            tables: names of tables to look at; None: all, and what belongs to none.
            most: findings after which it ends.
            progress: called with the table or index that is being read and how much of it was.
            apart: in a process of its own, which survives that the engine crashes on a damaged file. None: where the
                engine has files.

        Raises:
            ProgrammingError: if there is no table of a name.
            Corruption: if the catalog itself cannot be read.
            BackendError: if that process fails for another reason.
        """
        catalog = self._live.reload()
        chosen = None if tables is None else [catalog.entry(name).definition.name for name in tables]
        if apart is None:
            apart = self.backend.capabilities.persistent and isinstance(self.backend, Handle)
        if not apart:
            return verify(self.backend, tables=chosen, most=most, progress=progress)
        if not isinstance(self.backend, Handle):
            raise exc.NotSupportedError(f"{self.name} cannot be verified in another process", engine=self.name)
        with self.backend.still() as path:
            # What is wrong with the files is a finding like the rest, and no reason not to read them.
            url = URL.create(self.name, database=path, query={"check_files": "off"})
            return verify_apart(url, list(catalog.entries), tables=chosen, most=most, progress=progress)

    def repair_indexes(
        self, tables: Iterable[str] | None = None, *, progress: VerifyProgress | None = None
    ) -> Verification:
        """Make index entries and row counts what the records say, while the store is in use.

        Records are never touched, and nothing is guessed: what :meth:`verify` says of them stays as it is.

        Args:
            tables: names of tables; None: all.
            progress: as for :meth:`verify`.

        Returns:
            What was found; each finding says whether it is repaired.

        Raises:
            ProgrammingError: if there is no table of a name.
            Error: what ``batch_write`` raises.
        """
        catalog = self._live.reload()
        chosen = None if tables is None else [catalog.entry(name).definition.name for name in tables]
        return repair(self.backend, tables=chosen, progress=progress)

    def backup(self, path: str | os.PathLike[str], *, verified: bool = True) -> Verification | None:
        """Write a copy of the store to ``path`` while it is in use: all of one moment, or nothing.

        The copy is a store: open it, or copy it elsewhere with :func:`kvdialect.restore`.

        Args:
            path: a directory that is not there yet, or is empty.
            verified: read the copy and compare, as :meth:`verify` does.

        Returns:
            What that found, or None.

        Raises:
            ArgumentError, NotAStore: if something is at ``path``.
            Corruption: if the copy is not whole; it is left there, and the error says what is wrong.
            Error: what the backend's ``backup`` raises.
        """
        self.backend.backup(path)
        if not verified:
            return None
        url = URL.create(self.name, database=os.path.abspath(path), query={"check_files": "off"})
        found = verify_apart(url, sorted(self._live.reload().entries), tables=None)
        if not found.ok:
            raise exc.Corruption(
                f"the backup at {path} is not whole, and probably neither is the store: {found}", path=os.fspath(path)
            )
        return found

    def sqlalchemy(self, **options: Any) -> sa.Engine:
        """An engine of SQLAlchemy on the same store: the SQL door.

        Args:
            options: of :func:`sqlalchemy.create_engine`, such as ``pool_size``; without ``echo`` it has this engine's.

        Raises:
            NotSupportedError: if this installation has no SQL door.
        """
        url = self.url.set(drivername=f"kvdialect+{self.name}")
        options.setdefault("echo", self.echo)
        try:
            return sa.create_engine(url, connect_args={"store": self}, **options)
        except sa_exc.NoSuchModuleError as error:
            raise exc.NotSupportedError(
                "this installation has no SQL door; work with kvdialect.Session", engine=self.name
            ) from error

    def close(self) -> None:
        """Close the store; sessions on this engine cannot go on. Closing twice is harmless."""
        self.backend.close()

    def dispose(self) -> None:
        """SQLAlchemy's name for :meth:`close`."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url.render_as_string()})"


def open_engine(url: str | URL, cls: type[AnyEngine] = Engine, **options: Any) -> AnyEngine:  # type: ignore[assignment]
    """Open the store that a URL names, creating it if need be.

    Args:
        url: as for :func:`kvdialect.open_backend`; the query may give ``isolation_level`` and ``foreign_keys`` too.
        cls: class of the engine.
        options: ``isolation_level``, ``foreign_keys``, ``echo``, ``logging_name``, and what
            :func:`kvdialect.open_backend` takes.

    Raises:
        StoreFormatError: if a newer release wrote the store.
        Corruption: if its catalog is damaged.
        Error: what :func:`kvdialect.open_backend` raises.
    """
    parsed = parse_url(url)
    isolation: Any = options.pop(_ISOLATION, None) or parsed.query.get(_ISOLATION) or "SNAPSHOT"
    enforced = options.pop(_FOREIGN_KEYS, None)
    if enforced is None:
        enforced = parsed.query.get(_FOREIGN_KEYS, False)
    foreign_keys = parse_switch(enforced, _FOREIGN_KEYS)
    echo, logging_name = options.pop("echo", None), options.pop("logging_name", None)
    parsed = parsed.difference_update_query([_ISOLATION, _FOREIGN_KEYS])
    declared = _declared(options.get("column_families"))
    backend = _reopened(open_backend(parsed, **options), parsed, options)
    try:
        return cls(
            backend,
            parsed,
            isolation_level=isolation,
            foreign_keys=foreign_keys,
            keep=declared,
            echo=echo,
            logging_name=logging_name,
        )
    except BaseException:
        backend.close()
        raise


def _declared(families: Mapping[str, ColumnFamilyOptions] | Sequence[str] | None) -> list[str]:
    return [] if families is None or isinstance(families, str) else list(families)


def _reopened(backend: StorageBackend, url: URL, options: dict[str, Any]) -> StorageBackend:
    """Open the store once more if options of families were changed that only opening applies.

    Not while another handle of this process has it open, which would keep the old ones.
    """
    if (
        not backend.capabilities.writable
        or not backend.capabilities.persistent
        or not isinstance(backend, Handle)
        or backend.engine.references > 1
        or backend.get(RESERVED_FAMILY, REOPEN_KEY) is None
    ):
        return backend
    families: dict[str, ColumnFamilyOptions] = {}
    try:
        for entry in LiveCatalog(backend).current.entries.values():
            families.update(entry.families)
        existing = set(backend.column_families())
    finally:
        backend.close()
    given = options.get("column_families")
    families = {name: value for name, value in families.items() if name in existing}
    families |= given if isinstance(given, Mapping) else dict.fromkeys(given or (), ColumnFamilyOptions())
    again = open_backend(url, **{**options, "column_families": families})
    again.delete(RESERVED_FAMILY, REOPEN_KEY)
    return again
