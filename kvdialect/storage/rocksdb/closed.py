"""The files of a RocksDB database that was closed."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from kvdialect.storage import closing
from kvdialect.storage.storedir import sync

# RocksDB has checksums of its own in tables, and finds each by its name. What is damaged in a manifest or a log it
# takes for the end.
_WITH_CHECKSUMS: Final = (".sst", ".blob")
_LAST_WORDS: Final = b"Shutdown complete"
_LAST: Final = 4096


def note_closed(path: str, *, synced: bool) -> None:
    """Note what the files are, if RocksDB says that it has closed the database.

    It has not while anything still refers to the driver's objects; then its threads may go on writing.

    Args:
        path: the store.
        synced: whether its files are on the disk already.
    """
    # What cannot be noted, on a full disk for instance, is not compared: the store itself is closed.
    with contextlib.suppress(OSError):
        with open(os.path.join(path, "LOG"), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LAST))
            if _LAST_WORDS not in log.read():
                return
        files = {}
        for name in sorted(os.listdir(path)):
            tables = name.endswith(_WITH_CHECKSUMS)
            if tables or name == "CURRENT" or name.startswith(("MANIFEST-", "OPTIONS-")) or name.endswith(".log"):
                if not synced:
                    sync(os.path.join(path, name))
                files[name] = closing.described(path, name, hashed=not tables)
        closing.write(path, closing.Closed(files=files))
