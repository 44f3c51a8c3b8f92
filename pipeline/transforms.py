"""The Beam side of the job: transforms that only wire plain functions together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from glossator.pipeline import gates, manifest, metrics
from glossator.pipeline.label import Labelling, label_split, labeller
from glossator.pipeline.plan import Split
from glossator.pipeline.publish import discard, publish, published, recover, state
from glossator.pipeline.staging import (
    completed_record,
    completed_records,
    first_ready,
    load_plan,
    mark_worker_ready,
    pending_splits,
)


@dataclass(frozen=True)
class Publication:
    """What is needed to publish a run whose splits are all done."""

    output: str
    run_id: str
    labelling: Labelling
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    started: float
    """Seconds since the epoch."""
    limits: gates.Limits = field(default_factory=gates.Limits)
    """Within which it is published."""


class ListSplits(beam.DoFn):
    """Anything in, the run's splits that are not done out."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def process(self, _: bytes) -> Iterator[Split]:
        """Reads the plan and the records; an attempt that comes after publishing finds nothing."""
        output, run_id = self._publication.output, self._publication.run_id
        recover(output)
        if state(output, run_id) != "published":
            yield from pending_splits(self._publication.labelling.staging)


class LabelSplit(beam.DoFn):
    """Split in, its name out; what it labelled lies in staging."""

    def __init__(self, labelling: Labelling) -> None:
        self._labelling = labelling

    def setup(self) -> None:
        """Loads the model, once a process."""
        labeller(self._labelling.model, self._labelling.digest, self._labelling.tasks)
        mark_worker_ready(self._labelling.staging, {"model": self._labelling.digest})

    def process(self, split: Split) -> Iterator[str]:
        """Labels one split, unless an attempt of which the engine knows no more has done it."""
        if completed_record(self._labelling.staging, split.name) is None:
            metrics.emit(metrics.of_split(label_split(split, self._labelling)))
        yield split.name


class Publish(beam.DoFn):
    """How many splits this job did in, the manifest out; publishes what earlier ones did, too."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def process(self, _: int) -> Iterator[manifest.Manifest]:
        """Reconciles and publishes; a retry goes on where it stopped."""
        yield publish_run(self._publication)


def publish_run(publication: Publication) -> manifest.Manifest:
    """Reconciles the records in staging with the plan, checks what they say, and publishes.

    A retry may come after all was published, and staging is cleared: then there is nothing to do.

    Raises:
        ReconcileError: not every planned row is accounted for.
        RefusedError: a check has not passed.
    """
    recover(publication.output)
    earlier = published(publication.output)
    if earlier is not None and state(publication.output, publication.run_id) == "published":
        discard(publication.output, publication.run_id)
        return earlier
    staging = publication.labelling.staging
    plan, records = load_plan(staging), list(completed_records(staging).values())
    now, ready = time.time(), first_ready(staging, publication.started)
    checks = gates.check(plan, records, publication.limits)
    built = manifest.build(
        plan,
        records,
        checks=checks,
        model=publication.labelling.digest,
        options=publication.options,
        timings={
            "wall_seconds": round(now - publication.started, 3),
            "labelling_seconds": round(now - ready, 3) if ready else 0.0,
        },
        versions=publication.versions,
    )
    gates.require_passed(plan, records, checks, staging)
    publish(publication.output, publication.run_id, built)
    return built
