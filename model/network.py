"""The multi-task attention RNN: one shared encoder, and for every task an attention of its own.

tokens → embedding → bidirectional GRU or LSTM → for each task: additive attention (Bahdanau et
al. 2015; one per task as in Yang et al. 2016's word attention) ⊕ max ⊕ mean → LayerNorm → head.
Used for training and as the reference that every engine must agree with. Padding never has an
influence: the recurrence is packed, attention and pooling are masked.

Shapes: B texts, T tokens (padded), E embedding, H hidden units a direction, A attention units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from glossator.model.architecture import NetworkConfig
from glossator.model.tasks import Task

_PREFIX = "task_"


class TaskOutput(NamedTuple):
    """The output for B texts and one task."""

    logits: Tensor
    """[B, outputs] before softmax (single) or sigmoid (multi); the value itself (regression)."""
    attention: Tensor
    """[B, T] weights, each row sums to 1 over its own tokens, 0 on padding."""


class TaskHead(nn.Module):
    """One task's attention and head."""

    def __init__(self, states: int, attention: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(states, attention)
        self.score = nn.Linear(attention, 1, bias=False)
        self.norm = nn.LayerNorm(3 * states)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(3 * states, outputs)

    def forward(self, states: Tensor, mask: Tensor, shared: Tensor) -> TaskOutput:
        """Attends to the states and computes the logits.

        Args:
            states: [B, T, 2H], zero on padding.
            mask: [B, T], true on tokens.
            shared: [B, 4H], the masked max and mean over the states.
        """
        energy = self.score(torch.tanh(self.project(states))).squeeze(-1)
        weights = torch.softmax(energy.masked_fill(~mask, -torch.inf), dim=1)
        attended = torch.einsum("bt,bth->bh", weights, states)
        pooled = self.norm(torch.cat([attended, shared], dim=1))
        return TaskOutput(self.output(self.dropout(pooled)), weights)


class AttentionRNN(nn.Module):
    """The network; `forward` is for training and reference, an engine for bulk inference."""

    def __init__(
        self,
        config: NetworkConfig,
        tasks: Sequence[Task],
        *,
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.embedding_dropout = embedding_dropout
        self.dropout = nn.Dropout(dropout)
        rnn = nn.GRU if config.cell == "gru" else nn.LSTM
        self.rnn = rnn(config.embedding, config.hidden, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleDict(
            {
                # the prefix: a module dictionary refuses the names of its own methods, as `type`
                _PREFIX + task.name: TaskHead(
                    2 * config.hidden, config.attention, task.outputs, dropout
                )
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
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        states = self._encode(ids * mask, lengths)
        highest = states.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)
        mean = states.sum(dim=1) / lengths[:, None]
        shared = torch.cat([highest, mean], dim=1)
        return {
            name.removeprefix(_PREFIX): head(states, mask, shared)
            for name, head in self.heads.items()
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

    def _encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, 2H] states, zero on padding."""
        embedded = self.embedding(ids)
        if self.training and self.embedding_dropout:
            # whole tokens are dropped, as in Gal & Ghahramani 2016
            kept = torch.rand(ids.shape, device=ids.device) >= self.embedding_dropout
            embedded = embedded * (kept[:, :, None] / (1 - self.embedding_dropout))
        packed = pack_padded_sequence(
            self.dropout(embedded), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = self.rnn(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=ids.shape[1])
        return self.dropout(padded)
