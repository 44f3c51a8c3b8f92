"""`python -m glossator.deploy.dataflow`: the flex template, from its image to a job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from glossator.deploy.dataflow import service
from glossator.deploy.dataflow import template as templates
from glossator.model import terminal
from glossator.model.commands import Group
from glossator.pipeline.cli import main

_IMAGE = click.option(
    "--image", required=True, metavar="IMAGE", help="Of launcher and workers, with a tag."
)
_STAGING = click.option(
    "--staging", metavar="URI", help="A gs:// folder for temporary and staged files."
)
_TEMPLATE = click.option(
    "--template", required=True, metavar="URI", help="Where the template's file stands, gs://."
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
@_TEMPLATE
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
@_TEMPLATE
@click.option("--project", required=True, metavar="ID", help="The project that pays.")
@click.option("--region", required=True, metavar="REGION", help="Of the job, e.g. us-central1.")
@click.option("--job-name", metavar="NAME", help="By default one that follows from the output.")
@click.option("--machine-type", metavar="TYPE", help="Of a worker; by default the template's.")
@click.option("--max-workers", type=click.IntRange(1, 1000), help="Machines at most.")
@click.option("--service-account", metavar="EMAIL", help="That launcher and workers run as.")
@click.option("--subnetwork", metavar="URL", help="Of launcher and workers.")
@click.option("--private", is_flag=True, help="No public addresses for launcher and workers.")
@click.option("--flexrs", is_flag=True, help="Cheaper, and begins within six hours.")
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
    environment = {
        "machineType": machine_type,
        "maxWorkers": max_workers,
        "serviceAccountEmail": service_account,
        "subnetwork": subnetwork,
        "ipConfiguration": "WORKER_IP_PRIVATE" if private else None,
        "flexrsGoal": "FLEXRS_COST_OPTIMIZED" if flexrs else None,
    }
    body = service.launch_request(
        template,
        job_name or service.job_name(options.output),
        values,
        {name: value for name, value in environment.items() if value is not None},
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
