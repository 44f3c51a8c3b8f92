"""Splits that an earlier publication has alike: copied into the new run, not labelled again.

A late file changes some splits of a day and leaves the others; a corpus that grows from night to
night has most of them as it had them the night before. Whether a split is alike is decided
by what is read of it, not by names or times of change: its text and keys are digested
(`tests/benchmarks/carrying.py` has what that costs).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from glossator.model.store import copy, open_store, sha256
from glossator.pipeline.errors import CorruptRange
from glossator.pipeline.inputs.content import Content
from glossator.pipeline.inputs.ranges import Split
from glossator.pipeline.inputs.read import Unread, read
from glossator.pipeline.label import OnRows, SplitLabelling
from glossator.pipeline.outputs.staging import (
    REJECTS,
    SplitRecord,
    completed_records,
    save_record,
    with_digests,
)
from glossator.pipeline.outputs.text_digests import digests_of, joined


def carried(split: Split, labelling: SplitLabelling, on_rows: OnRows) -> SplitRecord | None:
    """Copies a split from an earlier publication; None if none has the same.

    Args:
        split: which.
        labelling: how it would be labelled; `before` says which publications there are.
        on_rows: hears of the split's rows.
    """
    if not labelling.before:
        return None
    folder, old = _earlier(labelling.before).get(_digest_of(split.name), ("", None))
    if old is None or not old.content or not _same_ranges(old, split):
        return None
    read_now = _read(split, labelling, on_rows)
    if read_now is None or read_now[0] != old.content:
        return None
    if not _copied(old, folder, split.name, labelling.staging):
        return None
    facts = {name: value for name, value in old.metrics.items() if "seconds" not in name}
    record = replace(
        old,
        index=split.index,
        part=split.name,
        metrics={**facts, "carried_rows": old.rows_read, "reused_rows": 0},
    )
    record = with_digests(record, labelling.staging, read_now[1])
    save_record(labelling.staging, record)
    return record


def _copied(old: SplitRecord, folder: str, name: str, staging: str) -> bool:
    """Whether a split's files were copied; not if one is gone, or no more what was written."""
    files = [(f"{old.part}.parquet", f"{name}.parquet", old.part_sha256)]
    if old.rejects_sha256 is not None:
        below = (f"{REJECTS}/{old.part}.parquet", f"{REJECTS}/{name}.parquet")
        files.append((*below, old.rejects_sha256))
    fs, source = open_store(folder)
    _, target = open_store(staging)
    try:
        if any(sha256(fs, f"{source}/{before}") != digest for before, _, digest in files):
            return False
        for before, now, _ in files:
            copy(fs, f"{source}/{before}", f"{target}/{now}")
    except FileNotFoundError:  # of another date, whose next run has removed it since
        return False
    return True


def _read(split: Split, labelling: SplitLabelling, on_rows: OnRows) -> tuple[str, bytes] | None:
    """The digest of what is read of a split, and those of its texts if they are to be kept.

    None if not all of it can be read.
    """
    content, rows, of_texts = Content(), 0, []
    try:
        for piece in read(split, labelling.columns, locations=labelling.locations):
            if isinstance(piece, Unread):
                return None
            content.add(piece)
            if labelling.reuse is not None:
                texts = piece.text.filter(pa.array(~piece.rejected()))
                of_texts.append(joined(digests_of(texts, labelling.reuse)))
            rows += len(piece.text)
            on_rows(rows)
    except CorruptRange:
        return None
    return content.hexdigest(), b"".join(of_texts)


@functools.lru_cache(maxsize=2)
def _earlier(folders: Sequence[str]) -> Mapping[str, tuple[str, SplitRecord]]:
    """The records of runs and their folders, by what their splits' names say of their input."""
    return {
        _digest_of(part): (folder, record)
        for folder in reversed(folders)  # the last one, which comes first, wins
        for part, record in completed_records(folder).items()
    }


def _digest_of(part: str) -> str:
    """Of a split's name, without its place in the run."""
    return part.rpartition("-")[2]


def _same_ranges(old: SplitRecord, split: Split) -> bool:
    return [(r.source, r.start, r.stop) for r in old.ranges] == [
        (r.source, r.start, r.stop) for r in split.ranges
    ]
