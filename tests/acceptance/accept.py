"""Holds the whole job to its promises on a real corpus of any size.

    python tests/acceptance/accept.py --input 'comments/*.parquet' --key id --kills 10

The key must be unique. It labels the input into a fresh folder and checks, one line each:
rows reconcile; every key is labelled or rejected once; order within parts; DuckDB, Polars, pandas
and PyArrow read one and the same table; a rerun does nothing; 1 and 2 workers give the same bytes;
2,000 random texts are labelled alone as they were in the run; and a job killed at random
moments leaves nothing half done and ends, resumed, in the same bytes. Exits with 1 if one fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))
from outputs import current

from glossator.model import bundle as bundles
from glossator.model.labeller import Labeller
from glossator.pipeline.label import Tally, label_texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--model", default=bundles.DEFAULT)
    parser.add_argument("--alone", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    failures = 0

    def check(name: str, test: Callable[[], str]) -> None:
        nonlocal failures
        started = time.monotonic()
        try:
            said = test()
        except AssertionError as error:
            failures, said = failures + 1, f"FAILED: {error}"
        print(f"{name}: {said} [{time.monotonic() - started:.0f} s]", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        first, second = f"{folder}/first", f"{folder}/second"
        check("label, 2 workers", lambda: labelled(options, first, 2))
        check("every key once", lambda: keys(options, first))
        check("order", lambda: order(options, first))
        check("readers", lambda: readers(options, first))
        check("rerun", lambda: rerun(options, first))
        check("label, 1 worker", lambda: labelled(options, second, 1))
        check("same bytes", lambda: same_bytes(first, second))
        check("alone", lambda: alone(options, first))
        for kill in range(options.kills):
            check(f"kill {kill + 1}", lambda: killed(options, f"{folder}/killed", first))
    sys.exit(1 if failures else 0)


def command(options: argparse.Namespace, out: str, workers: int) -> list[str]:
    flags = [f"--input={options.input}", f"--output={out}", f"--key={options.key}", "--json"]
    flags += [f"--text={options.text}", f"--model={options.model}", f"--workers={workers}"]
    return [sys.executable, "-m", "glossator.pipeline", *flags]


def run(options: argparse.Namespace, out: str, workers: int = 2) -> dict[str, Any]:
    done = subprocess.run(command(options, out, workers), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    account: dict[str, Any] = json.loads(done.stdout)
    return account


def labelled(options: argparse.Namespace, out: str, workers: int) -> str:
    account = run(options, out, workers)
    totals = account["totals"]
    assert totals["rows_read"] == totals["rows_labelled"] + totals["rows_rejected"], totals
    rows = sum(pq.ParquetFile(f.open()).metadata.num_rows for f in fsspec.open_files(options.input))
    assert totals["rows_read"] == rows, (totals, rows)
    speed = totals["rows_read"] / account["seconds"]
    sums = f"{rows:,} = {totals['rows_labelled']:,} + {totals['rows_rejected']:,}"
    return f"{sums}, {speed:,.0f} rows/s"


def parts(out: str, below: str = "") -> list[Path]:
    return sorted(Path(current(out), below).glob("part-*.parquet"))


def column(files: list[Any], name: str) -> pa.ChunkedArray:
    return pa.chunked_array(
        [c for f in files for c in pq.read_table(f, columns=[name])[name].chunks]
    )


def keys(options: argparse.Namespace, out: str) -> str:
    sources = [file.open() for file in fsspec.open_files(options.input)]
    given = column(sources, options.key).to_numpy()
    rejected = parts(out, "_rejects")
    found = column(parts(out), options.key).to_numpy()
    if rejected:
        found = np.concatenate([found, column(rejected, options.key).to_numpy()])
    assert np.array_equal(np.sort(given), np.sort(found)), "the keys differ"
    assert len(np.unique(found)) == len(found), "a key comes twice"
    return f"{len(found):,} keys"


def order(options: argparse.Namespace, out: str) -> str:
    for part in parts(out):
        rows = pq.read_table(part, columns=["source_file", "source_row"])
        assert len(pc.unique(rows["source_file"])) <= 1, f"{part} mixes files"
        assert (np.diff(rows["source_row"].to_numpy()) > 0).all(), f"{part} is out of order"
    return f"{len(parts(out)):,} parts"


def readers(options: argparse.Namespace, out: str) -> str:
    folder = current(out)
    glob, task = f"{folder}/part-*.parquet", pq.read_schema(parts(out)[0]).names[-1]
    arrow = pyarrow.dataset.dataset(folder).to_table(columns=[options.key, task])
    labels = pc.struct_field(arrow[task].combine_chunks(), "label").cast(pa.string()).to_pylist()
    expected = sorted(zip(arrow[options.key].to_pylist(), labels, strict=True))
    duck = duckdb.sql(f"select {options.key}, {task}.label::varchar from '{glob}'").fetchall()
    assert sorted(duck) == expected, "DuckDB reads another table"
    frame = polars.scan_parquet(glob).select(
        options.key, polars.col(task).struct.field("label").cast(polars.String)
    )
    assert sorted(frame.collect().rows()) == expected, "Polars reads another table"
    pandas_frame = pandas.read_parquet(folder, columns=[options.key, task])
    rows = zip(pandas_frame[options.key], (v["label"] for v in pandas_frame[task]), strict=True)
    assert sorted(rows) == expected, "pandas reads another table"
    return f"{len(expected):,} rows alike in DuckDB, Polars, pandas and PyArrow"


def rerun(options: argparse.Namespace, out: str) -> str:
    before = {path: path.stat().st_mtime_ns for path in Path(out).rglob("*")}
    account = run(options, out)
    assert account["state"] == "unchanged", account["state"]
    assert before == {path: path.stat().st_mtime_ns for path in Path(out).rglob("*")}
    return "nothing done, nothing touched"


def digests(out: str) -> dict[str, str]:
    files = [*parts(out), *parts(out, "_rejects")]
    run = current(out)
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def same_bytes(first: str, second: str) -> str:
    assert digests(first) == digests(second), "the parts differ"
    return f"{len(digests(first)):,} files"


def alone(options: argparse.Namespace, out: str) -> str:
    source = fsspec.open_files(options.input)[0].open()
    texts = pq.read_table(source, columns=[options.text])[options.text]
    table = pa.concat_tables(pq.read_table(part) for part in parts(out))
    uri = table["source_file"][0].as_py()
    table = table.filter(pc.equal(table["source_file"], uri))
    model = Labeller(bundles.load(options.model))
    chosen = random.sample(range(len(table)), min(options.alone, len(table)))
    for row in chosen:
        text = texts[table["source_row"][row].as_py()].as_py()
        given = label_texts(model, pa.array([text], pa.large_string()), 5, Tally())
        for task, answer in zip(model.tasks, given, strict=True):
            expected = table[task.name][row].as_py()
            assert answer[0].as_py() == expected, (text, answer[0].as_py(), expected)
    return f"{len(chosen):,} texts labelled alone as in the run"


def killed(options: argparse.Namespace, out: str, undisturbed: str) -> str:
    subprocess.run(["rm", "-rf", out], check=True)
    job = subprocess.Popen(
        command(options, out, 2),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = json.loads(Path(current(undisturbed), "_manifest.json").read_text())["timings"][
        "wall_seconds"
    ]
    delay = random.uniform(0, seconds + 5)
    time.sleep(delay)
    job.send_signal(signal.SIGKILL)
    job.wait(timeout=60)
    assert not session(job.pid), "processes are left"
    published = Path(out, "_current.json").exists()
    assert not published or digests(out) == digests(undisturbed), "something is published half"
    run(options, out)
    assert digests(out) == digests(undisturbed), "the resumed run differs"
    return f"after {delay:.0f} s ({'published' if published else 'not published'}), resumed alike"


def session(leader: int) -> list[int]:
    """The processes of a session, but for dead ones."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, NotADirectoryError):
            continue
        if entry.name.isdigit() and int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


if __name__ == "__main__":
    main()
