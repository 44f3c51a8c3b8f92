"""Flags of a launch, which `dataflow run` and the nightly workflow share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

template_flag = click.option(
    "--template", required=True, metavar="URI", help="Where the template's file stands, gs://."
)

_LAUNCH = (
    template_flag,
    click.option("--project", required=True, metavar="ID", help="The project that pays."),
    click.option("--region", required=True, metavar="REGION", help="Of the job, e.g. us-central1."),
    click.option("--machine-type", metavar="TYPE", help="Of a worker; by default the template's."),
    click.option("--max-workers", type=click.IntRange(1, 1000), help="Machines at most."),
    click.option("--service-account", metavar="EMAIL", help="That launcher and workers run as."),
    click.option("--subnetwork", metavar="URL", help="Of launcher and workers."),
    click.option("--private", is_flag=True, help="No public addresses for launcher and workers."),
    click.option("--flexrs", is_flag=True, help="Cheaper, and begins within six hours."),
)


def launch_flags(command: Command) -> Command:
    """Adds them; they give `template`, `project`, `region` and the arguments of `environment`."""
    for option in reversed(_LAUNCH):
        command = option(command)
    return command


def environment(
    machine_type: str | None,
    max_workers: int | None,
    service_account: str | None,
    subnetwork: str | None,
    private: bool,
    flexrs: bool,
) -> dict[str, Any]:
    """A launch's environment as Google's service takes it, of what was given."""
    given = {
        "machineType": machine_type,
        "maxWorkers": max_workers,
        "serviceAccountEmail": service_account,
        "subnetwork": subnetwork,
        "ipConfiguration": "WORKER_IP_PRIVATE" if private else None,
        "flexrsGoal": "FLEXRS_COST_OPTIMIZED" if flexrs else None,
    }
    return {name: value for name, value in given.items() if value is not None}
