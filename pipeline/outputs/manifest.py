"""The account of a run: what went in, what came out, and that the two agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Annotated, Any, Literal

from glossator.model.errors import UsageError
from glossator.model.typed_json import (
    Count,
    Matches,
    Sha256,
    TypedJsonError,
    dumps,
    from_json,
    loads,
)
from glossator.pipeline.errors import ReconcileError
from glossator.pipeline.inputs.plan import Plan, Source
from glossator.pipeline.inputs.ranges import Split
from glossator.pipeline.metrics import of_split, summed
from glossator.pipeline.outputs.remembered import Remembered
from glossator.pipeline.outputs.staging import PART_FILE, REJECTS, RUN_ID, SplitRecord

MANIFEST = "_manifest.json"
"""The manifest's name in the output."""
FORMAT = "glossator-output-2"
UTC = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
"""A time, to the second, as a regular expression."""
NOT_YET = "0001-01-01T00:00:00Z"
_LISTS = ("inputs", "parts", "rejects", "checks", "history")
"""The manifest's lists of records."""


@dataclass(frozen=True)
class OutputFile:
    """A part or a rejects file."""

    name: Annotated[str, Matches(f"({REJECTS}/)?{PART_FILE}")]
    """Relative to the folder of the manifest."""
    rows: Count
    bytes: Count
    sha256: Sha256


@dataclass(frozen=True)
class Check:
    """One figure of a run beside its limit."""

    name: str
    """Of a task or a reason, that is behind a dot: `flips.topic`."""
    value: int | float | None
    """None where there was nothing to check; `against` says why."""
    limit: int | float
    passed: bool
    bound: Literal["most", "least"] = "most"
    """What the limit is of the value."""
    against: str = ""
    """What the value is of, or was compared with."""
    accepted: bool = False
    """It has not passed, and was let through for this run."""


@dataclass(frozen=True)
class Totals:
    """Counts over all splits."""

    rows_read: Count
    """All that were read are labelled or rejected: the sum of the next two."""
    rows_labelled: Count
    rows_rejected: Count
    rows_unreadable: Count
    """Rows in corrupt splits: never read, so in neither of the above."""
    files_unreadable: Count
    rejects: dict[str, Count]
    """Lines in the rejects by reason; a corrupt split or unreadable file is one."""


@dataclass(frozen=True)
class Version:
    """A run that was published before."""

    run_id: Annotated[str, Matches(RUN_ID)]
    published: Annotated[str, Matches(UTC)]
    model: str
    date: str | None
    rows_read: Count
    rows_labelled: Count

    @classmethod
    def of(cls, manifest: Manifest) -> Version:
        """That of a manifest."""
        totals, date = manifest.totals, manifest.options.get("date")
        return cls(
            manifest.run_id,
            manifest.published,
            manifest.model,
            date,
            totals.rows_read,
            totals.rows_labelled,
        )


@dataclass(frozen=True)
class Manifest:
    """What `_manifest.json` says."""

    run_id: Annotated[str, Matches(RUN_ID)]
    model: str
    """The model's digest."""
    options: dict[str, Any]
    inputs: tuple[Source, ...]
    parts: tuple[OutputFile, ...]
    rejects: tuple[OutputFile, ...]
    totals: Totals
    checks: tuple[Check, ...]
    """What was checked before it was published, and with what limits."""
    labels: dict[str, dict[str, float]]
    """For each task the share of the labelled rows that have each label."""
    metrics: dict[str, Any]
    """Counters and distributions over all splits, as the engine shows them for this run's."""
    timings: dict[str, float]
    """Of the job that published: all of it, and from when its first worker was ready."""
    versions: dict[str, str]
    skipped: dict[str, int] = field(default_factory=dict)
    """What of the inputs was passed over, by reason."""
    empty: tuple[str, ...] = ()
    """The inputs whose `_SUCCESS` says that there was nothing to read."""
    published: Annotated[str, Matches(UTC)] = NOT_YET
    """When, in UTC."""
    history: tuple[Version, ...] = ()
    """What was published in its place before, the last first."""
    answers: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of each task that has them, the mean `confidence` and the share that is `accepted`."""
    flips: dict[str, dict[str, dict[str, Count]]] = field(default_factory=dict)
    """Where the last publication was by another model, for each task how many of its canaries had
    each label then, and now: old → new → texts."""

    @property
    def files(self) -> tuple[OutputFile, ...]:
        """All files that belong to the output, but for those that describe it."""
        return self.parts + self.rejects

    def to_json(self) -> str:
        """The text of `_manifest.json`."""
        # of flat records: `asdict` would copy each of their values
        flat = {name: [vars(one) for one in getattr(self, name)] for name in _LISTS}
        content = {"format": FORMAT, **vars(self), "totals": vars(self.totals), **flat}
        return dumps(content)


MANIFESTS: Remembered[Manifest] = Remembered(2)
"""The last manifests of this process."""


def parse(text: bytes, where: str) -> Manifest:
    """Read the text of a manifest; `where` is its place, for the message.

    Raises:
        UsageError: it is damaged, or forged, or not of the format known here.
    """
    return MANIFESTS.of(text) or MANIFESTS.keep(text, _parse(text, where))


def _parse(text: bytes, where: str) -> Manifest:
    try:
        fields = loads(text)
        found = fields.pop("format", None)
        if found != FORMAT:
            raise UsageError(
                f"{where}: its format is {found!r}, not {FORMAT!r}: it was written by something"
                " else or by another version; choose another output",
                parameter="output",
            )
        manifest = from_json(Manifest, fields)
        _require_folders(manifest)
    except TypedJsonError as error:
        raise UsageError(
            f"{where}: is damaged: {error}: put it back from a copy, or remove it and run again",
            parameter="output",
        ) from error
    return manifest


def _require_folders(manifest: Manifest) -> None:
    for kind, files, folder in (
        ("parts", manifest.parts, ""),
        ("rejects", manifest.rejects, REJECTS),
    ):
        for file in files:
            if file.name.rpartition("/")[0] != folder:
                raise TypedJsonError(f"{file.name} is among the {kind}")


def build(
    plan: Plan,
    records: Iterable[SplitRecord],
    *,
    model: str,
    options: Mapping[str, Any],
    timings: Mapping[str, float],
    versions: Mapping[str, str],
) -> Manifest:
    """The manifest of a run whose splits are all done, and of which nothing is checked yet.

    Raises:
        ReconcileError: the records don't account for the plan.
    """
    records = sorted(records, key=lambda record: record.index)
    reconcile(plan, records)
    totals = _totals(records)
    return Manifest(
        run_id=plan.run_id,
        model=model,
        options=dict(options),
        inputs=plan.sources,
        parts=tuple(
            OutputFile(f"{r.part}.parquet", r.rows_labelled, r.part_bytes, r.part_sha256)
            for r in records
        ),
        rejects=tuple(
            OutputFile(
                f"{REJECTS}/{r.part}.parquet",
                sum(r.rejects.values()),
                r.rejects_bytes,
                r.rejects_sha256,
            )
            for r in records
            if r.rejects_bytes is not None and r.rejects_sha256 is not None
        ),
        totals=totals,
        checks=(),
        labels=_shares(records, totals.rows_labelled),
        metrics=summed(of_split(record) for record in records),
        timings=dict(timings),
        versions=dict(versions),
        skipped=dict(plan.skipped),
        empty=plan.empty,
        answers=_means(records, totals.rows_labelled),
    )


def reconcile(plan: Plan, records: Iterable[SplitRecord]) -> None:
    """Check that every planned row is accounted for exactly once.

    Raises:
        ReconcileError: says which split or file, and the numbers.
    """
    by_part: dict[str, list[SplitRecord]] = defaultdict(list)
    for record in records:
        by_part[record.part].append(record)
    for split in plan.splits:
        found = by_part.pop(split.name, [])
        if len(found) != 1:
            raise ReconcileError(f"{_which(split)} has {len(found)} records, not one")
        _reconcile_split(split, found[0])
    if by_part:
        raise ReconcileError(f"records of splits that were not planned: {', '.join(by_part)}")
    _reconcile_ranges(plan)


def _reconcile_split(split: Split, record: SplitRecord) -> None:
    planned = [(r.source, r.start, r.stop) for r in split.ranges]
    found = [(r.source, r.start, r.stop) for r in record.ranges]
    if planned != found:
        here = next(i for i, pair in enumerate(zip_longest(planned, found)) if len(set(pair)) > 1)
        raise ReconcileError(
            f"{_which(split)}: ranges do not hold: number {here} is"
            f" {_at(found, here)} in its record, not {_at(planned, here)}"
        )
    for range_ in record.ranges:
        if range_.rows_read + range_.rows_unreadable != range_.stop - range_.start:
            raise ReconcileError(
                f"{_which(split)}: rows read + unreadable = planned does not hold in"
                f" {range_.source}: {range_.rows_read} + {range_.rows_unreadable} is not"
                f" {range_.stop - range_.start}"
            )
    unreadable = sum(range_.error is not None for range_ in split.ranges)
    without_row = unreadable + sum(range_.rows_unreadable > 0 for range_ in record.ranges)
    for what, left, right in (
        (
            "rows read = labelled + rejected",
            record.rows_read,
            record.rows_labelled + record.rows_rejected,
        ),
        ("rows read = those of its ranges", record.rows_read, _sum(record, "rows_read")),
        (
            "rows rejected = those of its ranges",
            record.rows_rejected,
            _sum(record, "rows_rejected"),
        ),
        (
            "rows unreadable = of its ranges",
            record.rows_unreadable,
            _sum(record, "rows_unreadable"),
        ),
        ("files unreadable", record.files_unreadable, unreadable),
        (
            "lines of rejects = rows rejected + what has no row",
            sum(record.rejects.values()),
            record.rows_rejected + without_row,
        ),
    ):
        if left != right:
            raise ReconcileError(f"{_which(split)}: {what} does not hold: {left} is not {right}")


def _sum(record: SplitRecord, count: str) -> int:
    return sum(getattr(range_, count) for range_ in record.ranges)


def _at(ranges: Sequence[tuple[str, int, int]], place: int) -> str:
    if place >= len(ranges):
        return "missing"
    source, start, stop = ranges[place]
    return f"{source}, rows {start} to {stop}"


def _reconcile_ranges(plan: Plan) -> None:
    """The ranges of each file cover its rows without gap or overlap."""
    ends = {source.uri: 0 for source in plan.sources}
    unreadable = {source.uri for source in plan.sources if source.error is not None}
    all_of_them = ((range_, split) for split in plan.splits for range_ in split.ranges)
    for range_, split in sorted(all_of_them, key=lambda pair: (pair[0].source, pair[0].start)):
        if range_.start != ends.get(range_.source):
            raise ReconcileError(
                f"{_which(split)}: its range of {range_.source} starts at row {range_.start},"
                f" those before it end at {ends.get(range_.source)}"
            )
        ends[range_.source] = range_.stop
        if range_.error is not None:
            unreadable.discard(range_.source)
    for source in plan.sources:
        if ends[source.uri] != source.rows:
            raise ReconcileError(
                f"{source.uri} has {source.rows} rows, its ranges end at {ends[source.uri]}"
            )
    if unreadable:
        raise ReconcileError(f"no split has the unreadable {', '.join(sorted(unreadable))}")


def _which(split: Split) -> str:
    if not split.ranges:
        return f"split {split.name} (without rows)"
    first = split.ranges[0]
    if len(split.ranges) == 1:
        return f"split {split.name} ({first.source}, rows {first.start} to {first.stop})"
    return f"split {split.name} ({len(split.ranges)} files from {first.source} on)"


def _totals(records: Iterable[SplitRecord]) -> Totals:
    rejects: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for record in records:
        rejects.update(record.rejects)
        sums.update(
            rows_read=record.rows_read,
            rows_labelled=record.rows_labelled,
            rows_rejected=record.rows_rejected,
            rows_unreadable=record.rows_unreadable,
            files_unreadable=record.files_unreadable,
        )
    return Totals(**sums, rejects=dict(sorted(rejects.items())))


def _shares(records: Iterable[SplitRecord], rows: int) -> dict[str, dict[str, float]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for task, labels in record.labels.items():
            counts[task].update(labels)
    return {
        task: {label: count / rows if rows else 0.0 for label, count in sorted(labels.items())}
        for task, labels in sorted(counts.items())
    }


def _means(records: Iterable[SplitRecord], rows: int) -> dict[str, dict[str, float]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for task, sums in record.sums.items():
            found[task].update(sums)
    return {
        task: {
            "accepted": sums["accepted"] / rows,
            "confidence": sums["confidence_millionths"] / 1e6 / rows,
        }
        for task, sums in sorted(found.items())
        if sums and rows
    }
