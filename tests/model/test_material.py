"""What a network learns from, and which of it in an epoch."""

from __future__ import annotations

import numpy as np
from sample_comments import TASKS

from glossator.model.calibrate import Calibration
from glossator.model.kinds import RULES
from glossator.model.labelled.dataset import Dataset
from glossator.model.tokenizer import Tokens
from glossator.model.training.material import Material, with_unlabelled

SENTIMENT = TASKS[0]


def material(labelled: int, more: int) -> Material:
    nothing = np.full(labelled, "", dtype=object)
    rows = Dataset(
        [f"row {i}" for i in range(labelled)],
        {"sentiment": np.arange(labelled) % 2},
        np.full(labelled, "train", dtype=object),
        nothing,
        nothing,
    )
    count = labelled + more
    tokens = Tokens(np.arange(count, dtype=np.int32), np.arange(count + 1))
    return with_unlabelled(rows, tokens, [f"text {i}" for i in range(more)], (SENTIMENT,))


def test_texts_without_labels_stand_behind_the_rows() -> None:
    whole = material(3, 2)
    assert whole.rows.texts == ["row 0", "row 1", "row 2", "text 0", "text 1"]
    assert whole.rows.labels["sentiment"].tolist() == [0, 1, 0, -1, -1]
    assert whole.only_labelled().rows.texts == ["row 0", "row 1", "row 2"]


def test_an_epoch_has_every_row_and_as_many_other_texts() -> None:
    whole = material(4, 10)
    drawn = []
    for number in (1, 2, 3, 4, 5):
        rows = whole.epoch(number, seed=7)
        assert rows[:4].tolist() == [0, 1, 2, 3]
        assert len(rows) == 8
        assert set(rows[4:].tolist()) <= set(range(4, 14))
        drawn += rows[4:].tolist()
    # twenty draws in five epochs: each of the ten texts comes twice
    assert sorted(drawn) == sorted([*range(4, 14)] * 2)
    assert whole.epoch(1, seed=8).tolist() != whole.epoch(1, seed=7).tolist()
    assert material(4, 3).epoch(1, seed=7).tolist() == list(range(7))


def test_a_part_keeps_lessons_beside_their_rows() -> None:
    lesson = np.arange(10, dtype=np.float32).reshape(5, 2)
    part = material(3, 2).taught({"sentiment": lesson}).select(np.array([2, 3]))
    assert part.rows.texts == ["row 2", "text 0"]
    assert part.labelled == 1
    assert part.lessons["sentiment"].tolist() == lesson[[2, 3]].tolist()
    assert part.tokens.ids.tolist() == [2, 3]


def test_what_there_is_to_learn_of_one_task() -> None:
    whole = material(3, 2)
    whole.rows.labels["sentiment"][1] = -1
    assert whole.of(SENTIMENT).rows.texts == ["row 0", "row 2"]
    taught = whole.taught({"sentiment": np.ones((5, 2), np.float32), "other": np.ones((5, 1))})
    assert len(taught.of(SENTIMENT).rows) == 5
    assert set(taught.of(SENTIMENT).lessons) == {"sentiment"}


def test_labels_and_lessons_are_learnt_as_one() -> None:
    whole = material(4, 6)
    whole.rows.labels["sentiment"][1] = -1
    lesson = np.tile(np.array([[0.4, 0.6]], np.float32), (10, 1))
    lesson[0] = np.nan
    taught = whole.taught({"sentiment": lesson})
    generator = np.random.default_rng(0)
    found = taught.targets(SENTIMENT, Calibration(), 0.5, generator)
    # the label alone where nobody teaches; else half of each
    np.testing.assert_allclose(found[[0, 2, 3]], [[1, 0], [0.7, 0.3], [0.2, 0.8]], rtol=1e-6)
    # of the seven rows without a label as many as have one
    others = np.delete(found, [0, 2, 3], axis=0)
    seen = ~np.isnan(others).any(axis=1)
    assert seen.sum() == 3
    np.testing.assert_allclose(others[seen], np.tile([[0.4, 0.6]], (3, 1)), rtol=1e-6)
    assert whole.targets(SENTIMENT, Calibration(), 0.5, generator).tolist()[:4] == [0, -1, 0, 1]


def test_a_sure_teacher_says_what_the_labels_say() -> None:
    single, several, number = (RULES[kind] for kind in ("single", "multi", "regression"))
    nan = np.nan
    np.testing.assert_array_equal(
        single.certain(np.array([1, -1, 0]), ("a", "b")), [[0, 1], [nan, nan], [1, 0]]
    )
    flags = np.array([[1, 0], [nan, nan]], np.float32)
    np.testing.assert_array_equal(several.certain(flags, ("a", "b")), flags)
    np.testing.assert_array_equal(
        number.certain(np.array([2.5, nan], np.float32), ()), [[2.5], [nan]]
    )
