"""Text to tokens: NFKC, then a byte-level BPE, with character spans into the original text.

The reference is Hugging Face `tokenizers`; `tokenizer.json` in a bundle is its own format. A
byte-level BPE can encode any text, so there is no unknown token. A token's length in bytes is
fixed, so where it stands follows from a cumulative sum: no offsets are asked of the tokenizer.

Where the native functions were built, they give the same tokens and places many times faster; texts
with characters that they are not sure of, and all texts if a probe shows a difference, are left to
the reference.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from glossator.model import tokenizer_json
from glossator.model.characters import begins_piece
from glossator.model.native import text as native_text
from glossator.model.texts import Texts, strings

MAX_CHARS = 16_384
"""Characters of a text that are read at all: a comment may be a pasted book."""
_SLICE_CHARS = MAX_CHARS
"""Characters that are tokenized together. A character may become 18 by NFKC, and a token takes
some hundred bytes until it is an integer: so much is 130 MB at worst."""
_SHORT_PIECE = 64
"""Characters that Python normalizes; its reordering of combining marks is quadratic."""
_HARD = (
    "don't we'll I'd they're 've 'S ''s it's\n\n \t end  ",
    "ＦＵＬＬ　ｗｉｄｔｈ！ ﬁne ½ ① ㎏ … \u00a0x",
    "这个产品，很好！ราคา น้ำ データ 한국어 हिन्दी שלום مرحبا",
    "a1b2 _x_ 3.14 \u0661\u0662 😀👍🏽 ❤️ a\u200bb\u200dc",
    "x" * 200 + "好" * 99 + " " * 50 + "!" * 150,
)
"""Texts that a probe has besides those of tokens."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, one after the other."""

    ids: NDArray[np.int32]
    """[t] token ids of all the texts."""
    offsets: NDArray[np.int64]
    """[n + 1]: text i has the tokens `offsets[i]:offsets[i + 1]`."""
    normalizing: float = 0.0
    """Seconds of making them that went to the normal form, where that is told apart."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[n] tokens of each text."""
        return np.diff(self.offsets)

    def padded(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[n, longest] ids, zeros behind each text, and [n] how many are its own."""
        lengths = self.lengths
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = self.ids
        return ids, lengths

    def part(self, first: int, last: int) -> Tokens:
        """The tokens of the texts `first:last`."""
        offsets = self.offsets[first : last + 1]
        return Tokens(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0])

    def select(self, rows: NDArray[np.int64]) -> Tokens:
        """The tokens of some texts, in the order of an index."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Tokens(self.ids[places], offsets)


@dataclass(frozen=True)
class TokenBytes:
    """What the tokens of a vocabulary stand for: those of a text, in order, are its NFKC."""

    content: NDArray[np.uint8]
    """The bytes of all tokens, one after the other."""
    offsets: NDArray[np.int64]
    """[V + 1]: token i has the bytes `offsets[i]:offsets[i + 1]`."""


@dataclass(frozen=True)
class Spans:
    """Where each token stands, in Unicode characters of its original text, half-open."""

    start: NDArray[np.int64]
    """[t]; the first character that the token has a part in."""
    end: NDArray[np.int64]
    """[t]; behind the last character that the token has a part in."""


class Tokenizer:
    """A byte-level BPE over NFKC text that keeps at most `max_tokens` tokens of a text."""

    def __init__(self, tokenizer: HFTokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.enable_truncation(max_tokens)
        self.max_tokens = max_tokens
        vocabulary = tokenizer.get_vocab()
        self.size = len(vocabulary)
        self._bytes = np.zeros(self.size, np.int32)
        for token, index in vocabulary.items():
            self._bytes[index] = len(token)  # a letter stands for a byte

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process needs to have the same; native memory stays here."""
        return Tokenizer, (self._tokenizer, self.max_tokens)

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int, max_tokens: int) -> Tokenizer:
        """A tokenizer of at most `vocabulary` tokens learnt from `texts`; same texts, same tokens.

        Byte-level BPE as in Radford et al. 2019 (GPT-2), with its pre-tokenizer.
        """
        tokenizer = HFTokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator((text[:MAX_CHARS] for text in texts), trainer)
        return cls(tokenizer, max_tokens)

    @classmethod
    def from_json(cls, content: str, max_tokens: int) -> Tokenizer:
        """The tokenizer whose `to_json` gave `content`.

        Raises:
            ValueError: it is none of our kind, or keeps another number of tokens.
        """
        tokenizer_json.check(content.encode(), max_tokens)
        try:
            tokenizer = HFTokenizer.from_str(content)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"is no tokenizer: {error}") from error
        return cls(tokenizer, max_tokens)

    def to_json(self) -> str:
        """The whole tokenizer, as Hugging Face `tokenizers` reads it."""
        model = json.loads(self._tokenizer.to_str())["model"]
        return tokenizer_json.render(model["vocab"], model["merges"], self.max_tokens)

    def content(self) -> TokenBytes:
        """The bytes that each token stands for."""
        vocabulary = self._tokenizer.get_vocab()
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        content = "".join(tokens).translate(_byte_of_letter()).encode("latin-1")
        offsets = np.cumsum([0, *map(len, tokens)])
        return TokenBytes(np.frombuffer(content, np.uint8), offsets)

    @cached_property
    def _characters(self) -> NDArray[np.int64]:
        """[V, 2] of each token: characters that begin in it; whether it is one byte of a longer."""
        content = self.content()
        begins = np.concatenate([[0], np.cumsum((content.content & 0xC0) != 0x80)])
        first = content.content[content.offsets[:-1]]
        lone = (np.diff(content.offsets) == 1) & (first >= 0x80)
        return np.stack([np.diff(begins[content.offsets]), lone], axis=1).astype(np.int64)

    def characters(self, tokens: Tokens) -> tuple[int, int]:
        """How many characters tokens stand for, and how many tokens are a lone byte of one.

        Characters are those of the texts' normal form. A lone byte says that the vocabulary has
        not even a part of the character: its bytes were not seen beside each other.
        """
        times = np.bincount(tokens.ids, minlength=self.size)
        characters, lone = times @ self._characters
        return int(characters), int(lone)

    @cached_property
    def _encoder(self) -> native_text.Encoder | None:
        """The native tokenizer, if there is one that agrees with the reference."""
        library = native_text.library()
        if library is None:
            return None
        model = json.loads(self._tokenizer.to_str())["model"]
        ids, content = model["vocab"], self.content()
        merges = [(ids[left], ids[right], ids[left + right]) for left, right in model["merges"]]
        encoder = native_text.Encoder(
            library,
            Texts(content.content, content.offsets),
            np.array(merges, np.int32).reshape(-1, 3).T,
        )
        probe = _probe(content)
        given = encoder.encode(Texts.of(probe), MAX_CHARS, self.max_tokens)
        wanted = self._by_reference(probe).select(np.flatnonzero(~given.left))
        same = np.array_equal(given.lengths[~given.left], wanted.lengths)
        return encoder if same and np.array_equal(given.ids, wanted.ids) else None

    def get_ready(self) -> None:
        """Does what is done once, which the first call would do."""
        self._encoder, self._characters  # noqa: B018

    @property
    def native(self) -> bool:
        """Whether the native functions do the work."""
        return self._encoder is not None

    def encode(self, texts: Sequence[str] | Texts) -> Tokens:
        """The tokens of each text; releases the GIL for most of the time."""
        encoder = self._encoder
        if encoder is None:
            return self._by_reference(strings(texts))
        given = readable(texts)
        found = encoder.encode(given, MAX_CHARS, self.max_tokens)
        left = np.flatnonzero(found.left)
        others = [
            self._normalized(encoder, [given[row][:MAX_CHARS] for row in left[first:last].tolist()])
            for first, last in slices(given.sizes[left].tolist(), _SLICE_CHARS)
        ]
        return _filled(found, left, others)

    def _normalized(self, encoder: native_text.Encoder, texts: Sequence[str]) -> Tokens:
        """The tokens of texts whose normal form, or all, is left to the reference."""
        normalized = Texts.of([self._normalize(text) for text in texts])
        found = encoder.encode(normalized, 1 << 31, self.max_tokens, normalized=True)
        left = np.flatnonzero(found.left)
        return _filled(found, left, [self._by_reference([texts[row] for row in left.tolist()])])

    def _by_reference(self, texts: Sequence[str]) -> Tokens:
        offsets = np.zeros(len(texts) + 1, np.int64)
        parts = [np.empty(0, np.int32)]
        for first, last in slices([min(len(text), MAX_CHARS) for text in texts], _SLICE_CHARS):
            encodings = self._tokenizer.encode_batch_fast(
                [text[:MAX_CHARS] for text in texts[first:last]], add_special_tokens=False
            )
            rows = [encoding.ids for encoding in encodings]
            offsets[first + 1 : last + 1] = [len(row) for row in rows]
            parts.append(np.fromiter(chain.from_iterable(rows), np.int32))
        return Tokens(np.concatenate(parts), np.cumsum(offsets))

    def spans(self, texts: Sequence[str] | Texts, tokens: Tokens) -> Spans:
        """The original characters behind each token, widened to whole characters.

        Args:
            texts: the n texts that `encode` was given.
            tokens: what it gave.
        """
        library = native_text.library()
        if library is None:
            return self._spans_in_slices(strings(texts), tokens)
        given = readable(texts)
        start, end, unsure = native_text.spans(
            library, given, MAX_CHARS, self._bytes, tokens.ids, tokens.offsets
        )
        left = np.flatnonzero(unsure)
        if len(left):
            others = self._spans_in_slices(
                [given[row] for row in left.tolist()], tokens.select(left)
            )
            lengths = tokens.lengths[left]
            places = np.repeat(tokens.offsets[left] - np.cumsum(lengths) + lengths, lengths)
            places += np.arange(len(places))
            start[places], end[places] = others.start, others.end
        return Spans(start, end)

    def _spans_in_slices(self, texts: Sequence[str], tokens: Tokens) -> Spans:
        found = Spans(np.empty(len(tokens.ids), np.int64), np.empty(len(tokens.ids), np.int64))
        for first, last in slices([min(len(text), MAX_CHARS) for text in texts], 4 * _SLICE_CHARS):
            part = self._spans([t[:MAX_CHARS] for t in texts[first:last]], tokens.part(first, last))
            at = slice(tokens.offsets[first], tokens.offsets[last])
            found.start[at], found.end[at] = part.start, part.end
        return found

    def _spans(self, texts: Sequence[str], tokens: Tokens) -> Spans:
        changed: dict[int, _Alignment] = {}
        normalized: list[str] = []
        for row, text in enumerate(texts):
            if not unicodedata.is_normalized("NFKC", text):
                changed[row] = _align(text, self._normalize)
                text = changed[row].normalized
            normalized.append(text)

        content = np.frombuffer("".join(normalized).encode(), np.uint8)
        character = np.cumsum((content & 0xC0) != 0x80) - 1
        counts = np.array([len(text) for text in normalized], np.int64)
        first_character = np.concatenate([[0], np.cumsum(counts)])
        first_byte = np.searchsorted(character, first_character[:-1])
        lengths = tokens.lengths
        ends = np.cumsum(self._bytes[tokens.ids])
        before = np.concatenate([[0], ends])[tokens.offsets[:-1]]
        ends += np.repeat(first_byte - before, lengths)
        shift = np.repeat(first_character[:-1], lengths)
        start = character[ends - self._bytes[tokens.ids]] - shift
        end = character[ends - 1] - shift + 1
        for row, alignment in changed.items():
            at = slice(tokens.offsets[row], tokens.offsets[row + 1])
            start[at] = alignment.start[start[at]]
            end[at] = alignment.end[end[at] - 1]
        return Spans(start, end)

    def truncated(self, texts: Sequence[str] | Texts, tokens: Tokens) -> NDArray[np.bool_]:
        """[n] whether a text goes on behind the last token that was kept."""
        given = readable(texts)
        cut = np.zeros(len(given), bool)
        for row in np.flatnonzero(given.sizes > MAX_CHARS).tolist():
            content = given.content[given.offsets[row] : given.offsets[row + 1]]
            content = content[: 4 * MAX_CHARS + 1]
            cut[row] = np.count_nonzero((content & 0xC0) != 0x80) > MAX_CHARS
        for row in np.flatnonzero((tokens.lengths == self.max_tokens) & ~cut).tolist():
            ids = tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]]
            cut[row] = int(self._bytes[ids].sum()) < len(self._normalize(given[row]).encode())
        return cut

    def _normalize(self, text: str) -> str:
        """NFKC by the tokenizer's own tables, in linear time."""
        return str(self._tokenizer.normalizer.normalize_str(text))


@cache
def _byte_of_letter() -> dict[int, int]:
    """The byte behind each letter of a byte-level BPE (Radford et al. 2019).

    Printable bytes of Latin-1 stand for themselves, the others, in order, are U+0100 and on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: byte for byte in printable} | {0x100 + i: byte for i, byte in enumerate(others)}


def _filled(
    found: native_text.Encoded, left: NDArray[np.int64], others: Sequence[Tokens]
) -> Tokens:
    """Tokens with those of the texts that were left, one part after the other, in their places."""
    lengths, offsets = found.lengths, np.concatenate([[0], np.cumsum(found.lengths)])
    if not len(left):
        return Tokens(found.ids, offsets, found.normalizing)
    parts, before = [], 0
    rows = (tokens.part(i, i + 1).ids for tokens in others for i in range(len(tokens)))
    for row, ids in zip(left.tolist(), rows, strict=True):
        parts += [found.ids[before : offsets[row]], ids]
        before = offsets[row]
        lengths[row] = len(ids)
    parts.append(found.ids[before:])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(np.concatenate(parts), offsets, found.normalizing)


def readable(texts: Sequence[str] | Texts) -> Texts:
    """Texts as buffers; of strings what is read, and one character more if there is one."""
    if isinstance(texts, Texts):
        return texts
    return Texts.of([text[: MAX_CHARS + 1] for text in texts])


def _probe(content: TokenBytes) -> list[str]:
    """Some texts of a vocabulary's own tokens, and some of what cuts and normal forms are about."""
    places = content.offsets.tolist()
    some = range(0, len(places) - 1, len(places) // 1000 + 1)
    pieces = [content.content[places[i] : places[i + 1]] for i in some]
    own = [piece.tobytes().decode(errors="ignore") for piece in pieces]
    return [*("".join(own[i : i + 7]) for i in range(0, len(own), 7)), *_HARD]


def slices(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Cuts a sequence into consecutive parts whose sizes add up to `most`, or of one item.

    Yields:
        The first item of a part and the one behind its last.
    """
    first, total = 0, 0
    for item, size in enumerate(sizes):
        if total + size > most and item > first:
            yield first, item
            first, total = item, 0
        total += size
    if first < len(sizes):
        yield first, len(sizes)


@dataclass(frozen=True)
class _Alignment:
    """For each character of the normalized text, the original characters it came from."""

    normalized: str
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def _align(original: str, normalize: Callable[[str], str]) -> _Alignment:
    """Cuts `original` where normalization can't reach across, and matches the pieces.

    NFKC of a text is the NFKC of its pieces, one after the other, when each piece begins with a
    character that neither reorders nor composes with what stands before (Unicode UAX #15).
    """
    cuts = [i for i, character in enumerate(original) if i == 0 or begins_piece(character)]
    cuts.append(len(original))
    starts: list[int] = []
    ends: list[int] = []
    pieces: list[str] = []
    for start, end in pairwise(cuts):
        piece = original[start:end]
        short = len(piece) <= _SHORT_PIECE
        piece = unicodedata.normalize("NFKC", piece) if short else normalize(piece)
        same = piece == original[start:end]
        starts += range(start, end) if same else [start] * len(piece)
        ends += range(start + 1, end + 1) if same else [end] * len(piece)
        pieces.append(piece)
    normalized = normalize(original)
    if "".join(pieces) != normalized:
        # Python and the tokenizer hold different versions of Unicode: this text has a character
        # that only one of them knows. Point at the whole text rather than at a wrong place.
        starts, ends = [0] * len(normalized), [len(original)] * len(normalized)
    return _Alignment(normalized, np.array(starts, np.int64), np.array(ends, np.int64))
