"""Teachers of one's own: networks that each speak of the rows that they did not learn from.

What a network says of its own training rows repeats their labels, the wrong ones too. So the rows
are divided into parts, and for each part a network learns from all others: what it then says of
that part (cross-fitting; Chernozhukov et al. 2018 call it so for nuisance functions) is as good as
what it says of new texts, and so are the texts without labels, of which all of them speak.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glossator.model.errors import UsageError
from glossator.model.evaluation.evaluate import predict
from glossator.model.labelled.splits import part_of
from glossator.model.labeller import Labeller
from glossator.model.progress import Report
from glossator.model.training.checkpoint import Checkpoint
from glossator.model.training.learner import Learner
from glossator.model.training.malloc import keep_freed_memory
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

    They learn side by side, as many at a time as torch may use threads; each runs on one.

    Args:
        learner: how they learn.
        material: n rows; texts without labels are not learnt from, but spoken of.
        parts: how many networks there are, at least 2.
        checkpoint: each keeps where it stands beside it.
        max_minutes: of each.
    """
    labelled, texts = material.labelled, material.rows.texts
    part = part_of(texts[:labelled], parts)
    own = [np.flatnonzero(part == number) for number in range(parts)]
    quiet = replace(learner, report=_nowhere, show=None)
    jobs = [
        _Job(
            replace(quiet, settings=replace(quiet.settings, seed=_seed(learner, number))),
            material.select(np.flatnonzero(part != number)).taught({}),
            [*(texts[row] for row in own[number]), *texts[labelled:]],
            checkpoint.beside(f"teacher-{number}"),
            max_minutes,
            number,
        )
        for number in range(parts)
    ]
    learner.report(f"{parts} networks learn from all rows but a part, to teach the last one")
    workers = min(parts, torch.get_num_threads())
    try:
        with _side_by_side(workers, learner.report) as run:
            answers = list(run(jobs))
    except BrokenProcessPool:
        raise UsageError(
            f"parts {parts}: a process in which a network learns was ended, as where memory runs "
            f"out: {workers} learn at a time; allow fewer with OMP_NUM_THREADS and run it again, "
            "which goes on where it was"
        ) from None
    said: dict[str, NDArray[np.float64]] = {}
    for task in learner.tasks:
        heard = [
            (rows, answer[task.name])
            for rows, answer in zip(own, answers, strict=True)
            if task.name in answer
        ]
        whole = np.full((len(texts), task.outputs), np.nan)
        for rows, values in heard:
            whole[rows] = values[: len(rows)]
        if heard:
            whole[labelled:] = np.mean([values[len(rows) :] for rows, values in heard], axis=0)
        said[task.name] = whole
    return said


@dataclass(frozen=True)
class _Job:
    """What one teacher learns from, and what it is asked about."""

    learner: Learner
    material: Material
    texts: list[str]
    checkpoint: Checkpoint
    max_minutes: float | None
    number: int


def _answer(job: _Job, report: Report) -> Said:
    """What a teacher says of the texts that it is asked about, of the tasks that it could learn."""
    learner = replace(job.learner, report=lambda line: report(f"teacher {job.number + 1}: {line}"))
    tasks, labels = learner.tasks, job.material.rows.labels
    known = [task.name for task in tasks if task.rules.observed(labels[task.name]).any()]
    network, _ = learner.network(job.material, tasks, job.checkpoint, job.max_minutes)
    bundle = learner.bundle(network, learner.expert(job.material), tasks)
    return predict(Labeller(bundle, known), job.texts)


def _seed(learner: Learner, number: int) -> int:
    return (learner.settings.seed + number + 1) % 2**32


def _nowhere(line: str) -> None:
    pass


# ---------------------------------------------------------------- side by side


@contextmanager
def _side_by_side(workers: int, report: Report) -> Iterator[Callable[[list[_Job]], Iterator[Said]]]:
    """Yields what does jobs in so many processes; in this one, if it is one."""
    if workers == 1:
        yield partial(map, partial(_answer, report=report))
        return
    # a fork would copy threads' locks, but not the threads
    context = multiprocessing.get_context("spawn")
    lines: SimpleQueue[str | None] = context.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(lines, report))
    listener.start()
    try:
        with ProcessPoolExecutor(workers, context, _begin, (lines,)) as pool:
            try:
                yield partial(pool.map, _answer_there)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    finally:
        lines.put(None)
        listener.join()


def _listen(lines: SimpleQueue[str | None], report: Report) -> None:
    while (line := lines.get()) is not None:
        report(line)


_lines: SimpleQueue[Any] | None = None
"""In a worker's process, what its lines of progress go into."""


def _begin(lines: SimpleQueue[Any]) -> None:
    global _lines
    _lines = lines
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process whose parent was killed must not go on writing checkpoints."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _answer_there(job: _Job) -> Said:
    assert _lines is not None
    return _answer(job, _lines.put)
