"""Locks on files, by which processes take turns at a store.

The kernel frees such a lock when its holder dies, but keeps no queue of those that wait for it: a process that commits
without a pause takes the lock again before another one has woken. So who has waited for a while says so by a second
lock, on a byte of the same file, and the others let it go first.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kvdialect import exc

_PATIENCE: Final = 0.05
"""Seconds after which one that waits asks to be the next."""

_ATTENTION: Final = 0.02
"""Seconds for which a holder that comes again does not look whether others wait: it would cost two calls a commit."""

_BEYOND: Final = 1 << 20
"""Where in the file the locked bytes are: behind the process id, which others read."""


class FileLock:
    """An exclusive lock on a file, between processes and between holders in one process.

    The kernel frees it when its holder dies. It is taken with flock(2), which unlike POSIX locks is not lost when some
    other code of the process closes the same file; on Windows with LockFile through ``msvcrt``.

    Args:
        path: the lock's file, created if missing and never removed. It holds the holder's process id as text.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._looked = 0.0

    def acquire(self, timeout: float, *, waiting: Callable[[], object] | None = None) -> bool:
        """Take the lock; return False if it was not to be had in time.

        Args:
            timeout: seconds to wait.
            waiting: called every 20 ms or sooner during a wait, which ends with what it raises.
        """
        descriptor = self._descriptor
        begun = time.monotonic()
        free = True
        if timeout > 0 and begun - self._looked >= _ATTENTION:
            self._looked = begun
            free = not _others_wait(descriptor)
        if free and _try_lock(descriptor):
            return True
        deadline, pause, longest = begun + timeout, 0.0002, 0.02
        first = False
        try:
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(min(pause, left))
                pause = min(pause * 2, longest)
                if waiting is not None:
                    waiting()
                if not first and time.monotonic() - begun >= _PATIENCE and _be_first(descriptor):
                    first, pause, longest = True, 0.0002, 0.002  # the others wait for this one
                if (first or not _others_wait(descriptor)) and _try_lock(descriptor):
                    return True
            return False
        finally:
            if first:
                _let_others(descriptor)

    def release(self) -> None:
        """Give the lock back."""
        _unlock(self._descriptor)

    @contextlib.contextmanager
    def held(self, timeout: float) -> Any:
        """Hold the lock for a ``with`` block, then close the file."""
        try:
            if not self.acquire(timeout):
                raise exc.LockTimeout(f"{self.path} is held by pid {self.holder()}", path=self.path)
            try:
                yield
            finally:
                self.release()
        finally:
            self.close()

    def note_holder(self) -> None:
        """Write this process's id into the file, for the message that others give.

        Where it cannot be written (a full or failing disk) the message goes without it; the lock is held all the same.
        """
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, b"%d\n" % os.getpid())

    def holder(self) -> int | None:
        """The process id that the file names, or None."""
        with contextlib.suppress(OSError, ValueError):
            return int(Path(self.path).read_bytes())
        return None

    def close(self) -> None:
        """Close the file. In a forked child this leaves the parent's lock alone."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


if os.name == "nt":
    import msvcrt

    def _locked(descriptor: int, at: int) -> bool:
        os.lseek(descriptor, at, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def _unlocked(descriptor: int, at: int) -> None:
        os.lseek(descriptor, at, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

    def _try_lock(descriptor: int) -> bool:
        return _locked(descriptor, _BEYOND)

    def _unlock(descriptor: int) -> None:
        _unlocked(descriptor, _BEYOND)

    def _be_first(descriptor: int) -> bool:
        return _locked(descriptor, _BEYOND + 1)

    def _let_others(descriptor: int) -> None:
        _unlocked(descriptor, _BEYOND + 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    # A POSIX lock, which does not meet the one of flock(2). Where there is none, or it is lost as some other code of
    # the process closes the file, those that wait have no more than luck.

    def _be_first(descriptor: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _BEYOND)
        except (BlockingIOError, PermissionError):  # POSIX leaves it to the system which one it is
            return False
        except OSError:
            pass  # a file system without such locks: nobody can wait by one
        return True

    def _let_others(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _BEYOND)


def _others_wait(descriptor: int) -> bool:
    if not _be_first(descriptor):
        return True
    _let_others(descriptor)
    return False
