"""What the page says first: published or refused, and why; and the figures beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

from glossator.pipeline.gates.refusal import in_words
from glossator.pipeline.inputs.discover import counted
from glossator.pipeline.night_report.facts import Facts
from glossator.pipeline.outputs.staging import REJECTS


class Verdict(NamedTuple):
    """What became of the run."""

    outcome: Literal["passed", "through", "refused"]
    said: str
    why: Sequence[str]
    """The checks that have not passed."""
    then: Sequence[str]
    """What readers have, and what to do."""


class Figure(NamedTuple):
    """A number with its name, and what it is beside."""

    value: str
    name: str
    note: str = ""


def verdict(facts: Facts) -> Verdict:
    """Whether it was published, in a line, and why."""
    failed = [check for check in facts.manifest.checks if not check.passed]
    why = [in_words(check) for check in failed]
    if not facts.refused:
        others = f"{_passed(facts)}."
        if not failed:
            return Verdict("passed", "Published", (), (others,))
        return Verdict(
            "through", f"Published: {_checks(len(failed))} let through by --accept", why, (others,)
        )
    stays = "Nothing was published here before: readers find nothing."
    if facts.history:
        now = facts.history[0]
        stays = (
            f"Readers still find run {now.run_id} of {now.published}:"
            f" {now.rows_labelled:,} labelled rows."
        )
    accepted = " ".join(f"--accept {check.name}" for check in failed if not check.accepted)
    remedy = (
        "Repair the input or the model and run the same command again; or, once it is understood,"
        f" add {accepted} to it: what is labelled is kept, and is published at once."
    )
    refused = sum(not check.accepted for check in failed)
    said = f"Refused: {_checks(refused)} not passed; nothing was published"
    return Verdict("refused", said, why, (stays, remedy))


def figures(facts: Facts) -> list[Figure]:
    """The few that say how much it was."""
    totals, timings = facts.manifest.totals, facts.manifest.timings
    seconds = timings.get("wall_seconds", 0.0)
    reasons = counted(totals.rejects)
    return [
        Figure(f"{totals.rows_read:,}", "rows read", _beside(facts)),
        Figure(f"{totals.rows_labelled:,}", "labelled", _parts(len(facts.manifest.parts))),
        Figure(f"{totals.rows_rejected:,}", "rejected", reasons or "none"),
        Figure(
            f"{totals.rows_unreadable:,}",
            "rows not read",
            f"and {totals.files_unreadable:,} whole file{'s' * (totals.files_unreadable != 1)}",
        ),
        Figure(_duration(seconds), "from start to end", _speed(facts)),
    ]


def came_in(facts: Facts) -> list[tuple[str, str]]:
    """The input, by name and value."""
    manifest = facts.manifest
    size = sum(source.size for source in manifest.inputs)
    found = [
        ("asked for", ", ".join(map(str, manifest.options.get("inputs", ())))),
        ("files", f"{len(manifest.inputs):,}, {_bytes(size)}"),
        ("rows in them", f"{sum(source.rows for source in manifest.inputs):,}"),
        ("skipped", counted(manifest.skipped) or "nothing"),
        ("text column", str(manifest.options.get("text", ""))),
        ("key columns", ", ".join(manifest.options.get("keys", ())) or "none"),
    ]
    if same := manifest.metrics.get("counters", {}).get("carried_rows"):
        found.append(("not labelled anew", f"{same:,} rows of splits that did not change"))
    if known := manifest.metrics.get("counters", {}).get("reused_rows"):
        found.append(("texts taken over", f"{known:,} rows, from the parts of the last nights"))
    if manifest.empty:
        found.append(("empty, with _SUCCESS", ", ".join(manifest.empty)))
    return found


def went_out(facts: Facts) -> list[tuple[str, str]]:
    """The output, by name and value."""
    parts, rejects = facts.manifest.parts, facts.manifest.rejects
    size = sum(part.bytes for part in parts)
    where = "waits in" if facts.refused else "to be read as"
    table = facts.manifest.options.get("table")
    return [
        (where, f"{facts.folder}/part-*.parquet"),
        ("parts", f"{len(parts):,}, {sum(part.rows for part in parts):,} rows, {_bytes(size)}"),
        (
            "rejects",
            f"{sum(file.rows for file in rejects):,} lines in {facts.folder}/{REJECTS}"
            if rejects
            else "none",
        ),
        *([("table", str(table))] if table and not facts.refused else []),
    ]


def _passed(facts: Facts) -> str:
    """How many checks have passed, and how many there was nothing for."""
    checks = facts.manifest.checks
    nothing = sum(check.value is None for check in checks)
    passed = sum(check.passed for check in checks) - nothing
    return f"{_checks(passed)} passed" + (f", {nothing} had nothing to check" if nothing else "")


def _beside(facts: Facts) -> str:
    """The rows beside the median of the nights before."""
    counts = [day.manifest.totals.rows_read for day in facts.days[:-1] if day.manifest is not None]
    median = statistics.median(counts) if counts else 0
    if not median:
        return "nothing to compare with"
    share = facts.manifest.totals.rows_read / median
    return f"{share:.0%} of the median of {len(counts)} before"


def _speed(facts: Facts) -> str:
    seconds = facts.manifest.timings.get("labelling_seconds", 0.0)
    if seconds <= 0:
        return ""
    return f"{facts.manifest.totals.rows_read / seconds:,.0f} rows a second of labelling"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 120 else f"{minutes} min"


def _bytes(count: int) -> str:
    size, units = float(count), iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and (larger := next(units, "")):
        size, unit = size / 1000, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


def _checks(count: int) -> str:
    return f"{count:,} check{'s' * (count != 1)}"


def _parts(count: int) -> str:
    return f"in {count:,} part{'s' * (count != 1)}"
