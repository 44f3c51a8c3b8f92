"""The engine on torch, on a CPU, in float32.

Texts are computed in blocks of texts whose length in tokens is rounded up, so the shape of every
operation follows from a text's own length: a matrix product's last bits depend on the shapes the
library is given, never on what stands in the other rows. Incomplete blocks are filled with empty
rows. It runs on one thread; call it from as many threads as there are cores. The recurrence
releases the GIL.

Speed comes from three things: the embedding is folded into the input projection, so a token
costs one row look-up and one recurrent product, or of a QRNN two look-ups and no product; texts of
like length share a block, so little padding is computed; and only what was asked for is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import inf
from typing import NamedTuple, ParamSpec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from glossator.model.architecture import NetworkConfig
from glossator.model.engine import Contributions, EngineResult, Leaning, OnProgress, Scores
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens

_P = ParamSpec("_P")
_Weights = Mapping[str, NDArray[np.float32]]
_Steps = Callable[[Tensor, Tensor], None]
"""Reads [T, 2·R] rows of its tables, and writes [T, 2, R, H] states."""

_ROWS = ((32, 64), (64, 32), (1 << 62, 16))
"""Up to so many tokens a text: so many texts in a block. Multiples of every vector width, so that
no operation has a ragged end; fewer of the long texts, which are rare and would wait for others."""
_EPS = 1e-5
"""Of the normalization, as `nn.LayerNorm` has it."""
_BLOCK_BYTES = 1 << 26
"""Of a block's largest arrays. Texts so long that they need more have blocks of fewer rows."""


def _compiled(function: Callable[_P, None]) -> Callable[_P, None]:
    """The same function, run by torch without Python in between.

    Each of its steps is so short that threads would spend their time on handing Python's lock
    to each other; so they need it once a block.
    """
    with warnings.catch_warnings():  # its successors need a compiler where it runs
        warnings.simplefilter("ignore", DeprecationWarning)
        script: Callable[_P, None] = torch.jit.script(function)
    return script


@_compiled
def _gru_steps(
    table: Tensor, recurrent: Tensor, new_bias: Tensor, inputs: Tensor, outputs: Tensor
) -> None:
    """H = (1 - z)·n + z·h, with r and z sigmoids and n = tanh(x_n + r·(W_hn·h + b_hn)).

    Args:
        table: [2V, 3H] the embedding through the input projection, forward then backward.
        recurrent: [2, H, 3H].
        new_bias: [2, 1, H], b_hn.
        inputs: [T, 2·R] rows of the table, forward then backward.
        outputs: [T, 2, R, H] receives the states.
    """
    rows, hidden = outputs.shape[2], outputs.shape[3]
    state = torch.zeros(2, rows, hidden)
    gates = torch.empty(2, rows, 3 * hidden)
    x = torch.empty(2 * rows, 3 * hidden)
    x_view = x.view(2, rows, 3 * hidden)
    x_gates, x_new = x_view[..., : 2 * hidden], x_view[..., 2 * hidden :]
    h_gates, h_new = gates[..., : 2 * hidden], gates[..., 2 * hidden :]
    reset, update = h_gates[..., :hidden], h_gates[..., hidden:]
    for t in range(inputs.shape[0]):
        torch.index_select(table, 0, inputs[t], out=x)
        torch.bmm(state, recurrent, out=gates)
        h_gates.add_(x_gates).sigmoid_()
        # 2·σ(2x) - 1 is tanh(x), and the library's sigmoid is the faster one
        h_new.add_(new_bias).mul_(reset).add_(x_new).sigmoid_().mul_(2).sub_(1)
        state = torch.lerp(h_new, state, update, out=outputs[t])


@_compiled
def _lstm_steps(table: Tensor, recurrent: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """C = f·c + i·g and h = o·tanh(c), with i, f, o sigmoids and g a tanh; as `_gru_steps`."""
    rows, hidden = outputs.shape[2], outputs.shape[3]
    state = torch.zeros(2, rows, hidden)
    memory = torch.zeros(2, rows, hidden)
    gates = torch.empty(2, rows, 4 * hidden)
    x = torch.empty(2 * rows, 4 * hidden)
    i, f, g, o = gates.view(2, rows, 4, hidden).unbind(2)
    for t in range(inputs.shape[0]):
        torch.index_select(table, 0, inputs[t], out=x)
        torch.bmm(state, recurrent, out=gates)
        gates.add_(x.view_as(gates)).sigmoid_()
        memory.mul_(f).addcmul_(i, g.mul_(2).sub_(1))
        tanh = (memory * 2).sigmoid_().mul_(2).sub_(1)
        state = torch.mul(o, tanh, out=outputs[t])


@_compiled
def _qrnn_steps(table: Tensor, before: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """C = f·c + (1 - f)·z and h = o·c, with f and o sigmoids and z a tanh; as `_gru_steps`.

    Args:
        table: [2V, 3H] of a token.
        before: [2V + 1, 3H] of the token before; the last row, zeros, where there is none.
        inputs: [T, 2·R] rows of both.
        outputs: [T, 2, R, H] receives the states.
    """
    rows, hidden = outputs.shape[2], outputs.shape[3]
    gates = torch.empty(2 * rows, 3 * hidden)
    neighbour = torch.empty(2 * rows, 3 * hidden)
    z, f, o = gates.view(2, rows, 3, hidden).unbind(2)
    # of (1 + c) / 2, to which σ(2x) = (1 + tanh(x)) / 2 leads without a step in between
    memory = torch.full((2, rows, hidden), 0.5)
    last = torch.full_like(inputs[0], before.shape[0] - 1)
    for t in range(inputs.shape[0]):
        now = inputs[t]
        torch.index_select(table, 0, now, out=gates)
        torch.index_select(before, 0, last, out=neighbour)
        last = now
        gates.add_(neighbour).sigmoid_()
        torch.lerp(z, memory, f, out=memory)
        torch.addcmul(-o, o, memory, value=2, out=outputs[t])  # o·(2·memory - 1)


class TorchEngine:
    """The trained network, laid out for inference on a CPU. Safe to share between threads."""

    name = "torch"

    def __init__(
        self,
        weights: _Weights,
        config: NetworkConfig,
        tasks: Sequence[Task],
    ) -> None:
        """Lays out the weights, which stay as they are.

        Args:
            weights: arrays named and shaped as in `architecture.tensor_shapes`.
            config: the sizes.
            tasks: those that `run` may be asked for.
        """
        self._config = config
        embedding = torch.tensor(weights["embedding.weight"])
        self._vocabulary = len(embedding)
        layout = _layout_qrnn if config.cell == "qrnn" else _layout_recurrent
        self._steps = layout(weights, config, embedding)
        self._shared = _Projection(weights, "attention") if config.shared_attention else None
        self._heads = {task.name: _Head(weights, f"heads.{task.name}", config) for task in tasks}

    @torch.inference_mode()
    def run(
        self,
        tokens: Tokens,
        tasks: Sequence[str],
        on_progress: OnProgress | None = None,
        leaning: Leaning | None = None,
    ) -> EngineResult:
        """Scores texts; see `Engine.run`."""
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)  # a product shared among threads is cut into other shapes
        lengths = tokens.lengths
        if len(lengths) and lengths.min() < 1:
            raise ValueError(f"text {int(lengths.argmin())} has no tokens")

        def empty(*shape: int) -> NDArray[np.float32]:
            return np.empty(shape, np.float32)

        scores = {
            name: Scores(
                empty(len(tokens), self._heads[name].outputs),
                Contributions(empty(len(tokens.ids)), empty(len(tokens))) if leaning else None,
            )
            for name in tasks
        }
        padded_tokens = 0
        for rows, height, width in blocks(lengths, self._config):
            self._run_block(tokens, rows, height, width, scores, leaning)
            padded_tokens += height * width
            if on_progress:
                on_progress(len(rows))
        return EngineResult(scores, padded_tokens)

    def _run_block(
        self,
        tokens: Tokens,
        rows: NDArray[np.int64],
        height: int,
        width: int,
        scores: Mapping[str, Scores],
        leaning: Leaning | None,
    ) -> None:
        """Computes some rows of `tokens` as a block of `height` texts of `width` tokens."""
        count, place = len(rows), np.arange(width)
        filled = np.ones(height, np.int64)  # a row that only fills the block has one token
        filled[:count] = tokens.lengths[rows]
        mask = place < filled[:count, None]
        source = (tokens.offsets[rows, None] + place)[mask]
        ids = np.zeros((height, width), np.int64)
        ids[:count][mask] = tokens.ids[source]
        states = self._encode(torch.from_numpy(ids), torch.from_numpy(filled))
        valid = torch.from_numpy(place < filled[:, None])
        mean = torch.bmm((valid / valid.sum(dim=1, keepdim=True))[:, None], states)[:, 0]
        pools = [states.amax(dim=1), mean]
        if self._config.min_pooling:
            pools.append(states.amin(dim=1))
        shared = self._shared.run(states) if self._shared else None
        for name, (logits, contributions) in scores.items():
            head = self._heads[name]
            found = head.run(states, valid, pools, shared)
            logits[rows] = found.logits.numpy()[:count]
            if leaning and contributions:
                towards = torch.zeros(height, head.outputs)
                towards[:count] = torch.from_numpy(leaning(name, rows, logits[rows]))
                weights, entropy = head.contributions(found, states, towards)
                contributions.weights[source] = weights.numpy()[:count][mask]
                contributions.entropy[rows] = entropy.numpy()[:count]

    def _encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """[R, T, 2H] states of one block of R texts; padding repeats the state of the last token.

        So a maximum over a row needs no mask, and weights of zero hide padding from a mean.

        Args:
            ids: [R, T].
            lengths: [R], at least 1.
        """
        height, width = ids.shape
        place = torch.arange(width)
        own = torch.minimum(place, lengths[:, None] - 1)  # [height, T]
        # the backward direction starts at each text's own last token
        mirror = lengths[:, None] - 1 - own
        backward = ids.gather(1, mirror) + self._vocabulary
        inputs = torch.stack([ids.T, backward.T], dim=1).view(width, 2 * height)
        hidden = self._config.hidden
        outputs = torch.empty(width, 2, height, hidden)
        self._steps(inputs, outputs)
        row = torch.arange(height)[:, None]
        index = torch.stack([own * 2 * height + row, (mirror * 2 + 1) * height + row], dim=2)
        states = outputs.view(-1, hidden).index_select(0, index.view(-1))
        return states.view(height, width, 2 * hidden)


def _layout_recurrent(weights: _Weights, config: NetworkConfig, embedding: Tensor) -> _Steps:
    """The steps of a GRU or LSTM, with its tables."""
    hidden = config.hidden
    new = slice(2 * hidden, 3 * hidden)  # the part of the gates that goes through a tanh
    tables, recurrent, new_bias = [], [], []
    for suffix in ("l0", "l0_reverse"):
        w_ih, w_hh, b_ih, b_hh = (
            torch.tensor(weights[f"rnn.{name}_{suffix}"])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        for weight in (w_ih, w_hh, b_ih, b_hh):
            weight[new] *= 2  # exact: tanh(x) is taken of 2x
        bias = b_ih + b_hh
        if config.cell == "gru":
            # the reset gate multiplies W_hn·h + b_hn: that bias can't be folded away
            bias[new] = b_ih[new]
            new_bias.append(b_hh[new])
        tables.append(embedding @ w_ih.T + bias)
        recurrent.append(w_hh.T.contiguous())
    table, products = torch.cat(tables), torch.stack(recurrent)  # [2V, G·H], [2, H, G·H]
    if config.cell == "lstm":
        return partial(_lstm_steps, table, products)
    return partial(_gru_steps, table, products, torch.stack(new_bias)[:, None])


def _layout_qrnn(weights: _Weights, config: NetworkConfig, embedding: Tensor) -> _Steps:
    """The steps of a QRNN, with its tables."""
    tables, befores = [], []
    for suffix in ("l0", "l0_reverse"):
        weight, bias = (
            torch.tensor(weights[f"rnn.{name}_{suffix}"]) for name in ("weight", "bias")
        )
        for part in (weight, bias):
            part[: config.hidden] *= 2  # exact: tanh(x) is taken of 2x
        tables.append(embedding @ weight[:, : config.embedding].T + bias)
        befores.append(embedding @ weight[:, config.embedding :].T)
    nothing = torch.zeros(1, config.gates * config.hidden)
    return partial(_qrnn_steps, torch.cat(tables), torch.cat([*befores, nothing]))


class _Projection:
    """The projection of an attention, laid out for inference."""

    def __init__(self, weights: _Weights, name: str) -> None:
        # v·tanh(u) = 2v·σ(2u) - Σv, and softmax does not see the constant
        self._weight = 2 * torch.tensor(weights[f"{name}.weight"]).T.contiguous()
        self._bias = 2 * torch.tensor(weights[f"{name}.bias"])

    def run(self, states: Tensor) -> Tensor:
        """[R·T, A] σ(2u)."""
        projected = torch.addmm(self._bias, states.view(-1, states.shape[2]), self._weight)
        return projected.sigmoid_()


class _Answers(NamedTuple):
    """What a head gives for a block of R texts of T tokens."""

    logits: Tensor
    """[R, outputs]."""
    attention: Tensor
    """[R, T]."""
    pooled: Tensor
    """[R, P] what the logits were made of."""
    mean: Tensor
    """[R, 1] of it, as its normalization has it."""
    rstd: Tensor
    """[R, 1] the inverse of its deviation."""


class _Head:
    """One task's attention and head, laid out for inference."""

    def __init__(self, weights: _Weights, prefix: str, config: NetworkConfig) -> None:
        def tensor(name: str) -> Tensor:
            return torch.tensor(weights[f"{prefix}.{name}"])

        shared = config.shared_attention
        self._own = None if shared else _Projection(weights, f"{prefix}.project")
        self._score = 2 * tensor("score.weight")[0]
        self._norm = tensor("norm.weight"), tensor("norm.bias")
        self._output = tensor("output.weight"), tensor("output.bias")
        (scale, shift), (weight, bias) = self._norm, self._output
        self._constant = bias + weight @ shift  # of the logits: what no state has a part in
        by_normalized = weight * scale
        by_normalized -= by_normalized.mean(dim=1, keepdim=True)
        self._by_attended = by_normalized[:, : 2 * config.hidden].contiguous()
        self.outputs = len(self._output[1])

    def run(
        self, states: Tensor, valid: Tensor, pools: Sequence[Tensor], shared: Tensor | None
    ) -> _Answers:
        """The answers to a block of texts.

        Args:
            states: [R, T, 2H].
            valid: [R, T], true on tokens.
            pools: [R, 2H] each, to stand behind what is attended to.
            shared: [R·T, A] the states as all tasks' projection gives them, if there is one.
        """
        projected = self._own.run(states) if self._own else shared
        assert projected is not None
        energy = torch.mv(projected, self._score).view(valid.shape)
        attention = torch.softmax(energy.masked_fill_(~valid, -torch.inf), dim=1)
        attended = torch.bmm(attention[:, None], states)[:, 0]
        pooled = torch.cat([attended, *pools], dim=1)
        normed, mean, rstd = torch.native_layer_norm(pooled, pooled.shape[1:], *self._norm, _EPS)
        return _Answers(functional.linear(normed, *self._output), attention, pooled, mean, rstd)

    def contributions(
        self, found: _Answers, states: Tensor, leaning: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[R, T] how much each token contributed, and [R] the entropy of that in nats.

        Args:
            found: what `run` gave.
            states: [R, T, 2H].
            leaning: [R, outputs] what speaks for the answers; zeros give the attention.
        """
        # through the normalization y = (x - mean)·rstd the derivative by x is that by y, less its
        # mean, less y times the mean of y times it; the factor rstd is the same for all tokens
        standard = (found.pooled[:, : states.shape[2]] - found.mean) * found.rstd
        along = (leaning * (found.logits - self._constant)).sum(dim=1, keepdim=True)
        by_attended = leaning @ self._by_attended - standard * (along / found.pooled.shape[1])
        # a row before a matrix: with a column behind it the library takes five times as long
        spoken = torch.bmm(by_attended[:, None], states.transpose(1, 2))[:, 0]
        positive = spoken.mul_(found.attention).clamp_(min=0)
        total = positive.sum(dim=1, keepdim=True)
        # where nothing speaks for the answer, or more than float32 holds, there are no shares
        weights = torch.where((total > 0) & (total < inf), positive / total, found.attention)
        return weights, torch.special.entr(weights).sum(dim=1)


def blocks(
    lengths: NDArray[np.int64], config: NetworkConfig
) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """Rows of like length, and the shape of their block: texts, tokens."""
    widths = _padded(lengths)
    order = np.argsort(widths, kind="stable")
    edges = np.flatnonzero(np.diff(widths[order])) + 1
    for group in np.split(order, edges):
        width = int(widths[group[0]]) if len(group) else 0
        height = _rows(width, config)
        for first in range(0, len(group), height):
            yield group[first : first + height], height, width


def _rows(width: int, config: NetworkConfig) -> int:
    """How many texts of `width` tokens stand in a block: a function of the width alone."""
    rows = next(rows for most, rows in _ROWS if width <= most)
    # of a token: its states in two layouts, their indices, and one task's projection of them
    token_bytes = 4 * (2 * 2 * config.hidden + config.attention) + 64
    while rows > 1 and rows * width * token_bytes > _BLOCK_BYTES:
        rows //= 2
    return rows


def _padded(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lengths rounded up by at most a quarter, or to even: few shapes, little padding."""
    grain = 1 << np.maximum(1, np.log2(np.maximum(lengths, 1)).astype(np.int64) - 2)
    return np.asarray(-(-lengths // grain) * grain)
