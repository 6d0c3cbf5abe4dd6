"""Whether the pages of LMDB's data file lead to each other as they should.

LMDB trusts its pages. One that was swapped for another, or in which a bit of a key or a page number was flipped, makes
it look for a key in the wrong place, and say that what is there is not. Its pages have no checksum, but they have their
own numbers, every tree says how many entries it has, and keys are in order: here the trees are walked as ``mdb.c``
walks them, and all that is compared.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import attrs

from kvdialect.storage.contract import Pair
from kvdialect.storage.lmdb.checksums import nodes
from kvdialect.storage.lmdb.layout import (
    BIG,
    BRANCH,
    DATA_FILE,
    DUPLICATES,
    HEADER,
    LEAF,
    LEAF2,
    NO_PAGE,
    OVERFLOW,
    PAGE,
    SUB,
    Meta,
    Root,
    node,
    read_metas,
)

SMALL: Final = 2048
"""Pages up to which a store is looked through as it is opened: 8 MiB of the usual ones, some milliseconds."""
UPPER: Final = 256
"""Pages that are looked at in a larger one, from the roots of all trees downwards."""


@attrs.frozen
class Fault:
    """Something about a page that cannot be.

    Attributes:
        message: what.
        database: the named database whose tree it is in, or None: the one that lists them, or that of free pages.
    """

    message: str
    database: str | None


@attrs.define(slots=True)
class _Tree:
    """A tree that is being walked, and how many entries it was found to have.

    That of free pages has numbers for keys, in the machine's own byte order: it is not ordered as bytes are.
    """

    name: str
    database: str | None
    root: Root
    ordered: bool = True
    counted: int = 0
    whole: bool = True


@attrs.frozen(slots=True)
class _Place:
    """A page to look at: its tree, its level (1: the root), and the bounds of its keys."""

    page: int
    tree: _Tree
    level: int
    low: bytes
    high: bytes | None


class _Bad(Exception):
    """What is wrong with a page."""


def faults(
    directory: str, transaction: int, *, quick: bool = False, leaves: dict[str, list[list[Pair]]] | None = None
) -> Iterator[Fault] | None:
    """Walk the trees as of one transaction.

    Args:
        directory: of the store.
        transaction: the number of a read transaction that is held meanwhile, so that no page of it is used again.
        quick: look at all pages of a small store, and at the upper ones of a large one, and not at what leaves hold:
            a key that cannot be found there hides one record, and reading the others goes on.
        leaves: gets what each leaf of a small store's named databases holds.

    Returns:
        what is wrong, or None if the file no longer says where that transaction's trees begin: two were committed
        since. Take another one then.
    """
    path = os.path.join(directory, DATA_FILE)
    meta = next((meta for meta in read_metas(path) if meta.transaction == transaction), None)
    return None if meta is None else _Walk(path, meta, quick, leaves).run()


class _Walk:
    def __init__(self, path: str, meta: Meta, quick: bool, leaves: dict[str, list[list[Pair]]] | None) -> None:
        self._path, self._meta, self._quick = path, meta, quick
        small = meta.last_page < SMALL
        self._leaves = leaves if small else None
        self._left = UPPER if quick and not small else meta.last_page + 1
        self._raw: bytes | mmap.mmap = b""
        self._seen: set[int] = set()
        self._todo: deque[_Place] = deque()
        self._trees: list[_Tree] = []

    def run(self) -> Iterator[Fault]:
        meta = self._meta
        with open(self._path, "rb") as file:
            if meta.last_page < SMALL:
                self._raw = file.read((meta.last_page + 1) * meta.page_size)
            else:
                self._raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            try:
                self._enter("the tree of free pages", None, meta.free, ordered=False)
                self._enter("the list of databases", None, meta.main)
                # Breadth first: with few pages to look at, these are the upper ones of every tree.
                while self._todo and self._left:
                    place = self._todo.popleft()
                    self._left -= 1
                    try:
                        self._page(place)
                    except (_Bad, struct.error, IndexError) as error:
                        place.tree.whole = False
                        said = error if isinstance(error, _Bad) else "is not laid out as a page"
                        yield Fault(f"page {place.page} of {place.tree.name} {said}", place.tree.database)
                if not self._todo:
                    yield from self._counts()
            finally:
                if isinstance(self._raw, mmap.mmap):
                    self._raw.close()

    def _counts(self) -> Iterator[Fault]:
        for tree in self._trees:
            if tree.whole and tree.counted != tree.root.entries:
                message = f"{tree.name} has {tree.counted} entries, where its root says {tree.root.entries}"
                yield Fault(message, tree.database)

    def _enter(self, name: str, database: str | None, root: Root, *, ordered: bool = True) -> None:
        tree = _Tree(name, database, root, ordered)
        self._trees.append(tree)
        if root.page != NO_PAGE:
            self._todo.append(_Place(root.page, tree, 1, b"", None))

    def _read(self, number: int, pages: int = 1) -> bytes:
        size = self._meta.page_size
        if not 1 < number <= self._meta.last_page + 1 - pages:
            raise _Bad(f"is beyond the last one, {self._meta.last_page}" if number > 1 else "is a meta page")
        raw = self._raw[number * size : (number + pages) * size]
        if len(raw) < pages * size:
            raise _Bad("is beyond the end of the file")
        return raw

    def _page(self, place: _Place) -> None:
        raw = self._read(place.page)
        number, _, flags, lower, upper = PAGE.unpack_from(raw)
        if number != place.page:
            raise _Bad(f"says that it is page {number}")
        if number in self._seen:
            raise _Bad("is led to twice")
        self._seen.add(number)
        leaf = place.level == place.tree.root.depth
        if bool(flags & LEAF) != leaf or bool(flags & BRANCH) == leaf:
            raise _Bad(f"is {'no leaf' if leaf else 'no branch'}, at level {place.level} of {place.tree.root.depth}")
        if not HEADER < lower <= len(raw) or (not flags & LEAF2 and not lower <= upper <= len(raw)):
            raise _Bad(f"says that its free space is from {lower} to {upper}")
        count = (lower - HEADER) // 2
        if flags & LEAF2:  # values of one size, no nodes
            place.tree.counted += count
            return
        offsets = struct.unpack_from(f"={count}H", raw, HEADER)
        if leaf:
            self._leaf(place, raw, offsets)
        else:
            self._branch(place, raw, offsets)

    def _branch(self, place: _Place, raw: bytes, offsets: tuple[int, ...]) -> None:
        keys, pages = [place.low], []
        for position, offset in enumerate(offsets):
            low, high, key_size, start = node(raw, offset)
            pages.append(low | high << 32)
            if position:  # the first has no key: it is for all below the second
                keys.append(_part(raw, start, key_size))
        _check_order(keys, place, first=1)
        bounds = [*keys[1:], place.high]
        self._todo.extend(
            _Place(page, place.tree, place.level + 1, low, high)
            for page, low, high in zip(pages, keys, bounds, strict=True)
        )

    def _leaf(self, place: _Place, raw: bytes, offsets: tuple[int, ...]) -> None:
        tree = place.tree
        several = bool(tree.root.flags & DUPLICATES)
        lists = tree.root is self._meta.main
        if not several:
            tree.counted += len(offsets)
        if self._leaves is not None and tree.database is not None and not several:
            # Breadth first, so that the leaves of a tree, all at one level, come in their order.
            self._leaves.setdefault(tree.database, []).append(nodes(raw) or list(self._pairs(raw, offsets)))
        if self._quick and not lists:
            tree.whole = tree.whole and not several
            return
        keys = []
        for offset in offsets:
            size, flags, key_size, start = node(raw, offset)
            data = start + key_size
            keys.append(_part(raw, start, key_size))
            if flags & BIG:
                self._overflow(_part(raw, data, 8), size)
                continue
            value = _part(raw, data, size)
            if lists and flags & SUB:
                name = keys[-1].decode("utf-8", "backslashreplace")
                self._enter(f"database {name}", name, Root.parse(value))
            elif several and flags & DUPLICATES:
                tree.counted += self._values(tree, value, flags)
            elif several:
                tree.counted += 1
        _check_order(keys, place)

    def _pairs(self, raw: bytes, offsets: tuple[int, ...]) -> Iterator[Pair]:
        page_size = self._meta.page_size
        for offset in offsets:
            size, flags, key_size, start = node(raw, offset)
            data = start + key_size
            key = _part(raw, start, key_size)
            if flags & BIG:
                first = int.from_bytes(_part(raw, data, 8), sys.byteorder)
                pages = -(-(HEADER + size) // page_size)
                yield key, self._read(first, pages)[HEADER : HEADER + size]
            else:
                yield key, _part(raw, data, size)

    def _values(self, tree: _Tree, value: bytes, flags: int) -> int:
        """How many values a key has, in a page within its node, or in a tree of its own."""
        if flags & SUB:
            root = Root.parse(value)
            self._enter(f"the values of a key of {tree.name}", tree.database, root)
            return root.entries
        return int((PAGE.unpack_from(value)[3] - HEADER) // 2)

    def _overflow(self, raw: bytes, size: int) -> None:
        first = int.from_bytes(raw, sys.byteorder)
        needed = -(-(HEADER + size) // self._meta.page_size)
        number, _, flags, low, high = PAGE.unpack_from(self._read(first))
        if number != first or not flags & OVERFLOW or first in self._seen:
            raise _Bad(f"leads to page {first} for a large value, which is none of such")
        if low | high << 16 < needed or first + needed > self._meta.last_page + 1:
            raise _Bad(f"leads to page {first} for a value of {size} bytes, which are more than it has")
        self._seen.add(first)


def _part(raw: bytes, start: int, size: int) -> bytes:
    part = raw[start : start + size]
    if len(part) < size or start < HEADER:
        raise _Bad("has an entry that is not within it")
    return part


def _check_order(keys: list[bytes], place: _Place, *, first: int = 0) -> None:
    """Compare the keys of a page to each other, and those from ``first`` on to the page's bounds."""
    if not place.tree.ordered:
        return
    for one, other in pairwise(keys):
        if one >= other:
            raise _Bad("has keys out of order")
    inside = keys[first:]
    if inside and (inside[0] < place.low or (place.high is not None and inside[-1] >= place.high)):
        raise _Bad("has keys that do not belong there")
