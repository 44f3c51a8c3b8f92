"""How predictions of each kind of task look in the output: as Arrow structs and as Beam rows."""

# Beam reads these annotations as types: `from __future__ import annotations` would hide them

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Optional

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model import kinds
from glossator.model.kinds import Kind
from glossator.model.labeller import TaskPredictions
from glossator.model.tasks import Task

Entropy = Optional[np.float32]  # noqa: UP045 - of `np.float32 | None` Beam makes Any
"""Nothing where no words were asked for."""


class Word(NamedTuple):
    """One marked word."""

    text: str
    start: np.int32
    """In characters of the original text, as `end` is."""
    end: np.int32
    weight: np.float32


class SingleRow(NamedTuple):
    """The prediction of a task with exactly one label."""

    label: str
    confidence: np.float32
    accepted: bool
    attention: list[Word]
    entropy: Entropy


class MultiRow(NamedTuple):
    """The prediction of a task with any number of labels."""

    labels: list[str]
    scores: list[np.float32]
    attention: list[Word]
    entropy: Entropy


class RegressionRow(NamedTuple):
    """The prediction of a task with a number."""

    value: np.float32
    attention: list[Word]
    entropy: Entropy


def _and_expert(row: Any) -> Any:
    """A row with the share of the n-gram expert, where that has a say."""
    fields = [*row.__annotations__.items(), ("expert", np.float32)]
    return NamedTuple(f"{row.__name__}WithExpert", fields)


SingleRowWithExpert = _and_expert(SingleRow)
MultiRowWithExpert = _and_expert(MultiRow)
RegressionRowWithExpert = _and_expert(RegressionRow)


class Shape(ABC):
    """The fields that come before `attention` and `entropy`; the same widths in both forms."""

    rows: ClassVar[tuple[Any, Any]]
    """The types of a row: without the share of the n-gram expert, and with it."""

    @abstractmethod
    def fields(self, task: Task) -> list[pa.Field]:
        """The fields of the struct."""

    @abstractmethod
    def arrays(self, predictions: TaskPredictions) -> list[pa.Array]:
        """Their values for n texts."""

    @abstractmethod
    def counts(self, task: Task, column: pa.StructArray) -> dict[str, int]:
        """How often each label was predicted; nothing of a regression."""

    def sums(self, column: pa.StructArray) -> dict[str, int]:
        """Of confidences, in millionths, and of accepted labels; nothing where there are none.

        They are whole numbers, so that they add up to the same however rows are split.
        """
        return {}

    def answers(self, column: pa.StructArray) -> list[str] | None:
        """Each answer as one text, to be compared; None where it is a number."""
        return None


class _Single(Shape):
    rows = (SingleRow, SingleRowWithExpert)

    def fields(self, task: Task) -> list[pa.Field]:
        index = pa.int8() if len(task.labels) < 128 else pa.int32()
        return [
            pa.field("label", pa.dictionary(index, pa.string())),
            pa.field("confidence", pa.float32()),
            pa.field("accepted", pa.bool_()),
        ]

    def arrays(self, predictions: TaskPredictions) -> list[pa.Array]:
        task = predictions.task
        decisions = kinds.Single().decide(predictions.probabilities, predictions.accept)
        indices = pa.array(decisions.label, self.fields(task)[0].type.index_type)
        return [
            pa.DictionaryArray.from_arrays(indices, pa.array(task.labels, pa.string())),
            pa.array(decisions.confidence),
            pa.array(decisions.accepted),
        ]

    def counts(self, task: Task, column: pa.StructArray) -> dict[str, int]:
        found = np.bincount(column.field("label").indices, minlength=len(task.labels))
        return {label: int(found[i]) for i, label in enumerate(task.labels)}

    def sums(self, column: pa.StructArray) -> dict[str, int]:
        confidence = column.field("confidence").to_numpy().astype(np.float64)
        return {
            "accepted": column.field("accepted").true_count,
            "confidence_millionths": int(np.rint(confidence * 1e6).astype(np.int64).sum()),
        }

    def answers(self, column: pa.StructArray) -> list[str] | None:
        answers: list[str] = column.field("label").to_pylist()
        return answers


class _Multi(Shape):
    rows = (MultiRow, MultiRowWithExpert)

    def fields(self, task: Task) -> list[pa.Field]:
        return [
            pa.field("labels", pa.list_(pa.string())),
            pa.field("scores", pa.list_(pa.float32())),
        ]

    def arrays(self, predictions: TaskPredictions) -> list[pa.Array]:
        predicted = predictions.probabilities
        chosen = kinds.Multi().decide(predicted, predictions.accept)
        offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))])
        labels = pa.array(predictions.task.labels, pa.string())
        return [
            lists(offsets, labels.take(pa.array(np.nonzero(chosen)[1]))),
            lists(offsets, pa.array(predicted[chosen].astype(np.float32))),
        ]

    def counts(self, task: Task, column: pa.StructArray) -> dict[str, int]:
        found = column.field("labels").flatten().value_counts().to_pylist()
        return dict.fromkeys(task.labels, 0) | {v["values"]: v["counts"] for v in found}

    def answers(self, column: pa.StructArray) -> list[str] | None:
        return [", ".join(labels) for labels in column.field("labels").to_pylist()]


class _Regression(Shape):
    rows = (RegressionRow, RegressionRowWithExpert)

    def fields(self, task: Task) -> list[pa.Field]:
        return [pa.field("value", pa.float32())]

    def arrays(self, predictions: TaskPredictions) -> list[pa.Array]:
        return [pa.array(predictions.probabilities[:, 0].astype(np.float32))]

    def counts(self, task: Task, column: pa.StructArray) -> dict[str, int]:
        return {}


SHAPES: Mapping[Kind, Shape] = {
    "single": _Single(),
    "multi": _Multi(),
    "regression": _Regression(),
}


def lists(offsets: NDArray[Any], values: pa.Array) -> pa.ListArray:
    """Lists of values that stand one after the other.

    Args:
        offsets: [n + 1]: list i has the values `offsets[i]:offsets[i + 1]`.
        values: of all lists.
    """
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
