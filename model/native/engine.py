"""The engine in C, on a CPU, in float32: the same bits for every width of vectors.

The embedding is folded into the input projections, so a token costs a row look-up and one recurrent
product (of a QRNN two look-ups and none). Texts step through the recurrence in groups of like
length, each to its own end: no padding is computed. A text's states, attention and pools are made
while they are in the processor's caches. No call holds Python's lock, so threads run side by side.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.architecture import NetworkConfig
from glossator.model.engine import Contributions, EngineResult, Leaning, OnProgress, Scores
from glossator.model.native.library import (
    Head,
    Kernels,
    Network,
    Request,
    Results,
    Selection,
    address,
    addresses,
    widths,
)
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens

_Weights = Mapping[str, NDArray[np.float32]]
_Floats = NDArray[np.float32]

_CELLS = ("gru", "lstm", "qrnn")
_TANH = {"gru": 2, "lstm": 2, "qrnn": 0}
"""Which of a cell's gates is a tanh; the others are sigmoids."""
_LOG2_E = math.log2(math.e)
_STAGES = ("recurrence", "attention")
"""Of which the library says the seconds, in its order."""
_UNITS = 32
"""What hidden units are filled up to: the same for every width of vectors."""
_PART_TOKENS, _PART_BYTES = 1 << 15, 1 << 26
"""Tokens of the texts that are scored by one call, and bytes of their states, unless a text has
more. Between calls a thread has to wait for Python's lock."""


@dataclass(frozen=True)
class _Head:
    """A task's head: its struct points into these."""

    outputs: int
    weights: _Floats
    bias: _Floats
    constant: _Floats
    by_attended: _Floats


class NativeEngine:
    """The trained network, laid out for the native library. Safe to share between threads."""

    name = "native"

    def __init__(
        self,
        weights: _Weights,
        config: NetworkConfig,
        tasks: Sequence[Task],
        width: str | None = None,
    ) -> None:
        """Lays out the weights, which stay as they are.

        Args:
            weights: arrays named and shaped as in `architecture.tensor_shapes`.
            config: the sizes.
            tasks: those that `run` may be asked for.
            width: one of `library.widths()`; None for the fastest.
        """
        self._library = Kernels(width or widths()[0])
        self._names = {task.name: i for i, task in enumerate(tasks)}
        self._states = 2 * (config.hidden + -config.hidden % _UNITS)
        self._part_tokens = min(_PART_TOKENS, _PART_BYTES // (4 * self._states))
        layout = _Layout(self._library, weights, config)
        self._heads = [layout.head(f"heads.{task.name}") for task in tasks]
        self._arrays = layout.arrays([task.name for task in tasks])
        self._network = self._described(config)

    @property
    def width(self) -> str:
        """The vectors that it computes with."""
        return self._library.width

    def _described(self, config: NetworkConfig) -> Network:
        arrays = self._arrays
        hidden = self._states // 2
        heads = (Head * len(self._heads))(
            *(
                Head(
                    head.outputs,
                    len(head.bias),
                    *map(address, (head.weights, head.bias, head.constant, head.by_attended)),
                )
                for head in self._heads
            )
        )
        network = Network(
            cell=_CELLS.index(config.cell),
            vocabulary=config.vocabulary,
            hidden=hidden,
            units=config.hidden,
            attention=arrays["projection_bias"].shape[1],
            projections=len(arrays["projection_bias"]),
            tasks=len(self._heads),
            task_width=self._library.filled(len(self._heads)),
            minimum=config.min_pooling,
            pooled=len(arrays["present"]),
            **{name: address(array) for name, array in arrays.items()},
        )
        network.heads = heads
        return network

    def run(
        self,
        tokens: Tokens,
        tasks: Sequence[str],
        on_progress: OnProgress | None = None,
        leaning: Leaning | None = None,
    ) -> EngineResult:
        """Scores texts; see `Engine.run`."""
        lengths = tokens.lengths
        if len(lengths) and lengths.min() < 1:
            raise ValueError(f"text {int(lengths.argmin())} has no tokens")
        heads = [self._heads[self._names[name]] for name in tasks]
        count = len(lengths)
        logits = [_empty(count, head.outputs) for head in heads]
        explained = [(_empty(len(tokens.ids)), _empty(count)) for _ in tasks if leaning]
        call = _Call(self, tokens, tasks, logits, explained)
        for rows in _parts(lengths, self._part_tokens):
            call.score(rows)
            if leaning:
                # each is kept until they were read
                towards = [
                    np.ascontiguousarray(leaning(name, rows, given[rows]), np.float32)
                    for name, given in zip(tasks, logits, strict=True)
                ]
                call.contribute(rows, towards)
            if on_progress:
                on_progress(len(rows))
        contributions = [Contributions(*one) for one in explained] if leaning else []
        scores = {
            name: Scores(logits[i], contributions[i] if leaning else None)
            for i, name in enumerate(tasks)
        }
        return EngineResult(scores, int(tokens.offsets[-1]), call.seconds())


class _Call:
    """The working memory of one `run`."""

    def __init__(
        self,
        engine: NativeEngine,
        tokens: Tokens,
        tasks: Sequence[str],
        logits: Sequence[_Floats],
        explained: Sequence[tuple[_Floats, _Floats]],
    ) -> None:
        self._library, self._network = engine._library, engine._network
        self._ids = np.ascontiguousarray(tokens.ids, np.int32)
        self._offsets = np.ascontiguousarray(tokens.offsets, np.int64)
        self._asked = np.array([engine._names[name] for name in tasks], np.int64)
        self._wanted = np.isin(np.arange(len(engine._names)), self._asked).astype(np.uint8)
        self._request = Request(len(tasks), address(self._asked), address(self._wanted))
        longest = int(tokens.lengths.max(initial=1))
        room = max(longest, min(engine._part_tokens, len(self._ids)))
        texts, states = min(len(tokens), room), engine._states
        pools = len(tasks) * states + len(engine._arrays["present"]) - states
        self._memory = (
            *(_empty(room, columns) for columns in (states, self._network.task_width)),
            *(_empty(texts, columns) for columns in (pools, 2 * len(tasks))),
            self._library.scratch(self._network, longest),
        )
        self._results = Results(room, longest, *map(address, self._memory))
        self._pointers = [
            addresses(arrays)
            for arrays in (logits, [one[0] for one in explained], [one[1] for one in explained])
        ]
        self._seconds = np.zeros(len(_STAGES))
        self._results.seconds = address(self._seconds)
        for name, pointers in zip(("logits", "weights", "entropy"), self._pointers, strict=True):
            setattr(self._results, name, ctypes.addressof(pointers))

    def seconds(self) -> dict[str, float]:
        """What was spent, by stage."""
        return dict(zip(_STAGES, self._seconds.tolist(), strict=True))

    def _texts(self, rows: NDArray[np.int64]) -> Selection:
        ids, offsets = self._ids, self._offsets
        sizes = len(offsets) - 1, len(ids)
        return Selection(len(rows), address(rows), *sizes, address(ids), address(offsets))

    def score(self, rows: NDArray[np.int64]) -> None:
        self._library.score(self._network, self._request, self._texts(rows), self._results)

    def contribute(self, rows: NDArray[np.int64], leaning: Sequence[_Floats]) -> None:
        pointers = addresses(leaning)
        self._results.leaning = ctypes.addressof(pointers)
        self._library.contribute(self._network, self._request, self._texts(rows), self._results)


class _Layout:
    """Makes the library's arrays of the weights, each sum in a fixed order."""

    def __init__(self, library: Kernels, weights: _Weights, config: NetworkConfig) -> None:
        self._library, self._weights, self._config = library, weights, config
        self._fill = -config.hidden % _UNITS

    def arrays(self, tasks: Sequence[str]) -> dict[str, _Floats]:
        """Those of `struct network`, by name."""
        config = self._config
        hidden = config.hidden + self._fill
        embedding = self._weights["embedding.weight"]
        table, before, recurrent, new_bias = [], [], [], []
        for suffix in ("l0", "l0_reverse"):
            if config.cell == "qrnn":
                weight, bias = (
                    self._gates(self._weights[f"rnn.{name}_{suffix}"])
                    for name in ("weight", "bias")
                )
                own, neighbour = np.split(weight, 2, axis=-1)
                before.append(self._folded(embedding, neighbour, np.zeros_like(bias)))
                table.append(self._folded(embedding, own, bias))
                continue
            w_ih, w_hh, b_ih, b_hh = (
                self._gates(self._weights[f"rnn.{name}_{suffix}"])
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            bias = b_ih + b_hh
            if config.cell == "gru":
                # the reset gate multiplies W_hn·h + b_hn: that bias can't be folded away
                bias[2] = b_ih[2]
                new_bias.append(b_hh[2])
            table.append(self._folded(embedding, w_ih, bias))
            recurrent.append(self._recurrent(w_hh))
        depth, filled = 2 * hidden, self._library.filled
        names = ["attention"] if config.shared_attention else [f"heads.{t}.project" for t in tasks]
        width, columns = filled(len(tasks)), filled(config.attention)
        projection = np.zeros((len(names), columns * depth), np.float32)
        projection_bias = np.zeros((len(names), columns), np.float32)
        queries = np.zeros((len(names), columns, width), np.float32)
        for i, name in enumerate(names):
            weight = np.zeros((depth, columns), np.float32)
            weight[:, : config.attention] = self._states(self._weights[f"{name}.weight"]).T
            twice = np.float32(2 * _LOG2_E)  # a tanh, as of the gates
            projection[i] = self._library.packed(weight * twice).ravel()
            projection_bias[i, : config.attention] = self._weights[f"{name}.bias"] * twice
        for i, task in enumerate(tasks):
            query = self._weights[f"heads.{task}.score.weight"][0]
            queries[i % len(names), : config.attention, i] = query * np.float32(_LOG2_E)
        present = self._states(np.ones((1, config.pooled), np.float32))[0]
        return {
            "table": np.stack(table),
            "before": np.stack(before) if before else np.zeros(1, np.float32),
            "nothing": np.zeros(config.gates * hidden, np.float32),
            "recurrent": np.stack(recurrent) if recurrent else np.zeros(1, np.float32),
            "new_bias": np.stack(new_bias) if new_bias else np.zeros((2, hidden), np.float32),
            "projection": projection,
            "projection_bias": projection_bias,
            "queries": np.concatenate([self._library.packed(one).ravel() for one in queries]),
            "present": np.ascontiguousarray(present),
        }

    def head(self, prefix: str) -> _Head:
        """One task's."""
        scale, shift, weight, bias = (
            self._weights[f"{prefix}.{name}"]
            for name in ("norm.weight", "norm.bias", "output.weight", "output.bias")
        )
        outputs, pooled = weight.shape
        columns = self._library.filled(outputs)
        # sums that are rounded once, whatever the order
        constant = [
            math.fsum([float(of), *(row.astype(np.float64) * shift).tolist()])
            for row, of in zip(weight, bias, strict=True)
        ]
        scaled = weight * scale
        means = [math.fsum(row.tolist()) / pooled for row in scaled]
        by_normalized = scaled - np.array(means, np.float32)[:, None]
        filled = np.zeros((self._states(scaled).shape[1], columns), np.float32)
        filled[:, :outputs] = self._states(scaled).T
        first = np.array(constant, np.float32)
        return _Head(
            outputs=outputs,
            weights=self._library.packed(filled),
            bias=np.pad(first, (0, columns - outputs)),
            constant=first,
            by_attended=self._states(by_normalized[:, : 2 * self._config.hidden]),
        )

    def _gates(self, array: _Floats) -> _Floats:
        """[G, H filled up, …] of [G·H, …], times what makes powers of 2 of the gates' powers of e.

        A sigmoid takes 1 + 2^-x', a tanh 1 + 2^2x'.
        """
        split = array.reshape(self._config.gates, self._config.hidden, *array.shape[1:])
        factors = np.full(len(split), -_LOG2_E)
        factors[_TANH[self._config.cell]] = 2 * _LOG2_E
        scaled = split * factors.astype(np.float32).reshape(-1, *[1] * (split.ndim - 1))
        return np.pad(scaled, [(0, 0), (0, self._fill), *[(0, 0)] * (split.ndim - 2)])

    def _states(self, array: _Floats) -> _Floats:
        """[N, …, H filled up] of [N, directions · H]: states of both directions, or several."""
        hidden = self._config.hidden
        split = array.reshape(len(array), -1, hidden)
        padded = np.pad(split, [(0, 0), (0, 0), (0, self._fill)])
        return np.ascontiguousarray(padded.reshape(len(array), -1), np.float32)

    def _folded(self, embedding: _Floats, weight: _Floats, bias: _Floats) -> _Floats:
        """[V, G·H] a token's part in the gates, of [G, H, E] weights."""
        rows = weight.reshape(-1, weight.shape[-1])
        return self._library.affine(embedding, rows.T, bias.ravel())

    def _recurrent(self, weight: _Floats) -> _Floats:
        """The packed columns of [G, H, H without filling]."""
        filled = np.pad(weight, [(0, 0), (0, 0), (0, self._fill)])
        return self._library.packed(filled.reshape(-1, filled.shape[2]).T)


def _parts(lengths: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """The texts in parts of bounded tokens, the longest first."""
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    first, before = 0, 0
    while first < len(order):
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield order[first:last]
        first, before = last, int(ends[last - 1])


def _empty(*shape: int) -> Any:
    return np.empty(shape, np.float32)
