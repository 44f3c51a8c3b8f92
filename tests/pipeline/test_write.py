from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glossator.pipeline.errors import CorruptRange, ReconcileError
from glossator.pipeline.inputs.columns import Columns
from glossator.pipeline.inputs.plan import Plan, Source, make_plan
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.inputs.read import Piece, Span, Unread, read
from glossator.pipeline.outputs.manifest import build, parse, reconcile
from glossator.pipeline.outputs.staging import SplitRecord, completed_records
from glossator.pipeline.outputs.write import SplitWriter, rejects

KEYS = pa.schema({"id": pa.int64()})
LABEL = pa.struct({"label": pa.dictionary(pa.int8(), pa.string()), "score": pa.float32()})
SCHEMA = pa.schema([*KEYS, pa.field("sentiment", LABEL)])
RANGE = Range("/in/a.parquet", 10, 14, "f")
SPLIT = Split(3, "part-00003-0123456789ab", (RANGE,))


def labelled(*ids: int) -> pa.Table:
    labels = pa.array(["pos" if i % 2 else "neg" for i in ids]).dictionary_encode()
    struct = pa.StructArray.from_arrays(
        [labels.cast(LABEL[0].type), pa.array([0.5] * len(ids), pa.float32())], fields=list(LABEL)
    )
    return pa.table([pa.array(ids, pa.int64()), struct], schema=SCHEMA)


def piece(*ids: int, range_: Range = RANGE, null: int | None = None) -> Piece:
    """Rows of a range, in which a row's id is its number; that of `null` has no text."""
    reason = pa.array(["null" if i == null else None for i in ids], pa.string())
    text = pa.array([None if i == null else "text" for i in ids], pa.large_string())
    keys = pa.table([pa.array(ids, pa.int64())], schema=KEYS)
    spans = (Span(range_, ids[0] if ids else 0, len(ids)),)
    return Piece(spans, text, keys, reason, pa.nulls(len(ids), pa.string()))


def write(staging: object, split: Split = SPLIT) -> SplitRecord:
    (range_,) = split.ranges
    with SplitWriter(str(staging), split, SCHEMA, KEYS) as writer:
        writer.write(piece(10, 11, range_=range_), labelled(10, 11))
        writer.write(piece(range_=range_), labelled())
        writer.write(piece(12, 13, range_=range_, null=12), labelled(13))
    return writer.commit(labels={"sentiment": {"pos": 2}}, metrics={"seconds": 1.0})


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_and_record(tmp_path: Path) -> None:
    record = write(tmp_path)
    part = f"{SPLIT.name}.parquet"
    assert sorted(files(tmp_path)) == [
        f"_records/{SPLIT.name}.json",
        f"_rejects/{part}",
        part,
    ]
    assert pq.read_table(tmp_path / part)["id"].to_pylist() == [10, 11, 13]
    assert pq.read_table(tmp_path / part)["sentiment"].to_pylist()[1]["label"] == "pos"
    assert pq.read_metadata(tmp_path / part).num_row_groups == 2
    assert pq.read_table(tmp_path / "_rejects" / part)["source_row"].to_pylist() == [12]
    for name, size, digest in (
        (part, record.part_bytes, record.part_sha256),
        (f"_rejects/{part}", record.rejects_bytes, record.rejects_sha256),
    ):
        content = (tmp_path / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
    assert (record.rows_labelled, record.rows_rejected, record.rejects) == (3, 1, {"null": 1})
    assert completed_records(str(tmp_path)) == {SPLIT.name: record}


def test_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    write(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    with SplitWriter(str(tmp_path / "c"), SPLIT, SCHEMA, KEYS) as writer:
        # in other chunks
        writer.write(piece(10, 11), pa.concat_tables([labelled(10), labelled(11)]))
        writer.write(piece(13), labelled(13))
    name = f"{SPLIT.name}.parquet"
    assert pq.read_table(tmp_path / "c" / name).equals(pq.read_table(tmp_path / "a" / name))


def test_how_a_table_is_chunked_leaves_no_trace(tmp_path: Path) -> None:
    for name, step in (("a", 5_000), ("b", 777)):
        with SplitWriter(str(tmp_path / name), SPLIT, SCHEMA, KEYS) as writer:
            ids = [range(i, min(i + step, 5_000)) for i in range(0, 5_000, step)]
            table = pa.concat_tables([labelled(*chunk) for chunk in ids])
            writer.write(piece(*range(5_000)), table)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_only_what_repeats_has_a_dictionary_and_every_engine_knows_the_encodings(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    group = pq.read_metadata(tmp_path / f"{SPLIT.name}.parquet").row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    found = {chunk.path_in_schema: chunk.has_dictionary_page for chunk in chunks}
    assert found == {"id": True, "sentiment.label": True, "sentiment.score": False}
    assert {name for chunk in chunks for name in chunk.encodings} <= {
        "PLAIN",
        "RLE",
        "RLE_DICTIONARY",
    }


def test_split_without_rows_has_a_part(tmp_path: Path) -> None:
    with SplitWriter(str(tmp_path), SPLIT, SCHEMA, KEYS) as writer:
        pass
    record = writer.commit(labels={}, metrics={})
    assert list(files(tmp_path)) == [f"{SPLIT.name}.parquet", f"_records/{SPLIT.name}.json"]
    assert pq.read_schema(tmp_path / f"{SPLIT.name}.parquet").names == ["id", "sentiment"]
    assert (record.rows_labelled, record.rejects_bytes) == (0, None)
    assert completed_records(str(tmp_path)) == {SPLIT.name: record}


def test_error_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with SplitWriter(str(tmp_path), SPLIT, SCHEMA, KEYS) as writer:
            writer.write(piece(10, 12, null=12), labelled(10))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert files(tmp_path) == {}
    write(tmp_path)
    before = files(tmp_path)
    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert files(tmp_path) == before


def test_remote_store_gets_whole_files(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    try:
        record = write("memory://write/run")
        write(tmp_path)
        for name, content in files(tmp_path).items():
            assert fs.cat_file(f"/write/run/{name}") == content
        assert completed_records("memory://write/run") == {SPLIT.name: record}
        assert len(fs.find("/write")) == 3
    finally:
        fs.rm("/write", recursive=True)


@pytest.mark.parametrize("lost", ["part", "rejects", "record", "shorter", "half a record"])
def test_what_is_not_whole_is_not_finished(tmp_path: Path, lost: str) -> None:
    write(tmp_path)
    write(tmp_path, replace(SPLIT, index=4, name="part-00004-0123456789ab"))
    part = tmp_path / f"{SPLIT.name}.parquet"
    record = tmp_path / "_records" / f"{SPLIT.name}.json"
    if lost == "part":
        part.unlink()
    elif lost == "rejects":
        (tmp_path / "_rejects" / part.name).unlink()
    elif lost == "record":
        record.unlink()
    elif lost == "shorter":
        part.write_bytes(part.read_bytes()[:-1])
    else:
        record.write_text(record.read_text()[:50])
    assert list(completed_records(str(tmp_path))) == ["part-00004-0123456789ab"]


def test_nothing_is_finished_where_nothing_is(tmp_path: Path) -> None:
    assert completed_records(str(tmp_path / "none")) == {}


def test_corrupt_split_is_one_reject(tmp_path: Path) -> None:
    with SplitWriter(str(tmp_path), SPLIT, SCHEMA, KEYS) as writer:
        writer.unread(Unread(RANGE, "corrupt", "Corrupt snappy compressed data"))
    record = writer.commit(labels={}, metrics={})
    assert (record.rows_read, record.rows_unreadable, record.files_unreadable) == (0, 4, 0)
    assert (record.rows_rejected, record.rejects) == (0, {"corrupt": 1})
    table = pq.read_table(tmp_path / "_rejects" / f"{SPLIT.name}.parquet")
    assert table.to_pylist() == [
        {
            "id": None,
            "source_file": "/in/a.parquet",
            "source_row": None,
            "stage": "read",
            "reason": "corrupt",
            "detail": "rows 10 to 14 (exclusive): Corrupt snappy compressed data",
        }
    ]


def test_unreadable_file_is_one_reject(tmp_path: Path) -> None:
    range_ = Range("/in/a.parquet", 0, 0, "", error="no footer")
    split = Split(0, "part-00000-0123456789ab", (range_,))
    with SplitWriter(str(tmp_path), split, SCHEMA, KEYS) as writer:
        writer.unread(Unread(range_, "unreadable", "no footer"))
    record = writer.commit(labels={}, metrics={})
    assert (record.rows_unreadable, record.files_unreadable) == (0, 1)
    assert record.rejects == {"unreadable": 1}


def test_rejects_are_exactly_the_rows_without_text(tmp_path: Path) -> None:
    texts = [None if i % 5 == 0 else " \u3000"[: i % 3] if i % 3 == 0 else "x" for i in range(99)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "id": range(1000, 1099)}), path, row_group_size=20)
    plan = make_plan([str(path)], text=None, keys=["id"], identity="m", rows_per_split=40)
    found = [
        row
        for split in plan.splits
        for given in read(split, plan.columns, max_rows=7)
        if isinstance(given, Piece)
        for row in rejects(given).to_pylist()
    ]
    assert found == [
        {
            "id": 1000 + i,
            "source_file": str(path),
            "source_row": i,
            "stage": "check",
            "reason": "null" if text is None else "empty",
            "detail": None,
        }
        for i, text in enumerate(texts)
        if text is None or not text.strip()
    ]


def test_damaged_file_is_accounted_for_to_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage late in a split, after pieces of it were written already."""
    monkeypatch.setattr("glossator.pipeline.inputs.decode.MAX_BATCH_ROWS", 100)
    monkeypatch.setattr("glossator.pipeline.inputs.read._CHECKED_ROWS", 100)
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"comment {i * 7919}" for i in range(8000)], "id": range(8000)})
    pq.write_table(table, path, row_group_size=2000, data_page_size=2048, use_dictionary=False)
    plan = make_plan([str(path)], text=None, keys=["id"], identity="m", rows_per_split=4000)
    column = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    damage = column.data_page_offset + column.total_compressed_size * 3 // 4
    content[damage : damage + 30] = b"\xa5" * 30
    path.write_bytes(content)

    def copy(split: Split, given_up: dict[Range, Unread]) -> SplitRecord:
        """The split's keys as a part."""
        written = 0
        with SplitWriter(str(tmp_path), split, KEYS, KEYS) as writer:
            try:
                for given in read(split, plan.columns, max_rows=500, given_up=given_up):
                    if isinstance(given, Unread):
                        writer.unread(given)
                    else:
                        writer.write(given, given.keys)
                        written += given.keys.num_rows
            except CorruptRange:
                assert written > 0
                raise
        return writer.commit(labels={}, metrics={})

    records = []
    for split in plan.splits:
        try:
            records.append(copy(split, {}))
        except CorruptRange as error:
            again = Unread(error.range_, error.reason, error.detail)
            records.append(copy(split, {error.range_: again}))

    totals = build(plan, records, model="", options={}, timings={}, versions={}).totals
    assert (totals.rows_read, totals.rows_labelled, totals.rows_unreadable) == (4000, 4000, 4000)
    assert totals.rejects == {"corrupt": 1}
    assert pq.read_metadata(tmp_path / f"{plan.splits[0].name}.parquet").num_rows == 0
    ids = pq.read_table(tmp_path / f"{plan.splits[1].name}.parquet")["id"].to_pylist()
    assert ids == list(range(4000, 8000))


def two_splits(tmp_path: Path) -> tuple[Plan, list[SplitRecord]]:
    source = Source("/in/a.parquet", 1, "f", 18, "d")
    splits = (
        replace(SPLIT, ranges=(replace(RANGE, start=0, stop=14),)),
        Split(4, "part-00004-0123456789ab", (replace(RANGE, start=14, stop=18),)),
    )
    plan = Plan((source,), splits, Columns("text", KEYS), "0" * 16)
    records = [write(tmp_path, split) for split in splits]
    ranges = (replace(records[0].ranges[0], rows_read=14),)
    return plan, [replace(records[0], ranges=ranges, rows_read=14, rows_labelled=13), records[1]]


def test_manifest_sums_up_and_is_read_back(tmp_path: Path) -> None:
    plan, records = two_splits(tmp_path)
    manifest = build(
        plan, records[::-1], model="m", options={"a": 1}, timings={"s": 1.5}, versions={"v": "1"}
    )
    assert parse(manifest.to_json().encode(), "here") == manifest
    assert json.loads(manifest.to_json())["format"] == "glossator-output-2"
    assert [part.rows for part in manifest.parts] == [13, 3]
    assert [file.rows for file in manifest.rejects] == [1, 1]
    totals = manifest.totals
    assert (totals.rows_read, totals.rows_labelled, totals.rows_rejected) == (18, 16, 2)
    assert (totals.rejects, manifest.labels) == ({"null": 2}, {"sentiment": {"pos": 4 / 16}})


def ranged(record: SplitRecord, **changes: Any) -> SplitRecord:
    """The record with another account of its one range."""
    return replace(record, ranges=(replace(record.ranges[0], **changes),))


def test_records_that_do_not_account_for_the_plan(tmp_path: Path) -> None:
    plan, (first, second) = two_splits(tmp_path)
    reconcile(plan, [first, second])
    name = first.part
    for records, message in (
        ([first], "split part-00004-0123456789ab .* has 0 records"),
        ([first, second, second], "split part-00004-0123456789ab .* has 2 records"),
        ([first, second, replace(second, part="c")], "not planned: c"),
        ([replace(first, rows_read=13), second], rf"split {name}.*labelled \+ rej.*13 is not 14"),
        ([replace(first, rows_read=13, rows_labelled=12), second], "its ranges .*13 is not 14"),
        ([replace(first, rows_rejected=2, rows_labelled=12), second], "rejected .*2 is not 1"),
        ([replace(first, rows_unreadable=1), second], "unreadable .*1 is not 0"),
        ([ranged(first, rows_read=13), second], r"planned .*a\.parquet: 13 \+ 0 is not 14"),
        ([ranged(first, rows_unreadable=1), second], r"planned .*: 14 \+ 1 is not 14"),
        ([replace(first, rejects={}), second], "lines of rejects .*0 is not 1"),
        ([replace(first, files_unreadable=1), second], "files unreadable .*1 is not 0"),
        ([ranged(first, start=1), second], "number 0 is .*rows 1 to 14 in its record, not .*0 to"),
        ([ranged(first, source="/in/b"), second], "ranges do not hold: number 0 is /in/b, rows 0"),
        ([replace(first, ranges=()), second], "number 0 is missing in its record"),
    ):
        with pytest.raises(ReconcileError, match=message):
            reconcile(plan, records)


def test_splits_that_do_not_tile_their_file(tmp_path: Path) -> None:
    plan, (first, second) = two_splits(tmp_path)
    with pytest.raises(ReconcileError, match=r"/in/a\.parquet has 19 rows, its ranges end at 18"):
        reconcile(replace(plan, sources=(replace(plan.sources[0], rows=19),)), [first, second])
    gap = (plan.splits[0], replace(plan.splits[1], ranges=(replace(RANGE, start=15, stop=19),)))
    record = ranged(second, start=15, stop=19)
    with pytest.raises(ReconcileError, match="starts at row 15, those before it end at 14"):
        reconcile(replace(plan, splits=gap), [first, record])
