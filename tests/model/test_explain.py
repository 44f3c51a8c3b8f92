"""One text and its answers for a terminal: marks stand exactly where the words do."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import click
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.model.bundle import Bundle
from glossator.model.explain import Mark, explanation, marked, predictions_json
from glossator.model.kinds import Single
from glossator.model.labeller import Labeller, Predictions, TaskPredictions
from glossator.model.tasks import Task
from glossator.model.words import Words

TEXT = "El niño,  很好 ok!"


def words_of(*found: tuple[int, int, float]) -> Words:
    start, end, weight = zip(*found, strict=True) if found else ((), (), ())
    return Words(
        offsets=np.array([0, len(found)]),
        start=np.array(start, np.int32),
        end=np.array(end, np.int32),
        weight=np.array(weight, np.float32),
    )


def answers(
    task: Task, given: list[float], *found: tuple[int, int, float], accept: float = 0.5
) -> TaskPredictions:
    entropy = np.array([0.25], np.float32)
    return TaskPredictions(task, np.array([given]), accept, words_of(*found), entropy)


def labelled(*given: TaskPredictions, cut: bool = False) -> Predictions:
    read = {"padded_tokens": 8, "characters": 20, "lone_bytes": 0}
    tokens, truncated = np.array([7]), np.array([cut])
    return Predictions(tokens, truncated, **read, tasks=tuple(given), seconds={})


MOOD = Task("mood", "single", ("bad", "good"))
TOPICS = Task("topics", "multi", ("stock", "news", "chat"))
STARS = Task("stars", "regression")


def test_plain_marks() -> None:
    marks = [Mark(10, 12, 0.5), Mark(3, 7, 0.254)]
    assert marked(TEXT, marks, colour=False) == "El [niño 25%], [很好 50%] ok!"
    assert marked(TEXT, [], colour=False) == "El niño, 很好 ok!"
    assert marked("ab", [Mark(0, 1, 1.0), Mark(1, 2, 0.0)], colour=False) == "[a 100%][b 0%]"
    assert marked("a\n b\tc", [Mark(3, 4, 0.5)], colour=False) == "a [b 50%] c"


def test_coloured_marks() -> None:
    marks = [Mark(3, 7, 0.5), Mark(10, 12, 0.01), Mark(13, 15, 0.27)]
    shown = marked(TEXT, marks, colour=True)
    assert click.unstyle(shown) == "El niño, 很好 ok!"
    found = re.findall("\x1b\\[(\\d+)m\x1b\\[48;5;(\\d+)m(.*?)\x1b\\[0m", shown)
    # the heaviest is brightest with dark letters, the lightest dark with light letters
    assert found == [("30", "226", "niño"), ("37", "236", "很好"), ("30", "142", "ok")]
    assert "\x1b" not in marked(TEXT, [], colour=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.floats(0.01, 1)), max_size=5),
    st.randoms(use_true_random=False),
)
def test_marks_stand_where_the_words_do(
    steps: list[tuple[int, int, float]], random: object
) -> None:
    text, marks, expected, at = "abcdefghijklmnopqrstuvwxyzäöüßñéèàçø", [], "", 0
    for gap, length, weight in steps:
        marks.append(Mark(at + gap, at + gap + length, weight))
        expected += text[at : at + gap] + f"[{text[at + gap : at + gap + length]} {weight:.0%}]"
        at += gap + length
    random.shuffle(marks)  # type: ignore[attr-defined]
    assert marked(text, marks, colour=False) == expected + text[at:]
    assert click.unstyle(marked(text, marks, colour=True)) == text


def test_a_line_for_each_task() -> None:
    given = labelled(
        answers(MOOD, [0.123, 0.877], (3, 7, 0.5), accept=0.9),
        answers(TOPICS, [0.5, 0.2, 0.91], (0, 2, 0.1)),
        answers(STARS, [-3.14159], (13, 15, 0.3)),
    )
    assert explanation(TEXT, given, colour=False) == [
        "mood    good 88% ?           El [niño 50%], 很好 ok!",
        "topics  stock 50%, chat 91%  [El 10%] niño, 很好 ok!",
        "stars   -3.14                El niño, 很好 [ok 30%]!",
    ]


def test_accepted_none_and_cut() -> None:
    given = labelled(
        answers(MOOD, [0.9, 0.1], accept=0.9), answers(TOPICS, [0.1, 0.2, 0.3]), cut=True
    )
    assert explanation("a b", given, colour=False) == [
        "mood    bad 90%  a b",
        "topics  none     a b",
        "(only the first 7 tokens were read)",
    ]


def test_what_the_expert_carried_is_said() -> None:
    mood = replace(answers(MOOD, [0.9, 0.1]), expert=np.array([0.345], np.float32))
    stars = replace(answers(STARS, [4.5]), expert=np.array([0.0], np.float32))
    given = labelled(mood, answers(TOPICS, [0.1, 0.2, 0.3]), stars)
    assert explanation("a b", given, colour=False)[3:] == [
        "(carried by the n-grams, not by what is marked: mood 34%, stars 0%)",
    ]
    said = predictions_json("a b", given)
    assert said["mood"]["expert"] == pytest.approx(0.345)
    assert "expert" not in said["topics"]
    assert said["stars"]["expert"] == 0


def test_the_same_for_machines() -> None:
    given = labelled(
        answers(MOOD, [0.25, 0.75], (3, 7, 0.5), (10, 12, 0.25), accept=0.8),
        answers(TOPICS, [0.5, 0.25, 0.75]),
        answers(STARS, [4.5], (13, 15, 0.125)),
    )
    assert json.loads(json.dumps(predictions_json(TEXT, given))) == {
        "text": TEXT,
        "mood": {
            "label": "good",
            "confidence": 0.75,
            "accepted": False,
            "scores": {"bad": 0.25, "good": 0.75},
            "attention": [
                {"text": "niño", "start": 3, "end": 7, "weight": 0.5},
                {"text": "很好", "start": 10, "end": 12, "weight": 0.25},
            ],
            "entropy": 0.25,
        },
        "topics": {
            "labels": ["stock", "chat"],
            "scores": {"stock": 0.5, "news": 0.25, "chat": 0.75},
            "attention": [],
            "entropy": 0.25,
        },
        "stars": {
            "value": 4.5,
            "attention": [{"text": "ok", "start": 13, "end": 15, "weight": 0.125}],
            "entropy": 0.25,
        },
    }


@pytest.mark.parametrize("row", [0, 1, 2])
def test_any_row_of_a_batch(bundle: Bundle, row: int) -> None:
    texts = ["I love it", "El niño está aquí", "这个产品很好，我非常喜欢。" * 20]
    names = ["mood", "topics", "stars"]
    labeller = Labeller(bundle, names)
    many, alone = labeller.label(texts, top=3), labeller.label([texts[row]], top=3)
    shown = explanation(texts[row], many, row, colour=False)
    assert shown == explanation(texts[row], alone, colour=False)
    assert len(shown) == 3 + (row == 2)
    said = predictions_json(texts[row], many, row)
    assert said == predictions_json(texts[row], alone)
    for name, line in zip(names, shown, strict=False):
        spoke = said[name]["attention"]
        assert 1 <= len(spoke) <= 3
        weights = [word["weight"] for word in spoke]
        assert weights == sorted(weights, reverse=True)
        for word in spoke:
            assert texts[row][word["start"] : word["end"]] == word["text"]
            assert f"[{word['text']} {word['weight']:.0%}]" in line
        assert line.count("%]") == len(spoke)


def test_nothing_is_explained_where_no_words_are_asked_for(
    bundle: Bundle, corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labeller = Labeller(bundle, ["mood"])
    expected = labeller.label(corpus, top=1).tasks[0]

    def refuse(*arguments: object) -> None:
        raise AssertionError("asked what speaks for an answer")

    monkeypatch.setattr(Single, "leaning", refuse)
    labeller.logits(corpus)
    given = labeller.label(corpus, top=0)
    assert np.array_equal(given.tasks[0].probabilities, expected.probabilities)
    assert given.tasks[0].words.offsets.tolist() == [0] * (len(corpus) + 1)
    assert predictions_json(corpus[0], given)["mood"]["entropy"] is None
    with pytest.raises(AssertionError, match="asked what speaks"):
        labeller.label(corpus, top=1)
