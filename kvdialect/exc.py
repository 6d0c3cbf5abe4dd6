"""The error tree: PEP 249's shape, the engines' facts as attributes.

Every error raised on purpose by kvdialect is an :class:`Error`. The eight classes that :pep:`249` names stand here
under its names, each a subclass of SQLAlchemy's counterpart, so that ``except sqlalchemy.exc.IntegrityError`` works
whichever door was used. Below them stand the storage layer's own classes.

Messages are lower case and say what was seen, what is allowed and what to do. The same facts are attributes.
``str()`` of an error adds a line that leads to the section of its ``code`` in the documentation, as SQLAlchemy does.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from sqlalchemy import exc as sa_exc

Outcome = Literal["not_applied", "applied", "unknown"]
"""What is known of the write that failed: ``not_applied``, ``applied`` or ``unknown``."""


# No site is published yet, so this names the page. Once there is one its address goes in front.
_BACKGROUND: Final = "(background on this error: errors.html#{code} in kvdialect's documentation)"


def shown(raw: bytes | None, limit: int = 40) -> str:
    """A key or value as messages show it: text where it is text, else hexadecimal; cut at ``limit`` bytes."""
    if raw is None:
        return "absent"
    head = bytes(raw[:limit])
    text = repr(head) if head.isascii() and head.decode().isprintable() else f"0x{head.hex()}"
    return text if len(raw) <= limit else f"{text}... ({len(raw)} bytes)"


def short(value: object) -> str:
    """Any value as messages show it, cut at 80 characters."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # Python writes no int of thousands of digits
        return f"an {type(value).__name__} of {value.bit_length():,} bits" if isinstance(value, int) else "a value"


def message_of(error: BaseException) -> str:
    """The words of an error of any library, to be put into another one's: without the line of ours that refers on."""
    return error.message if isinstance(error, Error) else str(error)


class Error(sa_exc.SQLAlchemyError):
    """Base of all errors of this library.

    Attributes:
        code: names the class for good, and its section on the page of errors: ``"kv-conflict"``.
        engine: name of the engine (``"lmdb"``, ``"rocksdb"``, ``"memory"``, ...), or None if none was involved.
        path: directory of the store, or None.
        operation: the call that failed (``"get"``, ``"batch_write"``, ...), or None.
        engine_message: the driver's own words, or None if the driver did not speak.
        retryable: True if the same call may succeed later with nothing changed by the caller.
        outcome: for a failed write, whether it was applied; a read is always ``"not_applied"``.

    Further facts of one error are attributes of the same name as the keyword they were given by.
    """

    code = "kv-error"
    retryable: bool = False
    outcome: Outcome = "not_applied"
    engine: str | None = None
    path: str | None = None
    operation: str | None = None
    engine_message: str | None = None

    def __init__(self, message: str = "", **facts: Any) -> None:
        # SQLAlchemy's StatementError wants a statement; a storage error has none. Its attributes are set here
        # instead of by its constructor, whose signature is another.
        Exception.__init__(self, message)
        self.__dict__.update(
            statement=None,
            params=None,
            orig=None,
            ismulti=None,
            hide_parameters=False,
            connection_invalidated=False,
            detail=[],
        )
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    @property
    def message(self) -> str:
        """What happened, without the reference to the documentation that ``str()`` adds."""
        return str(self.args[0]) if self.args else ""

    @property
    def background(self) -> str:
        """Where the documentation says more about this class of errors; the last line of ``str()``."""
        return _BACKGROUND.format(code=self.code)

    def __str__(self) -> str:
        return f"{self.message}\n{self.background}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.facts))


def _rebuild(cls: type[Error], args: tuple[Any, ...], facts: dict[str, Any]) -> Error:
    return cls(*args, **facts)


class InterfaceError(Error, sa_exc.InterfaceError):
    """An error of the interface rather than of the store."""

    code = "kv-interface"


class DatabaseError(Error, sa_exc.DatabaseError):
    """An error of the store."""

    code = "kv-database"


class DataError(DatabaseError, sa_exc.DataError):
    """A value that cannot be stored: too long, out of range, of a wrong kind."""

    code = "kv-data"


class OperationalError(DatabaseError, sa_exc.OperationalError):
    """The store could not do its work: locks, disk, conflicts, engine trouble."""

    code = "kv-operational"


class IntegrityError(DatabaseError, sa_exc.IntegrityError):
    """A constraint would be broken: a duplicate primary key, a unique index, a foreign key."""

    code = "kv-integrity"


class InternalError(DatabaseError, sa_exc.InternalError):
    """The store is not in the state that it should be in."""

    code = "kv-internal"


class ProgrammingError(DatabaseError, sa_exc.ProgrammingError):
    """The program asked for something that makes no sense here."""

    code = "kv-programming"


class NotSupportedError(DatabaseError, sa_exc.NotSupportedError):
    """The engine, or this library, does not offer what was asked for."""

    code = "kv-not-supported"


# --------------------------------------------------------------------------- what the program did wrong


class ArgumentError(ProgrammingError, sa_exc.ArgumentError):
    """An option or URL that is not understood; the message names what is allowed."""

    code = "kv-argument"


class UnknownColumnFamily(ProgrammingError):
    """No column family has this name.

    Attributes:
        name: the name asked for.
    """

    code = "kv-unknown-family"

    def __init__(self, name: str = "", **facts: Any) -> None:
        super().__init__(f"unknown column family: {name}", **facts)
        self.name = name

    # The storage contract fixes this text to the letter, notes included, as pytest's ``match`` reads them too.
    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), (self.name,), self.facts))


class ColumnFamilyExists(ProgrammingError):
    """The column family to be created is there already."""

    code = "kv-family-exists"


class ReadOnlyStore(ProgrammingError):
    """A write to a store opened with ``mode=ro`` or ``mode=secondary``."""

    code = "kv-read-only"


class StoreClosed(ProgrammingError):
    """The backend, snapshot or iterator was closed."""

    code = "kv-closed"


class ForkedProcess(ProgrammingError):
    """A store opened before a fork is used in the child.

    Attributes:
        opened_pid: the process that opened the store.
        pid: the process that used it.
    """

    code = "kv-forked"


class SchemaMismatch(ProgrammingError):
    """The tables of a model are not those of the store; the message lists what differs and what to call.

    Attributes:
        table: name of the first table that differs.
        differences: all that differs, as :class:`kvdialect.schema.evolution.Difference`.
    """

    code = "kv-schema-mismatch"


class BackendNotInstalled(ProgrammingError):
    """The driver of the requested engine is not installed.

    Attributes:
        extras: the extras of this distribution that bring a driver.
    """

    code = "kv-not-installed"


class NotAStore(ProgrammingError):
    """The path exists and holds something that is no store of this library."""

    code = "kv-not-a-store"


class StoreFormatError(OperationalError):
    """The store was created with other settings, by another engine or by a newer release."""

    code = "kv-store-format"


# --------------------------------------------------------------------------- values


class KeyTooLong(DataError):
    """A key whose length is outside 1 to 510 bytes, the limit that holds on every engine.

    Attributes:
        key: the key as it was given.
        limit: the longest key allowed, in bytes.
    """

    code = "kv-key-too-long"


class BatchTooLarge(DataError):
    """A batch holds more bytes than its bound.

    Attributes:
        size: bytes of keys and values in the batch.
        limit: the bound, in bytes.
    """

    code = "kv-batch-too-large"


class SerializationError(DataError):
    """Bytes that do not decode, or a value that does not encode."""

    code = "kv-serialization"


class CounterError(DataError):
    """An ``add`` to a value that is not an 8-byte counter, or one that leaves the signed 64-bit range."""

    code = "kv-counter"


# --------------------------------------------------------------------------- the store at work


class ConflictError(OperationalError):
    """Another commit came first: an expectation of the batch does not hold. Nothing was applied; run it again.

    Attributes:
        cf: the family of the first expectation that failed.
        key: its key, or the start of its range.
        expected: the value expected (None: absence), or the digest of the range.
        found: what was there instead.
    """

    code = "kv-conflict"
    retryable = True


class SchemaChanged(OperationalError):
    """The fields of a table were changed, or it was dropped, since this session began; bind the model and run it again.

    Attributes:
        table: name of the table.
    """

    code = "kv-schema-changed"
    retryable = True


class BackendError(OperationalError):
    """What an engine says and no other class fits."""

    code = "kv-backend"


class LockTimeout(BackendError):
    """Another writer held the store for longer than ``lock_timeout``; nothing was applied."""

    code = "kv-lock-timeout"
    retryable = True


class StoreLocked(BackendError):
    """The store is open in another process that admits no second one.

    Attributes:
        holder_pid: process id of the holder, or None if it could not be read.
    """

    code = "kv-store-locked"
    retryable = True


class MapFull(BackendError):
    """LMDB's map is full; nothing was applied.

    Attributes:
        map_size: the size of the map, in bytes.
    """

    code = "kv-map-full"
    retryable = True


class ReadersFull(BackendError):
    """All of LMDB's reader slots are taken."""

    code = "kv-readers-full"
    retryable = True


class DiskFull(BackendError):
    """The disk, a quota or a file size limit is exhausted. Whether the write was applied is not known."""

    code = "kv-disk-full"
    retryable = True
    outcome: Outcome = "unknown"


class CommitOutcomeUnknown(BackendError):
    """The commit may or may not have been applied.

    Attributes:
        token: give it to ``backend.commit_outcome(token)``, after reopening if need be, to learn which.
    """

    code = "kv-outcome-unknown"
    outcome: Outcome = "unknown"
    token: bytes | None = None


class CommitInterrupted(CommitOutcomeUnknown, KeyboardInterrupt):
    """Ctrl-C arrived during a commit. It is a KeyboardInterrupt too; ``outcome`` says what became of the batch."""

    code = "kv-interrupted"


class ReopenRequired(BackendError):
    """The engine cannot go on, after a failure or as its store was moved: close the store and open it again."""

    code = "kv-reopen"


class SnapshotTooOld(BackendError):
    """The snapshot lived longer than ``max_snapshot_age`` and was ended so that the engine can free its pages."""

    code = "kv-snapshot-too-old"


class DeviceError(BackendError):
    """The device, or the file system, failed on a read or on opening."""

    code = "kv-device"


class Corruption(InternalError):
    """The engine, or a checksum, found damaged data.

    Attributes:
        cf: the column family, where known.
        key: the key, where known.
    """

    code = "kv-corruption"


__all__ = [
    "ArgumentError",
    "BackendError",
    "BackendNotInstalled",
    "BatchTooLarge",
    "ColumnFamilyExists",
    "CommitInterrupted",
    "CommitOutcomeUnknown",
    "ConflictError",
    "Corruption",
    "CounterError",
    "DataError",
    "DatabaseError",
    "DeviceError",
    "DiskFull",
    "Error",
    "ForkedProcess",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "KeyTooLong",
    "LockTimeout",
    "MapFull",
    "NotAStore",
    "NotSupportedError",
    "OperationalError",
    "Outcome",
    "ProgrammingError",
    "ReadOnlyStore",
    "ReadersFull",
    "ReopenRequired",
    "SchemaChanged",
    "SchemaMismatch",
    "SerializationError",
    "SnapshotTooOld",
    "StoreClosed",
    "StoreFormatError",
    "StoreLocked",
    "UnknownColumnFamily",
]
