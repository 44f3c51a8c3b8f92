"""`python -m glossator.deploy.dataflow`: the flex template, from its image to a job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from glossator.deploy.dataflow import service
from glossator.deploy.dataflow import template as templates
from glossator.deploy.dataflow.flags import environment, launch_flags, template_flag
from glossator.model import terminal
from glossator.model.commands import Group
from glossator.pipeline.cli import main

_IMAGE = click.option(
    "--image", required=True, metavar="IMAGE", help="Of launcher and workers, with a tag."
)
_STAGING = click.option(
    "--staging", metavar="URI", help="A gs:// folder for temporary and staged files."
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only print what would be done.")


@click.group(cls=Group)
def cli() -> None:
    """Label comments on Google Cloud Dataflow, by a flex template."""


@cli.command()
def metadata() -> None:
    """Print the template's parameters, as `gcloud dataflow flex-template build` takes them."""
    terminal.echo_json(templates.metadata(), indent=1)


@cli.command()
@_IMAGE
@_STAGING
def template(image: str, staging: str | None) -> None:
    """Print the template's file."""
    terminal.echo_json(templates.container_spec(image, staging), indent=1)


@cli.command()
@_IMAGE
@_STAGING
@template_flag
@click.option(
    "--context",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="this folder",
    help="A checkout of Glossator.",
)
@_DRY_RUN
def build(image: str, staging: str | None, template: str, context: Path, dry_run: bool) -> None:
    """Build the image, push it and write the template."""
    spec = templates.container_spec(image, staging)
    commands = service.docker_commands(image, context)
    for command in commands:
        terminal.echo(shlex.join(command))
        if not dry_run:
            service.run_command(command)
    terminal.echo(f"write {template}")
    if not dry_run:
        service.write_spec(spec, template)


@cli.command(params=[parameter.option for parameter in templates.PARAMETERS])
@launch_flags
@click.option("--job-name", metavar="NAME", help="By default one that follows from the output.")
@_DRY_RUN
def run(
    template: str,
    project: str,
    region: str,
    job_name: str | None,
    machine_type: str | None,
    max_workers: int | None,
    service_account: str | None,
    subnetwork: str | None,
    private: bool,
    flexrs: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Launch a job from the template, with the flags of `glossator label`."""
    from glossator.pipeline.options import LabelOptions

    values = templates.parameters(given)
    options = LabelOptions(given["inputs"], given["output"], date=given["date"]).resolved()
    if options.date is not None:  # as of now, and not of when the launcher gets to it
        values["date"] = options.date
    body = service.launch_request(
        template,
        job_name or service.job_name(options.output),
        values,
        environment(machine_type, max_workers, service_account, subnetwork, private, flexrs),
    )
    if dry_run:
        terminal.echo_json(body, indent=1)
        return
    job = service.launch(project, region, body)
    terminal.echo(f"launched {job}")
    terminal.echo(
        f"https://console.cloud.google.com/dataflow/jobs/{region}/{job}?project={project}"
    )


if __name__ == "__main__":
    main(command=cli, program="python -m glossator.deploy.dataflow")
