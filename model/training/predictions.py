"""What any model predicts of texts, read from files: a teacher that need not be one of ours.

A file has the column of the text, and one called as a task for each task that it speaks of: of a
single or multi task a struct of a probability for each label, called as the label; of a regression
a number. A null says nothing. Of a text that stands there more than once the last row counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown
from glossator.model.labelled import files as labelled_files
from glossator.model.labelled.rows import LabelledRows
from glossator.model.tasks import Task


@dataclass(frozen=True)
class Predictions:
    """Predictions by text."""

    rows: Mapping[str, int]
    """Which row speaks of a text."""
    values: Mapping[str, NDArray[np.float64]]
    """By task: [m + 1, outputs], NaN where nothing is said, as everywhere in the last row."""

    @property
    def digest(self) -> str:
        """Of all that they say."""
        digest = hashlib.sha256("\0".join(self.rows).encode("utf-8", "surrogatepass"))
        for name in sorted(self.values):
            digest.update(name.encode() + self.values[name].tobytes())
        return digest.hexdigest()

    def of(self, texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """[n, outputs] of each task that is spoken of, for n texts."""
        rows = [self.rows.get(text, -1) for text in texts]
        return {name: values[rows] for name, values in self.values.items()}


def read_predictions(pattern: str, text: str, tasks: Sequence[Task]) -> Predictions:
    """Reads the predictions of one model.

    Args:
        pattern: files, as a URI, a glob or a folder.
        text: the column with the text.
        tasks: those that are to be learnt.

    Raises:
        UsageError: no such file or column, or a value that is no prediction of its task.
    """
    names = [task.name for task in tasks]
    texts: list[str] = []
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for file in labelled_files.find([pattern]):
        rows = LabelledRows.read(file, text, {text, *names}, {text})
        texts += rows.texts
        for task in tasks:
            parts[task.name].append(_values(rows, task))
    found = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    said = {name: values for name, values in found.items() if not np.isnan(values).all()}
    if not said:
        raise UsageError(
            f"{pattern} predicts nothing of any task: a column called as one, of "
            f"{', '.join(names)}, is to say what",
            parameter="teacher",
        )
    return Predictions(
        rows={one: row for row, one in enumerate(texts)},
        values={
            name: np.pad(one, ((0, 1), (0, 0)), constant_values=np.nan)
            for name, one in said.items()
        },
    )


def _values(rows: LabelledRows, task: Task) -> NDArray[np.float64]:
    """[m, outputs] of a file's rows, NaN where nothing is said."""
    if task.name not in rows.has:
        return np.full((len(rows.texts), task.outputs), np.nan)
    column = rows.table[task.name].combine_chunks()
    where = f"{rows.file}, column {shown(task.name)}"
    given = {field.name for field in column.type} if pa.types.is_struct(column.type) else set()
    if given != set(task.labels):
        wanted = f"a struct of {', '.join(task.labels)}" if task.labels else "a number"
        raise UsageError(f"{where} is {column.type}, not {wanted}", parameter="teacher")
    parts = [pc.struct_field(column, label) for label in task.labels] or [column]
    try:
        values = np.stack([_numbers(part) for part in parts], axis=1)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{where} holds no numbers: {reason}", parameter="teacher") from None
    values[~column.is_valid().to_numpy(zero_copy_only=False)] = np.nan
    wrong = np.flatnonzero(~task.rules.plausible(values) & ~np.isnan(values).all(axis=1))
    if wrong.size:
        row = int(wrong[0])
        raise UsageError(
            f"{where}, row {rows.index[row]:,}: {values[row].tolist()} is no prediction of a "
            f"{task.kind} task: give one, or null where there is none",
            parameter="teacher",
        )
    return values


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
