"""What marked words are worth, against the erasure done by hand, one text at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from experts import with_expert
from networks import NETWORKS
from sample_comments import TASKS, labelled_rows

from glossator.model.bundle import Bundle
from glossator.model.evaluation.card import render, summary
from glossator.model.evaluation.faithfulness import FRACTIONS, SUMMARIES, measure, sentence
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.network import AttentionRNN, TaskOutput
from glossator.model.tasks import Task

MakeNetwork = Callable[[str], AttentionRNN]


def rows(bundle: Bundle, texts: list[str]) -> Dataset:
    """Texts without a label."""
    empty = np.full(len(texts), "")
    missing = {t.name: t.rules.missing(len(texts), t.labels) for t in bundle.tasks}
    return Dataset(texts, missing, empty, empty, empty)


def standing(bundle: Bundle, task: Task, ids: list[int], given: list[float]) -> float:
    """The network's probability of the label given; of a value, how near it is in deviations."""
    output = bundle.network()(torch.tensor([ids]), torch.tensor([len(ids)]))[task.name]
    calibration = bundle.calibration[task.name]
    scaled = output.logits[0].detach().double() * calibration.scale + calibration.shift
    if not task.labels:
        return -abs(float(scaled[0]) - given[0]) / float(np.asarray(calibration.scale))
    return float(torch.softmax(scaled, 0)[int(np.argmax(given))])


def contribution(task: Task, output: TaskOutput, given: list[float], mean: float) -> torch.Tensor:
    """What each token adds to what speaks for the answer, those that speak against it nothing.

    Where all do, the attention.
    """
    logits = output.logits[0]
    if task.labels:
        best = int(np.argmax(given))
        rivals = torch.tensor([p * (i != best) for i, p in enumerate(given)])
        spoken = logits[best] - (logits * rivals).sum() / rivals.sum()
    else:
        spoken = logits[0] * (1 if given[0] >= mean else -1)
    (by_attention,) = torch.autograd.grad(spoken, output.attention)
    positive = (output.attention * by_attention)[0].clamp(min=0)
    return positive if positive.any() else output.attention[0]


def by_hand(
    bundle: Bundle, task: Task, text: str, summary: str = "contribution"
) -> tuple[float, float]:
    """How far a text's answer falls without, and with only, the tokens that count most."""
    ids = bundle.tokenizer.encode([text]).ids.tolist()
    output = bundle.network()(torch.tensor([ids]), torch.tensor([len(ids)]))[task.name]
    given = Labeller(bundle, [task.name]).label([text]).tasks[0].probabilities[0].tolist()
    weights = output.attention[0]
    if summary == "contribution":
        weights = contribution(task, output, given, bundle.calibration[task.name].shift)
    order = weights.argsort(descending=True, stable=True).tolist()
    whole, falls = standing(bundle, task, ids, given), []
    for fraction in FRACTIONS:
        heavy = set(order[: max(1, min(round(fraction * len(ids)), len(ids) - 1))])
        for kept in ({*range(len(ids))} - heavy, heavy):
            falls.append(whole - standing(bundle, task, [ids[i] for i in sorted(kept)], given))
    return float(np.mean(falls[::2])), float(np.mean(falls[1::2]))


@pytest.mark.parametrize("summary", ["contribution", "attention"])
@pytest.mark.parametrize("name", ["mood", "stars"])
@pytest.mark.parametrize("weight", [0, 5])
def test_erasure_is_what_it_is_by_hand(
    bundle: Bundle, corpus: list[str], weight: float, name: str, summary: str
) -> None:
    """Of the answers that were given; where an n-gram expert decided them, of the expert's."""
    texts = corpus[:5]
    task = next(task for task in bundle.tasks if task.name == name)
    made = with_expert(bundle, [task], corpus, weight) if weight else bundle
    expected = np.mean([by_hand(made, task, text, summary) for text in texts], axis=0)
    figures = measure(made, rows(made, texts))[name]
    found = figures[summary]
    assert figures["texts"] == 5
    assert found["comprehensiveness"] == pytest.approx(expected[0], abs=1e-5)
    assert found["sufficiency"] == pytest.approx(expected[1], abs=1e-5)
    for half, sign in (("comprehensiveness", 1), ("sufficiency", -1)):
        gain, low, high = found[f"{half}_gain"]
        assert gain == pytest.approx(sign * (found[half] - figures["random"][half]))
        assert low <= gain <= high


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_measured(
    bundle: Bundle, corpus: list[str], make_network: MakeNetwork, name: str
) -> None:
    network = make_network(name)
    made = replace(bundle, config=network.config, weights=network.weights())
    found = measure(made, rows(made, corpus), texts=3)["mood"]
    expected = np.mean([by_hand(made, made.tasks[0], corpus[i]) for i in (0, 13, 26)], axis=0)
    assert found["contribution"]["comprehensiveness"] == pytest.approx(expected[0], abs=1e-5)
    even = {
        key: np.zeros_like(array) if "score" in key else array
        for key, array in made.weights.items()
    }
    assert measure(replace(made, weights=even), rows(made, corpus), 3)["mood"]["same"] == 1


def test_every_kind_has_figures_that_json_takes(bundle: Bundle, corpus: list[str]) -> None:
    found = measure(bundle, rows(bundle, corpus), texts=6)
    assert found.keys() == {task.name for task in bundle.tasks}
    json.dumps(found, allow_nan=False)
    for figures in found.values():
        assert figures["texts"] == 6
        assert {*SUMMARIES, "random"} <= figures.keys()
        assert figures["learnt"] is None  # no row has a label
        assert sentence(figures).endswith(".")


def test_what_speaks_for_the_answer_is_more_faithful_than_chance(trained: Bundle) -> None:
    texts = [row["text"] for row in labelled_rows(60, seed=5)]
    found = measure(trained, rows(trained, texts))["sentiment"]
    for tokens_by in ("contribution", "gradient"):
        assert found[tokens_by]["comprehensiveness_gain"][1] > 0
        assert found[tokens_by]["sufficiency_gain"][1] > 0


def test_the_control_takes_the_learnt_attention_away(trained: Bundle) -> None:
    made = labelled_rows(60, seed=6)
    data = rows(trained, [row["text"] for row in made])
    data.labels["sentiment"] = np.array([TASKS[0].labels.index(r["sentiment"]) for r in made])
    even = replace(
        trained,
        weights={
            name: np.zeros_like(array) if "score" in name else array
            for name, array in trained.weights.items()
        },
    )
    with_it, without = measure(trained, data, 4)["sentiment"], measure(even, data, 4)["sentiment"]
    assert without["learnt"] == without["uniform"] == with_it["uniform"]
    assert without["same"] == 1
    assert with_it["learnt"] > 0.8


def test_texts_of_one_token_say_nothing(bundle: Bundle) -> None:
    assert measure(bundle, rows(bundle, ["a", "b"])) == {}
    assert measure(bundle, rows(bundle, ["a", "a b c"]))["mood"]["texts"] == 1


@pytest.mark.parametrize(
    ("lows", "expected"),
    [
        ((0.01, 0.02), "Marked words count for more than random ones: "),
        ((0.01, -0.02), "only when dropping them"),
        ((-0.01, 0.02), "only when keeping them"),
        ((0.0, 0.0), "no better than random"),
    ],
)
def test_the_sentence_says_no_more_than_the_intervals(
    lows: tuple[float, float], expected: str
) -> None:
    published = {
        "comprehensiveness": 0.25,
        "comprehensiveness_gain": [0.1, lows[0], 0.2],
        "sufficiency_gain": [0.1, lows[1], 0.2],
    }
    said = sentence({"contribution": published, "random": {"comprehensiveness": 0.15}})
    assert expected in said
    assert "0.250" in said and "0.150" in said


def test_card_and_summary_say_where_words_are_no_better_than_chance(trained: Bundle) -> None:
    texts = [row["text"] for row in labelled_rows(40, seed=9)]
    found = measure(trained, rows(trained, texts), texts=10)
    for name, low in (("sentiment", -0.01), ("gender", 0.01)):
        for half in ("comprehensiveness", "sufficiency"):
            found[name]["contribution"][f"{half}_gain"] = [0.1, low, 0.2]
    test = {
        "sentiment": {"all": {"rows": 40, "accuracy": [0.5, 0.4, 0.6], "macro_f1": [0.5, 0.4, 0.6]}}
    }
    bundle = replace(trained, metrics={"faithfulness": found, "test": test})
    lines = [line for line in summary(bundle).split("\n") if line.startswith("marked words of ")]
    assert len(lines) == 1
    assert "sentiment" in lines[0]
    assert "gender" not in lines[0]
    section = render(bundle).split("## What its marked words are worth")[1].split("\n## ")[0]
    verdicts = {row.split(" | ")[0].strip("| "): row for row in section.split("\n") if "|" in row}
    assert "no better than random ones" in verdicts["sentiment"]
    assert "| better than random ones" in verdicts["gender"]
    dropped = found["gender"]["contribution"]["comprehensiveness"]
    assert f"| {dropped:.3f} ({found['gender']['random']['comprehensiveness']:.3f}), " in section
