"""`start`, `status` and `stop`: a Flink cluster on this machine, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from glossator.deploy.flink import distribution, pool
from glossator.deploy.flink.layout import PORT
from glossator.deploy.flink.local import default_home, describe, start_cluster, stop_cluster
from glossator.model import terminal
from glossator.model.commands import Command

_home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_home,
    metavar="FOLDER",
    help="Where settings, logs and state are kept; by default in the user's cache.",
)
_port = click.IntRange(1, 65535)


@click.command(cls=Command)
@_home
@click.option("--task-managers", type=click.IntRange(min=1), help="How many; by default 2.")
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    help="Of each TaskManager; by default the cores are shared among them.",
)
@click.option("--port", type=_port, help=f"Of the web address; by default {PORT}.")
@click.option("--pool-port", type=_port, help=f"Of the worker pool; by default {pool.PORT}.")
@click.option(
    "--allow-any-local-user",
    is_flag=True,
    help="Have the worker pool serve every user of this machine; needed where users can't be told"
    " apart (macOS).",
)
def start(home: Path, allow_any_local_user: bool, **wanted: int | None) -> None:
    """Start a Flink cluster on this machine, or what is missing of it."""
    home = home.expanduser().resolve()
    pool_flags = ["--allow-any-local-user"] if allow_any_local_user else []
    running = start_cluster(home, wanted, lambda line: terminal.echo(line, err=True), pool_flags)
    plan = running.layout
    command = [
        "glossator label --input INPUT --output OUTPUT --runner=FlinkRunner",
        f"--flink_master=localhost:{plan.port}",
        f"--flink_conf_dir={home / 'conf'}",
        f"--flink_version={distribution.VERSION.rpartition('.')[0]}",
    ]
    if plan.pool_port != pool.PORT:
        command.append(f"--environment_config=localhost:{plan.pool_port}")
    terminal.echo(
        f"Flink {distribution.VERSION} runs; TaskManagers: {plan.task_managers}, "
        f"slots: {plan.task_managers * plan.slots}",
        f"  web address  https://localhost:{plan.port}",
        f"  worker pool  localhost:{plan.pool_port}",
        f"  logs         {home / 'log'}",
        "label on it with",
        f"  {' '.join(command)}",
    )


@click.command(cls=Command)
@_home
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON.")
def status(home: Path, as_json: bool) -> None:
    """Say what runs of the cluster; exits with 1 if not all of it does."""
    account = describe(home.expanduser().resolve())
    if as_json:
        terminal.echo_json(account, indent=1)
    elif not account["processes"]:
        terminal.echo(f"nothing runs in {account['home']}")
    for process in () if as_json else account["processes"]:
        said = f"{process['lack']}; see {process['log']}" if process["lack"] else "runs"
        terminal.echo(f"{process['role']:<16} pid {process['pid'] or '-':<8} {said}")
    if not account["runs"]:
        sys.exit(1)


@click.command(cls=Command)
@_home
def stop(home: Path) -> None:
    """Stop the cluster, its worker pool and all workers."""
    home = home.expanduser().resolve()
    found = stop_cluster(home)
    terminal.echo(f"stopped what ran in {home}" if found else f"nothing runs in {home}")
