"""The Beam side of the job: transforms that only wire plain functions together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from glossator.pipeline import metrics
from glossator.pipeline.causes import reaching
from glossator.pipeline.engines.workers import Heartbeat, first_ready
from glossator.pipeline.gates import canary, nights
from glossator.pipeline.gates.audit import Gates, audit
from glossator.pipeline.gates.refusal import require_passed
from glossator.pipeline.gates.unreadable import unreadable
from glossator.pipeline.inputs.ranges import Split
from glossator.pipeline.label import SplitLabelling, answered
from glossator.pipeline.night_report import page
from glossator.pipeline.outputs import manifest
from glossator.pipeline.outputs.lease import end_left_lease
from glossator.pipeline.outputs.publish import KEEP_SECS, publish, published, settle, state
from glossator.pipeline.outputs.schema import output_schema
from glossator.pipeline.outputs.staging import completed_records, load_plan, pending_splits
from glossator.pipeline.running import RunningSplit, wait_for_one

_CLEAR_UP_SECS = 3.0
"""So long a failed worker waits for splits that it has stopped: their files go as they end."""


@dataclass(frozen=True)
class Publication:
    """What is needed to publish a run whose splits are all done."""

    output: str
    run_id: str
    labelling: SplitLabelling
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    started: float
    """Seconds since the epoch."""
    gates: Gates = field(default_factory=Gates)
    """What it is held to."""
    keep_seconds: float = KEEP_SECS
    """So long what was current before is kept."""
    token: int | None = None
    """Of the lease; None where there is none."""
    table: str | None = None
    """The name of a table that is to hold the run too; see `outputs.tables.names`."""


class ListSplits(beam.DoFn):
    """Anything in, the run's splits that are not done out."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def process(self, _: bytes) -> Iterator[Split]:
        """Reads the plan and the records; an attempt that comes after publishing finds nothing."""
        output, run_id = self._publication.output, self._publication.run_id
        if state(output, run_id) != "published":
            yield from pending_splits(self._publication.labelling.staging)


class LabelSplits(beam.DoFn):
    """Splits in, their names out; what was labelled lies in staging.

    Several splits are labelled at once, each by a thread; they share the model. A bundle's splits
    are all done when it ends. The first error ends the bundle, and the other threads soon after.
    """

    def __init__(self, labelling: SplitLabelling, threads: int = 1, attempt: str = "") -> None:
        """Sends no model along.

        Args:
            labelling: how.
            threads: how many splits are labelled at once by each process of the engine.
            attempt: by what the threads of this process can be stopped; see `GivenUp`.
        """
        self._labelling = labelling
        self._threads = threads
        self._attempt = attempt
        self._heartbeat: Heartbeat | None = None
        self._running: list[RunningSplit] = []

    def setup(self) -> None:
        """Loads the model, once a process, and says that this worker is ready."""
        self._labelling.labeller()
        details = {"model": self._labelling.digest, "threads": self._threads}
        self._heartbeat = Heartbeat(self._labelling.staging, details)
        self._heartbeat.start()

    def start_bundle(self) -> None:
        """Begins with no split."""
        self._running = []

    def process(self, split: Split) -> Iterator[str]:
        """Begins a split; gives others that are done, waiting for one if all threads are busy."""
        assert self._heartbeat is not None
        self._running.append(RunningSplit(split, self._labelling, self._heartbeat, self._attempt))
        while len(self._running) >= self._threads:
            yield from self._done()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Waits for what is still under way."""
        while self._running:
            for name in self._done():
                yield GlobalWindows.windowed_value(name)

    def teardown(self) -> None:
        """Stops what a bundle that failed has left under way."""
        self._stop()
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def _stop(self) -> None:
        for one in self._running:
            one.stop.set()
        end = time.monotonic() + _CLEAR_UP_SECS
        for one in self._running:
            one.give_up(max(0.0, end - time.monotonic()))

    def _done(self) -> Iterator[str]:
        """Waits for splits and gives their names; counts here, on the engine's own thread."""
        for one in wait_for_one(self._running):
            self._running.remove(one)
            try:
                record = one.result()
            except BaseException:
                self._stop()
                raise
            if record is not None:
                metrics.emit(metrics.of_split(record))
            yield one.split.name


class Publish(beam.DoFn):
    """How many splits this job did in, the manifest out; publishes what earlier ones did, too."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def process(self, _: int) -> Iterator[manifest.Manifest]:
        """Reconciles and publishes; a retry goes on where it stopped."""
        with reaching("output", self._publication.output):
            made = publish_run(self._publication)
        yield made


def publish_run(publication: Publication) -> manifest.Manifest:
    """Reconciles the records in staging with the plan, checks what they say, and publishes.

    A retry may come after all was published: then there is nothing to do but to tidy up.

    Raises:
        ReconcileError: not every planned row is accounted for.
        RefusedError: a check has not passed.
        FencedError: another run has taken the output over.
    """
    earlier = published(publication.output)
    if earlier is not None and state(publication.output, publication.run_id) == "published":
        into_table(publication, earlier)
        settle(publication.output, publication.keep_seconds, publication.token)
        return earlier
    staging = publication.labelling.staging
    plan, records = load_plan(staging), list(completed_records(staging).values())
    now, ready = time.time(), first_ready(staging, publication.started)
    built = manifest.build(
        plan,
        records,
        model=publication.labelling.digest,
        options=publication.options,
        timings={
            "wall_seconds": round(now - publication.started, 3),
            "labelling_seconds": round(now - ready, 3) if ready else 0.0,
        },
        versions=publication.versions,
    )
    found = unreadable(plan, records)
    before = nights.read(publication.output, publication.gates.before)
    built = audit(
        built,
        found,
        before,
        publication.labelling.tasks,
        publication.gates,
        partial(answered, publication.labelling),
    )
    leave = partial(
        page.leave,
        publication.output,
        records=records,
        found=before,
        before=publication.gates.before,
    )
    require_passed(built, found, staging, lambda refused: leave(refused, refused=True))
    kept = publication.gates.limits.canary
    canary.save(publication.output, publication.run_id, records, kept)
    into_table(publication, built)
    made = publish(
        publication.output,
        publication.run_id,
        built,
        records=records,
        token=publication.token,
        keep_seconds=publication.keep_seconds,
    )
    leave(made)
    end_left_lease(publication.output, publication.token)
    return made


def into_table(publication: Publication, account: manifest.Manifest) -> None:
    """Commits a run to the table, if there is to be one; nothing happens if that holds it already.

    It comes before the run becomes current: what is published is in the table.

    Raises:
        JobError: another writer was quicker.
        FencedError: another run has taken the output over.
    """
    if publication.table is None:
        return
    from glossator.pipeline.outputs.tables.runs import put

    labelling = publication.labelling
    schema = output_schema(labelling.tasks, labelling.columns.keys, labelling.experts)
    put(publication.table, publication.output, account, schema, publication.token)
