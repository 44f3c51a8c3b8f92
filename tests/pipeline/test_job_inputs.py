"""The job from end to end on inputs of every kind: what is read, what is skipped, what is told."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from outputs import current
from sample_comments import make_comments, write_comments

from glossator.model.errors import UsageError
from glossator.pipeline import job, summary
from glossator.pipeline.options import LabelOptions, beam_options
from glossator.pipeline.outputs import publish


def manifest(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((current(out) / "_manifest.json").read_text())
    return content


def rows(out: Path) -> list[dict[str, Any]]:
    return [
        row
        for part in sorted(current(out).glob("part-*"))
        for row in pq.read_table(part).to_pylist()
    ]


def good(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


class Silent:
    """Hears how a run goes, and says nothing."""

    def __call__(self, line: str) -> None: ...

    def progress(self, snapshot: object) -> None: ...


def label(bundle: Path, inputs: object, out: object, **more: Any) -> job.Outcome:
    options = LabelOptions(inputs=(str(inputs),), output=str(out), model=str(bundle), **more)
    return job.run(options, beam_options([], 1), Silent())


@pytest.mark.parametrize("pattern", ["", "**/*.parquet", "**", "*"])
@pytest.mark.parametrize("below", ["labels", "labels/{date}"])
def test_output_inside_the_input(pattern: str, below: str, tmp_path: Path, bundle: Path) -> None:
    root = tmp_path / "in"
    write_comments(root / "a.parquet", make_comments(6))
    flags = ("label", "--input", root / pattern if pattern else root, "--model", bundle, "--json")
    for day in ("2026-11-24", "2026-11-24", "2026-11-25"):
        date = ("--date", day) if "{date}" in below else ()
        run = glossator(*flags, "--output", root / below, *date)
        said = json.loads(good(run))
        assert said["totals"]["rows_read"] == said["totals"]["rows_labelled"] == 6
        out = Path(str(root / below).replace("{date}", day))
        assert len(rows(out)) == 6
    expected = {"output of Glossator": 1} if date else {}
    assert manifest(out)["skipped"] == expected


def test_output_inside_the_input_of_an_object_store(tmp_path: Path, bundle: Path) -> None:
    fs = fsspec.filesystem("memory")
    data = write_comments(tmp_path / "a.parquet", make_comments(6)).read_bytes()
    fs.pipe_file("/inside/in/a.parquet", data)
    try:
        states = [
            label(bundle, "memory://inside/in", f"memory://inside/in/{out}").state
            for out in ("labels", "labels", "more", "labels")
        ]
        assert states == ["published", "unchanged", "published", "unchanged"]
        parts = fs.glob("/inside/in/*/_runs/*/part-*")
        assert [pq.read_metadata(fs.open(part)).num_rows for part in parts] == [6, 6]
    finally:
        fs.rm("/inside", recursive=True)


def test_killed_run_inside_the_input(tmp_path: Path, bundle: Path) -> None:
    root = tmp_path / "in"
    write_comments(root / "a.parquet", make_comments(6))
    flags = ("label", "--input", root, "--model", bundle)
    good(glossator(*flags, "--output", root / "killed"))
    for name in ("_SUCCESS", "_current.json"):
        (root / "killed" / name).unlink()
    good(glossator(*flags, "--output", root / "labels"))
    assert len(rows(root / "labels")) == 6
    assert manifest(root / "labels")["skipped"] == {"output of Glossator": 1}


def test_what_was_skipped_is_told(tmp_path: Path, bundle: Path) -> None:
    root = tmp_path / "in"
    write_comments(root / "000000_0", make_comments(3))
    write_comments(root / "_year=2026" / "b.PARQUET", make_comments(4))
    for name in ("notes.txt", "data.csv", "_SUCCESS"):
        (root / name).write_text("a,b\n")
    run = glossator("label", "--input", root, "--output", tmp_path / "out", "--model", bundle)
    assert "7 rows read = 7 labelled" in good(run)
    assert "skipped in the input: 1 hidden, 2 not Parquet" in run.stdout
    assert "skipped: 1 hidden, 2 not Parquet" in run.stderr
    assert manifest(tmp_path / "out")["skipped"] == {"hidden": 1, "not Parquet": 2}


@pytest.mark.parametrize("name", ["std::string.parquet", "zip::a.parquet", "a[1]?.parquet"])
def test_name_that_looks_like_another_thing(name: str, tmp_path: Path, bundle: Path) -> None:
    path = write_comments(tmp_path / "in" / name, make_comments(5))
    for i, item in enumerate((path.parent, path)):
        out = tmp_path / f"out-{i}"
        good(glossator("label", "--input", item, "--output", out, "--model", bundle))
        assert [row["source_file"] for row in rows(out)] == [str(path)] * 5


def test_name_that_is_not_utf8(tmp_path: Path, bundle: Path) -> None:
    path = write_comments(tmp_path / "in" / "a.parquet", make_comments(5))
    os.rename(path, os.fsencode(path.parent) + b"/b\xff.parquet")  # noqa: PTH104
    outcome = label(bundle, path.parent, tmp_path / "out")
    assert {row["source_file"] for row in rows(tmp_path / "out")} == {
        f"{path.parent}/b\\xff.parquet"
    }
    assert len(summary.examples(outcome, 2, colour=False)) > 2
    with pytest.raises(UsageError, match=r"o\\xffut is not UTF-8") as error:
        label(bundle, path.parent, tmp_path / "o\udcffut")
    assert error.value.parameter == "output"


def test_secrets_are_written_nowhere(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fsspec.filesystem("memory")
    data = write_comments(tmp_path / "a.parquet", [*make_comments(5), None]).read_bytes()
    uri = "memory://signed/a.parquet?X-Amz-Signature=hush1&token=hush2"
    fs.pipe_file("/signed/a.parquet?X-Amz-Signature=hush1&token=hush2", data)
    plans: list[str] = []
    save = publish.save_plan

    def spy(plan: Any, staging: str) -> None:
        save(plan, staging)
        plans.append((Path(staging) / "_plan.json").read_text())

    monkeypatch.setattr(publish, "save_plan", spy)
    out = tmp_path / "out"
    try:
        flags = ("label", "--input", uri, "--output", out, "--model", bundle, "--show", 2)
        run = glossator(*flags)
        said = good(run) + run.stderr
        shown = "memory:///signed/a.parquet?X-Amz-Signature=REDACTED&token=REDACTED"
        assert {row["source_file"] for row in rows(out)} == {shown}
        assert manifest(out)["inputs"][0]["uri"] == shown
        assert shown in plans[0]
        assert "nothing was done" in good(glossator(*flags))
        fs.rm_file("/signed/a.parquet?X-Amz-Signature=hush1&token=hush2")
        gone = glossator(*flags)
        assert gone.returncode == 4 and "token=REDACTED" in gone.stderr
        said += gone.stderr + "".join(plans)
        written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
        assert "hush" not in said and b"hush" not in written
    finally:
        fs.store.pop("/signed/a.parquet?X-Amz-Signature=hush1&token=hush2", None)


def test_empty_day_is_published(tmp_path: Path, bundle: Path) -> None:
    day, out = tmp_path / "day", tmp_path / "out"
    day.mkdir()
    flags = ("label", "--input", day, "--output", out, "--model", bundle, "--key", "id")
    assert glossator(*flags).returncode == 4  # a folder without a word that it is whole
    (day / "_SUCCESS").touch()
    run = glossator(*flags)
    said = good(run)
    assert f"empty, with _SUCCESS and nothing to read: {day}" in said
    assert "published 1 part" in said and "is an empty day" in run.stderr
    assert (out / "_SUCCESS").exists() and manifest(out)["empty"] == [str(day)]
    (part,) = current(out).glob("part-*")
    table = pq.read_table(part)
    assert (table.num_rows, table.schema.field("id").type) == (0, pa.null())
    assert table.schema.names[:3] == ["id", "source_file", "source_row"]
    assert duckdb.sql(f"select count(*) from '{part}'").fetchall() == [(0,)]
    assert "nothing was done" in good(glossator(*flags))


def test_second_day_does_not_replace_the_first(tmp_path: Path, bundle: Path) -> None:
    for day in ("2026-11-24", "2026-11-25"):
        write_comments(tmp_path / "in" / f"{day}.parquet", make_comments(3))
    out = tmp_path / "out"
    flags = ("label", "--output", out, "--model", bundle)
    run = glossator(*flags, "--input", tmp_path / "in" / "{date}.parquet", "--date", "2026-11-24")
    assert run.returncode == 2 and "each day would replace the one before" in run.stderr
    one = tmp_path / "in" / "2026-11-24.parquet"
    good(glossator(*flags, "--input", one, "--date", "2026-11-24"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = tmp_path / "in" / "2026-11-25.parquet"
    run = glossator(*flags, "--input", other, "--date", "2026-11-25")
    assert run.returncode == 2 and "holds the labels of 2026-11-24" in run.stderr
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "nothing was done" in good(glossator(*flags, "--input", one, "--date", "2026-11-24"))


def test_table_is_refused_unless_asked_for(tmp_path: Path, bundle: Path) -> None:
    table = tmp_path / "table"
    write_comments(table / "part-0.parquet", make_comments(3))
    (table / "_delta_log").mkdir()
    with pytest.raises(UsageError, match="is a table of Delta Lake, whose plain files may hold"):
        label(bundle, table, tmp_path / "out")
    assert label(bundle, table, tmp_path / "out", table_files=True).state == "published"
    assert len(rows(tmp_path / "out")) == 3
