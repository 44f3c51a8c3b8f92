"""Files of arrays as bytes, believed only where they are what they must be."""

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

_TYPES = {"F32": np.float32, "I8": np.int8, "U8": np.uint8}
"""NumPy's types of those of safetensors."""

Arrays = Mapping[str, NDArray[Any]]
Types = Mapping[str, tuple[str, tuple[int, ...]]]
"""The type, as safetensors calls it, and the shape of each array, by name."""


def float32(shapes: Mapping[str, tuple[int, ...]]) -> Types:
    """Arrays of these shapes, all in float32."""
    return {name: ("F32", shape) for name, shape in shapes.items()}


def render(weights: Arrays) -> bytes:
    """The file of some weights."""
    return save({name: np.ascontiguousarray(array) for name, array in weights.items()})


def max_bytes(types: Types) -> int:
    """How large the file of such arrays can be."""
    return 8 + MAX_HEADER_BYTES + sum(_bytes(*one) for one in types.values())


def parse(content: bytes, types: Types) -> dict[str, NDArray[Any]]:
    """The weights that a file holds, by name.

    Args:
        content: of the file.
        types: of those that it must have; no others.

    Raises:
        ValueError: it holds others, or a number that is no weight. The message is one line.
    """
    _check_header(content, types)
    try:
        weights = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"is not safetensors: {shown(str(error))}") from error
    check(weights, types)
    return {name: weights[name] for name in types}


def check(weights: Arrays, types: Types) -> None:
    """Checks names, shapes, types and range of weights.

    Raises:
        ValueError: one is not as it must be.
    """
    _check_names(weights, types)
    for name, array in weights.items():
        kind, shape = types[name]
        dtype = np.dtype(_TYPES[kind])
        if array.shape != shape or array.dtype != dtype:
            found = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"{name} is {found} instead of {dtype} {list(shape)}")
        # comparing leaves NaN out, and a maximum needs no copy
        if kind == "F32" and not (array.max() <= MAX_WEIGHT and array.min() >= -MAX_WEIGHT):
            raise ValueError(f"{name} holds numbers that are not between ±{MAX_WEIGHT:g}")


def _check_header(content: bytes, types: Types) -> None:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError("is not safetensors: its header does not fit")
    header = strict_json.parse(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("is not safetensors: its header is no object")
    _check_names(header, types)
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: _begin(item[1])):
        kind, shape = types[name]
        end = at + _bytes(kind, shape)
        expected = {"dtype": kind, "shape": [*shape], "data_offsets": [at, end]}
        if entry != expected:
            raise ValueError(f"describes {name} as {shown(entry)} instead of {shown(expected)}")
        at = end
    if 8 + length + at != len(content):
        raise ValueError(f"has {len(content):,} bytes, its header says {8 + length + at:,}")


def _bytes(kind: str, shape: tuple[int, ...]) -> int:
    return np.dtype(_TYPES[kind]).itemsize * prod(shape)


def _begin(entry: Any) -> int:
    """Where an entry says that its data begins; what says nothing sensible comes first."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    begin = offsets[0] if isinstance(offsets, list) and offsets else None
    return begin if isinstance(begin, int) else -1


def _check_names(found: Mapping[str, Any], types: Types) -> None:
    if missing := sorted(types.keys() - found.keys()):
        raise ValueError(f"has no {missing[0]}")
    if unknown := sorted(found.keys() - types.keys()):
        raise ValueError(f"has an unknown {shown(unknown[0])}")
