"""One text, each task's answer, and the words that its attention looked at, for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from glossator.model.labeller import Predictions, TaskPredictions

_SHADES = (236, 58, 100, 142, 184, 226)
"""Backgrounds of the 256-colour palette, from little weight to much."""


@dataclass(frozen=True)
class Mark:
    """A stretch of a text that an attention gave weight to."""

    start: int
    end: int
    weight: float


def explanation(text: str, labelled: Predictions, row: int = 0, *, colour: bool) -> list[str]:
    """A line for each task: its name, its answer, and the text with what it attended to marked."""
    answers = [(answers.task.name, _answer(answers, row), answers) for answers in labelled.tasks]
    name_width = max(len(name) for name, _, _ in answers)
    answer_width = max(len(answer) for _, answer, _ in answers)
    lines = [
        f"{name:<{name_width}}  {answer:<{answer_width}}  {marked(text, _marks(a, row), colour)}"
        for name, answer, a in answers
    ]
    if labelled.truncated[row]:
        lines.append(f"(only the first {labelled.tokens[row]} tokens were read)")
    return lines


def marked(text: str, marks: list[Mark], colour: bool) -> str:
    """The text with its marks: as background colours, or as [word 42%] where there are none."""
    pieces, at = [], 0
    highest = max((mark.weight for mark in marks), default=1.0)
    for mark in sorted(marks, key=lambda mark: mark.start):
        pieces.append(text[at : mark.start])
        word = text[mark.start : mark.end]
        if colour:
            shade = _SHADES[min(int(mark.weight / highest * len(_SHADES)), len(_SHADES) - 1)]
            dark = shade in _SHADES[:2]
            pieces.append(click.style(word, bg=shade, fg="white" if dark else "black"))
        else:
            pieces.append(f"[{word} {mark.weight:.0%}]")
        at = mark.end
    return " ".join("".join([*pieces, text[at:]]).split())


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
