"""The multi-task attention RNN: one shared encoder, and for every task an attention of its own.

tokens → embedding → bidirectional GRU, LSTM or QRNN → for each task: additive attention (Bahdanau
et al. 2015; one per task as in Yang et al. 2016's word attention; their projection may be shared)
⊕ max ⊕ mean, and ⊕ min if wanted → LayerNorm → head. Used for training and as the reference that
every engine must agree with. Padding never has an influence: each direction reads it after the
text, where it repeats the last state, and attention is masked.

Shapes: B texts, T tokens (padded), E embedding, H hidden units a direction, A attention units, P
numbers pooled over a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from glossator.model.architecture import NetworkConfig
from glossator.model.dropout import Dropout
from glossator.model.qrnn import QRNN
from glossator.model.tasks import Task

_PREFIX = "task_"


class TaskOutput(NamedTuple):
    """The output for B texts and one task."""

    logits: Tensor
    """[B, outputs] before softmax (single) or sigmoid (multi); the value itself (regression)."""
    attention: Tensor
    """[B, T] weights, each row sums to 1 over its own tokens, 0 on padding."""


class TaskHead(nn.Module):
    """One task's attention and head; without a projection of its own it uses the shared one."""

    def __init__(self, config: NetworkConfig, outputs: int, dropout: float) -> None:
        super().__init__()
        if not config.shared_attention:
            self.project = nn.Linear(2 * config.hidden, config.attention)
        self.score = nn.Linear(config.attention, 1, bias=False)
        self.norm = nn.LayerNorm(config.pooled)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(config.pooled, outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, outputs] logits of texts.

        Args:
            pooled: [B, P] what is attended to, and the other pools.
        """
        logits: Tensor = self.output(self.dropout(self.norm(pooled)))
        return logits


class AttentionRNN(nn.Module):
    """The network; `forward` is for training and reference, an engine for bulk inference."""

    def __init__(
        self,
        config: NetworkConfig,
        tasks: Sequence[Task],
        *,
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        sparse: bool = False,
    ) -> None:
        """Draws the first weights.

        Args:
            config: the sizes.
            tasks: those that have a head.
            dropout: on embeddings (of a token the same in the whole batch), states and pooled
                states.
            embedding_dropout: share of tokens dropped whole, each place for itself.
            sparse: whether the gradient of the embedding is a sparse tensor, of the rows of the
                tokens that occurred; an optimiser has to know such.
        """
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding, sparse=sparse)
        self.embedding_dropout = embedding_dropout
        self.dropout = Dropout(dropout)
        self.rnn = _rnn(config)
        if config.shared_attention:
            self.attention = nn.Linear(2 * config.hidden, config.attention)
        self.heads = nn.ModuleDict(
            {
                # the prefix: a module dictionary refuses the names of its own methods, as `type`
                _PREFIX + task.name: TaskHead(config, task.outputs, dropout)
                for task in tasks
            }
        )
        nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)

    def forward(self, ids: Tensor, lengths: Tensor) -> dict[str, TaskOutput]:
        """The output for every task.

        Args:
            ids: [B, T] token ids, anything on padding.
            lengths: [B] tokens of each text, at least 1, at most T.
        """
        return self.answer(self.encode(ids, lengths), lengths)

    def encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, 2H] states; padding repeats that of the last token, which moves no extreme.

        Args:
            ids: [B, T] token ids, anything on padding.
            lengths: [B] tokens of each text, at least 1, at most T.
        """
        # each distinct token of the batch once, and what dropout leaves of it: as in Merity et al.
        # 2018's dropout on the embedding matrix, all its occurrences share that
        tokens, index = torch.unique(ids[_mask(lengths, ids.shape[1])], return_inverse=True)
        nothing = self.embedding.weight.new_zeros(1, self.config.embedding)
        embedded = torch.cat([self.dropout(self.embedding(tokens)), nothing])
        if self.training and self.embedding_dropout:
            # whole tokens are dropped, as in Gal & Ghahramani 2016, here each place for itself
            dropped = torch.rand(len(index), device=ids.device) < self.embedding_dropout
            index = index.masked_fill(dropped, len(tokens))
            embedded = embedded / (1 - self.embedding_dropout)
        last = lengths - 1
        own = torch.minimum(torch.arange(ids.shape[1], device=ids.device)[:, None], last)
        # each direction starts at a token of the text, and has left it when it comes to padding
        order = torch.stack([own, last - own], dim=1)  # [T, 2, B]
        states = self.dropout(self._recur(embedded, index[order + (lengths.cumsum(0) - lengths)]))
        text = torch.arange(len(ids), device=ids.device)
        direction = torch.arange(2, device=ids.device)[:, None]
        # and the state of a token is where its direction reads it
        place = (2 * order + direction) * len(ids) + text  # in rows of [T, 2, B]
        return _rows(states.flatten(0, 2), place.permute(2, 0, 1)).flatten(2)

    def answer(self, states: Tensor, lengths: Tensor) -> dict[str, TaskOutput]:
        """The output for every task, from the states that `encode` gives."""
        mask = _mask(lengths, states.shape[1])
        # a tensor for each task, which is used as it is given: so there are derivatives by it
        attention = self._attend(states, mask).unbind(1)
        # the mean is what an attention of equal weights would give
        equal = mask.to(states.dtype) / lengths[:, None]
        *attended, mean = torch.bmm(torch.stack([*attention, equal], dim=1), states).unbind(1)
        pools = [states.amax(dim=1), mean]
        if self.config.min_pooling:
            pools.append(states.amin(dim=1))
        return {
            name.removeprefix(_PREFIX): TaskOutput(head(torch.cat([own, *pools], dim=1)), weights)
            for (name, head), own, weights in zip(
                self.heads.items(), attended, attention, strict=True
            )
        }

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights as arrays of their own, by the names of `architecture.tensor_shapes`."""
        return {
            name.replace(f".{_PREFIX}", ".", 1): value.detach().float().numpy(force=True).copy()
            for name, value in self.state_dict().items()
        }

    def load_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Takes over what `weights` of a network of the same sizes and tasks gave."""
        self.load_state_dict(
            {
                name: torch.tensor(weights[name.replace(f".{_PREFIX}", ".", 1)])
                for name in self.state_dict()
            }
        )

    def _recur(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """[T, 2, B, H] states of both directions.

        Args:
            embedded: [U, E] vectors, of which the last is that of no token: zeros.
            tokens: [T, 2, B] rows of it, each direction in the order in which it reads.
        """
        if isinstance(self.rnn, QRNN):
            states: Tensor = self.rnn(embedded, tokens)
            return states
        # a direction at a time: over texts of several lengths torch is half as fast
        start = embedded.new_zeros(1, tokens.shape[2], self.config.hidden)
        parameters: list[Tensor] = list(self.rnn.parameters())
        half = len(parameters) // 2
        directions = []
        for order, weights in zip(
            tokens.unbind(1), (parameters[:half], parameters[half:]), strict=True
        ):
            # with biases, of one layer without dropout, in one direction, time first
            rest = (True, 1, 0.0, self.training, False, False)
            inputs = _rows(embedded, order)
            if isinstance(self.rnn, nn.LSTM):
                directions.append(torch.lstm(inputs, [start, start], weights, *rest)[0])
            else:
                directions.append(torch.gru(inputs, start, weights, *rest)[0])
        return torch.stack(directions, dim=1)

    def _attend(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, tasks, T] attention of every task, by one product for the projections of all."""
        heads = cast(list[TaskHead], list(self.heads.values()))
        scores = [head.score.weight for head in heads]
        if self.config.shared_attention:
            projected, queries = self.attention(states), torch.cat(scores)
        else:
            weight = torch.cat([head.project.weight for head in heads])
            bias = torch.cat([head.project.bias for head in heads])
            projected = functional.linear(states, weight, bias)
            # each scores the part that is its own
            queries = torch.block_diag(*scores)  # type: ignore[no-untyped-call]
        energy = functional.linear(torch.tanh(projected), queries).transpose(1, 2)
        return torch.softmax(energy.masked_fill(~mask[:, None], -torch.inf), dim=2)


def _rnn(config: NetworkConfig) -> nn.Module:
    if config.cell == "qrnn":
        return QRNN(config.embedding, config.hidden)
    rnn = nn.GRU if config.cell == "gru" else nn.LSTM
    return rnn(config.embedding, config.hidden, bidirectional=True)


def _mask(lengths: Tensor, width: int) -> Tensor:
    """[B, T], true on tokens."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """[…, N] rows of [M, N] `values`, for an index of any shape."""
    return values.index_select(0, index.flatten()).view(*index.shape, values.shape[1])
