"""Comments, a model and a place for outputs, for pipelines of the user's own."""

from __future__ import annotations

import pickle
import random
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from composed import NAMES, REJECTED, Seen
from sample_comments import answer_alone, make_comments

from glossator.model import bundle as bundles
from glossator.model.labeller import Labeller
from glossator.pipeline.compose import LabelComments


class Keep(beam.DoFn):
    """Leaves what it gets in a folder, from whatever process."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder = folder
        self._tag = tag

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> None:
        span = (float(window.start), float(window.end)) if hasattr(window, "start") else (0, 0)
        seen = (self._tag, element, float(timestamp), span)
        name = f"{time.monotonic_ns():020d}-{uuid.uuid4().hex}"  # in order, and one a thread
        (self._folder / name).write_bytes(pickle.dumps(seen))


@pytest.fixture
def outputs(tmp_path: Path) -> Callable[..., list[Seen]]:
    """What `LabelComments` gives for elements, in the order in which it came."""

    def run(
        source: Any,
        label: LabelComments,
        *steps: beam.PTransform,
        options: Sequence[str] = (),
        runner: str = "FnApiRunner",
    ) -> list[Seen]:
        folder = tmp_path / f"kept-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        source = source if isinstance(source, beam.PTransform) else beam.Create(source, False)
        with beam.Pipeline(runner, PipelineOptions([*options])) as root:
            comments = root | source
            for i, step in enumerate(steps):
                comments |= f"Step{i}" >> step
            for tag, part in (comments | label)._asdict().items():
                part | f"Keep {tag}" >> beam.ParDo(Keep(folder, tag))
        return [Seen(*pickle.loads(path.read_bytes())) for path in sorted(folder.iterdir())]

    return run


@pytest.fixture(scope="module")
def texts() -> list[str | None]:
    chance = random.Random(4)
    mixed = [
        *make_comments(150, seed=8),
        *REJECTED,
        "  good \t",
        "😀 bad 很好",
        "x" * 2000,
        *REJECTED,
    ]
    chance.shuffle(mixed)
    return mixed


@pytest.fixture(scope="module")
def table(texts: list[str | None]) -> pa.Table:
    ids = pa.array(range(len(texts)), pa.int64())
    return pa.table({"id": ids, "text": texts, "extra": [{"a": str(i)} for i in range(len(texts))]})


@pytest.fixture(scope="module")
def model(bundle: Path) -> Labeller:
    """For the tasks that are labelled where none is named."""
    return Labeller(bundles.load(bundle), NAMES)


@pytest.fixture(scope="module")
def expected(table: pa.Table, model: Labeller) -> list[dict[str, Any]]:
    """The labelled rows: each text labelled alone, in plain Python."""
    rows = [row for row in table.to_pylist() if (row["text"] or "").strip()]
    said = [{**row, **answer_alone(model, row["text"])} for row in rows]
    assert len({row["sentiment"]["label"] for row in said}) == 2  # a constant would prove little
    return said


@pytest.fixture(scope="module")
def expected_rejects(table: pa.Table) -> list[dict[str, Any]]:
    rows = [row for row in table.to_pylist() if not (row["text"] or "").strip()]
    why = ["null" if row["text"] is None else "empty" for row in rows]
    return [{**row, "reason": r, "detail": None} for row, r in zip(rows, why, strict=True)]
