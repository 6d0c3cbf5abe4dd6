"""Expectations: a batch that is conditional on the state before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvdialect import exc
from kvdialect.storage import StorageBackend, WriteBatch, encode_counter, range_digest
from kvdialect.testing.suites.base import Suite, contents, fill

KEYS = [b"b", b"d", b"f", b"h"]

INTERFERENCE: dict[str, Callable[[StorageBackend], object]] = {
    "a phantom in the middle": lambda backend: backend.put("a", b"e", b""),
    "a phantom at the start": lambda backend: backend.put("a", b"c", b""),
    "a phantom just below the stop": lambda backend: backend.put("a", b"g\xff", b""),
    "a deletion": lambda backend: backend.delete("a", b"f"),
    "another value": lambda backend: backend.put("a", b"d", b"other"),
    "an empty value": lambda backend: backend.put("a", b"d", b""),
}


class ExpectationSuite(Suite):
    """Expectations are tested against the state before the batch, under the writer's lock."""

    def test_expectations_that_hold_let_the_batch_through(self, backend: StorageBackend) -> None:
        """An equal value, an empty value and absence, in several families, must be accepted together."""
        backend.put("a", b"k", b"v")
        backend.put("b", b"empty", b"")
        batch = WriteBatch().expect("a", b"k", b"v").expect("b", b"empty", b"").expect("c", b"k", None)
        backend.batch_write(batch.put("c", b"k", b"new"))

        assert backend.get("c", b"k") == b"new"

    @pytest.mark.parametrize(
        ("found", "expected"),
        [(b"v", None), (None, b"v"), (b"v", b"w"), (b"", None), (None, b""), (b"v", b"v\x00"), (b"v\x00", b"v")],
        ids=repr,
    )
    def test_a_failed_expectation_rejects_the_whole_batch(
        self, backend: StorageBackend, found: bytes | None, expected: bytes | None
    ) -> None:
        """If one key is not as expected, ConflictError must be raised and no family changed."""
        if found is not None:
            backend.put("b", b"k", found)
        before = contents(backend)
        batch = WriteBatch().put("a", b"k", b"new").put("b", b"k", b"new").delete("c", b"k").add("c", b"n", 1)
        batch.expect("a", b"k", None).expect("b", b"k", expected)

        with pytest.raises(exc.ConflictError):
            backend.batch_write(batch)
        assert contents(backend) == before

    def test_a_conflict_tells_what_was_expected_and_what_was_found(self, backend: StorageBackend) -> None:
        """The error must carry family, key, expected and found value, and say that a retry makes sense."""
        backend.put("b", b"k", b"found")

        with pytest.raises(exc.ConflictError) as caught:
            backend.batch_write(WriteBatch().put("a", b"x", b"").expect("b", b"k", b"expected"))
        error = caught.value
        facts = (error.cf, error.key, error.expected, error.found)  # type: ignore[attr-defined]
        assert facts == ("b", b"k", b"expected", b"found")
        assert error.retryable
        assert error.outcome == "not_applied"

    def test_a_conflict_over_absence_carries_none(self, backend: StorageBackend) -> None:
        """Absence must be None on both sides of the error, whichever side it is on."""
        backend.put("a", b"there", b"v")

        with pytest.raises(exc.ConflictError) as caught:
            backend.batch_write(WriteBatch().expect("a", b"there", None))
        assert (caught.value.expected, caught.value.found) == (None, b"v")  # type: ignore[attr-defined]
        with pytest.raises(exc.ConflictError) as caught:
            backend.batch_write(WriteBatch().expect("a", b"gone", b"v"))
        assert (caught.value.expected, caught.value.found) == (b"v", None)  # type: ignore[attr-defined]

    def test_expectations_are_tested_against_the_state_before_the_batch(self, backend: StorageBackend) -> None:
        """A batch that puts the key that it expects to be absent must succeed once, and conflict the second time."""
        batch = WriteBatch().put("a", b"k", b"v").expect("a", b"k", None)
        backend.batch_write(batch)

        with pytest.raises(exc.ConflictError):
            backend.batch_write(batch)
        assert backend.get("a", b"k") == b"v"

    def test_a_batch_that_only_expects_is_tested(self, backend: StorageBackend) -> None:
        """Without changes the expectations must be tested all the same."""
        backend.put("a", b"k", b"v")
        backend.batch_write(WriteBatch().expect("a", b"k", b"v").expect("b", b"k", None))

        with pytest.raises(exc.ConflictError):
            backend.batch_write(WriteBatch().expect("a", b"k", b"w"))
        with pytest.raises(exc.ConflictError):
            backend.batch_write(WriteBatch().expect_range("a", b"", None, range_digest([])))

    def test_an_expected_key_may_be_deleted_or_added_to(self, backend: StorageBackend) -> None:
        """Expecting a key must go together with deleting it, or adding to it, in the same batch."""
        fill(backend, "a", {b"k": b"v", b"n": encode_counter(1)})
        batch = WriteBatch().expect("a", b"k", b"v").delete("a", b"k")
        backend.batch_write(batch.expect("a", b"n", encode_counter(1)).add("a", b"n", 1))

        assert contents(backend)["a"] == [(b"n", encode_counter(2))]

    def test_a_thousand_expectations_find_the_one_that_fails(self, backend: StorageBackend) -> None:
        """Among many expectations that hold, one that does not must be found and named."""
        pairs = fill(backend, "a", [b"%04d" % n for n in range(1000)])
        batch = WriteBatch().put("b", b"k", b"v")
        for key, value in pairs:
            batch.expect("a", key, value)
        backend.batch_write(batch)
        backend.put("a", b"0617", b"other")

        with pytest.raises(exc.ConflictError) as caught:
            backend.batch_write(batch)
        assert caught.value.key == b"0617"  # type: ignore[attr-defined]

    def test_an_unchanged_range_lets_the_batch_through(self, backend: StorageBackend) -> None:
        """Ranges that read the same as when they were digested, empty ones among them, must be accepted."""
        fill(backend, "a", KEYS)
        batch = WriteBatch().put("b", b"k", b"v")
        for start, stop in [(b"c", b"g\xff\xff"), (b"", None), (b"x", None), (b"f", b"d"), (b"k" * 600, b"l" * 600)]:
            batch.expect_range("a", start, stop, range_digest(backend.scan("a", start, stop)))
        backend.batch_write(batch)

        assert backend.get("b", b"k") == b"v"

    @pytest.mark.parametrize("interference", INTERFERENCE)
    def test_a_changed_range_rejects_the_batch(self, backend: StorageBackend, interference: str) -> None:
        """Whatever changed within the range since it was read, phantoms included, must be a conflict."""
        fill(backend, "a", KEYS)
        found = range_digest(backend.scan("a", b"c", b"g\xff\xff"))
        batch = WriteBatch().put("b", b"k", b"v").expect_range("a", b"c", b"g\xff\xff", found)
        INTERFERENCE[interference](backend)
        now = range_digest(backend.scan("a", b"c", b"g\xff\xff"))

        with pytest.raises(exc.ConflictError) as caught:
            backend.batch_write(batch)
        error = caught.value
        assert (error.cf, error.key) == ("a", b"c")  # type: ignore[attr-defined]
        assert (error.expected, error.found) == (found, now)  # type: ignore[attr-defined]
        assert backend.get("b", b"k") is None

    def test_a_change_outside_the_range_is_no_conflict(self, backend: StorageBackend) -> None:
        """Writes below the start, at the stop and in other families must not disturb a range."""
        fill(backend, "a", KEYS)
        batch = WriteBatch().put("b", b"k", b"v")
        batch.expect_range("a", b"d", b"h", range_digest(backend.scan("a", b"d", b"h")))
        fill(backend, "a", {b"c\xff": b"", b"h": b"other", b"i": b""})
        backend.put("b", b"e", b"")
        backend.batch_write(batch)

        assert backend.get("b", b"k") == b"v"

    def test_a_phantom_in_an_empty_range_is_a_conflict(self, backend: StorageBackend) -> None:
        """A range that was empty when it was read must conflict with the first key put into it."""
        batch = WriteBatch().put("b", b"k", b"v").expect_range("a", b"k", b"l", range_digest([]))
        backend.put("a", b"k", b"")

        with pytest.raises(exc.ConflictError):
            backend.batch_write(batch)

    def test_a_range_is_tested_before_the_batch_changes_it(self, backend: StorageBackend) -> None:
        """A batch that puts into the range that it expects must not conflict with itself."""
        fill(backend, "a", KEYS)
        batch = WriteBatch().put("a", b"e", b"").delete("a", b"d")
        batch.expect_range("a", b"c", b"g", range_digest(backend.scan("a", b"c", b"g")))
        backend.batch_write(batch)

        assert [key for key, _ in backend.scan("a")] == [b"b", b"e", b"f", b"h"]

    def test_nothing_is_left_locked_by_a_conflict(self, backend: StorageBackend) -> None:
        """After many conflicts in a row the next good batch must be written."""
        for _ in range(200):
            with pytest.raises(exc.ConflictError):
                backend.batch_write(WriteBatch().put("a", b"k", b"v").expect("a", b"k", b"never"))
        backend.put("a", b"k", b"v")

        assert backend.get("a", b"k") == b"v"
