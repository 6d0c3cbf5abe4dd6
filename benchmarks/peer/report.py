"""Figures of all passes to medians, ratios and tables."""

from __future__ import annotations

import statistics
from typing import Any

from peer.worker import peer_class

ORM = "sqlalchemy-orm"

OPERATIONS = {
    "get": ("get", "µs", 1e6),
    "new_session_get": ("session + get", "µs", 1e6),
    "lookup": ("lookup of 20", "µs", 1e6),
    "lookup_select": ("by select()", "µs", 1e6),
    "range": ("range of 1,000", "ms", 1e3),
    "range_select": ("by select()", "ms", 1e3),
    "range_covered": ("covered", "ms", 1e3),
    "scan": ("scan, a record", "µs", 1e6),
    "scan_select": ("by select()", "µs", 1e6),
    "attribute_read": ("attribute read", "ns", 1e9),
    "attribute_write": ("write", "ns", 1e9),
    "ingest_durable": ("ingest, a block", "ms", 1e3),
    "update_durable": ("update + commit", "µs", 1e6),
    "ingest_relaxed": ("ingest, a block", "ms", 1e3),
    "update_relaxed": ("update + commit", "µs", 1e6),
}
"""What a column is called, its unit, and how many of that are in a second."""

READS = {
    "Reads of some records. Times of one operation.": list(OPERATIONS)[:7],
    "Reads of all records, and attributes of objects that were read.": list(OPERATIONS)[7:11],
}
WRITES = {
    "Durable: a commit has reached the disk when it returns.": ["ingest_durable", "update_durable"],
    "Not durable: a commit is atomic, and a power cut can undo it.": ["ingest_relaxed", "update_relaxed"],
}

SAME = {"lookup_select": "lookup", "range_select": "range", "scan_select": "scan"}
"""What a statement is compared with, where the other side has only one way."""

HAND_WRITTEN_TARGETS = {
    "kvdialect-lmdb": {
        "get": 1.4,
        "new_session_get": 2.5,
        "lookup": 1.3,
        "lookup_select": 1.7,
        "range": 1.4,
        "scan": 1.4,
        "ingest_durable": 1.4,
        "ingest_relaxed": 1.3,
        "update_durable": 1.3,
    },
    "kvdialect-lmdb-nochecksum": {"get": 1.2, "scan": 1.1},
    "kvdialect-rocksdb": {
        "get": 1.2,
        "new_session_get": 1.8,
        "lookup": 1.3,
        "lookup_select": 1.6,
        "range": 1.2,
        "scan": 1.1,
        "ingest_durable": 1.4,
        "ingest_relaxed": 1.5,
        "update_durable": 1.2,
    },
}
"""At most so many times the time of hand-written code."""

ORM_TARGETS = {
    "kvdialect-lmdb": {
        "get": 50,
        "lookup": 5,
        "range": 4,
        "range_covered_objects": 10,
        "scan": 10,
        "ingest_durable": 3,
    },
    "kvdialect-rocksdb": {
        "get": 25,
        "lookup": 3,
        "range": 2,
        "range_covered_objects": 10,
        "scan": 10,
        "ingest_durable": 8,
    },
}
"""At least so many times as fast as SQLAlchemy's ORM on SQLite. ``range_covered_objects`` sets the two columns from the
covering index beside the ORM's range of objects; ``range_covered`` beside the same two columns by the ORM."""


def medians(passes: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Return the median of each operation of each peer over its passes. Of slices of an ingest it is the mean."""
    return {
        name: {
            operation: (statistics.fmean if operation.startswith("ingest") else statistics.median)(values)
            for operation, values in operations.items()
        }
        for name, operations in passes.items()
    }


def ratio(passes: dict[str, Any], above: tuple[str, str], below: tuple[str, str]) -> float | None:
    """Return the median over the passes of the ratio of two operations, each ``(peer, operation)``, in one pass.

    The machine's speed changes within minutes; what is divided here ran within one of them. Slices of an ingest are
    longer the later they are, and the ratio is that of the sums.
    """
    upper, lower = (passes.get(peer, {}).get(operation) for peer, operation in (above, below))
    if not upper or not lower:
        return None
    if above[1].startswith("ingest"):
        return sum(upper) / sum(lower)
    return statistics.median(one / other for one, other in zip(upper, lower, strict=True))


def hand_written(passes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return for each peer on an engine how many times the time of hand-written code it takes."""
    result: dict[str, dict[str, float]] = {}
    for name, operations in passes.items():
        baseline = peer_class(name).baseline
        if baseline in passes:
            found = {op: ratio(passes, (name, op), (baseline, SAME.get(op, op))) for op in operations}
            result[name] = {op: value for op, value in found.items() if value is not None}
    return result


def beside_orm(passes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return for each peer how many times as fast as the ORM on SQLite it is."""
    result: dict[str, dict[str, float]] = {}
    for name, operations in passes.items():
        if name != ORM and ORM in passes:
            found = {op: ratio(passes, (ORM, SAME.get(op, op)), (name, op)) for op in operations}
            found["range_covered_objects"] = ratio(passes, (ORM, "range"), (name, "range_covered"))
            result[name] = {op: value for op, value in found.items() if value is not None}
    return result


# ------------------------------------------------------------------------------------------------ tables


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown, padded, so that it reads as well on a terminal."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]

    def line(row: list[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    return "\n".join([line(head), rule, *map(line, rows)])


def times(report: dict[str, Any], operations: list[str]) -> str:
    """Return the table of some operations, a row for each peer that has one of them."""
    head = ["", *(f"{OPERATIONS[op][0]}, {OPERATIONS[op][1]}" for op in operations)]
    rows = []
    for figures in report["peers"].values():
        found = figures["operations"]
        if any(op in found for op in operations):
            cells = [_number(found[op] * OPERATIONS[op][2]) if op in found else "" for op in operations]
            rows.append([figures["title"], *cells])
    return table(head, rows)


def sizes(report: dict[str, Any]) -> str:
    """Return the table of disk and memory, in MiB."""
    head = ["", "disk, MiB", "memory: imports", "after reads", "peak of reads", "peak of ingest"]
    rows = []
    for figures in report["peers"].values():
        mib = [figures[key] for key in ("disk", "imported", "anonymous", "peak", "ingest_peak")]
        rows.append([figures["title"], *("" if value is None else f"{value / (1 << 20):,.1f}" for value in mib)])
    return table(head, rows)


def ratios(report: dict[str, Any], key: str, targets: dict[str, dict[str, float]], peers: list[str]) -> str:
    """Return the table of ratios of these peers, an operation to a row; in parentheses the target."""
    found = report[key]
    peers = [name for name in peers if name in found]
    rows = []
    for operation in [*OPERATIONS, "range_covered_objects"]:
        if any(operation in found[name] for name in peers):
            row = [_operation(operation)]
            for name in peers:
                value, target = found[name].get(operation), targets.get(name, {}).get(operation)
                text = "" if value is None else f"{value:.2f}" if value < 10 else f"{value:,.0f}"
                row.append(text if target is None else f"{text} ({target:g})")
            rows.append(row)
    return table(["", *(report["peers"][name]["title"] for name in peers)], rows)


def sections(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to show: a sentence and its table each."""
    natives = [name for name in report["hand_written"] if name.startswith("kvdialect")]
    doors = [name for name in report["hand_written"] if name.startswith("sql-")]
    done = {operation for figures in report["peers"].values() for operation in figures["operations"]}
    parts = [(title, times(report, ops)) for title, ops in (READS | WRITES).items() if done.intersection(ops)]
    parts.append(("Disk after ingest; memory of the process.", sizes(report)))
    if natives:
        text = ratios(report, "hand_written", HAND_WRITTEN_TARGETS, natives)
        parts.append(("Times the time of hand-written code on the same engine, in parentheses at most.", text))
    if doors:
        parts.append(("The same for the SQL door.", ratios(report, "hand_written", {}, doors)))
    if report["beside_orm"]:
        text = ratios(report, "beside_orm", ORM_TARGETS, [name for name in natives if name in report["beside_orm"]])
        parts.append(("Times as fast as SQLAlchemy's ORM on SQLite, in parentheses at least.", text))
        others = [name for name in report["beside_orm"] if name not in natives]
        parts.append(("The same for the others.", ratios(report, "beside_orm", {}, others)))
    return parts


def markdown(report: dict[str, Any]) -> str:
    """Return the report for the documentation."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    coins, passes = f"{report['coins']:,} coins in {report['blocks']:,} blocks", f"{report['passes']} passes"
    lines = [
        f"Measured on Python {report['python']}, {report['cores']} cores, with {versions}.",
        f"{coins}, {passes} of {report['rounds']} rounds.",
        "",
    ]
    for title, text in sections(report):
        lines += [title, "", text, ""]
    lines += ["What the columns mean, by peer.", ""]
    for figures in report["peers"].values():
        settings = f"durable: {figures['durable']}; not: {figures['relaxed'] or 'there is no such setting'}"
        lines.append(f"- {figures['title']}: {settings}{'. ' if figures['notes'] else ''}{figures['notes']}.")
    lines.append("")
    return "\n".join(lines)


def _operation(name: str) -> str:
    """The name of a row, where no column stands beside it to say what it is about."""
    if name == "range_covered_objects":
        return "range of 1,000, covered, beside objects"
    if name == "attribute_write":
        return "attribute write"
    base = SAME.get(name) or ("range" if name == "range_covered" else None)
    text = OPERATIONS[name][0]
    text = f"{OPERATIONS[base][0]}, {text}" if base else text
    kind = name.rpartition("_")[2]
    return text + {"durable": ", durable", "relaxed": ", not durable"}.get(kind, "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
