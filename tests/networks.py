"""The kinds of network there are, by a name that says what one is."""

from __future__ import annotations

from typing import cast

from glossator.model.architecture import Cell, NetworkConfig

NETWORKS = ("gru", "gru+shared+min", "lstm+min", "lstm+shared", "qrnn", "qrnn+shared+min")
"""Every pair of a cell, an attention and the pools."""


def config_of(name: str, vocabulary: int, embedding: int, hidden: int) -> NetworkConfig:
    """The sizes of a small network of that kind."""
    cell, *more = name.split("+")
    return NetworkConfig(
        vocabulary=vocabulary,
        embedding=embedding,
        cell=cast(Cell, cell),
        hidden=hidden,
        attention=8,
        shared_attention="shared" in more,
        min_pooling="min" in more,
    )
