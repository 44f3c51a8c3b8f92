from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_lines import everything, refused

Answer = Callable[..., dict[str, Any]]
Comments = Callable[..., list[str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[..., Path]


@pytest.fixture
def place(tmp_path: Path, bundle: Path, comments: Comments, write_comments: Write) -> Path:
    """A folder with inputs good and bad, and models good and bad."""
    texts = comments(5)
    write_comments(tmp_path / "in.parquet", texts)
    write_comments(tmp_path / "two.parquet", texts, column="first", second=texts)
    write_comments(tmp_path / "task.parquet", texts, stars=[1, 2, 3, 4, 5], source_row=texts)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    shutil.copytree(bundle, tmp_path / "damaged")
    with (tmp_path / "damaged" / "model.safetensors").open("r+b") as file:
        file.seek(200)
        file.write(b"\x00\x01\x02\x03")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    (tmp_path / "future").mkdir()
    (tmp_path / "future" / "bundle.json").write_text('{"format": 99}')
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    return tmp_path


BAD: dict[str, tuple[dict[str, str | None], tuple[str, ...]]] = {
    "missing text column": (
        {"text": "comment"},
        ("no column 'comment' (--text)", "its columns are id, text"),
    ),
    "text that is no text": ({"text": "id"}, ("--text id is int64, not text: name another",)),
    "ambiguous text column": (
        {"input": "two.parquet"},
        ("which column is the text?", "first, second", "--text COLUMN"),
    ),
    "no file": ({"input": "nowhere/*.parquet"}, ("no Parquet file is there", "--input")),
    "no folder": ({"input": "nowhere"}, ("no Parquet file is there", "--input")),
    "unreadable input": ({"input": "broken.parquet"}, ("none of the 1 input files", "--input")),
    "unknown protocol": ({"input": "nosuch://x/y"}, ("nosuch",)),
    "no model": ({"model": "nowhere"}, ("no model at", "`glossator train`")),
    "damaged model": ({"model": "damaged"}, ("model.safetensors is damaged", "copy the bundle")),
    "foreign model": ({"model": "foreign"}, ("bundle.json is missing", "--model")),
    "future model": ({"model": "future"}, ("format 99", "reads format 1")),
    "model that is a file": ({"model": "file"}, ("no model at", "--model")),
    "unknown task": ({"tasks": "sentiment,mood"}, ("unknown task 'mood'", "sentiment, gender")),
    "no task": ({"tasks": ","}, ("no task was named", "the model has: sentiment")),
    "output of others": ({"output": "taken"}, ("did not write (thesis.txt", "empty or new folder")),
    "output is a file": ({"output": "file"}, ("is a file: name a folder for --output",)),
    "output below a file": ({"output": "file/out"}, ("lies below a file: name another",)),
    "unknown flag": ({"ouput": "x"}, ("unknown flag", "did you mean --output?")),
    "bad value for Beam": ({"direct_num_workers": "x"}, ("invalid int value: 'x'",)),
    "no key column": ({"key": "user"}, ("no column 'user' (--key)", "its columns are id, text")),
    "key of a task's name": (
        {"input": "task.parquet", "text": "text", "key": "stars"},
        ("--key stars: the output has a column of that name", "leave out the task"),
    ),
    "key of an added name": (
        {"input": "task.parquet", "text": "text", "key": "source_row"},
        ("--key source_row: the output has a column of that name: rename",),
    ),
    "date is missing": ({"output": "out/{date}"}, ("--date: out/{date} has {date} in it",)),
    "bad date": ({"date": "tomorrow"}, ("--date: tomorrow is not a date: write it YYYY-MM-DD",)),
    "unknown field": ({"output": "out/{hour}"}, ("unknown field {hour}; known: {date}",)),
    "too many words": ({"top": "1000"}, ("--top: 1000 is not between 0 and 100",)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    name: str, place: Path, bundle: Path, glossator: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    changes, words = BAD[name]
    flags = {"input": "in.parquet", "output": "out", "model": str(bundle), **changes}
    before = everything(place)
    refused(glossator("label", *(f"--{flag}={value}" for flag, value in flags.items())), *words)
    assert everything(place) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage: glossator"),
        (("label",), "Missing option '--input'"),
        (("label", "--input", "x"), "Missing option '--output'"),
        (("label", "--workers=0", "--input=x", "--output=y"), "'--workers'"),
        (("nosuch",), "No such command 'nosuch'"),
        (("explain",), "Missing argument 'TEXT'"),
        (("train", "--data", "x"), "Missing option '--tasks'"),
        (("train", "--nosuch"), "No such option"),
    ],
)
def test_command_that_is_not_complete(
    arguments: tuple[str, ...], words: str, glossator: Run
) -> None:
    run = glossator(*arguments)
    assert run.returncode == 2 and words in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def test_refused_by_a_real_process(place: Path, bundle: Path, shell: Run) -> None:
    arguments = ("--input", "in.parquet", "--output", "out", "--model", bundle, "--nosuch=1")
    refused(shell("-m", "glossator.pipeline", *arguments, cwd=place), "unknown flag --nosuch=1")
    assert not (place / "out").exists()


def test_module_takes_the_flags_of_label(place: Path, bundle: Path, shell: Run) -> None:
    arguments = ("--input=in.parquet", "--output=out", f"--model={bundle}", "--workers=1")
    run = shell("-m", "glossator.pipeline", *arguments, "--key=id", "--json", cwd=place)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["totals"]["rows_labelled"] == 5
    assert run.stderr.splitlines()[0] == (
        "labelling 5 rows of 1 files for sentiment, themes, stars, text in column 'text',"
        " in 1 splits"
    )
    assert (place / "out" / "_SUCCESS").exists()
