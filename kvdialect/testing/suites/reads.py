"""Single keys and prefixes: get, put, delete, multi_get, prefix_scan."""

from __future__ import annotations

import pytest
from hypothesis import given

from kvdialect import exc
from kvdialect.storage import ColumnFamilyOptions, StorageBackend
from kvdialect.testing import strategies
from kvdialect.testing.suites.base import FAMILIES, OpenStore, Suite, examples, fill, needs

BLOOMS = {
    "none": ColumnFamilyOptions(bloom="none"),
    "full": ColumnFamilyOptions(bloom="full"),
    "prefix-32": ColumnFamilyOptions(bloom="prefix", prefix_length=32),
    "prefix-5": ColumnFamilyOptions(bloom="prefix", prefix_length=5),
}
PREFIX_LENGTHS = (0, 1, 5, 31, 32, 33, 40)

# Keys that share 0, 1, 5, 31, 32 and 33 bytes with the last one of them, and shorter ones than any extractor.
STEM = bytes(range(1, 41))
PREFIX_KEYS = sorted(
    {STEM[:n] + tail for n in PREFIX_LENGTHS for tail in (b"\x00", b"\xff", b"\xff\xff", b"tail")}
    | {STEM, STEM + b"\x00", STEM[:1], STEM[:5], STEM[:31], STEM[:32], STEM[:33]}
)


class ReadSuite(Suite):
    """What is put is read back, and nothing else."""

    def test_get_of_an_absent_key_is_none(self, backend: StorageBackend) -> None:
        """A key that was never written must give None, not an error."""
        assert backend.get("a", b"never") is None

    def test_get_returns_what_was_put(self, backend: StorageBackend) -> None:
        """A value must come back byte for byte."""
        value = bytes(range(256))
        backend.put("a", b"k", value)

        assert backend.get("a", b"k") == value

    def test_put_replaces(self, backend: StorageBackend) -> None:
        """The second put of a key must replace the first one's value, a shorter value a longer one."""
        backend.put("a", b"k", b"a longer value")
        backend.put("a", b"k", b"v")

        assert backend.get("a", b"k") == b"v"
        assert list(backend.scan("a")) == [(b"k", b"v")]

    def test_delete_removes(self, backend: StorageBackend) -> None:
        """After a delete the key must be absent from get and scan."""
        backend.put("a", b"k", b"v")
        backend.delete("a", b"k")

        assert backend.get("a", b"k") is None
        assert list(backend.scan("a")) == []

    def test_delete_of_a_never_written_key_succeeds(self, backend: StorageBackend) -> None:
        """Deleting what is not there must be no error and must change nothing."""
        backend.put("a", b"k", b"v")
        backend.delete("a", b"never")

        assert list(backend.scan("a")) == [(b"k", b"v")]

    def test_a_deleted_key_can_be_put_again(self, backend: StorageBackend) -> None:
        """A delete must not hide a later put."""
        backend.put("a", b"k", b"1")
        backend.delete("a", b"k")
        backend.put("a", b"k", b"2")

        assert backend.get("a", b"k") == b"2"

    def test_empty_value_is_a_value(self, backend: StorageBackend) -> None:
        """An empty value must be told apart from absence by get, multi_get, scan and prefix_scan."""
        backend.put("a", b"k", b"")

        assert backend.get("a", b"k") == b""
        assert backend.multi_get("a", [b"k", b"l"]) == [b"", None]
        assert list(backend.scan("a")) == [(b"k", b"")]
        assert list(backend.prefix_scan("a", b"k")) == [(b"k", b"")]

    @pytest.mark.parametrize("size", [1, 511, 2022, 4096, 70_000, 5_000_000])
    def test_value_of_any_size(self, backend: StorageBackend, size: int) -> None:
        """Values up to and beyond a page, and of megabytes, must come back exactly."""
        value = (b"0123456789abcdef" * (size // 16 + 1))[:size]
        backend.put("a", b"k", value)

        assert backend.get("a", b"k") == value
        assert list(backend.scan("a", reverse=True)) == [(b"k", value)]

    def test_what_is_read_is_bytes(self, backend: StorageBackend) -> None:
        """Keys and values must be bytes objects of the caller's own, not views of the engine's memory."""
        backend.put("a", b"k", b"v")

        (key, value), *_ = backend.scan("a")
        assert type(backend.get("a", b"k")) is bytes
        assert type(backend.multi_get("a", [b"k"])[0]) is bytes
        assert type(key) is bytes
        assert type(value) is bytes

    def test_multi_get_keeps_the_order_and_the_repetitions_of_its_keys(self, backend: StorageBackend) -> None:
        """The values must stand in the order of the keys, one for each key, None for each that is absent."""
        fill(backend, "a", {b"x": b"1", b"y": b"", b"z": b"3"})

        assert backend.multi_get("a", [b"z", b"no", b"x", b"z", b"y"]) == [b"3", None, b"1", b"3", b""]

    def test_multi_get_of_no_keys_is_empty(self, backend: StorageBackend) -> None:
        """No keys must give an empty list."""
        assert backend.multi_get("a", []) == []

    def test_multi_get_takes_any_iterable(self, backend: StorageBackend) -> None:
        """Keys may come from a generator, which can be read only once."""
        fill(backend, "a", {b"x": b"1", b"y": b"2"})

        assert backend.multi_get("a", (key for key in [b"y", b"x"])) == [b"2", b"1"]

    def test_multi_get_of_a_thousand_keys(self, backend: StorageBackend) -> None:
        """Present and absent keys must not be mixed up in a long list."""
        fill(backend, "a", {b"%d" % n: b"v%d" % n for n in range(0, 1000, 2)})

        found = backend.multi_get("a", [b"%d" % n for n in range(1000)])
        assert found == [b"v%d" % n if n % 2 == 0 else None for n in range(1000)]

    def test_families_hold_independent_values_at_one_key(self, backend: StorageBackend) -> None:
        """A key put in one family must be absent from, or have another value in, the others."""
        backend.put("a", b"k", b"in a")
        backend.put("b", b"k", b"in b")
        backend.delete("b", b"k")
        backend.put("c", b"k", b"in c")

        assert [backend.get(cf, b"k") for cf in FAMILIES] == [b"in a", None, b"in c"]

    @pytest.mark.parametrize("length", PREFIX_LENGTHS)
    @pytest.mark.parametrize("settled", [False, True], ids=["fresh", "compacted"])
    def test_prefix_scan_yields_exactly_the_keys_with_the_prefix(
        self, open_store: OpenStore, length: int, settled: bool
    ) -> None:
        """Prefixes of every length must find their keys in byte order, whatever the bloom and the extractor are."""
        backend = open_store(BLOOMS)
        for cf in BLOOMS:
            fill(backend, cf, PREFIX_KEYS)
            if settled:
                backend.flush()
                backend.compact(cf)
        prefix = STEM[:length]

        expected = [(key, key[::-1]) for key in PREFIX_KEYS if key.startswith(prefix)]
        for cf in BLOOMS:
            assert list(backend.prefix_scan(cf, prefix)) == expected, cf

    def test_prefix_scan_with_blooms_switched_off(self, open_store: OpenStore) -> None:
        """With the store's option bloom=off every prefix must still find its keys."""
        backend = open_store(BLOOMS, bloom="off")

        for cf in BLOOMS:
            fill(backend, cf, PREFIX_KEYS)
            for length in PREFIX_LENGTHS:
                expected = [key for key in PREFIX_KEYS if key.startswith(STEM[:length])]
                assert [key for key, _ in backend.prefix_scan(cf, STEM[:length])] == expected, (cf, length)

    def test_prefix_scan_of_an_absent_prefix_is_empty(self, open_store: OpenStore) -> None:
        """A prefix that no key has must give nothing: neither neighbours nor the whole family."""
        backend = open_store(BLOOMS)

        for cf in BLOOMS:
            fill(backend, cf, PREFIX_KEYS)
            backend.flush()
            for prefix in (b"\x00" * 5, b"\x80" * 32, STEM + b"x", b"\xff" * 32, b"\xff" * 511):
                assert list(backend.prefix_scan(cf, prefix)) == [], (cf, prefix)

    def test_prefix_of_0xff_bytes(self, backend: StorageBackend) -> None:
        """A prefix of 0xff bytes, which has no successor, must find its keys and not those before it."""
        fill(backend, "a", [b"\xfe\xff", b"\xff", b"\xff\x00", b"\xff\xfe", b"\xff\xff", b"\xff\xff\xff"])

        assert [key for key, _ in backend.prefix_scan("a", b"\xff\xff")] == [b"\xff\xff", b"\xff\xff\xff"]

    @given(present=strategies.changes(names=["a"]), prefix=strategies.prefixes())
    @examples(60)
    def test_any_prefix_scan_agrees_with_startswith(
        self, backend: StorageBackend, present: list[strategies.Operation], prefix: bytes
    ) -> None:
        """Whatever the keys are, a prefix must select those that bytes.startswith selects."""
        backend.batch_write(strategies.build_batch(present))

        expected = [pair for pair in backend.scan("a") if pair[0].startswith(prefix)]
        assert list(backend.prefix_scan("a", prefix)) == expected

    @pytest.mark.parametrize(
        "key", ["text", None, 1, bytearray(b"k"), memoryview(b"k")], ids=lambda key: type(key).__name__
    )
    def test_a_key_that_is_not_bytes_is_a_type_error(self, backend: StorageBackend, key: object) -> None:
        """Every call with a wrong type of key must raise TypeError, and never report absence."""
        backend.put("a", b"k", b"v")

        with pytest.raises(TypeError):
            backend.get("a", key)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            backend.prefix_scan("a", key)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            backend.delete("a", key)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            backend.multi_get("a", [b"k", key])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            backend.put("a", key, b"v")  # type: ignore[arg-type]
        assert list(backend.scan("a")) == [(b"k", b"v")]

    @pytest.mark.parametrize(
        "value", ["text", None, 1, bytearray(b"v"), memoryview(b"v")], ids=lambda value: type(value).__name__
    )
    def test_a_value_that_is_not_bytes_is_a_type_error(self, backend: StorageBackend, value: object) -> None:
        """A put of a wrong type must raise TypeError and write nothing."""
        with pytest.raises(TypeError):
            backend.put("a", b"k", value)  # type: ignore[arg-type]

        assert backend.get("a", b"k") is None

    def test_flush_keeps_what_was_written(self, backend: StorageBackend) -> None:
        """A flush of all families must succeed, also twice, and change no value."""
        for cf in FAMILIES:
            backend.put(cf, b"k", cf.encode())
        backend.flush()
        backend.flush()

        assert [backend.get(cf, b"k") for cf in FAMILIES] == [b"a", b"b", b"c"]

    def test_compact_after_a_put_succeeds(self, backend: StorageBackend) -> None:
        """Compaction of a known family must succeed and keep its pairs; deleted ones must stay deleted."""
        fill(backend, "a", [b"k", b"l", b"m"])
        backend.delete("a", b"l")
        backend.compact("a")
        backend.compact("b")

        assert list(backend.scan("a")) == [(b"k", b"k"), (b"m", b"m")]

    def test_every_durability_reads_back(self, open_store: OpenStore) -> None:
        """A store opened with each of the durabilities that it says it has must take and return a value."""
        for durability in sorted(open_store().capabilities.durabilities):
            backend = open_store(name=durability, durability=durability)
            backend.put("a", b"k", durability.encode())
            backend.flush()

            assert backend.get("a", b"k") == durability.encode()

    def test_read_only_store_refuses_writes(self, open_store: OpenStore) -> None:
        """With mode=ro every write must raise ReadOnlyStore and reads must work."""
        backend = open_store()
        needs(backend, "persistent")
        backend.put("a", b"k", b"v")
        backend.close()
        backend = open_store(mode="ro")

        assert not backend.capabilities.writable
        with pytest.raises(exc.ReadOnlyStore):
            backend.put("a", b"k", b"w")
        with pytest.raises(exc.ReadOnlyStore):
            backend.delete("a", b"k")
        with pytest.raises(exc.ReadOnlyStore):
            backend.batch_write(strategies.build_batch([("put", "a", b"l", b"w")]))
        with pytest.raises(exc.ReadOnlyStore):
            backend.create_column_family("d")
        with pytest.raises(exc.ReadOnlyStore):
            backend.drop_column_family("a")
        assert list(backend.scan("a")) == [(b"k", b"v")]
        assert backend.column_families() == ["a", "b", "c"]
