from __future__ import annotations

import datetime
import pickle
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Optional

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream
from apache_beam.transforms import window
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue
from apache_beam.typehints.arrow_type_compatibility import arrow_schema_from_beam_schema
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import schema_from_element_type
from command_lines import glossator, shell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_comments import answer_alone, make_comments

from glossator.model import bundle as bundles
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.pipeline import compose, metrics, tables
from glossator.pipeline.compose import LabelComments
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.outputs.schema import task_type
from glossator.pipeline.tables import label_given_texts, label_table, label_tables

pytestmark = pytest.mark.usefixtures("deadline")
NAMES = ["sentiment", "themes", "stars"]
BROKEN = b"bad \xff"
REJECTED: list[Any] = [None, "", " \u3000\n"]


class Seen(NamedTuple):
    """An element as a step gets it."""

    tag: str
    value: Any
    timestamp: float
    window: tuple[float, float]


class Keep(beam.DoFn):
    """Leaves what it gets in a folder, from whatever process."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder = folder
        self._tag = tag

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> None:
        span = (float(window.start), float(window.end)) if hasattr(window, "start") else (0, 0)
        seen = (self._tag, element, float(timestamp), span)
        name = f"{time.monotonic_ns():020d}-{uuid.uuid4().hex}"  # in order, and one a thread
        (self._folder / name).write_bytes(pickle.dumps(seen))


@pytest.fixture
def outputs(tmp_path: Path) -> Callable[..., list[Seen]]:
    """What `LabelComments` gives for elements, in the order in which it came."""

    def run(
        source: Any,
        label: LabelComments,
        *steps: beam.PTransform,
        options: Sequence[str] = (),
        runner: str = "FnApiRunner",
    ) -> list[Seen]:
        folder = tmp_path / f"kept-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        source = source if isinstance(source, beam.PTransform) else beam.Create(source, False)
        with beam.Pipeline(runner, PipelineOptions([*options])) as root:
            comments = root | source
            for i, step in enumerate(steps):
                comments |= f"Step{i}" >> step
            for tag, part in (comments | label)._asdict().items():
                part | f"Keep {tag}" >> beam.ParDo(Keep(folder, tag))
        return [Seen(*pickle.loads(path.read_bytes())) for path in sorted(folder.iterdir())]

    return run


def of(seen: list[Seen], tag: str) -> list[Any]:
    return [one.value for one in seen if one.tag == tag]


def rows_of(parts: list[pa.Table]) -> list[dict[str, Any]]:
    return [row for part in parts for row in part.to_pylist()]


def plain(row: Any) -> Any:
    """A row of Beam as dicts and lists."""
    if hasattr(row, "_asdict"):
        return {name: plain(value) for name, value in row._asdict().items()}
    return [plain(item) for item in row] if isinstance(row, list) else row


@pytest.fixture(scope="module")
def texts() -> list[str | None]:
    chance = random.Random(4)
    mixed = [
        *make_comments(150, seed=8),
        *REJECTED,
        "  good \t",
        "😀 bad 很好",
        "x" * 2000,
        *REJECTED,
    ]
    chance.shuffle(mixed)
    return mixed


@pytest.fixture(scope="module")
def table(texts: list[str | None]) -> pa.Table:
    ids = pa.array(range(len(texts)), pa.int64())
    return pa.table({"id": ids, "text": texts, "extra": [{"a": str(i)} for i in range(len(texts))]})


@pytest.fixture(scope="module")
def model(bundle: Path) -> Labeller:
    """For the tasks that are labelled where none is named."""
    return Labeller(bundles.load(bundle), NAMES)


@pytest.fixture(scope="module")
def expected(table: pa.Table, model: Labeller) -> list[dict[str, Any]]:
    """The labelled rows: each text labelled alone, in plain Python."""
    rows = [row for row in table.to_pylist() if (row["text"] or "").strip()]
    said = [{**row, **answer_alone(model, row["text"])} for row in rows]
    assert len({row["sentiment"]["label"] for row in said}) == 2  # a constant would prove little
    return said


@pytest.fixture(scope="module")
def expected_rejects(table: pa.Table) -> list[dict[str, Any]]:
    rows = [row for row in table.to_pylist() if not (row["text"] or "").strip()]
    why = ["null" if row["text"] is None else "empty" for row in rows]
    return [{**row, "reason": r, "detail": None} for row, r in zip(rows, why, strict=True)]


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
    job = pa.concat_tables(
        [pq.read_table(p, partitioning=None) for p in sorted((tmp_path / "job").glob("*.parquet"))]
    )
    seen = outputs([table], LabelComments(str(bundle), top=3))
    assert pa.concat_tables(of(seen, "labelled")).select(names).to_pylist() == (
        job.select(names).to_pylist()
    )
    rejects = pq.read_table(tmp_path / "job" / "_rejects", partitioning=None)
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


@pytest.mark.parametrize("kind", ["rows", "tables"])
@pytest.mark.parametrize("windows", [FixedWindows(10), SlidingWindows(10, 5)])
def test_windows_and_timestamps_are_kept(
    outputs: Callable[..., list[Seen]], bundle: Path, kind: str, windows: Any
) -> None:
    texts = ["good", None, "bad", "很好", ""] * 4
    make: Any = {
        "rows": lambda i: beam.Row(id=i, text=texts[i]),
        "tables": lambda i: pa.table({"id": [i], "text": pa.array([texts[i]], pa.string())}),
    }[kind]
    timed = beam.Map(lambda i: TimestampedValue(make(i), 3 * i))
    if kind == "rows":
        timed = timed.with_output_types(
            RowTypeConstraint.from_fields([("id", int), ("text", Optional[str])])  # noqa: UP045
        )
    seen = outputs(list(range(20)), LabelComments(str(bundle)), timed, beam.WindowInto(windows))
    found = [
        (one.tag, place, one.timestamp, one.window)
        for one in seen
        for place in ([one.value.id] if kind == "rows" else one.value["id"].to_pylist())
    ]
    context = [window.WindowFn.AssignContext(3 * i) for i in range(20)]
    wanted = [
        ("labelled" if texts[i] else "rejected", i, 3.0 * i, (float(w.start), float(w.end)))
        for i in range(20)
        for w in windows.assign(context[i])
    ]
    assert sorted(found) == sorted(wanted)


def test_streams_are_labelled_window_by_window(
    outputs: Callable[..., list[Seen]], bundle: Path
) -> None:
    stream = test_stream.TestStream(coder=beam.coders.FastPrimitivesCoder())
    for i, text in enumerate(["good", "bad", None, "很好"]):
        part = pa.table({"text": pa.array([text], pa.string())})
        stream.add_elements([TimestampedValue(part, 10 * i)]).advance_watermark_to(10 * i + 5)
    stream.advance_watermark_to_infinity()
    options = ["--streaming"]
    seen = outputs(
        stream,
        LabelComments(str(bundle)),
        beam.WindowInto(FixedWindows(10)),
        options=options,
        runner="BundleBasedDirectRunner",
    )
    found = [(o.tag, o.value["text"].to_pylist(), o.window) for o in seen if o.value.num_rows]
    assert sorted(found, key=lambda one: one[2]) == [
        ("labelled", ["good"], (0.0, 10.0)),
        ("labelled", ["bad"], (10.0, 20.0)),
        ("rejected", [None], (20.0, 30.0)),
        ("labelled", ["很好"], (30.0, 40.0)),
    ]


def test_tables_of_several_schemas(outputs: Callable[..., list[Seen]], bundle: Path) -> None:
    given = [
        pa.table({"id": [1], "text": ["good"]}),
        pa.table({"author": ["me"], "comment": ["bad"]}),
        pa.RecordBatch.from_pydict({"review": ["很好"]}),
    ]
    seen = outputs(given, LabelComments(str(bundle), tasks=["stars"]))
    assert [one.value.schema.names for one in seen] == [
        ["id", "text", "stars"],
        ["author", "comment", "stars"],
        ["review", "stars"],
    ]


def test_rows_are_counted(bundle: Path, table: pa.Table, expected: list[dict[str, Any]]) -> None:
    rows = [beam.Row(id=row["id"], text=row["text"]) for row in table.to_pylist()]
    for elements in ([table.slice(0, 30), table.slice(30)], rows):
        root = beam.Pipeline("FnApiRunner")
        root | beam.Create(elements) | LabelComments(str(bundle))
        result = root.run()
        result.wait_until_finish()
        counted = metrics.of_engine(result.metrics())["counters"]
        why = Counter(
            "null" if text is None else "empty"
            for text in table["text"].to_pylist()
            if not (text or "").strip()
        )
        assert counted["rows_read"] == table.num_rows
        assert counted["rows_labelled"] == len(expected)
        assert counted["rows_rejected"] == why.total()
        assert {r: counted[f"rejects_{r}"] for r in why} == why
        assert counted["tokens"] > counted["distinct_texts"] > 0


def test_no_weights_travel() -> None:
    root = beam.Pipeline("FnApiRunner")
    root | "Rows" >> beam.Create([beam.Row(text="good")]) | "Of rows" >> LabelComments()
    root | "Tables" >> beam.Create([pa.table({"text": ["good"]})]) | LabelComments()
    # the weights are nine million
    assert len(root.to_runner_api().SerializeToString()) < 30_000


def test_model_is_loaded_once_a_process(
    outputs: Callable[..., list[Seen]],
    trained: bundles.Bundle,
    table: pa.Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundles.save(trained, tmp_path / "own")
    label = LabelComments(str(tmp_path / "own"))
    loads: list[str] = []
    original = bundles.load

    def watched(where: str | Path) -> bundles.Bundle:
        loads.append(str(where))
        return original(where)

    monkeypatch.setattr(bundles, "load", watched)
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=4"]
    parts = [table.slice(i, 10) for i in range(0, table.num_rows, 10)]
    seen = outputs(parts, label, beam.Reshuffle(), options=threads)
    assert sum(one.value.num_rows for one in seen) == table.num_rows
    assert loads == [str(tmp_path / "own")]


def test_bundle_that_was_replaced_is_refused(
    outputs: Callable[..., list[Seen]],
    trained: bundles.Bundle,
    other_bundle: Path,
    table: pa.Table,
    tmp_path: Path,
) -> None:
    bundles.save(trained, tmp_path / "own")
    label = LabelComments(str(tmp_path / "own"))
    bundles.save(bundles.load(other_bundle), tmp_path / "own")
    with pytest.raises(Exception, match="it was replaced meanwhile"):
        outputs([table], label)


PROGRAM = """
import sys
import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from glossator.pipeline.compose import LabelComments

source, bundle, out = sys.argv[1:]
label = LabelComments(bundle)
schemas = label.schemas(pa.schema([("id", pa.int64()), ("text", pa.string())]))
options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
with beam.Pipeline("FnApiRunner", options=options) as root:
    tables = root | beam.io.ReadFromParquetBatched(source) | beam.Reshuffle()
    for name, part, schema in zip(("labelled", "rejected"), tables | label, schemas):
        part | name >> beam.io.WriteToParquetBatched(out + "/" + name, schema)
"""


def test_other_processes_label_the_same(
    bundle: Path,
    table: pa.Table,
    expected: list[dict[str, Any]],
    expected_rejects: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    given = table.select(["id", "text"])
    pq.write_table(given, tmp_path / "in.parquet", row_group_size=60)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = shell(tmp_path / "program.py", tmp_path / "in.parquet", bundle, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for name, wanted in (("labelled", expected), ("rejected", expected_rejects)):
        files = sorted((tmp_path / "out").glob(f"{name}*"))
        rows = rows_of([pq.read_table(file) for file in files])
        assert sorted(rows, key=lambda row: row["id"]) == [
            {key: value for key, value in row.items() if key != "extra"} for row in wanted
        ]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([{"text": "good"}], {}, "takes Arrow tables or rows with a schema, not"),
        (
            [beam.Row(a="x", b="y")],
            {},
            r"which column is the text\?.* a, b: name it",
        ),
        ([beam.Row(a="x")], {"text": "b"}, "the rows: no column 'b'; its columns are a"),
        ([beam.Row(a=1)], {"text": "a"}, "the rows: column 'a' is int64, not text"),
        ([beam.Row(a=[1])], {"text": "a"}, "the rows: column 'a' is struct<>, not text"),
        (
            [beam.Row(text="x", stars=1)],
            {},
            "'stars': the output has the task's column 'stars': rename",
        ),
        ([beam.Row(text="x", reason=1)], {}, "'reason': the output has a column 'reason': rename"),
        ([pa.table({"a": ["x"]})], {"text": "b"}, "the table: no column 'b'; its columns are a"),
        ([pa.table({"a": [1]})], {"text": "a"}, "the table: column 'a' is int64, not text"),
        ([pa.table({"text": ["x"], "stars": [1]})], {}, "the task's column 'stars': rename"),
        ([pa.table({"text": ["x"], "Stars": [1]})], {}, "'Stars': .* the task's column 'stars'"),
        ([pa.table({"text": ["x"], "detail": [1]})], {}, "'detail': the output has a column 'det"),
        ([pa.table({"text": ["x"], "DETAIL": [1]})], {}, "'DETAIL': .* has a column 'detail'"),
    ],
)
def test_what_can_not_be_labelled_is_said(
    outputs: Callable[..., list[Seen]],
    bundle: Path,
    given: list[Any],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(Exception, match=message):
        outputs(given, LabelComments(str(bundle), **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nowhere"}, "nowhere"),
        ({"tasks": ["tone"]}, "unknown task 'tone'"),
        ({"tasks": "sentiment"}, "tasks='sentiment' is one string: give a list of names"),
        ({"top": 101}, "top=101 is not a whole number between 0 and 100"),
        ({"top": "5"}, "top='5' is not a whole number"),
    ],
)
def test_what_can_not_be_asked_for_is_said_at_once(
    bundle: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        LabelComments(**{"model": str(bundle), **options})


@pytest.mark.parametrize("element", [{"text": "good"}, "good", beam.Row(a=1, b=2)])
def test_elements_are_refused_before_anything_runs(bundle: Path, element: Any) -> None:
    root = beam.Pipeline("FnApiRunner")
    with pytest.raises(UsageError):
        root | beam.Create([element]) | LabelComments(str(bundle))


def test_untyped_elements_are_refused_at_run_time(
    outputs: Callable[..., list[Seen]], bundle: Path
) -> None:
    untyped = beam.Map(lambda x: x).with_output_types(Any)
    with pytest.raises(Exception, match="takes Arrow tables or rows with a schema, not"):
        outputs([3], LabelComments(str(bundle)), untyped)


def test_relative_bundle_is_found_from_another_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    labelling = Labelling.of(bundle.name)
    monkeypatch.chdir(tmp_path)
    assert labelling.labeller().tasks == labelling.tasks
    assert Path(labelling.model) == bundle


DOCUMENT = Path(__file__).parents[2] / "docs" / "compose.md"


def blocks(language: str) -> list[str]:
    """The code of the document's blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)


SAID = [
    "",
    "1 pos\n2 null\n",
    "comment: [[null]]",
    "product 2\n",
]
"""What each Python block of the document prints, or a part of it."""


@pytest.mark.parametrize(("code", "said"), zip(blocks("python"), SAID, strict=True))
def test_document_runs(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "examples").symlink_to(DOCUMENT.parents[1] / "examples")
    (tmp_path / "block.py").write_text(code)
    done = shell("block.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert max(map(len, code.splitlines())) <= 100
    if "out/labels" in code:
        labels = pq.read_table(next((tmp_path / "out").glob("labels*")))
        rejects = pq.read_table(next((tmp_path / "out").glob("rejects*")))
        assert (labels.num_rows, rejects.num_rows) == (26, 2)
