"""Building an index over records that are there, while others read and write.

The index is in the catalog first, as being built: commits expect the catalog's version, so from then on every writer
keeps it up. Then the records are read in order of key, a batch at a time, each from a snapshot of its own. A batch
writes the entries of its records and how far the building is, and expects the records, and what was noted before, to be
as they were read. So a record that changes meanwhile is read again, a building that was cut off goes on where it ended,
and two that run at once do no harm. The last step makes the index readable; queries do not see it before.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import attrs
import msgspec

from kvdialect import exc
from kvdialect.schema.definition import IndexDefinition
from kvdialect.schema.rows import IndexCodec
from kvdialect.storage.batch import UNBOUNDED, WriteBatch, decode_counter
from kvdialect.storage.contract import Pair, Snapshot
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.catalog import LiveCatalog, building_key
from kvdialect.store.ddl import SchemaEditor
from kvdialect.store.table import StoredTable

BATCH_SIZE: Final = 1000
"""Records that one batch takes, unless told otherwise."""

_BATCH_BYTES: Final = 4 << 20
"""Bytes of records after which a batch ends early."""

Progress = Callable[[int, int], object]
"""Called with the number of records done and the number of all, as the store counts them at the time."""


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """How far a building is; kept as msgpack.

    Attributes:
        token: tells a building from an earlier one of an index of the same name.
        done: number of records done.
        key: of the last record done; empty before the first.
    """

    token: bytes
    done: int
    key: bytes


_decoder: Final = msgspec.msgpack.Decoder(_Cursor)
_encode: Final = msgspec.msgpack.Encoder().encode


def new_cursor() -> bytes:
    """What is noted of a building before it begins."""
    return _encode(_Cursor(secrets.token_bytes(8), 0, b""))


@attrs.define
class _State:
    """A building as one snapshot shows it."""

    table: StoredTable
    index: IndexCodec
    raw: bytes
    cursor: _Cursor
    total: int


def create_indexes(
    editor: SchemaEditor,
    indexes: Sequence[tuple[str, IndexDefinition]],
    *,
    extra: bool,
    progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Create indexes and build them; those that are there are built to their end, or left as they are.

    Raises:
        IntegrityError: if a unique index would have a value twice. The index is gone again, as after a DataError.
        DataError: for a record that can have no entry: a key that is too long, or NaN.
        SchemaChanged: if an index was dropped while it was being built.
    """
    if batch_size < 1:
        raise exc.ArgumentError(f"batch_size={batch_size!r} is too small; a batch takes 1 record or more")
    for name in editor.start_indexes(indexes, new_cursor, extra=extra):
        build(editor, name, progress=progress, batch_size=batch_size)


def build(editor: SchemaEditor, name: str, *, progress: Progress | None = None, batch_size: int = BATCH_SIZE) -> None:
    """Build an index to its end; see :func:`create_indexes`."""
    builder = _Builder(editor.live, name, batch_size)
    try:
        while (state := builder.step()) is not None:
            if progress is not None:
                progress(state.cursor.done, max(state.total, state.cursor.done))
            if builder.finished:
                editor.finish_index(name, state.raw)
    except (exc.DataError, exc.IntegrityError):
        with contextlib.suppress(exc.ProgrammingError):  # another building of it was first to drop it
            editor.drop_index(name)
        raise


class _Builder:
    """Takes one building forward, batch by batch.

    Attributes:
        finished: the last step found no more records.
    """

    def __init__(self, live: LiveCatalog, name: str, batch_size: int) -> None:
        self.live, self.name = live, name
        self.backend = live.backend
        self.largest = self.size = batch_size
        self.finished = False
        self._token: bytes | None = None

    def step(self) -> _State | None:
        """Do a batch, and return the state after it; None if the index is readable."""
        unknown = 0
        while True:
            try:
                with self.backend.snapshot() as snapshot:
                    state = self._state(snapshot)
                    if state is None:
                        return None
                    pairs = self._records(snapshot, state)
                    if not pairs:
                        self.finished = True
                        return state
                    batch, after = self._batch(snapshot, state, pairs)
                self.finished = False
                self.backend.batch_write(batch)
            except exc.ConflictError:
                # A record changed, or another building was at it too: look again, at fewer.
                self.size = max(1, self.size // 2)
            except exc.BatchTooLarge:
                if self.size == 1:
                    raise
                self.size = max(1, self.size // 2)
            except exc.UnknownColumnFamily:
                unknown += 1  # the index or its table has just been dropped: the next look finds it gone
                if unknown > 2:
                    raise
            else:
                self.size = min(self.largest, self.size * 2)
                return after

    def _state(self, snapshot: Snapshot) -> _State | None:
        entry = self.live.at(snapshot).owner(self.name)
        raw = snapshot.get(RESERVED_FAMILY, building_key(self.name))
        if entry is not None and raw is None and self.name in entry.table.readable:
            return None
        if entry is None or raw is None:
            raise self._gone()
        cursor = self._decode(raw)
        if self._token not in (None, cursor.token):
            raise self._gone()
        self._token = cursor.token
        table = entry.table
        total = 0
        if table.count_key is not None:
            total = decode_counter(snapshot.get(RESERVED_FAMILY, table.count_key))
        return _State(table, table.indexes[self.name], raw, cursor, total)

    def _decode(self, raw: bytes) -> _Cursor:
        try:
            return _decoder.decode(raw)
        except msgspec.MsgspecError as error:
            key = building_key(self.name)
            raise exc.Corruption(
                f"the catalog entry {RESERVED_FAMILY}[{exc.shown(key)}] is damaged: {error} (drop the index)",
                cf=RESERVED_FAMILY, key=key,
            ) from error  # fmt: skip

    def _gone(self) -> exc.SchemaChanged:
        return exc.SchemaChanged(
            f"index {self.name} was dropped while it was being built (create it again)", index=self.name
        )

    def _records(self, snapshot: Snapshot, state: _State) -> list[Pair]:
        start = state.cursor.key + b"\0" if state.cursor.key else b""
        pairs = []
        size = 0
        for pair in islice(snapshot.scan(state.table.name, start), self.size):
            pairs.append(pair)
            size += len(pair[1])
            if size >= _BATCH_BYTES:
                break
        return pairs

    def _batch(self, snapshot: Snapshot, state: _State, pairs: list[Pair]) -> tuple[WriteBatch, _State]:
        table, index = state.table, state.index
        decode = table.codec.decode
        exempt = table.definition.options.compaction == "fifo"
        batch = WriteBatch(max_bytes=UNBOUNDED)
        coming: dict[bytes, bytes] = {}
        for key, value in pairs:
            # A fifo family forgets its oldest records at any time; nothing is expected of them.
            if not exempt:
                batch.expect(table.name, key, value)
            for entry, content in index.entries(decode(key, value), key):
                if index.definition.unique and entry in coming and not exempt:
                    raise self._duplicate(state, entry, coming[entry], content)
                coming[entry] = content
                batch.put(index.family, entry, content)
        if index.definition.unique and not exempt:
            for entry, found in zip(coming, snapshot.multi_get(index.family, list(coming)), strict=True):
                # A writer may have put it there, or this building before it was cut off.
                if found is not None and index.primary_key(entry, found) != index.primary_key(entry, coming[entry]):
                    raise self._duplicate(state, entry, found, coming[entry])
                batch.expect(index.family, entry, found)
        cursor = _Cursor(state.cursor.token, state.cursor.done + len(pairs), pairs[-1][0])
        raw = _encode(cursor)
        batch.expect(RESERVED_FAMILY, building_key(self.name), state.raw)
        batch.put(RESERVED_FAMILY, building_key(self.name), raw)
        return batch, attrs.evolve(state, raw=raw, cursor=cursor)

    def _duplicate(self, state: _State, entry: bytes, first: bytes, second: bytes) -> exc.IntegrityError:
        table, index = state.table, state.index
        values = index.columns.decode(entry)
        shown = ", ".join(
            f"{name}={exc.shown(value) if isinstance(value, bytes) else repr(value)}"
            for name, value in zip(index.definition.columns, values, strict=True)
        )
        records = " and ".join(
            table.codec.named(table.codec.decode_key(index.primary_key(entry, content))) for content in (first, second)
        )
        return exc.IntegrityError(
            f"unique index {self.name} of {table.name} cannot be built: {records} both have ({shown}); it is dropped"
            " again (change one of them, or make it an index that is not unique)",
            table=table.name, index=self.name, values=tuple(values), cf=self.name, key=entry,
        )  # fmt: skip
