"""From logits to probabilities that mean what they say, and to labels one may act on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.data import Labels, observed
from glossator.model.errors import UsageError, shown
from glossator.model.tasks import Task

MIN_ACCEPTED_ROWS = 50
"""Accepted validation rows below which a precision says too little to act on."""

_RANGES = (("scale", 1e-12, 1e12), ("shift", -1e15, 1e15), ("accept", 0.0, 1.01))
"""What keeps probabilities and float32 values finite, whatever the logits."""


@dataclass(frozen=True)
class Calibration:
    """How one task's logits become its answer; fitted on validation rows only."""

    scale: float = 1.0
    """Logits are multiplied by it: 1 / temperature (Guo et al. 2017); a regression's deviation."""
    shift: float = 0.0
    """Added after scaling: a regression's mean."""
    accept: float = 1.01
    """A label is accepted from this confidence on; above 1 nothing is."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise UsageError(f"{name} {shown(value)} is not between {low:g} and {high:g}")

    def to_json(self) -> dict[str, Any]:
        """The fields by name; `Calibration(**fields)` reads them back."""
        return asdict(self)


def probabilities(task: Task, logits: NDArray[Any], calibration: Calibration) -> NDArray[Any]:
    """[n, labels] float64 probabilities of a single or multi task; [n, 1] values of a regression.

    Each row is computed for itself, in double precision.
    """
    scaled = logits.astype(np.float64) * calibration.scale + calibration.shift
    if task.kind == "regression":
        return scaled
    if task.kind == "multi":
        # e^-|x| can't overflow; both branches are the sigmoid
        tail = np.exp(-np.abs(scaled))
        return np.asarray(np.where(scaled >= 0, 1, tail) / (1 + tail))
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit(task: Task, logits: NDArray[Any], labels: Labels, initial: Calibration) -> Calibration:
    """The temperature of least loss on validation rows, and the confidence to accept from.

    Args:
        task: the task.
        logits: [n, outputs] of validation rows.
        labels: their labels; rows without one are left out.
        initial: what training fixed (a regression's mean and deviation); kept for a regression.
    """
    seen = observed(task, labels)
    logits, labels = logits[seen], labels[seen]
    if task.kind == "regression" or not len(labels):
        return initial
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 201))
    losses = [_loss(task, probabilities(task, logits, Calibration(scale=s)), labels) for s in grid]
    scale = float(grid[int(np.argmin(losses))])
    given = probabilities(task, logits, Calibration(scale=scale))
    if task.kind == "multi":
        return Calibration(scale=scale, accept=0.5)
    right = given.argmax(axis=1) == labels
    return Calibration(scale, accept=_accept_from(given.max(axis=1), right, task.target_precision))


def _loss(task: Task, given: NDArray[Any], labels: Labels) -> float:
    tiny = 1e-12
    if task.kind == "single":
        return float(-np.log(given[np.arange(len(labels)), labels] + tiny).mean())
    chosen = np.where(labels == 1, given, 1 - given)
    return float(-np.log(chosen + tiny).mean())


def _accept_from(confidence: NDArray[Any], right: NDArray[Any], target: float) -> float:
    """The lowest confidence from which labels were right in a share of `target` or more."""
    order = np.argsort(-confidence, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # rows of one confidence are accepted together or not at all
    last = np.append(np.diff(confidence[order]) != 0, True)
    enough = np.flatnonzero(
        last & (precision >= target) & (np.arange(len(order)) + 1 >= MIN_ACCEPTED_ROWS)
    )
    return float(confidence[order[enough[-1]]]) if len(enough) else Calibration.accept
