"""SQLAlchemy's compliance suite on one database after another, beside plain SQLite, and the figures of all.

Usage: ``python tests/suite/run.py [DATABASE ...]``, the databases as in ``setup.cfg``.

Two lists say which tests run: our own (``requirements.py``), which plain SQLite gets too; and SQLAlchemy's, of what
SQLite can do, which kvdialect gets under SQLite's name. The second is taken from SQLAlchemy's sources, as pip downloads
them. The run fails where a test does, and where kvdialect skips more than SQLite does by the same list.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

import attrs
import sqlalchemy

HERE: Final = Path(__file__).resolve().parent

OURS: Final = "kvdialect's"
THEIRS: Final = "SQLAlchemy's"

DATABASES: Final = {
    "sqlite": OURS,
    "lmdb": OURS,
    "rocksdb": OURS,
    "aiolmdb": OURS,
    "sqlite_in_memory": THEIRS,
    "lmdb_as_sqlite": THEIRS,
    "rocksdb_as_sqlite": THEIRS,
}
"""The databases, and whose list says what they can do. The first of each list is the measure of the others."""


@attrs.frozen
class Figures:
    """How the tests of one database ended; ``failed`` counts errors too."""

    passed: int
    failed: int
    skipped: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("databases", nargs="*", metavar="DATABASE", help=f"of {', '.join(DATABASES)}; all by default")
    parser.add_argument("--directory", type=Path, help="where SQLAlchemy's sources are kept from run to run")
    options = parser.parse_args()
    if unknown := set(options.databases) - set(DATABASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(DATABASES)}")
    asked = set(options.databases) or set(DATABASES)
    chosen = [name for name in DATABASES if name in asked]
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        theirs = sqlalchemys_requirements(directory) if any(DATABASES[name] == THEIRS for name in chosen) else None
        figures = {}
        for name in chosen:
            say(f"{name} ...")
            figures[name] = run(name, theirs if DATABASES[name] == THEIRS else None, Path(temporary))
    return report(figures)


def sqlalchemys_requirements(directory: Path) -> Path:
    """The file ``test/requirements.py`` of the sources of the SQLAlchemy that is installed."""
    version = sqlalchemy.__version__
    path = directory / f"requirements-{version}.py"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        # Of SQLAlchemy alone: pip builds what it needs for its metadata from wheels.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "sqlalchemy"]
        subprocess.run([*pip, "--dest", str(directory), f"sqlalchemy=={version}"], check=True)
        [archive] = directory.glob(f"[sS][qQ][lL][aA]lchemy-{version}.tar.gz")
        with tarfile.open(archive) as sources:
            [member] = [name for name in sources.getnames() if Path(name).match("*/test/requirements.py")]
            path.write_bytes(sources.extractfile(member).read())
    return path


def run(name: str, requirements: Path | None, directory: Path) -> Figures:
    """Run the suite on one database, in a process of its own."""
    results = directory / f"{name}.xml"
    environment = {key: value for key, value in os.environ.items() if key != "KVDIALECT_SUITE_REQUIREMENTS"}
    if requirements is not None:
        environment["KVDIALECT_SUITE_REQUIREMENTS"] = str(requirements.resolve())
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:xdist", "--db", name, f"--junitxml={results}"],
        cwd=HERE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        say(done.stdout)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{name}: pytest ended with {done.returncode}")
    suites = list(ET.parse(results).getroot().iter("testsuite"))  # noqa: S314 - pytest wrote it
    total, failures, errors, skipped = (
        sum(int(suite.attrib[key]) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return Figures(total - failed - skipped, failed, skipped, seconds)


def report(figures: dict[str, Figures]) -> int:
    """Print the figures, and what is wrong with them; return the status to exit with."""
    say(f"\n{'database':18} {'requirements':12} {'passed':>6} {'failed':>6} {'skipped':>7} {'seconds':>7}")
    wrong = []
    for name, of in figures.items():
        whose = DATABASES[name]
        say(f"{name:18} {whose:12} {of.passed:6} {of.failed:6} {of.skipped:7} {of.seconds:7.0f}")
        if of.failed or not of.passed:
            wrong.append(f"{name}: {of.failed} tests failed, {of.passed} passed")
        measure = figures.get(next(other for other, list_ in DATABASES.items() if list_ == whose))
        if measure is not None and of.skipped > measure.skipped:
            wrong.append(f"{name}: {of.skipped} tests are skipped, of plain SQLite's {measure.skipped}")
    for line in wrong:
        say(line)
    return 1 if wrong else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
