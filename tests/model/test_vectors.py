"""Vectors of tokens from their neighbours."""

from __future__ import annotations

import numpy as np

from glossator.model.tokenizer import Tokens
from glossator.model.training.vectors import WINDOW, token_vectors


def tokens_of(texts: list[list[int]]) -> Tokens:
    ids = np.array([token for text in texts for token in text], np.int32)
    return Tokens(ids, np.cumsum([0, *map(len, texts)]).astype(np.int64))


def cosine(vectors: np.ndarray, one: int, other: int) -> float:
    lengths = np.linalg.norm(vectors[one]) * np.linalg.norm(vectors[other])
    return float(vectors[one] @ vectors[other] / lengths)


def test_tokens_with_the_same_neighbours_are_alike() -> None:
    chance = np.random.default_rng(0)
    # 0 and 1 stand beside 4…11, 2 and 3 beside 12…19, and none of them beside each other
    texts = []
    for _ in range(2000):
        group = int(chance.integers(2))
        one = int(chance.integers(2)) + 2 * group
        texts.append([one, *(4 + 8 * group + chance.integers(8, size=3))])
    vectors = token_vectors(tokens_of(texts), 24, 6)
    assert vectors.shape == (24, 6)
    assert vectors.dtype == np.float32
    assert cosine(vectors, 0, 1) > 0.9
    assert cosine(vectors, 2, 3) > 0.9
    assert abs(cosine(vectors, 0, 2)) < 0.3
    assert not vectors[20:].any()  # never seen


def test_it_is_the_factorisation_of_the_matrix_of_information() -> None:
    """With as many numbers as tokens, the vectors give the whole matrix, counted here by hand."""
    chance = np.random.default_rng(1)
    texts = [chance.integers(8, size=n).tolist() for n in (1, 2, 9, 30, 0, 12)]
    counts = np.zeros((8, 8))
    for text in texts:
        for i, one in enumerate(text):
            for j, other in enumerate(text):
                if i != j and abs(i - j) <= WINDOW:
                    counts[one, other] += 1 - (abs(i - j) - 1) / WINDOW
    total = counts.sum(axis=1)
    context = total**0.75 / (total**0.75).sum()
    with np.errstate(divide="ignore"):
        each_way = np.log(counts / (total[:, None] * context))
        expected = np.maximum(0, (each_way + each_way.T) / 2)
    vectors = token_vectors(tokens_of(texts), 8, 8).astype(np.float64)
    # |V Vᵀ| has the matrix's singular vectors and values: it is the root of its square
    values, directions = np.linalg.eigh(expected)
    root = directions @ np.diag(np.abs(values)) @ directions.T
    np.testing.assert_allclose(vectors @ vectors.T, root, atol=2e-4)


def test_texts_do_not_neighbour_each_other_and_the_same_texts_give_the_same_vectors() -> None:
    apart = token_vectors(tokens_of([[0], [1], [0], [1]]), 2, 4)
    assert not apart.any()
    texts = [[0, 1, 2], [2, 1, 3], [3, 0]]
    first, second = (token_vectors(tokens_of(texts), 4, 3, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_without_texts_there_is_nothing_to_learn() -> None:
    assert not token_vectors(tokens_of([]), 5, 3).any()
