"""Which run of an output is the one that readers read: a small file, switched in one step.

A run's parts never move and are never replaced by others, so a reader that has asked once which run
is current reads that one, whole, whatever is published meanwhile.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Annotated, Literal

from glossator.model.conditional import Versioned, put_if_unchanged, read_versioned
from glossator.model.errors import UsageError
from glossator.model.typed_json import Count, Matches, TypedJsonError, dumps, from_json, loads
from glossator.pipeline.errors import FencedError, StoreError
from glossator.pipeline.outputs.staging import RUN_ID

CURRENT = "_current.json"
RUNS = "_runs"
"""The folder of the runs, each in a folder of its id: published ones, and one under way."""
_TRIES = 20


@dataclass(frozen=True)
class Current:
    """What `_current.json` says."""

    format: Literal["glossator-current-1"] = "glossator-current-1"
    run: Annotated[str, Matches(RUN_ID)] | None = None
    """None where a writer has been, and nothing is published yet."""
    published: str | None = None
    """When, in UTC."""
    parts: str | None = None
    """The parts as a glob below the output."""
    manifest: str | None = None
    """Its path below the output."""
    token: Count = 0
    """Who writes may switch only while this is the number that was given to it; see `lease`."""
    written: Annotated[str, Matches(r"([0-9a-f]{32})?")] = ""
    """At random for each writing of the file: no two are alike."""


def read_current(out: str) -> tuple[Current, str | None]:
    """What is current, and the version of the file that says so; None without a file.

    Raises:
        UsageError: the file is damaged.
    """
    found = read_versioned(_uri(out))
    return (Current(), None) if found is None else (_parse(out, found), found.version)


def switch(out: str, run_id: str, published: str, token: int | None) -> None:
    """Make a run the current one.

    Args:
        out: the output.
        run_id: of a run that is whole.
        published: the time that its manifest gives.
        token: the one that was taken with the lease; None where there are no leases.

    Raises:
        FencedError: another run has taken the output over.
    """

    def switched(now: Current) -> Current:
        _require_token(out, now, run_id, token)
        folder = f"{RUNS}/{run_id}"
        return replace(
            now,
            run=run_id,
            published=published,
            parts=f"{folder}/part-*.parquet",
            manifest=f"{folder}/_manifest.json",
        )

    _change(out, switched)


def require_token(out: str, run_id: str, token: int | None) -> None:
    """Say early that a run may not publish any more; `switch` looks again.

    Raises:
        FencedError: another run has taken the output over.
    """
    if token is not None:
        _require_token(out, read_current(out)[0], run_id, token)


def _require_token(out: str, now: Current, run_id: str, token: int | None) -> None:
    if token is not None and now.token != token:
        raise FencedError(
            f"{out}: run {run_id} was taken for dead, and another run took the output over"
            f" (token {now.token}, not {token}): what is published is that run's; run this one"
            " again once that has ended, if it is still wanted"
        )


def take_token(out: str) -> int:
    """A number higher than any that was given before: it shuts out whoever has one of those."""
    return _change(out, lambda now: replace(now, token=now.token + 1)).token


def utc_now() -> str:
    """The time, to the second, e.g. `2026-11-27T02:13:00Z`."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _change(out: str, how: Callable[[Current], Current]) -> Current:
    for _ in range(_TRIES):
        now, version = read_current(out)
        new = replace(how(now), written=uuid.uuid4().hex)
        if put_if_unchanged(_uri(out), dumps(asdict(new)).encode(), version, durable=True):
            return new
    raise StoreError(f"{_uri(out)}: is changed by others all the time: stop them and run it again")


def _uri(out: str) -> str:
    return f"{out.rstrip('/')}/{CURRENT}"


def _parse(out: str, found: Versioned) -> Current:
    try:
        return from_json(Current, loads(found.data))
    except TypedJsonError as error:
        raise UsageError(
            f"{_uri(out)}: is damaged: {error}: put it back from a copy, or remove it and"
            " _SUCCESS, and run again",
            parameter="output",
        ) from error
