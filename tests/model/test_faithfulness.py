"""What an attention is worth, against the erasure done by hand, one text at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import NETWORKS
from sample_comments import TASKS, labelled_rows

from glossator.model.bundle import Bundle
from glossator.model.evaluation.card import render, summary
from glossator.model.evaluation.faithfulness import FRACTIONS, SUMMARIES, measure, sentence
from glossator.model.labelled.dataset import Dataset
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task

MakeNetwork = Callable[[str], AttentionRNN]


def rows(bundle: Bundle, texts: list[str]) -> Dataset:
    """Texts without a label."""
    empty = np.full(len(texts), "")
    missing = {t.name: t.rules.missing(len(texts), t.labels) for t in bundle.tasks}
    return Dataset(texts, missing, empty, empty, empty)


def answer(bundle: Bundle, task: Task, ids: list[int], given: int | None) -> float:
    """The probability of a label; without one, the value in deviations."""
    output = bundle.network()(torch.tensor([ids]), torch.tensor([len(ids)]))[task.name]
    calibration = bundle.calibration[task.name]
    scaled = output.logits[0].double() * calibration.scale + calibration.shift
    if given is None:
        return float(scaled[0].detach() / calibration.scale)
    return float(torch.softmax(scaled, 0)[given].detach())


def by_hand(bundle: Bundle, task: Task, text: str) -> tuple[float, float]:
    """How far a text's answer falls without, and with only, the most attended tokens."""
    ids = bundle.tokenizer.encode([text]).ids.tolist()
    output = bundle.network()(torch.tensor([ids]), torch.tensor([len(ids)]))[task.name]
    given = int(output.logits[0].argmax()) if task.labels else None
    order = output.attention[0].argsort(descending=True).tolist()
    whole, falls = answer(bundle, task, ids, given), []
    for fraction in FRACTIONS:
        heavy = set(order[: max(1, min(round(fraction * len(ids)), len(ids) - 1))])
        for kept in ({*range(len(ids))} - heavy, heavy):
            other = answer(bundle, task, [ids[i] for i in sorted(kept)], given)
            falls.append(whole - other if task.labels else abs(whole - other))
    return float(np.mean(falls[::2])), float(np.mean(falls[1::2]))


@pytest.mark.parametrize("name", ["mood", "stars"])
def test_erasure_is_what_it_is_by_hand(bundle: Bundle, corpus: list[str], name: str) -> None:
    texts = corpus[:5]
    task = next(task for task in bundle.tasks if task.name == name)
    expected = np.mean([by_hand(bundle, task, text) for text in texts], axis=0)
    found = measure(bundle, rows(bundle, texts))[name]
    assert found["texts"] == 5
    assert found["attention"]["comprehensiveness"] == pytest.approx(expected[0], abs=1e-5)
    assert found["attention"]["sufficiency"] == pytest.approx(expected[1], abs=1e-5)
    for half, sign in (("comprehensiveness", 1), ("sufficiency", -1)):
        gain, low, high = found["attention"][f"{half}_gain"]
        assert gain == pytest.approx(sign * (found["attention"][half] - found["random"][half]))
        assert low <= gain <= high


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_measured(
    bundle: Bundle, corpus: list[str], make_network: MakeNetwork, name: str
) -> None:
    network = make_network(name)
    made = replace(bundle, config=network.config, weights=network.weights())
    found = measure(made, rows(made, corpus), texts=3)["mood"]
    expected = np.mean([by_hand(made, made.tasks[0], corpus[i]) for i in (0, 13, 26)], axis=0)
    assert found["attention"]["comprehensiveness"] == pytest.approx(expected[0], abs=1e-5)
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
        ((0.01, 0.02), "Attended words count for more than random ones: "),
        ((0.01, -0.02), "only when dropping them"),
        ((-0.01, 0.02), "only when keeping them"),
        ((0.0, 0.0), "no better than random"),
    ],
)
def test_the_sentence_says_no_more_than_the_intervals(
    lows: tuple[float, float], expected: str
) -> None:
    attention = {
        "comprehensiveness": 0.25,
        "comprehensiveness_gain": [0.1, lows[0], 0.2],
        "sufficiency_gain": [0.1, lows[1], 0.2],
    }
    said = sentence({"attention": attention, "random": {"comprehensiveness": 0.15}})
    assert expected in said
    assert "0.250" in said and "0.150" in said


def test_card_and_summary_say_where_attention_is_no_better_than_chance(trained: Bundle) -> None:
    texts = [row["text"] for row in labelled_rows(40, seed=9)]
    found = measure(trained, rows(trained, texts), texts=10)
    for name, low in (("sentiment", -0.01), ("gender", 0.01)):
        for half in ("comprehensiveness", "sufficiency"):
            found[name]["attention"][f"{half}_gain"] = [0.1, low, 0.2]
    test = {
        "sentiment": {"all": {"rows": 40, "accuracy": [0.5, 0.4, 0.6], "macro_f1": [0.5, 0.4, 0.6]}}
    }
    bundle = replace(trained, metrics={"faithfulness": found, "test": test})
    lines = [line for line in summary(bundle).split("\n") if line.startswith("attention of ")]
    assert len(lines) == 1
    assert "sentiment" in lines[0]
    assert "gender" not in lines[0]
    section = render(bundle).split("## What its attention is worth")[1].split("\n## ")[0]
    verdicts = {row.split(" | ")[0].strip("| "): row for row in section.split("\n") if "|" in row}
    assert "no better than random ones" in verdicts["sentiment"]
    assert "| better than random ones" in verdicts["gender"]
    dropped = found["gender"]["attention"]["comprehensiveness"]
    assert f"| {dropped:.3f} ({found['gender']['random']['comprehensiveness']:.3f}), " in section
