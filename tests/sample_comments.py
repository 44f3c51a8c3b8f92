"""Comments made up for tests, what they should be labelled, and Parquet files of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.labeller import Labeller
from glossator.model.tasks import Task

TASKS = (
    Task("sentiment", "single", ("neg", "pos"), target_precision=0.6),
    Task("gender", "single", ("female", "male"), sensitive=True),
    Task("themes", "multi", ("price", "service", "taste")),
    Task("stars", "regression"),
)
GOOD = ("good", "lovely", "excellent", "很好", "喜欢", "满意")
BAD = ("bad", "awful", "broken", "糟糕", "失望", "讨厌")
FILLERS = ("the", "a", "of", "it", "was", "and", "的", "是", "了", "这个", "we", "don't")
THEMES = {"price": ("price", "价格"), "service": ("service", "服务"), "taste": ("taste", "味道")}


def labelled_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Comments with their labels; a comment's words follow from its labels."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        good = chance.random() < 0.5
        themes = [theme for theme in THEMES if chance.random() < 0.4]
        words = [chance.choice(GOOD if good else BAD) for _ in range(2)]
        words += [chance.choice(THEMES[theme]) for theme in themes]
        words += [chance.choice(FILLERS) for _ in range(chance.randint(1, 9))]
        chance.shuffle(words)
        rows.append(
            {
                "text": " ".join(words),
                "sentiment": "pos" if good else "neg",
                "gender": chance.choice(("female", "male")),
                "themes": themes,
                "stars": 4.5 if good else 1.5,
                "split": "validation" if chance.random() < 0.4 else "train",
            }
        )
    return rows


def make_comments(count: int, seed: int = 0) -> list[str]:
    """So many comments to label: English and Chinese words, a few of them twice."""
    return [row["text"] for row in labelled_rows(count, seed)]


def answer_alone(labeller: Labeller, text: str, top: int = 5) -> dict[str, Any]:
    """The output's structs for one text: labelled alone, in plain Python, without Arrow."""
    result: dict[str, Any] = {}
    for answers in labeller.label([text], top).tasks:
        task, given, words = answers.task, answers.probabilities[0], answers.words
        said: dict[str, Any]
        if task.kind == "regression":
            said = {"value": float(np.float32(given[0]))}
        elif task.kind == "multi":
            least = np.broadcast_to(answers.accept, given.shape)
            chosen = [i for i in range(len(task.labels)) if given[i] >= least[i]]
            said = {"labels": [task.labels[i] for i in chosen]}
            said["scores"] = [float(np.float32(given[i])) for i in chosen]
        else:
            best = max(range(len(task.labels)), key=lambda i: given[i])
            confidence = np.float32(given[best])
            said = {"label": task.labels[best], "confidence": float(confidence)}
            said["accepted"] = bool(confidence >= np.float32(answers.accept))
        said["attention"] = [
            {"text": text[start:end], "start": start, "end": end, "weight": weight}
            for start, end, weight in zip(
                words.start.tolist(), words.end.tolist(), words.weight.tolist(), strict=True
            )
        ]
        said["entropy"] = None if answers.entropy is None else float(answers.entropy[0])
        if answers.expert is not None:
            said["expert"] = float(answers.expert[0])
        result[task.name] = said
    return result


def write_comments(
    path: Path,
    texts: Sequence[str | None] | pa.Array,
    *,
    first_id: int = 0,
    row_group_size: int = 1 << 20,
    column: str = "text",
    **columns: Any,
) -> Path:
    """Writes a Parquet file of texts and an `id` that counts them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column_of_texts = pa.array(texts) if isinstance(texts, list) else texts
    ids = pa.array(range(first_id, first_id + len(texts)), pa.int64())
    table = pa.table({"id": ids, column: column_of_texts, **columns})
    pq.write_table(table, path, row_group_size=row_group_size, write_page_checksum=True)
    return path
