"""Which label was taken for which, for the terminal."""

from __future__ import annotations

import numpy as np

from glossator.model.metrics import Metrics
from glossator.model.tasks import Task

MAX_MATRIX = 12
"""Labels of which the whole matrix is shown; of more, the most frequent mistakes."""
MAX_MISTAKES = 10


def lines(task: Task, metrics: Metrics) -> list[str]:
    """The confusion matrix of a task, or its most frequent mistakes; nothing where there is none.

    Args:
        task: the metrics are of.
        metrics: of one slice, as `evaluate.evaluate` gives them.
    """
    if "confusion" not in metrics:
        return []
    matrix = np.array(metrics["confusion"])
    if len(matrix) > MAX_MATRIX:
        return _mistakes(task, matrix - np.diag(np.diag(matrix)))
    rows = [[f"{count:,}" for count in row] for row in matrix.tolist()]
    width = [max(map(len, column)) for column in zip(task.labels, *rows, strict=True)]
    first = max(len(label) for label in ("true", *task.labels))
    return [
        "",
        f"{task.name}: true labels down, given ones across",
        *(
            "  ".join(
                [
                    head.ljust(first),
                    *(cell.rjust(w) for cell, w in zip(row, width, strict=True)),
                ]
            )
            for head, row in zip(("", *task.labels), (task.labels, *rows), strict=True)
        ),
    ]


def _mistakes(task: Task, wrong: np.ndarray) -> list[str]:
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_MISTAKES]
    pairs = [divmod(int(cell), len(wrong)) for cell in order]
    return [
        "",
        f"{task.name}: most frequent mistakes",
        *(
            f"{wrong[truth, given]:,}  {task.labels[truth]} taken for {task.labels[given]}"
            for truth, given in pairs
            if wrong[truth, given]
        ),
    ]
