"""Trainings that take seconds: a small network's settings, rows of one task, how good it is."""

from __future__ import annotations

import numpy as np
from sample_comments import TASKS, labelled_rows

from glossator.model.bundle import Bundle
from glossator.model.evaluation.evaluate import predict
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.training.config import TrainingConfig

SENTIMENT = TASKS[0]
SETTINGS = TrainingConfig(
    vocabulary=400,
    max_tokens=64,
    embedding=16,
    hidden=16,
    attention=8,
    epochs=2,
    batch=32,
    learning_rate=2e-2,
    ngrams=0,
    seed=3,
)


def silent(line: str) -> None:
    """Receives lines of progress."""


def sentiments(count: int) -> Dataset:
    """Rows with sentiments, of which every fifth is for validation."""
    rows = labelled_rows(count, seed=1)
    nothing = np.full(len(rows), "", dtype=object)
    split = np.array(["validation" if i % 5 == 0 else "train" for i in range(len(rows))], object)
    labels = np.array([SENTIMENT.labels.index(row["sentiment"]) for row in rows])
    return Dataset([row["text"] for row in rows], {"sentiment": labels}, split, nothing, nothing)


def right(bundle: Bundle) -> float:
    """The share of new rows whose sentiment it finds."""
    rows = labelled_rows(300, seed=55)
    truth = np.array([SENTIMENT.labels.index(row["sentiment"]) for row in rows])
    given = predict(Labeller(bundle, ["sentiment"]), [row["text"] for row in rows])["sentiment"]
    return float((given.argmax(axis=1) == truth).mean())
