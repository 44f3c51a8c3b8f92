"""Parquet footers, which anyone may have written: parsed in bounded memory, or refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

_MAX_NESTING = 100
"""Levels of a schema. Arrow calls itself at each, and a thread's stack is 8 MB at most."""
_LARGE_BYTES = 64 << 10
"""A footer that is no larger has no schema that overflows a thread's stack."""
_STACK_BYTES_PER_BYTE = 256
_MIN_ELEMENT_BYTES = 8
"""In a footer, for each element of its longest list."""
_ONE_LARGE = threading.Lock()


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


def _checked(metadata: pq.FileMetaData) -> pq.FileMetaData:
    schema = metadata.schema
    for i in range(metadata.num_columns):
        try:
            levels = schema.column(i).path.count(".")
        except UnicodeDecodeError as error:
            levels = error.object.count(b".")
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
