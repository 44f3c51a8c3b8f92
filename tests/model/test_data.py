"""Labelled Parquet: missing labels, splits, and what is refused with which words."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.model.data import Dataset, load
from glossator.model.errors import UsageError
from glossator.model.tasks import Task

MOOD = Task("mood", "single", ("bad", "good"))
TOPICS = Task("topics", "multi", ("stock", "news", "chat"))
STARS = Task("stars", "regression")


def write(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def read(*files: str, tasks: tuple[Task, ...] = (MOOD,)) -> Dataset:
    return load(files, tasks, "text", "split")


def test_labels_of_each_kind_and_missing_ones(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        text=["a", "b", "c", "d"],
        mood=["good", None, "bad", "good"],
        topics=[["chat", "stock"], [], None, ["news"]],
        stars=pa.array([3, None, 5, -1], pa.int16()),
        split=["train", "validation", "test", "train"],
        lang=["en", None, "zh", "en"],
        source=["x", "y", None, "x"],
    )
    data = read(file, tasks=(MOOD, TOPICS, STARS))
    assert data.texts == ["a", "b", "c", "d"]
    assert data.labels["mood"].tolist() == [1, -1, 0, 1]
    assert data.labels["topics"][[0, 1, 3]].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert np.isnan(data.labels["topics"][2]).all()
    assert data.labels["stars"][[0, 2, 3]].tolist() == [3, 5, -1]
    assert math.isnan(data.labels["stars"][1])
    assert data.split.tolist() == ["train", "validation", "test", "train"]
    assert data.lang.tolist() == ["en", "", "zh", "en"]
    assert data.source.tolist() == ["x", "y", "", "x"]
    seen = {
        task.name: task.rules.observed(data.labels[task.name]).tolist()
        for task in (MOOD, TOPICS, STARS)
    }
    assert seen == {
        "mood": [True, False, True, True],
        "topics": [True, True, False, True],
        "stars": [True, False, True, True],
    }


def test_dictionary_typed_columns_are_read_as_their_values(tmp_path: Path) -> None:
    plain = {
        "text": ["a", "b", "a", " "],
        "mood": ["good", "bad", None, "good"],
        "split": ["train", "test", "train", "train"],
        "lang": ["en", "zh", None, "en"],
    }
    encoded = {name: pa.array(values).dictionary_encode() for name, values in plain.items()}
    one = read(write(tmp_path / "a.parquet", **plain))
    other = read(write(tmp_path / "b.parquet", **encoded))
    assert one.texts == other.texts == ["a", "b", "a"]
    for name in ("split", "lang", "source"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert one.labels["mood"].tolist() == other.labels["mood"].tolist() == [1, 0, -1]


def test_blank_texts_are_dropped_with_their_labels(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        text=["", "a", None, " \t\n", "\u3000\u00a0", "b "],
        mood=["bad", "good", "bad", "bad", "bad", "good"],
        topics=[["news"], ["chat"], ["news"], ["news"], ["news"], None],
        stars=[9.0, 1.0, 9.0, 9.0, 9.0, 2.5],
    )
    data = read(file, tasks=(MOOD, TOPICS, STARS))
    assert (data.texts, data.dropped) == (["a", "b "], 4)
    assert data.labels["mood"].tolist() == [1, 1]
    assert data.labels["topics"][0].tolist() == [0, 0, 1]
    assert data.labels["stars"].tolist() == [1, 2.5]


@pytest.mark.parametrize("kind", [pa.int64(), pa.large_string(), pa.binary(), pa.int32()])
def test_a_text_column_of_another_type_is_read_as_text(tmp_path: Path, kind: pa.DataType) -> None:
    values: list[Any] = [1, 22, None] if pa.types.is_integer(kind) else ["1", "22", None]
    file = write(tmp_path / "a.parquet", text=pa.array(values, kind), mood=["bad", "good", "good"])
    data = read(file)
    assert (data.texts, data.dropped) == (["1", "22"], 1)


def test_several_files_one_without_a_task_follow_each_other_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", text=["b1", "b2"], stars=[1.0, 2.0], split=["train", "test"])
    write(tmp_path / "a.parquet", text=["a1", None], mood=["good", "bad"])
    data = read(
        str(tmp_path / "*.parquet"), str(tmp_path / "b.parquet"), tasks=(MOOD, TOPICS, STARS)[::2]
    )
    assert (data.texts, data.dropped) == (["a1", "b1", "b2"], 1)
    assert data.labels["mood"].tolist() == [1, -1, -1]
    assert np.isnan(data.labels["stars"]).tolist() == [True, False, False]
    assert data.split.tolist()[1:] == ["train", "test"]


def test_files_are_read_in_the_order_of_their_names_each_once(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{c}.parquet", text=[c], mood=["good"]) for c in "fbdace"]
    assert read(*files, str(tmp_path / "*.parquet"), files[0]).texts == list("abcdef")


def test_local_name_is_never_a_chain_of_urls(tmp_path: Path) -> None:
    file = write(tmp_path / "std::string.parquet", text=["a"], mood=["good"])
    for pattern in (file, str(tmp_path / "*.parquet")):
        assert read(pattern).texts == ["a"]


def test_a_missing_split_is_chosen_by_a_hash_of_the_text(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(2000)]
    file = write(tmp_path / "a.parquet", text=texts, mood=["good"] * 2000)
    data = read(file)
    shares = [
        int(hashlib.blake2b(t.encode(), digest_size=8).hexdigest(), 16) / 2**64 for t in texts
    ]
    assert data.split.tolist() == ["validation" if s < 0.1 else "train" for s in shares]
    assert 0.07 < (data.split == "validation").mean() < 0.13
    # in another order, in other company, in a file that has the column
    other = write(
        tmp_path / "b.parquet",
        text=["new", *texts[::-1]],
        mood=["bad"] * 2001,
        split=["test", *[None, ""] * 1000],
    )
    again = read(other)
    assert again.split.tolist() == ["test", *data.split.tolist()[::-1]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.booleans(), min_size=6, max_size=6))
def test_selected_rows_keep_their_labels(rows: list[int], mask: list[bool]) -> None:
    data = Dataset(
        texts=list("abcdef"),
        labels={"mood": np.arange(6), "topics": np.arange(12.0).reshape(6, 2)},
        split=np.array(["train", "test"] * 3),
        lang=np.array(list("uvwxyz")),
        source=np.array(list("123456")),
    )
    for chosen, index in (
        (np.array(rows, int), rows),
        (np.array(mask), [i for i in range(6) if mask[i]]),
    ):
        part = data.select(chosen)
        assert part.texts == ["abcdef"[i] for i in index]
        assert len(part) == len(index)
        assert part.labels["mood"].tolist() == index
        assert part.labels["topics"].tolist() == [[2 * i, 2 * i + 1] for i in index]
        assert part.split.tolist() == [["train", "test"][i % 2] for i in index]
        assert part.lang.tolist() == ["uvwxyz"[i] for i in index]
        assert part.source.tolist() == ["123456"[i] for i in index]


@pytest.mark.parametrize(
    ("task", "values", "words"),
    [
        (
            MOOD,
            ["good", "awful"],
            r"row 1: column 'mood' \(string\) holds 'awful', which is no label of the task: its "
            "labels are bad, good",
        ),
        (MOOD, [1, 0], r"'mood' \(int64\) holds 1, which is no label"),
        (
            TOPICS,
            [["news", "sport"], []],
            r"row 0: .* holds 'sport', which is no label of the task: its labels are stock, news",
        ),
        (TOPICS, [[], ["news", None]], "row 1: .* holds a null within a list"),
        (TOPICS, [3, 4], "'topics' .int64. is no list of labels"),
        (TOPICS, ["news", "chat"], "'topics' .string. is no list of labels; .* name the separator"),
        (MOOD, [["good"], []], "'mood' .list.* holds neither text nor numbers nor booleans"),
        (STARS, ["5", "4"], "'stars' \\(string\\) is not a number"),
        (STARS, [True, False], "'stars' \\(bool\\) is not a number"),
    ],
)
def test_a_value_that_is_no_label_is_named(
    tmp_path: Path, task: Task, values: list[Any], words: str
) -> None:
    file = write(tmp_path / "a.parquet", text=["a", "b"], **{task.name: values})
    with pytest.raises(UsageError, match=words) as error:
        read(file, tasks=(task,))
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_numbers_too_large_for_a_float_are_rounded(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["a", "b"], stars=[2**24 + 1, None])
    assert read(file, tasks=(STARS,)).labels["stars"][0] == 2**24


def test_a_split_of_another_name_is_refused(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet", text=["a", "b"], mood=["bad", "good"], split=["train", "dev"]
    )
    with pytest.raises(
        UsageError,
        match=r"row 1: column 'split' .string. holds 'dev'; a split is train, valid.*name another",
    ):
        read(file)
    file = write(tmp_path / "b.parquet", text=["a"], mood=["bad"], split=["validation2"])
    with pytest.raises(UsageError, match=r"column 'split' .* holds 'validation2'"):
        read(file)


def test_a_missing_text_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", comment=["a"], mood=["bad"])
    with pytest.raises(UsageError, match=r"a.parquet has no column 'text'; it has comment, mood"):
        read(file)


def test_a_text_column_that_is_no_text_is_refused(tmp_path: Path) -> None:
    lists = write(tmp_path / "a.parquet", text=[["a"]], mood=["bad"])
    with pytest.raises(UsageError, match=r"a.parquet: column 'text' \(list.* is no text"):
        read(lists)
    latin = write(tmp_path / "b.parquet", text=[b"ok", b"\xe9t\xe9"], mood=["bad", "bad"])
    with pytest.raises(UsageError, match=r"b.parquet, row 1: .*'text' .binary. holds b'.*no UTF-8"):
        read(latin)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 is not enough PAR1")
    with pytest.raises(UsageError, match=r"broken.parquet is not a readable Parquet file"):
        read(str(broken))
    (tmp_path / "empty").mkdir()
    for missing in (tmp_path / "none.parquet", tmp_path / "*.none", tmp_path / "empty"):
        with pytest.raises(UsageError, match=r"no file matches .*; give Parquet, CSV or JSON Li"):
            read(str(missing))


def test_data_that_teaches_nothing_is_refused(tmp_path: Path) -> None:
    blank = write(tmp_path / "blank.parquet", text=["", None], mood=["bad", "good"])
    with pytest.raises(UsageError, match="no row with a text in column 'text'"):
        read(blank)
    other = write(tmp_path / "other.parquet", text=["a"], mood=pa.array([None], pa.string()))
    for task in (MOOD, TOPICS, STARS):
        with pytest.raises(
            UsageError, match=f"task '{task.name}': no row has a label; add a column"
        ):
            read(other, tasks=(task,))
