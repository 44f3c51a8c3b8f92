"""What the job says of itself, and which tasks, dates and paths it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from labelled_outputs import PUBLIC, data, good, manifest, rows
from outputs import current
from sample_comments import make_comments, write_comments


def test_sensitive_tasks_only_when_named(tmp_path: Path, bundle: Path) -> None:
    path = write_comments(tmp_path / "in.parquet", make_comments(5))
    for tasks, columns in {
        None: ["sentiment", "themes", "stars"],
        "gender": ["gender"],
        "stars,gender,sentiment": ["sentiment", "gender", "stars"],
        "sentiment,stars,gender": ["sentiment", "gender", "stars"],
    }.items():
        out = tmp_path / f"out-{tasks}"
        chosen = () if tasks is None else ("--tasks", tasks)
        good(glossator("label", "--input", path, "--output", out, "--model", bundle, *chosen))
        (part,) = current(out).glob("part-*")
        assert pq.read_schema(part).names == ["source_file", "source_row", *columns]
    assert data(tmp_path / "out-stars,gender,sentiment") == data(
        tmp_path / "out-sentiment,stars,gender"
    )


def test_json_is_the_account(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    assert folder
    out = tmp_path / "out"
    arguments = ("label", "--input", tmp_path / "in", "--output", out, "--model", bundle)
    said = json.loads(good(glossator(*arguments, "--json")))
    assert (said["state"], said["output"], said["resumed_splits"]) == ("published", str(out), 0)
    for name in ("run_id", "model", "totals", "labels", "versions", "options"):
        assert said[name] == manifest(out)[name]
    assert said["parts"] == 4 and said["seconds"] > 0


def test_show_prints_comments_with_their_words(tmp_path: Path, bundle: Path) -> None:
    texts = make_comments(60, seed=8)
    path = write_comments(tmp_path / "in.parquet", [None, *texts], row_group_size=10)
    arguments = ("--input", path, "--output", tmp_path / "out", "--model", bundle, "--top", 1)
    said = good(glossator("label", *arguments, "--show", 3))
    blocks = said.split("\n\n")[1:]
    assert len(blocks) == 3
    for row, block in zip((0, 20, 40), blocks, strict=True):
        lines = block.splitlines()
        assert [line.split()[0] for line in lines] == list(PUBLIC)
        for line in lines:
            bare = line.replace("[", " ").replace("]", " ")
            assert all(word in bare for word in texts[row].split()), (row, line)
            assert line.count("%]") == 1


def test_date_in_input_and_output(tmp_path: Path, bundle: Path) -> None:
    path = write_comments(tmp_path / "in" / "2024-05-01" / "x.parquet", make_comments(5))
    write_comments(tmp_path / "in" / "2024-05-02" / "x.parquet", make_comments(6))
    arguments = ("--input", f"{tmp_path}/in/{{date}}", "--output", f"{tmp_path}/out/{{date}}")
    good(glossator("label", *arguments, "--model", bundle, "--date", "2024-05-01"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["2024-05-01"]
    assert {row["source_file"] for row in rows(tmp_path / "out" / "2024-05-01")} == {str(path)}


def test_relative_paths_are_of_the_folder_one_stands_in(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_comments(tmp_path / "in.parquet", make_comments(5))
    monkeypatch.chdir(tmp_path)
    good(glossator("label", "--input", "in.parquet", "--output", "out/deep", "--model", bundle))
    assert rows(tmp_path / "out" / "deep")[0]["source_file"] == str(tmp_path / "in.parquet")
