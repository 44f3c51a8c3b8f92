from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glossator.model.bundle import load
from glossator.model.labeller import Labeller

Answer = Callable[..., dict[str, Any]]
Comments = Callable[..., list[str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[..., Path]

TASKS_TOML = """
[tasks.sentiment]
kind = "single"
labels = ["neg", "pos"]

[tasks.stars]
kind = "regression"
"""


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(run: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on standard error, with the remedy, and nothing on standard output."""
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1 and run.stderr.startswith("glossator: ")
    for word in words:
        assert word in run.stderr


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
        ("stars: the output has a column of that name", "leave out the task"),
    ),
    "key of an added name": (
        {"input": "task.parquet", "text": "text", "key": "source_row"},
        ("--key source_row: the output has a column of that name: rename",),
    ),
    "date is missing": ({"output": "out/{date}"}, ("has {date} in it: say which with --date",)),
    "bad date": ({"date": "tomorrow"}, ("--date tomorrow is not a date: write it YYYY-MM-DD",)),
    "unknown field": ({"output": "out/{hour}"}, ("unknown field {hour}; known: {date}",)),
    "too many words": ({"top": "1000"}, ("--top 1000 is not between 0 and 100",)),
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


TEXT = "很好 good service, don't  you think?"


def test_explain_marks_words_with_brackets_where_there_is_no_colour(
    bundle: Path, glossator: Run, answer_alone: Answer
) -> None:
    run = glossator("explain", TEXT, "--model", bundle, "--top", 2)
    assert run.returncode == 0 and "\x1b" not in run.stdout
    answer = answer_alone(Labeller(load(bundle)), TEXT, top=2)
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(answer)
    for line, said in zip(lines, answer.values(), strict=True):
        for word in said["attention"]:
            assert f"[{word['text']} {word['weight']:.0%}]" in line
        assert re.sub(r"\[(.*?) \d+%\]", r"\1", line).endswith(" ".join(TEXT.split()))
    doubt = "" if answer["sentiment"]["accepted"] else " ?"
    best = f"{answer['sentiment']['label']} {answer['sentiment']['confidence']:.0%}{doubt}"
    assert best in lines[0]


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Run a command whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    command = "from glossator.pipeline.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stdout=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so that the other side is closed
            piece = b""
        if not piece:
            break
        output += piece
    os.close(ours)
    return process.wait(timeout=60), output.decode()


def test_explain_colours_words_on_a_terminal(bundle: Path, answer_alone: Answer) -> None:
    code, shown = on_a_terminal("explain", TEXT, "--model", str(bundle), "--top", "1")
    assert code == 0
    answer = answer_alone(Labeller(load(bundle)), TEXT, top=1)
    for line, said in zip(shown.splitlines(), answer.values(), strict=True):
        coloured = re.findall(r"\x1b\[[0-9;]*48;5;\d+m(.*?)\x1b\[0m", line)
        assert coloured == [said["attention"][0]["text"]]
        assert re.sub(r"\x1b\[[0-9;]*m", "", line).endswith(" ".join(TEXT.split()))


def test_explain_as_json(bundle: Path, glossator: Run, answer_alone: Answer) -> None:
    run = glossator("explain", TEXT, "--model", bundle, "--tasks", "gender,themes", "--json")
    said = json.loads(run.stdout)
    assert list(said) == ["text", "gender", "themes"] and said["text"] == TEXT
    answer = answer_alone(Labeller(load(bundle), ["gender", "themes"]), TEXT)
    assert said["gender"]["label"] == answer["gender"]["label"]
    assert said["gender"]["accepted"] == answer["gender"]["accepted"]
    assert said["gender"]["confidence"] == pytest.approx(answer["gender"]["confidence"])
    assert said["themes"]["labels"] == answer["themes"]["labels"]
    assert said["themes"]["attention"] == answer["themes"]["attention"]


@pytest.mark.parametrize("text", ["", "  \n\u3000"])
def test_explain_nothing(text: str, bundle: Path, glossator: Run) -> None:
    refused(glossator("explain", text, "--model", bundle), "the text is empty", "give some words")


def test_explain_with_a_bad_model_or_task(tmp_path: Path, bundle: Path, glossator: Run) -> None:
    refused(glossator("explain", "good", "--model", tmp_path), "no model at", "--model")
    refused(glossator("explain", "good", "--model", bundle, "--tasks", "x"), "unknown task 'x'")


def test_explain_with_the_bundle_inside_the_package(glossator: Run) -> None:
    if not (resources.files("glossator.model") / "default" / "bundle.json").is_file():
        pytest.skip("the package has no default bundle")
    run = glossator("explain", "I love this phone, it is great")
    assert run.returncode == 0 and run.stdout.splitlines()


@pytest.fixture
def training(tmp_path: Path, labelled: Callable[[int, int], list[dict[str, Any]]]) -> Path:
    """A folder with rows to train from and tasks.toml."""
    rows = labelled(260, 4)
    for row in rows[:50]:
        row["split"] = "test"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "tasks.toml").write_text(TASKS_TOML)
    return tmp_path


SMALL = {"epochs": 1, "vocabulary": 300, "embedding": 8, "hidden": 8, "attention": 4, "batch": 32}


def test_train_then_evaluate_then_label(training: Path, glossator: Run) -> None:
    data, tasks, out = training / "rows.parquet", training / "tasks.toml", training / "bundle"
    changes = [f"--set={name}={value}" for name, value in SMALL.items()]
    arguments = ("--data", data, "--tasks", tasks, "--output", out, "--name", "Tiny", *changes)
    run = glossator("train", *arguments)
    assert run.returncode == 0, run.stderr
    bundle = load(out)
    assert f"wrote {out} (model {bundle.digest[:12]})" in run.stdout
    assert [task.name for task in bundle.tasks] == ["sentiment", "stars"]
    assert bundle.provenance["settings"]["hidden"] == 8
    assert "Tiny" in (out / "MODEL_CARD.md").read_text()
    assert bundle.metrics["test"]["sentiment"]["all"]["rows"] == 50

    run = glossator("evaluate", "--data", data, "--model", out, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == json.loads(json.dumps(bundle.metrics["test"]))
    run = glossator("evaluate", "--data", data, "--model", out, "--on", "validation")
    assert run.returncode == 0 and "sentiment" in run.stdout and "stars" in run.stdout
    refused(glossator("evaluate", "--data", data, "--model", out, "--on", "x"), "--on")

    run = glossator("label", "--input", data, "--output", training / "out", "--model", out)
    assert run.returncode == 0 and "260 labelled" in run.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("colour=red", ("no setting 'colour'", "vocabulary", "epochs")),
        ("epochs=many", ("'many' is not a number (int)",)),
        ("epochs", ("'' is not a number",)),
        ("epochs=0", ("must be positive",)),
        ("vocabulary=10", ("no room beside the 256 bytes",)),
    ],
)
def test_bad_setting(change: str, words: tuple[str, ...], training: Path, glossator: Run) -> None:
    before = everything(training)
    arguments = ("--data", training / "rows.parquet", "--tasks", training / "tasks.toml")
    out = training / "bundle"
    refused(glossator("train", *arguments, "--output", out, "--set", change), *words)
    assert everything(training) == before


def test_train_refuses_what_it_cannot_use(training: Path, glossator: Run) -> None:
    data, tasks, out = training / "rows.parquet", training / "tasks.toml", training / "bundle"

    def train(data: Path, tasks: Path, out: Path) -> subprocess.CompletedProcess[str]:
        return glossator("train", "--data", data, "--tasks", tasks, "--output", out)

    refused(train(training / "none.parquet", tasks, out), "no file matches")
    refused(train(data, training / "none.toml", out), "cannot read tasks")
    refused(train(data, data, out), "is not TOML")
    refused(train(data, tasks, training), "holds something else than a bundle: name another")
    refused(train(tasks, tasks, out), "is not a readable Parquet file")
    assert not out.exists()


def test_version_and_help(glossator: Run) -> None:
    from glossator.pipeline.cli import cli

    corpora = cli.commands["corpora"]
    assert isinstance(corpora, click.Group)
    run = glossator("--version")
    assert run.returncode == 0 and re.fullmatch(r"glossator, version \d+\.\d+\.\d+\n", run.stdout)
    whole = glossator("--help").stdout
    for name, command in {**cli.commands, **corpora.commands}.items():
        path = ("corpora", name) if name in corpora.commands else (name,)
        for flag in ("--help", "-h"):
            run = glossator(*path, flag)
            assert run.returncode == 0 and run.stdout.startswith(f"Usage: glossator {path[0]}")
        assert name in whole or name in corpora.commands
        for parameter in command.params:
            assert not parameter.opts[0].startswith("--") or parameter.opts[0] in run.stdout


def test_help_of_a_real_process(shell: Run) -> None:
    run = shell("-m", "glossator.pipeline", "--help")
    assert run.returncode == 0 and "--input" in run.stdout and run.stderr == ""
