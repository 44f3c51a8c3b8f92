"""What other models say of texts, to learn from beside the labels.

A small network that learns a large one's probabilities learns more than from labels alone, and
from texts that nobody has labelled (Hinton et al. 2015; for texts Tang et al. 2019). Several
teachers' predictions are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.model.evaluation.evaluate import predict
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task

Lessons = Mapping[str, NDArray[np.float32]]
"""By task, for n texts, what `Rules.lessons` makes of teachers' predictions."""


def teach(
    teachers: Sequence[Bundle],
    tasks: Sequence[Task],
    texts: list[str],
    scales: Mapping[str, Calibration],
) -> Lessons:
    """The mean of the predictions of the teachers that know a task, for each task known to any.

    Args:
        teachers: a teacher knows a task if it has one of the same name, kind and labels.
        tasks: what is to be learnt.
        texts: n texts.
        scales: what is fixed before training, by task.

    Raises:
        UsageError: no teacher knows any of the tasks.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    for teacher in teachers:
        known = [task.name for task in tasks if any(map(task.is_like, teacher.tasks))]
        if known:
            predicted = predict(Labeller(teacher, known), texts)
            for name in known:
                found.setdefault(name, []).append(predicted[name])
    if teachers and not found:
        theirs = sorted({task.name for teacher in teachers for task in teacher.tasks})
        raise UsageError(
            f"no teacher knows any of the tasks with the same labels; theirs are "
            f"{', '.join(theirs)}",
            parameter="teacher",
        )
    return {
        task.name: task.rules.lessons(np.mean(found[task.name], axis=0), scales[task.name])
        for task in tasks
        if task.name in found
    }


def with_unlabelled(data: Dataset, texts: Sequence[str], tasks: Sequence[Task]) -> Dataset:
    """Rows, and behind them texts that have no label of any task."""
    count = len(texts)
    nothing = np.full(count, "", dtype=object)
    return Dataset(
        texts=[*data.texts, *texts],
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
