"""The verbs that look at an output: `status`, `verify` and `report`."""

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


@click.command(cls=Command)
@click.argument("output", metavar="OUT")
@click.option("--write", "target", metavar="FILE", help="Write it there; a URI of a store, too.")
@click.option(
    "--texts",
    "characters",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Quote some texts with their labels, and keys that could not be kept, up to N characters"
    " of each; 0 quotes none.",
)
def report(output: str, target: str | None, characters: int) -> None:
    """Print a night as a page of HTML: rows, checks, labels, rejects, time.

    Of what is published; where nothing is, of what was refused. Each run has its page beside its
    manifest, too, as _report.html.
    """
    from glossator.model.store import absolute_uri, open_store, put_bytes
    from glossator.pipeline.causes import reaching
    from glossator.pipeline.night_report import facts, page
    from glossator.pipeline.outputs.publish import current_run

    output = absolute_uri(output)
    with reaching("output", output, begun=False):
        made = None if characters else page.of_refused(output)
        if made is None:
            told = facts.of_output(output, current_run(output), characters=characters)
            made = page.render(told)
    if target is None:
        terminal.echo_file(made)
        return
    fs, path = open_store(absolute_uri(target))
    put_bytes(fs, path, made.encode("utf-8", "replace"))
    terminal.echo(f"wrote {target}")
