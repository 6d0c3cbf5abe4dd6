"""The directory of a store: its marker, its creation in one step, its lock.

A store is a directory that holds the engine's own files and a marker file, ``KVDIALECT``, with what must not change
for as long as it exists. A new one is made beside its path and renamed into place, so that a crash leaves the whole
store or none of it; where that cannot be (a mount point), or a directory is there, it is made in place and the marker
comes last.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from kvdialect import exc
from kvdialect.storage.filelock import FileLock

MARKER: Final = "KVDIALECT"
LOCK_FILE: Final = "kvdialect.lock"
FORMAT: Final = 1
"""Version of the storage format. 1: release 0.1."""

_UNFINISHED: Final = "KVDIALECT.creating"
_INSIDE: Final = ".kvdialect-creating-"
_NOTE: Final = f"{_UNFINISHED}.new"
_NEW_MARKER: Final = f"{MARKER}.new"
# What may lie in a directory that still counts as empty: ext4 puts the first into every file system, a writer that
# waits for the lock the second, and one that was killed as it began a third.
_IGNORED: Final = frozenset({"lost+found", LOCK_FILE, _NOTE})
_NOT_COPIED: Final = frozenset({*_IGNORED, MARKER, "LOCK", "lock.mdb"})


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed when a store is created; kept as JSON, so that any tool can read it.

    Attributes:
        format: version of the storage format.
        engine: name of the engine.
        checksum: True if every value has a checksum of this library beside it.
    """

    format: int
    engine: str
    checksum: bool


def open_directory(
    path: str, wanted: Marker, *, checksum: bool | None, writable: bool, build: Callable[[str], None]
) -> Marker:
    """Return the marker of the store at ``path``, after creating the store there if need be.

    Args:
        path: the store's directory, absolute.
        wanted: what a new store gets.
        checksum: what the caller asked for explicitly, or None.
        writable: whether a store may be created.
        build: makes an empty store of the engine in the directory given, and closes it.

    Raises:
        NotAStore: if something else is there, or nothing and the store is to be opened for reading.
        StoreFormatError: if the store there is of another engine, format or checksum setting.
    """
    marker = read_marker(path)
    if marker is None:
        if not writable:
            raise exc.NotAStore(f"there is no store at {path}; mode=rw creates one", engine=wanted.engine, path=path)
        create(path, wanted, build)
        marker = read_marker(path)
        assert marker is not None, "create() ends with a marker or an error"
    if not 1 <= marker.format <= FORMAT:
        raise exc.StoreFormatError(
            f"the store at {path} has storage format {marker.format}; this release reads up to {FORMAT}"
            " (use a newer release of kvdialect)",
            engine=wanted.engine, path=path, operation="open",
        )  # fmt: skip
    if marker.engine != wanted.engine:
        raise exc.StoreFormatError(
            f"the store at {path} belongs to {marker.engine}, not {wanted.engine}; open it as {marker.engine}:///...",
            engine=wanted.engine, path=path, operation="open",
        )  # fmt: skip
    if marker.engine == "lmdb":
        check_checksum(path, checksum, marker.checksum)
    return marker


def check_checksum(path: str, asked: bool | None, has: bool) -> None:
    """Refuse to open an LMDB store with the other setting of checksum than it was created with.

    Raises:
        StoreFormatError: if another one was asked for.
    """
    if asked is not None and asked != has:
        was, now = ("on", "off") if has else ("off", "on")
        raise exc.StoreFormatError(
            f"the store at {path} was created with checksum={was}, which is fixed; it cannot be opened with"
            f" checksum={now} (leave the option out, or copy the store)",
            engine="lmdb", path=path, operation="open",
        )  # fmt: skip


def read_marker(path: str) -> Marker | None:
    """Return the marker at ``path``, or None where a store may be created: at nothing, or in an empty directory.

    Raises:
        NotAStore: if something else is there.
        StoreFormatError: if there is a marker that cannot be read.
    """
    try:
        raw = Path(path, MARKER).read_bytes()
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise exc.NotAStore(f"{path} is a file; a store is a directory", path=path) from None
    except OSError as error:
        raise exc.BackendError(f"cannot read {path}: {error.strerror}", path=path, operation="open") from error
    else:
        try:
            return msgspec.json.decode(raw, type=Marker)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise exc.StoreFormatError(
                f"the marker {MARKER} in {path} cannot be read: {error} (restore it from a backup)", path=path
            ) from error
    try:
        entries = set(os.listdir(path)) - _IGNORED
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise exc.NotAStore(f"{path} is a file; a store is a directory", path=path) from None
    if not entries or _UNFINISHED in entries:
        return None
    if MARKER in entries:
        return read_marker(path)  # it was not there a moment ago: another process has just made the store
    shown = ", ".join(sorted(entries)[:3])
    raise exc.NotAStore(
        f"{path} is a directory with {len(entries)} entries ({shown}, ...) and no {MARKER} file: it is no store of"
        " kvdialect (give a path that does not exist yet, or an empty directory)",
        path=path,
    )


def copy(path: str, marker: Marker, build: Callable[[str], None]) -> None:
    """As :func:`create`, of a store that has something in it: what is at ``path`` already is refused.

    Raises:
        ArgumentError: if there is a store.
        NotAStore: if there is anything else.
    """
    if read_marker(path) is not None:
        raise exc.ArgumentError(f"there is a store at {path}; give a path where nothing is", path=path)
    create(path, marker, build)


def restore(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Make a store of a backup: copy it to where nothing is, wholly or not at all, and leave the backup as it is.

    Args:
        source: the directory of a store that is not open for writing, as ``backup`` makes it.
        target: a directory that is not there yet, or is empty.

    Raises:
        NotAStore: if there is no store at ``source``, or anything at ``target``.
        ArgumentError: if there is a store at ``target``, if that is in ``source``, or if a directory is there that is
            no part of a store.
        StoreLocked: if a process has the source open for writing; back it up from there.
        BackendError: if it cannot be written; nothing is left of it.
    """
    if not os.fspath(target):
        raise exc.ArgumentError("the path to restore to is empty; give a directory")
    source, target = os.path.abspath(source), os.path.abspath(target)
    marker = read_marker(source)
    if marker is None:
        raise exc.NotAStore(f"there is no store at {source}", path=source)
    if within(target, source):
        raise exc.ArgumentError(f"{target} is in the store at {source}; give a path outside", path=source)
    for entry in sorted(os.listdir(source)):
        if entry not in _NOT_COPIED and os.path.isdir(os.path.join(source, entry)):
            raise exc.ArgumentError(
                f"the store at {source} has the directory {os.path.join(source, entry)} in it, which is no part of a"
                " store (move it out, then restore)",
                path=source,
            )
    with _unwritten(source):
        copy(target, marker, lambda directory: _copy_files(source, directory))


def within(path: str, directory: str) -> bool:
    """Whether ``path``, where nothing need be, is in a directory; by what the file system says, not by names."""
    for parent in Path(os.path.realpath(path)).parents:
        with contextlib.suppress(OSError):
            if os.path.samefile(parent, directory):
                return True
    return False


@contextlib.contextmanager
def _unwritten(path: str) -> Iterator[None]:
    """Keep writers out of a store for a ``with`` block."""
    try:
        lock = FileLock(os.path.join(path, LOCK_FILE))
    except OSError:
        yield  # a medium that nobody can write to
        return
    try:
        if not lock.acquire(0.0):
            pid = lock.holder()
            raise exc.StoreLocked(
                f"{path} is held by pid {pid}; make a backup there, or close it", path=path, holder_pid=pid
            )
        try:
            yield
        finally:
            lock.release()
    finally:
        lock.close()


def _copy_files(source: str, directory: str) -> None:
    for entry in os.listdir(source):
        if entry not in _NOT_COPIED:
            # With the rights of a new file: a backup may be write-protected.
            shutil.copyfile(os.path.join(source, entry), os.path.join(directory, entry))


def aside_of(path: str) -> str:
    """A path beside ``path`` for what is to be removed soon; what a process that died leaves there is swept."""
    _sweep(os.path.dirname(path), path)
    return os.path.join(os.path.dirname(path), f"{_aside_prefix(path)}{os.getpid()}-{secrets.token_hex(4)}")


def create(path: str, marker: Marker, build: Callable[[str], None]) -> None:
    """Create a store at ``path``: whole, or not at all."""
    parent = os.path.dirname(path)
    try:
        os.makedirs(parent, exist_ok=True)
    except OSError as error:
        raise exc.BackendError(
            f"cannot create {parent}: {error.strerror}", path=path, operation="open", engine=marker.engine
        ) from error
    if os.path.isdir(path):
        # Somebody's own: with an owner and rights, or where a process stands.
        _create_in_place(path, marker, build)
        return
    aside = aside_of(path)
    try:
        os.mkdir(aside)
    except OSError:
        # No right to write beside the path; inside it there may be one.
        _create_in_place(path, marker, build)
        return
    try:
        _built(aside, path, build)
        _write_marker(aside, marker)
        _sync_tree(aside)
        try:
            if os.name == "nt" and os.path.isdir(path):
                os.rmdir(path)
            os.rename(aside, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and os.path.exists(os.path.join(path, MARKER)):
                return  # another process was first; its store is as good
            _create_in_place(path, marker, build)
            return
        sync(parent)
    except OSError as error:
        raise _cannot_create(path, marker, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def settle(aside: str, path: str) -> None:
    """Rename a store that was made beside its path, and that nobody has open, to where it belongs.

    Raises:
        ArgumentError, NotAStore: if something is at ``path``.
        BackendError: if it cannot be renamed; it stays where it is.
    """
    if read_marker(path) is not None:
        raise exc.ArgumentError(f"there is a store at {path}; give a path where nothing is", path=path)
    try:
        if os.name == "nt" and os.path.isdir(path):
            os.rmdir(path)
        os.rename(aside, path)
        sync(os.path.dirname(path))
    except OSError as error:
        raise exc.BackendError(
            f"cannot rename {aside} to {path}: {error.strerror}; it is whole, and may be moved by hand", path=path
        ) from error


def not_created(engine: str, path: str, error: Exception, *, full: bool) -> exc.BackendError:
    """The error for a store that its driver could not make; ``full``: there is no room for it."""
    kind, what = (exc.DiskFull, "the disk is full: ") if full else (exc.BackendError, "")
    return kind(
        f"cannot create a store at {path}: {what}{error}",
        engine=engine, path=path, operation="open", engine_message=str(error),
    )  # fmt: skip


def _cannot_create(path: str, marker: Marker, error: OSError) -> exc.BackendError:
    kind = exc.DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else exc.BackendError
    return kind(
        f"cannot create a store at {path}: {error.strerror or error}",
        path=path, operation="open", engine=marker.engine, engine_message=str(error),
    )  # fmt: skip


def _create_in_place(path: str, marker: Marker, build: Callable[[str], None]) -> None:
    """Create a store in a directory that stays: made in one within it, whose files then move up, the marker last."""
    try:
        os.makedirs(path, exist_ok=True)
        with FileLock(os.path.join(path, LOCK_FILE)).held(timeout=10.0):
            if os.path.exists(os.path.join(path, MARKER)):
                return  # another process was first
            _remove_unfinished(path)
            inside = os.path.join(path, f"{_INSIDE}{secrets.token_hex(4)}")
            _note_unfinished(path, [])
            os.mkdir(inside)
            _built(inside, path, build)
            _sync_tree(inside)
            names = sorted(os.listdir(inside))
            _note_unfinished(path, [*names, _NEW_MARKER])
            for name in names:
                os.rename(os.path.join(inside, name), os.path.join(path, name))
            os.rmdir(inside)
            sync(path)
            _write_marker(path, marker)
            os.remove(os.path.join(path, _UNFINISHED))
            sync(path)
    except OSError as error:
        raise _cannot_create(path, marker, error) from error


def _note_unfinished(path: str, names: list[str]) -> None:
    """Note that a store is being created in ``path``, and which files of it move there."""
    temporary = os.path.join(path, _NOTE)
    with open(temporary, "wb") as file:
        file.write(msgspec.json.encode(names))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(path, _UNFINISHED))
    sync(path)


def _remove_unfinished(path: str) -> None:
    """Remove what an interrupted creation in place has left, and nothing else.

    Raises:
        NotAStore: if something else is there.
    """
    unfinished = os.path.join(path, _UNFINISHED)
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        for name in msgspec.json.decode(Path(unfinished).read_bytes(), type=list[str]):
            if os.path.basename(name) == name:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(path, name))
    for entry in os.listdir(path):
        if entry.startswith(_INSIDE):
            shutil.rmtree(os.path.join(path, entry))
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(path, _NOTE))
    others = set(os.listdir(path)) - _IGNORED - {_UNFINISHED}
    if others:
        raise exc.NotAStore(
            f"{path} has {', '.join(sorted(others)[:3])} beside what the interrupted creation of a store has left (move"
            f" it away, or remove {_UNFINISHED} and give another path)",
            path=path,
        )


def _built(inside: str, path: str, build: Callable[[str], None]) -> None:
    """Build a store in a directory, whose name no message has."""
    try:
        build(inside)
    except exc.BackendError as error:
        raise type(error)(error.message.replace(inside, path), **{**error.facts, "path": path}) from error


def _aside_prefix(path: str) -> str:
    return f".{os.path.basename(path)}.kvdialect-creating-"


def _sweep(parent: str, path: str) -> None:
    """Remove directories that processes, dead by now, left beside ``path`` when they were killed while creating."""
    prefix = _aside_prefix(path)
    with contextlib.suppress(OSError):
        for entry in os.listdir(parent):
            if entry.startswith(prefix):
                pid = entry[len(prefix) :].split("-")[0]
                if pid.isdigit() and not process_alive(int(pid)):
                    shutil.rmtree(os.path.join(parent, entry), ignore_errors=True)


def process_alive(pid: int) -> bool:
    """False if it is certain that no process ``pid`` runs on this machine."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _write_marker(path: str, marker: Marker) -> None:
    temporary = os.path.join(path, _NEW_MARKER)
    with open(temporary, "wb") as file:
        file.write(msgspec.json.encode(marker) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(path, MARKER))
    sync(path)


def _sync_tree(path: str) -> None:
    for directory, _, files in os.walk(path):
        for file in files:
            sync(os.path.join(directory, file))
        sync(directory)


def sync(path: str) -> None:
    """Have the operating system write a file or a directory to the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows has no fsync of directories
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
