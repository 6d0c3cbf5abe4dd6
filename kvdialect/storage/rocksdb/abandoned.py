"""Databases whose directory was moved, removed or replaced under them: let go of without being closed.

RocksDB finds its files by path. As a database is closed the driver flushes, which makes files, and RocksDB removes
those that it does not know: in the directory of the store that took the place. So such a database stays as it is until
the process ends. Its log is in the store that was moved.

Found by experiment (rocksdict 0.3.29): the driver flushes when the last reference to a family goes, too; stopping the
background work makes no file unless there is something that is in no log.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Final

import rocksdict

from kvdialect.storage.shared import leak

_left: Final[Counter[str]] = Counter()


def stop_writing(database: rocksdict.Rdict, *, logged: bool, wait: bool = False) -> None:
    """Have no flush and no compaction begin any more; those under way break off.

    Args:
        database: the driver's database.
        logged: whether all that was written is in the log; what is not would be flushed.
        wait: until none is under way.
    """
    if logged:
        with contextlib.suppress(Exception):  # the driver raises nothing narrower
            database.cancel_all_background(wait)


def abandon(path: str, database: rocksdict.Rdict, families: Iterable[rocksdict.Rdict], *, logged: bool) -> None:
    """Leave a database as it is, for as long as the process lives."""
    stop_writing(database, logged=logged, wait=True)
    for rdict in (database, *families):
        leak(rdict)
    _left[path] += 1


def driver_path(path: str) -> str:
    """The path by which a store is opened: RocksDB notes by its text what this process has not closed."""
    return path + "/." * _left[path]
