"""Flags of `glossator label` that say who else is told of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

_Function = TypeVar("_Function", bound=Callable[..., Any])


def telling_flags(command: _Function) -> _Function:
    """Adds them; they give `metrics_file`, `metrics_push` and `lineage`."""
    for option in reversed(
        [
            click.option(
                "--metrics-file",
                metavar="PATH",
                help="Write how the run ended for Prometheus: a file that node_exporter's textfile"
                " collector reads, e.g. glossator.prom.",
                panel="Output",
            ),
            click.option(
                "--metrics-push",
                metavar="URL",
                help="The same to a Pushgateway.",
                panel="Output",
            ),
            click.option(
                "--lineage",
                metavar="FILE|URL",
                help="Tell OpenLineage events of the run to a file or an http address; by default"
                " where OPENLINEAGE_URL and the like say.",
                panel="Output",
            ),
        ]
    ):
        command = option(command)
    return command
