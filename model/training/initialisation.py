"""What training begins with: a tokenizer, and a network that knows what tokens stand beside."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.architecture import NetworkConfig
from glossator.model.bundle import Bundle
from glossator.model.network import AttentionRNN
from glossator.model.progress import Report
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer, Tokens
from glossator.model.training.config import TrainingConfig
from glossator.model.training.vectors import token_vectors

_TOKENIZER_CHARS = 20_000_000
"""Of unlabelled texts, for the tokenizer: more change it little, and take longer."""


def initial_tokenizer(
    texts: Sequence[str],
    unlabelled: Sequence[str],
    settings: TrainingConfig,
    init: Bundle | None,
    report: Report,
) -> Tokenizer:
    """The tokenizer of `init`, or one that is learnt from the texts.

    Args:
        texts: those to learn from.
        unlabelled: more of them.
        settings: how large it may be.
        init: a bundle to take it from.
        report: receives lines of progress.
    """
    if init is not None:
        return init.tokenizer
    more = f" and {len(unlabelled):,} without labels" if unlabelled else ""
    report(f"learning the tokenizer from {len(texts):,} texts{more}")
    some = [*texts, *_sample(unlabelled, _TOKENIZER_CHARS)]
    return Tokenizer.train(some, settings.vocabulary, settings.max_tokens)


def known_weights(
    tokens: Tokens,
    tokenizer: Tokenizer,
    tasks: tuple[Task, ...],
    settings: TrainingConfig,
    init: Bundle | None,
    report: Report,
) -> tuple[NetworkConfig, dict[str, NDArray[np.float32]]]:
    """The sizes of the network, and those of its weights that are known before the first step.

    Args:
        tokens: of all texts, labelled or not.
        tokenizer: whose tokens they are.
        tasks: what to learn.
        settings: how.
        init: a bundle to take its embedding, its encoder and heads of the same tasks from.
        report: receives lines of progress.
    """
    if init is not None:
        heads = {task.name for task in tasks if any(map(task.is_like, init.tasks))}
        return init.config, inherited(init.weights, heads)
    config = settings.network(tokenizer.size)
    if not settings.vectors:
        return config, {}
    report("learning what the tokens' neighbours are")
    vectors = token_vectors(tokens, tokenizer.size, settings.embedding, settings.seed)
    drawn = make_network(config, tasks, settings).weights()["embedding.weight"]
    return config, {"embedding.weight": _as_large(vectors, drawn)}


def make_network(
    config: NetworkConfig, tasks: tuple[Task, ...], settings: TrainingConfig
) -> AttentionRNN:
    """A network with random weights."""
    return AttentionRNN(
        config,
        tasks,
        dropout=settings.dropout,
        embedding_dropout=settings.embedding_dropout,
    )


def inherited(weights: Mapping[str, Any], heads: Collection[str]) -> dict[str, Any]:
    """What a network takes over from another: all but the heads of tasks that it has not.

    Args:
        weights: of the other, by name.
        heads: the tasks whose heads it takes.
    """
    known = tuple(f"heads.{name}." for name in heads)
    return {
        name: array
        for name, array in weights.items()
        if not name.startswith("heads.") or name.startswith(known)
    }


def _sample(texts: Sequence[str], chars: int) -> Iterator[str]:
    """Every so-manieth text, of so many characters in all."""
    total = sum(len(text) for text in texts)
    return islice(texts, 0, None, max(1, -(-total // chars)))


def _as_large(vectors: NDArray[np.float32], drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors as large on the average as what they replace, which stays where there is none."""
    known = np.abs(vectors).sum(axis=1) > 0
    if not known.any():
        return drawn
    scale = drawn.std() / np.sqrt(np.square(vectors[known]).mean())
    return np.where(known[:, None], vectors * scale, drawn).astype(np.float32)
