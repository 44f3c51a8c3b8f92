"""A training run as one HTML page: what the model learnt, how good it is, and where it fails.

The page opens offline: no script, nothing fetched, which its own content security policy holds it
to. It quotes texts of the data: whoever gives the model away may want to leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model import charts, faithfulness, swaps
from glossator.model.architecture import parameter_count
from glossator.model.bundle import Bundle
from glossator.model.charts import Bin, Interval
from glossator.model.data import Dataset
from glossator.model.errors import UsageError
from glossator.model.evaluate import predict
from glossator.model.explain import Mark, marks
from glossator.model.labeller import Labeller, Predictions
from glossator.model.splits import SPLITS
from glossator.model.store import open_store, put_bytes
from glossator.model.tasks import Task

NAME = "report.html"
"""The page's file beside a bundle's own; a bundle is the same with it and without."""
_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_EXAMPLES, _MISTAKES = 4, 6
"""Texts of each task that are shown."""
_MAX_CHARS = 320
"""Of a text that is shown; more where there are marks further on."""
_BINS = 10
_MAX_CONFUSION = 25
"""Labels up to which all confusions are shown, and how many of the largest beyond."""
_MAX_ROWS = 60
"""Of a table; a task may have a thousand labels."""
_SUMMARIES = {
    "random": "random tokens",
    "attention": "attention",
    "contribution": "attention × contribution",
    "gradient": "gradient × input",
}

Cell = str | int | float | None


class Table(NamedTuple):
    """Figures by row; a cell is text, a count, a measure of three decimals, or nothing."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left_out: int = 0
    """Rows that are not shown."""


class Chart(NamedTuple):
    """A chart, and the same as figures."""

    svg: str
    table: Table


class Heat(NamedTuple):
    """Counts by two names, shaded by their share of the row's heaviest."""

    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    shades: Sequence[Sequence[int]]
    """0 to 100."""


class Piece(NamedTuple):
    """A stretch of a text, and its share of the attention where it has one."""

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


def available() -> bool:
    """Whether Jinja, which the extra `report` brings, is installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        return False
    return True


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
    if not available():
        raise UsageError("the report needs Jinja: pip install 'glossator[report]'")
    import jinja2
    from markupsafe import Markup

    from glossator.model.terminal import visible

    def shown(value: Any) -> Any:
        """What the template prints, made visible; it is escaped after that."""
        if isinstance(value, Markup):
            return value
        return "" if value is None else visible(str(value))

    environment = jinja2.Environment(
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    split = "test" if (data.split == "test").any() else "validation"
    rows = data.select(data.split == split)
    facts = bundle.provenance
    return template.render(
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
        parts=_parts(bundle, rows),
        svg=Markup,
    )


def write(page: str, uri: str) -> None:
    """Puts the page beside a bundle's files, of which it is none: the digest stays the same.

    Args:
        page: as `render` gives it.
        uri: the bundle's folder, here or in a store.
    """
    fs, path = open_store(uri)
    put_bytes(fs, f"{path.rstrip('/')}/{NAME}", page.encode("utf-8", "replace"))


# ---------------------------------------------------------------- the whole model


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
                    *(_interval(metrics.get(name)), _interval(other.get(name))),
                    _interval(difference.get(name), signed=True),
                    _said(duel) if first else "",
                    " → ".join(_cell(value) for value in ece if value is not None),
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
        values = [float(value) for value in course if _finite(value)]
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
    return _heat([task.name for task in tasks], seen @ seen.T)


def _sources(counts: Mapping[str, int]) -> Table | None:
    """The largest sources."""
    rows = sorted(counts.items(), key=lambda item: -item[1])
    shown: list[list[Cell]] = [list(row) for row in rows[:_MAX_ROWS]]
    return Table(("source", "texts"), shown, len(rows) - len(shown)) if rows else None


# ---------------------------------------------------------------- one task


def _parts(bundle: Bundle, rows: Dataset) -> list[Part]:
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
    examples, mistakes = (_quotes(task, rows.select(index), labeller) for index in chosen)
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
    for part, metrics in list(measured.items())[:_MAX_ROWS]:
        found = [
            Interval(series, *metric)
            for series, metric in (
                ("model", metrics.get(name)),
                ("baseline", beside.get(part, {}).get(name)),
            )
            if metric and all(map(_finite, metric))
        ]
        if found:
            groups.append((f"{part} ({metrics['rows']:,} rows)", found))
        others = [_interval(metrics.get(key)) for key in task.rules.headline]
        rows.append([part, metrics["rows"], *others, _interval(beside.get(part, {}).get(name))])
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
    return Table(head, rows[:_MAX_ROWS], max(0, len(rows) - _MAX_ROWS))


def _confusion(task: Task, metrics: Mapping[str, Any]) -> Heat | Table | None:
    """Rows by true and given label; of many labels, the largest confusions alone."""
    if not (matrix := metrics.get("confusion")):
        return None
    counts = np.array(matrix)
    if len(counts) <= _MAX_CONFUSION:
        return _heat(task.labels, counts)
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
            *(_interval(figures[name].get(f"{half}_gain"), signed=True) for half in halves),
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
            *(_interval(entry["flipped"]), _interval(entry["change"])),
            f"{entry['label']} {_interval(entry['shift'], signed=True)}".strip(),
        ]
        for entry in moved
    ]
    head = ("language", "swap", "texts", "flipped", "largest change", "moves most, on average")
    return Table(head, rows)


# ---------------------------------------------------------------- quoted texts


def _quotes(task: Task, rows: Dataset, labeller: Labeller) -> list[Quote]:
    """Some labelled rows with what the model answers and where it looked."""
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


# ---------------------------------------------------------------- figures


def _heat(names: Iterable[str], counts: NDArray[np.int64]) -> Heat:
    most = np.maximum(counts.max(axis=1, keepdims=True), 1)
    return Heat(list(names), counts.tolist(), np.rint(100 * counts / most).astype(int).tolist())


def _interval(value: Sequence[float] | None, *, signed: bool = False) -> str:
    """A value with its interval; a dash where there is none."""
    if not value or not all(map(_finite, value)):
        return "–"
    form = "+.3f" if signed else ".3f"
    return f"{value[0]:{form}} [{value[1]:{form}}, {value[2]:{form}}]"


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
