"""The job: plan, label, publish."""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import apache_beam as beam
import pyarrow as pa
import torch
from apache_beam.options.pipeline_options import PipelineOptions

from glossator.model import bundle as bundles
from glossator.model.errors import UsageError
from glossator.model.store import absolute_uri, is_local, open_store
from glossator.pipeline import gates, publish
from glossator.pipeline.causes import cause, reaching
from glossator.pipeline.errors import JobError, RefusedError
from glossator.pipeline.label import SplitLabelling
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.layout import STAGING
from glossator.pipeline.lock import lock
from glossator.pipeline.manifest import Manifest
from glossator.pipeline.metrics import of_engine
from glossator.pipeline.options import LabelOptions, identity
from glossator.pipeline.plan import Plan, make_plan
from glossator.pipeline.progress import Progress, Reporter, reporting
from glossator.pipeline.runners import Runner, cores, runner_of
from glossator.pipeline.schema import refuse_collisions
from glossator.pipeline.staging import completed_records
from glossator.pipeline.submit import Deadlines, Submission, wait_for_earlier
from glossator.pipeline.transforms import (
    LabelSplits,
    ListSplits,
    Publication,
    Publish,
    publish_run,
)


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    state: Literal["published", "unchanged", "submitted"]
    """`unchanged`: the same input and model were published before, nothing was done;
    `submitted`: the engine has the job, and nobody waits for it."""
    output: str
    manifest: Manifest | None
    """None of a job that was only submitted."""
    resumed_splits: int = 0
    """Splits that an earlier run, cut off, had finished."""
    seconds: float = 0.0
    counted: Mapping[str, Any] = field(default_factory=dict)
    """Counters and distributions of this job as the engine gives them; see `metrics`."""
    job_name: str = ""


@dataclass(frozen=True)
class Prepared:
    """A job that was found possible, and of which nothing is done; `execute` does it, once."""

    output: str
    plan: Plan
    publication: Publication
    runner: Runner
    root: beam.Pipeline
    """The whole pipeline, not yet submitted."""
    attempt: str
    """Another for each job; see `GivenUp`."""
    start_minutes: float
    stall_minutes: float


def run(options: LabelOptions, beam_options: PipelineOptions, report: Reporter) -> Outcome:
    """Labels the input and publishes the output, or finds that it is published already.

    Raises:
        UsageError: the request is invalid; nothing was begun.
        JobError: it was begun and did not end; nothing was published, a rerun resumes.
    """
    return execute(prepare(options, beam_options), report)


def prepare(options: LabelOptions, beam_options: PipelineOptions) -> Prepared:
    """Makes all checks and the plan; reads, and writes nothing.

    Raises:
        UsageError: the request is invalid.
        StoreError: a store does not answer.
    """
    started = time.time()
    options = options.resolved()
    output = absolute_uri(options.output)
    labelling = Labelling.of(options.model, options.text, options.tasks, options.top)
    with reaching("output", output, begun=False):
        publish.check_output(output)
    with reaching("input", ", ".join(options.inputs), begun=False):
        plan = make_plan(
            options.inputs,
            text=options.text,
            keys=options.keys,
            identity=identity(labelling.digest, labelling.names, options.top),
            strict=options.strict,
        )
    refuse_collisions(options.keys, (), labelling.names, what="column", parameter="keys")
    workers = options.workers or cores()
    runner = runner_of(beam_options, plan.run_id, workers)
    if runner.remote:
        sources = (source.uri for source in plan.sources)
        _refuse_local_paths((labelling.model, output, *sources))
    publication = Publication(
        output,
        plan.run_id,
        _of_splits(labelling, plan, publish.staging(output, plan.run_id)),
        _described(options, labelling, plan),
        _versions(),
        started,
        gates.Limits(options.max_unreadable),
    )
    root, attempt = _root(beam_options), uuid.uuid4().hex
    pipeline(root, publication, runner.threads, attempt)
    start = runner.start_minutes if options.start_minutes is None else options.start_minutes
    return Prepared(output, plan, publication, runner, root, attempt, start, options.stall_minutes)


def execute(prepared: Prepared, report: Reporter) -> Outcome:
    """Does what was prepared: resumes, labels, publishes.

    Raises:
        UsageError: another process writes this output; nothing was begun.
        JobError: it was begun and did not end.
    """
    output = prepared.output
    try:
        with reaching("output", output), lock(output):
            return _execute(prepared, report)
    except (UsageError, RefusedError):
        raise
    except Exception as error:
        # what was raised on another machine comes back as text at best
        if refused := gates.refusal(prepared.publication.labelling.staging):
            raise refused from error
        raise JobError(cause(error)) from error


def _execute(prepared: Prepared, report: Reporter) -> Outcome:
    output, plan, runner = prepared.output, prepared.plan, prepared.runner
    publication = prepared.publication
    staging = publication.labelling.staging
    with _watched(prepared, report) as deadlines:
        wait_for_earlier(runner, deadlines.check_stall, report)
    publish.recover(output)
    # where a template is asked for, a job has to be made even if it will find nothing to do
    if not runner.template and publish.state(output, plan.run_id) == "published":
        return Outcome("unchanged", output, publish.published(output))
    done = completed_records(staging)
    report(_announcement(plan, done, publication.labelling.names))
    with reaching("output", output, begun=False):
        others = publish.begin(output, plan)
    if others:
        report(f"left alone in {output}/{STAGING}: {', '.join(others)}: not Glossator's")
    counted: dict[str, Any] = {}
    if len(done) == len(plan.splits) and not runner.template:
        publish_run(publication)
    else:
        with _watched(prepared, report) as deadlines:
            submission = Submission(runner, prepared.attempt)
            result = submission.run(prepared.root, check=deadlines.check)
        if not runner.waits:
            return Outcome("submitted", output, None, job_name=runner.job_name)
        counted = of_engine(result.metrics())
    manifest = publish.published(output)
    if manifest is None or manifest.run_id != plan.run_id:
        raise JobError(f"{output}: the job ended and published nothing")
    seconds = time.time() - publication.started
    return Outcome("published", output, manifest, len(done), seconds, counted, runner.job_name)


@contextmanager
def _watched(prepared: Prepared, report: Reporter) -> Iterator[Deadlines]:
    """Reports progress while the context is open; gives what ends a job that makes none."""
    progress = Progress(prepared.publication.labelling.staging, prepared.plan.splits)
    with reporting(progress, report):
        yield Deadlines(prepared.runner, progress, prepared.start_minutes, prepared.stall_minutes)


def _of_splits(labelling: Labelling, plan: Plan, staging: str) -> SplitLabelling:
    return SplitLabelling(
        labelling.model,
        labelling.digest,
        labelling.tasks,
        plan.columns.text,
        labelling.top,
        columns=plan.columns,
        staging=staging,
    )


def _described(options: LabelOptions, labelling: Labelling, plan: Plan) -> dict[str, Any]:
    """What was asked for, as the manifest says it."""
    return {
        "inputs": list(options.inputs),
        "model": options.model,
        "text": plan.columns.text,
        "keys": list(options.keys),
        "tasks": list(labelling.names),
        "top": options.top,
    }


def pipeline(
    root: beam.Pipeline, publication: Publication, threads: int = 1, attempt: str = ""
) -> beam.PCollection:
    """The job as one expression: only descriptions of splits pass between workers."""
    return (
        root
        | "Run" >> beam.Impulse()
        | "List" >> beam.ParDo(ListSplits(publication))
        | "Spread" >> beam.Reshuffle()
        | "Label" >> beam.ParDo(LabelSplits(publication.labelling, threads, attempt))
        | "Count" >> beam.combiners.Count.Globally()
        | "Publish" >> beam.ParDo(Publish(publication))
    )


def _root(options: PipelineOptions) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:  # Beam's own checks of its options
        raise UsageError(" ".join(str(error).split())) from error


def _refuse_local_paths(uris: Iterable[str]) -> None:
    for uri in uris:
        if uri != bundles.DEFAULT and is_local(open_store(uri)[0]):
            raise UsageError(
                f"{uri} is on this machine, where the workers can't reach it: name a URI that they"
                " can, e.g. gs://..."
            )


def _announcement(plan: Plan, done: Collection[str], tasks: Sequence[str]) -> str:
    rows = sum(split.rows for split in plan.splits)
    line = (
        f"labelling {rows:,} rows of {len(plan.sources):,} files for {', '.join(tasks)}, text in "
        f"column {plan.columns.text!r}, in {len(plan.splits):,} splits"
    )
    return f"{line}; resuming: {len(done):,} are done" if done else line


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "glossator": version("glossator"),
        "apache-beam": beam.__version__,
        "torch": torch.__version__,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }
