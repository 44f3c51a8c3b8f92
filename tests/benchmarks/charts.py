"""The charts of docs/performance.md, of the figures that the other benchmarks kept.

    python tests/benchmarks/charts.py docs/charts

Reads `speeds.json` (rivals.py), `accuracy.json` (accuracy.py) and `scaling.json` (scaling.py) in
the folder, those that are there, and writes SVG beside them. Points are medians, lines the spread.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",  # text as text: small, and found by a search
        "svg.hashsalt": "glossator",  # the same figures give the same bytes
        "font.family": "sans-serif",
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.axisbelow": True,
    }
)
from matplotlib import pyplot  # noqa: E402  # takes the settings

NETWORK_ALONE = ("torch", "onnxruntime", "runinference-tuned", "ours, no expert, --top 0")
"""What is right as often as ours without the expert."""
BESIDE = {
    "ours": (-6, 6, "right"),
    "ours, --top 0": (6, 6, "left"),
    "ours, no expert": (-6, -12, "right"),
    "ours, no expert, --top 0": (6, -12, "left"),
    "torch": (0, -14, "center"),
    "tfidf": (0, -14, "center"),
}
"""Where a name stands beside its point, in points, that would lie on another."""


def main() -> None:
    folder = Path(sys.argv[1])
    kept = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    for axis, measured in kept.get("scaling", {}).items():
        save(scaling(axis, measured), folder / f"{axis}.svg")
    if "speeds" in kept and "accuracy" in kept:
        save(accuracy(kept["speeds"], kept["accuracy"]["right"]), folder / "accuracy.svg")


def scaling(axis: str, measured: dict[str, Any]) -> Any:
    """Comments a second of the whole job along an axis; by the processors' time, but of threads."""
    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    by_clock = axis == "threads"
    for marker, (name, series) in zip("os", measured["series"].items(), strict=True):
        places = [int(at) for at in series]
        found = [rates if by_clock else per_core for rates, per_core in series.values()]
        line(axes, places, found, name, marker)
    if axis in ("comments", "characters"):
        axes.set_xscale("log")
    else:
        axes.set_xticks(places)
    if axis == "characters":
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("characters of a text" if axis == "characters" else axis)
    axes.set_ylabel("comments/s, start to end" if by_clock else "comments a second of one core")
    axes.legend()
    return figure


def line(axes: Any, places: list[int], values: list[list[float]], name: str, marker: str) -> None:
    middle = [statistics.median(some) for some in values]
    below = [one - min(some) for one, some in zip(middle, values, strict=True)]
    above = [max(some) - one for one, some in zip(middle, values, strict=True)]
    axes.errorbar(places, middle, [below, above], label=name, marker=marker, capsize=3)


def accuracy(speeds: dict[str, Any], right: dict[str, float]) -> Any:
    """How often what is right, by how fast it is."""
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, found in speeds["speeds"].items():
        known = "ours, no expert" if name in NETWORK_ALONE else name
        known = "ours" if name == "ours, --top 0" else known
        if known not in right:
            continue  # its weights are random, or its processors' time is not known
        rates = [one["comments"] / one["cpu_seconds"] for one in found]
        middle = statistics.median(rates)
        spread = [[middle - min(rates)], [max(rates) - middle]]
        ours = name.startswith("ours")
        colour = "tab:blue" if ours else "tab:gray"
        marker = "o" if ours else "s"
        axes.errorbar([middle], [right[known]], None, spread, marker=marker, c=colour, capsize=3)
        *offset, side = BESIDE.get(name, (0, 7, "center"))
        place = (middle, right[known])
        axes.annotate(name, place, offset, textcoords="offset points", ha=side, fontsize=8)
    axes.set_xscale("log")
    axes.margins(0.3, 0.2)
    axes.set_xlabel("comments a second of one core, start-up included, four tasks")
    axes.set_ylabel("sentiment: right on the test rows")
    return figure


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
