"""Learning from odd rows, with odd names and settings: it goes on, or says what is wrong."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from known_answers import DATA, MOOD, QUICK, SETTINGS, STARS, TASKS, TOPICS, quick, small

from glossator.model.bundle import load, save
from glossator.model.errors import UsageError
from glossator.model.evaluation.card import summary
from glossator.model.evaluation.evaluate import predict
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task
from glossator.model.training.train import train


def test_without_test_rows_nothing_is_measured() -> None:
    lines: list[str] = []
    data = small(DATA)
    data.split[data.split == "test"] = "train"
    bundle = train(data, (MOOD,), replace(QUICK, epochs=1), lines.append)
    assert bundle.metrics == {}
    assert any(line.startswith("no rows of split test: nothing is measured") for line in lines)
    assert "Not measured: the data had no rows of split test." in bundle.card
    assert summary(bundle).startswith("not measured")


@pytest.mark.parametrize("epochs", [1, 2, 5, 10, 20])
def test_very_few_rows_train_in_any_number_of_epochs(epochs: int) -> None:
    data = small(DATA, 200)
    settings = replace(QUICK, batch=100, epochs=epochs, patience=epochs)
    few = data.select(np.flatnonzero(data.split == "train")[:90])
    few = replace(
        few,
        split=np.where(np.arange(len(few)) < 60, "train", "validation"),
    )
    assert len(quick(few, settings=settings).provenance["history"]) == epochs


def test_validation_rows_whose_lists_are_all_empty_do_not_stop_it() -> None:
    data = small(DATA)
    data.labels["topics"][data.split == "validation"] = 0
    bundle = quick(data, (TOPICS,), replace(QUICK, epochs=1))
    assert all(np.isfinite(entry["mean"]) for entry in bundle.provenance["history"])


def test_a_regression_of_one_value_answers_it() -> None:
    data = small(DATA)
    data.labels["stars"][:] = 4
    bundle = quick(data, (STARS,), replace(QUICK, epochs=1))
    assert bundle.calibration["stars"].shift == 4
    given = predict(Labeller(bundle, ["stars"]), data.texts)["stars"]
    assert np.isfinite(given).all()


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_without_labels_in_a_split_is_named(split: str, task: Task) -> None:
    data = small(DATA)
    data.labels[task.name][data.split == split] = -1 if task.kind == "single" else np.nan
    with pytest.raises(
        UsageError, match=f"task '{task.name}' has no label on any row of split '{split}'"
    ):
        quick(data)


def test_a_split_without_rows_is_named() -> None:
    data = DATA.select(DATA.split != "validation")
    with pytest.raises(
        UsageError, match="task 'mood' has no label on any row of split 'validation'"
    ):
        quick(data)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epochs": 0}, "epochs 0 is not between 1 and"),
        ({"batch": 0}, "batch 0 is not between 1 and"),
        ({"patience": -1}, "patience -1 is not between 1 and"),
        ({"learning_rate": math.nan}, "learning_rate nan is not between"),
        ({"learning_rate": math.inf}, "learning_rate inf is not between"),
        ({"dropout": 1.0}, "dropout 1.0 is not between 0 and 0.95"),
        ({"embedding_dropout": -0.1}, "embedding_dropout -0.1 is not between"),
        ({"smoothing": 2.0}, "smoothing 2.0 is not between"),
        ({"seed": -1}, "seed -1 is not between"),
        ({"vocabulary": 256}, "vocabulary 256 has no room beside the 256 bytes"),
        ({"ngrams": 7}, "ngrams 7 is neither 0 nor between 8 and 22"),
        ({"ngrams": 23}, "ngrams 23 is neither 0 nor between 8 and 22"),
        ({"cell": "rnn"}, "cell 'rnn' is not one of gru, lstm, qrnn"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(SETTINGS, **wrong)  # type: ignore[arg-type]


def test_tasks_may_be_called_as_what_python_and_torch_have(tmp_path: Path) -> None:
    """Attributes of modules and dictionaries are names like others."""
    tasks = (
        Task("type", "single", MOOD.labels),
        Task("values", "multi", TOPICS.labels),
        Task("task_x", "regression"),
    )
    data = small(DATA)
    labels = {new.name: data.labels[old.name] for new, old in zip(tasks, TASKS, strict=True)}
    save(quick(replace(data, labels=labels), tasks, replace(QUICK, epochs=1)), tmp_path)
    given = Labeller(load(tmp_path), [task.name for task in tasks]).label(data.texts[:3])
    assert [answers.task for answers in given.tasks] == list(tasks)


def test_the_card_holds_any_label_and_source() -> None:
    data = small(DATA)
    data.source[:] = "a|b"
    odd = replace(MOOD, labels=("bad | worse", "good"))
    card = quick(data, (odd,), replace(QUICK, epochs=1)).card
    tables = [block.splitlines() for block in card.split("\n\n") if block.startswith("|")]
    assert any(r"bad \| worse" in line for table in tables for line in table)
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_a_bundle_names_the_most_frequent_sources() -> None:
    data = small(DATA, 200)
    data = replace(data, source=np.array(["often"] * 80 + [f"{i}{300 * 'x'}" for i in range(120)]))
    sources = quick(data, (MOOD,), replace(QUICK, epochs=1)).provenance["sources"]
    assert len(sources) <= 51
    assert max(map(len, sources)) <= 80
    assert (sources["often"], sum(sources.values())) == (80, 200)
