"""`--table`: a Delta or Iceberg table holds the rows of the parts, a run a commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_lines import ended, glossator, refused
from label_tables import DAYS, DeltaAt, Nights, date_of
from outputs import current
from sample_comments import make_comments, write_comments

pytestmark = pytest.mark.tables
FIRST, SECOND = DAYS


def test_each_date_is_one_commit_of_its_rows_and_a_rerun_is_none(nights: Nights) -> None:
    runs = [nights.label(date) for date in DAYS]
    rows = nights.table.rows()
    assert rows == nights.expected(*DAYS) and len(rows) == 80
    assert [nights.label(date) for date in DAYS] == runs
    assert nights.table.runs() == runs


def test_a_date_is_replaced_in_one_commit_and_older_versions_stay_readable(nights: Nights) -> None:
    before = [nights.label(date) for date in DAYS]
    old = nights.table.rows()
    for seed in (7, 8, 9):
        nights.comments(FIRST, seed)
        before.append(nights.label(FIRST, "--keep", "0s"))
        assert nights.table.rows() == nights.expected(*DAYS)
    assert nights.table.runs() == before
    assert nights.table.rows(version=1) == old  # the run is two publications behind, and kept
    nights.table.forget_older_versions()
    nights.comments(FIRST, 10)
    last = nights.label(FIRST, "--keep", "0s")
    runs = {path.name for path in (nights.out(FIRST) / "_runs").glob("?" * 16)}
    assert runs == {before[-1], last}
    assert nights.table.rows() == nights.expected(*DAYS)


def test_without_a_date_the_whole_table_is_replaced(nights: Nights) -> None:
    out, source = nights.table.root, nights.inputs / FIRST
    words = ("label", "--input", source, "--output", out, "--model", nights.bundle, "--key", "id")
    for seed in (1, 2):
        nights.comments(FIRST, seed)
        run = glossator(*words, "--table", nights.table.name)
        assert run.returncode == 0, run.stderr
        rows = nights.table.rows()
        assert len(rows) == 40 and "date" not in rows[0]
    named = {Path(file).name for file in nights.table.files()}
    assert named == {path.name for path in current(out).glob("part-*")}
    assert len(nights.table.runs()) == 2
    refused(glossator(*nights.arguments(SECOND)), "--table: ", "partitioned by nothing")


def test_the_table_follows_when_an_earlier_input_comes_back(nights: Nights) -> None:
    nights.label(FIRST)
    old = nights.table.rows()
    nights.comments(FIRST, 5)
    nights.label(FIRST)
    nights.comments(FIRST, 0)
    nights.label(FIRST)
    assert nights.table.rows() == old and len(nights.table.runs()) == 3


def test_an_output_that_is_published_comes_into_a_table_later(nights: Nights) -> None:
    words = nights.arguments(FIRST)
    run = glossator(*words[: words.index("--table")])
    assert run.returncode == 0, run.stderr
    nights.label(FIRST)
    assert nights.table.rows() == nights.expected(FIRST)


def test_rows_that_were_removed_from_the_table_do_not_come_back(nights: Nights) -> None:
    nights.label(FIRST)
    nights.table.remove(FIRST, 3)
    assert len(nights.table.rows()) == 38
    nights.label(FIRST)
    assert len(nights.table.rows()) == 38


def test_an_empty_day_takes_the_rows_away(nights: Nights) -> None:
    for date in DAYS:
        nights.label(date)
    shutil.rmtree(nights.inputs / FIRST)
    (nights.inputs / FIRST).mkdir()
    (nights.inputs / FIRST / "_SUCCESS").touch()
    nights.label(FIRST, "--accept", "rows_few", "--accept", "rows_replaced")
    assert nights.table.rows() == nights.expected(SECOND)


def test_a_table_may_begin_with_an_empty_day(nights: Nights) -> None:
    shutil.rmtree(nights.inputs / FIRST)
    (nights.inputs / FIRST).mkdir()
    (nights.inputs / FIRST / "_SUCCESS").touch()
    nights.label(FIRST)
    assert nights.table.rows() == []
    nights.label(SECOND)
    assert nights.table.rows() == nights.expected(SECOND)


def test_a_refused_run_is_not_in_the_table(nights: Nights) -> None:
    nights.label(FIRST)
    rows = nights.table.rows()
    nights.comments(FIRST, 5, files=1)
    (nights.inputs / FIRST / "1.parquet").unlink()
    run = glossator(*nights.arguments(FIRST))
    assert run.returncode == 3, run.stderr
    assert nights.table.rows() == rows and len(nights.table.runs()) == 1


def test_a_task_more_is_a_column_more(nights: Nights) -> None:
    nights.label(FIRST, "--tasks", "sentiment")
    nights.label(SECOND, "--tasks", "stars,sentiment")
    first, second = ([r for r in nights.table.rows() if r["date"] == date_of(d)] for d in DAYS)
    assert [row.pop("stars") for row in first] == [None] * 40
    assert first == nights.expected(FIRST) and second == nights.expected(SECOND)
    nights.comments(FIRST, 3)
    nights.label(FIRST, "--tasks", "sentiment")  # fewer columns than there are
    assert len(nights.table.rows()) == 80


def test_a_key_of_another_type_is_refused_before_work(nights: Nights) -> None:
    nights.label(FIRST)
    write_comments(nights.inputs / SECOND / "0.parquet", make_comments(20), id=["x"] * 20)
    shutil.copy(nights.inputs / SECOND / "0.parquet", nights.inputs / SECOND / "1.parquet")
    run = glossator(*nights.arguments(SECOND))
    refused(run, "--table: ", nights.table.name, "'id' is int64 there, and string in this run")
    assert not nights.out(SECOND).exists()


@pytest.mark.parametrize(
    ("column", "kind", "words"),
    [("big", "uint64", "'big' is uint64, which tables do not have"), ("date", "string", "'date'")],
)
def test_a_key_that_tables_can_not_hold_is_refused_before_work(
    nights: Nights, column: str, kind: str, words: str
) -> None:
    import pyarrow as pa

    values = pa.array(range(20), pa.uint64()).cast(kind)
    for path in (nights.inputs / FIRST).iterdir():
        write_comments(path, make_comments(20), **{column: values})
    run = glossator(*nights.arguments(FIRST, "--key", column))
    refused(run, "--key: ", words)
    assert not nights.out(FIRST).exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("labels", "iceberg:CATALOG.NAMESPACE.TABLE or delta:URI"),
        ("iceberg:labels", "iceberg:CATALOG.NAMESPACE.TABLE or delta:URI"),
        ("delta:/tables/{date}", "a table holds every date"),
        ("delta:/tables/a%20b", "'%' in its name"),
        ("iceberg:nowhere.nlp.labels", "there is no such catalog"),
    ],
)
def test_a_name_that_is_none_is_refused(nights: Nights, name: str, words: str) -> None:
    words_given = nights.arguments(FIRST)
    words_given[words_given.index("--table") + 1] = name
    refused(glossator(*words_given), "--table: ", words)


def test_a_delta_table_wants_the_output_in_its_partition(nights: Nights) -> None:
    if not isinstance(nights.table, DeltaAt):
        pytest.skip("files of an Iceberg table may lie anywhere")
    words = nights.arguments(FIRST)
    words[words.index("--output") + 1] = f"{nights.table.root}/{{date}}"
    refused(glossator(*words), "--output: ", "name the output", "/date={date}")


def test_a_table_that_holds_something_else_is_refused(nights: Nights) -> None:
    import pyarrow as pa

    rows = pa.table({"a": [1]})
    if isinstance(nights.table, DeltaAt):
        import deltalake

        deltalake.write_deltalake(str(nights.table.root), rows)
    else:
        from pyiceberg.catalog import load_catalog

        catalog = load_catalog("here")
        catalog.create_namespace(nights.table.identifier.partition(".")[0])
        catalog.create_table(nights.table.identifier, rows.schema).append(rows)
    words = nights.arguments(FIRST)
    refused(glossator(*words), "partitioned by nothing, and a run with a date needs date")
    words[words.index("--output") + 1] = str(nights.table.root / "date=x")
    del words[(at := words.index("--date")) : at + 2]
    words[words.index("--input") + 1] = str(nights.inputs / FIRST)
    refused(glossator(*words), "no column 'source_file': it is not a table of labels")


def test_a_store_that_fails_is_one_line(nights: Nights) -> None:
    nights.label(FIRST)
    if isinstance(nights.table, DeltaAt):
        damaged = nights.table.root / "_delta_log" / f"{0:020}.json"
    else:
        damaged = Path(nights.table.table().metadata_location.removeprefix("file://"))
    damaged.write_text("not JSON")
    ended(glossator(*nights.arguments(FIRST)), 1, nights.table.name)
