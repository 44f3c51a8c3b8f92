"""Duels: paired differences against other computations, and a model that nothing can lose."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sample_comments import labelled_rows
from sklearn import metrics as sk
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

from glossator.model import cli
from glossator.model.bundle import Bundle, load
from glossator.model.evaluation import assess as assessing
from glossator.model.evaluation.baseline import Baseline
from glossator.model.evaluation.card import render, summary
from glossator.model.evaluation.duel import Answers, compare
from glossator.model.evaluation.evaluate import evaluate
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task
from glossator.model.training.config import TrainingConfig
from glossator.model.training.train import train

SENTIMENT = Task("sentiment", "single", ("neg", "pos"), target_precision=0.6)
THEMES = Task("themes", "multi", ("price", "service", "taste"))
STARS = Task("stars", "regression")
SINGLE = Task("mood", "single", ("a", "b", "c"))
MULTI = Task("topics", "multi", ("s", "p"))
NOTHING_SHARED = "no word or character stands in two of the rows to learn from"
QUICK = TrainingConfig(
    vocabulary=300,
    max_tokens=32,
    embedding=8,
    hidden=8,
    attention=4,
    epochs=1,
    learning_rate=2e-2,
    vectors=False,
    ngrams=0,
)


def dataset(
    task: Task, labels: NDArray[Any], lang: list[str] | None = None, source: list[str] | None = None
) -> Dataset:
    rows = len(labels)
    return Dataset(
        texts=["x"] * rows,
        labels={task.name: labels},
        split=np.array(["test"] * rows),
        lang=np.array(lang or [""] * rows),
        source=np.array(source or [""] * rows),
    )


def comments(count: int, seed: int = 1) -> Dataset:
    """Made-up comments whose sentiment, themes and stars follow from their words."""
    rows = labelled_rows(count, seed)
    names = THEMES.labels
    themes = [[name in row["themes"] for name in names] for row in rows]
    splits = ["train"] * (count // 2) + ["validation"] * (count // 4)
    return Dataset(
        texts=[row["text"] for row in rows],
        labels={
            "sentiment": np.array([int(row["sentiment"] == "pos") for row in rows]),
            "themes": np.array(themes, np.float32),
            "stars": np.array([row["stars"] for row in rows], np.float32),
        },
        split=np.array(splits + ["test"] * (count - len(splits))),
        lang=np.array([""] * count),
        source=np.array([""] * count),
    )


def parts(data: Dataset) -> list[Dataset]:
    return [data.select(data.split == split) for split in ("train", "validation", "test")]


# ---------------------------------------------------------------- the comparison


def two_models(rows: int, seed: int = 0) -> tuple[NDArray[Any], Answers, Answers]:
    """Labels, a model that is right in 80% and one that is right in 70%, mostly on the same."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, rows)
    hard = generator.random(rows)
    given = []
    for share in (0.8, 0.7):
        right = hard + 0.1 * generator.normal(size=rows) < share
        chosen = np.where(right, labels, (labels + 1 + generator.integers(0, 2, rows)) % 3)
        given.append(Answers(np.eye(3)[chosen], None))
    return labels, given[0], given[1]


def test_the_difference_in_accuracy_has_the_interval_of_its_mean() -> None:
    labels, one, other = two_models(1500)
    found = compare(SINGLE, dataset(SINGLE, labels), one, other)
    right = [(given.predicted.argmax(axis=1) == labels).astype(float) for given in (one, other)]
    each = right[0] - right[1]
    margin = 1.96 * each.std() / math.sqrt(len(each))
    value, low, high = found["slices"]["all"]["difference"]["accuracy"]
    assert value == pytest.approx(each.mean())
    assert (low, high) == pytest.approx((value - margin, value + margin), abs=0.15 * margin)
    # were the rows not paired, it would be wider
    apart = 1.96 * math.sqrt(sum(r.var() for r in right) / len(each))
    assert high - low < 1.6 * apart
    assert (found["verdict"], found["metric"]) == ("better", "accuracy")
    assert compare(SINGLE, dataset(SINGLE, labels), other, one)["verdict"] == "worse"


@pytest.mark.parametrize("task", [SINGLE, MULTI, STARS], ids=lambda task: task.kind)
def test_the_difference_is_that_of_scikit_learn_on_resampled_rows(task: Task) -> None:
    generator = np.random.default_rng(5)
    rows = 400
    if task.kind == "single":
        labels, one, other = two_models(rows)
    elif task.kind == "multi":
        labels = (generator.random((rows, 2)) < [0.5, 0.2]).astype(np.float32)
        noise = [generator.normal(0.5, 0.25 * k, labels.shape) for k in (1, 1.3)]
        one, other = (Answers(0.5 * labels + 0.5 * n, (0.4, 0.6)) for n in noise)
    else:
        labels = generator.normal(3, 1, rows).astype(np.float32)
        one, other = (
            Answers((labels + generator.normal(0, s, rows))[:, None], None) for s in (0.5, 0.6)
        )

    def values(given: Answers, chosen: NDArray[Any]) -> dict[str, float]:
        truth, predicted = labels[chosen], given.predicted[chosen]
        if task.kind == "regression":
            return {
                "mae": sk.mean_absolute_error(truth, predicted[:, 0]),
                "r2": sk.r2_score(truth, predicted[:, 0]),
            }
        answer = predicted.argmax(axis=1) if task.kind == "single" else predicted >= [0.4, 0.6]
        right = np.mean(truth == answer)
        return {"accuracy": float(right), "macro_f1": sk.f1_score(truth, answer, average="macro")}

    found = compare(task, dataset(task, labels), one, other)["slices"]["all"]["difference"]
    drawn = []
    for _ in range(200):
        chosen = generator.integers(0, rows, rows)
        a, b = values(one, chosen), values(other, chosen)
        drawn.append([a[name] - b[name] for name in found])
    for i, (name, (value, low, high)) in enumerate(found.items()):
        everything = np.arange(rows)
        expected = values(one, everything)[name] - values(other, everything)[name]
        assert value == pytest.approx(expected, abs=1e-6)
        ends = np.percentile([row[i] for row in drawn], [2.5, 97.5])
        assert (low, high) == pytest.approx(tuple(ends), abs=0.2 * (high - low))


def test_a_model_beside_itself_is_a_tie() -> None:
    labels, one, _ = two_models(300)
    found = compare(SINGLE, dataset(SINGLE, labels), one, one)
    assert found["verdict"] == "tie"
    assert found["slices"]["all"]["difference"]["macro_f1"] == [0, 0, 0]


def test_a_smaller_error_is_better() -> None:
    labels = np.random.default_rng(0).normal(size=300).astype(np.float32)
    near, far = (Answers((labels + off)[:, None], None) for off in (0.1, 0.4))
    found = compare(STARS, dataset(STARS, labels), near, far)
    assert (found["metric"], found["verdict"]) == ("mae", "better")
    assert compare(STARS, dataset(STARS, labels), far, near)["verdict"] == "worse"


def test_large_languages_and_sources_have_verdicts_of_their_own() -> None:
    labels, one, other = two_models(700)
    labels[:50] = -1
    lang = ["en"] * 300 + ["zh"] * 390 + ["es"] * 10
    source = ["shop", "forum"] * 350
    found = compare(SINGLE, dataset(SINGLE, labels, lang, source), one, other)["slices"]
    counts = {name: part["rows"] for name, part in found.items()}
    assert counts == {"all": 650, "en": 250, "zh": 390, "source=forum": 325, "source=shop": 325}
    chosen = np.array(lang) == "zh"
    alone = compare(
        SINGLE,
        dataset(SINGLE, labels[chosen]),
        *(Answers(given.predicted[chosen], None) for given in (one, other)),
    )
    assert found["zh"] == alone["slices"]["all"]


# ---------------------------------------------------------------- the baseline


def by_scikit_learn(data: Dataset, labels: NDArray[Any], strength: float) -> list[NDArray[Any]]:
    """Probabilities for validation and test rows, of features of the labelled rows alone."""
    train_rows, validation, test = parts(data)
    rows = np.flatnonzero(labels >= 0)
    shared: dict[str, Any] = {"sublinear_tf": True, "min_df": 2}
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **shared),
        TfidfVectorizer(analyzer="char", ngram_range=(1, 4), **shared),
    )
    fitted = features.fit_transform([train_rows.texts[i] for i in rows])
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-6).fit(fitted, labels[rows])
    return [model.predict_proba(features.transform(p.texts))[:, 1] for p in (validation, test)]


def test_the_baseline_is_scikit_learns_with_the_strength_that_validation_likes() -> None:
    """Counted once for all tasks, n-grams weigh what they weigh in the task's own rows."""
    data = comments(240)
    chance = np.random.default_rng(0)
    wrong = chance.random(240) < 0.25
    data.labels["sentiment"][wrong] = 1 - data.labels["sentiment"][wrong]
    train_rows, validation, test = parts(data)
    labels = train_rows.labels["sentiment"]
    labels[chance.random(len(labels)) < 0.4] = -1
    answers, strength = Baseline(train_rows, validation, test).answers(SENTIMENT)
    _, expected = by_scikit_learn(data, labels, strength)
    # liblinear also regularises the intercept
    np.testing.assert_allclose(answers.predicted[:, 1], expected, atol=0.05)
    np.testing.assert_allclose(answers.predicted.sum(axis=1), 1)

    def right(strength: float) -> float:
        given, _ = by_scikit_learn(data, labels, strength)
        return float(np.mean((given >= 0.5) == validation.labels["sentiment"]))

    assert right(strength) >= max(right(strength * 4), right(strength / 4)) - 1 / len(validation)


def test_the_thresholds_of_the_baseline_are_fitted_too() -> None:
    data = comments(1200)
    generator = np.random.default_rng(2)
    data.labels["themes"] *= generator.random(data.labels["themes"].shape) < 0.35
    train_rows, validation, test = parts(data)
    answers, _ = Baseline(train_rows, validation, test).answers(THEMES)
    assert isinstance(answers.accept, tuple)
    assert min(answers.accept) < 0.4
    truth = test.labels["themes"]
    fitted = sk.f1_score(truth, answers.predicted >= np.array(answers.accept), average="macro")
    assert fitted > sk.f1_score(truth, answers.predicted >= 0.5, average="macro")


def test_the_baseline_learns_too_how_frequent_labels_are_on_validation_rows() -> None:
    data = comments(1200)
    chance = np.random.default_rng(2)
    labels = data.labels["sentiment"]
    labels[:] = np.where(chance.random(1200) < 0.4, 1 - labels, labels)  # a weak signal
    train_rows, validation, test = parts(data)
    for part in (validation, test):  # where hardly any row is neg
        part.labels["sentiment"][chance.random(len(part)) < 0.9] = 1
    answers, _ = Baseline(train_rows, validation, test).answers(SENTIMENT)
    given, truth = answers.predicted, test.labels["sentiment"]
    assert np.mean(given.argmax(axis=1) == truth) == pytest.approx(truth.mean(), abs=0.02)
    assert given[:, 1].mean() == pytest.approx(truth.mean(), abs=0.05)


def test_more_than_two_labels_and_one_that_was_never_seen() -> None:
    data = comments(240)
    task = Task("stars", "single", ("none", "low", "high", "odd"))
    high = data.labels["sentiment"]
    odd = np.array(["taste" in text or "味道" in text for text in data.texts])
    data.labels["stars"] = np.where(odd, 3, 1 + high)
    answers, _ = Baseline(*parts(data)).answers(task)
    np.testing.assert_allclose(answers.predicted.sum(axis=1), 1)
    assert answers.predicted[:, 0].max() < 1e-9
    truth = parts(data)[2].labels["stars"]
    assert np.mean(answers.predicted.argmax(axis=1) == truth) > 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda train: train.labels["sentiment"].fill(1), "all rows to learn from are 'pos'"),
        (lambda train: train.labels["sentiment"].fill(-1), "no row to learn from has a label"),
        (
            lambda train: train.texts.__setitem__(
                slice(None), [chr(0x4E00 + i) for i in range(len(train))]
            ),
            "no word or character stands in two",
        ),
    ],
)
def test_a_baseline_that_cannot_be_fitted_says_why(change: Any, words: str) -> None:
    train_rows, validation, test = parts(comments(60))
    change(train_rows)
    with pytest.raises(ValueError, match=words):
        Baseline(train_rows, validation, test).answers(SENTIMENT)


# ---------------------------------------------------------------- in a training run


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def kept() -> list[Bundle]:
    return []


@pytest.fixture(scope="module")
def trained(lines: list[str], kept: list[Bundle]) -> Bundle:
    """Of sentiment, two texts alone are there to learn from, and they share no character."""
    data = comments(400)
    data.labels["sentiment"][data.split == "train"] = -1
    data.texts[:2], data.labels["sentiment"][:2] = ["bad", "很好"], [0, 1]
    tasks = (THEMES, SENTIMENT, STARS)
    return train(data, tasks, QUICK, lines.append, save=kept.append, twins=True)


def test_every_task_has_its_verdict(trained: Bundle, lines: list[str]) -> None:
    duels = trained.metrics["duel"]
    assert list(duels) == ["themes", "sentiment", "stars"]
    assert duels["sentiment"]["verdict"] == "skipped"
    assert (
        "no baseline for sentiment: no word or character stands in two of the rows to learn from"
        in lines
    )
    assert "sentiment" not in trained.metrics["baseline"]
    for name, metric in (("themes", "macro_f1"), ("stars", "mae")):
        assert duels[name]["metric"] == metric
        value, low, high = duels[name]["slices"]["all"]["difference"][metric]
        model, beside = (
            trained.metrics[key][name]["all"][metric][0] for key in ("test", "baseline")
        )
        assert value == pytest.approx(model - beside)
        assert low < value < high


def test_the_card_and_the_summary_tell_the_verdicts(trained: Bundle) -> None:
    skipped = f"skipped: {NOTHING_SHARED}"
    assert f"| sentiment |  |  |  |  | {skipped} |" in trained.card
    for name, duel in trained.metrics["duel"].items():
        (line,) = [
            line
            for line in summary(trained).splitlines()
            if line.split()[:2] == [name, "all"]
            and line.split()[3] == duel.get("metric", "accuracy")
            and "beside" not in line
            and ("→" in line or name == "stars")
        ][:1]
        assert duel["verdict"] in line
    value, low, high = trained.metrics["duel"]["themes"]["slices"]["all"]["difference"]["macro_f1"]
    verdict = trained.metrics["duel"]["themes"]["verdict"]
    row = f"| themes | all | 100 | macro_f1 | {value:+.3f} [{low:+.3f}, {high:+.3f}] | {verdict} |"
    assert row in trained.card


def test_the_card_tells_calibration_acceptance_and_labels(trained: Bundle) -> None:
    for name in ("sentiment", "themes"):
        before, metrics = trained.metrics["uncalibrated_ece"][name], trained.metrics["test"][name]
        assert f" {before:.3f} → {metrics['all']['ece']:.3f} |" in trained.card
        shares = trained.metrics["prevalence"][name]
        by_label = metrics["all"]["by_label"]
        assert shares["true"] == pytest.approx(np.array(by_label["rows"]) / 100)
        assert shares["given"] == pytest.approx(np.array(by_label["given"]) / 100)
    found = trained.metrics["test"]["themes"]["all"]["by_label"]
    cells = f"{found['rows'][1]} | {found['given'][1]} | {found['precision'][1]:.3f}"
    assert f"| themes | service | {cells} | {found['recall'][1]:.3f} |" in trained.card
    assert "stars" not in trained.metrics["uncalibrated_ece"]
    covered = trained.metrics["test"]["sentiment"]["all"]["accepted"]["coverage"]
    assert f"| sentiment | all | 0.60 | {covered:.1%} | " in trained.card


def test_errors_before_calibration_are_those_of_the_bare_network(trained: Bundle) -> None:
    test = comments(400).select(comments(400).split == "test")
    bare = {**trained.calibration, "themes": replace(trained.calibration["themes"], scale=1.0)}
    given = Labeller(replace(trained, calibration=bare), ["themes"]).label(test.texts)
    found = evaluate((THEMES,), test, {"themes": given.tasks[0].probabilities})
    assert trained.metrics["uncalibrated_ece"]["themes"] == found["themes"]["all"]["ece"]


def test_twins_are_the_tasks_learnt_alone(trained: Bundle) -> None:
    assert list(trained.metrics["twins"]) == ["themes", "sentiment", "stars"]
    assert "## Beside each task learnt alone" in trained.card
    assert "beside it alone" in summary(trained)
    data = comments(600)
    tasks = (STARS, THEMES)
    # both begin with the same weights: the twin is what is learnt without the others
    settings = replace(QUICK, batch=32)  # so many steps that they part
    together = train(data, tasks, settings, lambda line: None, init=trained, twins=True)
    alone = train(data, (THEMES,), settings, lambda line: None, init=trained)
    found = together.metrics["twins"]["themes"]["slices"]["all"]["difference"]
    for name in ("macro_f1", "accuracy"):
        one, other = (b.metrics["test"]["themes"]["all"][name][0] for b in (together, alone))
        assert found[name][0] == pytest.approx(one - other, abs=1e-9)
    assert found["accuracy"][0] != 0


def test_a_single_task_has_no_twin() -> None:
    bundle = train(comments(120), (STARS,), QUICK, lambda line: None, twins=True)
    assert bundle.metrics["twins"]["stars"] == {"verdict": "skipped", "why": "it is the only task"}


def test_the_model_is_kept_before_it_is_measured(trained: Bundle, kept: list[Bundle]) -> None:
    first, last = kept
    assert last is trained
    assert first.metrics == {}
    assert first.calibration == trained.calibration
    assert {**first.provenance, "parity": trained.provenance["parity"]} == trained.provenance
    assert all(np.array_equal(first.weights[name], own) for name, own in trained.weights.items())
    assert "Not measured: training was cut off after the model had been written." in first.card


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RuntimeError])
def test_what_comes_after_training_cannot_lose_the_model(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = labelled_rows(160, seed=3)
    for i, row in enumerate(rows):
        row["split"] = ("train", "train", "validation", "test")[i % 4]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    tasks = '[tasks.sentiment]\nkind = "single"\nlabels = ["neg", "pos"]\n'
    (tmp_path / "tasks.toml").write_text(tasks, encoding="utf-8")

    def fails(*arguments: object) -> None:
        raise error("in the duel")

    monkeypatch.setattr(assessing, "Baseline", fails)
    settings = ("vocabulary=300", "hidden=8", "embedding=8", "attention=4", "epochs=1")
    arguments = [f"--data={tmp_path}/rows.parquet", f"--tasks={tmp_path}/tasks.toml"]
    arguments += [f"--output={tmp_path}/bundle", *(f"--set={setting}" for setting in settings)]
    result = CliRunner().invoke(cli.train, arguments)
    assert result.exit_code != 0
    found = load(tmp_path / "bundle")
    assert found.metrics == {}
    assert Labeller(found).label(["很好"]).tasks[0].task.name == "sentiment"


def test_labels_cannot_break_the_card(trained: Bundle) -> None:
    odd = Task("themes", "multi", ("a|b", "c", "<b>[x](y)"))
    tasks = (odd, *trained.tasks[1:])
    facts = {
        **trained.provenance,
        "labels": {"themes": {"a|b": 1, "c\nd": 2}},
        "name": "One\n# Two",
    }
    card = render(replace(trained, tasks=tasks, provenance=facts))
    assert card.startswith("# One # Two\n")
    assert "| themes | a\\|b 1, c d 2 |" in card
    assert "<b>" not in card and "](y)" not in card.replace("]\\(y)", "")
    (table,) = [part for part in card.split("\n\n") if part.startswith("| task | label |")]
    assert {line.replace("\\|", "").count("|") for line in table.splitlines()} == {10}
    assert len(table.splitlines()) == 2 + 2 + 3
