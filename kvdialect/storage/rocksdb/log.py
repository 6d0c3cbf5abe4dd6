"""RocksDB's logs and its manifest as files: which there are, and an end that a power loss has torn.

A disk writes the sectors of an unsynced record in any order: a later one may be there, and an earlier one not, which
then reads as zeros. RocksDB sees a checksum that does not fit with more behind it, and cannot tell that from bytes that
rotted in what was synced. Zeros up to the borders of sectors in the last record, and no whole one behind them, can: it
was never synced, so nobody was told of the commit in it, and no file was removed because of what a manifest said in it.

The layout is that of RocksDB's ``db/log_format.h``, of a batch ``db/write_batch.cc``, and of what a manifest holds
``db/version_edit.cc``.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from kvdialect.storage.storedir import sync

_BLOCK: Final = 32768
_SECTOR: Final = 512
_HEADER: Final = struct.Struct("<IHB")  # masked CRC-32C of kind and data, length, kind
_BATCH: Final = struct.Struct("<QI")  # number of its first change, how many it has
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_LARGEST: Final = 4 << 20
"""Bytes up to which a batch or a manifest is looked at: the checksum is computed in Python."""
_FEWEST_ZEROS: Final = 8
"""So many zeros up to the border of a sector were not written; fewer end many a record."""
_MIN_LOG: Final = 10
_NUMBERS: Final = frozenset({2, 3, 4, 9, _MIN_LOG, 200, 203, 300})
"""Tags of an edit that are followed by a number; those that come before any other do."""
_TEXTS: Final = frozenset({1, 201, 4101})
"""Tags that are followed by a text."""


@attrs.frozen(slots=True)
class _Batch:
    """A batch whose beginning was found: where, and its numbers."""

    offset: int
    first: int
    count: int


def file_moment(path: str) -> tuple[tuple[str, int], frozenset[int]]:
    """What tells whether a writer has flushed or compacted in between: the manifest, its size, the logs there are."""
    logs = frozenset(number for number, _ in _logs(path))
    try:
        name = Path(path, "CURRENT").read_text(errors="replace").strip()
        return (name, os.path.getsize(os.path.join(path, name))), logs
    except FileNotFoundError:
        return ("", 0), logs


def before_torn_end(path: str) -> int | None:
    """The number of the last change before the torn end of the newest log, or None if that is not what is wrong.

    Raises:
        OSError: if a log cannot be read.
    """
    full = [log for _, log in _logs(path) if os.path.getsize(log)]
    return _before_torn_end(full[-1].read_bytes()) if full else None


def _logs(path: str) -> list[tuple[int, Path]]:
    """The write-ahead logs by number, the oldest first."""
    return sorted((int(log.stem), log) for log in Path(path).glob("*.log") if log.stem.isdigit())


def _before_torn_end(raw: bytes) -> int | None:
    previous, last, end = _walk(raw)
    if last is None or len(raw) - last.offset > _LARGEST:
        return None
    whole = _end_of_whole(raw, last.offset) is not None
    torn = end if whole else last.offset
    if not _has_unwritten_sector(raw, torn) or _has_whole(raw, torn):
        return None
    if whole:
        return last.first + last.count - 1
    # Its own numbers may be among what was not written.
    return previous.first + previous.count - 1 if previous else (last.first - 1 if last.first else None)


def _walk(raw: bytes) -> tuple[_Batch | None, _Batch | None, int]:
    """The last two batches that records lead to, and where that ends."""
    previous = last = None
    at = 0
    while True:
        if _BLOCK - at % _BLOCK < _HEADER.size:
            at += _BLOCK - at % _BLOCK
        if at + _HEADER.size > len(raw):
            return previous, last, at
        _, length, kind = _HEADER.unpack_from(raw, at)
        start = at + _HEADER.size
        if not _FULL <= kind <= _LAST or at % _BLOCK + _HEADER.size + length > _BLOCK:
            return previous, last, at
        if kind in (_FULL, _FIRST) and start + _BATCH.size <= len(raw):
            previous, last = last, _Batch(at, *_BATCH.unpack_from(raw, start))
        at = start + length


def _end_of_whole(raw: bytes, at: int) -> int | None:
    """Where a batch or an edit ends that begins at ``at``, or None unless all its records have their checksums."""
    first = True
    while True:
        if _BLOCK - at % _BLOCK < _HEADER.size:
            at += _BLOCK - at % _BLOCK
        if at + _HEADER.size > len(raw):
            return None
        checksum, length, kind = _HEADER.unpack_from(raw, at)
        end: int = at + _HEADER.size + length
        if kind not in ((_FULL, _FIRST) if first else (_MIDDLE, _LAST)) or end > len(raw):
            return None
        if _masked(_crc32c(raw[at + _HEADER.size - 1 : end])) != checksum:
            return None
        if kind in (_FULL, _LAST):
            return end
        first, at = False, end


def _has_unwritten_sector(raw: bytes, start: int) -> bool:
    """Whether a sector, as far as it lies behind ``start`` and before the end, is zeros."""
    at = start
    while at < len(raw):
        end = min((at // _SECTOR + 1) * _SECTOR, len(raw))
        if end - at >= _FEWEST_ZEROS and not any(raw[at:end]):
            return True
        at = end
    return False


def _has_whole(raw: bytes, start: int) -> bool:
    """Whether a batch or an edit begins behind ``start``, where one can be found: at the beginning of a block."""
    return any(_end_of_whole(raw, at) is not None for at in range(-(-(start + 1) // _BLOCK) * _BLOCK, len(raw), _BLOCK))


# ------------------------------------------------------------------------------------------------ the manifest


@attrs.frozen(slots=True)
class TornManifest:
    """A manifest whose end a power loss has torn.

    Attributes:
        file: where it is.
        size: bytes before its torn end.
    """

    file: Path
    size: int

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the torn end off, on the disk too; put it back if the ``with`` block fails."""
        end = self.file.read_bytes()[self.size :]
        os.truncate(self.file, self.size)
        sync(str(self.file))
        try:
            yield
        except BaseException:
            # RocksDB may have begun another one, and removed this.
            with contextlib.suppress(FileNotFoundError), self.file.open("r+b") as file:
                file.seek(self.size)
                file.write(end)
                file.flush()
                os.fsync(file.fileno())
            raise


def torn_manifest(path: str) -> TornManifest | None:
    """The manifest of the store at ``path``, if it has a torn end, which was never synced, and is sound before it.

    An edit that was synced and rotted to zeros since would look the same, but for this: once it is synced RocksDB
    removes the logs that it makes superfluous. So the oldest log that the sound part wants must be there; where that is
    what recovery has set, it is the one that was begun with this manifest, whose number is just below.

    Raises:
        OSError: if it, or the name of it, cannot be read.
    """
    name = Path(path, "CURRENT").read_text(errors="replace").strip()
    file = Path(path, name)
    if not re.fullmatch(r"MANIFEST-\d+", name) or file.stat().st_size > _LARGEST:
        return None
    raw = file.read_bytes()
    torn = wanted = 0
    while (end := _end_of_whole(raw, torn)) is not None:
        wanted = max(wanted, _numbers(raw, torn).get(_MIN_LOG, 0))
        torn = end
    if not _has_unwritten_sector(raw, torn) or _has_whole(raw, torn) or _follows_whole(raw, torn):
        return None
    oldest = next((number for number, _ in _logs(path) if number >= wanted), None)
    there = oldest is not None and (oldest == wanted or oldest < int(name.removeprefix("MANIFEST-")))
    return TornManifest(file, torn) if there else None


def _follows_whole(raw: bytes, at: int) -> bool:
    """Whether a whole edit is where the damaged one at ``at`` says that it ends."""
    if at + _HEADER.size > len(raw):
        return False
    _, length, kind = _HEADER.unpack_from(raw, at)
    return bool(kind) and _end_of_whole(raw, at + _HEADER.size + length) is not None


def _numbers(raw: bytes, at: int) -> dict[int, int]:
    """The numbers by tag with which the edit at ``at`` begins."""
    if _BLOCK - at % _BLOCK < _HEADER.size:
        at += _BLOCK - at % _BLOCK
    _, length, _ = _HEADER.unpack_from(raw, at)
    edit = raw[at + _HEADER.size : at + _HEADER.size + length]
    numbers: dict[int, int] = {}
    at = 0
    with contextlib.suppress(IndexError):  # where a record of several ends
        while at < len(edit):
            tag, at = _varint(edit, at)
            if tag not in _NUMBERS and tag not in _TEXTS:
                break
            number, at = _varint(edit, at)
            if tag in _TEXTS:
                at += number
            else:
                numbers[tag] = number
    return numbers


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    number = shift = 0
    while raw[at] & 0x80:
        number |= (raw[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | raw[at] << shift, at + 1


# ------------------------------------------------------------------------------------------------ checksums


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - the usual form of it
        table.append(value)
    return tuple(table)


_TABLE: Final = _table()


def _crc32c(data: bytes) -> int:
    table, value = _TABLE, 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _masked(checksum: int) -> int:
    """RocksDB's masking (``util/crc32c.h``), as checksums of data that hold checksums are weak."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
