"""How far training is, said now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

Report = Callable[[str], None]
"""Where progress goes, a line at a time."""
Show = Callable[[int, int, str], None]
"""Where it goes how far training is: steps done, steps at most, and a line in words."""
_EVERY_LINE = 10.0
"""Seconds between lines of progress."""
_EVERY_SHOW = 1.0
"""Seconds between looks at it."""


class StepProgress:
    """Says now and then where training stands and how long it will take."""

    def __init__(self, done: int, steps: int, report: Report, show: Show | None) -> None:
        """Begins.

        Args:
            done: steps that an earlier process has done.
            steps: at most.
            report: receives lines, unless there is `show`.
            show: receives how far it is.
        """
        self.first, self.done, self.steps = done, done, steps
        self.report, self.show = report, show
        self.started = self.last = time.monotonic()

    def step(self, epoch: int, losses: Sequence[float]) -> None:
        """Counts a step.

        Args:
            epoch: in which it was.
            losses: of this epoch's steps.
        """
        self.done += 1
        now = time.monotonic()
        if now - self.last < (_EVERY_LINE if self.show is None else _EVERY_SHOW):
            return
        self.last = now
        left = (now - self.started) / (self.done - self.first) * (self.steps - self.done)
        recent = float(np.mean(losses[-200:]))
        line = (
            f"epoch {epoch}: {self.done:,} of at most {self.steps:,} steps, loss {recent:.4f}, "
            f"at most {left / 60:.1f} min left"
        )
        if self.show is None:
            self.report(line)
        else:
            self.show(self.done, self.steps, line)
