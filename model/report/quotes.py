"""Texts of the data, with what the model answers and what spoke for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from glossator.model.explain import Mark, marks
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller, Predictions
from glossator.model.tasks import Task

_MAX_CHARS = 320
"""Of a text that is shown; more where there are marks further on."""


class Piece(NamedTuple):
    """A stretch of a text, and its share of what spoke for the answer where it has one."""

    text: str
    weight: float | None
    shade: int
    """0 to 100."""


class Quote(NamedTuple):
    """A text with its label and what the model answered."""

    lang: str
    label: str
    answer: str
    pieces: Sequence[Piece]
    more: int
    """Characters that are not shown."""
    expert: float | None
    """The share of the decision that the n-gram expert carried, where there is one."""


def quotes(task: Task, rows: Dataset, labeller: Labeller) -> list[Quote]:
    """Some labelled rows with what the model answers and what spoke for it."""
    if not len(rows):
        return []
    predictions = labeller.label(rows.texts)
    column = [one.task.name for one in predictions.tasks].index(task.name)
    return [_quote(task, rows, row, predictions, column) for row in range(len(rows))]


def _quote(task: Task, rows: Dataset, row: int, predictions: Predictions, column: int) -> Quote:
    answers = predictions.tasks[column]
    pieces, more = _marked(rows.texts[row], marks(answers, row))
    return Quote(
        lang=str(rows.lang[row]),
        label=task.rules.label_text(rows.labels[task.name][row], task.labels),
        answer=task.rules.text(answers.probabilities[row], task.labels, answers.accept),
        pieces=pieces,
        more=more,
        expert=None if answers.expert is None else float(answers.expert[row]),
    )


def _marked(text: str, found: Sequence[Mark]) -> tuple[list[Piece], int]:
    """A text in pieces, of which some are marked, and how many of its characters are left out."""
    heaviest = max((mark.weight for mark in found), default=0.0) or 1.0
    cut = max(_MAX_CHARS, max((mark.end for mark in found), default=0) + _MAX_CHARS // 8)
    pieces, at = [], 0
    for mark in sorted(found, key=lambda mark: mark.start):
        shade = round(100 * mark.weight / heaviest)
        pieces += [
            Piece(_spaced(text[at : mark.start]), None, 0),
            Piece(_spaced(text[mark.start : mark.end]), mark.weight, shade),
        ]
        at = mark.end
    pieces.append(Piece(_spaced(text[at:cut]), None, 0))
    return [piece for piece in pieces if piece.text], max(0, len(text) - cut)


def _spaced(text: str) -> str:
    """White space as single blanks, at the ends too: pieces stand beside each other."""
    words = " ".join(text.split())
    return f"{' ' * text[:1].isspace()}{words}{' ' * (text[-1:].isspace() and bool(words))}"
