from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import everything, glossator, refused, shell
from fsspec.implementations.memory import MemoryFileSystem
from sample_comments import labelled_rows

from glossator.model.bundle import load

TASKS_TOML = """
[tasks.sentiment]
kind = "single"
labels = ["neg", "pos"]

[tasks.stars]
kind = "regression"
"""


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A folder with rows to train from and tasks.toml."""
    rows = labelled_rows(260, 4)
    for row in rows[:50]:
        row["split"] = "test"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "tasks.toml").write_text(TASKS_TOML)
    return tmp_path


SMALL = {"epochs": 1, "vocabulary": 300, "embedding": 8, "hidden": 8, "attention": 4, "batch": 32}


def test_train_then_evaluate_then_label(training: Path) -> None:
    data, tasks, out = training / "rows.parquet", training / "tasks.toml", training / "bundle"
    changes = [f"--set={name}={value}" for name, value in SMALL.items()]
    arguments = ("--data", data, "--tasks", tasks, "--output", out, "--name", "Tiny", *changes)
    run = glossator("train", *arguments)
    assert run.returncode == 0, run.stderr
    bundle = load(out)
    assert f"wrote {out} (model {bundle.digest[:12]})" in run.stdout
    assert [task.name for task in bundle.tasks] == ["sentiment", "stars"]
    assert bundle.provenance["settings"]["hidden"] == 8
    assert [task.name for task in bundle.experts] == ["sentiment", "stars"]
    assert "Tiny" in (out / "MODEL_CARD.md").read_text()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"Model {bundle.digest[:12]}" in page and "<h1>Tiny</h1>" in page
    assert bundle.metrics["test"]["sentiment"]["all"]["rows"] == 50

    run = glossator("evaluate", "--data", data, "--model", out, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == json.loads(json.dumps(bundle.metrics["test"]))
    run = glossator("evaluate", "--data", data, "--model", out, "--on", "validation")
    assert run.returncode == 0 and "sentiment" in run.stdout and "stars" in run.stdout
    refused(glossator("evaluate", "--data", data, "--model", out, "--on", "x"), "--on")

    run = glossator("label", "--input", data, "--output", training / "out", "--model", out)
    assert run.returncode == 0 and "260 labelled" in run.stdout


def test_evaluate_measures_what_the_data_has(bundle: Path, tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "comment": row["text"], "sentiment": row["sentiment"], "year": 1990 + i % 2}
        for i, row in enumerate(labelled_rows(90, 8))
    ]
    for i, row in enumerate(rows):
        row["source"] = None if i < 30 else "shop"
        row["sentiment"] = None if i < 10 else row["sentiment"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("--data", tmp_path, "--model", bundle, "--text", "comment", "--allow-leaks")

    run = glossator("evaluate", *given, "--on", "all", "--json")
    assert run.returncode == 0, run.stderr
    assert "left out, for no row has a label: gender, themes, stars" in run.stderr
    metrics = json.loads(run.stdout)
    assert {task: list(parts) for task, parts in metrics.items()} == {
        "sentiment": ["all", "source=shop"]
    }
    assert [part["rows"] for part in metrics["sentiment"].values()] == [80, 60]

    run = glossator("evaluate", *given, "--on", "all", "--by", "year", "--tasks", "sentiment")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    texts = {line.split()[1]: line.split()[2] for line in lines if line.startswith("sentiment ")}
    assert texts == {"all": "80", "year=1990": "40", "year=1991": "40"}
    (first,) = (i for i, line in enumerate(lines) if line.startswith("sentiment: true labels"))
    matrix = metrics["sentiment"]["all"]["confusion"]
    assert [line.split() for line in lines[first + 1 :]] == [
        ["neg", "pos"],
        ["neg", *map(str, matrix[0])],
        ["pos", *map(str, matrix[1])],
    ]

    refused(glossator("evaluate", *given), "--on", "no row of split 'test'")
    refused(glossator("evaluate", *given, "--on", "all", "--by", "month"), "--by", "'month'")
    refused(glossator("evaluate", *given, "--on", "all", "--tasks", "stars"), "no row has a label")
    refused(glossator("evaluate", *given, "--on", "all", "--tasks", "star"), "--tasks", "'star'")


def test_evaluate_leaves_rows_out_that_training_saw(bundle: Path, tmp_path: Path) -> None:
    rows = [
        {"text": "good", "sentiment": "pos", "split": "train"},
        {"text": "Good", "sentiment": "pos", "split": "test"},
        {"text": "bad", "sentiment": "neg", "split": "test"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    given = ("evaluate", "--data", tmp_path / "rows.parquet", "--model", bundle, "--json")
    run = glossator(*given)
    assert json.loads(run.stdout)["sentiment"]["all"]["rows"] == 1
    assert "1 test rows with such texts are left out" in run.stderr
    run = glossator(*given, "--allow-leaks")
    assert json.loads(run.stdout)["sentiment"]["all"]["rows"] == 2
    pq.write_table(pa.Table.from_pylist(rows[:2]), tmp_path / "rows.parquet")
    refused(glossator(*given), "--on", "no row of split 'test'", "but for 1 whose texts leak")


def test_train_says_what_it_found_in_the_data(training: Path) -> None:
    rows = [{**row, "split": None} for row in labelled_rows(120, 4)]
    for i, row in enumerate(rows):
        row["source"] = "shop" if i % 2 else "forum"
        row["stars"] = row["stars"] if i % 2 else None
        row["how much"] = 1 + i % 3
    table = pa.Table.from_pylist(rows).drop_columns(["split"])
    pq.write_table(table, training / "rows.parquet")
    changes = [f"--set={name}={value}" for name, value in SMALL.items()]
    given = ("--data", training / "rows.parquet", "--tasks", training / "tasks.toml")
    out = ("--output", training / "bundle")
    run = glossator("train", *given, *out, *changes, "--weight", "how much")
    assert run.returncode == 0, run.stderr
    assert "no column 'split' in 1 of 1 files: a tenth of 120 rows is held out" in run.stderr
    assert "task 'stars': labels are not missing at random: 100% of the rows" in run.stderr
    found = load(training / "bundle").provenance["labels_overview"]
    assert found["together"]["stars"] == {"sentiment": 60, "stars": 60}
    assert found["effective"]["sentiment"] < found["rows"]["sentiment"]["train"]
    refused(glossator("train", *given, *out, "--split", "spilt"), "--split", "'spilt'")
    refused(glossator("train", *given, *out, "--weight", "w"), "--weight", "'w'")


def test_train_to_a_store(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[str] = []
    monkeypatch.setattr(MemoryFileSystem, "put_file", noting(put, MemoryFileSystem.put_file))
    data, tasks, out = (
        training / "rows.parquet",
        training / "tasks.toml",
        "memory://bucket/models/a",
    )
    changes = [f"--set={name}={value}" for name, value in SMALL.items()]
    for _ in range(2):  # the second replaces the first
        put.clear()
        run = glossator("train", "--data", data, "--tasks", tasks, "--output", out, *changes)
        assert run.returncode == 0, run.stderr
        # a look whether it can be written; the bundle; the same with metrics and another card
        assert sorted(Path(path).name for path in put[1:]) == [
            *["MODEL_CARD.md"] * 2,
            *["bundle.json"] * 2,
            "model.safetensors",
            "ngrams.safetensors",
            "report.html",
            "tokenizer.json",
        ]
        assert [Path(path).name for path in put[-2:]] == ["bundle.json", "report.html"]
        assert f"wrote {out} (model {load(out).digest[:12]})" in run.stdout
    here = training / "here"
    assert (
        glossator("train", "--data", data, "--tasks", tasks, "--output", here, *changes).returncode
        == 0
    )
    fs = MemoryFileSystem()
    for name in ("model.safetensors", "tokenizer.json"):
        assert fs.cat_file(f"/bucket/models/a/{name}") == (here / name).read_bytes()
    assert {Path(path).name for path in fs.ls("/bucket/models/a", detail=False)} == {
        path.name for path in here.iterdir()
    }
    fs.pipe_file("/bucket/taken/thesis.txt", b"mine")
    refused(
        glossator("train", "--data", data, "--tasks", tasks, "--output", "memory://bucket/taken"),
        "--output: memory://bucket/taken holds something else than a bundle",
    )


def noting(names: list[str], put: Callable[..., None]) -> Callable[..., None]:
    """Puts files and keeps the names under which it does."""

    def note(self: MemoryFileSystem, source: str, target: str, **more: object) -> None:
        names.append(target)
        put(self, source, target, **more)

    return note


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("rows.parquet", "rows.parquet is a file: name a folder"),
        ("rows.parquet/below/it", "rows.parquet is a file: name a folder"),
        ("nosuch://x/y", "nosuch"),
        ("http://127.0.0.1:9/bundle", "http://127.0.0.1:9/bundle can't be written"),
    ],
)
def test_train_looks_whether_it_can_write_before_it_works(
    output: str, words: str, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if output.startswith("http:"):
        pytest.importorskip("aiohttp")

    def work(*_: object) -> None:
        raise AssertionError("it has begun")

    monkeypatch.setattr("glossator.model.labelled.dataset.load", work)
    monkeypatch.chdir(training)
    before = everything(training)
    arguments = ("--data", "rows.parquet", "--tasks", "tasks.toml")
    refused(glossator("train", *arguments, "--output", output), words)
    assert everything(training) == before


def test_corpora_look_whether_they_can_be_written(
    training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = training / "tasks.toml" / "corpora"
    refused(glossator("corpora", "build", out), "DIRECTORY: ", "tasks.toml is a file")
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused(glossator("corpora", "build", training / "new"), "no permission in")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("colour=red", ("no setting 'colour'", "vocabulary", "epochs")),
        ("epochs=many", ("'many' is not a number (int)",)),
        ("epochs", ("'' is not a number",)),
        ("min_pooling=yes", ("'yes' is not true or false",)),
        ("epochs=0", ("epochs 0 is not between 1 and 10000",)),
        ("learning_rate=nan", ("learning_rate nan is not between",)),
        ("vocabulary=10", ("no room beside the 256 bytes",)),
    ],
)
def test_bad_setting(change: str, words: tuple[str, ...], training: Path) -> None:
    before = everything(training)
    arguments = ("--data", training / "rows.parquet", "--tasks", training / "tasks.toml")
    out = training / "bundle"
    refused(glossator("train", *arguments, "--output", out, "--set", change), *words)
    assert everything(training) == before


def test_train_refuses_what_it_cannot_use(training: Path) -> None:
    data, tasks, out = training / "rows.parquet", training / "tasks.toml", training / "bundle"

    def train(data: Path, tasks: Path, out: Path) -> subprocess.CompletedProcess[str]:
        return glossator("train", "--data", data, "--tasks", tasks, "--output", out)

    refused(train(training / "none.parquet", tasks, out), "no file matches")
    refused(train(data, training / "none.toml", out), "cannot read tasks")
    refused(train(data, data, out), "is not TOML")
    refused(train(data, tasks, training), "holds something else than a bundle: name another")
    refused(train(tasks, tasks, out), "is not a readable Parquet file")
    said = (*("--data", data, "--tasks", tasks, "--output", out), "--teacher", data)
    refused(glossator("train", *said), "is string, not a struct of")
    assert not out.exists()


def test_version_and_help() -> None:
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


def test_help_of_a_real_process() -> None:
    run = shell("-m", "glossator.pipeline", "--help")
    assert run.returncode == 0 and "--input" in run.stdout and run.stderr == ""


@pytest.mark.parametrize("verb", ["label", "train", "explain"])
def test_help_loads_nothing_heavy(verb: str) -> None:
    program = """
import sys
from glossator.pipeline.cli import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"apache_beam", "fsspec", "numpy", "pyarrow", "torch"}
    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
    run = shell("-c", program, verb, "--help")
    assert run.returncode == 0 and run.stderr == "[]\n"


def test_help_is_grouped() -> None:
    shown = glossator("label", "--help").stdout
    at = [shown.index(f"\n{group}:\n") for group in ("Input", "Output", "Model", "Engine")]
    assert at == sorted(at)
    groups = dict(zip(("Input", "Output", "Model", "Engine"), [*at, len(shown)], strict=False))
    assert groups["Input"] < shown.index("--max-unreadable") < groups["Output"]
    assert groups["Output"] < shown.index("--show") < groups["Model"]
    assert groups["Model"] < shown.index("--tasks") < groups["Engine"] < shown.index("--workers")
