"""Fixtures of pytest for programs that keep their data here: a fresh store for each test, and the same test on each engine.

A program asks for them in its ``conftest.py``::

    pytest_plugins = ["kvdialect.testing.fixtures"]

``kv_engine`` is an open memory store; ``kv_engines`` one of each engine that is installed, one after the other, for a
test that is to run on all of them; ``kv_session`` a session on ``kv_engine``. A fixture ``kv_models`` of the program
says whose tables they have. Which engines ``kv_engines`` stands for is said by ``--kv-engines=memory,lmdb`` or by
``kv_engines`` in pytest's configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kvdialect import Engine, Session, create_engine, exc, registry
from kvdialect.backends import available

_OPTION: Final = "kv_engines"
_EXPLAINED: Final = "engines that tests with kv_engines run on, by comma; all that are installed unless given"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--kv-engines``, and ``kv_engines`` to the configuration."""
    parser.getgroup("kvdialect").addoption("--kv-engines", dest=_OPTION, metavar="NAMES", help=_EXPLAINED)
    parser.addini(_OPTION, _EXPLAINED, default="")
