"""The native functions give what the plain code gives, on texts made to tell them apart."""

from __future__ import annotations

import pickle
import random
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from bundle_edits import with_max_tokens
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glossator.model import characters
from glossator.model.native import library as native_library
from glossator.model.native import text as native_text
from glossator.model.texts import Texts
from glossator.model.tokenizer import MAX_CHARS, Tokenizer, Tokens
from glossator.model.words import Words, heaviest, units

Test = Callable[[Tokenizer, list[str]], None]

PIECES = (
    *(
        "plain words",
        "don't",
        "we'll they're I'm you've he'd it's can't",
        "we'LL 've'",
        "!! !!\x00 !!\x00\x00",
        " 's",
        "x2 3.14 \u0661",
        "snake_case",
        "  \n\t ",
        "\u00a0",
    ),
    *(
        "这个产品很好，我非常喜欢",
        "！。",
        "ราคาหุ้น น้ำ",
        "データを",
        "한국어",
        "हिन्दी",
        "עברית",
        "مرحبا",
    ),
    *("ＦＵＬＬ", "ﬁne", "½", "①", "ﷺ", "é", "e\u0301", "ﾊﾞｶﾞ", "ㅠㅠ", "\u1112\u1161\u11ab"),
    *(
        "각\u11a8 가\u11a8 가\u11a7",
        "①\u0316",
        "a\u0316\u0301",
        "a\u0301\u0316",
        "น\u0e48\u0e38",
        "\u00a8",
        "\u0344",
    ),
    *("😀👍🏽❤️", "\u200b\u200d", "\x00\x1c\x85", "\u32ff", "\ue000", "\U000e0041", "\U00020000"),
)
"""Words, white space, scripts; what NFKC changes, composes and reorders; what only one knows."""

hard_text = st.lists(
    st.sampled_from(PIECES) | st.sampled_from("".join(PIECES)) | st.text(max_size=4), max_size=8
).map("".join)


def with_hard_texts(test: Test) -> Test:
    for text in PIECES:
        test = example([text, "between", text * 3])(test)
    return settings(max_examples=80, deadline=None)(given(st.lists(hard_text, max_size=5))(test))


@pytest.fixture(scope="module", autouse=True)
def library() -> native_text.Functions:
    found = native_text.library()
    if found is None:
        pytest.skip("no compiler")
    return found


@contextmanager
def plainly() -> Iterator[None]:
    """What is done here is done without the native functions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_text, "library", lambda: None)
        yield


@pytest.fixture(scope="module")
def native(tokenizer: Tokenizer, library: native_text.Functions) -> Tokenizer:
    made = with_max_tokens(tokenizer, 40)
    assert made.native
    return made


@pytest.fixture(scope="module")
def plain(tokenizer: Tokenizer) -> Tokenizer:
    with plainly():
        made = with_max_tokens(tokenizer, 40)
        assert not made.native
    return made


def same_tokens(one: Tokens, other: Tokens) -> None:
    assert one.ids.tolist() == other.ids.tolist()
    assert one.offsets.tolist() == other.offsets.tolist()
    assert (one.ids.dtype, one.offsets.dtype) == (other.ids.dtype, other.offsets.dtype)


def test_the_normal_form_takes_a_part_of_the_time(native: Tokenizer) -> None:
    texts = ["ﬁne café ① " * 50] * 200
    started = time.perf_counter()
    spent = native.encode(texts).normalizing
    assert 0 < spent < time.perf_counter() - started


def words_of(
    tokenizer: Tokenizer, texts: Sequence[str], weights: Callable[[int], np.ndarray], count: int
) -> tuple[Words, list[list[int]]]:
    """The heaviest words, and all that they are made from."""
    tokens = tokenizer.encode(texts)
    spans = tokenizer.spans(texts, tokens)
    found = units(texts, tokens, spans)
    made = [spans.start, spans.end, found.offsets, found.start, found.end, found.of_token]
    cut = tokenizer.truncated(texts, tokens)
    words = heaviest(found, weights(len(tokens.ids)), count)
    made += [words.offsets, words.start, words.end, words.weight.view(np.int32), cut]
    return words, [array.tolist() for array in made]


def check(native: Tokenizer, plain: Tokenizer, texts: Sequence[str]) -> None:
    same_tokens(native.encode(texts), plain.encode(texts))
    for seed, count in enumerate((0, 1, 3, 40)):

        def weights(size: int, seed: int = seed) -> np.ndarray:
            drawn = np.random.default_rng(seed)
            values = drawn.random(size) if seed % 2 else drawn.integers(0, 3, size) / 8
            return values.astype(np.float32)

        words, made = words_of(native, texts, weights, count)
        with plainly():
            other, wanted = words_of(plain, texts, weights, count)
        assert made == wanted
        assert all(
            vars(words)[name].dtype == vars(other)[name].dtype
            for name in ("offsets", "start", "end", "weight")
        )


@with_hard_texts
def test_tokens_spans_and_words_are_those_of_the_plain_code(
    native: Tokenizer, plain: Tokenizer, texts: list[str]
) -> None:
    check(native, plain, texts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32))
def test_characters_that_melt_and_reorder(native: Tokenizer, plain: Tokenizer, seed: int) -> None:
    known = characters.traits()
    active = np.flatnonzero((known.combining > 0) | ((known.traits & 16) > 0))
    drawn = random.Random(seed)
    pool = [*map(chr, active.tolist()), *"ab 1'\n" * 200, *map(chr, range(0x1100, 0x1200))]
    check(native, plain, ["".join(drawn.choices(pool, k=drawn.randint(1, 7))) for _ in range(40)])


def test_every_so_many_a_character(native: Tokenizer, plain: Tokenizer) -> None:
    codes = [c for c in range(5, 0x32000, 61) if not 0xD800 <= c < 0xE000]
    check(native, plain, [f"a{chr(c)}b {chr(c) * 2} 1{chr(c)}'{chr(c)}" for c in codes])


def test_few_of_the_usual_characters_are_left_to_the_reference(
    native: Tokenizer, library: native_text.Functions
) -> None:
    usual = [
        c
        for c in range(0x20000)
        if unicodedata.category(chr(c)) in ("Ll", "Lu", "Lo", "Po", "Nd", "So")
    ]
    assert native._encoder
    left = native._encoder.encode(Texts.of([*map(chr, usual)]), 9, 9).left
    assert left.mean() < 0.005
    texts = ["Ça alors ! 这个产品很好，12％ off… “quoted” — Привіт, ¿qué tal? 😀👍🏽❤️ ราคาหุ้น"]
    texts += ["ㅠㅠ", "e\u0301", "ﾊﾞｶ", "مَّ", "\u1112\u1161\u11ab", "हिन्दी", "\u00a8", *PIECES[:-3]]
    assert native._encoder.encode(Texts.of(texts), 99, 99).left.sum() == 1, "U+32FF"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.text("好你我的不是あいう한국aбé😀 ", min_size=1, max_size=9), min_size=1, max_size=6
    ),
    st.integers(256, 700),
    st.randoms(use_true_random=False),
)
def test_any_vocabulary(texts: list[str], size: int, random: random.Random) -> None:
    # so few letters that merges begin and end within characters
    many = ["".join(random.choices(texts, k=4)) for _ in range(40)]
    native = Tokenizer.train(many, size, max_tokens=30)
    assert native.native
    with plainly():
        plain = with_max_tokens(native, 30)
        wanted = plain.encode(many + texts)
    same_tokens(native.encode(many + texts), wanted)


def test_contractions_are_cut_as_the_pre_tokenizer_does() -> None:
    ends = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
    texts = [
        f"{word}{end}{more}"
        for word in ("we", "", " ", "!")
        for end in ends
        for more in ("", "la", "'")
    ]
    texts += (
        [text.upper() for text in texts] + [f"x'{a}{b}" for a in "rvl" for b in "erl"] + ["'", "'l"]
    )
    native = Tokenizer.train([*texts, *("llla 'll'lla sla tla 'sla" for _ in range(9))], 420, 20)
    assert native.native
    with plainly():
        wanted = with_max_tokens(native, 20).encode(texts)
    same_tokens(native.encode(texts), wanted)


def test_a_vocabulary_with_parts_of_characters() -> None:
    # 5 characters that share bytes: their parts are merged before they are whole
    pool = [chr(0x4E00 + 64 * i + j) for i in range(3) for j in (1, 2)] + ["é", "\u0439"]
    drawn = random.Random(4)
    texts = ["".join(drawn.choices(pool, k=drawn.randint(1, 50))) for _ in range(400)]
    native = Tokenizer.train(texts[:200], 330, max_tokens=100)
    assert native.native
    content = native.content()
    tokens = [bytes(t) for t in np.split(content.content, content.offsets[1:-1])]
    assert any(token[0] & 0xC0 == 0x80 and token[-1] >= 0xC0 for token in tokens if len(token) > 1)
    with plainly():
        wanted = with_max_tokens(native, 100).encode(texts)
    same_tokens(native.encode(texts), wanted)


LONG = {
    "letters": "ab" * MAX_CHARS,
    "one letter": "a" * 3000,
    "Han": "这个产品很好我非常喜欢快递也" * 1000,
    "spaces": " " * 5000 + "x" + "\n " * 5000,
    "punctuation": "!?" * 7000,
    "expanding": "ﷺ" * 2000 + "㎏" * 2000,
    "marks": "a" + "\u0316" * 3000,
    "composing": "e\u0301" * 3000,
    "just as many": "é" * MAX_CHARS,
    "one more": "é" * MAX_CHARS + "!",
    "cut in a piece": "a" * (MAX_CHARS - 2) + "e\u0323\u0301",
    "cut in a character": "😀" * MAX_CHARS + "😀",
    "words": "some words, don't " * 1200,
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("most", [1, 40, 32_000])
def test_long_texts(tokenizer: Tokenizer, name: str, most: int) -> None:
    texts = ["before", LONG[name], "after"]
    native = with_max_tokens(tokenizer, most)
    assert native.native
    with plainly():
        plain = with_max_tokens(tokenizer, most)
        tokens = plain.encode(texts)
        cut = plain.truncated(texts, tokens)
        spans = plain.spans(texts, tokens)
    found = native.encode(texts)
    same_tokens(found, tokens)
    assert native.truncated(texts, found).tolist() == cut.tolist()
    places = native.spans(texts, found)
    assert np.array_equal(places.start, spans.start)
    assert np.array_equal(places.end, spans.end)


@pytest.mark.parametrize("most", [1, 3, 40])
def test_more_tokens_than_one_call_has_room_for(
    native: Tokenizer, plain: Tokenizer, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_text, "_MOST_IDS", 1)
    texts = ["", *PIECES, "", "ab" * 50, *PIECES]
    with plainly():
        wanted = with_max_tokens(plain, most).encode(texts)
    same_tokens(with_max_tokens(native, most).encode(texts), wanted)


def test_arrow_buffers_are_read_where_they_lie(native: Tokenizer, plain: Tokenizer) -> None:
    texts = [*PIECES, "", "x" * 9, "ab" * MAX_CHARS]
    array = pa.array(["left out", *texts, "left out"], pa.large_string()).slice(1, len(texts))
    _, places, data = array.buffers()
    given = Texts(
        np.frombuffer(data, np.uint8), np.frombuffer(places, np.int64)[1:][: len(texts) + 1]
    )
    for tokenizer in (native, plain):
        with pytest.MonkeyPatch.context() as patch:
            if tokenizer is plain:
                patch.setattr(native_text, "library", lambda: None)
            tokens, wanted = tokenizer.encode(given), tokenizer.encode(texts)
            same_tokens(tokens, wanted)
            assert tokenizer.truncated(given, tokens).tolist() == [
                *[False] * (len(texts) - 1),
                True,
            ]
            spans, places = tokenizer.spans(given, tokens), tokenizer.spans(texts, tokens)
            assert np.array_equal(spans.start, places.start)
            one = units(given, tokens, spans)
            other = units([text[:MAX_CHARS] for text in texts], tokens, spans)
            assert one.start.tolist() == other.start.tolist()
            assert one.of_token.tolist() == other.of_token.tolist()


def test_characters_of_which_nothing_is_sure_are_left_to_the_reference(
    tokenizer: Tokenizer,
    plain: Tokenizer,
    library: native_text.Functions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = characters.traits()
    bare = known.traits.copy()
    bare[[ord("ж"), ord("好")]] &= 64 | 128  # to words they are what they were
    monkeypatch.setattr(characters, "traits", lambda: replace(known, traits=bare))
    careful = native_text.Functions(native_library.loaded())
    monkeypatch.setattr(native_text, "library", lambda: careful)
    native = with_max_tokens(tokenizer, 40)
    assert native._encoder
    texts = ["aж", "a", "好", "", "ae" + "\u0301" * 70, "жe\u0301"]
    left = native._encoder.encode(Texts.of(texts), 99, 99).left
    assert left.tolist() == [True, False, True, False, True, True]
    left = native._encoder.encode(Texts.of(texts), 99, 99, normalized=True).left
    assert left.tolist() == [True, False, True, False, False, True], (
        "a piece is too long to compose"
    )
    check(native, plain, texts)


def test_texts_as_strings_and_back() -> None:
    texts = ["", "é", "", "好 b\x00", ""]
    held = Texts.of(texts)
    assert (len(held), held.sizes.tolist(), held.strings()) == (5, [0, 2, 0, 6, 0], texts)
    assert held.part(1, 4).strings() == texts[1:4]
    assert Texts.of(held) is held
    assert Texts.of([]).strings() == []
    with pytest.raises(UnicodeEncodeError):
        Texts.of(["a", "\ud800"])


def test_bytes_that_are_no_utf8_are_refused(native: Tokenizer) -> None:
    for content in (
        b"a\xff",
        b"\xc3",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xe4\xbd",
        b"\xf4\x90\x80\x80",
        b"\x80",
    ):
        texts = Texts(np.frombuffer(content, np.uint8), np.array([0, len(content)]))
        with pytest.raises(UnicodeDecodeError):
            native.encode(texts)


def test_offsets_and_ids_that_point_elsewhere_are_refused(native: Tokenizer) -> None:
    content = np.frombuffer(b"some words", np.uint8)
    for offsets in ([0, 11], [-1, 3], [4, 3], [0, 1 << 40]):
        with pytest.raises(ValueError):
            native.encode(Texts(content, np.array(offsets)))
    texts = Texts(content, np.array([0, 10]))
    tokens = native.encode(texts)
    spans = native.spans(texts, tokens)
    for ids, offsets in (
        ([native.size], [0, 1]),
        ([-1], [0, 1]),
        ([*tokens.ids, 0], [0, len(tokens.ids) + 1]),
        (tokens.ids, [0, len(tokens.ids) + 1]),
        (tokens.ids, [2, 1]),
    ):
        with pytest.raises(ValueError):
            native.spans(texts, Tokens(np.array(ids, np.int32), np.array(offsets)))
    with pytest.raises(ValueError):
        units(texts.part(0, 1), tokens, type(spans)(spans.start, spans.end + 1))
    with pytest.raises(ValueError):
        units(texts, tokens, type(spans)(spans.start - 1, spans.end))


def test_threads_share_a_tokenizer(native: Tokenizer, plain: Tokenizer) -> None:
    texts = [f"{piece} {i}" for i in range(60) for piece in PIECES]
    with plainly():
        wanted = plain.encode(texts)
    found: list[Tokens] = []

    def encode() -> None:
        found.extend(native.encode(texts) for _ in range(10))

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    for tokens in found:
        same_tokens(tokens, wanted)


def test_pieces_that_were_replaced_come_back_right(native: Tokenizer, plain: Tokenizer) -> None:
    drawn = random.Random(3)
    letters = "abcdefghijklmnopqrstuvwxyz"
    texts = [" ".join("".join(drawn.choices(letters, k=4)) for _ in range(9)) for _ in range(8000)]
    native.encode(texts)  # more different words than are remembered
    with plainly():
        same_tokens(native.encode(texts[:300]), plain.encode(texts[:300]))


def test_one_that_differs_from_the_reference_is_not_used(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = native_text.Encoder.encode

    def wrong(*arguments: object, **named: object) -> native_text.Encoded:
        found = encode(*arguments, **named)  # type: ignore[arg-type]
        return found._replace(ids=found.ids[::-1].copy())

    monkeypatch.setattr(native_text.Encoder, "encode", wrong)
    made = with_max_tokens(tokenizer, 40)
    assert not made.native
    with plainly():
        wanted = with_max_tokens(tokenizer, 40).encode(PIECES)
    same_tokens(made.encode(PIECES), wanted)


def test_another_process_can_have_the_tokenizer(native: Tokenizer) -> None:
    texts = ["plain words", "这个产品很好"]
    expected = native.encode(texts)
    given = pickle.loads(pickle.dumps(native)).encode(texts)
    assert np.array_equal(given.ids, expected.ids)
