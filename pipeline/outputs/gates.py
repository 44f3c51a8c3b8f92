"""What is checked of a run that is whole, before it is published: write, audit, publish."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from glossator.model.store import open_store, put_bytes, read_bytes
from glossator.model.typed_json import TypedJsonError, from_json, loads
from glossator.pipeline.errors import RefusedError
from glossator.pipeline.inputs.plan import Plan
from glossator.pipeline.outputs.staging import REFUSAL, REJECTS, SplitRecord


@dataclass(frozen=True)
class Limits:
    """What a run may show and still be published. It does not enter the run's identity."""

    max_unreadable: int | float = 0
    """An int is a number of files of which anything could not be read. A float is a share, from 0
    to 1: of the planned rows, and of the files of which nothing could be read."""


@dataclass(frozen=True)
class Check:
    """One figure of a run beside its limit; the manifest has them all."""

    name: str
    value: int | float
    limit: int | float
    passed: bool


@dataclass(frozen=True)
class Unreadable:
    """What of the input could not be read."""

    files: int
    """Of which nothing could be read, or not all."""
    whole_files: int
    rows: int
    """Of files that could be read in part; how many a file had that could not, nobody knows."""
    planned_files: int
    planned_rows: int

    @property
    def share(self) -> float:
        """Of the planned rows, or of the files if that is more."""
        rows = self.rows / self.planned_rows if self.planned_rows else 0.0
        files = self.whole_files / self.planned_files if self.planned_files else 0.0
        return max(rows, files)

    def __str__(self) -> str:
        parts = []
        if self.whole_files:
            parts.append(f"{self.whole_files:,} of {self.planned_files:,} files")
        if self.rows:
            others = self.files - self.whole_files
            parts.append(
                f"{self.rows:,} of {self.planned_rows:,} rows, in {others:,}"
                f" {'other ' if parts else ''}file{'s' * (others != 1)},"
            )
        return f"{' and '.join(parts)} could not be read (a share of {self.share:.2%})"


def unreadable(plan: Plan, records: Iterable[SplitRecord]) -> Unreadable:
    """What could not be read of what was planned."""
    whole = {source.uri for source in plan.sources if source.error is not None}
    in_part: Counter[str] = Counter()
    for record in records:
        for range_ in record.ranges:
            in_part[range_.source] += range_.rows_unreadable
    return Unreadable(
        files=len(whole | (+in_part).keys()),
        whole_files=len(whole),
        rows=in_part.total(),
        planned_files=len(plan.sources),
        planned_rows=sum(source.rows for source in plan.sources),
    )


def check(plan: Plan, records: Iterable[SplitRecord], limits: Limits) -> tuple[Check, ...]:
    """All checks of a run, passed or not."""
    limit = limits.max_unreadable
    found = unreadable(plan, records)
    value = found.share if isinstance(limit, float) else found.files
    return (Check("unreadable", value, limit, value <= limit),)


def require_passed(
    plan: Plan, records: Sequence[SplitRecord], checks: Sequence[Check], staging: str
) -> None:
    """Refuse a run of which a check has not passed, and leave word of it in staging.

    Raises:
        RefusedError: says what was found, where it is listed, and the remedy.
    """
    for failed in (check for check in checks if not check.passed):
        allowed = _shown(failed.limit)
        error = RefusedError(
            f"{unreadable(plan, records)}, more than the {allowed} allowed:"
            f" nothing was published; {staging}/{REJECTS} says which and why: repair or remove"
            f" them, or allow {_shown(failed.value)} and run it again, which publishes at once",
            parameter="max_unreadable",
        )
        _save(error, checks, staging)
        raise error


@contextmanager
def known_refusals(staging: str) -> Iterator[None]:
    """Raises a refusal as it was first raised, however an engine passes it on.

    From other machines comes an exception's text at best, and Beam adds to it.

    Raises:
        RefusedError: an error ended the context, and the run in this staging folder was refused.
    """
    try:
        yield
    except Exception:
        if (refused := refusal_in(staging)) is None:
            raise
        raise refused from None  # the engine's account of it says nothing more


def refusal_in(staging: str) -> RefusedError | None:
    """Why the run in a staging folder was refused; None if it was not."""
    fs, root = open_store(staging)
    text = read_bytes(fs, f"{root}/{REFUSAL}")
    if text is None:
        return None
    try:
        found = from_json(_Refusal, loads(text))
    except TypedJsonError:  # the job has failed, whatever this is
        return None
    return RefusedError(found.message, parameter=found.parameter)


@dataclass(frozen=True)
class _Refusal:
    """What `_refused.json` holds."""

    format: Literal["glossator-refusal-1"]
    message: str
    parameter: str | None
    checks: tuple[Check, ...]


def _save(error: RefusedError, checks: Sequence[Check], staging: str) -> None:
    content = _Refusal("glossator-refusal-1", str(error), error.parameter, tuple(checks))
    fs, root = open_store(staging)
    text = json.dumps(asdict(content), ensure_ascii=False, indent=1) + "\n"
    put_bytes(fs, f"{root}/{REFUSAL}", text.encode())


def _shown(value: float) -> str:
    if isinstance(value, float):
        return f"share of {value:.2%}"
    return f"{value:,} file{'s' * (value != 1)}"
