"""What the page says of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.evaluation import faithfulness, swaps
from glossator.model.evaluation.evaluate import predict
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.report import charts
from glossator.model.report.blocks import MAX_ROWS, Cell, Chart, Heat, Table, finite, heat, interval
from glossator.model.report.charts import Bin, Interval
from glossator.model.report.quotes import Quote, quotes
from glossator.model.tasks import Task

_EXAMPLES, _MISTAKES = 4, 6
"""Texts of each task that are shown."""
_BINS = 10
_MAX_CONFUSION = 25
"""Labels up to which all confusions are shown, and how many of the largest beyond."""
_SUMMARIES = {
    "random": "random tokens",
    "contribution": "contribution (what is marked)",
    "attention": "attention alone",
    "gradient": "gradient × input",
}


class Part(NamedTuple):
    """What the page says of one task."""

    task: Task
    limits: str
    quality: Chart | None
    labels: Table | None
    confusion: Heat | Table | None
    reliability: Chart | None
    faithful: str
    faithfulness: Chart | None
    swapped: str
    swaps: Table | None
    examples: Sequence[Quote]
    mistakes: Sequence[Quote]


def parts(bundle: Bundle, rows: Dataset) -> list[Part]:
    """What there is to say of each task.

    Args:
        bundle: with its metrics.
        rows: those that are drawn and quoted from.
    """
    labeller = Labeller(bundle, [task.name for task in bundle.tasks])
    predicted = predict(labeller, rows.texts) if len(rows) else {}
    return [_part(bundle, task, rows, predicted.get(task.name), labeller) for task in bundle.tasks]


def _part(
    bundle: Bundle,
    task: Task,
    rows: Dataset,
    predicted: NDArray[Any] | None,
    labeller: Labeller,
) -> Part:
    labels = rows.labels[task.name]
    seen = np.flatnonzero(task.rules.observed(labels))
    metrics = bundle.metrics.get("test", {}).get(task.name, {})
    figures = bundle.metrics.get("faithfulness", {}).get(task.name)
    moved = bundle.metrics.get("swaps", {}).get(task.name)
    reliability, chosen = None, [np.empty(0, np.int64)] * 2
    if predicted is not None and len(seen):
        reliability = _reliability(task, labels[seen], predicted[seen])
        calibration = bundle.calibration[task.name]
        surprise = task.rules.surprise(labels[seen], predicted[seen], calibration)
        worst = np.argsort(-surprise, kind="stable")[:_MISTAKES]
        spread = np.unique(np.linspace(0, len(seen) - 1, min(_EXAMPLES, len(seen))).astype(int))
        chosen = [seen[spread], seen[worst[surprise[worst] > 0]]]
    examples, mistakes = (quotes(task, rows.select(index), labeller) for index in chosen)
    return Part(
        task=task,
        limits=f"{task.limits} It {task.rules.limits(task.labels)}".strip(),
        quality=_quality(bundle, task),
        labels=_labels(task, metrics.get("all", {}), bundle.metrics),
        confusion=_confusion(task, metrics.get("all", {})),
        reliability=reliability,
        faithful=faithfulness.sentence(figures) if figures else "",
        faithfulness=_faithfulness(figures) if figures else None,
        swapped="" if moved is None else swaps.sentence(moved),
        swaps=_swaps(moved) if moved else None,
        examples=examples,
        mistakes=mistakes,
    )


def _quality(bundle: Bundle, task: Task) -> Chart | None:
    """The first metric of every slice, model and baseline."""
    measured = bundle.metrics.get("test", {}).get(task.name, {})
    beside = bundle.metrics.get("baseline", {}).get(task.name, {})
    name = task.rules.headline[0]
    groups, rows = [], []
    for part, metrics in list(measured.items())[:MAX_ROWS]:
        found = [
            Interval(series, *metric)
            for series, metric in (
                ("model", metrics.get(name)),
                ("baseline", beside.get(part, {}).get(name)),
            )
            if metric and all(map(finite, metric))
        ]
        if found:
            groups.append((f"{part} ({metrics['rows']:,} rows)", found))
        others = [interval(metrics.get(key)) for key in task.rules.headline]
        rows.append([part, metrics["rows"], *others, interval(beside.get(part, {}).get(name))])
    if not groups:
        return None
    title = f"{task.name}: {name.replace('_', ' ')} on the test split"
    svg = charts.intervals(title, f"{len(groups)} slices with 95% intervals", groups)
    head = ("slice", "rows", *(key.replace("_", " ") for key in task.rules.headline), "baseline")
    return Chart(svg, Table(head, rows, len(measured) - len(rows)))


def _labels(task: Task, metrics: Mapping[str, Any], whole: Mapping[str, Any]) -> Table | None:
    """Precision and recall of each label, and how often it occurs."""
    found = metrics.get("by_label")
    if not found:
        return None
    shares = whole.get("prevalence", {}).get(task.name, {})
    corrected = shares.get("corrected") or [None] * len(task.labels)
    rows: list[list[Cell]] = [
        [label, *(found[key][i] for key in ("rows", "given", "precision", "recall")), corrected[i]]
        for i, label in enumerate(task.labels)
    ]
    rows.sort(key=lambda row: -int(row[1] or 0))
    head = ("label", "rows", "given", "precision", "recall", "share corrected for errors")
    return Table(head, rows[:MAX_ROWS], max(0, len(rows) - MAX_ROWS))


def _confusion(task: Task, metrics: Mapping[str, Any]) -> Heat | Table | None:
    """Rows by true and given label; of many labels, the largest confusions alone."""
    if not (matrix := metrics.get("confusion")):
        return None
    counts = np.array(matrix)
    if len(counts) <= _MAX_CONFUSION:
        return heat(task.labels, counts)
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSION].tolist()
    pairs = [divmod(cell, len(counts)) for cell in order]
    rows: list[list[Cell]] = [
        [task.labels[i], task.labels[j], int(wrong[i, j])] for i, j in pairs if wrong[i, j]
    ]
    return Table(("true", "given", "rows"), rows, int((wrong > 0).sum()) - len(rows))


def _reliability(task: Task, labels: NDArray[Any], predicted: NDArray[Any]) -> Chart | None:
    if (found := task.rules.confidences(labels, predicted)) is None:
        return None
    confidence, right = found
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = [
        Bin(
            low=index / _BINS,
            high=(index + 1) / _BINS,
            rows=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            right=float(right[inside].mean()),
        )
        for index in range(_BINS)
        if (inside := place == index).any()
    ]
    title = f"{task.name}: how often answers of each confidence were right"
    svg = charts.reliability(title, "On the diagonal, confidence means what it says", bins)
    rows: list[list[Cell]] = [
        [f"{b.low:.0%} to {b.high:.0%}", b.rows, b.confidence, b.right] for b in bins
    ]
    return Chart(svg, Table(("confidence", "answers", "mean confidence", "right"), rows))


def _faithfulness(figures: Mapping[str, Any]) -> Chart:
    halves = ("comprehensiveness", "sufficiency")
    groups = [
        (_SUMMARIES[name], [Interval(half, *figures[name][f"{half}_gain"]) for half in halves])
        for name in _SUMMARIES
        if name in figures and name != "random"
    ]
    rows: list[list[Cell]] = [
        [
            text,
            *(figures[name][half] for half in halves),
            *(interval(figures[name].get(f"{half}_gain"), signed=True) for half in halves),
        ]
        for name, text in _SUMMARIES.items()
        if name in figures
    ]
    svg = charts.intervals(
        "How much more faithful than random tokens",
        "Right of zero is better than random tokens; 95% intervals over texts",
        groups,
        guide=0.0,
    )
    return Chart(svg, Table(("tokens by", *halves, *(f"{half} gained" for half in halves)), rows))


def _swaps(moved: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = [
        [
            *(entry["lang"], entry["direction"], entry["texts"]),
            *(interval(entry["flipped"]), interval(entry["change"])),
            f"{entry['label']} {interval(entry['shift'], signed=True)}".strip(),
        ]
        for entry in moved
    ]
    head = ("language", "swap", "texts", "flipped", "largest change", "moves most, on average")
    return Table(head, rows)
