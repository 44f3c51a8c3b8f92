"""Charts as SVG for inside a page: no script, nothing fetched, colours from the page's CSS.

Each has a title and a description for who can't see it; the page has its figures as a table too.
The classes are `s0`, `s1` (series), `axis`, `grid`, `guide` and `bar`, and what `course` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple
from xml.etree import ElementTree as ET

from glossator.model.terminal import visible

_WIDTH = 400
"""Of every chart, in units that are pixels on a wide screen; on a phone they are somewhat less."""
_SMALL = 240
"""Width of those of which several stand side by side."""
_LINE = 16
"""Height of a line of text."""
_MAX_CHARS = 52
"""Of a label, which has the chart's width."""


class Interval(NamedTuple):
    """A value with what it may as well be; both bounds equal to it where that is not known."""

    series: str
    value: float
    low: float
    high: float


class Bin(NamedTuple):
    """Predictions of like confidence."""

    low: float
    """Confidence from here on,"""
    high: float
    """to there."""
    rows: int
    confidence: float
    """Mean."""
    right: float
    """Share that was right."""


class Point(NamedTuple):
    """A figure of one day beside its limit."""

    at: float
    """When, in days from anywhere."""
    name: str
    value: float | None
    """None where there was none."""
    limit: float
    outcome: Literal["passed", "refused", "through", "skipped"]


def lines(title: str, description: str, courses: Mapping[str, Sequence[float]]) -> str:
    """Courses over epochs, from epoch 1 on; `courses` has one or two of equal length."""
    height, left, right, bottom = 180, 44, 10, 20 + _LINE
    svg = _svg(title, description, height)
    values = [value for course in courses.values() for value in course]
    ticks = _ticks(min(values), max(values), 4)
    count = max(len(course) for course in courses.values())
    top = 8 + _LINE * (len(courses) > 1)

    def x(index: int) -> float:
        return left + (_WIDTH - left - right) * (index / (count - 1) if count > 1 else 0.5)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return height - bottom - (height - bottom - top) * share

    for tick in ticks:
        _line(svg, left, y(tick), _WIDTH - right, y(tick), "grid")
        _text(svg, left - 8, y(tick) + 4, _number(tick, ticks), "end")
    every = math.ceil(count / 10)
    for index in range(0, count, every):
        _text(svg, x(index), height - bottom + _LINE, str(index + 1), "middle")
    _text(svg, (left + _WIDTH - right) / 2, height - 4, "epoch", "middle")
    for number, course in enumerate(courses.values()):
        points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(course))
        ET.SubElement(svg, "polyline", {"points": points, "class": f"s{number} course"})
        for i, value in enumerate(course):
            _dot(svg, x(i), y(value), number)
    if len(courses) > 1:
        _legend(svg, left + 6, list(courses))
    return _written(svg)


def intervals(
    title: str,
    description: str,
    groups: Sequence[tuple[str, Sequence[Interval]]],
    guide: float | None = None,
) -> str:
    """Values with their intervals, one below the other, under the name of their group.

    Args:
        title: the chart's.
        description: what it shows.
        groups: names with their intervals; the series are at most two, in one order.
        guide: a value at which a line stands, as zero.
    """
    series = list(dict.fromkeys(one.series for _, group in groups for one in group))
    legend = _LINE + 4 if len(series) > 1 else 0
    rows = sum(len(group) for _, group in groups)
    height = legend + len(groups) * (_LINE + 6) + rows * _LINE + _LINE + 10
    svg = _svg(title, description, height)
    left, right = 26, 52
    bounds = [bound for _, group in groups for one in group for bound in (one.low, one.high)]
    bounds += [] if guide is None else [guide]
    ticks = _ticks(min(bounds), max(bounds), 5)

    def x(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return left + (_WIDTH - left - right) * share

    bottom = height - _LINE - 4
    for tick in ticks:
        _line(svg, x(tick), legend, x(tick), bottom, "grid")
        _text(svg, x(tick), height - 4, _number(tick, ticks), "middle")
    if guide is not None:
        _line(svg, x(guide), legend, x(guide), bottom, "guide")
    if legend:
        _legend(svg, 8, series)
    y = legend
    for name, group in groups:
        y += _LINE
        _text(svg, 4, y, name)
        for one in group:
            y += _LINE
            number = series.index(one.series)
            _line(svg, x(one.low), y - 5, x(one.high), y - 5, f"s{number} whisker")
            _dot(svg, x(one.value), y - 5, number)
            _text(svg, _WIDTH - 4, y - 1, f"{one.value:.3f}", "end")
        y += 6
    return _written(svg)


def reliability(title: str, description: str, bins: Sequence[Bin]) -> str:
    """How often predictions of each confidence were right, over how many there were."""
    size, left, top, histogram = 200, 44, 10, 36
    svg = _svg(title, description, top + size + histogram + 2 * _LINE + 6)
    width = _WIDTH - left - 10
    floor = top + size + histogram

    def x(share: float) -> float:
        return left + width * share

    def y(share: float) -> float:
        return top + size * (1 - share)

    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        _line(svg, x(0), y(tick), x(1), y(tick), "grid")
        _text(svg, left - 5, y(tick) + 4, f"{tick:.0%}", "end")
        _text(svg, x(tick), floor + _LINE, f"{tick:.0%}", "end" if tick == 1 else "middle")
    _line(svg, x(0), y(0), x(1), y(1), "guide")
    most = max(one.rows for one in bins)
    for one in bins:
        tall = (histogram - 6) * one.rows / most
        place = {"x": x(one.low) + 1, "y": floor - tall, "width": x(one.high) - x(one.low) - 2}
        ET.SubElement(
            svg,
            "rect",
            {
                **{name: f"{value:.1f}" for name, value in place.items()},
                "height": f"{tall:.1f}",
                "class": "bar",
            },
        )
    points = " ".join(f"{x(one.confidence):.1f},{y(one.right):.1f}" for one in bins)
    ET.SubElement(svg, "polyline", {"points": points, "class": "s0 course"})
    for one in bins:
        _dot(svg, x(one.confidence), y(one.right), 0)
    _text(svg, x(0) + 4, top + 12, "share that was right")
    _text(svg, x(0.5), floor + 2 * _LINE, "confidence (bars: how many)", "middle")
    return _written(svg)


def course(
    title: str,
    description: str,
    points: Sequence[Point],
    bound: Literal["most", "least"],
    read: Callable[[float], str],
) -> str:
    """A small chart of a figure over days; what is beyond its limit is shaded.

    Args:
        title: the chart's.
        description: what it shows.
        points: by day; the last is the one that matters.
        bound: what the limit is of the values.
        read: how a value reads.
    """
    height, left, right, top = 92, 8, 8, 16
    floor = height - _LINE - 6
    svg = _svg(title, description, height, _SMALL)
    figures = [one.value for one in points if one.value is not None]
    most = 1.15 * max(*figures, *(one.limit for one in points), 0.0) or 1.0
    first, span = points[0].at, points[-1].at - points[0].at

    def x(at: float) -> float:
        share = (at - first) / span if span else 0.5
        return left + 6 + (_SMALL - left - right - 12) * share

    def y(value: float) -> float:
        return floor - (floor - top) * max(0.0, value) / most

    edge = [(left, y(points[0].limit)), *((x(one.at), y(one.limit)) for one in points)]
    edge.append((_SMALL - right, y(points[-1].limit)))
    far = top if bound == "most" else floor
    beyond = [(left, far), *edge, (_SMALL - right, far)]
    ET.SubElement(svg, "polygon", {"points": _joined(beyond), "class": "beyond"})
    _line(svg, left, floor, _SMALL - right, floor, "grid")
    ET.SubElement(svg, "polyline", {"points": _joined(edge), "class": "guide limit"})
    _text(svg, _SMALL - right, 11, f"at {bound} {read(points[-1].limit)}", "end")
    drawn = [(x(one.at), y(one.value)) for one in points if one.value is not None]
    ET.SubElement(svg, "polyline", {"points": _joined(drawn), "class": "s0 course"})
    for one in points:
        last = 1.4 if one is points[-1] else 1.0
        _outcome(svg, x(one.at), floor if one.value is None else y(one.value), one.outcome, last)
    _text(svg, left, height - 4, points[0].name if span else "")
    _text(svg, _SMALL - right, height - 4, points[-1].name, "end")
    return _written(svg)


def spark(title: str, description: str, days: Sequence[tuple[float, float]], most: float) -> str:
    """A line for inside a table's row: values by day, from 0 to `most`."""
    width, height, edge = 120, 28, 4
    svg = _svg(title, description, height, width)
    first, span = days[0][0], days[-1][0] - days[0][0]
    drawn = [
        (
            edge + (width - 2 * edge) * ((at - first) / span if span else 1),
            height - edge - (height - 2 * edge) * (value / most if most else 0),
        )
        for at, value in days
    ]
    _line(svg, 0, height - edge, width, height - edge, "grid")
    ET.SubElement(svg, "polyline", {"points": _joined(drawn), "class": "s0 course"})
    _dot(svg, *drawn[-1], 0)
    return _written(svg)


def _outcome(svg: ET.Element, x: float, y: float, outcome: str, size: float) -> None:
    """Told apart by shape too: a dot, a cross, a lozenge, and a ring where there was nothing."""
    name, r = f"mark {outcome}", 3.2 * size
    if outcome == "refused":
        _line(svg, x - r, y - r, x + r, y + r, name)
        _line(svg, x - r, y + r, x + r, y - r, name)
    elif outcome == "through":
        corners = [(x, y - r - 1), (x + r + 1, y), (x, y + r + 1), (x - r - 1, y)]
        ET.SubElement(svg, "polygon", {"points": _joined(corners), "class": name})
    else:
        place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{r:.1f}"}
        ET.SubElement(svg, "circle", {**place, "class": name})


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _svg(title: str, description: str, height: int, width: int = _WIDTH) -> ET.Element:
    svg = ET.Element(
        "svg",
        {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": visible(title)},
    )
    ET.SubElement(svg, "title").text = visible(title)
    ET.SubElement(svg, "desc").text = visible(description)
    return svg


def _legend(svg: ET.Element, x: float, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        _dot(svg, x, 9, number)
        _text(svg, x + 9, 13, name)
        x += 30 + 7 * len(name)


def _line(svg: ET.Element, x1: float, y1: float, x2: float, y2: float, name: str) -> None:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    ET.SubElement(svg, "line", {**{k: f"{v:.1f}" for k, v in ends.items()}, "class": name})


def _dot(svg: ET.Element, x: float, y: float, series: int) -> None:
    """A circle of the first series, a square of the second: told apart without colour."""
    if series == 0:
        place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3.5"}
        ET.SubElement(svg, "circle", {**place, "class": "s0 dot"})
    else:
        place = {"x": f"{x - 3:.1f}", "y": f"{y - 3:.1f}", "width": "6", "height": "6"}
        ET.SubElement(svg, "rect", {**place, "class": f"s{series} dot"})


def _text(svg: ET.Element, x: float, y: float, text: str, anchor: str = "start") -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    shown = visible(text)
    cut = shown if len(shown) <= _MAX_CHARS else f"{shown[: _MAX_CHARS - 1]}…"
    ET.SubElement(svg, "text", place).text = cut


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round values, of which the first is not above `low` and the last not below `high`."""
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [number * step for number in range(first, last + 1)]


def _number(value: float, ticks: Sequence[float]) -> str:
    """A tick in as many decimals as tell the ticks apart."""
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{value:.{decimals}f}"


def _written(svg: ET.Element) -> str:
    return ET.tostring(svg, encoding="unicode", short_empty_elements=False)
