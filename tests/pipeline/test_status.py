"""`glossator status` and `glossator verify`, on outputs of the job in every state."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from command_lines import glossator
from labelled_outputs import good
from outputs import current
from sample_comments import make_comments, write_comments

Status = dict[str, Any]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for i in range(2):
        write_comments(tmp_path / "in" / f"{i}.parquet", [None, *make_comments(20, seed=i)])
    return tmp_path / "in"


@pytest.fixture
def out(source: Path, tmp_path: Path, bundle: Path) -> Path:
    """Published."""
    out = tmp_path / "out"
    good(glossator("label", "--input", source, "--output", out, "--model", bundle))
    return out


def status(out: object) -> Status:
    found: Status = json.loads(good(glossator("status", out, "--json")))
    return found


def test_published(out: Path, source: Path, bundle: Path) -> None:
    found = status(out)
    manifest = json.loads((current(out) / "_manifest.json").read_text())
    assert found["state"] == "published" and found["next"] == "nothing"
    now = found["published"]
    assert (now["run"], now["rows_read"], now["rows_labelled"], now["rows_rejected"]) == (
        manifest["run_id"],
        42,
        40,
        2,
    )
    assert now["published"] == manifest["published"] and now["read"].endswith("/part-*.parquet")
    assert (found["staged"], found["kept"], found["writer"], found["problems"]) == (
        [],
        [],
        None,
        [],
    )
    said = good(glossator("status", out))
    assert "42 rows read = 40 labelled + 2 rejected, in 2 parts" in said
    good(glossator("label", "--input", source, "--output", out, "--model", bundle, "--top", 1))
    assert status(out)["kept"] == [now["run"]]


def test_nothing_is_written_by_looking(out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}
    good(glossator("status", out))
    good(glossator("verify", out, "--deep"))
    assert before == {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}


def test_nothing_there(tmp_path: Path) -> None:
    assert status(tmp_path / "none")["state"] == "not an output"
    (tmp_path / "data.csv").touch()
    found = status(tmp_path)
    assert found["state"] == "not an output" and "holds other files" in found["next"]
    run = glossator("verify", tmp_path)
    assert run.returncode == 2 and "nothing is published there" in run.stderr


def test_a_refused_run_is_told_of(out: Path, source: Path, bundle: Path) -> None:
    os.truncate(source / "1.parquet", 100)
    run = glossator("label", "--input", source, "--output", out, "--model", bundle)
    assert run.returncode == 3
    found = status(out)
    (staged,) = found["staged"]
    assert found["state"] == "published" and "let it through" in found["next"]
    assert "could not be read" in staged["refused"]
    assert (staged["rows_done"], staged["rows"]) == (21, 21)


def test_a_run_that_was_killed_is_told_of(big_job: Any, tmp_path: Path) -> None:
    from jobs import wait_for

    out = tmp_path / "out"
    process = big_job.start(out)
    wait_for(lambda: any(out.glob("_runs/*/_records/*.json")), process)
    found = status(out)
    assert found["writer"] == f"process {process.pid} of this machine"
    assert found["next"].startswith("wait")
    process.kill()
    process.communicate()
    found = status(out)
    (staged,) = found["staged"]
    assert found["state"] == "nothing published" and found["writer"] is None
    assert 0 < staged["splits_done"] <= staged["splits"] and staged["rows_done"] > 0
    assert found["next"] == "run the same `glossator label` again: it resumes"


def damage_lost(folder: Path) -> str:
    next(folder.glob("part-00001-*")).unlink()
    return "is not there in its size"


def damage_cut(folder: Path) -> str:
    part = next(folder.glob("part-*"))
    os.truncate(part, part.stat().st_size - 1)
    return "is not there in its size"


def damage_manifest(folder: Path) -> str:
    (folder / "_manifest.json").unlink()
    return "manifest is lost|_manifest.json is lost"


@pytest.mark.parametrize("damage", [damage_lost, damage_cut, damage_manifest])
def test_damage_is_found_and_mended_by_a_rerun(
    damage: Any, out: Path, source: Path, bundle: Path
) -> None:
    import re

    words = damage(current(out))
    found = status(out)
    assert found["state"] == "damaged" and found["problems"]
    run = glossator("verify", out)
    assert run.returncode == 1 and re.search(words, run.stdout)
    assert "what is published is not whole" in run.stderr
    good(glossator("label", "--input", source, "--output", out, "--model", bundle))
    assert status(out)["state"] == "published"
    assert "whole" in good(glossator("verify", out, "--deep"))


def test_a_flipped_bit_is_found_where_every_byte_is_read(out: Path) -> None:
    part = next(current(out).glob("part-*"))
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)
    assert glossator("verify", out).returncode == 0
    run = glossator("verify", out, "--deep", "--json")
    found = json.loads(run.stdout)
    assert run.returncode == 1 and not found["whole"]
    (problem,) = found["problems"]
    assert part.name in problem and "its digest is" in problem


def test_inputs_that_changed_are_no_fault_of_the_output(out: Path, source: Path) -> None:
    write_comments(source / "0.parquet", make_comments(7))
    (source / "1.parquet").unlink()
    found = json.loads(good(glossator("verify", out, "--json")))
    assert found["whole"] and len(found["inputs_changed"]) == 2
    gone, changed = sorted(found["inputs_changed"], reverse=True)
    assert gone.endswith("1.parquet (is gone)") and "0.parquet (has " in changed


def test_an_output_in_a_store_and_who_holds_it(source: Path, bundle: Path) -> None:
    from glossator.pipeline.outputs.lock import sole_writer

    out = "memory://status/out"
    try:
        good(glossator("label", "--input", source, "--output", out, "--model", bundle))
        found = status(out)
        assert found["state"] == "published" and found["writer"] is None
        with sole_writer(out, "a" * 16, lambda line: None):
            assert f"process {os.getpid()} on " in status(out)["writer"]
        assert "whole" in good(glossator("verify", out, "--deep"))
    finally:
        fsspec.filesystem("memory").rm("/status", recursive=True)
