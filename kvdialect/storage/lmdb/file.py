"""LMDB's data file, as far as it must be looked at before LMDB maps it.

LMDB maps the file and follows page numbers; where the file is shorter than its meta page says, the process dies of
SIGBUS. The layout is that of ``MDB_meta``, ``MDB_page`` and ``MDB_node`` in ``mdb.c``, data version 1, on a 64-bit
machine.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

import attrs

from kvdialect import exc

_MAGIC: Final = 0xBEEFC0DE
_META: Final = struct.Struct("=IIQQ 48s 48s QQ")  # magic, version, address, map size, two roots, last page, transaction
_ROOT: Final = struct.Struct("=IHHQQQQQ")  # pad (page size in the first root), flags, depth, pages x3, entries, root
_PAGE: Final = struct.Struct("=QHHHH")  # number, pad, flags, lower, upper
_NODE: Final = struct.Struct("=IHH" if sys.byteorder == "little" else "=HHHH")
_HEADER: Final = 16
_BRANCH, _LEAF = 0x01, 0x02
_BIG: Final = 0x01
_NO_PAGE: Final = 2**64 - 1
_ATTEMPTS: Final = 100


@attrs.frozen(slots=True)
class Meta:
    """What the newer meta page says.

    Attributes:
        page_size: bytes of a page.
        last_page: the highest page number ever given out.
        transaction: number of the last transaction.
        free_root: page at the root of the tree of free pages, or ``2**64 - 1`` if it is empty.
    """

    page_size: int
    last_page: int
    transaction: int
    free_root: int


def read_meta(path: str) -> Meta | None:
    """Return the meta page that LMDB will use, or None if the file is no 64-bit LMDB file of format 1."""
    with open(path, "rb") as file:
        first = _parse(file.read(_HEADER + _META.size))
        if first is None:
            return None
        file.seek(first.page_size)
        second = _parse(file.read(_HEADER + _META.size))
    return first if second is None or second.transaction < first.transaction else second


def _parse(raw: bytes) -> Meta | None:
    if len(raw) < _HEADER + _META.size:
        return None
    magic, version, _, _, free_root, _, last_page, transaction = _META.unpack_from(raw, _HEADER)
    page_size, _, _, _, _, _, _, root = _ROOT.unpack(free_root)
    if magic != _MAGIC or version != 1 or page_size < 256 or page_size & (page_size - 1):
        return None
    return Meta(page_size, last_page, transaction, root)


def check_file(directory: str) -> None:
    """Refuse a data file that lacks pages that are in use.

    A sound file may be shorter than its last page number says: pages that one transaction took and gave back are
    never written (``mdb.c``: "the file may be shorter if the freeDB lists the final pages"). So what matters is
    whether each missing page is free; the tree of free pages is read, with plain reads, only if any is missing.

    Raises:
        Corruption: if the file is cut short or is no LMDB file.
        NotAStore: if there is none.
    """
    path = os.path.join(directory, "data.mdb")
    if sys.maxsize < 2**32:
        return
    try:
        for _ in range(_ATTEMPTS):
            meta = read_meta(path)
            size = os.path.getsize(path)
            lost = None if meta is None else _lost_page(path, meta, size)
            if (meta is not None and lost is None) or read_meta(path) == meta:
                break
            # Another process is committing and may have reused the pages that were just read.
        else:
            return
    except FileNotFoundError:
        raise exc.NotAStore(f"{directory} has no data.mdb; restore it from a backup", path=directory) from None
    except OSError as error:
        raise exc.BackendError(f"cannot read {path}: {error.strerror}", path=directory, engine="lmdb") from error
    if meta is None:
        raise exc.Corruption(
            f"{path} has no valid meta page: it is damaged, or no LMDB file (restore a backup)",
            path=directory, engine="lmdb", operation="open",
        )  # fmt: skip
    if lost is not None:
        raise exc.Corruption(
            f"{path} is {size} bytes long and lacks page {lost}, which is in use: it was cut short; its last page is"
            f" {meta.last_page}, so {(meta.last_page + 1) * meta.page_size} bytes are the most that it had"
            " (restore a backup)",
            path=directory, engine="lmdb", operation="open",
        )  # fmt: skip


def _lost_page(path: str, meta: Meta, size: int) -> int | None:
    """A page that is in use and lies beyond the end of the file, or None."""
    present = size // meta.page_size
    missing = range(present, meta.last_page + 1)
    if not missing:
        return None
    free: set[int] = set()
    if meta.free_root != _NO_PAGE:
        try:
            with open(path, "rb") as file:
                free.update(page for page in _free_pages(file, meta, present) if page >= present)
        except _Unreadable as error:
            return error.page
    return next((page for page in missing if page not in free), None)


class _Unreadable(Exception):
    """A page of the tree of free pages is missing or makes no sense."""

    def __init__(self, page: int) -> None:
        self.page = page


def _free_pages(file: BinaryIO, meta: Meta, present: int) -> Iterator[int]:
    """The numbers of the free pages, from the tree whose values are lists of them."""

    def read(page: int, count: int = 1) -> bytes:
        if page + count > present:
            raise _Unreadable(max(page, present))
        file.seek(page * meta.page_size)
        return file.read(count * meta.page_size)

    pages = [meta.free_root]
    seen = set()
    while pages:
        number = pages.pop()
        raw = read(number)
        own_number, _, flags, lower, _ = _PAGE.unpack_from(raw)
        if own_number != number or number in seen or not flags & (_BRANCH | _LEAF) or lower > len(raw):
            raise _Unreadable(number)
        seen.add(number)
        try:
            for (offset,) in struct.iter_unpack("=H", raw[_HEADER:lower]):
                small, node_flags, key_size, data = _node(raw, offset)
                if flags & _BRANCH:
                    pages.append(small | node_flags << 32)
                    continue
                start = data + key_size
                if node_flags & _BIG:
                    first = int.from_bytes(raw[start : start + 8], sys.byteorder)
                    whole = read(first, -(-(_HEADER + small) // meta.page_size))
                    listed = whole[_HEADER : _HEADER + small]
                else:
                    listed = raw[start : start + small]
                count, *numbers = struct.unpack(f"={len(listed) // 8}Q", listed)
                yield from numbers[:count]
        except (struct.error, ValueError):
            raise _Unreadable(number) from None


def _node(raw: bytes, offset: int) -> tuple[int, int, int, int]:
    """Size of the data (or lower half of a page number), flags, size of the key, and where the key begins."""
    if sys.byteorder == "little":
        size, flags, key_size = _NODE.unpack_from(raw, offset)
    else:
        high, low, flags, key_size = _NODE.unpack_from(raw, offset)
        size = low | high << 16
    return size, flags, key_size, offset + 8
