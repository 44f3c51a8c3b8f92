"""A day that is not there yet: what needs it is tried again, now and then, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from glossator.pipeline.engines.progress import Reporter, duration
from glossator.pipeline.errors import NotYetError

_FIRST_SECS, _LONGEST_SECS = 1.0, 120.0
"""Between two looks; each pause is twice the one before."""
_T = TypeVar("_T")


def when_there(look: Callable[[], _T], minutes: float, report: Reporter) -> _T:
    """What `look` gives once the input is there.

    Args:
        look: for the input.
        minutes: how long it may raise `NotYetError`; the last look is at their end.
        report: told of each pause.

    Raises:
        NotYetError: it did so all the time.
    """
    end, pause = time.monotonic() + 60 * minutes, _FIRST_SECS
    while True:
        try:
            return look()
        except NotYetError as error:
            left = end - time.monotonic()
            if left <= 0:
                if not minutes:
                    raise
                waited = f"{error} (waited {duration(60 * minutes)} for it)"
                raise NotYetError(waited, parameter=error.parameter) from None
            pause = min(pause, left)
            report(
                f"not there yet: {error}; looking again in {duration(pause)}, for"
                f" {duration(left)} at most"
            )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_SECS)
