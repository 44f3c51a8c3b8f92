"""What was published before, to compare a run with."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

from glossator.model.errors import UsageError
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.publish import published

DAYS, NIGHTS = 14, 7
"""Days before a date that are looked at, and published nights among them that are compared with."""


@dataclass(frozen=True)
class Night:
    """A publication."""

    output: str
    manifest: Manifest

    @property
    def name(self) -> str:
        """Its date, or where it is."""
        return str(self.manifest.options.get("date") or "the publication before")


@dataclass(frozen=True)
class Nights:
    """What was published before a run."""

    here: Night | None = None
    """In the run's own output."""
    earlier: tuple[Night, ...] = ()
    """Of earlier dates, the newest first; of an output without dates there are none."""

    @property
    def last(self) -> Night | None:
        """What the run is compared with."""
        return self.earlier[0] if self.earlier else self.here


def outputs_before(template: str, day: str | None) -> tuple[str, ...]:
    """The outputs of the days before a date, the last one first; none where all have the same."""
    if day is None or "{date}" not in template:
        return ()
    end = date.fromisoformat(day)
    days = min(DAYS, (end - date.min).days)
    return tuple(
        template.replace("{date}", (end - timedelta(n)).isoformat()) for n in range(1, days + 1)
    )


def read(output: str, before: Sequence[str]) -> Nights:
    """What is published in an output, and in the first `NIGHTS` of others that hold anything."""
    with ThreadPoolExecutor(1 + DAYS) as pool:
        here, *others = pool.map(_night, (output, *before))
    return Nights(here, tuple(night for night in others if night is not None)[:NIGHTS])


def _night(output: str) -> Night | None:
    try:
        manifest = published(output)
    except UsageError:  # damaged, or another version's: there is nothing to compare with
        return None
    return None if manifest is None else Night(output, manifest)
