"""An error in a worker ends the job, soon, with its reason in a line."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_lines import shell
from jobs import files_of
from sample_comments import make_comments, write_comments

Files = Callable[[Path], dict[str, bytes]]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]

AFTER_PLANNING = """
import os, shutil, sys
from pathlib import Path
import glossator.pipeline.cli as cli

def spoil(*_):
    {spoil}

# the first line of progress comes when all is planned and nothing has begun
cli._Reporter.__call__ = spoil
cli.main(sys.argv[1:])
"""

SPOILT = {
    "model deleted": (
        "shutil.rmtree({model!r})",
        ("no model at", "bundle.json is missing"),
    ),
    "model replaced": (
        "shutil.rmtree({model!r}); shutil.copytree({other!r}, {model!r})",
        ("it was replaced meanwhile; run again",),
    ),
    "model damaged": (
        "Path({model!r}, 'model.safetensors').write_bytes(b'x')",
        ("model.safetensors is damaged",),
    ),
    "input deleted": (
        "os.remove({input!r})",
        ("No such file or directory", "1.parquet"),
    ),
    "input replaced": (
        "shutil.copy({more!r}, {input!r})",
        ("it was replaced after this run was planned: run again", "1.parquet"),
    ),
    "output deleted": (
        "shutil.rmtree({out!r}); Path({out!r}).write_text('a file now')",
        ("Not a directory",),
    ),
}


@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SPOILT)
def test_what_changes_after_planning_ends_the_job(
    name: str, workers: int, tmp_path: Path, bundle: Path, other_bundle: Path, small_job: Any
) -> None:
    model = shutil.copytree(bundle, tmp_path / "model")
    more = write_comments(tmp_path / "more.parquet", make_comments(70, seed=7))
    out = tmp_path / "out"
    places = {
        "model": str(model),
        "other": str(other_bundle),
        "input": str(tmp_path / "in" / "1.parquet"),
        "more": str(more),
        "out": str(out),
    }
    spoil, words = SPOILT[name]
    script = AFTER_PLANNING.format(spoil=spoil.format(**places))
    arguments = [*small_job.arguments, "--output", out, "--model", model, "--workers", workers]
    run = shell("-c", script, "label", *arguments)
    assert run.returncode == 1 and run.stdout == "", run.stderr
    told = [line for line in run.stderr.splitlines() if line.startswith("glossator: ")]
    assert len(told) == 1 and told[0] == run.stderr.splitlines()[-1]
    for word in words:
        assert word in told[0]
    assert len(told[0]) < 400 and not told[0].startswith("glossator: RuntimeError")
    assert not (out / "_SUCCESS").exists()


def test_input_replaced_in_the_midst_of_the_work(tmp_path: Path, small_job: Any) -> None:
    """The next run plans the new input, and nothing of the old one is in what it publishes."""
    path = tmp_path / "in" / "9.parquet"
    texts = [f"{text} {i}" for i, text in enumerate(make_comments(60_000, seed=3))]
    write_comments(path, texts)  # of two splits
    replacement = write_comments(tmp_path / "new.parquet", make_comments(100, seed=4))
    out = tmp_path / "out"
    process = small_job.start(out, "--workers", 1)
    end = time.monotonic() + 100
    while not any(out.glob("_runs/*/part-*")) and not any(out.glob("_runs/*/.part-*")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.001)
    replacement.replace(path)
    run = small_job.end(process)
    assert run.returncode == 1 and "it was replaced after this run was planned" in run.stderr
    assert not (out / "_SUCCESS").exists()
    again, fresh = small_job.run(out), tmp_path / "fresh"
    assert again.returncode == 0, again.stderr
    assert small_job.run(fresh).returncode == 0
    assert files_of(out) == files_of(fresh)
