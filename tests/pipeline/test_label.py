from __future__ import annotations

import random
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_comments import answer_alone, make_comments, write_comments

from glossator.model.bundle import load
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.model.native.engine import NativeEngine
from glossator.model.tasks import Task, select_tasks
from glossator.pipeline.inputs.columns import Columns
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.label import SplitLabelling, Tally, label_split, label_texts
from glossator.pipeline.outputs.schema import output_schema, task_type

ODD = [
    "😀 good 👍🏽👩‍👩‍👧 service",
    "很好，这个味道我很喜欢！",
    "ﬁne ﬀort Ⅻ ㎏ ① ｇｏｏｄ ﾊﾞｶﾞ",  # NFKC changes every word
    "cafe\u0301 é é\u0323 Å ﷺ",
    "  \t good\n\nbad \u3000",
    "a",
    "。",
    "𠀀𠀁 good 한국어 ราคา",
    "don't we'll it's",
    "x" * 20_000,
    " ".join(["bad"] * 500),
    "\x00nul\x00",
    "e\u0301" * 40,
]


def by_task(model: Labeller, columns: list[pa.StructArray]) -> list[dict[str, Any]]:
    """Rows of the answers, as Python holds them."""
    names = [task.name for task in model.tasks]
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def label(model: Labeller, texts: pa.Array, top: int = 5) -> list[dict[str, Any]]:
    return by_task(model, label_texts(model, texts, top, Tally()))


def large(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def test_a_batch_says_what_each_text_alone_would(labeller: Labeller) -> None:
    texts = [*make_comments(400, seed=5), *ODD]
    random.Random(2).shuffle(texts)
    rows = label(labeller, large(texts))
    assert rows == [answer_alone(labeller, text) for text in texts]
    assert len({row["sentiment"]["label"] for row in rows}) == 2  # a constant would prove little
    assert len({row["sentiment"]["accepted"] for row in rows}) == 2
    assert len({len(row["themes"]["labels"]) for row in rows}) > 1


def test_same_text_many_times_is_labelled_once(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [*make_comments(20, seed=6), *ODD]
    texts = [random.Random(i).choice(few) for i in range(300)]
    asked: list[str] = []
    original = labeller.label

    def watched(batch: Any, *more: Any) -> Any:
        asked.extend(batch)
        return original(batch, *more)

    monkeypatch.setattr(labeller, "label", watched)
    together = label(labeller, large(texts))
    assert sorted(asked) == sorted(set(texts))
    assert together == [row for text in texts for row in label(labeller, large([text]))]


def test_more_distinct_texts_than_one_call_takes(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeller, "max_texts", 7)
    texts = [*make_comments(30, seed=7), *ODD] * 2
    assert label(labeller, large(texts)) == [answer_alone(labeller, text) for text in texts]


def test_characters_and_lone_bytes_add_up(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeller, "max_texts", 3)
    whole = [text for text in ODD if len(text) < 60]  # the tokens stand for all of them
    texts, tally = [*make_comments(10, seed=8), *whole, *whole], Tally()
    label_texts(labeller, large(texts), 0, tally)
    label_texts(labeller, large(["ราคา"]), 0, tally)
    normal = [unicodedata.normalize("NFKC", text) for text in {*texts}] + ["ราคา"]
    assert tally.metrics["characters"] == sum(map(len, normal))
    # of letters that the vocabulary has not in part, each byte is a token
    before = tally.metrics["lone_bytes"]
    label_texts(labeller, large(["ราคา"]), 0, tally)
    assert tally.metrics["lone_bytes"] - before == len("ราคา".encode())
    label_texts(labeller, large(["plain"]), 0, tally)
    assert tally.metrics["lone_bytes"] - before == len("ราคา".encode())


def check_words(text: str, row: dict[str, Any]) -> None:
    for answer in row.values():
        for word in answer["attention"]:
            assert word["text"] == text[word["start"] : word["end"]] != ""
            assert word["text"].strip() == word["text"]
        weights = [word["weight"] for word in answer["attention"]]
        assert weights == sorted(weights, reverse=True)
        assert all(weight > 0 for weight in weights)
        assert sum(weights) <= 1 + 1e-5


def test_words_that_spoke_stand_in_the_text(labeller: Labeller) -> None:
    for text, row in zip(ODD, label(labeller, large(ODD), top=100), strict=True):
        check_words(text, row)
        assert any(answer["attention"] for answer in row.values())
    words = {
        word["text"]
        for answer in label(labeller, large(ODD))[8].values()
        for word in answer["attention"]
    }
    assert words == {"don't", "it's", "we'll"}


TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("a b ñ é\u0301\u0323 ﬁ Ⅻ 好 。 😀 👍🏽 \u200d ﾊﾞ 각 ﷺ"),
    ),
    min_size=1,
    max_size=40,
).filter(lambda text: text.strip())


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(TEXT, min_size=1, max_size=8))
def test_any_text_is_labelled_as_if_alone(labeller: Labeller, texts: list[str]) -> None:
    rows = label(labeller, large(texts))
    for text, row in zip(texts, rows, strict=True):
        check_words(text, row)
        assert row == answer_alone(labeller, text)


@pytest.mark.parametrize("top", [0, 1, 3])
def test_top_words_are_the_heaviest_of_all(labeller: Labeller, top: int) -> None:
    texts = large(ODD)
    everything, few = label(labeller, texts, top=100), label(labeller, texts, top=top)
    for whole, part in zip(everything, few, strict=True):
        for task, answer in part.items():
            words = whole[task]["attention"]
            ranked = sorted(words, key=lambda word: (-word["weight"], word["start"]))
            assert answer["attention"] == ranked[:top]
            entropy = whole[task]["entropy"] if top else None
            assert answer["entropy"] == entropy
            assert {**answer, "attention": words} == {**whole[task], "entropy": entropy}


def test_types_of_the_answers(labeller: Labeller) -> None:
    word = "struct<text: string, start: int32, end: int32, weight: float>"
    tail = f"attention: list<item: {word}>, entropy: float>"
    label_of_two = "dictionary<values=string, indices=int8, ordered=0>"
    single = f"struct<label: {label_of_two}, confidence: float, accepted: bool, {tail}"
    expected = {
        "sentiment": single,
        "gender": single,
        "themes": f"struct<labels: list<item: string>, scores: list<item: float>, {tail}",
        "stars": f"struct<value: float, {tail}",
    }
    columns = label_texts(labeller, large(["good"]), 5, Tally())
    names = [task.name for task in labeller.tasks]
    assert dict(zip(names, [str(c.type) for c in columns], strict=True)) == expected
    keys = pa.schema([("id", pa.int64())])
    schema = output_schema(labeller.tasks, keys)
    assert schema.names == ["id", "source_file", "source_row", *expected]
    assert [str(schema.field(name).type) for name in expected] == list(expected.values())


def test_many_labels_need_a_wider_index() -> None:
    kinds = {
        count: task_type(Task("t", "single", tuple(map(str, range(count))))).field("label").type
        for count in (127, 128, 300)
    }
    assert {n: str(kind.index_type) for n, kind in kinds.items()} == {
        127: "int8",
        128: "int32",
        300: "int32",
    }


@pytest.mark.parametrize("start", [0, 1, 5])
def test_sliced_arrays(labeller: Labeller, start: int) -> None:
    texts = large(["before", *ODD, *ODD, "after"])
    part = texts.slice(start, 9)
    assert label(labeller, part) == label(labeller, large(part.to_pylist()))
    encoded = texts.dictionary_encode().dictionary  # what the buffers hold is more than the slice
    assert label(labeller, encoded.slice(start, 9)) == label(labeller, part)


@pytest.mark.parametrize("texts", [large([]), large(ODD).slice(3, 0)], ids=["new", "slice"])
def test_no_texts(labeller: Labeller, texts: pa.Array) -> None:
    tally = Tally()
    columns = label_texts(labeller, texts, 5, tally)
    assert [len(column) for column in columns] == [0, 0, 0, 0]
    assert [column.type for column in columns] == [task_type(task) for task in labeller.tasks]
    assert tally.metrics["distinct_texts"] == tally.metrics["tokens"] == 0
    assert tally.labels["sentiment"] == {"neg": 0, "pos": 0}


def test_tally_counts_labels_and_texts(labeller: Labeller) -> None:
    tally, counted = Tally(), Counter[str]()
    themes: Counter[str] = Counter()
    batches = [[*make_comments(50, seed=i), *ODD, *ODD] for i in range(3)]
    for texts in batches:
        columns = label_texts(labeller, large(texts), 5, tally)
        for row in by_task(labeller, columns):
            counted[row["sentiment"]["label"]] += 1
            themes.update(row["themes"]["labels"])
    assert tally.labels["sentiment"] == counted
    assert {k: v for k, v in tally.labels["themes"].items() if v} == themes
    assert set(tally.labels["themes"]) == {"price", "service", "taste"}
    assert tally.labels["stars"] == {}
    assert tally.metrics["distinct_texts"] == sum(len(set(texts)) for texts in batches)
    alone = [labeller.label([text]) for texts in batches for text in set(texts)]
    assert tally.metrics["tokens"] == sum(int(one.tokens[0]) for one in alone)
    assert tally.metrics["truncated_texts"] == sum(bool(one.truncated[0]) for one in alone) > 0


def labelling(bundle: Path, staging: Path, **changes: Any) -> SplitLabelling:
    fields: dict[str, Any] = {
        "model": str(bundle),
        "digest": load(bundle).digest,
        "tasks": select_tasks(load(bundle).tasks, ("sentiment", "stars")),
        "text": "text",
        "columns": Columns("text", pa.schema([("id", pa.int64())])),
        "top": 2,
        "staging": str(staging),
    }
    return SplitLabelling(**{**fields, **changes})


def test_split_becomes_files(bundle: Path, tmp_path: Path) -> None:
    texts: list[str | None] = ["good", None, " ", "bad 好", "good"]
    path = write_comments(tmp_path / "in.parquet", texts, first_id=70)
    plan = make_plan([str(path)], text=None, keys=["id"], identity="x")
    record = label_split(plan.splits[0], labelling(bundle, tmp_path / "staging"))
    assert (record.rows_read, record.rows_labelled, record.rows_rejected) == (5, 3, 2)
    model = Labeller(load(bundle), ["sentiment", "stars"])
    assert pq.read_table(tmp_path / "staging" / f"{record.part}.parquet").to_pylist() == [
        {
            "id": 70 + row,
            "source_file": str(path),
            "source_row": row,
            **answer_alone(model, texts[row], top=2),
        }
        for row in (0, 3, 4)
    ]


def test_model_that_was_replaced_is_refused(bundle: Path, tmp_path: Path) -> None:
    plan_of = labelling(bundle, tmp_path, digest="0" * 64)
    with pytest.raises(UsageError, match="planned with 000000000000: it was replaced meanwhile"):
        plan_of.labeller()


def test_rows_are_told_of_in_the_midst_of_a_split(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that share a text are done together, and those without one when their piece is."""
    texts: list[str | None] = [*make_comments(900, seed=2), None, " "] * 2
    path = write_comments(tmp_path / "in.parquet", texts)
    plan = make_plan([str(path)], text=None, keys=["id"], identity="x")
    heard: list[int] = []
    how = labelling(bundle, tmp_path / "staging")
    if isinstance(engine := how.labeller()._engine, NativeEngine):
        monkeypatch.setattr(engine, "_part_tokens", 500)  # of many texts it has many parts
    label_split(plan.splits[0], how, heard.append)
    assert heard == sorted(heard) and heard[-1] == len(texts)
    assert len(set(heard)) > 10


def test_what_hears_of_rows_may_end_the_work(bundle: Path, tmp_path: Path) -> None:
    path = write_comments(tmp_path / "in.parquet", make_comments(500, seed=2))
    plan = make_plan([str(path)], text=None, keys=["id"], identity="x")

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_split(plan.splits[0], labelling(bundle, tmp_path / "staging"), stop)
    assert not [path for path in (tmp_path / "staging").rglob("*") if path.is_file()]
