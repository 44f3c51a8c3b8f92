"""The flags of `glossator label`, by what they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rich_click as click

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _allowance(
    context: click.Context, option: click.Parameter, value: str | None
) -> int | float | None:
    """A count of files (an int), or a share from 0 to 1 written as 0.01 or 1% (a float)."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,12}", value):
        return int(value)
    if match := re.fullmatch(r"([0-9]*\.?[0-9]+)(%?)", value, re.ASCII):
        share = float(match[1]) / (100 if match[2] else 1)
        if share <= 1:
            return share
    raise click.BadParameter(f"{value!r} is not a number of files or a share, e.g. 0.01 or 1%")


def _adds(options: Sequence[Callable[[Any], Any]]) -> Callable[[_Function], _Function]:
    """A decorator that adds options to a command, in their order."""

    def add(command: _Function) -> _Function:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_INPUT = (
    click.option(
        "--input",
        "inputs",
        multiple=True,
        required=True,
        metavar="URI|GLOB",
        help="Parquet files, a glob or a folder; may be given more than once. Of folders"
        " and globs all is read that is called .parquet, .parq or .pq or begins as Parquet"
        " does, links included; hidden names (_x, .x; not _x=1) and outputs of Glossator"
        " are skipped.",
        panel="Input",
    ),
    click.option(
        "--text",
        metavar="COLUMN",
        help="The text column, if ambiguous; a struct's field as COLUMN.FIELD.",
        panel="Input",
    ),
    click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="COLUMN",
        help="A column, struct field (COLUMN.FIELD) or Hive partition to carry into the"
        " output; may be given more than once.",
        panel="Input",
    ),
    click.option(
        "--date",
        metavar="YYYY-MM-DD",
        help="What {date} in input and output stands for; also: today, yesterday (UTC).",
        panel="Input",
    ),
    click.option(
        "--wait-minutes",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        metavar="MINUTES",
        help="Look again, up to so long, for input that is not there yet; after that the"
        " exit code is 4.",
        panel="Input",
    ),
    click.option(
        "--from",
        "first_date",
        metavar="YYYY-MM-DD",
        help="Label each date from this one on, the oldest first; what is published with"
        " the same input and model is skipped, and a bad date does not stop the others.",
        panel="Input",
    ),
    click.option(
        "--to",
        "last_date",
        metavar="YYYY-MM-DD",
        help="The last of these dates; by default yesterday.",
        panel="Input",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Refuse to begin where a file can't be read or its columns don't fit.",
        panel="Input",
    ),
    click.option(
        "--max-unreadable",
        callback=_allowance,
        metavar="N|SHARE",
        help="Publish all the same where so many files, or such a share of the rows (0.01,"
        " 1%), can't be read; by default none.",
        panel="Checks",
    ),
    click.option(
        "--gates",
        metavar="FILE",
        help="TOML of what is allowed in what is published; `glossator gates` prints one"
        " with all that can be set.",
        panel="Checks",
    ),
    click.option(
        "--accept",
        multiple=True,
        metavar="CHECK",
        help="Publish all the same where this check has not passed; may be given more than once.",
        panel="Checks",
    ),
    click.option(
        "--table-files",
        is_flag=True,
        help="Read all files below a Delta, Iceberg or Hudi table's folder, those of"
        " removed rows too.",
        panel="Input",
    ),
)
_OUTPUT = (
    click.option(
        "--output", required=True, metavar="URI", help="The folder to publish in.", panel="Output"
    ),
    click.option(
        "--table",
        metavar="TABLE",
        help="A table that is to name the parts too: iceberg:CATALOG.NAMESPACE.TABLE or delta:URI;"
        " with --date its partition of that date is replaced.",
        panel="Output",
    ),
    click.option(
        "--reuse",
        is_flag=True,
        help="Do not label again what the last nights have published with the same model: files"
        " that did not change (of this output itself these are always taken), and texts wherever"
        " they stand, of nights that had this flag too.",
        panel="Output",
    ),
    click.option(
        "--keep",
        default="1d",
        show_default=True,
        metavar="DURATION",
        help="How long what was published here before is kept for its readers, e.g. 90min, 36h,"
        " 7d.",
        panel="Output",
    ),
    click.option(
        "--top",
        type=int,
        default=5,
        show_default=True,
        metavar="N",
        help="Marked words kept of each comment: those that spoke most for each answer.",
        panel="Output",
    ),
    click.option(
        "--show",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Print N labelled comments at the end.",
        panel="Output",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the account of the run as JSON.",
        panel="Output",
    ),
)
_TELLING = (
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
)
_MODEL = (
    click.option(
        "--model",
        default="default",
        show_default=True,
        metavar="BUNDLE",
        help="A bundle's folder or URI, or the bundle inside the package.",
        panel="Model",
    ),
    click.option(
        "--model-digest",
        metavar="SHA256",
        help="Refuse any other model; the digest stands in the manifest.",
        panel="Model",
    ),
    click.option(
        "--tasks",
        metavar="A,B",
        help="Tasks to label; by default all but sensitive ones.",
        panel="Model",
    ),
)
_ENGINE = (
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads of a local run; by default one for each core.",
        panel="Engine",
    ),
    click.option(
        "--start-minutes",
        type=click.FloatRange(min=0),
        metavar="MINUTES",
        help="Give up when no worker is ready after so long; 0 never. By default 10, on Dataflow"
        " 30.",
        panel="Engine",
    ),
    click.option(
        "--stall-minutes",
        type=click.FloatRange(min=0),
        default=60.0,
        show_default=True,
        metavar="MINUTES",
        help="Give up when no row is labelled for so long; 0 never.",
        panel="Engine",
    ),
)

input_flags = _adds(_INPUT)
output_flags = _adds(_OUTPUT)
telling_flags = _adds(_TELLING)
"""Who else is told of a run: they give `metrics_file`, `metrics_push` and `lineage`."""
model_flags = _adds(_MODEL)
engine_flags = _adds(_ENGINE)
