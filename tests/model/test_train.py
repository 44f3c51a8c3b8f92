"""Learning, where the answer is known: generated texts whose labels follow from their words."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_answers import (
    DATA,
    DECIDING,
    FILLERS,
    MOOD,
    QUICK,
    SETTINGS,
    TASKS,
    TOPIC_WORDS,
    TOPICS,
    generated,
    quick,
    small,
)
from sklearn import metrics as sk

from glossator.model.bundle import Bundle, load, save
from glossator.model.evaluation.card import summary
from glossator.model.evaluation.evaluate import evaluate, predict
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.ngrams import array_types
from glossator.model.training.config import TrainingConfig
from glossator.model.training.train import train

LINES: list[str] = []


@pytest.fixture(scope="module")
def trained() -> Bundle:
    return train(DATA, TASKS, SETTINGS, LINES.append, {"name": "A known answer", "files": ["x"]})


@pytest.fixture(scope="module")
def unseen() -> Dataset:
    """Rows of which training never heard, not even through its metrics; all labelled."""
    return generated({"test": 400}, missing=0, seed=99)


# ---------------------------------------------------------------- the known answer


def test_every_kind_of_task_is_learnt(trained: Bundle, unseen: Dataset) -> None:
    labeller = Labeller(trained, ["mood", "topics", "stars"])
    given = predict(labeller, unseen.texts)
    moods = given["mood"].argmax(axis=1)
    assert sk.f1_score(unseen.labels["mood"], moods, average="macro") >= 0.95
    topics = given["topics"] >= 0.5
    assert sk.f1_score(unseen.labels["topics"], topics, average="macro") >= 0.9
    assert sk.r2_score(unseen.labels["stars"], given["stars"][:, 0]) >= 0.8


def test_accepted_labels_are_right_as_often_as_was_asked(trained: Bundle, unseen: Dataset) -> None:
    (answers,) = Labeller(trained, ["mood"]).label(unseen.texts).tasks
    accepted = answers.probabilities.max(axis=1) >= answers.accept
    right = answers.probabilities.argmax(axis=1) == unseen.labels["mood"]
    assert accepted.mean() > 0.5
    assert right[accepted].mean() >= 0.95


def test_the_words_that_decide_are_those_that_spoke_most(trained: Bundle, unseen: Dataset) -> None:
    labelled = Labeller(trained, ["mood", "topics"]).label(unseen.texts, top=100)
    deciding = {"mood": sum(DECIDING.values(), ()), "topics": sum(TOPIC_WORDS.values(), ())}
    for answers in labelled.tasks:
        on: list[float] = []
        elsewhere: list[float] = []
        for row, text in enumerate(unseen.texts):
            words = answers.words
            for i in range(words.offsets[row], words.offsets[row + 1]):
                word = text[words.start[i] : words.end[i]]
                here = any(word in own or own in word for own in deciding[answers.task.name])
                (on if here else elsewhere).append(float(words.weight[i]))
        assert len(on) > 200
        assert np.mean(on) > 1.5 * np.mean(elsewhere)


# ---------------------------------------------------------------- what a bundle tells of itself


def test_the_history_is_that_of_learning(trained: Bundle) -> None:
    history = trained.provenance["history"]
    assert [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))
    assert len(history) <= SETTINGS.epochs
    assert history[-1]["loss"] < history[0]["loss"] / 2
    for entry in history:
        scores = [entry["scores"][task.name] for task in TASKS]
        assert entry["mean"] == pytest.approx(sum(scores) / 3)
        assert all(0 <= score <= 1 for score in scores)


def test_provenance_says_what_it_was_made_of(trained: Bundle) -> None:
    facts = trained.provenance
    assert (facts["name"], facts["files"]) == ("A known answer", ["x"])
    assert facts["rows"] == {"train": 1200, "validation": 250, "test": 250}
    assert TrainingConfig(**facts["settings"]) == SETTINGS
    assert facts["sources"] == {name: list(DATA.source).count(name) for name in ("forum", "shop")}
    moods = DATA.labels["mood"].tolist()
    assert facts["labels"]["mood"] == {"bad": moods.count(0), "good": moods.count(1)}
    topics = DATA.labels["topics"].tolist()
    assert facts["labels"]["topics"]["food"] == sum(row[1] == 1 for row in topics)
    assert facts["labels"]["stars"] == {"rows": int((~np.isnan(DATA.labels["stars"])).sum())}
    assert facts["versions"]["torch"] == torch.__version__


def test_metrics_are_those_of_the_test_rows(trained: Bundle) -> None:
    test = DATA.select(DATA.split == "test")
    given = predict(Labeller(trained, [task.name for task in TASKS]), test.texts)
    accept = {name: calibration.accept for name, calibration in trained.calibration.items()}
    assert trained.metrics["test"] == evaluate(TASKS, test, given, accept=accept)
    seen = test.labels["mood"] >= 0
    found = trained.metrics["test"]["mood"]["all"]
    assert found["rows"] == seen.sum()
    assert found["accuracy"][0] == pytest.approx(
        sk.accuracy_score(test.labels["mood"][seen], given["mood"][seen].argmax(axis=1))
    )
    beside = trained.metrics["baseline"]
    assert {name: list(parts) for name, parts in beside.items()} == {
        name: list(parts) for name, parts in trained.metrics["test"].items()
    }
    # presence of words is what the baseline is good at
    assert beside["mood"]["all"]["macro_f1"][0] > 0.95
    assert beside["topics"]["all"]["macro_f1"][0] > 0.9
    assert beside["stars"]["all"]["r2"][0] > 0.8


def test_the_model_card_tells_the_numbers(trained: Bundle) -> None:
    card = trained.card
    assert card.startswith("# A known answer\n")
    parameters = sum(array.size for array in trained.weights.values())
    size = trained.tokenizer.size
    assert f"{size:,} tokens, embedding 16, bidirectional GRU 16 + 16" in card
    assert f"{parameters:,} parameters" in card
    assert "1,200 texts to learn from, 250 to validate" in card
    for title in ("Data", "Quality on the test split", "Course of training", "Limits"):
        assert f"\n## {title}\n" in card
    moods = trained.provenance["labels"]["mood"]
    assert f"| mood | bad {moods['bad']:,}, good {moods['good']:,} |" in card
    seen = DATA.labels["mood"] >= 0
    both = int((seen & ~np.isnan(DATA.labels["stars"])).sum())
    counts = [int((seen & (DATA.split == s)).sum()) for s in ("train", "validation", "test")]
    (row,) = (line for line in card.splitlines() if line.startswith(f"| mood | {counts[0]:,} | "))
    assert row.startswith(f"| mood | {counts[0]:,} | {counts[1]} | {counts[2]} |  | ")
    assert row.endswith(f" | {both:,} |")
    for task, name in (("mood", "macro_f1"), ("topics", "accuracy"), ("stars", "r2")):
        for part in ("all", "en", "zh"):
            metrics = trained.metrics["test"][task][part]
            beside = trained.metrics["baseline"][task][part][name]
            value, low, high = metrics[name]
            row = f"| {task} | {part} | {metrics['rows']} | {name} "
            row += f"| {value:.3f} [{low:.3f}, {high:.3f}] | {beside[0]:.3f} "
            assert row in card
            assert row.strip("| ").split(" | ")[:4] in [
                line.split()[:4] for line in summary(trained).splitlines()
            ]
    assert "- **mood**: Made up. It always answers one of bad, good" in card
    assert "- **stars**" in card
    assert card.split("- **stars**")[1].count("Sensitive") == 1
    assert card.count("Sensitive") == 1


def test_progress_is_reported(trained: Bundle) -> None:
    history = trained.provenance["history"]
    assert LINES[0] == "1,200 texts to learn from, 250 to validate"
    assert LINES[1] == "learning the tokenizer from 1,200 texts"
    epochs = [line for line in LINES if line.startswith("epoch ") and "mean" in line]
    assert len(epochs) == len(history)
    assert f"mean {history[-1]['mean']:.4f}" in epochs[-1]


def test_a_trained_bundle_is_saved_and_loaded(
    trained: Bundle, unseen: Dataset, tmp_path: Path
) -> None:
    digest = save(trained, tmp_path)
    loaded = load(tmp_path)
    assert loaded.digest == digest
    assert json.loads((tmp_path / "bundle.json").read_text("utf-8"))["metrics"] == trained.metrics
    names = [task.name for task in TASKS]
    for name, given in predict(Labeller(loaded, names), unseen.texts).items():
        assert np.array_equal(given, predict(Labeller(trained, names), unseen.texts)[name])


# ---------------------------------------------------------------- small trainings


def test_the_same_seed_gives_the_same_bundle() -> None:
    data = small(DATA)
    one, again, other = (
        quick(data, settings=replace(QUICK, seed=seed, dropout=0.3, embedding_dropout=0.1))
        for seed in (1, 1, 2)
    )
    left, right = one.weights, again.weights
    assert all(np.array_equal(left[name], right[name]) for name in left)
    assert one.calibration == again.calibration
    assert one.metrics == again.metrics
    assert one.provenance == again.provenance, "nothing that a clock says: digests are the same"
    assert not all(np.array_equal(left[k], v) for k, v in other.weights.items())


def test_the_expert_has_a_say_where_it_helps(unseen: Dataset) -> None:
    """A network of one epoch knows less than the n-grams; of labels by lot nobody knows."""
    lines: list[str] = []
    data = small(DATA, 900)
    data.labels["stars"][:] = np.random.default_rng(0).normal(size=len(data))
    bundle = train(data, TASKS, replace(QUICK, epochs=1, ngrams=12), lines.append)
    weights = {name: one.expert for name, one in bundle.calibration.items()}
    assert weights["mood"] > 0 and weights["topics"] > 0 and weights["stars"] == 0
    assert set(bundle.ngrams) == set(array_types(12, bundle.tasks[:2]))
    assert f"weight of the n-gram expert: mood {weights['mood']:g}  topics" in " ".join(lines)
    shown = ", ".join(f"{name} {weights[name]:g}" for name in ("mood", "topics"))
    words = "an n-gram expert of 4,096 buckets, whose log-odds are added with these weights: "
    assert f"{words}{shown}." in bundle.card
    given = predict(Labeller(bundle, ["mood"]), unseen.texts)["mood"]
    network = {name: replace(one, expert=0.0) for name, one in bundle.calibration.items()}
    without = Labeller(replace(bundle, calibration=network), ["mood"])
    alone = predict(without, unseen.texts)["mood"]
    right, before = ((p.argmax(axis=1) == unseen.labels["mood"]).mean() for p in (given, alone))
    assert right > 0.95 and right >= before


def test_training_leaves_torch_as_many_threads_as_it_had() -> None:
    """Or a second training in one process would add up in another order than the first."""
    data = small(DATA, 60)
    try:
        torch.set_num_threads(2)
        quick(data, (MOOD,), replace(QUICK, epochs=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"cell": "lstm", "shared_attention": False, "min_pooling": False},
            "bidirectional LSTM 16 + 16, one additive attention of 8 units a task,",
        ),
        (
            {"cell": "qrnn", "shared_attention": True, "min_pooling": True},
            "bidirectional QRNN 16 + 16, an additive attention with one projection of 8 units for "
            "all tasks and a query for each, beside the maximum, mean and minimum of the states",
        ),
    ],
)
def test_other_networks_are_trained(unseen: Dataset, changes: dict[str, Any], words: str) -> None:
    settings = replace(SETTINGS, epochs=5, **changes)
    bundle = quick(DATA, (MOOD,), settings)
    assert changes.items() <= bundle.config.to_json().items()
    given = predict(Labeller(bundle), unseen.texts)["mood"].argmax(axis=1)
    assert sk.f1_score(unseen.labels["mood"], given, average="macro") >= 0.9
    assert words in bundle.card


def test_rows_without_a_label_for_a_task_teach_it_nothing() -> None:
    """Null is not negative: with most labels gone, the answers still follow the rest."""
    data = small(DATA, 900)
    gone = np.random.default_rng(1).random(len(data)) < 0.7
    data.labels["topics"][gone & (data.labels["topics"][:, 0] == 1)] = np.nan
    bundle = quick(data, (TOPICS,), replace(SETTINGS, epochs=8))
    check = generated({"test": 300}, missing=0, seed=7)
    given = predict(Labeller(bundle), check.texts)["topics"] >= 0.5
    assert sk.f1_score(check.labels["topics"][:, 0], given[:, 0]) >= 0.8


def test_a_task_takes_the_share_of_the_loss_that_its_weight_says() -> None:
    data = small(DATA.select(DATA.split != "test"), 100)
    other = replace(data, labels={**data.labels, "mood": data.labels["mood"].copy()})
    learnt = (data.split == "train") & (data.labels["mood"] >= 0)
    other.labels["mood"][learnt] = 1 - data.labels["mood"][learnt]

    def loss(rows: Dataset, weight: float) -> float:
        tasks = (replace(MOOD, weight=weight), TOPICS)
        course = quick(rows, tasks, replace(QUICK, epochs=1)).provenance["history"]
        return float(course[0]["loss"])

    # whatever the labels are, with next to no weight they are next to nothing in the loss
    light, heavy = (abs(loss(data, w) - loss(other, w)) for w in (1e-3, 1e3))
    assert light < 1e-4
    assert heavy > 1e-3


def test_early_stopping_goes_back_to_the_best_epoch() -> None:
    lines: list[str] = []
    # nothing to learn: labels are drawn by lot
    data = small(DATA, 200)
    data.labels["mood"][:] = np.random.default_rng(0).integers(0, 2, len(data))
    settings = replace(SETTINGS, epochs=30, patience=2)
    bundle = train(data, (MOOD,), settings, lines.append)
    means = [entry["mean"] for entry in bundle.provenance["history"]]
    assert len(means) < 30
    best = max(i for i, mean in enumerate(means) if mean == max(means))
    assert len(means) == best + 1 + 2
    assert f"no better for 2 epochs: back to epoch {best + 1}" in lines
    check = data.select((data.split == "validation") & (data.labels["mood"] >= 0))
    given = predict(Labeller(bundle), check.texts)["mood"].argmax(axis=1)
    found = sk.f1_score(check.labels["mood"], given, average="macro")
    assert found == pytest.approx(means[best])
    assert all(mean != pytest.approx(found) for mean in means[best + 1 :])


def test_a_rare_label_is_found_more_often_where_labels_are_balanced() -> None:
    """The same words for both labels, but in one label of twenty one of them more often."""
    chance = random.Random(0)
    moods = [int(chance.random() < 0.9) for _ in range(900)]
    spoons = [chance.random() < (0.3 if mood else 0.9) for mood in moods]
    texts = [f"{chance.choice(FILLERS)} {'spoon' if has else 'fork'}" for has in spoons]
    splits = np.array(["train", "train", "validation"] * 300, object)
    empty = np.full(900, "", object)
    data = Dataset(texts, {"mood": np.array(moods)}, splits, empty, empty)
    found = {}
    for balanced in (False, True):
        task = replace(MOOD, balanced=balanced)
        bundle = quick(data, (task,), replace(QUICK, epochs=3, patience=3))
        given = predict(Labeller(bundle), texts)["mood"].argmax(axis=1)
        found[balanced] = sk.recall_score(moods, given, pos_label=0)
        assert bundle.tasks[0].balanced == balanced
    assert found[False] < 0.2
    assert found[True] > 0.7


def test_rows_of_no_weight_teach_nothing(unseen: Dataset) -> None:
    data = DATA.select(DATA.split != "test")
    wrong = (np.arange(len(data)) % 3 > 0) & (data.split == "train")
    data.labels["mood"][wrong] = 1 - np.abs(data.labels["mood"][wrong])  # two thirds turned round
    data = replace(data, weight=np.where(wrong, 0, 1).astype(np.float32))
    bundle = quick(data, (MOOD,), replace(SETTINGS, epochs=8))
    given = predict(Labeller(bundle), unseen.texts)["mood"].argmax(axis=1)
    assert sk.f1_score(unseen.labels["mood"], given, average="macro") >= 0.8
