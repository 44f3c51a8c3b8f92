"""What a page is built of: tables, charts with their figures, counts; and how figures read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 60
"""Of a table; a task may have a thousand labels."""

Cell = str | int | float | None


class Table(NamedTuple):
    """Figures by row; a cell is text, a count, a measure of three decimals, or nothing."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left_out: int = 0
    """Rows that are not shown."""


class Chart(NamedTuple):
    """A chart, and the same as figures."""

    svg: str
    table: Table


class Heat(NamedTuple):
    """Counts by two names, shaded by their share of the row's heaviest."""

    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    shades: Sequence[Sequence[int]]
    """0 to 100."""


def heat(names: Iterable[str], counts: NDArray[np.int64]) -> Heat:
    """Counts, each shaded by its share of its row's heaviest."""
    most = np.maximum(counts.max(axis=1, keepdims=True), 1)
    return Heat(list(names), counts.tolist(), np.rint(100 * counts / most).astype(int).tolist())


def interval(value: Sequence[float] | None, *, signed: bool = False) -> str:
    """A value with its interval; a dash where there is none."""
    if not value or not all(map(finite, value)):
        return "–"
    form = "+.3f" if signed else ".3f"
    return f"{value[0]:{form}} [{value[1]:{form}}, {value[2]:{form}}]"


def cell(value: Cell) -> str:
    """How a cell reads; a dash where there is nothing."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def finite(value: Any) -> bool:
    """Whether it is a number, and no infinite one."""
    return isinstance(value, (int, float)) and math.isfinite(value)
