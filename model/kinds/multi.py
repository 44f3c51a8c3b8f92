"""Tasks with any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration, best_scale, cross_entropy
from glossator.model.kinds.rules import Labels, Rules
from glossator.model.metrics import Metrics, bootstrap

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.5
"""A label is predicted from this probability on."""


class Multi(Rules):
    """Tasks with any number of labels."""

    headline = ("accuracy", "macro_f1")

    def check_names(self, names: Sequence[str]) -> None:
        """Raises `ValueError` for no label."""
        if not names:
            raise ValueError("are too few for kind 'multi', which needs one")

    def missing(self, count: int, names: Sequence[str]) -> Labels:
        """[n, labels] NaN."""
        return np.full((count, len(names)), np.nan, np.float32)

    def encode(self, column: pa.ChunkedArray, names: Sequence[str]) -> Labels:
        """[n, labels] 1 for each label in a row's list."""
        index = {name: i for i, name in enumerate(names)}
        labels = self.missing(len(column), names)
        try:
            for row, value in enumerate(column.to_pylist()):
                if value is not None:
                    labels[row] = 0
                    labels[row, [index[name] for name in value]] = 1
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"holds {error.args[0]!r}, which is no label of the multi task; its labels are "
                f"{', '.join(names)}"
            ) from None
        return labels

    def observed(self, labels: Labels) -> NDArray[np.bool_]:
        """[n] whether a row has labels, be it none of them."""
        return np.asarray(~np.isnan(labels).any(axis=1))

    def counts(self, labels: Labels, names: Sequence[str]) -> dict[str, int]:
        """By label."""
        counts = labels.sum(axis=0)
        return {name: int(counts[i]) for i, name in enumerate(names)}

    def targets(self, labels: Labels, initial: Calibration) -> NDArray[Any]:
        """The labels as they are."""
        return labels

    def loss(
        self, logits: Tensor, targets: Tensor, names: Sequence[str], smoothing: float = 0.0
    ) -> Tensor | None:
        """Binary cross-entropy in units of log(2)."""
        from torch.nn import functional

        seen = ~targets.isnan().any(dim=1)
        if not seen.any():
            return None
        loss = functional.binary_cross_entropy_with_logits(logits[seen], targets[seen])
        return loss / float(np.log(2))

    def probabilities(self, logits: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """[n, labels], each a sigmoid."""
        scaled = calibration.scaled(logits)
        # e^-|x| can't overflow; both branches are the sigmoid
        tail = np.exp(-np.abs(scaled))
        return np.asarray(np.where(scaled >= 0, 1, tail) / (1 + tail))

    def losses(
        self, logits: NDArray[Any], labels: Labels, calibration: Calibration
    ) -> NDArray[np.float64]:
        """The mean over labels of the negative logarithm of what was true of each."""
        predicted = self.probabilities(logits, calibration)
        given = np.where(labels == 1, predicted, 1 - predicted)
        return np.asarray(-np.log(given + 1e-12).mean(axis=1))

    def margin(self, logits: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
        """The log-odds of all labels, whichever way they speak."""
        return np.asarray(np.abs(logits.astype(np.float64)).sum(axis=1))

    def decide(self, predicted: NDArray[Any]) -> NDArray[np.bool_]:
        """[n, labels] whether a label is predicted."""
        return np.asarray(predicted >= THRESHOLD)

    def fit(
        self, logits: NDArray[Any], labels: Labels, initial: Calibration, target_precision: float
    ) -> Calibration:
        """The temperature of least loss."""
        seen = self.observed(labels)
        logits, labels = logits[seen], labels[seen]
        if not len(labels):
            return initial

        def loss(scale: float) -> float:
            predicted = self.probabilities(logits, Calibration(scale=scale))
            return cross_entropy(np.where(labels == 1, predicted, 1 - predicted))

        return Calibration(scale=best_scale(loss), accept=THRESHOLD)

    def measure(self, labels: Labels, predicted: NDArray[Any]) -> Metrics:
        """Accuracy of single decisions, macro-F1."""
        size, truth, chosen = predicted.shape[1], labels == 1, self.decide(predicted)

        def statistics(rows: NDArray[Any]) -> tuple[float, float]:
            both = (truth[rows] & chosen[rows]).sum(axis=0)
            total = truth[rows].sum(axis=0) + chosen[rows].sum(axis=0)
            f1 = np.divide(2 * both, total, out=np.zeros(size), where=total > 0)
            macro_f1 = f1.sum() / max(1, (total > 0).sum())  # 0 where no label occurs at all
            return float((truth[rows] == chosen[rows]).mean()), float(macro_f1)

        return bootstrap(len(labels), ("accuracy", "macro_f1"), statistics)

    def score(self, metrics: Metrics) -> float:
        """Macro-F1."""
        return float(metrics["macro_f1"][0])

    def baseline(
        self, features: Any, labels: Labels, asked: Any, names: Sequence[str]
    ) -> NDArray[np.float64]:
        """Logistic regression, one for each label."""
        columns = [_binary(features, labels[:, i], asked) for i in range(labels.shape[1])]
        return np.stack(columns, axis=1)

    def text(self, predicted: NDArray[Any], names: Sequence[str], accept: float) -> str:
        """The predicted labels, with their probabilities."""
        chosen = [
            f"{names[i]} {predicted[i]:.0%}"
            for i in np.flatnonzero(self.decide(predicted)).tolist()
        ]
        return ", ".join(chosen) or "none"

    def to_json(
        self, predicted: NDArray[Any], names: Sequence[str], accept: float
    ) -> dict[str, Any]:
        """Every label's probability, and the predicted ones."""
        return {
            "scores": {name: float(predicted[i]) for i, name in enumerate(names)},
            "labels": [names[i] for i in np.flatnonzero(self.decide(predicted)).tolist()],
        }

    def limits(self, names: Sequence[str]) -> str:
        """It may predict nothing."""
        return f"answers any number of {', '.join(names)}; none where none was likely."


def _binary(features: Any, labels: NDArray[Any], asked: Any) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    if labels.min() == labels.max():
        return np.full(asked.shape[0], float(labels[0]))
    model = LogisticRegression(C=4.0, max_iter=200).fit(features, labels)
    return np.asarray(model.predict_proba(asked)[:, 1], np.float64)
