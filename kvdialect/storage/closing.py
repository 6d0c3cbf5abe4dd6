"""What a store was when it was last closed: a note beside its marker, compared when it is opened again.

An engine that finds less than it has written cannot tell damage from a crash. RocksDB takes a manifest or a log that
was cut short for one whose end did not reach the disk, goes back to what was before, and removes the files that then
belong to nothing; LMDB goes by the older of its two meta pages. After a crash that is right. After a clean close it
loses what was acknowledged, without a word: the note tells the two apart.

The note is removed, durably, before a store whose files are in it is opened for writing, and written when it was
closed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec
import xxhash

from kvdialect.storage.storedir import sync

NOTE: Final = "KVDIALECT.closed"
_PART: Final = 1 << 20


class File(msgspec.Struct, frozen=True):
    """A file as it was: its bytes, and XXH3-64 of them, or "" where the engine has checksums of its own in it."""

    size: int
    hash: str


class Closed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a store was.

    Attributes:
        transaction: the number of the last transaction; a store never goes back behind it.
        files: by name; they stay as they are for as long as nobody opens the store for writing.
    """

    transaction: int | None = None
    files: dict[str, File] = {}


def described(path: str, name: str, *, hashed: bool) -> File:
    """The file ``name`` of the store at ``path`` as it is."""
    digest = xxhash.xxh3_64()
    with open(os.path.join(path, name), "rb") as file:
        if not hashed:
            return File(os.fstat(file.fileno()).st_size, "")
        size = 0
        while part := file.read(_PART):
            digest.update(part)
            size += len(part)
    return File(size, digest.hexdigest())


def difference(path: str, noted: Closed) -> str | None:
    """What is not as it was noted of the files, or None."""
    for name, was in noted.files.items():
        try:
            found = described(path, name, hashed=bool(was.hash))
        except FileNotFoundError:
            return f"{name} is missing"
        except IsADirectoryError:
            return f"{name} is a directory"
        if found.size != was.size:
            return f"{name} has {found.size} bytes and had {was.size}"
        if found.hash != was.hash:
            return f"{name} has changed"
    return None


def read(path: str) -> Closed | None:
    """The note of the store at ``path``, or None: there is none, or none that can be trusted."""
    try:
        digest, _, raw = Path(path, NOTE).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if digest.decode(errors="replace") != xxhash.xxh3_64_hexdigest(raw):
        return None  # its end did not reach the disk, or it is damaged itself
    try:
        return msgspec.json.decode(raw, type=Closed)
    except msgspec.DecodeError:
        return None  # of a later release


def write(path: str, noted: Closed) -> None:
    """Write the note, in one step.

    It is not synced: without it nothing is lost but what it is for.
    """
    raw = msgspec.json.encode(noted)
    temporary = os.path.join(path, f"{NOTE}.new")
    Path(temporary).write_bytes(xxhash.xxh3_64_hexdigest(raw).encode() + b"\n" + raw)
    os.replace(temporary, os.path.join(path, NOTE))


def remove(path: str) -> None:
    """Remove the note, durably: what is written from here on is not what it says."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(path, NOTE))
        sync(path)
