"""The catalog: which tables and indexes a store has, kept in its reserved family.

Keys there, all below byte ff:

- ``catalog/format``: version of the catalog's format, 8 bytes, big-endian;
- ``catalog/version``: schema version, 8 bytes, big-endian; every change of the schema adds 1, and every commit expects
  it, so no writer goes by an outdated catalog;
- ``catalog/next-id``: id of the next new table, 8 bytes, big-endian;
- ``catalog/table/`` and the name in UTF-8: one table (:mod:`kvdialect.store.entries`);
- ``catalog/view/`` and the name in UTF-8: a view made by SQL, its text as JSON;
- ``catalog/garbage/`` and a number in 4 bytes: an SQL table or index that was dropped, whose data are still there;
- ``catalog/intent/`` and the name of a family: it is being made or dropped (:mod:`kvdialect.store.ddl`);
- ``catalog/building/`` and the name of an index: how far its building is (:mod:`kvdialect.store.building`);
- ``catalog/reopen``: there if options of families have changed that the next opening of the store applies;
- ``count/`` and a table's id in 4 bytes: number of its rows, a counter;
- ``ids/`` and a table's id in 4 bytes: highest id reserved (:mod:`kvdialect.store.allocator`).
"""

from __future__ import annotations

import difflib
import threading
import weakref
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import attrs
import msgspec

from kvdialect import exc
from kvdialect.schema.definition import TableDefinition
from kvdialect.schema.evolution import Difference, bound, compare, mismatch, missing_table
from kvdialect.storage.batch import WriteBatch
from kvdialect.storage.contract import Reader, Snapshot, StorageBackend
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.entries import TableEntry, decode_entry
from kvdialect.store.table import StoredTable

FORMAT: Final = 1
"""Version of the catalog's format. 1: release 0.1."""

FORMAT_KEY: Final = b"catalog/format"
VERSION_KEY: Final = b"catalog/version"
NEXT_ID_KEY: Final = b"catalog/next-id"
REOPEN_KEY: Final = b"catalog/reopen"
TABLE: Final = b"catalog/table/"
VIEW: Final = b"catalog/view/"
GARBAGE: Final = b"catalog/garbage/"
INTENT: Final = b"catalog/intent/"
BUILDING: Final = b"catalog/building/"
COUNT: Final = b"count/"
IDS: Final = b"ids/"


def number(value: int) -> bytes:
    """A number as the catalog stores it."""
    return value.to_bytes(8, "big")


def intent_key(family: str) -> bytes:
    """Where the intent to make or drop a family is noted."""
    return INTENT + family.encode()


def building_key(index: str) -> bytes:
    """Where it is noted how far the building of an index is."""
    return BUILDING + index.encode()


def table_key(name: str) -> bytes:
    """Where the entry of a table is."""
    return TABLE + name.encode()


def view_key(name: str) -> bytes:
    """Where a view is."""
    return VIEW + name.encode()


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True, weakref=True):
    r"""A view made by SQL.

    Attributes:
        name: ``schema\0name`` outside the schema main.
        statement: CREATE VIEW as SQLite has it.
    """

    name: str
    statement: str


encode_view: Final = msgspec.json.Encoder().encode
_decode_view: Final = msgspec.json.Decoder(View).decode


@attrs.frozen(eq=False)
class Catalog:
    """The catalog at one version; never changed, but replaced.

    Attributes:
        version: the schema version; 0 where there is no catalog.
        raw_version: the same as it is stored, which commits expect; None where there is no catalog.
        next_id: id of the next new table.
        entries: the tables, by name.
        views: the views made by SQL, by name.
    """

    version: int = 0
    raw_version: bytes | None = None
    next_id: int = 1
    entries: Mapping[str, TableEntry] = MappingProxyType({})
    views: Mapping[str, View] = MappingProxyType({})

    @classmethod
    def load(cls, reader: Reader, before: Catalog | None = None) -> Catalog:
        """Read the catalog.

        Args:
            reader: a snapshot, so that all of it is of one moment.
            before: an earlier catalog of the same store; what has not changed is taken from it.

        Raises:
            StoreFormatError: if a newer release wrote it.
            Corruption: if an entry is damaged.
        """
        raw_format = reader.get(RESERVED_FAMILY, FORMAT_KEY)
        raw_version = reader.get(RESERVED_FAMILY, VERSION_KEY)
        if raw_format is None and raw_version is None:
            return cls()
        found = _number(FORMAT_KEY, raw_format)
        if found > FORMAT:
            raise exc.StoreFormatError(
                f"the store's catalog has format {found}; this release reads up to {FORMAT}"
                " (use a newer release of kvdialect)",
                format=found,
            )
        version = _number(VERSION_KEY, raw_version)
        if before is not None and before.raw_version == raw_version:
            return before
        known = {} if before is None else before.entries
        entries = {}
        for key, raw in reader.prefix_scan(RESERVED_FAMILY, TABLE):
            name = key[len(TABLE) :].decode("utf-8", "replace")
            entry = known.get(name)
            if entry is None or entry.raw != raw:
                entry = decode_entry(key, raw)
            if entry.definition.name != name:
                raise exc.Corruption(
                    f"the catalog entry {RESERVED_FAMILY}[{exc.shown(key)}] is damaged: it is of table"
                    f" {entry.definition.name!r} (restore a backup)",
                    cf=RESERVED_FAMILY, key=key,
                )  # fmt: skip
            entries[name] = entry
        next_id = _number(NEXT_ID_KEY, reader.get(RESERVED_FAMILY, NEXT_ID_KEY))
        views = _views(reader, {} if before is None else before.views)
        return cls(version, raw_version, next_id, MappingProxyType(entries), views)

    def entry(self, name: str) -> TableEntry:
        """The entry of a table.

        Raises:
            ProgrammingError: if there is no table of this name.
        """
        try:
            return self.entries[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.entries, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "models.create_all(engine) creates those of a model"
            raise exc.ProgrammingError(f"the store has no table {name!r} ({hint})", table=name) from None

    def table(self, name: str) -> StoredTable:
        """A table of the store; its kinds know nothing of a program's classes. Errors are those of :meth:`entry`."""
        return self.entry(name).table

    @property
    def tables(self) -> Mapping[str, StoredTable]:
        """All tables by name."""
        return {name: entry.table for name, entry in self.entries.items()}

    def owner(self, index: str) -> TableEntry | None:
        """The table that an index belongs to, or None if there is no index of this name."""
        for entry in self.entries.values():
            if any(each.name == index for each in entry.definition.indexes):
                return entry
        return None

    def families(self) -> Iterator[tuple[str, TableEntry]]:
        """Each column family that the catalog knows, with its table."""
        for entry in self.entries.values():
            for family in entry.families:
                yield family, entry

    def differences(self, declared: TableDefinition) -> list[Difference]:
        """What differs between the store and a declared table."""
        entry = self.entries.get(declared.name)
        if entry is None:
            return [missing_table(declared)]
        return compare(entry.definition, declared, extra=entry.extra)

    def bind(self, declared: TableDefinition) -> StoredTable:
        """The table in the store that a declared one stands for, with the declared one's kinds.

        Raises:
            SchemaMismatch: if the store's is another; the message lists what differs and what to call.
        """
        differences = [each for each in self.differences(declared) if each.blocking]
        if differences:
            raise mismatch(differences, f"the store does not have table {declared.name} as the model declares it:")
        entry = self.entries[declared.name]
        return StoredTable(bound(entry.definition, declared), entry.history)


def _views(reader: Reader, known: Mapping[str, View]) -> Mapping[str, View]:
    views = {}
    for key, raw in reader.prefix_scan(RESERVED_FAMILY, VIEW):
        try:
            view = _decode_view(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise exc.Corruption(
                f"the catalog entry {RESERVED_FAMILY}[{exc.shown(key)}] is damaged: {error} (restore a backup)",
                cf=RESERVED_FAMILY, key=key,
            ) from error  # fmt: skip
        before = known.get(view.name)
        views[view.name] = before if before == view and before is not None else view
    return MappingProxyType(views)


def _number(key: bytes, raw: bytes | None) -> int:
    if raw is None or len(raw) != 8:
        raise exc.Corruption(
            f"the catalog entry {RESERVED_FAMILY}[{exc.shown(key)}] is damaged: it is {exc.shown(raw)}; 8 bytes are"
            " expected (restore a backup)",
            cf=RESERVED_FAMILY, key=key,
        )  # fmt: skip
    return int.from_bytes(raw, "big")


def create_catalog(backend: StorageBackend) -> None:
    """Give a store an empty catalog if it has none; a store that is open for reading stays as it is."""
    if not backend.capabilities.writable or backend.get(RESERVED_FAMILY, FORMAT_KEY) is not None:
        return
    batch = WriteBatch()
    for key, value in ((FORMAT_KEY, FORMAT), (VERSION_KEY, 1), (NEXT_ID_KEY, 1)):
        batch.expect(RESERVED_FAMILY, key, None).put(RESERVED_FAMILY, key, number(value))
    try:
        backend.batch_write(batch)
    except exc.ConflictError:
        return  # another process was first, or what is there is damaged: loading it tells


class LiveCatalog:
    """The catalog of an open store, brought up to date when it is asked to be. For use by several threads.

    Attributes:
        backend: the store.
        current: the catalog as it was last seen; replaced by later ones only.
    """

    def __init__(self, backend: StorageBackend) -> None:
        self.backend = backend
        self.current = Catalog()
        # The moment of a snapshot that had this catalog, so that the next of the same moment is not asked.
        self._seen: tuple[int | None, Catalog] = (None, self.current)
        self._lock = threading.Lock()
        # By identity of the declared definition, which is kept with its table so that the identity stays its own.
        self._bound: dict[int, tuple[TableDefinition, TableEntry, StoredTable]] = {}
        self._origins: weakref.WeakKeyDictionary[StoredTable, TableDefinition] = weakref.WeakKeyDictionary()
        self.reload()

    def reload(self) -> Catalog:
        """Load the catalog as it is now and return it; errors are those of :meth:`Catalog.load`."""
        with self.backend.snapshot() as snapshot:
            return self._adopt(Catalog.load(snapshot, self.current))

    def refresh(self) -> None:
        """Reload if the schema version is another than the one last seen: one read of one key."""
        if self.backend.get(RESERVED_FAMILY, VERSION_KEY) != self.current.raw_version:
            self.reload()

    def at(self, snapshot: Snapshot) -> Catalog:
        """The catalog as of a snapshot: what its keys and values are to be read by."""
        current = self.current
        moment = getattr(snapshot, "moment", None)
        seen, catalog = self._seen
        if moment is not None and moment == seen and catalog is current:
            return current
        if snapshot.get(RESERVED_FAMILY, VERSION_KEY) == current.raw_version:
            self._seen = moment, current
            return current
        loaded = Catalog.load(snapshot, current)
        self._adopt(loaded)
        return loaded

    def _adopt(self, loaded: Catalog) -> Catalog:
        with self._lock:
            # Threads may finish in another order than they read.
            if loaded.version >= self.current.version:
                self.current = loaded
            return self.current

    def bind(self, declared: TableDefinition, catalog: Catalog | None = None) -> StoredTable:
        """The table that a declared one stands for, see :meth:`Catalog.bind`; made once per version of the table."""
        catalog = catalog or self.current
        entry = catalog.entries.get(declared.name)
        cached = self._bound.get(id(declared))
        if cached is not None and cached[1] is entry and cached[0] is declared:
            return cached[2]
        table = catalog.bind(declared)
        with self._lock:
            cached = self._bound.get(id(declared))
            if cached is not None and cached[1] is entry and cached[0] is declared:
                return cached[2]  # another thread was first: one table, so that identity tells
            self._bound[id(declared)] = (declared, catalog.entries[declared.name], table)
            self._origins[table] = declared
        return table

    def rebind(self, table: StoredTable) -> StoredTable:
        """The same table under the catalog as it is now: the very same if it has not changed.

        Raises:
            SchemaChanged: if it was dropped, or its fields are others.
        """
        name = table.name
        entry = self.current.entries.get(name)
        number = table.definition.id
        if table.definition.shared and (entry is None or entry.definition.id != number):
            # SQL can rename a table.
            entry = next((each for each in self.current.entries.values() if each.definition.id == number), None)
        if entry is None or entry.definition.id != number:
            raise exc.SchemaChanged(
                f"table {name} was dropped since this session began (create it and run the transaction again)",
                table=name,
            )
        if entry.definition.version != table.definition.version:
            raise exc.SchemaChanged(
                f"the fields of table {name} were changed since this session began, from version"
                f" {table.definition.version} to {entry.definition.version} (run the transaction again, with a model"
                " that has them)",
                table=name,
            )
        declared = self._origins.get(table)
        if declared is None:
            return entry.table
        try:
            return self.bind(declared)
        except exc.SchemaMismatch as error:
            raise exc.SchemaChanged(
                f"table {name} was changed since this session began: {error.message}", table=name
            ) from error
