"""Fitting the n-gram expert: a linear model of 2^bits columns, on sparse rows, in little memory.

What is fitted is a weight w for each bucket and output, of the feature idf / √m for each time that
an n-gram of the bucket stands in a text; the idf (Spärck Jones 1972) goes into the table with the
weight. The loss is that of the task's kind plus λ/2 · |w|². L-BFGS (Liu & Nocedal 1989) over all
rows at once, on weights divided by the square root of a bucket's curvature: without that, it
takes five times as many steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from glossator.model.mixing import least
from glossator.model.ngrams import Reader, buckets, columns, tags
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer, Tokens
from glossator.model.training.material import known

MAX_TABLE = 1 << 24
"""Numbers of a task's table, at most: a task of more labels than that has no expert."""
_MAX_GRAMS = 1 << 26
"""N-grams of the texts that are learnt from, of larger corpora a random part: 1.5 GB."""
_MIN_COUNT = 2
"""How often an n-gram must stand in the texts to have a bucket."""
_STRENGTHS = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Of which the best on a held-out tenth is taken: 1 / (λ · rows). The strongest λ comes first; the
others are tried as long as it pays."""
_POWERS = (-2.5, 1.0)
"""Least and largest logarithm of the factor that a held-out tenth may give the outputs."""
_STEPS = 20
"""Of L-BFGS, at most."""
_HISTORY = 5
_CURVATURE = 0.1
"""Of the loss in an output, about what it is where most answers are right."""


def fit_ngrams(
    tokens: Tokens,
    targets: Mapping[str, NDArray[Any]],
    tasks: Sequence[Task],
    tokenizer: Tokenizer,
    bits: int,
    seed: int = 1,
) -> dict[str, NDArray[Any]]:
    """The arrays of an expert, as `ngrams.array_types` lists them.

    Each task is fitted on the rows that have a target for it. Same arguments, processor and number
    of threads: same arrays.

    Args:
        tokens: of n texts, each with at least one token.
        targets: by task name, of n texts, as `Rules.targets` or `lessons` gives them.
        tasks: what to learn; those with more labels than `MAX_TABLE` allows are left out, and those
            of which no row that is read has one.
        tokenizer: whose tokens they are.
        bits: of a bucket's number.
        seed: of the held-out tenth, and of the rows taken of a large corpus.
    """
    tasks = [task for task in tasks if columns(task) << bits <= MAX_TABLE]
    if not tasks:
        return {}
    generator = np.random.default_rng(seed)
    hashes, counts, rows = _read(tokens, tokenizer, generator)
    known_tags, bucket, counts = _choose(hashes, counts, bits)
    del hashes
    arrays: dict[str, NDArray[Any]] = {"tags": known_tags}
    for task in tasks:
        own = targets[task.name][rows]
        seen = known(own)
        if not seen.any():
            continue
        matrix = _Matrix.of(bucket, counts, seen, 1 << bits)
        arrays |= _fit_task(task, matrix, own[seen], generator)
    return arrays


def _read(
    tokens: Tokens, tokenizer: Tokenizer, generator: np.random.Generator
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """The hashes of all n-grams, row after row; how many there are in each row; which rows."""
    reader, parts, total = Reader(tokenizer), [], 0
    counts: list[NDArray[np.int64]] = []
    taken: list[NDArray[np.int64]] = []
    # a part of the rows at a time, in random order: where there are enough, the others are left
    for some in np.array_split(generator.permutation(len(tokens)), -(-len(tokens) // 4096)):
        for first, last, kinds in reader.blocks(tokens.select(some)):
            here = np.zeros(last - first, np.int64)
            found, owners = [], []
            for grams in kinds:
                owner = np.repeat(np.arange(last - first), np.diff(grams.offsets))
                found.append(grams.hashes[grams.inside])
                owners.append(np.repeat(owner, grams.inside.sum(axis=1)))
                here += np.bincount(owners[-1], minlength=last - first)
            order = np.argsort(np.concatenate(owners), kind="stable")
            parts.append(np.concatenate(found)[order])
            counts.append(here)
            taken.append(some[first:last])
            total += len(order)
        if total > _MAX_GRAMS:
            break
    return np.concatenate(parts), np.concatenate(counts), np.concatenate(taken)


def _choose(
    hashes: NDArray[np.uint32], counts: NDArray[np.int64], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int64]]:
    """Gives each bucket to its most frequent n-gram.

    Returns:
        The tag of each bucket; the buckets of the known n-grams, row after row; how many there
        are in each row.
    """
    distinct, times = np.unique(hashes, return_counts=True)
    distinct, times = distinct[times >= _MIN_COUNT], times[times >= _MIN_COUNT]
    # the last one that is written stays: the most frequent, of equals that of least hash
    order = np.lexsort((~distinct, times))
    known = np.zeros(1 << bits, np.uint8)
    known[buckets(distinct[order], bits)] = tags(distinct[order])
    bucket = buckets(hashes, bits).astype(np.int32)
    kept = known[bucket] == tags(hashes)
    ends = np.concatenate([[0], np.cumsum(kept)])[np.cumsum(counts)]
    return known, bucket[kept], np.diff(ends, prepend=0)


@dataclass(frozen=True)
class _Matrix:
    """R rows of known n-grams, and the same by bucket."""

    bucket: Tensor
    """The buckets of the n-grams, row after row."""
    of_row: Tensor
    """[R] where a row begins."""
    row: Tensor
    """The rows of the n-grams, bucket after bucket."""
    of_bucket: Tensor
    """[buckets] where a bucket begins."""
    weight: Tensor
    """[R, 1] 1 / √m."""
    times: Tensor
    """[buckets, 1] how often its n-gram stands in the rows."""

    @classmethod
    def of(
        cls,
        bucket: NDArray[np.int32],
        counts: NDArray[np.int64],
        wanted: NDArray[np.bool_],
        size: int,
    ) -> _Matrix:
        """Some of the rows.

        Args:
            bucket: those of all rows.
            counts: how many a row has.
            wanted: which rows.
            size: how many buckets there are.
        """
        bucket, counts = bucket[np.repeat(wanted, counts)], counts[wanted]
        row = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
        keys = bucket.astype(np.uint64) << np.uint64(32) | row
        del row
        keys.sort()
        times = np.bincount(bucket, minlength=size)
        return cls(
            torch.from_numpy(bucket),
            torch.from_numpy((np.cumsum(counts) - counts).astype(np.int32)),
            torch.from_numpy(keys.astype(np.uint32).view(np.int32)),
            torch.from_numpy((np.cumsum(times) - times).astype(np.int32)),
            torch.from_numpy(1 / np.sqrt(np.maximum(counts, 1))).float()[:, None],
            torch.from_numpy(times).float()[:, None],
        )

    def __len__(self) -> int:
        return len(self.weight)

    def times_table(self, table: Tensor) -> Tensor:
        """[R, columns] of [buckets, columns]."""
        return self.weight * functional.embedding_bag(self.bucket, table, self.of_row, mode="sum")

    def transposed(self, values: Tensor) -> Tensor:
        """[buckets, columns] of [R, columns]."""
        return functional.embedding_bag(self.row, self.weight * values, self.of_bucket, mode="sum")


def _fit_task(
    task: Task,
    matrix: _Matrix,
    targets: NDArray[Any],
    generator: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """A task's arrays, from rows that all have a target."""
    held = np.zeros(len(matrix), bool)
    held[generator.permutation(len(matrix))[: len(matrix) // 10]] = True
    # where the other rows' targets are missing, the loss is that of these
    learnt, asked = (_without(targets, rows) for rows in (held, ~held))
    model = _Linear(task, matrix)
    best, strength = float("inf"), _STRENGTHS[0]
    for one in _STRENGTHS if held.any() else ():
        model.fit(learnt, 1 / (one * len(matrix)))
        loss = model.loss(asked)
        if not loss < best:
            break
        best, strength = loss, one
    model.fit(torch.from_numpy(targets), 1 / (strength * len(matrix)))
    table = model.table().numpy()
    scale = np.abs(table).max(axis=0) / 127
    scale[scale == 0] = 1
    return {
        f"{task.name}.table": np.rint(table / scale).astype(np.int8),
        f"{task.name}.scale": scale.astype(np.float32),
        f"{task.name}.bias": model.bias.numpy().astype(np.float32),
    }


def _without(targets: NDArray[Any], rows: NDArray[np.bool_]) -> Tensor:
    """The targets, missing on some rows."""
    kept = targets.copy()
    kept[rows] = -1 if targets.dtype.kind == "i" else np.nan
    return torch.from_numpy(kept)


class _Linear:
    """A task's weights, zero at first; `fit` goes on from where they stand."""

    def __init__(self, task: Task, matrix: _Matrix) -> None:
        self.task, self.matrix = task, matrix
        idf = torch.log((1 + len(matrix)) / (1 + matrix.times.clamp(max=len(matrix)))) + 1
        square = matrix.transposed(matrix.weight) * idf**2
        # of a row's features, about 1 in sum, so that λ means the same whatever the texts
        size = float(square.sum() / len(matrix)) ** 0.5 or 1.0
        self._idf, self._square = idf / size, square / (size * size * len(matrix))
        self._weights = torch.zeros(len(matrix.times), columns(task))
        self.bias = torch.zeros(columns(task))

    def table(self) -> Tensor:
        """[buckets, columns] what an n-gram of a bucket adds, but for the 1 / √m of its text."""
        return self._idf * self._weights

    def loss(self, targets: Tensor) -> float:
        """The loss of the kind over rows that have a target, with the factor that suits it best.

        Weight and temperature are fitted in the end. A weak signal is learnt best by a model that
        is far too sure of itself, which without the factor one that knows less would beat.
        """
        values = self.matrix.times_table(self.table()) + self.bias

        def at(power: float) -> float:
            return self._loss(float(np.exp(power)) * values, targets)[0]

        return at(least(at, *_POWERS))

    def _loss(self, values: Tensor, targets: Tensor) -> tuple[float, Tensor]:
        """The loss, and its gradient by [R, columns] values."""
        values = values.detach().requires_grad_()
        spread = torch.from_numpy(self.task.rules.spread(self.task.labels)).float()
        loss = self.task.rules.loss(values * spread, targets, self.task.labels)
        if loss is None:
            return 0.0, torch.zeros_like(values)
        (gradient,) = torch.autograd.grad(loss, values)
        return float(loss.detach()), gradient

    def fit(self, targets: Tensor, strength: float) -> None:
        """The weights of least loss.

        Args:
            targets: of all rows; those that are missing are not learnt from.
            strength: λ.
        """
        step = (_CURVATURE * self._square + strength) ** -0.5
        scaled = torch.nn.Parameter(self._weights / step)
        bias = torch.nn.Parameter(self.bias.clone())

        def closure() -> float:
            weights = step * scaled.data
            values = self.matrix.times_table(self._idf * weights) + bias.data
            loss, gradient = self._loss(values, targets)
            learnt = self._idf * self.matrix.transposed(gradient) + strength * weights
            scaled.grad, bias.grad = step * learnt, gradient.sum(dim=0)
            return loss + strength / 2 * float((weights * weights).sum())

        optimizer = torch.optim.LBFGS(
            [scaled, bias],
            max_iter=_STEPS,
            history_size=_HISTORY,
            tolerance_grad=1e-6,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        self._weights, self.bias = step * scaled.data, bias.data
