"""What is labelled: the tasks, their kinds and their labels."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from glossator.model.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = Literal["single", "multi", "regression"]
"""`single`: exactly one label; `multi`: any number of labels; `regression`: one number."""


@dataclass(frozen=True)
class Task:
    """One question asked of every text, answered by an attention and a head of its own."""

    name: str
    """The label column in training data and the struct column in the output."""
    kind: Kind
    labels: tuple[str, ...] = ()
    """The possible labels in a fixed order; empty for a regression."""
    sensitive: bool = False
    """Labelled only when the user names it: about people, not about what they say."""
    target_precision: float = 0.9
    """A label is `accepted` where validation rows as confident were right so often."""

    limits: str = ""
    """What its answers can't be relied on for, in plain words; stands in the model card."""

    def __post_init__(self) -> None:
        where = f"task {self.name!r}"
        if not self.name.isidentifier():
            raise UsageError(f"{where}: a task's name is a column's: use letters, digits and _")
        if self.kind not in get_args(Kind):
            raise UsageError(
                f"{where}: kind {self.kind!r} is not one of {', '.join(get_args(Kind))}"
            )
        if self.kind == "regression" and self.labels:
            raise UsageError(f"{where}: a regression has no labels: remove them or change its kind")
        if self.kind != "regression" and len(self.labels) < (2 if self.kind == "single" else 1):
            raise UsageError(
                f"{where}: labels {list(self.labels)} are too few for kind {self.kind!r}"
            )
        if len(set(self.labels)) != len(self.labels):
            raise UsageError(f"{where}: a label stands twice in {list(self.labels)}")
        if not 0 < self.target_precision <= 1:
            raise UsageError(f"{where}: target_precision {self.target_precision} is not in (0, 1]")

    @property
    def outputs(self) -> int:
        """How many numbers the task's head gives."""
        return max(1, len(self.labels))

    def to_json(self) -> dict[str, Any]:
        """The task as `bundle.json` holds it; `parse_task` reads it back."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "sensitive": self.sensitive,
            "target_precision": self.target_precision,
            "limits": self.limits,
        }


def parse_task(name: str, fields: Mapping[str, Any], source: str) -> Task:
    """A task from its table in a TOML or JSON file called `source`."""
    if not isinstance(fields, Mapping):
        raise UsageError(f"{source}: task {name!r} is no table; write it as [tasks.{name}]")
    known = {"kind", "labels", "sensitive", "target_precision", "limits"}
    if unknown := sorted(set(fields) - known):
        raise UsageError(
            f"{source}: task {name!r} has unknown key {unknown[0]!r}; known: "
            f"{', '.join(sorted(known))}"
        )
    if "kind" not in fields:
        raise UsageError(f"{source}: task {name!r} has no kind; give single, multi or regression")
    try:
        precision = float(fields.get("target_precision", 0.9))
    except (TypeError, ValueError):
        given = fields["target_precision"]
        raise UsageError(
            f"{source}: task {name!r}: target_precision {given!r} is not a number"
        ) from None
    labels = fields.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UsageError(f"{source}: task {name!r}: labels must be a list of strings")
    return Task(
        name=name,
        kind=fields["kind"],
        labels=tuple(labels),
        sensitive=bool(fields.get("sensitive", False)),
        target_precision=precision,
        limits=str(fields.get("limits", "")),
    )


def load_tasks(path: str | Path) -> tuple[Task, ...]:
    """The tasks of a TOML file: one table `[tasks.NAME]` each, in the file's order.

    Raises:
        UsageError: the file is missing, is not TOML, or describes no valid task.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read tasks {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    if unknown := sorted(set(content) - {"tasks"}):
        raise UsageError(f"{path}: unknown table {unknown[0]!r}; tasks stand in [tasks.NAME]")
    tables = content.get("tasks", {})
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{path}: no tasks; write one table [tasks.NAME] for each")
    return tuple(parse_task(name, table, str(path)) for name, table in tables.items())


def select_tasks(tasks: Sequence[Task], names: Iterable[str] | None) -> tuple[Task, ...]:
    """The named tasks, in the bundle's order; without names, all that are not sensitive.

    Raises:
        UsageError: a name is no task of the bundle, or nothing is left to label.
    """
    known = {task.name for task in tasks}
    if names is None:
        chosen = tuple(task for task in tasks if not task.sensitive)
        if not chosen:
            raise UsageError(
                f"every task is sensitive: name those you mean: --tasks {','.join(known)}"
            )
        return chosen
    wanted = set(names)
    if unknown := sorted(wanted - known):
        raise UsageError(
            f"unknown task {unknown[0]!r}; the model has: {', '.join(t.name for t in tasks)}"
        )
    if not wanted:
        raise UsageError(f"no task was named; the model has: {', '.join(t.name for t in tasks)}")
    return tuple(task for task in tasks if task.name in wanted)
