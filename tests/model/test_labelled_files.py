"""Labelled rows in Parquet, CSV and JSON Lines, in files and folders: the same rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from glossator.model.errors import UsageError
from glossator.model.labelled.dataset import Dataset, load
from glossator.model.tasks import Task

TASKS = (
    Task("mood", "single", ("0", "1")),
    Task("topics", "multi", ("stock", "chat"), separator=","),
    Task("stars", "regression"),
)
ROWS: list[dict[str, Any]] = [
    {"text": "007", "mood": 1, "topics": "stock, chat", "stars": 2.5, "split": "train"},
    {"text": 'a "b",\nc', "mood": None, "topics": "chat", "stars": 3, "split": "test"},
    {"text": "2020-01-02", "mood": 0, "topics": "", "stars": None, "split": "validation"},
    {"text": "NA", "mood": 0, "topics": None, "stars": -1, "split": "train"},
]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        ".csv": as_csv,
        ".gz": lambda rows: gzip.compress(as_csv(rows)),
        ".jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    }
    if path.suffix in content:
        path.write_bytes(content[path.suffix](rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """As pandas writes it, but for the empty text, which is quoted to be no null."""
    lines = [",".join(rows[0])]
    for row in rows:
        lines.append(",".join("" if cell is None else _quoted(cell) for cell in row.values()))
    return "\n".join([*lines, ""]).encode("utf-8-sig")


def _quoted(cell: Any) -> str:
    return '"' + cell.replace('"', '""') + '"' if isinstance(cell, str) else str(cell)


def read(*where: Path, tasks: tuple[Task, ...] = TASKS, **more: Any) -> Dataset:
    return load([str(path) for path in where], tasks, "text", "split", **more)


@pytest.mark.parametrize("name", ["a.parquet", "a", "a.csv", "a.csv.gz", "A.JSONL", "a.jsonl"])
def test_every_format_holds_the_same_rows(name: str, tmp_path: Path) -> None:
    data = read(write(tmp_path / name) if name != "A.JSONL" else _upper(tmp_path))
    assert data.texts == [row["text"] for row in ROWS]
    assert data.labels["mood"].tolist() == [1, -1, 0, 0]
    assert data.labels["topics"][:3].tolist() == [[1, 1], [0, 1], [0, 0]]
    assert np.isnan(data.labels["topics"][3]).all()
    np.testing.assert_array_equal(data.labels["stars"], np.float32([2.5, 3, np.nan, -1]))
    assert data.split.tolist() == [row["split"] for row in ROWS]


def _upper(folder: Path) -> Path:
    return write(folder / "a.jsonl").rename(folder / "A.JSONL")


def test_a_folder_is_all_labelled_files_below_it(tmp_path: Path) -> None:
    for name in ("b.csv", "deep/er/a.parquet", "c.jsonl", "_tmp/d.csv", ".e.csv", "deep/_f.csv"):
        write(tmp_path / name, [{**ROWS[0], "text": name}])
    (tmp_path / "README.md").write_text("not rows")
    (tmp_path / "tasks.toml").write_text("not rows")
    assert read(tmp_path).texts == ["b.csv", "c.jsonl", "deep/er/a.parquet"]
    assert read(tmp_path / "[_d]*").texts == ["deep/er/a.parquet"]
    assert read(tmp_path / "[bc].*").texts == ["b.csv", "c.jsonl"]


def test_a_folder_may_lie_in_a_store(tmp_path: Path) -> None:
    store = MemoryFileSystem()
    for name in ("b.csv", "deep/a.parquet"):
        file = write(tmp_path / name, [{**ROWS[0], "text": name}])
        store.pipe_file(f"/labelled/{name}", file.read_bytes())
    for where in ("memory://labelled", "memory://labelled/", "memory://labelled/**"):
        data = load([where], TASKS, "text", "split")
        assert data.texts == ["b.csv", "deep/a.parquet"]


def test_types_of_a_csv_are_guessed_from_all_of_it(tmp_path: Path) -> None:
    rows = [{"text": "x" * 5000, "stars": 1, "split": "train"}] * 900
    rows += [{"text": "y", "stars": 1.5, "split": "train"}]
    stars = read(write(tmp_path / "a.csv", rows), tasks=TASKS[2:]).labels["stars"]
    assert (len(stars), stars[-1]) == (901, 1.5)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.csv.gz"])
def test_a_broken_file_is_named_with_its_format(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'{"text": \n"' if name != "a.csv" else b"text\na,b\n")
    kind = {"csv": "CSV", "jsonl": "JSON Lines", "parquet": "Parquet"}[name.split(".")[1]]
    with pytest.raises(
        UsageError, match=f"{name} (is not a readable {kind} file|has no column)"
    ) as e:
        read(tmp_path / name)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("column", ["text", "mood", "topics", "split", "lang", "source", "year"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_bytes_that_are_no_utf8_are_named_in_any_column(
    column: str, suffix: str, tmp_path: Path
) -> None:
    more = {"lang": "en", "source": "s", "year": "1999"}
    rows = [{**row, **more, "mood": "1", column: "caf?"} for row in ROWS[:1]]
    file = write(tmp_path / f"a.{suffix}", [{**row, **more, "mood": "1"} for row in ROWS] + rows)
    content = file.read_bytes()
    if suffix == "csv":
        file.write_bytes(content.replace(b"caf?", b"caf\xe9"))
    else:
        table = pq.read_table(file)
        given = table[column].to_pylist()[:-1]
        values = pa.array([*(value and value.encode() for value in given), b"caf\xe9"])
        odd = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
        at = table.column_names.index(column)
        pq.write_table(table.set_column(at, column, odd), file)
    with pytest.raises(
        UsageError, match=rf"a.{suffix}, row 4: column '{column}' .string. holds b'caf\\xe9'"
    ):
        read(file, by=["year"])


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,mood,mood\na,1,0\n")
    with pytest.raises(UsageError, match=r"a.csv has two columns 'mood'"):
        read(tmp_path / "a.csv", tasks=TASKS[:1])
    (tmp_path / "a.csv").write_text("text,mood,other,other\na,1,0,0\nb,0,0,0\n")
    assert read(tmp_path / "a.csv", tasks=TASKS[:1]).labels["mood"].tolist() == [1, 0]
