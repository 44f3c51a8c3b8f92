"""One text, each task's answer, and the words that its attention looked at, for a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from glossator.model.labeller import Predictions, TaskPredictions
from glossator.model.terminal import Visible, joined, padded, styled, width_of

_SHADES = (236, 58, 100, 142, 184, 226)
"""Backgrounds of the 256-colour palette, from little weight to much."""
_MAX_SHOWN = 2_000
"""Characters of a text that are shown; more where there are marks further on."""


@dataclass(frozen=True)
class Mark:
    """A stretch of a text that an attention gave weight to."""

    start: int
    end: int
    weight: float


def explanation(text: str, labelled: Predictions, row: int = 0, *, colour: bool) -> list[str]:
    """A line for each task: its name, its answer, and the text with what it attended to marked.

    The lines are fit for a terminal; colours in them are ours.
    """
    answers = [(given.task.name, _answer(given, row), given) for given in labelled.tasks]
    name_width = max(width_of(name) for name, _, _ in answers)
    answer_width = max(width_of(answer) for _, answer, _ in answers)
    lines: list[str] = [
        joined(
            [
                padded(name, name_width),
                padded(answer, answer_width),
                marked(text, _marks(given, row), colour),
            ],
            "  ",
        )
        for name, answer, given in answers
    ]
    if labelled.truncated[row]:
        lines.append(f"(only the first {labelled.tokens[row]} tokens were read)")
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


def _answer(answers: TaskPredictions, row: int) -> str:
    task, given = answers.task, answers.probabilities[row]
    if task.kind == "regression":
        return f"{given[0]:.3g}"
    if task.kind == "multi":
        chosen = [f"{task.labels[i]} {given[i]:.0%}" for i in np.flatnonzero(given >= 0.5)]
        return ", ".join(chosen) or "none"
    best = int(given.argmax())
    doubt = "" if given[best] >= answers.accept else " ?"
    return f"{task.labels[best]} {given[best]:.0%}{doubt}"


def _marks(answers: TaskPredictions, row: int) -> list[Mark]:
    words = answers.words
    return [
        Mark(int(words.start[i]), int(words.end[i]), float(words.weight[i]))
        for i in range(words.offsets[row], words.offsets[row + 1])
    ]


def answers_json(text: str, labelled: Predictions, row: int = 0) -> dict[str, Any]:
    """The same for machines: by task, its answer, and the words attended to."""
    result: dict[str, Any] = {"text": text}
    for answers in labelled.tasks:
        task, given = answers.task, answers.probabilities[row]
        said: dict[str, Any]
        if task.kind == "regression":
            said = {"value": float(given[0])}
        else:
            said = {"scores": {name: float(given[i]) for i, name in enumerate(task.labels)}}
        if task.kind == "single":
            best = int(given.argmax())
            said |= {"label": task.labels[best], "confidence": float(given[best])}
            said |= {"accepted": bool(given[best] >= answers.accept)}
        elif task.kind == "multi":
            said |= {"labels": [task.labels[i] for i in np.flatnonzero(given >= 0.5)]}
        said["attention"] = [
            {"text": text[m.start : m.end], "start": m.start, "end": m.end, "weight": m.weight}
            for m in _marks(answers, row)
        ]
        result[task.name] = said | {"entropy": float(answers.entropy[row])}
    return result
