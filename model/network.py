"""The multi-task attention RNN: one shared encoder, and for every task an attention of its own.

tokens → embedding → bidirectional GRU or LSTM → for each task: additive attention (Bahdanau et
al. 2015; one per task as in Yang et al. 2016's word attention) ⊕ max ⊕ mean → LayerNorm → head.
Used for training and as the reference that `engine.py` must agree with. Padding never has an
influence: the recurrence is packed, attention and pooling are masked.

Shapes: B texts, T tokens (padded), E embedding, H hidden units a direction, A attention units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from glossator.model.errors import UsageError
from glossator.model.tasks import Task


@dataclass(frozen=True)
class NetworkConfig:
    """The sizes of the network; stands in `bundle.json`."""

    vocabulary: int
    """Token ids are 0 … vocabulary - 1."""
    embedding: int = 128
    """E, numbers for a token."""
    cell: Literal["gru", "lstm"] = "gru"
    """The recurrent cell."""
    hidden: int = 128
    """H, units a direction."""
    attention: int = 64
    """A, units of each task's attention."""

    def __post_init__(self) -> None:
        if self.cell not in ("gru", "lstm"):
            raise UsageError(f"network: cell {self.cell!r} is not one of gru, lstm")
        for name in ("vocabulary", "embedding", "hidden", "attention"):
            if getattr(self, name) < 1:
                raise UsageError(f"network: {name} must be positive, not {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """The fields by name; `NetworkConfig(**fields)` reads them back."""
        return asdict(self)


class TaskOutput(NamedTuple):
    """What the network says of B texts for one task."""

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
        """Attends to the states and answers.

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
    """The network; `forward` is for training and reference, `engine.Engine` for bulk inference."""

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
                task.name: TaskHead(2 * config.hidden, config.attention, task.outputs, dropout)
                for task in tasks
            }
        )
        nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)

    def forward(self, ids: Tensor, lengths: Tensor) -> dict[str, TaskOutput]:
        """Answers for every task.

        Args:
            ids: [B, T] token ids, anything on padding.
            lengths: [B] tokens of each text, at least 1, at most T.
        """
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        states = self._encode(ids * mask, lengths)
        highest = states.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)
        mean = states.sum(dim=1) / lengths[:, None]
        shared = torch.cat([highest, mean], dim=1)
        return {name: head(states, mask, shared) for name, head in self.heads.items()}

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
