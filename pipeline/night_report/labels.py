"""What the labels were, beside those of the nights before; and what a new model changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from glossator.model.report import charts
from glossator.model.report.blocks import Cell, Heat, Table, heat
from glossator.pipeline.night_report.facts import Facts

_LABELS = 20
"""Of a task that are shown: those of the largest shares."""
_HEAT = 12
"""Labels up to which all flips are shown; of more, so many of the largest."""


class Share(NamedTuple):
    """A label's share over the nights."""

    label: str
    svg: str
    now: str
    before: str
    change: str


class Shares(NamedTuple):
    """Of a task."""

    task: str
    shares: list[Share]
    table: Table
    left_out: int
    remark: str


class Flips(NamedTuple):
    """Of a task: how texts of the last night are labelled by another model."""

    task: str
    said: str
    texts: Heat | Table | None
    """None where nothing changed."""


def shares(facts: Facts) -> list[Shares]:
    """Of each task that has labels, how often each was given."""
    return [_shares(facts, task) for task, found in facts.manifest.labels.items() if found]


def _shares(facts: Facts, task: str) -> Shares:
    days = [
        (day, day.manifest.labels[task])
        for day in facts.days
        if day.manifest is not None and task in day.manifest.labels
    ]
    now, before = days[-1][1], days[-2][1] if len(days) > 1 else {}
    names = sorted(now, key=lambda name: -max(found.get(name, 0.0) for _, found in days))
    most = max((found.get(name, 0.0) for _, found in days for name in now), default=0.0)
    result = []
    for name in names[:_LABELS]:
        course = [(day.at, found[name]) for day, found in days if name in found]
        change = now[name] - before[name] if name in before else None
        result.append(
            Share(
                name,
                charts.spark(
                    f"{task} {name} over {len(course)} nights",
                    f"from {course[0][1]:.1%} to {course[-1][1]:.1%}",
                    course,
                    most,
                ),
                f"{now[name]:.1%}",
                f"{before[name]:.1%}" if name in before else "–",
                "–" if change is None else f"{100 * change:+.1f}",
            )
        )
    rows: list[list[Cell]] = [
        [day.name, *(f"{found[n]:.2%}" if n in found else None for n in names[:_LABELS])]
        for day, found in reversed(days)
    ]
    models = [day.manifest.model for day, _ in days if day.manifest is not None]
    changed = [days[i][0].name for i in range(1, len(days)) if models[i] != models[i - 1]]
    remark = f"By another model from {', '.join(changed)} on." if changed else ""
    table = Table(("night", *names[:_LABELS]), rows)
    return Shares(task, result, table, len(names) - len(result), remark)


def flips(facts: Facts) -> list[Flips]:
    """Of each task, how many of the last night's texts have another label by this run's model."""
    return [_flips(facts, task, matrix) for task, matrix in facts.manifest.flips.items()]


def _flips(facts: Facts, task: str, matrix: Mapping[str, Mapping[str, int]]) -> Flips:
    names = sorted({*matrix, *(new for found in matrix.values() for new in found)})
    counts = np.array([[matrix.get(o, {}).get(n, 0) for n in names] for o in names], np.int64)
    texts, same = int(counts.sum()), int(np.trace(counts))
    of = f" of {facts.last.name}" if facts.last is not None else ""
    said = f"{texts - same:,} of {texts:,} texts{of} ({1 - same / max(1, texts):.2%}) changed."
    if same == texts:
        return Flips(task, said, None)
    if len(names) <= _HEAT:
        return Flips(task, said, heat((name or "(none)" for name in names), counts))
    moved = [
        (int(counts[i, j]), old or "(none)", new or "(none)")
        for i, old in enumerate(names)
        for j, new in enumerate(names)
        if i != j and counts[i, j]
    ]
    moved.sort(key=lambda one: -one[0])
    rows: list[list[Cell]] = [[old, new, count] for count, old, new in moved[:_HEAT]]
    return Flips(
        task, said, Table(("old label", "new label", "texts"), rows, len(moved) - len(rows))
    )
