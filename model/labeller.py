"""Texts in, predictions out: tokenizer, engine, calibration and attended words as one call."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.calibrate import PerLabel
from glossator.model.engine import EngineResult, OnProgress
from glossator.model.engines import make_engine
from glossator.model.mixing import share
from glossator.model.ngrams import Ngrams
from glossator.model.tasks import Task, select_tasks
from glossator.model.tokenizer import MAX_CHARS, Tokens, slices
from glossator.model.words import Words, heaviest, joined, units

MAX_TEXTS = 1 << 14
"""Texts in one call: few enough that each of its stages says within two seconds how far it is, and
so many that 3.5% more is computed for padding than with four times as many."""
_MAX_OUTPUTS = 1 << 24
"""Probabilities in one call."""
_PART_CHARS, _PART_TOKENS = 1 << 22, 1 << 20
"""Characters and tokens of the texts that are labelled together: some 250 MB of working memory."""


@dataclass(frozen=True)
class TaskPredictions:
    """One task's predictions for n texts, and what its attention looked at."""

    task: Task
    probabilities: NDArray[np.float64]
    """[n, labels] calibrated; of a regression [n, 1], the value."""
    accept: PerLabel
    """The confidence from which a single label is accepted; the probability from which labels of a
    multi task are given."""
    words: Words
    """The words that its attention gave most weight."""
    entropy: NDArray[np.float32]
    """[n] of the attention over tokens, in nats."""
    expert: NDArray[np.float32] | None = None
    """[n] the share of each decision that the n-gram expert carried, as `mixing.share` says it;
    None where the bundle has none for the task."""


@dataclass(frozen=True)
class Predictions:
    """The predictions for n texts."""

    tasks: tuple[TaskPredictions, ...]
    tokens: NDArray[np.int64]
    """[n] tokens read of each text."""
    truncated: NDArray[np.bool_]
    """[n] whether the text went on behind them."""
    padded_tokens: int
    """Tokens that were computed, padding included."""
    seconds: dict[str, float]
    """What it took, by stage: tokenize, network (and the expert), attention."""


class Labeller:
    """A bundle made ready to label. Safe to share between threads; one thread a call."""

    def __init__(self, bundle: Bundle, tasks: Sequence[str] | None = None) -> None:
        """Gets ready for the named tasks; without names, for all that are not sensitive."""
        self.tasks = select_tasks(bundle.tasks, tasks)
        self.calibration = bundle.calibration
        self.max_texts = min(MAX_TEXTS, _MAX_OUTPUTS // sum(task.outputs for task in self.tasks))
        """Texts in one call: fewer where the tasks have very many labels."""
        self._names = [task.name for task in self.tasks]
        self._tokenizer = bundle.tokenizer
        self._engine = make_engine(bundle.weights, bundle.config, self.tasks)
        experts = [task for task in bundle.experts if task.name in self._names]
        self.experts = tuple(task.name for task in experts)
        """The names of the tasks in which the n-gram expert has a say."""
        self._ngrams = Ngrams(bundle.ngrams, bundle.tokenizer, experts) if experts else None

    def score(self, texts: Sequence[str]) -> tuple[Tokens, EngineResult]:
        """The tokens of texts, none of them blank, and the network's output for them."""
        tokens = self._tokenizer.encode(texts)
        return tokens, self._engine.run(tokens, self._names)

    def logits(self, texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """[n, outputs] of texts, none of them blank, by task: the network's and the expert's."""
        return self._mixed(*self.score(texts))[0]

    def _mixed(
        self, tokens: Tokens, result: EngineResult
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """[n, outputs] logits by task, and what the expert has added to them, where it has."""
        logits = {name: one.logits.astype(np.float64) for name, one in result.scores.items()}
        added = {}
        for name, values in (self._ngrams.logits(tokens) if self._ngrams else {}).items():
            added[name] = self.calibration[name].expert * values
            logits[name] += added[name]
        return logits, added

    def label(
        self, texts: Sequence[str], top: int = 5, on_progress: OnProgress | None = None
    ) -> Predictions:
        """Labels texts, none of them blank.

        Args:
            texts: at most `max_texts`.
            top: how many attended words to give for each text and task.
            on_progress: receives how many texts were finished since the last call.
        """
        started = time.monotonic()
        tokens = self._tokenizer.encode(texts)
        seconds = {"tokenize": time.monotonic() - started, "network": 0.0, "attention": 0.0}
        read = [text[:MAX_CHARS] for text in texts]
        parts = [
            self._label_part(read[first:last], tokens.part(first, last), top, on_progress, seconds)
            for first, last in _parts(read, tokens.lengths)
        ]
        started = time.monotonic()
        predictions = Predictions(
            tasks=tuple(
                _joined_tasks([part.tasks[i] for part in parts]) for i in range(len(self.tasks))
            ),
            tokens=tokens.lengths,
            truncated=self._tokenizer.truncated(texts, tokens),
            padded_tokens=sum(part.padded_tokens for part in parts),
            seconds=seconds,
        )
        seconds["attention"] += time.monotonic() - started
        return predictions

    def _label_part(
        self,
        texts: Sequence[str],
        tokens: Tokens,
        top: int,
        on_progress: OnProgress | None,
        seconds: dict[str, float],
    ) -> _Part:
        """Labels texts of bounded characters and tokens, and books the time by stage."""
        started = time.monotonic()
        result = self._engine.run(tokens, self._names, on_progress)
        logits, added = self._mixed(tokens, result)
        scored = time.monotonic()
        found = units(texts, tokens, self._tokenizer.spans(texts, tokens))
        predictions = []
        for task in self.tasks:
            scores, calibration = result.scores[task.name], self.calibration[task.name]
            probabilities = task.rules.probabilities(logits[task.name], calibration)
            predictions.append(
                TaskPredictions(
                    task=task,
                    probabilities=probabilities,
                    accept=calibration.accept,
                    words=heaviest(found, scores.attention, top),
                    entropy=scores.entropy,
                    expert=share(task, logits[task.name], added.get(task.name), probabilities),
                )
            )
        seconds["network"] += scored - started
        seconds["attention"] += time.monotonic() - scored
        return _Part(tuple(predictions), result.padded_tokens)


class _Part(NamedTuple):
    tasks: tuple[TaskPredictions, ...]
    padded_tokens: int


def _parts(texts: Sequence[str], tokens: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Consecutive texts of so many tokens and characters that memory is bounded."""
    # a text weighs what it takes of the dearer of both bounds
    weights = [
        max(n * _PART_CHARS, len(text) * _PART_TOKENS)
        for text, n in zip(texts, tokens.tolist(), strict=True)
    ]
    yield from slices(weights, _PART_CHARS * _PART_TOKENS) if texts else [(0, 0)]


def _joined_tasks(parts: Sequence[TaskPredictions]) -> TaskPredictions:
    """One task's predictions for the texts of all parts."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        probabilities=np.concatenate([part.probabilities for part in parts]),
        words=joined([part.words for part in parts]),
        entropy=np.concatenate([part.entropy for part in parts]),
        expert=_joined_shares([part.expert for part in parts]),
    )


def _joined_shares(parts: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None
