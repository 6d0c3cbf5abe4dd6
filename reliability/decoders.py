"""What reads bytes that may be anything, for row 9: rows, entries, keys, the catalog, tokens, files.

Each target takes bytes and says nothing, or raises one of its documented errors; anything else is a finding. Each has a
corpus: what a real store holds.
"""

from __future__ import annotations

import base64
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from sqlalchemy import select

from kvdialect import Session, exc
from kvdialect.query import paging
from kvdialect.schema import rows
from kvdialect.schema.rows import TableCodec
from kvdialect.storage import tokens
from kvdialect.storage.batch import decode_counter, encode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.storedir import MARKER, read_marker
from kvdialect.store.catalog import TABLE, VIEW, Catalog
from kvdialect.store.entries import decode_entry
from reliability.samples import Composite, Everything, Foreign, store


@dataclass(frozen=True)
class Target:
    """Something that decodes.

    Attributes:
        decode: takes bytes; what it must not raise it does not catch.
        corpus: bytes to begin with.
        share: of the executions, against those of the others.
    """

    decode: Callable[[bytes], object]
    corpus: Callable[[], list[bytes]]
    share: int = 1


# ------------------------------------------------------------------------------------------------ pairs as bytes


def _joined(number: int, key: bytes, value: bytes = b"") -> bytes:
    """What one execution takes: a number that chooses, the length of the key, key and value."""
    return bytes((number,)) + len(key).to_bytes(2, "big") + key + value


def _parted(data: bytes, choices: int) -> tuple[int, bytes, bytes]:
    number, length, rest = (data[0] if data else 0) % choices, int.from_bytes(data[1:3], "big"), data[3:]
    return number, rest[:length], rest[length:]


def _outcome(work: Callable[[], Any]) -> str:
    try:
        return repr(work())
    except exc.SerializationError:
        return "SerializationError"


@cache
def _codecs() -> list[tuple[Any, Any]]:
    """For each table its codec, and one that has generated code alone."""
    pairs: list[tuple[Any, Any]] = []
    for table in store().catalog.tables.values():
        codec: Any = table.codec
        generated = codec
        if not table.definition.shared:
            with mock.patch.object(rows, "decoder", return_value=None):
                generated = TableCodec(table.definition)
        pairs.append((codec, generated))
    return pairs


def _family_pairs(table: Any) -> Iterator[tuple[bytes, bytes]]:
    yield from store().backend.prefix_scan(table.family, table.prefix)


def rows_corpus() -> list[bytes]:
    """Every row of the store."""
    tables = list(store().catalog.tables.values())
    return [_joined(n, key, value) for n, table in enumerate(tables) for key, value in _family_pairs(table)]


def decode_row(data: bytes) -> None:
    """A row by compiled and by generated code, which must agree; and its key alone."""
    number, key, value = _parted(data, len(_codecs()))
    codec, generated = _codecs()[number]
    found = _outcome(lambda: codec.decode(key, value))
    if codec is not generated:
        other = _outcome(lambda: generated.decode(key, value))
        assert found == other, f"compiled code gives {found}, generated code {other}"
    _outcome(lambda: codec.decode_key(key))


@cache
def _indexes() -> list[tuple[Any, Any]]:
    return [
        pair
        for codec, generated in _codecs()
        if not codec.definition.shared
        for pair in zip(codec.indexes, generated.indexes, strict=True)
    ]


def entries_corpus() -> list[bytes]:
    """Every index entry of the store's records."""
    backend = store().backend
    return [
        _joined(n, key, value) for n, (index, _) in enumerate(_indexes()) for key, value in backend.scan(index.family)
    ]


def decode_index_entry(data: bytes) -> None:
    """An index entry by compiled and generated code, and the record's key in it."""
    number, key, value = _parted(data, len(_indexes()))
    index, generated = _indexes()[number]
    found, other = _outcome(lambda: index.decode(key, value)), _outcome(lambda: generated.decode(key, value))
    assert found == other, f"compiled code gives {found}, generated code {other}"
    _outcome(lambda: index.primary_key(key, value))


_RECORDS: tuple[Any, ...] = (Everything, Composite, Foreign)


def decode_object(data: bytes) -> None:
    """A record as a session loads it, behind a whole store."""
    number, key, value = _parted(data, len(_RECORDS))
    cls = _RECORDS[number]
    if not 0 < len(key) <= 510:
        return
    engine = store()
    before = engine.backend.get(cls.__tablename__, key)
    engine.backend.put(cls.__tablename__, key, value)
    try:
        with Session(engine) as session:
            for read in (
                lambda: list(session.scan(cls)),
                lambda: session.scalars(select(cls)).all(),
                lambda: session.execute(select(cls.__table__)).all(),
            ):
                try:
                    read()
                except (exc.SerializationError, exc.DataError):
                    # The second: JSON with a key that is no text decodes, and is told when it would be written again.
                    session.rollback()
    finally:
        if before is None:
            engine.backend.delete(cls.__tablename__, key)
        else:
            engine.backend.put(cls.__tablename__, key, before)


def objects_corpus() -> list[bytes]:
    """Every record of the store."""
    backend = store().backend
    return [_joined(n, key, value) for n, cls in enumerate(_RECORDS) for key, value in backend.scan(cls.__tablename__)]


# ------------------------------------------------------------------------------------------------ the catalog


def catalog_corpus() -> list[bytes]:
    """The entries of all tables."""
    return [raw for _, raw in store().backend.prefix_scan(RESERVED_FAMILY, TABLE)]


def decode_catalog(data: bytes) -> None:
    """A table's entry, with the code that is generated from it and a use of that."""
    try:
        table = decode_entry(TABLE + b"t", data).table
        for decode in (
            table.codec.decode,
            *(index.decode for index in table.codec.indexes if hasattr(index, "decode")),
        ):
            _outcome(lambda decode=decode: decode(b"\1" * 8, b"\1\0\1\x93\1\2\3"))  # type: ignore[misc]
    except (exc.Corruption, exc.StoreFormatError):
        pass


@cache
def _reserved() -> dict[bytes, bytes]:
    return dict(store().backend.scan(RESERVED_FAMILY))


class _Reader:
    """The reserved family, with one pair as it was found."""

    def __init__(self, key: bytes, value: bytes) -> None:
        self.pairs = {**_reserved(), key: value}

    def get(self, _cf: str, key: bytes) -> bytes | None:
        return self.pairs.get(key)

    def prefix_scan(self, _cf: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(pair for pair in self.pairs.items() if pair[0].startswith(prefix)))


def decode_catalog_pair(data: bytes) -> None:
    """The whole catalog, with one pair that is anything."""
    _, key, value = _parted(data, 1)
    try:
        before = attrs.evolve(store().catalog, raw_version=b"an earlier one")
        Catalog.load(_Reader(b"catalog/" + key, value), before)  # type: ignore[arg-type]
    except (exc.Corruption, exc.StoreFormatError):
        pass


def catalog_pairs_corpus() -> list[bytes]:
    """The catalog's small pairs, and a view."""
    pairs = store().backend.prefix_scan(RESERVED_FAMILY, b"catalog/")
    return [
        _joined(0, key.removeprefix(b"catalog/"), value)
        for key, value in pairs
        if len(value) < 300 or key.startswith(VIEW)
    ]


# ------------------------------------------------------------------------------------------------ tokens and counters


_STATEMENTS = (
    select(Everything).order_by(Everything.id),
    select(Everything).order_by(Everything.money, Everything.real),
    select(Everything).order_by(Everything.naive, Everything.span.desc(), Everything.name),
    select(Everything.i16, Everything.text).order_by(Everything.text, Everything.i16),
    select(Composite).where(Composite.a >= "").order_by(Composite.note),
)


def tokens_corpus() -> list[bytes]:
    """The token of a page of each statement, without its base64."""
    found = []
    with Session(store()) as session:
        for number, statement in enumerate(_STATEMENTS):
            token = session.page(statement, 1).next
            assert token is not None
            found.append(bytes((number,)) + base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return found


def decode_page_token(data: bytes) -> None:
    """A token as it comes back, on one of several statements."""
    number = (data[0] if data else 0) % len(_STATEMENTS)
    with Session(store()) as session, contextlib.suppress(exc.ArgumentError):
        session.page(_STATEMENTS[number], 3, after=base64.urlsafe_b64encode(data[1:]).rstrip(b"=").decode())
    with contextlib.suppress(exc.ArgumentError):
        paging._decoded(data[1:].decode("latin-1"))


def decode_counters(data: bytes) -> None:
    """A counter of a batch."""
    with contextlib.suppress(exc.CounterError):
        decode_counter(data)


# ------------------------------------------------------------------------------------------------ files


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="kvdialect-decoders-"))


def decode_marker(data: bytes) -> None:
    """The file that says what a store is."""
    (_folder() / MARKER).write_bytes(data)
    with contextlib.suppress(exc.StoreFormatError):
        read_marker(str(_folder()))


def markers_corpus() -> list[bytes]:
    """Markers of this release."""
    return [b'{"format":1,"engine":"lmdb","checksum":true}\n', b'{"format":1,"engine":"rocksdb","checksum":false}\n']


def decode_lmdb_value(data: bytes) -> None:
    """A value with its checksum, by compiled and by plain code."""
    from kvdialect.storage.lmdb import checksums

    seed, key, raw = _parted(data, 256)
    found = []
    for value, pairs in ((checksums.value, checksums.pairs), (checksums._value, checksums._pairs)):
        try:
            found.append((value(key, raw, seed), pairs([(key, raw)], 0, seed)))
        except ValueError:
            found.append(None)  # type: ignore[arg-type]
    assert found[0] == found[1], f"compiled code gives {found[0]}, plain code {found[1]}"


def lmdb_values_corpus() -> list[bytes]:
    """Values with good checksums."""
    from kvdialect.storage.lmdb import checksums

    cases = [(b"k", b""), (b"key" * 20, b"value" * 50)]
    return [_joined(7, key, checksums.sealed([(key, value)], b"", 7)[0][1]) for key, value in cases]


def decode_lmdb_file(data: bytes) -> None:
    """The head of LMDB's file, and its tree of free pages."""
    from kvdialect.storage.lmdb.file import check_file

    (_folder() / "data.mdb").write_bytes(data)
    with contextlib.suppress(exc.Corruption):
        check_file(str(_folder()))


def lmdb_files_corpus() -> list[bytes]:
    """A small environment, and one that was cut short."""
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        with lmdb.open(folder, map_size=1 << 20) as env:
            for number in range(20):
                with env.begin(write=True) as txn:
                    txn.put(b"%d" % (number % 3), bytes(3000))
        raw = (Path(folder) / "data.mdb").read_bytes()
    return [raw[:8192], raw[: 12 * 4096], raw[: 4 * 4096]]


@cache
def _lmdb() -> Any:
    from kvdialect import open_backend

    return open_backend(f"lmdb:///{_folder() / 'tokens'}?durability=none", ["a"])


def decode_commit_token(data: bytes) -> None:
    """A commit token, on a store."""
    with contextlib.suppress(exc.ArgumentError):
        _lmdb().commit_outcome(data)


def commit_tokens_corpus() -> list[bytes]:
    """Tokens of the right length."""
    return [bytes(16), bytes(range(16))]


def decode_lmdb_own(data: bytes) -> None:
    """What LMDB's own database says of families and of commits."""
    from kvdialect.storage.lmdb import checksums
    from kvdialect.storage.lmdb.families import opened, place_of

    _, key, value = _parted(data, 1)
    try:
        name, place = place_of(key, value)
        family = opened(name, None, place)
        checksums.sealed([(b"k", b"v")], family.tag, family.seed)
    except exc.Corruption:
        pass
    with contextlib.suppress(exc.Corruption):
        tokens.reached(value)
    tokens.outdated([(key, value)] * 300)


def lmdb_own_corpus() -> list[bytes]:
    """The place of a family with a tag and of one without."""
    import msgspec

    places = [{"database": "coins", "tag": tag, "seed": 2**32 - 1} for tag in (None, 3)]
    return [_joined(0, b"fcoins", msgspec.msgpack.encode(place)) for place in places] + [_joined(0, b"t", bytes(16))]


def counters_corpus() -> list[bytes]:
    """Counters."""
    return [encode_counter(number) for number in (0, -1, 2**63 - 1)]


TARGETS: dict[str, Target] = {
    "rows": Target(decode_row, rows_corpus, 12),
    "index entries": Target(decode_index_entry, entries_corpus, 12),
    "objects": Target(decode_object, objects_corpus, 1),
    "catalog entries": Target(decode_catalog, catalog_corpus, 4),
    "catalog": Target(decode_catalog_pair, catalog_pairs_corpus, 2),
    "page tokens": Target(decode_page_token, tokens_corpus, 2),
    "counters": Target(decode_counters, counters_corpus, 1),
    "markers": Target(decode_marker, markers_corpus, 2),
    "LMDB values": Target(decode_lmdb_value, lmdb_values_corpus, 6),
    "LMDB files": Target(decode_lmdb_file, lmdb_files_corpus, 2),
    "LMDB's own database": Target(decode_lmdb_own, lmdb_own_corpus, 4),
    "commit tokens": Target(decode_commit_token, commit_tokens_corpus, 2),
}
"""By name what is fuzzed."""
