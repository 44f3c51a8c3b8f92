"""What is checked before a run is published: what could not be read, against what is allowed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from outputs import current, read
from sample_comments import make_comments, write_comments

from glossator.model.errors import UsageError
from glossator.pipeline import job
from glossator.pipeline.errors import RefusedError
from glossator.pipeline.gates.limits import Limits
from glossator.pipeline.gates.unreadable import check, unreadable
from glossator.pipeline.options import LabelOptions, beam_options

ROWS = 50
GOOD_FILES = 3
WHOLE = 2
"""Files of which nothing can be read; of one more, the rows can't."""
FILES = GOOD_FILES + WHOLE + 1
PLANNED_ROWS = (GOOD_FILES + 1) * ROWS


def damage_pages(path: Path) -> None:
    """Lets the file's footer be, and nothing of its text."""
    column = pq.read_metadata(path).row_group(0).column(1)
    with path.open("r+b") as file:
        file.seek(column.data_page_offset + 40)
        file.write(b"\xaa" * 30)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Good files, two that are no Parquet any more, and one whose pages are damaged."""
    folder = tmp_path / "in"
    for i in range(FILES - 1):
        write_comments(folder / f"{i}.parquet", make_comments(ROWS, seed=i), first_id=ROWS * i)
    cut = folder / f"{GOOD_FILES}.parquet"
    os.truncate(cut, cut.stat().st_size - 20)
    damage_pages(folder / f"{GOOD_FILES + 1}.parquet")
    (folder / f"{FILES - 1}.parquet").touch()
    return folder


def manifest(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((current(out) / "_manifest.json").read_text())
    return content


def check_of(out: Path, name: str) -> tuple[Any, ...]:
    """Value, limit and whether it passed."""
    (found,) = (check for check in manifest(out)["checks"] if check["name"] == name)
    return found["value"], found["limit"], found["passed"]


def tree(out: Path) -> dict[str, bytes]:
    """What a reader sees."""
    return read(out) or {}


def refused(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 3 and run.stdout == "", run.stderr
    line = run.stderr.splitlines()[-1]
    assert line.startswith("glossator: ") and "Traceback" not in run.stderr
    assert ".log" not in line  # there is no more to know
    return line


def test_unreadable_input_is_refused_and_published_at_once_when_allowed(
    inputs: Path, tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("label", "--input", inputs, "--output", out, "--model", bundle, "--key", "id")
    line = refused(glossator(*arguments))
    assert f"{WHOLE} of {FILES} files and {ROWS} of {PLANNED_ROWS} rows, in 1 other file," in line
    share = max(WHOLE / FILES, ROWS / PLANNED_ROWS)
    assert f"a share of {share:.2%}" in line
    assert (
        "more than the 0 files allowed" in line
        and "--max-unreadable: " in line
        and "nothing was published" in line
    )
    assert "allow 3 files" in line
    assert tree(out) == {}
    (listed,) = (word.rstrip(";") for word in line.split() if word.endswith("/_rejects"))
    reasons = pq.ParquetDataset(listed).read(columns=["source_file", "reason"]).to_pylist()
    assert sorted((Path(r["source_file"]).stem, r["reason"]) for r in reasons) == [
        ("3", "unreadable"),
        ("4", "corrupt"),
        ("5", "unreadable"),
    ]
    records = {path: path.stat().st_mtime_ns for path in out.glob("_runs/*/_records/*")}

    line = refused(glossator(*arguments, "--max-unreadable", WHOLE))
    assert f"the {WHOLE} files allowed" in line
    assert records == {path: path.stat().st_mtime_ns for path in out.glob("_runs/*/_records/*")}
    assert list(out.glob("_runs/*/_refused.json"))

    run = glossator(*arguments, "--max-unreadable", "3")
    assert run.returncode == 0, run.stderr
    assert f"resuming: {FILES} are done" in run.stderr  # nothing was labelled anew
    assert "NOT READ: 50 rows and 2 whole files" in run.stdout
    assert not [*out.glob("_runs/*/_records"), *out.glob("_runs/*/_refused.json")]
    assert check_of(out, "unreadable") == (3, 3, True)
    assert manifest(out)["totals"]["rows_labelled"] == GOOD_FILES * ROWS
    # what is published is published, whatever the next run would allow
    assert "nothing was done" in glossator(*arguments).stdout


def test_a_good_publication_stays_when_the_next_is_refused(
    inputs: Path, tmp_path: Path, bundle: Path
) -> None:
    day, out = tmp_path / "day", tmp_path / "out"
    shutil.copytree(inputs, day, ignore=shutil.ignore_patterns("[345].parquet"))
    arguments = ("label", "--output", out, "--model", bundle, "--key", "id", "--input")
    run = glossator(*arguments, day)
    assert run.returncode == 0, run.stderr
    assert check_of(out, "unreadable") == (0, 0, True)
    before = tree(out)
    refused(glossator(*arguments, inputs))
    assert tree(out) == before and (out / "_SUCCESS").exists()
    # beside other checks it is one of them
    more = tmp_path / "gates.toml"
    more.write_text("min_rows = 1\none_label = 0.1\n")
    line = refused(glossator(*arguments, inputs, "--gates", more))
    assert f"unreadable: {WHOLE} of {FILES} files" in line and "one_label.sentiment is " in line
    run = glossator(
        *arguments, inputs, "--gates", more, "--accept=unreadable", "--accept=one_label"
    )
    assert run.returncode == 0, run.stderr
    assert "LET THROUGH: unreadable: 3 of 6 files, at most 0 files" in run.stdout
    accepted = {c["name"] for c in manifest(out)["checks"] if c["accepted"]}
    assert accepted == {"unreadable", "one_label.sentiment"}


@pytest.mark.parametrize(
    ("whole", "pages", "limit", "passes"),
    [
        (0, 0, 0, True),
        (0, 0, 0.0, True),
        (1, 0, 0, False),
        (0, 1, 0, False),
        (1, 1, 1, False),
        (1, 1, 2, True),
        (1, 0, 0.19, False),  # of 5 files
        (1, 0, 0.2, True),
        (0, 1, 0.24, False),  # of the rows of 4 files
        (0, 1, 0.25, True),
        (1, 1, 0.25, True),  # the larger of 1 of 5 files and 1/4 of the rows, not their sum
        (2, 1, 0.3, False),  # 2 of 6 files
        (2, 1, 1.0, True),
    ],
)
def test_a_count_is_of_files_and_a_share_of_rows_or_files(
    whole: int, pages: int, limit: float, passes: bool, tmp_path: Path, plan_of: Any
) -> None:
    plan, records = plan_of(whole, pages)
    made = check(unreadable(plan, records), Limits(limit))
    assert (made.name, made.limit, made.passed) == ("unreadable", limit, passes)


@pytest.fixture
def plan_of() -> Callable[[int, int], tuple[Any, Any]]:
    """A plan of so many good and bad files of equal length, and the records of its splits.

    With a bad file there are as many good ones as make the numbers of the cases above.
    """
    from glossator.pipeline.inputs.plan import Plan, Source
    from glossator.pipeline.inputs.ranges import Range, Split
    from glossator.pipeline.outputs.staging import RangeRecord, SplitRecord

    def make(whole: int, pages: int) -> tuple[Plan, list[SplitRecord]]:
        good = 4 - pages
        names = [f"{i}" for i in range(good + pages + whole)]
        sources, splits, records = [], [], []
        for i, name in enumerate(names):
            error = "no footer" if i >= good + pages else None
            rows = 0 if error else 10
            lost = rows if good <= i < good + pages else 0
            sources.append(Source(name, 1, "", rows, "", error))
            splits.append(Split(i, f"part-{i}", (Range(name, 0, rows, "", error),)))
            ranges = (RangeRecord(name, 0, rows, rows - lost, 0, lost),)
            records.append(
                SplitRecord(
                    index=i,
                    part=f"part-{i}",
                    ranges=ranges,
                    rows_read=rows - lost,
                    rows_labelled=rows - lost,
                    rows_rejected=0,
                    rows_unreadable=lost,
                    files_unreadable=int(error is not None),
                    rejects={},
                    part_bytes=0,
                    part_sha256="",
                    rejects_bytes=None,
                    rejects_sha256=None,
                    labels={},
                    metrics={},
                )
            )
        return Plan(tuple(sources), tuple(splits), None, "0" * 16), records  # type: ignore[arg-type]

    return make


@pytest.mark.usefixtures("deadline")
def test_a_refusal_that_comes_back_as_text_is_still_one(
    inputs: Path, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an engine on other machines."""
    from glossator.pipeline import transforms

    publish_run = transforms.publish_run

    def elsewhere(publication: Any) -> Any:
        try:
            return publish_run(publication)
        except RefusedError as error:
            raise RuntimeError(f"Traceback: {error}") from None

    monkeypatch.setattr(transforms, "publish_run", elsewhere)
    options = LabelOptions(inputs=(str(inputs),), output=str(tmp_path / "out"), model=str(bundle))
    with pytest.raises(RefusedError, match="could not be read") as caught:
        job.run(options, beam_options([], 1, ()), lambda line: None)
    assert caught.value.parameter == "max_unreadable" and caught.value.__cause__ is None


@pytest.mark.parametrize("limit", [-1, -0.1, 1.1, float("nan"), float("inf")])
def test_an_allowance_that_is_none(limit: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        LabelOptions(inputs=("in",), output="out", max_unreadable=limit)
    assert caught.value.parameter == "max_unreadable"
