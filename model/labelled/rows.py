"""A file's labelled rows: what its columns say of each, or which value of which row is wrong."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown
from glossator.model.kinds import Labels
from glossator.model.kinds.values import WrongValueError, as_text, as_words, is_number
from glossator.model.labelled import files as labelled_files
from glossator.model.labelled import splits
from glossator.model.tasks import Task


@dataclass(frozen=True)
class LabelledRows:
    """The rows of a file that have a text, and what its columns say of them.

    Methods raise `UsageError` for a value that its column can't hold, with file, row and column.
    """

    file: str
    has: list[str]
    """The names of all columns of the file."""
    texts: list[str]
    """[n]"""
    table: pa.Table
    """n rows, of the columns that are wanted."""
    index: NDArray[np.int64]
    """[n] which rows of the file they are, from 0."""
    dropped: int
    """Rows of the file without a text."""

    @classmethod
    def read(
        cls, file: str, text: str, wanted: Collection[str], as_texts: Collection[str]
    ) -> LabelledRows:
        """Reads a file.

        Args:
            file: as `labelled_files.find` gives it.
            text: the column with the text.
            wanted: names of columns to read, where they are there.
            as_texts: those of them that are text, whatever they look like in a CSV file.
        """
        table, has = labelled_files.read(file, text, wanted, as_texts)
        if text not in has:
            raise UsageError(
                f"{file} has no column {text!r}; it has {', '.join(has)}", parameter="text"
            )
        try:
            texts = as_text(table[text])
        except ValueError as error:
            where = _where(file, error, np.arange(len(table)), table, text)
            raise UsageError(f"{where} {error}", parameter="text") from None
        kept = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0).fill_null(False)
        return cls(
            file=file,
            has=has,
            texts=texts.filter(kept).to_pylist(),
            table=table.filter(kept),
            index=np.flatnonzero(kept.to_numpy()),
            dropped=len(table) - int(pc.sum(kept).as_py() or 0),
        )

    def words(self, column: str) -> NDArray[Any]:
        """[n] a column as text, "" where null or not there."""
        if column not in self.table.column_names:
            return np.full(len(self.table), "", dtype=object)
        try:
            return as_words(self.table[column])
        except ValueError as error:
            raise UsageError(f"{self._where(error, column)} {error}") from None

    def split(self, column: str) -> NDArray[Any]:
        """[n] train, validation or test; "" where it does not say."""
        values = self.words(column)
        for row, value in enumerate(values.tolist()):
            if value not in splits.KNOWN:
                raise UsageError(
                    f"{self._where(WrongValueError(row, ''), column)} holds {shown(value)}; a "
                    "split is train, validation or test (name another column)",
                    parameter="split",
                )
        return values

    def weights(self, column: str) -> NDArray[np.float32]:
        """[n] a column of weights, 1 where null or not there."""
        if column not in self.table.column_names:
            return np.ones(len(self.table), np.float32)
        values = self.table[column]
        if not is_number(values.type) and not pa.types.is_null(values.type):
            raise UsageError(
                f"{self._where(ValueError(), column)} is not a number", parameter="weight"
            )
        numbers = pc.fill_null(values.cast(pa.float64(), safe=False), 1.0).to_numpy()
        if (wrong := np.flatnonzero(~((numbers >= 0) & (numbers <= splits.MAX_WEIGHT)))).size:
            row = int(wrong[0])
            raise UsageError(
                f"{self._where(WrongValueError(row, ''), column)} holds {numbers[row]:g}; a weight "
                f"is between 0 and {splits.MAX_WEIGHT:g}",
                parameter="weight",
            )
        return np.asarray(numbers, np.float32)

    def labels(self, task: Task) -> tuple[Labels, int]:
        """The labels of a task, and of how many rows there were only some."""
        there = [name for name in task.label_columns if name in self.table.column_names]
        if not there:
            return task.rules.missing(len(self.table), task.labels), 0
        if len(there) < len(task.label_columns):
            lacking = next(name for name in task.label_columns if name not in there)
            raise UsageError(
                f"{self.file} has no column {lacking!r}, but other columns of task {task.name!r}"
            )
        column = self._label_column(task)
        try:
            labels = task.rules.encode(column, task.labels)
        except ValueError as error:
            raise UsageError(f"{self._where(error, *there)} {error}") from None
        partly = 0
        if task.columns:
            some = np.any([self.table[name].is_valid().to_numpy() for name in there], axis=0)
            partly = int((some & ~task.rules.observed(labels)).sum())
        return labels, partly

    def _label_column(self, task: Task) -> pa.ChunkedArray:
        if task.columns:
            columns = [self.table[name].combine_chunks() for name in task.columns]
            return pa.chunked_array([pa.StructArray.from_arrays(columns, task.columns)])
        column = self.table[task.label_columns[0]]
        if not task.separator or pa.types.is_nested(column.type):
            return column
        try:
            texts = as_text(column)
        except ValueError as error:
            raise UsageError(f"{self._where(error, *task.label_columns)} {error}") from None
        return pa.chunked_array(
            [[_separated(value, task.separator) for value in texts.to_pylist()]],
            pa.list_(pa.string()),
        )

    def _where(self, error: ValueError, *columns: str) -> str:
        return _where(self.file, error, self.index, self.table, *columns)


def _where(
    file: str, error: ValueError, index: NDArray[np.int64], table: pa.Table, *columns: str
) -> str:
    """The place of a wrong value: the file, its row counted from 0, the column and its type."""
    row = f", row {index[error.row]:,}" if isinstance(error, WrongValueError) else ""
    if len(columns) > 1:
        return f"{file}{row}: the columns {', '.join(columns)}"
    return f"{file}{row}: column {columns[0]!r} ({table[columns[0]].type})"


def _separated(text: str | None, separator: str) -> list[str] | None:
    if text is None:
        return None
    return [label for part in text.split(separator) if (label := part.strip())]
