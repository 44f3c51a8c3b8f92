"""The network's logits and the n-gram expert's as one: how much the expert counts, and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration, pays
from glossator.model.kinds import Labels
from glossator.model.tasks import Task

_WEIGHTS = (*(i / 10 for i in range(1, 16)), 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Those tried for the expert. The largest is as good as the expert alone."""
_POWERS = (-7.0, 2.3)
"""Least and largest logarithm of the factor that the logits may get: where the expert weighs much
they are large."""
_GOLDEN = (5**0.5 - 1) / 2


def calibrate(
    task: Task,
    network: NDArray[Any],
    expert: NDArray[Any] | None,
    labels: Labels,
    initial: Calibration,
) -> Calibration:
    """The calibration that fits validation rows best: the expert's weight, then the kind's own.

    Weight and temperature are chosen together, by the loss of the kind. The weight is 0 where the
    rows' losses fall, on average, by less than one standard error of that fall.

    Args:
        task: whose rows they are.
        network: [n, outputs] the network's logits.
        expert: the same of the n-gram expert; None where there is none.
        labels: [n], of which rows without one are left out.
        initial: what was fixed before training.
    """
    seen, shifted = task.rules.observed(labels), not task.balanced
    if expert is None or not seen.any():
        return task.rules.fit(network, labels, initial, task.target_precision, shifted)
    chosen = _weighted(task, network[seen], expert[seen], labels[seen], initial)
    mixed = network.astype(np.float64) + chosen.expert * expert
    fitted = task.rules.fit(mixed, labels, chosen, task.target_precision, shifted)
    return replace(fitted, expert=chosen.expert)


def _weighted(
    task: Task,
    network: NDArray[Any],
    expert: NDArray[Any],
    labels: Labels,
    initial: Calibration,
) -> Calibration:
    """`initial` with the expert's weight and the scale that goes with it; all rows have a label."""
    begun = float(np.asarray(initial.scale))  # before training there is one for all labels

    def losses(weight: float) -> tuple[NDArray[np.float64], float]:
        logits = network.astype(np.float64) + weight * expert

        def at(power: float) -> NDArray[np.float64]:
            scale = begun * float(np.exp(power))
            return task.rules.losses(logits, labels, replace(initial, scale=scale))

        power = least(lambda power: float(at(power).mean()), *_POWERS)
        return at(power), begun * float(np.exp(power))

    without, _ = losses(0.0)
    best, weight, scale = without, 0.0, begun
    for one in _WEIGHTS:
        found, its_scale = losses(one)
        if found.mean() < best.mean():
            best, weight, scale = found, one, its_scale
    gain = without - best
    if not pays(gain):
        return initial
    return replace(initial, expert=weight, scale=scale)


def least(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum has it, to a part in 2,000: golden-section search."""
    inner = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    values = [function(x) for x in inner]
    for _ in range(16):
        if values[0] <= values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - _GOLDEN * (high - low)
            values[0] = function(inner[0])
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + _GOLDEN * (high - low)
            values[1] = function(inner[1])
    return inner[0] if values[0] <= values[1] else inner[1]


def share(
    task: Task,
    logits: NDArray[np.float64],
    added: NDArray[np.float64] | None,
    predicted: NDArray[Any],
) -> NDArray[np.float32] | None:
    """[n] how much of each decision the expert carried, from 0 to 1; None where it added nothing.

    Its margin over the sum of both margins, the network's and its own, whichever way each speaks.
    A margin is what a summand of the logits says of what was predicted: of a single task the
    label's log-odds against the mean of the others, of a multi task the log-odds of all labels, of
    a regression the distance from the mean.

    Args:
        task: whose logits they are.
        logits: [n, outputs] of both.
        added: [n, outputs] the weighted expert's.
        predicted: [n, labels].
    """
    if added is None:
        return None
    expert = task.rules.margin(added, predicted)
    both = expert + task.rules.margin(logits - added, predicted)
    return np.divide(expert, both, out=np.zeros(len(both)), where=both > 0).astype(np.float32)
