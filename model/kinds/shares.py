"""Softmax probabilities that agree with how often each label occurs.

Where a model is used, labels may be rarer or more frequent than where it learnt, which a shift of
each label's logit puts right (Saerens, Latinne & Decaestecker 2002). And a temperature above 1,
which a weak signal asks for, draws all labels towards equal shares; so scale and shift are fitted
together (Platt 1999; "vector scaling" is more, a scale for each label).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.calibrate import MIN_LABEL_ROWS, best_scale, pays

_ROUNDS = 20
"""Of generalised iterative scaling; ten are enough for a log loss within 0.0001 of the least."""
_LEAST, _MOST = 1e-3, 10.0
"""Of the scale."""

Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    """[n, labels] of logits as large as they come."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def log_losses(given: Floats, labels: NDArray[Any]) -> Floats:
    """[n] the negative logarithm of each label's probability."""
    return np.asarray(-np.log(given[np.arange(len(labels)), labels] + 1e-12))


def fit_scale_and_shift(
    logits: Floats, labels: NDArray[Any], shifted: bool = True
) -> tuple[float, float | tuple[float, ...]]:
    """The scale, and what is added for each label, of least loss.

    The shift is 0 where what is fitted to one half of the rows doesn't make the losses of the
    other half fall, on average, by more than one standard error of that fall.

    Args:
        logits: [n, labels].
        labels: [n] their numbers.
        shifted: whether there may be a shift.
    """
    scale = _scale(logits, labels)
    enough = shifted and len(labels) >= 2 * MIN_LABEL_ROWS
    if not enough or not pays(_gain(logits, labels)):
        return scale, 0.0
    scale, shift = _with_shift(logits, labels, scale)
    return scale, tuple(shift.tolist())


def _scale(logits: Floats, labels: NDArray[Any]) -> float:
    return best_scale(lambda scale: float(log_losses(softmax(scale * logits), labels).mean()))


def _gain(logits: Floats, labels: NDArray[Any]) -> Floats:
    """[n] how far a shift makes each row's loss fall, both fitted to every other row."""
    plain, shifted = np.empty(len(labels)), np.empty(len(labels))
    for half in range(2):
        asked = np.arange(len(labels)) % 2 == half
        scale = _scale(logits[~asked], labels[~asked])
        plain[asked] = log_losses(softmax(scale * logits[asked]), labels[asked])
        scale, shift = _with_shift(logits[~asked], labels[~asked], scale)
        shifted[asked] = log_losses(softmax(scale * logits[asked] + shift), labels[asked])
    return plain - shifted


def _with_shift(logits: Floats, labels: NDArray[Any], scale: float) -> tuple[float, Floats]:
    """Scale and shift of least loss, which is convex in both, from the best scale alone.

    Generalised iterative scaling (Darroch & Ratcliff 1972) of the shift, and a Newton step of the
    scale, in turn.
    """
    count = logits.shape[1]
    own = logits[np.arange(len(labels)), labels]
    shift = np.zeros(count)
    given = softmax(scale * logits)
    # as many rows more as there are labels, as frequent as the model says: none is impossible
    rows = np.bincount(labels, minlength=count) + count * given.mean(axis=0)
    wanted = rows / rows.sum()
    for _ in range(_ROUNDS):
        shift += np.log((wanted + 1e-12) / (given.mean(axis=0) + 1e-12))
        given = softmax(scale * logits + shift)
        mean = (given * logits).sum(axis=1)
        curvature = float(((given * logits**2).sum(axis=1) - mean**2).mean())
        if curvature > 0:
            scale = float(np.clip(scale + (own - mean).mean() / curvature, _LEAST, _MOST))
            given = softmax(scale * logits + shift)
    return scale, shift - shift.mean()
