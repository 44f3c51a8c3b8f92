"""What computes the network: the interface that every engine has, and what it gives.

An engine takes token ids and gives logits, and, where it is told what speaks for each answer, how
much each token contributed to that. A text's result is a function of the text and the weights
alone: of the same bits alone, in a batch, beside any neighbours, and from any number of threads.
`engines.py` makes one; one suite of tests holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from glossator.model.tokenizer import Tokens

OnProgress = Callable[[int], None]
"""Receives how many texts were finished since the last call."""

Leaning = Callable[[str, NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]
"""What speaks for the answers: from a task's name, [r] some texts of a call and [r, outputs] the
network's logits for them to [r, outputs] the change of the logits that speaks most for each answer,
as `Rules.leaning` has it. A row may depend on its own text alone."""


class Contributions(NamedTuple):
    """How much each token of n texts contributed to one task's answers.

    A token's state h enters the answer by the attended state Σ α·h, so what it adds to what speaks
    for the answer is α·h·w, with w the derivative of that by the attended state: through the head
    and its normalization. The positive ones count, as shares; where none is, the attention α does.
    """

    weights: NDArray[np.float32]
    """[t] share of each token, each text's summing to 1."""
    entropy: NDArray[np.float32]
    """[n] entropy of the shares in nats: 0 where all lies on one token."""


class Scores(NamedTuple):
    """The network's output for n texts and one task."""

    logits: NDArray[np.float32]
    """[n, outputs] before softmax (single) or sigmoid (multi); the value itself (regression)."""
    contributions: Contributions | None
    """None where nobody said what speaks for the answers."""


@dataclass(frozen=True)
class EngineResult:
    """The network's output for n texts."""

    scores: dict[str, Scores]
    """By task name, in the order in which the tasks were asked for."""
    padded_tokens: int
    """Tokens that were computed, padding included."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What it took, of the stages recurrence and attention; without those not told apart."""


class Engine(Protocol):
    """The trained network, laid out for inference. Safe to share between threads."""

    @property
    def name(self) -> str:
        """Its name in `engines.ENGINES`."""
        ...

    def run(
        self,
        tokens: Tokens,
        tasks: Sequence[str],
        on_progress: OnProgress | None = None,
        leaning: Leaning | None = None,
    ) -> EngineResult:
        """Scores texts for some of the tasks that the engine was made for.

        Args:
            tokens: of n texts, each with at least one token.
            tasks: names of tasks.
            on_progress: is called after each block of texts.
            leaning: is called for each task of a block; without it no contributions are computed.

        Raises:
            ValueError: a text has no tokens.
        """
        ...
