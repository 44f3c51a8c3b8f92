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
from glossator.model.labeller import Labeller
from glossator.model.progress import Report
from glossator.model.tasks import Task
from glossator.model.training.predictions import Predictions

Said = Mapping[str, NDArray[np.float64]]
"""By task, for n texts, what a model predicts of them; NaN for those of which it says nothing."""
Lessons = Mapping[str, NDArray[np.float32]]
"""By task, for n texts, what `Rules.lessons` makes of teachers' predictions."""


def ask(
    teachers: Sequence[Bundle | Predictions],
    tasks: Sequence[Task],
    texts: list[str],
    report: Report,
) -> list[Said]:
    """What each teacher that knows any of the tasks predicts.

    Args:
        teachers: bundles, which know a task if they have one of the same name, kind and labels; or
            predictions for some of the texts.
        tasks: what is to be learnt.
        texts: n texts.
        report: receives lines of progress.

    Raises:
        UsageError: no teacher knows any of the tasks, or one says nothing of any text.
    """
    said: list[Said] = []
    if teachers:
        report(f"asking {len(teachers)} teachers about {len(texts):,} texts")
    for teacher in teachers:
        if isinstance(teacher, Predictions):
            said.append(teacher.of(texts))
            heard = sum(text in teacher.rows for text in texts)
            if not heard:
                raise UsageError(
                    "the predictions are of none of the texts to learn from: their text has to be "
                    "the same, character by character",
                    parameter="teacher",
                )
            report(f"predictions of {heard:,} of the texts")
            continue
        known = [task.name for task in tasks if any(map(task.is_like, teacher.tasks))]
        if known:
            said.append(predict(Labeller(teacher, known), texts))
    if teachers and not said:
        bundles = [teacher for teacher in teachers if isinstance(teacher, Bundle)]
        theirs = sorted({task.name for bundle in bundles for task in bundle.tasks})
        raise UsageError(
            f"no teacher knows any of the tasks with the same labels; theirs are "
            f"{', '.join(theirs)}",
            parameter="teacher",
        )
    return said


def where_silent(own: Said, others: Sequence[Said]) -> Said:
    """What some teachers say of the texts of which no other says anything.

    Args:
        own: what they say.
        others: what the others do.
    """
    result = {}
    for name, values in own.items():
        spoken = np.zeros(len(values), bool)
        for other in others:
            if name in other:
                spoken |= ~np.isnan(other[name]).any(axis=1)
        result[name] = np.where(spoken[:, None], np.nan, values)
    return result


def lessons(
    said: Sequence[Said], tasks: Sequence[Task], scales: Mapping[str, Calibration]
) -> Lessons:
    """The mean of what was said, for each task of which something was.

    Args:
        said: by each teacher.
        tasks: what is to be learnt.
        scales: what is fixed before training, by task.
    """
    result = {}
    for task in tasks:
        found = [one[task.name] for one in said if task.name in one]
        if found:
            result[task.name] = task.rules.lessons(_mean(found), scales[task.name])
    return result


def _mean(said: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Over those that say anything of a text; NaN where nobody does."""
    known = [~np.isnan(one) for one in said]
    total = np.sum([np.nan_to_num(one) for one in said], axis=0)
    count = np.sum(known, axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
