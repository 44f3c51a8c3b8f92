"""What a pipeline of the user's own gives: elements as a step gets them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

NAMES = ["sentiment", "themes", "stars"]


BROKEN = b"bad \xff"


REJECTED: list[Any] = [None, "", " \u3000\n"]


class Seen(NamedTuple):
    """An element as a step gets it."""

    tag: str
    value: Any
    timestamp: float
    window: tuple[float, float]


def of(seen: list[Seen], tag: str) -> list[Any]:
    return [one.value for one in seen if one.tag == tag]


def rows_of(parts: list[pa.Table]) -> list[dict[str, Any]]:
    return [row for part in parts for row in part.to_pylist()]


def plain(row: Any) -> Any:
    """A row of Beam as dicts and lists."""
    if hasattr(row, "_asdict"):
        return {name: plain(value) for name, value in row._asdict().items()}
    return [plain(item) for item in row] if isinstance(row, list) else row
