"""Threads: no torn batches, no lost updates, no errors."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Sequence
from itertools import permutations

import pytest

from kvdialect import exc
from kvdialect.storage import StorageBackend, WriteBatch, decode_counter
from kvdialect.testing.suites.base import FAMILIES, Suite, contents, fill

PATIENCE = 60.0
"""Seconds after which a thread counts as hung."""


def run_together(functions: Sequence[Callable[[int], object]]) -> None:
    """Run each function in a thread of its own, given its number, all at once; raise the first error of any."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(functions))

    def run(number: int) -> None:
        try:
            barrier.wait(PATIENCE)
            functions[number](number)
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            errors.append(error)

    # Daemons: a hung one must not keep the test run from ending.
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    hung = sum(thread.is_alive() for thread in threads)
    assert not hung, f"{hung} of {len(threads)} threads hung"


class ThreadSuite(Suite):
    """Backends, snapshots and batches are used from several threads at once."""

    @pytest.fixture
    def eager_switching(self) -> Generator[None]:
        """Lets threads take turns often, so that a race shows in a short test."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        yield
        sys.setswitchinterval(interval)

    def test_readers_are_undisturbed_by_a_writer(self, backend: StorageBackend) -> None:
        """Eight readers of 200 gets each beside a writer of 50 batches: no error, and only values ever written."""
        fill(backend, "a", {b"%03d" % n: b"0" for n in range(100)})

        def read(thread: int) -> None:
            for number in range(200):
                value = backend.get("a", b"%03d" % ((number * 7 + thread) % 100))
                assert value is not None
                assert 0 <= int(value) <= 50

        def write(_: int) -> None:
            for number in range(1, 51):
                fill(backend, "a", {b"%03d" % n: b"%d" % number for n in range(100)})

        run_together([read] * 8 + [write])

    @pytest.mark.usefixtures("eager_switching")
    def test_a_snapshot_never_straddles_a_batch(self, backend: StorageBackend) -> None:
        """A batch that sets one number in all families: every snapshot must show the same number in each."""
        keys = [b"%02d" % n for n in range(20)]
        done = threading.Event()

        def write(_: int) -> None:
            try:
                for number in range(60):
                    batch = WriteBatch()
                    for cf in FAMILIES:
                        for key in keys:
                            batch.put(cf, key, b"%d" % number)
                    backend.batch_write(batch)
            finally:
                done.set()

        def read(_: int) -> None:
            while not done.is_set():
                with backend.snapshot() as snapshot:
                    seen = {value for cf in FAMILIES for value in snapshot.multi_get(cf, keys)}
                    seen |= {value for cf in reversed(FAMILIES) for _, value in snapshot.scan(cf)} or {None}
                assert len(seen) == 1

        run_together([write, read, read, read])

    @pytest.mark.usefixtures("eager_switching")
    def test_a_scan_never_straddles_a_batch(self, backend: StorageBackend) -> None:
        """A batch that renames all keys of a family: every scan must show all old ones or all new ones."""
        count = 600
        done = threading.Event()
        fill(backend, "a", {b"%d-%04d" % (0, n): b"" for n in range(count)})

        def write(_: int) -> None:
            try:
                for number in range(1, 20):
                    batch = WriteBatch()
                    for n in range(count):
                        batch.delete("a", b"%d-%04d" % ((number - 1) % 2, n))
                        batch.put("a", b"%d-%04d" % (number % 2, n), b"")
                    backend.batch_write(batch)
            finally:
                done.set()

        def read(thread: int) -> None:
            while not done.is_set():
                keys = [key for key, _ in backend.scan("a", reverse=bool(thread % 2))]
                assert len(keys) == count
                assert len({key[:1] for key in keys}) == 1

        run_together([write, read, read])

    @pytest.mark.usefixtures("eager_switching")
    def test_gets_one_after_the_other_never_go_back_in_time(self, backend: StorageBackend) -> None:
        """Once a get shows a batch, no later get may show the state before it, in whatever family and order."""
        done = threading.Event()
        fill(backend, "a", {b"k": b"0"})
        fill(backend, "b", {b"k": b"0"})
        fill(backend, "c", {b"k": b"0"})

        def write(_: int) -> None:
            try:
                for number in range(1, 100):
                    batch = WriteBatch()
                    for cf in FAMILIES:
                        for filler in range(10):
                            batch.put(cf, b"f%d" % filler, b"%d" % number)
                        batch.put(cf, b"k", b"%d" % number)
                    backend.batch_write(batch)
            finally:
                done.set()

        def read(_: int) -> None:
            while not done.is_set():
                for order in permutations(FAMILIES):
                    seen = [int(backend.get(cf, b"k") or -1) for cf in order]
                    assert seen == sorted(seen), order

        run_together([write, read, read])

    @pytest.mark.usefixtures("eager_switching")
    def test_concurrent_additions_lose_nothing(self, backend: StorageBackend) -> None:
        """Eight threads of 50 additions each must sum up exactly, without a conflict."""

        def count(thread: int) -> None:
            for number in range(50):
                backend.batch_write(WriteBatch().add("a", b"n", thread).put("b", b"%d-%d" % (thread, number), b""))

        run_together([count] * 8)

        assert decode_counter(backend.get("a", b"n")) == 50 * sum(range(8))
        assert len(list(backend.scan("b"))) == 400

    @pytest.mark.usefixtures("eager_switching")
    def test_expectations_make_read_modify_write_safe(self, backend: StorageBackend) -> None:
        """Six threads that read, expect what they read and write must lose no update: the others get ConflictError."""
        backend.put("a", b"n", b"0")

        def increment(_: int) -> None:
            done = 0
            while done < 20:
                seen = backend.get("a", b"n") or b"0"
                try:
                    backend.batch_write(WriteBatch().expect("a", b"n", seen).put("a", b"n", b"%d" % (int(seen) + 1)))
                except exc.ConflictError:
                    continue
                done += 1

        run_together([increment] * 6)

        assert backend.get("a", b"n") == b"120"

    @pytest.mark.usefixtures("eager_switching")
    def test_of_several_first_writers_one_wins(self, backend: StorageBackend) -> None:
        """Of eight threads that create the same key, expecting its absence, exactly one must succeed each time."""
        wins: list[int] = []

        def create(thread: int) -> None:
            for number in range(20):
                try:
                    backend.batch_write(
                        WriteBatch().expect("a", b"%d" % number, None).put("a", b"%d" % number, b"%d" % thread)
                    )
                except exc.ConflictError:
                    continue
                wins.append(number)

        run_together([create] * 8)

        assert sorted(wins) == list(range(20))

    def test_a_failed_expectation_rejects_only_its_own_batch(self, backend: StorageBackend) -> None:
        """Where waiting batches are committed together, a conflict of one must not touch the others."""
        rejected: list[int] = []

        def write(thread: int) -> None:
            for number in range(30):
                key = b"%d-%d" % (thread, number)
                batch = WriteBatch().put("a", key, b"").put("b", key, b"")
                if (thread + number) % 3 == 0:
                    batch.expect("c", b"k", b"never")
                try:
                    backend.batch_write(batch)
                except exc.ConflictError:
                    rejected.append(thread)

        run_together([write] * 6)

        expected = sorted(b"%d-%d" % (t, n) for t in range(6) for n in range(30) if (t + n) % 3)
        assert len(rejected) == 180 - len(expected)
        assert [key for key, _ in backend.scan("a")] == expected
        assert [key for key, _ in backend.scan("b")] == expected

    def test_one_batch_is_written_by_several_threads(self, backend: StorageBackend) -> None:
        """A finished batch is a value: eight threads writing the same one must all succeed."""
        batch = WriteBatch().put("a", b"k", b"v").delete("b", b"k").add("c", b"n", 1)

        run_together([lambda _: backend.batch_write(batch)] * 8)

        assert contents(backend) == {"a": [(b"k", b"v")], "b": [], "c": [(b"n", (8).to_bytes(8, "big"))]}

    def test_families_are_created_and_dropped_beside_readers_and_writers(self, backend: StorageBackend) -> None:
        """Creating and dropping families must neither disturb reads and writes of others nor lose any of them."""

        def change(_: int) -> None:
            for _ in range(4):
                backend.create_column_family("d")
                backend.put("d", b"k", b"v")
                backend.drop_column_family("d")

        def write(thread: int) -> None:
            for number in range(40):
                backend.put("a", b"%d-%d" % (thread, number), b"")
                assert backend.get("a", b"%d-%d" % (thread, number)) == b""
                assert any(True for _ in backend.scan("a"))

        run_together([change, write, write])

        assert backend.column_families() == ["a", "b", "c"]
        assert len(list(backend.scan("a"))) == 80

    def test_close_amid_the_reads_of_other_threads_is_clean(self, backend: StorageBackend) -> None:
        """Threads whose store is closed under them must see StoreClosed, not a crash and not a silent end."""
        expected = fill(backend, "a", [b"%05d" % n for n in range(5000)])
        begun = threading.Barrier(5)
        silent: list[int] = []

        def read(_: int) -> None:
            assert backend.get("a", b"00001") == b"10000"
            begun.wait(PATIENCE)
            try:
                while True:
                    found = len(list(backend.scan("a")))
                    if found != len(expected):
                        silent.append(found)
                    backend.get("a", b"00001")
            except exc.StoreClosed:
                return

        def close(_: int) -> None:
            begun.wait(PATIENCE)
            backend.close()

        run_together([read] * 4 + [close])

        assert silent == []
