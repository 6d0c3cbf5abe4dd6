"""The conformance suite: every promise of the storage contract, as tests that any backend can run."""

from __future__ import annotations

from kvdialect.testing.suites.batches import BatchSuite
from kvdialect.testing.suites.coins import CoinSuite
from kvdialect.testing.suites.counters import CounterSuite
from kvdialect.testing.suites.expectations import ExpectationSuite
from kvdialect.testing.suites.families import FamilySuite
from kvdialect.testing.suites.keys import KeySuite
from kvdialect.testing.suites.lifecycle import LifecycleSuite
from kvdialect.testing.suites.machine import MachineSuite
from kvdialect.testing.suites.processes import ProcessSuite
from kvdialect.testing.suites.reads import ReadSuite
from kvdialect.testing.suites.scans import ScanSuite
from kvdialect.testing.suites.snapshots import SnapshotSuite
from kvdialect.testing.suites.threads import ThreadSuite


# pytest collects the tests of the last base first.
class BackendConformance(
    MachineSuite,
    ProcessSuite,
    CoinSuite,
    ThreadSuite,
    LifecycleSuite,
    FamilySuite,
    SnapshotSuite,
    CounterSuite,
    ExpectationSuite,
    BatchSuite,
    KeySuite,
    ScanSuite,
    ReadSuite,
):
    """Subclass it, name the class ``Test...``, define :meth:`url`: pytest runs the contract against your backend.

    A backend that is not registered under a URL overrides :meth:`open_backend` instead. Options that every store of
    the tests is to be opened with go into ``options``. Tests are chosen by ``backend.capabilities`` alone.
    """
