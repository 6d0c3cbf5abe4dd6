"""The layout of LMDB's data file: that of ``MDB_meta``, ``MDB_page``, ``MDB_node`` and ``MDB_db`` in ``mdb.c``.

Data version 1, on a 64-bit machine; numbers are in the machine's own byte order.
"""

from __future__ import annotations

import struct
import sys
from typing import Final

import attrs

MAGIC: Final = 0xBEEFC0DE
META: Final = struct.Struct("=IIQQ 48s 48s QQ")  # magic, version, address, map size, two roots, last page, transaction
ROOT: Final = struct.Struct("=IHHQQQQQ")  # pad (page size in the first root), flags, depth, pages x3, entries, root
PAGE: Final = struct.Struct("=QHHHH")  # number, pad, flags, lower, upper
NODE: Final = struct.Struct("=IHH" if sys.byteorder == "little" else "=HHHH")
HEADER: Final = 16
BRANCH, LEAF, OVERFLOW, LEAF2 = 0x01, 0x02, 0x04, 0x20
"""Flags of pages."""
BIG, SUB, DUPLICATES = 0x01, 0x02, 0x04
"""Flags of nodes: the data lie in pages of their own; they are the root of a tree; the key has several values."""
NO_PAGE: Final = 2**64 - 1
DATA_FILE: Final = "data.mdb"


@attrs.frozen(slots=True)
class Root:
    """A tree: ``MDB_db``.

    Attributes:
        flags: ``0x04`` where a key may have several values.
        depth: levels, leaves included; 0 if it is empty.
        entries: keys, or values where a key may have several.
        page: number of the page at its root, :data:`NO_PAGE` if it is empty.
    """

    flags: int
    depth: int
    entries: int
    page: int

    @classmethod
    def parse(cls, raw: bytes) -> Root:
        _, flags, depth, _, _, _, entries, page = ROOT.unpack(raw)
        return cls(flags, depth, entries, page)


@attrs.frozen(slots=True)
class Meta:
    """What a meta page says.

    Attributes:
        page_size: bytes of a page.
        last_page: the highest page number ever given out.
        transaction: number of the last transaction.
        free, main: the tree of free pages, and the one that holds the roots of the named databases.
    """

    page_size: int
    last_page: int
    transaction: int
    free: Root
    main: Root


def read_metas(path: str) -> list[Meta]:
    """The meta pages of a data file, the newer one, which LMDB will use, first; none if it is no such file."""
    with open(path, "rb") as file:
        first = _parse(file.read(HEADER + META.size))
        if first is None:
            return []
        file.seek(first.page_size)
        second = _parse(file.read(HEADER + META.size))
    if second is None:
        return [first]
    return [first, second] if second.transaction < first.transaction else [second, first]


def _parse(raw: bytes) -> Meta | None:
    if len(raw) < HEADER + META.size:
        return None
    magic, version, _, _, free, main, last_page, transaction = META.unpack_from(raw, HEADER)
    page_size = int.from_bytes(free[:4], sys.byteorder)
    if magic != MAGIC or version != 1 or page_size < 256 or page_size & (page_size - 1):
        return None
    return Meta(page_size, last_page, transaction, Root.parse(free), Root.parse(main))


def node(raw: bytes, offset: int) -> tuple[int, int, int, int]:
    """Size of the data (or lower half of a page number), flags, size of the key, and where the key begins."""
    if sys.byteorder == "little":
        size, flags, key_size = NODE.unpack_from(raw, offset)
    else:
        high, low, flags, key_size = NODE.unpack_from(raw, offset)
        size = low | high << 16
    return size, flags, key_size, offset + 8
