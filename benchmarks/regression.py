"""Whether kvdialect has become slower: short runs of the benchmarks beside the ratios stored in the repository.

Ratios are to hand-written driver code, or to SQLite, of the same run, as the machine's own speed cancels out of them.
One that is over 1.3 times the stored one is measured again, twice at most, as what else a machine does only ever adds;
if all tries are over it, that is a regression and the command fails.

    python benchmarks/regression.py            # about two minutes
    python benchmarks/regression.py --store    # measure three times, and store the least ratios

What is stored was measured on the machine that the file names: on another kind of machine store your own first, at a
commit that you trust.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STORED = HERE / "results" / "ratios.json"
ALLOWED = 1.3
TRIES = 3

Ratios = dict[str, float]


def of_storage(report: dict[str, Any]) -> Ratios:
    """The storage layer's calls to hand-written driver code."""
    return {
        f"{engine}: {operation}": times["kvdialect"] / times["hand-written"]
        for engine, operations in report["operations"].items()
        for operation, times in operations.items()
        if "hand-written" in times and "commits" not in operation
    }


def of_sql(report: dict[str, Any]) -> Ratios:
    """The SQL door to pysqlite on a file; but for the tables, which are made once, so that chance has much to say."""
    return {
        f"{side}: {operation}": times[side] / times["pysqlite"]
        for operation, times in report["operations"].items()
        for side in times
        if side != "pysqlite" and "tables" not in operation
    }


def of_peers(report: dict[str, Any]) -> Ratios:
    """The Session to hand-written driver code."""
    return {
        f"{peer}: {operation}": ratio
        for peer, ratios in report["hand_written"].items()
        for operation, ratio in ratios.items()
        if ratio is not None
    }


PEERS = ("raw-lmdb", "kvdialect-lmdb", "raw-rocksdict", "kvdialect-rocksdb")
RUNS: dict[str, tuple[list[str], Callable[[dict[str, Any]], Ratios]]] = {
    "storage": (["storage.py", "--quick"], of_storage),
    "sql": (["sql.py", "--quick"], of_sql),
    "peers": (["peers.py", "--quick", *(word for name in PEERS for word in ("--peer", name))], of_peers),
}
"""By name: the command, and what takes the ratios from its report."""


def measured(name: str, folder: Path) -> Ratios:
    """Run a benchmark; the names of its ratios begin with its own."""
    command, ratios_of = RUNS[name]
    target = folder / f"{name}.json"
    subprocess.run(
        [sys.executable, str(HERE / command[0]), *command[1:], "--json", str(target)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return {f"{name}: {what}": ratio for what, ratio in ratios_of(json.loads(target.read_text())).items()}


def least(found: Ratios, again: Ratios) -> Ratios:
    """The smaller of each."""
    return {what: min(ratio, again.get(what, ratio)) for what, ratio in found.items()}


def slower(found: Ratios, stored: Ratios) -> list[str]:
    """What is over its bound."""
    return [what for what, ratio in found.items() if what in stored and ratio > ALLOWED * stored[what]]


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; 1 if anything has become slower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="store_true", help="store the ratios instead of comparing with them")
    parser.add_argument("--run", choices=list(RUNS), action="append", help="only this benchmark; repeatable")
    options = parser.parse_args(arguments)
    names = options.run or list(RUNS)
    known = json.loads(STORED.read_text()) if STORED.exists() else {"ratios": {}}
    stored: Ratios = known["ratios"]
    regressions: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in names:
            found = measured(name, folder)
            for _ in range(TRIES - 1):
                if not options.store and not slower(found, stored):
                    break
                found = least(found, measured(name, folder))
            bad = [] if options.store else slower(found, stored)
            for what, ratio in found.items():
                beside = f"   stored {stored[what]:6.2f}" if what in stored else "   not stored"
                print(f"{what:60} {ratio:8.2f}{beside}{'   SLOWER' if what in bad else ''}", flush=True)
            regressions += bad
            if options.store:
                stored = {what: ratio for what, ratio in stored.items() if not what.startswith(f"{name}: ")} | found
    if options.store:
        machine = {"python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count()}
        ratios = {what: round(ratio, 3) for what, ratio in sorted(stored.items())}
        STORED.write_text(
            json.dumps({**machine, "unit": "times the time of the peer", "ratios": ratios}, indent=2) + "\n"
        )
        return 0
    if regressions:
        print(
            f"\n{len(regressions)} ratios are over {ALLOWED} times the stored ones, in {TRIES} tries", file=sys.stderr
        )
    return 1 if regressions else 0


if __name__ == "__main__":
    sys.exit(main())
