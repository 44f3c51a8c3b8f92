"""One text, each task's prediction, and the words that spoke most for it, for a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from glossator.model.labeller import Predictions, TaskPredictions
from glossator.model.terminal import Visible, joined, padded, styled, width_of

_SHADES = (236, 58, 100, 142, 184, 226)
"""Backgrounds of the 256-colour palette, from little weight to much."""
_MAX_SHOWN = 2_000
"""Characters of a text that are shown; more where there are marks further on."""


@dataclass(frozen=True)
class Mark:
    """A stretch of a text that spoke for an answer."""

    start: int
    end: int
    weight: float


def explanation(text: str, predictions: Predictions, row: int = 0, *, colour: bool) -> list[str]:
    """A line for each task: its name, its prediction, and the text with what spoke for it marked.

    The lines are fit for a terminal; colours in them are ours.
    """
    shown = [(task.task.name, _prediction(task, row), task) for task in predictions.tasks]
    name_width = max(width_of(name) for name, _, _ in shown)
    prediction_width = max(width_of(prediction) for _, prediction, _ in shown)
    lines: list[str] = [
        joined(
            [
                padded(name, name_width),
                padded(prediction, prediction_width),
                marked(text, marks(task, row), colour),
            ],
            "  ",
        )
        for name, prediction, task in shown
    ]
    shares = [
        f"{task.task.name} {task.expert[row]:.0%}"
        for task in predictions.tasks
        if task.expert is not None
    ]
    if shares:
        lines.append(f"(carried by the n-grams, not by what is marked: {', '.join(shares)})")
    if predictions.truncated[row]:
        lines.append(f"(only the first {predictions.tokens[row]} tokens were read)")
    return lines


def marked(text: str, marks: list[Mark], colour: bool) -> Visible:
    """The text with its marks: as background colours, or as [word 42%] where there are none.

    White space is drawn together, and a long text is cut some way after its last mark.
    """
    highest = max((mark.weight for mark in marks), default=1.0)
    end = max((mark.end for mark in marks), default=0)
    cut = max(_MAX_SHOWN, end + _MAX_SHOWN // 10)
    pieces, at = [], 0
    for mark in sorted(marks, key=lambda mark: mark.start):
        pieces.append(_spaced(text[at : mark.start]))
        word = _spaced(text[mark.start : mark.end])
        if colour:
            shade = _SHADES[min(int(mark.weight / highest * len(_SHADES)), len(_SHADES) - 1)]
            dark = shade in _SHADES[:2]
            pieces.append(styled(word, bg=shade, fg="white" if dark else "black"))
        else:
            pieces.append(f"[{word} {mark.weight:.0%}]")
        at = mark.end
    pieces.append(_spaced(text[at:cut]))
    if len(text) > cut:
        pieces.append(f" … ({len(text) - cut:,} characters more)")
    return Visible(" ".join(joined(pieces).split()))


def _spaced(text: str) -> str:
    """Line breaks and the like as blanks: what stays of them when a text is one line."""
    return re.sub(r"\s+", " ", text)


def _prediction(predictions: TaskPredictions, row: int) -> str:
    task = predictions.task
    return task.rules.text(predictions.probabilities[row], task.labels, predictions.accept)


def marks(predictions: TaskPredictions, row: int) -> list[Mark]:
    """What spoke for one task's answer in one text, heaviest first."""
    words = predictions.words
    return [
        Mark(int(words.start[i]), int(words.end[i]), float(words.weight[i]))
        for i in range(words.offsets[row], words.offsets[row + 1])
    ]


def predictions_json(text: str, predictions: Predictions, row: int = 0) -> dict[str, Any]:
    """The same for machines: by task, what was predicted, and the words that spoke for it."""
    result: dict[str, Any] = {"text": text}
    for one in predictions.tasks:
        task = one.task
        predicted = task.rules.to_json(one.probabilities[row], task.labels, one.accept)
        attention = [
            {"text": text[m.start : m.end], "start": m.start, "end": m.end, "weight": m.weight}
            for m in marks(one, row)
        ]
        result[task.name] = {
            **predicted,
            "attention": attention,
            "entropy": None if one.entropy is None else float(one.entropy[row]),
            **({} if one.expert is None else {"expert": float(one.expert[row])}),
        }
    return result
