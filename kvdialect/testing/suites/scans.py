"""Scans: half-open ranges in both directions, lazy, and of one moment."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import islice

import pytest
from hypothesis import given

from kvdialect.storage import KeyRange, StorageBackend
from kvdialect.testing import strategies
from kvdialect.testing.suites.base import OpenStore, Suite, examples, fill
from kvdialect.testing.suites.reads import BLOOMS, PREFIX_KEYS

KEYS = [b"b", b"d", b"f", b"h"]


def _keys(backend: StorageBackend, *bounds: bytes | None, reverse: bool = False) -> list[bytes]:
    return [key for key, _ in backend.scan("a", *bounds, reverse=reverse)]  # type: ignore[arg-type]


class ScanSuite(Suite):
    """A scan yields the pairs of its range, each once, in byte order."""

    def test_scan_of_an_empty_family_is_empty(self, backend: StorageBackend) -> None:
        """A family without pairs must give none, in either direction, whatever its neighbours hold."""
        fill(backend, "a", KEYS)
        fill(backend, "c", KEYS)

        assert list(backend.scan("b")) == []
        assert list(backend.scan("b", reverse=True)) == []
        assert list(backend.prefix_scan("b", b"")) == []

    def test_scan_without_bounds_yields_the_whole_family(self, backend: StorageBackend) -> None:
        """Without bounds all pairs of the family, and of no other, must come in byte order."""
        expected = fill(backend, "a", strategies.TRICKY_KEYS)
        fill(backend, "b", KEYS)

        assert list(backend.scan("a")) == expected
        assert list(backend.scan("a", reverse=True)) == expected[::-1]

    def test_start_is_included_and_stop_is_not(self, backend: StorageBackend) -> None:
        """A range is half-open: a pair at start must come, one at stop must not, in both directions."""
        fill(backend, "a", KEYS)

        assert _keys(backend, b"d", b"h") == [b"d", b"f"]
        assert _keys(backend, b"d", b"h", reverse=True) == [b"f", b"d"]

    def test_bounds_need_not_be_keys(self, backend: StorageBackend) -> None:
        """Bounds between keys must work in both directions."""
        fill(backend, "a", KEYS)

        assert _keys(backend, b"c", b"g") == [b"d", b"f"]
        assert _keys(backend, b"c", b"g", reverse=True) == [b"f", b"d"]
        assert _keys(backend, b"c") == [b"d", b"f", b"h"]
        assert _keys(backend, b"", b"c", reverse=True) == [b"b"]

    def test_start_past_the_last_key_yields_nothing(self, backend: StorageBackend) -> None:
        """A seek past the end must give nothing, and not start over from the first key."""
        fill(backend, "a", KEYS)

        assert _keys(backend, b"i") == []
        assert _keys(backend, b"i", reverse=True) == []
        assert _keys(backend, b"\xff" * 510) == []

    def test_stop_at_or_before_the_first_key_yields_nothing(self, backend: StorageBackend) -> None:
        """A stop that no key is below must give nothing, in either direction."""
        fill(backend, "a", KEYS)

        assert _keys(backend, b"", b"b") == []
        assert _keys(backend, b"", b"b", reverse=True) == []
        assert _keys(backend, b"", b"") == []
        assert _keys(backend, b"", b"", reverse=True) == []

    def test_reverse_with_a_stop_past_the_last_key_starts_at_the_last(self, backend: StorageBackend) -> None:
        """A reverse scan whose stop lies above all keys must begin with the last key."""
        fill(backend, "a", KEYS)

        assert _keys(backend, b"", b"z", reverse=True) == KEYS[::-1]
        assert _keys(backend, b"g", b"z", reverse=True) == [b"h"]

    @pytest.mark.parametrize("bounds", [(b"d", b"d"), (b"f", b"d"), (b"\xff", b""), (b"c", b"c")], ids=repr)
    def test_a_range_whose_start_is_not_below_its_stop_is_empty(
        self, backend: StorageBackend, bounds: tuple[bytes, bytes]
    ) -> None:
        """An empty or inverted range must give nothing and raise nothing."""
        fill(backend, "a", KEYS)

        assert _keys(backend, *bounds) == []
        assert _keys(backend, *bounds, reverse=True) == []

    @pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
    def test_bounds_may_be_longer_than_the_longest_key(self, backend: StorageBackend, reverse: bool) -> None:
        """A bound over the key limit must select as if it were a key: it is compared, never stored."""
        longest = b"m" * backend.capabilities.key_limit
        fill(backend, "a", [b"a", longest, b"m" * 5, b"z"])

        assert sorted(_keys(backend, longest + b"m", reverse=reverse)) == [b"z"]
        assert sorted(_keys(backend, b"", longest + b"m", reverse=reverse)) == [b"a", b"m" * 5, longest]
        assert sorted(_keys(backend, longest, longest + b"\x00", reverse=reverse)) == [longest]
        assert _keys(backend, longest + b"\x00", longest + b"\xff" * 600, reverse=reverse) == []
        assert _keys(backend, b"z" * 600, reverse=reverse) == []

    def test_keys_come_in_the_order_of_their_unsigned_bytes(self, backend: StorageBackend) -> None:
        """Bytes above 0x7f must sort after those below, and a key before its own continuations."""
        keys = [bytes((n,)) for n in range(256)] + [bytes((n, 0)) for n in range(256)]
        expected = fill(backend, "a", keys)

        assert list(backend.scan("a")) == expected

    @given(present=strategies.changes(names=["a"]), bounds=strategies.key_ranges())
    @examples(120)
    def test_any_range_agrees_with_a_sorted_list(
        self, backend: StorageBackend, present: list[strategies.Operation], bounds: KeyRange
    ) -> None:
        """Any bounds must select, in both directions, what they select from the sorted list of all pairs."""
        backend.batch_write(strategies.build_batch(present))
        expected = [pair for pair in sorted(backend.scan("a")) if pair[0] in bounds]

        assert list(backend.scan("a", bounds.start, bounds.stop)) == expected
        assert list(backend.scan("a", bounds.start, bounds.stop, reverse=True)) == expected[::-1]

    @pytest.mark.parametrize("settled", [False, True], ids=["fresh", "compacted"])
    def test_start_at_an_absent_prefix_finds_the_keys_after_it(self, open_store: OpenStore, settled: bool) -> None:
        """A range that starts at a prefix no key has must yield the following keys, whatever the extractor is."""
        backend = open_store(BLOOMS)
        for cf in BLOOMS:
            fill(backend, cf, PREFIX_KEYS)
            if settled:
                backend.flush()
                backend.compact(cf)

        for cf in BLOOMS:
            for start in (b"\x00" * 32, b"\x01\x02\x03\x04\x05" + b"\x00" * 27, b"\x01\x02" * 20, b"\x00" * 5):
                expected = [key for key in PREFIX_KEYS if key >= start]
                assert [key for key, _ in backend.scan(cf, start)] == expected, (cf, start)
                below = [key for key in PREFIX_KEYS if key < start]
                assert [key for key, _ in backend.scan(cf, b"", start, reverse=True)] == below[::-1], (cf, start)

    @pytest.mark.parametrize("count", [15, 16, 17, 511, 512, 513, 5000])
    def test_a_scan_neither_skips_nor_repeats_between_chunks(self, backend: StorageBackend, count: int) -> None:
        """However an engine reads ahead, the pairs at the joints must come exactly once."""
        expected = fill(backend, "a", [b"%08d" % n for n in range(count)])

        assert list(backend.scan("a")) == expected
        assert list(backend.scan("a", reverse=True)) == expected[::-1]
        assert list(backend.scan("a", b"%08d" % 3, b"%08d" % (count - 3))) == expected[3 : count - 3]

    @pytest.mark.parametrize("bound", ["text", 1, bytearray(b"k")], ids=repr)
    def test_a_bound_that_is_not_bytes_is_a_type_error(self, backend: StorageBackend, bound: object) -> None:
        """The call itself must raise TypeError, not the first next()."""
        with pytest.raises(TypeError):
            backend.scan("a", bound)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            backend.scan("a", b"", bound)  # type: ignore[arg-type]

        with pytest.raises(TypeError):
            backend.scan("a", None)  # type: ignore[arg-type]

    def test_a_scan_shows_the_moment_of_its_call(self, backend: StorageBackend) -> None:
        """Puts and deletes after the call, before or amid the iteration, must not show in it."""
        expected = fill(backend, "a", [b"%04d" % n for n in range(0, 2000, 2)])
        untouched, begun, backward = backend.scan("a"), backend.scan("a"), backend.scan("a", reverse=True)
        first, last = next(begun), next(backward)
        fill(backend, "a", {b"%04d" % n: b"later" for n in range(1999)})
        backend.batch_write(strategies.build_batch([("delete", "a", b"%04d" % n) for n in range(500)]))

        assert list(untouched) == expected
        assert [first, *begun] == expected
        assert [last, *backward] == expected[::-1]

    def test_scans_of_one_store_do_not_disturb_each_other(self, backend: StorageBackend) -> None:
        """Two iterators used by turns must each yield all of their own pairs."""
        first, second = fill(backend, "a", KEYS), fill(backend, "b", KEYS[:3])
        one, other, again = backend.scan("a"), backend.scan("b", reverse=True), backend.scan("a")

        assert [next(one), next(other), next(again)] == [first[0], second[-1], first[0]]
        assert [list(one), list(other), list(again)] == [first[1:], second[-2::-1], first[1:]]

    def test_an_exhausted_scan_stays_exhausted(self, backend: StorageBackend) -> None:
        """After its end an iterator must keep raising StopIteration, whatever is written."""
        fill(backend, "a", KEYS)
        pairs = backend.scan("a")
        list(pairs)
        backend.put("a", b"z", b"")

        assert list(pairs) == []

    def test_keys_seen_may_be_deleted_while_scanning(self, backend: StorageBackend) -> None:
        """The usual loop that deletes what it reads must see every key once and leave none."""
        expected = fill(backend, "a", [b"%04d" % n for n in range(300)])
        seen = []
        for key, _ in backend.scan("a"):
            seen.append(key)
            if len(seen) % 10 == 0:
                backend.batch_write(strategies.build_batch([("delete", "a", done) for done in seen]))

        assert seen == [key for key, _ in expected]
        assert list(backend.scan("a")) == []

    def test_an_abandoned_scan_leaves_the_store_usable(self, open_store: OpenStore) -> None:
        """Taking one of 20,000 pairs and dropping the iterator must hinder no write, no close and no reopening."""
        backend = open_store()
        expected = fill(backend, "a", [b"%06d" % n for n in range(20_000)])
        taken = next(backend.scan("a")), next(backend.scan("a", reverse=True))
        kept = backend.scan("a")
        next(kept)
        gc.collect()
        backend.put("a", b"k", b"v")
        backend.close()

        assert taken == (expected[0], expected[-1])
        open_store().close()

    def test_many_abandoned_scans_exhaust_nothing(self, backend: StorageBackend) -> None:
        """More scans begun and dropped than an engine has reader slots (126 on LMDB) must not use these up."""
        fill(backend, "a", KEYS)
        for _ in range(500):
            next(backend.scan("a"))

        assert _keys(backend) == KEYS

    @pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
    def test_a_scan_holds_a_bounded_number_of_pairs(self, backend: StorageBackend, reverse: bool) -> None:
        """A scan must be lazy: its memory must not grow with the range (here 16 MB, held: at most a quarter)."""
        size, count = 800, 20_000
        fill(backend, "a", {b"%06d" % n: b"%06d" % n + bytes(size) for n in range(count)})
        gc.collect()
        tracemalloc.start()
        try:
            first = list(islice(backend.scan("a", reverse=reverse), 1))
            after_one = tracemalloc.get_traced_memory()[1]
            total = sum(1 for _ in backend.scan("a", reverse=reverse))
            after_all = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert len(first) == 1
        assert total == count
        assert after_one < size * count // 8
        assert after_all < size * count // 4
