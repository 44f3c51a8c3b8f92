"""A day that changes after it was published: only what changed is labelled anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from labelled_outputs import data, good
from outputs import current
from sample_comments import make_comments, write_comments

FILES, ROWS = 4, 400


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for i in range(FILES):
        texts = [None, *make_comments(ROWS - 1, seed=i)]
        write_comments(tmp_path / "in" / f"{i}.parquet", texts, first_id=ROWS * i)
    return tmp_path / "in"


def label(source: Path, out: object, bundle: Path, *more: object) -> dict[str, Any]:
    flags = ("--input", source, "--output", out, "--model", bundle, "--key", "id", "--json")
    said: dict[str, Any] = json.loads(good(glossator("label", *flags, *more)))
    return said


def carried(account: dict[str, Any]) -> int:
    found: int = account["metrics"]["counters"]["carried_rows"]
    return found


def alike(out: Path, source: Path, bundle: Path, fresh: Path, *more: object) -> None:
    """What is published has the bytes of a run that knows of nothing before it."""
    assert carried(label(source, fresh, bundle, *more)) == 0
    assert data(out) == data(fresh)
    listed = json.loads((current(out) / "_manifest.json").read_text())
    expected = json.loads((current(fresh) / "_manifest.json").read_text())
    for name in ("parts", "rejects", "totals", "labels", "answers"):
        assert listed[name] == expected[name]


def test_a_late_file_and_a_changed_one(source: Path, tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out"
    assert carried(label(source, out, bundle)) == 0
    write_comments(source / "00.parquet", make_comments(ROWS, seed=9), first_id=9 * ROWS)  # first
    write_comments(source / "2.parquet", make_comments(ROWS, seed=8), first_id=8 * ROWS)
    said = label(source, out, bundle)
    assert said["state"] == "published" and carried(said) == 3 * ROWS
    alike(out, source, bundle, tmp_path / "fresh")
    run = glossator("label", "--input", source, "--output", out, "--model", bundle, "--key", "id")
    assert "nothing was done" in run.stdout


def test_the_content_decides_and_not_the_time(source: Path, tmp_path: Path, bundle: Path) -> None:
    """A day that was delivered again costs next to nothing; and one byte is a change."""
    out = tmp_path / "out"
    label(source, out, bundle)
    for path in source.iterdir():
        os.utime(path, ns=(1, 1))
    changed = source / "1.parquet"
    table = pq.read_table(changed)
    texts = table["text"].to_pylist()
    texts[7] = texts[7][::-1]  # of the same length: maybe with the same footer
    index = table.schema.get_field_index("text")
    import pyarrow as pa

    pq.write_table(table.set_column(index, "text", pa.array(texts, table["text"].type)), changed)
    assert carried(label(source, out, bundle)) == (FILES - 1) * ROWS
    alike(out, source, bundle, tmp_path / "fresh")


def test_a_changed_key_is_a_change(source: Path, tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out"
    label(source, out, bundle)
    texts = [None, *make_comments(ROWS - 1, seed=3)]
    write_comments(source / "3.parquet", texts, first_id=3 * ROWS + 1)
    assert carried(label(source, out, bundle)) == (FILES - 1) * ROWS
    alike(out, source, bundle, tmp_path / "fresh")


def test_another_model_or_other_options_carry_nothing(
    source: Path, tmp_path: Path, bundle: Path, other_bundle: Path
) -> None:
    out = tmp_path / "out"
    label(source, out, bundle)
    assert carried(label(source, out, bundle, "--top", 2)) == 0
    assert carried(label(source, out, other_bundle, "--top", 2, "--accept", "flips")) == 0
    alike(out, source, other_bundle, tmp_path / "fresh", "--top", 2)


def test_what_was_damaged_is_not_carried(source: Path, tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out"
    label(source, out, bundle)
    next(current(out).glob("part-00000-*")).unlink()
    (source / "3.parquet").unlink()
    said = label(source, out, bundle, "--accept", "rows_replaced")
    assert carried(said) == (FILES - 2) * ROWS
    alike(out, source, bundle, tmp_path / "fresh")


def test_a_part_with_a_flipped_bit_is_not_carried(
    source: Path, tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    label(source, out, bundle)
    part = next(current(out).glob("part-00000-*"))
    data_of_part = bytearray(part.read_bytes())
    data_of_part[len(data_of_part) // 2] ^= 1
    part.write_bytes(data_of_part)
    write_comments(source / "late.parquet", make_comments(ROWS, seed=5))
    assert carried(label(source, out, bundle)) == (FILES - 1) * ROWS
    alike(out, source, bundle, tmp_path / "fresh")


def test_the_run_before_may_go(source: Path, tmp_path: Path, bundle: Path) -> None:
    """What was carried is the new run's own, whatever becomes of the old one."""
    out = tmp_path / "out"
    for seed in (5, 6, 7):
        write_comments(source / "late.parquet", make_comments(ROWS, seed=seed))
        label(source, out, bundle, "--keep", "0s")
    assert len([path for path in (out / "_runs").iterdir() if path.is_dir()]) == 2
    assert "whole" in good(glossator("verify", out, "--deep"))
    alike(out, source, bundle, tmp_path / "fresh")


def test_in_a_store(source: Path, tmp_path: Path, bundle: Path) -> None:
    out = "memory://late/out"
    try:
        label(source, out, bundle)
        write_comments(source / "late.parquet", make_comments(ROWS, seed=5))
        assert carried(label(source, out, bundle)) == FILES * ROWS
        fsspec.filesystem("memory").get("/late/out", str(tmp_path / "out"), recursive=True)
        alike(tmp_path / "out", source, bundle, tmp_path / "fresh")
    finally:
        fsspec.filesystem("memory").rm("/late", recursive=True)


def test_a_corpus_that_grows_from_night_to_night(
    source: Path, tmp_path: Path, bundle: Path
) -> None:
    """With --reuse, what one of the last nights has published is taken from there."""
    template = tmp_path / "nights" / "{date}"
    night = tmp_path / "nights"
    label(source, template, bundle, "--date", "2026-03-01")
    write_comments(source / "4.parquet", make_comments(ROWS, seed=4))
    assert carried(label(source, template, bundle, "--date", "2026-03-03")) == 0
    write_comments(source / "5.parquet", make_comments(ROWS, seed=5))
    said = label(source, template, bundle, "--date", "2026-03-05", "--reuse")
    assert carried(said) == (FILES + 1) * ROWS  # of the night before last and the one before
    alike(night / "2026-03-05", source, bundle, tmp_path / "fresh")
    (source / "0.parquet").unlink()  # what is taken is the night's own
    again = ("--date", "2026-03-06", "--reuse", "--accept", "rows_few")
    assert carried(label(source, template, bundle, *again)) == (FILES + 1) * ROWS
    alike(night / "2026-03-06", source, bundle, tmp_path / "fresh-again")
