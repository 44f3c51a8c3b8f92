"""Where the time went: the slowest splits, and the stages of all of them."""

from __future__ import annotations

import statistics
from pathlib import PurePosixPath

from glossator.model.report.blocks import Cell, Table
from glossator.pipeline.metrics import STAGES
from glossator.pipeline.night_report.facts import Facts
from glossator.pipeline.outputs.staging import SplitRecord

_SPLITS = 8
_FILES = 20
"""Of those that could not be read, or not all."""


def slowest(facts: Facts) -> Table | None:
    """The splits that took longest, without the loading of the model.

    One that was carried over from an earlier run took none.
    """
    spent = ((_seconds(record), record) for record in facts.records)
    timed = sorted((one for one in spent if one[0]), key=lambda one: -one[0])
    if not timed:
        return None
    rows: list[list[Cell]] = []
    for seconds, record in timed[:_SPLITS]:
        speed = record.rows_read / seconds
        rows.append([_files(record), record.rows_read, seconds, f"{speed:,.0f}", record.part])
    head = ("split", "rows", "seconds", "rows a second", "part")
    return Table(head, rows, len(timed) - len(rows))


def remark(facts: Facts) -> str:
    """The slowest split beside a usual one."""
    seconds = list(filter(None, map(_seconds, facts.records)))
    if len(seconds) < 2:
        return ""
    median = statistics.median(seconds)
    return (
        f"{len(seconds):,} splits; the slowest took {max(seconds) / median:.1f} times as long as"
        f" the median's {median:.3f} s."
    )


def stages(facts: Facts) -> Table | None:
    """What the workers' time went to."""
    found = facts.manifest.metrics.get("distributions", {})
    sums = [(stage, found[f"{stage}_ms"]) for stage in STAGES if f"{stage}_ms" in found]
    total = sum(one["sum"] for _, one in sums)
    rows: list[list[Cell]] = [
        [
            *(stage.replace("_", " "), one["sum"] / 1000, f"{one['sum'] / max(1, total):.0%}"),
            *(one["sum"] / max(1, one["count"]) / 1000, one["max"] / 1000),
        ]
        for stage, one in sums
        if one["sum"]
    ]
    head = ("stage", "seconds of all threads", "share", "a split", "slowest split")
    return Table(head, rows) if rows else None


def unread(facts: Facts) -> Table | None:
    """The files that could not be read, and why; or not all, and how many rows."""
    rows: list[list[Cell]] = [
        [source.uri, "whole file", source.error]
        for source in facts.manifest.inputs
        if source.error is not None
    ]
    for record in facts.records:
        for one in record.ranges:
            if one.rows_unreadable:
                why = f"rows {one.start:,} to {one.stop:,}: the rejects say why"
                rows.append([one.source, f"{one.rows_unreadable:,} rows", why])
    shown = rows[:_FILES]
    return Table(("file", "not read", "why"), shown, len(rows) - len(shown)) if rows else None


def _seconds(record: SplitRecord) -> float:
    return sum(
        record.metrics.get(f"{stage}_seconds", 0.0) for stage in STAGES if stage != "model_load"
    )


def _files(record: SplitRecord) -> str:
    if not record.ranges:
        return "no file"
    first, count = record.ranges[0], len(record.ranges)
    name = PurePosixPath(first.source).name
    if count > 1:
        return f"{name} and {count - 1:,} more"
    return f"{name}, rows {first.start:,} to {first.stop:,}"
