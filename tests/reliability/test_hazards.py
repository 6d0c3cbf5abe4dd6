"""The list of guards that row 12 removes: each stands where it says, and the tests that must notice are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kvdialect
from reliability.hazards import GUARDS

PACKAGE, TESTS = Path(kvdialect.__file__).parent, Path(__file__).parents[1]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.hazard}: {guard.what}")
def test_a_guard_stands_where_it_says(guard):
    """One that has moved would end the row, after an hour."""
    source = (PACKAGE / guard.file).read_text()
    assert source.count(guard.old) == 1
    assert guard.new != guard.old
    compile(source.replace(guard.old, guard.new), guard.file, "exec")
    for test in guard.tests:
        file, name = test.split("::")
        assert re.search(rf"^def {name.partition('[')[0]}\(", (TESTS / file).read_text(), re.MULTILINE), test
