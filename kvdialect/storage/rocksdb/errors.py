"""RocksDB's errors, said in this library's.

rocksdict raises bare ``Exception`` with RocksDB's status as text, so what is caught around every call of the driver is
``Exception``, and the text decides. Its own files, which it reads and writes beside RocksDB's, give an OSError with the
system's number in the text. Any other class is not the driver's: Python calls a program's signal handlers between any
two steps, so that what they raise, such as a TimeoutError, is caught there too, and goes on as it is.
"""

from __future__ import annotations

from typing import Any

import rocksdict

from kvdialect import exc
from kvdialect.storage.engine import Engine


def pass_foreign(error: Exception) -> None:
    """Raise an error again that is neither the driver's nor the system's."""
    if type(error) in (Exception, rocksdict.DbClosedError):
        return
    if isinstance(error, OSError) and (error.errno is not None or "(os error " in str(error)):
        return
    raise error


def disk_full(error: Exception) -> bool:
    """True if the driver's message means that no space is left."""
    text = str(error)
    return any(words in text for words in ("No space left", "NoSpace", "Disk quota exceeded", "File too large"))


def stall(error: Exception) -> bool:
    """True if a write without patience found writes stalled; it was not applied."""
    return "Write stall" in str(error)


def translate(engine: Engine, error: Exception, operation: str, **more: Any) -> exc.Error:
    """The error of this library that says what the driver said; RocksDB's messages begin with the status's name.

    An error that is not the driver's is raised as it is.
    """
    text = str(error)
    facts = engine.facts(operation, engine_message=text, **more)
    if isinstance(error, rocksdict.DbClosedError) or (engine.closed and isinstance(error, AttributeError | TypeError)):
        return exc.StoreClosed(f"{engine.name}:{engine.path} is closed; open it again", **facts)
    pass_foreign(error)
    if text.startswith("Corruption") or "checksum mismatch" in text:
        return exc.Corruption(f"RocksDB found damage: {text} (restore a backup)", **facts)
    if disk_full(error):
        return exc.DiskFull(f"the disk is full: {text}; free space and try again", **facts)
    if "lock" in text.lower() and ("LOCK" in text or "temporarily unavailable" in text) and "denied" not in text:
        return exc.StoreLocked(f"RocksDB's own lock is held: {text}", **facts, holder_pid=None)
    if operation == "open" and "No such file or directory" in text:
        return exc.Corruption(f"a file of the store is missing: {text} (restore a backup)", **facts)
    if text.startswith("IO error"):
        return exc.DeviceError(f"RocksDB: {text}", **facts)
    return exc.BackendError(f"RocksDB: {text}", **facts)
