"""Counters: additions that commute."""

from __future__ import annotations

import pytest

from kvdialect import exc
from kvdialect.storage import StorageBackend, WriteBatch, decode_counter, encode_counter
from kvdialect.testing.suites.base import Suite, contents

LEAST, GREATEST = -(2**63), 2**63 - 1


def _count(backend: StorageBackend, key: bytes = b"n") -> int:
    return decode_counter(backend.get("a", key))


class CounterSuite(Suite):
    """``add`` changes a signed 64-bit counter, big-endian in 8 bytes."""

    def test_absence_counts_as_zero(self, backend: StorageBackend) -> None:
        """The first addition to a key must store the delta itself, in 8 bytes."""
        backend.batch_write(WriteBatch().add("a", b"n", 5).add("b", b"n", -1))

        assert backend.get("a", b"n") == b"\x00\x00\x00\x00\x00\x00\x00\x05"
        assert backend.get("b", b"n") == b"\xff" * 8

    def test_additions_sum_up(self, backend: StorageBackend) -> None:
        """Additions of both signs, in one batch and over several, must give their sum."""
        backend.batch_write(WriteBatch().add("a", b"n", 5).add("a", b"n", -7))
        backend.batch_write(WriteBatch().add("a", b"n", 100))
        backend.batch_write(WriteBatch().add("a", b"n", 0).add("a", b"n", -200))

        assert _count(backend) == -102

    def test_the_order_of_additions_does_not_matter(self, backend: StorageBackend) -> None:
        """The same additions in two orders must give the same counter: they commute."""
        deltas = [3, -10, 2**40, -(2**41), 7]
        for delta in deltas:
            backend.batch_write(WriteBatch().add("a", b"forward", delta))
        for delta in reversed(deltas):
            backend.batch_write(WriteBatch().add("a", b"backward", delta))

        assert _count(backend, b"forward") == _count(backend, b"backward") == sum(deltas)

    def test_a_batch_with_an_addition_written_twice_adds_twice(self, backend: StorageBackend) -> None:
        """A batch is not consumed: its addition must work on what is stored each time."""
        batch = WriteBatch().add("a", b"n", 21)
        backend.batch_write(batch)
        backend.batch_write(batch)

        assert _count(backend) == 42

    def test_an_addition_after_a_put_works_on_the_value_put(self, backend: StorageBackend) -> None:
        """Within a batch the order counts: put, then add must give the sum, whatever was stored before."""
        backend.put("a", b"n", b"no counter")
        backend.batch_write(WriteBatch().put("a", b"n", encode_counter(40)).add("a", b"n", 2))

        assert _count(backend) == 42

    def test_an_addition_after_a_delete_starts_at_zero(self, backend: StorageBackend) -> None:
        """Within a batch, delete, then add must give the delta alone."""
        backend.put("a", b"n", encode_counter(40))
        backend.batch_write(WriteBatch().delete("a", b"n").add("a", b"n", 2))

        assert _count(backend) == 2

    def test_a_put_or_delete_after_an_addition_wins(self, backend: StorageBackend) -> None:
        """The last operation on a key must win, also over an addition."""
        backend.put("a", b"gone", encode_counter(1))
        backend.batch_write(
            WriteBatch().add("a", b"n", 1).put("a", b"n", b"v").add("a", b"gone", 1).delete("a", b"gone")
        )

        assert contents(backend)["a"] == [(b"n", b"v")]

    @pytest.mark.parametrize(("start", "delta"), [(GREATEST, 1), (LEAST, -1), (1, GREATEST), (-1, LEAST)])
    def test_overflow_rejects_the_whole_batch(self, backend: StorageBackend, start: int, delta: int) -> None:
        """A sum outside signed 64 bits must raise CounterError, and nothing of the batch be applied."""
        backend.put("a", b"n", encode_counter(start))
        before = contents(backend)

        with pytest.raises(exc.CounterError):
            backend.batch_write(WriteBatch().put("a", b"k", b"v").add("a", b"n", delta).put("b", b"k", b"v"))
        assert contents(backend) == before

    @pytest.mark.parametrize("limit", [LEAST, GREATEST])
    def test_the_limits_themselves_are_reached(self, backend: StorageBackend, limit: int) -> None:
        """Both ends of the signed 64-bit range must be legal counters."""
        backend.batch_write(WriteBatch().add("a", b"n", limit))
        assert _count(backend) == limit

        backend.batch_write(WriteBatch().add("a", b"n", 1 if limit < 0 else -1))
        assert _count(backend) == (LEAST + 1 if limit < 0 else GREATEST - 1)

    @pytest.mark.parametrize("value", [b"", b"\x00" * 7, b"\x00" * 9, b"text"], ids=repr)
    def test_adding_to_what_is_no_counter_rejects_the_whole_batch(self, backend: StorageBackend, value: bytes) -> None:
        """A stored value of another length than 8 must raise CounterError, and nothing of the batch be applied."""
        backend.put("a", b"n", value)
        before = contents(backend)

        with pytest.raises(exc.CounterError):
            backend.batch_write(WriteBatch().put("a", b"k", b"v").add("a", b"n", 1).put("b", b"k", b"v"))
        assert contents(backend) == before

    def test_additions_are_not_conflicts(self, backend: StorageBackend) -> None:
        """A batch built before another one's addition to the same counter must still be written."""
        mine, theirs = WriteBatch().add("a", b"n", 1), WriteBatch().add("a", b"n", 10)
        backend.batch_write(theirs)
        backend.batch_write(mine)

        assert _count(backend) == 11
