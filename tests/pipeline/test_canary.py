"""Texts kept of a night and labelled by the next model: what is drawn, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from labelled_outputs import manifest, rows
from outputs import current
from sample_comments import make_comments, write_comments

from glossator.model import bundle as bundles
from glossator.model.calibrate import Calibration
from glossator.pipeline.gates import canary
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.label import SplitLabelling, label_split
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.outputs.manifest import Manifest, build
from glossator.pipeline.outputs.staging import Canary, SplitRecord

ROWS = 600
RUN = "0" * 16


@pytest.fixture(scope="module")
def stubborn(trained: bundles.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers `neg` to everything, and to the other tasks as the usual one."""
    folder = tmp_path_factory.mktemp("stubborn")
    calibration = {**trained.calibration, "sentiment": Calibration(shift=(50.0, 0.0))}
    bundles.save(replace(trained, calibration=calibration), folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return write_comments(folder / "a.parquet", [f"{t} {i}" for i, t in enumerate(comments())])


def comments() -> list[str]:
    return make_comments(ROWS, seed=3)


def test_a_new_model_within_the_flip_budget_and_one_beyond_it(
    source: Path, bundle: Path, other_bundle: Path, stubborn: Path, tmp_path: Path
) -> None:
    def label(model: Path, day: int, *more: object) -> Any:
        out = ("--output", tmp_path / "{date}", "--date", f"2026-11-0{day}")
        return glossator("label", "--input", source, *out, "--model", model, *more)

    first, second, third = (tmp_path / f"2026-11-0{day}" for day in (1, 2, 3))
    assert label(bundle, 1).returncode == 0
    assert manifest(first)["flips"] == {}

    run = label(other_bundle, 2)  # which is less sure, and no other
    assert run.returncode == 0, run.stderr
    found = manifest(second)
    matrix = found["flips"]["sentiment"]
    assert all(set(new) == {old} for old, new in matrix.items()) and len(matrix) == 2
    assert "stars" not in found["flips"]  # of numbers there is no matrix
    of = {check["name"]: check for check in found["checks"]}
    assert of["flips.sentiment"]["value"] == 0 and of["flips.themes"]["value"] == 0
    assert of["flips.sentiment"]["against"] == "of 200 texts of 2026-11-01"
    assert "another model" in of["confidence_night.sentiment"]["against"]

    # what the text of each canary was labelled is in the part, by the row where it stands
    kept = json.loads((current(second) / "_canary.json").read_text())["texts"]
    texts = pq.read_table(source)["text"].to_pylist()
    labels = {texts[row["source_row"]]: row["sentiment"]["label"] for row in rows(second)}
    assert {one["text"]: one["answers"]["sentiment"] for one in kept}.items() <= labels.items()
    assert kept[0]["text"] not in (current(second) / "_records.json").read_text()
    before = Counter(one["answers"]["sentiment"] for one in kept)

    run = label(stubborn, 3)
    changed = before["pos"] / 200
    line = run.stderr.splitlines()[-1]
    assert run.returncode == 3 and "--accept: flips.sentiment is" in line, run.stderr
    assert f"{changed:.2%} of 200 texts of 2026-11-02, at most 10.00%" in line
    assert not (third / "_SUCCESS").exists()
    (word,) = third.glob("_runs/*/_refused.json")
    assert json.loads(word.read_text())["flips"]["sentiment"].keys() == before.keys()
    run = label(stubborn, 3, "--accept", "flips.sentiment")
    assert run.returncode == 0 and "resuming: 1 are done" in run.stderr, run.stderr
    assert manifest(third)["flips"]["sentiment"] == {k: {"neg": n} for k, n in before.items()}
    (check,) = (c for c in manifest(third)["checks"] if c["name"] == "flips.sentiment")
    assert check["value"] == pytest.approx(changed) and check["accepted"]


def test_none_are_kept_where_none_are_wanted(
    source: Path, bundle: Path, stubborn: Path, tmp_path: Path
) -> None:
    limits = tmp_path / "gates.toml"
    limits.write_text("canary = 0\n")
    given = ("label", "--input", source, "--output", tmp_path / "out", "--gates", limits)
    assert glossator(*given, "--model", bundle).returncode == 0
    assert not list((tmp_path / "out").rglob("_canary.json"))
    assert glossator(*given, "--model", stubborn).returncode == 0  # nothing to hold it to
    of = {check["name"]: check for check in manifest(tmp_path / "out")["checks"]}
    assert of["flips.sentiment"]["against"] == "skipped: of the last night 0 texts were kept"


def records_of(
    source: Path, bundle: Path, staging: Path, size: int
) -> tuple[list[SplitRecord], Manifest]:
    """A file labelled in splits of so many rows."""
    labelling = Labelling.of(str(bundle))
    plan = make_plan([str(source)], text=None, keys=(), identity="0" * 64)
    (whole,) = plan.sources
    ranges = [
        Range(whole.uri, start, min(start + size, ROWS), whole.footer_sha256)
        for start in range(0, ROWS, size)
    ]
    how = SplitLabelling(
        labelling.model,
        labelling.digest,
        labelling.tasks,
        plan.columns.text,
        0,
        columns=plan.columns,
        staging=str(staging),
        canaries_below=canary.below(100, ROWS),
    )
    splits = [Split(i, f"part-{i:05d}-{'0' * 12}", (r,)) for i, r in enumerate(ranges)]
    records = [label_split(split, how) for split in splits]
    built = build(
        replace(plan, splits=tuple(splits)), records, model="", options={}, timings={}, versions={}
    )
    return records, built


def test_any_splits_add_up_to_the_same(source: Path, bundle: Path, tmp_path: Path) -> None:
    few, one = records_of(source, bundle, tmp_path / "a", ROWS)
    many, other = records_of(source, bundle, tmp_path / "b", 70)
    assert len(few) == 1 and len(many) == 9
    assert one.answers == other.answers != {}
    names = ("tokens", "characters", "lone_bytes")  # of texts that are all distinct
    counts = [[built.metrics["counters"][name] for name in names] for built in (one, other)]
    assert counts[0] == counts[1] and all(counts[0][:2])

    def drawn(records: list[SplitRecord]) -> list[Canary]:
        return canary.smallest((c for record in records for c in record.canaries), 100)

    assert drawn(few) == drawn(many) and len(drawn(few)) == 100
    assert len({c.hash for c in drawn(few)}) == 100


@pytest.mark.parametrize(
    ("old", "new"), [('"run_id": "0', '"run_id": "1'), ('"hash": 7', '"hash": "7"'), ("{", "")]
)
def test_what_is_another_runs_or_damaged_is_not_compared(
    old: str, new: str, tmp_path: Path
) -> None:
    record = SimpleNamespace(canaries=(Canary(7, "text", {"sentiment": "pos"}),))
    canary.save(str(tmp_path), RUN, [record], 10)  # type: ignore[list-item]
    assert canary.load(str(tmp_path), RUN) == record.canaries
    (file,) = tmp_path.glob("_runs/*/_canary.json")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    assert canary.load(str(tmp_path), RUN) == ()


def test_next_to_nothing_is_kept_of_many_rows() -> None:
    import numpy as np

    bound = canary.below(200, 10_000_000)
    rows = np.arange(1_000_000)
    found = canary.hashes(["s3://bucket/a.parquet"], np.zeros_like(rows), rows)
    assert len(set(found.tolist())) == 1_000_000
    assert 20 <= (found < np.uint64(bound)).sum() <= 60  # 40 are to be expected
    assert canary.below(0, 10) == 0 and canary.below(200, 10) == 2**64 - 1
