"""Tools of the RocksDB hazards: stores that are always closed, and other processes that never outlive their test."""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvdialect import open_backend
from kvdialect.storage import StorageBackend

Open = Callable[..., StorageBackend]

PRELUDE = """\
import gc, os, signal, sys, time, threading
from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import WriteBatch
URL = sys.argv[1]
def say(*words):
    print(*words, flush=True)
def failure(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except BaseException as error:
        return type(error).__name__
    return "nothing"
"""
PATIENCE = 60.0
"""Seconds after which another process counts as hanging."""


class Process:
    """Another Python process that runs ``code`` on the store, after a prelude with ``URL``, ``say`` and ``failure``."""

    def __init__(self, url: str, code: str) -> None:
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed with the process
        self.native = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + textwrap.dedent(code), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        # A thread reads, as waiting for the pipe would not see the lines that are in Python's buffer already.
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.native.stdout is not None
        for line in self.native.stdout:
            self.lines.put(line.strip())
        self.lines.put(None)

    @property
    def pid(self) -> int:
        return self.native.pid

    def line(self) -> str:
        """The next line that it says."""
        line = self.lines.get(timeout=PATIENCE)
        assert line is not None, "the other process ended"
        return line

    def go_on(self) -> None:
        """Let it go on behind its ``input()``."""
        assert self.native.stdin is not None
        self.native.stdin.write("\n")
        self.native.stdin.flush()

    def finish(self) -> list[str]:
        """Wait for a good end; return the lines that are left."""
        left = self._left()
        assert self.native.returncode == 0, f"exit {self.native.returncode}: {self.said_wrong()}"
        return left

    def kill(self) -> list[str]:
        """End it as a crash does; return the lines that are left."""
        self.native.kill()
        return self._left()

    def _left(self) -> list[str]:
        left = list(iter(lambda: self.lines.get(timeout=PATIENCE), None))
        self.native.wait(timeout=PATIENCE)
        return left

    def said_wrong(self) -> str:
        """What it has written to its standard error."""
        self.errors.seek(0)
        return self.errors.read()

    def close(self) -> None:
        """Kill it if it still runs, and close its files."""
        if self.native.poll() is None:
            self.kill()
        self.reader.join(timeout=PATIENCE)
        for file in (self.native.stdin, self.native.stdout, self.errors):
            assert file is not None
            file.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a store that does not exist yet."""
    return f"rocksdb:///{tmp_path / 'store'}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The directory of that store."""
    return tmp_path / "store"


@pytest.fixture
def store(url: str) -> Iterator[Open]:
    """Open the store of ``url``, with families "a" and "b" and options as given; closed at the end."""
    opened: list[StorageBackend] = []

    def open_store(*args: Any, **options: Any) -> StorageBackend:
        backend = open_backend(url, *(args or (["a", "b"],)), **options)
        opened.append(backend)
        return backend

    yield open_store
    for backend in opened:
        backend.close()


@pytest.fixture
def process(url: str) -> Iterator[Callable[[str], Process]]:
    """Start another process on ``url``; killed at the end if need be."""
    started: list[Process] = []

    def start(code: str) -> Process:
        started.append(Process(url, code))
        return started[-1]

    yield start
    for other in started:
        other.close()
