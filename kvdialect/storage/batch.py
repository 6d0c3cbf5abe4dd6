"""WriteBatch: what a commit changes and what it expects, as a value that belongs to no engine.

A batch is plain data. It keeps the *last* change of each key, as that is all that an atomic batch can show, and it is
turned into the engine's own form at the last moment, so one batch may be written twice and to two engines.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import xxhash

from kvdialect import exc
from kvdialect.storage.options import Size, parse_size

KEY_LIMIT: Final = 510
"""The longest key in bytes that every engine takes: LMDB's 511 less one byte for the tag of a shared database."""

UNBOUNDED: Final = 1 << 40
"""For the bound of a batch that the engine's ``max_batch_bytes`` is to bound alone."""

_COUNTER_MIN: Final = -(1 << 63)
_COUNTER_MAX: Final = (1 << 63) - 1
_counter = struct.Struct(">q")


class Deletion:
    """The change that removes a key; :data:`DELETE` is its only instance."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DELETE"


DELETE: Final = Deletion()


class Addition:
    """The change that adds ``delta`` to the counter at a key."""

    __slots__ = ("delta",)

    def __init__(self, delta: int) -> None:
        self.delta = delta

    def __repr__(self) -> str:
        return f"Addition({self.delta})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Addition) and other.delta == self.delta

    __hash__ = None  # type: ignore[assignment]


Change = bytes | Deletion | Addition
"""The new value of a key, its deletion, or an addition to it."""


class WriteBatch:
    """Changes to apply together, and expectations on the state before them.

    ``put``, ``delete``, ``add``, ``expect`` and ``expect_range`` return the batch, so calls chain. Nothing is checked
    against a store before :meth:`StorageBackend.batch_write`, which checks all of it before it changes anything.

    Args:
        max_bytes: bound on the keys and values that the batch may hold, in bytes or as ``"64MiB"``;
            one more raises :class:`~kvdialect.exc.BatchTooLarge` and leaves the batch as it was.
    """

    __slots__ = ("_expected", "_room", "adds", "changes", "expectations", "max_bytes", "ranges")

    changes: dict[str, dict[bytes, Change]]
    """Per column family the last change of each key, in the order of first mention."""
    expectations: dict[str, dict[bytes, bytes | None]]
    """Per column family the value (None: absence) that each key must have before the batch."""
    ranges: list[tuple[str, bytes, bytes | None, bytes]]
    """Expected digests of ranges: ``(cf, start, stop, digest)``, see :func:`range_digest`."""
    adds: bool
    """True if any change is, or was before another took its place, an addition."""

    def __init__(self, *, max_bytes: Size = 1 << 30) -> None:
        self.max_bytes = max_bytes if type(max_bytes) is int and max_bytes >= 0 else parse_size(max_bytes, "max_bytes")
        self._room = self.max_bytes
        self._expected = 0
        self.changes = {}
        self.expectations = {}
        self.ranges = []
        self.adds = False

    def put(self, cf: str, key: bytes, value: bytes) -> WriteBatch:
        """Set ``key`` to ``value``, replacing what was there."""
        # One dict store and one subtraction: this runs once per record and index entry of every commit.
        try:
            room = self._room - len(key) - len(value)
            if room < 0:
                raise self._too_large(len(key) + len(value))
            if cf in self.changes:
                self.changes[cf][key] = value
            else:
                self.changes[cf] = {key: value}
            self._room = room
        except TypeError:
            raise _not_bytes(cf, key, value) from None
        return self

    def delete(self, cf: str, key: bytes) -> WriteBatch:
        """Remove ``key``; removing what is not there succeeds."""
        return self._change(cf, key, DELETE)

    def update(self, cf: str, changes: Mapping[bytes, bytes | Deletion]) -> WriteBatch:
        """Put and delete many keys of one family: each is set to its value, or removed where that is :data:`DELETE`."""
        try:
            values: Iterable[Any] = changes.values()
            if not _BYTES.issuperset(map(type, values)):
                values = [value for value in values if not isinstance(value, Deletion)]
            size = sum(map(len, changes)) + sum(map(len, values))
        except TypeError:
            for key, change in changes.items():
                if not isinstance(key, bytes) or not isinstance(change, bytes | Deletion):
                    raise _not_bytes(cf, key, b"" if isinstance(change, Deletion) else change) from None
            raise
        if self._room < size:
            raise self._too_large(size)
        if cf in self.changes:
            self.changes[cf].update(changes)
        else:
            self.changes[cf] = dict(changes)
        self._room -= size
        return self

    def add(self, cf: str, key: bytes, delta: int) -> WriteBatch:
        """Add ``delta`` to the signed 64-bit counter at ``key``, stored big-endian in 8 bytes; absence counts as 0.

        Additions of concurrent writers commute and never conflict. Within a batch the order counts: an addition
        after a put works on the value put.

        Raises:
            CounterError: here if the put that it follows is no counter, and from ``batch_write`` if the stored value
                is none, or if the sum leaves the signed 64-bit range. The whole batch is rejected.
        """
        if type(delta) is not int or not _COUNTER_MIN <= delta <= _COUNTER_MAX:
            raise exc.CounterError(
                f"delta for {cf!r} is {delta!r}; it must be an int from -2**63 to 2**63-1", cf=cf, key=key
            )
        try:
            before = self.changes.get(cf, {}).get(key)
        except TypeError:
            raise _not_bytes(cf, key) from None
        self.adds = True
        if before is None:
            return self._change(cf, key, Addition(delta))
        if isinstance(before, Addition):
            return self._change(cf, key, Addition(checked_counter(before.delta + delta, cf, key)))
        start = 0 if isinstance(before, Deletion) else decode_counter(before, cf, key)
        return self._change(cf, key, encode_counter(start + delta, cf, key))

    def expect(self, cf: str, key: bytes, value: bytes | None) -> WriteBatch:
        """Make the batch conditional: before it, ``key`` must have ``value`` (None: be absent).

        If it does not, ``batch_write`` raises :class:`~kvdialect.exc.ConflictError` and applies nothing.
        """
        if value is not None and not isinstance(value, bytes):
            raise _not_bytes(cf, key, value)
        try:
            expected = self.expectations.get(cf, {}).get(key, value)
            size = len(key) + (0 if value is None else len(value))
            if self._room < size:
                raise self._too_large(size)
            self.expectations.setdefault(cf, {}).setdefault(key, value)
        except TypeError:
            raise _not_bytes(cf, key) from None
        if expected != value:
            raise exc.ConflictError(
                f"the batch expects {cf}[{exc.shown(key)}] to be both {exc.shown(expected)} and {exc.shown(value)}",
                cf=cf,
                key=key,
                expected=value,
                found=expected,
                retryable=False,
            )
        self._room -= size
        self._expected += size
        return self

    def expect_all(self, cf: str, expected: Mapping[bytes, bytes | None]) -> WriteBatch:
        """As :meth:`expect` for many keys of one family."""
        if self.expectations.get(cf):
            for key, value in expected.items():
                self.expect(cf, key, value)
            return self
        try:
            values = [value for value in expected.values() if value is not None]
            if not _BYTES.issuperset(map(type, values)):
                raise TypeError
            size = sum(map(len, expected)) + sum(map(len, values))
        except TypeError:
            for key, value in expected.items():
                if not isinstance(key, bytes) or not isinstance(value, bytes | None):
                    raise _not_bytes(cf, key, value) from None
            raise
        if self._room < size:
            raise self._too_large(size)
        self.expectations[cf] = dict(expected)
        self._room -= size
        self._expected += size
        return self

    def expect_range(self, cf: str, start: bytes, stop: bytes | None, digest: bytes) -> WriteBatch:
        """Make the batch conditional: before it, the pairs in ``[start, stop)`` must have this :func:`range_digest`.

        This is how phantoms become conflicts: a reader digests the part of a range that it really read, and the
        writer reads it once more under its lock.
        """
        size = sum(len(part) for part in (start, stop, digest) if isinstance(part, bytes))
        if self._room < size:
            raise self._too_large(size)
        self._room -= size
        self._expected += size
        self.ranges.append((cf, start, stop, digest))
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values put and expected so far; what was overwritten within the batch counts too."""
        return self.max_bytes - self._room

    @property
    def written_bytes(self) -> int:
        """Those of :attr:`nbytes` that are put or deleted, without those that are expected."""
        return self.max_bytes - self._room - self._expected

    def __len__(self) -> int:
        """Number of keys that the batch changes."""
        return sum(map(len, self.changes.values()))

    def __bool__(self) -> bool:
        """False if the batch changes nothing and expects nothing."""
        return any(self.changes.values()) or bool(self.ranges) or any(self.expectations.values())

    def __repr__(self) -> str:
        expected = sum(map(len, self.expectations.values())) + len(self.ranges)
        return f"<WriteBatch: {len(self)} changes in {len(self.changes)} families, {expected} expectations>"

    def families(self) -> Iterator[str]:
        """Yield every column family that the batch names, some more than once."""
        yield from self.changes
        yield from self.expectations
        for cf, _, _, _ in self.ranges:
            yield cf

    def validate(self, limit: int = KEY_LIMIT) -> None:
        """Check every key and value, without a store: their types and the keys' lengths.

        Raises:
            TypeError: if a key or value is not bytes.
            KeyTooLong: if a key is empty or longer than ``limit`` bytes.
        """
        for cf, changes in self.changes.items():
            if not _keys_good(changes, limit):
                for key in changes:
                    check_key(key, cf, limit)
            if not _CHANGE_TYPES.issuperset(map(type, changes.values())):
                for key, value in changes.items():
                    if not isinstance(value, bytes | Deletion | Addition):
                        raise _not_bytes(cf, key, value)
        for cf, expected in self.expectations.items():
            if not _keys_good(expected, limit):
                for key in expected:
                    check_key(key, cf, limit)
        for cf, start, stop, digest in self.ranges:
            if not isinstance(start, bytes) or not isinstance(digest, bytes) or not isinstance(stop, bytes | None):
                raise TypeError(f"range expectation on {cf!r}: start, stop and digest must be bytes")

    def _change(self, cf: str, key: bytes, change: Change) -> WriteBatch:
        try:
            size = len(key)
            if self._room < size:
                raise self._too_large(size)
            self.changes.setdefault(cf, {})[key] = change
        except TypeError:
            raise _not_bytes(cf, key) from None
        self._room -= size
        return self

    def _too_large(self, size: int) -> exc.BatchTooLarge:
        return exc.BatchTooLarge(
            f"the batch would hold {self.nbytes + size} bytes; its bound is {self.max_bytes}"
            " (commit in smaller batches or raise max_bytes)",
            size=self.nbytes + size, limit=self.max_bytes,
        )  # fmt: skip


_CHANGE_TYPES: Final = frozenset({bytes, Deletion, Addition})
_BYTES: Final = frozenset({bytes})


_FEW: Final = 6
"""So many things are looked at one by one faster than by passes in C."""


def _keys_good(keys: Collection[bytes], limit: int) -> bool:
    if len(keys) <= _FEW:
        for key in keys:  # noqa: SIM110 - all() of a generator costs twice as much
            if key.__class__ is not bytes or not 0 < len(key) <= limit:
                return False
        return True
    # Passes in C; the loop that finds the culprit runs only if there is one.
    if not _BYTES.issuperset(map(type, keys)):
        return False
    return all(keys) and max(map(len, keys), default=0) <= limit


def check_keys(keys: Collection[Any], cf: str, limit: int = KEY_LIMIT) -> None:
    """Check many keys for ``cf``, as :func:`check_key` does one."""
    if not _keys_good(keys, limit):
        for key in keys:
            check_key(key, cf, limit)


def check_key(key: object, cf: str, limit: int = KEY_LIMIT) -> None:
    """Check one key for ``cf``.

    Raises:
        TypeError: if it is not bytes.
        KeyTooLong: if it is empty or longer than ``limit`` bytes.
    """
    if not isinstance(key, bytes):
        raise _not_bytes(cf, key)
    if not key:
        raise exc.KeyTooLong(f"key for {cf} is empty; keys are 1 to {limit} bytes", cf=cf, key=key, limit=limit)
    if len(key) > limit:
        raise exc.KeyTooLong(
            f"encoded key for {cf} is {len(key)} bytes; the portable limit is {limit}"
            " (shorten the key or store a digest of it)",
            cf=cf, key=key, limit=limit,
        )  # fmt: skip


def _not_bytes(cf: str, key: object, value: object = b"") -> TypeError:
    what, seen = ("key", key) if not isinstance(key, bytes) else ("value", value)
    return TypeError(f"{what} for column family {cf!r} must be bytes, not {type(seen).__name__}: {seen!r:.80}")


def encode_counter(value: int, cf: str = "", key: bytes = b"") -> bytes:
    """Encode a counter: big-endian two's complement in 8 bytes."""
    return _counter.pack(checked_counter(value, cf, key))


def decode_counter(raw: bytes | None, cf: str = "", key: bytes = b"") -> int:
    """Decode a counter; None, an absent one, is 0.

    Raises:
        CounterError: if ``raw`` is not 8 bytes.
    """
    if raw is None:
        return 0
    if len(raw) != 8:
        raise exc.CounterError(
            f"{cf}[{exc.shown(key)}] holds {len(raw)} bytes and is no counter; a counter is 8 bytes, big-endian",
            cf=cf,
            key=key,
        )
    return int(_counter.unpack(raw)[0])


def checked_counter(value: int, cf: str, key: bytes) -> int:
    """Return ``value`` if it fits a signed 64-bit counter, else raise CounterError."""
    if not _COUNTER_MIN <= value <= _COUNTER_MAX:
        raise exc.CounterError(
            f"counter {cf}[{exc.shown(key)}] would leave the signed 64-bit range: {value}", cf=cf, key=key
        )
    return value


def range_digest(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Digest of ``(key, value)`` pairs in their order, 16 bytes: XXH3-128 over lengths and contents."""
    digest = xxhash.xxh3_128()
    for key, value in pairs:
        digest.update(b"%d,%d:" % (len(key), len(value)) + key + value)
    return digest.digest()
