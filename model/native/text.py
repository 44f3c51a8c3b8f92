"""The native functions over texts, where they were built: tokens, spans, words.

They take no Python object a text and let other threads run. Each gives what the plain code beside
its caller gives; texts with characters that they are not sure of are left to that code.
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import fields
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model import characters
from glossator.model.native import library as native
from glossator.model.texts import Texts

_MOST_IDS = 1 << 20
"""Tokens that one call makes room for, if a text needs no more: 4 MiB."""
_NO_MEMORY = -2

_POINTER, _INT32, _INT64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_BYTES, _IDS, _PLACES, _FLOATS, _DOUBLES = (
    np.ctypeslib.ndpointer(kind, ndim=1, flags="C_CONTIGUOUS")
    for kind in (np.uint8, np.int32, np.int64, np.float32, np.float64)
)
_TEXTS = (_BYTES, _INT64, _PLACES, _INT64)
"""Content, its size, offsets, and how many."""
_FUNCTIONS = {
    "bpe_new": (_POINTER, (_POINTER, *_TEXTS, _IDS, _IDS, _IDS, _IDS, _INT64)),
    "bpe_free": (None, (_POINTER,)),
    "worker_new": (_POINTER, ()),
    "worker_free": (None, (_POINTER,)),
    "encode": (
        _INT64,
        (
            *(_POINTER, _POINTER, *_TEXTS, _INT64, _INT64, _INT32),
            *(_IDS, _INT64, _PLACES, _BYTES, _DOUBLES),
        ),
    ),
    "spans": (
        _INT64,
        (_POINTER, *_TEXTS, _INT64, _IDS, _INT64, _IDS, _INT64, *(_PLACES,) * 3, _BYTES),
    ),
    "units": (_INT64, (_POINTER, *_TEXTS, _PLACES, _INT64, *(_PLACES,) * 6)),
    "heaviest": (
        _INT64,
        (
            *(_PLACES, _INT64, _INT64, _PLACES, _PLACES, _PLACES, _FLOATS, _INT64, _INT64),
            *(_DOUBLES, _PLACES, _IDS, _IDS, _FLOATS),
        ),
    ),
}
"""What each function returns and takes, in the order of its C."""


class Encoded(NamedTuple):
    """The tokens of n texts."""

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    """[n]"""
    left: NDArray[np.bool_]
    """[n] whether a text is left to the reference; it has no tokens here."""
    normalizing: float
    """Seconds that their normal form took."""


class _Tables(ctypes.Structure):
    _fields_ = tuple((field.name, ctypes.c_void_p) for field in fields(characters.Traits))


class Functions:
    """The native functions, and what they know of characters."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._known = characters.traits()  # what the tables point into
        self._tables = _Tables(*(array.ctypes.data for array in vars(self._known).values()))
        self.tables = ctypes.addressof(self._tables)
        self._functions = {}
        for name, (gives, takes) in _FUNCTIONS.items():
            function = getattr(library, f"glossator_{name}")
            function.restype, function.argtypes = gives, takes
            self._functions[name] = function

    def call(self, name: str, *arguments: object) -> int:
        """Calls a function; what it returns.

        Raises:
            MemoryError: there is none.
            ValueError: offsets, ids or UTF-8 are no such.
        """
        found = self._functions[name](*arguments)
        if found is None or found >= 0:
            return found or 0
        if found == _NO_MEMORY:
            raise MemoryError(f"no memory in {name}")
        raise ValueError(f"{name}: texts, tokens and offsets do not belong together")

    def made(self, name: str, *arguments: object) -> int:
        """A pointer to what a function makes; as `call`."""
        found = self.call(name, *arguments)
        if not found:
            raise MemoryError(f"no memory in {name}")
        return found


@cache
def library() -> Functions | None:
    """None where they were not built."""
    found = native.loaded()
    return Functions(found) if found else None


class Encoder:
    """A byte-level BPE. Safe to share between threads."""

    def __init__(self, library: Functions, content: Texts, merges: NDArray[np.int32]) -> None:
        """Made once.

        Args:
            library: the functions.
            content: the bytes of each token, in the order of ids.
            merges: [3, m] left, right and the token that they make, the first to be applied first.
        """
        self._library = library
        left, right, made = np.ascontiguousarray(merges, np.int32)
        single = np.flatnonzero(content.sizes == 1)
        byte_ids = np.zeros(256, np.int32)
        byte_ids[content.content[content.offsets[single]]] = single
        vocabulary = (*_arguments(content), byte_ids)
        self._bpe = library.made(
            "bpe_new", library.tables, *vocabulary, left, right, made, len(left)
        )
        weakref.finalize(self, library.call, "bpe_free", self._bpe).atexit = False
        self._workers: list[int] = []
        """Memory of threads that are not at work now."""

    def encode(
        self, texts: Texts, max_chars: int, max_tokens: int, *, normalized: bool = False
    ) -> Encoded:
        """The first tokens of each text.

        Args:
            texts: n texts.
            max_chars: characters of a text that are read.
            max_tokens: tokens of a text that are kept.
            normalized: whether they are in NFKC.
        """
        lengths, left = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.uint8)
        parts, seconds = [np.empty(0, np.int32)], np.zeros(1)
        room = max(max_tokens, min(_MOST_IDS, int(texts.sizes.sum())))
        worker, first = self._worker(), 0
        while first < len(texts):
            ids = np.empty(room, np.int32)
            given = (*_arguments(texts.part(first, len(texts))), max_chars, max_tokens, normalized)
            made = (ids, room, lengths[first:], left[first:], seconds)
            count = self._library.call("encode", self._bpe, worker, *given, *made)
            parts.append(ids[: lengths[first : first + count].sum()])
            first += count
        self._workers.append(worker)
        ids = parts[1] if len(parts) == 2 else np.concatenate(parts)
        return Encoded(ids, lengths, left > 0, float(seconds[0]))

    def _worker(self) -> int:
        try:
            return self._workers.pop()
        except IndexError:
            made = self._library.made("worker_new")
            weakref.finalize(self, self._library.call, "worker_free", made).atexit = False
            return made


def spans(
    library: Functions,
    texts: Texts,
    max_chars: int,
    sizes: NDArray[np.int32],
    ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Where tokens stand: starts, ends, and which texts are left to the reference.

    Args:
        library: the functions.
        texts: n texts.
        max_chars: characters of a text that were read.
        sizes: [V] bytes of each token.
        ids: [t] the tokens of all texts.
        offsets: [n + 1] those of each text.
    """
    start, end = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
    left = np.zeros(len(texts), np.uint8)
    given = (*_arguments(texts), max_chars, sizes, len(sizes), ids, len(ids), offsets)
    library.call("spans", library.tables, *given, start, end, left)
    return start, end, left > 0


def units(
    library: Functions,
    texts: Texts,
    offsets: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The fields of `Units`.

    Args:
        library: the functions.
        texts: n texts.
        offsets: [n + 1] the tokens of each text.
        start: [t] of each token.
        end: [t] of each token.
    """
    unit_offsets = np.zeros(len(texts) + 1, np.int64)
    unit_start, unit_end, of_token = (np.empty(len(start), np.int64) for _ in range(3))
    given = (*_arguments(texts), offsets, len(start), start, end)
    made = (unit_offsets, unit_start, unit_end, of_token)
    count = library.call("units", library.tables, *given, *made)
    return unit_offsets, unit_start[:count], unit_end[:count], of_token


def heaviest(
    library: Functions,
    offsets: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    of_token: NDArray[np.int64],
    weights: NDArray[np.float32],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """The fields of `Words`, from those of `Units` and the weight of each token."""
    texts, most = len(offsets) - 1, min(len(start), count * (len(offsets) - 1))
    word_offsets = np.zeros(texts + 1, np.int64)
    word_start, word_end = np.empty(most, np.int32), np.empty(most, np.int32)
    word_weight = np.empty(most, np.float32)
    given = (offsets, texts, len(start), start, end, of_token, weights, len(of_token), count)
    made = (np.empty(len(start)), word_offsets, word_start, word_end, word_weight)
    found = library.call("heaviest", *given, *made)
    return word_offsets, word_start[:found], word_end[:found], word_weight[:found]


def _arguments(texts: Texts) -> tuple[object, ...]:
    return texts.content, len(texts.content), texts.offsets, len(texts)
