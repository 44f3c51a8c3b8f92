"""What the tests of the pipeline share: a small trained bundle, inputs, and ways to run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import command_lines
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sample_comments import TASKS, labelled_rows
from small_trainings import SETTINGS, silent

from glossator.model import bundle as bundles
from glossator.model.calibrate import Calibration
from glossator.model.labelled.dataset import load
from glossator.model.labeller import Labeller
from glossator.model.training.train import train

pytest_plugins = (
    "real_engines",
    "real_stores",
    "jobs",
    "column_runs",
    "google_stand_ins",
    "label_tables",
    "pages",
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """A bundle trained in a second; about half of the sentiments it gives are accepted."""
    torch.set_num_threads(1)  # a network so small is slower on two
    path = tmp_path_factory.mktemp("training") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(labelled_rows(500, seed=1)), path)
    data = load([str(path)], TASKS, "text", "split")
    made = train(data, TASKS, SETTINGS, silent, {"name": "A model for tests"})
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


@pytest.fixture(scope="session", autouse=True)
def _terminal(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lets a hang be told on the standard error that is behind pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        command_lines.STANDARD_ERROR = os.dup(2)
    yield
    os.close(command_lines.STANDARD_ERROR)


@pytest.fixture
def deadline() -> Iterator[None]:
    """A hang in this process ends the tests with every thread's stack, instead of never."""
    with command_lines.deadline():
        yield
