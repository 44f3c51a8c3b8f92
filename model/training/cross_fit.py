"""Teachers of one's own: networks that each speak of the rows that they did not learn from.

What a network says of its own training rows repeats their labels, the wrong ones too. So the rows
are divided into parts, and for each part a network learns from all others: what it then says of
that part (cross-fitting; Chernozhukov et al. 2018 call it so for nuisance functions) is as good as
what it says of new texts, and so are the texts without labels, of which all of them speak.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glossator.model.evaluation.evaluate import predict
from glossator.model.labelled.splits import part_of
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task
from glossator.model.training.checkpoint import Checkpoint
from glossator.model.training.learner import Learner
from glossator.model.training.material import Material
from glossator.model.training.teachers import Said


def cross_fit(
    learner: Learner,
    material: Material,
    parts: int,
    checkpoint: Checkpoint,
    max_minutes: float | None,
) -> Said:
    """What networks with an n-gram expert say of rows that they did not learn from.

    Args:
        learner: how they learn.
        material: n rows; texts without labels are not learnt from, but spoken of.
        parts: how many networks there are, at least 2.
        checkpoint: each keeps where it stands beside it.
        max_minutes: of each.
    """
    labelled, texts = material.labelled, material.rows.texts
    part = part_of(texts[:labelled], parts)
    tasks = learner.tasks
    said = {task.name: np.full((len(texts), task.outputs), np.nan) for task in tasks}
    of_the_others = {name: np.zeros_like(one[labelled:]) for name, one in said.items()}
    heard = dict.fromkeys(said, 0)
    for number in range(parts):
        learner.report(f"teacher {number + 1} of {parts}")
        own = np.flatnonzero(part == number)
        learnt_from = material.select(np.flatnonzero(part != number)).taught({})
        known = [task for task in tasks if _has_labels(task, learnt_from)]
        seed = (learner.settings.seed + number + 1) % 2**32
        network, _ = learner.network(
            learnt_from, tasks, seed, checkpoint.beside(f"teacher-{number}"), max_minutes
        )
        bundle = learner.bundle(network, learner.expert(learnt_from), tasks)
        labeller = Labeller(bundle, [task.name for task in known])
        found = predict(labeller, [*(texts[row] for row in own), *texts[labelled:]])
        for name, values in found.items():
            said[name][own] = values[: len(own)]
            of_the_others[name] += values[len(own) :]
            heard[name] += 1
    for name, total in of_the_others.items():
        if heard[name]:
            said[name][labelled:] = total / heard[name]
    return said


def _has_labels(task: Task, material: Material) -> bool:
    labels: NDArray[np.bool_] = task.rules.observed(material.rows.labels[task.name])
    return bool(labels.any())
