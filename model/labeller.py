"""Texts in, predictions out: tokenizer, engine, calibration and marked words as one call."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.calibrate import PerLabel
from glossator.model.engine import Contributions, Leaning, OnProgress
from glossator.model.engines import make_engine
from glossator.model.mixing import share
from glossator.model.ngrams import Ngrams
from glossator.model.tasks import Task, select_tasks
from glossator.model.texts import Texts
from glossator.model.tokenizer import MAX_CHARS, Tokens, readable, slices
from glossator.model.words import Words, heaviest, joined, no_words, units

MAX_TEXTS = 1 << 14
"""Texts in one call: few enough that each of its stages says within two seconds how far it is, and
so many that 3.5% more is computed for padding than with four times as many."""
STAGES = ("normalize", "tokenize", "ngrams", "recurrence", "attention", "network", "summarise")
"""What a call's time goes to: `ngrams` is the expert, `network` what is neither recurrence nor
attention, or all of it where an engine does not tell them apart, `summarise` the marked words."""
_MAX_OUTPUTS = 1 << 24
"""Probabilities in one call."""
_PART_BYTES, _PART_TOKENS = 1 << 22, 1 << 20
"""Bytes and tokens of the texts that are labelled together: some 250 MB of working memory."""


@dataclass(frozen=True)
class TaskPredictions:
    """One task's predictions for n texts, and the words that spoke most for them."""

    task: Task
    probabilities: NDArray[np.float64]
    """[n, labels] calibrated; of a regression [n, 1], the value."""
    accept: PerLabel
    """The confidence from which a single label is accepted; the probability from which labels of a
    multi task are given."""
    words: Words
    """Those whose tokens contributed most."""
    entropy: NDArray[np.float32] | None
    """[n] of the tokens' contributions, in nats; None where no words were asked for."""
    expert: NDArray[np.float32] | None = None
    """[n] the share of each decision that the n-gram expert carried, as `mixing.share` says it;
    None where the bundle has none for the task."""


@dataclass(frozen=True)
class Reading:
    """What is read of n texts, before anything is predicted."""

    tokens: NDArray[np.int64]
    """[n] tokens read of each text."""
    truncated: NDArray[np.bool_]
    """[n] whether the text went on behind them."""
    characters: int
    """That the tokens stand for, in the texts' normal form."""
    lone_bytes: int
    """Tokens that are one byte of a character that the vocabulary has not even in parts."""


@dataclass(frozen=True)
class Predictions(Reading):
    """The predictions for n texts."""

    tasks: tuple[TaskPredictions, ...]
    padded_tokens: int
    """Tokens that were computed, padding included."""
    seconds: dict[str, float]
    """What it took, by each of `STAGES`."""


class Answer(NamedTuple):
    """One task's answers to n texts."""

    probabilities: NDArray[np.float64]
    """[n, labels]."""
    expert: NDArray[np.float32] | None
    """[n] as `TaskPredictions` has it."""
    contributions: Contributions | None
    """None where they were not asked for."""


class Answers(NamedTuple):
    """The answers to n texts."""

    tasks: dict[str, Answer]
    """By name."""
    padded_tokens: int
    """Tokens that were computed, padding included."""
    seconds: dict[str, float]
    """What it took, by stage: ngrams, recurrence, attention, network."""


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
        self._tokenizer.get_ready()  # before threads share it
        self._engine = make_engine(bundle.weights, bundle.config, self.tasks)
        experts = [task for task in bundle.experts if task.name in self._names]
        self.experts = tuple(task.name for task in experts)
        """The names of the tasks in which the n-gram expert has a say."""
        self._ngrams = Ngrams(bundle.ngrams, bundle.tokenizer, experts) if experts else None

    def logits(self, texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """[n, outputs] of texts, none of them blank, by task: the network's and the expert's."""
        tokens = self._tokenizer.encode(texts)
        result, added = self._engine.run(tokens, self._names), self._added(tokens)
        return {
            name: _mixed(scores.logits, added.get(name)) for name, scores in result.scores.items()
        }

    def probabilities(
        self, tokens: Tokens, network: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """[n, labels] calibrated, by task.

        Args:
            tokens: of n texts, each with at least one.
            network: [n, outputs] what the network gave for them, by task; None to compute it.
        """
        if network is None:
            scores = self._engine.run(tokens, self._names).scores
            network = {name: one.logits for name, one in scores.items()}
        added = self._added(tokens)
        return {
            task.name: task.rules.probabilities(
                _mixed(network[task.name], added.get(task.name)), self.calibration[task.name]
            )
            for task in self.tasks
        }

    def answers(
        self, tokens: Tokens, *, explained: bool = True, on_progress: OnProgress | None = None
    ) -> Answers:
        """What is answered for tokens, before there are words.

        Args:
            tokens: of n texts, each with at least one.
            explained: whether it is computed what each token contributed.
            on_progress: receives how many texts were finished since the last call.
        """
        started = time.monotonic()
        added = self._added(tokens)
        expert_done = time.monotonic()
        leaning = self._leaning(added) if explained else None
        result = self._engine.run(tokens, self._names, on_progress, leaning)
        answers = {}
        for task in self.tasks:
            scores, more = result.scores[task.name], added.get(task.name)
            logits = _mixed(scores.logits, more)
            given = task.rules.probabilities(logits, self.calibration[task.name])
            answers[task.name] = Answer(
                given, share(task, logits, more, given), scores.contributions
            )
        seconds = {"ngrams": expert_done - started, **result.seconds}
        seconds["network"] = time.monotonic() - started - sum(seconds.values())
        return Answers(answers, result.padded_tokens, seconds)

    def _added(self, tokens: Tokens) -> dict[str, NDArray[np.float64]]:
        """[n, outputs] what the expert adds to the network's logits, where it has a say."""
        found = self._ngrams.logits(tokens) if self._ngrams else {}
        return {name: self.calibration[name].expert * values for name, values in found.items()}

    def _leaning(self, added: Mapping[str, NDArray[np.float64]]) -> Leaning:
        """What speaks for the answers of network and expert."""
        tasks = {task.name: task for task in self.tasks}

        def leaning(
            name: str, texts: NDArray[np.int64], logits: NDArray[np.float32]
        ) -> NDArray[np.float32]:
            rules, calibration = tasks[name].rules, self.calibration[name]
            more = added[name][texts] if name in added else None
            given = rules.probabilities(_mixed(logits, more), calibration)
            return rules.leaning(given, calibration).astype(np.float32)

        return leaning

    def read(self, texts: Sequence[str] | Texts) -> Reading:
        """What is read of texts, none of them blank, as `label` reads them."""
        texts = readable(texts)
        return self._reading(texts, self._tokenizer.encode(texts))

    def _reading(self, texts: Texts, tokens: Tokens) -> Reading:
        truncated = self._tokenizer.truncated(texts, tokens)
        return Reading(tokens.lengths, truncated, *self._tokenizer.characters(tokens))

    def label(
        self, texts: Sequence[str] | Texts, top: int = 5, on_progress: OnProgress | None = None
    ) -> Predictions:
        """Labels texts, none of them blank.

        Args:
            texts: at most `max_texts`.
            top: how many words to give for each text and task; with 0 nothing is computed for them.
            on_progress: receives how many texts were finished since the last call.
        """
        started = time.monotonic()
        texts = readable(texts)
        tokens = self._tokenizer.encode(texts)
        reading = self._reading(texts, tokens)
        seconds = dict.fromkeys(STAGES, 0.0)
        seconds["normalize"] = tokens.normalizing
        seconds["tokenize"] = time.monotonic() - started - tokens.normalizing
        parts = [
            self._label_part(
                texts.part(first, last), tokens.part(first, last), top, on_progress, seconds
            )
            for first, last in _parts(texts, tokens.lengths)
        ]
        started = time.monotonic()
        predictions = Predictions(
            **vars(reading),
            tasks=tuple(
                _joined_tasks([part.tasks[i] for part in parts]) for i in range(len(self.tasks))
            ),
            padded_tokens=sum(part.padded_tokens for part in parts),
            seconds=seconds,
        )
        seconds["summarise"] += time.monotonic() - started
        return predictions

    def _label_part(
        self,
        texts: Texts,
        tokens: Tokens,
        top: int,
        on_progress: OnProgress | None,
        seconds: dict[str, float],
    ) -> _Part:
        """Labels texts of bounded bytes and tokens, and books the time by stage."""
        answers, padded_tokens, spent = self.answers(
            tokens, explained=top > 0, on_progress=on_progress
        )
        scored = time.monotonic()
        found = units(texts, tokens, self._tokenizer.spans(texts, tokens)) if top else None
        predictions = []
        for task in self.tasks:
            probabilities, expert, contributions = answers[task.name]
            words, entropy = no_words(len(tokens)), None
            if found and contributions:
                words = heaviest(found, contributions.weights, top)
                entropy = contributions.entropy
            accept = self.calibration[task.name].accept
            predictions.append(TaskPredictions(task, probabilities, accept, words, entropy, expert))
        for stage, one in spent.items():
            seconds[stage] += one
        seconds["summarise"] += time.monotonic() - scored
        return _Part(tuple(predictions), padded_tokens)


class _Part(NamedTuple):
    tasks: tuple[TaskPredictions, ...]
    padded_tokens: int


def _parts(texts: Texts, tokens: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Consecutive texts of so many tokens and bytes that memory is bounded."""
    # a text weighs what it takes of the dearer of both bounds
    read = np.minimum(texts.sizes, 4 * MAX_CHARS)
    weights = np.maximum(tokens * _PART_BYTES, read * _PART_TOKENS)
    if weights.sum() <= _PART_BYTES * _PART_TOKENS:
        yield 0, len(texts)
    else:
        yield from slices(weights.tolist(), _PART_BYTES * _PART_TOKENS)


def _joined_tasks(parts: Sequence[TaskPredictions]) -> TaskPredictions:
    """One task's predictions for the texts of all parts."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        probabilities=np.concatenate([part.probabilities for part in parts]),
        words=joined([part.words for part in parts]),
        entropy=_joined([part.entropy for part in parts]),
        expert=_joined([part.expert for part in parts]),
    )


def _mixed(network: NDArray[np.float32], added: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """[n, outputs] logits of the network and of what is added to them."""
    logits = network.astype(np.float64)
    return logits if added is None else logits + added


def _joined(parts: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None
