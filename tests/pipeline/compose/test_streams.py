"""`LabelComments` in windows, in other processes and over and over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing import test_stream
from apache_beam.transforms import window
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue
from apache_beam.typehints.row_type import RowTypeConstraint
from command_lines import shell
from composed import Seen, rows_of

from glossator.model import bundle as bundles
from glossator.pipeline import metrics
from glossator.pipeline.compose import LabelComments

pytestmark = pytest.mark.usefixtures("deadline")


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
