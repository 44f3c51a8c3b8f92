"""`model.safetensors`: the weights as bytes, believed only where they are what they must be."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from glossator.model import strict_json
from glossator.model.errors import shown

MAX_HEADER_BYTES = 1 << 20
MAX_WEIGHT = 1e6
"""Of a weight's size: with larger ones a logit might not be finite. Trained ones are below 100."""

Shapes = Mapping[str, tuple[int, ...]]


def render(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The file of some weights."""
    return save({name: np.ascontiguousarray(array) for name, array in weights.items()})


def max_bytes(shapes: Shapes) -> int:
    """How large the file of weights of these shapes can be."""
    return 8 + MAX_HEADER_BYTES + sum(4 * prod(shape) for shape in shapes.values())


def parse(content: bytes, shapes: Shapes) -> dict[str, NDArray[np.float32]]:
    """The weights that a file holds, by name.

    Args:
        content: of the file.
        shapes: those that it must have, in float32; no others.

    Raises:
        ValueError: it holds others, or a number that is no weight. The message is one line.
    """
    _check_header(content, shapes)
    try:
        weights = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"is not safetensors: {shown(str(error))}") from error
    check(weights, shapes)
    return {name: weights[name] for name in shapes}


def check(weights: Mapping[str, NDArray[np.float32]], shapes: Shapes) -> None:
    """Checks names, shapes, types and range of weights.

    Raises:
        ValueError: one is not as it must be.
    """
    _check_names(weights, shapes)
    for name, array in weights.items():
        if array.shape != shapes[name] or array.dtype != np.float32:
            found = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"{name} is {found} instead of float32 {list(shapes[name])}")
        # comparing leaves NaN out, and a maximum needs no copy
        if not (array.max() <= MAX_WEIGHT and array.min() >= -MAX_WEIGHT):
            raise ValueError(f"{name} holds numbers that are not between ±{MAX_WEIGHT:g}")


def _check_header(content: bytes, shapes: Shapes) -> None:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError("is not safetensors: its header does not fit")
    header = strict_json.parse(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("is not safetensors: its header is no object")
    _check_names(header, shapes)
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: _begin(item[1])):
        end = at + 4 * prod(shapes[name])
        expected = {"dtype": "F32", "shape": [*shapes[name]], "data_offsets": [at, end]}
        if entry != expected:
            raise ValueError(f"describes {name} as {shown(entry)} instead of {shown(expected)}")
        at = end
    if 8 + length + at != len(content):
        raise ValueError(f"has {len(content):,} bytes, its header says {8 + length + at:,}")


def _begin(entry: Any) -> int:
    """Where an entry says that its data begins; what says nothing sensible comes first."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    begin = offsets[0] if isinstance(offsets, list) and offsets else None
    return begin if isinstance(begin, int) else -1


def _check_names(found: Mapping[str, Any], shapes: Shapes) -> None:
    if missing := sorted(shapes.keys() - found.keys()):
        raise ValueError(f"has no {missing[0]}")
    if unknown := sorted(found.keys() - shapes.keys()):
        raise ValueError(f"has an unknown {shown(unknown[0])}")
