"""The job: plan, label, publish."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import apache_beam as beam
import pyarrow as pa
import torch
from apache_beam.options.pipeline_options import PipelineOptions

from glossator.model import bundle as bundles
from glossator.model.errors import UsageError
from glossator.model.store import absolute_uri, is_local, open_store
from glossator.model.tasks import Task, select_tasks
from glossator.pipeline import gates, publish
from glossator.pipeline.errors import JobError
from glossator.pipeline.label import Labelling
from glossator.pipeline.layout import STAGING
from glossator.pipeline.lock import lock
from glossator.pipeline.manifest import Manifest
from glossator.pipeline.metrics import of_engine
from glossator.pipeline.options import LabelOptions, identity
from glossator.pipeline.plan import Plan, make_plan
from glossator.pipeline.progress import Progress, reporting
from glossator.pipeline.runners import runner_of
from glossator.pipeline.staging import completed_records
from glossator.pipeline.submit import Deadlines, Submission, wait_for_earlier
from glossator.pipeline.transforms import (
    LabelSplit,
    ListSplits,
    Publication,
    Publish,
    publish_run,
)

Report = Callable[[str], None]
"""Where progress goes, a line at a time."""
_RESUME = "nothing was published, run it again to resume"


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


def run(options: LabelOptions, beam_options: PipelineOptions, report: Report) -> Outcome:
    """Labels the input and publishes the output, or finds that it is published already.

    Raises:
        UsageError: what was asked for can't be done; nothing was begun.
        JobError: it was begun and did not end; nothing was published, a rerun resumes.
    """
    started = time.time()
    options = options.resolved()
    output, model = absolute_uri(options.output), options.model
    if model != bundles.DEFAULT:
        model = absolute_uri(model)
    bundle = bundles.load(model)
    tasks = select_tasks(bundle.tasks, options.tasks)
    names = tuple(task.name for task in tasks)
    publish.check_output(output)
    plan = make_plan(
        options.inputs,
        text=options.text,
        keys=options.keys,
        identity=identity(bundle.digest, names, options.top),
    )
    _refuse_collisions(plan, tasks)
    staging = publish.staging(output, plan.run_id)
    labelling = Labelling(model, bundle.digest, names, plan.text, plan.keys, options.top, staging)
    described: dict[str, Any] = {
        "inputs": list(options.inputs),
        "model": options.model,
        "text": plan.text,
        "keys": list(options.keys),
        "tasks": list(names),
        "top": options.top,
    }
    limits = gates.Limits(options.max_unreadable)
    publication = Publication(
        output, plan.run_id, labelling, described, _versions(), started, limits
    )
    runner = runner_of(beam_options, plan.run_id)
    if runner.remote:
        _refuse_local_paths((model, output, *(source.uri for source in plan.sources)))
    start_minutes = options.start_minutes
    if start_minutes is None:
        start_minutes = runner.start_minutes
    counted: dict[str, Any] = {}
    with lock(output):
        progress = Progress(staging, plan.splits)
        deadlines = Deadlines(runner, progress, start_minutes, options.stall_minutes)
        with reporting(progress, report):
            wait_for_earlier(runner, deadlines.check_stall, report)
        publish.recover(output)
        # where a template is asked for, a job has to be made even if it will find nothing to do
        if not runner.template and publish.state(output, plan.run_id) == "published":
            return Outcome("unchanged", output, publish.published(output))
        root = _root(beam_options)
        done = completed_records(staging)
        report(_announcement(plan, done, names))
        try:
            others = publish.begin(output, plan)
        except FileNotFoundError as error:
            raise UsageError(f"{output}: can't be written to: is its bucket there?") from error
        if others:
            report(f"left alone in {output}/{STAGING}: {', '.join(others)}: not Glossator's")
        if len(done) == len(plan.splits) and not runner.template:
            publish_run(publication)
        else:
            progress = Progress(staging, plan.splits)
            deadlines = Deadlines(runner, progress, start_minutes, options.stall_minutes)
            with reporting(progress, report):
                counted = _submit(root, publication, deadlines)
            if not runner.waits:
                return Outcome("submitted", output, None, job_name=runner.job_name)
        manifest = publish.published(output)
    if manifest is None or manifest.run_id != plan.run_id:
        raise JobError(f"{output}: the job ended and published nothing; run it again to resume")
    return Outcome(
        "published", output, manifest, len(done), time.time() - started, counted, runner.job_name
    )


def pipeline(root: beam.Pipeline, publication: Publication) -> beam.PCollection:
    """The job as one expression: only descriptions of splits pass between workers."""
    return (
        root
        | "Run" >> beam.Impulse()
        | "List" >> beam.ParDo(ListSplits(publication))
        | "Spread" >> beam.Reshuffle()
        | "Label" >> beam.ParDo(LabelSplit(publication.labelling))
        | "Count" >> beam.combiners.Count.Globally()
        | "Publish" >> beam.ParDo(Publish(publication))
    )


def _root(options: PipelineOptions) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:  # Beam's own checks of its options
        raise UsageError(" ".join(str(error).split())) from error


def _submit(root: beam.Pipeline, publication: Publication, deadlines: Deadlines) -> dict[str, Any]:
    """Runs the pipeline; what the engine counted."""
    pipeline(root, publication)
    runner = deadlines.runner
    try:
        result = Submission(runner).run(root, check=deadlines.check)
    except Exception as error:
        # what was raised on another machine comes back as text at best
        if refused := gates.refusal(publication.labelling.staging):
            raise refused from None  # the engine's account of it says nothing more
        if isinstance(error, JobError):
            raise JobError(f"{error}; {_RESUME}") from error
        raise JobError(f"{_cause(error)}; {_RESUME}") from error
    return of_engine(result.metrics()) if runner.waits else {}


def _cause(error: BaseException) -> str:
    """The innermost reason, in a line: Beam wraps what a worker raised in its own words."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines and "Traceback" in str(error):  # the worker's, as text
        reason = re.sub(r" \[while running '[^']*'\]$", "", lines[-1])
    else:
        reason = f"{type(error).__module__}.{type(error).__name__}: {' '.join(lines)}"
    # our own errors say all in words; of others the name says something, its module nothing
    reason = re.sub(r"^RuntimeError: (?=[\w.]+: )", "", reason)
    reason = re.sub(r"^glossator\.[\w.]+: |^(\w+\.)+(?=\w+: )", "", reason)
    return reason


def _refuse_local_paths(uris: Iterable[str]) -> None:
    for uri in uris:
        if uri != bundles.DEFAULT and is_local(open_store(uri)[0]):
            raise UsageError(
                f"{uri} is on this machine, where the workers can't reach it: name a URI that they"
                " can, e.g. gs://..."
            )


def _refuse_collisions(plan: Plan, tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.name in plan.keys.names:
            raise UsageError(
                f"--key {task.name}: the output has a column of that name, the task's: rename "
                "the key column, or leave out the task with --tasks"
            )


def _announcement(plan: Plan, done: Collection[str], tasks: Sequence[str]) -> str:
    rows = sum(split.rows for split in plan.splits)
    line = (
        f"labelling {rows:,} rows of {len(plan.sources):,} files for {', '.join(tasks)}, text in "
        f"column {plan.text!r}, in {len(plan.splits):,} splits"
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
