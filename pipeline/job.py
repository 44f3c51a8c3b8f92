"""The job: plan, label, publish."""

from __future__ import annotations

import platform
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import create_runner

from glossator.model import bundle as bundles
from glossator.model import engines
from glossator.model.errors import GlossatorError, UsageError
from glossator.model.store import absolute_uri, is_local, open_store
from glossator.pipeline import lineage
from glossator.pipeline.causes import cause, reaching
from glossator.pipeline.engines.progress import Progress, Reporter, Silent, reporting
from glossator.pipeline.engines.runners import Runner, cores, runner_of
from glossator.pipeline.engines.submit import Deadlines, Submission, wait_for_earlier
from glossator.pipeline.engines.workers import heartbeats
from glossator.pipeline.errors import JobError, RefusedError
from glossator.pipeline.gates import nights
from glossator.pipeline.gates.audit import Gates
from glossator.pipeline.gates.canary import below
from glossator.pipeline.gates.limits import Limits
from glossator.pipeline.gates.limits import load as load_limits
from glossator.pipeline.gates.refusal import known_refusals
from glossator.pipeline.inputs.discover import counted, shown
from glossator.pipeline.inputs.names import refuse_collisions
from glossator.pipeline.inputs.plan import Plan, make_plan
from glossator.pipeline.label import SplitLabelling
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.lineage import Told
from glossator.pipeline.metrics import of_engine
from glossator.pipeline.options import LabelOptions, identity, seconds_of
from glossator.pipeline.outputs import publish
from glossator.pipeline.outputs.current import RUNS
from glossator.pipeline.outputs.lease import Lease
from glossator.pipeline.outputs.lock import sole_writer
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.schema import output_schema
from glossator.pipeline.outputs.staging import completed_records
from glossator.pipeline.transforms import (
    LabelSplits,
    ListSplits,
    Publication,
    Publish,
    into_table,
    publish_run,
)
from glossator.pipeline.waiting import when_there


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


@dataclass(frozen=True)
class Prepared:
    """A job that was found possible, and of which nothing is done; `execute` does it."""

    output: str
    plan: Plan
    publication: Publication
    runner: Runner
    beam_options: PipelineOptions
    start_minutes: float
    stall_minutes: float
    told: Told
    """What is told of it where lineage is collected."""
    lineage: str | None


def run(options: LabelOptions, beam_options: PipelineOptions, report: Reporter) -> Outcome:
    """Labels the input and publishes the output, or finds that it is published already.

    Raises:
        UsageError: the request is invalid; nothing was begun.
        JobError: it was begun and did not end; nothing was published, a rerun resumes.
    """
    return execute(prepare(options, beam_options, report), report)


def prepare(
    options: LabelOptions, beam_options: PipelineOptions, report: Reporter | None = None
) -> Prepared:
    """Makes all checks and the plan; reads, and writes nothing.

    Raises:
        NotYetError: the input is not there, also after as long as was asked to wait for it.
        UsageError: the request is invalid.
        StoreError: a store does not answer.
    """
    started = time.time()
    lineage.require(options.lineage)
    limits, template = _limits(options), options.output
    name, options = shown(options.output), options.resolved()
    before = tuple(map(absolute_uri, nights.outputs_before(template, options.date)))
    output = absolute_uri(options.output)
    labelling = Labelling.of(
        options.model,
        options.text,
        options.tasks,
        options.top,
        model_digest=options.model_digest,
    )
    with reaching("output", output, begun=False):
        publish.check_output(output)
        _refuse_other_date(output, options.date)
    _check_beam_options(beam_options)
    with reaching("input", ", ".join(options.inputs), begun=False):
        plan = when_there(
            lambda: make_plan(
                options.inputs,
                text=options.text,
                keys=options.keys,
                identity=identity(labelling.digest, labelling.names, options.top),
                strict=options.strict,
                output=output,
                table_files=options.table_files,
            ),
            options.wait_minutes,
            report or Silent(),
        )
    refuse_collisions(options.keys, (), labelling.names, what="column", parameter="keys")
    if options.table is not None:
        _check_table(options.table, output, options.date, labelling, plan)
    workers = options.workers or cores()
    runner = runner_of(beam_options, plan.run_id, workers)
    if runner.remote:
        sources = (plan.locations.get(source.uri, source.uri) for source in plan.sources)
        _refuse_local_paths((labelling.model, output, *sources))
    publication = Publication(
        output,
        plan.run_id,
        _of_splits(
            labelling, plan, output, (output, *(before if options.reuse else ())), limits.canary
        ),
        _described(options, labelling, plan),
        _versions(),
        started,
        Gates(limits, options.accept, before, labelling.references),
        seconds_of(options.keep),
        table=options.table,
    )
    start = runner.start_minutes if options.start_minutes is None else options.start_minutes
    told = Told(
        name,
        options.inputs,
        output,
        options.date,
        plan.run_id,
        labelling.digest,
        tuple(labelling.names),
        plan.sources,
    )
    return Prepared(
        output,
        plan,
        publication,
        runner,
        beam_options,
        start,
        options.stall_minutes,
        told,
        options.lineage,
    )


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


def _limits(options: LabelOptions) -> Limits:
    """Those of the file, or the usual ones; what was asked for apart goes before."""
    limits = Limits()
    if options.gates is not None:
        with reaching("gates", options.gates, begun=False):
            limits = load_limits(options.gates)
    if options.max_unreadable is not None:
        limits = replace(limits, unreadable=options.max_unreadable)
    return limits


def _of_splits(
    labelling: Labelling, plan: Plan, output: str, alike: Sequence[str], canaries: int
) -> SplitLabelling:
    """How splits are labelled; `alike` are outputs that may have some of them already."""
    staging = publish.staging(output, plan.run_id)
    return SplitLabelling(
        labelling.model,
        labelling.digest,
        labelling.tasks,
        plan.columns.text,
        labelling.top,
        experts=labelling.experts,
        columns=plan.columns,
        staging=staging,
        locations=plan.locations,
        before=tuple(folder for folder in nights.folders(alike) if folder != staging),
        canaries_below=below(canaries, sum(split.rows for split in plan.splits)),
    )


def _check_table(
    table: str, output: str, day: str | None, labelling: Labelling, plan: Plan
) -> None:
    from glossator.pipeline.outputs.tables.commit import check

    schema = output_schema(labelling.tasks, plan.columns.keys, labelling.experts)
    check(table, output, day, schema, empty=not plan.sources)


def _described(options: LabelOptions, labelling: Labelling, plan: Plan) -> dict[str, Any]:
    """What was asked for, as the manifest says it."""
    return {
        "inputs": [shown(uri) for uri in options.inputs],
        "date": options.date,
        "model": shown(options.model),
        "text": plan.columns.text,
        "keys": list(options.keys),
        "tasks": list(labelling.names),
        "top": options.top,
        **({"table": shown(options.table)} if options.table else {}),
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


def _check_beam_options(options: PipelineOptions) -> None:
    """As a pipeline does when it is made, which makes a folder too."""
    try:
        runner = create_runner(options.view_as(StandardOptions).runner)
        wrong = PipelineOptionsValidator(options, runner).validate()
    except ValueError as error:
        wrong = [str(error)]
    if wrong:
        raise UsageError(" ".join(" ".join(wrong).split()))


def _refuse_other_date(output: str, day: str | None) -> None:
    published = publish.published(output)
    earlier = published.options.get("date") if published else None
    if day and earlier and day != earlier:
        raise UsageError(
            f"{output} holds the labels of {earlier}, which those of {day} would replace: put"
            " {date} into the output, or remove what is there",
            parameter="output",
        )


def _refuse_local_paths(uris: Iterable[str]) -> None:
    for uri in uris:
        if uri != bundles.DEFAULT and is_local(open_store(uri)[0]):
            raise UsageError(
                f"{uri} is on this machine, where the workers can't reach it: name a URI that they"
                " can, e.g. gs://..."
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


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "glossator": version("glossator"),
        "apache-beam": beam.__version__,
        "network": engines.description(),
        "torch": version("torch"),
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }
