"""SQLAlchemy's compliance suite on this dialect. It runs from this directory; run.py runs it on several databases."""

import os
from pathlib import Path
from shutil import rmtree

import as_sqlite  # noqa: F401 - registers kvdialect under SQLite's name
import provision  # noqa: F401 - registers what the suite asks of a database
import pytest

if "PYTEST_XDIST_WORKER" not in os.environ:
    rmtree(Path("build"), ignore_errors=True)
    Path("build").mkdir()
pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403
