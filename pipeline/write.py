"""A split's labels and rejects as files that are there whole or not at all, and its record."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from glossator.model.store import atomic_write, open_store, put_bytes
from glossator.pipeline.plan import Range, Split
from glossator.pipeline.read import Checked, Piece
from glossator.pipeline.schema import reject_schema
from glossator.pipeline.staging import RECORDS, REJECTS, RangeRecord, SplitRecord

_MISFIT_ROWS = 65_536
"""Rejected at once where all of a file's rows are."""


def rejects(piece: Piece, checked: Checked) -> pa.Table:
    """The rows of a piece that are not labelled, in the rejects' columns."""
    rows = np.flatnonzero(checked.reason.is_valid().to_numpy(zero_copy_only=False))
    reason = checked.reason.take(rows)
    columns = [
        *piece.keys.take(rows).columns,
        pa.repeat(pa.scalar(piece.range_.source), len(rows)),
        pa.array(rows + piece.first_row, pa.int64()),
        pc.if_else(pc.equal(reason, "key"), "read", "check"),
        reason,
        checked.detail.take(rows),
    ]
    return pa.Table.from_arrays(columns, schema=reject_schema(piece.keys.schema))


class SplitWriter:
    """Writes one split into a staging folder; use it as a context, then `commit`.

    The files appear when the context is left without an error. Of a context that is left with
    one, nothing stays. Writing the same tables again gives the same bytes.
    """

    def __init__(self, staging: str, split: Split, schema: pa.Schema, keys: pa.Schema):
        self._fs, self._staging = open_store(staging)
        self._split = split
        self._keys = keys
        self._schema = schema
        self._stack = ExitStack()
        self._part: _Parquet
        self._rejects: _Parquet | None = None
        self._reasons: Counter[str] = Counter()
        self._ranges: dict[Range, RangeRecord] = {}

    def __enter__(self) -> SplitWriter:
        self._part = self._open(f"{self._split.name}.parquet", self._schema)
        return self

    def write(self, table: pa.Table) -> None:
        """Add labelled rows: one row group."""
        self._part.write(table)

    def reject(self, table: pa.Table) -> None:
        """Add rejects: one row group."""
        if not table.num_rows:
            return
        if self._rejects is None:
            self._rejects = self._open(f"{REJECTS}/{self._split.name}.parquet", table.schema)
        self._rejects.write(table)
        self._reasons.update(table.column("reason").to_pylist())

    def account(self, range_: Range, *, read: int, rejected: int) -> None:
        """Count rows of a range of the split that were read, and those of them rejected."""
        before = self._ranges.get(range_, _nothing_of(range_))
        self._ranges[range_] = replace(
            before,
            rows_read=before.rows_read + read,
            rows_rejected=before.rows_rejected + rejected,
        )

    def misfit(self, range_: Range, detail: str) -> None:
        """Reject each row of a range whose file has not the run's columns."""
        for start in range(range_.start, range_.stop, _MISFIT_ROWS):
            rows = min(_MISFIT_ROWS, range_.stop - start)
            said = (range_.source, "read", "column", detail)
            source, stage, reason, why = (pa.repeat(pa.scalar(value), rows) for value in said)
            numbers = pa.array(np.arange(start, start + rows), pa.int64())
            keys = [pa.nulls(rows, field.type) for field in self._keys]
            columns = [*keys, source, numbers, stage, reason, why]
            self.reject(pa.Table.from_arrays(columns, schema=reject_schema(self._keys)))
        self.account(range_, read=range_.rows, rejected=range_.rows)

    def unreadable(self, range_: Range, detail: str) -> None:
        """Let one reject without a row number stand for a whole range, and nothing else."""
        if range_.error is None:
            reason = "corrupt"
            detail = f"rows {range_.start} to {range_.stop} (exclusive): {detail}"
        else:
            reason = "unreadable"
        row = {"source_file": range_.source, "stage": "read", "reason": reason, "detail": detail}
        self.reject(pa.Table.from_pylist([row], schema=reject_schema(self._keys)))
        self._ranges[range_] = replace(_nothing_of(range_), rows_unreadable=range_.rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def commit(
        self,
        *,
        labels: Mapping[str, Mapping[str, int]],
        metrics: Mapping[str, float],
    ) -> SplitRecord:
        """Write the record, which makes the split done; call it after the context."""
        split = self._split
        ranges = tuple(self._ranges.get(r, _nothing_of(r)) for r in split.ranges)
        record = SplitRecord(
            index=split.index,
            part=split.name,
            ranges=ranges,
            rows_read=sum(r.rows_read for r in ranges),
            rows_labelled=self._part.rows,
            rows_rejected=sum(r.rows_rejected for r in ranges),
            rows_unreadable=sum(r.rows_unreadable for r in ranges),
            files_unreadable=sum(r.error is not None for r in split.ranges),
            rejects=dict(sorted(self._reasons.items())),
            part_bytes=self._part.bytes,
            part_sha256=self._part.sha256,
            rejects_bytes=self._rejects.bytes if self._rejects else None,
            rejects_sha256=self._rejects.sha256 if self._rejects else None,
            labels={task: dict(counts) for task, counts in labels.items()},
            metrics=dict(metrics),
        )
        text = json.dumps(record.to_json(), ensure_ascii=False, indent=1)
        put_bytes(self._fs, f"{self._staging}/{RECORDS}/{split.name}.json", text.encode())
        return record

    def _open(self, name: str, schema: pa.Schema) -> _Parquet:
        temp = self._stack.enter_context(atomic_write(self._fs, f"{self._staging}/{name}"))
        return self._stack.enter_context(_Parquet(temp, schema))


def _nothing_of(range_: Range) -> RangeRecord:
    return RangeRecord(range_.source, range_.start, range_.stop, 0, 0, 0)


class _Parquet:
    """A Parquet file whose bytes follow from the tables written to it."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.rows = 0
        self._file = _DigestingFile(path)
        self._writer = pq.ParquetWriter(
            self._file, schema, version="2.6", compression="zstd", write_page_checksum=True
        )

    @property
    def bytes(self) -> int:
        return self._file.size

    @property
    def sha256(self) -> str:
        return self._file.sha256.hexdigest()

    def write(self, table: pa.Table) -> None:
        if table.num_rows:  # an empty row group is of no use; how rows are chunked moves pages
            self._writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)
            self.rows += table.num_rows

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._writer.close()
        finally:
            self._file.close()


class _DigestingFile:
    """A file to write that digests what passes, so that it need not be read again."""

    def __init__(self, path: Path):
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._file = path.open("wb")

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
