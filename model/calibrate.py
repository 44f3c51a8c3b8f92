"""From logits to probabilities that mean what they say, and to labels one may act on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown

MIN_ACCEPTED_ROWS = 50
"""Accepted validation rows below which a precision says too little to act on."""
MIN_LABEL_ROWS = 30
"""Validation rows with a label, and without it, below which it has no scale or threshold of its
own: what was fitted to fewer would be theirs alone."""
THRESHOLD = 0.5
"""The usual probability from which a label of a multi task is given."""

NOTHING = 1.01
"""Accepted from this confidence: none."""

PerLabel = float | tuple[float, ...]
"""A number for the whole task, or one for each of its labels, in order."""

_RANGES = (
    ("scale", 1e-12, 1e12),
    ("shift", -1e15, 1e15),
    ("accept", 0.0, 1.01),
    ("expert", 0.0, 100.0),
)
"""What keeps probabilities and float32 values finite, whatever the logits."""
_BY_LABEL = ("scale", "shift", "accept")
"""What may have a number for each label, in a task of some kind."""


@dataclass(frozen=True)
class Calibration:
    """How one task's logits become predictions; fitted on validation rows only."""

    scale: PerLabel = 1.0
    """Logits are multiplied by it: 1 / temperature (Guo et al. 2017); a regression's deviation.
    A multi task may have one for each label."""
    shift: PerLabel = 0.0
    """Added after scaling: a regression's mean; of a single task a number for each label, which
    says how much more frequent it is than the model believes."""
    accept: PerLabel = NOTHING
    """A label is accepted from this confidence on; above 1 nothing is. In a multi task it is the
    probability from which a label is given, for all or for each; above 1, `THRESHOLD`."""
    expert: float = 0.0
    """The weight of the n-gram expert's logits, which are added before scaling; 0 is without it."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, list) and name in _BY_LABEL:  # as JSON has it
                object.__setattr__(self, name, value := tuple(value))
            for number in value if isinstance(value, tuple) else (value,):
                plain = isinstance(number, (int, float)) and not isinstance(number, bool)
                if not plain or not low <= number <= high:
                    raise UsageError(f"{name} {shown(number)} is not between {low:g} and {high:g}")

    def check_labels(self, count: int, by_label: Sequence[str]) -> None:
        """Raises `UsageError` where a field has numbers for other labels than the task has.

        Args:
            count: the labels of the task.
            by_label: the fields that may have a number for each.
        """
        for name in _BY_LABEL:
            value, may = getattr(self, name), name in by_label
            if isinstance(value, tuple) and not (may and len(value) == count):
                raise UsageError(
                    f"{name} has {len(value)} numbers, not one"
                    + (f" or one for each of {count} labels" if may else "")
                )

    def scaled(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """The logits in double precision, scaled and shifted."""
        scaled = logits.astype(np.float64) * np.asarray(self.scale)
        return np.asarray(scaled + np.asarray(self.shift))

    def to_json(self) -> dict[str, Any]:
        """The fields by name, a weight of 0 left out; `Calibration(**fields)` reads them back."""
        fields = asdict(self)
        return fields if self.expert else {k: v for k, v in fields.items() if k != "expert"}


def best_scale(loss: Callable[[float], float]) -> float:
    """The scale of least loss, between 0.001 and 10, in steps of 2.3%.

    Args:
        loss: falls with the scale and then rises, as a cross-entropy does, which is convex in it.
    """
    grid = np.exp(np.linspace(np.log(0.001), np.log(10), 401)).tolist()
    near = min(range(0, len(grid), 10), key=lambda i: loss(grid[i]))
    return float(min(grid[max(0, near - 9) : near + 10], key=loss))


def pays(gain: NDArray[Any]) -> bool:
    """Whether losses fell, on average, by more than one standard error of that fall.

    Args:
        gain: [n] how far each row's loss fell.
    """
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


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
    return float(confidence[order[enough[-1]]]) if len(enough) else NOTHING


def best_threshold(given: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """The probability from which a label is best given, by F1; `THRESHOLD` where rows are few.

    It lies halfway between the last row that is best given the label and the next one.

    Args:
        given: [n] the label's probabilities.
        truth: [n] whether a row has it.
    """
    if not enough_rows(truth):
        return THRESHOLD
    order = np.argsort(-given, kind="stable")
    f1 = 2 * np.cumsum(truth[order]) / (np.arange(1, len(order) + 1) + truth.sum())
    # rows of one probability are given the label together or not at all
    last = np.append(np.diff(given[order]) != 0, True)
    best = int(np.argmax(np.where(last, f1, -1.0)))
    above, below = np.append(given[order], 0.0)[best : best + 2]
    middle = (above + below) / 2
    return float(middle if middle > below else above)


def enough_rows(truth: NDArray[np.bool_]) -> bool:
    """Whether there are rows enough, with a label and without it, to fit something to it."""
    positive = int(truth.sum())
    return min(positive, len(truth) - positive) >= MIN_LABEL_ROWS
