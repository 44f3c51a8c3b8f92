"""How often labels really occur, from how often a classifier that errs gave them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_CONDITION = 100.0
"""Of the matrix of errors: beyond it, errors of the counts would be multiplied by as much."""


def corrected(given: NDArray[Any], confusion: NDArray[Any]) -> NDArray[np.float64] | None:
    """[labels] the shares that labels have in truth: adjusted count (Forman 2008).

    A label is given as often as the true labels and the errors of each say:
    `given[j] = sum over i of P(j is given | i is true) · share[i]`. That is solved for the shares,
    and those below zero, which chance alone makes, are cut to it. It holds where texts of a label
    are as hard as they were in `confusion`, and only how often the labels occur is another.

    Args:
        given: [labels] the shares that were given; they sum to 1.
        confusion: [labels, labels] rows of each true label that were given each label, of rows that
            nothing was learnt from. A label without rows is taken for one that is always found.

    Returns:
        None where the errors are such that the given labels say too little of the true ones.
    """
    rows = confusion.sum(axis=1, keepdims=True)
    rates = np.where(rows > 0, confusion / np.maximum(rows, 1), np.eye(len(confusion)))
    if np.linalg.cond(rates) > _MAX_CONDITION:
        return None
    shares = np.maximum(np.linalg.solve(rates.T, np.asarray(given, np.float64)), 0.0)
    return np.asarray(shares / shares.sum())
