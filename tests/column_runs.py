"""Runs of the command over a folder of odd files, for the tests of columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from outputs import current

Label = Callable[..., tuple[pa.Table, list[dict[str, Any]]]]


@pytest.fixture
def label(tmp_path: Path, bundle: Path) -> Label:
    """Labels `in/` with flags; the labelled rows as one table, and the rejects."""

    def run(*flags: str, folder: Path = tmp_path / "in") -> tuple[pa.Table, list[dict[str, Any]]]:
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        given = ("--input", folder, "--output", out, "--model", bundle, "--tasks=sentiment")
        done = glossator("label", *given, *flags)
        assert done.returncode == 0, done.stderr
        parts = [pq.read_table(path) for path in sorted(current(out).glob("*.parquet"))]
        rejects = sorted(current(out).glob("_rejects/*.parquet"))
        table = pa.concat_tables(parts)
        return table, [row for path in rejects for row in pq.read_table(path).to_pylist()]

    return run


@pytest.fixture
def refused(tmp_path: Path, bundle: Path) -> Callable[..., str]:
    """Labels `in/` with flags that are an error; the error."""

    def run(*flags: str) -> str:
        given = ("--input", tmp_path / "in", "--output", tmp_path / "none", "--model", bundle)
        done = glossator("label", *given, *flags)
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "none").exists()
        return done.stderr

    return run


def write(path: Path, columns: dict[str, Any], **options: Any) -> None:
    """Writes a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


def why(rejects: list[dict[str, Any]]) -> list[tuple[str, int, str, str]]:
    """Which rows were rejected: file, row, stage, reason."""
    return [
        (Path(row["source_file"]).name, row["source_row"], row["stage"], row["reason"])
        for row in rejects
    ]


def texts(count: int) -> list[str]:
    """So many different texts."""
    return [f"comment {i}" for i in range(count)]
