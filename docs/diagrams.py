"""The diagrams of the documentation, as SVG that takes the theme's colours, so that it reads in light and in dark.

    python docs/diagrams.py

Writes ``docs/_figures/<name>.svg``, which pages include as they are. They are narrow and tall, for phones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import attrs

FIGURES: Final = Path(__file__).parent / "_figures"
WIDTH: Final = 400

# The variables are furo's; the colours behind them are for a file that is looked at by itself.
STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: var(--color-foreground-primary, #333); }
.name { font-weight: 600; }
.small { font-size: 11.5px; fill: var(--color-foreground-secondary, #555); }
.code { font: 11.5px ui-monospace, monospace; fill: var(--color-foreground-secondary, #555); }
.box { fill: var(--color-background-secondary, #f4f5f7); stroke: var(--color-foreground-border, #888); }
.store { fill: none; stroke: var(--color-foreground-border, #888); stroke-dasharray: 4 3; }
.line { stroke: var(--color-foreground-secondary, #555); stroke-width: 1.4; fill: none; }
.head { fill: var(--color-foreground-secondary, #555); }
.good { fill: #2da44e33; stroke: #2da44e; }
.bad { fill: #d1242f33; stroke: #d1242f; }
"""


@attrs.frozen
class Step:
    """A box of a walk: what is called, the module where it stands, and what it does, a line each."""

    name: str
    module: str
    does: Sequence[str]


@attrs.frozen
class Event:
    """Something that one of two transactions does; ``kind`` is ``"box"``, ``"good"`` or ``"bad"``."""

    lane: int
    lines: Sequence[str]
    kind: str = "box"


COMMIT: Final = (
    Step("Session.commit", "orm/session.py", ["events, then the last flush"]),
    Step(
        "UnitOfWork.flush",
        "orm/unitofwork.py",
        ["new, changed and deleted objects, by table;", "ids for new ones; each row, old and new"],
    ),
    Step(
        "write_rows",
        "store/writer.py",
        [
            "rows become keys, values and index entries,",
            "by code that schema/rows.py makes of codec/;",
            "duplicates show",
        ],
    ),
    Step(
        "Transaction.commit",
        "store/transaction.py",
        ["one WriteBatch: puts, deletes, counts, and", "what each record was when it was read"],
    ),
    Step(
        "backend.batch_write",
        "storage/",
        ["under the writer's lock: is all as expected?", "Then all of it, durable. Else ConflictError,", "and nothing"],
    ),
)

QUERY: Final = (
    Step("session.execute", "orm/statements.py", ["what needs joins goes to the SQL door, dialect/"]),
    Step(
        "read_statement, analyse",
        "query/statement.py, analysis.py",
        ["the statement's structure; what it asks.", "Known structures are not analysed again"],
    ),
    Step(
        "Planner.plan",
        "query/planner.py",
        [
            "the table and each index that can answer, with",
            "bounds, costed by statistics; the cheapest.",
            "Plans are kept",
        ],
    ),
    Step(
        "Node.chunks",
        "query/nodes.py, access.py, stages.py",
        ["the plan runs: scan, filter, sort, aggregate,", "a chunk at a time"],
    ),
    Step(
        "Transaction.scan, get",
        "store/transaction.py",
        ["the snapshot, with what is pending laid over it;", "if SERIALIZABLE, noted as read"],
    ),
    Step("snapshot.scan, multi_get", "storage/", ["one moment of all families"]),
)

ANOMALIES: Final = {
    "lost-update": [
        Event(0, ["reads cash: 100"]),
        Event(1, ["reads cash: 100"]),
        Event(0, ["cash = 110", "commit"], "good"),
        Event(1, ["cash = 120", "commit: ConflictError"], "bad"),
    ],
    "read-skew": [
        Event(0, ["reads cash: 100"]),
        Event(1, ["cash = 50, savings = 150", "commit"], "good"),
        Event(0, ["reads savings: 100,", "as its snapshot has it"], "good"),
    ],
    "write-skew": [
        Event(0, ["reads cash + savings:", "200, enough"]),
        Event(1, ["reads cash + savings:", "200, enough"]),
        Event(0, ["cash = -100", "commit"], "good"),
        Event(1, ["savings = -100", "commit", "SNAPSHOT: accepted", "SERIALIZABLE: Conflict"], "bad"),
    ],
    "phantom": [
        Event(0, ["reads Ann's accounts:", "two, one more is allowed"]),
        Event(1, ["reads Ann's accounts:", "two, one more is allowed"]),
        Event(0, ["adds bonds", "commit"], "good"),
        Event(1, ["adds stocks", "commit", "SNAPSHOT: accepted", "SERIALIZABLE: Conflict"], "bad"),
    ],
}

TITLES: Final = {
    "commit": "A commit, from the session down to the engine",
    "query": "A query, from the statement down to the engine, and its rows up again",
    "lost-update": "Lost update: the second of two that change one record is refused",
    "read-skew": "Read skew: a snapshot shows both accounts as of one moment",
    "write-skew": "Write skew: two that read the same and write different records",
    "phantom": "Phantom: two that count a range, and each add to it",
}


def walk(name: str, steps: Sequence[Step], last: str, back: str) -> str:
    """Boxes from the top to the bottom, an engine below them, and what comes back beside them."""
    parts = []
    top = 8
    for step in steps:
        height = 46 + 16 * len(step.does)
        parts.append(f'<rect class="box" x="8" y="{top}" width="340" height="{height}" rx="6"/>')
        parts.append(_text(20, top + 20, step.name, "name"))
        parts.append(_text(20, top + 37, step.module, "code"))
        parts += [_text(20, top + 55 + 16 * number, line, "small") for number, line in enumerate(step.does)]
        parts.append(_arrow(178, top + height, top + height + 22))
        top += height + 24
    parts.append(f'<rect class="store" x="8" y="{top}" width="340" height="34" rx="17"/>')
    parts.append(_text(178, top + 22, last, "name", middle=True))
    parts.append(f'<path class="line" d="M352 {top + 17} H376 V26 H356"/>')
    parts.append('<path class="head" d="M350 26 l8 -4 v8 z"/>')
    middle = (top + 17 + 26) // 2
    parts.append(
        f'<text class="small" text-anchor="middle" transform="translate(391 {middle}) rotate(-90)">'
        f"{escape(back)}</text>"
    )
    return _svg(name, top + 42, parts)


def timeline(name: str, events: Sequence[Event]) -> str:
    """Two transactions side by side, time from the top to the bottom."""
    parts = [_text(x, 20, f"transaction {number}", "name", middle=True) for number, x in ((1, 102), (2, 298))]
    rows = []
    top = 34
    for event in events:
        height = 14 + 17 * len(event.lines)
        rows.append((event, top, height))
        top += height + 12
    parts += [f'<path class="line" stroke-dasharray="3 4" d="M{x} 28 V{top}"/>' for x in (102, 298)]
    for event, at, height in rows:
        left = 8 if event.lane == 0 else 204
        # What is behind the line of time must not show through.
        parts.append(f'<rect class="box" x="{left}" y="{at}" width="188" height="{height}" rx="6"/>')
        if event.kind != "box":
            parts.append(f'<rect class="{event.kind}" x="{left}" y="{at}" width="188" height="{height}" rx="6"/>')
        parts += [_text(left + 94, at + 21 + 17 * n, line, middle=True) for n, line in enumerate(event.lines)]
    return _svg(name, top + 6, parts)


def _text(x: int, y: int, text: str, style: str = "", *, middle: bool = False) -> str:
    shape = f' class="{style}"' if style else ""
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text{shape} x="{x}" y="{y}"{anchor}>{escape(text)}</text>'


def _arrow(x: int, start: int, end: int) -> str:
    return (
        f'<path class="line" d="M{x} {start} V{end - 6}"/>'
        f'<path class="head" d="M{x} {end} l-4 -8 h8 z"/>'
    )  # fmt: skip


def _svg(name: str, height: int, parts: Sequence[str]) -> str:
    # Styles of an SVG within a page are the page's, so they are bound to this figure.
    style = "\n".join(f".kv-figure {rule}" for rule in STYLE.splitlines())
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="kv-figure" viewBox="0 0 {WIDTH} {height}" role="img"'
        f" aria-label={quoteattr(TITLES[name])}>\n<title>{escape(TITLES[name])}</title>\n<style>\n{style}\n</style>\n"
        f"{body}\n</svg>\n"
    )


def figures() -> dict[str, str]:
    """The text of each file, by its name."""
    drawn = {
        "commit": walk("commit", COMMIT, "RocksDB, LMDB or memory", "done, or ConflictError: objects as before"),
        "query": walk(
            "query", QUERY, "RocksDB, LMDB or memory", "chunks of keys and values; rows; objects (orm/loading.py)"
        ),
    }
    drawn |= {name: timeline(name, events) for name, events in ANOMALIES.items()}
    return drawn


if __name__ == "__main__":
    for name, text in figures().items():
        (FIGURES / f"{name}.svg").write_text(text, encoding="utf-8")
