"""Column families: created, dropped and listed while the store is open, and isolated from each other."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from kvdialect import exc
from kvdialect.storage import ColumnFamilyOptions, StorageBackend, WriteBatch, range_digest
from kvdialect.testing import strategies
from kvdialect.testing.suites.base import OpenStore, Suite, contents, fill, needs

CALLS: dict[str, Callable[[StorageBackend, str], object]] = {
    "get": lambda backend, cf: backend.get(cf, b"k"),
    "multi_get": lambda backend, cf: backend.multi_get(cf, [b"k"]),
    "scan": lambda backend, cf: backend.scan(cf),
    "reverse scan": lambda backend, cf: backend.scan(cf, b"a", b"b", reverse=True),
    "empty scan": lambda backend, cf: backend.scan(cf, b"b", b"a"),
    "prefix_scan": lambda backend, cf: backend.prefix_scan(cf, b"k"),
    "put": lambda backend, cf: backend.put(cf, b"k", b"v"),
    "delete": lambda backend, cf: backend.delete(cf, b"k"),
    "batch put": lambda backend, cf: backend.batch_write(WriteBatch().put(cf, b"k", b"v")),
    "batch delete": lambda backend, cf: backend.batch_write(WriteBatch().delete(cf, b"k")),
    "batch add": lambda backend, cf: backend.batch_write(WriteBatch().add(cf, b"k", 1)),
    "expect": lambda backend, cf: backend.batch_write(WriteBatch().expect(cf, b"k", None)),
    "expect_range": lambda backend, cf: backend.batch_write(WriteBatch().expect_range(cf, b"", None, bytes(16))),
    "compact": lambda backend, cf: backend.compact(cf),
    "drop_column_family": lambda backend, cf: backend.drop_column_family(cf),
}

# Families of one LMDB database with tags at the edges; engines without such databases keep them apart anyway.
SHARED = {
    "low": ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=0),
    "next": ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=1),
    "high": ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=255),
}


class FamilySuite(Suite):
    """A family is a name space of its own, which comes and goes while the store is open."""

    @pytest.mark.parametrize("call", CALLS)
    def test_an_unknown_family_is_refused(self, backend: StorageBackend, call: str) -> None:
        """Every call, compact included, must raise UnknownColumnFamily at once, with the same words on every engine."""
        with pytest.raises(exc.UnknownColumnFamily) as caught:
            CALLS[call](backend, "nowhere")

        assert str(caught.value) == "unknown column family: nowhere"
        assert caught.value.name == "nowhere"
        assert contents(backend) == {"a": [], "b": [], "c": []}

    def test_column_families_are_listed_sorted(self, open_store: OpenStore) -> None:
        """The list must hold the names given, sorted, and no internal family of engine or library."""
        backend = open_store(["zebra", "Apple", "mango", "äpfel", "with space", "a/b"])

        assert backend.column_families() == sorted(["zebra", "Apple", "mango", "äpfel", "with space", "a/b"])

    def test_figures_name_every_family(self, backend: StorageBackend) -> None:
        """family_stats() must have each family, those without a key too; readers() must not count this process."""
        backend.batch_write(WriteBatch().put("a", b"k", b"v").put("a", b"l", b"v"))
        found = backend.family_stats()

        assert sorted(found) == backend.column_families()
        assert found["a"].keys in (None, 2)
        assert found["b"].keys in (None, 0)
        assert backend.readers() == []

    def test_a_store_without_families_opens(self, open_store: OpenStore) -> None:
        """A store may be opened with no family and get its first one later."""
        backend = open_store([])
        assert backend.column_families() == []
        backend.create_column_family("first")
        backend.put("first", b"k", b"v")

        assert contents(backend) == {"first": [(b"k", b"v")]}

    def test_a_created_family_is_usable_at_once(self, backend: StorageBackend) -> None:
        """A family created while the store is open must be empty, listed, and take reads, writes and scans."""
        backend.put("a", b"k", b"in a")
        backend.create_column_family("d", ColumnFamilyOptions(bloom="prefix"))

        assert backend.column_families() == ["a", "b", "c", "d"]
        assert list(backend.scan("d")) == []
        backend.batch_write(WriteBatch().put("d", b"k", b"in d").expect("d", b"k", None))
        assert (backend.get("a", b"k"), backend.get("d", b"k")) == (b"in a", b"in d")

    def test_options_are_told_as_far_as_they_are_kept(self, open_store: OpenStore) -> None:
        """Each option of a family must be the one it was made with, or the default where the store keeps none."""
        made = ColumnFamilyOptions(bloom="prefix", prefix_length=7, write_buffer_size="3MiB", lmdb_tag=9)
        backend = open_store([])
        backend.create_column_family("tuned", made)
        backend.create_column_family("plain")
        told = backend.column_family_options("tuned")

        plain = ColumnFamilyOptions()
        for name in (field.name for field in attrs.fields(ColumnFamilyOptions)):
            assert getattr(told, name) in (getattr(made, name), getattr(plain, name)), name
        assert backend.column_family_options("plain") == plain
        for name in ("kvdialect", "missing"):
            with pytest.raises(exc.UnknownColumnFamily):
                backend.column_family_options(name)

    def test_an_existing_family_is_not_created_again(self, backend: StorageBackend) -> None:
        """Creating a family of an existing name must raise ColumnFamilyExists and keep its data."""
        backend.put("a", b"k", b"v")

        with pytest.raises(exc.ColumnFamilyExists):
            backend.create_column_family("a")
        assert backend.get("a", b"k") == b"v"

    @pytest.mark.parametrize(
        "name", ["", "default", "kvdialect", "x" * 129, "ä" * 65, "line\nbreak", "nul\x00"], ids=repr
    )
    def test_a_name_that_some_engine_cannot_take_is_refused(self, backend: StorageBackend, name: str) -> None:
        """Reserved, empty and overlong names, and control characters, must raise ArgumentError on every engine."""
        with pytest.raises(exc.ArgumentError):
            backend.create_column_family(name)

        assert backend.column_families() == ["a", "b", "c"]

    def test_internal_families_are_not_dropped(self, backend: StorageBackend) -> None:
        """Neither RocksDB's default family nor the library's own may be dropped through the interface."""
        for name in ("default", "kvdialect"):
            with pytest.raises(exc.UnknownColumnFamily):
                backend.drop_column_family(name)

    def test_a_dropped_family_is_gone(self, backend: StorageBackend) -> None:
        """After a drop the name must be unknown to every call and the other families untouched."""
        backend.put("a", b"k", b"v")
        backend.put("b", b"k", b"v")
        backend.drop_column_family("b")

        assert backend.column_families() == ["a", "c"]
        for call in CALLS.values():
            with pytest.raises(exc.UnknownColumnFamily):
                call(backend, "b")
        assert contents(backend) == {"a": [(b"k", b"v")], "c": []}

    def test_dropped_data_does_not_come_back_with_the_name(self, backend: StorageBackend) -> None:
        """A family created under the name of a dropped one must be empty, however often that is repeated."""
        for number in range(3):
            fill(backend, "b", {b"%d" % n: b"%d" % number for n in range(100)})
            backend.flush()
            backend.drop_column_family("b")
            backend.create_column_family("b")

            assert list(backend.scan("b")) == []
            assert backend.get("b", b"1") is None
            assert backend.multi_get("b", [b"1"]) == [None]

    def test_changes_of_families_outlive_the_store(self, open_store: OpenStore) -> None:
        """Created families must be there after reopening without naming them; dropped ones must not."""
        backend = open_store()
        needs(backend, "persistent")
        backend.create_column_family("d")
        backend.put("d", b"k", b"v")
        backend.put("b", b"k", b"v")
        backend.drop_column_family("b")
        backend.close()
        backend = open_store([])

        assert contents(backend) == {"a": [], "c": [], "d": [(b"k", b"v")]}
        backend.create_column_family("b")
        assert list(backend.scan("b")) == []

    def test_reopening_with_more_families_creates_them(self, open_store: OpenStore) -> None:
        """Families that the store does not have yet must be created at open, the others kept."""
        backend = open_store(["a"])
        needs(backend, "persistent")
        backend.put("a", b"k", b"v")
        backend.close()
        backend = open_store(["a", "b"])

        assert contents(backend) == {"a": [(b"k", b"v")], "b": []}

    def test_families_that_share_a_database_are_isolated(self, open_store: OpenStore) -> None:
        """Families told apart by a tag must not see, scan into or overwrite each other, and keys come back untagged."""
        backend = open_store(SHARED)
        expected = {
            cf: fill(backend, cf, {key: cf.encode() + key[:4] for key in strategies.TRICKY_KEYS}) for cf in SHARED
        }

        for cf in SHARED:
            assert list(backend.scan(cf)) == expected[cf]
            assert list(backend.scan(cf, reverse=True)) == expected[cf][::-1]
            assert list(backend.prefix_scan(cf, b"")) == expected[cf]
            for reverse in (False, True):
                # Bounds longer than the longest key of all, which is there.
                assert list(backend.scan(cf, b"\xff" * 511, reverse=reverse)) == []
                below = backend.scan(cf, b"", b"\xff" * 511, reverse=reverse)
                assert sorted(below) == expected[cf]
                assert list(backend.scan(cf, b"p" * 511, b"p" * 512 + b"q", reverse=reverse)) == []
            assert backend.get(cf, b"\xff" * 510) == cf.encode() + b"\xff" * 4

    def test_dropping_one_of_the_families_that_share_a_database(self, open_store: OpenStore) -> None:
        """A drop must remove the pairs of its own family only, whatever the tags are."""
        backend = open_store(SHARED)
        expected = {cf: fill(backend, cf, strategies.TRICKY_KEYS) for cf in SHARED}
        backend.drop_column_family("high")
        backend.drop_column_family("low")

        assert contents(backend) == {"next": expected["next"]}
        backend.create_column_family("high", SHARED["high"])
        assert contents(backend) == {"high": [], "next": expected["next"]}

    def test_a_range_over_one_of_several_tags_sees_its_own_phantoms_only(self, open_store: OpenStore) -> None:
        """An expected range of one family must not conflict with writes to its neighbours in the database."""
        backend = open_store(SHARED)
        batch = WriteBatch().expect_range("next", b"", None, range_digest([])).put("next", b"k", b"v")
        fill(backend, "low", strategies.TRICKY_KEYS)
        fill(backend, "high", strategies.TRICKY_KEYS)
        backend.batch_write(batch)

        with pytest.raises(exc.ConflictError):
            backend.batch_write(batch)

    def test_an_unknown_option_of_a_family_names_the_near_match(self) -> None:
        """A misspelt option must be refused, with the option that was probably meant."""
        with pytest.raises(exc.ArgumentError, match="did you mean 'bloom'"):
            ColumnFamilyOptions(blom="full")  # type: ignore[call-arg]
