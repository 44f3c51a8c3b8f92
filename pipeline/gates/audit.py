"""All checks of a run that is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from glossator.model.tasks import Task
from glossator.pipeline.gates import canary, checks
from glossator.pipeline.gates.checks import Flips
from glossator.pipeline.gates.limits import Limits, accepts
from glossator.pipeline.gates.nights import Night, Nights
from glossator.pipeline.gates.unreadable import Unreadable
from glossator.pipeline.gates.unreadable import check as check_unreadable
from glossator.pipeline.outputs.manifest import Check, Manifest

Answer = Callable[[pa.Array], Mapping[str, Sequence[str]]]
"""Labels texts by the run's model: by task, each text's answer as one string."""


@dataclass(frozen=True)
class Gates:
    """What a run is held to."""

    limits: Limits = field(default_factory=Limits)
    accept: tuple[str, ...] = ()
    """Checks that are let through."""
    before: tuple[str, ...] = ()
    """The outputs of earlier dates, the last one first."""
    references: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By task, the shares of its labels that the model has on record."""


def audit(
    now: Manifest,
    found: Unreadable,
    nights: Nights,
    tasks: Sequence[Task],
    gates: Gates,
    answer: Answer,
) -> Manifest:
    """A run's manifest with all its checks, passed or not, and with its flips.

    Args:
        now: the manifest without them.
        found: what could not be read.
        nights: what was published before.
        tasks: that were labelled.
        gates: what the run is held to.
        answer: is called where the last night's model was another one.
    """
    limits, last = gates.limits, nights.last
    flips = compare(now, last, answer)
    made = [
        check_unreadable(found, limits),
        *checks.rejects(now, limits),
        *checks.rows(now, nights, limits),
        *checks.texts(now, nights, limits),
    ]
    for task in tasks:
        if task.kind != "regression":
            made += checks.labels(now, task, gates.references.get(task.name), limits)
            made += checks.labels_night(now, nights, task, limits)
            if flips is not None:
                made.append(checks.flips(flips.get(task.name, {}), last, task, limits))
    return replace(
        now, checks=tuple(_let_through(one, gates.accept) for one in made), flips=flips or {}
    )


def compare(now: Manifest, last: Night | None, answer: Answer) -> Flips | None:
    """How a new model answers to the last night's canaries; None where it is the same model."""
    if last is None or last.manifest.model == now.model:
        return None
    kept = canary.load(last.output, last.manifest.run_id)
    if not kept:
        return {}
    given = answer(pa.array([one.text for one in kept], pa.large_string()))
    found: dict[str, dict[str, dict[str, int]]] = {}
    for task in given.keys() & kept[0].answers.keys():
        matrix = found.setdefault(task, {})
        for one, new in zip(kept, given[task], strict=True):
            row = matrix.setdefault(one.answers.get(task, ""), {})
            row[new] = row.get(new, 0) + 1
    return dict(sorted(found.items()))


def _let_through(check: Check, accept: Sequence[str]) -> Check:
    return replace(check, accepted=not check.passed and accepts(accept, check.name))
