"""Some of what could not be labelled, to be shown: where it stands and why, never its text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from glossator.model.store import open_store
from glossator.pipeline.outputs.staging import REJECTS, SplitRecord

_EACH = 3
"""Of each reason."""
_ROWS, _BATCHES = 4096, 16
"""Of a rejects file that are looked through: a batch's rows, and batches."""
_MAX_DETAIL = 240
_QUOTES = ("key",)
"""Reasons whose details quote the data: a key's value."""


class Reject(NamedTuple):
    """A row, a range of rows or a file that was not labelled."""

    reason: str
    file: str
    row: int | None
    detail: str


def some_rejects(
    folder: str, records: Sequence[SplitRecord], characters: int
) -> tuple[Reject, ...]:
    """Some rejects of each reason.

    Args:
        folder: the run's.
        records: of its splits, which say where each reason is found.
        characters: so many of a detail that quotes the data are kept; with 0, none.
    """
    where: dict[str, str] = {}
    for record in records:
        for reason in record.rejects:
            where.setdefault(reason, record.part)
    found: list[Reject] = []
    for part in sorted(set(where.values())):
        wanted = {reason for reason, one in where.items() if one == part}
        with suppress(OSError, pa.ArrowException):  # an example less
            found += _of_part(f"{folder}/{REJECTS}/{part}.parquet", wanted, characters)
    return tuple(sorted(found, key=lambda one: (one.reason, one.file, one.row or 0)))


def _of_part(uri: str, wanted: set[str], characters: int) -> Iterator[Reject]:
    left = dict.fromkeys(sorted(wanted), _EACH)
    fs, path = open_store(uri)
    columns = ["source_file", "source_row", "reason", "detail"]
    with fs.open(path, "rb") as file:
        batches = pq.ParquetFile(file).iter_batches(_ROWS, columns=columns)
        for _, batch in zip(range(_BATCHES), batches, strict=False):
            for reason, count in left.items():
                same = batch.filter(pc.equal(batch["reason"], reason)).slice(0, count)
                left[reason] -= same.num_rows
                yield from (_reject(row, characters) for row in same.to_pylist())
            if not any(left.values()):
                return


def _reject(row: dict[str, object], characters: int) -> Reject:
    reason, detail = str(row["reason"]), str(row["detail"] or "")
    most = characters if reason in _QUOTES else _MAX_DETAIL
    number = row["source_row"]
    return Reject(
        reason,
        str(row["source_file"]),
        number if isinstance(number, int) else None,
        detail if len(detail) <= most else f"{detail[:most]}…" if most else "(not quoted)",
    )
