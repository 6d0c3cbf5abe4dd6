"""Whether a store is whole: records against indexes both ways, counts, and everything that can be read at all.

Everything is read from one snapshot, so the answer is about one moment, whoever writes meanwhile. What cannot be read
(a checksum that does not hold, a scan that broke off) is a finding like the rest, and the reading goes on behind it
where the engine can.

:func:`verify` only reads. :func:`repair` makes what follows from the records: index entries and row counts. It never
touches a record: what a damaged one said, nobody knows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Literal

import attrs

from kvdialect import exc
from kvdialect.schema.rows import DECODE_ERRORS, IndexCodec, Pair, Row
from kvdialect.schema.sqlrows import SHARED_FAMILY
from kvdialect.storage.batch import WriteBatch, check_key, decode_counter
from kvdialect.storage.contract import Snapshot, StorageBackend
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.ranges import successor
from kvdialect.store.catalog import GARBAGE, Catalog
from kvdialect.store.table import StoredTable

Kind = Literal[
    "crash",
    "unreadable",
    "broken off",
    "damaged structure",
    "undecodable record",
    "misplaced record",
    "undecodable entry",
    "missing entry",
    "wrong entry",
    "stray entry",
    "duplicate",
    "failed check",
    "wrong count",
    "missing family",
    "stray data",
]

_CHUNK: Final = 256
MOST_FINDINGS: Final = 1000


@attrs.frozen
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: what sort of thing.
        message: what was seen, where, and what to do.
        cf: the column family.
        key: where in it, or None if it is about all of it.
        table, index: what it belongs to, or None.
        repaired: whether :func:`repair` has mended it.
    """

    kind: Kind
    message: str
    cf: str
    key: bytes | None = None
    table: str | None = None
    index: str | None = None
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}{' (repaired)' if self.repaired else ''}"


@attrs.frozen
class Verification:
    """What was read, and what is wrong.

    Attributes:
        findings: what is wrong, in the order in which it was found; at most as many as were asked for.
        rows: rows read, by table.
        entries: entries read, by index.
        more: there was more wrong than ``findings`` holds.
    """

    findings: tuple[Finding, ...]
    rows: dict[str, int]
    entries: dict[str, int]
    more: bool = False

    @property
    def ok(self) -> bool:
        """True if nothing is wrong, or nothing is any more."""
        return not self.more and all(finding.repaired for finding in self.findings)

    def __str__(self) -> str:
        read = f"{sum(self.rows.values()):,} rows of {len(self.rows)} tables and {sum(self.entries.values()):,} entries"
        read += f" of {len(self.entries)} indexes read"
        if not self.findings:
            return f"{read}: nothing is wrong"
        more = " and more" if self.more else ""
        return "\n".join([f"{read}: {len(self.findings)}{more} findings", *map(str, self.findings)])


Progress = Callable[[str, int], None]
"""Called with the table or index that is being read and how much of it was; of a table with 0 before anything else."""

Mend = Callable[[WriteBatch], object]
"""Adds to a batch what mends a finding, with the expectation that all is as it was seen."""


class _Enough(Exception):
    """As many findings as were asked for."""


class Verifier:
    """One verification.

    Args:
        backend: the store.
        tables: names of the tables to look at; None: all.
        most: findings after which it ends.
        progress: see :data:`Progress`.
        mend: write what is missing, delete what is too much.
        rest: look at what belongs to no table too; by default if all tables are looked at.
        tell: called with each finding.
    """

    def __init__(
        self,
        backend: StorageBackend,
        tables: Sequence[str] | None,
        most: int,
        progress: Progress | None,
        *,
        mend: bool = False,
        rest: bool | None = None,
        tell: Callable[[Finding], object] | None = None,
    ) -> None:
        self._backend = backend
        self._wanted = None if tables is None else list(tables)
        self._rest = tables is None if rest is None else rest
        self._told = tell
        self._most = most
        self._progress = progress
        self._mend = mend
        self._findings: list[Finding] = []
        self._pending: list[tuple[int, Mend]] = []  # what mends the finding at a place
        self._rows: dict[str, int] = {}
        self._entries: dict[str, int] = {}
        self._snapshot: Snapshot

    def run(self) -> Verification:
        """Read everything.

        Raises:
            ProgrammingError: if the store has no table of a name that was given.
            Corruption, StoreFormatError: if the catalog itself cannot be read: then there is nothing to go by.
        """
        more = False
        with self._backend.snapshot() as snapshot:
            self._snapshot = snapshot
            snapshot.tolerant = True
            catalog = Catalog.load(snapshot)
            # Of all tables that there were, one may have been dropped since.
            names = sorted(catalog.entries) if self._wanted is None else self._wanted
            names = [name for name in names if name in catalog.entries or not self._rest]
            chosen = [catalog.table(name) for name in names]
            families = {RESERVED_FAMILY, *self._backend.column_families()}
            try:
                for table in chosen:
                    self._table(table, families)
                if self._rest:
                    for cf, message in self._backend.faults():
                        self._found("damaged structure", message, cf=cf)
                if self._rest:
                    self._shared(catalog, families)
                    self._others(catalog, families)
                    self._own()
            except _Enough:
                more = True
            self._repair()
        return Verification(tuple(self._findings), self._rows, self._entries, more)

    # ------------------------------------------------------------------------------------------ one table

    def _table(self, table: StoredTable, families: set[str]) -> None:
        self._tell(table.name, 0)
        names = {index.definition.name: index for index in table.codec.indexes}
        missing = [family for family in {table.family, *(i.family for i in names.values())} if family not in families]
        for family in missing:
            self._found(
                "missing family",
                f"the column family {family} of table {table.name} is not there (restore a backup)",
                cf=family, table=table.name,
            )  # fmt: skip
        if table.family in missing:
            return
        lossy = table.definition.options.compaction == "fifo"  # drops records by itself, and never their entries
        indexes = {name: index for name, index in names.items() if index.family not in missing and not lossy}
        # Entries first: what cannot be read among them is deleted, and made again of the records.
        for name, index in indexes.items():
            self._index(table, name, index)
        self._records(table, [number for number, name in enumerate(names) if name in indexes])

    def _records(self, table: StoredTable, numbers: Sequence[int]) -> None:
        rows = 0
        pairs = _Pairs(self, table.family, table.prefix, table.stop, table.name, None)
        for chunk in _chunks(pairs):
            rows += len(chunk)
            self._rows[table.name] = rows
            self._tell(table.name, rows)
            wanted: dict[int, list[tuple[bytes, bytes, Pair]]] = {number: [] for number in numbers}
            for key, raw in chunk:
                made = self._entries_of(table, key, raw)
                for number in numbers if made is not None else ():
                    wanted[number] += [(entry, value, (key, raw)) for entry, value in made[number]]
            for number, entries in wanted.items():
                self._compare(table, table.codec.indexes[number], entries)
            self._repair()
        self._rows[table.name] = rows
        if table.count_key is not None and not pairs.broken and not pairs.lost:
            self._count(table, table.count_key, rows)

    def _entries_of(self, table: StoredTable, key: bytes, raw: bytes) -> Any:
        """The entries that a record must have, for each index; None if it is none."""
        try:
            row = table.codec.decode(key, raw)
            again = table.codec.encode(row)[0]
            if again == key:
                self._check(table, key, row)
                return table.codec.entries(row, key)
        except exc.Error as error:
            self._found(
                "undecodable record", f"{error.message} (restore a backup, or delete it)", table.family, key, table
            )
            return None
        self._found(
            "misplaced record",
            f"{table.name}[{exc.shown(key)}] has values whose key is {exc.shown(again)} (restore a backup, or"
            " delete it)",
            table.family, key, table,
        )  # fmt: skip
        return None

    def _check(self, table: StoredTable, key: bytes, row: Row) -> None:
        """Look whether the table's CHECKs hold, if they are known to have held of all rows once."""
        if table.codec.check is None or not all(check.validated for check in table.definition.checks):
            return
        try:
            table.codec.check(row)
        except exc.IntegrityError as error:
            self._found("failed check", f"{error.message} (change the record)", table.family, key, table)

    def _count(self, table: StoredTable, count_key: bytes, rows: int) -> None:
        raw = self._value(RESERVED_FAMILY, count_key)
        if raw is _UNREADABLE:
            return  # told when the family is read
        try:
            counted = decode_counter(raw)
        except exc.CounterError as error:
            self._found("wrong count", error.message, RESERVED_FAMILY, count_key, table)
            return
        if counted != rows:
            self._found(
                "wrong count",
                f"{table.name} has {rows:,} rows, and the store counts {counted:,}",
                RESERVED_FAMILY, count_key, table,
                # What others add meanwhile stays added.
                mend=lambda batch: batch.add(RESERVED_FAMILY, count_key, rows - counted),
            )  # fmt: skip

    def _compare(self, table: StoredTable, index: IndexCodec, wanted: Sequence[tuple[bytes, bytes, Pair]]) -> None:
        """The entries that records must have beside those that are there."""
        keys = [entry for entry, _, _ in wanted]
        for (entry, value, record), found in zip(wanted, self._values(index.family, keys), strict=True):
            if found == value or found is _UNREADABLE:
                continue  # what cannot be read was told when the index was read
            name, shown = index.definition.name, table.codec.named(table.codec.decode_key(record[0]))
            kind: Kind = "wrong entry"
            if found is None:
                if index.definition.state == "building":
                    continue  # it gets there
                kind, message = "missing entry", f"{shown} has no entry in index {name}"
            elif index.definition.unique and self._holder(table, index, entry, found) is not None:
                message = f"{shown} and another record have the same values of unique index {name} (change one of them)"
                self._found("duplicate", message, index.family, entry, table, index)
                continue
            else:
                message = f"the entry of {shown} in index {name} holds {exc.shown(found)}, not {exc.shown(value)}"
            mend = _put(index.family, (entry, value), found, table.family, record)
            self._found(kind, message, index.family, entry, table, index, mend=mend)

    def _holder(self, table: StoredTable, index: IndexCodec, entry: bytes, value: bytes) -> bytes | None:
        """The key of the record that has an entry, if there is one that does."""
        try:
            key = index.primary_key(entry, value)
            raw = self._snapshot.get(table.family, key)
            if raw is None:
                return None
            number = table.codec.indexes.index(index)
            return key if (entry, value) in table.codec.entries(table.codec.decode(key, raw), key)[number] else None
        except exc.Error:
            return None

    # ------------------------------------------------------------------------------------------ one index

    def _index(self, table: StoredTable, name: str, index: IndexCodec) -> None:
        """The entries of an index, each beside the record that it leads to."""
        prefix: bytes = getattr(index, "prefix", b"")
        number = table.codec.indexes.index(index)
        read = 0
        pairs = _Pairs(self, index.family, prefix, successor(prefix) if prefix else None, table.name, name)
        for chunk in _chunks(pairs):
            read += len(chunk)
            self._entries[name] = read
            self._tell(name, read)
            found: list[tuple[bytes, bytes, bytes]] = []
            for entry, value in chunk:
                try:
                    key = index.primary_key(entry, value)
                    check_key(key, table.family)
                    found.append((entry, value, key))
                except (exc.Error, *DECODE_ERRORS) as error:
                    self._stray("undecodable entry", exc.message_of(error), table, index, (entry, value), None)
            records = self._values(table.family, [key for _, _, key in found])
            for (entry, value, key), raw in zip(found, records, strict=True):
                if raw is _UNREADABLE:
                    continue  # told when the records are read
                if raw is None:
                    what = f"index {name} has an entry of {table.name}[{exc.shown(key)}], which is not there"
                    self._stray("stray entry", what, table, index, (entry, value), (key, None))
                    continue
                try:
                    made = table.codec.entries(table.codec.decode(key, raw), key)[number]
                except exc.Error:
                    continue  # an undecodable record, told when the records are read
                if entry not in dict(made):
                    what = f"index {name} has an entry of {table.name}[{exc.shown(key)}] that its values do not make"
                    self._stray("stray entry", what, table, index, (entry, value), (key, raw))
            self._repair()
        self._entries[name] = read

    def _stray(
        self,
        kind: Kind,
        message: str,
        table: StoredTable,
        index: IndexCodec,
        pair: Pair,
        record: tuple[bytes, bytes | None] | None,
    ) -> None:
        entry, value = pair

        def mend(batch: WriteBatch) -> None:
            batch.expect(index.family, entry, value).delete(index.family, entry)
            if record is not None:
                batch.expect(table.family, *record)

        self._found(kind, message, index.family, entry, table, index, mend=mend)

    # ------------------------------------------------------------------------------------------ the rest

    def _shared(self, catalog: Catalog, families: set[str]) -> None:
        """What lies in the family of SQL's tables and belongs to none."""
        if SHARED_FAMILY not in families:
            return
        known = {table.prefix for table in catalog.tables.values() if table.prefix}
        known |= {index.prefix for t in catalog.tables.values() if t.prefix for index in t.codec.indexes}  # type: ignore[attr-defined]
        known |= {key[len(GARBAGE) :] for key, _ in self._snapshot.prefix_scan(RESERVED_FAMILY, GARBAGE)}
        start = b""
        while True:
            pair = next(iter(_Pairs(self, SHARED_FAMILY, start, None, None, None)), None)
            if pair is None:
                return
            prefix = pair[0][:4]
            if prefix not in known:
                message = f"{SHARED_FAMILY} has data of {exc.shown(prefix)}, which no table or index has"
                self._found("stray data", message, SHARED_FAMILY, pair[0])
            following = successor(prefix)
            if following is None:
                return
            start = following

    def _others(self, catalog: Catalog, families: set[str]) -> None:
        """The families that belong to no table: what they hold is not known, but it can be read or not."""
        known = {RESERVED_FAMILY, SHARED_FAMILY, *(family for family, _ in catalog.families())}
        for family in sorted(families - known):
            self._tell(family, 0)
            for read, _ in enumerate(_Pairs(self, family, b"", None, None, None), 1):
                if read % _CHUNK == 0:
                    self._tell(family, read)

    def _own(self) -> None:
        """The library's own family, of which the catalog is read already."""
        for _ in _Pairs(self, RESERVED_FAMILY, b"", None, None, None):
            pass

    def _values(self, cf: str, keys: list[bytes]) -> list[Any]:
        """The values at ``keys``; ``_UNREADABLE`` for one that cannot be read."""
        try:
            return list(self._snapshot.multi_get(cf, keys))
        except exc.Corruption:
            return [self._value(cf, key) for key in keys]

    def _value(self, cf: str, key: bytes) -> Any:
        try:
            return self._snapshot.get(cf, key)
        except exc.Corruption:
            return _UNREADABLE

    def _tell(self, what: str, done: int) -> None:
        if self._progress is not None:
            self._progress(what, done)

    def _found(
        self,
        kind: Kind,
        message: str,
        cf: str,
        key: bytes | None = None,
        table: StoredTable | str | None = None,
        index: IndexCodec | str | None = None,
        *,
        mend: Mend | None = None,
    ) -> None:
        if len(self._findings) >= self._most:
            raise _Enough
        if self._mend and mend is not None:
            self._pending.append((len(self._findings), mend))
        table = table.name if isinstance(table, StoredTable) else table
        index = index if index is None or isinstance(index, str) else index.definition.name
        finding = Finding(kind, message, cf, key, table, index)
        self._findings.append(finding)
        if self._told is not None:
            self._told(finding)

    def _repair(self) -> None:
        """Mend what was found since the last call: all of it in one commit, or, if something conflicts, one by one."""
        pending, self._pending = self._pending, []
        if pending and not self._mended([mend for _, mend in pending]):
            pending = [(place, mend) for place, mend in pending if self._mended([mend])]
        for place, _ in pending:
            self._findings[place] = attrs.evolve(self._findings[place], repaired=True)

    def _mended(self, mends: Sequence[Mend]) -> bool:
        batch = WriteBatch()
        try:
            for mend in mends:
                mend(batch)
            self._backend.batch_write(batch)
        except exc.ConflictError:
            return False  # it was changed meanwhile
        return True


_UNREADABLE: Final = object()


class _Pairs:
    """The pairs of a range, past those that cannot be read, which become findings.

    Attributes:
        lost: pairs that could not be read.
        broken: the range was not read to its end.
    """

    def __init__(
        self, verifier: Verifier, cf: str, start: bytes, stop: bytes | None, table: str | None, index: str | None
    ) -> None:
        self._verifier, self._cf, self._start, self._stop = verifier, cf, start, stop
        self._table, self._index = table, index
        self.lost = 0
        self.broken = False

    def __iter__(self) -> Iterator[Pair]:
        start, last = self._start, None
        while True:
            try:
                for pair in self._verifier._snapshot.scan(self._cf, start, self._stop):
                    last = pair[0]
                    yield pair
            except exc.Corruption as error:
                damaged = error.facts.get("key")
                if not isinstance(damaged, bytes) or damaged < start or (last is not None and damaged <= last):
                    self.broken = True
                    self._report("broken off", error, last)
                    return
                # What was read together with it comes first.
                yield from self._verifier._snapshot.scan(self._cf, start if last is None else last + b"\0", damaged)
                self.lost += 1
                self._report("unreadable", error, damaged)
                start = last = damaged + b"\0"
            else:
                return

    def _report(self, kind: Kind, error: exc.Corruption, key: bytes | None) -> None:
        mend: Mend | None = None
        cf = self._cf
        if self._index is not None and kind == "unreadable" and key is not None:
            damaged = key
            mend = lambda batch: batch.delete(cf, damaged)  # noqa: E731 - the record makes it again
        self._verifier._found(kind, error.message, cf, key, self._table, self._index, mend=mend)


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    found = iter(pairs)
    while chunk := list(islice(found, _CHUNK)):
        yield chunk


def _put(cf: str, entry: Pair, found: bytes | None, family: str, record: Pair) -> Mend:
    """Set an entry, if it and its record are as they were seen."""
    key, value = entry
    return lambda batch: batch.expect(family, *record).expect(cf, key, found).put(cf, key, value)


def verify(
    backend: StorageBackend,
    *,
    tables: Sequence[str] | None = None,
    most: int = MOST_FINDINGS,
    progress: Progress | None = None,
) -> Verification:
    """Read a store and say what is wrong; see :meth:`kvdialect.Engine.verify`."""
    return Verifier(backend, tables, most, progress).run()


def repair(
    backend: StorageBackend, *, tables: Sequence[str] | None = None, progress: Progress | None = None
) -> Verification:
    """Mend indexes and counts by the records; see :meth:`kvdialect.Engine.repair_indexes`."""
    repaired: list[Finding] = []
    while True:
        # What is deleted in one pass, as it cannot be read, is written in the next one.
        found = Verifier(backend, tables, sys.maxsize, progress, mend=True).run()
        mended = [finding for finding in found.findings if finding.repaired]
        repaired += mended
        if not mended:
            return attrs.evolve(found, findings=(*repaired, *found.findings))
