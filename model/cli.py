"""The verbs that need no pipeline: train, evaluate, explain, corpora."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from glossator.model import terminal
from glossator.model.commands import Command, Group
from glossator.model.errors import UsageError
from glossator.model.reporting import TerminalReporter

if TYPE_CHECKING:
    from glossator.model.bundle import Bundle
    from glossator.model.labelled.dataset import Dataset


_allow_leaks = click.option(
    "--allow-leaks",
    is_flag=True,
    help="Keep test rows whose text is in another split too, or has labels that contradict.",
)


@click.command(cls=Command)
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FILES",
    help="Labelled Parquet, CSV or JSON Lines: files, globs or folders; may be given more than "
    "once.",
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
@click.option("--weight", metavar="COLUMN", help="How much a row counts; a null counts 1.")
@_allow_leaks
@click.option(
    "--unlabelled",
    multiple=True,
    metavar="FILES",
    help="More texts, to learn the tokens and their vectors from; may be given more than once.",
)
@click.option(
    "--init",
    metavar="BUNDLE",
    help="Begin with the tokenizer, the embedding and the encoder of another bundle.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="BUNDLE|FILES",
    help="Learn from what a bundle says too, of the unlabelled texts as well, or from the "
    "predictions in Parquet files; may be given more than once.",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Take the best epoch so far after so long.",
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
    weight: str | None,
    allow_leaks: bool,
    unlabelled: tuple[str, ...],
    init: str | None,
    teachers: tuple[str, ...],
    max_minutes: float | None,
    name: str,
    changes: tuple[str, ...],
    twins: bool,
) -> None:
    """Train a model on labelled rows and write it as a bundle.

    One that was killed goes on where it was when the same command is run again.
    """
    from glossator.model import bundle as bundles
    from glossator.model.destination import check_bundle_folder, save_bundle
    from glossator.model.evaluation import card
    from glossator.model.labelled.dataset import load, unlabelled_texts
    from glossator.model.labelled.files import is_labelled
    from glossator.model.report import frame, page
    from glossator.model.tasks import load_tasks
    from glossator.model.training import checkpoint
    from glossator.model.training.malloc import keep_freed_memory
    from glossator.model.training.predictions import read_predictions
    from glossator.model.training.train import train as learn

    settings = _settings(changes)
    tasks = load_tasks(tasks_file)
    check_bundle_folder(output)
    begin_with = None if init is None else bundles.load(init)
    taught_by = [
        read_predictions(teacher, text, tasks) if is_labelled(teacher) else bundles.load(teacher)
        for teacher in teachers
    ]
    more = unlabelled_texts(unlabelled, text) if unlabelled else []
    keep_freed_memory()
    kept = checkpoint.checkpoint_path(output)
    rows = load(data, tasks, text, split, weight=weight, allow_leaks=allow_leaks)
    report = TerminalReporter()
    for line in _remarks(rows):
        report(line)
    provenance: dict[str, Any] = {"name": name, "data": list(data)}
    if more:
        provenance |= {"unlabelled": {"files": list(unlabelled), "texts": len(more)}}
    if begin_with is not None:
        provenance |= {"init": begin_with.digest}
    if taught_by:
        provenance |= {"teachers": [teacher.digest for teacher in taught_by]}
    if weight is not None:
        provenance |= {"weight": weight}
    digest = ""
    written: dict[str, bytes] = {}

    def save(bundle: Bundle) -> None:
        nonlocal digest
        digest = save_bundle(bundle, output, written)

    try:
        trained = learn(
            rows,
            tasks,
            settings,
            report,
            provenance,
            report.show,
            unlabelled=more,
            init=begin_with,
            teachers=taught_by,
            checkpoint=kept,
            max_minutes=max_minutes,
            save=save,
            twins=twins,
        )
    finally:
        report.close()
    checkpoint.remove(kept)
    _echo_table(card.curves(trained))
    terminal.echo()
    _echo_table(card.summary(trained, sources=False))  # the card has them
    terminal.echo("", f"wrote {output} (model {digest[:12]}); its MODEL_CARD.md says more")
    if frame.available():
        page.write(page.render(replace(trained, digest=digest), rows), output)
        terminal.echo(f"{page.NAME} beside it shows it; it quotes texts of the data")
    else:
        terminal.echo("no report beside it: pip install 'glossator[report]' brings one")


def _remarks(rows: Dataset) -> list[str]:
    """What to say of data that was read."""
    dropped = f"{rows.dropped:,} rows without a text are left out"
    return [*rows.notes, *([dropped] if rows.dropped else [])]


def _echo_table(table: str) -> None:
    terminal.echo(*table.split("\n"))


_BOOLEANS = {"true": True, "false": False}


def _settings(changes: tuple[str, ...]) -> Any:
    from glossator.model.training.config import TrainingConfig

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
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FILES",
    help="As in training; tasks without a column in it are left out.",
)
@click.option("--model", default="default", show_default=True, metavar="BUNDLE")
@click.option("--tasks", metavar="A,B", help="By default all that the data has labels for.")
@click.option("--text", default="text", show_default=True, metavar="COLUMN")
@click.option("--split", default="split", show_default=True, metavar="COLUMN")
@click.option(
    "--on", default="test", show_default=True, help="The split to measure on, or all rows."
)
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Also measure on the rows of each value; may be given more than once.  "
    "[default: lang, source]",
)
@_allow_leaks
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def evaluate(
    data: tuple[str, ...],
    model: str,
    tasks: str | None,
    text: str,
    split: str,
    on: str,
    by: tuple[str, ...],
    allow_leaks: bool,
    as_json: bool,
) -> None:
    """Measure a bundle on labelled rows, with intervals."""
    from glossator.model import bundle as bundles
    from glossator.model.evaluation import card, confusion
    from glossator.model.evaluation import evaluate as evaluation
    from glossator.model.labelled.dataset import load
    from glossator.model.labelled.splits import SPLITS
    from glossator.model.labeller import Labeller
    from glossator.model.tasks import select_tasks

    if on not in (*SPLITS, "all"):
        raise UsageError(f"{on!r} is not one of {', '.join(SPLITS)} or all", parameter="on")
    bundle = bundles.load(model)
    asked = bundle.tasks if tasks is None else select_tasks(bundle.tasks, _names(tasks))
    rows = load(
        data,
        asked,
        text,
        None if on == "all" else split,
        by=by,
        allow_leaks=allow_leaks,
        allow_missing=tasks is None,
    )
    chosen = rows if on == "all" else rows.select(rows.split == on)
    if not len(chosen):
        kept_out = rows.leaks.kept_out
        leaks = f" but for {kept_out:,} whose texts leak" if kept_out else ""
        raise UsageError(
            f"no row of split {on!r} in column {split!r}{leaks}: name another, or all",
            parameter="on",
        )
    measured = tuple(task for task in asked if task.name in rows.labels)
    if not measured:
        raise UsageError("no row has a label of any task of the model", parameter="data")
    for line in _remarks(rows):
        terminal.echo(line, err=True)
    if left := [task.name for task in asked if task not in measured]:
        terminal.echo(f"left out, for no row has a label: {', '.join(left)}", err=True)
    slices = by or ("lang", "source")
    for line in evaluation.left_out(chosen, slices):
        terminal.echo(line, err=True)
    predicted = evaluation.predict(Labeller(bundle, [task.name for task in measured]), chosen.texts)
    accept = {name: calibration.accept for name, calibration in bundle.calibration.items()}
    metrics = evaluation.evaluate(measured, chosen, predicted, slices, accept)
    if as_json:
        terminal.echo_json(metrics)
    else:
        _echo_table(card.summary(replace(bundle, tasks=measured, metrics={"test": metrics})))
        for task in measured:
            terminal.echo(*confusion.lines(task, metrics[task.name].get("all", {})))
    terminal.require_output()


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


@click.command(cls=Command)
@click.argument("text")
@click.option("--model", default="default", show_default=True, metavar="BUNDLE")
@click.option("--tasks", metavar="A,B", help="By default all but sensitive ones.")
@click.option("--top", default=5, show_default=True, help="Words to mark.")
@click.option("--json", "as_json", is_flag=True, help="Print the predictions as JSON.")
def explain(text: str, model: str, tasks: str | None, top: int, as_json: bool) -> None:
    """Label one TEXT and mark the words that spoke most for each answer."""
    from glossator.model import bundle as bundles
    from glossator.model.explain import explanation, predictions_json
    from glossator.model.labeller import Labeller

    if not text.strip():
        raise UsageError("it is empty: give some words to label", parameter="text")
    names = None if tasks is None else _names(tasks)
    labelled = Labeller(bundles.load(model), names).label([text], top)
    if as_json:
        terminal.echo_json(predictions_json(text, labelled))
    else:
        terminal.echo(*explanation(text, labelled, colour=sys.stdout.isatty()))
    terminal.require_output()


@click.command(cls=Command)
@click.option("--model", default="default", show_default=True, metavar="BUNDLE")
@click.option("--output", required=True, metavar="FOLDER", help="Receives model.onnx and the rest.")
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FILES",
    help="Texts to check it with, as in training; labels are not needed.",
)
@click.option("--text", default="text", show_default=True, metavar="COLUMN")
@click.option("--format", "form", type=click.Choice(["onnx"]), default="onnx", show_default=True)
def export(model: str, output: str, data: tuple[str, ...], text: str, form: str) -> None:
    """Write a bundle's network for other runtimes, and a certificate that it answers the same."""
    from glossator.model import bundle as bundles
    from glossator.model.destination import check_writable
    from glossator.model.export import export_onnx
    from glossator.model.labelled.dataset import unlabelled_texts
    from glossator.model.store import is_local, open_store

    if not is_local(open_store(output)[0]):
        raise UsageError(
            f"{output} is no folder of this machine: export to one, and upload it",
            parameter="output",
        )
    check_writable(output, "output")
    certificates = export_onnx(bundles.load(model), Path(output), unlabelled_texts(data, text))
    for certificate in certificates:
        terminal.echo(certificate.line())
    terminal.echo(f"written to {output}")
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
