"""The model card: what the model is, what it learnt from, how good it is, where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glossator.model import overview
from glossator.model.architecture import parameter_count
from glossator.model.bundle import Bundle
from glossator.model.tasks import Task

_BARS = "▁▂▃▄▅▆▇█"


def render(bundle: Bundle) -> str:
    """The card in Markdown, from what the bundle knows of itself."""
    facts = bundle.provenance
    network = bundle.config
    parameters = parameter_count(network, bundle.tasks)
    parts = [
        f"# {facts.get('name', 'A Glossator model')}",
        f"A multi-task attention RNN: {network.vocabulary:,} tokens, embedding "
        f"{network.embedding}, bidirectional {network.cell.upper()} {network.hidden} + "
        f"{network.hidden}, one additive attention of {network.attention} units a task; "
        f"{parameters:,} parameters. At most "
        f"{bundle.tokenizer.max_tokens} tokens of a text are read.",
        "## Data",
        *_data(facts),
        "## Quality on the test split",
        *_quality(bundle),
        "## Course of training",
        *_history(bundle),
        "## Limits",
        *(f"- **{task.name}**: {_limits(task)}" for task in bundle.tasks),
    ]
    return "\n\n".join(part for part in parts if part).replace("\n\n- ", "\n- ") + "\n"


def summary(bundle: Bundle) -> str:
    """A table for the terminal: each task's score beside the baseline's."""
    rows = _rows(bundle)
    if not rows:
        return "not measured: the data has no rows of split test"
    return _aligned(rows)


def curves(bundle: Bundle) -> str:
    """The course of training for the terminal: a curve each for the loss and the scores."""
    rows = [[*row[:2], row[2].split(", ")[-1]] for row in _course(bundle)]
    return _aligned([["", "course", "last"], *rows]) if rows else ""


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _data(facts: Mapping[str, Any]) -> list[str]:
    rows = facts.get("rows", {})
    lines = [
        f"{rows.get('train', 0):,} texts to learn from, {rows.get('validation', 0):,} to validate "
        f"(early stopping, calibration), {rows.get('test', 0):,} to test. A row may carry labels "
        "for some tasks only; a missing label teaches nothing."
    ]
    if sources := facts.get("sources"):
        lines.append(_table([["source", "texts"], *([k, f"{v:,}"] for k, v in sources.items())]))
    labels = [
        [task, ", ".join(f"{label} {count:,}" for label, count in counts.items())]
        for task, counts in facts.get("labels", {}).items()
    ]
    lines.append(_table([["task", "labelled texts"], *labels]))
    if found := facts.get("labels_overview"):
        lines.append("Texts with a label, by split, and those that have one of another task too:")
        lines.append(_table(overview.table(found)))
        lines += [f"- {line}" for line in found["warnings"]]
    return lines


def _quality(bundle: Bundle) -> list[str]:
    rows = _rows(bundle)
    if not rows:
        return ["Not measured: the data had no rows of split test."]
    return [
        _table(rows),
        "Value and 95% bootstrap interval over test rows. The baseline is TF-IDF (character 1- to "
        "4-grams, word 1- and 2-grams) with logistic regression, ridge for a regression, fitted on "
        "the same training rows. ECE: expected calibration error, 15 bins.",
    ]


def _rows(bundle: Bundle) -> list[list[str]]:
    measured = bundle.metrics.get("test", {})
    if not measured:
        return []
    beside = bundle.metrics.get("baseline", {})
    rows = [["task", "texts", "rows", "metric", "model", "baseline", "ECE"]]
    for task in bundle.tasks:
        for part, metrics in measured.get(task.name, {}).items():
            other = beside.get(task.name, {}).get(part, {})
            ece = f"{metrics['ece']:.3f}" if "ece" in metrics else ""
            for name in task.rules.headline:
                rows.append(
                    [
                        *(task.name, part, f"{metrics['rows']:,}", name),
                        *(_interval(metrics[name]), _interval(other.get(name))),
                        ece if name == task.rules.headline[0] else "",
                    ]
                )
    return rows


def _interval(value: list[float] | None) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]" if value else "–"


def _history(bundle: Bundle) -> list[str]:
    rows = _course(bundle)
    if not rows:
        return []
    return [
        "Training loss, and on validation each task's score (macro-F1, or R² of a regression) "
        "after each epoch; the epoch of the best mean is kept.",
        _table([["", "curve", "epoch by epoch"], *rows]),
    ]


def _course(bundle: Bundle) -> list[list[str]]:
    history = bundle.provenance.get("history", [])
    if not history:
        return []
    courses = {"loss": [epoch["loss"] for epoch in history]}
    courses |= {t.name: [epoch["scores"][t.name] for epoch in history] for t in bundle.tasks}
    courses["mean of scores"] = [epoch["mean"] for epoch in history]
    return [
        [name, _curve(values), ", ".join(f"{value:.3f}" for value in values)]
        for name, values in courses.items()
    ]


def _curve(values: list[float]) -> str:
    low, high = min(values), max(values)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((value - low) / step)] for value in values)


def _limits(task: Task) -> str:
    sensitive = " Sensitive: labelled only when named in `--tasks`." if task.sensitive else ""
    return f"{task.limits} It {task.rules.limits(task.labels)}{sensitive}".strip()


def _cell(text: str) -> str:
    """A text that ends neither its cell nor its row."""
    return " ".join(text.replace("|", r"\|").split())


def _table(rows: list[list[str]]) -> str:
    head, *body = (" | ".join(map(_cell, row)) for row in rows)
    rule = " | ".join("---" for _ in rows[0])
    return "\n".join(f"| {line} |" for line in (head, rule, *body))
