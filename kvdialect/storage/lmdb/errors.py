"""LMDB's errors, said in this library's."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

import lmdb

from kvdialect import exc
from kvdialect.storage.engine import Engine


def damaged(engine: Engine, cf: str, key: bytes) -> exc.Corruption:
    """The error of a value whose checksum does not fit."""
    return exc.Corruption(
        f"the value of {cf}[{exc.shown(key)}] does not fit its checksum: the file is damaged"
        " (restore a backup; other values can still be read)",
        **engine.facts("get", cf=cf, key=key),
    )


def hidden(engine: Engine, cf: str, key: bytes | None) -> exc.Corruption:
    """The error of a read that finds nothing, or not all, where a damaged pair may be what is missing."""
    what = f"{cf}[{exc.shown(key)}] is not found, and" if key is not None else f"a scan of {cf} may lack a record, as"
    return exc.Corruption(
        f"{what} a damaged pair beside it may be what is missing (restore a backup; verify says more, and"
        " check_files=off reads on)",
        **engine.facts("get" if key is not None else "scan", cf=cf, key=key),
    )


def disk_full(error: Exception, path: str | None) -> bool:
    """True if the driver's error means that no space is left.

    LMDB turns a short write into an input or output error, so for that one the free space is looked at too.
    """
    if isinstance(error, lmdb.DiskError):
        return True
    text = str(error)
    if any(os.strerror(number) in text for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        return True
    if os.strerror(errno.EIO) in text and path is not None and hasattr(os, "statvfs"):
        free = os.statvfs(path)
        return free.f_bavail * free.f_frsize < 1 << 20
    return False


def translate(engine: Engine, error: Exception, operation: str, **more: Any) -> exc.Error:
    """The error of this library that says what the driver said."""
    facts = engine.facts(operation, engine_message=str(error), **more)
    if isinstance(error, lmdb.MapFullError):
        return exc.MapFull("LMDB map full: increase map_size and reopen", **facts)
    if isinstance(error, lmdb.ReadersFullError):
        return exc.ReadersFull(
            "all reader slots are taken: close snapshots, or reopen with a larger max_readers in every process", **facts
        )
    if isinstance(error, lmdb.DbsFullError):
        return exc.BackendError("max_dbs is reached: reopen with a larger max_dbs", **facts)
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError | lmdb.VersionMismatchError):
        return exc.Corruption(f"LMDB found damage: {error} (restore a backup)", **facts)
    if isinstance(error, lmdb.PanicError):
        return exc.ReopenRequired(f"LMDB gave up after an earlier failure: {error}; close and open the store", **facts)
    if isinstance(error, lmdb.ReadonlyError):
        if operation == "open":
            return exc.BackendError(f"cannot open {engine.path}: {error}", **facts)
        return exc.ReadOnlyStore(f"the store is open for reading: {error}", **facts)
    # The second: a snapshot that is older than the handle of a family made since.
    if isinstance(error, lmdb.BadDbiError | lmdb.NotFoundError | lmdb.InvalidParameterError) and "cf" in more:
        return exc.UnknownColumnFamily(more["cf"], **facts)
    if disk_full(error, engine.path):
        facts["outcome"] = "not_applied"
        return exc.DiskFull(f"the disk is full: {error}; free space and try again", **facts)
    if "closed/deleted/dropped" in str(error):
        return exc.StoreClosed("the snapshot or store was closed", **facts)
    if re.search(r"Input/output error", str(error)):
        return exc.DeviceError(f"the device failed: {error}", **facts)
    return exc.BackendError(f"LMDB: {error}", **facts)
