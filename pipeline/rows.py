"""Predictions as Beam rows: the same fields and widths as in the job's structs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from glossator.model.errors import UsageError
from glossator.model.tasks import Task
from glossator.pipeline.inputs.values import as_text
from glossator.pipeline.outputs.kinds import SHAPES, Word


def answer_rows(task: Task, column: pa.StructArray) -> Iterator[Any]:
    """A task's predictions as rows, in order."""
    row = SHAPES[task.kind].rows["expert" in column.type.names]
    for fields in column.to_pylist():
        yield row(**{**fields, "attention": [Word(**word) for word in fields["attention"]]})


def texts_of(values: Sequence[Any], column: str) -> pa.Array:
    """Texts of rows, as `answer` takes them.

    Args:
        values: str, bytes or None.
        column: what they are called, for the error.

    Raises:
        UsageError: one is something else.
    """
    try:
        return as_text(pa.array(values, pa.large_binary()))
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise UsageError(f"column {column!r} does not hold str or bytes: {error}") from error


def arrow_schema(fields: Sequence[tuple[str, Any]]) -> pa.Schema:
    """A row's fields with Arrow types as far as it matters: whether they can hold text."""
    return pa.schema([pa.field(name, _arrow_type(kind)) for name, kind in fields])


def _arrow_type(kind: Any) -> pa.DataType:
    if kind in (str, bytes, str | None, bytes | None, Any):  # Beam makes Any of `str | None`
        return pa.string()
    try:
        return pa.from_numpy_dtype(kind)
    except (TypeError, pa.ArrowNotImplementedError):
        return pa.struct([])
