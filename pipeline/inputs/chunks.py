"""Whether Arrow can be asked about column chunks: of damaged and encrypted ones it aborts.

What it finds wrong as it makes `ColumnChunkMetaData`, it throws where nobody catches it, and the
process is gone: one flipped bit in a footer would end every run. Where it makes the same to read a
column, it raises.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import pyarrow.parquet as pq

from glossator.pipeline.inputs import pages

_Wanted = dict[int, tuple[str, Any]]

_WALKED_BYTES = 4096
"""A footer that is no larger is looked through first, which takes a quarter of the time."""
_FARTHEST = 1 << 62
_SIZES: _Wanted = {1: ("bytes", None), 2: ("repetitions", None), 3: ("definitions", None)}
_CHUNK: _Wanted = {
    3: ("metadata", {16: ("sizes", _SIZES)}),
    8: ("encrypted", None),
    9: ("encrypted", None),
}
_FOOTER: _Wanted = {4: ("groups", {1: ("chunks", _CHUNK)})}
"""What is looked at of FileMetaData, by the numbers of its fields: names, and what is below."""


def require_sound(
    footer: bytes, metadata: pq.FileMetaData, groups: Sequence[int], columns: Collection[str]
) -> None:
    """Raises what Arrow says of these columns' chunks in these row groups, unless they are sound.

    Args:
        footer: as in the file.
        metadata: what it says.
        groups: numbers of row groups.
        columns: top-level names.

    Raises:
        pa.ArrowException, OSError: a chunk's metadata is damaged, or encrypted.
    """
    if len(footer) <= _WALKED_BYTES and _looks_sound(footer, metadata):
        return
    file = pq.ParquetFile(_Wall(), metadata=metadata, pre_buffer=False, buffer_size=_WALKED_BYTES)
    for group in groups:
        with suppress(_ReachedError):  # all chunks of the row group are made before one is read
            next(file.iter_batches(1, [group], list(columns), use_threads=False), None)


def _looks_sound(footer: bytes, metadata: pq.FileMetaData) -> bool:
    """Whether all that could be wrong is as it should be; nothing is known where it is not."""
    seen: list[tuple[str, int]] = []
    try:
        pages.walk(footer, _FOOTER, seen)
    except (IndexError, ValueError):
        return False
    groups = chunks = 0
    sound = True
    leaf: Any = None
    for name, count in seen:
        if name == "groups":
            groups += count
        elif name == "chunks":
            chunks = 0
            sound = count == metadata.num_columns
        elif name == "metadata":
            leaf = metadata.schema.column(chunks)
            chunks += 1
        elif name == "repetitions":
            sound = count in (0, leaf.max_repetition_level + 1)
        elif name == "definitions":
            sound = count in (0, leaf.max_definition_level + 1)
        elif name == "bytes":
            sound = leaf.physical_type == "BYTE_ARRAY"
        else:
            sound = name == "sizes"
        if not sound:
            return False
    return groups == metadata.num_row_groups


class _ReachedError(Exception):
    """Arrow begins to read."""


class _Wall(io.RawIOBase):
    """A file of any size that can't be read."""

    def __init__(self) -> None:
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (_FARTHEST if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int = -1) -> bytes:
        raise _ReachedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
