"""Charts for the documentation, from the figures of the last full runs in ``benchmarks/results``.

    python benchmarks/charts.py

Each ``<name>.json`` that is there becomes ``docs/_static/<name>.svg``. The same figures give the same file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CHARTS = ROOT / "docs" / "_static"

OURS, HAND, OTHERS = "#1f6feb", "#6e7781", "#c9d1d9"
LINES = {
    "session lmdb": ("#1f6feb", "-"),
    "session rocksdb": ("#d9730d", "-"),
    "py-lmdb": ("#1f6feb", ":"),
    "rocksdict": ("#d9730d", ":"),
    "sqlite3": ("#6e7781", "--"),
}

READS = {
    "get": "get by key, µs",
    "lookup": "lookup of 20 by index, µs",
    "range": "range of 1,000 by index, µs",
    "scan": "full scan, µs a record",
    "ingest_durable": "ingest of a block, durable, µs",
    "update_durable": "update and commit, durable, µs",
}


def peers(report: dict[str, Any]) -> Figure:
    """A panel of bars for each operation, the fastest peer on top."""
    figure, panels = plt.subplots(3, 2, figsize=(11, 13))
    for panel, (operation, title) in zip(panels.flat, READS.items(), strict=True):
        taken = sorted(
            (peer["operations"][operation] * 1e6, peer["title"], name)
            for name, peer in report["peers"].items()
            if operation in peer["operations"]
        )
        places = range(len(taken))
        panel.barh(places, [time for time, _, _ in taken], color=[_colour(name) for _, _, name in taken])
        panel.set_yticks(places, [title for _, title, _ in taken], fontsize=8)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_xlim(taken[0][0] / 3, taken[-1][0] * 4)
        panel.xaxis.set_visible(False)
        for place, (time, _, _) in zip(places, taken, strict=True):
            panel.text(time * 1.1, place, _number(time), va="center", fontsize=8)
        _plain(panel, title)
    return figure


def growth(report: dict[str, Any]) -> Figure:
    """A panel for each engine: how the cost of each operation grows with the records."""
    figure, panels = plt.subplots(1, len(report["sizes"]), figsize=(11, 4.5), sharey=True, squeeze=False)
    for panel, (engine, rows) in zip(panels.flat, report["sizes"].items(), strict=True):
        sizes = [int(size) for size in rows]
        for operation in next(iter(rows.values()))["operations"]:
            measured = [row["operations"][operation] for row in rows.values()]
            panel.plot(sizes, [each["grown"] / each["base"] for each in measured], marker="o", label=operation)
        panel.axvline(report["base"], color=OTHERS, linewidth=1)
        panel.set_xscale("log")
        panel.set_xlabel("records")
        _plain(panel, f"{engine}: cost beside that at {report['base']:,} records")
        panel.legend(frameon=False, fontsize=8)
    panels.flat[0].set_ylim(bottom=0)  # of all, once all are drawn
    return figure


def threads(report: dict[str, Any]) -> Figure:
    """Commits by threads."""
    figure, panel = plt.subplots(figsize=(7, 4.5))
    rates = report["commits_per_second"]
    for name in next(iter(rates.values())):
        colour, style = _line(name)
        panel.plot(list(rates), [rate[name] for rate in rates.values()], style, color=colour, marker="o", label=name)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("threads")
    _plain(panel, "durable commits a second, one record each")
    panel.legend(frameon=False, fontsize=8)
    return figure


def load(report: dict[str, Any]) -> Figure:
    """Rows a second of a first import."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.8), sharex=True)
    for panel, (order, sides) in zip(panels, report["loads"].items(), strict=True):
        taken = sorted(
            ((report["rows"] / figures["seconds"], name) for name, figures in sides.items() if "reading" not in name),
            reverse=True,
        )
        places = range(len(taken))
        panel.barh(places, [rate for rate, _ in taken], color=[_colour(name) for _, name in taken])
        panel.set_yticks(places, [name for _, name in taken], fontsize=8)
        panel.invert_yaxis()
        for place, (rate, _) in zip(places, taken, strict=True):
            panel.text(rate, place, f" {rate:,.0f}", va="center", fontsize=8)
        panel.margins(x=0.2)
        _plain(panel, f"rows a second, {order}")
    return figure


def _colour(name: str) -> str:
    if name.startswith(("kvdialect", "sql-")):
        return OURS
    return HAND if name.startswith(("raw", "py-lmdb", "rocksdict")) else OTHERS


def _line(name: str) -> tuple[str, str]:
    return next((style for known, style in LINES.items() if name == known), ("#57606a", "-."))


def _plain(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=10, loc="left")
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


MADE: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "peers": peers,
    "growth": growth,
    "threads": threads,
    "load": load,
}


def main() -> int:
    """Draw every chart for which there are figures."""
    # Text as text, and ids that do not change from run to run.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kvdialect", "font.family": "sans-serif"})
    for name, draw in MADE.items():
        source = RESULTS / f"{name}.json"
        if not source.exists():
            print(f"{source.relative_to(ROOT)} is not there; its benchmark writes it")
            continue
        figure = draw(json.loads(source.read_text()))
        figure.tight_layout()
        target = CHARTS / f"{name}.svg"
        figure.savefig(target, metadata={"Date": None, "Creator": "benchmarks/charts.py"}, transparent=False)
        plt.close(figure)
        print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
