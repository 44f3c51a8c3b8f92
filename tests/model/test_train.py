"""Learning, where the answer is known: generated texts whose labels follow from their words."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from glossator.model.bundle import Bundle, load, save
from glossator.model.errors import UsageError
from glossator.model.evaluation.card import summary
from glossator.model.evaluation.evaluate import evaluate, predict
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.ngrams import array_types
from glossator.model.tasks import Task
from glossator.model.training.config import TrainingConfig
from glossator.model.training.train import train

MOOD = Task("mood", "single", ("bad", "good"), target_precision=0.95, limits="Made up.")
TOPICS = Task("topics", "multi", ("stock", "food", "car"))
STARS = Task("stars", "regression", sensitive=True)
TASKS = (MOOD, TOPICS, STARS)

DECIDING = {"bad": ("awful", "broken", "糟糕"), "good": ("lovely", "excellent", "很好")}
TOPIC_WORDS = {"stock": ("shares", "股票"), "food": ("soup", "noodles"), "car": ("engine", "wheel")}
FILLERS = ("the", "a", "was", "and", "then", "we", "saw", "it", "there", "again", "today", "very")

SETTINGS = TrainingConfig(
    vocabulary=330,
    max_tokens=64,
    embedding=16,
    hidden=16,
    attention=8,
    epochs=12,
    patience=4,
    batch=32,
    learning_rate=1.5e-2,
    dropout=0.1,
    embedding_dropout=0.0,
    ngrams=12,
    seed=5,
)


def generated(splits: dict[str, int], missing: float = 0.2, seed: int = 0) -> Dataset:
    """Texts of fillers, one deciding word, topic words, and as many stars as it has "star"."""
    chance = random.Random(seed)
    split = [name for name, count in splits.items() for _ in range(count)]
    texts, moods, topics, stars = [], [], [], []
    for _ in split:
        mood = chance.randrange(2)
        has = [chance.random() < 0.35 for _ in TOPICS.labels]
        count = chance.randrange(5)
        words = chance.choices(FILLERS, k=chance.randint(3, 8)) + ["star"] * count
        words.append(chance.choice(DECIDING[MOOD.labels[mood]]))
        for name, present in zip(TOPICS.labels, has, strict=True):
            words += [chance.choice(TOPIC_WORDS[name])] * present
        chance.shuffle(words)
        texts.append(" ".join(words))
        moods.append(mood if chance.random() >= missing else -1)
        topics.append(has if chance.random() >= missing else [np.nan] * 3)
        stars.append(10 + 2 * count if chance.random() >= missing else np.nan)
    return Dataset(
        texts=texts,
        labels={
            "mood": np.array(moods, np.int64),
            "topics": np.array(topics, np.float32),
            "stars": np.array(stars, np.float32),
        },
        split=np.array(split),
        lang=np.array([chance.choice(["en", "zh", ""]) for _ in split]),
        source=np.array([chance.choice(["shop", "forum"]) for _ in split]),
    )


DATA = generated({"train": 1200, "validation": 250, "test": 250})
LINES: list[str] = []


@pytest.fixture(scope="module")
def trained() -> Bundle:
    return train(DATA, TASKS, SETTINGS, LINES.append, {"name": "A known answer", "files": ["x"]})


@pytest.fixture(scope="module")
def unseen() -> Dataset:
    """Rows of which training never heard, not even through its metrics; all labelled."""
    return generated({"test": 400}, missing=0, seed=99)


def small(data: Dataset, rows: int = 260) -> Dataset:
    return data.select(np.random.default_rng(0).permutation(len(data))[:rows])


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

QUICK = replace(SETTINGS, epochs=2, ngrams=0)


def quick(
    data: Dataset, tasks: tuple[Task, ...] = TASKS, settings: TrainingConfig = QUICK
) -> Bundle:
    return train(data, tasks, settings, lambda line: None)


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
