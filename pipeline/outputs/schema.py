"""The output contract: which columns parts and rejects have, and of which types."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
"""One marked word; `start` and `end` in Unicode characters of the original text."""


def output_schema(
    tasks: Sequence[Task], keys: pa.Schema, experts: Collection[str] = ()
) -> pa.Schema:
    """The columns of the parts: keys, where the row came from, a struct for each task.

    Args:
        tasks: those that are labelled.
        keys: of the input.
        experts: names of the tasks in which the n-gram expert has a say.
    """
    return pa.schema(
        [
            *keys,
            pa.field("source_file", pa.string()),
            pa.field("source_row", pa.int64()),
            *(pa.field(task.name, task_type(task, task.name in experts)) for task in tasks),
        ]
    )


def task_type(task: Task, expert: bool = False) -> pa.StructType:
    """The struct in which a task's predictions stand; `expert`: whether the expert has a say."""
    common = [pa.field("attention", pa.list_(WORD)), pa.field("entropy", pa.float32())]
    share = [pa.field("expert", pa.float32())] if expert else []
    return pa.struct([*SHAPES[task.kind].fields(task), *common, *share])


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
