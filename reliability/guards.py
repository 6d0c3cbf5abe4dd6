"""Row 12: the guards against what the engines' drivers do, removed one at a time.

For each hazard that was seen by experiment there is a guard in the code, and a test that holds it: a test that would
pass without its guard holds nothing. So the package and its tests are copied, one guard is replaced by what a
programmer who does not know the hazard would have written, and the tests of that guard run on the copy: one must fail,
crash or hang. On the copy as it is all must pass.
"""

from __future__ import annotations

import compileall
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import kvdialect
from reliability.hazards import GUARDS, Guard
from reliability.scoreboard import Row

ROOT = Path(__file__).parents[1]
_COPIED = ("kvdialect", "tests", "pyproject.toml")
_PATIENCE = 90  # seconds; the tests of one guard take a few
_PATIENCE_WHOLE = 900
_FAILED = 1  # of pytest's exit codes
_NOTHING_CHANGED = Guard(0, "a change that removes nothing", "", "", "", ())


def run(engine: str, folder: Path, tries: int, seed: int = 1) -> Row:
    """Remove guards, and count those whose removal no test has noticed."""
    began = time.monotonic()
    guards = [guard for guard in GUARDS if engine in guard.engines]
    if tries < len(guards):
        guards = random.Random(seed).sample(guards, tries)  # noqa: S311 - so that a run can be done again
    row = Row(12, "guards removed one at a time", engine, len(guards))
    row.counts = dict.fromkeys(("hazards", "failed tests", "hangs"), 0)
    row.counts["hazards"] = len({guard.hazard for guard in guards})
    tree = _copy_of(ROOT, folder / "tree")
    code, said = _tests(tree, sorted({test for guard in guards for test in guard.tests_on(engine)}), _PATIENCE_WHOLE)
    if code != 0 or "skipped" in said:
        row.violations.append(f"with all guards in place the tests do not all pass: {said[-2000:]}")
        return row
    for guard in guards:
        outcome = _without(tree, guard, guard.tests_on(engine))
        if outcome is None:
            row.violations.append(f"hazard {guard.hazard}, {guard.what}: no test has noticed that it was removed")
        elif outcome in row.counts:
            row.counts[outcome] += 1
        else:
            row.violations.append(f"hazard {guard.hazard}, {guard.what}: {outcome}")
    quickest = guards[0].tests_on(engine)
    row.control[_NOTHING_CHANGED.what] = _outcome(*_tests(tree, quickest, _PATIENCE)) is None
    row.control["a guard that is not where it was"] = "matches 0 times" in str(
        _without(tree, Guard(0, "", guards[0].file, "no such code", "", ()), quickest)
    )
    row.seconds = time.monotonic() - began
    return row


def _copy_of(root: Path, tree: Path) -> Path:
    """What the tests need, in a directory of its own."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in _COPIED:
        source = root / name if name != "kvdialect" else Path(kvdialect.__file__).parent  # compiled, if it is
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=ignored)
        else:
            shutil.copyfile(source, tree / name)
    compileall.compile_dir(tree / "kvdialect", quiet=1)
    return tree


def _without(tree: Path, guard: Guard, tests: Iterable[str]) -> str | None:
    """What the tests say with a guard removed; None: they all pass."""
    file = tree / "kvdialect" / guard.file
    whole = file.read_text()
    if (found := whole.count(guard.old)) != 1:
        return f"what is to be removed matches {found} times in {guard.file}; see reliability/hazards.py"
    file.write_text(whole.replace(guard.old, guard.new))
    try:
        compile(file.read_text(), guard.file, "exec")
        outcome = _outcome(*_tests(tree, tests, _PATIENCE))
    except SyntaxError as error:
        return f"without it {guard.file} is no Python: {error}"
    finally:
        file.write_text(whole)
    if outcome == "hangs" and _outcome(*_tests(tree, tests, _PATIENCE)) is not None:
        return "the tests hang with it too: the machine is too slow to tell"
    return outcome


def _outcome(code: int | None, said: str) -> str | None:
    if code is None:
        return "hangs"
    if code == 0:
        return "the tests were skipped" if "skipped" in said else None
    # A negative code is a signal: the process of the tests itself has crashed.
    return "failed tests" if code == _FAILED or code < 0 else f"the tests did not run: {said[-1000:]}"


def _tests(tree: Path, tests: Iterable[str], patience: int) -> tuple[int | None, str]:
    """Run tests on a tree; a code of None says that they did not end in time."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", str(patience)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": os.fspath(tree), "PYTHONDONTWRITEBYTECODE": "1"}  # a stale one would hide a removal
    process = subprocess.Popen(
        [*command, *tests],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # what the tests have started too
        said, _ = process.communicate()
        return None, said
    return process.returncode, said
