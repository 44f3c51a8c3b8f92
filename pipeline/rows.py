"""Answers as Beam rows: the same fields and widths as in the job's structs."""

# Beam reads these annotations as types: `from __future__ import annotations` would hide them

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from glossator.model.errors import UsageError
from glossator.model.tasks import Kind, Task
from glossator.pipeline.values import as_text


class Word(NamedTuple):
    """One attended word."""

    text: str
    start: np.int32
    """In characters of the original text, as `end` is."""
    end: np.int32
    weight: np.float32


class Single(NamedTuple):
    """The answer of a task with exactly one label."""

    label: str
    confidence: np.float32
    accepted: bool
    attention: list[Word]
    entropy: np.float32


class Multi(NamedTuple):
    """The answer of a task with any number of labels."""

    labels: list[str]
    scores: list[np.float32]
    attention: list[Word]
    entropy: np.float32


class Regression(NamedTuple):
    """The answer of a task with a number."""

    value: np.float32
    attention: list[Word]
    entropy: np.float32


ROW_TYPES: dict[Kind, Any] = {"single": Single, "multi": Multi, "regression": Regression}
"""The type of an answer by the kind of its task."""


def answer_rows(task: Task, column: pa.StructArray) -> Iterator[Any]:
    """A task's answers as rows, in order."""
    kind = ROW_TYPES[task.kind]
    for fields in column.to_pylist():
        yield kind(**{**fields, "attention": [Word(**word) for word in fields["attention"]]})


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
