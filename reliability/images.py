"""What a disk may hold after the power has gone, worked out from a record of the calls of ``_io.c``.

A file is a row of sectors of 512 bytes. Each sector holds what the file held there at some moment between its last
sync and the end, each its own moment: so writes are dropped, torn, and reach the disk in any order, and one that was
overwritten meanwhile never comes back. The size is that of some moment too; what it covers and was not written is zero.
An entry of a directory (made, renamed, removed) is certain once the directory was synced, and one that was not may have
happened or not, each by itself. The sync of a new file makes its entry certain,
as on ext4, XFS and Btrfs (RocksDB relies on it); that other changes happen in order, as on ext4, is not assumed.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Final

SECTOR: Final = 512
PAGE: Final = 4096
_header = struct.Struct("=6q")


class Kind(IntEnum):
    """Kinds of entries, as in ``_io.c``."""

    CREATE = 1
    WRITE = 2
    SYNC = 3
    SYNC_RANGE = 4
    TRUNCATE = 5
    RENAME = 6
    UNLINK = 7
    MKDIR = 8
    RMDIR = 9
    LINK = 10
    MAPPED = 11
    MARK = 12
    CALL = 13


@dataclass(frozen=True)
class Entry:
    """A call, or a mark. ``first`` and ``second`` are offset and size, or the number of a mark."""

    kind: Kind
    inode: int
    first: int
    second: int
    path: str
    data: bytes


def read(record: Path) -> list[Entry]:
    """The entries of a record that change something, and the marks."""
    return [entry for entry in read_all(record) if entry.kind != Kind.CALL]


def read_all(record: Path) -> list[Entry]:
    """All entries of a record: also, of each call that could be made to fail, that it was made."""
    raw = record.read_bytes()
    entries = []
    at = 0
    while at + _header.size <= len(raw):
        kind, inode, first, second, path_length, data_length = _header.unpack_from(raw, at)
        at += _header.size
        path, data = raw[at : at + path_length].decode(), raw[at + path_length : at + path_length + data_length]
        at += path_length + data_length
        entries.append(Entry(Kind(kind), inode, first, second, path, data))
    return entries


@dataclass(eq=False)
class _File:
    """A file as the record made it.

    Attributes:
        changes: each write and each change of size, by the number of its entry.
        synced: entries before this one are on the disk.
        ranges: what is on the disk beyond that: first sector, end, and the entry before which they are certain.
    """

    changes: dict[int, Entry] = field(default_factory=dict)
    synced: int = 0
    ranges: list[tuple[int, int, int]] = field(default_factory=list)

    @cached_property
    def unsynced(self) -> list[int]:
        """The changes that no sync of the whole file has followed; asked for when all has been read."""
        return [number for number in self.changes if number >= self.synced]

    def certain(self, sector: int) -> int:
        """The entry before which what was written to a sector is on the disk."""
        return max([self.synced, *(number for first, stop, number in self.ranges if first <= sector < stop)])

    @property
    def certain_size(self) -> int:
        """The entry before which changes of the size are on the disk."""
        return max([self.synced, *(number for _, _, number in self.ranges)])


@dataclass(eq=False)
class _Directory:
    """A directory.

    Attributes:
        entries: what it holds at the end.
        synced: changes before this one are on the disk.
    """

    entries: dict[str, _File | _Directory] = field(default_factory=dict)
    synced: int = 0


_Step = tuple[_Directory, str, "_File | _Directory | None"]
"""A directory, a name in it, and what it stands for then; None: nothing any more."""
_Names = dict[_Directory, dict[str, _File | _Directory]]


class Disk:
    """The files below a directory at one moment of a record, and how much of them is on the disk.

    Args:
        entries: of the record, of which the first is of the directory itself.
        end: the number of entries that happened before the power went.
    """

    def __init__(self, entries: list[Entry], end: int) -> None:
        self._end = end
        self._top = entries[0].path
        self._root = _Directory()
        self._by_inode: dict[int, _File | _Directory] = {entries[0].inode: self._root}
        self._files: list[_File] = []
        self._renamings: dict[int, tuple[_Directory, list[_Step]]] = {}
        self._made: dict[int, int] = {}  # by inode, the number of the entry
        self._certain: set[int] = set()
        for number in range(1, end):
            self._follow(number, entries[number])

    @property
    def unsynced(self) -> int:
        """How many changes are not certain to be on the disk."""
        names = sum(number >= directory.synced for number, (directory, _) in self._renamings.items())
        return names + sum(len(file.unsynced) for file in self._files)

    def _place(self, path: str) -> tuple[_Directory, str]:
        *parents, name = path.removeprefix(self._top + "/").split("/")
        directory = self._root
        for parent in parents:
            found = directory.entries[parent]
            assert isinstance(found, _Directory), f"{path} leads through a file"
            directory = found
        return directory, name

    def _follow(self, number: int, entry: Entry) -> None:
        kind = entry.kind
        if kind in (Kind.WRITE, Kind.TRUNCATE, Kind.SYNC_RANGE):
            file = self._by_inode[entry.inode]
            assert isinstance(file, _File), "a directory is not written"
            if kind == Kind.SYNC_RANGE:
                file.ranges.append((entry.first // SECTOR, -(-(entry.first + entry.second) // SECTOR), number))
            else:
                file.changes[number] = entry
        elif kind == Kind.SYNC:
            self._by_inode[entry.inode].synced = number
            self._certain.add(self._made.get(entry.inode, number))
        elif kind == Kind.CREATE:
            made = self._by_inode[entry.inode] = _File()
            self._files.append(made)
            self._made[entry.inode] = number
            self._rename(number, (*self._place(entry.path), made))
        elif kind == Kind.MKDIR:
            self._by_inode[entry.inode] = directory = _Directory()
            self._rename(number, (*self._place(entry.path), directory))
        elif kind in (Kind.UNLINK, Kind.RMDIR):
            self._rename(number, (*self._place(entry.path), None))
        elif kind in (Kind.RENAME, Kind.LINK):
            source, name = self._place(entry.path)
            moved = source.entries.get(name)
            if moved is not None:  # else a file that is not seen: RocksDB's LOG
                gone: list[_Step] = [(source, name, None)] if kind == Kind.RENAME else []
                self._rename(number, (*self._place(entry.data.decode()), moved), *gone)
        elif kind == Kind.MAPPED and not entry.path.endswith("lock.mdb"):
            raise SystemExit(f"{entry.path} is written through a map, which no record shows")

    def _rename(self, number: int, *steps: _Step) -> None:
        for directory, name, node in steps:
            _set(directory.entries, name, node)
        self._renamings[number] = (steps[0][0], list(steps))

    # ------------------------------------------------------------------ images

    def image(self, target: Path, rng: random.Random) -> str:
        """Write what the disk may hold into a new directory, and say how it was chosen."""
        unsynced = [number for file in self._files for number in file.unsynced]
        choice = rng.choice(_CHOICES)(self._end, unsynced, rng)
        self._write(self._root, self._names(choice), target, choice)
        return choice.name

    def whole(self, target: Path) -> None:
        """Write all that has happened into a new directory."""
        choice = Choice(self._end, [], random.Random())  # noqa: S311 - nothing is chosen
        self._write(self._root, self._names(choice), target, choice)

    def _names(self, choice: Choice) -> _Names:
        """What each directory holds on the disk."""
        found: _Names = {}
        unsynced = [number for number, (directory, _) in self._renamings.items() if number >= directory.synced]
        lost = set(unsynced) - choice.happened(unsynced) - self._certain
        for number, (_, steps) in self._renamings.items():
            if number in lost:
                continue
            moved = steps[0][2]
            for directory, name, node in steps:
                entries = found.setdefault(directory, {})
                # Where the name has come to stand for another meanwhile, a renaming does not take it away.
                if node is not None or moved is None or entries.get(name) is moved:
                    _set(entries, name, node)
        return found

    def _write(
        self,
        directory: _Directory,
        names: dict[_Directory, dict[str, _File | _Directory]],
        target: Path,
        choice: Choice,
    ) -> None:
        target.mkdir()
        for name, node in names.get(directory, {}).items():
            if isinstance(node, _Directory):
                self._write(node, names, target / name, choice)
            else:
                (target / name).write_bytes(_content(node, choice))


def _set(entries: dict[str, _File | _Directory], name: str, node: _File | _Directory | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def _content(file: _File, choice: Choice) -> bytes:
    """The bytes of a file on the disk."""
    limits: dict[int, int] = {}
    last_size = max(choice.size(file), file.certain_size)
    content = bytearray()
    size = 0
    for number, change in file.changes.items():
        begin, data = change.first, change.data
        if change.kind == Kind.TRUNCATE:
            data = bytes(max(len(content) - begin, 0))  # what lay behind
        elif len(content) < begin + len(data):
            content.extend(bytes(begin + len(data) - len(content)))
        if number < last_size:
            size = begin if change.kind == Kind.TRUNCATE else max(size, begin + len(data))
        if number < file.synced:
            content[begin : begin + len(data)] = data
            continue
        for sector in range(begin // SECTOR, -(-(begin + len(data)) // SECTOR)):
            if sector not in limits:
                limits[sector] = max(choice.sector(file, sector), file.certain(sector))
            if number < limits[sector]:
                start, stop = max(begin, sector * SECTOR), min(begin + len(data), (sector + 1) * SECTOR)
                content[start:stop] = data[start - begin : stop - begin]
    return bytes(content[:size]).ljust(size, b"\0")


class Choice:
    """Until which entry each part of a disk has what was written; this one: to the end, all of it.

    Args:
        end: the number of entries that happened.
        unsynced: those that changed a file and were not followed by a sync.
        rng: what chooses.
    """

    name = "all"

    def __init__(self, end: int, unsynced: list[int], rng: random.Random) -> None:
        self.end, self.unsynced, self.rng = end, unsynced, rng

    def sector(self, file: _File, sector: int) -> int:  # noqa: ARG002
        """The entry before which a sector has what was written to it."""
        return self.size(file)

    def size(self, file: _File) -> int:  # noqa: ARG002
        """The entry before which the size of a file has changed."""
        return self.end

    def happened(self, renamings: list[int]) -> set[int]:
        """Those among unsynced changes of directories that have come about."""
        return set(renamings)


class Nothing(Choice):
    """Only what was synced."""

    name = "nothing unsynced"

    def size(self, file: _File) -> int:  # noqa: ARG002
        return 0

    def happened(self, renamings: list[int]) -> set[int]:  # noqa: ARG002
        return set()


class Moment(Choice):
    """What was written by some moment before the end."""

    name = "an earlier moment"

    def __init__(self, end: int, unsynced: list[int], rng: random.Random) -> None:
        super().__init__(end, unsynced, rng)
        self._moment = rng.choice([*unsynced, end])

    def size(self, file: _File) -> int:  # noqa: ARG002
        return self._moment

    def happened(self, renamings: list[int]) -> set[int]:
        return {number for number in renamings if number < self._moment}


class Scattered(Choice):
    """Each page of its own moment."""

    name = "pages, each of its moment"
    unit = PAGE // SECTOR

    def __init__(self, end: int, unsynced: list[int], rng: random.Random) -> None:
        super().__init__(end, unsynced, rng)
        self._chosen: dict[tuple[_File, int], int] = {}

    def sector(self, file: _File, sector: int) -> int:
        place = (file, sector // self.unit)
        if place not in self._chosen:
            self._chosen[place] = self.size(file)
        return self._chosen[place]

    def size(self, file: _File) -> int:
        return self.rng.choice([0, *file.unsynced, self.end])

    def happened(self, renamings: list[int]) -> set[int]:
        return {number for number in renamings if self.rng.random() < 0.5}


class Torn(Scattered):
    """Each sector of its own moment."""

    name = "sectors, each of its moment"
    unit = 1


class OneLost(Choice):
    """All but one write, or all but one change of a directory."""

    name = "one lost"

    def __init__(self, end: int, unsynced: list[int], rng: random.Random) -> None:
        super().__init__(end, unsynced, rng)
        self._lost = rng.choice(unsynced) if unsynced else end

    def sector(self, file: _File, sector: int) -> int:
        lost = file.changes.get(self._lost)
        within = (
            lost is not None and lost.first < (sector + 1) * SECTOR and sector * SECTOR < lost.first + len(lost.data)
        )
        return self._lost if within else self.end

    def happened(self, renamings: list[int]) -> set[int]:
        return set(renamings) - ({self.rng.choice(renamings)} if renamings else set())


_CHOICES: Final[tuple[type[Choice], ...]] = (Choice, Nothing, Moment, Scattered, Torn, OneLost)
