"""Metrics with 95% intervals, whatever they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
"""Bootstrap resamples behind an interval."""
_BINS = 15

Metrics = dict[str, Any]
"""A metric's value, or [value, low, high] with a 95% interval where the name is in `INTERVALS`."""
INTERVALS = ("accuracy", "macro_f1", "mae", "r2")


def confusion_matrix(labels: NDArray[Any], chosen: NDArray[Any], size: int) -> NDArray[np.int64]:
    """[labels, chosen] how many rows of each label were given each label.

    Args:
        labels: [n] the true ones, below `size`.
        chosen: [n] the predicted ones.
        size: how many labels there are.
    """
    cells = np.bincount(labels * size + chosen, minlength=size * size)
    return cells.reshape(size, size)


def of_confusion(matrix: NDArray[np.int64]) -> Metrics:
    """Accuracy, and macro-F1 over the labels that occur."""
    size = len(matrix)
    return _with_intervals(
        matrix.ravel(),
        {
            "accuracy": lambda c: _confusion(c, size).trace(axis1=1, axis2=2) / c.sum(axis=1),
            "macro_f1": lambda c: _macro_f1(_confusion(c, size)),
        },
    )


def calibration_error(confidence: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(bins, right - confidence, minlength=_BINS)
    return float(np.abs(gap).sum() / len(right))


def bootstrap(
    count: int, names: tuple[str, ...], statistics: Callable[[NDArray[Any]], tuple[float, ...]]
) -> Metrics:
    """Value and 95% percentile interval of statistics of rows, over resampled rows."""
    generator = np.random.default_rng(0)
    drawn = [statistics(generator.integers(0, count, count)) for _ in range(RESAMPLES // 4)]
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    value = statistics(np.arange(count))
    return {name: [value[i], float(low[i]), float(high[i])] for i, name in enumerate(names)}


def _confusion(cells: NDArray[Any], size: int) -> NDArray[Any]:
    """[m, labels, chosen] from [m, labels · chosen]."""
    return cells.reshape(-1, size, size)


def _macro_f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """[m] mean F1 over the labels that occur in the truth or among the predictions."""
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
