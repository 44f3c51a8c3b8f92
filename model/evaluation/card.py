"""The model card: what the model is, what it learnt from, how good it is, where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glossator.model.architecture import NetworkConfig, parameter_count
from glossator.model.bundle import Bundle
from glossator.model.evaluation import faithfulness
from glossator.model.labelled import overview
from glossator.model.metrics import verdict
from glossator.model.tasks import Task

_VERDICTS = {
    "better": "better than random ones",
    "dropped": "better only when dropped",
    "kept": "better only when kept",
    "chance": "no better than random ones",
}
_BARS = "▁▂▃▄▅▆▇█"
_MOST_LABELS = 50
"""Of a task's labels that stand in the table of labels."""


def render(bundle: Bundle) -> str:
    """The card in Markdown, from what the bundle knows of itself."""
    facts = bundle.provenance
    network = bundle.config
    parameters = parameter_count(network, bundle.tasks)
    parts = [
        f"# {_inline(str(facts.get('name', 'A Glossator model')))}",
        f"A multi-task attention RNN: {network.vocabulary:,} tokens, embedding "
        f"{network.embedding}, bidirectional {network.cell.upper()} {network.hidden} + "
        f"{network.hidden}, {_attention(network)}; {parameters:,} parameters. At most "
        f"{bundle.tokenizer.max_tokens} tokens of a text are read.",
        _expert(bundle),
        "## Data",
        *_data(facts),
        "## Quality on the test split",
        *_quality(bundle),
        *_duels(bundle),
        *_confidence(bundle),
        *_labels(bundle),
        "## Course of training",
        *_history(bundle),
        *_worth(bundle),
        *_swapped(bundle),
        "## Limits",
        *(f"- **{_inline(task.name)}**: {_inline(_limits(task))}" for task in bundle.tasks),
    ]
    return "\n\n".join(part for part in parts if part).replace("\n\n- ", "\n- ") + "\n"


def _expert(bundle: Bundle) -> str:
    if not bundle.experts:
        return ""
    weights = (f"{t.name} {bundle.calibration[t.name].expert:g}" for t in bundle.experts)
    return (
        f"Beside it an n-gram expert of {len(bundle.ngrams['tags']):,} buckets, whose log-odds are "
        f"added with these weights: {', '.join(weights)}."
    )


def summary(bundle: Bundle, *, sources: bool = True) -> str:
    """Tables for the terminal: each task's score beside the baseline's, and beside it alone.

    Args:
        bundle: with its metrics.
        sources: whether slices by other columns than the language are shown.
    """
    rows = _rows(bundle)
    if not rows:
        return "not measured: the data has no rows of split test"
    twins = _duel_rows(bundle, "twins")
    blind = [
        name
        for name, measured in bundle.metrics.get("faithfulness", {}).items()
        if faithfulness.verdict(measured) == "chance"
    ]
    rows = [row for row in rows if sources or "=" not in row[1]]
    lines = [_aligned(table) for table in (rows, twins) if table]
    if blind:
        lines.append(
            f"marked words of {', '.join(blind)}: no better than random ones at saying what the "
            "answer depends on"
        )
    return "\n\n".join(lines)


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


def _attention(network: NetworkConfig) -> str:
    units = f"{network.attention} units"
    attention = (
        f"an additive attention with one projection of {units} for all tasks and a query for each"
        if network.shared_attention
        else f"one additive attention of {units} a task"
    )
    pools = "maximum, mean and minimum" if network.min_pooling else "maximum and mean"
    return f"{attention}, beside the {pools} of the states"


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
        if bundle.provenance.get("rows", {}).get("test"):
            return ["Not measured: training was cut off after the model had been written."]
        return ["Not measured: the data had no rows of split test."]
    return [
        _table(rows),
        "Value and 95% bootstrap interval over test rows. The baseline is TF-IDF (character 1- to "
        "4-grams, word 1- and 2-grams) with logistic regression, ridge for a regression, fitted on "
        "the same training rows; its regularisation, thresholds and shifts of labels are the best "
        "on the validation rows. Verdict: whether the model beside it is better or worse on the "
        "same rows, or the rows can't tell. ECE: expected calibration error, 15 bins, before → "
        "after temperature and shift; of a multi task the mean over labels.",
    ]


def _duels(bundle: Bundle) -> list[str]:
    parts = []
    for key, title in (
        ("duel", "## Beside the baseline"),
        ("twins", "## Beside each task learnt alone"),
    ):
        if rows := _duel_rows(bundle, key):
            parts += [title, _table(rows)]
    if parts:
        parts.append(
            "Difference of the model from the other on the same test rows, with its 95% interval "
            "by a paired bootstrap: a tie where that holds zero. Of `mae`, less is better."
        )
    return parts


def _duel_rows(bundle: Bundle, key: str) -> list[list[str]]:
    """By task and slice the difference from a rival."""
    rows = []
    for name, duel in bundle.metrics.get(key, {}).items():
        if duel["verdict"] == "skipped":
            rows.append([name, "", "", "", "", f"skipped: {duel['why']}"])
        for part, found in duel.get("slices", {}).items():
            # of sources, of which there may be many, the first metric alone
            for metric, difference in list(found["difference"].items())[
                : 1 if "=" in part else None
            ]:
                value, low, high = difference
                shown = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
                said = verdict(metric, difference)
                rows.append([name, part, f"{found['rows']:,}", metric, shown, said])
    beside = {"duel": "beside the baseline", "twins": "beside it alone"}[key]
    return [["task", "texts", "rows", "metric", "difference", beside], *rows] if rows else []


def _confidence(bundle: Bundle) -> list[str]:
    rows = []
    for task in bundle.tasks:
        for part, metrics in bundle.metrics.get("test", {}).get(task.name, {}).items():
            if found := metrics.get("accepted"):
                target, covered = f"{task.target_precision:.2f}", f"{found['coverage']:.1%}"
                rows.append([task.name, part, target, covered, _interval(found["precision"])])
    if not rows:
        return []
    return [
        "## Accepted labels",
        _table([["task", "texts", "target", "accepted", "right among them"], *rows]),
        "A label is `accepted` from the confidence on that reached the target on the validation "
        "rows. Here the share of the test rows where it was, and how often it was right, with its "
        "95% interval (Wilson).",
    ]


def _labels(bundle: Bundle) -> list[str]:
    rows = []
    for task in bundle.tasks:
        found = bundle.metrics.get("test", {}).get(task.name, {}).get("all", {}).get("by_label")
        if not found:
            continue
        shares = bundle.metrics.get("prevalence", {}).get(task.name, {})
        corrected = shares.get("corrected") or [None] * len(task.labels)
        for i, label in enumerate(task.labels[:_MOST_LABELS]):
            count, given = found["rows"][i], found["given"][i]
            precision, recall = (_number(found[k][i]) for k in ("precision", "recall"))
            cells = [f"{count:,}", f"{given:,}", precision, recall]
            rows.append([task.name, label, *cells, *_shares(shares, i), _percent(corrected[i])])
        if (more := len(task.labels) - _MOST_LABELS) > 0:
            rows.append([task.name, f"and {more:,} more", *[""] * 7])
    if not rows:
        return []
    head = ["task", "label", "rows", "given", "precision", "recall"]
    return [
        "## Labels on the test split",
        _table([[*head, "true share", "given share", "corrected"], *rows]),
        "Corrected: the share of the given labels without the model's errors, which validation "
        "rows tell (adjusted count; Forman 2008); – where they hide it.",
    ]


def _shares(shares: Mapping[str, Any], i: int) -> list[str]:
    return [_percent(shares[k][i]) if k in shares else "–" for k in ("true", "given")]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _rows(bundle: Bundle) -> list[list[str]]:
    measured = bundle.metrics.get("test", {})
    if not measured:
        return []
    beside = bundle.metrics.get("baseline", {})
    duels, before = bundle.metrics.get("duel", {}), bundle.metrics.get("uncalibrated_ece", {})
    rows = [["task", "texts", "rows", "metric", "model", "baseline", "verdict", "ECE"]]
    for task in bundle.tasks:
        for part, metrics in measured.get(task.name, {}).items():
            other = beside.get(task.name, {}).get(part, {})
            ece = f"{metrics['ece']:.3f}" if "ece" in metrics else ""
            if part == "all" and task.name in before:
                ece = f"{before[task.name]:.3f} → {ece}"
            duel = duels.get(task.name, {})
            fought = duel.get("slices", {}).get(part, {}).get("difference", {})
            for name in _shown(task, part):
                rows.append(
                    [
                        *(task.name, part, f"{metrics['rows']:,}", name),
                        *(_interval(metrics[name]), _interval(other.get(name))),
                        verdict(name, fought[name]) if name in fought else _unfought(duel, part),
                        ece if name == task.rules.headline[0] else "",
                    ]
                )
    return rows


def _shown(task: Task, part: str) -> tuple[str, ...]:
    """The metrics of a slice; of sources, of which there may be many, the first alone."""
    return task.rules.headline[:1] if "=" in part else task.rules.headline


def _unfought(duel: Mapping[str, Any], part: str) -> str:
    return "skipped" if part == "all" and duel.get("verdict") == "skipped" else ""


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


def _worth(bundle: Bundle) -> list[str]:
    """How faithful the words are that each task marks."""
    halves, published = ("comprehensiveness", "sufficiency"), faithfulness.SUMMARIES[0]
    rows = [
        [
            task,
            *(
                f"{measured[published][half]:.3f} ({measured['random'][half]:.3f}), "
                f"{_interval(measured[published][f'{half}_gain'])}"
                for half in halves
            ),
            *(_score(measured[name]) for name in ("learnt", "uniform")),
            _VERDICTS[faithfulness.verdict(measured)],
        ]
        for task, measured in bundle.metrics.get("faithfulness", {}).items()
    ]
    if not rows:
        return []
    head = ["task", *halves, "score", "with uniform attention", "marked words"]
    return [
        "## What its marked words are worth",
        _table([head, *rows]),
        "Erasure (ERASER; DeYoung et al. 2020), means over 10, 20 and 50% of the tokens: how far "
        "the answer falls without the tokens that contributed most (comprehensiveness; more is "
        "better) and with only them (sufficiency; less is better), in brackets that of random "
        "tokens, and the gain over these with its 95% interval, above zero where better.",
    ]


def _swapped(bundle: Bundle) -> list[str]:
    """What changes when the people in a text change sex."""
    rows = [
        [
            *(task, entry["lang"], entry["direction"], f"{entry['texts']:,}"),
            *(_interval(entry["flipped"]), _interval(entry["change"])),
            f"{entry['label']} {_interval(entry['shift'])}".strip(),
        ]
        for task, entries in bundle.metrics.get("swaps", {}).items()
        for entry in entries
    ]
    if not rows:
        return []
    head = ["task", "language", "swap", "texts", "flipped", "largest change", "moves most"]
    return [
        "## When the people in a text change sex",
        _table([head, *rows]),
        "Names, pronouns and words for people are swapped in test texts that have them. Flipped: "
        "the share of answers that become others; largest change: of a label's probability, mean "
        "over texts; moves most: the label whose probability moves furthest on average (a "
        "regression's value in deviations).",
    ]


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _limits(task: Task) -> str:
    sensitive = " Sensitive: labelled only when named in `--tasks`." if task.sensitive else ""
    return f"{task.limits} It {task.rules.limits(task.labels)}{sensitive}".strip()


def _table(rows: list[list[str]]) -> str:
    head, *body = (" | ".join(_inline(cell) for cell in row) for row in rows)
    rule = " | ".join("---" for _ in rows[0])
    return "\n".join(f"| {line} |" for line in (head, rule, *body))


def _inline(text: str) -> str:
    """Text of others' as one line of Markdown that is no table, link or HTML of its own."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("](", "]\\(").replace("<", "&lt;")
