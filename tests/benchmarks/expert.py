"""How good the n-gram expert alone is, and what it costs, beside TF-IDF and logistic regression.

    python tests/benchmarks/expert.py reviews_zh.parquet sentiment product

Of the rows of split `train` a tenth is held out by a hash of the text and measured on. Times are
CPU seconds of one core; `--no-baseline` leaves the slow half out.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration
from glossator.model.evaluation import baseline
from glossator.model.labelled.dataset import Dataset
from glossator.model.ngrams import Ngrams
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer
from glossator.model.training.ngrams_fit import fit_ngrams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="Parquet with text, split and columns of labels")
    parser.add_argument("tasks", nargs="+", help="columns of single labels")
    parser.add_argument("--bits", type=int, default=18)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--no-baseline", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tasks, data = _read(given.data, given.tasks)
    train, test = data.select(data.split == "train"), data.select(data.split == "test")
    tokenizer = Tokenizer.train(train.texts, given.vocabulary, 512)
    tokens, asked = tokenizer.encode(train.texts), tokenizer.encode(test.texts)
    print(f"{len(train):,} rows to learn from, {len(test):,} held out")

    started = time.process_time()
    initial = {task.name: Calibration() for task in tasks}
    targets = {t.name: t.rules.targets(train.labels[t.name], initial[t.name]) for t in tasks}
    arrays = fit_ngrams(tokens, targets, tasks, tokenizer, given.bits)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"expert: fitted in {time.process_time() - started:.0f} s, {memory:,.0f} MB at most")
    print(f"expert: {sum(array.nbytes for array in arrays.values()):,} bytes")
    expert = Ngrams(arrays, tokenizer, tasks)
    times = []
    for _ in range(5):
        started = time.process_time()
        logits = expert.logits(asked)
        times.append(time.process_time() - started)
    print(f"expert: {len(test) / min(times):,.0f} texts/s")
    for task in tasks:
        _tell("expert", task, task.rules.probabilities(logits[task.name], Calibration()), test)
    for task in () if given.no_baseline else tasks:
        started = time.process_time()
        predicted = baseline.predict(task, train, test)
        print(f"baseline: {time.process_time() - started:.0f} s for {task.name}")
        _tell("baseline", task, predicted, test)


def _read(path: str, names: list[str]) -> tuple[list[Task], Dataset]:
    table = pq.read_table(path, filters=pc.field("split") == "train")
    texts = table["text"].to_pylist()
    held = [int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10 == 0 for text in texts]
    known = {name: sorted(pc.unique(table[name]).to_pylist()) for name in names}
    tasks = [Task(name, "single", tuple(known[name])) for name in names]
    empty = np.full(len(texts), "")
    labels = {
        task.name: task.rules.encode(table[task.name].cast(pa.string()), task.labels)
        for task in tasks
    }
    return tasks, Dataset(texts, labels, np.where(held, "test", "train"), empty, empty)


def _tell(what: str, task: Task, predicted: NDArray[Any], test: Dataset) -> None:
    labels = test.labels[task.name]
    loss = -np.log(predicted[np.arange(len(labels)), labels] + 1e-12).mean()
    accuracy = (predicted.argmax(axis=1) == labels).mean()
    print(f"{what}: {task.name} accuracy {accuracy:.4f}, log loss {loss:.4f}")


if __name__ == "__main__":
    main()
