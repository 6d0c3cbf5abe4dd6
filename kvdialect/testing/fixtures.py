"""Fixtures of pytest for programs that keep their data here: a fresh store for each test, and a test on every engine.

A program asks for them in its ``conftest.py``, and says there which tables the stores have::

    pytest_plugins = ["kvdialect.testing.fixtures"]

    @pytest.fixture
    def kv_models():
        return models

Nothing is loaded into the test runs of programs that do not ask: the package has no entry point of pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kvdialect import exc
from kvdialect.backends import known_engines, load_backend
from kvdialect.orm.engine import Engine, create_engine
from kvdialect.orm.session import Session
from kvdialect.schema.records import registry

_OPTION: Final = "kv_engines"
_EXPLAINED: Final = "engines that tests with kv_each_engine run on, by comma; if not given all that are installed"

_QUICK: Final = {"lmdb": "?durability=none", "rocksdb": "?durability=none"}
"""Options of the engines here: a test's store need not survive a power cut, and syncing takes most of its time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--kv-engines``, and ``kv_engines`` to pytest's configuration."""
    parser.getgroup("kvdialect").addoption("--kv-engines", dest=_OPTION, metavar="NAMES", help=_EXPLAINED)
    parser.addini(_OPTION, _EXPLAINED, default="")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``kv_each_engine`` once on each engine."""
    if "kv_each_engine" in metafunc.fixturenames:
        metafunc.parametrize("kv_each_engine", _engines(metafunc.config), indirect=True)


def _engines(config: pytest.Config) -> list[str]:
    """The engines that are asked for, or else those that are installed.

    Raises:
        pytest.UsageError: if one that is asked for is unknown, or its driver is missing.
    """
    asked = config.getoption(_OPTION) or config.getini(_OPTION)
    if not asked:
        return [name for name in known_engines() if _installed(name)]
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        try:
            load_backend(name)
        except (exc.ArgumentError, exc.BackendNotInstalled) as error:
            raise pytest.UsageError(f"--kv-engines={asked}: {error}") from error
    if not names:
        raise pytest.UsageError(f"--kv-engines={asked!r} names no engine; known: {', '.join(known_engines())}")
    return names


def _installed(name: str) -> bool:
    try:
        load_backend(name)
    except (exc.BackendNotInstalled, ImportError):  # a third party's own import fails as it is
        return False
    return True


@pytest.fixture
def kv_models() -> registry | None:
    """The registry whose tables the stores have; None: they have no tables. A program's own fixture replaces it."""
    return None


@pytest.fixture
def kv_engine(kv_models: registry | None) -> Iterator[Engine]:
    """A fresh store in memory, with the tables of ``kv_models``."""
    yield from _opened("memory://", kv_models)


@pytest.fixture
def kv_each_engine(request: pytest.FixtureRequest, tmp_path: Path, kv_models: registry | None) -> Iterator[Engine]:
    """A fresh store on each engine in turn, below ``tmp_path``, with the tables of ``kv_models``."""
    name: Any = request.param
    url = "memory://" if name == "memory" else f"{name}:///{tmp_path}/kvdialect{_QUICK.get(name, '')}"
    yield from _opened(url, kv_models)


@pytest.fixture
def kv_session(kv_engine: Engine) -> Iterator[Session]:
    """A session on ``kv_engine``; what the test does not commit is rolled back."""
    with Session(kv_engine) as session:
        yield session


def _opened(url: str, models: registry | None) -> Iterator[Engine]:
    with create_engine(url) as engine:
        if models is not None:
            models.create_all(engine)
        yield engine
