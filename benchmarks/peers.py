"""One workload on kvdialect and on what one would use instead, each in its own idiomatic best use.

200,000 records of coins are ingested in 1,000 blocks, each one transaction of 200 inserts and 100 updates, and read
back. Every peer works in a process of its own, which is started again for each pass; in a pass all peers take their
turn, so that a ratio is of what ran within minutes. Durability is the same in a column: durable and other commits are
never mixed. All results are checked against plain Python, and a wrong one ends the run.

    python benchmarks/peers.py            # twenty minutes and more
    python benchmarks/peers.py --quick    # about two minutes, 50 blocks
    python benchmarks/peers.py --peer raw-lmdb --peer kvdialect-lmdb --json out.json

A process reads everything once before it is timed, so that data are in memory. Times are medians: over the rounds of a
pass, with the garbage collector off, and of these over the passes. An ingest is done once, a slice of it in each pass.
Besides kvdialect it needs peewee, objectbox and ZODB; what is not installed is left out. The targets stand in
peer/report.py and in parentheses in the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peer import report, worker, workload


def work(name: str, task: dict[str, Any]) -> dict[str, Any]:
    """Run a task in a process of the peer, and return its figures."""
    command = [sys.executable, __file__, "--worker", name, json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed in {task['phase']}; see above")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def installed(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the peers whose packages are there, and the versions of these."""
    found, versions = [], {}
    for name in names:
        try:
            packages = worker.peer_class(name).packages
            versions |= {package: version(package) for package in packages}
            found.append(name)
        except (ImportError, PackageNotFoundError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found, versions


def measure(names: list[str], folder: Path, sizes: list[int], rounds: int) -> dict[str, dict[str, Any]]:
    """Run all passes, first those of the ingest, then those of the reads, and collect what the peers report."""
    collected: dict[str, dict[str, Any]] = {name: {"passes": {}, "calibration": [], "ingest_peak": 0} for name in names}
    passes = len(sizes)
    for number in range(passes):
        last = number == passes - 1
        for name in _order(names, number):
            task = {"phase": "ingest", "folder": str(folder), "slice": number, "last": last}
            began = time.perf_counter()
            figures = work(name, task)
            into = collected[name]
            for mode in worker.modes(worker.peer_class(name)):
                part = figures[mode]
                into["passes"].setdefault(f"ingest_{mode}", []).append(part["seconds"] / part["blocks"])
                if mode == "durable":  # the first in its process
                    into["ingest_peak"] = max(into["ingest_peak"], part["peak"])
                    into["disk"] = part.get("disk")
            into["calibration"].append(figures["calibration"])
            into["imported"] = figures["imported"]
            _progress("ingest", number, passes, name, began)
    for number in range(passes):
        for name in _order([name for name in names if "get" not in worker.peer_class(name).lacks], number):
            began = time.perf_counter()
            last = number == passes - 1
            task = {"phase": "read", "folder": str(folder), "rounds": rounds, "turn": number, "last": last}
            figures = work(name, task)
            into = collected[name]
            for operation, seconds in figures["operations"].items():
                into["passes"].setdefault(operation, []).append(seconds)
            into["calibration"].append(figures["calibration"])
            into["peak"] = max(into.get("peak", 0), figures["peak"])
            into["anonymous"] = max(into.get("anonymous", 0), figures["anonymous"])
            _progress("read", number, passes, name, began)
    return collected


def _order(names: list[str], number: int) -> list[str]:
    """There and back again: who runs first in one pass runs last in the next."""
    return names[::-1] if number % 2 else names


def _progress(phase: str, number: int, passes: int, name: str, began: float) -> None:
    taken = time.perf_counter() - began
    print(f"{phase} {number + 1}/{passes}  {name:28} {taken:6.1f} s", file=sys.stderr, flush=True)


def described(names: list[str], collected: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Put the figures of all peers together."""
    passes = {name: collected[name]["passes"] for name in names}
    middle = report.medians(passes)
    peers = {}
    for name in names:
        made = worker.peer_class(name)
        figures = collected[name]
        peers[name] = {
            "title": made.title,
            "durable": made.durable,
            "relaxed": made.relaxed,
            "notes": made.notes,
            "lacks": made.lacks,
            "operations": middle[name],
            "passes": passes[name],
            **{key: figures.get(key) for key in ("disk", "imported", "anonymous", "peak", "ingest_peak")},
            "calibration": figures["calibration"],
        }
    return {
        "peers": peers,
        "hand_written": report.hand_written(passes),
        "beside_orm": report.beside_orm(passes),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer blocks, rounds and passes")
    parser.add_argument("--peer", choices=list(worker.PEERS), action="append", help="only this peer; repeatable")
    parser.add_argument("--blocks", type=int, help="blocks of 200 coins; 1,000 by default, 50 if quick")
    parser.add_argument("--rounds", type=int, help="rounds of a pass; 3 by default, 2 if quick")
    parser.add_argument("--passes", type=int, help="processes of each peer for each phase; 3 by default, 1 if quick")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the figures here as tables")
    parser.add_argument("--dir", type=Path, help="where the stores go; a temporary directory by default")
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        name, task = options.worker
        print(json.dumps(worker.run(name, json.loads(task))))
        return 0

    blocks = options.blocks or (50 if options.quick else 1000)
    rounds = options.rounds or (2 if options.quick else 3)
    passes = options.passes or (1 if options.quick else 3)
    chosen = [name for name in worker.PEERS if not options.peer or name in options.peer]
    names, versions = installed(chosen)
    folder = Path(tempfile.mkdtemp(prefix="peers-", dir=options.dir))
    try:
        sizes = workload.prepare(folder, blocks, passes)
        collected = measure(names, folder, sizes, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": versions,
        "blocks": blocks,
        "coins": blocks * workload.INSERTS,
        "rounds": rounds,
        "passes": passes,
        "unit": "seconds of one operation: get, lookup, range, record of a scan, use of an attribute, block, update",
        "calibration": "seconds of a loop of pure Python, before and after each task of a process",
        "targets": {"hand_written": report.HAND_WRITTEN_TARGETS, "beside_orm": report.ORM_TARGETS},
        **described(names, collected),
    }
    for title, text in report.sections(figures):
        print(f"\n{title}\n\n{text}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(report.markdown(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
