"""Explain: a plan's nodes as a tree of text."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from kvdialect.query.nodes import Limit, Node, Rows, Run
from kvdialect.query.planner import Plan


@attrs.frozen
class Explanation:
    """A plan in words; ``str()`` gives the tree.

    Attributes:
        lines: the tree, line by line.
        rows: of the table, when the plan was made.
    """

    lines: tuple[str, ...]
    rows: int

    def __str__(self) -> str:
        return "\n".join(self.lines)


def explain(plan: Plan, run: Run) -> Explanation:
    """Explain a plan; with the figures of ``run`` if it was measured."""
    return Explanation(tuple(_lines(plan.root, run, "", "")), plan.rows)


def _lines(node: Node, run: Run, first: str, rest: str) -> Iterator[str]:
    """The lines of a node and those below it, indented."""
    shown = node
    details = node.details()
    if isinstance(node, Rows):
        # What is done to the rows of an access stands at the access.
        shown = node.children[0]
        details = [*shown.details(), *details]
    yield f"{first}{_title(shown, run)}{_figures(node, shown, run)}"
    children = shown.children
    stem = "│  " if children else "   "
    for detail in details:
        yield f"{rest}{stem}{detail}"
    for number, child in enumerate(children):
        last = number == len(children) - 1
        yield from _lines(child, run, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _title(node: Node, run: Run) -> str:
    title = node.title()
    if isinstance(node, Limit):
        for number in (node.limit, node.offset):
            if number is not None:
                title = title.replace(f"?{number + 1}", str(run.params[number]), 1)
    return title


def _figures(node: Node, shown: Node, run: Run) -> str:
    estimate = node.estimate if node.estimate is not None else shown.estimate
    text = f"  estimated rows: {max(0, round(estimate))}" if estimate is not None and not shown.children else ""
    if run.figures is None:
        return text
    figures = run.of(node)
    text += f"  actual rows: {figures.rows}"
    if read := run.of(shown).read:
        text += f"  entries read: {read}"
    return f"{text}  time: {figures.seconds * 1000:.3f} ms"
