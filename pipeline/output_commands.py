"""The verbs that look at an output: `status` and `verify`."""

from __future__ import annotations

import rich_click as click

from glossator.model import terminal
from glossator.model.commands import Command
from glossator.model.reporting import TerminalReporter

_json = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.command(cls=Command)
@click.argument("output", metavar="OUT")
@_json
def status(output: str, as_json: bool) -> None:
    """Say what state an output is in: published, staged, being written, and what to do next."""
    from glossator.model.store import absolute_uri
    from glossator.pipeline import status as statuses
    from glossator.pipeline.causes import reaching

    output = absolute_uri(output)
    with reaching("output", output, begun=False):
        found = statuses.status_of(output)
    if as_json:
        terminal.echo_json(found.to_json())
    else:
        terminal.echo(*statuses.lines(found))


@click.command(cls=Command)
@click.argument("output", metavar="OUT")
@click.option("--deep", is_flag=True, help="Read every byte of it, and compare digests.")
@_json
def verify(output: str, deep: bool, as_json: bool) -> None:
    """Hold what is published against its manifest and its inputs; 1 if it is not whole."""
    from glossator.model.store import absolute_uri
    from glossator.pipeline import verify as verifying
    from glossator.pipeline.causes import reaching
    from glossator.pipeline.errors import JobError
    from glossator.pipeline.outputs.publish import current_run

    output = absolute_uri(output)
    report = TerminalReporter()
    with reaching("output", output, begun=False):
        verdict = verifying.verify(
            output,
            current_run(output),
            deep=deep,
            progress=lambda done, total: report.show(done, total, f"{done:,} of {total:,} files"),
        )
    report.close()
    if as_json:
        terminal.echo_json(verdict.to_json())
    else:
        terminal.echo(*verifying.lines(verdict))
    if not verdict.whole:
        raise JobError(f"{output}: what is published is not whole")
