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

from glossator.model.errors import UsageError
from glossator.model.labelled.dataset import Dataset, load
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
    # what a reader would call the same text is never torn apart
    same = [f" Text  NUMBER {i}" for i in range(2000)]
    file = write(tmp_path / "c.parquet", text=same, mood=["good"] * 2000)
    assert read(file).split.tolist() == data.split.tolist()
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


# ---------------------------------------------------------------- columns of other names and forms


def test_a_task_reads_the_column_that_it_names(tmp_path: Path) -> None:
    task = Task("mood", "single", ("bad", "good"), column="user-mood")
    named = {"user-mood": ["good", "bad"]}
    write(tmp_path / "a.parquet", text=["a", "b"], mood=["x", "y"], **named)
    write(tmp_path / "b.parquet", text=["c"])
    assert read(str(tmp_path), tasks=(task,)).labels["mood"].tolist() == [1, 0, -1]
    with pytest.raises(UsageError, match=r"task 'mood': no file has a column 'user-mood'; there a"):
        read(str(tmp_path / "b.parquet"), tasks=(task,))
    for column in ("text", "split"):
        with pytest.raises(UsageError, match=f"labels can't stand in column '{column}'"):
            read(str(tmp_path), tasks=(Task("mood", "single", ("a", "b"), column=column),))


def test_a_multi_task_reads_a_column_for_each_label(tmp_path: Path) -> None:
    task = Task("themes", "multi", ("price", "taste"), columns=("is_price", "is_taste"))
    write(
        tmp_path / "a.parquet",
        text=["a", "b", "", "c", "d"],
        is_taste=pa.array([1, 0, 7, None, None], pa.int8()),
        is_price=[True, False, True, True, None],
    )
    write(tmp_path / "b.parquet", text=["e"])
    data = read(str(tmp_path), tasks=(task,))
    assert data.labels["themes"][:2].tolist() == [[1, 1], [0, 0]]
    assert np.isnan(data.labels["themes"][2:]).all()
    (partly, _) = data.notes
    assert partly.endswith("1 rows with only some of the columns of task 'themes' count as missing")
    write(tmp_path / "b.parquet", text=["e"], is_price=[1.0])
    with pytest.raises(UsageError, match="has no column 'is_taste', but other columns of"):
        read(str(tmp_path), tasks=(task,))
    write(tmp_path / "b.parquet", text=["", "e"], is_price=[1, 1], is_taste=[1, 2])
    with pytest.raises(
        UsageError, match=r"b.parquet, row 1: .* holds 2 in 'is_taste', which is neither 0 nor 1"
    ):
        read(str(tmp_path), tasks=(task,))


def test_labels_joined_in_a_text_are_parted(tmp_path: Path) -> None:
    task = Task("topics", "multi", TOPICS.labels, separator="|")
    values = ["news| chat", "", None, "chat|"]
    data = read(write(tmp_path / "a.parquet", text=list("abcd"), topics=values), tasks=(task,))
    assert data.labels["topics"][[0, 1, 3]].tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert np.isnan(data.labels["topics"][2]).all()
    wrong = write(tmp_path / "b.parquet", text=["a", "b"], topics=["news", "news|sport"])
    with pytest.raises(UsageError, match=r"b.parquet, row 1: .* holds 'sport', which is no label"):
        read(wrong, tasks=(task,))


def test_rows_are_counted_as_the_file_has_them(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["", None, "a", "b"], mood=["x", "x", "bad", "worse"])
    with pytest.raises(UsageError, match=r"a.parquet, row 3: column 'mood' .* holds 'worse'"):
        read(file)


def test_infinity_is_named_with_its_row(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["a", "b"], stars=[1.0, math.inf])
    with pytest.raises(UsageError, match=r"row 1: column 'stars' .double. holds inf, which is inf"):
        read(file, tasks=(STARS,))


def test_weights_are_read_beside_the_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", text=["a", "", "b"], mood=["bad"] * 3, w=[2, 3, None])
    write(tmp_path / "b.parquet", text=["c"], mood=["good"])
    data = load([str(tmp_path)], (MOOD,), "text", "split", weight="w")
    assert data.weight is not None
    assert data.weight.tolist() == [2, 1, 1]
    part = data.select(np.array([0])).weight
    assert part is not None
    assert part.tolist() == [2]
    assert read(str(tmp_path)).weight is None
    with pytest.raises(UsageError, match="no file has a column 'weight'"):
        load([str(tmp_path)], (MOOD,), "text", "split", weight="weight")
    for values, words in (
        ([1.0, -1.0], "row 1: .*holds -1; a weight is"),
        (["a", "b"], "not a num"),
    ):
        write(tmp_path / "b.parquet", text=["c", "d"], mood=["good"] * 2, w=values)
        with pytest.raises(UsageError, match=words):
            load([str(tmp_path)], (MOOD,), "text", "split", weight="w")


def test_further_columns_are_read_as_text(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["a", "b"], mood=["bad"] * 2, year=[1999, None])
    data = load([file], (MOOD,), "text", "split", by=["year", "lang"])
    assert data.columns["year"].tolist() == ["1999", ""]
    assert data.select(np.array([1, 0])).columns["year"].tolist() == ["", "1999"]
    with pytest.raises(UsageError, match="no file has a column 'month'; there are mood, text, y"):
        load([file], (MOOD,), "text", "split", by=["month"])


def test_a_task_without_labels_may_be_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["a"], mood=["bad"])
    tasks = (MOOD, STARS, Task("age", "regression", column="years"))
    data = load([file], tasks, "text", "split", allow_missing=True)
    assert list(data.labels) == ["mood"]


# ---------------------------------------------------------------- splits


def test_a_split_column_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", text=["a", "b"], mood=["bad"] * 2, fold=["test", "train"])
    write(tmp_path / "b.parquet", text=["c"], mood=["bad"])
    with pytest.raises(UsageError, match="no file has a column 'spilt'; there are fold, mood, te"):
        load([str(tmp_path)], (MOOD,), "text", "spilt")
    assert load([str(tmp_path)], (MOOD,), "text", "fold").split.tolist()[0] == "test"
    assert read(str(tmp_path)).notes == (
        "no column 'split' in 2 of 2 files: a tenth of 3 rows is held out for validation",
    )


def test_without_validation_rows_a_tenth_of_train_is_held_out(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(900)]
    split = ["train", "train", "test"] * 300
    data = read(write(tmp_path / "a.parquet", text=texts, mood=["good"] * 900, split=split))
    shares = [
        int(hashlib.blake2b(t.encode(), digest_size=8).hexdigest(), 16) / 2**64 for t in texts
    ]
    assert data.split.tolist() == [
        "validation" if given == "train" and share < 0.1 else given
        for given, share in zip(split, shares, strict=True)
    ]
    assert data.notes == ("no row of split validation: a tenth of train is held out for it",)


def test_all_rows_are_of_test_where_splits_do_not_matter(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["a", "b"], mood=["bad"] * 2, split=["x", "train"])
    data = load([file], (MOOD,), "text", None)
    assert (data.split.tolist(), data.notes) == (["test", "test"], ())


def test_test_rows_that_leak_are_left_out(tmp_path: Path) -> None:
    rows: list[tuple[str, str | None, float | None, str]] = [
        ("one", "bad", 1.0, "train"),
        ("ONE  ", "bad", 1.0, "test"),  # also in train
        ("two", "bad", 1.0, "test"),
        ("two", "good", 1.0, "test"),  # contradicts
        ("three", "bad", 1.0, "test"),
        ("three", None, 5.0, "test"),  # two numbers are no contradiction
        ("four", "bad", 1.0, "train"),
        ("four", "good", 1.0, "train"),  # contradicts, but not in test
        ("ｆｉｖｅ", "good", 1.0, "validation"),
        ("five", "good", 1.0, "train"),
    ]
    columns = dict(zip(("text", "mood", "stars", "split"), zip(*rows, strict=True), strict=True))
    file = write(tmp_path / "a.parquet", **{name: list(c) for name, c in columns.items()})
    data = read(file, tasks=(MOOD, STARS))
    assert data.texts == [row[0] for i, row in enumerate(rows) if i not in (1, 2, 3)]
    counts = {"in_two_splits": 2, "contradicting": 2, "affected": 3}
    assert data.leaks.to_json() == {**counts, "kept_out": 3}
    assert data.notes == (
        "2 texts stand in more than one split",
        "2 texts carry labels that contradict each other",
        "3 test rows with such texts are left out",
    )
    kept = load([file], (MOOD, STARS), "text", "split", allow_leaks=True)
    assert len(kept) == len(rows)
    assert kept.leaks.to_json() == {**counts, "kept_out": 0}
    assert kept.notes[2] == "3 test rows with such texts are measured on all the same"
    assert load([file], (STARS,), "text", "split").leaks.contradicting == 0


def test_lists_that_differ_contradict_each_other(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        text=["a", "a", "b", "b", "b"],
        topics=[["news"], ["news", "chat"], ["chat", "news"], ["news", "chat"], None],
        split=["test"] * 5,
    )
    data = read(file, tasks=(TOPICS,))
    assert data.texts == ["b", "b", "b"]
    assert (data.leaks.contradicting, data.leaks.kept_out) == (1, 2)
