"""What each part of the model earns and costs: variants trained on the same rows.

    python tests/benchmarks/ablation.py --data reviews.parquet --tasks tasks.toml \
        --unlabelled more.parquet --seeds 1,2,3 --variants default,random,parts

Of each variant: texts a CPU second in training (rows with labels, in the epochs of the network that
is kept) and in labelling, on one thread, and on the test rows each task's first metric with its 95%
interval, of the network alone and with the n-gram expert. Of several seeds it is the mean, and the
widest interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from throughput import processor

from glossator.model.bundle import Bundle
from glossator.model.evaluation.evaluate import evaluate, predict
from glossator.model.labelled.dataset import Dataset, load, unlabelled_texts
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task, load_tasks
from glossator.model.training.config import TrainingConfig
from glossator.model.training.malloc import keep_freed_memory
from glossator.model.training.train import train

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "random": {"vectors": False},
    "own": {"shared_attention": False},
    "no-minimum": {"min_pooling": False},
    "gru-128": {"hidden": 128, "attention": 64},
    "qrnn-128": {"cell": "qrnn", "hidden": 128, "attention": 64},
    "parts": {"parts": 3},
}
"""What is different from the usual settings."""
_LABELLED = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--unlabelled", action="append", default=[])
    parser.add_argument("--text", default="text")
    parser.add_argument("--split", default="split")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    tasks = load_tasks(options.tasks)
    rows = load(options.data, tasks, options.text, options.split)
    more = unlabelled_texts(options.unlabelled, options.text) if options.unlabelled else []
    learnt, test = rows.select(rows.split != "test"), rows.select(rows.split == "test")
    print(processor())
    print(f"{int((rows.split == 'train').sum()):,} rows to learn from, {len(test):,} to test")
    heads = [f"{task.name} {task.rules.headline[0]}" for task in tasks]
    titles = ["variant", "training", "labelling"]
    titles += [f"{head}, {how}" for head in heads for how in ("network", "with expert")]
    print(_row(titles))
    print(_row(["---"] * len(titles)))
    for name in options.variants.split(","):
        runs = [
            _run(learnt, test, tasks, more, {**VARIANTS[name], "seed": int(seed)})
            for seed in options.seeds.split(",")
        ]
        speeds = [f"{np.mean([run[i] for run in runs]):,.0f}" for i in (0, 1)]
        scores = [_mean([run[2][i] for run in runs]) for i in range(2 * len(tasks))]
        print(_row([name, *speeds, *scores]), flush=True)


def _run(
    learnt: Dataset,
    test: Dataset,
    tasks: tuple[Task, ...],
    more: Sequence[str],
    changes: dict[str, Any],
) -> tuple[float, float, list[list[float]]]:
    """Texts a CPU second in training and in labelling, and the scores."""
    settings = TrainingConfig(**changes)
    clock: list[tuple[float, bool]] = []
    bundle = train(
        learnt,
        tasks,
        settings,
        lambda line: clock.append((time.process_time(), line.startswith("epoch "))),
        unlabelled=more,
    )
    first = next(i for i, (_, is_epoch) in enumerate(clock) if is_epoch)
    last = max(at for at, is_epoch in clock if is_epoch)
    read = int((learnt.split == "train").sum()) * len(bundle.provenance["history"])
    training = read / (last - clock[first - 1][0])
    labeller = Labeller(bundle, [task.name for task in tasks])
    started = time.process_time()
    labeller.label(test.texts[:_LABELLED])
    labelling = min(len(test), _LABELLED) / (time.process_time() - started)
    alone = _scores(_without_expert(bundle), test)
    mixed = _scores(bundle, test)
    return training, labelling, [score for pair in zip(alone, mixed, strict=True) for score in pair]


def _without_expert(bundle: Bundle) -> Bundle:
    calibration = {name: replace(one, expert=0.0) for name, one in bundle.calibration.items()}
    return replace(bundle, calibration=calibration, ngrams={})


def _scores(bundle: Bundle, test: Dataset) -> list[list[float]]:
    """[value, low, high] of each task."""
    predicted = predict(Labeller(bundle, [task.name for task in bundle.tasks]), test.texts)
    metrics = evaluate(bundle.tasks, test, predicted)
    return [metrics[task.name]["all"][task.rules.headline[0]] for task in bundle.tasks]


def _mean(scores: Sequence[Sequence[float]]) -> str:
    value = float(np.mean([score[0] for score in scores]))
    below = max(score[0] - score[1] for score in scores)
    above = max(score[2] - score[0] for score in scores)
    return f"{value:.4f} [{value - below:.4f}, {value + above:.4f}]"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
