"""The output contract: which columns parts and rejects have, and of which types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from glossator.model.tasks import Task
from glossator.pipeline.outputs.kinds import SHAPES

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
    """The struct in which a task's predictions stand."""
    common = [pa.field("attention", pa.list_(WORD)), pa.field("entropy", pa.float32())]
    return pa.struct([*SHAPES[task.kind].fields(task), *common])


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
