"""The engines side by side, for the page on choosing one, from the figures of the last full runs in ``results``.

    python benchmarks/engines.py

Writes ``docs/_figures/engines.md``. The same figures give the same file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TABLE = ROOT / "docs" / "_figures" / "engines.md"

OPERATIONS = {
    "get": "get of a record, µs",
    "lookup": "lookup of 20 records by an index, µs",
    "scan": "scan of all records, µs a record",
    "ingest_durable": "ingest of a block, durable, µs",
    "update_durable": "update and commit of one record, durable, µs",
    "ingest_relaxed": "ingest of a block, not durable, µs",
}


def table(peers: dict[str, Any], threads: dict[str, Any]) -> str:
    """Rows of the two engines, and how many times the one with more takes the other's."""
    lmdb, rocksdb = peers["peers"]["kvdialect-lmdb"], peers["peers"]["kvdialect-rocksdb"]
    rows = [
        (text, lmdb["operations"][name] * 1e6, rocksdb["operations"][name] * 1e6) for name, text in OPERATIONS.items()
    ]
    rows.append(("disk after ingest, MiB", lmdb["disk"] / 2**20, rocksdb["disk"] / 2**20))
    commits = threads["commits_per_second"]
    rows += [
        (f"durable commits a second, {who}", commits[count]["session lmdb"], commits[count]["session rocksdb"])
        for count, who in (("1", "one thread"), ("8", "8 threads"))
    ]
    lines = ["| | LMDB | RocksDB | RocksDB / LMDB |", "|---|---:|---:|---:|"]
    lines += [f"| {text} | {_number(one)} | {_number(two)} | {two / one:.2f} |" for text, one, two in rows]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    TABLE.write_text(table(*(json.loads((RESULTS / f"{name}.json").read_text()) for name in ("peers", "threads"))))


if __name__ == "__main__":
    main()
