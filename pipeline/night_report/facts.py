"""What the page tells of, gathered from an output: a run and its rejects, the nights before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from glossator.model.errors import GlossatorError, UsageError
from glossator.model.store import open_store, redacted
from glossator.pipeline.gates import canary, nights
from glossator.pipeline.gates.nights import NIGHTS, Night, Nights
from glossator.pipeline.gates.refusal import refusal_in
from glossator.pipeline.night_report.rejects import Reject, some_rejects
from glossator.pipeline.outputs import layout
from glossator.pipeline.outputs.manifest import Check, Manifest, Version
from glossator.pipeline.outputs.publish import manifest_of, staging
from glossator.pipeline.outputs.staging import RUN_ID, Canary, SplitRecord, completed_records

_TEXTS = 12
"""That are quoted, where any are."""


@dataclass(frozen=True)
class Day:
    """A night, this one or one before."""

    name: str
    """Its date; of an output that is the same every night, when it was published."""
    at: float
    """Its place among them: days, or numbers."""
    checks: tuple[Check, ...]
    manifest: Manifest | None
    """None where it was refused, and this is not that night's page."""
    refused: bool = False


@dataclass(frozen=True)
class Facts:
    """What a page tells of."""

    output: str
    """As it may be shown; so is the folder."""
    folder: str
    """The run's."""
    manifest: Manifest
    days: tuple[Day, ...]
    """The oldest first; the last is this run."""
    last: Night | None
    """What the run was compared with."""
    history: tuple[Version, ...]
    """What was published here before, the last first."""
    records: tuple[SplitRecord, ...]
    rejects: tuple[Reject, ...]
    texts: tuple[Canary, ...] = ()
    """To be quoted."""
    characters: int = 0
    """Of each of them, and of what rejects say of keys; 0 quotes nothing of the data."""

    @property
    def refused(self) -> bool:
        """Whether a check kept the run from being published."""
        return self.days[-1].refused


def of_run(
    output: str,
    manifest: Manifest,
    records: Sequence[SplitRecord],
    found: Nights,
    before: Sequence[str],
    *,
    refused: bool = False,
    characters: int = 0,
) -> Facts:
    """All that is told of a run that was just published, or refused, or is current.

    Args:
        output: the output.
        manifest: of the run, with its checks.
        records: of its splits.
        found: what was published before.
        before: the outputs of earlier dates, the last one first.
        refused: whether it was not published.
        characters: so many of a text are quoted at most.

    Raises:
        OSError: the store does not answer.
        GlossatorError: a file of the run can't be read.
    """
    history = manifest.history
    if refused and found.here is not None:
        history = (Version.of(found.here.manifest), *found.here.manifest.history)
    earlier, today = found.earlier or _kept(output, history), _date(manifest)
    folder = staging(output, manifest.run_id)
    return Facts(
        redacted(output),
        redacted(folder),
        manifest,
        _by_date(manifest, today, earlier, before, refused)
        if found.earlier and today
        else _by_publication(manifest, earlier, refused),
        next(iter(earlier), None),
        history,
        tuple(sorted(records, key=lambda record: record.index)),
        some_rejects(folder, records, characters),
        canary.load(output, manifest.run_id)[:_TEXTS] if characters else (),
        characters,
    )


def of_output(output: str, run_id: str, *, characters: int = 0) -> Facts:
    """All that is told of a run that is published.

    Args:
        output: the output.
        run_id: of the run.
        characters: so many of a text are quoted at most.

    Raises:
        UsageError: the run, or its manifest, is not there.
        OSError: the store does not answer.
    """
    manifest = manifest_of(output, run_id)
    if manifest is None:
        raise UsageError(f"{staging(output, run_id)}: has no manifest", parameter="output")
    records = tuple(completed_records(staging(output, run_id)).values())
    day = _date(manifest)
    name = day.isoformat() if day else ""
    before = nights.outputs_before(output.replace(name, "{date}"), name) if day else ()
    earlier = nights.read(output, before)
    return of_run(output, manifest, records, earlier, before, characters=characters)


def _kept(output: str, history: Sequence[Version]) -> tuple[Night, ...]:
    """What the same output held before, as far as it is still kept; the last first."""
    found = []
    for version in history[:NIGHTS]:
        with suppress(UsageError):
            manifest = manifest_of(output, version.run_id)
            if manifest is not None:
                found.append(Night(output, manifest))
    return tuple(found)


def _by_publication(now: Manifest, earlier: Sequence[Night], refused: bool) -> tuple[Day, ...]:
    """One after the other, called by when they were published."""

    def day(manifest: Manifest, number: int, refused: bool = False) -> Day:
        when = manifest.published[5:16].replace("T", " ")
        name = "this run" if refused else when
        return Day(name, number, manifest.checks, manifest, refused)

    before = [day(night.manifest, -number) for number, night in enumerate(earlier, 1)]
    return (*reversed(before), day(now, 0, refused))


def _by_date(
    now: Manifest, today: date, earlier: Sequence[Night], before: Sequence[str], refused: bool
) -> tuple[Day, ...]:
    """By the dates of outputs; those that were refused and never published among them."""
    published = {night.output: night.manifest for night in earlier}
    shown = list(before)
    if len(earlier) == NIGHTS:
        shown = shown[: shown.index(earlier[-1].output) + 1]
    with ThreadPoolExecutor(len(shown)) as pool:
        refusals = list(pool.map(lambda out: () if out in published else _refusal(out), shown))
    days = [Day(today.isoformat(), today.toordinal(), now.checks, now, refused)]
    for number, (output, checks) in enumerate(zip(shown, refusals, strict=True), 1):
        at = today.toordinal() - number
        name, manifest = date.fromordinal(at).isoformat(), published.get(output)
        if manifest is not None:
            days.append(Day(name, at, manifest.checks, manifest))
        elif checks:
            days.append(Day(name, at, checks, None, True))
    return tuple(reversed(days))


def _date(manifest: Manifest) -> date | None:
    try:
        return date.fromisoformat(manifest.options["date"])
    except (KeyError, TypeError, ValueError):
        return None


def refused_runs(output: str) -> dict[str, tuple[Check, ...]]:
    """The runs of an output that wait refused, with their checks.

    Raises:
        OSError: the store does not answer.
    """
    fs, root = open_store(output)
    waiting = (run for run in sorted(layout.runs(fs, root)) if re.fullmatch(RUN_ID, run))
    found = ((run, refusal_in(staging(output, run))) for run in waiting)
    return {run: tuple(error.checks) for run, error in found if error is not None}


def _refusal(output: str) -> tuple[Check, ...]:
    """The checks of a run that was refused; none where none was."""
    with suppress(OSError, GlossatorError):
        return next(iter(refused_runs(output).values()), ())
    return ()
