"""The rivals that run the job's own network say what it says: the comparison is a fair one."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from sample_comments import make_comments, write_comments

from glossator.model.bundle import load
from glossator.pipeline.rivals.running import Settings, speed

TEXTS = [*make_comments(40), "a", "the " * 700, "ﬁne ①"]


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_they_answer_as_the_network_does(name: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_comments(tmp_path / "in" / "a.parquet", TEXTS)
    loaded = load(bundle)
    tasks = tuple(task for task in loaded.tasks if task.kind == "single")
    names = tuple(task.name for task in tasks)
    settings = Settings(str(tmp_path / "in"), "", 1, names, str(bundle))
    found = speed(name, settings, tmp_path / "rival", len(TEXTS))
    assert found.comments_per_second > 0 < found.cpu_seconds
    table = pq.read_table(tmp_path / "rival" / "out")
    tokens = loaded.tokenizer.encode(TEXTS)
    given = loaded.network()(*map(torch.from_numpy, tokens.padded()))
    for task in tasks:
        logits, attention = given[task.name]
        labels = [task.labels[i] for i in logits.argmax(dim=1).tolist()]
        assert table[task.name].to_pylist() == labels
        assert table[f"{task.name}_confidence"].to_pylist() == pytest.approx(
            logits.softmax(dim=1).amax(dim=1).tolist(), abs=1e-5
        )
        words = table[f"{task.name}_words"].to_pylist()
        assert [len(row) for row in words] == [min(5, n) for n in tokens.lengths.tolist()]
        assert [row[0] for row in words] == attention.argmax(dim=1).tolist()
