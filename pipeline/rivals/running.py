"""A rival as a process: what it is told, how it is timed, what it learns from and how it writes."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from glossator.model.errors import UsageError, shown
from glossator.pipeline.errors import JobError
from glossator.pipeline.timing import timed

BATCH = 8192
"""Texts that are read together."""


@dataclass(frozen=True)
class Rival:
    """Where a rival is, and what it needs."""

    module: str
    needs: str
    """A module."""
    package: str
    """What pip calls it."""


_HERE = "glossator.pipeline.rivals"
RIVALS = {
    "tfidf": Rival(f"{_HERE}.tfidf", "sklearn", "scikit-learn"),
    "fasttext": Rival(f"{_HERE}.fast_text", "fasttext", "fasttext-wheel"),
    "torch": Rival(f"{_HERE}.torch_loop", "torch", "torch"),
    "onnxruntime": Rival(f"{_HERE}.onnx_runtime", "onnxruntime", "onnxruntime onnx"),
    "runinference": Rival(f"{_HERE}.run_inference", "torch", "torch"),
    "runinference-tuned": Rival(f"{_HERE}.run_inference_tuned", "torch", "torch"),
}
"""By name."""


@dataclass(frozen=True)
class Settings:
    """What a rival is to do."""

    source: str
    """A folder of Parquet files with a column `text`."""
    labelled: str
    """The folder of the job's parts, of the same texts as a rule."""
    workers: int
    tasks: tuple[str, ...]
    model: str
    """The job's bundle."""
    learnt: int = 20_000
    """Texts that a rival learns from, at most."""


@dataclass(frozen=True)
class Speed:
    """How fast a rival was."""

    comments_per_second: float
    """Start-up included."""
    cpu_seconds: float
    """Of processors, of all of it."""


def check(name: str) -> None:
    """Raises `UsageError` unless there is such a rival, and all that it needs."""
    if name not in RIVALS:
        raise UsageError(f"{shown(name)} is none of {', '.join(RIVALS)}", parameter="against")
    if find_spec(RIVALS[name].needs) is None:
        package = RIVALS[name].package
        raise UsageError(f"{name} needs {package}: pip install {package}", parameter="against")


def speed(name: str, settings: Settings, folder: Path, rows: int) -> Speed:
    """How fast a rival labels, start-up included.

    Args:
        name: of the rival.
        settings: what it does.
        folder: for what it keeps; below it, in `out`, is what it writes.
        rows: of the source.
    """
    (folder / "out").mkdir(parents=True)
    module = importlib.import_module(RIVALS[name].module)
    module.get_ready(settings, folder)
    (folder / "settings.json").write_text(json.dumps(asdict(settings)))
    # a process a core: threads of their own beside that would wait for each other
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    # a rival of a benchmark lies beside that
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), _folder_of(module))))
    command = [sys.executable, "-m", RIVALS[name].module, str(folder)]
    took = timed(name, command, os.environ | alone | {"PYTHONPATH": path})
    written = sum(pq.read_metadata(path).num_rows for path in (folder / "out").glob("*.parquet"))
    if written != rows:
        raise JobError(f"{name} wrote {written:,} rows of {rows:,}")
    return Speed(rows / took.seconds, took.cpu_seconds)


def _folder_of(module: Any) -> str | None:
    """What has to be on the path for a module that is in no package."""
    return None if "." in module.__name__ else str(Path(module.__file__).parent)


def run(label: Callable[[Settings, Path], None]) -> None:
    """Labels in the folder that the first argument names."""
    folder = Path(sys.argv[1])
    label(of_folder(folder), folder)


def of_folder(folder: Path) -> Settings:
    """What is to be done there."""
    settings = json.loads((folder / "settings.json").read_text())
    return Settings(**settings | {"tasks": tuple(settings["tasks"])})


def learning(settings: Settings) -> tuple[list[str], dict[str, list[str]]]:
    """Texts, and the label that the job gave them, of tasks that have one label or several."""
    outputs = pa.dataset.dataset(settings.labelled, format="parquet", exclude_invalid_files=True)
    columns = ["source_file", "source_row", *settings.tasks]
    table = outputs.head(settings.learnt, columns=columns)
    texts: dict[str, list[str]] = {}
    found = []
    for file, row in zip(*(table.column(i).to_pylist() for i in (0, 1)), strict=True):
        if file not in texts:
            texts[file] = pq.read_table(file, columns=["text"]).column(0).to_pylist()
        found.append(texts[file][row])
    labels = {name: [_label(one) for one in table.column(name).to_pylist()] for name in columns[2:]}
    return found, labels


def _label(answer: dict[str, Any]) -> str:
    if "label" in answer:
        return str(answer["label"])
    return "+".join(answer["labels"]) if "labels" in answer else f"{answer['value']:.0f}"


def in_processes(label: Callable[[str, str], None]) -> Callable[[Settings, Path], None]:
    """What labels the source by calling `label` for each file and the folder, on all cores."""

    def in_folder(settings: Settings, folder: Path) -> None:
        files = sorted(Path(settings.source).glob("*.parquet"))
        with ProcessPoolExecutor(settings.workers) as pool:
            list(pool.map(label, map(str, files), [str(folder)] * len(files)))

    return in_folder


def write(path: str, folder: str, answer: Callable[[list[str]], dict[str, Any]]) -> None:
    """Writes what is answered to each batch of a file's texts."""
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(BATCH, columns=["text"])
        tables = [pa.table(answer(batch.column(0).to_pylist())) for batch in batches]
    name = Path(path).name
    pq.write_table(pa.concat_tables(tables), Path(folder) / "out" / name, compression="zstd")
