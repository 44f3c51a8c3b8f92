"""How often the job and its rivals are right on labelled rows: the other axis of their chart.

    python tests/benchmarks/accuracy.py --data 'corpora/*.parquet' --tasks corpora/tasks.toml \
        --output docs/charts/accuracy.json

Rivals that learn do so from all rows of split train that have a label of the task, as set up in
rivals.py; the baseline of training, whose settings validation rows chose, is in the bundle. What
runs the network alone, in PyTorch, ONNX Runtime, Ray or RunInference, is right as often as ours
without the expert. Of a task of kind single.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rivals import there, without_expert

from glossator.model import bundle as bundles
from glossator.model.labelled.dataset import Dataset, load
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task, load_tasks
from glossator.pipeline.rivals.running import Settings, speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--model", default=bundles.DEFAULT)
    parser.add_argument("--against", default="fasttext,model2vec")
    parser.add_argument("--output", help="JSON to write the shares to")
    given = parser.parse_args()
    task = next(task for task in load_tasks(given.tasks) if task.name == given.task)
    rows = load(given.data, (task,), "text", "split")
    rows = rows.select(rows.labels[task.name] >= 0)
    # files come one after the other, and fastText learns in the order that it is given
    order = np.random.default_rng(1).permutation(np.flatnonzero(rows.split == "train"))
    train, test = rows.select(order), rows.select(rows.split == "test")
    bundle = bundles.load(given.model)
    baseline = bundle.metrics["baseline"][task.name]["all"]["accuracy"]
    found = {"ours": ours(bundle, task, test), "tfidf": _number(baseline)}
    with tempfile.TemporaryDirectory() as folder:
        alone = bundles.load(without_expert(given.model, Path(folder)))
        found["ours, no expert"] = ours(alone, task, test)
    for name in filter(there, given.against.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = learnt(name, task, train, test, given.model, Path(folder))
    about = f"{task.name}: {len(train):,} rows to learn from, {len(test):,} of split test"
    print(about)
    print("| | right |\n|---|---|")
    for name, share in found.items():
        print(f"| {name} | {share:.3f} |")
    if given.output:
        path = Path(given.output)
        before = json.loads(path.read_text())["right"] if path.exists() else {}
        path.write_text(json.dumps({"rows": about, "right": before | found}, indent=1))


def _number(value: float | Sequence[float]) -> float:
    """A share, which may come with its interval."""
    return value if isinstance(value, float) else float(value[0])


def ours(bundle: bundles.Bundle, task: Task, test: Dataset) -> float:
    labeller = Labeller(bundle, [task.name])
    predicted = labeller.probabilities(bundle.tokenizer.encode(test.texts))[task.name]
    return _right(predicted.argmax(axis=1), task, test)


def learnt(name: str, task: Task, train: Dataset, test: Dataset, model: str, folder: Path) -> float:
    """A rival that learns from the rows as if the job had given their labels."""
    for part, rows in (("train", train), ("test", test)):
        (folder / part).mkdir()
        pq.write_table(pa.table({"text": rows.texts}), folder / part / "rows.parquet")
    labels = np.array(task.labels)[train.labels[task.name]]
    table = pa.table(
        {
            "source_file": [str(folder / "train" / "rows.parquet")] * len(train),
            "source_row": np.arange(len(train)),
            task.name: pa.array([{"label": label} for label in labels.tolist()]),
        }
    )
    (folder / "labelled").mkdir()
    pq.write_table(table, folder / "labelled" / "part.parquet")
    source, labelled = str(folder / "test"), str(folder / "labelled")
    settings = Settings(source, labelled, 1, (task.name,), model, learnt=len(train))
    speed(name, settings, folder / name, len(test))
    (written,) = (folder / name / "out").glob("*.parquet")
    given = pq.read_table(written).column(task.name).to_pylist()
    return _right(np.array([task.labels.index(label) for label in given]), task, test)


def _right(predicted: NDArray[np.int64], task: Task, test: Dataset) -> float:
    return float((predicted == test.labels[task.name]).mean())


if __name__ == "__main__":
    main()
