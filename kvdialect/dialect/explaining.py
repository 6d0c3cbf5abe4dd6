"""EXPLAIN QUERY PLAN in words: which key or index of a table SQLite reads, as the paths of this store have it.

SQLite knows a virtual table's plan by a number. What was chosen for it is noted while the statement is planned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kvdialect.dialect.access import Plan

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

_VIRTUAL: Final = re.compile(r"(?:SCAN|SEARCH) (.+) VIRTUAL TABLE INDEX (\d+):\S*")


def explained(connection: Connection, sql: str) -> list[str]:
    """The plan of a statement as a tree of text, line by line; it is not run.

    Raises:
        Error: if the statement cannot be planned.
    """
    plans: list[Plan] = []
    connection.explained = plans
    try:
        cursor = connection.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        rows = cursor.fetchall()
    finally:
        connection.explained = None
    steps: dict[int, list[tuple[int, str]]] = {}
    for step, parent, _, text in rows:
        steps.setdefault(parent, []).append(
            (step, _VIRTUAL.sub(lambda match: f"READ {match[1]}: {_way(plans[int(match[2])])}", text))
        )
    return list(_tree(steps, 0, ""))


def _tree(steps: dict[int, list[tuple[int, str]]], parent: int, indent: str) -> Iterator[str]:
    below = steps.get(parent, [])
    for number, (step, text) in enumerate(below):
        last = number == len(below) - 1
        if indent or parent:
            yield f"{indent}{'└─ ' if last else '├─ '}{text}"
            yield from _tree(steps, step, indent + ("   " if last else "│  "))
        else:
            yield text
            yield from _tree(steps, step, "")


def _way(plan: Plan) -> str:
    """Which path a plan reads, and how much of it."""
    path, columns = plan.path, plan.relation.columns
    if plan.matched:
        looked_up = " AND ".join(f"{columns[position].name} = ?" for position, _ in plan.matched)
        return f"rows by an automatic index ({looked_up})"
    names = ["rowid" if position < 0 else columns[position].name for position in path.positions]
    what = "the primary key" if path.primary else f"index {path.name}"
    tests = [f"{name} = ?" for name, _ in zip(names, plan.equals, strict=False)]
    following = names[len(plan.equals)] if len(plan.equals) < len(names) else None
    if following is not None:
        if plan.low is not None:
            tests.append(f"{following} {'>=' if plan.low else '>'} ?")
        if plan.high is not None:
            tests.append(f"{following} {'<=' if plan.high else '<'} ?")
        if plan.not_null:
            tests.append(f"{following} NOT NULL")
    found = "one row by" if plan.point else "rows by" if tests else "all rows by"
    shown = f" ({' AND '.join(tests)})" if tests else ""
    return f"{found} {what}{shown}{', backwards' if plan.reverse else ''}"


__all__ = ["explained"]
