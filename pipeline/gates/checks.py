"""The checks: a figure of a run, and of what was published before, beside its limit.

A night is compared with the last one by the same model alone, but for its rows and texts, which no
model changes. What says too little, for there are too few rows, is said to be skipped.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glossator.model.tasks import Task
from glossator.pipeline.gates.limits import Limits
from glossator.pipeline.gates.nights import Night, Nights
from glossator.pipeline.outputs.manifest import Check, Manifest

Flips = dict[str, dict[str, dict[str, int]]]
"""For each task, how many texts had each label from the old model and from the new: old → new."""
REASONS = ("null", "empty", "undecodable", "key", "column")
"""Of rejects that are rows; what can't be read is checked as such."""
_MIN_NIGHTS = 3
"""Nights that have a median worth comparing with."""
_MIN_CANARIES = 100
_LEAST_SHARE = 1e-3
"""What a label's share counts for at least in a PSI: a rare label says little."""
_FEW = "skipped: too few rows"
_NO_NIGHT = "skipped: nothing was published before"
_NO_FIGURE = "skipped: the last night has no such figure"
_OTHER_MODEL = "skipped: the last night's labels are another model's"


def skipped(name: str, limit: float, why: str) -> Check:
    """A check that had nothing to check."""
    return Check(name, None, limit, True, against=why)


def checked(
    name: str, value: float, limit: float, against: str, bound: Literal["most", "least"] = "most"
) -> Check:
    """A check that passes where the value is not beyond its limit."""
    passed = value <= limit if bound == "most" else value >= limit
    return Check(name, value, limit, passed, bound, against)


def rejects(now: Manifest, limits: Limits) -> Iterator[Check]:
    """Rows that were read and not labelled, in all and by reason."""
    totals = now.totals
    of_all = [("rejects", limits.rejects, totals.rows_rejected)]
    of_all += [
        (f"rejects.{reason}", getattr(limits, f"rejects_{reason}"), totals.rejects.get(reason, 0))
        for reason in REASONS
    ]
    for name, limit, count in of_all:
        if totals.rows_read < max(1, limits.min_rows):
            yield skipped(name, limit, _FEW)
        else:
            yield checked(
                name, count / totals.rows_read, limit, f"of {totals.rows_read:,} rows read"
            )


def rows(now: Manifest, nights: Nights, limits: Limits) -> Iterator[Check]:
    """The rows beside the median of the last nights, and of what the output holds now."""
    counts = [night.manifest.totals.rows_read for night in nights.earlier]
    bounds: tuple[tuple[str, float, Literal["most", "least"]], ...] = (
        ("rows_few", limits.rows_few, "least"),
        ("rows_many", limits.rows_many, "most"),
    )
    median = statistics.median(counts) if counts else 0
    for name, limit, bound in bounds:
        if len(counts) < _MIN_NIGHTS:
            yield skipped(name, limit, f"skipped: fewer than {_MIN_NIGHTS} nights before")
        elif median < max(1, limits.min_rows):
            yield skipped(name, limit, _FEW)
        else:
            against = f"of {median:,.0f} rows, the median of {len(counts)} nights"
            yield checked(name, now.totals.rows_read / median, limit, against, bound)
    if nights.here is None or not nights.here.manifest.totals.rows_labelled:
        yield skipped("rows_replaced", limits.rows_replaced, "skipped: nothing is replaced")
    else:
        before = nights.here.manifest.totals.rows_labelled
        yield checked(
            "rows_replaced",
            now.totals.rows_labelled / before,
            limits.rows_replaced,
            f"of {before:,} labelled rows that are published here",
            "least",
        )


def _beside(nights: Nights, check: Callable[[Night | None], Check]) -> Check:
    """A check beside the last night.

    Where that was another kind of night, as was accepted then, this one need not be of its kind:
    it passes beside the last usual one as well.
    """
    found = check(nights.last)
    if not found.passed and nights.usual is not None:
        other = check(nights.usual)
        if other.passed and other.value is not None:
            return other
    return found


def texts(now: Manifest, nights: Nights, limits: Limits) -> Iterator[Check]:
    """What the texts are like: how many are distinct, and what they are to the tokenizer."""
    few = _few(now, limits)
    figures: tuple[tuple[str, float | None, Literal["most", "least"], str], ...] = (
        ("distinct", distinct(now), "least", "of the texts"),
        ("tokens", tokens(now), "most", "a character"),
        ("lone_bytes", lone_bytes(now), "most", "of the tokens"),
    )
    for name, value, bound, of_what in figures:
        limit = getattr(limits, name)
        if value is None or few:
            yield skipped(name, limit, _FEW)
        else:
            yield checked(name, value, limit, of_what, bound)
    for name, figure in (("distinct", distinct), ("tokens", tokens)):
        check = partial(_texts_night, now, name, figure, limits)
        yield _beside(nights, check)


def _texts_night(
    now: Manifest,
    what: str,
    figure: Callable[[Manifest], float | None],
    limits: Limits,
    night: Night | None,
) -> Check:
    """One figure of the texts beside another night's."""
    name, limit = f"{what}_night", getattr(limits, f"{what}_night")
    if night is None:
        return skipped(name, limit, _NO_NIGHT)
    if _few(now, limits) or _few(night.manifest, limits):
        return skipped(name, limit, _FEW)
    if what == "tokens" and night.manifest.model != now.model:
        return skipped(name, limit, _OTHER_MODEL)
    value, before = figure(now), figure(night.manifest)
    if value is None or not before:
        return skipped(name, limit, _NO_FIGURE)
    off = abs(value - before) / (before if what == "tokens" else 1)
    return checked(name, off, limit, f"off the {before:.3g} of {night.name}")


def labels(
    now: Manifest, task: Task, reference: Sequence[float] | None, limits: Limits
) -> Iterator[Check]:
    """How often each label of a task was given.

    Args:
        now: the run.
        task: not a regression.
        reference: [labels] the shares that the model gave them, or met, as it was made.
        limits: the limits.
    """
    given = None if _few(now, limits) else _shares(now, task)
    name, limit = f"one_label.{task.name}", limits.one_label
    if task.kind == "single":
        if given is None:
            yield skipped(name, limit, _FEW)
        else:
            most = int(np.argmax(given))
            yield checked(name, float(given[most]), limit, f"of the rows are {task.labels[most]}")
    name, limit = f"labels_reference.{task.name}", limits.labels_reference
    if given is None:
        yield skipped(name, limit, _FEW)
    elif reference is None:
        yield skipped(name, limit, "skipped: the model has no shares on record")
    else:
        yield checked(
            name, psi(given, np.array(reference), task), limit, "beside the model's own rows"
        )


def labels_night(now: Manifest, nights: Nights, task: Task, limits: Limits) -> Iterator[Check]:
    """How often a task's labels were given, and how surely, beside the last night."""
    kinds = ["labels_night"]
    if task.kind == "single":
        kinds += ["confidence_night", "accepted_night"]
    for kind in kinds:
        yield _beside(nights, partial(_labels_night, now, kind, task, limits))


def _labels_night(
    now: Manifest, kind: str, task: Task, limits: Limits, night: Night | None
) -> Check:
    """One figure of a task's labels beside another night's."""
    name, limit = f"{kind}.{task.name}", getattr(limits, kind)
    if night is None:
        return skipped(name, limit, _NO_NIGHT)
    if night.manifest.model != now.model:
        return skipped(name, limit, _OTHER_MODEL)
    if _few(now, limits) or _few(night.manifest, limits):
        return skipped(name, limit, _FEW)
    if kind == "labels_night":
        given, before = _shares(now, task), _shares(night.manifest, task)
        if given is None or before is None:
            return skipped(name, limit, _NO_FIGURE)
        return checked(name, psi(given, before, task), limit, f"beside {night.name}")
    figure = kind.removesuffix("_night")
    mine, own = (m.answers.get(task.name, {}).get(figure) for m in (now, night.manifest))
    if mine is None or own is None:
        return skipped(name, limit, _NO_FIGURE)
    return checked(name, abs(mine - own), limit, f"off the {own:.2%} of {night.name}")


def flips(
    matrix: Mapping[str, Mapping[str, int]], last: Night | None, task: Task, limits: Limits
) -> Check:
    """How many of the last night's canaries have another label by a new model.

    Args:
        matrix: of the task, old label → new label → texts.
        last: the last night.
        task: not a regression.
        limits: the limits.
    """
    name, count = f"flips.{task.name}", sum(sum(new.values()) for new in matrix.values())
    if last is None or count < _MIN_CANARIES:
        return skipped(name, limits.flips, f"skipped: of the last night {count} texts were kept")
    same = sum(new.get(label, 0) for label, new in matrix.items())
    return checked(name, 1 - same / count, limits.flips, f"of {count} texts of {last.name}")


def psi(now: NDArray[np.float64], before: NDArray[np.float64], task: Task) -> float:
    """The population stability index of label shares; of a multi task, the largest of a label.

    Sum of (p - q) · ln(p / q), a symmetric Kullback-Leibler divergence (Jeffreys 1946).
    """
    if task.kind == "multi":
        pairs = zip(now, before, strict=True)
        return max(_psi(np.array([p, 1 - p]), np.array([q, 1 - q])) for p, q in pairs)
    return _psi(now, before)


def _psi(now: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    p, q = np.maximum(now, _LEAST_SHARE), np.maximum(before, _LEAST_SHARE)
    return float(((p - q) * np.log(p / q)).sum())


def distinct(manifest: Manifest) -> float | None:
    """The share of texts that are distinct among those that were labelled together."""
    return _ratio(_counted(manifest, "distinct_texts"), manifest.totals.rows_labelled)


def tokens(manifest: Manifest) -> float | None:
    """Tokens a character."""
    return _ratio(_counted(manifest, "tokens"), _counted(manifest, "characters"))


def lone_bytes(manifest: Manifest) -> float | None:
    """The share of tokens that are one byte of an unknown character."""
    return _ratio(_counted(manifest, "lone_bytes"), _counted(manifest, "tokens"))


def _ratio(count: float | None, of: float | None) -> float | None:
    return None if count is None or not of else count / of


def _counted(manifest: Manifest, name: str) -> float | None:
    """What a manifest's counter says; None where an older version did not count."""
    counters = manifest.metrics.get("counters")
    found = counters.get(name) if isinstance(counters, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else None


def _few(manifest: Manifest, limits: Limits) -> bool:
    return manifest.totals.rows_labelled < max(1, limits.min_rows)


def _shares(manifest: Manifest, task: Task) -> NDArray[np.float64] | None:
    """[labels] of a task; None where the manifest has not all of its labels."""
    shares = manifest.labels.get(task.name, {})
    if not shares.keys() >= set(task.labels):
        return None
    return np.array([shares[label] for label in task.labels])
