"""The clock jumps by a year, either way: runs that are read stay, and others go in their time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import glossator
from jobs import Job, files_of, publication_of
from labelled_outputs import good
from outputs import current

YEAR_SECS = 365 * 86400
JUMP = """
import datetime, time

def jump(by, midway):
    true_time, moved = time.time, {{"by": 0 if midway else by}}
    time.time = lambda: true_time() + moved["by"]

    class Jumped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(time.time(), tz)

    import glossator.pipeline.outputs.current as current
    current.datetime = Jumped
    if midway:  # the first line of progress comes when all is planned and nothing has begun
        import glossator.pipeline.cli as cli
        told = cli._Reporter.__call__
        def tell(*given):
            moved["by"] = by
            return told(*given)
        cli._Reporter.__call__ = tell

jump({by}, {midway})
"""
"""For the process of a job: what it asks for the time of day."""


def runs_of(out: Path) -> set[str]:
    return {path.name for path in (out / "_runs").iterdir() if path.is_dir()}


@pytest.mark.parametrize(
    ("years", "midway"),
    [
        (1, True),
        pytest.param(-1, True, marks=pytest.mark.slow),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(-1, False, marks=pytest.mark.slow),
    ],
)
def test_the_clock_jumps(years: int, midway: bool, tmp_path: Path, small_job: Job) -> None:
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    for top in (1, 2):
        good(glossator("label", *small_job.arguments, "--output", out, "--top", top))
    oldest, before = (runs_of(out) - {current(out).name}).pop(), current(out).name
    run = small_job.run(out, "--json", first=JUMP.format(by=years * YEAR_SECS, midway=midway))
    assert run.returncode == 0, run.stderr
    now = current(out).name
    # a clock that is ahead may end the time of the oldest; that of the last one never ends
    assert {now, before} <= runs_of(out) <= {now, before, oldest}
    assert (oldest in runs_of(out)) == (years < 0)
    assert all((out / "_runs" / run_id / "_manifest.json").exists() for run_id in runs_of(out))
    good(glossator("label", *small_job.arguments, "--output", undisturbed))
    assert files_of(out) == files_of(undisturbed)
    assert publication_of(out) == publication_of(undisturbed)

    # the clock is right again: what was published in the future, or the past, is no trouble
    assert json.loads(good(glossator("status", out, "--json")))["state"] == "published"
    said = good(glossator("label", *small_job.arguments, "--output", out, "--json"))
    assert json.loads(said)["state"] == "unchanged"
    good(glossator("label", *small_job.arguments, "--output", out, "--top", 3, "--keep=0s"))
    # one that was replaced in what is the future stays until that has come
    assert runs_of(out) == {current(out).name, now} | ({before} if years > 0 else set())
    assert "whole" in good(glossator("verify", out, "--deep"))
