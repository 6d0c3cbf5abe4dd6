"""An engine that is not installed is asked for: in the single-engine environments, where that is really so."""

import importlib.util
import os

import pytest

from kvdialect import exc, open_backend

DRIVERS = {"lmdb": "lmdb", "rocksdb": "rocksdict"}


@pytest.fixture(params=DRIVERS)
def absent_engine(request, engines_under_test):
    """Each engine with a driver that is absent here."""
    engine = request.param
    if engine in engines_under_test:
        pytest.skip(f"{engine} is installed here; the single-engine environments of tox run this")
    return engine


def test_environment_has_only_its_own_drivers(absent_engine):
    """An engine that was not asked for is not installed, or the other tests here would show nothing."""
    assert importlib.util.find_spec(DRIVERS[absent_engine]) is None


def test_absent_engine_is_named_with_what_installs_it(absent_engine, tmp_path):
    """The error names the engine, the path and the extra to install, and leaves nothing on the disk."""
    path = tmp_path / "store"

    with pytest.raises(exc.BackendNotInstalled) as caught:
        open_backend(f"{absent_engine}:///{path}")

    message = str(caught.value)
    assert absent_engine in message
    assert os.fspath(path) in message
    assert f'pip install "kvdialect[{absent_engine}]"' in message
    assert not path.exists()


def test_with_no_driver_at_all_every_extra_is_named(absent_engine, engines_under_test, tmp_path):
    """Where no engine on disk is installed, the error names every extra that brings one."""
    if engines_under_test != {"memory"}:
        pytest.skip("an engine on disk is installed here; the memory environments of tox run this")

    with pytest.raises(exc.BackendNotInstalled) as caught:
        open_backend(f"{absent_engine}:///{tmp_path / 'store'}")

    assert all(extra in str(caught.value) for extra in DRIVERS)
