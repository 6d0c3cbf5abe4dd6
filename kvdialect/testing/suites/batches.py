"""Batches: all or nothing, in order, and values that belong to no engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given

from kvdialect import exc
from kvdialect.storage import ColumnFamilyOptions, StorageBackend, WriteBatch, open_backend
from kvdialect.testing import strategies
from kvdialect.testing.suites.base import FAMILIES, OpenStore, Suite, contents, examples, fill

BAD: dict[str, tuple[type[Exception], Callable[[WriteBatch], object]]] = {
    "put to an unknown family": (exc.UnknownColumnFamily, lambda batch: batch.put("nowhere", b"k", b"v")),
    "delete from an unknown family": (exc.UnknownColumnFamily, lambda batch: batch.delete("nowhere", b"k")),
    "add to an unknown family": (exc.UnknownColumnFamily, lambda batch: batch.add("nowhere", b"k", 1)),
    "expect in an unknown family": (exc.UnknownColumnFamily, lambda batch: batch.expect("nowhere", b"k", None)),
    "expect a range of an unknown family": (
        exc.UnknownColumnFamily,
        lambda batch: batch.expect_range("nowhere", b"", None, bytes(16)),
    ),
    "key too long": (exc.KeyTooLong, lambda batch: batch.put("c", b"k" * 511, b"v")),
    "deleted key too long": (exc.KeyTooLong, lambda batch: batch.delete("c", b"k" * 511)),
    "expected key too long": (exc.KeyTooLong, lambda batch: batch.expect("c", b"k" * 511, None)),
    "empty key": (exc.KeyTooLong, lambda batch: batch.put("c", b"", b"v")),
    "key that is text": (TypeError, lambda batch: batch.put("c", "k", b"v")),  # type: ignore[arg-type]
    "deleted key that is text": (TypeError, lambda batch: batch.delete("c", "k")),  # type: ignore[arg-type]
    "value that is text": (TypeError, lambda batch: batch.put("c", b"k", "v")),  # type: ignore[arg-type]
    "value that is a bytearray": (TypeError, lambda batch: batch.put("c", b"k", bytearray(b"v"))),  # type: ignore[arg-type]
    "expected key that is text": (TypeError, lambda batch: batch.expect("c", "k", None)),  # type: ignore[arg-type]
    "range bound that is text": (
        TypeError,
        lambda batch: batch.expect_range("c", "k", None, bytes(16)),  # type: ignore[arg-type]
    ),
}


def _write_with(backend: StorageBackend, spoil: Callable[[WriteBatch], object], position: str) -> None:
    """Write a good batch with one bad operation in it; a WriteBatch may refuse that itself."""
    batch = WriteBatch()
    if position == "first":
        spoil(batch)
    batch.put("a", b"k", b"new").delete("b", b"k").add("c", b"count", 1)
    if position == "middle":
        spoil(batch)
    batch.put("b", b"l", b"new").put("a", b"m", b"new")
    if position == "last":
        spoil(batch)
    backend.batch_write(batch)


class BatchSuite(Suite):
    """A batch is applied whole, in its order, or not at all."""

    def test_a_batch_changes_several_families_at_once(self, backend: StorageBackend) -> None:
        """Puts and deletes of one batch over several families must all be there."""
        backend.put("b", b"gone", b"v")
        backend.batch_write(WriteBatch().put("a", b"k", b"1").delete("b", b"gone").put("c", b"k", b"3"))

        assert contents(backend) == {"a": [(b"k", b"1")], "b": [], "c": [(b"k", b"3")]}

    def test_the_last_operation_on_a_key_wins(self, backend: StorageBackend) -> None:
        """Operations on one key must take effect in the order in which they were added."""
        backend.put("a", b"deleted", b"before")
        batch = WriteBatch()
        batch.put("a", b"twice", b"1").put("a", b"twice", b"2")
        batch.put("a", b"deleted", b"1").delete("a", b"deleted")
        batch.delete("a", b"restored").put("a", b"restored", b"1")
        backend.batch_write(batch)

        assert list(backend.scan("a")) == [(b"restored", b"1"), (b"twice", b"2")]

    def test_an_empty_batch_changes_nothing(self, backend: StorageBackend) -> None:
        """A batch without operations must succeed and change nothing."""
        fill(backend, "a", [b"k"])
        before = contents(backend)
        backend.batch_write(WriteBatch())

        assert contents(backend) == before

    def test_a_batch_never_written_leaves_nothing(self, backend: StorageBackend) -> None:
        """Building a batch and dropping it must not touch the store."""
        batch = WriteBatch().put("a", b"k", b"v").delete("b", b"k").add("c", b"n", 1)
        del batch

        assert contents(backend) == {"a": [], "b": [], "c": []}

    @pytest.mark.parametrize("position", ["first", "middle", "last"])
    @pytest.mark.parametrize("bad", BAD)
    def test_a_bad_operation_rejects_the_whole_batch(self, backend: StorageBackend, bad: str, position: str) -> None:
        """Wherever it stands, one bad operation must raise its error and leave every family as it was."""
        for cf in FAMILIES:
            backend.put(cf, b"k", b"old")
        before = contents(backend)
        error, spoil = BAD[bad]

        with pytest.raises(error):
            _write_with(backend, spoil, position)
        assert contents(backend) == before
        backend.put("a", b"k", b"still writable")
        assert backend.get("a", b"k") == b"still writable"

    def test_a_batch_may_be_written_twice(self, backend: StorageBackend) -> None:
        """Writing does not consume a batch: the second time must have the same effect as the first."""
        batch = WriteBatch().put("a", b"k", b"batch").delete("b", b"k")
        backend.batch_write(batch)
        backend.put("a", b"k", b"between")
        backend.put("b", b"k", b"between")
        backend.batch_write(batch)

        assert contents(backend) == {"a": [(b"k", b"batch")], "b": [], "c": []}

    @given(changes=strategies.changes())
    @examples(60)
    def test_a_batch_written_to_two_engines_gives_identical_data(
        self, backend: StorageBackend, changes: list[strategies.Operation]
    ) -> None:
        """One batch must leave the same pairs here and in the memory engine, as it belongs to no engine."""
        clear = WriteBatch()
        for cf, pairs in contents(backend).items():
            for key, _ in pairs:
                clear.delete(cf, key)
        backend.batch_write(clear)
        batch = strategies.build_batch(changes)
        with open_backend("memory://", column_families={cf: ColumnFamilyOptions() for cf in FAMILIES}) as memory:
            memory.batch_write(batch)
            backend.batch_write(batch)

            assert contents(backend) == contents(memory)

    @pytest.mark.parametrize("count", [100, 25_000, 100_000])
    def test_a_batch_of_many_puts_is_there_exactly(self, backend: StorageBackend, count: int) -> None:
        """All puts of a large batch over three families must be there, with their exact values and no others."""
        expected: dict[str, list[tuple[bytes, bytes]]] = {cf: [] for cf in FAMILIES}
        batch = WriteBatch()
        # A stride coprime to the count: keys arrive out of order.
        for step in range(count):
            number = step * 7919 % count
            batch.put(FAMILIES[number % 3], b"%08d" % number, b"value of %d" % number)
        for number in range(count):
            expected[FAMILIES[number % 3]].append((b"%08d" % number, b"value of %d" % number))
        backend.batch_write(batch)

        assert contents(backend) == expected

    def test_deletes_in_a_large_batch(self, backend: StorageBackend) -> None:
        """Deleting every other of 10,000 keys in one batch must leave exactly the others."""
        pairs = fill(backend, "a", [b"%05d" % n for n in range(10_000)])
        backend.batch_write(strategies.build_batch([("delete", "a", key) for key, _ in pairs[::2]]))

        assert list(backend.scan("a")) == pairs[1::2]

    def test_a_batch_over_its_own_bound_is_refused_as_it_grows(self, backend: StorageBackend) -> None:
        """The put that would exceed max_bytes must raise BatchTooLarge and leave the batch as it was."""
        batch = WriteBatch(max_bytes=100).put("a", b"k", b"v" * 50)

        with pytest.raises(exc.BatchTooLarge) as caught:
            batch.put("a", b"l", b"v" * 50)
        assert (caught.value.size, caught.value.limit) == (102, 100)  # type: ignore[attr-defined]
        backend.batch_write(batch)
        assert contents(backend)["a"] == [(b"k", b"v" * 50)]

    def test_a_batch_over_the_bound_of_the_store_is_refused(self, open_store: OpenStore) -> None:
        """A batch with more bytes than max_batch_bytes must raise BatchTooLarge and change nothing."""
        backend = open_store(max_batch_bytes="1KiB")
        backend.batch_write(WriteBatch().put("a", b"fits", b"v" * 1000))

        with pytest.raises(exc.BatchTooLarge) as caught:
            backend.batch_write(WriteBatch().put("a", b"k", b"").put("b", b"l", b"v" * 1024))
        assert caught.value.limit == 1024  # type: ignore[attr-defined]
        assert contents(backend) == {"a": [(b"fits", b"v" * 1000)], "b": [], "c": []}
