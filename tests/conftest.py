"""What the tests of the pipeline share: a small trained bundle, inputs, and ways to run."""

from __future__ import annotations

import faulthandler
import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from glossator.model import bundle as bundles
from glossator.model.calibrate import Calibration
from glossator.model.data import load
from glossator.model.labeller import Labeller
from glossator.model.tasks import Task
from glossator.model.train import TrainingConfig, train

pytest_plugins = ("column_runs", "google_stand_ins", "jobs", "real_engines")
DEADLINE_SECS = 180.0
"""Nothing that a test starts takes so long: what does, hangs."""

TASKS = (
    Task("sentiment", "single", ("neg", "pos"), target_precision=0.6),
    Task("gender", "single", ("female", "male"), sensitive=True),
    Task("themes", "multi", ("price", "service", "taste")),
    Task("stars", "regression"),
)
SETTINGS = TrainingConfig(
    vocabulary=400,
    max_tokens=64,
    embedding=16,
    hidden=16,
    attention=8,
    epochs=2,
    batch=32,
    learning_rate=2e-2,
    seed=3,
)
GOOD = ("good", "lovely", "excellent", "很好", "喜欢", "满意")
BAD = ("bad", "awful", "broken", "糟糕", "失望", "讨厌")
FILLERS = ("the", "a", "of", "it", "was", "and", "的", "是", "了", "这个", "we", "don't")
THEMES = {"price": ("price", "价格"), "service": ("service", "服务"), "taste": ("taste", "味道")}

Comments = Callable[..., list[str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


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


@pytest.fixture(scope="session")
def labelled() -> Callable[[int, int], list[dict[str, Any]]]:
    """Rows to train from or to measure on."""
    return labelled_rows


@pytest.fixture(scope="session")
def comments() -> Comments:
    """So many comments to label: English and Chinese words, a few of them twice."""

    def make(count: int, seed: int = 0) -> list[str]:
        return [row["text"] for row in labelled_rows(count, seed)]

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """A bundle trained in a second; about half of the sentiments it gives are accepted."""
    torch.set_num_threads(1)  # a network so small is slower on two
    path = tmp_path_factory.mktemp("training") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(labelled_rows(500, seed=1)), path)
    data = load([str(path)], TASKS, "text", "split")
    made = train(data, TASKS, SETTINGS, lambda line: None, {"name": "A model for tests"})
    given = Labeller(made, ["sentiment"]).label(data.texts).tasks[0].probabilities
    accept = float(np.median(given.max(axis=1)))
    sentiment = replace(made.calibration["sentiment"], accept=accept)
    return replace(made, calibration={**made.calibration, "sentiment": sentiment})


@pytest.fixture(scope="session")
def bundle(trained: bundles.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    bundles.save(trained, folder)
    return folder


@pytest.fixture(scope="session")
def other_bundle(trained: bundles.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model: the same network, calibrated to be less sure of itself."""
    folder = tmp_path_factory.mktemp("other")
    calibration = {**trained.calibration, "sentiment": Calibration(scale=0.5, accept=0.7)}
    bundles.save(replace(trained, calibration=calibration), folder)
    return folder


@pytest.fixture(scope="session")
def labeller(bundle: Path) -> Labeller:
    """For all of the bundle's tasks."""
    return Labeller(bundles.load(bundle), [task.name for task in TASKS])


@pytest.fixture(scope="session")
def answer_alone() -> Callable[..., dict[str, Any]]:
    """The output's structs for one text: labelled alone, in plain Python, without Arrow."""

    def answer(labeller: Labeller, text: str, top: int = 5) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for answers in labeller.label([text], top).tasks:
            task, given, words = answers.task, answers.probabilities[0], answers.words
            said: dict[str, Any]
            if task.kind == "regression":
                said = {"value": float(np.float32(given[0]))}
            elif task.kind == "multi":
                chosen = [i for i in range(len(task.labels)) if given[i] >= 0.5]
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
            result[task.name] = {**said, "entropy": float(answers.entropy[0])}
        return result

    return answer


@pytest.fixture(scope="session")
def write_comments() -> Callable[..., Path]:
    """Writes a Parquet file of texts and an `id` that counts them."""

    def write(
        path: Path,
        texts: Sequence[str | None] | pa.Array,
        *,
        first_id: int = 0,
        row_group_size: int = 1 << 20,
        column: str = "text",
        **columns: Any,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        column_of_texts = pa.array(texts) if isinstance(texts, list) else texts
        ids = pa.array(range(first_id, first_id + len(texts)), pa.int64())
        table = pa.table({"id": ids, column: column_of_texts, **columns})
        pq.write_table(table, path, row_group_size=row_group_size, write_page_checksum=True)
        return path

    return write


@pytest.fixture(scope="session")
def _terminal(request: pytest.FixtureRequest) -> Iterator[int]:
    """The standard error behind pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        number = os.dup(2)
    yield number
    os.close(number)


@pytest.fixture
def deadline(_terminal: int) -> Iterator[None]:
    """A hang in this process ends the tests with every thread's stack, instead of never."""
    faulthandler.dump_traceback_later(DEADLINE_SECS, exit=True, file=_terminal)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def glossator(monkeypatch: pytest.MonkeyPatch, deadline: None) -> Iterator[Run]:
    """The command in this process, which spares the imports: `glossator("label", ...)`."""
    from glossator.pipeline import cli

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(
        "glossator.pipeline.submit.stop_runner_processes", lambda: None
    )  # it ends this process
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        out, err, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main(words)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shell() -> Run:
    """A Python process of its own: `shell("-m", "glossator.pipeline", ...)`."""

    def run(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECS,
            check=False,
            **more,
        )

    return run
