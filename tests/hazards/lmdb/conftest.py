"""Hazards of the engines: a crash or a hang of one must not take the tests along, so scripts run in processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

# What every script begins with. Scripts get the store's URL as their first argument.
PRELUDE = """
import gc, os, random, signal, sys, threading, time
from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import WriteBatch
URL = sys.argv[1]
"""

LIMIT = 60
"""Seconds after which a script counts as hanging; none needs more than a few."""


class Script:
    """A script that runs beside the test; lines go both ways."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + textwrap.dedent(code), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def line(self) -> str:
        """The next line that the script prints; an empty one if it ended."""
        line = self.process.stdout.readline()
        return line.rstrip("\n")

    def tell(self, line: str = "") -> None:
        """Send a line."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End the script as a power cut would, as far as the process is concerned."""
        self.process.kill()
        self.process.wait(LIMIT)

    def finish(self) -> str:
        """Wait for the end; return what was printed. A signal, an exit status or a hang fails the test."""
        try:
            out, err = self.process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            pytest.fail(f"the script hangs; so far it said:\n{out}\n{err}")
        assert self.process.returncode == 0, f"the script ended with {self.process.returncode}:\n{out}\n{err}"
        return out.strip()


@pytest.fixture
def start() -> Iterator[object]:
    """Start a script and go on: ``start(code, *arguments)``."""
    scripts: list[Script] = []

    def start_one(code: str, *arguments: str) -> Script:
        scripts.append(Script(code, *arguments))
        return scripts[-1]

    yield start_one
    for script in scripts:
        if script.process.poll() is None:
            script.process.kill()
        script.process.wait()
        for stream in (script.process.stdin, script.process.stdout, script.process.stderr):
            stream.close()


@pytest.fixture
def run(start):
    """Run a script to its end and return what it printed: ``run(code, *arguments)``."""

    def run_one(code: str, *arguments: str) -> str:
        return start(code, *arguments).finish()

    return run_one


@pytest.fixture
def path(tmp_path) -> str:
    """Where a store may be made."""
    return os.fspath(tmp_path / "store")


@pytest.fixture
def url(path) -> str:
    """The URL of an LMDB store at ``path``."""
    return f"lmdb:///{path}"
