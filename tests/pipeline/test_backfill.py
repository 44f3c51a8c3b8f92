"""`--from` and `--to`: many dates in their order, of which a bad one does not stop the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from command_lines import glossator
from labelled_outputs import data, good, rows
from sample_comments import make_comments, write_comments

from glossator.pipeline import job
from glossator.pipeline.options import LabelOptions

DAYS = ("2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A good day, one with a file that can't be read, none, and a good one."""
    for number, day in enumerate(DAYS):
        if number != 2:
            for i in range(2):
                texts = make_comments(15, seed=10 * number + i)
                write_comments(tmp_path / "in" / day / f"{i}.parquet", texts)
    os.truncate(tmp_path / "in" / DAYS[1] / "1.parquet", 50)
    return tmp_path / "in"


def backfill(source: Path, out: Path, bundle: Path, *more: object) -> Any:
    flags = ("--input", f"{source}/{{date}}", "--output", f"{out}/{{date}}", "--model", bundle)
    return glossator("label", *flags, *more)


def test_a_bad_date_does_not_stop_the_others(source: Path, tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out"
    dates = ("--from", DAYS[0], "--to", DAYS[-1])
    run = backfill(source, out, bundle, *dates)
    assert run.returncode == 4  # which comes before the refused one: it is to be tried again
    *days, last = run.stdout.splitlines()
    assert last == "2 of 4 dates are published"
    assert [line.split("  ")[0] for line in days] == list(DAYS)
    states = [line.split("  ")[1].split(":")[0] for line in days]
    assert states == ["published", "REFUSED", "not there yet", "published"]
    begun = [line for line in run.stderr.splitlines() if line in [f"{day}:" for day in DAYS]]
    assert begun == [f"{day}:" for day in DAYS]  # the oldest first

    write_comments(source / DAYS[2] / "0.parquet", make_comments(5))
    write_comments(source / DAYS[1] / "1.parquet", make_comments(7))
    before = data(out / DAYS[0])
    run = backfill(source, out, bundle, *dates, "--json")
    said = json.loads(good(run))
    states = [day["state"] for day in said["days"]]
    assert said["exit_code"] == 0 and states == ["unchanged", "published", "published", "unchanged"]
    assert data(out / DAYS[0]) == before and len(rows(out / DAYS[1])) == 22

    single = tmp_path / "single"
    for day in DAYS:
        good(backfill(source, single, bundle, "--date", day))
        assert {k[11:]: v for k, v in data(single / day).items()} == {
            k[11:]: v for k, v in data(out / day).items()
        }


def test_an_error_that_nobody_foresaw_is_that_dates(
    source: Path, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, days = job.run, []

    def breaks_once(options: LabelOptions, *more: Any) -> Any:
        days.append(options.date)
        if len(days) == 1:
            raise ZeroDivisionError("of the first day")
        return run(options, *more)

    monkeypatch.setattr(job, "run", breaks_once)
    ended = backfill(source, tmp_path / "out", bundle, "--from", DAYS[0], "--to", DAYS[0])
    assert ended.returncode == 1
    assert f"{DAYS[0]}  FAILED: ZeroDivisionError: of the first day" in ended.stdout
    days.clear()
    ended = backfill(source, tmp_path / "out", bundle, "--from", DAYS[2], "--to", DAYS[3])
    assert ended.returncode == 1 and days == [DAYS[2], DAYS[3]]
    assert f"{DAYS[3]}  published" in ended.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--from", "2026-03-02", "--to", "2026-03-01"), "--from: 2026-03-02 comes after"),
        (("--to", "2026-03-01"), "--to: comes with the first date"),
        (("--from", "2026-02-30"), "2026-02-30 is not a date"),
        (("--from", "yesterday", "--date", "today"), "--date: names one date"),
    ],
)
def test_what_makes_no_sense(
    flags: tuple[str, ...], words: str, source: Path, tmp_path: Path, bundle: Path
) -> None:
    run = backfill(source, tmp_path / "out", bundle, *flags)
    assert run.returncode == 2 and words in run.stderr and not (tmp_path / "out").exists()


def test_the_output_needs_the_date(source: Path, tmp_path: Path, bundle: Path) -> None:
    flags = ("--input", f"{source}/{{date}}", "--output", tmp_path / "out", "--model", bundle)
    run = glossator("label", *flags, "--from", DAYS[0], "--to", DAYS[0])
    assert run.returncode == 2 and "the same for every date" in run.stdout + run.stderr
