"""The verbs that need no pipeline: train, evaluate, explain, corpora."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import rich_click as click

from glossator.model import terminal
from glossator.model.commands import Command, Group
from glossator.model.errors import UsageError
from glossator.model.reporting import TerminalReporter

if TYPE_CHECKING:
    from glossator.model.bundle import Bundle


@click.command(cls=Command)
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FILES",
    help="Labelled Parquet files or globs; may be given more than once.",
)
@click.option("--tasks", "tasks_file", required=True, metavar="FILE", help="tasks.toml")
@click.option("--output", required=True, metavar="BUNDLE", help="The folder to write, or its URI.")
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
@click.option(
    "--twins", is_flag=True, help="Train each task alone too: does learning together help it?"
)
def train(
    data: tuple[str, ...],
    tasks_file: str,
    output: str,
    text: str,
    split: str,
    name: str,
    changes: tuple[str, ...],
    twins: bool,
) -> None:
    """Train a model on labelled Parquet and write it as a bundle."""
    from glossator.model import card
    from glossator.model.data import load
    from glossator.model.destination import check_bundle_folder, save_bundle
    from glossator.model.tasks import load_tasks
    from glossator.model.train import train as learn

    settings = _settings(changes)
    tasks = load_tasks(tasks_file)
    check_bundle_folder(output)
    rows = load(data, tasks, text, split)
    report = TerminalReporter()
    if rows.dropped:
        report(f"{rows.dropped:,} rows without a text are left out")
    provenance = {"name": name, "data": list(data)}
    digest = ""
    written: dict[str, bytes] = {}

    def save(bundle: Bundle) -> None:
        nonlocal digest
        digest = save_bundle(bundle, output, written)

    try:
        trained = learn(
            rows, tasks, settings, report, provenance, report.show, save=save, twins=twins
        )
    finally:
        report.close()
    _echo_table(card.curves(trained))
    terminal.echo()
    _echo_table(card.summary(trained))
    terminal.echo("", f"wrote {output} (model {digest[:12]}); its MODEL_CARD.md says more")


def _echo_table(table: str) -> None:
    terminal.echo(*table.split("\n"))


_BOOLEANS = {"true": True, "false": False}


def _settings(changes: tuple[str, ...]) -> Any:
    from glossator.model.training_config import TrainingConfig

    types: dict[str, Any] = {f.name: type(f.default) for f in fields(TrainingConfig)}
    values: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in types:
            raise UsageError(
                f"{change}: no setting {name!r}; there are {', '.join(types)}", parameter="changes"
            )
        if types[name] is bool:
            if value not in _BOOLEANS:
                raise UsageError(f"{change}: {value!r} is not true or false", parameter="changes")
            values[name] = _BOOLEANS[value]
            continue
        try:
            values[name] = types[name](value)
        except ValueError:
            kind = types[name].__name__
            raise UsageError(
                f"{change}: {value!r} is not a number ({kind})", parameter="changes"
            ) from None
    return TrainingConfig(**values)


@click.command(cls=Command)
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
    from glossator.model import bundle as bundles
    from glossator.model import card
    from glossator.model import evaluate as evaluation
    from glossator.model.data import load
    from glossator.model.labeller import Labeller

    bundle = bundles.load(model)
    rows = load(data, bundle.tasks, text, split)
    chosen = rows.select(rows.split == on)
    if not len(chosen):
        raise UsageError(
            f"no row of split {on!r} in column {split!r}: name another", parameter="on"
        )
    labeller = Labeller(bundle, [task.name for task in bundle.tasks])
    predicted = evaluation.predict(labeller, chosen.texts)
    accept = {name: calibration.accept for name, calibration in bundle.calibration.items()}
    metrics = evaluation.evaluate(bundle.tasks, chosen, predicted, accept)
    if as_json:
        terminal.echo_json(metrics)
    else:
        _echo_table(card.summary(replace(bundle, metrics={"test": metrics})))
    terminal.require_output()


@click.command(cls=Command)
@click.argument("text")
@click.option("--model", default="default", show_default=True, metavar="BUNDLE")
@click.option("--tasks", metavar="A,B", help="By default all but sensitive ones.")
@click.option("--top", default=5, show_default=True, help="Words to mark.")
@click.option("--json", "as_json", is_flag=True, help="Print the predictions as JSON.")
def explain(text: str, model: str, tasks: str | None, top: int, as_json: bool) -> None:
    """Label one TEXT and mark the words that each task attended to."""
    from glossator.model import bundle as bundles
    from glossator.model.explain import explanation, predictions_json
    from glossator.model.labeller import Labeller

    if not text.strip():
        raise UsageError("it is empty: give some words to label", parameter="text")
    names = None if tasks is None else [n.strip() for n in tasks.split(",") if n.strip()]
    labelled = Labeller(bundles.load(model), names).label([text], top)
    if as_json:
        terminal.echo_json(predictions_json(text, labelled))
    else:
        terminal.echo(*explanation(text, labelled, colour=sys.stdout.isatty()))
    terminal.require_output()


@click.group(cls=Group)
def corpora() -> None:
    """Public labelled text, to train from."""


@corpora.command("build")
@click.argument("directory")
def corpora_build(directory: str) -> None:
    """Fetch, check and convert the public corpora into DIRECTORY."""
    from glossator.model.corpora import build
    from glossator.model.destination import check_writable

    check_writable(directory)
    summary = build(directory, progress=TerminalReporter())
    rows = sum(counts["rows"] for splits in summary.values() for counts in splits.values())
    terminal.echo(f"{rows:,} rows of {len(summary)} sources in {directory}, with tasks.toml")
