"""How good predictions are, with intervals: on each task, for all rows and for each language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.calibrate import PerLabel
from glossator.model.data import Dataset
from glossator.model.kinds import Labels
from glossator.model.labeller import Labeller
from glossator.model.metrics import Metrics
from glossator.model.tasks import Task


def logits(labeller: Labeller, texts: list[str]) -> dict[str, NDArray[np.float32]]:
    """[n, outputs] of every text, by task."""
    parts = [
        labeller.score(texts[first : first + labeller.max_texts])[1].scores
        for first in range(0, len(texts), labeller.max_texts)
    ]
    return {
        task.name: np.concatenate([part[task.name].logits for part in parts])
        for task in labeller.tasks
    }


def predict(labeller: Labeller, texts: list[str]) -> dict[str, NDArray[np.float64]]:
    """Calibrated probabilities (single, multi) or values (regression) of every text, by task."""
    predicted = logits(labeller, texts)
    return {
        task.name: task.rules.probabilities(predicted[task.name], labeller.calibration[task.name])
        for task in labeller.tasks
    }


def evaluate(
    tasks: tuple[Task, ...],
    data: Dataset,
    predicted: Mapping[str, NDArray[Any]],
    accept: Mapping[str, PerLabel] | None = None,
) -> dict[str, dict[str, Metrics]]:
    """Metrics by task, then by slice: `all`, and each language of which there are rows.

    Args:
        tasks: the tasks to evaluate.
        data: rows that nothing was learnt from.
        predicted: what `predict` gave for them.
        accept: by task, from which probability labels are accepted or given, as its calibration
            says; without it, what depends on that is left out or usual.
    """
    results: dict[str, dict[str, Metrics]] = {}
    for task in tasks:
        labels = data.labels[task.name]
        seen = task.rules.observed(labels)
        slices = {"all": seen}
        slices |= {lang: seen & (data.lang == lang) for lang in sorted(set(data.lang)) if lang}
        results[task.name] = {
            name: measure(
                task, labels[rows], predicted[task.name][rows], (accept or {}).get(task.name)
            )
            for name, rows in slices.items()
            if rows.any()
        }
    return results


def measure(
    task: Task, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None = None
) -> Metrics:
    """The metrics of one task on rows that all have a label; which, `task.rules` says."""
    return {"rows": len(labels), **task.rules.measure(labels, predicted, accept)}


def score(task: Task, labels: Labels, predicted: NDArray[Any]) -> float:
    """One number from 0 (chance, or worse) to 1, to compare tasks and epochs by."""
    values = task.rules.statistics(labels, predicted)(np.arange(len(labels)))
    return task.rules.score(
        {name: [value] for name, value in zip(task.rules.headline, values, strict=True)}
    )
