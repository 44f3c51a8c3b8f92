"""The job: what was prepared is labelled and published."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from glossator.model.errors import GlossatorError, UsageError
from glossator.pipeline import lineage
from glossator.pipeline.causes import cause, reaching
from glossator.pipeline.engines.progress import Progress, Reporter, reporting
from glossator.pipeline.engines.submit import Deadlines, Submission, wait_for_earlier
from glossator.pipeline.engines.workers import heartbeats
from glossator.pipeline.errors import JobError, RefusedError
from glossator.pipeline.gates.refusal import known_refusals
from glossator.pipeline.inputs.discover import counted
from glossator.pipeline.inputs.plan import Plan
from glossator.pipeline.metrics import of_engine
from glossator.pipeline.options import LabelOptions
from glossator.pipeline.outputs import publish
from glossator.pipeline.outputs.current import RUNS
from glossator.pipeline.outputs.lease import Lease
from glossator.pipeline.outputs.lock import sole_writer
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.staging import completed_records
from glossator.pipeline.prepare import Prepared, prepare
from glossator.pipeline.transforms import (
    LabelSplits,
    ListSplits,
    Publication,
    Publish,
    into_table,
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
    locations: Mapping[str, str] = field(default_factory=dict)
    """How to open the inputs whose URI in the manifest does not say it, by URI."""


def run(options: LabelOptions, beam_options: PipelineOptions, report: Reporter) -> Outcome:
    """Labels the input and publishes the output, or finds that it is published already.

    Raises:
        UsageError: the request is invalid; nothing was begun.
        JobError: it was begun and did not end; nothing was published, a rerun resumes.
    """
    return execute(prepare(options, beam_options, report), report)


def execute(prepared: Prepared, report: Reporter) -> Outcome:
    """Does what was prepared: resumes, labels, publishes.

    Raises:
        UsageError: another process writes this output; nothing was begun.
        JobError: it was begun and did not end; or another job writes this output.
    """
    tell = lineage.Lineage(prepared.lineage, prepared.told, report)
    tell.begin()
    try:
        outcome = _locked(prepared, report)
    except GlossatorError as error:
        tell.fail(error)
        raise
    if outcome.manifest is not None:  # else the job goes on, and nobody waits for it
        tell.complete(outcome.manifest)
    return outcome


def _locked(prepared: Prepared, report: Reporter) -> Outcome:
    output = prepared.output

    def progress_of(run_id: str) -> object:
        return heartbeats(publish.staging(output, run_id))

    try:
        with ExitStack() as held:
            with reaching("output", output, begun=False):
                writer = sole_writer(output, prepared.plan.run_id, report, progress_of)
                lease = held.enter_context(writer)
            with reaching("output", output):
                return _execute(_with_token(prepared, lease), lease, report)
    except (UsageError, RefusedError):
        raise
    except Exception as error:
        raise JobError(cause(error)) from error


def _with_token(prepared: Prepared, lease: Lease | None) -> Prepared:
    if lease is None:
        return prepared
    return replace(prepared, publication=replace(prepared.publication, token=lease.token))


def _execute(prepared: Prepared, lease: Lease | None, report: Reporter) -> Outcome:
    output, plan, runner = prepared.output, prepared.plan, prepared.runner
    publication = prepared.publication
    staging = publication.labelling.staging
    with _watched(prepared, report) as deadlines:
        wait_for_earlier(runner, deadlines.check_stall, report)
    # where a template is asked for, a job has to be made even if it will find nothing to do
    if not runner.template and publish.state(output, plan.run_id) == "published":
        published = publish.published(output)
        if published is not None:
            into_table(publication, published)
        publish.remove_unfinished(output, plan.run_id)
        publish.settle(output, publication.keep_seconds, publication.token)
        return Outcome("unchanged", output, published, locations=plan.locations)
    done = completed_records(staging)
    report(_announcement(plan, done, publication.labelling.names))
    with reaching("output", output, begun=False):
        others = publish.begin(output, plan)
    if others:
        report(f"left alone in {output}/{RUNS}: {', '.join(others)}: not Glossator's")
    metrics: Mapping[str, Any] = {}
    if len(done) == len(plan.splits) and not runner.template:
        publish_run(publication)
    else:
        with known_refusals(staging), _watched(prepared, report) as deadlines:
            metrics = _submit(prepared, deadlines, lease)
        if not runner.waits:
            if lease is not None:
                lease.leave(60 * prepared.start_minutes)
            return Outcome("submitted", output, None, job_name=runner.job_name)
    manifest = publish.published(output)
    if manifest is None or manifest.run_id != plan.run_id:
        raise JobError(f"{output}: the job ended and published nothing")
    return Outcome(
        "published",
        output,
        manifest,
        len(done),
        time.time() - publication.started,
        metrics,
        runner.job_name,
        plan.locations,
    )


def _submit(prepared: Prepared, deadlines: Deadlines, lease: Lease | None) -> Mapping[str, Any]:
    """Runs the pipeline; what the engine counted."""

    def check() -> None:
        deadlines.check()
        if lease is not None:
            lease.check()

    runner, attempt = prepared.runner, uuid.uuid4().hex
    try:
        root = beam.Pipeline(options=prepared.beam_options)
        shutil.rmtree(root.local_tempdir)  # a killed process would leave it, and it is of no use
        pipeline(root, prepared.publication, runner.threads, attempt)
        result = Submission(runner, attempt).run(root, check=check)
        return of_engine(result.metrics()) if runner.waits else {}
    except Exception as error:  # of an engine in this process also what is else a request's fault
        raise JobError(cause(error)) from error


@contextmanager
def _watched(prepared: Prepared, report: Reporter) -> Iterator[Deadlines]:
    """Reports progress while the context is open; gives what ends a job that makes none."""
    progress = Progress(prepared.publication.labelling.staging, prepared.plan.splits)
    with reporting(progress, report):
        yield Deadlines(prepared.runner, progress, prepared.start_minutes, prepared.stall_minutes)


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


def _announcement(plan: Plan, done: Collection[str], tasks: Sequence[str]) -> str:
    if not plan.sources:
        return f"{plan.empty[0]} is an empty day: it holds _SUCCESS and nothing to read"
    rows = _counted(sum(split.rows for split in plan.splits), "row")
    files, splits = _counted(len(plan.sources), "file"), _counted(len(plan.splits), "split")
    line = (
        f"labelling {rows} of {files} for {', '.join(tasks)}, text in column "
        f"{plan.columns.text!r}, in {splits}"
    )
    if plan.skipped:
        line += f"; skipped: {counted(plan.skipped)}"
    return f"{line}; resuming: {len(done):,} are done" if done else line


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
