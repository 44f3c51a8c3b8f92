"""What a text can cost: time linear in its length, memory that many long texts do not raise."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glossator.model import bundle as bundles
from glossator.model.bundle import Bundle
from glossator.model.explain import explanation
from glossator.model.labeller import Labeller
from glossator.model.tokenizer import MAX_CHARS, slices

NASTY = {
    "combining marks in the wrong order": "\u0301\u0323",
    "combining marks in the right order": "\u0323\u0301",
    "a mark that is two": "\u0344\u0323",
    "one combining mark": "\u0301",
    "Hangul jamo": "\u1100\u1161\u11a8",
    "Hangul vowels": "\u1161",
    "joiners": "\u200d",
    "one long word": "a",
    "spaces": " ",
    "apostrophes": "'",
    "Thai": "ราคาน้ำ",
    "emoji sequences": "👩‍👩‍👧‍👦",
    "a ligature of eighteen letters": "\ufdfa",
    "halfwidth kana with marks": "ﾊﾞ",
    "null characters": "\0",
}


def best_seconds(run: Callable[[], object], rounds: int = 5) -> float:
    """The least of some measurements: what the work itself takes."""
    times = []
    for _ in range(rounds):
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return min(times)


@pytest.mark.parametrize("pattern", NASTY.values(), ids=NASTY)
def test_labelling_takes_time_linear_in_a_texts_length(expert_bundle: Bundle, pattern: str) -> None:
    labeller = Labeller(expert_bundle)

    def label(length: int) -> Callable[[], object]:
        text = "a" + (pattern * length)[: length - 2] + "a"

        def run() -> None:
            explanation(text, labeller.label([text]), colour=False)

        return run

    short, long = best_seconds(label(4_000)), best_seconds(label(16_000))
    # 16 times as long would be quadratic; what does not depend on the length is left out
    assert long < 9 * short + 0.005, f"{short:.4f} s for 4,000 characters, {long:.4f} s for 16,000"


def test_what_lies_behind_the_characters_that_are_read_costs_nothing(bundle: Bundle) -> None:
    labeller = Labeller(bundle)
    text = "good and bad " * 2_000
    long, longer = text[:MAX_CHARS] + "x", text[:MAX_CHARS] + "\u0301\u0323" * 20_000_000
    labels = [labeller.label([some]) for some in (long, longer)]
    assert best_seconds(lambda: labeller.label([longer]), 3) < 0.2 + 3 * best_seconds(
        lambda: labeller.label([long]), 3
    )
    for one, other in zip(*(prediction.tasks for prediction in labels), strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert np.array_equal(one.words.start, other.words.start)


PEAK = """
import resource, sys
from glossator.model import bundle as bundles
from glossator.model.labeller import Labeller
labeller = Labeller(bundles.load(sys.argv[1]))
pattern, count = sys.argv[2], int(sys.argv[3])
texts = [(pattern * 16_384)[:16_384]] * count
labeller.label(texts[:1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
labeller.label(texts)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(("pattern", "count"), [("a ", 400), ("\ufdfa", 9)])
def test_many_long_texts_at_once_take_bounded_memory(
    expert_bundle: Bundle, tmp_path: Path, pattern: str, count: int
) -> None:
    bundles.save(expert_bundle, tmp_path)
    arguments = [sys.executable, "-c", PEAK, str(tmp_path), pattern, str(count)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    assert int(run.stdout) < 180_000, "KiB more than for one such text"


def test_texts_in_parts_have_the_bits_they_have_together(
    bundle: Bundle, corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labeller = Labeller(bundle, [task.name for task in bundle.tasks])
    whole = labeller.label(corpus)
    finished: list[int] = []
    for chars, tokens in ((100, 1 << 20), (1 << 22, 70), (1, 1)):
        monkeypatch.setattr("glossator.model.labeller._PART_BYTES", chars)
        monkeypatch.setattr("glossator.model.labeller._PART_TOKENS", tokens)
        monkeypatch.setattr("glossator.model.tokenizer._SLICE_CHARS", chars)
        parts = labeller.label(corpus, on_progress=finished.append)
        assert np.array_equal(whole.tokens, parts.tokens)
        assert np.array_equal(whole.truncated, parts.truncated)
        for one, other in zip(whole.tasks, parts.tasks, strict=True):
            assert np.array_equal(one.probabilities, other.probabilities)
            assert np.array_equal(one.entropy, other.entropy)
            for field in ("offsets", "start", "end", "weight"):
                assert np.array_equal(getattr(one.words, field), getattr(other.words, field))
    assert sum(finished) == 3 * len(corpus)


def test_no_texts_at_all(bundle: Bundle) -> None:
    predictions = Labeller(bundle).label([])
    assert [len(task.entropy) for task in predictions.tasks] == [0, 0, 0]
    assert predictions.padded_tokens == 0


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([], 5, []),
        ([9], 5, [(0, 1)]),
        ([2, 3, 1], 5, [(0, 2), (2, 3)]),
        ([9, 0, 5, 9], 5, [(0, 1), (1, 3), (3, 4)]),
        ([0, 0, 0], 5, [(0, 3)]),
    ],
)
def test_parts_hold_as_much_as_they_may(
    sizes: list[int], most: int, expected: list[tuple[int, int]]
) -> None:
    assert list(slices(sizes, most)) == expected
