"""The n-gram expert: as its docstring has it, in plain Python; each text for itself."""

from __future__ import annotations

import itertools
import math
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch
from bundle_edits import with_max_tokens
from experts import BITS, with_expert
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.model.bundle import Bundle
from glossator.model.labeller import Labeller
from glossator.model.ngrams import Ngrams
from glossator.model.tokenizer import Tokenizer

ODD = (
    "a",
    "É",
    "Ñandú ǅ İ ﬁ Ⅻ",
    "Привет, МИР! ΣΊΣΥΦΟΣ",
    "这个产品很好，我非常喜欢",
    "😀👍🏽 good 😀👍🏽 good",
    "ﾊﾞｶﾞ\u0301\u0323",
    "x" * 300,
)


def hashes(symbols: list[int], longest: int, start: int) -> list[int]:
    found = []
    for first in range(len(symbols)):
        state = start
        for symbol in symbols[first : first + longest]:
            x = (state ^ symbol) * 0x9E3779B1 % 2**32
            state = x ^ (x >> 15)
            found.append(state)
    return found


def answer(bundle: Bundle, name: str, text: str) -> list[float]:
    """What the expert says of a text, a number a column."""
    characters = []
    for character in unicodedata.normalize("NFKC", text):
        lower = character.lower()
        small = character < "\u3000" and len(lower) == 1
        characters.append(ord(lower if small else character))
    tokens = bundle.tokenizer.encode([text]).ids.tolist()
    found = hashes(characters, 4, 0x243F6A88) + hashes(tokens, 2, 0x85A308D3)
    arrays = bundle.ngrams
    known = [h >> (32 - BITS) for h in found if arrays["tags"][h >> (32 - BITS)] == h & 255]
    table, scale, bias = (arrays[f"{name}.{part}"] for part in ("table", "scale", "bias"))
    return [
        float(bias[c])
        + float(scale[c]) * (sum(int(table[b, c]) for b in known) / math.sqrt(max(1, len(known))))
        for c in range(table.shape[1])
    ]


@pytest.fixture(scope="module")
def expert(bundle: Bundle, corpus: list[str]) -> Bundle:
    return with_expert(bundle, bundle.tasks, [*corpus, *ODD])


def logits(bundle: Bundle, texts: list[str]) -> dict[str, list[list[float]]]:
    made = Ngrams(bundle.ngrams, bundle.tokenizer, bundle.tasks)
    given = made.logits(bundle.tokenizer.encode(texts))
    return {name: values.tolist() for name, values in given.items()}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(ODD) | TEXT, min_size=1, max_size=5))
def test_it_is_as_the_docstring_says(expert: Bundle, texts: list[str]) -> None:
    whole = replace(expert, tokenizer=with_max_tokens(expert.tokenizer, 4000))
    texts = [text for text in texts if whole.tokenizer.encode([text]).lengths[0]]
    # Python's tables of Unicode are not the tokenizer's: what one of them lacks is not asked
    texts = [t for t in texts if whole.tokenizer._normalize(t) == unicodedata.normalize("NFKC", t)]
    given = logits(whole, texts)
    for i, text in enumerate(texts):
        assert given["mood"][i] == answer(whole, "mood", text)
        assert given["stars"][i] == answer(whole, "stars", text)
        (between,) = answer(whole, "gender", text)
        assert given["gender"][i] == [-between / 2, between / 2]


def test_a_text_is_answered_for_itself(expert: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    together = logits(expert, list(ODD))
    for i, text in enumerate(ODD):
        alone = logits(expert, [text])
        assert all(together[name][i] == alone[name][0] for name in alone)
    monkeypatch.setattr("glossator.model.ngrams._BLOCK", 5)
    assert logits(expert, list(ODD)) == together


def test_a_character_that_was_cut_off_takes_none_of_the_next_text(expert: Bundle) -> None:
    cut = replace(expert, tokenizer=with_max_tokens(expert.tokenizer, 1))
    rare = "\U0001f9ff"
    assert expert.tokenizer.encode([rare]).lengths[0] > 1
    alone = logits(cut, [rare])
    for after in ("a", "é", rare):
        assert logits(cut, [rare, after])["mood"][0] == alone["mood"][0]


def test_no_texts(expert: Bundle) -> None:
    assert logits(expert, []) == {task.name: [] for task in expert.tasks}


def test_tokens_stand_for_their_bytes(tokenizer: Tokenizer, corpus: list[str]) -> None:
    content = tokenizer.content()
    assert len(content.offsets) == tokenizer.size + 1
    for text in corpus:
        ids = tokenizer.encode([text]).ids
        found = b"".join(
            content.content[content.offsets[i] : content.offsets[i + 1]].tobytes() for i in ids
        )
        assert unicodedata.normalize("NFKC", text).encode().startswith(found)


# ---------------------------------------------------------------- beside the network


def test_logits_are_added_before_they_are_scaled(
    bundle: Bundle, expert: Bundle, corpus: list[str]
) -> None:
    names = [task.name for task in bundle.tasks]
    without = Labeller(bundle, names).logits(corpus)
    added = logits(expert, corpus)
    given = Labeller(expert, names).label(corpus)
    for task in given.tasks:
        name = task.task.name
        mixed = without[name] + 0.7 * np.array(added[name])
        expected = task.task.rules.probabilities(mixed, bundle.calibration[name])
        np.testing.assert_allclose(task.probabilities, expected, rtol=1e-12)


def test_a_task_without_a_weight_is_labelled_as_before(
    bundle: Bundle, corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = with_expert(bundle, bundle.tasks[1:3], corpus)
    for one, other in zip(
        Labeller(bundle).label(corpus).tasks, Labeller(some).label(corpus).tasks, strict=True
    ):
        same = np.array_equal(one.probabilities, other.probabilities)
        assert same == (one.task.name == "mood")
        assert one.expert is None
        assert (other.expert is None) == (one.task.name == "mood")
        if one.task.name == "mood":
            assert np.array_equal(one.entropy, other.entropy)
            assert np.array_equal(one.words.start, other.words.start)

    def refuse(*arguments: object) -> None:
        raise AssertionError("the expert was asked")

    monkeypatch.setattr(Ngrams, "logits", refuse)
    Labeller(some, ["mood"]).label(corpus)
    with pytest.raises(AssertionError, match="the expert was asked"):
        Labeller(some, ["stars"]).label(corpus)


def test_tokens_contribute_to_the_answer_of_both(bundle: Bundle, corpus: list[str]) -> None:
    """The head's derivative is that of what speaks for what was answered, whoever decided it."""
    tasks = bundle.tasks[:1]
    contrary = with_expert(bundle, tasks, corpus, weight=3)
    tokens = bundle.tokenizer.encode(corpus[:9])
    labellers = [Labeller(one, ["mood"]) for one in (bundle, contrary)]
    own, both = (labeller.answers(tokens).tasks["mood"] for labeller in labellers)
    assert (own.probabilities.argmax(axis=1) != both.probabilities.argmax(axis=1)).any()
    for row, (first, last) in enumerate(itertools.pairwise(tokens.offsets.tolist())):
        ids = torch.from_numpy(tokens.ids[first:last].astype(np.int64))[None]
        logits, attention = bundle.network()(ids, torch.tensor([last - first]))["mood"]
        given = torch.from_numpy(both.probabilities[row])
        best = int(given.argmax())
        rivals = torch.where(torch.arange(3) == best, 0, given)
        spoken = logits[0, best] - (logits[0] * rivals).sum() / rivals.sum()
        (by_attention,) = torch.autograd.grad(spoken, attention)
        positive = (attention * by_attention)[0].clamp(min=0).detach().numpy()
        assert both.contributions and positive.any()
        np.testing.assert_allclose(
            both.contributions.weights[first:last], positive / positive.sum(), rtol=0, atol=1e-5
        )


def test_the_share_is_that_of_the_margins(bundle: Bundle, corpus: list[str]) -> None:
    expert = with_expert(bundle, bundle.tasks, corpus)
    names = [task.name for task in bundle.tasks]
    network, added = Labeller(bundle, names).logits(corpus), logits(expert, corpus)
    for task in Labeller(expert, names).label(corpus).tasks:
        assert task.expert is not None
        assert task.expert.dtype == np.float32
        for i, share in enumerate(task.expert.tolist()):
            own = network[task.task.name][i].tolist()
            more = [0.7 * value for value in added[task.task.name][i]]
            if task.task.kind == "single":
                best = int(task.probabilities[i].argmax())
                own, more = (
                    [part[best] - sum(x for j, x in enumerate(part) if j != best) / (len(part) - 1)]
                    for part in (own, more)
                )
            theirs, its = (sum(map(abs, part)) for part in (own, more))
            assert share == pytest.approx(its / (its + theirs), rel=1e-5)


def test_parts_of_a_call_are_put_together(
    bundle: Bundle, corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labeller = Labeller(with_expert(bundle, bundle.tasks, corpus))
    whole = labeller.label(corpus)
    monkeypatch.setattr("glossator.model.labeller._PART_TOKENS", 30)
    for one, other in zip(whole.tasks, labeller.label(corpus).tasks, strict=True):
        assert one.expert is not None and other.expert is not None
        assert np.array_equal(one.expert, other.expert)
        assert np.array_equal(one.probabilities, other.probabilities)
