"""The end of a write-ahead log that a power loss has torn.

A disk writes the sectors of an unsynced record in any order: a later one may be there, and an earlier one not, which
then reads as zeros. RocksDB sees a checksum that does not fit with more behind it, and cannot tell that from bytes that
rotted in a commit that was acknowledged. Sectors of zeros in the last batch of the newest log, and no whole batch
behind them, can: it was never synced, so nobody was told that it is there.

The layout is that of RocksDB's ``db/log_format.h`` and, of a batch, ``db/write_batch.cc``.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

import attrs

_BLOCK: Final = 32768
_SECTOR: Final = 512
_HEADER: Final = struct.Struct("<IHB")  # masked CRC-32C of kind and data, length, kind
_BATCH: Final = struct.Struct("<QI")  # number of its first change, how many it has
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_LARGEST: Final = 4 << 20
"""Bytes up to which a batch is looked at: the checksum is computed in Python."""


@attrs.frozen(slots=True)
class _Batch:
    """A batch whose beginning was found: where, and its numbers."""

    offset: int
    first: int
    count: int


def before_torn_end(path: str) -> int | None:
    """The number of the last change before the torn end of the newest log, or None if that is not what is wrong.

    Raises:
        OSError: if a log cannot be read.
    """
    logs = sorted(Path(path).glob("*.log"), key=lambda log: int(log.stem) if log.stem.isdigit() else -1)
    full = [log for log in logs if os.path.getsize(log)]
    return _before_torn_end(full[-1].read_bytes()) if full else None


def _before_torn_end(raw: bytes) -> int | None:
    previous, last, end = _walk(raw)
    if last is None or len(raw) - last.offset > _LARGEST:
        return None
    whole = _whole(raw, last.offset)
    torn = end if whole else last.offset
    if not _has_unwritten_sector(raw, torn) or _has_whole_batch(raw, torn):
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


def _whole(raw: bytes, at: int) -> bool:
    """Whether a batch that begins at ``at`` is there, all its records with the checksums that they should have."""
    first = True
    while True:
        if _BLOCK - at % _BLOCK < _HEADER.size:
            at += _BLOCK - at % _BLOCK
        if at + _HEADER.size > len(raw):
            return False
        checksum, length, kind = _HEADER.unpack_from(raw, at)
        end = at + _HEADER.size + length
        if kind not in ((_FULL, _FIRST) if first else (_MIDDLE, _LAST)) or end > len(raw):
            return False
        if _masked(_crc32c(raw[at + _HEADER.size - 1 : end])) != checksum:
            return False
        if kind in (_FULL, _LAST):
            return True
        first, at = False, end


def _has_unwritten_sector(raw: bytes, start: int) -> bool:
    nothing = bytes(_SECTOR)
    aligned = -(-start // _SECTOR) * _SECTOR
    return any(raw[at : at + _SECTOR] == nothing for at in range(aligned, len(raw) - _SECTOR + 1, _SECTOR))


def _has_whole_batch(raw: bytes, start: int) -> bool:
    """Whether a batch begins behind ``start``, where one can be found: at the beginning of a block."""
    return any(_whole(raw, at) for at in range(-(-(start + 1) // _BLOCK) * _BLOCK, len(raw), _BLOCK))


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
