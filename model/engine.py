"""What computes the network: the interface that every engine has, and what it gives.

An engine takes token ids and gives logits and attention. A text's result is a function of the
text and the weights alone: of the same bits alone, in a batch, beside any neighbours, and from
any number of threads. `engines.py` makes one; one suite of tests holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from glossator.model.tokenizer import Tokens

OnProgress = Callable[[int], None]
"""Receives how many texts were finished since the last call."""


class Scores(NamedTuple):
    """The network's output for n texts and one task."""

    logits: NDArray[np.float32]
    """[n, outputs] before softmax (single) or sigmoid (multi); the value itself (regression)."""
    attention: NDArray[np.float32]
    """[t] weight of each token, each text's summing to 1."""
    entropy: NDArray[np.float32]
    """[n] entropy of the attention in nats: 0 where all of it lies on one token."""


@dataclass(frozen=True)
class EngineResult:
    """The network's output for n texts."""

    scores: dict[str, Scores]
    """By task name, in the order in which the tasks were asked for."""
    padded_tokens: int
    """Tokens that were computed, padding included."""


class Engine(Protocol):
    """The trained network, laid out for inference. Safe to share between threads."""

    @property
    def name(self) -> str:
        """Its name in `engines.ENGINES`."""
        ...

    def run(
        self, tokens: Tokens, tasks: Sequence[str], on_progress: OnProgress | None = None
    ) -> EngineResult:
        """Scores texts for some of the tasks that the engine was made for.

        Args:
            tokens: of n texts, each with at least one token.
            tasks: names of tasks.
            on_progress: is called after each block of texts.

        Raises:
            ValueError: a text has no tokens.
        """
        ...
