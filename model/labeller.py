"""Texts in, answers out: tokenizer, engine, calibration and attended words as one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.calibrate import probabilities
from glossator.model.engine import EngineResult, OnProgress
from glossator.model.engines import make_engine
from glossator.model.tasks import Task, select_tasks
from glossator.model.tokenizer import Tokens
from glossator.model.words import Words, heaviest, units

MAX_TEXTS = 1 << 16
"""Texts in one call."""


@dataclass(frozen=True)
class TaskPredictions:
    """What one task says of n texts, and what it looked at."""

    task: Task
    probabilities: NDArray[np.float64]
    """[n, labels] calibrated; of a regression [n, 1], the value."""
    accept: float
    """The confidence from which a single label is accepted."""
    words: Words
    """The words its attention gave most weight."""
    entropy: NDArray[np.float32]
    """[n] of the attention over tokens, in nats."""


@dataclass(frozen=True)
class Predictions:
    """The answers to n texts."""

    tasks: tuple[TaskPredictions, ...]
    tokens: NDArray[np.int64]
    """[n] tokens read of each text."""
    truncated: NDArray[np.bool_]
    """[n] whether the text went on behind them."""
    padded_tokens: int
    """Tokens that were computed, padding included."""
    seconds: dict[str, float]
    """What it took, by stage: tokenize, network, attention."""


class Labeller:
    """A bundle made ready to label. Safe to share between threads; one thread a call."""

    def __init__(self, bundle: Bundle, tasks: Sequence[str] | None = None) -> None:
        """Gets ready for the named tasks; without names, for all that are not sensitive."""
        self.tasks = select_tasks(bundle.tasks, tasks)
        self._bundle = bundle
        self.calibration = bundle.calibration
        self._engine = make_engine(bundle.weights, bundle.config, self.tasks)

    def score(self, texts: Sequence[str]) -> tuple[Tokens, EngineResult]:
        """The tokens of texts, none of them blank, and what the network says of them."""
        tokens = self._bundle.tokenizer.encode(texts)
        return tokens, self._engine.run(tokens, [task.name for task in self.tasks])

    def label(
        self, texts: Sequence[str], top: int = 5, on_progress: OnProgress | None = None
    ) -> Predictions:
        """Labels texts, none of them blank.

        Args:
            texts: at most `MAX_TEXTS`.
            top: how many attended words to give for each text and task.
            on_progress: receives how many texts were finished since the last call.
        """
        tokenizer = self._bundle.tokenizer
        started = time.monotonic()
        tokens = tokenizer.encode(texts)
        encoded = time.monotonic()
        result = self._engine.run(tokens, [task.name for task in self.tasks], on_progress)
        scores = result.scores
        scored = time.monotonic()
        found = units(texts, tokens, tokenizer.spans(texts, tokens))
        answers = tuple(
            TaskPredictions(
                task=task,
                probabilities=probabilities(
                    task, scores[task.name].logits, self.calibration[task.name]
                ),
                accept=self.calibration[task.name].accept,
                words=heaviest(found, scores[task.name].attention, top),
                entropy=scores[task.name].entropy,
            )
            for task in self.tasks
        )
        return Predictions(
            answers,
            tokens.lengths,
            tokenizer.truncated(texts, tokens),
            padded_tokens=result.padded_tokens,
            seconds={
                "tokenize": encoded - started,
                "network": scored - encoded,
                "attention": time.monotonic() - scored,
            },
        )
