"""The command line: `glossator VERB`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

import click

from glossator.model import cli as verbs
from glossator.model.errors import UsageError
from glossator.pipeline.errors import JobError
from glossator.pipeline.progress import Snapshot, describe

_LOG_SECS = 15.0


class _Reporter:
    """Lines of progress on standard error: each in place of the last where it is a terminal."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False
        self._told = time.monotonic()

    def __call__(self, line: str) -> None:
        if self._live:
            click.echo(f"\r\033[K{line}", nl=False, err=True)
            self._open = True
        else:
            click.echo(line, err=True)

    def progress(self, snapshot: Snapshot) -> None:
        """Says how far the run is: always on a terminal, elsewhere now and then."""
        if self._live or time.monotonic() - self._told >= _LOG_SECS:
            self._told = time.monotonic()
            self(describe(snapshot))

    def close(self) -> None:
        """Ends the line that is open."""
        if self._open:
            click.echo(err=True)
        self._open = False


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="glossator")
def cli() -> None:
    """Label comments for several tasks at once, from Parquet to Parquet."""


@cli.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": ["-h", "--help"],
    }
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="URI|GLOB",
    help="Parquet files, a glob or a folder; may be given more than once.",
)
@click.option("--output", required=True, metavar="URI", help="The folder to publish in.")
@click.option(
    "--model",
    default="default",
    show_default=True,
    metavar="BUNDLE",
    help="A bundle's folder or URI, or the bundle inside the package.",
)
@click.option("--text", metavar="COLUMN", help="The text column, where it is not clear.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="COLUMN",
    help="A column to carry into the output; may be given more than once.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse to begin where a file can't be read or its columns don't fit the others'.",
)
@click.option("--tasks", metavar="A,B", help="Tasks to label; by default all but sensitive ones.")
@click.option(
    "--date",
    metavar="YYYY-MM-DD",
    help="What {date} in input and output stands for; also: today, yesterday (UTC).",
)
@click.option("--top", default=5, show_default=True, help="Attended words kept of each comment.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Threads of a local run; by default one for each core.",
)
@click.option(
    "--show",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Print N labelled comments at the end.",
)
@click.option(
    "--start-minutes",
    type=click.FloatRange(min=0),
    help="Give up when no worker is ready after so long; 0 never.  [default: 10; on Dataflow 30]",
)
@click.option(
    "--stall-minutes",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Give up when no row is labelled for so long; 0 never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest's account as JSON.")
@click.argument("beam_arguments", nargs=-1, type=click.UNPROCESSED)
def label(
    inputs: tuple[str, ...],
    output: str,
    keys: tuple[str, ...],
    tasks: str | None,
    workers: int | None,
    show: int,
    as_json: bool,
    beam_arguments: tuple[str, ...],
    **given: Any,
) -> None:
    """Label comments; any Beam option may be added, e.g. --runner=FlinkRunner."""
    from glossator.pipeline import job, summary
    from glossator.pipeline.logs import beam_log
    from glossator.pipeline.options import LabelOptions, beam_options
    from glossator.pipeline.runners import cores

    names = None if tasks is None else tuple(n.strip() for n in tasks.split(",") if n.strip())
    options = LabelOptions(
        inputs=inputs, output=output, keys=keys, tasks=names, workers=workers, **given
    )
    engine = beam_options(beam_arguments, workers or cores())
    report = _Reporter()
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    try:
        with beam_log() as log:
            outcome = job.run(options, engine, report)
    except JobError as error:
        if not log.written:
            raise
        raise JobError(f"{error} (its log: {log.path})") from error
    finally:
        report.close()
    if as_json:
        click.echo(summary.as_json(outcome))
        return
    click.echo(summary.as_text(outcome))
    if show:
        click.echo(summary.examples(outcome, show, colour=sys.stdout.isatty()))


def _interrupted(number: int, _: Any) -> NoReturn:
    """Ends at once: threads in the midst of a split would be waited for otherwise."""
    from glossator.pipeline.submit import cancel_current

    name = signal.Signals(number).name
    click.echo(f"\nglossator: stopped by {name}; run it again to resume", err=True)
    logging.disable()  # what breaks from here on is no news
    cancel_current()
    _leave(1)


for _verb in (verbs.train, verbs.evaluate, verbs.explain, verbs.corpora):
    cli.add_command(_verb)


def main(
    arguments: list[str] | None = None, command: click.Command = cli, program: str = "glossator"
) -> None:
    """Runs a command: 0 done, 1 failed, 2 asked for what can't be done."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_news)
    threading.excepthook = _thread_failed
    try:
        command.main(args=arguments, prog_name=program, standalone_mode=False)
    except UsageError as error:
        _fail(str(error), 2)
    except click.exceptions.Abort:
        _fail("stopped", 1)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except JobError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{type(error).__name__}: {error}", 1)
    _stop_engines()


def _is_news(record: logging.LogRecord) -> bool:
    """Beam warns of Google's packages whether or not anyone wants to use them."""
    error = record.exc_info[1] if record.exc_info else None
    return not (_hung_up(error) or record.getMessage().startswith("apitools not found"))


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    if not _hung_up(failure.exc_value):
        threading.__excepthook__(failure)


def _hung_up(error: BaseException | None) -> bool:
    """Whether an engine let go of a worker in this process: how the job ended says the job."""
    grpc = sys.modules.get("grpc")
    return grpc is not None and (
        isinstance(error, grpc.RpcError)
        and isinstance(error, grpc.Call)
        and error.code() is grpc.StatusCode.CANCELLED
    )


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"glossator: {message}", err=True)
    _leave(code)


def _stop_engines() -> None:
    if (submit := sys.modules.get("glossator.pipeline.submit")) is not None:
        submit.stop_runner_processes()


def _leave(code: int) -> NoReturn:
    """An engine's threads may still be about: there is nothing to wait for."""
    _stop_engines()
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
