"""Token vectors from text without labels: what a token's neighbours are, in few numbers.

A factorisation of the matrix of positive pointwise mutual information of tokens and their
neighbours, which is what skip-gram with negative sampling factorises too, implicitly (Levy &
Goldberg 2014), with the choices that Levy, Goldberg & Dagan 2015 found to matter: contexts
smoothed by a power of 0.75, near neighbours counted more, singular values under a root. Of some
million texts it takes seconds, and the same texts give the same vectors.

Shapes: V tokens in the vocabulary, E numbers for a token.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from glossator.model.tokenizer import Tokens

WINDOW = 5
"""Tokens to each side that count as neighbours; one at a distance d counts 1 - (d - 1) / 5."""
_SMOOTHING = 0.75
_OVERSAMPLING = 32
_ITERATIONS = 4
"""Of the randomised range finder (Halko, Martinsson & Tropp 2011)."""
_PAIRS = 1 << 24
"""Neighbours that are counted together: what bounds the memory."""


def token_vectors(tokens: Tokens, vocabulary: int, size: int, seed: int = 0) -> NDArray[np.float32]:
    """[V, E] a vector for each token; zero for a token that has no neighbours.

    Args:
        tokens: of the texts.
        vocabulary: V.
        size: E; if V is less, the rest of the numbers are zero.
        seed: of the random projection.
    """
    rows, columns, information = _positive_information(*_neighbours(tokens, vocabulary), vocabulary)
    vectors = np.zeros((vocabulary, size), np.float32)
    if not len(rows):
        return vectors
    rank = min(vocabulary, size + _OVERSAMPLING)
    with warnings.catch_warnings():  # that sparse tensors are new
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_coo_tensor(
            torch.from_numpy(np.stack([rows, columns])),
            torch.from_numpy(information),
            (vocabulary, vocabulary),
            check_invariants=False,
        ).to_sparse_csr()
    start = torch.randn(vocabulary, rank, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(matrix @ start)[0]
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(matrix @ basis)[0]
    small = basis.T @ (matrix @ basis)
    values, directions = torch.linalg.eigh((small + small.T) / 2)  # symmetric but for rounding
    largest = values.abs().argsort(descending=True, stable=True)[:size]
    found = (basis @ directions[:, largest]) * values[largest].abs().sqrt()
    vectors[:, : found.shape[1]] = found.numpy()
    return vectors


def _neighbours(tokens: Tokens, vocabulary: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of tokens as `lower * V + higher`, ascending, and how much they count."""
    pairs, weights = np.empty(0, np.int64), np.empty(0, np.float32)
    text = np.repeat(np.arange(len(tokens), dtype=np.int32), tokens.lengths)
    for first in range(0, len(text), _PAIRS):
        # the last neighbours of a stretch are those of the tokens that follow it
        stretch = slice(first, first + _PAIRS + WINDOW)
        found = list(_at_each_distance(tokens.ids[stretch], text[stretch], vocabulary))
        keys = np.concatenate([pairs, *(keys for keys, _ in found)])
        counts = np.concatenate([weights, *(counts for _, counts in found)])
        pairs, place = np.unique(keys, return_inverse=True)
        weights = np.bincount(place, counts, len(pairs)).astype(np.float32)
    return pairs, weights


def _at_each_distance(
    ids: NDArray[np.int32], text: NDArray[np.int32], vocabulary: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The pairs of the first tokens with those behind them, distance by distance.

    Args:
        ids: of a stretch, and of what follows it.
        text: to which text each belongs.
        vocabulary: V.
    """
    wide = ids.astype(np.int64)
    for distance in range(1, WINDOW + 1):
        stop = min(_PAIRS, len(ids) - distance)
        if stop <= 0:
            return
        same = text[:stop] == text[distance : distance + stop]
        one, other = wide[:stop][same], wide[distance : distance + stop][same]
        pairs = np.minimum(one, other) * vocabulary + np.maximum(one, other)
        keys, counts = np.unique(pairs, return_counts=True)
        yield keys, counts.astype(np.float32) * np.float32(1 - (distance - 1) / WINDOW)


def _positive_information(
    pairs: NDArray[np.int64], weights: NDArray[np.float32], vocabulary: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows, columns and values of the matrix, where they are above zero.

    With contexts smoothed, a pair has another value in each direction: their mean is taken.
    """
    if not len(pairs):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    low, high = np.divmod(pairs, vocabulary)
    apart = low != high
    counts = np.where(apart, weights, 2 * weights).astype(np.float64)  # a neighbour of its like
    rows, columns = np.concatenate([low, high[apart]]), np.concatenate([high, low[apart]])
    counts = np.concatenate([counts, counts[apart]])
    total = np.bincount(rows, counts, vocabulary)
    smoothed = total**_SMOOTHING
    expected = np.sqrt(total * smoothed / smoothed.sum())
    information = np.log(counts / (expected[rows] * expected[columns]))
    kept = information > 0
    return rows[kept], columns[kept], information[kept].astype(np.float32)
