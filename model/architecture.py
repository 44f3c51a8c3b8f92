"""The sizes of the network and the arrays that its weights are, without any framework.

Shapes: V tokens in the vocabulary, E embedding, H hidden units a direction, G gates of the cell,
A attention units, L outputs of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

from glossator.model.errors import UsageError, shown
from glossator.model.tasks import Task

MAX_VOCABULARY = 1 << 18
MAX_UNITS = 2048
"""Of embedding, hidden and attention units each."""
MAX_NETWORK_BYTES = 1 << 30
"""Of the weights, and of the tables that an engine makes of them."""

_GATES = {"gru": 3, "lstm": 4}


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
        if not isinstance(self.cell, str) or self.cell not in _GATES:
            raise UsageError(f"network: cell {shown(self.cell)} is not one of {', '.join(_GATES)}")
        for name in ("vocabulary", "embedding", "hidden", "attention"):
            value, most = getattr(self, name), MAX_VOCABULARY if name == "vocabulary" else MAX_UNITS
            if type(value) is not int or not 1 <= value <= most:
                raise UsageError(f"network: {name} {shown(value)} is not between 1 and {most:,}")
        if self.table_bytes > MAX_NETWORK_BYTES:
            raise UsageError(
                f"network: a vocabulary of {self.vocabulary:,} with {self.hidden} {self.cell} "
                f"units makes tables of {self.table_bytes:,} bytes, more than "
                f"{MAX_NETWORK_BYTES:,}: use fewer of one of them"
            )

    @property
    def gates(self) -> int:
        """G: 3 of a GRU (reset, update, new), 4 of an LSTM (input, forget, cell, output)."""
        return _GATES[self.cell]

    @property
    def table_bytes(self) -> int:
        """Of the embedding folded into the input projections of both directions, in float32."""
        return 4 * 2 * self.vocabulary * self.gates * self.hidden

    def to_json(self) -> dict[str, Any]:
        """The fields by name; `NetworkConfig(**fields)` reads them back."""
        return asdict(self)


def tensor_shapes(config: NetworkConfig, tasks: Sequence[Task]) -> dict[str, tuple[int, ...]]:
    """The shape of every array of the weights, by its name in `model.safetensors`."""
    embedding, hidden, attention = config.embedding, config.hidden, config.attention
    gates, states = config.gates * hidden, 2 * hidden
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocabulary, embedding)}
    for suffix in ("l0", "l0_reverse"):
        shapes[f"rnn.weight_ih_{suffix}"] = (gates, embedding)
        shapes[f"rnn.weight_hh_{suffix}"] = (gates, hidden)
        shapes[f"rnn.bias_ih_{suffix}"] = (gates,)
        shapes[f"rnn.bias_hh_{suffix}"] = (gates,)
    for task in tasks:
        head = f"heads.{task.name}"
        shapes[f"{head}.project.weight"] = (attention, states)
        shapes[f"{head}.project.bias"] = (attention,)
        shapes[f"{head}.score.weight"] = (1, attention)
        shapes[f"{head}.norm.weight"] = (3 * states,)
        shapes[f"{head}.norm.bias"] = (3 * states,)
        shapes[f"{head}.output.weight"] = (task.outputs, 3 * states)
        shapes[f"{head}.output.bias"] = (task.outputs,)
    return shapes


def parameter_count(config: NetworkConfig, tasks: Sequence[Task]) -> int:
    """How many numbers the weights are."""
    return sum(prod(shape) for shape in tensor_shapes(config, tasks).values())
