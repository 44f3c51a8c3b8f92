"""What state an output is in: what is published, what is under way, who writes, what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from glossator.model.errors import UsageError
from glossator.model.store import is_local, open_store, redacted
from glossator.pipeline.errors import JobError
from glossator.pipeline.gates.refusal import refusal_in
from glossator.pipeline.outputs import layout
from glossator.pipeline.outputs.current import CURRENT, RUNS, read_current
from glossator.pipeline.outputs.layout import LEASE
from glossator.pipeline.outputs.lease import read_lease
from glossator.pipeline.outputs.lock import holder_of
from glossator.pipeline.outputs.manifest import MANIFEST, Check, Manifest
from glossator.pipeline.outputs.publish import manifest_of, missing_files, staging
from glossator.pipeline.outputs.staging import completed_records, load_plan

State = Literal["published", "nothing published", "damaged", "not an output"]


@dataclass(frozen=True)
class Published:
    """The run that readers read."""

    run: str
    published: str
    """When, in UTC."""
    date: str | None
    model: str
    """The model's digest."""
    rows_read: int
    rows_labelled: int
    rows_rejected: int
    parts: int
    read: str
    """The parts, as a glob."""
    checks: Mapping[str, str] = field(default_factory=dict)
    """What became of each check."""


@dataclass(frozen=True)
class Staged:
    """A run that is not published."""

    run: str
    rows_done: int
    rows: int
    """Of the plan."""
    splits_done: int
    splits: int
    refused: str | None = None
    """Why it was not published."""


@dataclass(frozen=True)
class Status:
    """All that can be said of an output by looking at it."""

    output: str
    state: State
    published: Published | None = None
    writer: str | None = None
    """Who holds the lock or the lease."""
    staged: tuple[Staged, ...] = ()
    kept: tuple[str, ...] = ()
    """Runs that were published before and can still be read."""
    problems: tuple[str, ...] = ()
    next: str = ""
    """What to do."""

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def status_of(out: str) -> Status:
    """Look at an output; nothing is written.

    Raises:
        OSError: the store does not answer.
    """
    fs, root = open_store(out)
    there = layout.names(fs, root)
    shown = redacted(out)
    if not there & {CURRENT, RUNS, LEASE}:
        what = (
            "holds other files: name another" if there else "is empty or not there: label into it"
        )
        return Status(shown, "not an output", next=f"{shown} {what}")
    problems: list[str] = []
    manifest = _current_manifest(out, problems)
    writer = _writer(out, problems)
    runs = [
        run for run in sorted(layout.runs(fs, root)) if layout.is_run(fs, f"{root}/{RUNS}/{run}")
    ]
    earlier = {version.run_id for version in manifest.history} if manifest else set()
    kept = tuple(run for run in runs if run in earlier)
    others = [run for run in runs if run not in kept and run != (manifest and manifest.run_id)]
    others = [run for run in others if layout.holds_files(fs, f"{root}/{RUNS}/{run}")]
    staged = tuple(_staged(out, run) for run in others)
    state: State = "published" if manifest else "nothing published"
    if problems:
        state = "damaged"
    return Status(
        shown,
        state,
        _published(out, manifest) if manifest else None,
        writer,
        staged,
        kept,
        tuple(problems),
        _next(state, writer, staged),
    )


def lines(status: Status) -> list[str]:
    """The same for people."""
    said = [f"{status.output}: {status.state}"]
    if (now := status.published) is not None:
        said += [
            f"  run {now.run} of {now.published}" + (f", for {now.date}" if now.date else ""),
            f"  {now.rows_read:,} rows read = {now.rows_labelled:,} labelled +"
            f" {now.rows_rejected:,} rejected, in {now.parts:,} part{'s' * (now.parts != 1)}",
            f"  model {now.model[:12]}, read as {now.read}",
        ]
        if now.checks:
            counts = Counter(now.checks.values())
            said.append(f"  checks: {', '.join(f'{n} {what}' for what, n in counts.items())}")
            through = [name for name, what in now.checks.items() if what == "let through"]
            said += [f"    let through: {', '.join(through)}"] if through else []
    if status.kept:
        said.append(f"  kept for readers: {', '.join(status.kept)}")
    for one in status.staged:
        line = f"  staged: run {one.run}"
        if one.rows:
            line += f", {one.rows_done:,} of {one.rows:,} rows in {one.splits_done:,} splits done"
        said.append(line)
        if one.refused:
            said.append(f"    refused: {one.refused}")
    said += [f"  DAMAGED: {problem}" for problem in status.problems]
    if status.writer:
        said.append(f"  being written by {status.writer}")
    return [*said, f"next: {status.next}"]


def _current_manifest(out: str, problems: list[str]) -> Manifest | None:
    try:
        run = read_current(out)[0].run
        if run is None:
            return None
        manifest = manifest_of(out, run)
    except UsageError as error:
        problems.append(str(error))
        return None
    if manifest is None:
        problems.append(f"{staging(out, run)}/{MANIFEST} is lost: label it again")
        return None
    if missing := missing_files(out, manifest):
        problems.append(
            f"{len(missing):,} of {len(manifest.files):,} files of run {run} are not there in their"
            f" size ({missing[0]}, ...): label it again, which makes them anew"
        )
    return manifest


def _published(out: str, manifest: Manifest) -> Published:
    totals = manifest.totals
    return Published(
        manifest.run_id,
        manifest.published,
        manifest.options.get("date"),
        manifest.model,
        totals.rows_read,
        totals.rows_labelled,
        totals.rows_rejected,
        len(manifest.parts),
        redacted(f"{staging(out, manifest.run_id)}/part-*.parquet"),
        {check.name: _outcome(check) for check in manifest.checks},
    )


def _outcome(check: Check) -> str:
    if check.accepted:
        return "let through"
    return "skipped" if check.value is None else "passed"


def _staged(out: str, run: str) -> Staged:
    folder = staging(out, run)
    try:
        splits = load_plan(folder).splits
    except (JobError, UsageError):  # killed as it began
        return Staged(run, 0, 0, 0, 0)
    done = completed_records(folder)
    rows = sum(split.rows for split in splits if split.name in done)
    refused = refusal_in(folder)
    return Staged(
        run,
        rows,
        sum(split.rows for split in splits),
        len(done),
        len(splits),
        str(refused) if refused else None,
    )


def _writer(out: str, problems: list[str]) -> str | None:
    if is_local(open_store(out)[0]):
        return holder_of(out)
    try:
        lease = read_lease(out)
    except UsageError as error:
        problems.append(str(error))
        return None
    if lease is None:
        return None
    return (
        f"{lease.holder}, run {lease.run} (dead if it stays at beat {lease.beat} for"
        f" {lease.seconds:.0f} s)"
    )


def _next(state: State, writer: str | None, staged: Sequence[Staged]) -> str:
    if writer is not None:
        return "wait: a run is at work; look again"
    refused = next((one for one in staged if one.refused), None)
    if refused is not None:
        return (
            "mend what the check found, or let it through, and run `glossator label` again: it goes"
            " on where it was refused"
        )
    if any(one.rows for one in staged):
        return "run the same `glossator label` again: it resumes"
    if state == "damaged":
        return "run the same `glossator label` again: what is lost is made anew"
    return "nothing" if state == "published" else "run `glossator label`"
