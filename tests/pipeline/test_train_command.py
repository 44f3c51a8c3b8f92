"""`glossator train`: more texts, another bundle to begin with, and a real kill."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import glossator, refused
from sample_comments import labelled_rows

from glossator.model import bundle as bundles

TASKS_TOML = '[tasks.sentiment]\nkind = "single"\nlabels = ["neg", "pos"]\n'
SMALL = {"epochs": 1, "vocabulary": 320, "embedding": 8, "hidden": 8, "attention": 4, "batch": 32}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows to train from, texts without labels, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = [{**row, "split": "train" if i % 4 else "validation"} for i, row in enumerate(LABELLED)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    words = pa.table({"text": ["zyx zyx wvu", None, " ", "wvu zyx wvu"] * 60, "mood": [1] * 240})
    pq.write_table(words, tmp_path / "more.parquet")
    (tmp_path / "tasks.toml").write_text(TASKS_TOML)
    return tmp_path


LABELLED = labelled_rows(320, 4)


def arguments(folder: Path, output: str, *more: object, **changes: object) -> list[object]:
    asked = ["train", "--data", folder / "rows.parquet", "--tasks", folder / "tasks.toml"]
    settings = [f"--set={name}={value}" for name, value in {**SMALL, **changes}.items()]
    return [*asked, "--output", folder / output, *more, *settings]


def test_more_texts_teach_the_tokens(folder: Path) -> None:
    run = glossator(*arguments(folder, "with", "--unlabelled", folder / "more.parquet"))
    assert run.returncode == 0, run.stderr
    assert "240 texts and 120 without labels" in run.stderr
    with_them = bundles.load(folder / "with")
    assert with_them.tokenizer.encode(["zyx"]).lengths.tolist() == [1]
    assert with_them.provenance["unlabelled"]["texts"] == 120
    assert glossator(*arguments(folder, "without")).returncode == 0
    assert bundles.load(folder / "without").tokenizer.encode(["zyx"]).lengths.tolist() == [3]
    wrong = glossator(*arguments(folder, "out", "--unlabelled", folder / "none.parquet"))
    refused(wrong, "none.parquet")


def test_another_bundle_to_begin_with(folder: Path) -> None:
    assert glossator(*arguments(folder, "first", cell="qrnn")).returncode == 0
    run = glossator(*arguments(folder, "second", "--init", folder / "first", embedding=32))
    assert run.returncode == 0, run.stderr
    first, second = (bundles.load(folder / name) for name in ("first", "second"))
    assert second.config == first.config
    assert second.provenance["init"] == first.digest
    assert second.provenance["settings"]["embedding"] == SMALL["embedding"]
    assert second.provenance["settings"]["cell"] == "qrnn"
    assert "embedding 32 is not used: the bundle to begin with has 8" in run.stderr
    more = ("--init", folder / "first", "--unlabelled", folder / "more.parquet")
    refused(glossator(*arguments(folder, "third", *more)), "--unlabelled", "name a teacher")
    refused(glossator(*arguments(folder, "third", "--init", folder / "nowhere")), "nowhere")


def test_minutes_end_it(folder: Path) -> None:
    run = glossator(*arguments(folder, "out", "--max-minutes", "1e-9", epochs=50))
    assert run.returncode == 0, run.stderr
    assert "minutes are over: back to epoch 1" in run.stderr
    refused(glossator(*arguments(folder, "out", "--max-minutes", "0")), "--max-minutes")


def test_the_same_command_goes_on_after_a_kill(folder: Path) -> None:
    words = [str(word) for word in arguments(folder, "killed", epochs=40, patience=40)]
    command = [sys.executable, "-m", "glossator", *words]
    kept = folder / "cache" / "glossator" / "training"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(kept.glob("*.pt")):  # after the first epoch
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (folder / "killed").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "going on in epoch" in again.stderr
    assert not list(kept.iterdir())
    undisturbed = [*command]
    undisturbed[undisturbed.index(str(folder / "killed"))] = str(folder / "whole")
    assert subprocess.run(undisturbed, capture_output=True).returncode == 0
    for name in ("model.safetensors", "tokenizer.json"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()
