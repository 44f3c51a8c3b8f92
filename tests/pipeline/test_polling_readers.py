"""Readers that look while publications replace each other: each reads one of them, whole."""

from __future__ import annotations

from pathlib import Path

import duckdb
import fsspec
import polars as pl
import pytest
from polling import PARTS, PUBLICATIONS, Read, by_fsspec, poll

from glossator import current_folder


def by_polars(out: str) -> set[int]:
    frame = pl.read_parquet(f"{current_folder(out)}/part-*.parquet")
    assert sorted(frame["part"].to_list()) == list(range(PARTS))
    return set(frame["run"].to_list())


def by_duckdb(out: str) -> set[int]:
    """Without Python of ours, by SQL alone."""
    with duckdb.connect() as connection:
        connection.execute(
            "SET VARIABLE parts = (SELECT ? || '/' || parts FROM read_json(?))",
            [out, f"{out}/_current.json"],
        )
        rows = connection.execute(
            "SELECT run, part FROM read_parquet(getvariable('parts'))"
        ).fetchall()
    assert sorted(row[1] for row in rows) == list(range(PARTS))
    return {row[0] for row in rows}


@pytest.mark.parametrize("read", [by_polars, by_duckdb])
def test_on_this_machine(read: Read, tmp_path: Path) -> None:
    seen = poll(str(tmp_path / "out"), read)
    assert seen == sorted(seen) and seen[-1] == PUBLICATIONS - 1
    assert len(set(seen)) > 5


def test_in_a_store() -> None:
    try:
        seen = poll("memory://polled/out", by_fsspec)
        assert seen == sorted(seen) and seen[-1] == PUBLICATIONS - 1
        assert len(set(seen)) > 5
    finally:
        fsspec.filesystem("memory").rm("/polled", recursive=True)
