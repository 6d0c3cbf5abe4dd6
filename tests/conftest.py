"""What holds for every test: which engines are tested, Hypothesis's profiles, and no skip without a reason.

``KVDIALECT_TEST_ENGINES`` is a comma-separated list that says which engines are installed: a driver missing from
these is an error, and tests of other engines are not selected. Where it is unset, tests of an engine whose driver is
missing are skipped, and say so.

A test of one engine is marked ``@pytest.mark.engine("lmdb")``; one that takes an argument ``engine_name`` runs once for
each engine.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

collect_ignore = ["suite"]  # SQLAlchemy's, with a pytest plugin of its own: tests/suite/run.py

DRIVERS = {"memory": None, "lmdb": "lmdb", "rocksdb": "rocksdict"}

# No deadlines: the time of an fsync is the machine's, not the code's.
# A third of Hypothesis's own number keeps the suite within ten minutes; "long" is for a night.
settings.register_profile("default", deadline=None, max_examples=35)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=35,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("default"), max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


def _requested() -> list[str] | None:
    value = os.environ.get("KVDIALECT_TEST_ENGINES")
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _has_driver(engine: str) -> bool:
    driver = DRIVERS[engine]
    return driver is None or importlib.util.find_spec(driver) is not None


def pytest_configure() -> None:
    # A shell starts its background jobs with Ctrl-C ignored, and children inherit that: tests of it would wait in vain.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    requested = _requested()
    if requested is None:
        return
    if not requested:
        raise pytest.UsageError("KVDIALECT_TEST_ENGINES names no engine")
    for engine in requested:
        if engine not in DRIVERS:
            raise pytest.UsageError(f"KVDIALECT_TEST_ENGINES names {engine!r}; known: {', '.join(DRIVERS)}")
        if not _has_driver(engine):
            raise pytest.UsageError(f"KVDIALECT_TEST_ENGINES names {engine!r}, but {DRIVERS[engine]} is not installed")


def pytest_report_header() -> str:
    return f"engines: {', '.join(sorted(_under_test()))}"


def _under_test() -> frozenset[str]:
    requested = _requested()
    return frozenset(filter(_has_driver, DRIVERS) if requested is None else requested)


@pytest.fixture
def url(engine_name: str, tmp_path: Path) -> str:
    """The URL of a store that is not there yet."""
    return "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"


@pytest.fixture(scope="session")
def engines_under_test() -> frozenset[str]:
    return _under_test()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_name" in metafunc.fixturenames:
        params = [pytest.param(name, marks=pytest.mark.engine(name)) for name in DRIVERS]
        metafunc.parametrize("engine_name", params)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    under_test = _under_test()
    selected, deselected = [], []
    for item in items:
        missing = {mark.args[0] for mark in item.iter_markers("engine")} - under_test
        if not missing:
            selected.append(item)
        elif _requested() is None:
            extras = ",".join(sorted(missing))
            item.add_marker(pytest.mark.skip(reason=f'needs pip install "kvdialect[{extras}]"'))
            selected.append(item)
        else:
            deselected.append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = selected


def pytest_collection_finish() -> None:
    # Most tests collect garbage, to see what they left open: what pytest and the imports hold need not be looked
    # through each time, which took half of the suite's time.
    gc.collect()
    gc.freeze()


# What pytest writes where the author of a skip wrote nothing.
_NO_REASON = frozenset({"", "unconditional skip"})


def _fail_reasonless_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return
    path, line, reason = report.longrepr
    if reason.removeprefix("Skipped").removeprefix(":").strip() in _NO_REASON:
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped without a reason; say what is missing and where it does run"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_reasonless_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_reasonless_skip(report)
    return report
