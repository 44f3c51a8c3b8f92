"""What was asked for, checked before any work is done."""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from glossator.model.bundle import DEFAULT
from glossator.model.errors import UsageError
from glossator.model.store import redacted
from glossator.pipeline.engines import runners
from glossator.pipeline.gates.limits import require_known
from glossator.pipeline.inputs.discover import shown
from glossator.pipeline.outputs.tables.names import parse as parse_table

FORMAT = 2
"""Raised when the same input and model give other bytes than before."""
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DAYS_AGO = {"today": 0, "yesterday": 1}


@dataclass(frozen=True)
class LabelOptions:
    """The flags of `glossator label` that are ours."""

    inputs: tuple[str, ...]
    """Parquet files, globs or folders, as fsspec URIs."""
    output: str
    """A folder's fsspec URI."""
    model: str = DEFAULT
    """A bundle's URI."""
    model_digest: str | None = None
    """The only model that may label, by its digest; None for whichever is there."""
    text: str | None = None
    """The text column; None to find it, which is an error if ambiguous."""
    keys: tuple[str, ...] = ()
    """Columns carried into the output."""
    tasks: tuple[str, ...] | None = None
    """Names; None for all that are not sensitive."""
    date: str | None = None
    """What `{date}` in inputs and output stands for: YYYY-MM-DD, `today` or `yesterday` in UTC."""
    top: int = 5
    """Marked words kept of a comment and task."""
    strict: bool = False
    """Whether a file that can't be read, or whose columns don't fit, is an error before work."""
    gates: str | None = None
    """A TOML file of what the checks allow; None for what is usual: see `gates.limits`."""
    accept: tuple[str, ...] = ()
    """Names of checks that are let through."""
    max_unreadable: int | float | None = None
    """What may be unreadable in an output that is published: so many files (int), or a share of
    all rows from 0 to 1 (float). None for what `gates` says."""
    table_files: bool = False
    """Whether to read the plain files of a Delta, Iceberg or Hudi table's folder."""
    wait_minutes: float = 0.0
    """So long an input that names nothing is looked for again."""
    lineage: str | None = None
    """A file or an http address for OpenLineage events; None for what its environment says."""
    reuse: bool = False
    """Whether splits and texts that were published for one of the last nights are taken from there,
    and the texts' digests are kept for the next."""
    keep: str = "1d"
    """So long what was published before in the same place is kept, for those who read it: a number
    and `s`, `min`, `h` or `d`."""
    table: str | None = None
    """A table that is to hold the labels too: see `outputs.tables.names`."""
    workers: int | None = None
    """Splits labelled at once on this machine; None for one for each core."""
    start_minutes: float | None = None
    """So long an engine may take until a worker is ready; 0 to wait for ever, None for what is
    usual with the engine."""
    stall_minutes: float = 60.0
    """So long may pass without a row being labelled; 0 to wait for ever."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("name Parquet files, a folder or a glob", parameter="inputs")
        if not 0 <= self.top <= 100:
            raise UsageError(f"{self.top} is not between 0 and 100", parameter="top")
        if self.max_unreadable is not None:
            _require_allowance(self.max_unreadable)
        require_known(self.accept)
        if self.date is not None and self.date not in _DAYS_AGO:
            _require_date(self.date)
        if self.table is not None:
            parse_table(self.table)
        seconds_of(self.keep)
        for name, value in (("inputs", " ".join(self.inputs)), ("output", self.output)):
            if fields := sorted(set(re.findall(r"\{(\w+)\}", value)) - {"date"}):
                raise UsageError(
                    f"{value}: unknown field {{{fields[0]}}}; known: {{date}}", parameter=name
                )
            if "{date}" in value and self.date is None:
                raise UsageError(f"{value} has {{date}} in it: give the date", parameter="date")
        if "{date}" in "".join(self.inputs) and "{date}" not in self.output:
            raise UsageError(
                f"{self.output} is the same for every date, and the input is not: each day would"
                f" replace the one before; write e.g. {self.output.rstrip('/')}/{{date}}",
                parameter="output",
            )
        for name, value in (("output", self.output), ("model", self.model)):
            if shown(value) != redacted(value):
                raise UsageError(f"{shown(value)} is not UTF-8: rename it", parameter=name)

    def resolved(self) -> LabelOptions:
        """The same with `{date}` filled in."""
        if self.date is None:
            return self
        day = day_of(self.date)
        return replace(
            self,
            date=day,
            inputs=tuple(uri.replace("{date}", day) for uri in self.inputs),
            output=self.output.replace("{date}", day),
        )


def seconds_of(duration: str) -> float:
    """A duration such as `90min`, `36h` or `7d`.

    Raises:
        UsageError: it is none.
    """
    if match := re.fullmatch(r"([0-9]{1,6})(s|min|h|d)", duration):
        return int(match[1]) * _SECONDS[match[2]]
    raise UsageError(f"{duration} is not a duration: write e.g. 90min, 36h or 7d", parameter="keep")


def day_of(word: str) -> str:
    """A date as YYYY-MM-DD; also of `today` and `yesterday`, in UTC.

    Raises:
        UsageError: it is none.
    """
    if word in _DAYS_AGO:
        now = datetime.now(timezone.utc)
        return (now - timedelta(days=_DAYS_AGO[word])).date().isoformat()
    _require_date(word)
    return word


def identity(model_digest: str, tasks: Iterable[str], top: int) -> str:
    """Digest of all that decides the output's bytes beside the input and its columns."""
    parts = [FORMAT, model_digest, list(tasks), top]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def beam_options(
    arguments: Sequence[str], workers: int, ours: Sequence[str] = ()
) -> PipelineOptions:
    """Beam's own options, with our defaults where none are given.

    Args:
        arguments: what the command line of `glossator label` did not know.
        workers: threads of a local run.
        ours: the flags that it knows, one of which may have been meant.

    Raises:
        UsageError: a flag that Beam does not know either, a value that it refuses, or one that
            the engine needs and is missing.
        JobError: the engine is not there.
    """
    given, unknown = _parse(arguments)
    if given.runner == "FlinkRunner":
        unknown = [flag for flag in unknown if not _is_of_flink(flag)]
    if unknown:
        flag = unknown[0].split("=")[0]
        known = [option for action in _parser()._actions for option in action.option_strings]
        close = difflib.get_close_matches(flag, [*known, *ours], n=1)
        hint = f"; did you mean {close[0]}?" if close else "; see glossator label --help"
        raise UsageError(f"unknown flag {unknown[0]}: neither Glossator's nor Beam's{hint}")
    # what was given comes later, and so wins; but for a runner that stands for another one
    options = PipelineOptions([*runners.defaults(given, workers), *arguments])
    if given.runner == "DirectRunner":
        options.view_as(StandardOptions).runner = "FnApiRunner"
    return options


def _is_of_flink(flag: str) -> bool:
    name, equals, _ = flag.partition("=")
    return bool(equals) and name.removeprefix("--") in runners.FLINK_OPTIONS


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    return _parser().parse_known_args(list(arguments))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in _subclasses(PipelineOptions):
        if "_add_argparse_args" in options.__dict__:
            options._add_argparse_args(parser)  # type: ignore[attr-defined]
    return parser


def _subclasses(parent: type) -> list[type]:
    children: list[type] = parent.__subclasses__()
    return children + [grandchild for child in children for grandchild in _subclasses(child)]


def _require_date(text: str) -> None:
    try:
        written = date.fromisoformat(text).isoformat()
    except ValueError:
        written = None
    if written != text:  # some versions of Python read other notations too
        raise UsageError(
            f"{text} is not a date: write it YYYY-MM-DD, or yesterday", parameter="date"
        )


def _require_allowance(value: int | float) -> None:
    if isinstance(value, float) and not 0 <= value <= 1:  # not a number is not between them either
        raise UsageError(f"{value} is not a share from 0 to 1", parameter="max_unreadable")
    if value < 0:
        raise UsageError(f"{value} is not a number of files", parameter="max_unreadable")
