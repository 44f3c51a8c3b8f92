"""The output contract: which columns parts and rejects have, and of which types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from glossator.model.tasks import Task

ADDED_COLUMNS = ("source_file", "source_row", "stage", "reason", "detail")
"""Columns that the output or the rejects add, which no key may be called."""

WORD = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("weight", pa.float32()),
    ]
)
"""One attended word; `start` and `end` in Unicode characters of the original text."""


def output_schema(tasks: Sequence[Task], keys: pa.Schema) -> pa.Schema:
    """The columns of the parts: keys, where the row came from, a struct for each task."""
    return pa.schema(
        [
            *keys,
            pa.field("source_file", pa.string()),
            pa.field("source_row", pa.int64()),
            *(pa.field(task.name, task_type(task)) for task in tasks),
        ]
    )


def task_type(task: Task) -> pa.StructType:
    """The struct in which a task's answer is given."""
    if task.kind == "single":
        fields = [
            ("label", pa.dictionary(label_index_type(task), pa.string())),
            ("confidence", pa.float32()),
            ("accepted", pa.bool_()),
        ]
    elif task.kind == "multi":
        fields = [("labels", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))]
    else:
        fields = [("value", pa.float32())]
    return pa.struct([*fields, ("attention", pa.list_(WORD)), ("entropy", pa.float32())])


def reject_schema(keys: pa.Schema) -> pa.Schema:
    """The columns of the rejects."""
    return pa.schema(
        [
            *keys,
            pa.field("source_file", pa.string()),
            pa.field("source_row", pa.int64()),
            pa.field("stage", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("detail", pa.string()),
        ]
    )


def label_index_type(task: Task) -> pa.DataType:
    """The integers that stand for the labels of a single task."""
    return pa.int8() if len(task.labels) < 128 else pa.int32()
