"""Two models on the same rows: which is better, or whether the rows can't tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model.calibrate import PerLabel
from glossator.model.evaluation.evaluate import slices_of
from glossator.model.labelled.dataset import Dataset
from glossator.model.metrics import paired_bootstrap, verdict
from glossator.model.tasks import Task

LEAST_ROWS = 200
"""Rows of a language or source below which it is not compared by itself."""

Duel = dict[str, Any]
"""`verdict` (`better`, `worse`, `tie`; `skipped`, with `why`), the `metric` that decided, and in
`slices` the same by slice, with its `rows` and each metric's `difference`, [value, low, high]."""


class Answers(NamedTuple):
    """What a model gives for some rows of a task."""

    predicted: NDArray[np.float64]
    """[n, outputs] as `Rules.probabilities` gives them."""
    accept: PerLabel | None
    """From which probability labels are given, as in the task's calibration."""


def compare(task: Task, rows: Dataset, model: Answers, rival: Answers) -> Duel:
    """Whether a model is better than a rival, by a paired bootstrap.

    Args:
        task: what both answered.
        rows: rows that neither learnt from.
        model: its answers to them.
        rival: the rival's.
    """
    names, labels = task.rules.headline, rows.labels[task.name]
    slices: dict[str, Any] = {}
    for name, chosen in _slices(rows, task.rules.observed(labels)):
        own, other = (
            task.rules.statistics(labels[chosen], given.predicted[chosen], given.accept)
            for given in (model, rival)
        )
        count = int(chosen.sum())
        difference = paired_bootstrap(count, names, own, other)
        slices[name] = {
            "rows": count,
            "verdict": verdict(names[0], difference[names[0]]),
            "difference": difference,
        }
    if not slices:
        return skipped("no test row has a label")
    return {"verdict": slices["all"]["verdict"], "metric": names[0], "slices": slices}


def skipped(why: str) -> Duel:
    """A duel that was not fought, with the reason in words."""
    return {"verdict": "skipped", "why": why}


def together(
    tasks: tuple[Task, ...],
    rows: Dataset,
    model: Mapping[str, Answers],
    alone: Callable[[Task], Answers],
) -> dict[str, Duel]:
    """By task, whether it gained from learning beside the others.

    Args:
        tasks: the tasks.
        rows: rows that nothing was learnt from.
        model: by task, the answers of the model that learnt all tasks.
        alone: trains the same network for one task, and gives its answers.
    """
    if len(tasks) == 1:
        return {tasks[0].name: skipped("it is the only task")}
    return {task.name: compare(task, rows, model[task.name], alone(task)) for task in tasks}


def _slices(rows: Dataset, seen: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """All labelled rows; those of each language and source that has enough and is not all."""
    if not seen.any():
        return
    yield "all", seen
    for column in ("lang", "source"):
        for name, chosen in slices_of(rows, column).items():
            if LEAST_ROWS <= (chosen & seen).sum() < seen.sum():
                yield name, chosen & seen
