"""Random histories, compared with a model after every step."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from kvdialect.testing.comparison import Difference
from kvdialect.testing.shrink import report
from kvdialect.testing.statemachine import state_machine
from kvdialect.testing.suites.base import OpenStore, Suite
from kvdialect.testing.walk import run_steps

STEPS_VARIABLE = "KVDIALECT_STATE_MACHINE_STEPS"
SEED_VARIABLE = "KVDIALECT_STATE_MACHINE_SEED"
STEPS_PER_EXAMPLE = 25
SHRINK_SECONDS = 20.0


def _steps() -> int:
    return int(os.environ.get(STEPS_VARIABLE) or 1500)


class MachineSuite(Suite):
    """``KVDIALECT_STATE_MACHINE_STEPS`` sets the number of steps, ``KVDIALECT_STATE_MACHINE_SEED`` the seed."""

    def test_state_machine_walks_without_a_difference(self, open_store: OpenStore) -> None:
        """A difference names its seed and a short history; set the seed in the environment to walk it again."""
        run_steps(open_store, _steps(), int(os.environ.get(SEED_VARIABLE) or 0), shrink_seconds=SHRINK_SECONDS)

    def test_state_machine_of_hypothesis_finds_no_difference(self, open_store: OpenStore) -> None:
        """A difference names a short history that leads there."""
        chosen = settings(
            # A tenth of the walk's steps: each example needs a new store, which costs more than its steps.
            max_examples=max(5, _steps() // (10 * STEPS_PER_EXAMPLE)),
            stateful_step_count=STEPS_PER_EXAMPLE,
            deadline=None,
            # For the same reason its shrinking, which knows no limit of time, is left to report().
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(state_machine(open_store), settings=chosen)
        except Difference as difference:
            raise report(open_store, difference, SHRINK_SECONDS) from difference
