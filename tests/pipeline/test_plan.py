from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.model.errors import UsageError
from glossator.pipeline.inputs.plan import CUTS_PER_ROW_GROUP, Plan, make_plan, row_ranges


def write(path: Path, rows: int = 3, **columns: pa.Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns or {"id": range(rows), "text": [f"row {i}" for i in range(rows)]})
    pq.write_table(table, path)
    return path


def plan(*inputs: object, text: str | None = None, keys: tuple[str, ...] = (), **more: int) -> Plan:
    return make_plan([str(i) for i in inputs], text=text, keys=keys, identity="m", **more)


@given(st.lists(st.integers(0, 700), max_size=12), st.integers(1, 150))
def test_ranges_tile_every_layout(row_groups: list[int], rows_per_split: int) -> None:
    ranges = row_ranges(row_groups, rows_per_split)
    rows = [row for start, stop in ranges for row in range(start, stop)]
    assert rows == list(range(sum(row_groups)))
    assert all(start < stop for start, stop in ranges) or ranges == [(0, 0)]


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.integers(1, 150))
def test_ranges_are_aligned_and_even(row_groups: list[int], rows_per_split: int) -> None:
    edges = {sum(row_groups[:i]) for i in range(len(row_groups) + 1)}
    group_of = [i for i, rows in enumerate(row_groups) for _ in range(rows)]
    pieces: dict[int, list[int]] = {}
    for start, stop in row_ranges(row_groups, rows_per_split):
        if start in edges and stop in edges:  # whole row groups, or one that is hardly larger
            assert stop - start <= rows_per_split * 1.5
        else:
            assert group_of[start] == group_of[stop - 1]
            pieces.setdefault(group_of[start], []).append(stop - start)
    for sizes in pieces.values():
        assert len(sizes) <= CUTS_PER_ROW_GROUP
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("row_groups", "expected"),
    [
        ([], [(0, 0)]),
        ([0, 0], [(0, 0)]),
        ([40, 40, 40, 40], [(0, 80), (80, 160)]),
        ([140], [(0, 140)]),
        ([300], [(0, 100), (100, 200), (200, 300)]),
        ([10, 250, 10], [(0, 10), (10, 93), (93, 176), (176, 260), (260, 270)]),
    ],
)
def test_ranges_by_hand(row_groups: list[int], expected: list[tuple[int, int]]) -> None:
    assert row_ranges(row_groups, 100) == expected


def test_unreadable_files_become_error_splits(tmp_path: Path) -> None:
    good = write(tmp_path / "a.parquet")
    content = good.read_bytes()
    (tmp_path / "b.parquet").write_bytes(b"")
    (tmp_path / "c.parquet").write_bytes(content[:-20])
    (tmp_path / "d.parquet").write_bytes(b"id,text\n1,hello\n" * 10)
    damaged = bytearray(content)
    damaged[-100:-50] = b"\xff" * 50
    (tmp_path / "e.parquet").write_bytes(damaged)
    result = plan(tmp_path, text="text", keys=("id",))
    for source, split in zip(result.sources[1:], result.splits[1:], strict=True):
        (range_,) = split.ranges
        assert source.error and range_.error == source.error and "\n" not in source.error
        assert (source.rows, range_.start, range_.stop, range_.source) == (0, 0, 0, source.uri)
    assert result.sources[0].error is None and result.splits[0].ranges[0].error is None
    assert len({split.name for split in result.splits}) == 5


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match=r"none of the 1 input files .*a\.parquet: no Parquet foo"):
        plan(tmp_path)


def test_file_without_rows_has_a_split(tmp_path: Path) -> None:
    (split,) = plan(write(tmp_path / "a.parquet", rows=0, text=pa.array([], pa.string()))).splits
    (range_,) = split.ranges
    assert (range_.start, range_.stop, range_.error) == (0, 0, None)


def test_large_footer_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    wide = {f"column_{i:04d}": pa.array([i]) for i in range(1500)}
    pq.write_table(pa.table({**wide, "text": ["hello"]}), path)
    assert int.from_bytes(path.read_bytes()[-8:-4], "little") > 64 << 10
    assert plan(path).sources[0].rows == 1


def test_names_follow_from_input_and_model_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    before = plan(path, keys=("id",), rows_per_split=1)
    assert pickle.loads(pickle.dumps(before)) == before

    os.utime(path, ns=(1, 1))
    touched = plan(path, keys=("id",), rows_per_split=1)
    assert [s.name for s in touched.splits] == [s.name for s in before.splits]
    assert touched.run_id != before.run_id

    write(path, text=pa.array(["x", "y", "z"]), id=pa.array([0, 1, 2]))
    changed = plan(path, keys=("id",), rows_per_split=1)
    other = make_plan([str(path)], text=None, keys=["id"], identity="n", rows_per_split=1)
    names = [{s.name for s in p.splits} for p in (before, changed, other)]
    names.append({s.name for s in plan(path, rows_per_split=1).splits})
    assert len(set.union(*names)) == 3 * 4
