"""How far a run is, told now and then; read from staging, so it is the same on every runner."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from glossator.pipeline.plan import Split, open_store
from glossator.pipeline.write import RECORDS, file_sizes

_TERMINAL_SECS = 1.0
_LOG_SECS = 15.0


@contextmanager
def progress(
    staging: str, splits: Sequence[Split], todo: Sequence[Split], report: Callable[[str], None]
) -> Iterator[None]:
    """Reports rows done, the rate and the time left while the context is open."""
    stop = threading.Event()
    every = _TERMINAL_SECS if sys.stderr.isatty() else _LOG_SECS
    arguments = (staging, splits, todo, report, stop, every)
    watcher = threading.Thread(target=_watch, args=arguments, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join(timeout=5)


def _watch(
    staging: str,
    splits: Sequence[Split],
    todo: Sequence[Split],
    report: Callable[[str], None],
    stop: threading.Event,
    every: float,
) -> None:
    fs, root = open_store(staging)
    rows = {split.name: split.stop - split.start for split in splits}
    total = sum(rows.values())
    before = total - sum(rows[split.name] for split in todo)
    started, told = time.monotonic(), -1
    while not stop.wait(every):
        with contextlib.suppress(OSError):  # a listing that fails now may work the next time
            names = {name.removesuffix(".json") for name in file_sizes(fs, f"{root}/{RECORDS}")}
            done = sum(rows.get(name, 0) for name in names)
            if done == told and every == _TERMINAL_SECS:
                continue
            told = done
            report(_line(done, total, done - before, time.monotonic() - started))


def _line(done: int, total: int, here: int, seconds: float) -> str:
    share = done / total if total else 1.0
    line = f"{done:,} of {total:,} rows ({share:.0%})"
    if here <= 0:
        return line
    left = (total - done) / here * seconds
    return f"{line}, {here / seconds:,.0f} rows/s, {_duration(left)} left"


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
