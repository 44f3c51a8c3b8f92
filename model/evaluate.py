"""How good the answers are, with intervals: on each task, for all rows and for each language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.calibrate import probabilities
from glossator.model.data import Dataset, Labels, observed
from glossator.model.labeller import MAX_TEXTS, Labeller
from glossator.model.tasks import Task

RESAMPLES = 2_000
"""Bootstrap resamples behind an interval."""
_BINS = 15

Metrics = dict[str, Any]
"""A metric's value, or [value, low, high] with a 95% interval where the name is in `INTERVALS`."""
INTERVALS = ("accuracy", "macro_f1", "mae", "r2")


def logits(labeller: Labeller, texts: list[str]) -> dict[str, NDArray[np.float32]]:
    """[n, outputs] of every text, by task."""
    parts = [
        labeller.score(texts[first : first + MAX_TEXTS])[1].scores
        for first in range(0, len(texts), MAX_TEXTS)
    ]
    return {
        task.name: np.concatenate([part[task.name].logits for part in parts])
        for task in labeller.tasks
    }


def predict(labeller: Labeller, texts: list[str]) -> dict[str, NDArray[np.float64]]:
    """Calibrated probabilities (single, multi) or values (regression) of every text, by task."""
    given = logits(labeller, texts)
    return {
        task.name: probabilities(task, given[task.name], labeller.calibration[task.name])
        for task in labeller.tasks
    }


def evaluate(
    tasks: tuple[Task, ...], data: Dataset, given: Mapping[str, NDArray[Any]]
) -> dict[str, dict[str, Metrics]]:
    """Metrics by task, then by slice: `all`, and each language of which there are rows.

    Args:
        tasks: the tasks to evaluate.
        data: rows that nothing was learnt from.
        given: what `predict` gave for them.
    """
    results: dict[str, dict[str, Metrics]] = {}
    for task in tasks:
        labels = data.labels[task.name]
        seen = observed(task, labels)
        slices = {"all": seen}
        slices |= {lang: seen & (data.lang == lang) for lang in sorted(set(data.lang)) if lang}
        results[task.name] = {
            name: measure(task, labels[rows], given[task.name][rows])
            for name, rows in slices.items()
            if rows.any()
        }
    return results


def measure(task: Task, labels: Labels, given: NDArray[Any]) -> Metrics:
    """The metrics of one task on rows that all have a label.

    Single: accuracy, macro-F1 over the labels that occur, expected calibration error (15 bins of
    equal width; Guo et al. 2017). Multi: accuracy of single decisions, macro-F1. Regression: mean
    absolute error, R².
    """
    metric = {"single": _single, "multi": _multi, "regression": _regression}[task.kind]
    return {"rows": len(labels), **metric(task, labels, given)}


def score(task: Task, labels: Labels, given: NDArray[Any]) -> float:
    """One number from 0 (chance, or worse) to 1, to compare tasks and epochs by."""
    metrics = measure(task, labels, given)
    if task.kind == "regression":
        return float(max(0.0, metrics["r2"][0]))
    return float(metrics["macro_f1"][0])


def _single(task: Task, labels: Labels, given: NDArray[Any]) -> Metrics:
    size, chosen = len(task.labels), given.argmax(axis=1)
    cells = np.bincount(labels * size + chosen, minlength=size * size)
    confidence, right = given.max(axis=1), chosen == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(bins, right - confidence, minlength=_BINS)
    return {
        **_with_intervals(
            cells,
            {
                "accuracy": lambda c: _confusion(c, size).trace(axis1=1, axis2=2) / c.sum(axis=1),
                "macro_f1": lambda c: _macro_f1(_confusion(c, size)),
            },
        ),
        "ece": float(np.abs(gap).sum() / len(labels)),
        "confusion": _confusion(cells[None], size)[0].tolist(),
    }


def _multi(task: Task, labels: Labels, given: NDArray[Any]) -> Metrics:
    size = len(task.labels)
    truth, chosen = labels == 1, given >= 0.5

    def statistics(rows: NDArray[Any]) -> tuple[float, float]:
        both = (truth[rows] & chosen[rows]).sum(axis=0)
        total = truth[rows].sum(axis=0) + chosen[rows].sum(axis=0)
        f1 = np.divide(2 * both, total, out=np.zeros(size), where=total > 0)
        macro_f1 = f1.sum() / max(1, (total > 0).sum())  # 0 where no label occurs at all
        return float((truth[rows] == chosen[rows]).mean()), float(macro_f1)

    return _bootstrap(len(labels), ("accuracy", "macro_f1"), statistics)


def _regression(task: Task, labels: Labels, given: NDArray[Any]) -> Metrics:
    error = given[:, 0] - labels

    def statistics(rows: NDArray[Any]) -> tuple[float, float]:
        spread = ((labels[rows] - labels[rows].mean()) ** 2).sum()
        r2 = 1 - (error[rows] ** 2).sum() / spread if spread > 0 else 0.0
        return float(np.abs(error[rows]).mean()), float(r2)

    return _bootstrap(len(labels), ("mae", "r2"), statistics)


def _confusion(cells: NDArray[Any], size: int) -> NDArray[Any]:
    """[m, labels, chosen] from [m, labels · chosen]."""
    return cells.reshape(-1, size, size)


def _macro_f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """[m] mean F1 over the labels that occur in the truth or among the answers."""
    both = np.diagonal(confusion, axis1=1, axis2=2)
    total = confusion.sum(axis=1) + confusion.sum(axis=2)
    f1 = np.divide(2 * both, total, out=np.zeros(both.shape), where=total > 0)
    return np.asarray(f1.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1))


def _with_intervals(
    cells: NDArray[Any], statistics: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]]
) -> Metrics:
    """Value and 95% percentile interval; to resample rows is to redraw the confusion matrix."""
    count = int(cells.sum())
    drawn = np.random.default_rng(0).multinomial(count, cells / count, RESAMPLES)
    result: Metrics = {}
    for name, statistic in statistics.items():
        low, high = np.percentile(statistic(drawn), [2.5, 97.5])
        result[name] = [float(statistic(cells[None])[0]), float(low), float(high)]
    return result


def _bootstrap(
    count: int, names: tuple[str, ...], statistics: Callable[[NDArray[Any]], tuple[float, ...]]
) -> Metrics:
    """Value and 95% percentile interval over resampled rows."""
    generator = np.random.default_rng(0)
    drawn = [statistics(generator.integers(0, count, count)) for _ in range(RESAMPLES // 4)]
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    value = statistics(np.arange(count))
    return {name: [value[i], float(low[i]), float(high[i])] for i, name in enumerate(names)}
