"""A split's rows as Arrow, in bounded memory, and which of them have no text to label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from glossator.model.store import open_store
from glossator.pipeline.columns import (
    Binding,
    Columns,
    FileColumns,
    MisfitError,
    Reader,
    aligned,
    bind,
)
from glossator.pipeline.errors import CorruptRange, SourceChangedError
from glossator.pipeline.plan import Range, read_footer
from glossator.pipeline.values import as_text

_BATCH_ROWS = 1024
"""Decoded at once: few enough that long texts stay small, many enough to be fast."""
_BUFFER_BYTES = 4 << 20
"""Fetched at once and held for each column, instead of the column's whole row group."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a range_."""

    range_: Range
    first_row: int
    """The number of its first row in the file."""
    text: pa.Array
    """large_string where every row is valid UTF-8, else large_binary."""
    keys: pa.Table
    """The key columns in the plan's types; without keys it has no columns."""
    key_detail: pa.Array
    """Which key's value can't be kept and why; null in all other rows."""


@dataclass(frozen=True)
class Checked:
    """What is wrong with each text; both arrays are as long as the texts."""

    reason: pa.Array
    """`null`, `empty`, `undecodable`, `key`, or null where the text can be labelled."""
    detail: pa.Array


def read(
    range_: Range,
    columns: Columns,
    *,
    max_rows: int = 65_536,
    max_bytes: int = 64 << 20,
) -> Iterator[Piece]:
    """Yield the range's rows in order, in pieces.

    A piece ends with the row that brings it to `max_rows`, or its text to `max_bytes`, so that
    its bounds follow from the data alone. Memory is bounded whatever the row groups' size.

    Raises:
        MisfitError: the file has not these columns: each of the range's rows is a reject.
        CorruptRange: the bytes came and cannot be decoded. Pieces may have been yielded before:
            none of the range's rows counts as read, and the whole range is one reject.
        SourceChangedError: this is no longer the file that was planned.
        OSError: the store failed; a retry may succeed.
    """
    try:
        batches = _batches(range_, columns)[1]
        yield from _pieces(batches, range_, columns.keys, max_rows, max_bytes)
    except (pa.ArrowException, OSError) as error:
        detail = _corruption(range_, columns)
        if detail is None:
            raise
        raise CorruptRange(range_, detail) from error


def check(text: pa.Array) -> Checked:
    """Find the rows without a text to label: null, only whitespace, or not UTF-8."""
    detail = pa.nulls(len(text), pa.string())
    text = as_text(text)
    undecodable = pa.array(np.zeros(len(text), bool))
    if text.type != pa.large_string():
        text, detail = _decode_rows(text)
        undecodable = pc.is_valid(detail)
    empty = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(text)), 0)
    reason = pc.case_when(
        pc.make_struct(undecodable, pc.is_null(text), empty),
        pa.scalar("undecodable"),
        pa.scalar("null"),
        pa.scalar("empty"),
    )
    return Checked(reason, detail)


def check_rows(piece: Piece) -> Checked:
    """Find the rows to reject: those that `check` finds, and those with a key that is not kept."""
    checked = check(piece.text)
    lost = pc.is_valid(piece.key_detail)
    return Checked(
        pc.if_else(lost, pa.scalar("key"), checked.reason),
        pc.if_else(lost, piece.key_detail, checked.detail),
    )


def _decode_rows(raw: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Texts with null where a row is not UTF-8, and for those rows the reason."""
    texts: list[str | None] = []
    details: list[str | None] = []
    for value in raw.to_pylist():
        try:
            texts.append(None if value is None else value.decode())
            details.append(None)
        except UnicodeDecodeError as error:
            byte = value[error.start]
            texts.append(None)
            details.append(f"byte 0x{byte:02x} at offset {error.start}: {error.reason}")
    return pa.array(texts, pa.large_string()), pa.array(details, pa.string())


def _pieces(
    batches: Iterator[pa.Table], range_: Range, keys: pa.Schema, max_rows: int, max_bytes: int
) -> Iterator[Piece]:
    """Join and cut batches (the text, then the keys) where a piece is full."""
    held: list[pa.Table] = []
    row = range_.start
    rows = size = 0
    for batch in batches:
        while batch.num_rows:
            lengths = pc.binary_length(batch.column(0)).fill_null(0).to_numpy()
            sizes = size + np.cumsum(lengths, dtype=np.int64)
            full = int(np.searchsorted(sizes, max_bytes)) + 1
            take = min(full, max_rows - rows, batch.num_rows)
            held.append(batch.slice(0, take))
            rows, size = rows + take, int(sizes[take - 1])
            batch = batch.slice(take)
            if rows == max_rows or size >= max_bytes:
                yield _piece(held, range_, row, keys)
                held, row, rows, size = [], row + rows, 0, 0
    if held:
        yield _piece(held, range_, row, keys)


def _piece(held: Sequence[pa.Table], range_: Range, row: int, keys: pa.Schema) -> Piece:
    table = pa.concat_tables(held)
    text, *columns, detail = table.columns
    carried = pa.Table.from_arrays(columns, schema=keys)
    return Piece(range_, row, as_text(text), carried, detail.combine_chunks())


def _batches(range_: Range, columns: Columns) -> tuple[_Watched, Iterator[pa.Table]]:
    """The range's rows in small tables, and the file they come from.

    The tables' columns are the raw text, the keys, and why a key can't be kept.
    """
    fs, path = open_store(range_.source)
    size = fs.size(path)
    footer = read_footer(fs, path, size)
    if hashlib.sha256(footer).hexdigest() != range_.footer_sha256:
        raise SourceChangedError(
            f"{range_.source}: it was replaced after this run was planned: run again"
        )
    metadata = pq.read_metadata(pa.BufferReader(footer))
    file = _Watched(fs.open(path, "rb", cache_type="none"), size)
    try:
        binding = bind(columns, FileColumns.of(range_.source, footer, metadata))
    except MisfitError:
        file.close()
        raise
    return file, _decode(file, metadata, range_, binding)


def _decode(
    file: _Watched, metadata: pq.FileMetaData, range_: Range, binding: Binding
) -> Iterator[pa.Table]:
    groups, first = _overlapping(metadata, range_)
    left = range_.stop - range_.start
    skip = range_.start - first
    with file:
        batches = aligned([_open(file, metadata, groups, reader) for reader in binding.readers])
        while left:
            batch = next(batches, None)
            if batch is None:
                raise pa.ArrowInvalid(f"{left} rows fewer than the footer says")
            rows = [one.slice(skip, left) for one in batch]
            skip -= min(skip, batch[0].num_rows)
            left -= rows[0].num_rows
            if rows[0].num_rows:
                text, keys, detail = binding.rows(rows)
                arrays = [text, *keys, detail]
                yield pa.Table.from_arrays(arrays, names=[str(i) for i in range(len(arrays))])


def _open(
    file: _Watched, metadata: pq.FileMetaData, groups: list[int], reader: Reader
) -> Iterator[pa.RecordBatch]:
    parquet = pq.ParquetFile(
        file,
        metadata=metadata,
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES,
        page_checksum_verification=True,
        **reader.options,
    )
    yield from parquet.iter_batches(_BATCH_ROWS, groups, reader.projection, use_threads=False)


def _overlapping(metadata: pq.FileMetaData, range_: Range) -> tuple[list[int], int]:
    """The row groups that hold the range's rows, and the number of the first row in them."""
    groups: list[int] = []
    first = stop = 0
    for i in range(metadata.num_row_groups):
        start, stop = stop, stop + metadata.row_group(i).num_rows
        if start < range_.stop and stop > range_.start:
            first = first if groups else start
            groups.append(i)
    return groups, first


def _corruption(range_: Range, columns: Columns) -> str | None:
    """Why the range cannot be decoded although the store gives every byte, else None.

    All is fetched and decoded once more: an answer that was damaged on its way is not corruption.
    """
    file, batches = _batches(range_, columns)
    try:
        for _ in batches:
            pass
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        if file.failed:
            raise
        return " ".join(str(error).split())
    return None


class _Watched:
    """A file that remembers whether its store failed, for Arrow reports both alike."""

    def __init__(self, file: Any, size: int):
        self.failed = False
        self._file = file
        self._size = size

    def read(self, count: int = -1) -> bytes:
        rest = max(0, self._size - self._file.tell())
        wanted = min(count, rest) if count >= 0 else rest
        try:
            data: bytes = self._file.read(wanted)
            if len(data) != wanted:
                raise OSError(f"the store gave {len(data)} bytes of {wanted}")
        except BaseException:
            self.failed = True
            raise
        return data

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
