"""Learning from what other bundles say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sample_comments import TASKS, labelled_rows
from small_trainings import SENTIMENT, SETTINGS, right, sentiments, silent

from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration, PerLabel
from glossator.model.errors import UsageError
from glossator.model.evaluation.evaluate import predict
from glossator.model.kinds import RULES
from glossator.model.labeller import Labeller
from glossator.model.training.predictions import read_predictions
from glossator.model.training.teachers import ask, lessons, where_silent
from glossator.model.training.train import train

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
    taught = lessons(ask([trained, other], TASKS, TEXTS, silent), TASKS, SCALES)
    for name in ("sentiment", "gender", "themes"):
        np.testing.assert_allclose(
            taught[name], (said[0][name] + said[1][name]) / 2, rtol=1e-6, err_msg=name
        )
    stars = (said[0]["stars"][:, 0] + said[1]["stars"][:, 0]) / 2
    np.testing.assert_allclose(taught["stars"], (stars - 3) / 2, rtol=1e-5)


def test_a_teacher_says_nothing_of_a_task_with_other_labels(trained: Bundle) -> None:
    asked = (replace(SENTIMENT, labels=("pos", "neg")), TASKS[3])
    assert set(lessons(ask([trained], asked, TEXTS, silent), asked, SCALES)) == {"stars"}
    with pytest.raises(UsageError, match="no teacher knows any of the tasks"):
        ask([trained], asked[:1], TEXTS, silent)
    assert lessons(ask([], TASKS, TEXTS, silent), TASKS, SCALES) == {}


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
    settings = replace(SETTINGS, epochs=6, patience=6, teaching=1.0, ngrams=18)
    teacher = train(sentiments(600), (SENTIMENT,), settings, silent)
    few = sentiments(600)
    few.labels["sentiment"][few.split == "train"] = -1
    few.labels["sentiment"][np.flatnonzero(few.split == "train")[:4]] = [0, 1, 0, 1]
    unlabelled = [row["text"] for row in labelled_rows(400, seed=77)]
    student = train(few, (SENTIMENT,), settings, silent, unlabelled=unlabelled, teachers=[teacher])
    alone = train(few, (SENTIMENT,), settings, silent, unlabelled=unlabelled)
    assert right(student) > 0.9
    assert right(student) > right(alone) + 0.1


def test_texts_of_rows_are_not_learnt_once_more_as_unlabelled() -> None:
    torch.set_num_threads(1)
    data, settings = sentiments(200), replace(SETTINGS, epochs=1, vectors=True)
    more = [row["text"] for row in labelled_rows(100, seed=77)]
    once, again = (
        train(data, (SENTIMENT,), settings, silent, unlabelled=texts)
        for texts in (more, [*data.select(data.split == "train").texts, *more])
    )
    assert once.tokenizer.to_json() == again.tokenizer.to_json()
    for name, weights in once.weights.items():
        assert np.array_equal(weights, again.weights[name]), name


def test_labels_count_where_a_teacher_is_silent(tmp_path: Path) -> None:
    """A teacher that speaks of one row alone, and would take all of the loss where it speaks."""
    torch.set_num_threads(1)
    data = sentiments(300)
    one = {"text": data.texts[1:2], "sentiment": [{"neg": 0.5, "pos": 0.5}]}
    pq.write_table(pa.table(one), tmp_path / "said.parquet")
    teacher = read_predictions(str(tmp_path / "said.parquet"), "text", (SENTIMENT,))
    settings = replace(SETTINGS, epochs=4, patience=4, teaching=1.0)
    assert right(train(data, (SENTIMENT,), settings, silent, teachers=[teacher])) > 0.9


def test_predictions_of_other_texts_are_refused(tmp_path: Path) -> None:
    said = {"text": ["another"], "sentiment": [{"neg": 0.5, "pos": 0.5}]}
    pq.write_table(pa.table(said), tmp_path / "said.parquet")
    teacher = read_predictions(str(tmp_path / "said.parquet"), "text", (SENTIMENT,))
    with pytest.raises(UsageError, match="of none of the texts to learn from"):
        ask([teacher], (SENTIMENT,), TEXTS, silent)
    lines: list[str] = []
    ask([teacher], (SENTIMENT,), ["another", *TEXTS], lines.append)
    assert lines[-1] == "predictions of 1 of the texts"


def _doubled(scale: PerLabel) -> PerLabel:
    return 2 * scale if isinstance(scale, float) else tuple(2 * one for one in scale)
