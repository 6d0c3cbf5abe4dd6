"""sqlitekv:///path: an ordered key-value store in an SQLite file, as a plug-in of kvdialect.

It shows what an author of a backend writes: everything here uses the public interface alone, and no part of kvdialect
knows of it. A family is a number in the first column of one table. Snapshots and scans are read transactions on
connections of their own, as SQLite's WAL gives each of these one moment of the whole database.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kvdialect import exc
from kvdialect.storage import (
    Capabilities,
    ColumnFamilyOptions,
    Pair,
    Snapshot,
    StorageBackend,
    StoreOptions,
    WriteBatch,
    decode_counter,
    encode_counter,
    parse_store_options,
    range_digest,
)
from kvdialect.storage.batch import Addition, Deletion, check_key
from kvdialect.storage.contract import check_bounds
from kvdialect.storage.options import check_family_name

SCHEMA = """
CREATE TABLE IF NOT EXISTS families (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS pairs (cf INTEGER, key BLOB, value BLOB, PRIMARY KEY (cf, key)) WITHOUT ROWID;
"""
SYNCHRONOUS = {"sync": "FULL", "wal": "NORMAL", "none": "OFF"}
CHUNK = 200


class Connection:
    """An SQLite connection that several threads may use, and whose errors are the library's."""

    def __init__(self, path: str, options: StoreOptions) -> None:
        self.path = path
        uri = f"file:{path}/store.sqlite?mode={'ro' if options.mode == 'ro' else 'rwc'}"
        self.sqlite = sqlite3.connect(
            uri, uri=True, timeout=options.write_timeout, isolation_level=None, check_same_thread=False
        )
        self.sqlite.execute(f"PRAGMA synchronous={SYNCHRONOUS[options.durability]}")
        self.lock = threading.RLock()
        self.closed: str | None = None
        # A snapshot or scan that nobody closes must not leave its read transaction behind.
        self._finalizer = weakref.finalize(self, self.sqlite.close)

    def close(self, why: str) -> None:
        with self.lock:
            self.closed = self.closed or why
            self._finalizer()

    @contextmanager
    def using(self, operation: str) -> Iterator[sqlite3.Connection]:
        facts = {"engine": "sqlitekv", "path": self.path, "operation": operation}
        with self.lock:
            if self.closed:
                raise exc.StoreClosed(self.closed, **facts)
            try:
                yield self.sqlite
            except sqlite3.Error as error:
                locked = "locked" in str(error)
                raise (exc.LockTimeout if locked else exc.BackendError)(
                    f"sqlite: {error}", **facts, engine_message=str(error)
                ) from error

    def family(self, cf: str, operation: str) -> int:
        with self.using(operation) as sqlite:
            row = sqlite.execute("SELECT id FROM families WHERE name = ?", (cf,)).fetchone()
        if row is None:
            raise exc.UnknownColumnFamily(cf, engine="sqlitekv", path=self.path, operation=operation)
        return int(row[0])

    def get(self, cf: str, key: bytes) -> bytes | None:
        with self.using("get") as sqlite:
            family = self.family(cf, "get")
            check_key(key, cf)
            row = sqlite.execute("SELECT value FROM pairs WHERE cf = ? AND key = ?", (family, key)).fetchone()
        return None if row is None else row[0]

    def chunk(self, family: int, start: bytes, above: bool, stop: bytes | None, reverse: bool) -> list[Pair]:
        where, order = ("key > ?" if above else "key >= ?"), "DESC" if reverse else "ASC"
        sql = f"SELECT key, value FROM pairs WHERE cf = ? AND {where}"  # noqa: S608 - no values in it
        sql += ("" if stop is None else " AND key < ?") + f" ORDER BY key {order} LIMIT {CHUNK}"
        with self.using("scan") as sqlite:
            return sqlite.execute(sql, (family, start) if stop is None else (family, start, stop)).fetchall()

    def scan(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        check_bounds(start, stop)
        return self._pairs(self.family(cf, "scan"), start, stop, reverse)

    def _pairs(self, family: int, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        above = False
        while chunk := self.chunk(family, start, above, stop, reverse):
            for pair in chunk:
                with self.using("scan"):
                    pass
                yield pair
            start, above, stop = (start, above, chunk[-1][0]) if reverse else (chunk[-1][0], True, stop)


class SqliteSnapshot(Snapshot):
    """A read transaction."""

    def __init__(self, path: str, options: StoreOptions) -> None:
        self.connection = Connection(path, options)
        with self.connection.using("snapshot") as sqlite:
            sqlite.execute("BEGIN")
            sqlite.execute("SELECT count(*) FROM families").fetchone()  # the moment is that of the first read

    def get(self, cf: str, key: bytes) -> bytes | None:
        return self.connection.get(cf, key)

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        return self.connection.scan(cf, start, stop, reverse)

    def close(self) -> None:
        self.connection.close("the snapshot is closed")


class SqliteBackend(StorageBackend):
    """A handle; each has connections of its own, and SQLite's file locks order their writes."""

    name = "sqlitekv"

    def __init__(self, path: str, options: StoreOptions) -> None:
        self.path: str = path
        self.options = options
        self.capabilities = Capabilities(
            multi_process_writers=True, multi_process_readers=True, writable=options.mode == "rw"
        )
        self.connection = Connection(path, options)
        self.children: weakref.WeakSet[Connection] = weakref.WeakSet()

    @classmethod
    def open(
        cls, path: str | None, options: Mapping[str, Any], column_families: Mapping[str, ColumnFamilyOptions]
    ) -> StorageBackend:
        parsed = parse_store_options(StoreOptions, "sqlitekv", options)
        if path is None:
            raise exc.ArgumentError("sqlitekv needs a path: sqlitekv:///relative or sqlitekv:////absolute")
        path = os.path.realpath(path)
        if parsed.mode == "rw":
            os.makedirs(path, exist_ok=True)
        backend = cls(path, parsed)
        if parsed.mode == "rw":
            with backend.connection.using("open") as sqlite:
                sqlite.execute("PRAGMA journal_mode=WAL")
                sqlite.executescript(SCHEMA)
                rows = [(check_family_name(name),) for name in column_families]
                sqlite.executemany("INSERT OR IGNORE INTO families (name) VALUES (?)", rows)
        return backend

    def get(self, cf: str, key: bytes) -> bytes | None:
        return self.connection.get(cf, key)

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        self.connection.family(cf, "multi_get")
        with self.snapshot() as snapshot:
            return snapshot.multi_get(cf, keys)

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        # The generator holds the connection, and with its last reference goes the read transaction.
        return self.snapshot().scan(cf, start, stop, reverse=reverse)

    def snapshot(self) -> SqliteSnapshot:
        with self.connection.using("snapshot"):
            snapshot = SqliteSnapshot(self.path, self.options)
            self.children.add(snapshot.connection)
        return snapshot

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[sqlite3.Connection]:
        with self.connection.using(operation) as sqlite:
            if not self.capabilities.writable:
                raise exc.ReadOnlyStore("the store is open with mode=ro", engine=self.name, path=self.path)
            sqlite.execute("BEGIN IMMEDIATE")
            try:
                yield sqlite
                sqlite.execute("COMMIT")
            except BaseException:
                if sqlite.in_transaction:
                    sqlite.execute("ROLLBACK")
                raise

    def batch_write(self, batch: WriteBatch) -> None:
        if batch.nbytes > self.options.max_batch_bytes:
            size, limit = batch.nbytes, self.options.max_batch_bytes
            raise exc.BatchTooLarge(f"the batch holds {size} bytes; max_batch_bytes is {limit}", size=size, limit=limit)
        batch.validate(self.capabilities.key_limit)
        with self._transaction("batch_write") as sqlite:
            families = {cf: self.connection.family(cf, "batch_write") for cf in set(batch.families())}
            for cf, expectations in batch.expectations.items():
                for key, expected in expectations.items():
                    self._compare(cf, key, expected, self.get(cf, key))
            for cf, start, stop, expected in batch.ranges:
                self._compare(cf, start, expected, range_digest(self.connection.scan(cf, start, stop, reverse=False)))
            for cf, changes in batch.changes.items():
                puts, deletes = [], []
                for key, change in changes.items():
                    if isinstance(change, Deletion):
                        deletes.append((families[cf], key))
                    elif isinstance(change, Addition):
                        total = decode_counter(self.get(cf, key), cf, key) + change.delta
                        puts.append((families[cf], key, encode_counter(total, cf, key)))
                    else:
                        puts.append((families[cf], key, change))
                sqlite.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", puts)
                sqlite.executemany("DELETE FROM pairs WHERE cf = ? AND key = ?", deletes)

    def _compare(self, cf: str, key: bytes, expected: bytes | None, found: bytes | None) -> None:
        if expected != found:
            raise exc.ConflictError(
                f"{cf}[{key!r}] is not as expected", engine=self.name, cf=cf, key=key, expected=expected, found=found
            )

    def column_families(self) -> list[str]:
        with self.connection.using("column_families") as sqlite:
            return sorted(name for (name,) in sqlite.execute("SELECT name FROM families").fetchall())

    def create_column_family(self, name: str, options: ColumnFamilyOptions | None = None) -> None:  # noqa: ARG002
        check_family_name(name)
        with self._transaction("create_column_family") as sqlite:
            if name in self.column_families():
                raise exc.ColumnFamilyExists(f"column family {name} exists already", engine=self.name, name=name)
            sqlite.execute("INSERT INTO families (name) VALUES (?)", (name,))

    def drop_column_family(self, name: str) -> None:
        with self._transaction("drop_column_family") as sqlite:
            family = self.connection.family(name, "drop_column_family")
            sqlite.execute("DELETE FROM pairs WHERE cf = ?", (family,))
            sqlite.execute("DELETE FROM families WHERE id = ?", (family,))

    def flush(self) -> None:
        with self.connection.using("flush") as sqlite:
            sqlite.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def compact(self, cf: str) -> None:
        self.connection.family(cf, "compact")

    def close(self) -> None:
        self.connection.close("the store is closed")
        for child in list(self.children):
            child.close("the store is closed")
