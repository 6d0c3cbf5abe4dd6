"""Which keys there are: 1 to 510 bytes of anything, refused alike by every call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvdialect import exc
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.testing import strategies
from kvdialect.testing.suites.base import OpenStore, Suite, contents, fill


def _from_snapshot(backend: StorageBackend, key: bytes) -> bytes | None:
    with backend.snapshot() as snapshot:
        return snapshot.get("a", key)


def _all_from_snapshot(backend: StorageBackend, key: bytes) -> list[bytes | None]:
    with backend.snapshot() as snapshot:
        return snapshot.multi_get("a", [b"k", key])


CALLS: dict[str, Callable[[StorageBackend, bytes], object]] = {
    "get": lambda backend, key: backend.get("a", key),
    "multi_get": lambda backend, key: backend.multi_get("a", [b"k", key]),
    "put": lambda backend, key: backend.put("a", key, b"v"),
    "delete": lambda backend, key: backend.delete("a", key),
    "batch put": lambda backend, key: backend.batch_write(WriteBatch().put("b", b"x", b"").put("a", key, b"v")),
    "batch delete": lambda backend, key: backend.batch_write(WriteBatch().put("b", b"x", b"").delete("a", key)),
    "batch add": lambda backend, key: backend.batch_write(WriteBatch().put("b", b"x", b"").add("a", key, 1)),
    "batch expect": lambda backend, key: backend.batch_write(WriteBatch().put("b", b"x", b"").expect("a", key, None)),
    "snapshot get": _from_snapshot,
    "snapshot multi_get": _all_from_snapshot,
}


class KeySuite(Suite):
    """One key limit, checked before the engine by reads and writes alike."""

    def test_the_portable_limit_is_510_bytes(self, backend: StorageBackend) -> None:
        """A schema that fits one engine must fit all: the limit is the same everywhere."""
        assert backend.capabilities.key_limit == strategies.KEY_LIMIT

    def test_keys_up_to_the_limit_are_stored(self, backend: StorageBackend) -> None:
        """Keys of 1, 509 and 510 bytes must be stored, found and deleted like any other."""
        limit = backend.capabilities.key_limit
        expected = fill(backend, "a", [b"k", b"k" * (limit - 1), b"k" * limit, b"\xff" * limit, b"\x00" * limit])

        assert list(backend.scan("a")) == expected
        assert list(backend.prefix_scan("a", b"k" * limit)) == [(b"k" * limit, b"k" * limit)]
        backend.delete("a", b"k" * limit)
        assert backend.get("a", b"k" * limit) is None

    @pytest.mark.parametrize("call", CALLS)
    def test_a_key_over_the_limit_is_refused(self, backend: StorageBackend, call: str) -> None:
        """A key one byte too long must raise KeyTooLong from every call, naming key and limit, and change nothing."""
        limit = backend.capabilities.key_limit
        backend.put("a", b"k", b"v")
        before = contents(backend)
        key = b"k" * (limit + 1)

        with pytest.raises(exc.KeyTooLong, match=f"{limit + 1} bytes.* limit is {limit}") as caught:
            CALLS[call](backend, key)
        assert (caught.value.key, caught.value.limit) == (key, limit)  # type: ignore[attr-defined]
        assert contents(backend) == before

    @pytest.mark.parametrize("call", CALLS)
    def test_an_empty_key_is_refused(self, backend: StorageBackend, call: str) -> None:
        """The empty key must raise KeyTooLong (its length is outside 1 to 510) from every call and change nothing."""
        backend.put("a", b"k", b"v")
        before = contents(backend)

        with pytest.raises(exc.KeyTooLong, match="empty"):
            CALLS[call](backend, b"")
        assert contents(backend) == before

    @pytest.mark.parametrize("key", strategies.TRICKY_KEYS, ids=lambda key: f"{key[:2].hex()}x{len(key)}")
    def test_a_tricky_key_is_a_key_like_any_other(self, backend: StorageBackend, key: bytes) -> None:
        """Zero bytes, 0xff runs and the longest keys must be put, read, scanned, expected and deleted exactly."""
        backend.put("a", key, b"v")

        assert backend.get("a", key) == b"v"
        assert list(backend.scan("a", key, key + b"\x00")) == [(key, b"v")]
        assert list(backend.prefix_scan("a", key)) == [(key, b"v")]
        assert list(backend.scan("a", b"", key)) == []
        backend.batch_write(WriteBatch().expect("a", key, b"v").delete("a", key))
        assert list(backend.scan("a")) == []

    def test_trailing_zero_bytes_tell_keys_apart(self, open_store: OpenStore) -> None:
        """Keys that differ only in trailing zero bytes must be different keys, as bytes have a length."""
        backend = open_store()
        expected = fill(backend, "a", {b"k" + bytes(n): b"%d" % n for n in range(5)})

        assert list(backend.scan("a")) == expected
        assert backend.get("a", b"k\x00\x00") == b"2"
