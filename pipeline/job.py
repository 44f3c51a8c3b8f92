"""The job: plan, label, publish."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import apache_beam as beam
import pyarrow as pa
import torch
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from glossator.model import bundle as bundles
from glossator.model.errors import UsageError
from glossator.model.tasks import Task, select_tasks
from glossator.pipeline import publish
from glossator.pipeline.errors import JobError
from glossator.pipeline.label import Labelling
from glossator.pipeline.manifest import Manifest
from glossator.pipeline.options import LabelOptions, identity
from glossator.pipeline.plan import Plan, Split, is_local, make_plan, open_store
from glossator.pipeline.progress import progress
from glossator.pipeline.transforms import LabelSplit, Publication, Publish, publish_run
from glossator.pipeline.write import finished

Report = Callable[[str], None]
"""Where progress goes, a line at a time."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    state: Literal["published", "unchanged"]
    """`unchanged`: the same input and model were published before, nothing was done."""
    output: str
    manifest: Manifest
    resumed_splits: int = 0
    """Splits that an earlier run, cut off, had finished."""
    seconds: float = 0.0


def run(options: LabelOptions, beam_options: PipelineOptions, report: Report) -> Outcome:
    """Labels the input and publishes the output, or finds that it is published already.

    Raises:
        UsageError: what was asked for can't be done; nothing was begun.
        JobError: it was begun and did not end; nothing was published, a rerun resumes.
    """
    started = time.time()
    options = options.resolved()
    output, model = _anchored(options.output), _anchored(options.model)
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
    publication = Publication(output, plan, labelling, described, _versions(), started)
    with publish.lock(output):
        publish.recover(output)
        if publish.state(output, plan.run_id) == "published":
            earlier = publish.published(output)
            assert earlier is not None
            return Outcome("unchanged", output, earlier)
        done = finished(staging)
        todo = [split for split in plan.splits if split.name not in done]
        report(_announcement(plan, todo, names))
        if todo:
            with progress(staging, plan.splits, todo, report):
                _run_pipeline(todo, publication, beam_options)
        else:
            publish_run(publication)
        manifest = publish.published(output)
    if manifest is None or manifest.run_id != plan.run_id:
        raise JobError(f"{output}: the job ended and published nothing; run it again to resume")
    return Outcome("published", output, manifest, len(done), time.time() - started)


def pipeline(
    root: beam.Pipeline, splits: Sequence[Split], publication: Publication
) -> beam.PCollection:
    """The job as one expression: only descriptions of splits pass between workers."""
    return (
        root
        | "Splits" >> beam.Create(splits)
        | "Spread" >> beam.Reshuffle()
        | "Label" >> beam.ParDo(LabelSplit(publication.labelling))
        | "Gather" >> beam.combiners.ToList()
        | "Publish" >> beam.ParDo(Publish(publication))
    )


def _run_pipeline(
    todo: Sequence[Split], publication: Publication, options: PipelineOptions
) -> None:
    root = beam.Pipeline(options=options)
    pipeline(root, todo, publication)
    try:
        state = root.run().wait_until_finish()
    except Exception as error:
        raise JobError(_cause(error)) from error
    if state not in (PipelineState.DONE, None):
        raise JobError(f"the job ended as {state}; nothing was published")


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
    return f"{reason}; nothing was published, run it again to resume"


def _anchored(uri: str) -> str:
    """A local path made absolute: workers may stand in another folder."""
    if uri == bundles.DEFAULT:
        return uri
    fs, path = open_store(uri)
    return path if is_local(fs) else uri


def _refuse_collisions(plan: Plan, tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.name in plan.keys.names:
            raise UsageError(
                f"--key {task.name}: the output has a column of that name, the task's: rename "
                "the key column, or leave out the task with --tasks"
            )


def _announcement(plan: Plan, todo: Sequence[Split], tasks: Sequence[str]) -> str:
    rows = sum(split.stop - split.start for split in plan.splits)
    line = (
        f"labelling {rows:,} rows of {len(plan.sources):,} files for {', '.join(tasks)}, text in "
        f"column {plan.text!r}, in {len(plan.splits):,} splits"
    )
    done = len(plan.splits) - len(todo)
    return f"{line}; resuming: {done:,} are done" if done else line


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "glossator": version("glossator"),
        "apache-beam": beam.__version__,
        "torch": torch.__version__,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }
