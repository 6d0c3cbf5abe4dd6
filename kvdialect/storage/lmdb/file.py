"""LMDB's data file, as far as it must be looked at before LMDB maps it.

LMDB maps the file and follows page numbers; where the file is shorter than its meta page says, the process dies of
SIGBUS.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

from kvdialect import exc
from kvdialect.storage.lmdb.layout import BIG, BRANCH, DATA_FILE, HEADER, LEAF, NO_PAGE, PAGE, Meta, node, read_metas

_ATTEMPTS: Final = 100


def check_file(directory: str) -> None:
    """Refuse a data file that lacks pages that are in use.

    A sound file may be shorter than its last page number says: pages that one transaction took and gave back are
    never written (``mdb.c``: "the file may be shorter if the freeDB lists the final pages"). So what matters is
    whether each missing page is free; the tree of free pages is read, with plain reads, only if any is missing.

    Raises:
        Corruption: if the file is cut short or is no LMDB file.
        NotAStore: if there is none.
    """
    path = os.path.join(directory, DATA_FILE)
    if sys.maxsize < 2**32:
        return
    try:
        for _ in range(_ATTEMPTS):
            metas = read_metas(path)
            meta = metas[0] if metas else None
            size = os.path.getsize(path)
            lost = None if meta is None else _lost_page(path, meta, size)
            if (meta is not None and lost is None) or read_metas(path) == metas:
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
    if meta.free.page != NO_PAGE:
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

    pages = [meta.free.page]
    seen = set()
    while pages:
        number = pages.pop()
        raw = read(number)
        own_number, _, flags, lower, _ = PAGE.unpack_from(raw)
        if own_number != number or number in seen or not flags & (BRANCH | LEAF) or lower > len(raw):
            raise _Unreadable(number)
        seen.add(number)
        try:
            for (offset,) in struct.iter_unpack("=H", raw[HEADER:lower]):
                small, node_flags, key_size, data = node(raw, offset)
                if flags & BRANCH:
                    pages.append(small | node_flags << 32)
                    continue
                start = data + key_size
                if node_flags & BIG:
                    first = int.from_bytes(raw[start : start + 8], sys.byteorder)
                    whole = read(first, -(-(HEADER + small) // meta.page_size))
                    listed = whole[HEADER : HEADER + small]
                else:
                    listed = raw[start : start + small]
                count, *numbers = struct.unpack(f"={len(listed) // 8}Q", listed)
                yield from numbers[:count]
        except (struct.error, ValueError):
            raise _Unreadable(number) from None
