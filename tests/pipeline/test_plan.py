from __future__ import annotations

import os
import pickle
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.model.errors import UsageError
from glossator.pipeline.plan import CUTS_PER_ROW_GROUP, Plan, make_plan, row_ranges


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


def test_finds_folders_globs_and_files_once_in_order(tmp_path: Path) -> None:
    for name in ["b.parquet", "a.parquet", "x/c.parquet", "_rejects/d.parquet", ".e.parquet"]:
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not data")
    visible = [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "x/c.parquet")]

    def found(*inputs: object) -> list[str]:
        return [source.uri for source in plan(*inputs).sources]

    assert found(tmp_path) == visible
    assert found(tmp_path, tmp_path / "b.parquet", tmp_path / "*.parquet") == visible
    assert found(tmp_path / "*.parquet") == visible[:2]
    assert found(tmp_path / "**" / "*.parquet") == visible
    assert found(tmp_path / "?") == visible[2:]
    assert found(tmp_path / "_rejects" / "*.parquet") == [str(tmp_path / "_rejects/d.parquet")]
    assert found(tmp_path / ".e.parquet") == [str(tmp_path / ".e.parquet")]
    assert found(f"file://{tmp_path}/a.parquet") == visible[:1]


def test_file_with_the_characters_of_a_glob(tmp_path: Path) -> None:
    path = write(tmp_path / "a[1].parquet")
    assert [source.uri for source in plan(path).sources] == [str(path)]


def test_links_are_followed_to_files(tmp_path: Path) -> None:
    target = write(tmp_path / "elsewhere" / "a.parquet", rows=5)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.parquet").symlink_to(target)
    for item in (tmp_path / "in", tmp_path / "in" / "*", tmp_path / "in" / "b.parquet"):
        (source,) = plan(item).sources
        assert (source.rows, source.size) == (5, target.stat().st_size)
    (tmp_path / "in" / "b.parquet").rename(tmp_path / "in" / "b.pq")
    (tmp_path / "in" / "c.parquet").symlink_to(tmp_path / "in")  # a folder, and a loop
    (source,) = plan(tmp_path / "in" / "*.pq").sources
    assert source.rows == 5
    with pytest.raises(UsageError, match="no Parquet file is there"):
        plan(tmp_path / "in")


def test_remote_store(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    path = write(tmp_path / "a.parquet")
    fs.pipe_file("/plan/in/a.parquet", path.read_bytes())
    try:
        result = plan("memory://plan/in", keys=("id",))
        assert [s.uri for s in result.sources] == ["memory:///plan/in/a.parquet"]
        assert result.run_id == plan("memory://plan/in/*.parquet", keys=("id",)).run_id
    finally:
        fs.rm("/plan", recursive=True)


def test_folder_that_may_not_be_listed_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "deep" / "secret" / "b.parquet")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if "secret" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    for item in (tmp_path, tmp_path / "**" / "*.parquet"):
        with pytest.raises(UsageError, match=r"access denied.*check the permissions"):
            plan(item)


def test_no_match_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    (tmp_path / "empty").mkdir()
    for name in ("b.parquet", "b*.parquet", "empty", "none/*.parquet", "a.parquet/x"):
        with pytest.raises(UsageError, match=r"no Parquet file is there: check the spelling"):
            plan(tmp_path / "a.parquet", tmp_path / name)
    with pytest.raises(UsageError, match="no input was given"):
        plan()
    with pytest.raises(UsageError, match="foo://x: Protocol not known"):
        plan("foo://x")


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
