"""Metrics with 95% intervals, whatever they are of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
"""Bootstrap resamples behind an interval."""
_BINS = 15
_MAX_DRAWN = 1 << 20
"""Cells of confusion matrices that are drawn at once."""

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
    """Accuracy, and macro-F1 over the labels that occur, with 95% percentile intervals.

    To resample rows is to redraw the confusion matrix; of its cells only those that are not 0 are
    drawn, since there are no more of them than rows, however many labels there are.
    """
    truth, chosen = np.nonzero(matrix)
    cells = matrix[truth, chosen]
    count = int(cells.sum())
    generator = np.random.default_rng(0)
    drawn = []
    at_once = max(1, _MAX_DRAWN // len(cells))
    for first in range(0, RESAMPLES, at_once):
        times = min(at_once, RESAMPLES - first)
        redrawn = generator.multinomial(count, cells / count, times)
        drawn.append(_accuracy_and_f1(redrawn, truth, chosen))
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
    (value,) = _accuracy_and_f1(cells[None], truth, chosen)
    return {
        name: [float(value[i]), float(low[i]), float(high[i])]
        for i, name in enumerate(("accuracy", "macro_f1"))
    }


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


def _accuracy_and_f1(
    cells: NDArray[np.int64], truth: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[m, 2] accuracy, and mean F1 over the labels that occur in truth or among the predictions.

    Args:
        cells: [m, k] rows in each of k cells of m confusion matrices.
        truth: [k] the true label of a cell.
        chosen: [k] the predicted one.
    """
    labels = np.unique(np.concatenate([truth, chosen]))
    right = truth == chosen
    both = _summed(cells[:, right], truth[right], labels)
    total = _summed(cells, truth, labels) + _summed(cells, chosen, labels)
    f1 = np.divide(2 * both, total, out=np.zeros(both.shape), where=total > 0)
    macro_f1 = f1.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)
    return np.stack([both.sum(axis=1) / cells.sum(axis=1), macro_f1], axis=1)


def _summed(
    cells: NDArray[np.int64], of: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """[m, labels] the cells of each label added up, 0 where it has none."""
    order = np.argsort(of, kind="stable")
    present, first = np.unique(of[order], return_index=True)
    sums = np.zeros((len(cells), len(labels)), np.int64)
    if len(present):
        sums[:, np.searchsorted(labels, present)] = np.add.reduceat(cells[:, order], first, axis=1)
    return sums
