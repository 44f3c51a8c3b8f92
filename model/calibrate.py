"""From logits to probabilities that mean what they say, and to labels one may act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown

MIN_ACCEPTED_ROWS = 50
"""Accepted validation rows below which a precision says too little to act on."""

_RANGES = (
    ("scale", 1e-12, 1e12),
    ("shift", -1e15, 1e15),
    ("accept", 0.0, 1.01),
    ("expert", 0.0, 100.0),
)
"""What keeps probabilities and float32 values finite, whatever the logits."""


@dataclass(frozen=True)
class Calibration:
    """How one task's logits become predictions; fitted on validation rows only."""

    scale: float = 1.0
    """Logits are multiplied by it: 1 / temperature (Guo et al. 2017); a regression's deviation."""
    shift: float = 0.0
    """Added after scaling: a regression's mean."""
    accept: float = 1.01
    """A label is accepted from this confidence on; above 1 nothing is."""
    expert: float = 0.0
    """The weight of the n-gram expert's logits, which are added before scaling; 0 is without it."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise UsageError(f"{name} {shown(value)} is not between {low:g} and {high:g}")

    def scaled(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """The logits in double precision, scaled and shifted."""
        return np.asarray(logits.astype(np.float64) * self.scale + self.shift)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, a weight of 0 left out; `Calibration(**fields)` reads them back."""
        fields = asdict(self)
        return fields if self.expert else {k: v for k, v in fields.items() if k != "expert"}


def best_scale(loss: Callable[[float], float]) -> float:
    """The scale of least loss, between 0.1 and 10, in steps of 2.3%."""
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 201))
    return float(grid[int(np.argmin([loss(scale) for scale in grid]))])


def cross_entropy(given: NDArray[Any]) -> float:
    """The mean loss where the true labels had these probabilities."""
    return float(-np.log(given + 1e-12).mean())


def accept_from(confidence: NDArray[Any], right: NDArray[Any], target: float) -> float:
    """The lowest confidence from which labels were right in a share of `target` or more."""
    order = np.argsort(-confidence, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # rows of one confidence are accepted together or not at all
    last = np.append(np.diff(confidence[order]) != 0, True)
    enough = np.flatnonzero(
        last & (precision >= target) & (np.arange(len(order)) + 1 >= MIN_ACCEPTED_ROWS)
    )
    return float(confidence[order[enough[-1]]]) if len(enough) else Calibration.accept
