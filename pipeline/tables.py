"""Arrow tables in, labelled tables and rejects out: the plain functions behind `LabelComments`.

Nothing here knows of Beam's collections: the same functions label a table in a notebook or a test.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task
from glossator.pipeline.inputs.check import check
from glossator.pipeline.inputs.columns import MisfitError, column_at, find_column, find_text
from glossator.pipeline.inputs.names import refuse_collisions
from glossator.pipeline.inputs.resolve import guess_text
from glossator.pipeline.inputs.values import as_text
from glossator.pipeline.label import Tally, label_texts
from glossator.pipeline.metrics import Measures, measures
from glossator.pipeline.outputs.schema import task_type

MAX_ROWS = 65_536
"""Rows that are labelled at once."""
MAX_BYTES = 64 << 20
"""Text that is labelled at once, but for the row that goes beyond."""

REJECT_COLUMNS = (pa.field("reason", pa.string()), pa.field("detail", pa.string()))
"""What rejects have after the columns of the input."""


class Outputs(NamedTuple):
    """What became of comments: each row is in one of the two.

    Of a table they are tables, of a PCollection they are PCollections.
    """

    labelled: Any
    """All columns of the input, then a struct for each task."""
    rejected: Any
    """All columns of the input, then `reason` (`null`, `empty`, `undecodable`) and `detail`."""


@dataclass(frozen=True)
class LabelledTexts:
    """What became of texts, by their places among those given."""

    kept: NDArray[np.int64]
    """Places of the texts that were labelled, ascending."""
    columns: list[pa.StructArray]
    """The answers to those, an array a task, as long as `kept`."""
    rejected: NDArray[np.int64]
    """Places of all other texts, ascending."""
    reason: pa.Array
    detail: pa.Array
    measured: Measures


def text_column(schema: pa.Schema, text: str | None, where: str) -> str:
    """The column to label, by the rule of the command: see `resolve` and `find_column`.

    Args:
        schema: of the table.
        text: the column's name; None to take the one that is clearly the text.
        where: what the schema is of, for the error.

    Raises:
        UsageError: no column, or more than one, is clearly the text, or the named one is not.
    """
    if text is None:
        return guess_text(schema, (), where)
    try:
        find_text(schema, text)
    except MisfitError as error:
        raise UsageError(f"{where}: {error}", parameter="text") from error
    return text


def refuse_names(columns: Sequence[str], tasks: Sequence[Task], where: str) -> None:
    """Raises `UsageError` if a column of the input is called as one that is added."""
    added = [field.name for field in REJECT_COLUMNS]
    refuse_collisions(columns, added, [task.name for task in tasks], what=f"{where}: column")


def schemas(columns: pa.Schema, tasks: Sequence[Task], experts: Collection[str]) -> Outputs:
    """The schemas of the tables that a table with these columns gives.

    Args:
        columns: of the table.
        tasks: those that are labelled.
        experts: names of the tasks in which the n-gram expert has a say.

    Raises:
        UsageError: a column is called as one that is added.
    """
    refuse_names(columns.names, tasks, "the table")
    answers = [pa.field(task.name, task_type(task, task.name in experts)) for task in tasks]
    return Outputs(
        *(pa.schema([*columns, *added], columns.metadata) for added in (answers, REJECT_COLUMNS))
    )


def pieces(table: pa.Table, text: str) -> Iterator[pa.Table]:
    """Cuts a table where a piece reaches `MAX_ROWS` or its text `MAX_BYTES`; one piece at least.

    Nothing is copied.
    """
    start = 0
    lengths = [
        pc.binary_length(as_text(chunk)).fill_null(0) for chunk in _column(table, text).chunks
    ]
    sizes = np.cumsum(np.concatenate([[0], *lengths]), dtype=np.int64)
    while start < table.num_rows:
        full = int(np.searchsorted(sizes, sizes[start] + MAX_BYTES))
        stop = min(max(full, start + 1), start + MAX_ROWS, table.num_rows)
        yield table.slice(start, stop - start)
        start = stop
    if not table.num_rows:
        yield table


def _column(table: pa.Table, text: str) -> pa.ChunkedArray:
    return column_at(table, find_column(table.schema, text))


def label_table(model: Labeller, table: pa.Table, text: str | None = None, top: int = 5) -> Outputs:
    """Labels one table of any size.

    Args:
        model: the labeller, e.g. `Labelling.of("my-bundle").labeller()`.
        table: with a column of text; strings, bytes and dictionaries of them.
        text: the text column; None to take the one that is clearly the text.
        top: marked words kept of a comment and task.

    Raises:
        UsageError: the table has no such column, or one that is called as a task.
    """
    return label_tables(model, [table], text, top)[0][0]


def label_tables(
    model: Labeller, tables: Sequence[pa.Table], text: str | None = None, top: int = 5
) -> tuple[list[Outputs], list[Measures]]:
    """Labels tables together, which is faster than one by one where they are small.

    Returns:
        The outputs, one for each table, and what each of the portions came to in which the rows
        were labelled: `MAX_ROWS` and `MAX_BYTES` bound them.

    Raises:
        UsageError: a table has no such column, or one that is called as a task.
    """
    names = [text_column(table.schema, text, "the table") for table in tables]
    kinds = [schemas(table.schema, model.tasks, model.experts) for table in tables]
    parts: list[list[Outputs]] = [[] for _ in tables]
    measured = []
    for portion in _portions(tables, names):
        answers = label_given_texts(model, _joined([texts for _, _, texts in portion]), top)
        measured.append(answers.measured)
        first = 0
        for i, piece, texts in portion:
            parts[i].append(_shaped(kinds[i], piece, answers, first))
            first += len(texts)
    return [_concatenated(part) for part in parts], measured


def label_given_texts(model: Labeller, texts: pa.Array, top: int) -> LabelledTexts:
    """Labels texts, and says why of those that have nothing to label.

    Args:
        model: the labeller.
        texts: large_string, or large_binary where they may not be UTF-8; null where there is none.
        top: marked words kept of a text and task.
    """
    tally, started = Tally(), time.monotonic()
    checked = check(texts)
    bad = checked.reason.is_valid().to_numpy(zero_copy_only=False)
    kept, rejected = np.flatnonzero(~bad), np.flatnonzero(bad)
    given = texts.take(pa.array(kept)).cast(pa.large_string())
    columns = label_texts(model, given, top, tally)
    reason = checked.reason.take(pa.array(rejected))
    rows = {"rows_read": len(texts), "rows_labelled": len(kept), "rows_rejected": len(rejected)}
    inside = sum(value for name, value in tally.metrics.items() if name.endswith("_seconds"))
    amounts = {**tally.metrics, "arrow_seconds": time.monotonic() - started - inside}
    return LabelledTexts(
        kept,
        columns,
        rejected,
        reason,
        checked.detail.take(pa.array(rejected)),
        measures(rows, Counter(reason.to_pylist()), amounts),
    )


_Piece = tuple[int, pa.Table, pa.Array]
"""The number of the table that it is of, its rows, their texts."""


def _portions(tables: Sequence[pa.Table], names: Sequence[str]) -> Iterator[list[_Piece]]:
    """Pieces of tables, together as many as are labelled at once."""
    held: list[_Piece] = []
    rows = size = 0
    for i, (table, name) in enumerate(zip(tables, names, strict=True)):
        for piece in pieces(table, name):
            texts = as_text(_column(piece, name))
            if held and (rows + len(texts) > MAX_ROWS or size + texts.nbytes > MAX_BYTES):
                yield held
                held, rows, size = [], 0, 0
            held.append((i, piece, texts))
            rows, size = rows + len(texts), size + texts.nbytes
    if held:
        yield held


def _joined(texts: Sequence[pa.Array]) -> pa.Array:
    if len({array.type for array in texts}) > 1:  # some are not UTF-8
        texts = [array.cast(pa.large_binary()) for array in texts]
    return pa.concat_arrays(texts)


def _shaped(kinds: Outputs, piece: pa.Table, answers: LabelledTexts, first: int) -> Outputs:
    """The outputs, of these schemas, of a piece whose first text was the `first` answered."""
    why = [answers.reason, answers.detail]
    return Outputs(
        _share(kinds.labelled, answers.kept, answers.columns, piece, first),
        _share(kinds.rejected, answers.rejected, why, piece, first),
    )


def _share(
    schema: pa.Schema,
    places: NDArray[np.int64],
    added: Sequence[pa.Array],
    piece: pa.Table,
    first: int,
) -> pa.Table:
    """A piece's rows among `places`, with what was said of them."""
    start, stop = np.searchsorted(places, [first, first + piece.num_rows])
    rows, some = places[start:stop] - first, pa.array(np.arange(start, stop))
    # copies, not slices: whoever pickles a slice pickles all of the array that it is of
    columns = [_taken(column, rows) for column in piece.columns]
    return pa.Table.from_arrays([*columns, *(one.take(some) for one in added)], schema=schema)


def _taken(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    try:
        return column.take(pa.array(rows))
    except pa.ArrowNotImplementedError:  # views of strings, for one
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        slices = [column.slice(run[0], len(run)) for run in runs if len(run)]
        chunks = [chunk for part in slices for chunk in part.chunks]
        return pa.chunked_array(chunks, column.type)


def _concatenated(parts: Sequence[Outputs]) -> Outputs:
    labelled, rejected = zip(*parts, strict=True)
    return Outputs(pa.concat_tables(labelled), pa.concat_tables(rejected))
