"""Copying a store to another one, of whatever engine, while it is in use: all of one snapshot.

Tables are made of the source's catalog, with the same ids of fields and the same history of versions, so that keys and
values are copied as they are stored; those of tables made by SQL get the numbers that these have in the copy. The
entries of their indexes are made with the rows, by the code that makes them for a writer; the indexes of records are
built when all rows are there, as :mod:`kvdialect.store.building` builds them. Families that no table knows are copied
as they are, with the options that their store keeps of them.

Each batch notes how far the copy is: for each table the rows, their checksum and the last key. So a copy that was cut
off goes on where it was, if the source still has exactly the rows that were copied, which is read and compared: then
what is there and what is to come is all of the moment that is read now. The note is the key ``copy/note`` of the
reserved family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

import attrs
import msgspec
import xxhash

from kvdialect import exc
from kvdialect.schema.sqlrows import SHARED_FAMILY
from kvdialect.storage.batch import UNBOUNDED, WriteBatch, decode_counter, range_digest
from kvdialect.storage.contract import Pair, Snapshot, StorageBackend
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.building import create_indexes
from kvdialect.store.catalog import IDS, Catalog, LiveCatalog
from kvdialect.store.ddl import SchemaEditor
from kvdialect.store.engine import Engine
from kvdialect.store.sqlschema import put_view
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import commit

NOTE_KEY: Final = b"copy/note"
"""Where a copy notes how far it is."""

_ROWS: Final = 5000
_BYTES: Final = 4 << 20
"""Rows, and bytes of them, after which a batch ends."""

_MODULUS: Final = 1 << 128

Progress = Callable[[str, int, int | None], object]
"""Called with what is being done, how many rows of it are done, and of how many, where that is known."""


class Part(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """How far the copy of one table, or of one family that belongs to none, is.

    Attributes:
        rows: number of those copied.
        checksum: of these; it does not depend on their order.
        last: key of the last one, as the source has it.
        whole: there are no more.
    """

    rows: int = 0
    checksum: bytes = bytes(16)
    last: bytes = b""
    whole: bool = False

    def add(self, pairs: Iterable[Pair]) -> None:
        """Count rows, and take them into the checksum."""
        total = int.from_bytes(self.checksum)
        digest = xxhash.xxh3_128_intdigest
        for key, value in pairs:
            total += digest(b"%d:%b%b" % (len(key), key, value))
            self.rows += 1
        self.checksum = (total % _MODULUS).to_bytes(16)


class _Note(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What is noted of a copy.

    Attributes:
        source: where it is from, for people.
        catalog: digest of the source's catalog.
        tables: the tables, by name.
        families: the families that belong to no table, by name.
        verified: it has come to its end.
    """

    source: str
    catalog: bytes
    tables: dict[str, Part]
    families: dict[str, Part]
    verified: bool = False


_decoder: Final = msgspec.msgpack.Decoder(_Note)
_encode: Final = msgspec.msgpack.Encoder().encode


@attrs.frozen
class Copied:
    """What a copy has.

    Attributes:
        rows: number of rows by table.
        families: number of keys by family that belongs to no table.
        indexes: how many indexes there are.
        already: rows that an earlier run had copied.
    """

    rows: dict[str, int]
    families: dict[str, int]
    indexes: int
    already: int


def unfinished(backend: StorageBackend) -> str | None:
    """Where a store is an unfinished copy of; None if it is none."""
    raw = backend.get(RESERVED_FAMILY, NOTE_KEY)
    if raw is None:
        return None
    note = _read_note(raw)
    return None if note.verified else note.source


def forget(backend: StorageBackend) -> None:
    """Remove the note of a copy that has come to its end and is in its place."""
    backend.delete(RESERVED_FAMILY, NOTE_KEY)


def _read_note(raw: bytes) -> _Note:
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise exc.Corruption(
            f"the note {RESERVED_FAMILY}[{exc.shown(NOTE_KEY)}] of a copy is damaged: {error} (remove the copy)",
            cf=RESERVED_FAMILY, key=NOTE_KEY,
        ) from error  # fmt: skip


class StoreCopy:
    """A copy of one snapshot of a store to a new store that nobody else works on.

    Args:
        source: the store.
        snapshot: the moment that is copied.
        target: a store with nothing in it, or with what :meth:`resumes` accepts.
        progress: called after each batch.

    Attributes:
        already: rows that the target had from an earlier run.
    """

    def __init__(self, source: Engine, snapshot: Snapshot, target: Engine, progress: Progress | None = None) -> None:
        self.source, self.target = source, target
        self.already = 0
        self._snapshot = snapshot
        self._catalog = source.catalog_at(snapshot)
        self._backend = target.backend
        self._progress = progress
        self._raw: bytes | None = None
        self._note = _Note(f"{source.name}:{source.backend.path}", _digest(self._catalog), {}, {})

    def resumes(self) -> bool:
        """Whether the target is empty, or has the beginning of this very copy: then :meth:`run` goes on from there.

        False where the source has other rows, or tables, than what was copied.

        Raises:
            ArgumentError: if the target has something that is no copy.
        """
        raw = self._backend.get(RESERVED_FAMILY, NOTE_KEY)
        if raw is None:
            self.target.reload()
            if self.target.catalog.entries or self._backend.column_families():
                raise exc.ArgumentError(
                    f"there is something in {self._backend.path} that no copy has put there", path=self._backend.path
                )
            return True
        note = _read_note(raw)
        if note.catalog != self._note.catalog:
            return False
        for name, part in (*note.tables.items(), *note.families.items()):
            if not part.rows:
                continue
            seen = Part()
            pairs = self._pairs(name, name in note.tables, b"" if part.whole else part.last)
            for chunk in _chunks(pairs):
                seen.add(self._translated(name, chunk) if name in note.tables else chunk)
                self._tell(f"compare {name}", seen.rows, part.rows)
            if (seen.rows, seen.checksum) != (part.rows, part.checksum):
                return False
        self._note, self._raw = note, raw
        self.already = sum(part.rows for part in (*note.tables.values(), *note.families.values()))
        return True

    def run(self) -> Copied:
        """Copy what is not there yet, build the indexes, and compare all rows by number and checksum.

        Raises:
            Corruption: if the copy has not what the source has.
            ConflictError: if another copy is under way to the same target.
            Error: what reading and writing raises.
        """
        note, catalog = self._note, self._catalog
        entries = [catalog.entries[name] for name in sorted(catalog.entries)]
        editor = SchemaEditor(LiveCatalog(self._backend))
        if self._raw is None:
            self._write(WriteBatch())  # first: whoever looks at it knows what it is
        editor.adopt(entries)
        self._make_views()
        for entry in entries:
            self._copy_table(entry.table)
        for family in self._families():
            self._copy_family(family)
        for entry in entries:
            if not entry.definition.shared:
                for index in entry.definition.indexes:
                    name = index.name

                    def told(done: int, total: int, name: str = name) -> None:
                        self._tell(f"index {name}", done, total)

                    new = attrs.evolve(index, state="readable")
                    create_indexes(
                        editor,
                        [(entry.definition.name, new)],
                        extra=name in entry.extra,
                        progress=told,
                        batch_size=5000,
                    )
        self.target.reload()
        self._verify()
        note.verified = True
        self._write(WriteBatch())
        self._backend.flush()
        return Copied(
            rows={name: part.rows for name, part in note.tables.items()},
            families={name: part.rows for name, part in note.families.items()},
            indexes=sum(len(entry.definition.indexes) for entry in entries),
            already=self.already,
        )

    # ------------------------------------------------------------------------------------------ what is copied

    def _families(self) -> list[str]:
        """The families that belong to no table."""
        known = {SHARED_FAMILY, *(family for family, _ in self._catalog.families())}
        return [name for name in self.source.backend.column_families() if name not in known]

    def _pairs(self, name: str, of_table: bool, last: bytes = b"", after: bytes = b"") -> Iterator[Pair]:
        """The pairs of a table or family in the source: up to ``last``, or all; those behind ``after`` alone."""
        stop = last + b"\0" if last else None
        start = after + b"\0" if after else b""
        if not of_table:
            return self._snapshot.scan(name, start, stop)
        table = self._catalog.table(name)
        return self._snapshot.scan(table.family, start or table.prefix, stop or table.stop)

    def _translated(self, name: str, pairs: list[Pair]) -> list[Pair]:
        """Rows as the copy has them."""
        before = self._catalog.table(name).prefix
        if not before:
            return pairs
        prefix, width = self.target.table(name).prefix, len(before)
        return [(prefix + key[width:], value) for key, value in pairs]

    def _make_views(self) -> None:
        self.target.reload()
        missing = [view for name, view in self._catalog.views.items() if name not in self.target.catalog.views]
        if not missing:
            return
        txn = Transaction(self.target)
        try:
            catalog = self.target.catalog_at(txn.snapshot)
            for view in missing:
                catalog = put_view(txn, catalog, view)
            commit(txn)
        finally:
            txn.close()

    def _copy_table(self, source: StoredTable) -> None:
        name = source.name
        target = self.target.table(name)
        part = self._note.tables.setdefault(name, Part())
        if part.whole:
            return
        total = None
        if source.count_key is not None:
            total = decode_counter(self._snapshot.get(RESERVED_FAMILY, source.count_key))
        # The entries of SQL's indexes have no builder of their own, and the rows of fifo families no counter.
        indexed = source.definition.shared and bool(target.codec.indexes)
        for chunk in _chunks(self._pairs(name, True, after=part.last)):
            rows = self._translated(name, chunk)
            batch = WriteBatch(max_bytes=UNBOUNDED)
            batch.update(target.family, dict(rows))
            if indexed:
                for key, value in rows:
                    for index, entries in zip(
                        target.codec.indexes, target.codec.entries(target.codec.decode(key, value), key), strict=True
                    ):
                        batch.update(index.family, dict(entries))
            if target.count_key is not None:
                batch.add(RESERVED_FAMILY, target.count_key, len(rows))
            part.add(rows)
            part.last = chunk[-1][0]
            self._write(batch)
            self._tell(f"copy {name}", part.rows, total)
        part.whole = True
        batch = WriteBatch()
        ids = self._snapshot.get(RESERVED_FAMILY, IDS + source.definition.id.to_bytes(4, "big"))
        if ids is not None:
            batch.put(RESERVED_FAMILY, IDS + target.definition.id.to_bytes(4, "big"), ids)
        self._write(batch)

    def _copy_family(self, name: str) -> None:
        part = self._note.families.setdefault(name, Part())
        if part.whole:
            return
        if name not in self._backend.column_families():
            self._backend.create_column_family(name, self.source.backend.column_family_options(name))
        for chunk in _chunks(self._pairs(name, False, after=part.last)):
            part.add(chunk)
            part.last = chunk[-1][0]
            batch = WriteBatch(max_bytes=UNBOUNDED)
            batch.update(name, dict(chunk))
            self._write(batch)
            self._tell(f"copy {name}", part.rows, None)
        part.whole = True
        self._write(WriteBatch())

    def _write(self, batch: WriteBatch) -> None:
        """Write a batch with the note, which must be as this copy has left it."""
        raw = _encode(self._note)
        batch.expect(RESERVED_FAMILY, NOTE_KEY, self._raw).put(RESERVED_FAMILY, NOTE_KEY, raw)
        try:
            self._backend.batch_write(batch)
        except exc.ConflictError as error:
            raise exc.ConflictError(
                f"another copy to {self._backend.path} is under way (let it end, and call this again)",
                **{**error.facts, "path": self._backend.path},
            ) from error
        self._raw = raw

    def _tell(self, what: str, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(what, done, total if total is None else max(total, done))

    # ------------------------------------------------------------------------------------------ the end

    def _verify(self) -> None:
        with self._backend.snapshot() as snapshot:
            catalog = self.target.catalog_at(snapshot)
            for name, part in self._note.tables.items():
                table = catalog.table(name)
                self._compare(name, part, snapshot.scan(table.family, table.prefix, table.stop))
                if table.count_key is not None:
                    counted = decode_counter(snapshot.get(RESERVED_FAMILY, table.count_key))
                    if counted != part.rows:
                        raise self._differs(name, f"it counts {counted:,} rows, and {part.rows:,} were copied")
            for name, part in self._note.families.items():
                self._compare(name, part, snapshot.scan(name))

    def _compare(self, name: str, part: Part, pairs: Iterator[Pair]) -> None:
        seen = Part()
        for chunk in _chunks(pairs):
            seen.add(chunk)
            self._tell(f"verify {name}", seen.rows, part.rows)
        if seen.rows != part.rows:
            raise self._differs(name, f"it has {seen.rows:,} rows, and {part.rows:,} were copied")
        if seen.checksum != part.checksum:
            raise self._differs(name, f"the checksum of its {seen.rows:,} rows is not that of what was copied")

    def _differs(self, name: str, what: str) -> exc.Corruption:
        return exc.Corruption(
            f"the copy of {name} in {self._backend.path} is not what was copied: {what} (remove it and copy again)",
            path=self._backend.path, table=name,
        )  # fmt: skip


def _digest(catalog: Catalog) -> bytes:
    """What tells catalogs apart: all tables with their ids, versions and indexes, and all views."""
    tables = [(name.encode(), entry.raw) for name, entry in sorted(catalog.entries.items())]
    views = [(name.encode(), view.statement.encode()) for name, view in sorted(catalog.views.items())]
    return range_digest([*tables, (b"", b""), *views])


def _chunks(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    """Pairs as many as go into one batch."""
    while chunk := list(_some(pairs)):
        yield chunk


def _some(pairs: Iterator[Pair]) -> Iterator[Pair]:
    size = 0
    for pair in islice(pairs, _ROWS):
        yield pair
        size += len(pair[0]) + len(pair[1])
        if size >= _BYTES:
            return
