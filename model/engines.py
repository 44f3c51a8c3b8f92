"""The engines there are, and which one is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from glossator.model.architecture import NetworkConfig
from glossator.model.engine import Engine
from glossator.model.native.library import fast, widths
from glossator.model.tasks import Task

Weights = Mapping[str, NDArray[np.float32]]
"""Arrays by name, as `architecture.tensor_shapes` lists them."""
EngineFactory = Callable[[Weights, NetworkConfig, Sequence[Task]], Engine]


def _native(weights: Weights, config: NetworkConfig, tasks: Sequence[Task]) -> Engine:
    from glossator.model.native.engine import NativeEngine

    return NativeEngine(weights, config, tasks)


def _torch(weights: Weights, config: NetworkConfig, tasks: Sequence[Task]) -> Engine:
    from glossator.model.torch_engine import TorchEngine

    return TorchEngine(weights, config, tasks)


ENGINES: Mapping[str, EngineFactory] = {"native": _native, "torch": _torch}
"""By name. Each imports what it needs when it is made."""


def chosen() -> str:
    """The name of the fastest that there is.

    It is torch where the native library was not built, or knows no vectors of the processor.
    """
    return "native" if fast() else "torch"


def description() -> str:
    """What computes networks on this machine, in words."""
    return f"native, {widths()[0]}" if fast() else "torch"


def make_engine(weights: Weights, config: NetworkConfig, tasks: Sequence[Task]) -> Engine:
    """The fastest engine that there is, for some tasks of a network.

    Args:
        weights: of the whole network; heads of other tasks are ignored.
        config: the network's sizes.
        tasks: those that `run` may be asked for.
    """
    return ENGINES[chosen()](weights, config, tasks)
