"""Flags that several commands share; their defaults stand in `settings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from glossator.deploy.settings import Machine, Nightly, Pods, has_digest
from glossator.model import terminal

Command = TypeVar("Command", bound=Callable[..., Any])

PASSING = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
}
"""Context settings of a command whose other flags are those of `glossator label`."""


def _all(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


nightly_flags: Callable[[Command], Command] = _all(
    [
        click.option("--name", default=Nightly.name, show_default=True),
        click.option(
            "--schedule",
            default=Nightly.schedule,
            show_default=True,
            metavar="CRON",
            help="Once a day: minute, hour and three stars.",
        ),
        click.option(
            "--time-zone",
            default=Nightly.time_zone,
            show_default=True,
            help="Of the schedule; the date of the data is always UTC's.",
        ),
        click.option(
            "--deadline-hours",
            type=float,
            default=Nightly.deadline_hours,
            show_default=True,
            help="A run that takes longer is stopped.",
        ),
        click.option(
            "--retries",
            type=int,
            default=Nightly.retries,
            show_default=True,
            help="Of a run that failed; each resumes.",
        ),
        click.option(
            "--write",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="FOLDER",
            help="Write the files there instead of printing them.",
        ),
        click.argument(
            "label_flags", nargs=-1, type=click.UNPROCESSED, metavar="[FLAGS OF glossator label]..."
        ),
    ]
)
"""When, and what is labelled: they give `Nightly`'s arguments, and `write`."""

pod_flags: Callable[[Command], Command] = _all(
    [
        click.option(
            "--image",
            required=True,
            help="Built from deploy/Dockerfile, with its digest (@sha256:…) or a tag.",
        ),
        click.option("--namespace", default=Pods.namespace, show_default=True),
        click.option("--service-account", help="The cloud identity of what labels."),
        click.option(
            "--secret",
            "secrets",
            multiple=True,
            metavar="NAME",
            help="A Secret whose keys become environment variables; may be repeated.",
        ),
        click.option("--cores", type=int, default=Machine.cores, show_default=True),
        click.option("--memory", default=Machine.memory, show_default=True),
        click.option("--scratch", default=Machine.scratch, show_default=True, help="Of /tmp."),
    ]
)
"""Where on Kubernetes: they give the arguments of `Pods` and `Machine`."""


def give(files: dict[str, str], folder: Path | None) -> None:
    """Prints rendered files, or writes them."""
    for name, text in files.items():
        if folder is None:
            terminal.echo_file(text)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            terminal.echo(f"wrote {folder / name}", err=True)


def warn_of_tags(*images: str) -> None:
    """Says of images without a digest how to get one."""
    for image in images:
        if not has_digest(image):
            terminal.echo(
                f"{image} is a tag, which can be moved to another image: pin it by its digest"
                f" (docker buildx imagetools inspect {image})",
                err=True,
            )
