"""Columns of the text and the keys over many files, through the command: rows and types kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from column_runs import Label, texts, why, write
from command_lines import glossator

from glossator.pipeline.tables import label_table


def test_odd_files_are_rejected_row_by_row(tmp_path: Path, label: Label) -> None:
    folder = tmp_path / "in"
    write(folder / "a.parquet", {"text": texts(3), "id": [1, 2, 3]})
    write(folder / "b.parquet", {"text": pa.nulls(2), "id": [4, 5]})
    write(folder / "c.parquet", {"said": texts(2), "id": [6, 7]})
    write(folder / "d.parquet", {"text": [1.5], "id": [8]})
    write(folder / "e.parquet", {"text": texts(2)})
    write(folder / "f.parquet", {"text": texts(1), "id": ["nine"]})
    write(folder / "g.parquet", {"text": pa.array([], pa.string()), "id": pa.array([], pa.int64())})
    pq.write_table(pa.table({}), folder / "h.parquet")
    pq.write_table(pa.table({"n": [1]}).select([]), folder / "i.parquet")
    table, rejects = label("--key=id")
    assert table["id"].to_pylist() == [1, 2, 3]
    assert why(rejects) == [
        ("b.parquet", 0, "check", "null"),
        ("b.parquet", 1, "check", "null"),
        ("c.parquet", 0, "read", "column"),
        ("c.parquet", 1, "read", "column"),
        ("d.parquet", 0, "read", "column"),
        ("e.parquet", 0, "read", "column"),
        ("e.parquet", 1, "read", "column"),
        ("f.parquet", 0, "read", "column"),
    ]
    details = {Path(row["source_file"]).name: row["detail"] for row in rejects}
    assert details["c.parquet"] == "no column 'text'; its columns are said, id"
    assert details["d.parquet"] == "column 'text' is double, not text"
    assert details["e.parquet"] == "no column 'id'; its columns are text"
    assert details["f.parquet"] == "column 'id' is string, but int64 in other files"


@pytest.mark.parametrize(
    ("odd", "cause"),
    [
        ({"said": ["x"], "id": [1]}, "b.parquet: no column 'text'"),
        ({"text": ["x"], "id": ["one"]}, "b.parquet: column 'id' is string, but int64 in other"),
        (None, "b.parquet can't be read: no Parquet footer"),
    ],
)
def test_strict_refuses_an_odd_file_before_work(
    tmp_path: Path, refused: Callable[..., str], odd: dict[str, Any] | None, cause: str
) -> None:
    write(tmp_path / "in" / "a.parquet", {"text": texts(3), "id": [1, 2, 3]})
    if odd is None:
        (tmp_path / "in" / "b.parquet").write_bytes(b"nothing")
    else:
        write(tmp_path / "in" / "b.parquet", odd)
    assert cause in refused("--key=id", "--strict")


def test_typo_in_a_name_is_an_error_with_the_name_that_was_meant(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    for name in "ab":
        write(tmp_path / "in" / f"{name}.parquet", {"comment_text": texts(1), "User": [1]})
    error = refused("--text=coment_text")
    assert "none of the 2 files fits" in error and "did you mean 'comment_text'?" in error
    error = refused("--key=user")
    assert "no column 'user'; its columns are comment_text, User; did you mean 'User'?" in error


def test_text_is_guessed_by_most_rows_and_not_by_the_first_file(
    tmp_path: Path, label: Label
) -> None:
    write(tmp_path / "in" / "a.parquet", {"author": texts(1), "note": texts(1)})
    write(tmp_path / "in" / "b.parquet", {"author": texts(4), "comment": texts(4)})
    table, rejects = label()
    assert table.num_rows == 4 and why(rejects) == [("a.parquet", 0, "read", "column")]


def test_most_rows_decide_where_types_do_not_promote(tmp_path: Path, label: Label) -> None:
    write(tmp_path / "in" / "a.parquet", {"text": texts(1), "id": ["x"]})
    write(tmp_path / "in" / "b.parquet", {"text": texts(2), "id": [1, 2]})
    table, rejects = label("--key=id")
    assert table["id"].to_pylist() == [1, 2]
    assert why(rejects) == [("a.parquet", 0, "read", "column")]


def test_key_that_is_not_utf8_is_a_reject(tmp_path: Path, label: Label) -> None:
    raw = pa.array([b"ann", b"caf\xe9", None], pa.binary())
    who = pa.Array.from_buffers(pa.string(), 3, raw.buffers(), 1)
    names = pa.ListArray.from_arrays([0, 1, 2, 2], who)
    write(tmp_path / "in" / "a.parquet", {"text": [None, "good", "bad"], "who": who})
    table, rejects = label("--key=who")
    assert table["who"].to_pylist() == [None]
    assert why(rejects)[1] == ("a.parquet", 1, "read", "key")
    assert rejects[1]["detail"] == r"who: b'caf\xe9' is not UTF-8" and rejects[1]["who"] is None
    write(tmp_path / "in" / "a.parquet", {"text": ["a", "b", "c"], "names": names})
    table, rejects = label("--key=names")
    assert table["names"].to_pylist() == [["ann"], []]
    assert why(rejects) == [("a.parquet", 1, "read", "key")]


def test_row_with_no_text_and_a_key_that_is_lost_names_the_key(
    tmp_path: Path, label: Label
) -> None:
    write(tmp_path / "in" / "a.parquet", {"text": [None, "x"], "id": [2**53 + 1, 1]})
    write(tmp_path / "in" / "b.parquet", {"text": ["y"], "id": [0.5]})
    _, rejects = label("--key=id")
    assert why(rejects) == [("a.parquet", 0, "read", "key")]
    assert str(2**53 + 1) in rejects[0]["detail"]


PARTITIONS = [
    ["2026-11-24", "2026-11-25"],
    ["1", "-20", "007"],
    ["1", "2147483648"],
    ["a%20b%2Fc", "1"],
    ["1", "__HIVE_DEFAULT_PARTITION__"],
]


@pytest.mark.parametrize("values", PARTITIONS)
def test_hive_partition_is_a_key(tmp_path: Path, label: Label, values: Sequence[str]) -> None:
    for i, value in enumerate(values):
        write(tmp_path / "in" / f"k={value}" / "x.parquet", {"text": texts(1), "n": [i]})
    table, rejects = label("--key=k", "--key=n")
    assert not rejects
    arrow = ds.dataset(tmp_path / "in", partitioning="hive").to_table()
    given = pa.large_string() if arrow["k"].type == pa.string() else arrow["k"].type
    assert table.schema.field("k").type == given
    want = dict(zip(arrow["n"].to_pylist(), arrow["k"].to_pylist(), strict=True))
    assert dict(zip(table["n"].to_pylist(), table["k"].to_pylist(), strict=True)) == want
    query = f"SELECT n, k FROM read_parquet('{tmp_path}/in/*/*.parquet', hive_partitioning=true)"
    duck = {n: None if k is None else str(k) for n, k in duckdb.sql(query).fetchall()}
    if "007" not in values:  # which DuckDB takes as text
        assert {n: None if k is None else str(k) for n, k in want.items()} == duck


def test_column_wins_over_the_partition_of_its_name(tmp_path: Path, label: Label) -> None:
    day = pa.array([20_000], pa.date32())
    write(tmp_path / "in" / "day=2001-01-01" / "x.parquet", {"text": texts(1), "day": day})
    write(tmp_path / "in" / "day=2026-11-24" / "y.parquet", {"text": texts(1)})
    write(tmp_path / "in" / "day=never" / "z.parquet", {"text": texts(1)})
    table, rejects = label("--key=day")
    assert table.schema.field("day").type == pa.date32()
    days = [str(day) for day in table["day"].to_pylist()]
    assert days == ["2024-10-04", "2026-11-24"]  # 20,000 days after 1970 began
    assert why(rejects) == [("z.parquet", 0, "read", "column")]
    assert rejects[0]["detail"].startswith("partition day=never is not date32")


def test_name_of_two_columns_is_a_misfit(tmp_path: Path, label: Label) -> None:
    write(tmp_path / "in" / "a.parquet", {"text": texts(2), "id": [1, 2]})
    twice = pa.Table.from_arrays([pa.array(["x"]), *([pa.array([3])] * 2)], ["text", "id", "id"])
    pq.write_table(twice, tmp_path / "in" / "b.parquet")
    table, rejects = label("--key=id")
    assert table["id"].to_pylist() == [1, 2]
    assert [row["detail"] for row in rejects] == ["2 columns 'id'"]
    assert label()[0].num_rows == 3


def test_struct_fields_as_text_and_key(tmp_path: Path, label: Label) -> None:
    comment = [{"body": "good", "n": {"id": 1}}, None, {"body": None, "n": None}, {"body": "bad"}]
    write(tmp_path / "in" / "a.parquet", {"comment": comment, "other": texts(4)})
    table, rejects = label("--text=comment.body", "--key=comment.n.id", "--key=comment.n")
    assert table.column_names[:2] == ["comment.n.id", "comment.n"]
    assert table["comment.n.id"].to_pylist() == [1, None]
    assert table["comment.n"].to_pylist() == [{"id": 1}, None]
    assert why(rejects) == [("a.parquet", i, "check", "null") for i in (1, 2)]


def test_flat_column_wins_over_the_struct_field(tmp_path: Path, label: Label) -> None:
    user = [{"id": 1}, {"id": 2}]
    columns = {"user": user, "user.id": ["x", "y"], "text": texts(2), "text.raw": [3, 4]}
    write(tmp_path / "in" / "a.parquet", columns)
    table, _ = label("--key=user.id", "--key=user")
    assert table["user.id"].to_pylist() == ["x", "y"] and table["user"].to_pylist() == user


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.binary())], ids=str)
def test_list_of_texts_is_joined_by_newlines(
    tmp_path: Path, label: Label, kind: pa.DataType, labeller: Any
) -> None:
    lists = [["good", None, "很好"], None, [], [None], ["bad"]]
    write(tmp_path / "in" / "a.parquet", {"said": pa.array(lists, kind)})
    table, rejects = label("--text=said")
    assert [(row["source_row"], row["reason"]) for row in rejects] == [
        (1, "null"),
        (2, "empty"),
        (3, "empty"),
    ]
    joined, said = "good\n很好", table["sentiment"][0].as_py()
    assert all(joined[w["start"] : w["end"]] == w["text"] for w in said["attention"])
    alone = labeller.label([joined], 5).tasks[0].probabilities[0].max()
    assert said["confidence"] == pytest.approx(float(alone))


@pytest.mark.parametrize("key", ["Sentiment", "SOURCE_ROW", "Reason", "ID"])
def test_keys_that_collide_but_for_case_are_refused(
    tmp_path: Path, refused: Callable[..., str], key: str
) -> None:
    write(tmp_path / "in" / "a.parquet", {"text": texts(1), key: [1], "id": [2]})
    assert f"'{key}'" in refused("--key=id", f"--key={key}")
    assert "is given twice" in refused("--key=id", "--key=id")


def test_name_that_is_not_utf8_is_a_misfit(
    tmp_path: Path, label: Label, refused: Callable[..., str]
) -> None:
    path = tmp_path / "in" / "a.parquet"
    write(path, {"text": texts(2), "naive": [1, 2]}, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"naive", b"na\xefve"))
    assert r"a.parquet: a column's name is not UTF-8: b'na\xefve'" in refused()
    write(tmp_path / "in" / "b.parquet", {"text": texts(1)})
    table, rejects = label()
    assert table.num_rows == 1
    assert why(rejects) == [("a.parquet", i, "read", "column") for i in (0, 1)]


def test_tables_take_the_same_columns_as_the_command(labeller: Any) -> None:
    lists = pa.table({"said": [["good", "bad"], None], "n": [1, 2]})
    fields = pa.table({"c": [{"said": "good\nbad"}, None], "n": [1, 2]})
    tables = [label_table(labeller, lists, "said"), label_table(labeller, fields, "c.said")]
    for labelled, rejected in tables:
        assert labelled["n"].to_pylist() == [1]
        assert rejected.select(["n", "reason"]).to_pylist() == [{"n": 2, "reason": "null"}]
    assert tables[0].labelled["sentiment"].equals(tables[1].labelled["sentiment"])
    empty = label_table(labeller, pa.table({"text": pa.nulls(2), "id": ["a", "b"]}))
    assert empty.rejected["reason"].to_pylist() == ["null", "null"]


def test_examples_of_a_struct_field_are_shown(tmp_path: Path, bundle: Path) -> None:
    write(tmp_path / "in" / "a.parquet", {"c": [{"said": "a lovely taste"}], "id": [1]})
    given = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", bundle)
    done = glossator("label", *given, "--text=c.said", "--key=id", "--show=1")
    assert done.returncode == 0 and "lovely" in done.stdout
