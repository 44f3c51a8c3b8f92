"""What spoke for an answer, in words: the few that weigh most, as they stand in the text.

Where a script has spaces, a word's tokens are added up; elsewhere (Chinese, Japanese, Thai) the
token itself is the unit, widened to whole characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glossator.model.characters import KNOWN, SPACE, WORD, word_kinds
from glossator.model.native import text as native_text
from glossator.model.texts import Texts, strings
from glossator.model.tokenizer import Spans, Tokens

MAX_TOKENS = 1 << 15
"""Tokens of a text, at most: a unit's number has 15 bits."""
_MAX_TEXTS = 1 << 17


@dataclass(frozen=True)
class Units:
    """The words (or, without spaces, the tokens) of n texts: what weights are added up for."""

    offsets: NDArray[np.int64]
    """[n + 1]: text i has the units `offsets[i]:offsets[i + 1]`."""
    start: NDArray[np.int64]
    """[u] first character in the text."""
    end: NDArray[np.int64]
    """[u] behind the last character."""
    of_token: NDArray[np.int64]
    """[t] the unit that a token belongs to; -1 where it is nothing but white space."""


@dataclass(frozen=True)
class Words:
    """The words of n texts that weigh most for one task, heaviest first in each text."""

    offsets: NDArray[np.int64]
    """[n + 1]: text i has the words `offsets[i]:offsets[i + 1]`."""
    start: NDArray[np.int32]
    """[w] first character in the text."""
    end: NDArray[np.int32]
    """[w] behind the last character."""
    weight: NDArray[np.float32]
    """[w] the sum of its tokens' shares, above 0 and up to 1."""


def units(texts: Sequence[str] | Texts, tokens: Tokens, spans: Spans) -> Units:
    """Groups the tokens of each text into words."""
    library = native_text.library()
    if library is None:
        return _units(strings(texts), tokens, spans)
    found = native_text.units(library, Texts.of(texts), tokens.offsets, spans.start, spans.end)
    return Units(*found)


def _units(texts: Sequence[str], tokens: Tokens, spans: Spans) -> Units:
    code = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    kind = word_kinds()[np.minimum(code, KNOWN)]
    shift = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=shift[1:])
    text_of = np.repeat(np.arange(len(texts)), tokens.lengths)
    start, end = spans.start + shift[text_of], spans.end + shift[text_of]

    start, end = _trim(kind == SPACE, start, end)
    kept = np.flatnonzero(start < end)
    start, end, text_of = start[kept], end[kept], text_of[kept]
    begins = np.ones(len(kept), bool)
    if len(kept) > 1:
        left_end, right_start = end[:-1], start[1:]
        overlap = right_start < left_end
        joined = (right_start == left_end) & (kind[left_end - 1] == WORD)
        joined &= kind[right_start] == WORD
        begins[1:] = ~(overlap | joined) | (text_of[1:] != text_of[:-1])

    unit = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    of_token = np.full(len(tokens.ids), -1, np.int64)
    of_token[kept] = unit
    unit_text = text_of[first]
    unit_end = np.maximum.reduceat(end, first) if len(first) else end[:0]
    return Units(
        offsets=np.searchsorted(unit_text, np.arange(len(texts) + 1)),
        start=start[first] - shift[unit_text],
        end=unit_end - shift[unit_text],
        of_token=of_token,
    )


def no_words(count: int) -> Words:
    """So many texts without a word."""
    nowhere = np.zeros(0, np.int32)
    return Words(np.zeros(count + 1, np.int64), nowhere, nowhere, np.zeros(0, np.float32))


def joined(parts: Sequence[Words]) -> Words:
    """The words of the texts of all parts, one part after the other."""
    counts = [np.diff(part.offsets) for part in parts]
    return Words(
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(counts))]),
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
    )


def heaviest(found: Units, weights: NDArray[np.float32], count: int) -> Words:
    """The `count` heaviest units of each text, of those that have any weight.

    Of equal weights the earlier one is first.

    Args:
        found: the units of n texts.
        weights: [t] one task's weight for each token, each text's summing to 1.
        count: how many to keep of a text.
    """
    library = native_text.library()
    if library is None:
        return _heaviest(found, weights, count)
    fields = (found.offsets, found.start, found.end, found.of_token)
    return Words(*native_text.heaviest(library, *fields, weights, count))


def _heaviest(found: Units, weights: NDArray[np.float32], count: int) -> Words:
    seen = found.of_token >= 0
    total = np.bincount(found.of_token[seen], weights[seen], minlength=len(found.start))
    weight = total.astype(np.float32)
    sizes = np.diff(found.offsets)
    text = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(text)) - np.repeat(found.offsets[:-1], sizes)
    # One sort of one integer a unit: text, then weight downwards (a positive float's bits grow
    # with it), then place. 17 + 31 + 15 bits.
    if len(sizes) > _MAX_TEXTS or (sizes.size and sizes.max() > MAX_TOKENS):
        raise ValueError(f"too many texts ({len(sizes)}) or words in a text for one call")
    falling = (1 << 31) - 1 - weight.view(np.uint32).astype(np.int64)
    order = np.sort((text << 46) | (falling << 15) | place)
    weighty = np.concatenate([[0], np.cumsum(weight > 0)])
    keep = np.minimum(np.diff(weighty[found.offsets]), count)
    offsets = np.concatenate([[0], np.cumsum(keep)])
    rank = np.arange(offsets[-1]) - np.repeat(offsets[:-1], keep)
    chosen = order[np.repeat(found.offsets[:-1], keep) + rank]
    unit = np.repeat(found.offsets[:-1], keep) + (chosen & (MAX_TOKENS - 1))
    return Words(
        offsets=offsets,
        start=found.start[unit].astype(np.int32),
        end=found.end[unit].astype(np.int32),
        weight=weight[unit],
    )


def _trim(
    space: NDArray[np.bool_], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Takes white space off both ends of spans; a span of nothing else ends up empty."""
    if not len(space):
        return start, end
    place = np.arange(len(space), dtype=np.int32)  # four of them: half of the memory
    nowhere = np.int32(len(space))
    following = np.minimum.accumulate(np.where(space, nowhere, place)[::-1])[::-1]
    preceding = np.maximum.accumulate(np.where(space, np.int32(-1), place))
    return np.minimum(following[start], end), np.maximum(preceding[end - 1] + 1, start)
