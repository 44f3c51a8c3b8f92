"""What comes before the work: every check of the request, and the plan; nothing is written."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import create_runner

from glossator.model import bundle as bundles
from glossator.model import engines
from glossator.model.errors import UsageError
from glossator.model.store import absolute_uri, is_local, open_store
from glossator.pipeline import lineage
from glossator.pipeline.causes import reaching
from glossator.pipeline.engines.progress import Reporter, Silent
from glossator.pipeline.engines.runners import Runner, cores, runner_of
from glossator.pipeline.gates import nights
from glossator.pipeline.gates.audit import Gates
from glossator.pipeline.gates.canary import below
from glossator.pipeline.gates.limits import Limits
from glossator.pipeline.gates.limits import load as load_limits
from glossator.pipeline.inputs.discover import shown
from glossator.pipeline.inputs.names import refuse_collisions
from glossator.pipeline.inputs.plan import Plan, make_plan
from glossator.pipeline.label import SplitLabelling
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.lineage import Told
from glossator.pipeline.options import LabelOptions, identity, seconds_of
from glossator.pipeline.outputs import publish
from glossator.pipeline.outputs.schema import output_schema
from glossator.pipeline.transforms import Publication
from glossator.pipeline.waiting import when_there


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
    decides = identity(labelling.digest, labelling.names, options.top)
    reuse = decides if options.reuse else None
    with reaching("input", ", ".join(options.inputs), begun=False):
        plan = when_there(
            lambda: make_plan(
                options.inputs,
                text=options.text,
                keys=options.keys,
                identity=decides,
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
            labelling,
            plan,
            output,
            (output, *(before if options.reuse else ())),
            limits.canary,
            reuse,
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
    labelling: Labelling,
    plan: Plan,
    output: str,
    alike: Sequence[str],
    canaries: int,
    reuse: str | None,
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
        reuse=reuse,
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
