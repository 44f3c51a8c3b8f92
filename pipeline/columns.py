"""Which column is the text, which are the keys and of which types, and how a file gives them.

Planning looks at all files (`resolve`); reading asks of each file how its batches become those
columns (`bind`). A key's value is carried exactly or its row is rejected; a file that doesn't fit
is rejected row by row.
"""

from __future__ import annotations

import base64
import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from glossator.model.errors import GlossatorError, UsageError
from glossator.pipeline.schema import ADDED_COLUMNS, refuse_collisions
from glossator.pipeline.values import (
    check_int96,
    exact,
    int96_leaves,
    is_text,
    is_text_or_list,
    keep,
    plain_type,
    raw_text,
    without,
)

TEXT_NAMES = ("comment", "comment_text", "body", "content", "review", "message")
"""Column names that speak of text, after `text` itself."""

Path = tuple[str, ...]
"""A column's name, then those of the struct fields below it."""

_MAX_LISTED = 30
_THREADS = 16
_SCAN_ROWS = 8192
_EXTENSIONS = "arrow_extensions_enabled"


class MisfitError(GlossatorError):
    """A file's columns don't fit those of the run; each of its rows is a reject."""


@dataclass(frozen=True)
class FileColumns:
    """What a file's footer and path say of its columns."""

    uri: str
    rows: int
    schema: pa.Schema | None
    """As it is read, INT96 in microseconds; None where a column's name is not UTF-8."""
    nanoseconds: pa.Schema | None
    """The same with INT96 in nanoseconds."""
    partitions: Mapping[str, str | None]
    """Of Hive, from the path: `date=2026-11-24`; None where it is the null partition."""
    error: str = ""
    """Why there is no schema."""

    @classmethod
    def of(
        cls,
        uri: str,
        footer: bytes,
        metadata: pq.FileMetaData,
        partitions: Mapping[str, str | None],
    ) -> FileColumns:
        """Describes a file.

        Args:
            uri: for messages.
            footer: as `plan.read_footer` gives it.
            metadata: as it was parsed from the footer.
            partitions: see the field.
        """
        types = (metadata.schema.column(i).physical_type for i in range(len(metadata.schema)))
        try:
            schema = _schema(footer, metadata, "us")
            same = "INT96" not in types
            nanoseconds = schema if same else _schema(footer, metadata, "ns")
        except UnicodeDecodeError as error:
            why = f"a column's name is not UTF-8: {error.object!r}"
            return cls(uri, metadata.num_rows, None, None, partitions, why)
        return cls(uri, metadata.num_rows, schema, nanoseconds, partitions)


@dataclass(frozen=True)
class Columns:
    """The columns of a run, the same for all of its files."""

    text: str
    """A column, or a struct's field as `column.field`; a column of just that name wins."""
    keys: pa.Schema
    """Of the output: names as they were given, types that all files promote to."""
    nanosecond_keys: tuple[str, ...] = ()
    """Keys of which some INT96 has a fraction of a microsecond: these are read in nanoseconds."""
    verify_int96: bool = False
    """Whether some INT96 of a key may be lost in microseconds: each is read in three units then."""

    def to_json(self) -> dict[str, Any]:
        """For the plan in staging."""
        keys = base64.b64encode(self.keys.serialize()).decode()
        return {**vars(self), "keys": keys, "nanosecond_keys": list(self.nanosecond_keys)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Columns:
        """The inverse of `to_json`."""
        keys = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(content["keys"])))
        nanosecond_keys = tuple(content["nanosecond_keys"])
        return cls(**{**content, "keys": keys, "nanosecond_keys": nanosecond_keys})


@dataclass(frozen=True)
class Reader:
    """How to read a file's batches once."""

    projection: list[str]
    """For `iter_batches(columns=...)`; columns whose names begin alike may come as well."""
    options: dict[str, Any]
    """For `pq.ParquetFile`."""


@dataclass(frozen=True)
class Rows:
    """Rows of a batch in the columns of the run; all arrays are as long as the batch."""

    text: pa.Array
    """large_binary, not validated."""
    keys: list[pa.Array]
    """In the types of `Columns.keys`; null where a value can't be kept."""
    detail: pa.Array
    """string: which key can't be kept and why; null in all other rows. For rejects `key`."""


@dataclass(frozen=True)
class Binding:
    """How one file's batches become the columns of the run."""

    readers: tuple[Reader, ...]
    """One, or three where INT96 has to be verified: batches of all are read side by side."""
    _text: Path
    _keys: tuple[_Key, ...]

    def rows(self, batches: Sequence[pa.RecordBatch]) -> Rows:
        """The columns of a batch, or of a slice of it.

        Args:
            batches: the same rows from each of the readers; `aligned` gives them. Columns may
                be dictionary-encoded whatever the file's schema says.

        Raises:
            pa.ArrowException: the data is not what the footer says.
        """
        why: dict[int, list[str]] = {}
        keys = []
        for key in self._keys:
            column, lost = key.column(batches)
            keys.append(column)
            for row, detail in lost.items():
                why.setdefault(row, []).append(detail)
        text = raw_text(_at(batches[0], self._text))
        detail = pa.nulls(len(text), pa.string())
        if why:
            details = ["; ".join(why[row]) if row in why else None for row in range(len(text))]
            detail = pa.array(details, pa.string())
        return Rows(text, keys, detail)
