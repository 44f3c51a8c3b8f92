"""Networks that teach the one that is kept, of rows that they did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_comments import TASKS, labelled_rows

from glossator.model.bundle import Bundle
from glossator.model.errors import UsageError
from glossator.model.evaluation.evaluate import predict
from glossator.model.labelled.dataset import Dataset
from glossator.model.labelled.splits import part_of
from glossator.model.labeller import Labeller
from glossator.model.training.checkpoint import remove
from glossator.model.training.config import TrainingConfig
from glossator.model.training.train import train

SENTIMENT = TASKS[0]
SETTINGS = TrainingConfig(
    vocabulary=400,
    max_tokens=64,
    embedding=16,
    hidden=16,
    attention=8,
    epochs=5,
    batch=32,
    learning_rate=2e-2,
    patience=5,
    ngrams=10,
    seed=3,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whose networks learn one after the other, in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def silent(line: str) -> None:
    pass


def test_the_same_text_is_in_one_part() -> None:
    texts = [f"text {i}" for i in range(3000)]
    part = part_of(texts, 3)
    assert part_of([text.upper() + " " for text in texts], 3).tolist() == part.tolist()
    assert np.bincount(part).min() > 900


def test_labels_that_are_wrong_are_unlearnt() -> None:
    """A third of the labels is turned round: the networks that never saw a row know better."""
    data = dataset(300)
    wrong = np.flatnonzero(data.split == "train")[::3]
    data.labels["sentiment"][wrong] = 1 - data.labels["sentiment"][wrong]
    # the last of many epochs, which knows the rows by heart
    settings = replace(SETTINGS, epochs=15, patience=15, dropout=0.0, ngrams=0, teaching=1.0)
    alone, taught = (
        train(data, (SENTIMENT,), replace(settings, parts=parts), silent) for parts in (0, 4)
    )
    assert right(taught) > right(alone) + 0.03


def test_each_teacher_learns_without_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that only its own row has says nothing of that row to its teacher."""
    from glossator.model.training import cross_fit as module

    seen: list[list[str]] = []
    learner = module.Learner.network

    def spy(self: object, material: object, *rest: object) -> object:
        seen.append(material.rows.texts)  # type: ignore[attr-defined]
        return learner(self, material, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Learner, "network", spy)
    data = dataset(120)
    train(data, (SENTIMENT,), replace(SETTINGS, epochs=1, parts=4), silent)
    texts = [text for text, split in zip(data.texts, data.split, strict=True) if split == "train"]
    part = part_of(texts, 4)
    for number in range(4):
        assert seen[number] == [texts[i] for i in np.flatnonzero(part != number)]
    assert seen[4] == texts


def test_side_by_side_they_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from glossator.model.training import cross_fit as module

    data, settings = dataset(120), replace(SETTINGS, epochs=1, parts=3)
    lines: list[str] = []
    alone = train(data, (SENTIMENT,), settings, silent)
    beside = module._side_by_side
    monkeypatch.setattr(module, "_side_by_side", lambda workers, report: beside(2, report))
    together = train(data, (SENTIMENT,), settings, lines.append)
    for name, weights in alone.weights.items():
        np.testing.assert_array_equal(together.weights[name], weights, err_msg=name)
    for number in (1, 2, 3):
        assert any(line.startswith(f"teacher {number}: epoch 1") for line in lines)


def test_a_task_without_labels_outside_a_part_is_not_taught_there() -> None:
    data = dataset(60)
    rows = np.flatnonzero(data.split == "train")
    only = rows[part_of([data.texts[i] for i in rows], 2) == 0]
    stars = np.full(len(data.texts), np.nan, np.float32)
    stars[only] = 3.0
    stars[data.split == "validation"] = 2.0
    both = replace(data, labels={**data.labels, "stars": stars})
    bundle = train(both, (SENTIMENT, TASKS[3]), replace(SETTINGS, epochs=1, parts=2), silent)
    assert {task.name for task in bundle.tasks} == {"sentiment", "stars"}


def test_an_interrupted_training_does_not_train_its_teachers_again(tmp_path: Path) -> None:
    data, file = dataset(120), tmp_path / "kept.pt"
    settings = replace(SETTINGS, epochs=2, parts=2)
    lines: list[str] = []
    once = train(data, (SENTIMENT,), settings, silent)

    def until(word: str) -> Callable[[str], None]:
        def report(line: str) -> None:
            lines.append(line)
            if word in line and sum(word in one for one in lines) == 3:
                raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt):
        train(data, (SENTIMENT,), settings, until("loss"), checkpoint=file)
    again: list[str] = []
    bundle = train(data, (SENTIMENT,), settings, again.append, checkpoint=file)
    # two epochs of each of three networks, of which the first was through
    assert sum("epoch " in line and "loss" in line for line in again) == 4
    for name, weights in once.weights.items():
        np.testing.assert_array_equal(bundle.weights[name], weights, err_msg=name)
    kept = {"kept.pt", "kept-teacher-0.pt", "kept-teacher-1.pt"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    (tmp_path / "other.pt").touch()
    remove(file)
    assert [path.name for path in tmp_path.iterdir()] == ["other.pt"]


def test_parts_out_of_range_are_refused() -> None:
    for parts in (1, -1, 21):
        with pytest.raises(UsageError, match=f"parts {parts} is neither 0 nor between 2 and 20"):
            TrainingConfig(parts=parts)


def right(bundle: Bundle) -> float:
    fresh = labelled_rows(300, seed=55)
    truth = np.array([SENTIMENT.labels.index(row["sentiment"] or "neg") for row in fresh])
    given = predict(Labeller(bundle), [row["text"] for row in fresh])["sentiment"]
    known = np.array([row["sentiment"] is not None for row in fresh])
    return float((given.argmax(axis=1) == truth)[known].mean())


def dataset(count: int) -> Dataset:
    rows = [row for row in labelled_rows(2 * count, 1) if row["sentiment"] is not None][:count]
    nothing = np.full(len(rows), "", dtype=object)
    split = np.array(["validation" if i % 5 == 0 else "train" for i in range(len(rows))], object)
    labels = np.array([SENTIMENT.labels.index(row["sentiment"]) for row in rows])
    return Dataset([row["text"] for row in rows], {"sentiment": labels}, split, nothing, nothing)
