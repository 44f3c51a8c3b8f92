"""Probabilities that mean what they say: known temperatures, known precisions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from glossator.model.calibrate import Calibration
from glossator.model.tasks import Task

SINGLE = Task("mood", "single", ("a", "b", "c"))
MULTI = Task("topics", "multi", ("s", "p"))
REGRESSION = Task("stars", "regression")

Floats = NDArray[np.float64]


def numbers(columns: int) -> st.SearchStrategy[Floats]:
    value = st.floats(-60, 60, width=32)
    row = st.lists(value, min_size=columns, max_size=columns)
    return st.lists(row, min_size=1, max_size=8).map(lambda rows: np.array(rows, np.float32))


def probabilities(task: Task, logits: Floats, calibration: Calibration) -> Floats:
    return task.rules.probabilities(logits, calibration)


def fit(task: Task, logits: Floats, labels: NDArray[Any], initial: Calibration) -> Calibration:
    return task.rules.fit(logits, labels, initial, task.target_precision)


@settings(max_examples=50, deadline=None)
@given(numbers(3), st.floats(0.1, 10))
def test_probabilities_are_scipys(logits: Floats, scale: float) -> None:
    scaled = Calibration(scale=scale)
    given = probabilities(SINGLE, logits, scaled)
    assert given.dtype == np.float64
    np.testing.assert_allclose(given, softmax(logits.astype(float) * scale, axis=1), atol=1e-12)
    given = probabilities(MULTI, logits[:, :2], scaled)
    np.testing.assert_allclose(given, expit(logits[:, :2].astype(float) * scale), atol=1e-12)
    given = probabilities(REGRESSION, logits[:, :1], Calibration(scale=scale, shift=-2.0))
    np.testing.assert_allclose(given, logits[:, :1].astype(float) * scale - 2)


@pytest.mark.filterwarnings("error")
def test_huge_logits_are_neither_nan_nor_a_warning() -> None:
    logits = np.array([[3e4, -3e4, 0], [-3e4, -3e4, -3e4]], np.float32)
    assert probabilities(SINGLE, logits, Calibration()).tolist() == [[1, 0, 0], [1 / 3] * 3]
    assert probabilities(MULTI, logits[:, :2], Calibration()).tolist() == [[1, 0], [0, 0]]


@settings(max_examples=30, deadline=None)
@given(numbers(3))
def test_a_row_is_computed_for_itself(logits: Floats) -> None:
    for task, columns in ((SINGLE, 3), (MULTI, 2)):
        whole = probabilities(task, logits[:, :columns], Calibration(scale=1.3))
        for i, row in enumerate(logits):
            own = probabilities(task, row[None, :columns], Calibration(scale=1.3))
            assert np.array_equal(whole[i], own[0])


def drawn(task: Task, rows: int, scale: float) -> tuple[Floats, NDArray[np.int64]]:
    """Logits, and labels drawn with the probabilities that the scaled logits stand for."""
    generator = np.random.default_rng(11)
    logits = generator.normal(size=(rows, task.outputs)) * 2 / scale
    if task.kind == "multi":
        return logits, (generator.random(logits.shape) < expit(logits * scale)).astype(np.float32)
    shares = softmax(logits * scale, axis=1)
    return logits, (shares.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1)


@pytest.mark.parametrize("task", [SINGLE, MULTI])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_a_known_scale_is_recovered(task: Task, scale: float) -> None:
    logits, labels = drawn(task, 6000, scale)
    fitted = fit(task, logits, labels, Calibration())
    assert np.ravel(fitted.scale) == pytest.approx(scale, rel=0.08)
    assert fitted.shift == 0


@pytest.mark.parametrize("task", [SINGLE, MULTI])
def test_no_other_scale_has_less_loss(task: Task) -> None:
    logits, labels = drawn(task, 500, 1.6)

    def loss(scale: Floats) -> float:
        if task.kind == "single":
            chosen = log_softmax(logits * scale, axis=1)[np.arange(500), labels]
            return float(-chosen.mean())
        return float(-np.log(expit(np.where(labels == 1, 1, -1) * logits * scale)).mean())

    found = np.array(fit(task, logits, labels, Calibration()).scale)
    # the grid is 2.3% wide
    assert loss(found) <= min(loss(found * factor) for factor in (0.5, 0.9, 0.97, 1.03, 1.1, 2))


def test_rows_without_a_label_are_left_out() -> None:
    for task in (SINGLE, MULTI):
        logits, labels = drawn(task, 400, 2.0)
        expected = fit(task, logits, labels, Calibration())
        missing = -1 if task.kind == "single" else np.nan
        nothing = np.full((300, *labels.shape[1:]), missing, labels.dtype)
        more = np.concatenate([logits, -50 * np.ones((300, task.outputs))])
        assert fit(task, more, np.concatenate([labels, nothing]), Calibration()) == expected
        assert fit(task, more[400:], nothing, Calibration()) == Calibration()


def accepted_precision(
    target: float, logits: Floats, labels: NDArray[np.int64]
) -> tuple[float, int, float]:
    task = Task("mood", "single", ("a", "b", "c"), target_precision=target)
    fitted = fit(task, logits, labels, Calibration())
    given = probabilities(task, logits, fitted)
    accepted = given.max(axis=1) >= fitted.accept
    right = (given.argmax(axis=1) == labels)[accepted]
    assert isinstance(fitted.accept, float)
    return fitted.accept, int(accepted.sum()), float(right.mean()) if len(right) else 1.0


@pytest.mark.parametrize("target", [0.7, 0.8, 0.9, 0.95])
def test_accepted_labels_are_as_often_right_as_was_asked(target: float) -> None:
    logits, labels = drawn(SINGLE, 3000, 1.5)
    accept, rows, precision = accepted_precision(target, logits, labels)
    assert precision >= target
    assert rows >= 50
    assert accept < 1
    # and no lower threshold would do
    task = Task("mood", "single", ("a", "b", "c"), target_precision=target)
    given = probabilities(task, logits, fit(task, logits, labels, Calibration()))
    confidence, right = given.max(axis=1), given.argmax(axis=1) == labels
    for lower in np.unique(confidence[confidence < accept]):
        assert right[confidence >= lower].mean() < target


@settings(max_examples=60, deadline=None)
@example([(2, 60, 60)], 0.8)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 70), st.integers(0, 30)), min_size=1, max_size=6
    ),
    st.sampled_from([0.5, 0.8, 0.9]),
)
def test_so_they_are_where_many_rows_are_as_confident(
    blocks: list[tuple[int, int, int]], target: float
) -> None:
    rows = [(level, i >= right) for level, right, wrong in blocks for i in range(right + wrong)]
    logits = np.array([[level / 2, 0, 0] for level, _ in rows]).reshape(-1, 3)
    labels = np.array([int(wrong) for _, wrong in rows], np.int64)
    accept, count, precision = accepted_precision(target, logits, labels)
    assert precision >= target
    assert count == 0 or count >= 50
    assert (accept > 1) == (count == 0)


def test_nothing_is_accepted_where_the_precision_is_out_of_reach() -> None:
    generator = np.random.default_rng(2)
    logits, labels = generator.normal(size=(500, 3)), generator.integers(0, 3, 500)
    accept, rows, _ = accepted_precision(0.95, logits, labels)
    assert (accept > 1, rows) == (True, 0)
    # 49 rows, all right, are too few to say so
    certain = np.eye(3)[np.zeros(49, int)] * 9
    assert accepted_precision(0.9, certain, np.zeros(49, int))[:2] == (Calibration.accept, 0)
    certain = np.eye(3)[np.zeros(50, int)] * 9
    assert accepted_precision(0.9, certain, np.zeros(50, int))[1] == 50


def test_a_regression_keeps_its_mean_and_deviation() -> None:
    initial = Calibration(scale=2.5, shift=-7.0)
    assert fit(REGRESSION, np.ones((3, 1)), np.array([1.0, np.nan, 2.0]), initial) is initial


def test_it_survives_json() -> None:
    fitted = Calibration(scale=1 / 3, shift=0.1, accept=0.9000000000000001)
    assert Calibration(**json.loads(json.dumps(fitted.to_json()))) == fitted
    fitted = Calibration(scale=(1 / 3, 2.0), shift=(-0.1, 0.1), accept=(0.1, 0.5))
    assert Calibration(**json.loads(json.dumps(fitted.to_json()))) == fitted


# ---------------------------------------------------------------- how frequent labels are


SHIFT = np.array([-1.5, 0.3, 1.2])


def shifted(rows: int, scale: float) -> tuple[Floats, NDArray[np.int64]]:
    """Logits of a model that believes each label to be as frequent as the others; its labels."""
    generator = np.random.default_rng(7)
    logits = generator.normal(size=(rows, 3)) / scale
    shares = softmax(logits * scale + SHIFT, axis=1)
    return logits, (shares.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1)


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.5])
def test_a_known_shift_is_recovered(scale: float) -> None:
    logits, labels = shifted(8000, scale)
    fitted = fit(SINGLE, logits, labels, Calibration())
    assert fitted.scale == pytest.approx(scale, rel=0.08)
    np.testing.assert_allclose(fitted.shift, SHIFT, atol=0.1)
    given = probabilities(SINGLE, logits, fitted)
    np.testing.assert_allclose(given, softmax(logits * fitted.scale + fitted.shift, axis=1))
    np.testing.assert_allclose(given.mean(axis=0), np.bincount(labels) / 8000, atol=0.003)


def test_scale_and_shift_have_the_least_loss() -> None:
    logits, labels = shifted(2000, 0.3)
    logits[np.arange(2000), labels] += 2  # what the scale alone explains in part

    def loss(x: NDArray[np.float64]) -> float:
        return float(-log_softmax(logits * x[0] + x[1:], axis=1)[np.arange(2000), labels].mean())

    fitted = fit(SINGLE, logits, labels, Calibration())
    own = loss(np.append(fitted.scale, fitted.shift))
    least = minimize(loss, [1.0, 0, 0, 0]).fun
    alone = min(loss(np.array([scale, 0, 0, 0])) for scale in np.geomspace(0.1, 10, 200))
    assert own < least + 0.01 * (alone - least)


def test_a_label_that_hardly_occurs_is_hardly_given() -> None:
    logits, labels = shifted(3000, 0.2)
    kept = (labels != 0) | (np.arange(3000) < 20)
    logits, labels = logits[kept], labels[kept]
    fitted = fit(SINGLE, logits, labels, Calibration())
    given = probabilities(SINGLE, logits, fitted).argmax(axis=1)
    assert (given == 0).mean() < 0.01
    plain = probabilities(SINGLE, logits, Calibration())
    assert (given == labels).mean() > (plain.argmax(axis=1) == labels).mean() + 0.05


def test_what_chance_explains_is_no_shift() -> None:
    logits, labels = shifted(59, 1.0)
    assert fit(SINGLE, logits, labels, Calibration()).shift == 0  # too few rows to say
    generator = np.random.default_rng(4)
    drawn = [generator.integers(0, 20, 200) for _ in range(20)]
    task = Task("mood", "single", tuple(map(str, range(20))))
    found = [fit(task, np.zeros((200, 20)), labels, Calibration()).shift for labels in drawn]
    # among those rows it would make the loss fall by 0.05, on others it makes it rise
    assert sum(shift != 0 for shift in found) <= 2


# ---------------------------------------------------------------- a number for each label


def test_each_label_has_a_scale_of_its_own() -> None:
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(8000, 2)) * 2
    labels = (generator.random(logits.shape) < expit(logits * [0.4, 3.0])).astype(np.float32)
    fitted = fit(MULTI, logits, labels, Calibration())
    assert fitted.scale == pytest.approx((0.4, 3.0), rel=0.1)
    given = probabilities(MULTI, logits, fitted)
    np.testing.assert_allclose(given, expit(logits * np.array(fitted.scale)))


def f1(chosen: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (chosen & truth).sum() / (chosen.sum() + truth.sum()))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_no_other_threshold_has_a_better_f1(share: float) -> None:
    generator = np.random.default_rng(7)
    truth = generator.random((1500, 2)) < share
    logits = generator.normal(size=truth.shape).round(1) + 1.5 * truth  # many are equal
    fitted = fit(MULTI, logits, truth.astype(np.float32), Calibration())
    given = probabilities(MULTI, logits, fitted)
    chosen = MULTI.rules.decide(given, fitted.accept)  # type: ignore[attr-defined]
    for i in range(2):
        best = max(f1(given[:, i] >= cut, truth[:, i]) for cut in np.unique(given[:, i]))
        assert f1(chosen[:, i], truth[:, i]) == pytest.approx(best)


def test_a_threshold_lies_between_the_rows_that_it_parts() -> None:
    truth = np.repeat([1.0, 0.0], 40)[:, None]
    task = Task("topics", "multi", ("s",))
    fitted = fit(task, np.where(truth == 1, 2.0, -2.0), truth, Calibration())
    high, low = probabilities(task, np.array([[2.0], [-2.0]]), fitted)[:, 0]
    assert fitted.accept == pytest.approx(((high + low) / 2,))


def test_a_label_of_few_rows_has_what_all_have() -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(600, 3)) * 3
    labels = (generator.random(logits.shape) < expit(logits * 0.5)).astype(np.float32)
    labels[:, 1] = np.arange(600) < 29  # had by too few
    labels[:, 2] = np.arange(600) >= 29  # missed by too few
    task = Task("topics", "multi", ("s", "p", "q"))
    fitted = fit(task, logits, labels, Calibration())
    assert isinstance(fitted.scale, tuple) and isinstance(fitted.accept, tuple)
    assert fitted.scale[1] == fitted.scale[2] != fitted.scale[0]
    assert fitted.accept[1:] == (0.5, 0.5)
    labels[:30, 1] = 1
    assert fit(task, logits, labels, Calibration()).accept[1] != 0.5  # type: ignore[index]


def test_labels_are_given_from_their_own_threshold_on() -> None:
    row = np.array([0.2, 0.4])
    for accept, names in (
        ((0.2, 0.5), "s 20%"),
        ((0.3, 0.4), "p 40%"),
        ((0.2, 0.4), "s 20%, p 40%"),
        (0.5, "none"),
        (0.4, "p 40%"),
    ):
        assert MULTI.rules.text(row, MULTI.labels, accept) == names
        said = MULTI.rules.to_json(row, MULTI.labels, accept)["labels"]
        assert said == [part.split()[0] for part in names.split(", ") if names != "none"]


def test_a_multi_task_that_was_never_fitted_gives_labels_from_a_half_on() -> None:
    assert Calibration().accept == 1.01
    row = np.array([0.5, 0.49])
    assert MULTI.rules.to_json(row, MULTI.labels, Calibration().accept)["labels"] == ["s"]
