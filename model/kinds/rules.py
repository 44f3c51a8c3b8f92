"""What differs by kind of task, as an interface: each kind is a class, in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration
from glossator.model.metrics import Metrics

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["single", "multi", "regression"]
"""`single`: exactly one label; `multi`: any number of labels; `regression`: one number."""

Labels = NDArray[Any]
"""A task's labels of n rows: single [n] int64, -1 where missing; multi [n, labels] float32 of 0
and 1, a row of NaN where missing; regression [n] float32, NaN where missing."""


class Rules(ABC):
    """What holds for all tasks of a kind. Objects have no state.

    Where a method takes `names`, they are the task's labels, in order; none of a regression.
    `predicted` is what `probabilities` gives.
    """

    headline: ClassVar[tuple[str, ...]]
    """The metrics that the model card shows, the first beside the calibration error."""

    @abstractmethod
    def check_names(self, names: Sequence[str]) -> None:
        """Raises `ValueError` where a task of this kind can't have so many labels."""

    # ------------------------------------------------------------ labels of training data

    @abstractmethod
    def missing(self, count: int, names: Sequence[str]) -> Labels:
        """Labels of rows that have none."""

    @abstractmethod
    def encode(self, column: pa.ChunkedArray, names: Sequence[str]) -> Labels:
        """The labels in a column of a table; null is missing.

        Raises:
            ValueError: a value is no label; the message goes on after the column's name.
        """

    @abstractmethod
    def observed(self, labels: Labels) -> NDArray[np.bool_]:
        """[n] whether a row has a label."""

    @abstractmethod
    def counts(self, labels: Labels, names: Sequence[str]) -> dict[str, int]:
        """How often each label stands in rows that all have one."""

    # ------------------------------------------------------------ learning

    def initial(self, labels: Labels) -> Calibration:
        """What is fixed before training, from rows that all have a label."""
        return Calibration()

    @abstractmethod
    def targets(self, labels: Labels, initial: Calibration) -> NDArray[Any]:
        """What the network learns to give for the labels, missing ones included."""

    @abstractmethod
    def loss(
        self, logits: Tensor, targets: Tensor, names: Sequence[str], smoothing: float = 0.0
    ) -> Tensor | None:
        """The mean loss over rows that have a label, in units of a guess; None where none has.

        Args:
            logits: [B, outputs].
            targets: [B] or [B, labels], as `targets` gives them.
            names: the labels.
            smoothing: label smoothing of a single task (Szegedy et al. 2016).
        """

    def columns(self, names: Sequence[str]) -> int:
        """Numbers that a linear model gives for a text; `spread` makes outputs of them."""
        return len(self.spread(names))

    def spread(self, names: Sequence[str]) -> NDArray[np.float64]:
        """[outputs] factors: a task's outputs are a linear model's [n, columns] times these."""
        return np.ones(max(1, len(names)))

    # ------------------------------------------------------------ predictions

    @abstractmethod
    def probabilities(self, logits: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """[n, labels] calibrated probabilities, or [n, 1] values of a regression.

        Each row is computed for itself, in double precision.
        """

    @abstractmethod
    def losses(
        self, logits: NDArray[Any], labels: Labels, calibration: Calibration
    ) -> NDArray[np.float64]:
        """[n] the loss of each row; all have a label."""

    @abstractmethod
    def margin(self, logits: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
        """[n] how far these logits, a summand of all, speak for or against what was predicted.

        Args:
            logits: [n, outputs] a part of what `predicted` was made of.
            predicted: [n, labels].
        """

    @abstractmethod
    def fit(
        self, logits: NDArray[Any], labels: Labels, initial: Calibration, target_precision: float
    ) -> Calibration:
        """The calibration that fits validation rows best.

        Args:
            logits: [n, outputs].
            labels: [n], of which rows without one are left out.
            initial: what `initial` gave.
            target_precision: the share of accepted labels that must be right.
        """

    @abstractmethod
    def measure(self, labels: Labels, predicted: NDArray[Any]) -> Metrics:
        """Metrics over rows that all have a label."""

    @abstractmethod
    def score(self, metrics: Metrics) -> float:
        """One number from 0 (chance, or worse) to 1, to compare tasks and epochs by."""

    @abstractmethod
    def baseline(
        self, features: Any, labels: Labels, asked: Any, names: Sequence[str]
    ) -> NDArray[np.float64]:
        """What a linear model of scikit-learn gives for `asked`, as `probabilities` does.

        Args:
            features: of the rows to learn from.
            labels: theirs; all have one.
            asked: features of the rows to answer for.
            names: the labels.
        """

    # ------------------------------------------------------------ for readers

    @abstractmethod
    def text(self, predicted: NDArray[Any], names: Sequence[str], accept: float) -> str:
        """One row's prediction in a few words."""

    @abstractmethod
    def to_json(
        self, predicted: NDArray[Any], names: Sequence[str], accept: float
    ) -> dict[str, Any]:
        """One row's prediction for machines."""

    @abstractmethod
    def limits(self, names: Sequence[str]) -> str:
        """What holds for all predictions of this kind, as the rest of a sentence after "It"."""
