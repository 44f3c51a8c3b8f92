"""How good predictions are, with intervals: on each task, for all rows and for slices of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.calibrate import PerLabel
from glossator.model.kinds import Labels
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.metrics import Metrics
from glossator.model.tasks import Task

MAX_SHOWN = 64
"""Labels of a task beyond which only all rows are measured label by label, not slices too."""
MAX_SLICES = 50
"""Of one column: its most frequent values."""
_MAX_SLICE_CHARS = 60
"""Of a value in a slice's name."""


def logits(labeller: Labeller, texts: list[str]) -> dict[str, NDArray[np.float64]]:
    """[n, outputs] of every text, by task."""
    parts = [
        labeller.logits(texts[first : first + labeller.max_texts])
        for first in range(0, len(texts), labeller.max_texts)
    ]
    return {
        task.name: np.concatenate([part[task.name] for part in parts]) for task in labeller.tasks
    }


def predict(labeller: Labeller, texts: list[str]) -> dict[str, NDArray[np.float64]]:
    """Calibrated probabilities (single, multi) or values (regression) of every text, by task."""
    predicted = logits(labeller, texts)
    return {
        task.name: task.rules.probabilities(predicted[task.name], labeller.calibration[task.name])
        for task in labeller.tasks
    }


def evaluate(
    tasks: Sequence[Task],
    data: Dataset,
    predicted: Mapping[str, NDArray[Any]],
    by: Sequence[str] = ("lang", "source"),
    accept: Mapping[str, PerLabel] | None = None,
) -> dict[str, dict[str, Metrics]]:
    """Metrics by task, then by slice: `all`, and the slices of which there are rows.

    A slice is called as its language, or `column=value` for other columns.

    Args:
        tasks: the tasks to evaluate.
        data: rows that nothing was learnt from.
        predicted: what `predict` gave for them.
        by: lang, source or columns that the data was loaded with, to slice by.
        accept: by task, from which probability labels are accepted or given, as its calibration
            says; without it, what depends on that is left out or usual.
    """
    slices = {name: rows for column in by for name, rows in slices_of(data, column).items()}
    results: dict[str, dict[str, Metrics]] = {}
    for task in tasks:
        labels = data.labels[task.name]
        seen = task.rules.observed(labels)
        parts = {"all": seen, **{name: seen & rows for name, rows in slices.items()}}
        results[task.name] = {
            name: measure(
                task, labels[rows], predicted[task.name][rows], (accept or {}).get(task.name)
            )
            for name, rows in parts.items()
            if rows.any()
        }
        if task.outputs > MAX_SHOWN:  # by label and slice they would fill a bundle's index
            for name, metrics in results[task.name].items():
                if name != "all":
                    for one in ("by_label", "confusions"):
                        metrics.pop(one, None)
    return results


def left_out(data: Dataset, by: Sequence[str]) -> list[str]:
    """Which columns have more values than slices are made of, a line each."""
    counts = {column: len(set(_values(data, column).tolist()) - {""}) for column in by}
    return [
        f"column {column!r} has {count:,} values: the {MAX_SLICES} most frequent are measured"
        for column, count in counts.items()
        if count > MAX_SLICES
    ]


def slices_of(data: Dataset, column: str) -> dict[str, NDArray[np.bool_]]:
    """The names of a column's slices, and [n] whether a row is in each."""
    values = _values(data, column)
    counts = Counter(value for value in values.tolist() if value)
    slices: dict[str, NDArray[np.bool_]] = {}
    for value in sorted(value for value, _ in counts.most_common(MAX_SLICES)):
        prefix = "" if column == "lang" and value != "all" else f"{column}="
        name = prefix + " ".join(value.split())[:_MAX_SLICE_CHARS]
        slices[name] = np.asarray(values == value) | slices.get(name, False)
    return slices


def _values(data: Dataset, column: str) -> NDArray[Any]:
    return {"lang": data.lang, "source": data.source, **data.columns}[column]


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
