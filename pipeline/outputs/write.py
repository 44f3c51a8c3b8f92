"""A split's labels and rejects as files that are there whole or not at all, and its record."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from glossator.model.store import atomic_write, open_store
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.inputs.read import Piece, Unread
from glossator.pipeline.outputs.schema import reject_schema
from glossator.pipeline.outputs.staging import (
    REJECTS,
    Canary,
    RangeRecord,
    SplitRecord,
    save_record,
    with_digests,
)
from glossator.pipeline.outputs.text_digests import joined

_READ_REASONS = ("column", "key")
"""Reasons of rows that say something of how they were read, and not of their text."""


def rejects(piece: Piece) -> pa.Table:
    """The rows of a piece that are not labelled, in the rejects' columns."""
    rows = np.flatnonzero(piece.rejected())
    reason = piece.reason.take(rows)
    columns = [
        *piece.keys.take(rows).columns,
        piece.source_file(rows),
        piece.source_row(rows),
        pc.if_else(pc.is_in(reason, pa.array(_READ_REASONS)), "read", "check"),
        reason,
        piece.detail.take(rows),
    ]
    return pa.Table.from_arrays(columns, schema=reject_schema(piece.keys.schema))


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How `pyarrow.parquet.ParquetWriter` writes files of ours; docs/performance.md says why.

    Numbers that hardly occur twice, floats and row numbers, have no dictionary. Their bytes are
    plain: what is smaller by a little (BYTE_STREAM_SPLIT, DELTA_BINARY_PACKED) not every engine
    that reads Parquet knows.
    """
    nothing = io.BytesIO()
    pq.ParquetWriter(nothing, schema).close()
    leaves = pq.ParquetFile(nothing).schema
    known = [leaves.column(i) for i in range(len(leaves))]
    repeated = [
        leaf.path
        for leaf in known
        if leaf.physical_type not in ("FLOAT", "DOUBLE") and leaf.path != "source_row"
    ]
    return {
        "version": "2.6",
        "compression": "zstd",
        "use_dictionary": repeated,
        "write_page_checksum": True,
    }


class SplitWriter:
    """Writes one split into a staging folder; use it as a context, then `commit`.

    The files appear when the context is left without an error. Of a context that is left with
    one, nothing stays. Writing the same tables again gives the same bytes.
    """

    def __init__(self, staging: str, split: Split, schema: pa.Schema, keys: pa.Schema):
        self._uri = staging
        self._fs, self._staging = open_store(staging)
        self._split = split
        self._keys = keys
        self._schema = schema
        self._digests: list[bytes] = []
        self._stack = ExitStack()
        self._part: _Parquet
        self._rejects: _Parquet | None = None
        self._reasons: Counter[str] = Counter()
        self._counts = {range_: _Counts() for range_ in split.ranges}
        self._without_row: set[Range] = set()

    def __enter__(self) -> SplitWriter:
        self._part = self._open(f"{self._split.name}.parquet", self._schema)
        return self

    def write(self, piece: Piece, labelled: pa.Table, digests: pa.Array | None = None) -> None:
        """Add a piece: its labelled rows as one row group, its rejects as another.

        Args:
            piece: what was read.
            labelled: the rows of it that are not rejected, in the part's columns.
            digests: of these rows' texts, where they are kept.
        """
        if digests is not None:
            self._digests.append(joined(digests))
        self._part.write(labelled)
        self._reject(rejects(piece))
        rejected = np.concatenate([[0], np.cumsum(piece.rejected())])
        row = 0
        for span in piece.spans:
            counts = self._counts[span.range_]
            counts.read += span.rows
            counts.rejected += int(rejected[row + span.rows] - rejected[row])
            row += span.rows

    def unread(self, unread: Unread) -> None:
        """Let one reject without a row number stand for a whole range, and nothing else."""
        range_, detail = unread.range_, unread.detail
        if range_.error is None:
            detail = f"rows {range_.start} to {range_.stop} (exclusive): {detail}"
        row = {
            "source_file": range_.source,
            "stage": "read",
            "reason": unread.reason,
            "detail": detail,
        }
        self._reject(pa.Table.from_pylist([row], schema=reject_schema(self._keys)))
        self._without_row.add(range_)

    def _reject(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        if self._rejects is None:
            self._rejects = self._open(f"{REJECTS}/{self._split.name}.parquet", table.schema)
        self._rejects.write(table)
        self._reasons.update(table.column("reason").to_pylist())

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
        sums: Mapping[str, Mapping[str, int]] | None = None,
        canaries: Sequence[Canary] = (),
        content: str = "",
    ) -> SplitRecord:
        """Write the record, which makes the split done; call it after the context."""
        split = self._split
        ranges = tuple(self._range_record(range_) for range_ in split.ranges)
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
            sums={task: dict(counts) for task, counts in (sums or {}).items()},
            canaries=tuple(canaries),
            content=content,
        )
        record = with_digests(record, self._uri, b"".join(self._digests))
        save_record(self._uri, record)
        return record

    def _range_record(self, range_: Range) -> RangeRecord:
        counts = self._counts[range_]
        return RangeRecord(
            range_.source,
            range_.start,
            range_.stop,
            rows_read=counts.read,
            rows_rejected=counts.rejected,
            rows_unreadable=range_.rows if range_ in self._without_row else 0,
        )

    def _open(self, name: str, schema: pa.Schema) -> _Parquet:
        temp = self._stack.enter_context(atomic_write(self._fs, f"{self._staging}/{name}"))
        return self._stack.enter_context(_Parquet(temp, schema))


@dataclass
class _Counts:
    """Rows of a range."""

    read: int = 0
    rejected: int = 0


class _Parquet:
    """A Parquet file whose bytes follow from the tables written to it."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.rows = 0
        self._file = _DigestingFile(path)
        self._writer = pq.ParquetWriter(self._file, schema, **parquet_options(schema))

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
