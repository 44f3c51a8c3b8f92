"""Metrics against scikit-learn's, and intervals that behave as intervals do."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, softmax
from scipy.stats import binomtest
from sklearn import metrics as sk

from glossator.model.bundle import Bundle
from glossator.model.evaluation.evaluate import evaluate, left_out, logits, measure, predict, score
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.metrics import INTERVALS
from glossator.model.tasks import Task

SINGLE = Task("mood", "single", ("a", "b", "c", "never"))
MULTI = Task("topics", "multi", ("s", "p", "q"))
REGRESSION = Task("stars", "regression")


def answers(task: Task, rows: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels, and answers that are often right."""
    generator = np.random.default_rng(seed)
    if task.kind == "single":
        labels = generator.integers(0, 3, rows)
        given = generator.normal(size=(rows, 4)) + 1.5 * np.eye(4)[labels] - [0, 0, 0, 20]
        return labels, softmax(given, axis=1)
    if task.kind == "multi":
        labels = (generator.random((rows, 3)) < [0.5, 0.2, 0.1]).astype(np.float32)
        return labels, expit(generator.normal(size=(rows, 3)) + 3 * labels - 1.5)
    labels = generator.normal(3, 2, rows).astype(np.float32)
    return labels, (labels + generator.normal(size=rows))[:, None]


def test_a_single_task_by_scikit_learn() -> None:
    labels, given = answers(SINGLE, 400)
    found = measure(SINGLE, labels, given)
    chosen = given.argmax(axis=1)
    assert found["rows"] == 400
    assert found["accuracy"][0] == pytest.approx(sk.accuracy_score(labels, chosen))
    # "never" is neither a truth nor an answer: macro-F1 is over the three others
    assert found["macro_f1"][0] == pytest.approx(sk.f1_score(labels, chosen, average="macro"))
    assert found["confusion"] == sk.confusion_matrix(labels, chosen, labels=range(4)).tolist()


def test_a_label_that_is_only_answered_counts_as_zero() -> None:
    labels, given = np.array([0, 0, 1]), np.eye(4)[[0, 3, 1]]
    expected = (2 / 3 + 1 + 0) / 3
    assert measure(SINGLE, labels, given)["macro_f1"][0] == pytest.approx(expected)
    assert expected == pytest.approx(sk.f1_score(labels, [0, 3, 1], average="macro"))


def test_calibration_error_by_hand() -> None:
    task = Task("mood", "single", ("a", "b"))
    # bins of 1/15: 0.55 and 0.57 share [0.533, 0.6); 0.9 and 0.91 share [0.867, 0.933); 1.0
    confidence = np.array([0.55, 0.57, 0.9, 0.91, 1.0])
    given = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 1, 0, 0, 1])
    expected = abs(1 - 1.12) / 5 + abs(2 - 1.81) / 5 + abs(0 - 1) / 5
    assert measure(task, labels, given)["ece"] == pytest.approx(expected)


def test_calibration_error_by_a_loop() -> None:
    labels, given = answers(SINGLE, 300, seed=4)
    total = 0.0
    for low in range(15):
        rows = [
            (float(p.max()), bool(p.argmax() == y))
            for p, y in zip(given, labels, strict=True)
            if low <= p.max() * 15 < low + 1
        ]
        if rows:
            gap = np.mean([right for _, right in rows]) - np.mean([c for c, _ in rows])
            total += abs(float(gap)) * len(rows) / 300
    assert measure(SINGLE, labels, given)["ece"] == pytest.approx(total)


def test_a_multi_task_by_scikit_learn() -> None:
    labels, given = answers(MULTI, 300)
    found = measure(MULTI, labels, given)
    chosen = given >= 0.5
    assert found["accuracy"][0] == pytest.approx(1 - sk.hamming_loss(labels, chosen))
    assert found["macro_f1"][0] == pytest.approx(sk.f1_score(labels, chosen, average="macro"))


def test_the_calibration_error_of_a_multi_task_is_the_mean_of_its_labels() -> None:
    labels, given = answers(MULTI, 300)
    errors = []
    for truth, own in zip(labels.T, given.T, strict=True):
        total = 0.0
        for low in range(15):
            rows = (own * 15 >= low) & (own * 15 < low + 1)
            total += abs(float((truth[rows] - own[rows]).sum())) / 300
        errors.append(total)
    assert measure(MULTI, labels, given)["ece"] == pytest.approx(np.mean(errors))


def test_precision_and_recall_of_labels_by_scikit_learn() -> None:
    labels, given = answers(SINGLE, 400)
    multi_labels, multi_given = answers(MULTI, 400)
    for found, truth, chosen, labelled in (
        (measure(SINGLE, labels, given), labels, given.argmax(axis=1), [0, 1, 2]),
        (measure(MULTI, multi_labels, multi_given), multi_labels, multi_given >= 0.5, None),
    ):
        precision, recall, _, rows = sk.precision_recall_fscore_support(
            truth, chosen, labels=labelled, zero_division=0
        )
        assert found["by_label"]["precision"][:3] == pytest.approx(precision)
        assert found["by_label"]["recall"][:3] == pytest.approx(recall)
        assert found["by_label"]["rows"][:3] == rows.tolist()
    # "never" is neither true nor given: there is nothing to take a share of
    by_label = measure(SINGLE, labels, given)["by_label"]
    assert [by_label[k][3] for k in ("rows", "given", "precision", "recall")] == [0, 0, None, None]


def test_each_label_of_a_multi_task_has_its_confusion() -> None:
    labels, given = answers(MULTI, 200)
    found = measure(MULTI, labels, given, accept=(0.3, 0.5, 0.8))
    expected = sk.multilabel_confusion_matrix(labels, given >= [0.3, 0.5, 0.8])
    assert found["confusions"] == expected.tolist()


def test_accepted_labels_have_their_coverage_and_the_interval_of_wilson() -> None:
    labels, given = answers(SINGLE, 400)
    found = measure(SINGLE, labels, given, accept=0.7)["accepted"]
    taken = given.max(axis=1) >= 0.7
    right = int((given.argmax(axis=1) == labels)[taken].sum())
    assert found["rows"] == taken.sum()
    assert found["coverage"] == pytest.approx(taken.mean())
    interval = binomtest(right, int(taken.sum())).proportion_ci(method="wilson")
    assert found["precision"] == pytest.approx([right / taken.sum(), interval.low, interval.high])
    nothing = measure(SINGLE, labels, given, accept=1.01)["accepted"]
    assert nothing == {"rows": 0, "coverage": 0, "precision": None}
    assert "accepted" not in measure(SINGLE, labels, given)


def test_a_multi_label_that_never_occurs_is_left_out() -> None:
    labels = np.array([[1, 0, 0], [1, 0, 1]], np.float32)
    given = np.array([[0.9, 0.1, 0.1], [0.2, 0.1, 0.7]])
    assert measure(MULTI, labels, given)["macro_f1"][0] == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.filterwarnings("error")
def test_a_multi_task_without_any_label_is_worth_nothing_but_a_number() -> None:
    labels, given = np.zeros((5, 3), np.float32), np.full((5, 3), 0.1)
    found = measure(MULTI, labels, given)
    assert found["accuracy"] == [1, 1, 1]
    assert found["macro_f1"] == [0, 0, 0]
    # one row in sixty has a label: many a resample has none
    labels[0, 0] = 1
    assert all(map(math.isfinite, measure(MULTI, labels, given)["macro_f1"]))


def test_a_regression_by_scikit_learn() -> None:
    labels, given = answers(REGRESSION, 300)
    found = measure(REGRESSION, labels, given)
    assert found["mae"][0] == pytest.approx(sk.mean_absolute_error(labels, given[:, 0]))
    assert found["r2"][0] == pytest.approx(sk.r2_score(labels, given[:, 0]))


def test_a_regression_whose_truth_is_all_the_same() -> None:
    found = measure(REGRESSION, np.full(4, 2.0, np.float32), np.full((4, 1), 2.5))
    assert (found["mae"][0], found["r2"][0]) == (0.5, 0)


@pytest.mark.parametrize("task", [SINGLE, MULTI, REGRESSION])
def test_intervals_hold_the_value_and_narrow_with_rows(task: Task) -> None:
    widths: dict[str, list[float]] = {}
    for rows in (50, 800):
        found = measure(task, *answers(task, rows, seed=1))
        for name in set(found) & set(INTERVALS):
            value, low, high = found[name]
            assert low <= value <= high
            widths.setdefault(name, []).append(high - low)
    assert len(widths) == 2
    # sixteen times the rows: a quarter of the width
    assert all(2 < few / many < 8 for few, many in widths.values())


def test_an_interval_is_that_of_the_binomial() -> None:
    labels, given = answers(SINGLE, 2000, seed=3)
    value, low, high = measure(SINGLE, labels, given)["accuracy"]
    margin = 1.96 * math.sqrt(value * (1 - value) / 2000)
    assert (low, high) == pytest.approx((value - margin, value + margin), abs=0.15 * margin)


def test_metrics_are_the_same_each_time_and_survive_json() -> None:
    for task in (SINGLE, MULTI, REGRESSION):
        found = measure(task, *answers(task, 60))
        assert measure(task, *answers(task, 60)) == found
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_score_is_macro_f1_or_r2_not_below_zero() -> None:
    for task, name in ((SINGLE, "macro_f1"), (MULTI, "macro_f1"), (REGRESSION, "r2")):
        labels, given = answers(task, 80)
        assert score(task, labels, given) == measure(task, labels, given)[name][0]
    labels, given = answers(REGRESSION, 80)
    assert measure(REGRESSION, labels, -given)["r2"][0] < 0
    assert score(REGRESSION, labels, -given) == 0


def test_slices_are_all_and_each_language_that_has_labels() -> None:
    labels, given = answers(SINGLE, 90)
    labels = labels.astype(np.int64)
    lang = np.array(["en", "zh", "", "es", "en", "zh"] * 15)
    labels[lang == "es"] = -1
    labels[:6] = -1
    stars, values = answers(REGRESSION, 90)
    data = Dataset(
        texts=["x"] * 90,
        labels={"mood": labels, "stars": stars},
        split=np.array(["test"] * 90),
        lang=lang,
        source=np.array([""] * 90),
    )
    found = evaluate((SINGLE, REGRESSION), data, {"mood": given, "stars": values})
    assert list(found) == ["mood", "stars"]
    assert list(found["mood"]) == ["all", "en", "zh"]
    assert list(found["stars"]) == ["all", "en", "es", "zh"]
    for name, own in (("all", labels >= 0), ("zh", (labels >= 0) & (lang == "zh"))):
        assert found["mood"][name] == measure(SINGLE, labels[own], given[own])
    assert {name: part["rows"] for name, part in found["mood"].items()} == {
        "all": 70,
        "en": 28,
        "zh": 28,
    }


def test_predictions_are_the_calibrated_logits_of_each_text(
    bundle: Bundle, corpus: list[str]
) -> None:
    labeller = Labeller(bundle, ["mood", "stars"])
    raw, given = logits(labeller, corpus), predict(labeller, corpus)
    assert list(raw) == list(given) == ["mood", "stars"]
    for i, text in enumerate(corpus[:4]):
        assert np.array_equal(logits(labeller, [text])["mood"][0], raw["mood"][i])
    scale = bundle.calibration["mood"].scale
    np.testing.assert_allclose(given["mood"], softmax(raw["mood"].astype(float) * scale, axis=1))
    labelled = labeller.label(corpus)
    for answer in labelled.tasks:
        assert np.array_equal(answer.probabilities, given[answer.task.name])
        calibration = bundle.calibration[answer.task.name]
        assert np.array_equal(
            answer.task.rules.probabilities(raw[answer.task.name], calibration),
            given[answer.task.name],
        )


def test_many_labels_take_no_more_memory_than_their_rows() -> None:
    """A drawn confusion matrix of 1,000 labels has 8 MB, and thousands are drawn."""
    task = Task("topic", "single", tuple(f"topic {i}" for i in range(1000)))
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 1000, 300)
    given = generator.random((300, 1000)) + np.eye(1000)[labels] * 0.7
    tracemalloc.start()
    found = measure(task, labels, given)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
    chosen = given.argmax(axis=1)
    assert found["accuracy"][0] == pytest.approx(sk.accuracy_score(labels, chosen))
    assert found["macro_f1"][0] == pytest.approx(sk.f1_score(labels, chosen, average="macro"))
    assert "confusion" not in found, "a million numbers in a bundle's index"
    assert len(json.dumps(found)) < 30_000


def test_slices_are_of_any_column_and_of_its_most_frequent_values() -> None:
    labels, given = answers(SINGLE, 300)
    long = "very long " * 50
    data = Dataset(
        texts=["x"] * 300,
        labels={"mood": labels},
        split=np.array(["test"] * 300),
        lang=np.array(["all", "en", ""] * 100, object),
        source=np.array(["shop", "forum"] * 150, object),
        columns={"page": np.array([f"p{min(i, 249)}" for i in range(300)], object)}
        | {"note": np.array([long, "a\nb", ""] * 100, object)},
    )

    def slices(*by: str) -> dict[str, int]:
        found = evaluate((SINGLE,), data, {"mood": given}, by)["mood"]
        return {name: metrics["rows"] for name, metrics in found.items()}

    default = evaluate((SINGLE,), data, {"mood": given})["mood"]
    assert list(default) == ["all", "lang=all", "en", "source=forum", "source=shop"]
    shop = data.source == "shop"
    assert default["source=shop"] == measure(SINGLE, labels[shop], given[shop])
    assert slices() == {"all": 300}
    assert slices("note") == {"all": 300, "note=a b": 100, f"note={long[:60]}": 100}
    pages = slices("page")
    assert (len(pages), pages["page=p249"]) == (51, 51)
    assert left_out(data, ("page", "note", "lang")) == [
        "column 'page' has 250 values: the 50 most frequent are measured"
    ]


def test_many_labels_are_told_apart_over_all_rows_only() -> None:
    task = Task("shelf", "multi", tuple(map(str, range(65))))
    labels = (np.random.default_rng(0).random((40, 65)) < 0.1).astype(np.float32)
    data = Dataset(
        texts=["x"] * 40,
        labels={"shelf": labels},
        split=np.array(["test"] * 40),
        lang=np.array(["en", "zh"] * 20),
        source=np.array([""] * 40),
    )
    found = evaluate((task,), data, {"shelf": labels * 0.9})["shelf"]
    assert len(found["all"]["by_label"]["rows"]) == len(found["all"]["confusions"]) == 65
    assert "accuracy" in found["en"]
    assert not {"by_label", "confusions"} & set(found["en"])
