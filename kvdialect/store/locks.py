"""The lock of a store's schema: one thread of one process at a time changes it, or clears up after a crash.

Readers and writers of records never take it. It keeps one process from taking the families that another is just making
for those of a crash; what the catalog says is safe without it, as each change of it expects the version before.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Final

from kvdialect import exc
from kvdialect.storage.contract import StorageBackend
from kvdialect.storage.filelock import FileLock

LOCK_FILE: Final = "kvdialect-schema.lock"
"""The lock's file in the store's directory."""

_guard: Final = threading.Lock()
_by_name: Final[weakref.WeakValueDictionary[tuple[str, str], _ThreadLock]] = weakref.WeakValueDictionary()
_by_backend: Final[weakref.WeakKeyDictionary[StorageBackend, _ThreadLock]] = weakref.WeakKeyDictionary()


class _ThreadLock:
    """A lock between threads, for stores that no other process can have open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


@contextlib.contextmanager
def schema_lock(backend: StorageBackend, timeout: float) -> Iterator[None]:
    """Hold the lock of a store's schema for a ``with`` block.

    Args:
        backend: the store, open for writing.
        timeout: seconds to wait.

    Raises:
        LockTimeout: if another thread or process had it for longer.
    """
    path = backend.path
    if path is not None and os.path.isdir(path):
        with _file_lock(backend, path, timeout):
            yield
        return
    held = _thread_lock(backend)
    if not held.lock.acquire(timeout=timeout):
        raise _timeout(backend, timeout, "another thread")
    try:
        yield
    finally:
        held.lock.release()


@contextlib.contextmanager
def _file_lock(backend: StorageBackend, path: str, timeout: float) -> Iterator[None]:
    try:
        lock = FileLock(os.path.join(path, LOCK_FILE))
    except OSError as error:
        raise exc.BackendError(
            f"cannot write to {path}: {error.strerror}",
            engine=backend.name, path=path, operation="schema", engine_message=str(error),
        ) from error  # fmt: skip
    try:
        if not lock.acquire(timeout):
            raise _timeout(backend, timeout, f"pid {lock.holder()}")
        try:
            lock.note_holder()
            yield
        finally:
            lock.release()
    finally:
        lock.close()


def _thread_lock(backend: StorageBackend) -> _ThreadLock:
    with _guard:
        if backend.path is None:
            return _by_backend.setdefault(backend, _ThreadLock())
        key = (backend.name, backend.path)
        lock = _by_name.get(key)
        if lock is None:
            lock = _by_name[key] = _ThreadLock()
        return lock


def _timeout(backend: StorageBackend, timeout: float, holder: str) -> exc.LockTimeout:
    return exc.LockTimeout(
        f"{holder} has been changing the schema of {backend.name}:{backend.path or ''} for longer than {timeout:g} s;"
        " nothing was changed, try again",
        engine=backend.name, path=backend.path, operation="schema",
    )  # fmt: skip
