"""Inputs of the job's tests."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from sample_comments import make_comments, write_comments


@pytest.fixture
def folder(tmp_path: Path) -> dict[Path, list[str | None]]:
    """Several files of several row groups, and what is in them; ids count on from file to file."""
    inputs = tmp_path / "in"
    sources: dict[Path, list[str | None]] = {
        inputs / "a.parquet": [
            *make_comments(300, seed=1),
            None,
            " \n",
            "",
            "\u3000",
            "很好 ☕ ﬁne",
        ],
        inputs / "b.parquet": [None, *make_comments(120, seed=2)],
        inputs / "c.parquet": make_comments(80, seed=1),
        inputs / "sub" / "d.parquet": [],
    }
    first = 0
    for path, texts in sources.items():
        column = pa.array(texts, pa.string())
        write_comments(path, column, first_id=first, row_group_size=64)
        first += len(texts)
    return sources
