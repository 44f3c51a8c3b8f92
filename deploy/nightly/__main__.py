"""Render what runs the job every night: `python -m glossator.deploy.nightly SCHEDULER`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from glossator.deploy.dataflow.flags import environment, launch_flags
from glossator.deploy.flags import PASSING, give, nightly_flags, pod_flags, warn_of_tags
from glossator.deploy.kubernetes import cron_job, to_yaml
from glossator.deploy.nightly import airflow as airflow_dag
from glossator.deploy.nightly.systemd import units
from glossator.deploy.nightly.workflows import Cloud, schedule, workflow
from glossator.deploy.settings import Machine, Nightly, Pods
from glossator.model.commands import Group
from glossator.pipeline.cli import main

_program = click.option(
    "--program",
    default="/opt/glossator/bin/glossator",
    show_default=True,
    help="Where glossator is on the machine that runs it.",
)


@click.group(cls=Group)
def cli() -> None:
    """Render a nightly schedule; flags that are not listed are those of `glossator label`."""


@cli.command(context_settings=PASSING)
@pod_flags
@nightly_flags
def kubernetes(
    image: str,
    namespace: str,
    service_account: str | None,
    secrets: tuple[str, ...],
    cores: int,
    memory: str,
    scratch: str,
    write: Path | None,
    **when: Any,
) -> None:
    """A CronJob that labels in one pod.

    All other flags are those of `glossator label`.
    """
    nightly, machine = Nightly(**when), Machine(cores, memory, scratch)
    pods = Pods(image, namespace, service_account, secrets)
    warn_of_tags(image)
    # a container sees all cores of its node
    job = cron_job(nightly, pods, machine, f"--workers={cores}")
    give({f"{nightly.name}.yaml": to_yaml([job])}, write)


@cli.command(context_settings=PASSING)
@_program
@click.option("--user", default="glossator", show_default=True, help="Whom it runs as.")
@nightly_flags
def systemd(program: str, user: str, write: Path | None, **when: Any) -> None:
    """A service and its timer, for one machine.

    All other flags are those of `glossator label`.
    """
    give(units(Nightly(**when), program, user), write)


@cli.command(context_settings=PASSING)
@_program
@nightly_flags
def airflow(program: str, write: Path | None, **when: Any) -> None:
    """A DAG file for Airflow.

    All other flags are those of `glossator label`.
    """
    nightly = Nightly(**when)
    give({f"{nightly.name}.py": airflow_dag.dag(nightly, program)}, write)


@cli.command(context_settings=PASSING)
@launch_flags
@click.option(
    "--scheduler-account",
    required=True,
    metavar="EMAIL",
    help="That Cloud Scheduler starts the workflow as.",
)
@nightly_flags
def workflows(
    template: str,
    project: str,
    region: str,
    machine_type: str | None,
    max_workers: int | None,
    service_account: str | None,
    subnetwork: str | None,
    private: bool,
    flexrs: bool,
    scheduler_account: str,
    write: Path | None,
    **when: Any,
) -> None:
    """A workflow of Google Cloud that labels on Dataflow, and its schedule.

    All other flags are those of `glossator label`.
    """
    nightly, place = Nightly(**when), Cloud(project, region, scheduler_account, template)
    runs_on = environment(machine_type, max_workers, service_account, subnetwork, private, flexrs)
    files = {
        f"{nightly.name}.workflow.json": workflow(nightly, place, runs_on),
        f"{nightly.name}.schedule.json": schedule(nightly, place),
    }
    give({name: json.dumps(content, indent=1) + "\n" for name, content in files.items()}, write)


if __name__ == "__main__":
    main(command=cli, program="python -m glossator.deploy.nightly")
