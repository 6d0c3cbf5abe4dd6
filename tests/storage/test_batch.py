"""WriteBatch as a value: what it keeps, what it checks before any store sees it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import exc, open_backend
from kvdialect.storage import KEY_LIMIT, WriteBatch, decode_counter, encode_counter, range_digest
from kvdialect.storage.batch import DELETE, Addition

LOWEST, HIGHEST = -(2**63), 2**63 - 1


def kind(thing):
    """The name of its type, as an id of a test."""
    return type(thing).__name__


def test_calls_chain():
    """Each call returns the batch."""
    batch = WriteBatch()

    assert batch.put("a", b"k", b"v").delete("a", b"l").add("a", b"n", 1).expect("a", b"k", None) is batch
    assert batch.expect_range("a", b"", None, range_digest([])) is batch


def test_last_change_of_a_key_wins():
    """A batch holds one change per key, the last."""
    batch = (
        WriteBatch().put("a", b"k", b"1").delete("a", b"k").put("a", b"l", b"1").delete("a", b"l").put("a", b"k", b"2")
    )

    assert batch.changes == {"a": {b"k": b"2", b"l": DELETE}}
    assert len(batch) == 2


@pytest.mark.parametrize(
    ("batch", "true"),
    [
        (WriteBatch(), False),
        (WriteBatch().put("a", b"k", b""), True),
        (WriteBatch().delete("a", b"k"), True),
        (WriteBatch().add("a", b"k", 0), True),
        (WriteBatch().expect("a", b"k", None), True),
        (WriteBatch().expect_range("a", b"", None, b""), True),
    ],
    ids=["empty", "put", "delete", "add", "expect", "expect_range"],
)
def test_batch_is_false_only_if_it_says_nothing(batch, true):
    """One that only expects is not empty: it must be checked."""
    assert bool(batch) is true


def test_bound_on_a_batch_refuses_the_change_that_exceeds_it():
    """BatchTooLarge tells both sizes and leaves the batch as it was."""
    batch = WriteBatch(max_bytes="1KiB").put("a", b"k" * 24, b"v" * 1000)

    for change in (
        lambda: batch.put("a", b"l", b""),
        lambda: batch.put("b", b"k", b"v"),
        lambda: batch.delete("a", b"l"),
        lambda: batch.add("a", b"l", 1),
    ):
        with pytest.raises(exc.BatchTooLarge, match="max_bytes") as caught:
            change()
        assert caught.value.limit == 1024
        assert caught.value.size > 1024
    assert batch.nbytes == 1024
    assert sum(map(len, batch.changes.values())) == 1


def test_store_bounds_batches_too():
    """max_batch_bytes holds whatever bound the batch was made with."""
    with open_backend("memory://?max_batch_bytes=1KiB", ["a"]) as backend:
        with pytest.raises(exc.BatchTooLarge, match="max_batch_bytes is 1024"):
            backend.put("a", b"k", bytes(1024))

        assert backend.get("a", b"k") is None


@given(st.integers(LOWEST, HIGHEST))
def test_counters_round_trip(value):
    """Eight bytes, big-endian two's complement."""
    raw = encode_counter(value)

    assert raw == value.to_bytes(8, "big", signed=True)
    assert decode_counter(raw) == value


@given(st.lists(st.integers(-1000, 1000), max_size=8))
def test_additions_within_a_batch_add_up(deltas):
    """Several additions to one key are one of their sum."""
    batch = WriteBatch()
    for delta in deltas:
        batch.add("a", b"n", delta)

    assert batch.changes == ({"a": {b"n": Addition(sum(deltas))}} if deltas else {})


def test_addition_follows_the_change_before_it():
    """After a put it works on the value put, after a delete on nothing."""
    put = WriteBatch().put("a", b"n", encode_counter(40)).add("a", b"n", 2)
    deleted = WriteBatch().delete("a", b"n").add("a", b"n", 2)

    assert put.changes == {"a": {b"n": encode_counter(42)}}
    assert deleted.changes == {"a": {b"n": encode_counter(2)}}


@pytest.mark.parametrize("delta", [HIGHEST + 1, LOWEST - 1, 1.0, "1", None, True], ids=repr)
def test_delta_that_is_no_counter_is_refused(delta):
    """A delta is an int of 64 bits."""
    with pytest.raises(exc.CounterError, match="must be an int"):
        WriteBatch().add("a", b"n", delta)


def test_addition_that_cannot_work_is_refused_at_once():
    """Overflow within the batch, and addition to a value that is none, are seen before any store."""
    with pytest.raises(exc.CounterError, match="64-bit"):
        WriteBatch().add("a", b"n", HIGHEST).add("a", b"n", 1)
    with pytest.raises(exc.CounterError, match="64-bit"):
        WriteBatch().put("a", b"n", encode_counter(HIGHEST)).add("a", b"n", 1)
    with pytest.raises(exc.CounterError, match="holds 3 bytes"):
        WriteBatch().put("a", b"n", b"abc").add("a", b"n", 1)


@pytest.mark.parametrize("length", [0, 1, 7, 9, 16])
def test_value_of_another_length_is_no_counter(length):
    """Eight bytes and nothing else."""
    with pytest.raises(exc.CounterError):
        decode_counter(bytes(length))


def test_expectations_that_contradict_each_other_are_a_conflict():
    """No state can satisfy them."""
    batch = WriteBatch().expect("a", b"k", b"1").expect("a", b"k", b"1")

    with pytest.raises(exc.ConflictError):
        batch.expect("a", b"k", None)


@pytest.mark.parametrize("key", ["text", 5, None, [1], bytearray(b"k")], ids=repr)
def test_key_that_is_not_bytes_is_refused_before_any_store(key):
    """By the call itself or by validate(), with the family and the value in the text."""
    for fill in (
        lambda batch: batch.put("a", key, b"v"),
        lambda batch: batch.delete("a", key),
        lambda batch: batch.add("a", key, 1),
        lambda batch: batch.expect("a", key, None),
    ):
        with pytest.raises(TypeError, match="key for column family 'a' must be bytes, not"):
            fill(WriteBatch()).validate()


@pytest.mark.parametrize("value", ["text", 5, None, [1], bytearray(b"v"), memoryview(b"v")], ids=kind)
def test_value_that_is_not_bytes_is_refused_before_any_store(value):
    """The same for values; None is a value of an expectation only."""
    with pytest.raises(TypeError, match="value for column family 'a' must be bytes, not"):
        WriteBatch().put("a", b"k", value).validate()
    if value is not None:
        with pytest.raises(TypeError):
            WriteBatch().expect("a", b"k", value)


@pytest.mark.parametrize("length", [0, KEY_LIMIT + 1, 5000])
def test_key_of_a_bad_length_is_refused_by_validate(length):
    """Wherever in the batch it stands."""
    for batch in (
        WriteBatch().put("a", b"good", b"v").put("a", b"x" * length, b"v"),
        WriteBatch().delete("a", b"x" * length),
        WriteBatch().expect("a", b"x" * length, None),
    ):
        with pytest.raises(exc.KeyTooLong):
            batch.validate()


@pytest.mark.parametrize(
    "bounds",
    [("", None, b""), (b"", "z", b""), (b"", None, None), (None, None, b"")],
    ids=["start", "stop", "digest", "no start"],
)
def test_range_expectation_of_a_wrong_type_is_refused(bounds):
    """Bounds and digest are bytes; only stop may be None."""
    with pytest.raises(TypeError, match="range expectation on 'a'"):
        WriteBatch().expect_range("a", *bounds).validate()


@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=5).map(tuple), st.data())
def test_digest_tells_ranges_apart(pairs, data):
    """Where a key ends and its value begins counts, and so does the order."""
    others = data.draw(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=5).map(tuple))

    assert (range_digest(pairs) == range_digest(others)) is (pairs == others)
