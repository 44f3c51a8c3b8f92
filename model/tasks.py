"""What is labelled: the tasks, their kinds and their labels."""

from __future__ import annotations

import dataclasses
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glossator.model.errors import UsageError, shown
from glossator.model.kinds import RULES, Kind, Rules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_TASKS = 64
MAX_LABELS = 1_000
"""Of one task."""
MAX_NAME_CHARS = 64
"""Of a task's name."""
MAX_LABEL_CHARS = 128
MAX_LIMITS_CHARS = 10_000
LEAST_WEIGHT, MAX_WEIGHT = 1e-3, 1e3
"""Of a task in the loss."""
_ALWAYS = ("kind", "labels", "sensitive", "target_precision", "limits")
"""What `bundle.json` says of every task; the rest only where it is set."""
OUTPUT_COLUMNS = ("source_file", "source_row", "stage", "reason", "detail")
"""Columns that the output or the rejects add, which no task and no key may be called."""


@dataclass(frozen=True)
class Task:
    """One thing to predict of every text, by an attention and a head of its own."""

    name: str
    """The struct column in the output; also the label column in training data, by default."""
    kind: Kind
    labels: tuple[str, ...] = ()
    """The possible labels in a fixed order; empty for a regression."""
    sensitive: bool = False
    """Labelled only when the user names it: about people, not about what they say."""
    target_precision: float = 0.9
    """A label is `accepted` where validation rows as confident were right so often."""

    limits: str = ""
    """What its answers can't be relied on for, in plain words; stands in the model card."""

    column: str = ""
    """The label column in training data; the task's name where empty."""
    columns: tuple[str, ...] = ()
    """Instead of one column a column of 0 and 1 for each label, in their order."""
    separator: str = ""
    """What stands between labels in a column of text."""
    balanced: bool = False
    """Whether in training all labels count the same, however many rows have them."""
    weight: float = 1.0
    """How much the task counts in the loss, beside the others."""

    def __post_init__(self) -> None:
        where = f"task {shown(self.name)}"
        _check_name(self.name, where)
        if not isinstance(self.kind, str) or self.kind not in RULES:
            raise UsageError(f"{where}: kind {shown(self.kind)} is not one of {', '.join(RULES)}")
        try:
            self.rules.check_names(self.labels)
        except ValueError as error:
            raise UsageError(f"{where}: labels {shown(list(self.labels))} {error}") from None
        _check_labels(self.labels, where)
        if not isinstance(self.sensitive, bool):
            raise UsageError(f"{where}: sensitive {shown(self.sensitive)} is not true or false")
        precision = self.target_precision
        if not _is_number(precision) or not 0 < precision <= 1:
            raise UsageError(f"{where}: target_precision {shown(precision)} is not in (0, 1]")
        if not isinstance(self.limits, str) or len(self.limits) > MAX_LIMITS_CHARS:
            raise UsageError(
                f"{where}: limits are no text of up to {MAX_LIMITS_CHARS:,} characters"
            )
        if not isinstance(self.balanced, bool):
            raise UsageError(f"{where}: balanced {shown(self.balanced)} is not true or false")
        if self.balanced and not self.labels:
            raise UsageError(f"{where}: balanced is about labels, and it has none: remove it")
        if not _is_number(self.weight) or not LEAST_WEIGHT <= self.weight <= MAX_WEIGHT:
            raise UsageError(
                f"{where}: weight {shown(self.weight)} is not between {LEAST_WEIGHT:g} and "
                f"{MAX_WEIGHT:g}"
            )
        self._check_columns(where)

    def _check_columns(self, where: str) -> None:
        for name, value in (("column", self.column), ("separator", self.separator)):
            if not isinstance(value, str) or len(value) > MAX_LABEL_CHARS:
                raise UsageError(
                    f"{where}: {name} {shown(value)} is no text of up to {MAX_LABEL_CHARS} "
                    "characters"
                )
        for column in self.columns:
            if not isinstance(column, str) or not 1 <= len(column) <= MAX_LABEL_CHARS:
                raise UsageError(
                    f"{where}: {shown(column)} is no column's name of 1 to {MAX_LABEL_CHARS} "
                    "characters"
                )
        if (self.separator or self.columns) and not self.rules.several:
            raise UsageError(
                f"{where}: a row has one label: remove separator and columns, or make it multi"
            )
        if self.columns and (self.column or self.separator):
            raise UsageError(f"{where}: columns stand beside neither column nor separator")
        if self.columns and len(self.columns) != len(self.labels):
            raise UsageError(
                f"{where}: {len(self.columns)} columns are not one for each of "
                f"{len(self.labels)} labels"
            )

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of training data that hold its labels."""
        return self.columns or (self.column or self.name,)

    @property
    def rules(self) -> Rules:
        """What holds for all tasks of its kind."""
        return RULES[self.kind]

    @property
    def outputs(self) -> int:
        """How many numbers the task's head gives."""
        return max(1, len(self.labels))

    def is_like(self, other: Task) -> bool:
        """Whether what answers one answers the other: of the same name, kind and labels."""
        mine, theirs = ((t.name, t.kind, t.labels) for t in (self, other))
        return mine == theirs

    def to_json(self) -> dict[str, Any]:
        """The task as `bundle.json` holds it; `parse_task` reads it back."""
        described: dict[str, Any] = {
            "kind": self.kind,
            "labels": list(self.labels),
            "sensitive": self.sensitive,
            "target_precision": self.target_precision,
            "limits": self.limits,
            "column": self.column,
            "columns": dict(zip(self.labels, self.columns, strict=False)),
            "separator": self.separator,
            "balanced": self.balanced,
            "weight": self.weight if self.weight != 1 else None,
        }
        return {k: v for k, v in described.items() if v or k in _ALWAYS}


def parse_task(name: str, fields: Mapping[str, Any], source: str) -> Task:
    """A task from its table in a TOML or JSON file called `source`."""
    if not isinstance(fields, Mapping):
        raise UsageError(
            f"{source}: task {shown(name)} is no table of kind, labels and further settings"
        )
    known = {field.name for field in dataclasses.fields(Task)} - {"name"}
    if unknown := sorted(set(fields) - known):
        raise UsageError(
            f"{source}: task {shown(name)} has unknown key {shown(unknown[0])}; known: "
            f"{', '.join(sorted(known))}"
        )
    if "kind" not in fields:
        raise UsageError(
            f"{source}: task {shown(name)} has no kind; give single, multi or regression"
        )
    labels = fields.get("labels", [])
    if not isinstance(labels, list):
        raise UsageError(f"{source}: task {shown(name)}: labels must be a list of strings")
    columns = fields.get("columns", {})
    if not isinstance(columns, Mapping):
        raise UsageError(f"{source}: task {shown(name)}: columns must be a table, LABEL = COLUMN")
    labels = labels or list(columns)
    known_labels = [label for label in labels if isinstance(label, str) and label in columns]
    if columns and not len(known_labels) == len(labels) == len(columns):
        raise UsageError(
            f"{source}: task {shown(name)}: columns are of {shown(list(columns))}, "
            f"its labels are {shown(labels)}: give a column for each label"
        )
    in_order = tuple(columns[label] for label in known_labels)
    try:
        return Task(name, **{**fields, "labels": tuple(labels), "columns": in_order})
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None


def check_tasks(tasks: Sequence[Task], source: str) -> None:
    """Checks that tasks can stand beside each other.

    Raises:
        UsageError: they are none or too many, or two names differ in case alone.
    """
    if not 1 <= len(tasks) <= MAX_TASKS:
        raise UsageError(f"{source}: {len(tasks)} tasks are not between 1 and {MAX_TASKS}")
    if same := _same_but_for_case([task.name for task in tasks]):
        raise UsageError(f"{source}: the tasks {same[0]!r} and {same[1]!r} have the same name")


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise UsageError(f"{where}: a task's name is a column's: use letters, digits and _")
    if len(name) > MAX_NAME_CHARS:
        raise UsageError(f"{where}: a name has at most {MAX_NAME_CHARS} characters")
    if _same_but_for_case([*OUTPUT_COLUMNS, name]):
        raise UsageError(f"{where}: the output has a column of that name: choose another")


def _check_labels(labels: Sequence[Any], where: str) -> None:
    if len(labels) > MAX_LABELS:
        raise UsageError(f"{where}: {len(labels):,} labels are more than {MAX_LABELS:,}")
    for label in labels:
        if not isinstance(label, str):
            raise UsageError(
                f"{where}: label {shown(label)} is no printable text: put it in quotes"
            )
        if not label.isprintable() or label.strip() != label:
            raise UsageError(
                f"{where}: label {shown(label)} is no printable text without space at its ends"
            )
        if not 1 <= len(label) <= MAX_LABEL_CHARS:
            raise UsageError(
                f"{where}: label {shown(label)} has not between 1 and {MAX_LABEL_CHARS} characters"
            )
    if same := _same_but_for_case(labels):
        raise UsageError(f"{where}: the labels {same[0]!r} and {same[1]!r} are the same label")


def _same_but_for_case(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names that a reader could not tell apart, if there are such."""
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            return seen[folded], name
        seen[folded] = name
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
    tasks = tuple(parse_task(name, table, str(path)) for name, table in tables.items())
    check_tasks(tasks, str(path))
    return tasks


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
                f"every task is sensitive: name those you mean: {', '.join(t.name for t in tasks)}",
                parameter="tasks",
            )
        return chosen
    wanted = set(names)
    if unknown := sorted(wanted - known):
        raise UsageError(
            f"unknown task {unknown[0]!r}; the model has: {', '.join(t.name for t in tasks)}",
            parameter="tasks",
        )
    if not wanted:
        raise UsageError(
            f"no task was named; the model has: {', '.join(t.name for t in tasks)}",
            parameter="tasks",
        )
    return tuple(task for task in tasks if task.name in wanted)
