"""The differential fuzz of the SQL door against the standard library's sqlite3.

A short one by default; ``tox -e sql-fuzz`` plays 50,000 statements on each engine. A difference is reported with its
seed and the fewest steps that were found to lead to it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from fuzz_grammar import Grammar
from fuzz_play import KNOWN, Difference, Play, Step, replay, script, shrunk

# Of the standard library's sqlite3 on 3.12, where the sequence for ?1 is meant as it is.
pytestmark = pytest.mark.filterwarnings("ignore:Binding .* is a named parameter:DeprecationWarning")

STATEMENTS = int(os.environ.get("KVDIALECT_SQL_FUZZ_STATEMENTS", "400"))
SEED = int(os.environ.get("KVDIALECT_SQL_FUZZ_SEED", "1"))
SHRINK_SECONDS = float(os.environ.get("KVDIALECT_SQL_FUZZ_SHRINK_SECONDS", "30"))
EPISODE = 200
DOCUMENTED = Path(__file__).parents[2] / "docs" / "sql.md"


def walk(engine_name: str, seed: int, count: int) -> Counter[str]:
    """Play so many steps; what was done, by first word, and with what outcome."""
    grammar = Grammar(seed)
    seen: Counter[str] = Counter()
    with Play(engine_name) as play:
        for _ in range(count):
            step = grammar.next()
            outcome = play.step(step)
            grammar.told(step, outcome)
            seen[f"{step.sql.split(maxsplit=1)[0]} {outcome.error or 'done'}"] += 1
        play.check()
    return seen


@pytest.mark.timeout(36000)
def test_the_sql_door_does_what_sqlite_does(engine_name):
    """Rows, counts, errors and their words must be those of sqlite3, but for the differences in docs/sql.md."""
    seen: Counter[str] = Counter()
    for episode in range(-(-STATEMENTS // EPISODE)):
        seed = SEED + episode
        try:
            seen += walk(engine_name, seed, min(EPISODE, STATEMENTS))
        except Difference as difference:
            smallest = shrunk(engine_name, difference, SHRINK_SECONDS)
            pytest.fail(f"seed {seed}, step {len(difference.steps)}: {script(smallest)}", pytrace=False)

    assert seen["SELECT done"] > STATEMENTS // 20
    assert seen["INSERT done"] > STATEMENTS // 20


def test_the_grammar_reaches_everything():
    """A grammar whose statements mostly fail, or never fail, proves little."""
    seen = sum((walk("sqlite3", seed, EPISODE) for seed in range(30)), Counter())

    done = sum(count for what, count in seen.items() if what.endswith("done"))
    assert done > 0.7 * seen.total()
    for word in ("ALTER", "CREATE", "DELETE", "DROP", "PRAGMA", "REPLACE", "SAVEPOINT", "UPDATE", "WITH"):
        assert seen[f"{word} done"] > 5, word
    assert seen["INSERT IntegrityError"] > 50
    assert seen["UPDATE IntegrityError"] > 5
    assert seen["COMMIT IntegrityError"] > 0


def test_the_same_seed_takes_the_same_steps():
    """A reported seed must lead to the same steps again."""

    def steps() -> list[Step]:
        grammar, taken = Grammar(3), []
        with Play("sqlite3") as play:
            for _ in range(100):
                taken.append(grammar.next())
                grammar.told(taken[-1], play.step(taken[-1]))
        return taken

    assert steps() == steps()


@pytest.mark.engine("memory")
def test_a_difference_is_found_and_shrunk(monkeypatch):
    """What sqlite3 does otherwise must be seen, and be reported with no more than the steps that it needs."""
    steps = [
        Step("CREATE TABLE t (a INTEGER, b TEXT)"),
        Step("INSERT INTO t VALUES (1, 'x'), (2, 'y')"),
        Step("SELECT * FROM t"),
        Step("COMMIT"),
        Step("INSERT INTO t VALUES (3, 'z')"),
        Step("SELECT a FROM t WHERE b = 'x'"),
    ]
    assert replay("memory", steps) is None
    compared = Play._rows
    monkeypatch.setattr(
        Play, "_rows", lambda play, step, left, right: compared(play, step, [row for row in left if row[0] != 3], right)
    )

    difference = replay("memory", [*steps, Step("SELECT a FROM t")])
    assert difference is not None
    smallest = shrunk("memory", difference, 30)

    assert [step.sql.split()[0] for step in smallest.steps] == ["CREATE", "INSERT", "SELECT"]
    assert "only sqlite3 has [(('int', 3)" in script(smallest)


def test_known_differences_are_documented():
    """The table in the code and the one in the docs must name the same differences."""
    section = DOCUMENTED.read_text("utf-8").split("## Differences from SQLite", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)

    for known in KNOWN:
        assert any(cell.startswith(known.documented) for cell in cells), known.documented
