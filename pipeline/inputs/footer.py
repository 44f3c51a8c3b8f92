"""Parquet footers, which anyone may have written: parsed in bounded memory, or refused."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.store import fetch_range, is_local
from glossator.pipeline.inputs.discover import MAGIC

_GUESS_BYTES = 64 << 10
_MAX_NESTING = 100
"""Levels of a schema. Arrow calls itself at each, and a thread's stack is 8 MB at most."""
_LARGE_BYTES = 64 << 10
"""A footer that is no larger has no schema that overflows a thread's stack."""
_STACK_BYTES_PER_BYTE = 256
_MIN_ELEMENT_BYTES = 8
"""In a footer, for each element of its longest list."""
_ONE_LARGE = threading.Lock()


def read_footer(fs: Any, path: str, size: int) -> bytes:
    """The last bytes of a Parquet file, from its metadata on; empty if there is no footer."""
    tail = _read_range(fs, path, max(0, size - _GUESS_BYTES), size)
    if len(tail) != min(size, _GUESS_BYTES):
        raise OSError(f"{path}: its last {len(tail)} bytes came, its size is {size}: read again")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] not in MAGIC or length > size:
        return b""
    if length > len(tail):
        tail = _read_range(fs, path, size - length, size)
    return tail[-length:]


def _read_range(fs: Any, path: str, start: int, stop: int) -> bytes:
    if not is_local(fs):
        return fetch_range(fs, path, start, stop)
    file = os.open(path, os.O_RDONLY)  # of tens of thousands of files a file object costs more
    try:
        return os.pread(file, stop - start, start)
    finally:
        os.close(file)


def parse_footer(footer: bytes) -> pq.FileMetaData:
    """What a footer says.

    Args:
        footer: from the metadata to the end of the file.

    Raises:
        pa.ArrowException, OSError: it is none, or one that is nested too deeply.
    """
    if len(footer) <= _LARGE_BYTES:
        return _checked(_parse(footer))
    with _ONE_LARGE:  # what is parsed of one may take a hundred times its bytes
        before = threading.stack_size(max(16 << 20, _STACK_BYTES_PER_BYTE * len(footer)))
        pool = ThreadPoolExecutor(1)
        try:
            parsed = pool.submit(lambda: _checked(_parse(footer)))
        finally:
            threading.stack_size(before)
        with pool:
            return parsed.result()


def _parse(footer: bytes) -> pq.FileMetaData:
    # Arrow makes room for as many elements as a list announces: 40 bytes announced 700 MB
    return _Footer(
        pa.BufferReader(footer),
        thrift_container_size_limit=max(1000, len(footer) // _MIN_ELEMENT_BYTES),
        thrift_string_size_limit=len(footer),
    ).metadata


def paths_of(schema: pq.ParquetSchema) -> list[bytes]:
    """The names of a footer's columns from the outermost on, with dots between.

    Schemas that are equal to Arrow may differ in those of lists.
    """
    return [_path(schema.column(i)) for i in range(len(schema))]


def _path(column: pq.ColumnSchema) -> bytes:
    try:
        return str(column.path).encode()
    except UnicodeDecodeError as error:
        return bytes(error.object)


def _checked(metadata: pq.FileMetaData) -> pq.FileMetaData:
    for path in paths_of(metadata.schema):
        levels = path.count(b".")
        if levels > _MAX_NESTING:
            raise pa.ArrowInvalid(f"its schema is nested {levels} levels deep")
    for i in range(metadata.num_row_groups):
        if (rows := metadata.row_group(i).num_rows) < 0:
            raise pa.ArrowInvalid(f"row group {i} has {rows} rows")
    return metadata


class _Footer(pq.ParquetFile):
    """A file of which only the footer is looked at."""

    def _build_nested_paths(self) -> dict[str, list[int]]:
        """No names of nested columns: of a deep one PyArrow keeps each level's path."""
        return {}
