"""`LabelComments` and the functions behind it on Arrow tables."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from composed import BROKEN, NAMES, Seen, of, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outputs import current
from sample_comments import answer_alone

from glossator.model.labeller import Labeller
from glossator.pipeline import compose, tables
from glossator.pipeline.compose import LabelComments
from glossator.pipeline.outputs.schema import task_type
from glossator.pipeline.tables import label_given_texts, label_table, label_tables

pytestmark = pytest.mark.usefixtures("deadline")


def test_tables_are_labelled_as_each_text_alone(
    outputs: Callable[..., list[Seen]],
    bundle: Path,
    table: pa.Table,
    expected: list[dict[str, Any]],
    expected_rejects: list[dict[str, Any]],
) -> None:
    parts = [table.slice(0, 40), table.slice(40, 1), table.slice(41)]
    seen = outputs(parts, LabelComments(str(bundle)))
    assert sorted(rows_of(of(seen, "labelled")), key=lambda row: row["id"]) == expected
    assert sorted(rows_of(of(seen, "rejected")), key=lambda row: row["id"]) == expected_rejects
    assert {type(one.value) for one in seen} == {pa.Table}


def test_types_are_those_of_the_job(
    outputs: Callable[..., list[Seen]], bundle: Path, model: Labeller, table: pa.Table
) -> None:
    label = LabelComments(str(bundle))
    seen = outputs([table], label)
    labelled, rejected = of(seen, "labelled")[0], of(seen, "rejected")[0]
    assert labelled.schema.names == ["id", "text", "extra", *NAMES]
    assert [labelled.schema.field(t.name).type for t in model.tasks] == [
        task_type(task) for task in model.tasks
    ]
    assert rejected.schema.names == ["id", "text", "extra", "reason", "detail"]
    assert label.schemas(table.schema) == (labelled.schema, rejected.schema)


def test_labels_are_those_of_the_job(
    outputs: Callable[..., list[Seen]], bundle: Path, table: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "in.parquet")
    where = ("--input", tmp_path / "in.parquet", "--output", tmp_path / "job", "--model", bundle)
    done = glossator("label", *where, "--key", "id", "--top", "3")
    assert done.returncode == 0, done.stderr
    names = ["id", *NAMES]
    parts = sorted(current(tmp_path / "job").glob("*.parquet"))
    job = pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts])
    seen = outputs([table], LabelComments(str(bundle), top=3))
    assert pa.concat_tables(of(seen, "labelled")).select(names).to_pylist() == (
        job.select(names).to_pylist()
    )
    rejects = pq.read_table(current(tmp_path / "job") / "_rejects", partitioning=None)
    assert pa.concat_tables(of(seen, "rejected")).select(
        ["id", "reason", "detail"]
    ).to_pylist() == (rejects.select(["id", "reason", "detail"]).to_pylist())


def test_undecodable_text_is_rejected_with_all_columns(
    outputs: Callable[..., list[Seen]], bundle: Path
) -> None:
    bytes_ = pa.array([b"good", BROKEN, None, b""], pa.binary())
    comments = pa.table({"text": bytes_, "n": [0.0, 1.0, 2.0, 3.0]}, metadata={"origin": "here"})
    seen = outputs([comments], LabelComments(str(bundle)))
    rejected = of(seen, "rejected")[0]
    assert rejected.to_pylist() == [
        {
            "text": BROKEN,
            "n": 1.0,
            "reason": "undecodable",
            "detail": "byte 0xff at offset 4: invalid start byte",
        },
        {"text": None, "n": 2.0, "reason": "null", "detail": None},
        {"text": b"", "n": 3.0, "reason": "empty", "detail": None},
    ]
    assert [row["n"] for row in rows_of(of(seen, "labelled"))] == [0.0]
    assert {one.value.schema.metadata[b"origin"] for one in seen} == {b"here"}


def test_empty_table_has_the_schema(
    outputs: Callable[..., list[Seen]], bundle: Path, table: pa.Table
) -> None:
    label = LabelComments(str(bundle))
    seen = outputs([table.slice(0, 0), table.slice(3, 0).combine_chunks()], label)
    assert [one.tag for one in seen] == ["labelled", "labelled"]
    for one in seen:
        assert one.value.num_rows == 0
        assert one.value.schema == label.schemas(table.schema).labelled


def kinds_of(texts: list[Any]) -> dict[str, pa.Array | pa.ChunkedArray]:
    strings = pa.array(texts, pa.string())
    return {
        "string": strings,
        "large_string": strings.cast(pa.large_string()),
        "string_view": strings.cast(pa.string_view()),
        "binary": strings.cast(pa.binary()),
        "dictionary": strings.dictionary_encode(),
        "dictionaries": pa.chunked_array(
            [s.dictionary_encode() for s in (strings[:2], strings[2:])]
        ),
        "chunked": pa.chunked_array([strings.slice(0, 2), strings.slice(2, 0), strings.slice(2)]),
    }


@pytest.mark.parametrize("kind", kinds_of([]))
def test_any_column_of_text(model: Labeller, kind: str) -> None:
    texts: list[Any] = ["good", None, "bad 很好", " ", "good"]
    column = kinds_of(texts)[kind]
    given = pa.table({"text": column, "n": range(5)})
    labelled, rejected = label_table(model, given)
    assert labelled.column("text").type == rejected.column("text").type == column.type
    assert labelled.column("n").to_pylist() == [0, 2, 4]
    assert rejected.column("n").to_pylist() == [1, 3]
    said = labelled.select(NAMES).to_pylist()
    assert said == [answer_alone(model, texts[i]) for i in (0, 2, 4)]
    assert [str(v) for v in rejected.column("text").to_pylist()] in (
        ["None", " "],
        ["None", "b' '"],
    )


def test_column_of_nothing_but_nulls(model: Labeller) -> None:
    labelled, rejected = label_table(model, pa.table({"text": pa.nulls(2), "n": [1, 2]}), "text")
    assert labelled.num_rows == 0
    assert labelled.schema.names == ["text", "n", *NAMES]
    assert [(row["n"], row["reason"]) for row in rejected.to_pylist()] == [(1, "null"), (2, "null")]


def test_broken_table_beside_a_sound_one(model: Labeller) -> None:
    sound, broken = (
        pa.table({"text": pa.array([b"good", b], pa.binary())}) for b in (b"x", BROKEN)
    )
    results, _ = label_tables(model, [sound, broken, sound])
    assert [(r.labelled.num_rows, r.rejected.num_rows) for r in results] == [(2, 0), (1, 1), (2, 0)]
    assert results[0] == label_table(model, sound)
    assert results[1] == label_table(model, broken)


def test_columns_pass_as_they_are(model: Labeller) -> None:
    given = pa.table(
        {
            "text": ["good", None, "bad"],
            "when": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
            "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int8())),
            "view": pa.array(["a", "b", None]).cast(pa.string_view()),
            "struct": pa.array([{"x": [1]}, None, {"x": None}]),
            "null": pa.nulls(3),
        }
    )
    labelled, rejected = label_table(model, given)
    names = given.schema.names
    both = pa.concat_tables([labelled.select(names), rejected.select(names)])
    assert both.schema == given.schema
    rows = given.to_pylist()
    assert both.to_pylist() == [rows[0], rows[2], rows[1]]


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_cutting_gives_the_same_rows(
    data: st.DataObject,
    model: Labeller,
    table: pa.Table,
    expected: list[dict[str, Any]],
    expected_rejects: list[dict[str, Any]],
) -> None:
    places = st.integers(0, table.num_rows)
    cuts = sorted(data.draw(st.lists(places, max_size=6)))
    most_rows, most_bytes = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 4000))
    edges = [0, *cuts, table.num_rows]
    parts = [table.slice(a, b - a) for a, b in pairwise(edges)]
    asked: list[pa.Array] = []

    def watched(model: Labeller, texts: pa.Array, top: int) -> tables.LabelledTexts:
        asked.append(texts)
        return label_given_texts(model, texts, top)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "MAX_ROWS", most_rows)
        patch.setattr(tables, "MAX_BYTES", most_bytes)
        patch.setattr(tables, "label_given_texts", watched)
        results, measured = label_tables(model, parts)
    assert [r.labelled.num_rows + r.rejected.num_rows for r in results] == [
        part.num_rows for part in parts
    ]
    assert rows_of([result.labelled for result in results]) == expected
    assert rows_of([result.rejected for result in results]) == expected_rejects
    for texts in asked:
        assert len(texts) <= most_rows
        sizes = pc.binary_length(texts).fill_null(0).to_pylist()
        assert sum(sizes[:-1]) < most_bytes
    assert sum(one.counters["rows_read"] for one in measured) == table.num_rows


def test_large_tables_come_out_in_pieces(
    outputs: Callable[..., list[Seen]],
    bundle: Path,
    table: pa.Table,
    expected: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 50)
    monkeypatch.setattr(compose, "TOGETHER_ROWS", 20)
    seen = outputs([table], LabelComments(str(bundle)))
    labelled = of(seen, "labelled")
    assert len(labelled) == -(-table.num_rows // 50)
    assert rows_of(labelled) == expected


def test_small_tables_are_labelled_together_and_stay_small(
    outputs: Callable[..., list[Seen]],
    bundle: Path,
    table: pa.Table,
    expected: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    original = compose.label_tables

    def watched(model: Labeller, tables: Sequence[pa.Table], *more: Any) -> Any:
        asked.append(len(tables))
        return original(model, tables, *more)

    monkeypatch.setattr(compose, "label_tables", watched)
    monkeypatch.setattr(compose, "TOGETHER_ROWS", 100)
    parts = [table.slice(i, 1) for i in range(table.num_rows)]
    seen = outputs(parts, LabelComments(str(bundle)))
    assert sorted(asked) == [table.num_rows - 100, 100]
    assert rows_of(of(seen, "labelled")) == expected
    # one row, and not the hundred that it was labelled with
    sizes = [len(pickle.dumps(part)) for part in of(seen, "labelled") if part.num_rows]
    whole = len(pickle.dumps(pa.concat_tables(of(seen, "labelled")).combine_chunks()))
    assert np.median(sizes) < whole / 4
