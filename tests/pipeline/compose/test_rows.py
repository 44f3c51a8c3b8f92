"""`LabelComments` on rows with a schema."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.typehints.arrow_type_compatibility import arrow_schema_from_beam_schema
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import schema_from_element_type
from composed import BROKEN, Seen, of, plain
from sample_comments import answer_alone

from glossator.model.labeller import Labeller
from glossator.pipeline.compose import LabelComments
from glossator.pipeline.outputs.schema import task_type

pytestmark = pytest.mark.usefixtures("deadline")


class Comment(NamedTuple):
    id: int
    body: Optional[str]  # noqa: UP045 - Beam makes Any of `str | None`
    when: datetime.datetime
    tags: list[str]


def comment(i: int, body: Any) -> Comment:
    return Comment(i, body, datetime.datetime(2026, 1, 1 + i % 20), ["a"] * (i % 3))


def test_rows_are_labelled_as_each_text_alone(
    outputs: Callable[..., list[Seen]],
    bundle: Path,
    table: pa.Table,
    expected: list[dict[str, Any]],
    expected_rejects: list[dict[str, Any]],
) -> None:
    given = [comment(i, text) for i, text in enumerate(table["text"].to_pylist())]
    typed = beam.Map(lambda row: row).with_output_types(Comment)
    seen = outputs(given, LabelComments(str(bundle)), typed)
    names = ["sentiment", "themes", "stars"]
    assert [plain(row) for row in of(seen, "labelled")] == [
        {**given[row["id"]]._asdict(), **{name: row[name] for name in names}} for row in expected
    ]
    assert [plain(row) for row in of(seen, "rejected")] == [
        {**given[row["id"]]._asdict(), "reason": row["reason"], "detail": None}
        for row in expected_rejects
    ]


def widths(kind: pa.DataType) -> Any:
    """A type without what rows can't say: dictionaries, and what lists call their items."""
    if pa.types.is_struct(kind):
        return {field.name: widths(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [widths(kind.value_type)]
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind)


def test_rows_are_as_wide_as_structs(bundle: Path, model: Labeller) -> None:
    root = beam.Pipeline("FnApiRunner")
    labelled, _ = root | beam.Create([beam.Row(text="good")]) | LabelComments(str(bundle))
    schema = arrow_schema_from_beam_schema(schema_from_element_type(labelled.element_type))
    assert {task.name: widths(schema.field(task.name).type) for task in model.tasks} == {
        task.name: widths(task_type(task)) for task in model.tasks
    }


def test_rows_without_words_have_no_entropy(
    outputs: Callable[..., list[Seen]], bundle: Path, model: Labeller
) -> None:
    seen = outputs([comment(1, "good")], LabelComments(str(bundle), top=0))
    (row,) = of(seen, "labelled")
    expected = answer_alone(model, "good", top=0)
    for name, answer in expected.items():
        assert answer["entropy"] is None
        assert plain(row)[name] == answer


def test_rows_have_a_schema(bundle: Path) -> None:
    root = beam.Pipeline("FnApiRunner")
    rows = root | beam.Create([beam.Row(id=1, text="good"), beam.Row(id=2, text=None)])
    labelled, rejected = rows | LabelComments(str(bundle))
    names = {output: [n for n, _ in output.element_type._fields] for output in (labelled, rejected)}
    assert names[labelled] == ["id", "text", "sentiment", "themes", "stars"]
    assert names[rejected] == ["id", "text", "reason", "detail"]
    assert isinstance(labelled.element_type, RowTypeConstraint)


def test_rows_survive_encoding_bit_for_bit(bundle: Path, model: Labeller, tmp_path: Path) -> None:
    """A shuffle encodes rows by their schema; Parquet wants them in Arrow again."""
    with beam.Pipeline("FnApiRunner") as root:
        rows = root | beam.Create([beam.Row(id=i, text=f"good {i} bad") for i in range(20)])
        labelled = (rows | "Before" >> beam.Reshuffle() | LabelComments(str(bundle))).labelled
        shuffled = labelled | "After" >> beam.Reshuffle()
        shuffled | beam.io.WriteToParquet(str(tmp_path / "shuffled"))
    back = pq.read_table(next(tmp_path.glob("shuffled*"))).to_pylist()
    assert sorted(back, key=lambda row: row["id"]) == [
        {"id": i, "text": f"good {i} bad", **answer_alone(model, f"good {i} bad")}
        for i in range(20)
    ]


def test_rows_reach_a_step_that_takes_batches(
    bundle: Path, table: pa.Table, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Beam loses what a bundle's end gives to such a step, which writing Parquet is."""
    pq.write_table(table.select(["id", "text"]), tmp_path / "in.parquet")
    with beam.Pipeline("FnApiRunner") as root:
        rows = root | beam.io.ReadFromParquet(str(tmp_path / "in.parquet"), as_rows=True)
        labelled, rejected = rows | LabelComments(str(bundle))
        labelled | "Labels" >> beam.io.WriteToParquet(str(tmp_path / "labels"))
        rejected | "Rejects" >> beam.io.WriteToParquet(str(tmp_path / "rejects"))
    labels = pq.read_table(next(tmp_path.glob("labels*"))).to_pylist()
    assert labels == [{k: v for k, v in row.items() if k != "extra"} for row in expected]
    rejects = pq.read_table(next(tmp_path.glob("rejects*")))
    assert rejects.num_rows == table.num_rows - len(expected)
    assert rejects.column("reason").type == pa.string()


def rows_of_any(given: list[Any]) -> beam.PTransform:
    """Makes rows of values, of whose type Beam knows nothing."""
    kind = RowTypeConstraint.from_fields([("id", int), ("body", Any)])
    make = beam.Map(lambda i: beam.Row(id=i, body=given[i]))
    return make.with_output_types(kind)


def test_rows_of_bytes(outputs: Callable[..., list[Seen]], bundle: Path) -> None:
    step = rows_of_any([b"good", BROKEN, "bad", None])
    seen = outputs([0, 1, 2, 3], LabelComments(str(bundle)), step)
    assert [(row.id, row.body) for row in of(seen, "labelled")] == [(0, b"good"), (2, "bad")]
    assert [(row.id, row.body, row.reason, row.detail) for row in of(seen, "rejected")] == [
        (1, BROKEN, "undecodable", "byte 0xff at offset 4: invalid start byte"),
        (3, None, "null", None),
    ]


def test_rows_without_text_are_refused(outputs: Callable[..., list[Seen]], bundle: Path) -> None:
    with pytest.raises(Exception, match=r"column 'body' does not hold str or bytes.*int"):
        outputs([0], LabelComments(str(bundle)), rows_of_any([3]))
