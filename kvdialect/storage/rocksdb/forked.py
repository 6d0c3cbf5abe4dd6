"""What a forked child may do with RocksDB, whose threads end with the fork.

Found by experiment (rocksdict 0.3.29): in the child of a process that used RocksDB, even of one that had closed its
stores, the first flush or compaction waits for ever for a thread, and exit() ends in a segmentation fault, as RocksDB's
destructors join threads that are gone. Reading needs no thread of RocksDB's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any, Final

_first_use: int | None = None


def note_use() -> None:
    """Called before RocksDB is first used."""
    global _first_use  # noqa: PLW0603 - RocksDB's threads, too, are one set per process
    if _first_use is None:
        _first_use = os.getpid()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_leave_without_destructors)


def threads_lost_in() -> int | None:
    """The process that RocksDB's threads remained in, if this is a child forked from it."""
    return None if _first_use in (None, os.getpid()) else _first_use


def _leave_without_destructors() -> None:
    # Handlers run in reverse order, so this one runs before RocksDB's destructors; glibc gives it the exit status.
    if _on_exit is not None:
        _on_exit(_underscore_exit, None)


_on_exit: Any = None
_underscore_exit: Any = None
with contextlib.suppress(OSError, AttributeError, TypeError):
    _libc: Final = ctypes.CDLL(None)
    _underscore_exit = _libc._exit
    _on_exit = _libc.on_exit
