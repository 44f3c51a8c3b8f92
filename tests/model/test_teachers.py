"""Learning from what other bundles say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sample_comments import TASKS, labelled_rows

from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration, PerLabel
from glossator.model.errors import UsageError
from glossator.model.evaluation.evaluate import predict
from glossator.model.kinds import RULES
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.training.config import TrainingConfig
from glossator.model.training.teachers import ask, lessons, where_silent
from glossator.model.training.train import train

SENTIMENT = TASKS[0]
SCALES = {task.name: Calibration(scale=2.0, shift=3.0) for task in TASKS}
TEXTS = [row["text"] for row in labelled_rows(60, seed=8)]


def test_several_teachers_are_averaged(trained: Bundle) -> None:
    names = [task.name for task in trained.tasks]
    sharper = {
        name: replace(calibration, scale=_doubled(calibration.scale))
        for name, calibration in trained.calibration.items()
    }
    other = replace(trained, calibration=sharper)
    said = [predict(Labeller(teacher, names), TEXTS) for teacher in (trained, other)]
    taught = lessons(ask([trained, other], TASKS, TEXTS), TASKS, SCALES)
    for name in ("sentiment", "gender", "themes"):
        np.testing.assert_allclose(
            taught[name], (said[0][name] + said[1][name]) / 2, rtol=1e-6, err_msg=name
        )
    stars = (said[0]["stars"][:, 0] + said[1]["stars"][:, 0]) / 2
    np.testing.assert_allclose(taught["stars"], (stars - 3) / 2, rtol=1e-5)


def test_a_teacher_says_nothing_of_a_task_with_other_labels(trained: Bundle) -> None:
    asked = (replace(SENTIMENT, labels=("pos", "neg")), TASKS[3])
    assert set(lessons(ask([trained], asked, TEXTS), asked, SCALES)) == {"stars"}
    with pytest.raises(UsageError, match="no teacher knows any of the tasks"):
        ask([trained], asked[:1], TEXTS)
    assert lessons(ask([], TASKS, TEXTS), TASKS, SCALES) == {}


def test_a_text_of_which_a_teacher_says_nothing_is_left_to_the_others() -> None:
    nothing = [np.nan, np.nan]
    said = [
        {"sentiment": np.array([[0.2, 0.8], nothing, nothing])},
        {"sentiment": np.array([[0.6, 0.4], [0.1, 0.9], nothing])},
    ]
    taught = lessons(said, (SENTIMENT,), SCALES)["sentiment"]
    np.testing.assert_allclose(taught, [[0.4, 0.6], [0.1, 0.9], nothing], rtol=1e-6)


def test_own_teachers_leave_texts_to_others() -> None:
    nothing = [np.nan, np.nan]
    own = {"sentiment": np.array([[0.2, 0.8], [0.3, 0.7]]), "gender": np.array([[1, 0], [0, 1]])}
    other = {"sentiment": np.array([nothing, [0.6, 0.4]])}
    kept = where_silent(own, [other])
    np.testing.assert_array_equal(kept["sentiment"], [[0.2, 0.8], nothing])
    np.testing.assert_array_equal(kept["gender"], own["gender"])


def test_probabilities_are_learnt_as_labels_are() -> None:
    """A cross-entropy with what the teacher says; of a sure teacher, that of the labels."""
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    rules, names = RULES["single"], ("a", "b", "c")
    sure = torch.nn.functional.one_hot(labels, 3).double()
    one, other = rules.loss(logits, labels, names), rules.loss(logits, sure, names)
    assert one is not None and other is not None
    assert float(one) == pytest.approx(float(other))
    doubtful = torch.full((5, 3), 1 / 3, dtype=torch.float64)
    found = rules.loss(logits, doubtful, names)
    expected = -logits.log_softmax(1).mean() / np.log(3)
    assert found is not None
    assert float(found) == pytest.approx(float(expected))


def test_a_student_learns_from_texts_that_nobody_has_labelled() -> None:
    torch.set_num_threads(1)
    settings = TrainingConfig(
        vocabulary=400,
        max_tokens=64,
        embedding=16,
        hidden=16,
        attention=8,
        epochs=6,
        batch=32,
        learning_rate=2e-2,
        seed=3,
        patience=6,
        teaching=1.0,
    )
    silent = lambda line: None  # noqa: E731
    teacher = train(dataset(600, 1), (SENTIMENT,), settings, silent)
    few = dataset(600, 1)
    few.labels["sentiment"][few.split == "train"] = -1
    few.labels["sentiment"][np.flatnonzero(few.split == "train")[:4]] = [0, 1, 0, 1]
    unlabelled = [row["text"] for row in labelled_rows(400, seed=77)]
    student = train(few, (SENTIMENT,), settings, silent, unlabelled=unlabelled, teachers=[teacher])
    alone = train(few, (SENTIMENT,), settings, silent, unlabelled=unlabelled)
    fresh = labelled_rows(300, seed=55)
    truth = np.array([SENTIMENT.labels.index(row["sentiment"]) for row in fresh])
    right = {}
    for name, bundle in (("student", student), ("alone", alone)):
        given = predict(Labeller(bundle), [row["text"] for row in fresh])["sentiment"]
        right[name] = float((given.argmax(axis=1) == truth).mean())
    assert right["student"] > 0.9
    assert right["student"] > right["alone"] + 0.1


def _doubled(scale: PerLabel) -> PerLabel:
    return 2 * scale if isinstance(scale, float) else tuple(2 * one for one in scale)


def dataset(count: int, seed: int) -> Dataset:
    rows = [row for row in labelled_rows(2 * count, seed) if row["sentiment"] is not None][:count]
    nothing = np.full(len(rows), "", dtype=object)
    split = np.array(["validation" if i % 5 == 0 else "train" for i in range(len(rows))], object)
    labels = np.array([SENTIMENT.labels.index(row["sentiment"]) for row in rows])
    return Dataset([row["text"] for row in rows], {"sentiment": labels}, split, nothing, nothing)
