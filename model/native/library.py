"""The compiled library: found, asked what this machine can do, and called.

It is a plain shared library without a line of Python's interface, built with the package where
there is a C compiler; calls into it hold no lock of Python's.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTHS = ("portable", "avx2", "avx512", "neon")
"""Of the library, in its order."""
_PREFERRED = ("avx512", "avx2", "neon")
"""On which machine what is fast; portable code that has to make up for a missing fused
multiply-add is slower than torch."""
_ERRORS = ("", "no such width here", "sizes", "texts", "a token id outside of the vocabulary")
_int64 = ctypes.c_int64
_pointer = ctypes.c_void_p


class Head(ctypes.Structure):
    """`struct head` of native.h."""

    _fields_ = [
        ("outputs", _int64),
        ("width", _int64),
        ("weights", _pointer),
        ("bias", _pointer),
        ("constant", _pointer),
        ("by_attended", _pointer),
    ]


class Network(ctypes.Structure):
    """`struct network` of native.h."""

    _fields_ = [
        *(
            (name, _int64)
            for name in (
                *("cell", "vocabulary", "hidden", "units", "attention", "projections", "tasks"),
                *("task_width", "minimum", "pooled"),
            )
        ),
        *(
            (name, _pointer)
            for name in (
                *("table", "before", "nothing", "recurrent", "new_bias", "projection"),
                *("projection_bias", "queries", "present"),
            )
        ),
        ("heads", ctypes.POINTER(Head)),
    ]


class Expert(ctypes.Structure):
    """`struct expert` of native.h."""

    _fields_ = [
        *((name, _int64) for name in ("bits", "columns", "vocabulary")),
        *((name, _pointer) for name in ("tags", "table", "content", "starts", "lower")),
    ]


class Request(ctypes.Structure):
    """`struct request` of native.h."""

    _fields_ = [("count", _int64), ("tasks", _pointer), ("wanted", _pointer)]


class Selection(ctypes.Structure):
    """`struct texts` of native.h."""

    _fields_ = [
        ("count", _int64),
        ("rows", _pointer),
        ("many", _int64),
        ("tokens", _int64),
        ("ids", _pointer),
        ("offsets", _pointer),
    ]


class Results(ctypes.Structure):
    """`struct results` of native.h."""

    _fields_ = [
        ("room", _int64),
        ("longest", _int64),
        *((name, _pointer) for name in ("states", "attention", "pools", "moments", "scratch")),
        *((name, _pointer) for name in ("logits", "leaning", "weights", "entropy", "seconds")),
    ]


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers lie; it must be kept for as long as that is used."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def addresses(arrays: Sequence[NDArray[Any]]) -> Any:
    """A C array of their addresses."""
    return (_pointer * len(arrays))(*(address(array) for array in arrays))


class Kernels:
    """The library's arithmetic at one width of vectors."""

    def __init__(self, width: str) -> None:
        """Takes a width that `widths` has."""
        self.width = width
        self._code = WIDTHS.index(width)
        library = loaded()
        assert library
        self._library = library
        self.lanes = int(library.glossator_lanes(self._code))
        """Floats of a vector."""

    @property
    def panel(self) -> int:
        """Columns of a matrix that are computed together."""
        return 2 * self.lanes

    def filled(self, columns: int) -> int:
        """So many columns as whole panels."""
        return columns + -columns % self.panel

    def packed(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N / panel, K, panel] of [K, N] weights, whose columns fill panels."""
        depth, columns = weights.shape
        panels = weights.reshape(depth, columns // self.panel, self.panel)
        return np.ascontiguousarray(panels.transpose(1, 0, 2), np.float32)

    def affine(
        self, x: NDArray[np.float32], weights: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """[R, N] bias + x · weights, of [R, K] and [K, N], each sum in the order of K."""
        columns = weights.shape[1]
        fill = self.filled(columns) - columns
        panels = self.packed(np.pad(weights, ((0, 0), (0, fill))))
        rows, result = np.ascontiguousarray(x, np.float32), _empty(len(x), columns + fill)
        filled = np.pad(bias, (0, fill)).astype(np.float32)
        sizes, memory = (*rows.shape, columns + fill), (panels, filled, result)
        self._call("affine", address(rows), *sizes, *map(address, memory))
        return np.ascontiguousarray(result[:, :columns])

    def scratch(self, network: Network, longest: int) -> NDArray[np.float32]:
        """Working memory of a call for texts of so many tokens at most."""
        count = self._library.glossator_scratch(ctypes.byref(network), longest)
        return np.empty(count, np.float32)

    def score(self, network: Network, asked: Request, texts: Selection, results: Results) -> None:
        """The logits of texts; raises `ValueError` of what can't be."""
        self._call("score", *map(ctypes.byref, (network, asked, texts, results)))

    def contribute(
        self, network: Network, asked: Request, texts: Selection, results: Results
    ) -> None:
        """How much each token contributed to what `score` gave."""
        self._call("contribute", *map(ctypes.byref, (network, asked, texts, results)))

    def _call(self, name: str, *arguments: Any) -> None:
        if wrong := getattr(self._library, f"glossator_{name}")(self._code, *arguments):
            raise ValueError(f"the native engine's {name}: {_ERRORS[wrong]}")


def ngram_sums(
    expert: Expert, ids: NDArray[np.int32], offsets: NDArray[np.int64]
) -> NDArray[np.int32]:
    """[n, columns + 1] an expert's sums of texts, and how many n-grams of each are known.

    Args:
        expert: its arrays.
        ids: of the tokens of all texts.
        offsets: [n + 1] where each text begins.
    """
    library = loaded()
    assert library
    ids, offsets = np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(offsets, np.int64)
    sums = np.empty((len(offsets) - 1, expert.columns + 1), np.int32)
    places = address(ids), len(ids), address(offsets), address(sums)
    if wrong := library.glossator_ngrams(ctypes.byref(expert), len(sums), *places):
        raise ValueError(f"the n-gram expert: {_ERRORS[wrong]}")
    return sums


def widths() -> tuple[str, ...]:
    """Those that this machine can compute with, the fastest first; none without the library."""
    library = loaded()
    if library is None:
        return ()
    order = (*_PREFERRED, "portable")
    return tuple(name for name in order if library.glossator_lanes(WIDTHS.index(name)))


def peak_gflops(seconds: float = 0.2) -> float:
    """Billions of float operations a second that one core can do, by multiply-adds alone."""
    library, rounds, unused = loaded(), 1 << 16, ctypes.c_float()
    if library is None:
        return 0.0
    code, best = WIDTHS.index(widths()[0]), 0.0
    ends = time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends:
        count = rounds * library.glossator_multiply_adds(code, rounds, ctypes.byref(unused))
        best = max(best, 2 * count / (time.perf_counter() - started))
    return best / 1e9


def built() -> bool:
    """Whether the library is there."""
    return loaded() is not None


def fast() -> bool:
    """Whether the library is there and this machine has vectors for it."""
    return any(name in _PREFERRED for name in widths())


def _empty(*shape: int) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)


def shared_library(path: Path) -> ctypes.CDLL | None:
    """A library that was built with the package, by its path without a suffix; None without it."""
    for suffix in EXTENSION_SUFFIXES:
        if (found := path.with_name(path.name + suffix)).exists():
            return ctypes.CDLL(str(found))
    return None


@cache
def loaded() -> ctypes.CDLL | None:
    """The library, if it was built."""
    library = shared_library(Path(__file__).parent / "_native")
    if library is None:
        return None
    library.glossator_lanes.argtypes = [_int64]
    library.glossator_affine.argtypes = [_int64, _pointer, *[_int64] * 3, *[_pointer] * 3]
    library.glossator_scratch.argtypes = [ctypes.POINTER(Network), _int64]
    for name in ("score", "contribute"):
        structures: tuple[type[ctypes.Structure], ...] = (Network, Request, Selection, Results)
        pointers: list[Any] = [ctypes.POINTER(structure) for structure in structures]
        getattr(library, f"glossator_{name}").argtypes = [_int64, *pointers]
    library.glossator_multiply_adds.argtypes = [_int64, _int64, _pointer]
    places: list[Any] = [_pointer, _int64, _pointer, _pointer]
    library.glossator_ngrams.argtypes = [ctypes.POINTER(Expert), _int64, *places]
    for name in ("lanes", "affine", "scratch", "score", "contribute", "ngrams", "multiply_adds"):
        getattr(library, f"glossator_{name}").restype = _int64
    return library
