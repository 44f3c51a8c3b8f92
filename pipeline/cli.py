"""The command line: `glossator VERB`."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import click

from glossator.model.errors import UsageError
from glossator.pipeline.errors import JobError


class _Reporter:
    """Lines of progress on standard error: each in place of the last where it is a terminal."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False

    def __call__(self, line: str) -> None:
        if self._live:
            click.echo(f"\r\033[K{line}", nl=False, err=True)
            self._open = True
        else:
            click.echo(line, err=True)

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
@click.option("--tasks", metavar="A,B", help="Tasks to label; by default all but sensitive ones.")
@click.option("--date", metavar="YYYY-MM-DD", help="What {date} in input and output stands for.")
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
    from glossator.pipeline.options import LabelOptions, beam_options

    names = None if tasks is None else tuple(n.strip() for n in tasks.split(",") if n.strip())
    options = LabelOptions(inputs=inputs, output=output, keys=keys, tasks=names, **given)
    engine = beam_options(beam_arguments, workers or len(os.sched_getaffinity(0)))
    report = _Reporter()
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    try:
        outcome = job.run(options, engine, report)
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
    name = signal.Signals(number).name
    click.echo(
        f"\nglossator: stopped by {name}; nothing was published, run it again to resume", err=True
    )
    sys.stderr.flush()
    os._exit(1)


@cli.command()
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FILES",
    help="Labelled Parquet files or globs; may be given more than once.",
)
@click.option("--tasks", "tasks_file", required=True, metavar="FILE", help="tasks.toml")
@click.option("--output", required=True, metavar="BUNDLE", help="The folder to write.")
@click.option("--text", default="text", show_default=True, metavar="COLUMN")
@click.option(
    "--split",
    default="split",
    show_default=True,
    metavar="COLUMN",
    help="Says train, validation or test; without it a tenth is held out by a hash.",
)
@click.option("--name", default="A Glossator model", help="The model card's title.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting, e.g. epochs=4; see docs/training.md.",
)
def train(
    data: tuple[str, ...],
    tasks_file: str,
    output: str,
    text: str,
    split: str,
    name: str,
    changes: tuple[str, ...],
) -> None:
    """Train a model on labelled Parquet and write it as a bundle."""
    from glossator.model import bundle, card
    from glossator.model.data import load
    from glossator.model.tasks import load_tasks
    from glossator.model.train import train as learn

    settings = _settings(changes)
    if (
        Path(output).exists()
        and not Path(output, "bundle.json").exists()
        and (not Path(output).is_dir() or any(Path(output).iterdir()))
    ):
        raise UsageError(f"--output {output} holds something else than a bundle: name another")
    tasks = load_tasks(tasks_file)
    rows = load(data, tasks, text, split)
    report = _Lines()
    if rows.dropped:
        report(f"{rows.dropped:,} rows without a text are left out")
    trained = learn(rows, tasks, settings, report, {"name": name, "data": list(data)})
    digest = bundle.save(trained, output)
    click.echo(card.curves(trained) + "\n")
    click.echo(card.summary(trained))
    click.echo(f"\nwrote {output} (model {digest[:12]}); its MODEL_CARD.md says more")


class _Lines:
    """Lines of progress that stay."""

    def __call__(self, line: str) -> None:
        click.echo(line, err=True)


def _settings(changes: tuple[str, ...]) -> Any:
    from glossator.model.train import Settings

    types: dict[str, Any] = {f.name: type(f.default) for f in fields(Settings)}
    values: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in types:
            raise UsageError(f"--set {change}: no setting {name!r}; there are {', '.join(types)}")
        try:
            values[name] = types[name](value)
        except ValueError:
            kind = types[name].__name__
            raise UsageError(f"--set {change}: {value!r} is not a number ({kind})") from None
    return Settings(**values)


@cli.command()
@click.option("--data", multiple=True, required=True, metavar="FILES", help="Labelled Parquet.")
@click.option("--model", default="default", show_default=True, metavar="BUNDLE")
@click.option("--text", default="text", show_default=True, metavar="COLUMN")
@click.option("--split", default="split", show_default=True, metavar="COLUMN")
@click.option("--on", default="test", show_default=True, help="The split to measure on.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def evaluate(
    data: tuple[str, ...], model: str, text: str, split: str, on: str, as_json: bool
) -> None:
    """Measure a bundle on labelled rows, with intervals."""
    from dataclasses import replace

    from glossator.model import bundle as bundles
    from glossator.model import card
    from glossator.model import evaluate as evaluation
    from glossator.model.data import load
    from glossator.model.labeller import Labeller

    bundle = bundles.load(model)
    rows = load(data, bundle.tasks, text, split)
    chosen = rows.select(rows.split == on)
    if not len(chosen):
        raise UsageError(f"no row of split {on!r} in column {split!r}: name another with --on")
    labeller = Labeller(bundle, [task.name for task in bundle.tasks])
    given = evaluation.predict(labeller, chosen.texts)
    metrics = evaluation.evaluate(bundle.tasks, chosen, given)
    if as_json:
        click.echo(json.dumps(metrics))
    else:
        click.echo(card.summary(replace(bundle, metrics={"test": metrics})))


@cli.command()
@click.argument("text")
@click.option("--model", default="default", show_default=True, metavar="BUNDLE")
@click.option("--tasks", metavar="A,B", help="By default all but sensitive ones.")
@click.option("--top", default=5, show_default=True, help="Words to mark.")
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON.")
def explain(text: str, model: str, tasks: str | None, top: int, as_json: bool) -> None:
    """Label one TEXT and mark the words that each task attended to."""
    from glossator.model import bundle as bundles
    from glossator.model.explain import answers_json, explanation
    from glossator.model.labeller import Labeller

    if not text.strip():
        raise UsageError("the text is empty: give some words to label")
    names = None if tasks is None else [n.strip() for n in tasks.split(",") if n.strip()]
    labelled = Labeller(bundles.load(model), names).label([text], top)
    if as_json:
        click.echo(json.dumps(answers_json(text, labelled), ensure_ascii=False))
        return
    for line in explanation(text, labelled, colour=sys.stdout.isatty()):
        click.echo(line)


@cli.group()
def corpora() -> None:
    """Public labelled text, to train from."""


@corpora.command("build")
@click.argument("directory")
def corpora_build(directory: str) -> None:
    """Fetch, check and convert the public corpora into DIRECTORY."""
    from glossator.model.corpora import build

    summary = build(directory, progress=_Lines())
    rows = sum(counts["rows"] for splits in summary.values() for counts in splits.values())
    click.echo(f"{rows:,} rows of {len(summary)} sources in {directory}, with tasks.toml")


def main(arguments: list[str] | None = None, command: click.Command = cli) -> None:
    """Runs a command: 0 done, 1 failed, 2 asked for what can't be done."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger().addFilter(_is_news)
    try:
        command.main(args=arguments, prog_name="glossator", standalone_mode=False)
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


def _is_news(record: logging.LogRecord) -> bool:
    """Beam warns of Google's packages whether or not anyone wants to use them."""
    return not record.getMessage().startswith("apitools not found")


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"glossator: {message}", err=True)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)  # an engine's threads may still be about; there is nothing to wait for
