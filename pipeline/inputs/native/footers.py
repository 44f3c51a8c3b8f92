"""Footers of many small files at once: what they say, and one footer in the place of all.

Without a compiler there is no library, and Arrow reads each file by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from glossator.model.native.library import shared_library

_MOST_GROUPS = 16
_TAIL_BYTES = 8
"""Behind a footer's fields: their size, and the mark of Parquet."""
_MORE_BYTES = 32
"""That a column chunk may take in a footer of several files, beyond what it takes in its own."""
_TYPES = (
    *("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY"),
    "FIXED_LEN_BYTE_ARRAY",
)
"""In the order of the format's numbers."""
_INT64 = ctypes.c_int64
_BYTES, _NUMBERS = (
    np.ctypeslib.ndpointer(kind, ndim=1, flags="C_CONTIGUOUS") for kind in (np.uint8, np.int64)
)


class Footer(NamedTuple):
    """What a footer says, that is written as plainly as can be."""

    group_rows: tuple[int, ...]
    columns: int
    """Of its row groups."""
    shared: bytes
    """All but the rows and the row groups: of files that were written alike the same."""


def available() -> bool:
    """Whether the library was built."""
    return _loaded() is not None


def read_footers(footers: Sequence[bytes]) -> list[Footer | None]:
    """What footers say; None of those that have to be left to Arrow, which are few.

    What is given here Arrow reads too, if it can read another file's `shared`.

    Args:
        footers: each to the end of its file; an empty one is none.
    """
    library = _loaded()
    if library is None or not footers:
        return [None] * len(footers)
    facts, rows = np.empty(4 * len(footers), np.int64), np.empty(16 * len(footers), np.int64)
    library.glossator_footers(*_joined(footers), len(footers), facts, rows)
    result: list[Footer | None] = []
    for footer, (groups, columns, head, tail), counts in zip(
        footers, facts.reshape(-1, 4).tolist(), rows.reshape(-1, _MOST_GROUPS).tolist(), strict=True
    ):
        if groups < 0:
            result.append(None)
        else:
            shared = footer[:head] + footer[tail:-_TAIL_BYTES]
            result.append(Footer(tuple(counts[:groups]), columns, shared))
    return result


def leaves_of(schema: pq.ParquetSchema, wanted: Collection[int]) -> NDArray[np.int64]:
    """What `as_one_file` has to know of columns.

    Args:
        schema: of the files.
        wanted: the numbers of the columns that will be read.
    """
    columns = [schema.column(i) for i in range(len(schema))]
    return np.array(
        [
            (
                column.max_repetition_level,
                column.max_definition_level,
                _TYPES.index(column.physical_type),
                number in wanted,
            )
            for number, column in enumerate(columns)
        ],
        np.int64,
    )


def as_one_file(
    files: Sequence[bytes], footer_sizes: Sequence[int], leaves: NDArray[np.int64]
) -> bytes | None:
    """Files that were written alike as the one file that has their row groups in order.

    None of them is decoded; the pages that will be read are looked through, for all to be where
    they have to be.

    Args:
        files: their content.
        footer_sizes: bytes of their footers.
        leaves: [columns, 4] as `leaves_of` has it.

    Returns:
        None where it can't be done, or not so that each file's rows are sure to stay its own.
    """
    library = _loaded()
    if library is None:
        return None
    room = sum(footer_sizes) + len(files) * _MOST_GROUPS * _MORE_BYTES * len(leaves) + 64
    content, offsets = _joined(files)
    footer = np.empty(room, np.uint8)
    size = library.glossator_join_footers(
        content,
        offsets,
        np.array(footer_sizes, np.int64),
        len(files),
        leaves.reshape(-1),
        len(leaves),
        footer,
        room,
    )
    return None if size < 0 else b"".join([*files, footer[:size].tobytes()])


def _joined(parts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.frombuffer(b"".join(parts), np.uint8), offsets


@cache
def _loaded() -> ctypes.CDLL | None:
    library = shared_library(Path(__file__).parent / "_native")
    if library is None:
        return None
    library.glossator_footers.argtypes = [_BYTES, _NUMBERS, _INT64, _NUMBERS, _NUMBERS]
    library.glossator_footers.restype = None
    library.glossator_join_footers.argtypes = [
        *(_BYTES, _NUMBERS, _NUMBERS, _INT64, _NUMBERS, _INT64, _BYTES, _INT64)
    ]
    library.glossator_join_footers.restype = _INT64
    return library
