"""What the job left: rows, rejects and bytes of an output, and what the rows should be."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from outputs import current, read

from glossator.model.labeller import Labeller

Answer = Callable[..., dict[str, Any]]


PUBLIC = ("sentiment", "themes", "stars")


def rows(out: Path) -> list[dict[str, Any]]:
    """The rows of all parts, one part after the other."""
    return [
        row
        for part in sorted(current(out).glob("part-*"))
        for row in pq.read_table(part).to_pylist()
    ]


def rejects(out: Path) -> list[dict[str, Any]]:
    files = sorted((current(out) / "_rejects").glob("part-*"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def manifest(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((current(out) / "_manifest.json").read_text())
    return content


def data(out: Path) -> dict[str, bytes]:
    """The parts and rejects, byte for byte."""
    return read(out) or {}


def times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}


def good(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def expected_rows(
    model: Labeller, answer_alone: Answer, sources: dict[Path, list[str | None]], top: int = 5
) -> list[dict[str, Any]]:
    """What has a text, in the order of the files' names and then of the rows."""
    first, result = 0, []
    for path in sorted(sources):
        for row, text in enumerate(sources[path]):
            if text is not None and text.strip():
                place = {"id": first + row, "source_file": str(path), "source_row": row}
                result.append({**place, **answer_alone(model, text, top)})
        first += len(sources[path])
    return result
