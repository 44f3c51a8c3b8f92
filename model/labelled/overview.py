"""Which labels there are: how many of each task, together, where, and where they are missing.

Where any label may be missing, tasks are learnt from different rows. That is harmless where labels
are missing at random; where they are missing by source or language, a task may learn these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown
from glossator.model.labelled.dataset import Dataset
from glossator.model.labelled.splits import SPLITS
from glossator.model.tasks import Task

MIN_ASSOCIATION = 0.1
"""Cramér's V, from 0 to 1, below which labels count as missing at random: Cohen's "small"."""
_SHOWN = 5
_WORDS = {"source": "source", "lang": "language"}


@dataclass(frozen=True)
class Uneven:
    """Labels of a task that are missing by source or language."""

    task: str
    by: str
    """source or lang."""
    association: float
    """Cramér's V between a label's being there and the column."""
    most: tuple[str, float]
    """The value of the column with the largest share of labelled rows, and that share."""
    least: tuple[str, float]
    """That with the smallest."""


@dataclass(frozen=True)
class Overview:
    """What labels a data set has. Counts are of rows."""

    rows: dict[str, dict[str, int]]
    """With a label, by task and split."""
    effective: dict[str, float]
    """Of split train, by task: how many of equal weight would teach as much (Kish 1965)."""
    together: dict[str, dict[str, int]]
    """With a label for both of two tasks: the co-annotation matrix."""
    never: dict[str, list[str]]
    """Labels of which no row of split train has one, by task; only tasks that have such."""
    uneven: list[Uneven]
    leaks: dict[str, int]
    """As `splits.Leaks` counts them."""

    def to_json(self) -> dict[str, Any]:
        """The fields by name, for a bundle's provenance."""
        return {**asdict(self), "warnings": self.warnings()}

    def warnings(self) -> list[str]:
        """What to tell whoever gave the data, a line each."""
        lines = [
            f"task {task!r}: no row of split train has {_listed(labels)}, which can't be learnt"
            for task, labels in self.never.items()
        ]
        for found in self.uneven:
            (most, more), (least, less) = found.most, found.least
            by = _WORDS[found.by]
            lines.append(
                f"task {found.task!r}: labels are not missing at random: {more:.0%} of the rows of "
                f"{by} {shown(most)} have one, {less:.0%} of {shown(least)}; it may learn to tell "
                f"the {by}"
            )
        return lines


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """Rows with a label by task and split, and with a label of each other task too.

    Args:
        found: what `Overview.to_json` gave.
    """
    tasks = list(found["rows"])
    head = ["task", *SPLITS, *(f"and {task}" for task in tasks)]
    return [
        head,
        *(
            [
                task,
                *(f"{found['rows'][task][split]:,}" for split in SPLITS),
                *(f"{found['together'][task][o]:,}" if o != task else "" for o in tasks),
            ]
            for task in tasks
        ),
    ]


def describe(data: Dataset, tasks: Sequence[Task]) -> Overview:
    """Counts the labels.

    Raises:
        UsageError: the rows of split train have too few labels of a task to learn anything.
    """
    seen = {t.name: t.rules.observed(data.labels[t.name]) for t in tasks}
    train = data.split == "train"
    never = {t.name: _never(t, data.labels[t.name][seen[t.name] & train]) for t in tasks}
    for task in tasks:
        there = [label for label in task.labels if label not in never[task.name]]
        if len(there) < task.rules.fewest:
            has = f"only {there[0]!r}" if there else "no label"
            raise UsageError(
                f"task {task.name!r}: there is {has} on the rows of split train: nothing can be "
                "learnt from it; give other rows, or take the task out of the tasks file"
            )
    weight = np.ones(len(data), np.float64) if data.weight is None else data.weight.astype(float)
    return Overview(
        rows={
            name: {split: int((rows & (data.split == split)).sum()) for split in SPLITS}
            for name, rows in seen.items()
        },
        effective={name: _kish(weight[rows & train]) for name, rows in seen.items()},
        together={
            name: {other: int((rows & others).sum()) for other, others in seen.items()}
            for name, rows in seen.items()
        },
        never={name: labels for name, labels in never.items() if labels},
        uneven=[
            found
            for name, rows in seen.items()
            for by, values in (("source", data.source), ("lang", data.lang))
            if (found := _uneven(name, rows, by, values)) is not None
        ],
        leaks=data.leaks.to_json(),
    )


def _never(task: Task, labels: NDArray[Any]) -> list[str]:
    counts = task.rules.counts(labels, task.labels)
    return [label for label in task.labels if not counts[label]]


def _kish(weight: NDArray[np.float64]) -> float:
    squares = float((weight**2).sum())
    return round(float(weight.sum()) ** 2 / squares, 1) if squares else 0.0


def _uneven(task: str, seen: NDArray[np.bool_], by: str, values: NDArray[Any]) -> Uneven | None:
    """Whether labels are missing by a column; rows where it is empty are left out."""
    given = values != ""
    names, group = np.unique(values[given], return_inverse=True)
    rows = np.bincount(group, minlength=len(names))
    labelled = np.bincount(group, seen[given], minlength=len(names))
    share = labelled.sum() / max(1, rows.sum())
    if len(names) < 2 or not 0 < share < 1:
        return None
    squares = float(((labelled - rows * share) ** 2 / (rows * share * (1 - share))).sum())
    free = len(names) - 1
    # more than chance gives once in 2,000: chi-squared has mean `free` and variance 2 · `free`
    if squares < free + 8 * (2 * free) ** 0.5:
        return None
    association = (squares / rows.sum()) ** 0.5
    if association < MIN_ASSOCIATION:
        return None
    shares = labelled / rows
    most, least = np.lexsort((rows, shares))[-1], np.lexsort((-rows, shares))[0]
    return Uneven(
        task=task,
        by=by,
        association=round(float(association), 4),
        most=(str(names[most]), round(float(shares[most]), 4)),
        least=(str(names[least]), round(float(shares[least]), 4)),
    )


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _SHOWN
    listed = ", ".join(labels[:_SHOWN])
    return listed + (f" and {more:,} more" if more > 0 else "")
