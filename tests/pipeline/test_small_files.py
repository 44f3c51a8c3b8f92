"""Many small files share a split and a part; each row, and each file's fate, is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from column_runs import why
from command_lines import glossator
from outputs import current
from sample_comments import make_comments

from glossator.pipeline.inputs import plan as planning
from glossator.pipeline.inputs import read as reading
from glossator.pipeline.inputs.plan import Plan, make_plan
from glossator.pipeline.inputs.read import Piece, Unread, read

FILES = 150


@pytest.fixture
def small_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files share splits by some sixteen, so that a few hundred are many."""
    monkeypatch.setattr(planning, "SHARED_ROWS", 0)
    monkeypatch.setattr(planning, "FILES_BETWEEN_ENDS", 16)


def write_files(folder: Path, count: int, rows: int = 2) -> list[str]:
    """Files of so many comments each; all comments in the order of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = make_comments(count * rows)
    for i in range(count):
        here = slice(i * rows, (i + 1) * rows)
        table = pa.table({"id": range(here.start, here.stop), "text": texts[here]})
        pq.write_table(table, folder / f"{i:04d}.parquet")
    return texts


def plan(folder: object, **more: Any) -> Plan:
    return make_plan([str(folder)], text="text", keys=("id",), identity="m", **more)


def groups(planned: Plan) -> list[list[str]]:
    """The names of the files of each split."""
    return [[Path(r.source).name for r in split.ranges] for split in planned.splits]


def test_few_files_have_a_part_each(tmp_path: Path) -> None:
    write_files(tmp_path, planning.FEW_FILES)
    assert groups(plan(tmp_path)) == [[f"{i:04d}.parquet"] for i in range(planning.FEW_FILES)]


def test_many_files_share_splits(tmp_path: Path, small_splits: None) -> None:
    write_files(tmp_path, FILES)
    found = groups(plan(tmp_path))
    assert [name for group in found for name in group] == [f"{i:04d}.parquet" for i in range(FILES)]
    assert 3 < len(found) < 40
    assert plan(tmp_path) == plan(tmp_path)


def test_shared_splits_are_no_larger_than_others(tmp_path: Path) -> None:
    write_files(tmp_path, FILES, rows=20)
    planned = plan(tmp_path, rows_per_split=100)
    assert max(split.rows for split in planned.splits) == 100
    assert sum(len(split.ranges) for split in planned.splits) == FILES


@pytest.mark.parametrize("late", ["0075a.parquet", "0000a.parquet", "zzz.parquet"])
def test_a_late_file_changes_its_neighbourhood_alone(
    tmp_path: Path, small_splits: None, late: str
) -> None:
    write_files(tmp_path, FILES)
    before = groups(plan(tmp_path))
    (tmp_path / late).write_bytes((tmp_path / "0000.parquet").read_bytes())
    after = groups(plan(tmp_path))
    changed = [group for group in after if group not in before]
    assert 1 <= len(changed) <= 2 and any(late in group for group in changed)


def test_large_files_among_small_ones_are_split_as_ever(tmp_path: Path, small_splits: None) -> None:
    write_files(tmp_path, FILES)
    table = pa.table({"id": range(1000), "text": make_comments(1000)})
    pq.write_table(table, tmp_path / "0070b.parquet")
    planned = plan(tmp_path, rows_per_split=300)
    alone = [split for split in planned.splits if split.ranges[0].source.endswith("0070b.parquet")]
    assert [(s.ranges[0].start, s.ranges[0].stop) for s in alone] == [
        (0, 333), (333, 666), (666, 1000),
    ]  # fmt: skip
    assert all(len(split.ranges) == 1 for split in alone)


def rows_of(found: list[Piece | Unread]) -> Iterator[tuple[str, int, int | None, str | None]]:
    """File, row, key and text of each row that is read."""
    for piece in found:
        if isinstance(piece, Piece):
            every = range(len(piece.text))
            yield from zip(
                piece.source_file(pa.array(every).to_numpy()).to_pylist(),
                piece.source_row(pa.array(every).to_numpy()).to_pylist(),
                piece.keys["id"].to_pylist(),
                piece.text.to_pylist(),
                strict=True,
            )


@pytest.mark.parametrize("store", ["local", "memory"])
@pytest.mark.parametrize("max_rows", [7, 65_536])
def test_rows_are_those_of_the_files_in_order(tmp_path: Path, store: str, max_rows: int) -> None:
    texts = write_files(tmp_path, FILES)
    folder: object = tmp_path
    if store == "memory":
        fsspec.filesystem("memory").put(str(tmp_path), "/tiny", recursive=True)
        folder = "memory://tiny"
    try:
        planned = plan(folder)
        assert len(planned.splits) <= 2
        found = [
            row
            for split in planned.splits
            for row in rows_of(list(read(split, planned.columns, max_rows=max_rows)))
        ]
    finally:
        if store == "memory":
            fsspec.filesystem("memory").rm("/tiny", recursive=True)
    sources = [source.uri for source in planned.sources]
    assert found == [(sources[i // 2], i % 2, i, text) for i, text in enumerate(texts)]


def test_a_thread_reads_though_another_never_ends_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = write_files(tmp_path, FILES)
    planned = plan(tmp_path)
    split = planned.splits[0]
    begun = read(split, planned.columns, max_rows=7)
    next(begun)  # stands between two pieces
    assert not reading._TURN.locked()
    monkeypatch.setattr(reading, "_MAX_TURN_SECS", 0.01)
    with reading._TURN:
        found = [row[3] for row in rows_of(list(read(split, planned.columns)))]
    assert found == texts[: split.rows]


def damage(folder: Path) -> None:
    """Of the files one has no footer, one is corrupt, one lacks the text, one has no rows."""
    good = (folder / "0010.parquet").read_bytes()
    (folder / "0010.parquet").write_bytes(good[:-20])
    table = pa.table({"id": [40, 41], "text": ["x" * 300, "y" * 300]})
    pq.write_table(table, folder / "0020.parquet", compression="none", write_page_checksum=True)
    content = (folder / "0020.parquet").read_bytes()
    (folder / "0020.parquet").write_bytes(content.replace(b"x" * 100, b"z" * 100, 1))
    pq.write_table(pa.table({"id": [60, 61], "said": ["a", "b"]}), folder / "0030.parquet")
    pq.write_table(pa.table({"id": [], "text": []}, table.schema), folder / "0040.parquet")
    pq.write_table(pa.table({"id": [100, 101], "text": [None, " "]}), folder / "0050.parquet")


DAMAGED = [
    ("0010.parquet", None, "read", "unreadable"),
    ("0020.parquet", None, "read", "corrupt"),
    ("0030.parquet", 0, "read", "column"),
    ("0030.parquet", 1, "read", "column"),
    ("0050.parquet", 0, "check", "null"),
    ("0050.parquet", 1, "check", "empty"),
]


def test_what_is_wrong_with_a_file_harms_no_other(tmp_path: Path, bundle: Path) -> None:
    texts = write_files(tmp_path / "in", FILES)
    damage(tmp_path / "in")
    given = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", bundle)
    done = glossator(
        "label", *given, "--key=id", "--tasks=sentiment", "--max-unreadable=2", "--json"
    )
    assert done.returncode == 0, done.stderr
    parts = str(current(tmp_path / "out") / "part-*.parquet")
    query = "SELECT id, source_file, source_row FROM read_parquet(?) ORDER BY id"
    found = duckdb.execute(query, [parts]).fetchall()
    odd = {i for name in (10, 20, 30, 40, 50) for i in (2 * name, 2 * name + 1)}
    assert found == [
        (i, str(tmp_path / "in" / f"{i // 2:04d}.parquet"), i % 2)
        for i in range(len(texts))
        if i not in odd
    ]
    rejects = pq.read_table(current(tmp_path / "out") / "_rejects").to_pylist()
    assert sorted(why(rejects), key=str) == sorted(DAMAGED, key=str)


def test_shared_parts_say_what_single_ones_do(
    tmp_path: Path, bundle: Path, small_splits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "in", FILES)
    damage(tmp_path / "in")
    tables, counts = [], []
    for few in (planning.FEW_FILES, FILES):
        monkeypatch.setattr(planning, "FEW_FILES", few)
        out = tmp_path / f"out-{few}"
        given = ("--input", tmp_path / "in", "--output", out, "--model", bundle, "--key=id")
        assert glossator("label", *given, "--max-unreadable=2").returncode == 0
        for folder in (current(out), current(out) / "_rejects"):
            parts = [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
            table = pa.concat_tables(parts).to_pylist()
            tables.append(sorted(table, key=lambda row: (row["source_file"], str(row))))
        counts.append(len(list(current(out).glob("part-*.parquet"))))
    assert tables[0] == tables[2] and tables[1] == tables[3]
    assert counts[0] < 40 and counts[1] == FILES
