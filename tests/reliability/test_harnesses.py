"""The harnesses of ``python -m reliability`` in short: what they promise holds, and each notices a planted fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRIES = {1: 12, 2: 12, 3: 6, 5: 1, 6: 900, 7: 600, 8: 4, 11: 1500, 12: 1}
SEES_CALLS = (2, 3, 5)
ELSEWHERE = {(3, "rocksdb"), (8, "lmdb"), (12, "rocksdb")}
"""What takes its time on one engine, and is run on the other by default."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the harnesses fork")


@pytest.mark.parametrize("row", TRIES)
def test_a_row_of_the_scoreboard(row, engine_name, tmp_path):
    """Run as a user does, in a process of its own: the harnesses fork, which a process with open stores should not."""
    if (engine_name == "memory" and row != 6) or (row == 11 and engine_name != "lmdb"):
        pytest.skip("a memory store ends with its process, and only LMDB has a map")
    if (row, engine_name) in ELSEWHERE:
        pytest.skip(f"run by default on the other engine; here by python -m reliability --row {row}")
    if row == 5 and engine_name != "lmdb":
        pytest.skip("RocksDB looks for room every five seconds; run it with python -m reliability --row 5 --quick")
    if row in SEES_CALLS and (sys.platform != "linux" or shutil.which(os.environ.get("CC", "cc")) is None):
        pytest.skip("it compiles a library that Linux loads in front of the C library; run it where there is cc")
    board = tmp_path / "board.md"
    command = [sys.executable, "-m", "reliability", "--row", str(row), "--engine", engine_name]
    command += ["--tries", str(TRIES[row]), "--markdown", str(board)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "held" in done.stdout
    assert "**no**" not in board.read_text()


AT_THE_END = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from reliability import lifetimes
folder = Path(sys.argv[1])
whole = lifetimes._made("rocksdb", folder / "whole")
def ended(number):
    event = "in a thread's use at the program's end"
    return lifetimes._tried("rocksdb", whole, folder / f"case {number}", "session", event)
with ThreadPoolExecutor(3) as pool:
    print(*sorted(set(pool.map(ended, range(9)))))
"""


@pytest.mark.engine("rocksdb")
def test_daemon_threads_do_not_abort_the_program_at_its_end(tmp_path):
    """A thread in the driver as the interpreter ended was unwound by force: one program in eight, on a busy machine."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", AT_THE_END, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"right", "typed"}, done.stdout
