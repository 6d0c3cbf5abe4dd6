"""Where a store is: whether its path still leads to what was opened there."""

from __future__ import annotations

import os

from kvdialect.storage.storedir import MARKER


class Location:
    """The path of an open store.

    A directory can be moved, removed or replaced under a process that has a store in it open. What the process holds by
    descriptors goes with the directory; what it writes by path lands in the store that took the place.

    The store is known by its marker's device and inode. That file is held open, or its number would be given to
    another one once it is removed. Windows lets nobody move a directory in which files are open.

    Args:
        path: the store's directory, absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._marker = os.path.join(path, MARKER)
        self._descriptor = os.open(self._marker, os.O_RDONLY)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)

    def holds(self) -> bool:
        """Whether the store is still there; where that cannot be found out it is taken to be."""
        if os.name == "nt":
            return True
        try:
            status = os.stat(self._marker)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return (status.st_dev, status.st_ino) == self._identity

    def vacant(self) -> bool:
        """Whether nothing at all is at the path."""
        return not os.path.lexists(self.path)

    def close(self) -> None:
        """Let go of the marker."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.close()
