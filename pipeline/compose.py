"""`LabelComments`: labelling as one transform of any pipeline."""

# Beam reads annotations as types: `from __future__ import annotations` would hide them

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints import Optional, Union
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import named_fields_from_element_type
from apache_beam.typehints.typehints import is_consistent_with
from apache_beam.utils.windowed_value import WindowedValue

from glossator.model.bundle import DEFAULT
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.metrics import emit
from glossator.pipeline.outputs.kinds import SHAPES
from glossator.pipeline.rows import answer_rows, arrow_schema, texts_of
from glossator.pipeline.tables import (
    Outputs,
    label_given_texts,
    label_tables,
    pieces,
    refuse_names,
    schemas,
    text_column,
)

TOGETHER_ROWS = 8192
"""Rows of a bundle are labelled once there are so many: the network's batches hold texts of like
length, and where there are too few of a length a batch is filled with nothing."""
TOGETHER_BYTES = 64 << 20
"""Or once they are so large."""

_REJECTED = "rejected"


class LabelComments(beam.PTransform):
    """Labels comments: a PCollection of Arrow tables, or of rows with a schema.

    ::

        labelled, rejected = comments | LabelComments(model="gs://bucket/bundle", text="comment")

    Arrow tables (`pa.Table` or `pa.RecordBatch`, of any size and of any schemas that have the text
    column) give `pa.Table`s; rows (`beam.Row`, NamedTuples, dataclasses) give `beam.Row`s. Each
    element of `labelled` has all columns of the input, then a struct for each task, as in the
    job's output. Each of `rejected` has all columns of the input, then `reason` (`null`, `empty`
    or `undecodable`) and `detail`. Every row that goes in comes out in one of the two, with its
    timestamp and in its window; nothing is grouped or shuffled. A table may come out in several
    pieces, and one that holds no rejects adds nothing to `rejected`.

    The same text and model give the same labels, bit for bit, as in the job. The bundle is read
    where the pipeline is built, and by each worker process once: by its URI, so it must be in
    reach of both. A bundle that was replaced in between is refused.

    Rows are counted by Beam's metrics in the namespace `glossator`: `rows_read`, `rows_labelled`,
    `rows_rejected` and the rest of what the job counts.
    """

    def __init__(
        self,
        model: str = DEFAULT,
        text: str | None = None,
        tasks: Sequence[str] | None = None,
        top: int = 5,
    ) -> None:
        """Reads the bundle and pins its digest.

        Args:
            model: a bundle's folder or URI, or `default` for the one inside the package.
            text: the text column; None to take the one that is clearly the text, which tables of
                different schemas decide for themselves.
            tasks: names; None for all that are not sensitive.
            top: marked words kept of a comment and task.

        Raises:
            UsageError: there is no such bundle or task, or `top` is not between 0 and 100.
        """
        super().__init__()
        self._labelling = Labelling.of(model, text, tasks, top)

    def expand(self, comments: beam.PCollection) -> Any:
        """`Outputs`: the labelled and the rejected elements, as PCollections.

        Raises:
            UsageError: the elements are neither tables nor rows, or have no such column.
        """
        kind = comments.element_type
        try:
            fields = named_fields_from_element_type(kind)
        except TypeError:
            fields = None
        if fields is None:
            if not is_consistent_with(kind, Union[pa.Table, pa.RecordBatch]):
                raise UsageError(_refusal(kind))
            label, kinds = _LabelTables(self._labelling), (pa.Table, pa.Table)
        else:
            label, kinds = _rows(self._labelling, fields)
        both = comments | "Label" >> beam.ParDo(label).with_outputs(_REJECTED, main="labelled")
        # What a bundle's end gives to a step that takes batches, as writing rows to Parquet does,
        # Beam loses without a word: this step takes elements, and passes them on before its end.
        labelled, rejected = (
            outputs | name >> beam.ParDo(_Pass()).with_output_types(element_type)
            for name, outputs, element_type in zip(Outputs._fields, both, kinds, strict=True)
        )
        return Outputs(labelled, rejected)

    def schemas(self, columns: pa.Schema) -> Outputs:
        """The schemas of labelled and rejected tables, for input tables with these columns.

        Raises:
            UsageError: a column is called as one that is added.
        """
        return schemas(columns, self._labelling.tasks, self._labelling.experts)

    def display_data(self) -> dict[str, Any]:
        """What was asked for, as the engine's page shows it."""
        labelling = self._labelling
        return {
            "model": labelling.model,
            "digest": labelling.digest,
            "tasks": ", ".join(labelling.names),
            "text": labelling.text or "(found in the schema)",
            "top": labelling.top,
        }


def _refusal(kind: Any) -> str:
    return (
        f"LabelComments takes Arrow tables or rows with a schema, not {kind}: make the elements "
        "beam.Row(...), or declare their type with .with_output_types(...)"
    )


class _Pass(beam.DoFn):
    def process(self, element: Any) -> Iterator[Any]:
        yield element


class _Label(beam.DoFn):
    """Holds what comes until there is enough to label it together, at most to the bundle's end.

    What comes out has the timestamp and the window of what it was made from.
    """

    def __init__(self, labelling: Labelling) -> None:
        self._labelling = labelling

    def setup(self) -> None:
        self._labeller = self._labelling.labeller()

    def start_bundle(self) -> None:
        self._forget()

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[Any]:
        for part, rows, size in self._parts(element):
            self._held.append(WindowedValue(part, timestamp, (window,), pane))
            self._rows += rows
            self._bytes += size
            if self._rows >= TOGETHER_ROWS or self._bytes >= TOGETHER_BYTES:
                yield from self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._flush()

    def _flush(self) -> Iterator[Any]:
        held = self._held
        self._forget()
        if held:
            for place, tag, value in self._label(self._labeller, [one.value for one in held]):
                output = held[place].with_value(value)
                yield output if tag is None else TaggedOutput(tag, output)

    def _forget(self) -> None:
        self._held: list[WindowedValue] = []
        self._rows = self._bytes = 0

    def _parts(self, element: Any) -> Iterator[tuple[Any, int, int]]:
        """An element in parts that can be labelled at once, with their rows and bytes."""
        raise NotImplementedError

    def _label(
        self, model: Labeller, parts: Sequence[Any]
    ) -> Iterator[tuple[int, str | None, Any]]:
        """Outputs: the place of the part that it was made from, its tag, itself."""
        raise NotImplementedError


class _LabelTables(_Label):
    def _parts(self, element: Any) -> Iterator[tuple[pa.Table, int, int]]:
        if isinstance(element, pa.RecordBatch):
            element = pa.Table.from_batches([element])
        if not isinstance(element, pa.Table):
            raise UsageError(_refusal(type(element)))
        for piece in pieces(
            element, text_column(element.schema, self._labelling.text, "the table")
        ):
            yield piece, piece.num_rows, piece.nbytes

    def _label(
        self, model: Labeller, parts: Sequence[pa.Table]
    ) -> Iterator[tuple[int, str | None, pa.Table]]:
        outputs, measured = label_tables(model, parts, self._labelling.text, self._labelling.top)
        for one in measured:
            emit(one)
        for place, output in enumerate(outputs):
            yield place, None, output.labelled
            if output.rejected.num_rows:
                yield place, _REJECTED, output.rejected


class _LabelRows(_Label):
    def __init__(self, labelling: Labelling, names: Sequence[str], text: str) -> None:
        super().__init__(labelling)
        self._names = names
        self._text = text

    def _parts(self, element: Any) -> Iterator[tuple[Any, int, int]]:
        text = getattr(element, self._text)
        yield element, 1, len(text) if isinstance(text, (str, bytes)) else 0

    def _label(
        self, model: Labeller, parts: Sequence[Any]
    ) -> Iterator[tuple[int, str | None, beam.Row]]:
        texts = texts_of([getattr(row, self._text) for row in parts], self._text)
        answers = label_given_texts(model, texts, self._labelling.top)
        emit(answers.measured)
        tasks = [task.name for task in model.tasks]
        said = zip(*map(answer_rows, model.tasks, answers.columns), strict=True)
        for place, values in zip(answers.kept.tolist(), said, strict=True):
            added = dict(zip(tasks, values, strict=True))
            yield place, None, beam.Row(**self._fields(parts[place]), **added)
        why = zip(answers.reason.to_pylist(), answers.detail.to_pylist(), strict=True)
        for place, (reason, detail) in zip(answers.rejected.tolist(), why, strict=True):
            fields = self._fields(parts[place])
            yield place, _REJECTED, beam.Row(**fields, reason=reason, detail=detail)

    def _fields(self, row: Any) -> dict[str, Any]:
        return {name: getattr(row, name) for name in self._names}


def _rows(
    labelling: Labelling, fields: list[tuple[str, Any]]
) -> tuple[_LabelRows, tuple[Any, Any]]:
    """What labels rows of these fields, and the types of what it gives."""
    names = [name for name, _ in fields]
    refuse_names(names, labelling.tasks, "the rows")
    text = text_column(arrow_schema(fields), labelling.text, "the rows")
    answers = [
        (task.name, SHAPES[task.kind].rows[task.name in labelling.experts])
        for task in labelling.tasks
    ]
    reject = [("reason", str), ("detail", Optional[str])]
    kinds = [RowTypeConstraint.from_fields([*fields, *more]) for more in (answers, reject)]
    return _LabelRows(labelling, names, text), (kinds[0], kinds[1])
