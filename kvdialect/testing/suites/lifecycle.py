"""Open, close, reopen: what outlives a store, and what does not outlive its handle."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from kvdialect import exc
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.storage.registry import open_backend
from kvdialect.testing.suites.base import FAMILIES, OpenStore, Suite, contents, fill, needs

CALLS: dict[str, Callable[[StorageBackend], object]] = {
    "get": lambda backend: backend.get("a", b"k"),
    "multi_get": lambda backend: backend.multi_get("a", [b"k"]),
    "scan": lambda backend: list(backend.scan("a")),
    "prefix_scan": lambda backend: list(backend.prefix_scan("a", b"k")),
    "put": lambda backend: backend.put("a", b"k", b"v"),
    "delete": lambda backend: backend.delete("a", b"k"),
    "batch_write": lambda backend: backend.batch_write(WriteBatch().put("a", b"k", b"v")),
    "snapshot": lambda backend: backend.snapshot(),
    "column_families": lambda backend: backend.column_families(),
    "column_family_options": lambda backend: backend.column_family_options("a"),
    "create_column_family": lambda backend: backend.create_column_family("d"),
    "drop_column_family": lambda backend: backend.drop_column_family("a"),
    "flush": lambda backend: backend.flush(),
    "compact": lambda backend: backend.compact("a"),
}


FETCHED: dict[str, tuple[Any, ...]] = {
    "get": ("a", b"k"),
    "multi_get": ("a", [b"k"]),
    "scan": ("a",),
    "put": ("a", b"k", b"w"),
    "batch_write": (WriteBatch().delete("a", b"k"),),
    "snapshot": (),
    "column_families": (),
    "create_column_family": ("d",),
    "drop_column_family": ("a",),
    "flush": (),
    "compact": ("a",),
}
"""Methods, and what to call them with."""


def _shared(open_store: OpenStore) -> tuple[StorageBackend, StorageBackend]:
    """Two handles on one store, where the backend has paths to recognise it by."""
    first = open_store()
    if first.path is None:
        pytest.skip(f"{first.name}: backend.path is None, so two opens are two stores")
    return first, open_store()


def _backed_up(backend: StorageBackend, target: Path) -> None:
    """Back up to a path; a backend that has no files must say so, and there is no more to test then."""
    try:
        backend.backup(target)
    except exc.NotSupportedError:
        assert not target.exists()
        pytest.skip(f"{backend.name}: backup() is not supported")


def _opened_at(backend: StorageBackend, path: Path) -> StorageBackend:
    """The store of the same engine at another path, with its families as they are there."""
    return open_backend(URL.create(backend.name, database=str(path)))


class LifecycleSuite(Suite):
    """A closed store refuses, and a reopened one has everything."""

    def test_a_backend_describes_itself(self, backend: StorageBackend) -> None:
        """name, path and capabilities must be there and fit each other."""
        assert backend.name
        assert backend.path is None or Path(backend.path).is_absolute()
        assert backend.capabilities.writable
        assert "sync" in backend.capabilities.durabilities or not backend.capabilities.persistent
        assert backend.name in repr(backend)

    @pytest.mark.parametrize("call", CALLS)
    def test_a_closed_backend_refuses_every_call(self, backend: StorageBackend, call: str) -> None:
        """After close every method must raise StoreClosed, not an error of the driver, and never crash."""
        backend.put("a", b"k", b"v")
        backend.close()

        with pytest.raises(exc.StoreClosed):
            CALLS[call](backend)

    @pytest.mark.parametrize("call", FETCHED)
    def test_a_method_fetched_before_the_close_refuses_too(self, open_store: OpenStore, call: str) -> None:
        """Who has kept a method of a handle must get StoreClosed, though another handle has the store open."""
        other, backend = _shared(open_store)
        other.put("a", b"k", b"v")
        method = getattr(backend, call)
        backend.close()

        with pytest.raises(exc.StoreClosed):
            method(*FETCHED[call])
        assert other.get("a", b"k") == b"v"

    def test_closing_twice_is_harmless(self, backend: StorageBackend) -> None:
        """A close after close must do nothing, and so must leaving the with block of a closed store."""
        with backend:
            backend.close()
            backend.close()

        with pytest.raises(exc.StoreClosed):
            backend.get("a", b"k")

    def test_the_with_block_closes(self, backend: StorageBackend) -> None:
        """Leaving the block by an error must close the store and let the error through."""
        with pytest.raises(ZeroDivisionError), backend:
            raise ZeroDivisionError

        with pytest.raises(exc.StoreClosed):
            backend.get("a", b"k")

    def test_close_ends_snapshots(self, backend: StorageBackend) -> None:
        """Snapshots of a closed store must raise StoreClosed from every read, and close without an error."""
        backend.put("a", b"k", b"v")
        snapshots = [backend.snapshot() for _ in range(3)]
        backend.close()

        for snapshot in snapshots:
            with pytest.raises(exc.StoreClosed):
                snapshot.get("a", b"k")
            with pytest.raises(exc.StoreClosed):
                snapshot.multi_get("a", [b"k"])
            with pytest.raises(exc.StoreClosed):
                list(snapshot.scan("a"))
            with pytest.raises(exc.StoreClosed):
                snapshot.first_pairs("a", b"", None, 5)
            snapshot.close()

    @pytest.mark.parametrize("count", [3, 5000])
    @pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
    def test_close_ends_scans_with_an_error(self, backend: StorageBackend, count: int, reverse: bool) -> None:
        """A scan cut short by close must raise StoreClosed: ending silently would pass for a complete one."""
        fill(backend, "a", [b"%05d" % n for n in range(count)])
        begun = backend.scan("a", reverse=reverse)
        untouched = backend.scan("a", reverse=reverse)
        of_snapshot = backend.snapshot().scan("a", reverse=reverse)
        next(begun)
        next(of_snapshot)
        backend.close()

        for pairs in (begun, untouched, of_snapshot):
            with pytest.raises(exc.StoreClosed):
                list(pairs)

    def test_what_was_left_open_goes_without_a_trace(self, open_store: OpenStore) -> None:
        """Snapshots and iterators that are collected after the close of their store must do no harm."""
        backend = open_store()
        fill(backend, "a", [b"%05d" % n for n in range(2000)])
        snapshot, pairs = backend.snapshot(), backend.scan("a")
        next(pairs)
        backend.close()
        del snapshot, pairs
        gc.collect()
        backend = open_store()

        backend.put("a", b"k", b"v")
        assert backend.get("a", b"k") == b"v"

    def test_close_and_reopen_keeps_data_and_families(self, open_store: OpenStore) -> None:
        """What was committed before close must be there after reopening, in every family, and nothing else."""
        backend = open_store()
        needs(backend, "persistent")
        for cf in FAMILIES:
            fill(backend, cf, {b"%04d" % n: cf.encode() for n in range(1000)})
        backend.delete("b", b"0500")
        before = contents(backend)
        backend.close()
        backend = open_store()

        assert contents(backend) == before
        assert backend.get("b", b"0500") is None

    def test_close_is_no_rollback_and_needs_no_flush(self, open_store: OpenStore) -> None:
        """Each of many openings must find the commits of all before it, though none was flushed."""
        if not open_store(name="probe").capabilities.persistent:
            needs(open_store(name="probe"), "persistent")
        for number in range(5):
            backend = open_store()
            assert [key for key, _ in backend.scan("a")] == [b"%d" % n for n in range(number)]
            backend.put("a", b"%d" % number, b"")
            backend.close()

    def test_a_backup_is_a_store_of_one_moment(self, open_store: OpenStore, tmp_path: Path) -> None:
        """A copy must hold all that was committed before it and nothing since, and open and take writes like any."""
        backend = open_store()
        for cf in FAMILIES:
            fill(backend, cf, {b"%04d" % n: cf.encode() for n in range(500)})
        backend.batch_write(WriteBatch().delete("a", b"0100").add("b", b"n", 41))
        before = contents(backend)
        target = tmp_path / "copies" / "store"
        _backed_up(backend, target)
        backend.put("a", b"after", b"v")

        with _opened_at(backend, target) as copied:
            assert contents(copied) == before
            assert copied.get("a", b"after") is None
            copied.batch_write(WriteBatch().add("b", b"n", 1).put("a", b"0100", b"again"))
            assert copied.get("b", b"n") == (42).to_bytes(8, "big")
        assert backend.get("a", b"0100") is None
        assert backend.get("a", b"after") == b"v"

    def test_a_backup_overwrites_nothing(self, open_store: OpenStore, tmp_path: Path) -> None:
        """A copy to where a store or anything else is must be refused, and leave that and the store as they are."""
        backend = open_store()
        backend.put("a", b"k", b"v")
        target, other = tmp_path / "copy", tmp_path / "other"
        _backed_up(backend, target)
        other.mkdir()
        (other / "file").write_text("of somebody")
        backend.put("a", b"k", b"w")

        with pytest.raises(exc.ArgumentError):
            backend.backup(target)
        with pytest.raises(exc.NotAStore):
            backend.backup(other)
        assert [entry.name for entry in other.iterdir()] == ["file"]
        with _opened_at(backend, target) as copied:
            assert copied.get("a", b"k") == b"v"
        assert sorted(entry.name for entry in tmp_path.iterdir() if "creating" in entry.name) == []

    def test_a_backup_is_refused_after_close(self, open_store: OpenStore, tmp_path: Path) -> None:
        """A closed store must not be copied, nor anything be left where the copy would be."""
        backend = open_store()
        backend.close()

        with pytest.raises((exc.StoreClosed, exc.NotSupportedError)):
            backend.backup(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_counters_outlive_the_store(self, open_store: OpenStore) -> None:
        """An addition after reopening must go on from the value stored."""
        backend = open_store()
        needs(backend, "persistent")
        backend.batch_write(WriteBatch().add("a", b"n", 40))
        backend.close()
        backend = open_store()
        backend.batch_write(WriteBatch().add("a", b"n", 2))

        assert backend.get("a", b"n") == (42).to_bytes(8, "big")

    def test_two_stores_are_independent(self, open_store: OpenStore) -> None:
        """Two stores open side by side must hold their own values, and closing one must not touch the other."""
        first, second = open_store(name="first"), open_store(name="second")
        first.put("a", b"k", b"1")
        second.put("a", b"k", b"2")
        second.create_column_family("d")

        assert (first.get("a", b"k"), second.get("a", b"k")) == (b"1", b"2")
        assert first.column_families() == ["a", "b", "c"]
        first.close()
        assert second.get("a", b"k") == b"2"

    def test_two_handles_on_one_path_are_one_store(self, open_store: OpenStore) -> None:
        """What one handle writes the other must read, families included."""
        first, second = _shared(open_store)
        first.put("a", b"k", b"v")
        second.create_column_family("d")
        second.put("d", b"k", b"w")

        assert second.get("a", b"k") == b"v"
        assert first.get("d", b"k") == b"w"

    def test_closing_one_of_two_handles_leaves_the_other(self, open_store: OpenStore) -> None:
        """A closed handle must refuse, with its snapshots; the other and its snapshots must go on."""
        first, second = _shared(open_store)
        first.put("a", b"k", b"v")
        mine, theirs = first.snapshot(), second.snapshot()
        first.close()

        with pytest.raises(exc.StoreClosed):
            first.get("a", b"k")
        with pytest.raises(exc.StoreClosed):
            mine.get("a", b"k")
        assert theirs.get("a", b"k") == b"v"
        second.put("a", b"k", b"w")
        assert second.get("a", b"k") == b"w"

    def test_the_store_closes_with_its_last_handle(self, open_store: OpenStore) -> None:
        """After the last close of several handles the store must be free to be opened again."""
        first, second = _shared(open_store)
        needs(first, "persistent")
        first.put("a", b"k", b"v")
        first.close()
        first.close()
        second.put("a", b"l", b"v")
        second.close()

        assert [key for key, _ in open_store().scan("a")] == [b"k", b"l"]

    def test_an_unknown_option_is_refused(self, open_store: OpenStore) -> None:
        """A misspelt option must raise ArgumentError with the near match, and not be ignored."""
        with pytest.raises(exc.ArgumentError, match=r"durabilty.*durability"):
            open_store(durabilty="sync")

    def test_an_option_with_a_wrong_value_is_refused(self, open_store: OpenStore) -> None:
        """A value that an option does not have must raise ArgumentError that names those it has."""
        with pytest.raises(exc.ArgumentError, match="sync"):
            open_store(durability="always")
        with pytest.raises(exc.ArgumentError, match="max_batch_bytes"):
            open_store(max_batch_bytes="many")
