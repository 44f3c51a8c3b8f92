"""The Beam side of the job: transforms that only wire plain functions together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from glossator.pipeline import manifest
from glossator.pipeline.label import Labelling, label_split, labeller
from glossator.pipeline.plan import Plan, Split
from glossator.pipeline.publish import publish, published, recover, state
from glossator.pipeline.write import SplitRecord, finished

NAMESPACE = "glossator"
"""Of the counters."""


@dataclass(frozen=True)
class Publication:
    """What is needed to publish a run whose splits are all done."""

    output: str
    plan: Plan
    labelling: Labelling
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    started: float
    """Seconds since the epoch."""


class LabelSplit(beam.DoFn):
    """Split in, its record out; what it labelled lies in staging."""

    def __init__(self, labelling: Labelling) -> None:
        self._labelling = labelling

    def setup(self) -> None:
        """Loads the model, once a process."""
        labeller(self._labelling)

    def process(self, split: Split) -> Iterator[SplitRecord]:
        """Labels one split."""
        record = label_split(split, self._labelling)
        for name in ("rows_read", "rows_labelled", "rows_rejected", "rows_unreadable"):
            Metrics.counter(NAMESPACE, name).inc(getattr(record, name))
        for name in ("distinct_texts", "tokens", "truncated_texts"):
            Metrics.counter(NAMESPACE, name).inc(int(record.metrics.get(name, 0)))
        for reason, count in record.rejects.items():
            Metrics.counter(NAMESPACE, f"rejects_{reason}").inc(count)
        yield record


class Publish(beam.DoFn):
    """All records of this run in, the manifest out; publishes what earlier runs began, too."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def process(self, _: list[SplitRecord]) -> Iterator[manifest.Manifest]:
        """Reconciles and publishes; a retry goes on where it stopped."""
        yield publish_run(self._publication)


def publish_run(publication: Publication) -> manifest.Manifest:
    """Reconciles the records in staging with the plan, and publishes.

    A retry may come after all was published, and staging is cleared: then there is nothing to do.
    """
    run_id = publication.plan.run_id
    recover(publication.output)
    earlier = published(publication.output)
    if earlier is not None and state(publication.output, run_id) == "published":
        return earlier
    records = finished(publication.labelling.staging)
    built = manifest.build(
        publication.plan,
        records.values(),
        model=publication.labelling.digest,
        options=publication.options,
        timings={"wall_seconds": round(time.time() - publication.started, 3)},
        versions=publication.versions,
    )
    publish(publication.output, run_id, built)
    return built
