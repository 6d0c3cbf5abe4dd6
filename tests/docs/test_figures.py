"""Figures of the documentation that are drawn by a program: what is committed is what it draws."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "_figures"
DIAGRAMS = runpy.run_path(str(ROOT / "docs" / "diagrams.py"))
DRAWN = DIAGRAMS["figures"]()


@pytest.mark.parametrize("name", DRAWN)
def test_a_diagram_is_as_its_program_draws_it(name):
    """Run ``python docs/diagrams.py`` after a change to it, and look at the pages."""
    text = (FIGURES / f"{name}.svg").read_text("utf-8")

    assert text == DRAWN[name]
    assert ET.fromstring(text).get("aria-label")  # noqa: S314 - our own file


@pytest.mark.parametrize("walk", ["COMMIT", "QUERY"])
def test_a_diagram_names_modules_that_exist(walk):
    """A module that was renamed or moved must be so in the diagrams of commit and query too."""
    for step in DIAGRAMS[walk]:
        folder, _, names = step.module.partition("/")
        for name in filter(None, names.split(", ")):
            assert (ROOT / "kvdialect" / folder / name).is_file(), step.module
        assert (ROOT / "kvdialect" / folder).is_dir()


def test_the_engines_side_by_side_are_of_the_last_results():
    """Run ``python benchmarks/engines.py`` after a full run of the benchmarks."""
    table = runpy.run_path(str(ROOT / "benchmarks" / "engines.py"))["table"]
    results = [
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text()) for name in ("peers", "threads")
    ]

    assert (FIGURES / "engines.md").read_text("utf-8") == table(*results)
