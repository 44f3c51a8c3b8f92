"""Tasks with any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from glossator.model import prevalence
from glossator.model.calibrate import (
    THRESHOLD,
    Calibration,
    PerLabel,
    best_scale,
    best_threshold,
    cross_entropy,
    enough_rows,
)
from glossator.model.kinds.linear import logistic
from glossator.model.kinds.rules import Labels, Rules
from glossator.model.kinds.values import WrongValueError, label_numbers, named
from glossator.model.metrics import Metrics, Statistics, by_label, calibration_error, macro_f1

if TYPE_CHECKING:
    from torch import Tensor


class Multi(Rules):
    """Tasks with any number of labels."""

    several = True
    fewest = 1
    headline = ("macro_f1", "accuracy")
    by_label = ("scale", "accept")

    def check_names(self, names: Sequence[str]) -> None:
        """Raises `ValueError` for no label."""
        if not names:
            raise ValueError("are too few for kind 'multi', which needs one")

    def missing(self, count: int, names: Sequence[str]) -> Labels:
        """[n, labels] NaN."""
        return np.full((count, len(names)), np.nan, np.float32)

    def encode(self, column: pa.ChunkedArray, names: Sequence[str]) -> Labels:
        """[n, labels] 1 for each label in a row's list, or whose field of a row's struct is 1.

        A struct has a field for each label, in order; a row where one is null is missing.
        """
        if pa.types.is_struct(column.type):
            return self._from_flags(column)
        labels = self.missing(len(column), names)
        if pa.types.is_null(column.type):
            return labels
        if not _is_list(column.type):
            raise ValueError("is no list of labels; of labels joined in a text, name the separator")
        lists = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        lists = lists.cast(pa.large_list(column.type.value_type))
        parents = pc.list_parent_indices(lists).to_numpy()
        try:
            numbers = label_numbers(pa.chunked_array([pc.list_flatten(lists)]), names)
        except WrongValueError as error:
            raise WrongValueError(int(parents[error.row]), str(error)) from None
        if (missing := np.flatnonzero(numbers < 0)).size:
            raise WrongValueError(
                int(parents[missing[0]]), f"holds a null within a list: {named(names)}"
            )
        labels[lists.is_valid().to_numpy(zero_copy_only=False)] = 0
        labels[parents, numbers] = 1
        return labels

    def _from_flags(self, column: pa.ChunkedArray) -> Labels:
        flags = np.zeros((len(column), column.type.num_fields), np.float32)
        for i, field in enumerate(column.type):
            try:
                flags[:, i] = label_numbers(pc.struct_field(column, i), ("0", "1"))
            except WrongValueError as error:
                said = str(error).partition(",")[0]
                raise WrongValueError(
                    error.row, f"{said} in {field.name!r}, which is neither 0 nor 1"
                ) from None
        flags[(flags < 0).any(axis=1)] = np.nan
        return flags

    def observed(self, labels: Labels) -> NDArray[np.bool_]:
        """[n] whether a row has labels, be it none of them."""
        return np.asarray(~np.isnan(labels).any(axis=1))

    def counts(self, labels: Labels, names: Sequence[str]) -> dict[str, int]:
        """By label."""
        counts = labels.sum(axis=0)
        return {name: int(counts[i]) for i, name in enumerate(names)}

    def balance(self, labels: Labels) -> NDArray[np.float64]:
        """[n, labels] so that rows with a label count as much in all as rows without it."""
        seen = self.observed(labels)
        present = labels == 1
        count, having = int(seen.sum()), present.sum(axis=0)
        rows = np.where(present, having, count - having)
        both = (having > 0) & (having < count)
        return np.where(seen[:, None] & both, count / (2 * np.maximum(rows, 1)), 1.0)

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
        """Binary cross-entropy in units of log(2)."""
        from torch.nn import functional

        seen = ~targets.isnan().any(dim=1)
        if not seen.any():
            return None
        if weights is not None:
            weights = (weights if weights.dim() == 2 else weights[:, None])[seen]
        loss = functional.binary_cross_entropy_with_logits(
            logits[seen], targets[seen], weight=weights
        )
        return loss / float(np.log(2))

    def certain(self, labels: Labels, names: Sequence[str]) -> NDArray[np.float64]:
        """[n, labels] the labels as they are."""
        return labels.astype(np.float64)

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

    def decide(self, predicted: NDArray[Any], accept: PerLabel | None = None) -> NDArray[np.bool_]:
        """[n, labels] whether a label is given.

        Args:
            predicted: [n, labels], or [labels] of one row.
            accept: the probability from which labels are given; None or above 1 is `THRESHOLD`.
        """
        least = np.asarray(THRESHOLD if accept is None else accept, np.float64)
        return np.asarray(predicted >= np.where(least > 1, THRESHOLD, least))

    def fit(
        self,
        logits: NDArray[Any],
        labels: Labels,
        initial: Calibration,
        target_precision: float,
        shifted: bool = True,
    ) -> Calibration:
        """The temperature of least loss, and the threshold of best F1, of each label.

        A label with too few rows has the temperature of all labels and the usual threshold.
        """
        seen = self.observed(labels)
        logits, truth = logits[seen], labels[seen] == 1
        if not len(truth):
            return initial

        def fitted(part: NDArray[Any], there: NDArray[np.bool_]) -> float:
            def loss(scale: float) -> float:
                predicted = self.probabilities(part, Calibration(scale=scale))
                return cross_entropy(np.where(there, predicted, 1 - predicted))

            return best_scale(loss)

        shared = fitted(logits, truth)
        scale = tuple(
            fitted(part, there) if enough_rows(there) else shared
            for part, there in zip(logits.T, truth.T, strict=True)
        )
        predicted = self.probabilities(logits, Calibration(scale=scale))
        return Calibration(scale, accept=self.thresholds(predicted, labels[seen]))

    def thresholds(self, predicted: NDArray[Any], labels: Labels) -> tuple[float, ...]:
        """For each label that of best F1."""
        columns = zip(predicted.T, labels.T == 1, strict=True)
        return tuple(best_threshold(given, truth) for given, truth in columns)

    def statistics(
        self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None = None
    ) -> Statistics:
        """Macro-F1, accuracy of single decisions."""
        truth, chosen = labels == 1, self.decide(predicted, accept)
        # products of float32 are fast, and exact for counts below 2^24
        table = np.stack([truth & chosen, truth.astype(np.int8) + chosen], 1).astype(np.float32)
        count, _, size = table.shape

        def statistics(rows: NDArray[Any]) -> tuple[float, float]:
            times = np.bincount(rows, minlength=count).astype(np.float32)
            sums = (times @ table.reshape(count, -1)).astype(np.float64)
            hits, total = sums.reshape(2, size)
            wrong = (total - 2 * hits).sum()
            return macro_f1(hits, total), float(1 - wrong / (len(rows) * size))

        return statistics

    def details(self, labels: Labels, predicted: NDArray[Any], accept: PerLabel | None) -> Metrics:
        """Calibration error, precision and recall by label, each label's confusion."""
        truth, chosen = labels == 1, self.decide(predicted, accept)
        hits, rows, given = (part.sum(axis=0) for part in (truth & chosen, truth, chosen))
        neither = len(truth) - rows - given + hits
        confusions = np.array([[neither, given - hits], [rows - hits, hits]])
        return {
            "ece": self.calibration_error(labels, predicted),
            "by_label": by_label(hits, rows, given),
            "confusions": np.moveaxis(confusions, 2, 0).tolist(),
        }

    def calibration_error(self, labels: Labels, predicted: NDArray[Any]) -> float | None:
        """The mean over labels of that of each one's probability."""
        columns = zip(predicted.T, labels.T == 1, strict=True)
        return float(np.mean([calibration_error(given, truth) for given, truth in columns]))

    def true_shares(self, given: NDArray[Any], measured: Metrics) -> list[float | None] | None:
        """Each label's for itself."""
        pairs = zip(given, np.array(measured["confusions"]), strict=True)
        found = [prevalence.corrected(np.array([1 - share, share]), own) for share, own in pairs]
        return [None if shares is None else float(shares[1]) for shares in found]

    def score(self, metrics: Metrics) -> float:
        """Macro-F1."""
        return float(metrics["macro_f1"][0])

    def baseline(
        self, features: Any, labels: Labels, asked: Any, names: Sequence[str], strength: float
    ) -> NDArray[np.float64]:
        """Logistic regression, one for each label."""
        columns = [logistic(features, column == 1, asked, strength) for column in labels.T]
        return np.stack(columns, axis=1)

    def agreement(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """The mean probability of the labels that were given, or where none was, of none."""
        chosen = self.decide(given, calibration.accept)
        count = chosen.sum(axis=1)
        none = 1 - other.max(axis=1)
        return np.asarray(
            np.where(count > 0, (other * chosen).sum(axis=1) / np.maximum(count, 1), none)
        )

    def same(
        self, given: NDArray[Any], other: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.bool_]:
        """Whether the same labels are predicted."""
        before, after = (self.decide(part, calibration.accept) for part in (given, other))
        return np.asarray((before == after).all(axis=1))

    def leaning(self, given: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
        """Towards the labels that were given; where none was, away from the likeliest."""
        chosen = self.decide(given, calibration.accept).astype(np.float64)
        likeliest = np.arange(given.shape[1]) == given.argmax(axis=1)[:, None]
        count = chosen.sum(axis=1, keepdims=True)
        return np.asarray(np.where(count > 0, chosen / np.maximum(count, 1), -1.0 * likeliest))

    def surprise(
        self, labels: Labels, predicted: NDArray[Any], calibration: Calibration
    ) -> NDArray[np.float64]:
        """The probability of the surest wrong decision."""
        wrong = self.decide(predicted, calibration.accept) != (labels == 1)
        sure = np.where(labels == 1, 1 - predicted, predicted)
        return np.asarray(np.where(wrong, sure, 0).max(axis=1))

    def confidences(
        self, labels: Labels, predicted: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """[n · labels] each label's probability, and whether the row has it."""
        return predicted.ravel(), np.asarray(labels == 1).ravel()

    def label_text(self, label: Any, names: Sequence[str]) -> str:
        """The labels."""
        return ", ".join(names[i] for i in np.flatnonzero(label == 1).tolist()) or "none"

    def text(self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel) -> str:
        """The predicted labels, with their probabilities."""
        chosen = [
            f"{names[i]} {predicted[i]:.0%}"
            for i in np.flatnonzero(self.decide(predicted, accept)).tolist()
        ]
        return ", ".join(chosen) or "none"

    def to_json(
        self, predicted: NDArray[Any], names: Sequence[str], accept: PerLabel
    ) -> dict[str, Any]:
        """Every label's probability, and the predicted ones."""
        return {
            "scores": {name: float(predicted[i]) for i, name in enumerate(names)},
            "labels": [names[i] for i in np.flatnonzero(self.decide(predicted, accept)).tolist()],
        }

    def limits(self, names: Sequence[str]) -> str:
        """It may predict nothing."""
        return f"answers any number of {', '.join(names)}; none where none was likely."


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
