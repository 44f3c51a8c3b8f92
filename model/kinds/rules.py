"""What differs by kind of task, as an interface: each kind is a class, in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration, PerLabel
from glossator.model.metrics import Metrics, Statistics, bootstrap

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

    several: ClassVar[bool] = False
    """Whether a row may have more than one label: joined in a text, or in columns of their own."""
    fewest: ClassVar[int] = 0
    """Different labels that there have to be to learn from."""
    headline: ClassVar[tuple[str, ...]]
    """The metrics that models are compared by, the one that decides first."""
    by_label: ClassVar[tuple[str, ...]] = ()
    """The fields of a calibration that may have a number for each label."""

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
            WrongValueError: a value is no label.
            ValueError: the column can hold none; the message goes on after the column's name.
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

    def balance(self, labels: Labels) -> NDArray[np.float64]:
        """How much each row's label counts so that all labels count the same (King & Zeng 2001).

        Returns:
            [n], or [n, labels] of multi; 1 where a label is missing.
        """
        return np.ones(len(labels))

    @abstractmethod
    def targets(self, labels: Labels, initial: Calibration) -> NDArray[Any]:
        """What the network learns to give for the labels, missing ones included."""

    @abstractmethod
    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        names: Sequence[str],
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        """The mean loss over rows that have a label, in units of a guess; None where none has.

        Args:
            logits: [B, outputs].
            targets: [B] or [B, labels], as `targets` or `lessons` gives them.
            names: the labels.
            smoothing: label smoothing of a single task (Szegedy et al. 2016).
            weights: [B] or [B, labels] how much each counts, as `Dataset.loss_weights` gives them;
                without them all count the same.
        """

    def lessons(self, predicted: NDArray[Any], initial: Calibration) -> NDArray[np.float32]:
        """What the network learns to give where a teacher's prediction stands for the label.

        Args:
            predicted: of the teacher, as `probabilities` gives it.
            initial: what `initial` gave.
        """
        return np.asarray(predicted, np.float32)

    @abstractmethod
    def certain(self, labels: Labels, names: Sequence[str]) -> NDArray[np.float64]:
        """What a teacher that is sure of the labels would predict; NaN where they are missing."""

    def plausible(self, predicted: NDArray[Any]) -> NDArray[np.bool_]:
        """[n] whether values from elsewhere could be what `probabilities` gives."""
        return np.asarray(((predicted >= 0) & (predicted <= 1)).all(axis=1))

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
        self,
        logits: NDArray[Any],
        labels: Labels,
        initial: Calibration,
        target_precision: float,
        shifted: bool = True,
    ) -> Calibration:
        """The calibration that fits validation rows best.

        Args:
            logits: [n, outputs].
            labels: [n], of which rows without one are left out.
            initial: what `initial` gave.
            target_precision: the share of accepted labels that must be right.
            shifted: whether labels are to be as frequent as they are among these rows; not so of a
                balanced task.
        """

    def thresholds(self, predicted: NDArray[Any], labels: Labels) -> PerLabel | None:
        """The probabilities from which labels are best given; None where the likeliest one is.

        Args:
            predicted: [n, labels].
            labels: [n], all there.
        """
        return None

    def revised(
        self, predicted: NDArray[Any], rows: NDArray[np.int64], labels: Labels
    ) -> NDArray[Any]:
        """Another model's predictions, calibrated on validation rows as the network's are.

        As far as that may change what is answered; thresholds are those of `thresholds`.

        Args:
            predicted: [n, labels].
            rows: which of them are of validation.
            labels: theirs, all there.
        """
        return predicted

    @abstractmethod
    def statistics(
        self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None = None
    ) -> Statistics:
        """The metrics of `headline` over any of the rows, which all have a label.

        Args:
            labels: [n].
            predicted: [n, labels].
            accept: as in the task's calibration; None where there is none.
        """

    def measure(
        self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None = None
    ) -> Metrics:
        """All metrics over rows that all have a label; the arguments are those of `statistics`."""
        statistics = self.statistics(labels, predicted, accept)
        return {
            **bootstrap(len(labels), self.headline, statistics),
            **self.details(labels, predicted, accept),
        }

    def details(self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None) -> Metrics:
        """The metrics that are not in `headline`."""
        return {}

    def calibration_error(self, labels: Labels, predicted: NDArray[Any]) -> float | None:
        """Expected calibration error; None where predictions are no probabilities."""
        return None

    def true_shares(self, given: NDArray[Any], measured: Metrics) -> list[float | None] | None:
        """How often each label occurs, from how often it was given; None where errors hide it.

        Args:
            given: [labels] the share of rows that were given each label.
            measured: what `measure` gave for other rows, that nothing was learnt from.
        """
        return None

    @abstractmethod
    def score(self, metrics: Metrics) -> float:
        """One number from 0 (chance, or worse) to 1, to compare tasks and epochs by."""

    @abstractmethod
    def baseline(
        self, features: Any, labels: Labels, asked: Any, names: Sequence[str], strength: float
    ) -> NDArray[np.float64]:
        """What a linear model of scikit-learn gives for `asked`, as `probabilities` does.

        Args:
            features: of the rows to learn from.
            labels: theirs; all have one.
            asked: features of the rows to answer for.
            names: the labels.
            strength: how far it may follow the rows: the inverse of its regularisation.

        Raises:
            ValueError: it can't be fitted to such labels; the message is a reason in words.
        """

    # ------------------------------------------------------------ two predictions for one text

    @abstractmethod
    def agreement(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """[n] how far other predictions stand by the answers that were given.

        The probability that `other` has for the answer of `given`; of a regression minus the
        distance, in units of the labels' deviation.
        """

    @abstractmethod
    def same(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.bool_]:
        """[n] whether both come to one answer; of a regression, within half a deviation."""

    @abstractmethod
    def leaning(self, given: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """[n, outputs] the change of the logits that speaks most for the answers given."""

    def shift(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """[n, outputs] how far each probability moved; of a regression the value, in deviations."""
        return np.asarray(other - given)

    # ------------------------------------------------------------ predictions beside labels

    @abstractmethod
    def surprise(
        self, labels: Labels, predicted: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """[n] how sure a wrong answer was, 0 where it is right; of a regression its error.

        All rows have a label.
        """

    @abstractmethod
    def confidences(
        self, labels: Labels, predicted: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """[m] probabilities, and whether what they were given for is so; None without such.

        All rows have a label.
        """

    # ------------------------------------------------------------ for readers

    @abstractmethod
    def text(self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel) -> str:
        """One row's prediction in a few words."""

    @abstractmethod
    def label_text(self, label: Any, names: Sequence[str]) -> str:
        """One row's label, which is not missing, in a few words."""

    @abstractmethod
    def to_json(
        self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel
    ) -> dict[str, Any]:
        """One row's prediction for machines."""

    @abstractmethod
    def limits(self, names: Sequence[str]) -> str:
        """What holds for all predictions of this kind, as the rest of a sentence after "It"."""
