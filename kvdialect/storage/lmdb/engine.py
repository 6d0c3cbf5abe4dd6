"""The LMDB engine: opening, column families, the map.

Layout: one environment per store. A column family is a named database, or several share one and each puts its tag, one
byte, before its keys. The library's own database, ``kvdialect``, holds under ``f<name>`` where each family lives, under
``e`` a value that changes with them, and under ``t<writer>`` the number of the last commit of each writer. Where
checksums are on, four bytes follow every value: XXH32 of key and value, seeded by the family's name, as LMDB itself has
no checksums and hands out damaged pages as they are.

Writers of several processes take turns by a lock on a file of this library first, as a wait for LMDB's own lock has no
time-out and does not hear Ctrl-C.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs
import lmdb
import msgspec

from kvdialect import exc
from kvdialect.storage import closing, shared
from kvdialect.storage.batch import WriteBatch, check_key
from kvdialect.storage.contract import Capabilities, FamilyStats, Pair, ReaderStats, StorageBackend
from kvdialect.storage.engine import Engine, ErrorMaker, dead
from kvdialect.storage.filelock import FileLock
from kvdialect.storage.interrupts import POLL, HeldInterrupts
from kvdialect.storage.lmdb import checksums, doubts
from kvdialect.storage.lmdb.child import separate_identities
from kvdialect.storage.lmdb.commit import Committer, roll_back
from kvdialect.storage.lmdb.errors import damaged, disk_full, hidden, translate
from kvdialect.storage.lmdb.families import EPOCH, OWN_PLACE, PLACE, Families, Family, Place, opened, places
from kvdialect.storage.lmdb.file import check_file
from kvdialect.storage.lmdb.layout import DATA_FILE
from kvdialect.storage.lmdb.options import DEFAULT_MAP_SIZE, LmdbOptions
from kvdialect.storage.lmdb.reading import CheckedLmdbSnapshot, LmdbSnapshot
from kvdialect.storage.lmdb.structure import faults
from kvdialect.storage.location import Location
from kvdialect.storage.options import (
    RESERVED_FAMILY,
    ColumnFamilyOptions,
    StoreOptions,
    parse_size,
    parse_store_options,
)
from kvdialect.storage.storedir import FORMAT, LOCK_FILE, Marker, check_checksum, not_created, open_directory

_log = logging.getLogger(__name__)

_OPENINGS: Final = 20
"""How often an environment is opened again, where another process was growing its map meanwhile."""
_LOOKS: Final = 20
"""How often its structure is looked at again, where other processes have committed meanwhile."""


class LmdbEngine(Engine):
    """An open LMDB environment.

    Attributes:
        env: the driver's environment.
        own: the library's own database.
        known: the families, by name.
        epoch: what ``known`` was read at; another value in the store means that it is out of date.
        checked: whether values carry checksums.
        writer: held by the thread that writes.
        doubts: where records may be hidden, by database; see :mod:`kvdialect.storage.lmdb.doubts`.
        left_out: families for which this process has no handle left, see ``max_dbs``.
        live: the open snapshots; remapping would end them, so a resize waits until there are none.
        resizing: held while the map is being resized.
    """

    name = "lmdb"

    def __init__(self, path: str, options: LmdbOptions) -> None:
        super().__init__(path, options)
        self.path: str = path
        self.options: LmdbOptions = options
        writable = options.mode == "rw"
        marker = self.marker = open_directory(
            path,
            Marker(format=FORMAT, engine="lmdb", checksum=options.checksum is not False),
            checksum=options.checksum,
            writable=writable,
            build=_build,
        )
        self.location = Location(path)
        self.checked = marker.checksum
        self.capabilities = Capabilities(
            checksums="library" if marker.checksum else "none",
            multi_process_writers=True,
            multi_process_readers=True,
            writable=writable,
            durabilities=frozenset({"sync", "wal", "none"}),
        )
        self.counters["map_growths"] = 0
        self._map_size = options.map_size or min(DEFAULT_MAP_SIZE, options.max_map_size or DEFAULT_MAP_SIZE)
        check_file(path)
        self._process_lock = self._open_lock() if writable else None
        try:
            self.env = self._open_environment()
        except BaseException:
            if self._process_lock is not None:
                self._process_lock.close()
            raise
        self._begin = self.env.begin
        self.writer = threading.Lock()
        self.resizing = threading.Lock()
        self.live: set[weakref.ref[LmdbSnapshot]] = set()
        self.epoch: bytes | None = None
        self.settled: int | None = None
        """The number of a state of which it is known that it has this epoch: most snapshots are of one of these."""
        self.left_out: set[str] = set()
        self.doubts: dict[str, list[doubts.Doubt]] = {}
        self.closed = False
        self.known = Families(self, self.refresh_families)
        self._committer = Committer(self)
        try:
            self.env.reader_check()
            with self._exclusive("open") if writable else contextlib.nullcontext():
                if options.check_files:
                    self._check_structure()
                self.own = self._open_own()
                self.refresh_families(locked=True)
        except BaseException as error:
            self.env.close()
            if self._process_lock is not None:
                self._process_lock.close()
            if isinstance(error, lmdb.Error):
                raise translate(self, error, "open") from error
            raise

    # ------------------------------------------------------------------ opening

    def _open_lock(self) -> FileLock:
        try:
            return FileLock(os.path.join(self.path, LOCK_FILE))
        except OSError as error:
            raise exc.BackendError(
                f"cannot write to {self.path}: {error.strerror}", **self.facts("open", engine_message=str(error))
            ) from error

    def _open_environment(self) -> lmdb.Environment:
        left = _OPENINGS
        while True:
            try:
                return self._driver_open()
            except lmdb.Error as error:
                left -= 1
                # The driver begins a transaction as it opens: another process may have grown the map just before that.
                # LMDB looks for the size each time that it opens.
                if not left or not isinstance(error, lmdb.MapResizedError):
                    raise self._not_opened(error) from error

    def _driver_open(self) -> lmdb.Environment:
        options = self.options
        return lmdb.open(
            self.path,
            map_size=self._map_size,
            max_dbs=options.max_dbs + 1,
            max_readers=options.max_readers,
            readonly=options.mode == "ro",
            create=False,
            readahead=False,
            lock=not options.unsafe_no_lock,
            writemap=options.unsafe_writemap,
            sync=options.durability != "none",
            metasync=options.durability == "sync",
            max_spare_txns=8,
        )

    def _not_opened(self, error: lmdb.Error) -> exc.Error:
        """The error for an environment that the driver does not open."""
        if "already open in this process" in str(error) and self.path in shared.inherited_paths:
            return exc.ForkedProcess(
                f"{self.path} was open when this process was forked, and this version of py-lmdb does not open it"
                " again in the child; use a process that was started afresh (multiprocessing's 'spawn')",
                **self.facts("open", pid=os.getpid(), engine_message=str(error)),
            )
        return translate(self, error, "open")

    def _check_structure(self) -> None:
        """Refuse a store that has gone back behind what it was when it was closed, or whose pages do not fit.

        Before any database is opened, as that looks for keys: where these cannot be found the store would seem empty.
        """
        for _ in range(_LOOKS):
            with self.begin_read() as txn:
                noted = closing.read(self.path)
                if noted is not None and txn.id() < (noted.transaction or 0):
                    raise exc.Corruption(
                        f"the store at {self.path} ends with transaction {txn.id()}, and had {noted.transaction} when"
                        f" it was closed: a meta page of it is damaged, or {DATA_FILE} was replaced by an older one"
                        f" (restore a backup; if the older one is wanted, remove {closing.NOTE}; check_files=off opens"
                        " it as it is)",
                        **self.facts("open"),
                    )
                leaves: dict[str, list[list[Pair]]] | None = {} if self.checked else None
                found = faults(self.path, txn.id(), quick=True, leaves=leaves)
                if found is None:
                    continue  # others commit meanwhile
                for fault in found:
                    raise exc.Corruption(
                        f"{os.path.join(self.path, DATA_FILE)} is damaged: {fault.message} (restore a backup;"
                        " check_files=off opens it as it is)",
                        **self.facts("open"),
                    )
                self.doubts = doubts.find(leaves or {})
            return

    def _open_own(self) -> Any:
        try:
            return self._open_databases([RESERVED_FAMILY])[0][RESERVED_FAMILY]
        except KeyError:
            raise exc.Corruption(
                f"the store at {self.path} lacks the database {RESERVED_FAMILY} (restore a backup)",
                **self.facts("open"),
            ) from None

    def refresh_families(self, *, locked: bool = False) -> None:
        """Bring ``known`` up to date with the store.

        Args:
            locked: whether the writer's locks are held; they are taken otherwise if anything has changed.
        """
        with self.begin_read() as txn:
            if self.known and txn.get(EPOCH, None, self.own) == self.epoch:
                return
        if locked:
            self._read_families()
        elif self.options.mode == "ro":
            with self.writer:
                self._read_families()
        else:
            with self._exclusive("open"):
                self._read_families()

    def _read_families(self) -> None:
        with self.begin_read() as txn:
            epoch: Any = txn.get(EPOCH, None, self.own)
            if self.known and epoch == self.epoch:
                return  # another thread was first
            wanted = places(txn, self.own)
        handles = {family.place.database: family.db for family in self.known.values() if family.name in wanted}
        found, too_many = self._open_databases({place.database for place in wanted.values()} - handles.keys())
        handles |= found
        self.left_out = {name for name, place in wanted.items() if place.database in too_many}
        if self.left_out:
            _log.warning("%s", self.unknown(next(iter(self.left_out)), "open"))
        self.known.setdefault(RESERVED_FAMILY, opened(RESERVED_FAMILY, self.own, OWN_PLACE))
        for name in set(self.known) - set(wanted) - {RESERVED_FAMILY}:
            del self.known[name]
        for name, place in wanted.items():
            if place.database in handles and (name not in self.known or self.known[name].place != place):
                self.known[name] = opened(name, handles[place.database], place)
        self.epoch = epoch

    def _open_databases(self, names: Iterable[str]) -> tuple[dict[str, Any], set[str]]:
        """Open databases by name, leaving out those that are not there; the writer's locks are held.

        Returns:
            their handles, and the names of those for which there was no handle left.

        Outside a transaction the driver begins one of its own, for which it waits with Python's lock held: while
        another thread is writing the whole process would hang.
        """
        handles: dict[str, Any] = {}
        too_many: set[str] = set()
        with contextlib.nullcontext(None) if self.options.mode == "ro" else self.begin_write() as txn:
            for name in names:
                try:
                    handles[name] = self.env.open_db(name.encode(), txn=txn, create=False)
                except lmdb.NotFoundError:
                    pass
                except lmdb.DbsFullError:
                    too_many.add(name)
        return handles, too_many

    def unknown(self, cf: object, operation: str) -> exc.Error:
        if not isinstance(cf, str) or cf not in self.left_out:
            return super().unknown(cf, operation)
        return exc.BackendError(
            f"column family {cf} of {self.path} was made by a process with a larger max_dbs than this one's,"
            f" {self.options.max_dbs}; open the store with max_dbs={len(self.known) + len(self.left_out)} or more",
            **self.facts(operation, cf=cf),
        )

    # ------------------------------------------------------------------ reading

    def begin_read(self, *, adopt: bool = True) -> lmdb.Transaction:
        """Begin a read transaction, coping with a full reader table and with a map that another process grew.

        Args:
            adopt: False leaves MapResizedError to the caller.
        """
        try:
            return self._begin()
        except lmdb.ReadersFullError as error:
            # Slots of processes that have died, and of snapshots that nobody can reach any more, but for a cycle.
            self.env.reader_check()
            gc.collect()
            try:
                return self._begin()
            except lmdb.Error:
                raise translate(self, error, "snapshot") from error
        except lmdb.MapResizedError:
            if not adopt:
                raise
            self.adopt_map_size()
            return self._begin()
        except lmdb.Error as error:
            with self.resizing:  # if another thread is resizing the map, that was why
                try:
                    return self._begin()
                except lmdb.Error:
                    raise translate(self, error, "snapshot") from error

    def reader(self) -> Callable[[str, bytes], bytes | None]:
        return self._get_checked if self.checked else self._get_plain

    # A transaction of its own per read: beginning one takes no lock and makes no system call.

    def _get_plain(self, cf: str, key: bytes) -> bytes | None:
        if key.__class__ is not bytes:
            check_key(key, cf)
        try:
            family = self.known[cf]
            txn = self._begin()
            value = txn.get(family.tag + key, None, family.db)
            txn.abort()
        except (lmdb.Error, TypeError) as error:
            return self._get_again(cf, key, error)
        if value is None:
            check_key(key, cf)
        return value

    def _get_checked(self, cf: str, key: bytes) -> bytes | None:
        if key.__class__ is not bytes:
            check_key(key, cf)
        try:
            family = self.known[cf]
            txn = self._begin()
            raw = txn.get(family.tag + key, None, family.db)
            txn.abort()
        except (lmdb.Error, TypeError) as error:
            return self._get_again(cf, key, error)
        if raw is None:
            check_key(key, cf)
            if self.doubts:
                with self.begin_read() as again:
                    self.refuse_doubtful(again, family, key)
            return None
        try:
            return checksums.value(key, raw, family.seed)
        except ValueError:
            raise damaged(self, cf, key) from None

    def refuse_doubtful(self, txn: lmdb.Transaction, family: Family, key: bytes) -> None:
        """Raise Corruption if a key that is not found may be that of a damaged pair."""
        low = family.tag + key
        if self.doubtful(txn, family, low, low + b"\0"):
            raise hidden(self, family.name, key)

    def doubtful(self, txn: lmdb.Transaction, family: Family, low: bytes, high: bytes | None) -> bool:
        """Whether a range of a family may lack a record; the bounds have the family's tag in front."""
        found = self.doubts.get(family.place.database, ())
        return any(doubt.covers(low, high) and doubt.holds(txn, family.db) for doubt in found)

    def _get_again(self, cf: str, key: bytes, error: Exception) -> bytes | None:
        """The slow path of ``get``: say what is wrong, or try again where only the map was being resized."""
        if isinstance(error, TypeError):
            raise exc.UnknownColumnFamily(str(cf), **self.facts("get")) from error
        check_key(key, cf)
        with self.take_snapshot() as snapshot:
            return snapshot.get(cf, key)

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        with self.take_snapshot() as snapshot:
            return snapshot.multi_get(cf, keys)

    def take_snapshot(self) -> LmdbSnapshot:
        if self.options.max_snapshot_age is not None:
            self.expire_snapshots()
        return CheckedLmdbSnapshot(self) if self.checked else LmdbSnapshot(self)

    def copy_to(self, directory: str) -> None:
        # While there is a snapshot the map is not resized, which would end the driver's own read transaction; while it
        # is in use the environment is not closed.
        with self.take_snapshot() as snapshot, snapshot.used():
            try:
                self.env.copy(directory, compact=True)
            except lmdb.Error as error:
                raise translate(self, error, "backup") from error

    def faults(self) -> Iterator[tuple[str, str]]:
        self.check_place("verify")
        while True:
            with self.take_snapshot() as snapshot:
                assert snapshot.moment is not None, "each LMDB snapshot has a number"
                found = faults(self.path, snapshot.moment)
                if found is None:
                    continue  # others commit meanwhile
                for fault in found:
                    if snapshot.closed:
                        raise self.shut("verify")
                    there = [f.name for f in self.known.values() if f.place.database == fault.database]
                    yield there[0] if len(there) == 1 else "", f"{fault.message} (restore a backup)"
            return

    @contextlib.contextmanager
    def still(self) -> Iterator[str]:
        self.check_place("verify")
        yield self.path  # a read transaction of the other process is of one moment

    def families(self) -> Iterable[str]:
        self.refresh_families()
        return list(self.known)

    # ------------------------------------------------------------------ families

    def family_options(self, name: str) -> ColumnFamilyOptions:
        place = self.known[name].place
        return ColumnFamilyOptions(lmdb_database=None if place.database == name else place.database, lmdb_tag=place.tag)

    def create_family(self, name: str, options: ColumnFamilyOptions) -> None:
        database = options.lmdb_database or name
        if database == RESERVED_FAMILY:
            raise exc.ArgumentError(f"lmdb_database={database!r} is the library's own; choose another")
        if not 0 < len(database.encode()) <= 500:
            raise exc.ArgumentError(f"lmdb_database={database!r} must be 1 to 500 bytes in UTF-8")
        place = Place(database, options.lmdb_tag, zlib.crc32(name.encode()))

        def create(txn: lmdb.Transaction) -> Any:
            db = self.env.open_db(database.encode(), txn=txn)
            txn.put(PLACE + name.encode(), msgspec.msgpack.encode(place), db=self.own)
            txn.put(EPOCH, secrets.token_bytes(8), db=self.own)
            return db

        with self._exclusive("create_column_family"):
            self.refresh_families(locked=True)
            if name in self.known:
                raise exc.ColumnFamilyExists(
                    f"column family {name} exists already", **self.facts("create_column_family", name=name)
                )
            for family in self.known.values():
                other = family.place
                if other.database == database and (None in (place.tag, other.tag) or other.tag == place.tag):
                    raise exc.ArgumentError(
                        f"column family {name} (lmdb_database={database!r}, lmdb_tag={place.tag}) collides with"
                        f" {family.name} (lmdb_tag={other.tag}): families that share a database need a tag each"
                    )
            db = self._write_alone(create, "create_column_family")
            self.known[name] = opened(name, db, place)

    def check_options(self, options: StoreOptions) -> None:
        check_checksum(self.path, options.checksum, self.checked)

    def check_redeclared(self, name: str, options: ColumnFamilyOptions) -> None:
        place = self.known[name].place
        if place.database != (options.lmdb_database or name) or place.tag != options.lmdb_tag:
            raise exc.StoreFormatError(
                f"column family {name} lives in database {place.database!r} with tag {place.tag}; it was declared with"
                f" lmdb_database={options.lmdb_database!r}, lmdb_tag={options.lmdb_tag}, which may not change",
                **self.facts("open", name=name),
            )

    def drop_family(self, name: str) -> None:
        with self._exclusive("drop_column_family"):
            family = self.known[name]
            shares = any(
                other.place.database == family.place.database and other.name != name for other in self.known.values()
            )

            def drop(txn: lmdb.Transaction) -> None:
                if shares:
                    cursor = txn.cursor(family.db)
                    found = cursor.set_range(family.tag)
                    while found and cursor.key()[:1] == family.tag:
                        found = cursor.delete()
                    cursor.close()
                else:
                    # Emptied only. Its handle would be closed, which a snapshot may be using; and to another process
                    # that has it open LMDB would give the old handle, of nothing, when it makes the family again.
                    txn.drop(family.db, delete=False)
                txn.delete(PLACE + name.encode(), db=self.own)
                txn.put(EPOCH, secrets.token_bytes(8), db=self.own)

            self._write_alone(drop, "drop_column_family")
            self.known.pop(name, None)

    def _write_alone(self, work: Callable[[lmdb.Transaction], Any], operation: str) -> Any:
        """Run ``work`` in a write transaction; the writer's locks are held. Grows the map if need be."""
        while True:
            try:
                txn = self.begin_write()
                try:
                    result = work(txn)
                    txn.commit()
                except BaseException as error:
                    held = [txn]
                    del txn
                    roll_back(held, error)
                    raise
                else:
                    return result
            except lmdb.MapFullError as error:
                if not self.grow():
                    raise self.map_full(operation, error) from error
            except lmdb.Error as error:
                raise translate(self, error, operation) from error

    # ------------------------------------------------------------------ writing

    def commit(self, batch: WriteBatch) -> None:
        for cf in batch.families():
            self.known[cf]
        self._committer.commit(batch)

    def commit_outcome(self, token: bytes) -> exc.Outcome:
        return self._committer.outcome(token)

    def begin_write(self) -> lmdb.Transaction:
        """Begin a write transaction; the writer's locks are held."""
        try:
            return self.env.begin(write=True)
        except lmdb.MapResizedError:
            self.adopt_map_size()
        except lmdb.Error as error:
            if not self.resizing.locked():
                raise translate(self, error, "batch_write") from error
            with self.resizing:  # wait for the thread that is adopting another process's map size
                pass
        try:
            return self.env.begin(write=True)
        except lmdb.Error as error:
            raise translate(self, error, "batch_write") from error

    @contextlib.contextmanager
    def _exclusive(self, operation: str) -> Iterator[None]:
        """Hold the writer's locks: this process's, then the one between processes."""
        with HeldInterrupts() as interrupts:
            try:
                with self.writing(operation, interrupts):
                    yield
            finally:
                interrupts.deliver()

    def writing(self, operation: str, interrupts: HeldInterrupts) -> _Writing:
        """Hold the writer's locks for a ``with`` block within one that holds Ctrl-C back."""
        return _Writing(self, operation, interrupts)

    def lock_writer(self, operation: str, interrupts: HeldInterrupts) -> None:
        """Take the writer's locks; see :meth:`writing`."""
        timeout = self.options.write_timeout
        if not self.writer.acquire(blocking=False):
            deadline = time.monotonic() + timeout
            while not self.writer.acquire(timeout=max(min(deadline - time.monotonic(), POLL), 0)):
                interrupts.deliver()
                if time.monotonic() >= deadline:
                    raise self.lock_timeout("another thread of this process")
        try:
            lock = self._process_lock
            assert lock is not None, "only writable stores write"
            if self.closed:
                raise exc.StoreClosed(f"lmdb:{self.path} is closed; open it again", **self.facts(operation))
            if self._committer.failed is not None:
                raise exc.ReopenRequired(self._committer.failed, **self.facts(operation))
            if not lock.acquire(timeout, waiting=interrupts.deliver):
                raise self.lock_timeout("another process")
        except BaseException:
            self.writer.release()
            raise

    def unlock_writer(self) -> None:
        """Give the writer's locks back."""
        try:
            if self._process_lock is not None:
                self._process_lock.release()
        finally:
            self.writer.release()

    def lock_timeout(self, who: str) -> exc.LockTimeout:
        """The error of a writer that waited too long for ``who``."""
        return exc.LockTimeout(
            f"{self.path} is held by {who} for longer than lock_timeout, {self.options.write_timeout:g} s;"
            " nothing was applied, try again",
            **self.facts("batch_write"),
        )

    # ------------------------------------------------------------------ the map

    def grow(self) -> bool:
        """Double the map if ``max_map_size`` allows; False if it does not, or snapshots did not end in time."""
        limit = self.options.max_map_size
        if limit is None or self._map_size >= limit:
            return False
        if not self._resize(min(limit, max(self._map_size * 2, self._map_size + (1 << 20)))):
            return False
        self.counters["map_growths"] += 1
        return True

    def adopt_map_size(self) -> None:
        """Another process grew the map: take its size over once this process's snapshots have ended."""
        if not self._resize(0):
            raise self.lock_timeout("snapshots of this process, which must end before a grown map can be adopted,")

    def _resize(self, size: int) -> bool:
        deadline = time.monotonic() + self.options.write_timeout
        with self.resizing:
            # No snapshot begins from here on, see LmdbSnapshot.
            while self.live:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.002)
            while True:
                try:
                    self.env.set_mapsize(size)
                    break
                except lmdb.Error:
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(0.001)  # another thread's transaction is just ending
            self._map_size = int(self.env.info()["map_size"])
            return True

    def map_full(self, operation: str, error: Exception) -> exc.MapFull:
        """The error of a map that is full and could not grow."""
        if self.options.max_map_size is None:
            advice = "or give max_map_size to let it grow"
        elif self._map_size < self.options.max_map_size:
            advice = "or close the snapshots that were open for longer than lock_timeout and kept it from growing"
        else:
            advice = "as it has reached max_map_size"
        return exc.MapFull(
            f"LMDB map full: increase map_size and reopen, {advice} (the map is {self._map_size} bytes)",
            **self.facts(operation, map_size=self._map_size, engine_message=str(error)),
        )

    # ------------------------------------------------------------------ the rest

    def flush(self) -> None:
        try:
            self.env.sync(True)
        except lmdb.Error as error:
            raise translate(self, error, "flush") from error

    def compact(self, cf: str) -> None:
        """LMDB reuses pages by itself; there is nothing to do."""

    def stats(self) -> dict[str, Any]:
        info = self.env.info()
        return {
            "map_size": info["map_size"],
            "used_bytes": (info["last_pgno"] + 1) * self.env.stat()["psize"],
            "readers": info["num_readers"],
            "max_readers": info["max_readers"],
        }

    def family_stats(self) -> dict[str, FamilyStats]:
        page = self.env.stat()["psize"]
        # One that shares its database with others is not counted by itself.
        families = [self.known[name] for name in self.families() if self.known[name].place.tag is None]
        found = {}
        with self.begin_read() as txn:
            for family in families:
                stat = txn.stat(family.db)
                pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                found[family.name] = FamilyStats(stat["entries"], pages * page)
        return found

    def readers(self) -> list[ReaderStats]:
        found = []
        for line in self.env.readers().splitlines():
            words = line.split()  # process, thread, transaction; a head, or a sentence if there are none
            if len(words) == 3 and words[0].isdigit() and int(words[0]) != self.pid:
                found.append(ReaderStats(int(words[0]), int(words[2]) if words[2].isdigit() else None))
        return found

    def close(self) -> None:
        with self.writer, self.resizing:
            ended = self._end_snapshots()
            self.closed = True
            location = self.location
            assert location is not None, "it is there from opening on"
            there = location.holds()
            if there:
                self._note_closed()
            if ended:
                self.env.close()
            else:
                _log.warning("%s stays open until the thread ends its read that is in it", self.path)
            self.known.clear()
            if self._process_lock is not None:
                self._process_lock.close()
            location.close()
        if not there and self.options.mode == "rw":
            self.tell_elsewhere(location, lost=False)

    def _end_snapshots(self) -> bool:
        """End the snapshots that are left, as of reads in other threads; no new one begins, see LmdbSnapshot.

        Those that are being collected have no reference any more: no thread is in them, so that their transactions may
        end with the environment. They are not waited for, as it may be this very call that they wait for.

        Returns:
            False if a thread has stayed in one of them for ``lock_timeout``: to close its environment would crash it.
        """
        deadline = time.monotonic() + self.options.write_timeout
        while True:
            used = False
            for ref in list(self.live):
                snapshot = ref()
                if snapshot is not None and not snapshot.kill_unused(lambda: self.shut("snapshot")):
                    used = True
            snapshot = None
            if not used:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)

    def _note_closed(self) -> None:
        """Note the last transaction that is on the disk: the store never goes back behind it."""
        if self.options.mode != "rw" or self.options.durability != "sync" or self._committer.failed is not None:
            return
        # What cannot be noted, on a full disk for instance, is not compared: the store itself is closed.
        with contextlib.suppress(OSError, lmdb.Error):
            last = self.env.info()["last_txnid"]
            noted = closing.read(self.path)
            if noted is None or (noted.transaction or 0) < last:
                closing.write(self.path, closing.Closed(transaction=last))

    def refuse(self, error: ErrorMaker) -> None:
        self._begin = dead(error)

    def native_objects(self) -> Iterable[object]:
        if self._process_lock is not None:
            self._process_lock.close()
        yield self.env
        yield from self.known.values()


class _Writing:
    """Holds the writer's locks. A class, as a generator would cost three times as much on every commit."""

    __slots__ = ("_engine", "_interrupts", "_operation")

    def __init__(self, engine: LmdbEngine, operation: str, interrupts: HeldInterrupts) -> None:
        self._engine, self._operation, self._interrupts = engine, operation, interrupts

    def __enter__(self) -> None:
        self._engine.lock_writer(self._operation, self._interrupts)

    def __exit__(self, *_: object) -> None:
        self._engine.unlock_writer()


def _build(path: str) -> None:
    """Make an empty store in a directory."""
    try:
        # No lock file yet: its size, and with it the number of readers, is that of whoever opens the store first.
        env = lmdb.open(path, map_size=1 << 20, max_dbs=1, create=True, lock=False)
        env.open_db(RESERVED_FAMILY.encode())
        env.sync(True)
        env.close()
    except lmdb.Error as error:
        raise not_created("lmdb", path, error, full=disk_full(error, path)) from error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=separate_identities)


class LmdbBackend(shared.Handle):
    """``lmdb:///path``."""

    engine: LmdbEngine

    @classmethod
    def open(
        cls, path: str | None, options: Mapping[str, Any], column_families: Mapping[str, ColumnFamilyOptions]
    ) -> StorageBackend:
        parsed = parse_store_options(LmdbOptions, "lmdb", options)
        if path is None:
            raise exc.ArgumentError("lmdb:// needs a path, such as lmdb:///data/kv")
        if parsed.max_map_size is not None and parsed.max_map_size < (parsed.map_size or 0):
            raise exc.ArgumentError(
                f"max_map_size={parsed.max_map_size} is below map_size={parsed.map_size}; it is the size to grow to"
            )
        if parsed.map_size is not None and parsed.map_size < parse_size("64KiB"):
            raise exc.ArgumentError(f"map_size={parsed.map_size} is too small; LMDB needs 64KiB for an empty store")
        real = os.path.realpath(path)
        engine = shared.acquire(("lmdb", real), parsed, lambda: LmdbEngine(real, parsed))
        if engine.options.mode == "ro" and parsed.mode == "rw":
            shared.release(engine)
            raise exc.ArgumentError(f"{real} is open in this process with mode=ro; close it to open it with mode=rw")
        capabilities = attrs.evolve(engine.capabilities, writable=parsed.mode == "rw")
        return cls.on(engine, column_families, capabilities)
