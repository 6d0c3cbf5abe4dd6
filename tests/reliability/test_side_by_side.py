"""``python -m reliability --jobs``: rows in processes of their own, several at a time."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest

from reliability import __main__ as command

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the harnesses fork")


@pytest.mark.engine("lmdb")
def test_rows_run_side_by_side_come_back_in_order(tmp_path, capfd):
    board = tmp_path / "board.json"
    arguments = ["--jobs", "2", "--row", "11", "--row", "7", "--engine", "lmdb", "--tries", "1200"]
    assert command.main([*arguments, "--json", str(board)]) == 0
    rows = json.loads(board.read_text())["rows"]
    assert [(row["number"], row["engine"]) for row in rows] == [(7, "lmdb"), (11, "lmdb")]
    assert all(row["control"] and all(row["control"].values()) for row in rows)
    assert capfd.readouterr().out.count("held") == 2


@pytest.mark.engine("lmdb")
def test_a_harness_that_breaks_is_a_violation(monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert command.main(["--jobs", "2", "--row", "7", "--engine", "lmdb"]) == 1
    said = capfd.readouterr()
    assert "7 a harness that broke, lmdb: 0 tried, 1 VIOLATIONS" in said.out
    assert "ended with 1 and no figures" in said.err
