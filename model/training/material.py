"""What a network learns from: rows with labels, texts without, and what teachers say of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration
from glossator.model.labelled.dataset import Dataset
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens
from glossator.model.training.teachers import Lessons


@dataclass(frozen=True)
class Material:
    """Rows with labels, and behind them texts without."""

    rows: Dataset
    """n rows."""
    tokens: Tokens
    """Theirs."""
    labelled: int
    """How many of the rows, the first ones, are there for their labels."""
    lessons: Lessons = field(default_factory=dict)
    """What teachers say of the n rows, by task."""

    def only_labelled(self) -> Material:
        """The rows that are there for their labels."""
        return self.select(np.arange(self.labelled))

    def select(self, rows: NDArray[np.int64]) -> Material:
        """Some of the rows, in an order that leaves those with labels in front."""
        return Material(
            self.rows.select(rows),
            self.tokens.select(rows),
            int((rows < self.labelled).sum()),
            {name: lesson[rows] for name, lesson in self.lessons.items()},
        )

    def taught(self, lessons: Lessons) -> Material:
        """The same with what teachers say of it."""
        return replace(self, lessons=lessons)

    def targets(
        self, task: Task, initial: Calibration, share: float, generator: np.random.Generator
    ) -> NDArray[Any]:
        """What is to be learnt of a task from labels and lessons at once.

        Args:
            task: which.
            initial: what is fixed before training.
            share: of the lessons, where there is a label too.
            generator: of which rows without a label are taken: as many as have one.

        Returns:
            Of n rows, as `Rules.targets` or `lessons` gives them.
        """
        rules, labels = task.rules, self.rows.labels[task.name]
        if task.name not in self.lessons:
            return np.ascontiguousarray(rules.targets(labels, initial))
        lesson = self.lessons[task.name].copy()
        sure = rules.lessons(rules.certain(labels, task.labels), initial)
        seen = rules.observed(labels)
        others = generator.permutation(np.flatnonzero(~seen))
        lesson[others[seen.sum() :]] = np.nan
        mixed = (1 - share) * sure + share * lesson
        return np.where(np.isnan(mixed), np.where(np.isnan(sure), lesson, sure), mixed)

    def of(self, task: Task) -> Material:
        """What there is to learn of one task."""
        if task.name in self.lessons:
            return self.taught({task.name: self.lessons[task.name]})
        # without a teacher a row that has no label of it teaches nothing
        own = np.flatnonzero(task.rules.observed(self.rows.labels[task.name]))
        return self.select(own).taught({})

    def epoch(self, number: int, seed: int) -> NDArray[np.int64]:
        """The rows of one epoch: all that have labels, and at most as many texts without.

        Of more texts without labels others are taken in each epoch.

        Args:
            number: of the epoch, from 1.
            seed: of their order.
        """
        more = len(self.rows) - self.labelled
        taken = min(more, self.labelled)
        order = np.random.default_rng(seed).permutation(more) if taken < more else np.arange(more)
        drawn = order.take(np.arange((number - 1) * taken, number * taken), mode="wrap")
        return np.concatenate([np.arange(self.labelled), self.labelled + drawn])


def known(targets: NDArray[Any]) -> NDArray[np.bool_]:
    """[n] whether there is a target."""
    there = targets >= 0 if targets.dtype.kind == "i" else ~np.isnan(targets)
    return np.asarray(there if there.ndim == 1 else there.all(axis=1))


def with_unlabelled(
    data: Dataset, tokens: Tokens, unlabelled: Sequence[str], tasks: Sequence[Task]
) -> Material:
    """Rows, and behind them texts that have no label of any task.

    Args:
        data: the rows.
        tokens: of the rows and the texts.
        unlabelled: the texts.
        tasks: whose labels the rows have.
    """
    count = len(unlabelled)
    nothing = np.full(count, "", dtype=object)
    rows = Dataset(
        texts=[*data.texts, *unlabelled],
        labels={
            task.name: np.concatenate(
                [data.labels[task.name], task.rules.missing(count, task.labels)]
            )
            for task in tasks
        },
        split=np.concatenate([data.split, np.full(count, "train", dtype=object)]),
        lang=np.concatenate([data.lang, nothing]),
        source=np.concatenate([data.source, nothing]),
        weight=None
        if data.weight is None
        else np.concatenate([data.weight, np.ones(count, np.float32)]),
    )
    return Material(rows, tokens, len(data))
