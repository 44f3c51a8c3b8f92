"""A training run as one HTML page: what the model learnt, how good it is, and where it fails.

It quotes texts of the data: whoever gives the model away may want to leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glossator.model.architecture import parameter_count
from glossator.model.bundle import Bundle
from glossator.model.labelled.dataset import Dataset
from glossator.model.labelled.splits import SPLITS
from glossator.model.report import charts
from glossator.model.report.blocks import (
    MAX_ROWS,
    Cell,
    Chart,
    Heat,
    Table,
    cell,
    finite,
    heat,
    interval,
)
from glossator.model.report.frame import rendered
from glossator.model.report.task import parts
from glossator.model.store import open_store, put_bytes
from glossator.model.tasks import Task

NAME = "report.html"
"""The page's file beside a bundle's own; a bundle is the same with it and without."""
_TEMPLATE = Path(__file__).with_name("page.html.jinja")


def render(bundle: Bundle, data: Dataset) -> str:
    """The page.

    Args:
        bundle: the trained model, with its metrics, provenance and, so that a page is known to be
            of the files beside it, digest.
        data: the rows that it was trained on; quoted and drawn from are those of split test, or
            of validation where there are none.

    Raises:
        UsageError: Jinja is missing.
    """
    split = "test" if (data.split == "test").any() else "validation"
    rows = data.select(data.split == split)
    facts = bundle.provenance
    return rendered(
        _TEMPLATE,
        name=str(facts.get("name", "A Glossator model")),
        digest=bundle.digest[:12],
        parameters=parameter_count(bundle.config, bundle.tasks),
        vocabulary=bundle.config.vocabulary,
        tasks=bundle.tasks,
        split=split,
        rows=facts.get("rows", {}),
        sources=_sources(facts.get("sources", {})),
        verdict=_verdict(bundle),
        training=_training(bundle),
        labelled=_labelled(facts.get("labels_overview", {})),
        warnings=facts.get("labels_overview", {}).get("warnings", []),
        together=_together(bundle.tasks, data),
        parts=parts(bundle, rows),
    )


def write(page: str, uri: str) -> None:
    """Puts the page beside a bundle's files, of which it is none: the digest stays the same.

    Args:
        page: as `render` gives it.
        uri: the bundle's folder, here or in a store.
    """
    fs, path = open_store(uri)
    put_bytes(fs, f"{path.rstrip('/')}/{NAME}", page.encode("utf-8", "replace"))


def _verdict(bundle: Bundle) -> Table | None:
    """Each task's score beside the baseline's, and who won."""
    measured, beside = bundle.metrics.get("test", {}), bundle.metrics.get("baseline", {})
    duels, raw = bundle.metrics.get("duel", {}), bundle.metrics.get("uncalibrated_ece", {})
    rows: list[list[Cell]] = []
    for task in bundle.tasks:
        metrics = measured.get(task.name, {}).get("all")
        if not metrics:
            continue
        other, duel = beside.get(task.name, {}).get("all", {}), duels.get(task.name, {})
        difference = duel.get("slices", {}).get("all", {}).get("difference", {})
        for name in task.rules.headline:
            first = name == task.rules.headline[0]
            ece = [raw.get(task.name), metrics.get("ece")] if first else []
            rows.append(
                [
                    *(task.name, metrics["rows"], name.replace("_", " ")),
                    *(interval(metrics.get(name)), interval(other.get(name))),
                    interval(difference.get(name), signed=True),
                    _said(duel) if first else "",
                    " → ".join(cell(value) for value in ece if value is not None),
                ]
            )
    head = ("task", "rows", "metric", "model", "baseline", "difference", "verdict", "ECE")
    return Table(head, rows) if rows else None


def _said(duel: Mapping[str, Any]) -> str:
    """A duel's outcome in a word, or why there was none."""
    if "why" in duel:
        return f"{duel['verdict']}: {duel['why']}"
    return str(duel.get("verdict", ""))


def _training(bundle: Bundle) -> list[Chart]:
    """Curves of the loss and of the scores on validation."""
    history = bundle.provenance.get("history", [])
    courses = {"training loss": [epoch.get("loss") for epoch in history]}
    courses["mean of validation scores"] = [epoch.get("mean") for epoch in history]
    for task in bundle.tasks:
        scores = [epoch.get("scores", {}).get(task.name) for epoch in history]
        courses[f"{task.name}: validation score"] = scores
    result = []
    for name, course in courses.items():
        values = [float(value) for value in course if finite(value)]
        if values and len(values) == len(course):
            described = f"{len(values)} epochs, from {values[0]:.3f} to {values[-1]:.3f}"
            table = Table(("epoch", name), [[i + 1, v] for i, v in enumerate(values)])
            result.append(Chart(charts.lines(name, described, {name: values}), table))
    return result


def _labelled(overview: Mapping[str, Any]) -> Table | None:
    """Rows with a label by task and split, and what those of train are worth."""
    rows: list[list[Cell]] = [
        [task, *(counts[split] for split in SPLITS), f"{overview['effective'][task]:,.0f}"]
        for task, counts in overview.get("rows", {}).items()
    ]
    return Table(("task", *SPLITS, "effective in train"), rows) if rows else None


def _together(tasks: Sequence[Task], data: Dataset) -> Heat | None:
    """How many rows have labels of two tasks; of one, on the diagonal."""
    if len(tasks) == 1:
        return None
    seen = np.stack([task.rules.observed(data.labels[task.name]) for task in tasks]).astype(int)
    return heat([task.name for task in tasks], seen @ seen.T)


def _sources(counts: Mapping[str, int]) -> Table | None:
    """The largest sources."""
    rows = sorted(counts.items(), key=lambda item: -item[1])
    shown: list[list[Cell]] = [list(row) for row in rows[:MAX_ROWS]]
    return Table(("source", "texts"), shown, len(rows) - len(shown)) if rows else None
