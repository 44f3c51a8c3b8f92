"""Fitting the n-gram expert: on texts whose answer is known, and against scikit-learn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from glossator.model.calibrate import Calibration
from glossator.model.ngrams import Ngrams, Reader, array_types, buckets, tags
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer
from glossator.model.training import ngrams_fit
from glossator.model.training.ngrams_fit import fit_ngrams

MOOD = Task("mood", "single", ("bad", "good"))
COLOUR = Task("colour", "single", ("red", "green", "blue"))
TOPICS = Task("topics", "multi", ("food", "price"))
STARS = Task("stars", "regression")
TASKS = (MOOD, COLOUR, TOPICS, STARS)
WORDS = {"bad": "awful", "good": "lovely", "food": "soup", "price": "cheap"}
INITIAL = {**{task.name: Calibration() for task in TASKS}, "stars": Calibration(scale=2, shift=10)}
BITS = 12


def texts_and_labels(count: int, seed: int) -> tuple[list[str], dict[str, NDArray[Any]]]:
    chance = random.Random(seed)
    texts, labels = [], {task.name: [] for task in TASKS}  # type: ignore[var-annotated]
    for _ in range(count):
        mood, colour, stars = chance.randrange(2), chance.randrange(3), chance.randrange(4)
        topics = [chance.random() < 0.4 for _ in TOPICS.labels]
        words = [WORDS[MOOD.labels[mood]], COLOUR.labels[colour], *["star"] * stars]
        words += [WORDS[name] for name, has in zip(TOPICS.labels, topics, strict=True) if has]
        words += chance.choices(["of", "the", "a", "it", "was", "很", "的"], k=4)
        chance.shuffle(words)
        texts.append(" ".join(words))
        for name, value in zip(labels, (mood, colour, topics, 10 + stars), strict=True):
            labels[name].append(value)
    return texts, {
        "mood": np.array(labels["mood"]),
        "colour": np.array(labels["colour"]),
        "topics": np.array(labels["topics"], np.float32),
        "stars": np.array(labels["stars"], np.float32),
    }


TEXTS, LABELS = texts_and_labels(500, 1)
UNSEEN, ASKED = texts_and_labels(300, 2)


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocabulary=320, max_tokens=64)


def fitted(
    words: Tokenizer,
    labels: dict[str, NDArray[Any]] = LABELS,
    texts: Sequence[str] = TEXTS,
    tasks: Sequence[Task] = TASKS,
    bits: int = BITS,
) -> dict[str, NDArray[Any]]:
    targets = {
        task.name: task.rules.targets(labels[task.name], INITIAL[task.name]) for task in tasks
    }
    return fit_ngrams(words.encode(texts), targets, tasks, words, bits)


@pytest.fixture(scope="module")
def arrays(words: Tokenizer) -> dict[str, NDArray[Any]]:
    return fitted(words)


def answers(arrays: dict[str, NDArray[Any]], words: Tokenizer, *tasks: Task) -> dict[str, Any]:
    logits = Ngrams(arrays, words, tasks).logits(words.encode(UNSEEN))
    return {
        task.name: task.rules.probabilities(logits[task.name], INITIAL[task.name]) for task in tasks
    }


def test_every_kind_is_learnt(words: Tokenizer, arrays: dict[str, NDArray[Any]]) -> None:
    given = answers(arrays, words, *TASKS)
    assert (given["mood"].argmax(axis=1) == ASKED["mood"]).mean() == 1
    assert (given["colour"].argmax(axis=1) == ASKED["colour"]).mean() == 1
    assert ((given["topics"] >= 0.5) == ASKED["topics"]).mean() > 0.98
    assert np.abs(given["stars"][:, 0] - ASKED["stars"]).mean() < 0.35


def test_the_arrays_are_those_that_a_bundle_has(arrays: dict[str, NDArray[Any]]) -> None:
    kinds = {"uint8": "U8", "int8": "I8", "float32": "F32"}
    found = {name: (kinds[str(one.dtype)], one.shape) for name, one in arrays.items()}
    assert found == array_types(BITS, TASKS)
    for task in TASKS:
        assert np.abs(arrays[f"{task.name}.table"].astype(int)).max() == 127


def test_it_finds_what_scikit_learn_finds(
    words: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same features, made from the known buckets, in logistic regression to convergence."""
    monkeypatch.setattr(ngrams_fit, "_STEPS", 200)
    monkeypatch.setattr(ngrams_fit, "_STRENGTHS", (1.0,))
    noisy = {"mood": LABELS["mood"] ^ (np.random.default_rng(0).random(len(TEXTS)) < 0.2)}
    arrays = fitted(words, noisy, tasks=[MOOD])
    features = dense(TEXTS, words, arrays["tags"])
    known = features.sum(axis=1, keepdims=True)
    times = features.sum(axis=0)
    idf = np.log((1 + len(TEXTS)) / (1 + times.clip(max=len(TEXTS)))) + 1
    square = idf**2 * (features / known).sum(axis=0)
    features = features / np.sqrt(known) * idf / np.sqrt(square.sum() / len(TEXTS))
    # our loss is in units of log 2
    other = LogisticRegression(C=1 / np.log(2), tol=1e-8, max_iter=5000)
    expected = other.fit(features, noisy["mood"]).predict_proba(features)[:, 1]
    logits = Ngrams(arrays, words, [MOOD]).logits(words.encode(TEXTS))["mood"]
    given = MOOD.rules.probabilities(logits, Calibration())[:, 1]
    assert np.abs(given - expected).max() < 0.02
    assert np.corrcoef(given, expected)[0, 1] > 0.9995


def dense(texts: Sequence[str], words: Tokenizer, known: NDArray[Any]) -> NDArray[np.float64]:
    result = np.zeros((len(texts), len(known)))
    for i, text in enumerate(texts):
        for _, _, kinds in Reader(words).blocks(words.encode([text])):
            for grams in kinds:
                for h in grams.hashes[grams.inside]:
                    bucket = int(h) >> (32 - BITS)
                    result[i, bucket] += known[bucket] == int(h) & 255
    return result


def test_a_bucket_is_that_of_its_most_frequent_ngram(
    words: Tokenizer, arrays: dict[str, NDArray[Any]]
) -> None:
    found = [
        h
        for _, _, kinds in Reader(words).blocks(words.encode(TEXTS))
        for grams in kinds
        for h in grams.hashes[grams.inside].tolist()
    ]
    distinct, times = np.unique(np.array(found, np.uint32), return_counts=True)
    for bucket in np.unique(buckets(distinct, BITS)).tolist():
        here = (buckets(distinct, BITS) == bucket) & (times >= 2)
        if here.any():
            best = distinct[here][times[here] == times[here].max()]
            assert arrays["tags"][bucket] in tags(best)


def test_the_same_rows_give_the_same_arrays(
    words: Tokenizer, arrays: dict[str, NDArray[Any]]
) -> None:
    again = fitted(words)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_rows_without_a_label_teach_nothing(words: Tokenizer, task: Task) -> None:
    """What stands in them is not even counted among a task's own features."""
    own = {task.name: LABELS[task.name].copy()}
    own[task.name][250:] = task.rules.missing(250, task.labels)
    other = {task.name: own[task.name].copy()}
    texts = [*TEXTS[:250], *reversed(TEXTS[250:])]
    one, two = fitted(words, own, tasks=[task]), fitted(words, other, texts, tasks=[task])
    assert all(np.array_equal(one[name], two[name]) for name in one)
    given = answers(one, words, task)[task.name]
    measured = task.rules.measure(ASKED[task.name], given)
    assert task.rules.score(measured) > 0.8


def test_a_task_of_very_many_labels_is_left_out(
    words: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams_fit, "MAX_TABLE", 2 << BITS)
    assert set(fitted(words, tasks=[MOOD, COLOUR])) == set(array_types(BITS, [MOOD]))
    assert fitted(words, tasks=[COLOUR]) == {}


def test_of_a_large_corpus_some_rows_are_taken(
    words: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams_fit, "_MAX_GRAMS", 10_000)
    texts, labels = TEXTS * 12, {"mood": np.tile(LABELS["mood"], 12)}
    taken: list[int] = []
    of = ngrams_fit._Matrix.of.__func__  # type: ignore[attr-defined]

    def counted(cls: Any, *arguments: Any) -> Any:
        taken.append(int(arguments[2].sum()))
        return of(cls, *arguments)

    monkeypatch.setattr(ngrams_fit._Matrix, "of", classmethod(counted))
    arrays = fitted(words, labels, texts, tasks=[MOOD])
    assert 0 < taken[0] < len(texts)
    given = answers(arrays, words, MOOD)["mood"].argmax(axis=1)
    assert (given == ASKED["mood"]).mean() == 1


@pytest.mark.parametrize("count", [1, 2, 9, 10])
def test_very_few_texts(words: Tokenizer, count: int) -> None:
    labels = {name: values[:count] for name, values in LABELS.items()}
    arrays = fitted(words, labels, TEXTS[:count])
    for values in Ngrams(arrays, words, TASKS).logits(words.encode(UNSEEN)).values():
        assert np.isfinite(values).all()


def test_texts_that_share_no_ngram(words: Tokenizer) -> None:
    arrays = fitted(words, {"mood": np.array([0, 1])}, ["a", "b"], tasks=[MOOD])
    assert not arrays["mood.table"].any()
    assert np.isfinite(arrays["mood.bias"]).all()


def test_weak_signal_is_learnt_as_well_as_by_the_best_strength() -> None:
    # twelve labels that each word points to a little: by its loss as it is, the model that says
    # the least would be the best
    kinds = Task("kind", "single", tuple("abcdefghijkl"))
    chance = np.random.default_rng(3)
    own = chance.dirichlet(np.full(2000, 0.5), len(kinds.labels))
    leaning = 0.25 * own + 0.75 * chance.dirichlet(np.full(2000, 0.3))
    labels = chance.integers(0, len(kinds.labels), 7000)
    texts = [" ".join(f"w{w}" for w in chance.choice(2000, 6, p=leaning[k])) for k in labels]
    tokenizer = Tokenizer.train(texts, vocabulary=1200, max_tokens=64)
    tokens, asked = tokenizer.encode(texts[:3000]), tokenizer.encode(texts[3000:])
    targets = {"kind": kinds.rules.targets(labels[:3000], Calibration())}

    def right() -> float:
        arrays = fit_ngrams(tokens, targets, (kinds,), tokenizer, 14)
        given = Ngrams(arrays, tokenizer, (kinds,)).logits(asked)["kind"]
        return float((given.argmax(axis=1) == labels[3000:]).mean())

    chosen, each = right(), []
    for strength in ngrams_fit._STRENGTHS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ngrams_fit, "_STRENGTHS", (strength,))
            each.append(right())
    assert max(each) > each[0] + 0.015, each  # else there is nothing to choose
    assert chosen > max(each) - 0.007, each
