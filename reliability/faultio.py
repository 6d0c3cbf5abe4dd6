"""The calls by which a process changes its files, seen from in front of the C library: recorded, failed, or its last.

``_io.c`` is compiled when a row needs it, and the row is then run in a process that was started with it loaded. There
each forked child says what is to become of its calls.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final

from kvdialect.storage.registry import load_backend
from reliability.scoreboard import Row

_LOADED: Final = "KVDIALECT_RELIABILITY_IO"
MINUTES: Final = "KVDIALECT_RELIABILITY_MINUTES"
Harness = Callable[[str, Path, int], Row]


class Fault(IntEnum):
    """What becomes of a call."""

    KILL_BEFORE = 1
    KILL_HALFWAY = 2
    KILL_AFTER = 3
    FAIL = 4
    FAIL_HALFWAY = 5


class Calls:
    """The calls of this process on the files below ``directory``, from now on.

    Syncs are answered at once: the process goes on as if they had been done.

    Args:
        directory: absolute, without symbolic links.
        record: where to write down each call, for :mod:`reliability.images`.
    """

    def __init__(self, directory: Path, record: Path | None = None) -> None:
        self._library = library = ctypes.CDLL(os.environ[_LOADED])
        library.iofaults_mark.argtypes = library.iofaults_room.argtypes = [ctypes.c_int64]
        library.iofaults_trip.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_int]
        library.iofaults_calls.restype = ctypes.c_int64
        library.iofaults_tripped.restype = ctypes.c_char_p
        library.iofaults_watch(os.fsencode(directory), os.fsencode(record) if record else None)

    def mark(self, number: int) -> None:
        """Write a number into the record, between the calls before and those to come."""
        self._library.iofaults_mark(number)

    def trip(self, at: int, fault: Fault, error: int = 0) -> None:
        """Let call number ``at``, counted from 0, end in a fault."""
        self._library.iofaults_trip(at, fault, error)

    def room(self, size: int | None) -> None:
        """Let files grow by ``size`` bytes altogether, then have no space left; None: as they like."""
        self._library.iofaults_room(-1 if size is None else size)

    @property
    def made(self) -> int:
        """How many there were."""
        return int(self._library.iofaults_calls())

    @property
    def tripped(self) -> str:
        """The call that was made to fail, or an empty text."""
        return os.fsdecode(self._library.iofaults_tripped())


def in_time(began: float) -> bool:
    """Whether a row that began at this moment of the monotonic clock may begin another try."""
    return time.monotonic() - began < 60 * float(os.environ.get(MINUTES, "inf"))


def needs_calls(number: int, name: str) -> Callable[[Harness], Harness]:
    """Let a harness run in a process whose calls are seen, and say so where that cannot be."""

    def decorate(harness: Harness) -> Harness:
        @functools.wraps(harness)
        def run(engine: str, folder: Path, tries: int) -> Row:
            if _LOADED in os.environ:
                load_backend(engine)  # here, as else each forked process would import it
                return harness(engine, folder.resolve(), tries)
            compiler = shutil.which(os.environ.get("CC", "cc"))
            if compiler is None or sys.platform != "linux":
                lacking = "Linux" if sys.platform != "linux" else "a C compiler (cc)"
                return Row(number, f"{name}: not run, as it needs {lacking}", engine, 0)
            with tempfile.TemporaryDirectory(prefix="kvdialect-reliability-io-") as made:
                return _apart(compiler, Path(made), number, engine, tries)

        return run

    return decorate


def _apart(compiler: str, made: Path, number: int, engine: str, tries: int) -> Row:
    """Run a row of the scoreboard in a process that has the library loaded."""
    library, board = made / "io.so", made / "board.json"
    source = Path(__file__).with_name("_io.c")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-pthread"]
    subprocess.run(command, check=True)
    again = [sys.executable, "-m", "reliability", "--row", str(number), "--engine", engine]
    again += ["--tries", str(tries), "--json", str(board)]
    environment = {**os.environ, "LD_PRELOAD": str(library), _LOADED: str(library)}
    done = subprocess.run(again, env=environment, stdout=subprocess.DEVNULL, check=False)
    if not board.exists():
        raise SystemExit(f"row {number} ended with status {done.returncode}; see above")
    [row] = json.loads(board.read_text())["rows"]
    return Row(**row)
