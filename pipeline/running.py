"""Splits that this process is labelling, each by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from glossator.pipeline.carry import carried
from glossator.pipeline.engines.workers import Heartbeat
from glossator.pipeline.errors import JobError
from glossator.pipeline.inputs.ranges import Split
from glossator.pipeline.label import SplitLabelling, label_split
from glossator.pipeline.outputs.staging import SplitRecord, completed_record

_POLL_SECS = 1.0
"""How often threads are looked after."""


class GivenUp:
    """Attempts that nobody waits for any more: what they have under way stops at its next rows.

    An engine in this process labels with copies of the job's functions, which no one outside can
    reach; its threads look here.
    """

    def __init__(self) -> None:
        self._attempts: set[str] = set()

    def add(self, attempt: str) -> None:
        """Stops the threads of an attempt."""
        self._attempts.add(attempt)

    def __contains__(self, attempt: str) -> bool:
        return attempt in self._attempts


GIVEN_UP = GivenUp()
"""Those of this process."""


class RunningSplit:
    """A split that a thread of its own is labelling.

    No pool, whose threads would be waited for at the end of Python even if they hang.
    """

    def __init__(
        self, split: Split, labelling: SplitLabelling, heartbeat: Heartbeat, attempt: str
    ) -> None:
        self.split = split
        self.record: Future[SplitRecord | None] = Future()
        """None if an attempt of which the engine knows no more has done it."""
        self.stop = threading.Event()
        self._labelling = labelling
        self._heartbeat = heartbeat
        self._attempt = attempt
        self._thread = threading.Thread(target=self._work, name=split.name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.record.done() or not self._thread.is_alive()

    def result(self) -> SplitRecord | None:
        """The record of a split that has ended, or the error that ended it."""
        if not self.record.done():
            raise JobError(f"the thread that labelled {self.split.name} died")
        return self.record.result()

    def give_up(self, seconds: float) -> None:
        """Stops it at its next rows, and waits a while until it has cleared up."""
        self.stop.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        name = self.split.name
        try:
            if completed_record(self._labelling.staging, name) is not None:
                self.record.set_result(None)
            else:
                record = carried(self.split, self._labelling, self._on_rows)
                if record is None:
                    record = label_split(self.split, self._labelling, self._on_rows)
                self.record.set_result(record)
        except BaseException as error:  # raised again where the engine sees it
            self.record.set_exception(error)
        finally:
            self._heartbeat.forget(name)

    def _on_rows(self, rows: int) -> None:
        if self.stop.is_set() or self._attempt in GIVEN_UP:
            raise JobError("stopped, as the job has ended")
        self._heartbeat.advance(self.split.name, rows)


def wait_for_one(running: Sequence[RunningSplit]) -> list[RunningSplit]:
    """Waits for a moment, or until one has ended; those that have."""
    wait([one.record for one in running], _POLL_SECS, FIRST_COMPLETED)
    return [one for one in running if one.ended]
