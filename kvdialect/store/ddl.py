"""Changing the schema, so that a crash at any step leaves the store as it was or as it was to be.

No engine makes or drops a family within a batch. So a change that needs families notes its intent for each, makes
them, and then writes one batch: the catalog's entries, the schema version, the intents gone. Dropping writes that batch
first, with intents, and drops the families afterwards. A family with an intent that the catalog does not know is of a
change that did not come to its end, or of one that has dropped it: the next change, or the next opening, drops it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import attrs

from kvdialect import exc
from kvdialect.schema.definition import CheckDefinition, IndexDefinition, TableDefinition
from kvdialect.schema.evolution import (
    created,
    described_index,
    evolve,
    mismatch,
    same_index,
)
from kvdialect.schema.expressions import columns_of
from kvdialect.schema.sqlrows import SHARED_FAMILY, prefix_of
from kvdialect.storage.batch import WriteBatch
from kvdialect.storage.contract import StorageBackend
from kvdialect.storage.options import RESERVED_FAMILY, ColumnFamilyOptions, check_family_name
from kvdialect.storage.shared import Handle
from kvdialect.store.catalog import (
    COUNT,
    GARBAGE,
    IDS,
    INTENT,
    NEXT_ID_KEY,
    REOPEN_KEY,
    VERSION_KEY,
    Catalog,
    LiveCatalog,
    building_key,
    intent_key,
    number,
    table_key,
)
from kvdialect.store.entries import TableEntry, encode_entry
from kvdialect.store.locks import schema_lock
from kvdialect.store.retrying import Attempts
from kvdialect.store.sqlschema import SHARED_OPTIONS, collect

LOCK_SECONDS: Final = 60.0
"""How long a change of the schema waits for another one."""

_TRIES: Final = 16

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


@attrs.define
class _Change:
    """A change of the catalog before it is written: entries to put, tables to forget, families to make and to drop."""

    entries: dict[str, TableEntry] = attrs.field(factory=dict)
    forgotten: list[TableEntry] = attrs.field(factory=list)
    made: dict[str, ColumnFamilyOptions] = attrs.field(factory=dict)
    dropped: list[str] = attrs.field(factory=list)
    building: dict[str, bytes] = attrs.field(factory=dict)
    next_id: int | None = None
    reopen: bool = False

    def __bool__(self) -> bool:
        return bool(self.entries or self.forgotten)


class SchemaEditor:
    """Changes the schema of one open store.

    Attributes:
        live: the store's catalog, brought up to date by each change.
        backend: the store.
    """

    def __init__(self, live: LiveCatalog) -> None:
        self.live = live
        self.backend: StorageBackend = live.backend

    # ------------------------------------------------------------------------------------------ tables

    def create(self, definitions: Sequence[TableDefinition], *, checkfirst: bool = True) -> None:
        """Create the tables that the store does not have.

        Args:
            definitions: the tables.
            checkfirst: leave those that are there and are as declared; if False, they are refused.

        Raises:
            SchemaMismatch: if one is there and another; nothing is created then.
            ColumnFamilyExists: if a family of a table's or index's name holds data that are not the catalog's.
        """
        _check_names(definitions)

        def planned(catalog: Catalog) -> _Change:
            missing = self._missing(catalog, definitions, checkfirst)
            return self._with_new_tables(catalog, _Change(), missing)

        if not self._missing(self.live.reload(), definitions, checkfirst):
            return
        self._carry_out(planned)

    def _missing(
        self, catalog: Catalog, definitions: Sequence[TableDefinition], checkfirst: bool
    ) -> list[TableDefinition]:
        differing = []
        missing = []
        for declared in definitions:
            if declared.name not in catalog.entries:
                missing.append(declared)
            elif not checkfirst:
                raise exc.ProgrammingError(f"the store has a table {declared.name} already", table=declared.name)
            else:
                differing += [each for each in catalog.differences(declared) if each.blocking]
        if differing:
            raise mismatch(differing, "the store has tables other than the model's; nothing was created:")
        return missing

    def _with_new_tables(self, catalog: Catalog, change: _Change, missing: Iterable[TableDefinition]) -> _Change:
        next_id = catalog.next_id
        for declared in missing:
            entry = TableEntry.new(created(declared, next_id))
            next_id += 1
            change.entries[declared.name] = entry
            change.made.update(entry.families)
        change.next_id = next_id if next_id != catalog.next_id else None
        return change

    def adopt(self, entries: Sequence[TableEntry]) -> None:
        """Create tables as the catalog of another store has them, but for the indexes of records.

        Fields keep their ids, and versions their history, so that values may be copied as they are stored. Tables get
        new ids, and so do the indexes of tables made by SQL. A table of a name that is there is left as it is.
        """
        _check_names([entry.definition for entry in entries if not entry.definition.shared])

        def planned(catalog: Catalog) -> _Change:
            change = _Change()
            next_id = catalog.next_id
            for entry in entries:
                definition = entry.definition
                if definition.name in catalog.entries:
                    continue
                table_id, next_id = next_id, next_id + 1
                indexes: list[IndexDefinition] = []
                for index in definition.indexes if definition.shared else ():
                    indexes.append(attrs.evolve(index, id=next_id))
                    next_id += 1
                made = attrs.evolve(entry, definition=attrs.evolve(definition, id=table_id, indexes=tuple(indexes)))
                change.entries[definition.name] = made
                change.made.update(made.families)
                if definition.shared and SHARED_FAMILY not in self.backend.column_families():
                    change.made[SHARED_FAMILY] = SHARED_OPTIONS
            change.next_id = next_id if next_id != catalog.next_id else None
            return change

        self._carry_out(planned)

    def drop(self, names: Collection[str]) -> None:
        """Drop tables with their indexes, row counts and ids; a name that the store does not have is no error."""
        if not any(name in self.live.reload().entries for name in names):
            return

        def planned(catalog: Catalog) -> _Change:
            gone = [catalog.entries[name] for name in names if name in catalog.entries]
            # What SQL tables have stored is collected afterwards.
            return _Change(forgotten=gone, dropped=[family for entry in gone for family in entry.families])

        self._carry_out(planned)
        collect(self.backend)

    def evolve(self, definitions: Sequence[TableDefinition]) -> None:
        """Make the stored tables what the declared ones are, but for indexes that have to be built.

        Raises:
            SchemaMismatch: if that would lose or misread data; the message lists every reason, and nothing is changed.
        """
        _check_names(definitions)

        def planned(catalog: Catalog) -> _Change:
            refused = [
                difference
                for declared in definitions
                if declared.name in catalog.entries
                for difference in catalog.differences(declared)
                if not difference.allowed
            ]
            if refused:
                raise mismatch(refused, "the store cannot become what the model declares; nothing was changed:")
            change = _Change()
            missing = []
            for declared in definitions:
                entry = catalog.entries.get(declared.name)
                if entry is None:
                    missing.append(declared)
                else:
                    self._evolve_one(change, entry, declared)
            return self._with_new_tables(catalog, change, missing)

        if planned(self.live.reload()):
            self._carry_out(planned)

    def _evolve_one(self, change: _Change, entry: TableEntry, declared: TableDefinition) -> None:
        definition = evolve(entry.definition, declared, next_field_id=entry.next_field_id, extra=entry.extra)
        after = entry.becoming(definition, entry.extra - {index.name for index in declared.indexes})
        if encode_entry(after) == entry.raw:
            return
        change.entries[declared.name] = after
        change.dropped += [family for family in entry.families if family not in after.families]
        change.reopen |= any(entry.families[family] != options for family, options in after.families.items())

    # ------------------------------------------------------------------------------------------ indexes

    def start_indexes(
        self, indexes: Sequence[tuple[str, IndexDefinition]], cursor: Callable[[], bytes], *, extra: bool
    ) -> list[str]:
        """Note new indexes as being built, so that from now on every writer keeps them up.

        Args:
            indexes: the name of the table and the definition of each; one that is there already stays as it is.
            cursor: gives what is noted of each building before it begins.
            extra: they belong to no model.

        Returns:
            The names of those that are not built to their end.

        Raises:
            ProgrammingError: if there is another index of this name, or no such table.
        """

        def planned(catalog: Catalog) -> _Change:
            change = _Change()
            for table, index in indexes:
                entry = change.entries.get(table) or catalog.entry(table)
                if entry.definition.shared:
                    raise exc.NotSupportedError(
                        f"table {table} was made by SQL; say CREATE INDEX on a connection of engine.sqlalchemy()",
                        table=table, index=index.name,
                    )  # fmt: skip
                if self._has(entry, index):
                    continue
                _check_index(entry.definition, index)
                definition = entry.definition
                started = attrs.evolve(index, state="building")
                definition = attrs.evolve(
                    definition, indexes=tuple(sorted((*definition.indexes, started), key=lambda each: each.name))
                )
                change.entries[table] = entry.becoming(definition, entry.extra | ({index.name} if extra else set()))
                change.made[index.name] = index.options
                change.building[index.name] = cursor()
            return change

        if planned(self.live.reload()):
            self._carry_out(planned)
        entries = self.live.current.entries
        states = {i.name: i.state for entry in entries.values() for i in entry.definition.indexes}
        return [index.name for _, index in indexes if states.get(index.name) == "building"]

    def _has(self, entry: TableEntry, index: IndexDefinition) -> bool:
        for stored in entry.definition.indexes:
            if stored.name == index.name:
                if same_index(stored, index):
                    return True
                raise exc.ProgrammingError(
                    f"table {entry.definition.name} has an index {index.name} already, and it is"
                    f" {described_index(stored)}, not {described_index(index)} (drop it first, or choose another name)",
                    table=entry.definition.name, index=index.name,
                )  # fmt: skip
        return False

    def finish_index(self, name: str, cursor: bytes) -> None:
        """Make an index readable, unless its building is no longer where ``cursor`` says."""

        def planned(catalog: Catalog) -> _Change:
            entry = catalog.owner(name)
            if entry is None or self.backend.get(RESERVED_FAMILY, building_key(name)) != cursor:
                return _Change()
            indexes = tuple(
                attrs.evolve(index, state="readable") if index.name == name else index
                for index in entry.definition.indexes
            )
            after = entry.becoming(attrs.evolve(entry.definition, indexes=indexes))
            return _Change(entries={entry.definition.name: after}, building={name: b""})

        self._carry_out(planned)

    def drop_index(self, name: str) -> None:
        """Drop an index.

        Raises:
            ProgrammingError: if there is none of this name.
        """

        def planned(catalog: Catalog) -> _Change:
            entry = catalog.owner(name)
            if entry is None:
                raise exc.ProgrammingError(f"the store has no index {name!r}", index=name)
            kept = tuple(index for index in entry.definition.indexes if index.name != name)
            after = entry.becoming(attrs.evolve(entry.definition, indexes=kept))
            return _Change(entries={entry.definition.name: after}, dropped=[name])

        planned(self.live.reload())
        self._carry_out(planned)

    # ------------------------------------------------------------------------------------------ CHECKs

    def settle_checks(
        self, table: str, looked: Collection[CheckDefinition], *, valid: bool, declared: Collection[CheckDefinition]
    ) -> None:
        """Note that CHECKs are true of all rows of a table, and drop those that go with it, or drop them.

        Args:
            table: its name.
            looked: the CHECKs whose truth was looked at.
            valid: they are true of all rows.
            declared: those of the model; others that are known to be true are dropped when these have come.
        """

        def planned(catalog: Catalog) -> _Change:
            entry = catalog.entries.get(table)
            if entry is None:
                return _Change()
            checks = entry.definition.checks
            if not valid:
                checks = tuple(check for check in checks if check.validated or check not in looked)
            else:
                checks = tuple(
                    attrs.evolve(check, validated=True) if check in looked else check
                    for check in checks
                    if check in declared or not check.validated
                )
            after = entry.becoming(attrs.evolve(entry.definition, checks=checks))
            return _Change() if encode_entry(after) == entry.raw else _Change(entries={table: after})

        self._carry_out(planned)

    # ------------------------------------------------------------------------------------------ carrying out

    @contextlib.contextmanager
    def _locked(self, timeout: float | None = None) -> Iterator[None]:
        backend = self.backend
        if not backend.capabilities.writable:
            raise exc.ReadOnlyStore(
                f"{backend.name}:{backend.path} is open for reading; changing its schema needs mode=rw",
                engine=backend.name, path=backend.path, operation="schema",
            )  # fmt: skip
        with schema_lock(backend, LOCK_SECONDS if timeout is None else timeout):
            yield

    def _carry_out(self, planned: Callable[[Catalog], _Change]) -> None:
        """Plan a change on the catalog as it is, and make it."""
        attempts, conflict = Attempts(_TRIES), False
        for attempt in range(_TRIES):
            if conflict:
                # The other commit may wait for the disk, and is not read before; the lock is not held meanwhile.
                time.sleep(attempts.pause())
            with self._locked():
                catalog = self.live.reload()
                self._finish_intents()
                if attempt < _TRIES - 1 and self.live.reload().raw_version != catalog.raw_version:
                    continue  # what a transaction has dropped meanwhile is not gone yet
                change = planned(catalog)
                if not change:
                    return
                try:
                    self._make(catalog, change)
                except exc.ConflictError as error:
                    # Where no lock reaches all writers, the version of the catalog decides.
                    if attempt == _TRIES - 1:
                        raise
                    conflict = attempts.again(error)
                    continue
                except BaseException as error:
                    self._undo(error)
                    raise
                return

    def finish_drops(self) -> None:
        """Drop the families of what a transaction has dropped; what fails is left for the next change or opening."""
        try:
            with self._locked():
                self._finish_intents()
        except exc.BackendError as error:
            _log.warning("%s: families of what was dropped stay for now: %s", self.backend, error)

    def _make(self, catalog: Catalog, change: _Change) -> None:
        adopted = self._make_families(catalog, change.made)
        batch = WriteBatch().expect(RESERVED_FAMILY, VERSION_KEY, catalog.raw_version)
        batch.put(RESERVED_FAMILY, VERSION_KEY, number(catalog.version + 1))
        for name, entry in change.entries.items():
            batch.put(RESERVED_FAMILY, table_key(name), encode_entry(entry))
        for entry in change.forgotten:
            table_id = entry.definition.id.to_bytes(4, "big")
            for key in (table_key(entry.definition.name), COUNT + table_id, IDS + table_id):
                batch.delete(RESERVED_FAMILY, key)
            if entry.definition.shared:
                for each in (entry.definition.id, *(index.id for index in entry.definition.indexes)):
                    batch.put(RESERVED_FAMILY, GARBAGE + prefix_of(each), b"")
        for family in change.made:
            if family not in adopted:
                batch.delete(RESERVED_FAMILY, intent_key(family))
        for family in change.dropped:
            batch.put(RESERVED_FAMILY, intent_key(family), b"drop")
            batch.delete(RESERVED_FAMILY, building_key(family))
        for index, cursor in change.building.items():
            if cursor:
                batch.put(RESERVED_FAMILY, building_key(index), cursor)
            else:
                batch.delete(RESERVED_FAMILY, building_key(index))
        if change.next_id is not None:
            batch.put(RESERVED_FAMILY, NEXT_ID_KEY, number(change.next_id))
        if change.reopen:
            batch.put(RESERVED_FAMILY, REOPEN_KEY, b"")
        self.backend.batch_write(batch)
        catalog = self.live.reload()
        if change.dropped:
            try:
                self._finish_intents()
            except exc.BackendError as error:
                # Dropped they are: nothing leads to them, and the next change of the schema, or opening, removes them.
                _log.warning("%s: families of what was dropped stay for now: %s", self.backend, error)

    def _make_families(self, catalog: Catalog, families: Mapping[str, ColumnFamilyOptions]) -> set[str]:
        """Make the families of a change; return those that were there, empty, and are taken as they are."""
        owners = {family: entry.definition.name for family, entry in catalog.families()}
        for family in families:
            if family in owners:
                raise exc.ProgrammingError(
                    f"the name {family!r} is taken by {_named(family, owners[family])}; tables and indexes share one"
                    " space of names (choose another)",
                    name=family,
                )
        existing = set(self.backend.column_families())
        adopted = {family for family in families if family in existing}
        for family in adopted:
            self._check_empty(family)
        made = [family for family in families if family not in adopted]
        if not made:
            return adopted
        batch = WriteBatch().expect(RESERVED_FAMILY, VERSION_KEY, catalog.raw_version)
        for family in made:
            batch.put(RESERVED_FAMILY, intent_key(family), b"create")
        self.backend.batch_write(batch)
        for family in made:
            try:
                self.backend.create_column_family(family, families[family])
            except exc.ColumnFamilyExists:
                # A program has just made one of its own, which an intent would have dropped.
                self.backend.delete(RESERVED_FAMILY, intent_key(family))
                self._check_empty(family)
                adopted.add(family)
        return adopted

    def _check_empty(self, family: str) -> None:
        if any(True for _ in self.backend.scan(family)):
            raise exc.ColumnFamilyExists(
                f"column family {family} holds data that are not the catalog's, so no table or index can have this name"
                " (choose another, or empty the family with backend.drop_column_family)",
                name=family, engine=self.backend.name, path=self.backend.path,
            )  # fmt: skip

    def _finish_intents(self) -> None:
        """Drop the families with an intent that the catalog does not know, and the intents; the lock is held.

        A transaction that drops a table notes its intents without the lock. So the catalog is read after them, and they
        go on condition that it is still the same.
        """
        for _ in range(_TRIES):
            intents = [key for key, _ in self.backend.prefix_scan(RESERVED_FAMILY, INTENT)]
            if not intents:
                return
            catalog = self.live.reload()
            known = {family for family, _ in catalog.families()}
            batch = WriteBatch().expect(RESERVED_FAMILY, VERSION_KEY, catalog.raw_version)
            for key in intents:
                family = key[len(INTENT) :].decode()
                if family not in known:
                    with contextlib.suppress(exc.UnknownColumnFamily):
                        self.backend.drop_column_family(family)
                batch.delete(RESERVED_FAMILY, key)
            try:
                self.backend.batch_write(batch)
            except exc.ConflictError:
                continue
            return

    def _undo(self, error: BaseException) -> None:
        """Remove what a change that failed has left, unless it may have been written after all."""
        if getattr(error, "outcome", "not_applied") != "not_applied":
            return  # the next change or opening finds out
        try:
            self._finish_intents()
        except exc.Error as another:
            # What is left stays noted as intents; the next change or opening removes it.
            _log.warning(
                "%s: families of a failed change of the schema stay for now: %s", self.backend, another.message
            )

    # ------------------------------------------------------------------------------------------ opening

    def recover(self, keep: Collection[str] = ()) -> None:
        """Clear up what a crash has left, unless another process is at work on the schema.

        Args:
            keep: families that the program has just declared itself.
        """
        try:
            with self._locked(0.0):
                self._finish_intents()
                catalog = self.live.reload()
                collect(self.backend)
                self._sweep(catalog, keep)
        except exc.LockTimeout:
            return
        except exc.BackendError as error:
            # A full disk or map must not keep a store from being read; what is left stays noted.
            _log.warning("%s: what a crash has left in the schema stays for now: %s", self.backend, error)

    def _sweep(self, catalog: Catalog, keep: Collection[str]) -> None:
        """Remove families that nobody knows if they are empty; say so if they are not: they may be a program's own."""
        known = {*keep, SHARED_FAMILY, *(family for family, _ in catalog.families())}
        shared = self.backend.capabilities.multi_process_writers  # another process may have declared it for itself
        alone = not shared and isinstance(self.backend, Handle) and self.backend.engine.references == 1
        for family in self.backend.column_families():
            if family in known:
                continue
            if any(True for _ in self.backend.scan(family)):
                _log.warning(
                    "%s: column family %r holds data and belongs to no table or index; it is left as it is",
                    self.backend, family,
                )  # fmt: skip
            elif alone:  # another handle of this process may have just declared it
                self.backend.drop_column_family(family)


def _named(family: str, table: str) -> str:
    return f"table {table}" if family == table else f"an index of table {table}"


def _check_names(definitions: Sequence[TableDefinition]) -> None:
    """Refuse names that no family may have, and two tables or indexes of one name."""
    owners: dict[str, str] = {}
    for declared in definitions:
        for what, names in (("columns", declared.names), ("primary key", declared.primary_key)):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise exc.ArgumentError(
                    f"the {what} of table {declared.name} name {twice!r} twice", table=declared.name
                )
        for name in (declared.name, *(index.name for index in declared.indexes)):
            _check_name(name)
            if name in owners:
                raise exc.ArgumentError(
                    f"the name {name!r} is declared twice: by {_named(name, owners[name])} and by"
                    f" {_named(name, declared.name)}; tables and indexes share one space of names (choose another)",
                    name=name,
                )
            owners[name] = declared.name


def _check_name(name: str) -> None:
    if check_family_name(name) == SHARED_FAMILY:
        raise exc.ArgumentError(
            f"column family name {name!r} is reserved for the tables that SQL makes; choose another", name=name
        )


def _check_index(table: TableDefinition, index: IndexDefinition) -> None:
    """Refuse an index that the table cannot have."""
    _check_name(index.name)
    where = columns_of(index.where) if index.where is not None else ()
    for name in (*index.columns, *index.include, *where):
        if name not in table.names:
            raise exc.ArgumentError(
                f"index {index.name} names {name!r}, which is no column of {table.name}; its columns are"
                f" {', '.join(table.names)}",
                table=table.name, index=index.name,
            )  # fmt: skip
    for name in index.columns:
        kind = table.field(name).kind
        element = getattr(kind, "element", None) if index.kind == "multi" else kind
        if element is None or not element.keyable:
            raise exc.ArgumentError(
                f"{table.name}.{name} cannot be in index {index.name}: {kind.allowed} has no order of bytes",
                table=table.name, index=index.name, field=name,
            )  # fmt: skip
