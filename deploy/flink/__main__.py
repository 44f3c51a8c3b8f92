"""`python -m glossator.deploy.flink`: a Flink cluster to run the job on."""

from __future__ import annotations

import click

from glossator.deploy.flink import commands
from glossator.deploy.flink.kubernetes import kubernetes
from glossator.model.commands import Group
from glossator.pipeline.cli import main


@click.group(cls=Group)
def cli() -> None:
    """Flink clusters to label comments on."""


for command in (commands.start, commands.status, commands.stop, kubernetes):
    cli.add_command(command)

if __name__ == "__main__":
    main(command=cli, program="python -m glossator.deploy.flink")
