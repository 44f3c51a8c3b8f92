"""Labelled text: Parquet to texts, label arrays and splits, where any label may be missing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from glossator.model.errors import UsageError
from glossator.model.kinds import Labels
from glossator.model.store import open_store, uri_below
from glossator.model.tasks import Task

HELD_OUT = 0.1
"""Share of the texts held out for validation where no column says which."""


@dataclass(frozen=True)
class Dataset:
    """n labelled texts."""

    texts: list[str]
    labels: dict[str, Labels]
    """By task name."""
    split: NDArray[np.str_]
    """[n] train, validation or test."""
    lang: NDArray[np.str_]
    """[n] language, empty where not given."""
    source: NDArray[np.str_]
    """[n] where the text comes from, empty where not given."""
    dropped: int = 0
    """Rows left out because their text was null or blank."""

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
        )


def load(patterns: Sequence[str], tasks: Sequence[Task], text: str, split: str) -> Dataset:
    """Reads training data.

    Args:
        patterns: Parquet files, as fsspec URIs or globs.
        tasks: what to read labels for; a file may lack a task's column.
        text: the column with the text.
        split: the column that says train, validation or test; where a file lacks it or a row is
            null, a share of `HELD_OUT` is validation, chosen by a hash of the text.

    Raises:
        UsageError: no file, no text column, a value that is no label of its task.
    """
    files = sorted({file for pattern in patterns for file in _matching(pattern)})
    parts = [_read(file, tasks, text, split) for file in files]
    if not sum(len(part) for part in parts):
        raise UsageError(f"{', '.join(patterns)}: no row with a text in column {text!r}")
    whole = Dataset(
        texts=[line for part in parts for line in part.texts],
        labels={t.name: np.concatenate([p.labels[t.name] for p in parts]) for t in tasks},
        split=np.concatenate([part.split for part in parts]),
        lang=np.concatenate([part.lang for part in parts]),
        source=np.concatenate([part.source for part in parts]),
        dropped=sum(part.dropped for part in parts),
    )
    for task in tasks:
        if not task.rules.observed(whole.labels[task.name]).any():
            raise UsageError(
                f"task {task.name!r}: no row has a label; add a column {task.name!r} to the data "
                "or take the task out of the tasks file"
            )
    return whole


def _matching(pattern: str) -> list[str]:
    fs, path = open_store(pattern)
    paths = [path] if fs.isfile(path) else [found for found in fs.glob(path) if fs.isfile(found)]
    if not paths:
        raise UsageError(
            f"no file matches {pattern}; give Parquet files or a glob", parameter="data"
        )
    return [uri_below(pattern, fs, found) for found in paths]


def _read(file: str, tasks: Sequence[Task], text: str, split: str) -> Dataset:
    wanted = {text, split, "lang", "source", *(task.name for task in tasks)}
    fs, path = open_store(file)
    with fs.open(path, "rb") as stream:
        try:
            parquet = pq.ParquetFile(stream)
            names = parquet.schema_arrow.names
            if text not in names:
                raise UsageError(
                    f"{file} has no column {text!r}; it has {', '.join(names)}",
                    parameter="text",
                )
            table = parquet.read(columns=[name for name in names if name in wanted])
        except pa.ArrowException as error:
            raise UsageError(f"{file} is not a readable Parquet file: {error}") from error
    try:
        texts = table[text].cast(pa.large_string())
    except pa.ArrowException as error:
        raise UsageError(
            f"{file}: column {text!r} holds {table[text].type}, which is no text: {error}"
        ) from error
    kept = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), False)
    dropped = len(table) - int(pc.sum(kept).as_py() or 0)
    table = table.filter(kept)
    lines: list[str] = texts.filter(kept).to_pylist()
    return Dataset(
        texts=lines,
        labels={task.name: _labels(table, task, file) for task in tasks},
        split=_split(table, split, lines, file),
        lang=_strings(table, "lang"),
        source=_strings(table, "source"),
        dropped=dropped,
    )


def _strings(table: pa.Table, column: str) -> NDArray[np.str_]:
    if column not in table.column_names:
        return np.full(len(table), "", dtype=np.str_)
    return np.array([value or "" for value in table[column].to_pylist()], dtype=np.str_)


def _split(table: pa.Table, column: str, texts: list[str], file: str) -> NDArray[np.str_]:
    splits = _strings(table, column)
    known = ("train", "validation", "test", "")
    if wrong := sorted(set(splits.tolist()) - set(known)):
        raise UsageError(
            f"{file}: column {column!r} holds {wrong[0]!r}; a split is train, validation or test "
            "(name another column)",
            parameter="split",
        )
    splits = splits.astype("<U10")  # wide enough for any of them
    for row in np.flatnonzero(splits == ""):
        digest = hashlib.blake2b(texts[row].encode(), digest_size=8).digest()
        held_out = int.from_bytes(digest, "big") < HELD_OUT * 2**64
        splits[row] = "validation" if held_out else "train"
    return splits


def _labels(table: pa.Table, task: Task, file: str) -> Labels:
    if task.name not in table.column_names:
        return task.rules.missing(len(table), task.labels)
    column = table[task.name]
    try:
        return task.rules.encode(column, task.labels)
    except ValueError as error:
        raise UsageError(f"{file}: column {task.name!r} ({column.type}) {error}") from None
