"""JSON from files that nobody vouches for: what is no plain JSON of modest depth is an error."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_CONTAINERS = frozenset((dict, list))
MAX_DEPTH = 32
"""Objects and lists within each other."""


def parse(content: bytes) -> Any:
    """The value that UTF-8 encoded JSON holds.

    Raises:
        ValueError: it is not JSON, has a number that is not finite, a key twice in an object, or
            more than `MAX_DEPTH` levels. The message is one line.
    """
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"has more than {MAX_DEPTH} levels") from None
    _check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the key {twice[:80]!r} twice in one object")
    return result


def _constant(name: str) -> NoReturn:
    raise ValueError(f"holds the number {name}, which is not finite")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"holds the number {text[:80]}, which is too large")
    return value


def _check_depth(value: Any) -> None:
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            inner = item.values() if isinstance(item, dict) else item
            if not _CONTAINERS.isdisjoint(map(type, inner)):  # as of most records it is
                below += [one for one in inner if type(one) in _CONTAINERS]
        if not below:
            return
        level = below
    if level:
        raise ValueError(f"has more than {MAX_DEPTH} levels")
