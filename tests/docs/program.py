"""The Python of pages as programs: ``python tests/docs/program.py DIRECTORY docs/tutorial.md README.md``.

``tox -e types`` gives these to mypy and pyright: a reader's checker must take what the page says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from test_code_blocks import blocks

HEADER = (
    # What a page does for its reader and a program would not: a class mapped again in its new form, and a message kept
    # of the error that was just caught.
    '# mypy: disable-error-code="no-redef, possibly-undefined"',
    "# pyright: reportRedeclaration=false, reportPossiblyUnboundVariable=false",
)


def program(page: Path) -> str:
    """The blocks of a page, each on the lines that it has there, so that a checker names the page's own lines."""
    lines: list[str] = list(HEADER)
    for block in blocks(page.read_text("utf-8")):
        code = block.lstrip("\n")
        start = len(block) - len(code)
        if start < len(lines):
            raise ValueError(f"{page} has code above line {len(lines) + 1}, where settings of the checkers stand")
        lines += [""] * (start - len(lines))
        lines += code.splitlines()
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    directory, *pages = map(Path, sys.argv[1:])
    directory.mkdir(parents=True, exist_ok=True)
    for page in pages:
        target = directory / f"{page.stem.lower()}.py"
        target.write_text(program(page), "utf-8")
