"""Text to tokens and back, and where each token stands, by way of bytes counted one by one."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from bundle_edits import with_max_tokens
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import models, normalizers

from glossator.model.tokenizer import MAX_CHARS, Tokenizer

nfkc = normalizers.NFKC().normalize_str

HARD = (
    "",
    " ",
    "\t\n\x00\x1f\x7f",
    "plain words",
    "e\u0301 é n\u0303 x\u0301",
    "a\u0301\u0323 q\u0323\u0307",
    "\u0301",
    "한국 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "ﾊﾞｶﾞ ﾊﾟ ﾞ",
    "ＦＵＬＬ　ｗｉｄｔｈ！",
    "ﬁne ﬀ ﷺ ½ ① ㎏ ™ …",
    "שלום עליכם مرحبا ﻻ",
    "👩‍👩‍👧‍👦 👍🏽 🇨🇳",
    "\u202etfel ot thgir\u202c",
    "①\u0301",
    "这个产品 ราคา น้ำ",
    "\u00a8 \u00a0\u0301",
    "\U0001d400\U0001f100\U0002f800",
)

Test = Callable[[Tokenizer, str], None]

hard_text = st.lists(
    st.one_of(
        st.sampled_from([*HARD, *"".join(HARD)]),
        st.text(max_size=6),
        st.text("abc d\u0301\u0323\u1100\u1161\u11a8ﾊﾞ\u3099か가", max_size=8),
    ),
    max_size=5,
).map("".join)


def with_hard_texts(test: Test) -> Test:
    for text in HARD:
        test = example(text)(test)
    return settings(max_examples=150, deadline=None)(given(hard_text)(test))


@pytest.fixture(scope="module")
def long(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokens, and no text of these tests is cut."""
    return with_max_tokens(tokenizer, 100_000)


@with_hard_texts
def test_any_text_comes_back_as_its_nfkc(long: Tokenizer, text: str) -> None:
    tokens = long.encode([text, "between", text])
    ids = tokens.ids[: tokens.offsets[1]].tolist()
    other = HFTokenizer.from_str(long.to_json())
    assert other.decode(ids, skip_special_tokens=False) == nfkc(text)
    assert ids == other.encode(text).ids
    assert ids == tokens.ids[tokens.offsets[2] :].tolist()


@settings(max_examples=150, deadline=None)
@given(st.text("aé ü中แ한ｶﾞﬁ½e\u0301\u1100\u1161\n\t😀", max_size=30))
def test_nfkc_is_that_of_unicode(long: Tokenizer, text: str) -> None:
    ids = long.encode([text]).ids.tolist()
    decoded = HFTokenizer.from_str(long.to_json()).decode(ids)
    assert decoded == unicodedata.normalize("NFKC", text)


def token_bytes(tokenizer: Tokenizer, ids: list[int]) -> list[tuple[int, int]]:
    """First byte, and behind the last, of each token in the normalized text."""
    vocabulary = {
        i: token for token, i in HFTokenizer.from_str(tokenizer.to_json()).get_vocab().items()
    }
    ends = np.cumsum([len(vocabulary[i]) for i in ids]).tolist()
    return list(zip([0, *ends], ends, strict=False))


def covered(pieces: list[tuple[int, int, str]], first: int, behind: int) -> tuple[int, int]:
    """The characters of those pieces (start, end, normalized) that have a byte in the range."""
    at, found = 0, []
    for start, end, piece in pieces:
        size = len(piece.encode())
        if at < behind and at + size > first:
            found += [start, end]
        at += size
    return min(found), max(found)


def joins(character: str) -> bool:
    """Whether a character may melt into the one before it."""
    first = unicodedata.normalize("NFKD", character)[0]
    jamo = "\u1160" <= first <= "\u11ff"
    return unicodedata.category(first)[0] == "M" or jamo


def spans_of(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    # between two others: where a text stands in its batch must not matter
    texts = ["ﬁrst é", text, "ｶﾞ"]
    tokens = tokenizer.encode(texts)
    found = tokenizer.spans(texts, tokens)
    own = slice(int(tokens.offsets[1]), int(tokens.offsets[2]))
    spans = list(zip(found.start[own].tolist(), found.end[own].tolist(), strict=True))
    return tokens.ids[own].tolist(), spans


@with_hard_texts
def test_spans_lie_in_the_text_in_order_and_cover_it(long: Tokenizer, text: str) -> None:
    _, spans = spans_of(long, text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    assert [end for _, end in spans] == sorted(end for _, end in spans)
    seen = {i for start, end in spans for i in range(start, end)}
    assert seen == set(range(len(text)))


@settings(max_examples=150, deadline=None)
@given(hard_text.map(lambda text: nfkc(unicodedata.normalize("NFKC", text))))
def test_spans_of_an_unchanged_text_are_those_of_its_bytes(long: Tokenizer, text: str) -> None:
    assume(nfkc(text) == text == unicodedata.normalize("NFKC", text))
    ids, spans = spans_of(long, text)
    pieces = [(i, i + 1, character) for i, character in enumerate(text)]
    assert spans == [covered(pieces, *place) for place in token_bytes(long, ids)]


@with_hard_texts
def test_spans_without_combining_characters_go_by_character(long: Tokenizer, text: str) -> None:
    assume(not any(map(joins, text)) and nfkc(text) == unicodedata.normalize("NFKC", text))
    ids, spans = spans_of(long, text)
    pieces = [(i, i + 1, nfkc(character)) for i, character in enumerate(text)]
    assert spans == [covered(pieces, *place) for place in token_bytes(long, ids)]


@with_hard_texts
def test_spans_of_combining_characters_stay_in_their_cluster(long: Tokenizer, text: str) -> None:
    whole = nfkc(text)
    cuts = [i for i in range(len(text) + 1) if nfkc(text[:i]) + nfkc(text[i:]) == whole]
    least = [(a, b, nfkc(text[a:b])) for a, b in pairwise(cuts)]
    assume("".join(piece for *_, piece in least) == whole)
    assume(whole == unicodedata.normalize("NFKC", text))
    ids, spans = spans_of(long, text)
    for (start, end), place in zip(spans, token_bytes(long, ids), strict=True):
        narrow, wide = covered(least, *place)
        assert start <= narrow
        assert wide <= end
        while narrow and joins(text[narrow]):
            narrow -= 1
        while wide < len(text) and joins(text[wide]):
            wide += 1
        assert narrow <= start
        assert end <= wide


def test_spans_as_one_would_point_at_them(long: Tokenizer) -> None:
    for text, first in (
        ("ﬁ", "ﬁ"),
        ("ﾊﾞ", "ﾊﾞ"),
        ("e\u0301", "e\u0301"),
        ("\u1112\u1161\u11ab", "한"),
    ):
        _, spans = spans_of(long, text)
        assert {text[a:b] for a, b in spans} == {text}, first


def test_a_character_newer_than_the_tokenizers_unicode_points_at_the_text(long: Tokenizer) -> None:
    # U+32FF, square era name Reiwa, came with Unicode 12.1
    text = "a \u32ff b"
    _, spans = spans_of(long, text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert max(end for _, end in spans) == len(text)


@settings(max_examples=150, deadline=None)
@given(hard_text, st.integers(1, 12))
def test_a_text_is_cut_behind_its_last_token(long: Tokenizer, text: str, most: int) -> None:
    short = with_max_tokens(long, most)
    texts = [text, "a"]
    everything, kept = long.encode(texts), short.encode(texts)
    assert kept.lengths.tolist() == [min(most, n) for n in everything.lengths.tolist()]
    assert kept.ids[: kept.offsets[1]].tolist() == everything.ids[: kept.offsets[1]].tolist()
    assert short.truncated(texts, kept).tolist() == [int(everything.lengths[0]) > most, False]
    spans, whole = short.spans(texts, kept), long.spans(texts, everything)
    count = int(kept.offsets[1])
    assert spans.start[:count].tolist() == whole.start[:count].tolist()
    assert spans.end[:count].tolist() == whole.end[:count].tolist()


def test_characters_behind_the_most_that_are_read_count_as_cut(long: Tokenizer) -> None:
    texts = ["a " * (MAX_CHARS // 2), "a " * (MAX_CHARS // 2) + "b"]
    tokens = long.encode(texts)
    assert long.truncated(texts, tokens).tolist() == [False, True]
    assert tokens.lengths[0] == tokens.lengths[1]
    assert long.spans(texts, tokens).end.max() == MAX_CHARS


def test_no_texts_and_empty_texts(long: Tokenizer) -> None:
    tokens = long.encode([])
    assert len(tokens) == len(tokens.ids) == len(long.spans([], tokens).start) == 0
    assert long.truncated([], tokens).tolist() == []
    tokens = long.encode(["", ""])
    assert tokens.lengths.tolist() == [0, 0]
    assert len(long.spans(["", ""], tokens).end) == 0


def test_saved_and_loaded_it_is_the_same(tokenizer: Tokenizer, corpus: list[str]) -> None:
    again = Tokenizer.from_json(tokenizer.to_json(), tokenizer.max_tokens)
    assert again.to_json() == tokenizer.to_json()
    assert (again.size, again.max_tokens) == (tokenizer.size, tokenizer.max_tokens)
    one, other = tokenizer.encode(corpus), again.encode(corpus)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.offsets, other.offsets)


def test_the_same_texts_train_the_same_tokenizer(tokenizer: Tokenizer, corpus: list[str]) -> None:
    assert Tokenizer.train(corpus, 500, 64).to_json() == tokenizer.to_json()
    assert Tokenizer.train(corpus[:4], 500, 64).to_json() != tokenizer.to_json()


def test_the_vocabulary_has_every_byte_and_no_unknown_token(tokenizer: Tokenizer) -> None:
    content = json.loads(tokenizer.to_json())
    assert content["model"]["unk_token"] is None
    assert content["added_tokens"] == []
    assert sum(len(token) == 1 for token in content["model"]["vocab"]) == 256
    assert 300 < tokenizer.size <= 500


def test_another_kind_of_tokenizer_is_refused() -> None:
    foreign = HFTokenizer(models.WordLevel({"[UNK]": 0, "straße": 1, "日": 2}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match="has no vocabulary or no merges"):
        Tokenizer.from_json(foreign.to_str(), 8)
    with pytest.raises(ValueError, match="has no token for 256 of the 256 bytes"):
        Tokenizer.from_json(HFTokenizer(models.BPE()).to_str(), 8)


def test_the_file_is_what_the_library_itself_writes(tokenizer: Tokenizer) -> None:
    assert HFTokenizer.from_str(tokenizer.to_json()).to_str() == tokenizer.to_json()
