"""Labelled text: files to texts, label arrays and splits, where any label may be missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown
from glossator.model.kinds import Labels
from glossator.model.labelled import files as labelled_files
from glossator.model.labelled import splits
from glossator.model.labelled.rows import LabelledRows
from glossator.model.tasks import Task

SPLIT = "split"
"""The column that says train, validation or test where none is named; it need not be there."""


@dataclass(frozen=True)
class Dataset:
    """n labelled texts."""

    texts: list[str]
    labels: dict[str, Labels]
    """By task name."""
    split: NDArray[Any]
    """[n] train, validation or test."""
    lang: NDArray[Any]
    """[n] language, empty where not given."""
    source: NDArray[Any]
    """[n] where the text comes from, empty where not given."""
    weight: NDArray[np.float32] | None = None
    """[n] how much a row counts in training; None where all count the same."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """[n] further columns to measure by, as text, by name."""
    dropped: int = 0
    """Rows left out because their text was null or blank."""
    leaks: splits.Leaks = splits.Leaks()  # noqa: RUF009 - frozen
    """Texts in two splits, or with labels that contradict each other."""
    notes: tuple[str, ...] = ()
    """What whoever gave the data should know of how it was read, a line each."""

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: NDArray[Any]) -> Dataset:
        """The rows of a mask or an index, in its order."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Dataset(
            texts=[self.texts[i] for i in index],
            labels={name: labels[index] for name, labels in self.labels.items()},
            split=self.split[index],
            lang=self.lang[index],
            source=self.source[index],
            weight=None if self.weight is None else self.weight[index],
            columns={name: values[index] for name, values in self.columns.items()},
        )

    def loss_weights(self, task: Task) -> NDArray[np.float32] | None:
        """How much each label of a task counts in its loss, 1 on average over those there are.

        Returns:
            [n], or [n, labels] of a balanced task of several; None where all count the same.

        Raises:
            UsageError: every row with a label of the task has weight 0.
        """
        if self.weight is None and not task.balanced:
            return None
        labels = self.labels[task.name]
        weights = task.rules.balance(labels) if task.balanced else np.ones(len(self))
        if self.weight is not None:
            weights = (weights.T * self.weight).T
        mean = weights[task.rules.observed(labels)].mean()
        if not mean > 0:
            raise UsageError(
                f"task {task.name!r}: every row to learn from has weight 0", parameter="weight"
            )
        return np.asarray(weights / mean, np.float32)


def load(
    patterns: Sequence[str],
    tasks: Sequence[Task],
    text: str,
    split: str | None,
    *,
    weight: str | None = None,
    by: Collection[str] = (),
    allow_leaks: bool = False,
    allow_missing: bool = False,
) -> Dataset:
    """Reads labelled rows.

    Test rows whose text also stands in another split, or carries labels that contradict each
    other, are left out: see `splits.find_leaks`.

    Args:
        patterns: Parquet, CSV and JSON Lines files, as fsspec URIs, globs or folders.
        tasks: what to read labels for; a file may lack a task's column.
        text: the column with the text.
        split: the column that says train, validation or test; where a file lacks it or a row is
            null, or no row is of validation, a share of `splits.HELD_OUT` of what would be train
            is validation, chosen by a hash of the text. None: all rows are of split test.
        weight: the column that says how much a row counts in training; a null counts 1.
        by: further columns to read, as text, which `evaluate.evaluate` may slice by.
        allow_leaks: keep such test rows.
        allow_missing: leave a task without any label out of the labels.

    Raises:
        UsageError: no file, no such column, a value that its column can't hold, a task without
            any label.
    """
    for task in tasks:
        if wrong := [name for name in task.label_columns if name in (text, split)]:
            raise UsageError(
                f"task {task.name!r}: its labels can't stand in column {wrong[0]!r}, which holds "
                "the text or the split: name another"
            )
    asked = _Asked(tasks, text, split, weight, tuple(by))
    files = labelled_files.find(patterns)
    parts = [_read(file, asked) for file in files]
    has = {name for part in parts for name in part.has}
    _check_columns(patterns, asked, has, () if allow_missing else tasks)
    if not sum(len(part.rows) for part in parts):
        raise UsageError(f"{', '.join(patterns)}: no row with a text in column {text!r}")
    whole = _joined([part.rows for part in parts], tasks)
    lacking = [task for task in tasks if not task.rules.observed(whole.labels[task.name]).any()]
    if lacking and not allow_missing:
        raise UsageError(
            f"task {lacking[0].name!r}: no row has a label; add a column "
            f"{lacking[0].label_columns[0]!r} to the data or take the task out of the tasks file"
        )
    notes = [note for part in parts for note in part.rows.notes]
    without = sum(split not in part.has for part in parts)
    completed, note = splits.complete(whole.split, whole.texts)
    if note and without:
        note = f"no column {split!r} in {without:,} of {len(parts):,} files: {note}"
    kept = [task for task in tasks if task not in lacking]
    labels = {task.name: whole.labels[task.name] for task in kept}
    whole = replace(
        whole, split=completed, labels=labels, notes=(*notes, *([note] if note else []))
    )
    return _without_leaks(whole, kept, allow_leaks)


def unlabelled_texts(patterns: Sequence[str], text: str) -> list[str]:
    """The texts of files, whatever else stands there; blank ones are left out.

    Args:
        patterns: Parquet, CSV and JSON Lines files, as fsspec URIs, globs or folders.
        text: the column with the text.

    Raises:
        UsageError: no file, or no such column.
    """
    files = labelled_files.find(patterns)
    return [one for file in files for one in LabelledRows.read(file, text, {text}, {text}).texts]


@dataclass(frozen=True)
class _Asked:
    """What to read."""

    tasks: Sequence[Task]
    text: str
    split: str | None
    weight: str | None
    columns: tuple[str, ...]

    @property
    def texts(self) -> set[str]:
        """Columns that are read as text."""
        split = () if self.split is None else (self.split,)
        return {self.text, *split, "lang", "source", *self.columns} - self.labels

    @property
    def labels(self) -> set[str]:
        """Columns with labels."""
        return {name for task in self.tasks for name in task.label_columns}

    @property
    def all(self) -> set[str]:
        """All columns."""
        return self.texts | self.labels | ({self.weight} if self.weight is not None else set())


@dataclass(frozen=True)
class _Part:
    """What was read of a file."""

    rows: Dataset
    has: list[str]
    """The names of all its columns."""


def _check_columns(
    patterns: Sequence[str], asked: _Asked, has: set[str], tasks: Sequence[Task]
) -> None:
    """Columns that were named, for these tasks too, have to be somewhere."""
    named = [("by", name) for name in asked.columns if name not in ("lang", "source")]
    named += [("split", asked.split)] if asked.split not in (None, SPLIT) else []
    named += [("weight", asked.weight)] if asked.weight is not None else []
    for parameter, name in named:
        if name not in has:
            raise UsageError(
                f"{', '.join(patterns)}: no file has a column {shown(name)}; there are "
                f"{', '.join(sorted(has))}",
                parameter=parameter,
            )
    for task in tasks:
        written = task.column or task.columns
        if written and not set(task.label_columns) & has:
            raise UsageError(
                f"task {task.name!r}: no file has a column {shown(task.label_columns[0])}; there "
                f"are {', '.join(sorted(has))}"
            )


def _read(file: str, asked: _Asked) -> _Part:
    read = LabelledRows.read(file, asked.text, asked.all, asked.texts)
    labels, notes = {}, []
    for task in asked.tasks:
        labels[task.name], partly = read.labels(task)
        if partly:
            notes.append(
                f"{file}: {partly:,} rows with only some of the columns of task {task.name!r} "
                "count as missing"
            )
    rows = Dataset(
        texts=read.texts,
        labels=labels,
        split=np.full(len(read.texts), "test", dtype=object)
        if asked.split is None
        else read.split(asked.split),
        lang=read.words("lang"),
        source=read.words("source"),
        weight=None if asked.weight is None else read.weights(asked.weight),
        columns={name: read.words(name) for name in asked.columns},
        dropped=read.dropped,
        notes=tuple(notes),
    )
    return _Part(rows, read.has)


def _joined(parts: list[Dataset], tasks: Sequence[Task]) -> Dataset:
    first = parts[0]
    return Dataset(
        texts=[line for part in parts for line in part.texts],
        labels={t.name: np.concatenate([p.labels[t.name] for p in parts]) for t in tasks},
        split=np.concatenate([part.split for part in parts]),
        lang=np.concatenate([part.lang for part in parts]),
        source=np.concatenate([part.source for part in parts]),
        weight=None
        if first.weight is None
        else np.concatenate([part.weight for part in parts if part.weight is not None]),
        columns={n: np.concatenate([part.columns[n] for part in parts]) for n in first.columns},
        dropped=sum(part.dropped for part in parts),
    )


def _without_leaks(data: Dataset, tasks: Sequence[Task], allow: bool) -> Dataset:
    """The rows but for test rows that leak, with a note on them."""
    named = [task.name for task in tasks if task.labels]
    observed = {t.name: t.rules.observed(data.labels[t.name]) for t in tasks}
    leaks, spoilt = splits.find_leaks(
        data.texts, data.split, {name: (data.labels[name], observed[name]) for name in named}
    )
    kept = data if allow or not spoilt.any() else data.select(~spoilt)
    leaks = replace(leaks, kept_out=len(data) - len(kept))
    return replace(kept, dropped=data.dropped, leaks=leaks, notes=(*data.notes, *leaks.described()))
