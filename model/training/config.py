"""How a model is trained: sizes and settings, each with what it does."""

from __future__ import annotations

from dataclasses import dataclass

from glossator.model.architecture import Cell, NetworkConfig
from glossator.model.errors import UsageError
from glossator.model.ngrams import MAX_BITS, MIN_BITS
from glossator.model.words import MAX_TOKENS

MAX_PARTS = 20
"""More would only take longer: each learns from all rows but a twentieth."""
_RANGES = {
    "epochs": (1, 1e4),
    "patience": (1, 1e4),
    "batch": (1, 1e5),
    "learning_rate": (1e-8, 1.0),
    "dropout": (0.0, 0.95),
    "embedding_dropout": (0.0, 0.95),
    "smoothing": (0.0, 0.95),
    "teaching": (0.0, 1.0),
    "seed": (0, 2**32 - 1),
}
"""Least and largest values of settings."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; stands in the bundle's provenance."""

    vocabulary: int = 16_000
    """Tokens that the tokenizer may learn."""
    max_tokens: int = 512
    """Tokens of a text that are read."""
    embedding: int = 128
    """Numbers for a token."""
    cell: Cell = "gru"
    """gru, lstm or qrnn."""
    hidden: int = 64
    """Units a direction."""
    attention: int = 32
    """Units of an attention."""
    shared_attention: bool = True
    """One projection for the attention of all tasks, and a query for each."""
    min_pooling: bool = True
    """Pools the minimum of the states too."""
    epochs: int = 4
    """At most; it stops early."""
    patience: int = 2
    """Epochs without a better validation score before it stops."""
    batch: int = 128
    """Texts a step."""
    learning_rate: float = 3e-3
    """At its height, after a tenth of the steps (one-cycle; Smith & Topin 2018)."""
    dropout: float = 0.4
    """On embeddings, states and pooled states."""
    embedding_dropout: float = 0.1
    """Share of tokens dropped whole."""
    smoothing: float = 0.05
    """Label smoothing of single tasks."""
    parts: int = 0
    """Parts of the rows that take turns at being left out by a network that then teaches the last
    one; 0 is no such teachers."""
    teaching: float = 0.8
    """Share of the loss that is by what teachers say, where there are any."""
    vectors: bool = True
    """Whether the embedding begins as vectors of the tokens' neighbours; see `vectors`."""
    ngrams: int = 18
    """Bits of the n-gram expert's buckets; 0 is no expert."""
    seed: int = 1
    """Of everything random."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # which NaN is not either
                raise UsageError(f"{name} {value} is not between {low:g} and {high:g}")
        if not 1 <= self.max_tokens <= MAX_TOKENS:
            raise UsageError(f"max_tokens {self.max_tokens} is not between 1 and {MAX_TOKENS:,}")
        if self.vocabulary < 257:
            raise UsageError(f"vocabulary {self.vocabulary} has no room beside the 256 bytes")
        if self.ngrams and not MIN_BITS <= self.ngrams <= MAX_BITS:
            raise UsageError(
                f"ngrams {self.ngrams} is neither 0 nor between {MIN_BITS} and {MAX_BITS}"
            )
        if self.parts == 1 or not 0 <= self.parts <= MAX_PARTS:
            raise UsageError(f"parts {self.parts} is neither 0 nor between 2 and {MAX_PARTS}")
        self.network(self.vocabulary)  # which refuses sizes out of range

    def network(self, vocabulary: int) -> NetworkConfig:
        """The sizes of the network for a tokenizer of so many tokens."""
        return NetworkConfig(
            vocabulary,
            self.embedding,
            self.cell,
            self.hidden,
            self.attention,
            self.shared_attention,
            self.min_pooling,
        )
