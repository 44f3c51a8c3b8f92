"""What was published before, to compare a run with."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

from glossator.model.errors import UsageError
from glossator.pipeline.outputs.current import read_current
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.publish import manifest_of, staging

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

    @property
    def let_through(self) -> bool:
        """Whether it did not pass all checks, and was accepted."""
        return any(check.accepted for check in self.manifest.checks)


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

    @property
    def usual(self) -> Night | None:
        """The last night that passed all checks, if the last one of all did not."""
        usual = next((night for night in self.earlier if not night.let_through), None)
        return None if usual is self.last else usual


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
        # manifests may be large: those that are not needed are not read
        run_here, *runs = pool.map(_run, (output, *before))
        held = [(out, run) for out, run in zip(before, runs, strict=True) if run is not None]
        chosen = [(output, run_here), *held[:NIGHTS]]
        here, *others = pool.map(lambda one: _night(*one), chosen)
    return Nights(here, tuple(night for night in others if night is not None))


def folders(outputs: Sequence[str]) -> list[str]:
    """The folders of the runs that are published in the first `NIGHTS` outputs that hold any."""
    with ThreadPoolExecutor(1 + DAYS) as pool:
        runs = pool.map(_run, outputs)
        found = [staging(out, run) for out, run in zip(outputs, runs, strict=True) if run]
    return found[:NIGHTS]


def _run(output: str) -> str | None:
    """The run that is published in an output."""
    try:
        return read_current(output)[0].run
    except UsageError:  # damaged, or another version's: there is nothing to compare with
        return None


def _night(output: str, run: str | None) -> Night | None:
    try:
        manifest = None if run is None else manifest_of(output, run)
    except UsageError:
        return None
    return None if manifest is None else Night(output, manifest)
