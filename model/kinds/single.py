"""Tasks with exactly one label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model import prevalence
from glossator.model.calibrate import Calibration, PerLabel, accept_from
from glossator.model.kinds.linear import logistic
from glossator.model.kinds.rules import Labels, Rules
from glossator.model.kinds.shares import fit_scale_and_shift, log_losses, softmax
from glossator.model.kinds.values import label_numbers
from glossator.model.metrics import (
    Metrics,
    Statistics,
    accepted,
    by_label,
    calibration_error,
    choices,
    confusion_matrix,
)

if TYPE_CHECKING:
    from torch import Tensor


MAX_SHOWN = 64
"""Labels of which the confusion matrix is kept: it grows with their square, and nobody reads it."""


class Decisions(NamedTuple):
    """The label of each of n rows."""

    label: NDArray[np.int64]
    """[n] the most probable one; of equal ones the first."""
    confidence: NDArray[np.float32]
    """[n] its probability."""
    accepted: NDArray[np.bool_]
    """[n] whether it is confident enough to act on."""


class Single(Rules):
    """Tasks with exactly one label."""

    fewest = 2
    headline = ("accuracy", "macro_f1")
    by_label = ("shift",)

    def check_names(self, names: Sequence[str]) -> None:
        """Raises `ValueError` for fewer than two labels."""
        if len(names) < 2:
            raise ValueError("are too few for kind 'single', which needs two")

    def missing(self, count: int, names: Sequence[str]) -> Labels:
        """[n] -1."""
        return np.full(count, -1)

    def encode(self, column: pa.ChunkedArray, names: Sequence[str]) -> Labels:
        """[n] the number of each label."""
        return label_numbers(column, names)

    def observed(self, labels: Labels) -> NDArray[np.bool_]:
        """[n] whether a row has a label."""
        return np.asarray(labels >= 0)

    def counts(self, labels: Labels, names: Sequence[str]) -> dict[str, int]:
        """By label."""
        counts = np.bincount(labels, minlength=len(names))
        return {name: int(counts[i]) for i, name in enumerate(names)}

    def balance(self, labels: Labels) -> NDArray[np.float64]:
        """[n] in inverse proportion to how many rows have the label."""
        seen = self.observed(labels)
        counts = np.bincount(labels[seen])
        weights = np.ones(len(labels))
        weights[seen] = seen.sum() / ((counts > 0).sum() * counts[labels[seen]])
        return weights

    def targets(self, labels: Labels, initial: Calibration) -> NDArray[Any]:
        """The labels as they are."""
        return labels

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        names: Sequence[str],
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        """Cross-entropy in units of log(labels); `targets` may be probabilities [B, labels] too."""
        from torch.nn import functional

        seen = targets >= 0 if targets.dim() == 1 else ~targets.isnan().any(dim=1)
        if not seen.any():
            return None
        loss = functional.cross_entropy(
            logits[seen], targets[seen], label_smoothing=smoothing, reduction="none"
        )
        if weights is not None:
            loss = loss * weights[seen]
        return loss.mean() / float(np.log(len(names)))

    def certain(self, labels: Labels, names: Sequence[str]) -> NDArray[np.float64]:
        """[n, labels] one, and zero for the others."""
        sure = np.eye(len(names) + 1)[labels, : len(names)]
        sure[labels < 0] = np.nan
        return sure

    def plausible(self, predicted: NDArray[Any]) -> NDArray[np.bool_]:
        """[n] probabilities that add up to one, but for rounding."""
        return super().plausible(predicted) & (np.abs(predicted.sum(axis=1) - 1) < 1e-3)

    def probabilities(self, logits: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """[n, labels], each row a softmax."""
        return softmax(calibration.scaled(logits))

    def spread(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Of two labels one column says all: half of it against the first, half for the second."""
        return np.array([-0.5, 0.5]) if len(names) == 2 else np.ones(len(names))

    def columns(self, names: Sequence[str]) -> int:
        """One for two labels, else one for each."""
        return 1 if len(names) == 2 else len(names)

    def losses(
        self, logits: NDArray[Any], labels: Labels, calibration: Calibration
    ) -> NDArray[np.float64]:
        """The negative logarithm of the label's probability."""
        return log_losses(self.probabilities(logits, calibration), labels)

    def margin(self, logits: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
        """The label's log-odds against the mean of the others."""
        chosen = logits[np.arange(len(logits)), predicted.argmax(axis=1)].astype(np.float64)
        others = (logits.sum(axis=1, dtype=np.float64) - chosen) / (logits.shape[1] - 1)
        return np.asarray(np.abs(chosen - others))

    def decide(self, predicted: NDArray[Any], accept: PerLabel) -> Decisions:
        """The label of each row.

        Args:
            predicted: [n, labels].
            accept: the confidence from which a label is accepted.
        """
        confidence = predicted.max(axis=1).astype(np.float32)
        taken = confidence >= np.asarray(accept, np.float32)
        return Decisions(predicted.argmax(axis=1), confidence, taken)

    def fit(
        self,
        logits: NDArray[Any],
        labels: Labels,
        initial: Calibration,
        target_precision: float,
        shifted: bool = True,
    ) -> Calibration:
        """Temperature and shift of least loss, and the confidence to accept from."""
        seen = self.observed(labels)
        logits, labels = logits[seen].astype(np.float64), labels[seen]
        if not len(labels):
            return initial
        scale, shift = fit_scale_and_shift(logits, labels, shifted)
        predicted = self.probabilities(logits, Calibration(scale, shift))
        right = predicted.argmax(axis=1) == labels
        accept = accept_from(predicted.max(axis=1), right, target_precision)
        return Calibration(scale, shift, accept)

    def revised(
        self, predicted: NDArray[Any], rows: NDArray[np.int64], labels: Labels
    ) -> NDArray[Any]:
        """With temperature and shift of least loss, where a shift pays; else nothing changes."""
        logits = np.log(predicted + 1e-12)
        fitted = Calibration(*fit_scale_and_shift(logits[rows], labels))
        return softmax(fitted.scaled(logits)) if fitted.shift else predicted

    def statistics(
        self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None = None
    ) -> Statistics:
        """Accuracy, macro-F1 over the labels that occur."""
        return choices(labels, predicted.argmax(axis=1), size=predicted.shape[1])

    def details(self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None) -> Metrics:
        """Calibration error, what is accepted, precision and recall by label, the confusion."""
        size, chosen = predicted.shape[1], predicted.argmax(axis=1)
        rows, given = (np.bincount(numbers, minlength=size) for numbers in (labels, chosen))
        hits = np.bincount(labels[labels == chosen], minlength=size)
        result: Metrics = {"ece": self.calibration_error(labels, predicted)}
        if accept is not None:
            result["accepted"] = accepted(self.decide(predicted, accept).accepted, labels == chosen)
        result["by_label"] = by_label(hits, rows, given)
        if size <= MAX_SHOWN:
            result["confusion"] = confusion_matrix(labels, chosen, size).tolist()
        return result

    def calibration_error(self, labels: Labels, predicted: NDArray[Any]) -> float | None:
        """Of the most probable label."""
        return calibration_error(predicted.max(axis=1), predicted.argmax(axis=1) == labels)

    def true_shares(self, given: NDArray[Any], measured: Metrics) -> list[float | None] | None:
        """All labels' at once: they sum to 1."""
        if "confusion" not in measured:
            return None
        shares = prevalence.corrected(given, np.array(measured["confusion"]))
        return None if shares is None else [float(share) for share in shares]

    def score(self, metrics: Metrics) -> float:
        """Macro-F1."""
        return float(metrics["macro_f1"][0])

    def baseline(
        self, features: Any, labels: Labels, asked: Any, names: Sequence[str], strength: float
    ) -> NDArray[np.float64]:
        """Logistic regression, each label against the others; of two labels, one."""
        found = np.unique(labels)
        if len(found) < 2:
            raise ValueError(f"all rows to learn from are {names[found[0]]!r}")
        result = np.zeros((asked.shape[0], len(names)))
        for label in found if len(found) > 2 else found[1:]:
            result[:, label] = logistic(features, labels == label, asked, strength)
        if len(found) == 2:
            result[:, found[0]] = 1 - result[:, found[1]]
        return np.asarray(result / np.maximum(result.sum(axis=1, keepdims=True), 1e-300))

    def agreement(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """The probability of the label that was given."""
        return np.asarray(np.take_along_axis(other, given.argmax(axis=1)[:, None], 1)[:, 0])

    def same(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.bool_]:
        """Whether the most probable label is the same."""
        return np.asarray(given.argmax(axis=1) == other.argmax(axis=1))

    def leaning(self, given: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """The gradient of its log-probability: towards the label, away from its rivals."""
        chosen = np.arange(given.shape[1]) == given.argmax(axis=1)[:, None]
        rivals = np.where(chosen, 0, given + 1e-12)
        return np.asarray(chosen - rivals / rivals.sum(axis=1, keepdims=True))

    def surprise(
        self, labels: Labels, predicted: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """The confidence of a wrong label."""
        return np.asarray(np.where(predicted.argmax(axis=1) == labels, 0, predicted.max(axis=1)))

    def confidences(
        self, labels: Labels, predicted: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """[n] that of the most probable label, and whether it is right."""
        return predicted.max(axis=1), np.asarray(predicted.argmax(axis=1) == labels)

    def label_text(self, label: Any, names: Sequence[str]) -> str:
        """The label."""
        return names[int(label)]

    def text(self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel) -> str:
        """Label and confidence; with a question mark where it is not accepted."""
        label, confidence, accepted = (column[0] for column in self.decide(predicted[None], accept))
        return f"{names[label]} {confidence:.0%}{'' if accepted else ' ?'}"

    def to_json(
        self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel
    ) -> dict[str, Any]:
        """Every label's probability, and the decision."""
        label, _, accepted = (column[0] for column in self.decide(predicted[None], accept))
        return {
            "scores": {name: float(predicted[i]) for i, name in enumerate(names)},
            "label": names[label],
            "confidence": float(predicted[label]),
            "accepted": bool(accepted),
        }

    def limits(self, names: Sequence[str]) -> str:
        """It always predicts one."""
        return (
            f"always answers one of {', '.join(names)}, also where none fits; use `accepted` and "
            "`confidence` to leave doubtful texts alone."
        )
