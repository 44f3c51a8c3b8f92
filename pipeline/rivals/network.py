"""The job's network as one would run it in a loop: the tokens, the batches, the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model import bundle as bundles
from glossator.model.bundle import Bundle
from glossator.pipeline.rivals.running import Settings, of_folder

TOP = 5
"""Tokens that are kept of a text and task, as the job keeps words."""
_PADDED = 4096
"""Tokens of a batch, padding included."""

Ints = NDArray[np.int64]
Run = Callable[[Ints, Ints], Sequence[tuple[NDArray[Any], NDArray[Any]]]]
"""From [B, T] ids and [B] lengths to the logits and the attention of each task."""


def get_ready(settings: Settings, folder: Path) -> Bundle:
    """Keeps the tokenizer; the job's bundle."""
    bundle = bundles.load(settings.model)
    (folder / "tokenizer.json").write_text(bundle.tokenizer.to_json())
    return bundle


class Loop:
    """Answers texts with a network, in batches of like length."""

    def __init__(self, folder: Path, run: Run) -> None:
        from tokenizers import Tokenizer

        settings = of_folder(folder)
        bundle = bundles.load(settings.model)
        self._tasks = [task for task in bundle.tasks if task.name in settings.tasks]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(bundle.tokenizer.max_tokens)
        self._run = run

    def __call__(self, texts: list[str]) -> dict[str, Any]:
        """A label, its confidence and the tokens attended to most, for each task."""
        rows = [one.ids or [0] for one in self._tokenizer.encode_batch_fast(texts)]
        lengths = np.array([len(row) for row in rows])
        labels = {task.name: np.empty(len(rows), np.int64) for task in self._tasks}
        confidence = {task.name: np.empty(len(rows), np.float32) for task in self._tasks}
        words: dict[str, list[Any]] = {task.name: [None] * len(rows) for task in self._tasks}
        for some in batches(lengths):
            found = self._run(padded([rows[i] for i in some]), lengths[some])
            for task, (logits, attention) in zip(self._tasks, found, strict=True):
                labels[task.name][some], confidence[task.name][some] = best(logits)
                for i, heaviest in zip(some, top(attention, lengths[some]), strict=True):
                    words[task.name][i] = heaviest
        answers: dict[str, Any] = {}
        for task in self._tasks:
            answers[task.name] = np.array(task.labels)[labels[task.name]]
            answers[f"{task.name}_confidence"] = confidence[task.name]
            answers[f"{task.name}_words"] = words[task.name]
        return answers


def batches(lengths: Ints) -> Iterator[Ints]:
    """Texts by their number, those of like length together, the longest first."""
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        count = max(1, _PADDED // int(lengths[order[first]]))
        yield order[first : first + count]
        first += count


def padded(rows: Sequence[Sequence[int]]) -> Ints:
    """[B, T] token ids, zeros on padding."""
    result = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for i, row in enumerate(rows):
        result[i, : len(row)] = row
    return result


def best(logits: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """[B] the likeliest label, and its probability by a softmax."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    label = logits.argmax(axis=1)
    return label, powers[np.arange(len(label)), label] / powers.sum(axis=1)


def top(attention: NDArray[Any], lengths: Ints) -> list[NDArray[Any]]:
    """Of each text the places of the tokens attended to most, the heaviest first."""
    places = np.argsort(-attention, axis=1, kind="stable")[:, :TOP]
    return [row[:length] for row, length in zip(places, lengths.tolist(), strict=True)]
