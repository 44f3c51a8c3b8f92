"""Networks that teach the one that is kept, of rows that they did not learn from."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_comments import TASKS
from small_trainings import SENTIMENT, right, sentiments, silent
from small_trainings import SETTINGS as SMALL

from glossator.model.errors import UsageError
from glossator.model.labelled.splits import part_of
from glossator.model.training import cross_fit
from glossator.model.training.checkpoint import Checkpoint, remove
from glossator.model.training.config import TrainingConfig
from glossator.model.training.train import train

SETTINGS = replace(SMALL, epochs=5, patience=5, ngrams=10)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whose networks learn one after the other, in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_same_text_is_in_one_part() -> None:
    texts = [f"text {i}" for i in range(3000)]
    part = part_of(texts, 3)
    assert part_of([text.upper() + " " for text in texts], 3).tolist() == part.tolist()
    assert np.bincount(part).min() > 900


def test_labels_that_are_wrong_are_unlearnt() -> None:
    """A third of the labels is turned round: the networks that never saw a row know better."""
    data = sentiments(300)
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
    seen: list[list[str]] = []
    learner = cross_fit.Learner.network

    def spy(self: object, material: object, *rest: object) -> object:
        seen.append(material.rows.texts)  # type: ignore[attr-defined]
        return learner(self, material, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cross_fit.Learner, "network", spy)
    data = sentiments(120)
    train(data, (SENTIMENT,), replace(SETTINGS, epochs=1, parts=4), silent)
    texts = [text for text, split in zip(data.texts, data.split, strict=True) if split == "train"]
    part = part_of(texts, 4)
    for number in range(4):
        assert seen[number] == [texts[i] for i in np.flatnonzero(part != number)]
    assert seen[4] == texts


def test_side_by_side_they_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data, settings = sentiments(120), replace(SETTINGS, epochs=1, parts=3)
    lines: list[str] = []
    alone = train(data, (SENTIMENT,), settings, silent)
    beside = cross_fit._side_by_side
    monkeypatch.setattr(cross_fit, "_side_by_side", lambda workers, report: beside(2, report))
    together = train(data, (SENTIMENT,), settings, lines.append)
    for name, weights in alone.weights.items():
        np.testing.assert_array_equal(together.weights[name], weights, err_msg=name)
    for number in (1, 2, 3):
        assert any(line.startswith(f"teacher {number}: epoch 1") for line in lines)


class Ending(Checkpoint):
    """With it a process ends as soon as a network is to learn."""

    def beside(self, name: str) -> Checkpoint:
        return self

    def load(self, report: object) -> None:
        os._exit(9)


def test_a_process_that_is_ended_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module(train.__module__), "Checkpoint", Ending)
    beside = cross_fit._side_by_side
    monkeypatch.setattr(cross_fit, "_side_by_side", lambda workers, report: beside(2, report))
    with pytest.raises(UsageError, match=r"parts 3: a process .* was ended, .*OMP_NUM_THREADS"):
        train(sentiments(60), (SENTIMENT,), replace(SETTINGS, parts=3), silent)


def test_a_task_without_labels_outside_a_part_is_not_taught_there() -> None:
    data = sentiments(60)
    rows = np.flatnonzero(data.split == "train")
    only = rows[part_of([data.texts[i] for i in rows], 2) == 0]
    stars = np.full(len(data.texts), np.nan, np.float32)
    stars[only] = 3.0
    stars[data.split == "validation"] = 2.0
    both = replace(data, labels={**data.labels, "stars": stars})
    bundle = train(both, (SENTIMENT, TASKS[3]), replace(SETTINGS, epochs=1, parts=2), silent)
    assert {task.name for task in bundle.tasks} == {"sentiment", "stars"}


def test_an_interrupted_training_does_not_train_its_teachers_again(tmp_path: Path) -> None:
    data, file = sentiments(120), tmp_path / "kept.pt"
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
