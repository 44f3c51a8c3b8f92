"""Tasks with one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration, PerLabel
from glossator.model.kinds.rules import Labels, Rules
from glossator.model.kinds.values import WrongValueError, is_number
from glossator.model.metrics import Metrics, Statistics

if TYPE_CHECKING:
    from torch import Tensor


class Regression(Rules):
    """Tasks with one number."""

    headline = ("mae", "r2")

    def check_names(self, names: Sequence[str]) -> None:
        """Raises `ValueError` for any label."""
        if names:
            raise ValueError("are given, but a regression has no labels: remove them")

    def missing(self, count: int, names: Sequence[str]) -> Labels:
        """[n] NaN."""
        return np.full(count, np.nan, np.float32)

    def encode(self, column: pa.ChunkedArray, names: Sequence[str]) -> Labels:
        """[n] the numbers."""
        if pa.types.is_null(column.type):
            return self.missing(len(column), names)
        if not is_number(column.type):
            raise ValueError("is not a number")
        exact = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            numbers = exact.astype(np.float32)
        if (wrong := np.flatnonzero(np.isinf(numbers))).size:
            row = int(wrong[0])
            raise WrongValueError(
                row, f"holds {exact[row]:g}, which is infinite or too large for a float32"
            )
        return numbers

    def observed(self, labels: Labels) -> NDArray[np.bool_]:
        """[n] whether a row has a number."""
        return ~np.isnan(labels)

    def counts(self, labels: Labels, names: Sequence[str]) -> dict[str, int]:
        """The rows."""
        return {"rows": len(labels)}

    def initial(self, labels: Labels) -> Calibration:
        """Mean and deviation: a regression is learnt as deviations from the mean."""
        numbers = labels.astype(np.float64)
        return Calibration(scale=float(numbers.std()) or 1.0, shift=float(numbers.mean()))

    def targets(self, labels: Labels, initial: Calibration) -> NDArray[Any]:
        """[n] deviations from the mean, in units of the usual one."""
        return np.asarray((labels - float(np.asarray(initial.shift))) / initial.scale, np.float32)

    def lessons(self, predicted: NDArray[Any], initial: Calibration) -> NDArray[np.float32]:
        """[n] the numbers as `targets` gives them."""
        return self.targets(predicted[:, 0], initial)

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        names: Sequence[str],
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        """Mean square of the error."""
        from torch.nn import functional

        seen = ~targets.isnan()
        if not seen.any():
            return None
        loss = functional.mse_loss(logits[seen, 0], targets[seen], reduction="none")
        return (loss if weights is None else loss * weights[seen]).mean()

    def certain(self, labels: Labels, names: Sequence[str]) -> NDArray[np.float64]:
        """[n, 1] the numbers."""
        return labels.astype(np.float64)[:, None]

    def plausible(self, predicted: NDArray[Any]) -> NDArray[np.bool_]:
        """[n] finite numbers."""
        return np.asarray(np.isfinite(predicted).all(axis=1))

    def probabilities(self, logits: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """[n, 1] the numbers, in the unit of the labels."""
        return calibration.scaled(logits)

    def losses(
        self, logits: NDArray[Any], labels: Labels, calibration: Calibration
    ) -> NDArray[np.float64]:
        """The square of the error."""
        return np.asarray((self.probabilities(logits, calibration)[:, 0] - labels) ** 2)

    def margin(self, logits: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
        """How far the value is moved from the mean of the training labels."""
        return np.asarray(np.abs(logits[:, 0].astype(np.float64)))

    def fit(
        self,
        logits: NDArray[Any],
        labels: Labels,
        initial: Calibration,
        target_precision: float,
        shifted: bool = True,
    ) -> Calibration:
        """What was fixed before training."""
        return initial

    def statistics(
        self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None = None
    ) -> Statistics:
        """Mean absolute error, R²."""
        error = predicted[:, 0] - labels

        def statistics(rows: NDArray[Any]) -> tuple[float, float]:
            spread = ((labels[rows] - labels[rows].mean()) ** 2).sum()
            r2 = 1 - (error[rows] ** 2).sum() / spread if spread > 0 else 0.0
            return float(np.abs(error[rows]).mean()), float(r2)

        return statistics

    def score(self, metrics: Metrics) -> float:
        """R², not below 0."""
        return float(max(0.0, metrics["r2"][0]))

    def baseline(
        self, features: Any, labels: Labels, asked: Any, names: Sequence[str], strength: float
    ) -> NDArray[np.float64]:
        """Ridge regression."""
        from sklearn.linear_model import Ridge

        answer = Ridge(alpha=1 / strength).fit(features, labels).predict(asked)
        return np.asarray(answer, np.float64)[:, None]

    def agreement(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """Minus the distance, in deviations."""
        return np.asarray(-np.abs(other[:, 0] - given[:, 0]) / calibration.scale)

    def same(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.bool_]:
        """Whether the values are within half a deviation."""
        return np.asarray(np.abs(other[:, 0] - given[:, 0]) <= np.asarray(calibration.scale) / 2)

    def leaning(self, given: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """Away from the mean, to the side on which the value is."""
        return np.where(given < np.asarray(calibration.shift), -1.0, 1.0)

    def shift(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """The value."""
        return np.asarray((other - given) / calibration.scale)

    def surprise(
        self, labels: Labels, predicted: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """The absolute error."""
        return np.asarray(np.abs(predicted[:, 0] - labels), np.float64)

    def confidences(self, labels: Labels, predicted: NDArray[Any]) -> None:
        """A number has no probability."""
        return None

    def label_text(self, label: Any, names: Sequence[str]) -> str:
        """Three digits of the number."""
        return f"{float(label):.3g}"

    def text(self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel) -> str:
        """Three digits of the number."""
        return f"{predicted[0]:.3g}"

    def to_json(
        self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel
    ) -> dict[str, Any]:
        """The number."""
        return {"value": float(predicted[0])}

    def limits(self, names: Sequence[str]) -> str:
        """It extrapolates."""
        return "answers outside the range of the training labels are extrapolations."
