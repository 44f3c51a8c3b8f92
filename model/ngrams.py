"""The n-gram expert: a linear model over hashed n-grams, whose log-odds go beside the network's.

It reads what the network reads: a text's tokens. Their bytes, one after the other, are the text
after NFKC, and its n-grams are

- of 1 to 4 characters: code points, in simple lower case below U+3000. A character that was cut
  off with the text is U+FFFD.
- of 1 and 2 tokens, by their ids.

An n-gram of the symbols s₁ … sₙ has the hash hₙ of 32 bits, where all products are modulo 2³²:

    h₀ = 0x243F6A88 for characters, 0x85A308D3 for tokens
    hᵢ = x ^ (x >> 15), x = (hᵢ₋₁ ^ sᵢ) · 0x9E3779B1

so all n-grams that begin at a symbol take one pass. Its highest bits are its bucket, its lowest
eight are its tag. A bucket belongs to one n-gram, the most frequent of the training texts (as in
a cache that is addressed directly): an n-gram with another tag than its bucket's is not known, and
counts for nothing. So rare n-grams, which are most of those there are, do not blur the frequent
ones, as they do where all share buckets (Weinberger et al. 2009).

For each column, the answer is bias + scale · (Σ table[bucket] / √m) in double precision: a sum of
8-bit integers over the m known n-grams of the text, each as often as it stands there (m is 1 where
there is none). Columns are outputs, but for two labels, which share one: half of it against the
first, half for the second. Sums of integers have no order: an answer depends on the text and the
arrays alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown
from glossator.model.native import library as native
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer, Tokens, slices
from glossator.model.weights import Arrays, Types

MIN_BITS, MAX_BITS = 8, 22
"""Of a bucket's number."""
CHARACTERS, TOKENS = 4, 2
"""The longest n-grams of each."""
_SEEDS = (0x243F6A88, 0x85A308D3)  # digits of pi
_MULTIPLIER = np.uint32(0x9E3779B1)  # 2³² over the golden ratio: Knuth's multiplicative hashing
_LOWERED = 0x3000
_REPLACEMENT = 0xFFFD
MAX_BYTES = 1 << 28
"""Of the tables of all tasks."""
_BLOCK = 1 << 14
"""Tokens that are hashed together: what is made of them stays in the processor's cache."""


def columns(task: Task) -> int:
    """Numbers that the expert gives for a text."""
    return task.rules.columns(task.labels)


def array_types(bits: int, tasks: Sequence[Task]) -> Types:
    """The type and shape of every array of an expert, by its name in `ngrams.safetensors`.

    Args:
        bits: of a bucket's number; 0 where there is no expert.
        tasks: those that it answers for.

    Raises:
        UsageError: there is no such expert, or it would be too large.
    """
    if not bits and not tasks:
        return {}
    if type(bits) is not int or not MIN_BITS <= bits <= MAX_BITS or not tasks:
        raise UsageError(
            f"ngrams: {shown(bits)} bits for {len(tasks)} tasks; an expert has {MIN_BITS} to "
            f"{MAX_BITS} bits and a task at least whose calibration gives it a weight"
        )
    if (size := sum(map(columns, tasks)) << bits) > MAX_BYTES:
        raise UsageError(f"ngrams: tables of {size:,} bytes are more than {MAX_BYTES:,}")
    types: dict[str, tuple[str, tuple[int, ...]]] = {"tags": ("U8", (1 << bits,))}
    for task in tasks:
        width = columns(task)
        types[f"{task.name}.table"] = ("I8", (1 << bits, width))
        types[f"{task.name}.scale"] = ("F32", (width,))
        types[f"{task.name}.bias"] = ("F32", (width,))
    return types


def bits_of(arrays: Arrays) -> int:
    """Of a bucket's number; 0 where there is no expert."""
    return len(arrays["tags"]).bit_length() - 1 if arrays else 0


def only(arrays: Arrays, tasks: Sequence[Task]) -> dict[str, NDArray[Any]]:
    """The arrays of some tasks; none of no tasks."""
    return {name: arrays[name] for name in array_types(bits_of(arrays) if tasks else 0, tasks)}


class Grams(NamedTuple):
    """The n-grams that begin at each of s symbols, of 1 to N symbols."""

    hashes: NDArray[np.uint32]
    """[s, N]"""
    inside: NDArray[np.bool_]
    """[s, N] whether the text goes on for so long; other hashes mean nothing."""
    offsets: NDArray[np.int64]
    """[n + 1]: text i has the symbols `offsets[i]:offsets[i + 1]`."""


class Reader:
    """Makes n-grams of the tokens of a vocabulary. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.content = tokenizer.content()

    def blocks(self, tokens: Tokens) -> Iterator[tuple[int, int, tuple[Grams, Grams]]]:
        """The n-grams of texts, each with at least one token, in parts of bounded size.

        Yields:
            The first text of a part, the one behind its last, their n-grams of characters and
            those of tokens.
        """
        for first, last in slices(tokens.lengths.tolist(), _BLOCK):
            part = tokens.part(first, last)
            characters, offsets = self._characters(part)
            ids = part.ids.astype(np.uint32)
            yield (
                first,
                last,
                (
                    _grams(characters, offsets, CHARACTERS, _SEEDS[0]),
                    _grams(ids, part.offsets, TOKENS, _SEEDS[1]),
                ),
            )

    def _characters(self, tokens: Tokens) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The lower-cased code points of texts, one after the other, and where each text begins."""
        start, end = self.content.offsets[tokens.ids], self.content.offsets[tokens.ids + 1]
        lengths = end - start
        ends = np.concatenate([[0], np.cumsum(lengths)])
        content = self.content.content[np.repeat(end - ends[1:], lengths) + np.arange(ends[-1])]
        at = np.flatnonzero((content & 0xC0) != 0x80)
        offsets = np.searchsorted(at, ends[tokens.offsets])
        size = np.diff(at, append=len(content))  # the next text begins with a character
        padded = np.concatenate([content, np.zeros(3, np.uint8)]).astype(np.uint32)
        first, *others = (padded[at + i] for i in range(4))
        second, third, fourth = (byte & 0x3F for byte in others)
        two = (first & 0x1F) << 6 | second
        three = (first & 0x0F) << 12 | second << 6 | third
        four = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
        needed = 1 + (first >= 0xC0).astype(np.int64) + (first >= 0xE0) + (first >= 0xF0)
        points = np.choose(needed - 1, [first, two, three, four])
        points[size < needed] = _REPLACEMENT
        low = points < _LOWERED
        points[low] = _lower_case()[points[low]]
        return points, offsets


def _grams(
    symbols: NDArray[np.uint32], offsets: NDArray[np.int64], longest: int, seed: int
) -> Grams:
    count = len(symbols)
    left = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(count)
    hashes = np.empty((count, longest), np.uint32)
    state = np.full(count, seed, np.uint32)
    for n in range(min(longest, count)):
        state = state[: count - n]
        state = (state ^ symbols[n:]) * _MULTIPLIER
        state ^= state >> np.uint32(15)
        hashes[: count - n, n] = state
    return Grams(hashes, left[:, None] > np.arange(longest), offsets)


@cache
def _lower_case() -> NDArray[np.uint32]:
    """The lower case of each code point below `_LOWERED`, where that is one character."""
    lower = (chr(code).lower() for code in range(_LOWERED))
    return np.array(
        [ord(text) if len(text) == 1 else code for code, text in enumerate(lower)], np.uint32
    )


def buckets(hashes: NDArray[np.uint32], bits: int) -> NDArray[np.int64]:
    """The bucket of each hash: its highest bits."""
    return (hashes >> np.uint32(32 - bits)).astype(np.int64)


def tags(hashes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The tag of each hash: its lowest eight bits."""
    return hashes.astype(np.uint8)


class Ngrams:
    """An expert made ready to answer for some tasks. Safe to share between threads."""

    def __init__(self, arrays: Arrays, tokenizer: Tokenizer, tasks: Sequence[Task]) -> None:
        """Lays out the tables of the tasks as one.

        Args:
            arrays: those of `array_types`, maybe of more tasks.
            tokenizer: the one whose tokens it was fitted on.
            tasks: those to answer for.
        """
        self.tasks = tuple(tasks)
        self._reader = Reader(tokenizer)
        self._tags = np.ascontiguousarray(arrays["tags"], np.uint8)
        self._bits = bits_of(arrays)
        self._scale = _joined(arrays, tasks, "scale").astype(np.float64)
        self._bias = _joined(arrays, tasks, "bias").astype(np.float64)
        self._table = np.concatenate([arrays[f"{task.name}.table"] for task in tasks], 1)
        self._native = self._described() if native.built() else None

    def logits(self, tokens: Tokens) -> dict[str, NDArray[np.float64]]:
        """[n, outputs] of texts, each with at least one token, by task.

        They are what the network's logits are: log-odds, or deviations of a regression.
        """
        sums = self._sums(tokens)
        known = np.maximum(sums[:, -1:], 1).astype(np.float64)
        values = self._bias + self._scale * (sums[:, :-1] / np.sqrt(known))
        result, at = {}, 0
        for task in self.tasks:
            width = columns(task)
            result[task.name] = values[:, at : at + width] * task.rules.spread(task.labels)
            at += width
        return result

    def _described(self) -> native.Expert:
        """The arrays as the native library takes them; they are kept by what made this."""
        self._lower, content = _lower_case(), self._reader.content
        arrays = (self._tags, self._table, content.content, content.offsets, self._lower)
        sizes = self._bits, self._table.shape[1], len(content.offsets) - 1
        return native.Expert(*sizes, *map(native.address, arrays))

    def _sums(self, tokens: Tokens) -> NDArray[np.int32]:
        """[n, columns + 1] the sum of the rows of each text's n-grams, and how many are known."""
        if self._native:
            return native.ngram_sums(self._native, tokens.ids, tokens.offsets)
        return self.sums_by_numpy(tokens)

    def sums_by_numpy(self, tokens: Tokens) -> NDArray[np.int32]:
        """The same without the native library."""
        sums = np.zeros((len(tokens), self._table.shape[1] + 1), np.int32)
        for first, last, kinds in self._reader.blocks(tokens):
            for grams in kinds:
                bucket = buckets(grams.hashes, self._bits)
                known = grams.inside & (self._tags[bucket] == tags(grams.hashes))
                rows = np.zeros((*known.shape, sums.shape[1]), np.int8)
                rows[known, :-1], rows[known, -1] = self._table[bucket[known]], 1
                starts = grams.offsets[:-1]
                rows = rows.sum(axis=1, dtype=np.int16)
                sums[first:last] += np.add.reduceat(rows, starts, axis=0, dtype=np.int32)
        return sums


def _joined(arrays: Arrays, tasks: Sequence[Task], part: str) -> NDArray[Any]:
    return np.concatenate([arrays[f"{task.name}.{part}"] for task in tasks])
