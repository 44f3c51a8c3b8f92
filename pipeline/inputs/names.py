"""Names of columns that can't stand beside each other in an output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from glossator.model.errors import UsageError


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
