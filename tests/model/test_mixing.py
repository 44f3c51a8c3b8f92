"""How much the n-gram expert counts: as much as validation rows show, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from glossator.model.calibrate import Calibration
from glossator.model.mixing import calibrate, share
from glossator.model.tasks import Task

SINGLE = Task("mood", "single", ("a", "b", "c"))
MULTI = Task("topics", "multi", ("s", "p"))
REGRESSION = Task("stars", "regression")
INITIAL = {"mood": Calibration(), "topics": Calibration(), "stars": Calibration(2.0, 10.0)}
ROWS = 3000

Floats = NDArray[np.float64]


def drawn(task: Task, network: float, expert: float) -> tuple[Floats, Floats, NDArray[Any]]:
    """Two independent views, and labels by their sum with these factors."""
    random = np.random.default_rng(3)
    one, two = random.normal(size=(2, ROWS, task.outputs))
    mixed = network * one + expert * two
    if task.kind == "single":
        shares = np.exp(log_softmax(mixed, axis=1))
        return one, two, (shares.cumsum(axis=1) < random.random((ROWS, 1))).sum(axis=1)
    if task.kind == "multi":
        return one, two, (random.random(mixed.shape) < expit(mixed)).astype(np.float32)
    noisy = mixed[:, 0] + 0.3 * random.normal(size=ROWS)
    return one, two, (10 + 2 * noisy).astype(np.float32)


def loss(task: Task, logits: Floats, labels: NDArray[Any]) -> float:
    if task.kind == "single":
        return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
    if task.kind == "multi":
        return float(np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean())
    return float(((10 + 2 * logits[:, 0] - labels) ** 2).mean())


@pytest.mark.parametrize("task", [SINGLE, MULTI, REGRESSION], ids=lambda task: task.name)
@pytest.mark.parametrize("factors", [(1.0, 0.6), (2.0, 2.0), (0.5, 1.5)])
def test_weight_and_temperature_are_those_of_least_loss(
    task: Task, factors: tuple[float, float]
) -> None:
    network, expert, labels = drawn(task, *factors)
    found = calibrate(task, network, expert, labels, INITIAL[task.name])
    best = minimize(lambda x: loss(task, x[0] * network + x[1] * expert, labels), [1.0, 1.0]).x
    assert found.expert == pytest.approx(best[1] / best[0], rel=0.15)
    scale = np.asarray(found.scale) / INITIAL[task.name].scale  # of a multi task one a label
    np.testing.assert_allclose(scale, best[0], rtol=0.15)
    least = loss(task, best[0] * network + best[1] * expert, labels)
    own = loss(task, scale * (network + found.expert * expert), labels)
    assert own < least + 0.002 * (loss(task, 0 * network, labels) - least)
    # where one label is as frequent as the other, chance alone shifts them
    np.testing.assert_allclose(found.shift, INITIAL[task.name].shift, atol=0.1)


@pytest.mark.parametrize("task", [SINGLE, MULTI, REGRESSION], ids=lambda task: task.name)
def test_an_expert_that_does_not_help_is_left_out(task: Task) -> None:
    network, expert, labels = drawn(task, 1.0, 0.0)
    alone = calibrate(task, network, None, labels, INITIAL[task.name])
    assert calibrate(task, network, expert, labels, INITIAL[task.name]) == alone
    assert calibrate(task, network, 0 * expert, labels, INITIAL[task.name]) == alone
    assert alone == task.rules.fit(network, labels, INITIAL[task.name], task.target_precision)


def test_a_gain_within_its_standard_error_is_none() -> None:
    network, expert, labels = drawn(SINGLE, 1.0, 0.3)
    assert calibrate(SINGLE, network, expert, labels, Calibration()).expert > 0.1
    few = slice(0, 12)
    found = calibrate(SINGLE, network[few], expert[few], labels[few], Calibration())
    assert found.expert == 0


@pytest.mark.parametrize("task", [SINGLE, MULTI, REGRESSION], ids=lambda task: task.name)
def test_beside_a_network_that_knows_nothing_the_expert_decides_alone(task: Task) -> None:
    network, expert, labels = drawn(task, 0.0, 1.5)
    found = calibrate(task, network, expert, labels, INITIAL[task.name])
    assert found.expert >= 30
    scale = np.asarray(found.scale) / INITIAL[task.name].scale
    alone = minimize(lambda x: loss(task, x[0] * expert, labels), [1.0])
    own = loss(task, scale * (network + found.expert * expert), labels)
    assert own < alone.fun + 0.005 * (loss(task, 0 * expert, labels) - alone.fun)


@pytest.mark.parametrize("task", [SINGLE, MULTI, REGRESSION], ids=lambda task: task.name)
def test_rows_without_a_label_do_not_count(task: Task) -> None:
    network, expert, labels = drawn(task, 1.0, 1.0)
    expected = calibrate(task, network, expert, labels, INITIAL[task.name])
    missing = task.rules.missing(ROWS, task.labels)
    twice = calibrate(
        task,
        np.concatenate([network, -network]),
        np.concatenate([expert, 3 * expert]),
        np.concatenate([labels, missing]),
        INITIAL[task.name],
    )
    assert twice == expected
    nothing = calibrate(task, network, expert, missing, INITIAL[task.name])
    assert nothing == INITIAL[task.name]


def test_shares() -> None:
    logits, added = np.array([[3.0, 0, 0], [0, 0, 0]]), np.array([[1.0, 0, 0], [0, 0, 0]])
    predicted = np.array([[0.8, 0.1, 0.1], [1 / 3] * 3])
    found = share(SINGLE, logits, added, predicted)
    assert found is not None
    np.testing.assert_allclose(found, [1 / 3, 0])
    against = share(SINGLE, logits, np.array([[-1.0, 0, 0], [0, 0, 0]]), predicted)
    assert against is not None
    np.testing.assert_allclose(against, [1 / 5, 0])
    assert share(SINGLE, logits, None, predicted) is None
