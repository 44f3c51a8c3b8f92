"""How far a run is; read from its staging folder, so it is the same on every engine."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from glossator.model.store import file_sizes, open_store
from glossator.pipeline.plan import Split
from glossator.pipeline.staging import RECORDS, signs

_TERMINAL_SECS = 1.0
_LOG_SECS = 15.0


class Progress:
    """What has been seen of a run so far."""

    def __init__(self, staging: str, splits: Iterable[Split]) -> None:
        self._staging = staging
        self._rows = {split.name: split.rows for split in splits}
        self._total = sum(self._rows.values())
        self._started = self._changed = time.monotonic()
        self._splits = self._finished()
        self._before = self._done()
        self._signs = signs(staging)
        self.workers = 0
        """Workers that got ready to label since."""

    def look(self) -> bool:
        """Look again; whether anything has changed since the last time.

        Raises:
            OSError: the store does not answer; it may the next time.
        """
        splits = self._finished()
        workers = max(self.workers, len(signs(self._staging) - self._signs))
        changed = (splits, workers) != (self._splits, self.workers)
        self._splits, self.workers = splits, workers
        if changed:
            self._changed = time.monotonic()
        return changed

    def _finished(self) -> set[str]:
        fs, root = open_store(self._staging)
        records = file_sizes(fs, f"{root}/{RECORDS}")
        return {name.removesuffix(".json") for name in records} & self._rows.keys()

    def _done(self) -> int:
        return sum(self._rows[name] for name in self._splits)

    @property
    def silent_seconds(self) -> float:
        """Since something changed."""
        return time.monotonic() - self._changed

    def __str__(self) -> str:
        done = self._done()
        share = done / self._total if self._total else 1.0
        line = f"{done:,} of {self._total:,} rows ({share:.0%})"
        here, seconds = done - self._before, time.monotonic() - self._started
        if here <= 0:
            return line if self.workers else f"{line}, no worker is ready yet"
        left = (self._total - done) / here * seconds
        return f"{line}, {here / seconds:,.0f} rows/s, {_duration(left)} left"


@contextmanager
def reporting(progress: Progress, report: Callable[[str], None]) -> Iterator[None]:
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


def _watch(progress: Progress, report: Callable[[str], None], stop: threading.Event) -> None:
    live = sys.stderr.isatty()
    while not stop.wait(_TERMINAL_SECS if live else _LOG_SECS):
        with contextlib.suppress(OSError):
            if progress.look() or not live:
                report(str(progress))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
