"""What lies in a run's folder beside parts: its plan and the records of splits.

Until the run is published the folder is its staging. The plan travels by this file and not inside
the job: the job is as small for a million splits as for one, and whoever reads the folder at night
sees what was to be done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Annotated, Any

import pyarrow as pa

from glossator.model.store import fetch, file_sizes, open_store, put_bytes, read_bytes
from glossator.model.typed_json import Count, Matches, TypedJsonError, dumps, from_json, loads
from glossator.pipeline.errors import JobError
from glossator.pipeline.inputs.columns import Columns
from glossator.pipeline.inputs.plan import Plan, Source
from glossator.pipeline.inputs.ranges import Split
from glossator.pipeline.outputs.remembered import Remembered
from glossator.pipeline.outputs.text_digests import sample

PLAN = "_plan.json"
REJECTS = "_rejects"
"""The folder of the rejects, below that of the parts."""
RECORDS = "_records"
"""The folder of the records, in staging."""
PACKED = "_records.json"
"""The records of a run that was published, in one file."""
DIGESTS = "_texts"
"""The folder of the digests of labelled texts, where they are kept; see `reuse`."""
WORKERS = "_workers"
"""The folder, in staging, in which each process that labels has a file."""
REFUSAL = "_refused.json"
"""In staging: why a run that is whole was not published."""
REPORT = "_report.html"
"""A run as a page: what came in, what went out, and what was checked."""
CANARY = "_canary.json"
"""Some texts of a run and its answers, to compare the next model's with."""
TABLE = "_table.json"
"""There while a table may name the parts of a run, which are not removed then."""
RUN_ID = r"[0-9a-f]{16}"
"""A run's id, and the name of its folder in staging, as a regular expression."""
PART_FILE = r"part-\d{5,}-[0-9a-f]{12}\.parquet"
"""The name of a part, and of a rejects file in its folder, as a regular expression."""
_THREADS = 16


def digests_path(part: str) -> str:
    """Where the digests of a part's texts are, below the folder of the parts."""
    return f"{DIGESTS}/{part}.bin"


@dataclass(frozen=True)
class RangeRecord:
    """What became of the rows of one range."""

    source: str
    start: int
    stop: int
    rows_read: int
    """All of them are labelled or rejected."""
    rows_rejected: int
    rows_unreadable: int
    """Rows that the footer promises and the data does not hold: one reject stands for them."""


@dataclass(frozen=True)
class Canary:
    """A labelled text that was drawn to be labelled by the next model too."""

    hash: int
    """Of where it stood; those with the smallest are kept."""
    text: str
    """As far as the model read it."""
    answers: dict[str, str]
    """By task, but for regressions."""


@dataclass(frozen=True)
class SplitRecord:
    """What became of a split. Its file is written last: it says that the split is done."""

    index: int
    part: str
    """The split's name: its files are `<part>.parquet` and `_rejects/<part>.parquet`."""
    ranges: tuple[RangeRecord, ...]
    """As the plan has them."""
    rows_read: int
    rows_labelled: int
    rows_rejected: int
    rows_unreadable: int
    """The sum over the ranges, as the others."""
    files_unreadable: int
    """Files whose footer can't be read."""
    rejects: dict[str, int]
    """Lines in the rejects file by reason."""
    part_bytes: int
    part_sha256: str
    rejects_bytes: int | None
    rejects_sha256: str | None
    labels: dict[str, dict[str, int]]
    """How often each label of each task was given."""
    metrics: dict[str, float]
    sums: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each task that has them: its accepted labels, and its confidences in millionths."""
    canaries: tuple[Canary, ...] = ()
    content: str = ""
    """The digest of what was read; empty where something could not be."""
    sample: tuple[str, ...] = ()
    """The smallest of the digests of its texts; none where they are not kept."""
    digests_sha256: str | None = None
    """Of the file of them all; None where there is none."""

    def to_json(self) -> dict[str, Any]:
        """The record as its file holds it."""
        lists = {
            name: [vars(one) for one in getattr(self, name)] for name in ("ranges", "canaries")
        }
        return {**vars(self), **lists}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SplitRecord:
        """The inverse of `to_json`.

        Raises:
            TypedJsonError: it is not one of these.
        """
        return from_json(cls, dict(record))


@dataclass(frozen=True)
class _RecordsFile:
    """What `_records.json` holds."""

    records: tuple[SplitRecord, ...]


def save_plan(plan: Plan, staging: str) -> None:
    """Write the plan of a run; the same plan gives the same bytes."""
    content = {
        "run_id": plan.run_id,
        "skipped": dict(plan.skipped),
        "empty": plan.empty,
        "columns": plan.columns.to_json(),
        # of flat records: `asdict` would copy each of their values
        "sources": [vars(source) for source in plan.sources],
        "splits": [
            {**vars(split), "ranges": [vars(range_) for range_ in split.ranges]}
            for split in plan.splits
        ],
    }
    fs, root = open_store(staging)
    text = dumps(content).encode()
    put_bytes(fs, f"{root}/{PLAN}", text)
    PLANS.keep(text, replace(plan, locations={}))


PLANS: Remembered[Plan] = Remembered(1)
"""The last plan of this process."""
_SPLIT_RECORDS: Remembered[SplitRecord] = Remembered(32)
"""Those that were written last."""


@dataclass(frozen=True)
class _PlanFile:
    """What `_plan.json` holds."""

    run_id: Annotated[str, Matches(RUN_ID)]
    columns: dict[str, Any]
    sources: tuple[Source, ...]
    splits: tuple[Split, ...]
    skipped: dict[str, Count]
    empty: tuple[str, ...]


def load_plan(staging: str) -> Plan:
    """The plan of a run; the inverse of `save_plan`.

    Raises:
        JobError: it is damaged, or that of another run.
    """
    fs, root = open_store(staging)
    where = f"{staging}/{PLAN}"
    text = read_bytes(fs, f"{root}/{PLAN}")
    if text is None:
        raise JobError(f"{where}: is not there any more: run it again")
    known, run_id = PLANS.of(text), PurePosixPath(root).name
    if known is not None and known.run_id == run_id:
        return known
    return PLANS.keep(text, _parse_plan(text, where, run_id))


def _parse_plan(text: bytes, where: str, run_id: str) -> Plan:
    try:
        content = from_json(_PlanFile, loads(text))
        columns = Columns.from_json(content.columns)
    except (TypedJsonError, TypeError, KeyError, ValueError, OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise JobError(f"{where}: is damaged: {reason}: run it again") from error
    if content.run_id != run_id:
        raise JobError(f"{where}: is the plan of run {content.run_id}: run it again")
    for split in content.splits:
        if re.fullmatch(PART_FILE, f"{split.name}.parquet") is None:
            raise JobError(f"{where}: is damaged: a split is called {split.name!r}: run it again")
    return Plan(
        content.sources,
        content.splits,
        columns,
        content.run_id,
        skipped=content.skipped,
        empty=content.empty,
    )


def completed_records(staging: str) -> dict[str, SplitRecord]:
    """The records by part of the splits that need not be done again.

    A record doesn't count if it is damaged, or if a file of it is not there in its full size.
    """
    fs, root = open_store(staging)
    names = [name for name in file_sizes(fs, f"{root}/{RECORDS}") if name.endswith(".json")]
    with ThreadPoolExecutor(_THREADS) as pool:
        texts = list(pool.map(lambda name: fetch(fs, f"{root}/{RECORDS}/{name}"), names))
    sizes = {
        **file_sizes(fs, root),
        **{f"{REJECTS}/{name}": s for name, s in file_sizes(fs, f"{root}/{REJECTS}").items()},
    }
    found = (_whole(name[:-5], text, sizes) for name, text in zip(names, texts, strict=True))
    one_by_one = {record.part: record for record in found if record}
    return dict(_packed(fs, root, sizes)) | one_by_one


def save_record(staging: str, record: SplitRecord) -> None:
    """Write the record of a split, which makes it done: its files have to be there."""
    fs, root = open_store(staging)
    text = dumps(record.to_json()).encode()
    put_bytes(fs, f"{root}/{RECORDS}/{record.part}.json", text)
    _SPLIT_RECORDS.keep(text, record)


def with_digests(record: SplitRecord, staging: str, digests: bytes) -> SplitRecord:
    """The record of a split, beside which the digests of its texts are written, if there are any.

    Args:
        record: without them.
        staging: where its part lies.
        digests: one after the other, in the order of the part's rows.
    """
    if not digests:
        return replace(record, sample=(), digests_sha256=None)
    fs, root = open_store(staging)
    put_bytes(fs, f"{root}/{digests_path(record.part)}", digests)
    digest = hashlib.sha256(digests).hexdigest()
    return replace(record, sample=sample(digests), digests_sha256=digest)


def pack_records(staging: str, records: Iterable[SplitRecord]) -> None:
    """Write the records of a run that is whole into one file, but for texts in them."""
    fs, root = open_store(staging)
    content = {"records": [replace(record, canaries=()).to_json() for record in records]}
    put_bytes(fs, f"{root}/{PACKED}", dumps(content).encode())


def _packed(fs: Any, root: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, SplitRecord]]:
    """Those in the one file whose files are there in full size; none if it is damaged."""
    text = read_bytes(fs, f"{root}/{PACKED}") if PACKED in sizes else None
    if text is None:
        return
    with suppress(TypedJsonError):
        for record in from_json(_RecordsFile, loads(text)).records:
            if _is_whole(record, sizes):
                yield record.part, record


def completed_record(staging: str, part: str) -> SplitRecord | None:
    """The record of one split if it need not be done again: another attempt may have done it."""
    fs, root = open_store(staging)
    text = read_bytes(fs, f"{root}/{RECORDS}/{part}.json")
    if text is None:
        return None
    fs.invalidate_cache()
    sizes = {}
    for name in (f"{part}.parquet", f"{REJECTS}/{part}.parquet"):
        with suppress(FileNotFoundError):
            sizes[name] = fs.info(f"{root}/{name}")["size"]
    return _whole(part, text, sizes)


def _whole(part: str, text: bytes, sizes: Mapping[str, int]) -> SplitRecord | None:
    """The record in `text` if it is one of that part, and its files are there in full size."""
    try:
        record = _SPLIT_RECORDS.of(text) or SplitRecord.from_json(loads(text))
    except TypedJsonError:
        return None
    return record if record.part == part and _is_whole(record, sizes) else None


def _is_whole(record: SplitRecord, sizes: Mapping[str, int]) -> bool:
    rejected = sizes.get(f"{REJECTS}/{record.part}.parquet") if record.rejects else None
    found = (sizes.get(f"{record.part}.parquet"), rejected)
    return found == (record.part_bytes, record.rejects_bytes)


def pending_splits(staging: str) -> list[Split]:
    """The splits of the plan that have no record yet, in the plan's order."""
    done = completed_records(staging)
    return [split for split in load_plan(staging).splits if split.name not in done]
