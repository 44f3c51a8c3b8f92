"""How fast the job labels a night of tiny files, beside one file of the same rows.

    python tests/benchmarks/small_files.py

Writes 20,000 files of two comments and one file of those 40,000, then runs `glossator label` over
both in turn, start-up included, and prints rows a second of each round and the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from throughput import processor

from glossator.model import bundle as bundles
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.read import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", help="a Parquet file whose texts to take; made up without")
    parser.add_argument("--text", default="text")
    parser.add_argument("--model", default=bundles.DEFAULT)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=2, help="of each file")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(processor())
    count = options.files * options.rows
    table = given(options.input, options.text, count) if options.input else made_up(count)
    with tempfile.TemporaryDirectory() as folder:
        tiny, one = Path(folder, "tiny"), Path(folder, "one")
        tiny.mkdir()
        one.mkdir()
        for i in range(options.files):
            rows = table.slice(i * options.rows, options.rows)
            pq.write_table(rows, tiny / f"{i:06d}.parquet")
        pq.write_table(table, one / "all.parquet")
        planning, reading = by_file(tiny, options)
        rates: dict[Path, list[float]] = {tiny: [], one: []}
        for _ in range(options.rounds):
            for source, found in rates.items():
                found.append(count / label(source, count, options))
    print(f"a file, of one thread's time: planning {planning:.0f} us, reading {reading:.0f} us")
    medians = [statistics.median(found) for found in rates.values()]
    for source, found in rates.items():
        print(f"{source.name}: {', '.join(f'{rate:,.0f}' for rate in found)} rows/s")
    print(
        f"{options.files:,} files of {options.rows} rows: {medians[0]:,.0f} rows/s;"
        f" one file of {count:,}: {medians[1]:,.0f} rows/s; ratio {medians[0] / medians[1]:.2f}"
    )


def by_file(folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Microseconds of planning and of reading a file, the best of three."""
    found: list[tuple[float, float]] = []
    for _ in range(3):
        started = time.process_time()
        plan = make_plan([str(folder)], text=options.text, keys=[], identity="small")
        planned = time.process_time()
        for split in plan.splits:
            for _ in read(split, plan.columns):
                pass
        found.append((planned - started, time.process_time() - planned))
    planning, reading = (min(times) * 1e6 / options.files for times in zip(*found, strict=True))
    return planning, reading


def given(source: str, column: str, count: int) -> pa.Table:
    """The first texts of a file, as often as it takes."""
    batch = next(pq.ParquetFile(source).iter_batches(count, columns=[column]))
    texts = batch.column(0).take(pa.array([i % batch.num_rows for i in range(count)]))
    return pa.table({"id": range(count), "text": texts})


def made_up(count: int) -> pa.Table:
    """Distinct comments of some twenty words."""
    words = ("the", "shop", "sent", "a", "good", "bad", "lovely", "broken", "kettle", "and", "I")
    texts = [
        " ".join(words[(i * 7919 + j * j * (i % 13 + 1)) % len(words)] for j in range(20)) + f" {i}"
        for i in range(count)
    ]
    return pa.table({"id": range(count), "text": texts})


def label(source: Path, count: int, options: argparse.Namespace) -> float:
    """Labels all files of a folder; the seconds it took."""
    command = [sys.executable, "-m", "glossator.pipeline", "--json", "--key=id", "--text=text"]
    command += [f"--workers={options.workers}", f"--model={options.model}", f"--input={source}"]
    with tempfile.TemporaryDirectory() as folder:
        before = time.monotonic()
        run = subprocess.run(
            [*command, f"--output={folder}/out"],
            capture_output=True,
            check=True,
        )
        seconds = time.monotonic() - before
    totals = json.loads(run.stdout)["totals"]
    assert totals["rows_labelled"] == count, totals
    return seconds


if __name__ == "__main__":
    main()
