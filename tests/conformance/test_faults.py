"""The fault-injecting wrapper: faults come when the plan says so, and never else."""

from __future__ import annotations

import pytest

from kvdialect import exc
from kvdialect.storage import StorageBackend, WriteBatch, open_backend
from kvdialect.testing import BackendConformance, Fault, FaultPlan, FaultyBackend
from kvdialect.testing.faults import flip_bit

pytestmark = pytest.mark.engine("memory")


def faulty(*faults: Fault, **options) -> FaultyBackend:
    return FaultyBackend(open_backend("memory://", ["a", "b"]), FaultPlan(*faults, **options))


class TestWithoutFaults(BackendConformance):
    """With an empty plan the wrapper must pass the kit as the backend inside does."""

    def open_backend(self, path, column_families, **options) -> StorageBackend:
        return FaultyBackend(open_backend(f"memory:///{path}", column_families, **options), FaultPlan())


@pytest.mark.parametrize("outcome", ["not_applied", "applied", "unknown"])
@pytest.mark.parametrize("applied", [False, True])
def test_the_error_says_the_outcome_and_the_store_has_what_was_applied(outcome, applied):
    """What an error says and what happened are set apart, so that a lying engine can be played too."""
    backend = faulty(Fault("put", outcome=outcome, applied=applied))

    with pytest.raises(exc.BackendError, match="injected") as caught:
        backend.put("a", b"k", b"v")
    assert caught.value.outcome == outcome
    assert backend.get("a", b"k") == (b"v" if applied else None)


def test_by_default_the_error_tells_the_truth():
    """outcome="applied" must apply, outcome="not_applied" must not, and only the latter may be retried."""
    backend = faulty(Fault("put", outcome="applied"), Fault("delete", outcome="not_applied"))

    with pytest.raises(exc.BackendError) as applied:
        backend.put("a", b"k", b"v")
    with pytest.raises(exc.BackendError) as not_applied:
        backend.delete("a", b"k")
    assert backend.get("a", b"k") == b"v"
    assert not applied.value.retryable
    assert not_applied.value.retryable


@pytest.mark.parametrize("applied", [False, True])
def test_an_unknown_outcome_can_be_asked_for(applied):
    """The token of the error must lead to what really became of the commit."""
    backend = faulty(Fault("batch_write", outcome="unknown", applied=applied))

    with pytest.raises(exc.CommitOutcomeUnknown) as caught:
        backend.batch_write(WriteBatch().put("a", b"k", b"v"))
    assert backend.commit_outcome(caught.value.token) == ("applied" if applied else "not_applied")


def test_calls_are_counted_per_fault():
    """A fault at the third of two writes in a row must spare the first two and those after it."""
    backend = faulty(Fault("write", at=3, times=2))
    failed = []
    for number in range(6):
        try:
            backend.put("a", b"%d" % number, b"")
        except exc.BackendError:
            failed.append(number)

    assert failed == [2, 3]
    assert backend.plan.calls == {"put": 6}
    assert [operation for operation, _ in backend.plan.happened] == ["put", "put"]


def test_a_kind_counts_all_its_operations():
    """A fault of kind "write" must count puts, deletes and batches together, and no reads."""
    backend = faulty(Fault("write", at=3))
    backend.put("a", b"k", b"v")
    backend.get("a", b"k")
    backend.delete("a", b"k")

    with pytest.raises(exc.BackendError):
        backend.batch_write(WriteBatch().put("a", b"k", b"v"))


@pytest.mark.parametrize(
    "error",
    [exc.DiskFull("no space"), exc.DiskFull, lambda: exc.DiskFull("no space")],
    ids=["instance", "class", "made"],
)
def test_any_error_can_be_raised(error):
    """An exception, its class or a function that makes one must all be raised."""
    with pytest.raises(exc.DiskFull):
        faulty(Fault("flush", error=error)).flush()


def test_a_value_read_can_be_corrupted():
    """Corruption must reach get, multi_get and scans, of backend and snapshot, and leave absence alone."""
    backend = faulty(Fault("read", times=100, corrupt=flip_bit))
    backend.put("a", b"k", b"v")

    assert backend.get("a", b"k") == b"w"
    assert backend.multi_get("a", [b"k", b"l"]) == [b"w", None]
    with backend.snapshot() as snapshot:
        assert snapshot.get("a", b"k") == b"w"
    assert backend.inner.get("a", b"k") == b"v"


def test_a_scan_can_fail_midway():
    """A fault at a pair must let the pairs before it through, as damage in the middle of a file does."""
    backend = faulty(Fault("next", at=3, error=exc.Corruption("damaged block")))
    for number in range(5):
        backend.put("a", b"%d" % number, b"")
    seen = []

    with pytest.raises(exc.Corruption):
        seen.extend(backend.scan("a"))
    assert seen == [(b"0", b""), (b"1", b"")]


def test_a_delay_waits_and_then_carries_out():
    """A fault that only delays must raise nothing and change nothing."""
    waited: list[float] = []
    backend = faulty(Fault("put", at=2, delay=1.5), sleep=waited.append)
    backend.put("a", b"k", b"1")
    backend.put("a", b"k", b"2")

    assert waited == [1.5]
    assert backend.get("a", b"k") == b"2"


def test_a_misspelt_operation_is_refused():
    """A plan that names no operation would never happen, and the test would pass for nothing."""
    with pytest.raises(exc.ArgumentError, match="btach_write"):
        Fault("btach_write")
    with pytest.raises(exc.ArgumentError, match="counted from 1"):
        Fault("put", at=0)


def test_a_retry_loop_meets_its_conflict():
    """What it is for: a loop that retries what may be retried must get through two failures."""
    backend = faulty(Fault("batch_write", times=2, error=lambda: exc.ConflictError("another commit came first")))
    attempts = 0
    while True:
        attempts += 1
        try:
            backend.batch_write(WriteBatch().add("a", b"n", 1))
            break
        except exc.Error as error:
            if not error.retryable:
                raise

    assert attempts == 3
    assert backend.get("a", b"n") == (1).to_bytes(8, "big")
