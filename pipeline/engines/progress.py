"""How far a run is; read from its staging folder, so it is the same on every engine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from glossator.model.store import file_sizes, is_local, open_store
from glossator.pipeline.engines.workers import heartbeats, rows_by_split
from glossator.pipeline.inputs.ranges import Split
from glossator.pipeline.outputs.staging import RECORDS

LOOK_SECS = 1.0
"""How often a local store is looked at."""
REMOTE_LOOK_SECS = 10.0
"""How often a remote store is looked at, where each look is some requests."""


@dataclass(frozen=True)
class Snapshot:
    """How far a run is at one moment."""

    rows: int
    """Done, by this run and by earlier ones of the same splits."""
    total: int
    workers: int
    """Workers that got ready in this run; 0 while the model is still being loaded."""
    rows_per_second: float | None
    """Of this run; None before its first row."""

    @property
    def share(self) -> float:
        """Done of all, from 0 to 1."""
        return self.rows / self.total if self.total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None where there is none yet."""
        if not self.rows_per_second:
            return None
        return (self.total - self.rows) / self.rows_per_second


class Reporter(Protocol):
    """Who is told how a run goes: `report("a line")` and `report.progress(snapshot)`.

    Both may be called from another thread than the one that runs the job, but never at once.
    """

    def __call__(self, line: str) -> None:
        """Takes an announcement: one line, said once."""

    def progress(self, snapshot: Snapshot) -> None:
        """Takes how far the run is; called about once a second, changed or not."""


class Silent:
    """A reporter that says nothing."""

    def __call__(self, line: str) -> None:
        """Says nothing."""

    def progress(self, snapshot: Snapshot) -> None:
        """Says nothing."""


def describe(snapshot: Snapshot) -> str:
    """A snapshot as a line, e.g. `1,200 of 9,000 rows (13%), 400 rows/s, 20 s left`."""
    line = f"{snapshot.rows:,} of {snapshot.total:,} rows ({snapshot.share:.0%})"
    if snapshot.rows_per_second is None or snapshot.seconds_left is None:
        return line if snapshot.workers else f"{line}, no worker is ready yet"
    left = duration(snapshot.seconds_left)
    return f"{line}, {snapshot.rows_per_second:,.0f} rows/s, {left} left"


def duration(seconds: float) -> str:
    """A time to wait in words, e.g. `1 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Progress:
    """What has been seen of a run so far.

    Rows are those of splits with a record, and those that workers say they have done of others.
    """

    def __init__(self, staging: str, splits: Iterable[Split]) -> None:
        self._staging = staging
        local = is_local(open_store(staging)[0])
        self.look_secs = LOOK_SECS if local else REMOTE_LOOK_SECS
        """How long to wait between looks."""
        self._rows = {split.name: split.rows for split in splits}
        self._total = sum(self._rows.values())
        self._started = self._changed = time.monotonic()
        # what killed workers left never changes again, so it does not count
        self._left = heartbeats(staging)
        self._done = self._before = self._count({})
        self.workers = 0
        """Workers that got ready to label, or labelled, since."""

    def look(self) -> bool:
        """Look again; whether anything has changed since the last time.

        Raises:
            OSError: the store does not answer; it may the next time.
        """
        beats = {
            name: beat
            for name, beat in heartbeats(self._staging).items()
            if self._left.get(name) != beat
        }
        done = max(self._done, self._count(rows_by_split(beats.values())))
        workers = max(self.workers, len(beats))
        changed = (done, workers) != (self._done, self.workers)
        self._done, self.workers = done, workers
        if changed:
            self._changed = time.monotonic()
        return changed

    def _count(self, under_way: dict[str, int]) -> int:
        """Rows done, with those of splits that are under way."""
        fs, root = open_store(self._staging)
        records = file_sizes(fs, f"{root}/{RECORDS}")
        finished = {name.removesuffix(".json") for name in records}
        return sum(
            rows if name in finished else min(rows, under_way.get(name, 0))
            for name, rows in self._rows.items()
        )

    @property
    def silent_seconds(self) -> float:
        """Since something changed."""
        return time.monotonic() - self._changed

    @property
    def snapshot(self) -> Snapshot:
        """As it was at the last look."""
        here, seconds = self._done - self._before, time.monotonic() - self._started
        rate = here / seconds if here > 0 and seconds > 0 else None
        return Snapshot(self._done, self._total, self.workers, rate)


@contextmanager
def reporting(progress: Progress, report: Reporter) -> Iterator[None]:
    """Looks and reports now and then while the context is open."""
    stop = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(progress, report, stop), name="progress", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join(timeout=5)


def _watch(progress: Progress, report: Reporter, stop: threading.Event) -> None:
    looked = 0.0
    while not stop.wait(LOOK_SECS):
        with contextlib.suppress(OSError):
            if time.monotonic() - looked >= progress.look_secs:
                looked = time.monotonic()
                progress.look()
        if not stop.is_set():
            report.progress(progress.snapshot)
