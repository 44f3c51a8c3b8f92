"""The kinds of tasks: what holds for each of them, whichever it is."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight

import glossator.model
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.model.kinds import RULES, Kind, Single
from glossator.model.labelled.dataset import Dataset
from glossator.model.tasks import Task

TASKS = {
    "single": Task("mood", "single", ("bad", "good")),
    "multi": Task("topics", "multi", ("stock", "chat", "news")),
    "regression": Task("stars", "regression"),
}
VALUES = {
    "single": ["good", None, "bad", "good"],
    "multi": [["chat"], None, [], ["news", "stock"]],
    "regression": [4.5, None, -1.0, 2.0],
}


@pytest.fixture(params=RULES)
def kind(request: pytest.FixtureRequest) -> Kind:
    value: Kind = request.param
    return value


def test_rows_without_a_label_are_missing(kind: Kind) -> None:
    task = TASKS[kind]
    labels = task.rules.encode(pa.chunked_array([VALUES[kind]]), task.labels)
    assert task.rules.observed(labels).tolist() == [True, False, True, True]
    nothing = task.rules.missing(3, task.labels)
    assert (nothing.shape[1:], nothing.dtype) == (labels.shape[1:], labels.dtype)
    assert not task.rules.observed(nothing).any()


def test_missing_labels_alone_are_no_loss(kind: Kind) -> None:
    task = TASKS[kind]
    rules = task.rules
    targets = torch.from_numpy(
        rules.targets(rules.missing(2, task.labels), rules.initial(np.array([0, 1])))
    )
    assert rules.loss(torch.zeros(2, task.outputs), targets, task.labels) is None


def test_a_perfect_prediction_scores_one(kind: Kind) -> None:
    task = TASKS[kind]
    labels = task.rules.encode(pa.chunked_array([VALUES[kind]]), task.labels)
    labels = np.tile(labels[task.rules.observed(labels)].T, 9).T
    perfect = {
        "single": lambda: np.eye(2)[labels],
        "multi": lambda: labels.astype(float),
        "regression": lambda: labels[:, None].astype(float),
    }[kind]()
    metrics = task.rules.measure(labels, perfect)
    assert task.rules.score(metrics) == 1
    assert set(task.rules.headline) <= set(metrics)
    json.dumps(metrics)


def test_predictions_can_be_read_by_people_and_machines(kind: Kind) -> None:
    task = TASKS[kind]
    row = np.full(task.outputs, 0.75)
    assert task.rules.text(row, task.labels, 0.5).isprintable()
    json.dumps(task.rules.to_json(row, task.labels, 0.5))
    assert task.rules.limits(task.labels).endswith(".")


def logits(kind: Kind) -> NDArray[Any]:
    return np.random.default_rng(3).normal(size=(40, TASKS[kind].outputs))


def test_a_step_along_its_leaning_confirms_an_answer(kind: Kind) -> None:
    """By differences: a small step raises the answer's probability, or takes a number outwards."""
    rules, calibration = TASKS[kind].rules, Calibration(scale=0.8, shift=0.1)
    before = rules.probabilities(logits(kind), calibration)
    step = 1e-4 * rules.leaning(before, calibration)
    after = rules.probabilities(logits(kind) + step, calibration)
    if kind == "regression":
        assert (np.abs(after - 0.1) > np.abs(before - 0.1)).all()
    else:
        gained = rules.agreement(before, after, calibration)
        assert (gained > rules.agreement(before, before, calibration)).all()
    assert rules.same(before, after, calibration).all()


def test_predictions_that_come_to_something_else_are_not_the_same() -> None:
    for kind, given, other, expected in (
        ("single", [[0.6, 0.4], [0.6, 0.4]], [[0.9, 0.1], [0.4, 0.6]], [0.9, 0.4]),
        (
            "multi",
            [[0.9, 0.7, 0.2], [0.1, 0.2, 0.3]],
            [[0.8, 0.6, 0.3], [0.6, 0.2, 0.3]],
            [0.7, 0.4],
        ),
        ("regression", [[2.0], [2.0]], [[2.5], [4.0]], [-0.25, -1.0]),
    ):
        rules, calibration = RULES[kind], Calibration(scale=2.0)
        one, two = np.array(given), np.array(other)
        assert rules.agreement(one, two, calibration) == pytest.approx(expected)
        assert rules.same(one, two, calibration).tolist() == [True, False]
        moved = rules.shift(one, two, calibration)
        unit = 2.0 if kind == "regression" else 1.0
        assert moved == pytest.approx((two - one) / unit)


def test_how_sure_a_wrong_answer_was() -> None:
    for kind, labels, given, expected, text in (
        ("single", [1, 0], [[0.2, 0.8], [0.3, 0.7]], [0, 0.7], "good"),
        ("multi", [[1, 0, 0], [0, 1, 0]], [[0.9, 0.1, 0.4], [0.6, 0.1, 0.2]], [0, 0.9], "stock"),
        ("regression", [2.0, -1.0], [[2.0], [1.5]], [0, 2.5], "2"),
    ):
        task = TASKS[kind]
        assert task.rules.surprise(
            np.array(labels), np.array(given), Calibration()
        ) == pytest.approx(expected)
        assert task.rules.label_text(np.array(labels)[0], task.labels) == text


def test_confidences_stand_beside_what_they_are_of() -> None:
    found = RULES["single"].confidences(np.array([1, 0]), np.array([[0.2, 0.8], [0.3, 0.7]]))
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([0.8, 0.7], [True, False])
    found = RULES["multi"].confidences(np.array([[1, 0]]), np.array([[0.9, 0.2]]))
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([0.9, 0.2], [True, False])
    assert RULES["regression"].confidences(np.array([1.0]), np.array([[0.2]])) is None


def test_a_label_is_accepted_as_the_output_rounds_it() -> None:
    """The output has float32: a confidence that is there equal to the threshold is accepted."""
    accept = float(np.float32(0.7)) - 1e-10
    decisions = Single().decide(np.array([[0.7, 0.3], [0.3, 0.7], [0.5, 0.5]]), accept)
    assert decisions.label.tolist() == [0, 1, 0]
    assert decisions.confidence.tolist() == np.array([0.7, 0.7, 0.5], np.float32).tolist()
    assert decisions.accepted.tolist() == [True, True, False]


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_a_number_that_is_infinite_is_no_label(value: float) -> None:
    with pytest.raises(
        ValueError, match=f"holds {value:g}, which is infinite or too".replace("+", ".")
    ):
        RULES["regression"].encode(pa.chunked_array([[1.0, value]]), ())


def test_kinds_are_compared_nowhere_else() -> None:
    """What differs between kinds is a method of theirs."""
    folder = Path(glossator.model.__path__[0])
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                texts = {side.value for side in sides if isinstance(side, ast.Constant)}
                assert not texts & set(RULES), f"{path}:{node.lineno}"


def test_balanced_labels_count_the_same() -> None:
    single = np.array([0, 0, 0, 1, -1, 3, 3, 0])
    weights = RULES["single"].balance(single)
    seen = single >= 0
    expected = compute_sample_weight("balanced", single[seen])
    np.testing.assert_allclose(weights[seen], expected)
    multi = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1], [np.nan] * 3], np.float32)
    weights = RULES["multi"].balance(multi)
    np.testing.assert_allclose(weights[:4, 0], compute_sample_weight("balanced", multi[:4, 0]))
    np.testing.assert_allclose(weights[:, 1:], 1)  # nothing to balance


def test_weights_of_a_dataset_are_one_on_average() -> None:
    labels = {
        "mood": np.array([0, 0, 1, -1]),
        "topics": np.array([[1, 0, 0], [0, 1, 0], [np.nan] * 3, [0, 0, 0]], np.float32),
        "stars": np.array([1, np.nan, 2, 3], np.float32),
    }
    empty = np.full(4, "", object)
    data = Dataset(list("abcd"), labels, empty, empty, empty, np.float32([1, 2, 3, 4]))
    balanced = {name: replace(t, balanced=bool(t.labels)) for name, t in TASKS.items()}
    for kind, task in balanced.items():
        weights = data.loss_weights(task)
        assert weights is not None
        assert weights[task.rules.observed(labels[task.name])].mean() == pytest.approx(1)
        plain = data.loss_weights(TASKS[kind])
        assert plain is not None
        seen = task.rules.observed(labels[task.name])
        np.testing.assert_allclose(plain / plain[0], [1, 2, 3, 4])
        assert plain[seen].mean() == pytest.approx(1)
    mood = data.loss_weights(balanced["single"])
    assert mood is not None
    # the two of label 0 count 3/4 each, that of label 1 counts 3/2
    np.testing.assert_allclose(mood[:3] / mood[0], [1, 2, 6])
    assert replace(data, weight=None).loss_weights(TASKS["single"]) is None
    with pytest.raises(UsageError, match="task 'mood': every row to learn from has weight 0"):
        replace(data, weight=np.float32([0, 0, 0, 1])).loss_weights(TASKS["single"])


def test_a_weight_multiplies_the_loss_of_its_row(kind: Kind) -> None:
    task = TASKS[kind]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, task.outputs, generator=generator)
    targets = {
        "single": torch.tensor([0, 1, -1, 1, 0]),
        "multi": torch.tensor([[1.0, 0, 1], [0, 0, 0], [torch.nan] * 3, [0, 1, 0], [1, 1, 1]]),
        "regression": torch.tensor([1.0, 2, torch.nan, 0, -1]),
    }[kind]
    weights = torch.tensor([0.5, 2, 9, 0, 1])
    alone = [
        task.rules.loss(logits[i : i + 1], targets[i : i + 1], task.labels) for i in (0, 1, 3, 4)
    ]
    expected = sum(
        w * float(loss) for w, loss in zip((0.5, 2, 0, 1), alone, strict=True) if loss is not None
    )
    found = task.rules.loss(logits, targets, task.labels, weights=weights)
    assert found is not None
    assert float(found) == pytest.approx(expected / 4, rel=1e-5)
