"""Hive's partitions: values of a column that a file's path holds in place of the file."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

import pyarrow as pa

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def partition_type(values: Sequence[str | None]) -> pa.DataType:
    """The type of a partition's values, as PyArrow takes it: int32 if all are, else strings."""
    texts = pa.array(values, pa.string())
    try:
        texts.cast(pa.int32())
    except pa.ArrowInvalid:
        return pa.large_string()
    return pa.large_string() if texts.null_count == len(texts) else pa.int32()


def partition_scalar(value: str | None, kind: pa.DataType) -> pa.Scalar:
    """A partition's value in the type of the column that other files have of that name.

    Raises:
        pa.ArrowException: it is none.
    """
    return pa.array([value], pa.string()).cast(kind)[0]


def partitions_of(uri: str) -> dict[str, str | None]:
    """The partitions in a path: `.../date=2026-11-24/x.parquet`."""
    folder = uri.rpartition("/")[0]
    if "=" not in folder:
        return {}
    pairs = [part.split("=", 1) for part in folder.split("/") if "=" in part]
    return {key: None if value == NULL_PARTITION else unquote(value) for key, value in pairs}
