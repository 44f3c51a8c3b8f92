"""How fast the job is by comments, threads, tasks and length of the texts.

    python tests/benchmarks/scaling.py --input 'comments/*.parquet' --axis comments \
        --output docs/charts/scaling.json

One axis at a time; its points take turns, with five words of each task and without words
(`--top 0`), all tasks. Of the rounds the median, and in brackets the spread, in comments a second
from start to end, and by the processors' time: a second of one core. `--output` adds the figures of
the axis to a file for charts.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from throughput import processor

from glossator.model import bundle as bundles
from glossator.pipeline.bench import Account, measure
from glossator.pipeline.labelling import Labelling

AXES = ("comments", "threads", "tasks", "characters")


@dataclass(frozen=True)
class Point:
    """What is measured."""

    at: int
    """On the axis."""
    source: str
    rows: int
    workers: int
    tasks: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--axis", choices=AXES, required=True)
    parser.add_argument("--model", default=bundles.DEFAULT)
    parser.add_argument("--text", default="text")
    parser.add_argument("--rows", type=int, default=100_000, help="the most there are of a point")
    parser.add_argument("--workers", type=int, default=2, help="the most there are of a point")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="JSON to add the figures to")
    given = parser.parse_args()
    found: dict[str, dict[int, list[Account]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = list(points(given, Path(folder)))
        for _ in range(given.rounds):
            for point in chosen:
                for top in (5, 0):
                    series = found.setdefault(f"--top {top}", {})
                    series.setdefault(point.at, []).append(account(given, point, top))
    machine = f"{processor()}; {given.rounds} rounds"
    print(f"{machine}\n| {given.axis} | | comments/s | a core |\n|---|---|---|---|")
    for name, series in found.items():
        for at, accounts in series.items():
            print(f"| {at:,} | {name} | {shown(rates(accounts))} | {shown(per_core(accounts))} |")
    if given.output:
        add(Path(given.output), given.axis, machine, found)


def points(given: argparse.Namespace, folder: Path) -> Iterator[Point]:
    tasks = tuple(task.name for task in bundles.load(given.model).tasks)
    most = Point(0, given.input, given.rows, given.workers, tasks)
    if given.axis == "comments":
        for part in (27, 9, 3, 1):
            rows = given.rows // part
            yield Point(rows, most.source, rows, most.workers, tasks)
    elif given.axis == "threads":
        for workers in range(1, given.workers + 1):
            yield Point(workers, most.source, most.rows, workers, tasks)
    elif given.axis == "tasks":
        for count in range(1, len(tasks) + 1):
            yield Point(count, most.source, most.rows, most.workers, tasks[:count])
    else:
        with pq.ParquetFile(given.input) as file:
            batch = next(file.iter_batches(given.rows, columns=[given.text]))
        whole = "\n".join(text for text in batch.column(0).to_pylist() if text)
        for size in (20, 80, 320, 1280, 5120):
            texts = [whole[first : first + size] for first in range(0, len(whole), size)]
            path = folder / f"{size}.parquet"
            pq.write_table(pa.table({given.text: [text for text in texts if text.strip()]}), path)
            yield Point(size, str(path), given.rows, most.workers, tasks)


def account(given: argparse.Namespace, point: Point, top: int) -> Account:
    labelling = Labelling.of(given.model, tasks=point.tasks, top=top)
    where = [point.source], given.text, labelling, point.workers, point.rows
    return measure(*where, (), (0, 1, 0.0), lambda _: None)


def rates(accounts: list[Account]) -> list[float]:
    """Comments a second, start to end."""
    return [one.rate for one in accounts]


def per_core(accounts: list[Account]) -> list[float]:
    """Comments a second of one core."""
    return [one.comments / one.cpu_seconds for one in accounts]


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def add(path: Path, axis: str, machine: str, found: dict[str, dict[int, list[Account]]]) -> None:
    """Keeps the figures of an axis beside those of the others."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[axis] = {
        "machine": machine,
        "series": {
            name: {str(at): [rates(some), per_core(some)] for at, some in series.items()}
            for name, series in found.items()
        },
    }
    path.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
