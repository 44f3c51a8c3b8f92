"""A training that is killed goes on, and ends where it would have ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_comments import TASKS, labelled_rows

from glossator.model import progress
from glossator.model.bundle import Bundle
from glossator.model.labelled.dataset import Dataset, load
from glossator.model.training import checkpoint
from glossator.model.training.checkpoint import Checkpoint, training_key
from glossator.model.training.config import TrainingConfig
from glossator.model.training.train import train

SETTINGS = TrainingConfig(
    vocabulary=300,
    max_tokens=32,
    embedding=8,
    hidden=8,
    attention=4,
    epochs=3,
    batch=16,
    learning_rate=1e-2,
    ngrams=0,
    seed=4,
)


class Killed(BaseException):
    """As a signal would end it: nothing catches it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path_factory.mktemp("resume") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(labelled_rows(240, seed=2)), path)
    return load([str(path)], TASKS, "text", "split")


def run(
    data: Dataset,
    file: Path | None,
    stop_at: int | None = None,
    lines: list[str] | None = None,
    settings: TrainingConfig = SETTINGS,
) -> Bundle:
    def show(done: int, total: int, note: str) -> None:
        if done == stop_at:
            raise Killed

    said = (lambda line: None) if lines is None else lines.append
    return train(data, TASKS, settings, said, show=show, checkpoint=file)


@pytest.mark.parametrize("stop_at", [1, 9, 27])
def test_a_killed_training_ends_with_the_same_weights(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(checkpoint, "EVERY_SECS", 0.0)
    monkeypatch.setattr(progress, "_EVERY_SHOW", 0.0)
    undisturbed = run(data, None)
    file = tmp_path / "state" / "checkpoint.pt"
    with pytest.raises(Killed):
        run(data, file, stop_at)
    torch.manual_seed(99)  # the process that goes on is another one
    lines: list[str] = []
    resumed = run(data, file, lines=lines)
    assert sum(line.startswith("going on in epoch") for line in lines) == (stop_at > 1)
    for name, weight in undisturbed.weights.items():
        np.testing.assert_array_equal(weight, resumed.weights[name], err_msg=name)
    assert resumed.provenance["history"] == undisturbed.provenance["history"]
    assert resumed.calibration == undisturbed.calibration


def test_a_training_that_ended_is_not_done_again(data: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    first = run(data, file)
    lines: list[str] = []
    again = run(data, file, stop_at=1, lines=lines)  # a step would kill it
    assert not [line for line in lines if line.startswith("epoch")]
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(weight, again.weights[name])


def test_another_training_does_not_take_it_for_its_own(data: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    run(data, file)
    other = replace(SETTINGS, learning_rate=2e-2, epochs=1)
    lines: list[str] = []
    run(data, file, lines=lines, settings=other)
    assert any(line.startswith("epoch 1:") for line in lines)
    changed = replace(data, texts=["another", *data.texts[1:]])
    assert training_key(changed, {}) != training_key(data, {})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(content)
    lines: list[str] = []
    assert Checkpoint(file, "key").load(lines.append) is None
    assert len(lines) == 1 and "can't be read" in lines[0] and "beginning anew" in lines[0]
    Checkpoint(file, "key").save({"epoch": 3})
    assert Checkpoint(file, "key").load(lines.append) == {"epoch": 3, "key": "key"}
    assert len(lines) == 1
    assert Checkpoint(file, "other").load(lines.append) is None
    assert lines[1] == f"{file} is of other data or settings: beginning anew"


def test_it_ends_when_its_minutes_are_over(data: Dataset) -> None:
    torch.set_num_threads(1)
    lines: list[str] = []
    bundle = train(data, TASKS, SETTINGS, lines.append, max_minutes=0.0)
    assert [entry["epoch"] for entry in bundle.provenance["history"]] == [1]
    assert any("0 minutes are over: back to epoch 1" in line for line in lines)


def test_a_bundle_is_where_another_training_begins(data: Dataset) -> None:
    torch.set_num_threads(1)
    first = run(data, None)
    settings = replace(SETTINGS, epochs=1, learning_rate=1e-8, embedding=4)
    again = train(data, TASKS[:2], settings, lambda line: None, init=first)
    assert again.config == first.config
    assert again.tokenizer.to_json() == first.tokenizer.to_json()
    for name, weight in again.weights.items():  # of both tasks that it knows, the heads too
        np.testing.assert_allclose(weight, first.weights[name], atol=1e-5, err_msg=name)
    renamed = (replace(TASKS[0], labels=("bad", "good")),)
    rows = replace(data, labels={"sentiment": data.labels["sentiment"]})
    new = train(rows, renamed, settings, lambda line: None, init=first)
    np.testing.assert_allclose(
        new.weights["embedding.weight"], first.weights["embedding.weight"], atol=1e-6
    )
    name = "heads.sentiment.output.weight"
    assert np.abs(new.weights[name] - first.weights[name]).max() > 1e-3
