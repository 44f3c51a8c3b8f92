from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from command_lines import ended, everything, glossator, refused, shell
from sample_comments import make_comments, write_comments

from glossator.model.commands import flag_of
from glossator.model.errors import UsageError
from glossator.pipeline.cli import label
from glossator.pipeline.errors import JobError, RefusedError
from glossator.pipeline.options import LabelOptions

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place(tmp_path: Path, bundle: Path) -> Path:
    """A folder with inputs good and bad, and models good and bad."""
    texts = make_comments(5)
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
        ("--text: ", "no column 'comment'; its columns are id, text"),
    ),
    "text that is no text": ({"text": "id"}, ("--text: ", "column 'id' is int64, not text")),
    "ambiguous text column": (
        {"input": "two.parquet"},
        ("--text: ", "which column is the text?", "first, second", "name it"),
    ),
    "unreadable input": ({"input": "broken.parquet"}, ("none of the 1 input files",)),
    "unknown protocol": ({"input": "nosuch://x/y"}, ("nosuch",)),
    "no model": ({"model": "nowhere"}, ("no model at", "`glossator train`")),
    "damaged model": ({"model": "damaged"}, ("model.safetensors is damaged", "copy the bundle")),
    "foreign model": ({"model": "foreign"}, ("bundle.json is missing", "--model")),
    "future model": ({"model": "future"}, ("format 99", "reads format 2")),
    "model that is a file": ({"model": "file"}, ("no model at", "--model")),
    "unknown task": ({"tasks": "sentiment,mood"}, ("unknown task 'mood'", "sentiment, gender")),
    "no task": ({"tasks": ","}, ("no task was named", "the model has: sentiment")),
    "output of others": ({"output": "taken"}, ("did not write (thesis.txt", "empty or new folder")),
    "output is a file": ({"output": "file"}, ("--output: ", "is a file: name a folder")),
    "output below a file": ({"output": "file/out"}, ("lies below a file: name another",)),
    "unknown flag": ({"ouput": "x"}, ("unknown flag", "did you mean --output?")),
    "bad value for Beam": ({"direct_num_workers": "x"}, ("invalid int value: 'x'",)),
    "no key column": ({"key": "user"}, ("--key: ", "no column 'user'; its columns are id, text")),
    "key of a task's name": (
        {"input": "task.parquet", "text": "text", "key": "stars"},
        (
            "--key: ",
            "column 'stars': the output has the task's column 'stars'",
            "leave out the task",
        ),
    ),
    "key of an added name": (
        {"input": "task.parquet", "text": "text", "key": "source_row"},
        ("--key: column 'source_row': the output has a column 'source_row': rename",),
    ),
    "date is missing": ({"output": "out/{date}"}, ("--date: out/{date} has {date} in it",)),
    "bad date": ({"date": "tomorrow"}, ("--date: tomorrow is not a date: write it YYYY-MM-DD",)),
    "unknown field": ({"output": "out/{hour}"}, ("unknown field {hour}; known: {date}",)),
    "too many words": ({"top": "1000"}, ("--top: 1000 is not between 0 and 100",)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    name: str, place: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
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
        (("label",), "Missing option '--input'; see `glossator label --help`"),
        (("label", "--input", "x"), "Missing option '--output'"),
        (("label", "--workers=0", "--input=x", "--output=y"), "'--workers'"),
        (("nosuch",), "No such command 'nosuch'"),
        (("explain",), "Missing argument 'TEXT'"),
        (("train", "--data", "x"), "Missing option '--tasks'"),
        (("train", "--nosuch"), "No such option"),
    ],
)
def test_command_that_is_not_complete(arguments: tuple[str, ...], words: str) -> None:
    run = glossator(*arguments)
    assert run.returncode == 2 and words in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def test_refused_by_a_real_process(place: Path, bundle: Path) -> None:
    arguments = ("--input", "in.parquet", "--output", "out", "--model", bundle, "--nosuch=1")
    refused(shell("-m", "glossator.pipeline", *arguments, cwd=place), "unknown flag --nosuch=1")
    assert not (place / "out").exists()


def test_module_takes_the_flags_of_label(place: Path, bundle: Path) -> None:
    arguments = ("--input=in.parquet", "--output=out", f"--model={bundle}", "--workers=1")
    run = shell("-m", "glossator.pipeline", *arguments, "--key=id", "--json", cwd=place)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["totals"]["rows_labelled"] == 5
    assert run.stderr.splitlines()[0] == (
        "labelling 5 rows of 1 file for sentiment, themes, stars, text in column 'text', in 1 split"
    )
    assert (place / "out" / "_SUCCESS").exists()


def test_each_option_has_its_flag() -> None:
    """What an error says of a field of the options, the command line says of a flag."""
    flags = {field.name: flag_of(label, field.name) for field in fields(LabelOptions)}
    assert {name: flag for name, flag in flags.items() if flag is None} == {}
    assert flags["inputs"] == "--input" and flags["max_unreadable"] == "--max-unreadable"


ENDS: dict[str, tuple[BaseException, int, str]] = {
    "invalid": (UsageError("no such thing"), 2, "no such thing"),
    "parameter": (UsageError("'a' is odd", parameter="keys"), 2, "--key: 'a' is odd"),
    "no parameter here": (UsageError("is odd", parameter="nothing"), 2, "is odd"),
    "refused": (RefusedError("3 files can't be read"), 3, "3 files can't be read"),
    "failed": (JobError("it stalled"), 1, "it stalled"),
    "disk full": (
        OSError(errno.ENOSPC, "No space left", "/x"),
        1,
        "/x: No space left",
    ),
    "permission": (
        PermissionError(errno.EACCES, "Permission denied", "/x"),
        1,
        "/x: Permission denied",
    ),
    "refused connection": (
        ConnectionRefusedError("host:1"),
        1,
        "ConnectionRefusedError: host:1",
    ),
    "hostile": (UsageError("a\x1b[2J\nb\u202e"), 2, "a\\x1b[2J\\nb\\u202e"),
    "interrupted": (KeyboardInterrupt(), 1, "stopped"),
}


def ending(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, glossator: Run, error: object) -> Any:
    """How `label` ends where the job raises an error; log files come below `tmp_path`."""

    def fail(*_: object) -> None:
        raise error  # type: ignore[misc]

    monkeypatch.setattr("glossator.pipeline.job.run", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return glossator("label", "--input=in", "--output=out")


@pytest.mark.parametrize("name", ENDS)
def test_each_end_is_one_line_and_has_its_code(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error, code, line = ENDS[name]
    run = ending(monkeypatch, tmp_path, glossator, error)
    said = run.stderr.partition(" (log: ")[0].rstrip("\n")
    ended(run, code)
    assert said == f"glossator: {line}"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("a\nb"), "KeyError: 'a\\nb'"),
        (ZeroDivisionError("one\n two"), "ZeroDivisionError: one two"),
        (RuntimeError(), "RuntimeError"),
        (MemoryError(), "out of memory"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
def test_what_nobody_foresaw_leaves_its_traceback_in_a_file(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = ending(monkeypatch, tmp_path, glossator, error)
    ended(run, 1, " (log: ")
    said, _, log = run.stderr.rstrip(")\n").partition(" (log: ")
    assert said == f"glossator: {line}"
    assert Path(log).parent == tmp_path and Path(log).stat().st_mode & 0o777 == 0o600
    assert "Traceback (most recent call last)" in Path(log).read_text()
    assert type(error).__name__ in Path(log).read_text()


def test_no_room_for_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = ending(monkeypatch, tmp_path / "missing", glossator, KeyError("x"))
    ended(run, 1, "KeyError: 'x'")
    assert "log" not in run.stderr


def test_a_run_that_ends_well_leaves_no_log(
    place: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temp = place / "temp"
    temp.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temp))
    arguments = ("--input", place / "in.parquet", "--output", place / "out", "--model", bundle)
    assert glossator("label", *arguments).returncode == 0
    assert not list(temp.glob("*.log"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", b"caf\xe9"],
        ["explain", "x", "--model", b"\xff"],
        ["label", "--input", b"\xe9.parquet", "--output", "out"],
        ["label", "--input", "in", "--output", b"\xe9"],
        ["label", "--input", "in", "--output", "out", b"--key=\xe9"],
        ["label", "--input", "in", "--output", "out", b"--temp_location=\xe9"],
        ["train", "--data", b"\xe9", "--tasks", "t", "--output", "o"],
        [b"\xe9"],
    ],
)
def test_arguments_that_are_not_utf8(arguments: list[str | bytes]) -> None:
    command = [os.fsdecode(part) if isinstance(part, bytes) else part for part in arguments]
    refused(shell("-m", "glossator", *command), "is not UTF-8", "\\x")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("12", 12), ("0.01", 0.01), ("1%", 0.01), ("2.5%", 0.025), ("1.0", 1.0)],
)
def test_allowance_is_a_count_or_a_share(text: str, value: float) -> None:
    context = label.make_context("label", ["--input=a", "--output=b", f"--max-unreadable={text}"])
    given = context.params["max_unreadable"]
    assert given == value and type(given) is type(value)


@pytest.mark.parametrize("text", ["-1", "1.5", "101%", "all", "", "nan", "1e9", "%", "١"])
def test_allowance_that_is_neither(text: str) -> None:
    run = glossator("label", "--input=a", "--output=b", f"--max-unreadable={text}")
    refused(run, "'--max-unreadable'", "is not a number of files or a share")
