r"""The RocksDB engine: opening, column families, reads.

Layout: one database per store, one RocksDB column family per family, values as they are, as RocksDB checksums its
blocks. The library's own family, ``kvdialect``, holds under ``\xfft<writer>`` the number of the last commit of each
writer; everything below ``\xff`` in it belongs to other layers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

import attrs
import rocksdict

from kvdialect import exc
from kvdialect.storage import closing, shared
from kvdialect.storage.batch import WriteBatch, check_key, check_keys
from kvdialect.storage.contract import Capabilities, FamilyStats, StorageBackend
from kvdialect.storage.engine import Engine
from kvdialect.storage.filelock import FileLock
from kvdialect.storage.location import Location
from kvdialect.storage.options import RESERVED_FAMILY, ColumnFamilyOptions, parse_store_options
from kvdialect.storage.rocksdb.abandoned import abandon, driver_path
from kvdialect.storage.rocksdb.closed import note_closed
from kvdialect.storage.rocksdb.commit import Committer
from kvdialect.storage.rocksdb.errors import disk_full, pass_foreign, translate
from kvdialect.storage.rocksdb.forked import note_use, threads_lost_in
from kvdialect.storage.rocksdb.log import before_torn_end, file_moment, torn_manifest
from kvdialect.storage.rocksdb.options import (
    RocksDBOptions,
    database_options,
    family_options,
    kept_options,
    options_written,
    prefix_length_of,
    read_options_file,
    style_of,
)
from kvdialect.storage.rocksdb.reading import RocksDBSnapshot
from kvdialect.storage.rocksdb.states import States
from kvdialect.storage.storedir import FORMAT, LOCK_FILE, MARKER, Marker, aside_of, not_created, open_directory

_log = logging.getLogger(__name__)

# rocksdict raises bare Exception for whatever RocksDB says, and KeyError for a key that is not bytes.

T = TypeVar("T")

_TRIES: Final = 40
"""How often the files are read anew where a writer has flushed meanwhile."""

_TOLERANT: Final = ("tolerate_corrupted_tail", "point_in_time")
"""The values of ``wal_recovery`` that let the unfinished end of a manifest go too."""


class Family:
    """An open family: the driver's object for reads, its handle for batches, the length of its bloom prefix or None."""

    __slots__ = ("__weakref__", "handle", "prefix_length", "rdict")

    def __init__(self, database: rocksdict.Rdict, name: str, prefix_length: int | None) -> None:
        self.rdict = database.get_column_family(name)
        self.handle = database.get_column_family_handle(name)
        self.prefix_length = prefix_length

    def release(self) -> None:
        """Let go of the driver's objects, which keep the database open, even if a traceback keeps this one."""
        del self.rdict, self.handle

    def __getattr__(self, name: str) -> NoReturn:
        """A call that was under way when another thread closed the store asks for what is gone."""
        raise exc.StoreClosed("the store is closed; open it again", engine="rocksdb", operation="use")


class RocksDBEngine(Engine):
    """An open RocksDB database.

    Attributes:
        database: the driver's database.
        known: the families by name; replaced, never changed, so that a writer can tell whether they are still those it
            looked at.
        gets: the driver's ``get`` of each family.
        commit_lock: guards writes, pinning and families.
        total_order: read options that pass by bloom filters of prefixes.
        states: what snapshots read.
    """

    name = "rocksdb"

    def __init__(self, path: str, options: RocksDBOptions, declared: Mapping[str, ColumnFamilyOptions]) -> None:
        super().__init__(path, options)
        self.path: str = path
        self.options: RocksDBOptions = options
        writable = options.mode == "rw"
        self.capabilities = Capabilities(
            checksums="engine",
            multi_process_readers=True,
            secondary=True,
            writable=writable,
            durabilities=frozenset({"sync", "wal", "none"}),
        )
        self._cache = rocksdict.Cache(options.block_cache_size)
        self._lock_file: FileLock | None = None
        self._scratch: str | None = None
        self.known: dict[str, Family] = {}
        # Families that were dropped and that a thread or a traceback still holds: they keep the database open, and
        # their files on the disk. So they are known here, but not kept.
        self._dropped: weakref.WeakSet[Family] = weakref.WeakSet()
        self.gets: dict[str, Callable[[Any], Any]] = {}
        self.commit_lock = threading.Lock()
        self.total_order = rocksdict.ReadOptions()
        self.total_order.set_total_order_seek(True)
        self._committer = Committer(self)
        self.states = States(self, synced=writable and options.durability == "sync", catch_up=self._committer.sync)
        note_use()
        try:
            if writable:
                self._lock_directory()
                self._check_threads()
            marker = Marker(format=FORMAT, engine="rocksdb", checksum=False)
            self.marker = open_directory(path, marker, checksum=None, writable=writable, build=_build)
            if writable:
                self._lock_directory()
            else:
                self.location = Location(path)
            if options.check_files:
                self._check_closed()
            self.database = self._open_database(declared)
            if writable:
                self._committer.sweep()
        except BaseException:
            self._unlock_directory()
            raise

    # ------------------------------------------------------------------ opening

    def _lock_directory(self) -> None:
        """Take the store's lock.

        It comes before the driver touches the path: rocksdict rewrites a file there before it finds RocksDB's own lock
        taken.
        """
        if self._lock_file is not None or not os.path.exists(os.path.join(self.path, MARKER)):
            return  # no store yet: nothing is written into a directory before it is known to be ours
        self.location = Location(self.path)
        try:
            lock = FileLock(os.path.join(self.path, LOCK_FILE))
        except OSError as error:
            raise exc.BackendError(
                f"cannot write to {self.path}: {error.strerror}", **self.facts("open", engine_message=str(error))
            ) from error
        if not lock.acquire(self.options.lock_timeout or 0.0):
            pid = lock.holder()
            lock.close()
            raise exc.StoreLocked(
                f"{self.path} is held by pid {pid}; RocksDB admits one process for writing"
                " (open it there, or with mode=ro or mode=secondary)",
                **self.facts("open", holder_pid=pid),
            )
        self._lock_file = lock
        if not self.location.holds():
            raise exc.BackendError(
                f"{self.path} was moved, removed or replaced meanwhile; try again", retryable=True, **self.facts("open")
            )
        lock.note_holder()

    def _check_threads(self) -> None:
        parent = threads_lost_in()
        if parent is not None:
            raise exc.ForkedProcess(
                f"RocksDB was used in pid {parent}, and its threads did not survive the fork to pid {os.getpid()},"
                f" where flushes would wait for ever; to write {self.path} here, start the process by spawn or"
                " forkserver, or fork before the first store is opened (mode=ro and mode=secondary work)",
                **self.facts("open", opened_pid=parent, pid=os.getpid()),
            )

    def _unlock_directory(self) -> None:
        lock, self._lock_file = self._lock_file, None
        if lock is not None:
            lock.release()
            lock.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if self.location is not None:
            self.location.close()

    def _check_closed(self) -> None:
        """Refuse a store whose files are not what they were when it was closed."""
        noted = closing.read(self.path)
        found = None if noted is None else closing.difference(self.path, noted)
        # While this process looked another one may have opened the store, if this one does not hold the lock.
        if found is not None and closing.read(self.path) == noted:
            raise exc.Corruption(
                f"the store at {self.path} is not as it was when it was last closed: {found} (restore a backup; where"
                f" another program has changed it on purpose, remove {closing.NOTE}; check_files=off opens it as it"
                " is)",
                **self.facts("open"),
            )

    def _open_database(self, declared: Mapping[str, ColumnFamilyOptions]) -> rocksdict.Rdict:
        """Open the database, without the end of its manifest where a power loss has torn that."""
        if self.options.mode != "rw":
            return self._beside_a_writer("open", lambda: self._open_as_it_is(declared), self._close_driver)
        try:
            return self._open_as_it_is(declared)
        except exc.Corruption:
            torn = torn_manifest(self.path) if self.options.wal_recovery in _TOLERANT else None
            if torn is None:
                raise
        with torn.cut():
            database = self._open_as_it_is(declared)
        _log.warning("%s: a power loss had torn the end of %s, which was not synced", self.path, torn.file.name)
        return database

    def _beside_a_writer(self, operation: str, read: Callable[[], T], undo: Callable[[], None]) -> T:
        """Do what reads the manifest and then the logs, again if a writer has flushed meanwhile.

        A flush notes in the manifest what it has written and removes the log. Who has read the manifest before and
        comes to the logs after it misses what was in that one, without an error, or does not find a file.

        Args:
            operation: for the error.
            read: what is done.
            undo: called before it is done again.
        """
        for _ in range(_TRIES):
            manifest, logs = file_moment(self.path)
            try:
                found = read()
            except (exc.Corruption, exc.BackendError):
                if file_moment(self.path) == (manifest, logs):
                    raise
            else:
                if logs <= file_moment(self.path)[1]:
                    return found
                del found  # before another is opened
            undo()
        raise exc.BackendError(
            f"the writer of {self.path} has flushed again and again while it was read; try again",
            retryable=True,
            **self.facts(operation),
        )

    def _close_driver(self) -> None:
        """Let go of a database that was opened for reading, so that it can be opened anew."""
        families, self.known = self.known, {}
        self.gets.clear()
        for family in families.values():
            family.release()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def _open_as_it_is(self, declared: Mapping[str, ColumnFamilyOptions]) -> rocksdict.Rdict:
        options = self.options
        written = read_options_file(self.path)
        try:
            existing = rocksdict.Rdict.list_cf(self.path)
            loaded = rocksdict.Options.load_latest(self.path, cache=self._cache)[1] if written else {}
        except Exception as error:
            raise translate(self, error, "open") from error
        if RESERVED_FAMILY not in existing:
            raise exc.Corruption(
                f"the store at {self.path} lacks the column family {RESERVED_FAMILY}: its manifest is damaged"
                " (restore a backup)",
                **self.facts("open"),
            )
        families: dict[str, rocksdict.Options] = {}
        prefixes: dict[str, int | None] = {}
        for name in {*existing, *(declared if options.mode == "rw" else ()), RESERVED_FAMILY, "default"}:
            wanted = _OWN_OPTIONS if name in (RESERVED_FAMILY, "default") else declared.get(name)
            if wanted is None and name not in loaded:
                wanted = ColumnFamilyOptions()
            if wanted is None:
                # Not declared: as it was when RocksDB last wrote its options.
                noted = written.get(name, {})  # a writer may have written the file anew meanwhile
                self._check_open_files(name, style_of(noted))
                families[name] = kept_options(loaded[name], noted, self._cache, blooms=options.bloom)
                prefixes[name] = prefix_length_of(noted) if options.bloom else None
            else:
                self._check_declared(name, wanted, written, exists=name in existing)
                families[name] = family_options(wanted, self._cache, blooms=options.bloom)
                prefixes[name] = wanted.prefix_length if wanted.bloom == "prefix" and options.bloom else None
        access = rocksdict.AccessType.read_write()
        if options.mode == "ro":
            access = rocksdict.AccessType.read_only(False)
        elif options.mode == "secondary":
            self._scratch = None if options.secondary_path else tempfile.mkdtemp(prefix="kvdialect-secondary-")
            access = rocksdict.AccessType.secondary(options.secondary_path or str(self._scratch))
        try:
            if options.mode == "rw":
                closing.remove(self.path)
            database = self._driver_open(families, access)
            for name in families:
                if name != "default":
                    self._add_family(database, name, prefixes[name])
        except Exception as error:
            raise translate(self, error, "open") from error
        return database

    def _driver_open(self, families: Mapping[str, rocksdict.Options], access: rocksdict.AccessType) -> rocksdict.Rdict:
        try:
            return self._driver_open_as(self.options, families, access)
        except Exception as error:
            # Closed by its writer it would not be torn, and with another wal_recovery it was asked for.
            if self.options.wal_recovery != "tolerate_corrupted_tail" or "orruption" not in str(error):
                raise
            expected = before_torn_end(self.path)
            if expected is None:
                raise
            # Opened for reading first, which changes nothing: is the torn end all that would be lost?
            known = attrs.evolve(self.options, wal_recovery="point_in_time")
            looked = self._driver_open_as(known, families, rocksdict.AccessType.read_only(False))
            found = looked.latest_sequence_number()
            looked.close()
            del looked
            if found != expected:
                raise
            return self._driver_open_as(known, families, access)

    def _driver_open_as(
        self, options: RocksDBOptions, families: Mapping[str, rocksdict.Options], access: rocksdict.AccessType
    ) -> rocksdict.Rdict:
        native = family_options(_OWN_OPTIONS, self._cache, blooms=False, native=database_options(options))
        return rocksdict.Rdict(driver_path(self.path), native, column_families=dict(families), access_type=access)

    def _add_family(self, database: rocksdict.Rdict, name: str, prefix_length: int | None) -> None:
        family = Family(database, name, prefix_length)
        self.known = {**self.known, name: family}
        self.gets[name] = family.rdict.get

    def _check_declared(
        self, name: str, wanted: ColumnFamilyOptions, written: Mapping[str, Mapping[str, str]], *, exists: bool
    ) -> None:
        """Refuse what may not change, before RocksDB sees it: a family opened as FIFO loses data at once."""
        style = style_of(written.get(name, {}))
        if style is None and exists:
            style = "level"  # RocksDB's default; where its options are not known, nothing that loses data is allowed
        if style is not None and style != wanted.compaction:
            raise exc.StoreFormatError(
                f"column family {name} has compaction={style!r}, which is fixed when it is created; it was declared"
                f" with compaction={wanted.compaction!r}",
                **self.facts("open", name=name),
            )
        self._check_open_files(name, wanted.compaction)

    def _check_open_files(self, name: str, style: str | None) -> None:
        if style == "fifo" and self.options.max_open_files != -1:
            raise exc.ArgumentError(
                f"column family {name} has compaction='fifo', which needs max_open_files=-1, not"
                f" {self.options.max_open_files}",
                **self.facts("open", name=name),
            )

    # ------------------------------------------------------------------ reading

    def reader(self) -> Callable[[str, bytes], bytes | None]:
        return self.get

    def get(self, cf: str, key: bytes) -> bytes | None:
        """The value at ``key`` in the live database."""
        try:
            value = self.gets[cf](key)
        except Exception as error:
            raise self.read_error(error, "get", cf, key) from error
        if value.__class__ is bytes:
            return value
        check_key(key, cf)  # a list would have been taken for several keys
        return None

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        keys = list(keys)
        try:
            values: list[bytes | None] = self.gets[cf](keys)
        except Exception as error:
            if cf in self.gets:
                check_keys(keys, cf)
            raise self.read_error(error, "multi_get", cf) from error
        if None in values:
            check_keys(keys, cf)
        return values

    def read_error(self, error: Exception, operation: str, cf: str, key: object = b"?") -> Exception:
        """Which error to raise for what the driver raised on a read."""
        try:
            self.family(cf, operation)
            check_key(key, cf)
        except (TypeError, exc.Error) as found:
            return found
        if isinstance(error, KeyError):
            return self.unknown(cf, operation)  # it was dropped, and made again since
        return translate(self, error, operation, cf=cf, key=key)

    def take_snapshot(self) -> RocksDBSnapshot:
        if self.options.max_snapshot_age is not None:
            self.expire_snapshots()
        return RocksDBSnapshot(self)

    def copy_to(self, directory: str) -> None:
        if self.options.mode != "rw":
            raise exc.NotSupportedError(
                f"rocksdb:{self.path} is open with mode={self.options.mode}: a backup made here would lack what is only"
                " in the log; make it where the store is open for writing, or copy it (kvdialect copy)",
                **self.facts("backup"),
            )
        self.check_place("backup")
        inside = os.path.join(directory, "checkpoint")  # RocksDB makes its directory itself
        with self.commit_lock:
            try:
                rocksdict.Checkpoint(self.database).create_checkpoint(inside)
            except Exception as error:
                raise translate(self, error, "backup") from error
        for entry in os.listdir(inside):
            os.rename(os.path.join(inside, entry), os.path.join(directory, entry))
        os.rmdir(inside)

    @contextlib.contextmanager
    def still(self) -> Iterator[str]:
        self.check_place("verify")
        if self.options.mode != "rw":
            yield self.path
            return
        # Beside the store, where RocksDB can link to its files.
        aside = aside_of(self.path)
        try:
            os.mkdir(aside)
            self.copy_to(aside)
            shutil.copyfile(os.path.join(self.path, MARKER), os.path.join(aside, MARKER))
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    # ------------------------------------------------------------------ families

    def families(self) -> Iterable[str]:
        return list(self.known)

    def family(self, cf: str, operation: str) -> Family:
        """The family ``cf``, or UnknownColumnFamily."""
        family = self.known.get(cf) if isinstance(cf, str) else None
        if family is None:
            self.check_process()  # a method of a handle that was fetched before the fork gets here: get = backend.get
            raise self.unknown(cf, operation)
        return family

    def family_options(self, name: str) -> ColumnFamilyOptions:
        self.check_place("column_family_options")
        return options_written(read_options_file(self.path).get(name, {}))

    def create_family(self, name: str, options: ColumnFamilyOptions) -> None:
        self._check_declared(name, options, {}, exists=False)
        native = family_options(options, self._cache, blooms=self.options.bloom)
        with self._committer.exclusive("create_column_family"):
            if name in self.known:
                raise exc.ColumnFamilyExists(
                    f"column family {name} exists already", **self.facts("create_column_family", name=name)
                )
            try:
                self.database.create_column_family(name, native)
                prefixed = options.bloom == "prefix" and self.options.bloom
                self.states.created(name)
                self._add_family(self.database, name, options.prefix_length if prefixed else None)
            except Exception as error:
                self._committer.lost(error)
                raise translate(self, error, "create_column_family") from error
        self._committer.settle()

    def drop_family(self, name: str) -> None:
        with self._committer.exclusive("drop_column_family"):
            self.family(name, "drop_column_family")
            self.states.advance([name])
            try:
                self.database.drop_column_family(name)
            except Exception as error:
                self._committer.lost(error)
                raise translate(self, error, "drop_column_family") from error
            # Unknown first: who does not find its reader then looks whether there is such a family.
            self._dropped.add(self.known[name])
            self.known = {other: family for other, family in self.known.items() if other != name}
            self.gets.pop(name, None)
        self._committer.settle()

    def check_redeclared(self, name: str, options: ColumnFamilyOptions) -> None:
        self.check_place("open")
        self._check_declared(name, options, read_options_file(self.path), exists=True)

    # ------------------------------------------------------------------ the rest

    def commit(self, batch: WriteBatch) -> None:
        for cf in batch.families():
            self.family(cf, "batch_write")
        self._committer.commit(batch)

    def commit_outcome(self, token: bytes) -> exc.Outcome:
        return self._committer.outcome(token)

    def _flush_together(self) -> None:
        """Flush the memtables of all families in one step: without a log a crash between two would tear commits.

        The driver flushes one family at a time. But before RocksDB compacts a family it flushes, and with
        atomic_flush that is all of them.
        """
        self.known[RESERVED_FAMILY].rdict.compact_range(None, None)

    def flush(self) -> None:
        self.check_place("flush")
        try:
            if self.options.durability == "none":
                self._flush_together()
            else:
                for family in list(self.known.values()):
                    try:
                        family.rdict.flush(True)
                    except Exception as error:
                        if "Column family dropped" not in str(error):  # by another thread: nothing is left to flush
                            raise
                self.database.flush_wal(True)
        except Exception as error:
            raise translate(self, error, "flush") from error

    def compact(self, cf: str) -> None:
        family = self.family(cf, "compact")
        self.check_place("compact")
        try:
            failed = self.background_errors()
            family.rdict.compact_range(None, None)
            failed = self.background_errors() - failed
        except Exception as error:
            raise translate(self, error, "compact") from error
        if failed > 0:  # the driver's call says nothing of it
            raise exc.BackendError(
                f"RocksDB could not compact {cf}: a file of it is damaged, or the disk is full (its log, LOG in"
                f" {self.path}, says which; verify the store)",
                **self.facts("compact", cf=cf),
            )

    def catch_up(self) -> None:
        if self.options.mode != "secondary":
            return
        with self._committer.exclusive("catch_up"):
            self.states.advance(self.known)
            self._beside_a_writer("catch_up", self._follow, lambda: None)

    def _follow(self) -> None:
        try:
            self.database.try_catch_up_with_primary()
        except Exception as error:
            if "column family" not in str(error):
                raise translate(self, error, "catch_up") from error
            raise exc.ReopenRequired(
                f"the writer of {self.path} has made or dropped column families, which a secondary cannot follow;"
                f" close it and open it again ({error})",
                **self.facts("catch_up", engine_message=str(error)),
            ) from error

    def background_errors(self) -> int:
        """How many flushes and compactions have failed since the store was opened."""
        return self.database.property_int_value("rocksdb.background-errors") or 0

    def stats(self) -> dict[str, Any]:
        families = [family.rdict for family in list(self.known.values())]

        def total(name: str) -> int:
            return sum(rdict.property_int_value(name) or 0 for rdict in families)

        return {
            "block_cache_bytes": self._cache.get_usage(),
            "memtable_bytes": total("rocksdb.cur-size-all-mem-tables"),
            "used_bytes": total("rocksdb.total-sst-files-size"),
            "index_and_filter_bytes": total("rocksdb.estimate-table-readers-mem"),
            "pending_compaction_bytes": total("rocksdb.estimate-pending-compaction-bytes"),
            "running_compactions": self.database.property_int_value("rocksdb.num-running-compactions") or 0,
            "running_flushes": self.database.property_int_value("rocksdb.num-running-flushes") or 0,
            "writes_stopped": self.database.property_int_value("rocksdb.is-write-stopped") or 0,
            "delayed_write_rate": self.database.property_int_value("rocksdb.actual-delayed-write-rate") or 0,
            "background_errors": self.background_errors(),
        }

    def family_stats(self) -> dict[str, FamilyStats]:
        found = {}
        for name, family in list(self.known.items()):
            figure = family.rdict.property_int_value
            sizes = [figure(f"rocksdb.{each}") or 0 for each in ("total-sst-files-size", "cur-size-all-mem-tables")]
            found[name] = FamilyStats(figure("rocksdb.estimate-num-keys") or 0, sum(sizes))
        return found

    @property
    def logged(self) -> bool:
        """Whether all that was written is in the log."""
        return self.options.durability != "none"

    def close(self) -> None:
        location, writable = self.location, self.options.mode == "rw"
        assert location is not None, "it is there from opening on"
        with self._committer.quiet():
            failure: Exception | None = None
            there = location.holds()
            # Where nothing is at the path the driver's writes find no directory, and it gives the files back.
            abandoned = writable and not there and not location.vacant()
            if abandoned:
                self._abandon()
            elif writable and not self.logged:
                try:
                    self._flush_together()
                except Exception as error:  # noqa: BLE001 - the driver raises nothing narrower; raised below
                    failure = error
            # RocksDB closes, and gives its lock back, only when nothing of the driver refers to it any more.
            self.closed = True
            self.states.clear()
            self.gets.clear()
            families, self.known = self.known, {}
            for family in (*families.values(), *self._dropped):
                family.release()
            if not abandoned:
                # What is acknowledged is in the log, so that memtables which cannot be flushed now (a full disk, a
                # damaged file) are no failure; the database then goes with the last reference to it.
                with contextlib.suppress(Exception):
                    self.database.close()
            del self.database
            if writable and there and failure is None and self._committer.failed is None:
                note_closed(self.path, synced=self.options.durability == "sync")
            self._unlock_directory()
        if writable and not there:
            self.tell_elsewhere(location, lost=not self.logged)
        elif failure is not None and self._committer.failed is None:
            raise translate(self, failure, "close") from failure

    def _abandon(self) -> None:
        """Let go of the database without closing it."""
        rdicts = [family.rdict for family in (*self.known.values(), *self._dropped)]
        abandon(self.path, self.database, rdicts, logged=self.logged)
        self._cache.set_capacity(0)

    def native_objects(self) -> Iterable[object]:
        if self._lock_file is not None:
            self._lock_file.close()
        yield self.database
        for family in self.known.values():
            yield family.rdict
            yield family.handle
        yield from self.gets.values()
        yield from self.states.natives()
        # A bound method that was fetched before the fork finds nothing from here on.
        self.gets.clear()
        self.known = {}


_OWN_OPTIONS: Final = ColumnFamilyOptions(write_buffer_size="4MiB")


def _build(path: str) -> None:
    """Make an empty store in a directory: just the library's own family, as each further one takes its time."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    own = {RESERVED_FAMILY: rocksdict.Options(raw_mode=True)}
    try:
        rocksdict.Rdict(path, options, column_families=own).close()
    except Exception as error:
        pass_foreign(error)
        raise not_created("rocksdb", path, error, full=disk_full(error)) from error


class RocksDBBackend(shared.Handle):
    """``rocksdb:///path``."""

    engine: RocksDBEngine

    @classmethod
    def open(
        cls, path: str | None, options: Mapping[str, Any], column_families: Mapping[str, ColumnFamilyOptions]
    ) -> StorageBackend:
        parsed = parse_store_options(RocksDBOptions, "rocksdb", options)
        if path is None:
            raise exc.ArgumentError("rocksdb:// needs a path, such as rocksdb:///data/kv")
        if parsed.mode == "secondary" and parsed.max_open_files != -1:
            raise exc.ArgumentError(f"mode=secondary needs max_open_files=-1, not {parsed.max_open_files}")
        real = os.path.realpath(path)
        # A reader and a secondary are databases of their own beside a primary, also within one process.
        key = ("rocksdb", real, parsed.mode)
        engine = shared.acquire(key, parsed, lambda: RocksDBEngine(real, parsed, column_families))
        return cls.on(engine, column_families)
