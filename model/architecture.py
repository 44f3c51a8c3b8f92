"""The sizes of the network and the arrays that its weights are, without any framework.

Shapes: V tokens in the vocabulary, E embedding, H hidden units a direction, G gates of the cell,
A attention units, P numbers pooled over a text, L outputs of a task.
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
MULTIPLE = 4
"""Hidden and attention units are a multiple of this."""
MAX_NETWORK_BYTES = 1 << 30
"""Of the weights, and of the tables that an engine makes of them."""

Cell = Literal["gru", "lstm", "qrnn"]
_GATES: dict[str, int] = {"gru": 3, "lstm": 4, "qrnn": 3}


@dataclass(frozen=True)
class NetworkConfig:
    """The sizes of the network; stands in `bundle.json`."""

    vocabulary: int
    """Token ids are 0 … vocabulary - 1."""
    embedding: int = 128
    """E, numbers for a token."""
    cell: Cell = "gru"
    """The recurrent cell. The gates of a QRNN (Bradbury et al. 2017) depend on a token and its
    neighbour alone: no matrix product waits for the state before."""
    hidden: int = 128
    """H, units a direction."""
    attention: int = 64
    """A, units of an attention."""
    shared_attention: bool = False
    """One projection of the states for all tasks, and a query for each; or one for each task."""
    min_pooling: bool = False
    """Pools the minimum of the states too, beside what is attended to, the maximum and the mean."""

    def __post_init__(self) -> None:
        if not isinstance(self.cell, str) or self.cell not in _GATES:
            raise UsageError(f"network: cell {shown(self.cell)} is not one of {', '.join(_GATES)}")
        for name in ("vocabulary", "embedding", "hidden", "attention"):
            value, most = getattr(self, name), MAX_VOCABULARY if name == "vocabulary" else MAX_UNITS
            if type(value) is not int or not 1 <= value <= most:
                raise UsageError(f"network: {name} {shown(value)} is not between 1 and {most:,}")
        for name in ("hidden", "attention"):
            # the last bits of matrix products of other sizes depend on what else is in the batch
            if (value := getattr(self, name)) % MULTIPLE:
                near = value + -value % MULTIPLE
                raise UsageError(
                    f"network: {name} {value} is no multiple of {MULTIPLE}, so that texts' results "
                    f"would depend on their neighbours: make it {near}"
                )
        for name in ("shared_attention", "min_pooling"):
            if type(getattr(self, name)) is not bool:
                raise UsageError(f"network: {name} {shown(getattr(self, name))} is no boolean")
        if self.table_bytes > MAX_NETWORK_BYTES:
            raise UsageError(
                f"network: a vocabulary of {self.vocabulary:,} with {self.hidden} {self.cell} "
                f"units makes tables of {self.table_bytes:,} bytes, more than "
                f"{MAX_NETWORK_BYTES:,}: use fewer of one of them"
            )

    @property
    def gates(self) -> int:
        """G: 3 of a GRU (reset, update, new), 4 of an LSTM (input, forget, cell, output).

        3 of a QRNN (cell, forget, output).
        """
        return _GATES[self.cell]

    @property
    def pooled(self) -> int:
        """P: what a head is given of a text."""
        return (4 if self.min_pooling else 3) * 2 * self.hidden

    @property
    def table_bytes(self) -> int:
        """Of the embedding folded into the input projections of both directions, in float32.

        A QRNN has two of them: of a token and of its neighbour.
        """
        projections = 2 if self.cell == "qrnn" else 1
        return 4 * 2 * projections * self.vocabulary * self.gates * self.hidden

    def to_json(self) -> dict[str, Any]:
        """The fields by name; `NetworkConfig(**fields)` reads them back."""
        return asdict(self)


def tensor_shapes(config: NetworkConfig, tasks: Sequence[Task]) -> dict[str, tuple[int, ...]]:
    """The shape of every array of the weights, by its name in `model.safetensors`."""
    embedding, hidden, attention = config.embedding, config.hidden, config.attention
    gates, states, pooled = config.gates * hidden, 2 * hidden, config.pooled
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocabulary, embedding)}
    for suffix in ("l0", "l0_reverse"):
        if config.cell == "qrnn":  # of a token and its neighbour
            shapes[f"rnn.weight_{suffix}"] = (gates, 2 * embedding)
            shapes[f"rnn.bias_{suffix}"] = (gates,)
        else:
            shapes[f"rnn.weight_ih_{suffix}"] = (gates, embedding)
            shapes[f"rnn.weight_hh_{suffix}"] = (gates, hidden)
            shapes[f"rnn.bias_ih_{suffix}"] = (gates,)
            shapes[f"rnn.bias_hh_{suffix}"] = (gates,)
    shared = config.shared_attention
    projections = ["attention"] if shared else [f"heads.{task.name}.project" for task in tasks]
    for name in projections:
        shapes[f"{name}.weight"] = (attention, states)
        shapes[f"{name}.bias"] = (attention,)
    for task in tasks:
        head = f"heads.{task.name}"
        shapes[f"{head}.score.weight"] = (1, attention)
        shapes[f"{head}.norm.weight"] = (pooled,)
        shapes[f"{head}.norm.bias"] = (pooled,)
        shapes[f"{head}.output.weight"] = (task.outputs, pooled)
        shapes[f"{head}.output.bias"] = (task.outputs,)
    return shapes


def parameter_count(config: NetworkConfig, tasks: Sequence[Task]) -> int:
    """How many numbers the weights are."""
    return sum(prod(shape) for shape in tensor_shapes(config, tasks).values())


def flops_per_token(config: NetworkConfig, tasks: int) -> int:
    """Floating-point operations of the recurrence and attention of `tasks` tasks, for a token.

    Multiplications and additions, at inference: the input projection is a row of a table. A
    sigmoid or tanh counts as none, nor does pooling by comparison.
    """
    hidden, attention, gates = config.hidden, config.attention, config.gates
    # a unit's gates are sums of two terms (the GRU's new gate has a bias of its own in one, and
    # a factor); the new state costs c + f·(z - c) and o·c, n + z·(h - n), or f·c + i·g and o·tanh
    elementwise = {"gru": gates + 2 + 3, "lstm": gates + 3 + 1, "qrnn": gates + 3 + 1}
    recurrent = 0 if config.cell == "qrnn" else 2 * hidden * gates
    projections = 1 if config.shared_attention else tasks
    states = 2 * hidden
    return (
        states * (recurrent + elementwise[config.cell])
        + projections * attention * (2 * states + 1)
        + tasks * 2 * (attention + states)
    )
