"""The output contract: which columns parts and rejects have, and of which types."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa

from glossator.model.errors import UsageError
from glossator.model.tasks import Task
from glossator.pipeline.kinds import SHAPES

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


def refuse_collisions(
    names: Iterable[str],
    added: Collection[str],
    tasks: Collection[str] = (),
    *,
    what: str,
    parameter: str | None = None,
) -> None:
    """Refuse columns of the input whose names the output needs, or that are twice the same.

    Case makes no difference: to most readers of tables it makes none.

    Args:
        names: columns that are carried into the output.
        added: columns that the output or the rejects add.
        tasks: tasks that are labelled, each of which adds a column.
        what: such a name is, for the message.
        parameter: see `UsageError`.

    Raises:
        UsageError: names the first.
    """
    seen = {name.casefold(): name for name in added}
    labelled = {name.casefold(): name for name in tasks}
    for name in names:
        if (task := labelled.get(name.casefold())) is not None:
            raise UsageError(
                f"{what} {name!r}: the output has the task's column {task!r}: rename the column,"
                " or leave out the task",
                parameter=parameter,
            )
        if (other := seen.get(name.casefold())) is not None:
            raise UsageError(
                f"{what} {name!r}: the output has a column {other!r}: rename the column",
                parameter=parameter,
            )


def refuse_twins(names: Sequence[str], *, what: str, parameter: str | None = None) -> None:
    """Refuse names that are given twice, or that differ in case alone.

    Raises:
        UsageError: names the first.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.get(name.casefold())
        seen[name.casefold()] = name
        if other == name:
            raise UsageError(f"{what} {name!r} is given twice: name it once", parameter=parameter)
        if other is not None:
            raise UsageError(
                f"{what} {name!r} differs from {other!r} in case alone: rename the column",
                parameter=parameter,
            )
