"""Hypothesis strategies for what goes into a store: small alphabets that collide, and keys that engines get wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from kvdialect.storage import KeyRange, WriteBatch, encode_counter

KEY_LIMIT: Final = 510
FAMILIES: Final = ("a", "b", "c")

Operation = tuple[Any, ...]
"""One call on a WriteBatch: its name and arguments, such as ``("put", "a", b"k", b"v")``."""

TRICKY_KEYS: Final[Sequence[bytes]] = (
    b"\x00",
    b"\x00\x00",
    b"\x01",
    b"\x01\xff",
    b"\x7f",
    b"\x80",
    b"\xfe\xff",
    b"\xff",
    b"\xff\xff",
    b"\xff" * 31,
    b"\xff" * 32,
    b"\xff" * 33,
    b"p" * 31,
    b"p" * 32,
    b"p" * 32 + b"\x00",
    b"p" * 32 + b"\xff",
    b"p" * 33,
    b"p" * 31 + b"q",
    b"\x00" * KEY_LIMIT,
    b"p" * KEY_LIMIT,
    b"\xff" * (KEY_LIMIT - 1),
    b"\xff" * (KEY_LIMIT - 1) + b"\x00",
    b"\xff" * KEY_LIMIT,
)
"""Keys at the edges: runs of 0xff (no successor), tags, around a 32-byte extractor, and of the longest length."""

ALPHABET: Final = b"\x00\x01a\xfe\xff"
COUNTER_LIMITS: Final = (-(2**63), 2**63 - 1)


def tricky_keys() -> st.SearchStrategy[bytes]:
    """The tricky keys alone."""
    # Not sampled_from(TRICKY_KEYS): its repr has all their bytes, and Hypothesis warns of it.
    return st.integers(0, len(TRICKY_KEYS) - 1).map(_tricky)


def _tricky(index: int) -> bytes:
    return TRICKY_KEYS[index]


def keys(max_size: int = 4) -> st.SearchStrategy[bytes]:
    """Keys that often collide and share prefixes, with tricky ones among them."""
    short = st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=max_size).map(bytes)
    return short | tricky_keys()


def values() -> st.SearchStrategy[bytes]:
    """Values: empty, short, counters, and longer than a page."""
    return st.one_of(st.binary(max_size=3), counters().map(encode_counter), st.integers(0, 6000).map(_long))


def _long(size: int) -> bytes:
    return b"v" * size


def counters() -> st.SearchStrategy[int]:
    """Signed 64-bit integers, mostly small, with both limits."""
    return st.integers(-3, 3) | st.sampled_from(COUNTER_LIMITS)


def families(names: Iterable[str] = FAMILIES) -> st.SearchStrategy[str]:
    """Names of column families."""
    return st.sampled_from(tuple(names))


def bounds() -> st.SearchStrategy[bytes]:
    """Bounds of ranges: keys, the empty string, and bounds longer than any key."""
    return st.one_of(
        st.just(b""), keys(), keys().map(lambda key: key + b"\x00"), tricky_keys().map(lambda key: key * 17)
    )


def key_ranges() -> st.SearchStrategy[KeyRange]:
    """Ranges, empty and inverted ones among them."""
    return st.builds(KeyRange, bounds(), st.none() | bounds())


def prefixes() -> st.SearchStrategy[bytes]:
    """Prefixes of 0 bytes and more, often those of keys."""
    return st.builds(lambda key, size: key[:size], keys(), st.integers(0, 34))


def batch_operations(names: Iterable[str] = FAMILIES) -> st.SearchStrategy[Operation]:
    """One call on a WriteBatch: put, delete, add or expect."""
    cf = families(names)
    return st.one_of(
        st.tuples(st.just("put"), cf, keys(), values()),
        st.tuples(st.just("delete"), cf, keys()),
        st.tuples(st.just("add"), cf, keys(), counters()),
        st.tuples(st.just("expect"), cf, keys(), st.none() | values()),
    )


def changes(names: Iterable[str] = FAMILIES) -> st.SearchStrategy[list[Operation]]:
    """Puts and deletes in their order."""
    cf = families(names)
    put, delete = st.just("put"), st.just("delete")
    return st.lists(st.tuples(put, cf, keys(), values()) | st.tuples(delete, cf, keys()), max_size=12)


def batches(names: Iterable[str] = FAMILIES) -> st.SearchStrategy[WriteBatch]:
    """Batches of puts and deletes, which every store with these families takes."""
    return changes(names).map(build_batch)


def build_batch(operations: Iterable[Operation]) -> WriteBatch:
    """The batch that the operations make; errors are those of WriteBatch's own methods."""
    batch = WriteBatch()
    for name, *arguments in operations:
        getattr(batch, name)(*arguments)
    return batch
