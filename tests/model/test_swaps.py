"""What becomes of a text when its people change sex, and of the answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sample_comments import labelled_rows

from glossator.model.bundle import Bundle
from glossator.model.evaluation.card import render
from glossator.model.evaluation.evaluate import predict
from glossator.model.evaluation.swaps import MIN_TEXTS, measure, sentence, swapped
from glossator.model.labeller import Labeller


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He said so himself.", "She said so herself."),
        ("HER phone, his phone", "HIS phone, her phone"),
        ("I saw her again. Ask her! It is hers.", "I saw him again. Ask him! It is his."),
        ("His is better than him", "Hers is better than her"),
        ("Mrs Smith and Ms Lee", "Mr Smith and Mr Lee"),
        ("John's mother", "Patricia's father"),
        ("Tom又来了，他很好", "Jane又来了，她很好"),
        ("他爸爸和李先生", "她妈妈和李女士"),
        ("她女朋友是李雷", "他男朋友是韩梅梅"),
    ],
)
def test_words_are_swapped_in_their_case(text: str, expected: str) -> None:
    swap = swapped(text)
    assert swap is not None
    assert swap.text == expected


@pytest.mark.parametrize(
    "text",
    ["The theory of others", "tom, 5 ms, mark", "其他人弹吉他", "他人", "他妈的", "男女朋友", ""],
)
def test_words_that_only_look_like_it_stay(text: str) -> None:
    assert swapped(text) is None


def test_direction_and_language_are_those_of_the_words() -> None:
    for text, direction, lang in (
        ("he left", "male to female", "en"),
        ("问她", "female to male", "zh"),
        ("她 told him", "both", "zh"),
    ):
        swap = swapped(text)
        assert swap is not None
        assert (swap.direction, swap.lang) == (direction, lang)


def test_swapping_twice_gives_the_text_back() -> None:
    text = "She and her brother James met Linda; 他问了她妈妈。"
    there = swapped(text)
    assert there is not None
    back = swapped(there.text)
    assert back is not None
    assert back.text == text


def test_figures_are_those_of_labelling_both_texts(trained: Bundle) -> None:
    made = [row["text"] for row in labelled_rows(MIN_TEXTS + 5, seed=8)]
    texts = [f"he {text}" for text in made] + made + ["问她"]
    found = measure(trained, texts)
    json.dumps(found, allow_nan=False)
    labeller = Labeller(trained, list(found))
    before = predict(labeller, [f"he {text}" for text in made])
    after = predict(labeller, [f"she {text}" for text in made])
    for task in trained.tasks:
        (entry,) = found[task.name]  # one text is too few for a direction of its own
        assert (entry["lang"], entry["direction"]) == ("en", "male to female")
        assert entry["texts"] == len(made)
        moved = after[task.name] - before[task.name]
        moved /= trained.calibration[task.name].scale if task.kind == "regression" else 1
        assert entry["change"][0] == pytest.approx(np.abs(moved).max(axis=1).mean())
        column = task.labels.index(entry["label"]) if task.labels else 0
        assert entry["shift"][0] == pytest.approx(moved.mean(axis=0)[column])
        assert abs(entry["shift"][0]) == pytest.approx(np.abs(moved.mean(axis=0)).max())
        assert f"{len(made)} answers" in sentence(found[task.name])
        row = f"| {task.name} | en | male to female | {len(made)} | {entry['flipped'][0]:.3f} ["
        assert row in render(replace(trained, metrics={"swaps": found}))
    chosen = before["sentiment"].argmax(axis=1) != after["sentiment"].argmax(axis=1)
    assert found["sentiment"][0]["flipped"][0] == pytest.approx(chosen.mean())


def test_texts_without_people_say_nothing(trained: Bundle) -> None:
    found = measure(trained, ["good"] * 50)
    assert found == {task.name: [] for task in trained.tasks}
    assert sentence(found["gender"]).startswith("Too few texts")
