"""What a network learns from, and which of it in an epoch."""

from __future__ import annotations

import numpy as np
from sample_comments import TASKS

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
