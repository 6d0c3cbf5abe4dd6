"""The state machine itself: it must see differences, and say how to get to them again.

The walks over the engines are the kit's own tests, ``pytest tests/conformance -k state_machine``.
"""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from kvdialect import exc
from kvdialect.storage import StorageBackend, open_backend
from kvdialect.testing import Difference, Fault, FaultPlan, FaultyBackend, Step, replay, run_steps, state_machine
from kvdialect.testing.faults import flip_bit
from kvdialect.testing.walk import Walk

pytestmark = pytest.mark.engine("memory")


class Broken:
    """Opens memory stores that all have the same fault."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults

    def __call__(self, column_families, *, name="store") -> StorageBackend:  # noqa: ARG002 - every store is new
        return FaultyBackend(open_backend("memory://", column_families), FaultPlan(*self.faults))


ALWAYS = 10**9


@pytest.mark.parametrize(
    "fault",
    [
        Fault("batch_write", at=5, error=exc.CommitOutcomeUnknown("lost"), applied=False),
        Fault("batch_write", at=5, error=exc.BackendError("late"), applied=True),
        Fault("get", times=ALWAYS, corrupt=flip_bit),
        Fault("scan", times=ALWAYS, corrupt=flip_bit),
        Fault("multi_get", times=ALWAYS, corrupt=lambda _: b"stale"),
        Fault("snapshot", at=3, error=ValueError("of a driver")),
        Fault("compact", error=OSError("of a driver")),
    ],
    ids=lambda fault: f"{fault.operation}-{'error' if fault.raises else 'corrupt'}",
)
def test_a_fault_is_a_difference(fault):
    """Lost and unannounced writes, damaged reads and foreign errors must all be found by a short walk."""
    with pytest.raises(Difference):
        run_steps(Broken(fault), 3000, seed=1, shrink_seconds=0)


def test_a_difference_names_its_seed_and_a_minimal_history():
    """The report must hold the seed and a history that is short and fails again."""
    store = Broken(Fault("multi_get", times=ALWAYS, corrupt=flip_bit))

    with pytest.raises(Difference, match="seed 7") as caught:
        run_steps(store, 3000, seed=7)
    history = caught.value.history
    assert caught.value.seed == 7
    assert [step.action for step in history] in (["put", "multi_get"], ["batch", "multi_get"])
    assert len(history[0].arguments) == (1 if history[0].action == "batch" else 3)
    assert all(repr(step) in str(caught.value) for step in history)
    with pytest.raises(Difference):
        replay(store, history)


def test_the_same_seed_takes_the_same_steps():
    """A walk must be a function of its seed, in every process: else a reported seed is worth nothing."""

    def steps(seed: int) -> list[Step]:
        walked = []

        class Recorder(Walk):
            def step(self, model):
                walked.append(super().step(model))
                return walked[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kvdialect.testing.walk.Walk", Recorder)
            run_steps(Broken(), 400, seed)
        return walked

    assert steps(3) == steps(3)
    assert steps(3) != steps(4)


def test_a_walk_takes_every_kind_of_step():
    """Batches must be accepted often and rejected for every reason there is; else the walk compares nothing."""
    taken, outcomes = set(), set()

    class Watching(FaultyBackend):
        def batch_write(self, batch):
            try:
                super().batch_write(batch)
            except exc.Error as error:
                outcomes.add(type(error).__name__)
                raise
            outcomes.add("written" if len(batch) else "nothing to write")

    def store(column_families, *, name="store"):  # noqa: ARG001 - every store is new
        backend = Watching(open_backend("memory://", column_families), FaultPlan())
        taken.add(backend.plan)
        return backend

    run_steps(store, 3000, seed=0)

    (plan,) = taken
    assert outcomes == {"written", "nothing to write", "ConflictError", "CounterError", "UnknownColumnFamily"}
    assert {"put", "delete", "batch_write", "get", "multi_get", "scan", "prefix_scan", "snapshot"} <= plan.calls.keys()
    assert {"create_column_family", "drop_column_family", "flush", "compact", "next"} <= plan.calls.keys()


def test_hypothesis_finds_a_fault_too():
    """The Hypothesis machine must fail on a store that damages what it reads."""
    machine = state_machine(Broken(Fault("scan", times=ALWAYS, corrupt=flip_bit)))

    with pytest.raises(Difference):
        run_state_machine_as_test(machine)
