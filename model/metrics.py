"""Metrics with 95% intervals, whatever they are of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
"""Bootstrap resamples behind an interval."""
_BINS = 15
_Z = 1.959963984540054
"""Of a 95% interval under the normal distribution."""

Metrics = dict[str, Any]
"""A metric's value, or [value, low, high] with a 95% interval where the name is in `INTERVALS`."""
INTERVALS = ("accuracy", "macro_f1", "mae", "r2")
LOWER_IS_BETTER = ("mae",)

Statistics = Callable[[NDArray[Any]], tuple[float, ...]]
"""Some metrics' values over the rows of an index, where a row may stand more than once."""


def confusion_matrix(labels: NDArray[Any], chosen: NDArray[Any], size: int) -> NDArray[np.int64]:
    """[labels, chosen] how many rows of each label were given each label.

    Args:
        labels: [n] the true ones, below `size`.
        chosen: [n] the predicted ones.
        size: how many labels there are.
    """
    cells = np.bincount(labels * size + chosen, minlength=size * size)
    return cells.reshape(size, size)


def choices(labels: NDArray[Any], chosen: NDArray[Any], size: int) -> Statistics:
    """Accuracy, and macro-F1 over the labels that occur in the truth or among the chosen ones.

    Args:
        labels: [n] the true ones, below `size`.
        chosen: [n] the predicted ones.
        size: how many labels there are.
    """
    # only the cells of the confusion matrix that occur: a thousand labels have a million cells
    cells, cell = np.unique(labels * size + chosen, return_inverse=True)
    truth, given = np.divmod(cells, size)
    right = truth == given

    def statistics(rows: NDArray[Any]) -> tuple[float, float]:
        counts = np.bincount(cell[rows], minlength=len(cells))
        hits = np.bincount(truth[right], counts[right], minlength=size)
        total = np.bincount(truth, counts, size) + np.bincount(given, counts, size)
        return float(hits.sum() / counts.sum()), macro_f1(hits, total)

    return statistics


def macro_f1(hits: NDArray[Any], total: NDArray[Any]) -> float:
    """The mean F1 over the labels that occur; 0 where none does.

    Args:
        hits: [labels] rows of a label that were given it.
        total: [labels] rows of a label, and rows that were given it.
    """
    f1 = np.divide(2 * hits, total, out=np.zeros(len(total)), where=total > 0)
    return float(f1.sum() / max(1, int((total > 0).sum())))


def by_label(hits: NDArray[Any], rows: NDArray[Any], given: NDArray[Any]) -> dict[str, list[Any]]:
    """Precision and recall of each label; null where it is of nothing.

    Args:
        hits: [labels] rows of a label that were given it.
        rows: [labels] rows of it.
        given: [labels] rows that were given it.
    """

    def share(of: NDArray[Any]) -> list[float | None]:
        return [float(h / n) if n else None for h, n in zip(hits, of, strict=True)]

    return {
        "rows": [int(n) for n in rows],
        "given": [int(n) for n in given],
        "precision": share(given),
        "recall": share(rows),
    }


def accepted(taken: NDArray[np.bool_], right: NDArray[np.bool_]) -> Metrics:
    """The accepted rows, the share of all that they are, and how often they are right.

    Args:
        taken: [n] whether a row's label is accepted.
        right: [n] whether it is right.
    """
    rows = int(taken.sum())
    return {
        "rows": rows,
        "coverage": rows / len(taken),
        "precision": wilson(int(right[taken].sum()), rows) if rows else None,
    }


def wilson(hits: int, rows: int) -> list[float]:
    """[share, low, high] of `hits` among `rows`, with the 95% interval of Wilson (1927)."""
    share, z2 = hits / rows, _Z * _Z
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    margin = _Z / (1 + z2 / rows) * np.sqrt(share * (1 - share) / rows + z2 / (4 * rows * rows))
    # with no hits, or nothing else, rounding would leave the share outside
    return [share, float(min(middle - margin, share)), float(max(middle + margin, share))]


def calibration_error(confidence: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(bins, right - confidence, minlength=_BINS)
    return float(np.abs(gap).sum() / len(right))


def bootstrap(count: int, names: tuple[str, ...], statistics: Statistics) -> Metrics:
    """Value and 95% percentile interval of statistics of rows, over resampled rows."""
    generator = np.random.default_rng(0)
    drawn = [statistics(generator.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    value = statistics(np.arange(count))
    return {name: [value[i], float(low[i]), float(high[i])] for i, name in enumerate(names)}


def paired_bootstrap(
    count: int, names: tuple[str, ...], one: Statistics, other: Statistics
) -> Metrics:
    """Difference of two models on the same rows, `one - other`, over resampled rows.

    Both are measured on the same resample each time: what makes a row hard for both cancels out
    (Efron & Tibshirani 1993).
    """

    def difference(rows: NDArray[Any]) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(one(rows), other(rows), strict=True))

    return bootstrap(count, names, difference)


def verdict(name: str, difference: list[float]) -> str:
    """`better`, `worse` or, where the interval holds zero, `tie`.

    Args:
        name: the metric.
        difference: its value, low and high.
    """
    _, low, high = difference
    if low <= 0 <= high:
        return "tie"
    return "better" if (low > 0) != (name in LOWER_IS_BETTER) else "worse"
