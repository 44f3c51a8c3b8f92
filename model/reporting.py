"""How far a long command is, on standard error: a bar on a terminal, else lines now and then."""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from glossator.model import terminal

LINE_SECS = 15.0
"""Between lines where there is no terminal: a log shall show that the command lives."""
_REFRESH_PER_SECOND = 2.0


class TerminalReporter:
    """Announcements stay as lines; how far it is stands in a bar below them.

    May be called from several threads.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._lock = threading.RLock()
        self._bar: Progress | None = None
        self._last = time.monotonic()

    def __call__(self, line: str) -> None:
        """Prints an announcement."""
        with self._lock:
            self._last = time.monotonic()
            terminal.echo(line, err=True)  # above the bar: rich stands in for standard error then

    def show(self, done: int, total: int, note: str) -> None:
        """Shows how far it is.

        Args:
            done: of `total`, in any unit.
            total: all there is to do.
            note: the same in words, with units.
        """
        with self._lock:
            if self._live:
                self._draw(done, total, note)
            elif time.monotonic() - self._last >= LINE_SECS:
                self(note)

    def close(self) -> None:
        """Takes the bar away; what was announced stays."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def _draw(self, done: int, total: int, note: str) -> None:
        note = terminal.visible(note)
        if self._bar is None:
            self._bar = Progress(
                BarColumn(bar_width=24),
                TimeElapsedColumn(),  # so that it moves even where a step takes long
                TextColumn("{task.description}", markup=False),
                console=self._console,
                refresh_per_second=_REFRESH_PER_SECOND,
                transient=True,
            )
            self._bar.add_task(note, total=max(1, total), completed=done)
            self._bar.start()
        else:
            self._bar.update(self._bar.task_ids[0], completed=done, description=note)


def restore_cursor() -> None:
    """Shows the cursor again, which a bar hides: for a process that is about to be cut off."""
    if sys.stderr is not None and sys.stderr.isatty():
        terminal.echo(terminal.Visible("\x1b[?25h"), err=True, nl=False)
