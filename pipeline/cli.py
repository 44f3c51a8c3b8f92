"""The command line: `glossator VERB`."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import rich_click as click

from glossator.model import cli as verbs
from glossator.model import temporary, terminal
from glossator.model.commands import Command, Group, flags
from glossator.model.errors import UsageError
from glossator.model.reporting import TerminalReporter
from glossator.pipeline import exits, output_commands
from glossator.pipeline.flags import (
    engine_flags,
    input_flags,
    model_flags,
    output_flags,
    telling_flags,
)

if TYPE_CHECKING:
    from glossator.pipeline.prometheus import Meter

_OBJECTS_PER_COLLECTION = 250_000
_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group(cls=Group)
@click.version_option(package_name="glossator")
def cli() -> None:
    """Label comments for several tasks at once, from Parquet to Parquet."""


@cli.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@input_flags
@output_flags
@telling_flags
@model_flags
@engine_flags
@click.argument(
    "beam_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ANY OPTION OF BEAM]..."
)
def label(
    inputs: tuple[str, ...],
    output: str,
    keys: tuple[str, ...],
    tasks: str | None,
    workers: int | None,
    show: int,
    as_json: bool,
    metrics_file: str | None,
    metrics_push: str | None,
    date: str | None,
    first_date: str | None,
    last_date: str | None,
    beam_arguments: tuple[str, ...],
    **given: Any,
) -> None:
    """Label comments; any Beam option may be added, e.g. --runner=FlinkRunner.

    Exit codes: 0 published; 1 failed, run it again; 2 invalid request; 3 refused by a check; 4 the
    input is not there yet.
    """
    from glossator.pipeline import backfill, job, summary
    from glossator.pipeline.engines.runners import cores
    from glossator.pipeline.options import LabelOptions, beam_options
    from glossator.pipeline.prometheus import Meter

    # what was imported stays: a collection need not look through it, again and again; and of tens
    # of thousands of files more is there at once than after which one is usual
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)

    report = _Reporter()
    meter = Meter(metrics_file, metrics_push, output, report)

    def stop(number: int, _: Any) -> NoReturn:
        report.close()
        _stopped(signal.Signals(number).name, meter)

    def label_day(day: str | None) -> job.Outcome:
        try:
            options = LabelOptions(
                inputs=inputs,
                output=output,
                keys=keys,
                tasks=_named(tasks),
                workers=workers,
                date=day,
                **given,
            )
            engine = beam_options(beam_arguments, workers or cores(), flags(label))
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, stop)
            with temporary.everything():
                outcome = job.run(options, engine, report)
        except BaseException as error:
            report.close()
            meter.failed(error)
            raise
        report.close()
        meter.done(outcome)
        return outcome

    if first_date is not None or last_date is not None:
        days = backfill.label_days(_dates(first_date, last_date, date), label_day, report)
        report.close()
        if as_json:
            said = {"exit_code": backfill.code(days), "days": [day.to_json() for day in days]}
            terminal.echo_json(terminal.without_secrets(said))
        else:
            terminal.echo(*backfill.lines(days))
        exits.leave(backfill.code(days))
    outcome = label_day(date)
    for number in (signal.SIGTERM, signal.SIGINT):  # it is done, whatever is still to be printed
        signal.signal(number, lambda *_: exits.leave(0))
    if as_json:
        terminal.echo_json(terminal.without_secrets(summary.account(outcome)))
        return
    terminal.echo(*summary.lines(outcome))
    if show:
        _show(outcome, show)


def _dates(first: str | None, last: str | None, one: str | None) -> list[str]:
    """The dates of a backfill."""
    from glossator.pipeline.backfill import dates

    if one is not None:
        raise UsageError("names one date, and others are asked for: leave it out", parameter="date")
    if first is None:
        raise UsageError("comes with the first date: give it too", parameter="last_date")
    return dates(first, last or "yesterday")


@cli.command(cls=Command)
def gates() -> None:
    """Print what is checked before publishing, and the limits, as a file for --gates."""
    from glossator.pipeline.gates import limits

    terminal.echo(*limits.as_toml().splitlines())


@cli.command(cls=Command)
@click.option("--input", "inputs", required=True, multiple=True, metavar="URI", help="As of label.")
@click.option("--text", metavar="COLUMN", help="The text; by default the column that it can be.")
@click.option(
    "--model", default="default", show_default=True, metavar="BUNDLE", help="As of label."
)
@click.option("--tasks", metavar="A,B", help="Tasks to label; by default all but sensitive ones.")
@click.option("--top", type=int, default=5, show_default=True, metavar="N", help="As of label.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads, and processes of a rival; by default one for each core.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Comments to measure with.",
)
@click.option(
    "--against",
    default="",
    metavar="A,B",
    help="Rivals to run beside it: tfidf, fasttext, runinference.",
)
@click.option(
    "--comments",
    type=click.IntRange(min=1),
    default=100_000_000,
    show_default=True,
    metavar="N",
    help="To forecast a night of.",
)
@click.option(
    "--cores",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="Of that night.",
)
@click.option(
    "--price",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="P",
    help="Of a core for an hour.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def bench(
    inputs: tuple[str, ...],
    text: str | None,
    model: str,
    tasks: str | None,
    top: int,
    workers: int | None,
    rows: int,
    against: str,
    comments: int,
    cores: int,
    price: float,
    as_json: bool,
) -> None:
    """Measure how fast the job is here, stage by stage, and what a night of comments takes."""
    from glossator.pipeline import bench as benchmark
    from glossator.pipeline.engines import runners
    from glossator.pipeline.labelling import Labelling

    labelling = Labelling.of(model, text, _named(tasks), top)
    account = benchmark.measure(
        inputs,
        text,
        labelling,
        workers or runners.cores(),
        rows,
        _named(against) or (),
        (comments, cores, price),
        lambda line: terminal.echo(line, err=True),
    )
    if as_json:
        terminal.echo_json(account.to_json())
    else:
        terminal.echo(*benchmark.lines(account))


def _named(listed: str | None) -> tuple[str, ...] | None:
    """The names in a list with commas."""
    if listed is None:
        return None
    return tuple(name.strip() for name in listed.split(",") if name.strip())


class _Reporter(TerminalReporter):
    """As the job wants it."""

    def progress(self, snapshot: Any) -> None:
        """Shows a `glossator.pipeline.engines.progress.Snapshot`."""
        from glossator.pipeline.engines.progress import describe

        self.show(snapshot.rows, snapshot.total, describe(snapshot))


def _show(outcome: Any, count: int) -> None:
    """Prints examples; the output is published, so nothing is an error any more."""
    from glossator.pipeline import summary

    try:
        terminal.echo(*summary.examples(outcome, count, colour=sys.stdout.isatty()))
    except Exception as error:
        terminal.echo(f"can't show comments: {terminal.reason(error)}", err=True)


def _stopped(signal_name: str, meter: Meter) -> NoReturn:
    """Ends at once: threads in the midst of a split would be waited for otherwise."""
    from glossator.pipeline.engines.submit import cancel_current

    if sys.stderr.isatty():  # which shows ^C
        terminal.echo(err=True)
    terminal.echo(f"glossator: stopped by {signal_name}; run it again to resume", err=True)
    logging.disable()  # what breaks from here on is no news
    cancel_current()
    meter.failed(None)
    exits.leave(exits.FAILED)


for _verb in (
    output_commands.status,
    output_commands.verify,
    output_commands.report,
    verbs.train,
    verbs.evaluate,
    verbs.explain,
    verbs.export,
    verbs.corpora,
):
    cli.add_command(_verb)


def main(
    arguments: list[str] | None = None, command: click.Command = cli, program: str = "glossator"
) -> None:
    """Runs a command: 0 done, 1 failed, 2 invalid, 3 refused by a check, 4 input not there yet."""
    exits.run(command, sys.argv[1:] if arguments is None else arguments, program)
