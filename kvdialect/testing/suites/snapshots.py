"""Snapshots: one moment across all families."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable

import pytest

from kvdialect import exc
from kvdialect.storage import KeyRange, Snapshot, StorageBackend, WriteBatch
from kvdialect.testing import strategies
from kvdialect.testing.suites.base import FAMILIES, Suite, fill
from kvdialect.testing.suites.threads import run_together


def _reads(snapshot: Snapshot, cf: str) -> list[Callable[[], object]]:
    return [
        lambda: snapshot.get(cf, b"k"),
        lambda: snapshot.multi_get(cf, [b"k"]),
        lambda: list(snapshot.scan(cf)),
        lambda: list(snapshot.scan(cf, b"a", b"z", reverse=True)),
        lambda: list(snapshot.prefix_scan(cf, b"k")),
    ]


class SnapshotSuite(Suite):
    """A snapshot does not move."""

    def test_a_snapshot_keeps_the_old_values_of_all_families(self, backend: StorageBackend) -> None:
        """Values changed, keys added and keys deleted after it must not show in a snapshot, in any family."""
        expected = {cf: fill(backend, cf, {b"changed": b"old", b"deleted": b"old"}) for cf in FAMILIES}
        with backend.snapshot() as snapshot:
            batch = WriteBatch()
            for cf in FAMILIES:
                batch.put(cf, b"changed", b"new").delete(cf, b"deleted").put(cf, b"added", b"new")
            backend.batch_write(batch)

            for cf in FAMILIES:
                assert snapshot.get(cf, b"changed") == b"old"
                assert snapshot.multi_get(cf, [b"added", b"deleted"]) == [None, b"old"]
                assert list(snapshot.scan(cf)) == expected[cf]
                assert list(snapshot.scan(cf, reverse=True)) == expected[cf][::-1]
                assert list(snapshot.prefix_scan(cf, b"d")) == [(b"deleted", b"old")]
                assert list(backend.scan(cf)) == [(b"added", b"new"), (b"changed", b"new")]

    def test_a_snapshot_sees_what_was_committed_before_it(self, backend: StorageBackend) -> None:
        """The last commit before a snapshot must be in it."""
        for number in range(50):
            backend.put(FAMILIES[number % 3], b"k", b"%d" % number)
            with backend.snapshot() as snapshot:
                assert snapshot.get(FAMILIES[number % 3], b"k") == b"%d" % number

    def test_snapshots_of_several_moments_live_side_by_side(self, backend: StorageBackend) -> None:
        """Each of ten snapshots must keep its own state, in whatever order they are closed."""
        snapshots = []
        for number in range(10):
            backend.batch_write(WriteBatch().put("a", b"k", b"%d" % number).put("b", b"%d" % number, b""))
            snapshots.append(backend.snapshot())
        for number in (0, 5, 9):
            snapshots[number].close()
        backend.delete("a", b"k")

        for number in (1, 2, 3, 4, 6, 7, 8):
            assert snapshots[number].get("a", b"k") == b"%d" % number
            assert len(list(snapshots[number].scan("b"))) == number + 1

    def test_a_snapshot_reads_ranges_as_the_backend_does(self, backend: StorageBackend) -> None:
        """Bounds must select from a snapshot what they select from the store at that moment."""
        fill(backend, "a", strategies.TRICKY_KEYS)
        with backend.snapshot() as snapshot:
            pairs = list(backend.scan("a"))
            backend.batch_write(strategies.build_batch([("delete", "a", key) for key, _ in pairs]))

            for bounds in (
                KeyRange(b"\x01", b"\xff"),
                KeyRange(b"p" * 600),
                KeyRange(b"q", b"p"),
                KeyRange.prefix(b"p"),
            ):
                expected = [pair for pair in pairs if pair[0] in bounds]
                assert list(snapshot.scan("a", bounds.start, bounds.stop)) == expected
                assert list(snapshot.scan("a", bounds.start, bounds.stop, reverse=True)) == expected[::-1]

    @pytest.mark.parametrize("later_writes", [False, True])
    def test_the_first_pairs_of_a_range_are_those_of_its_scan(
        self, backend: StorageBackend, later_writes: bool
    ) -> None:
        """Whatever the limit, the bounds and the direction, also where the store has moved on since."""
        fill(backend, "a", [*strategies.TRICKY_KEYS, *(b"row%03d" % number for number in range(70))])
        with backend.snapshot() as snapshot:
            if later_writes:
                backend.batch_write(WriteBatch().put("a", b"row0005", b"late").delete("a", b"row010"))
            for start, stop in (
                (b"", None),
                (b"row", b"rox"),
                (b"row01", b"row03"),
                (b"row9", None),
                (b"row2", b"row1"),
            ):
                for reverse in (False, True):
                    pairs = list(snapshot.scan("a", start, stop, reverse=reverse))
                    for limit in (0, 1, 19, 20, 21, 24, 25, 70, 1000):
                        found = snapshot.first_pairs("a", start, stop, limit, reverse=reverse)
                        assert found == pairs[:limit], (start, stop, reverse, limit)

    def test_the_first_pairs_of_what_is_no_range_are_refused(self, backend: StorageBackend) -> None:
        """Errors must be those of a scan."""
        with backend.snapshot() as snapshot:
            with pytest.raises(exc.UnknownColumnFamily):
                snapshot.first_pairs("never", b"", None, 5)
            for start, stop in (("a", None), (b"", "z")):
                with pytest.raises(TypeError):
                    snapshot.first_pairs("a", start, stop, 5)  # type: ignore[arg-type]

    def test_a_closed_snapshot_refuses_reads(self, backend: StorageBackend) -> None:
        """Every read of a closed snapshot must raise StoreClosed, while the store stays usable."""
        backend.put("a", b"k", b"v")
        snapshot = backend.snapshot()
        snapshot.close()

        with pytest.raises(exc.StoreClosed):
            snapshot.get("a", b"k")
        with pytest.raises(exc.StoreClosed):
            snapshot.multi_get("a", [b"k"])
        with pytest.raises(exc.StoreClosed):
            list(snapshot.scan("a"))
        with pytest.raises(exc.StoreClosed):
            list(snapshot.prefix_scan("a", b"k"))
        with pytest.raises(exc.StoreClosed):
            snapshot.first_pairs("a", b"", None, 5)
        assert backend.get("a", b"k") == b"v"

    def test_closing_a_snapshot_twice_is_harmless(self, backend: StorageBackend) -> None:
        """A close after close, and leaving the with block after close, must do nothing."""
        with backend.snapshot() as snapshot:
            snapshot.close()
            snapshot.close()

        backend.put("a", b"k", b"v")

    @pytest.mark.parametrize("count", [3, 5000])
    def test_closing_a_snapshot_ends_its_scans_with_an_error(self, backend: StorageBackend, count: int) -> None:
        """A scan of a snapshot closed amid it must raise StoreClosed and never end as if it were complete."""
        fill(backend, "a", [b"%05d" % n for n in range(count)])
        snapshot = backend.snapshot()
        begun, untouched = snapshot.scan("a"), snapshot.scan("a", reverse=True)
        next(begun)
        snapshot.close()

        for pairs in (begun, untouched):
            with pytest.raises(exc.StoreClosed):
                list(pairs)

    def test_a_scan_keeps_its_dropped_snapshot_alive(self, backend: StorageBackend) -> None:
        """An iterator whose snapshot nobody holds any more must go on to its end."""
        expected = fill(backend, "a", [b"%05d" % n for n in range(3000)])
        pairs = backend.snapshot().scan("a")
        gc.collect()
        backend.batch_write(strategies.build_batch([("delete", "a", key) for key, _ in expected]))

        assert list(pairs) == expected

    def test_many_dropped_snapshots_exhaust_nothing(self, backend: StorageBackend) -> None:
        """More snapshots dropped without close than an engine has reader slots (126 on LMDB) must not use these up."""
        for number in range(500):
            backend.put("a", b"k", b"%d" % number)
            assert backend.snapshot().get("a", b"k") == b"%d" % number

    def test_a_snapshot_is_read_by_several_threads_at_once(self, backend: StorageBackend) -> None:
        """Eight threads reading one snapshot while a writer goes on must all see its moment."""
        expected = {cf: fill(backend, cf, [b"%04d" % n for n in range(1000)]) for cf in FAMILIES}
        with backend.snapshot() as snapshot:

            def read(thread: int) -> None:
                cf = FAMILIES[thread % 3]
                for step in range(10):
                    assert list(snapshot.scan(cf, reverse=bool(step % 2))) == expected[cf][:: -1 if step % 2 else 1]
                    assert snapshot.get(cf, b"0500") == b"0050"
                    assert snapshot.multi_get(cf, [b"0001", b"x"]) == [b"1000", None]

            def write(_: int) -> None:
                for number in range(20):
                    backend.batch_write(WriteBatch().put("a", b"0500", b"%d" % number).delete("b", b"%04d" % number))

            run_together([read] * 8 + [write])

    def test_a_snapshot_taken_in_one_thread_is_closed_in_another(self, backend: StorageBackend) -> None:
        """A snapshot must not be bound to its thread: neither for reading nor for closing."""
        backend.put("a", b"k", b"v")
        taken = []
        run_together([lambda _: taken.append(backend.snapshot())])
        (snapshot,) = taken

        assert snapshot.get("a", b"k") == b"v"
        run_together([lambda _: snapshot.close()])
        with pytest.raises(exc.StoreClosed):
            snapshot.get("a", b"k")
        backend.put("a", b"k", b"w")

    def test_a_snapshot_knows_no_unknown_family(self, backend: StorageBackend) -> None:
        """Reads of a family that the store does not have must raise UnknownColumnFamily from a snapshot too."""
        with backend.snapshot() as snapshot:
            for read in (snapshot.get, snapshot.prefix_scan):
                with pytest.raises(exc.UnknownColumnFamily, match=r"^unknown column family: nowhere$"):
                    read("nowhere", b"k")
            with pytest.raises(exc.UnknownColumnFamily, match=r"^unknown column family: nowhere$"):
                snapshot.multi_get("nowhere", [b"k"])
            with pytest.raises(exc.UnknownColumnFamily, match=r"^unknown column family: nowhere$"):
                snapshot.scan("nowhere")

    def test_a_snapshot_shows_nothing_of_a_family_created_after_it(self, backend: StorageBackend) -> None:
        """To a snapshot older than a family it must be unknown or empty; neither later pairs nor other errors."""
        backend.drop_column_family("b")
        with backend.snapshot() as snapshot:
            for cf in ("b", "d"):
                backend.create_column_family(cf)
                backend.put(cf, b"k", b"later")

                for read in _reads(snapshot, cf):
                    with contextlib.suppress(exc.UnknownColumnFamily):
                        assert read() in (None, [None], [])

    def test_a_snapshot_shows_a_dropped_family_as_it_was_or_not_at_all(self, backend: StorageBackend) -> None:
        """After a drop, and a new family of the name, it must give the old pairs or UnknownColumnFamily."""
        backend.put("b", b"k", b"old")
        with backend.snapshot() as snapshot:
            backend.drop_column_family("b")
            for _ in range(2):
                for read in _reads(snapshot, "b"):
                    with contextlib.suppress(exc.UnknownColumnFamily):
                        assert read() in (b"old", [b"old"], [(b"k", b"old")])
                if "b" not in backend.column_families():
                    backend.create_column_family("b")
                    backend.put("b", b"k", b"later")

    def test_a_snapshot_checks_types_as_the_backend_does(self, backend: StorageBackend) -> None:
        """Keys and bounds that are not bytes must raise TypeError from a snapshot too."""
        with backend.snapshot() as snapshot:
            with pytest.raises(TypeError):
                snapshot.get("a", "k")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                snapshot.multi_get("a", ["k"])  # type: ignore[list-item]
            with pytest.raises(TypeError):
                snapshot.scan("a", "k")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                snapshot.prefix_scan("a", "k")  # type: ignore[arg-type]
