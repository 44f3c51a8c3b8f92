"""Words out of tokens, and the heaviest of them, against loops over single characters."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from bundle_edits import with_max_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.model.tokenizer import Spans, Tokenizer, Tokens
from glossator.model.words import Units, heaviest, units

Unit = tuple[int, int, list[int]]
"""First character, behind the last, tokens."""

UNSPACED = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "IDEOGRAPHIC",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
)

mixed_text = st.lists(
    st.sampled_from(
        [
            *("word", "don't", "rock’n", "snake_case", "ñandú", "e\u0301l", "¿qué?", "3.14", "x2"),
            *(
                "这个产品",
                "很好，",
                "𠀀",
                "ราคา",
                "น้ำ",
                "データ",
                "ﾊﾞｶ",
                "한국어",
                "ﬁne",
                "ＦＵＬＬ",
            ),
            *("😀", "👍🏽", "…", "!!", "--", "(", "'", "ok好", "好ok"),
            *(" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u2028", "\x1f", "\u200b", "\u00a8"),
        ]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


def is_word(character: str) -> bool:
    """Of a script with spaces."""
    if character in "'’_":
        return True
    if unicodedata.category(character)[0] not in "LMN" or character >= "\U00020000":
        return False
    return not unicodedata.name(character, "").startswith(UNSPACED)


def slow_units(text: str, spans: list[tuple[int, int]]) -> list[Unit]:
    found: list[Unit] = []
    for token, (start, end) in enumerate(spans):
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        if start == end:
            continue
        if found:
            first, last, members = found[-1]
            # what the previous token reached, which is where the unit ends
            one_word = start == last and is_word(text[last - 1]) and is_word(text[start])
            if start < last or one_word:
                found[-1] = (first, max(last, end), [*members, token])
                continue
        found.append((start, end, [token]))
    return found


def grouped(tokenizer: Tokenizer, texts: list[str]) -> tuple[Tokens, Spans, Units]:
    tokens = tokenizer.encode(texts)
    spans = tokenizer.spans(texts, tokens)
    return tokens, spans, units(texts, tokens, spans)


def expected_units(texts: list[str], tokens: Tokens, spans: Spans) -> list[list[Unit]]:
    result = []
    for row, text in enumerate(texts):
        own = range(int(tokens.offsets[row]), int(tokens.offsets[row + 1]))
        places = [(int(spans.start[i]), int(spans.end[i])) for i in own]
        result.append(
            [(a, b, [own[i] for i in members]) for a, b, members in slow_units(text, places)]
        )
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(mixed_text, max_size=4))
def test_units_are_those_of_a_loop(tokenizer: Tokenizer, texts: list[str]) -> None:
    tokens, spans, found = grouped(tokenizer, texts)
    expected = expected_units(texts, tokens, spans)
    assert np.diff(found.offsets).tolist() == [len(row) for row in expected]
    flat = [unit for row in expected for unit in row]
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == [
        (start, end) for start, end, _ in flat
    ]
    of_token = [-1] * len(tokens.ids)
    for index, (_, _, members) in enumerate(flat):
        for token in members:
            of_token[token] = index
    assert found.of_token.tolist() == of_token


@settings(max_examples=150, deadline=None)
@given(st.lists(mixed_text, max_size=4), st.integers(0, 6), st.randoms(use_true_random=False))
def test_the_heaviest_are_those_of_a_sort(
    tokenizer: Tokenizer, texts: list[str], count: int, random: object
) -> None:
    tokens, spans, found = grouped(tokenizer, texts)
    # few different weights, all sums of them exact: ties are frequent
    weights = np.array([random.choice((0, 1, 2)) / 64 for _ in tokens.ids], np.float32)  # type: ignore[attr-defined]
    words = heaviest(found, weights, count)
    assert len(words.offsets) == len(texts) + 1
    for row, own in enumerate(expected_units(texts, tokens, spans)):
        weighed = [(start, end, sum(float(weights[i]) for i in ids)) for start, end, ids in own]
        weighed = [unit for unit in weighed if unit[2]]
        weighed.sort(key=lambda unit: (-unit[2], unit[0]))
        at = slice(int(words.offsets[row]), int(words.offsets[row + 1]))
        given = (words.start[at].tolist(), words.end[at].tolist(), words.weight[at].tolist())
        assert list(zip(*given, strict=True)) == weighed[:count]


@settings(max_examples=100, deadline=None)
@given(st.lists(mixed_text, max_size=3))
def test_no_word_has_white_space_at_its_ends_or_overlaps_another(
    tokenizer: Tokenizer, texts: list[str]
) -> None:
    _, _, found = grouped(tokenizer, texts)
    for row, text in enumerate(texts):
        last = 0
        for i in range(found.offsets[row], found.offsets[row + 1]):
            start, end = found.start[i], found.end[i]
            word = text[start:end]
            assert word
            assert word == word.strip()
            assert start >= last
            last = end


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["it's", "ñandú", "querías", "e\u0301l", "snake_case", "한국어", "мир"]),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from([" ", "\n", "  ", "\u00a0", "\t \u2003"]),
)
def test_where_a_script_has_spaces_a_unit_is_a_word(
    tokenizer: Tokenizer, words: list[str], space: str
) -> None:
    text = space.join(words)
    tokens, _, found = grouped(with_max_tokens(tokenizer, 1000), [text])
    given = [text[a:b] for a, b in zip(found.start, found.end, strict=True)]
    assert given == words
    even = np.full(len(tokens.ids), 1 / len(tokens.ids), np.float32)
    assert heaviest(found, even, 100).weight.sum() <= 1 + 1e-6


def test_words_as_one_would_mark_them(tokenizer: Tokenizer) -> None:
    text = "El niño, 很好 unbelievable!"
    tokens, _, found = grouped(tokenizer, [text])
    given = [text[a:b] for a, b in zip(found.start, found.end, strict=True)]
    assert given[:3] == ["El", "niño", ","]
    assert "".join(given[3:-2]) == "很好"
    assert given[-2:] == ["unbelievable", "!"]
    weights = np.zeros(len(tokens.ids), np.float32)
    pieces = found.of_token == len(given) - 2
    assert pieces.sum() > 1
    weights[pieces] = 0.5 / pieces.sum()
    weights[found.of_token == 1] = 0.25 / (found.of_token == 1).sum()
    words = heaviest(found, weights, 2)
    assert [text[a:b] for a, b in zip(words.start, words.end, strict=True)] == [
        "unbelievable",
        "niño",
    ]
    assert words.weight.tolist() == pytest.approx([0.5, 0.25])


def test_the_words_of_one_text_never_join_those_of_the_next(tokenizer: Tokenizer) -> None:
    _, _, found = grouped(tokenizer, ["ab", "", "cd", " ", "ef"])
    assert found.offsets.tolist() == [0, 1, 1, 2, 2, 3]
    assert found.start.tolist() == [0, 0, 0]


def test_words_without_weight_are_left_out(tokenizer: Tokenizer) -> None:
    tokens, _, found = grouped(tokenizer, ["good bad", "good", " good"])
    weights = np.zeros(len(tokens.ids), np.float32)
    weights[found.of_token == 1] = 0.5
    words = heaviest(found, weights, 5)
    assert words.offsets.tolist() == [0, 1, 1, 1]
    assert (words.start.tolist(), words.end.tolist()) == ([5], [8])


def test_nothing_to_choose_from(tokenizer: Tokenizer) -> None:
    for texts in ([], [""], [" \n"], ["", " "]):
        tokens, _, found = grouped(tokenizer, texts)
        words = heaviest(found, np.ones(len(tokens.ids), np.float32), 5)
        assert words.offsets.tolist() == [0] * (len(texts) + 1)
        assert len(words.start) == len(words.end) == len(words.weight) == 0
    tokens, _, found = grouped(tokenizer, ["some words"])
    assert heaviest(found, np.ones(len(tokens.ids), np.float32), 0).offsets.tolist() == [0, 0]
