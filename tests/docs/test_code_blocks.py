"""The Python of the documentation: every block runs as it stands, page by page, in a directory of its own.

A block behind ``<!-- needs package -->`` shows the use of a package that the tests do not bring: it runs where that is
installed.
"""

from __future__ import annotations

import importlib.util
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^( *)(```+)python\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
ANY_FENCE = re.compile(r"^[ >]*```+ *\{?(?:py|code)", re.MULTILINE)
ENGINES = re.compile(r"\b(lmdb|rocksdb)://")
PROGRAMS = re.compile(r"^import (pandas|polars|pyarrow)\b", re.MULTILINE)


def blocks(text: str) -> Iterator[str]:
    """Yield each block, below as many empty lines as stand before it: so a traceback names the page's own line."""
    for match in FENCE.finditer(text):
        yield "\n" * text.count("\n", 0, match.start(3)) + textwrap.dedent(match[3])


NEEDS = re.compile(r"<!-- needs ([\w.]+) -->\s*\Z")


def runnable(text: str) -> Iterator[str]:
    """Yield those blocks whose packages are installed."""
    for match, code in zip(FENCE.finditer(text), blocks(text), strict=True):
        needs = NEEDS.search(text[: match.start()])
        if needs is None or importlib.util.find_spec(needs[1].partition(".")[0]) is not None:
            yield code


def pages_with_code() -> list[object]:
    found = []
    for page in PAGES:
        code = "".join(blocks(page.read_text("utf-8")))
        if code:
            marks = [pytest.mark.engine(name) for name in sorted(set(ENGINES.findall(code)))]
            found.append(pytest.param(page, id=page.relative_to(ROOT).as_posix(), marks=marks))
    return found


@pytest.mark.parametrize("page", pages_with_code())
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """A page's blocks run in order, as a reader would type them; its asserts are what the page claims."""
    for program in PROGRAMS.findall(page.read_text("utf-8")):
        pytest.importorskip(program, reason=f"the group programs brings {program}")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    for code in runnable(page.read_text("utf-8")):
        # A reader's file does not have this file's ``from __future__`` lines.
        exec(compile(code, page, "exec", dont_inherit=True), namespace)  # noqa: S102 - our own documentation


def test_the_pages_that_show_code_are_found():
    """A fence that the pattern misses would leave a page untested."""
    for page in PAGES:
        text = page.read_text("utf-8")
        assert len(ANY_FENCE.findall(text)) == len(list(blocks(text))), page


def test_a_block_runs_where_its_package_is():
    """A package that is missing leaves out the block that needs it, and no other."""
    page = "```python\n1\n```\n\n{}\n```python\n2\n```\n\n{}\n```python\n3\n```\n"
    page = page.format("<!-- needs no_such_package -->", "<!-- needs pytest -->")

    assert [code.strip() for code in runnable(page)] == ["1", "3"]


def test_a_block_keeps_its_line_number():
    """The error of a block must point into the page and not into the block."""
    (code,) = blocks("# Title\n\n```python\n1 / 0\n```\n")

    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile(code, "page.md", "exec"), {})  # noqa: S102
    assert caught.tb.tb_next.tb_lineno == 4
