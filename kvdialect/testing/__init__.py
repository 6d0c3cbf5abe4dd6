"""The kit for authors of backends, and for tests of programs that use one.

A backend is shown to keep the storage contract by one class in its own tests::

    from kvdialect.testing import BackendConformance

    class TestMyBackend(BackendConformance):
        def url(self, path):  # path: where the kit wants the store, a directory below pytest's tmp_path
            return f"mybackend:///{path}"

pytest then collects every test of :class:`BackendConformance`; what a capability rules out is skipped and says so.
``KVDIALECT_STATE_MACHINE_STEPS=20000 pytest -k state_machine`` runs the comparison with a model for longer. Beside it
stand :mod:`~kvdialect.testing.strategies` for Hypothesis, :func:`run_steps` and :func:`state_machine` for any store,
:class:`FaultyBackend` for tests of retries, and :data:`COIN_FAMILIES`, a real schema. Programs that use a store
have their fixtures in :mod:`kvdialect.testing.fixtures`. Needs ``kvdialect[testing]``.
"""

import pytest

# Before the modules are imported: else their asserts fail without showing the values.
pytest.register_assert_rewrite("kvdialect.testing.suites")

from kvdialect.testing.coinstore import COIN_FAMILIES  # noqa: E402
from kvdialect.testing.comparison import Difference, Step  # noqa: E402
from kvdialect.testing.conformance import BackendConformance  # noqa: E402
from kvdialect.testing.faults import Fault, FaultPlan, FaultyBackend  # noqa: E402
from kvdialect.testing.model import StoreModel  # noqa: E402
from kvdialect.testing.statemachine import state_machine  # noqa: E402
from kvdialect.testing.walk import replay, run_steps  # noqa: E402

__all__ = [
    "COIN_FAMILIES",
    "BackendConformance",
    "Difference",
    "Fault",
    "FaultPlan",
    "FaultyBackend",
    "Step",
    "StoreModel",
    "replay",
    "run_steps",
    "state_machine",
]
