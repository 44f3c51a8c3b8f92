from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import everything, refused

from glossator.model.bundle import load

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
