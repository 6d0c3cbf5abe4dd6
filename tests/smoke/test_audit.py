"""``tox -e audit``: what it says of an answer of pip-audit, with one in its place that gives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit.py"

pytestmark = pytest.mark.skipif(not AUDIT.exists(), reason="the sdist has no .ci; a checkout has it")

PACKAGE = {"name": "msgspec", "version": "0.1", "vulns": []}
BAD = {"name": "attrs", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"], "aliases": []}]}
UNKNOWN = {"name": "lmdb", "skip_reason": "not found"}


@pytest.fixture
def audit(tmp_path):
    """Run the audit with a pip-audit that prints this and ends so."""

    def run(out, error="", status=0):
        (tmp_path / "pip_audit.py").write_text(
            f"import sys; sys.stdout.write({out!r}); sys.stderr.write({error!r}); sys.exit({status})"
        )
        environment = {**os.environ, "PYTHONPATH": os.fspath(tmp_path)}
        return subprocess.run([sys.executable, AUDIT], env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    "error",
    ["requests.exceptions.ConnectionError: Max retries exceeded", "ServiceError", "Tip: your network may be blocking"],
)
def test_a_service_that_cannot_be_reached_is_no_failure(audit, error):
    """Offline every change would fail, or pass without a word."""
    done = audit("", error, 1)

    assert done.returncode == 0
    assert "not audited" in done.stdout


def test_a_service_that_knows_nothing_is_said(audit):
    """An index without advisories looked like a clean audit."""
    done = audit(json.dumps({"dependencies": [UNKNOWN], "fixes": []}))

    assert done.returncode == 0
    assert "not audited" in done.stdout


@pytest.mark.parametrize("status", [0, 1])
def test_a_vulnerability_fails(audit, status):
    """What pip-audit has found went by."""
    done = audit(json.dumps({"dependencies": [PACKAGE, BAD, UNKNOWN], "fixes": []}), status=status)

    assert done.returncode == 1
    assert "attrs 1: PYSEC-1, mended in 2" in done.stdout


def test_a_clean_audit_passes(audit):
    done = audit(json.dumps({"dependencies": [PACKAGE], "fixes": []}))

    assert done.returncode == 0
    assert "1 packages audited, 0 vulnerabilities" in done.stdout


def test_another_failure_of_pip_audit_fails(audit):
    """An audit that could not run, for reasons of its own, counted as one."""
    done = audit("", "usage: pip-audit: error: unrecognized arguments", 2)

    assert done.returncode == 1
