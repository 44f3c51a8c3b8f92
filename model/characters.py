"""What is known of each character: to words, to the normal form and to the pre-tokenizer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import normalizers, pre_tokenizers

OTHER, WORD, SPACE = 0, 1, 2
"""To words, a character is white space, part of one in a script with spaces, or other."""
KNOWN = 0x20000
"""Code points from here on are Han extensions, tags and private: none has words with spaces."""
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # halfwidth kana
)
_LONG_KNOWN = (
    (0x3400, 0x4DB5),  # Han
    (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3),  # Hangul
    (0x20000, 0x2A6D6),  # Han
)
"""Letters, and their own NFKC, since Unicode 3.1: one in some is asked about."""
_LAST_MARK = "\u0345"
"""The one character of the last combining class, 240."""
_CODES, _PAIRS, _NOT_APART = 0x30000, 2048, 0xFFFF
_LETTER, _NUMBER, _SPACE = 1, 2, 3
_SURE, _PLAIN, _MAPPED, _BEGINS, _WORD, _BLANK = 4, 8, 16, 32, 64, 128
"""Traits, as `native/text.h` has them."""


@dataclass(frozen=True)
class Traits:
    """What the native functions know of characters; in a text with others, the reference is asked.

    `native/text.h` says what is in the arrays.
    """

    traits: NDArray[np.uint8]
    combining: NDArray[np.uint8]
    mapping: NDArray[np.uint16]
    mapped_offsets: NDArray[np.int32]
    mapped_content: NDArray[np.uint32]
    apart: NDArray[np.uint16]
    apart_offsets: NDArray[np.int32]
    apart_content: NDArray[np.uint32]
    pairs: NDArray[np.uint64]
    pairs_made: NDArray[np.uint32]


@cache
def word_kinds() -> NDArray[np.uint8]:
    """[KNOWN + 1] for each code point: white space, part of a spaced word, or other."""
    kinds = np.zeros(KNOWN + 1, np.uint8)
    kinds[_of_categories("LMN")] = WORD
    kinds[[ord(character) for character in "'’_"]] = WORD
    for low, high in _UNSPACED:
        kinds[low : high + 1][kinds[low : high + 1] == WORD] = OTHER
    kinds[_white_space()] = SPACE
    return kinds


@lru_cache(1 << 16)
def begins_piece(character: str) -> bool:
    """Whether normalization can't reach across where a character begins.

    NFKC of a text is the NFKC of its pieces, one after the other, when each piece begins with a
    character that neither reorders nor composes with what stands before (Unicode UAX #15).
    """
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.combining(first) == 0 and first not in _composing()


@cache
def traits() -> Traits:
    """The traits of all characters of which Python and the reference agree.

    Both have tables of Unicode, of different versions, which differ in characters that were added
    or, rarely, changed. So the reference is asked what it takes for a letter, a number or white
    space, and for the NFKC of characters that have another one. The rest never changes: Unicode
    promises that a character's NFKC and combining class stay, and one that only Python knows is
    to the reference one that does nothing.
    """
    found, combining = np.zeros(_CODES, np.uint8), np.zeros(_CODES, np.uint8)
    space = np.setdiff1d(_white_space(), range(0x1C, 0x20))
    letters, numbers = _of_categories("L"), _of_categories("N")
    others = np.setdiff1d(_of_categories("MPSZC", but=(b"Cn", b"Cs")), space, True)

    long_known = np.concatenate([np.arange(low, high + 1) for low, high in _LONG_KNOWN])
    asked = np.concatenate(
        [np.setdiff1d(letters, long_known, assume_unique=True), long_known[::97]]
    )
    for kind, codes, like in (
        (_LETTER, asked, "a"),
        (_NUMBER, numbers, "1"),
        (_SPACE, space, "\n"),
        (0, others, "!"),
    ):
        found[_alike(codes, like)] = kind | _SURE
    found[long_known] = _LETTER | _SURE if found[long_known[::97]].all() else 0

    for code in _of_categories("M"):
        combining[code] = unicodedata.combining(chr(code))
    decomposed = _decomposed()
    own = [unicodedata.normalize("NFKC", chr(code)) for code in decomposed]
    reference = normalizers.NFKC().normalize_str("\n".join(map(chr, decomposed))).split("\n")

    found[(found & _SURE) != 0] |= _PLAIN | _BEGINS
    found[combining > 0] &= ~np.uint8(_BEGINS)
    found[[ord(character) for character in _composing()]] &= ~np.uint8(_BEGINS)
    mapping = np.zeros(_CODES, np.uint16)
    mapped: list[str] = []
    agreed = []
    for code, ours, theirs in zip(decomposed, own, reference, strict=True):
        found[code] &= ~np.uint8(_PLAIN | _BEGINS)
        if ours != theirs:
            continue
        agreed.append(code)
        if begins_piece(chr(code)):
            found[code] |= _BEGINS
        if ours == chr(code):
            found[code] |= _PLAIN if found[code] & _SURE else 0
        else:
            found[code] |= _MAPPED
            mapping[code] = len(mapped)
            mapped.append(ours)
    found[[ord(character) for character in _composing() | _seconds()]] &= ~np.uint8(_PLAIN)
    apart, parts, pairs = _composition(found, combining, agreed)
    kinds = word_kinds()
    found[:KNOWN][kinds[:KNOWN] == WORD] |= _WORD
    found[:KNOWN][kinds[:KNOWN] == SPACE] |= _BLANK
    return Traits(
        traits=found,
        combining=combining,
        mapping=mapping,
        mapped_offsets=_offsets(mapped),
        mapped_content=_content(mapped),
        apart=apart,
        apart_offsets=_offsets(parts),
        apart_content=_content(parts),
        pairs=np.array([*pairs] + [(1 << 64) - 1] * (_PAIRS - len(pairs)), np.uint64),
        pairs_made=np.array([*pairs.values()] + [0] * (_PAIRS - len(pairs)), np.uint32),
    )


def _composition(
    found: NDArray[np.uint8], combining: NDArray[np.uint8], decomposed: Sequence[int]
) -> tuple[NDArray[np.uint16], list[str], dict[int, int]]:
    """How characters are taken apart, and which pairs compose.

    Marks that only Python knows are not taken apart: to the reference they are not in any order.
    It is asked whether it moves them before a mark of the last class but one.
    """
    normalize = normalizers.NFKC().normalize_str
    apart = np.where(found & _SURE, 0, _NOT_APART).astype(np.uint16)
    apart[[*_decomposed()]] = _NOT_APART
    parts = [unicodedata.normalize("NFKD", chr(code)) for code in decomposed]
    apart[decomposed] = np.arange(1, len(decomposed) + 1)
    marks = [chr(code) for code in np.flatnonzero(combining).tolist() if chr(code) != _LAST_MARK]
    given = normalize("\n".join(f"a{_LAST_MARK}{mark}" for mark in marks)).split("\n")
    for mark, moved in zip(marks, given, strict=True):
        if moved.endswith(mark) or moved != unicodedata.normalize("NFKC", f"a{_LAST_MARK}{mark}"):
            apart[ord(mark)] = _NOT_APART
    pairs = {}
    for code, names in _decomposed().items():
        if len(names) == 2 and not names[0].startswith("<"):
            first, second = (int(name, 16) for name in names)
            if unicodedata.normalize("NFC", chr(first) + chr(second)) == chr(code):
                pairs[first << 32 | second] = code
    texts = [chr(pair >> 32) + chr(pair & 0xFFFFFFFF) for pair in pairs]
    given = normalize("\n".join(texts)).split("\n")
    for text, code, theirs in zip(texts, pairs.values(), given, strict=True):
        if theirs != unicodedata.normalize("NFKC", chr(code)):
            apart[[*map(ord, text)]] = _NOT_APART
    return apart, parts, dict(sorted(pairs.items()))


def _offsets(texts: Sequence[str]) -> NDArray[np.int32]:
    return np.cumsum([0, *map(len, texts)]).astype(np.int32)


def _content(texts: Sequence[str]) -> NDArray[np.uint32]:
    return np.array([ord(character) for character in "".join(texts)], np.uint32)


def _alike(codes: Sequence[int] | NDArray[np.int64], like: str) -> NDArray[np.int64]:
    """The characters that the reference's pre-tokenizer takes for the same kind as `like`."""
    text = like.join(map(chr, codes))
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    odd = [start // 2 for _, (start, end) in pieces if end - start == 1]  # not joined to `like`
    return np.delete(np.asarray(codes, np.int64), odd)


@cache
def _categories() -> NDArray[np.bytes_]:
    """[KNOWN] the general category of each code point."""
    names = "".join(map(unicodedata.category, map(chr, range(KNOWN))))
    return np.frombuffer(names.encode(), "S2")


def _of_categories(first: str, *, but: Sequence[bytes] = ()) -> NDArray[np.int64]:
    """The code points of categories that begin with some letter."""
    names = _categories()
    major = names.view("S1")[::2]
    wanted = np.isin(major, [letter.encode() for letter in first])
    return np.flatnonzero(wanted & ~np.isin(names, but))


def _white_space() -> list[int]:
    return [code for code in range(0x3001) if chr(code).isspace()]


@cache
def _decomposed() -> dict[int, list[str]]:
    """Python's decompositions, in its own notation, but for those of Hangul syllables."""
    codes = (
        *range(0x3400),
        *range(0xA000, 0xAC00),
        *range(0xF900, KNOWN),
        *range(0x2F800, 0x2FA20),
    )
    return {
        code: parts.split() for code in codes if (parts := unicodedata.decomposition(chr(code)))
    }


@cache
def _composing() -> frozenset[str]:
    """Starters that may compose with the character before: vowel signs, Hangul jamo."""
    found = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    return frozenset(found | {c for c in _seconds() if unicodedata.combining(c) == 0})


def _seconds() -> set[str]:
    """Characters that end a canonical decomposition."""
    return {
        chr(int(parts[1], 16))
        for parts in _decomposed().values()
        if len(parts) == 2 and not parts[0].startswith("<")
    }
