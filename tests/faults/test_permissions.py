"""Permission, or an input, is lost in the midst of a run: a line, and a rerun when it is back."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import glossator
from jobs import Job, files_of, publication_of
from labelled_outputs import good
from moments import at_step, wait_until_stopped

_DROP, _DAC_OVERRIDE, _DAC_READ_SEARCH = 24, 1, 2
"""Of Linux: what `prctl` does, and the rights to pass over a file's mode."""


def bound_by_modes() -> None:
    """Lets the next program be held to files' modes, also as root."""
    if os.getuid() == 0:
        for right in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            assert ctypes.CDLL(None).prctl(_DROP, right, 0, 0, 0) == 0


def folder_of_the_run(out: Path, source: Path) -> Path:
    (plan,) = out.glob("_runs/*/_plan.json")
    return plan.parent


MOMENTS: dict[str, tuple[str, Callable[[Path, Path], Path], str]] = {
    "a part": ("_records/", folder_of_the_run, "output"),
    "the switch": ("_current.json", lambda out, source: out, "output"),
    "an input": ("part-00000", lambda out, source: source / "1.parquet", "1.parquet"),
}
"""Before which step, what can't be written or read any more, and what the line names."""


@pytest.mark.parametrize(
    "moment",
    ["the switch", *(pytest.param(m, marks=pytest.mark.slow) for m in ("a part", "an input"))],
)
def test_permission_is_lost(
    moment: str, tmp_path: Path, bundle: Path, other_bundle: Path, small_job: Job
) -> None:
    out, (begin, what, word) = tmp_path / "out", MOMENTS[moment]
    good(glossator("label", *small_job.arguments, "--model", other_bundle, "--output", out))
    before = publication_of(out)
    stop = at_step(out, begin, 0, signal.SIGSTOP)
    process = small_job.start(out, "--workers", 1, first=stop, preexec_fn=bound_by_modes)
    wait_until_stopped(process)
    place = what(out, small_job.inputs)
    mode = place.stat().st_mode
    place.chmod(0o500 if place.is_dir() else 0)
    try:
        process.send_signal(signal.SIGCONT)
        run = small_job.end(process)
    finally:
        place.chmod(mode)
    line = told(run)
    assert word in line and "access denied: check the credentials and permissions" in line
    assert "Permission denied" in line and "nothing was published, run it again to resume" in line
    assert publication_of(out) == before
    again(out, small_job, tmp_path / "undisturbed")


def test_permission_is_lost_when_all_is_published(
    tmp_path: Path, bundle: Path, small_job: Job
) -> None:
    """What can't be removed is no reason to say that nothing was published."""
    out = tmp_path / "out"
    stop = at_step(out, "_records.json", 0, signal.SIGSTOP)
    process = small_job.start(out, first=stop, preexec_fn=bound_by_modes)
    wait_until_stopped(process)
    (records,) = out.glob("_runs/*/_records")
    records.chmod(0o500)
    process.send_signal(signal.SIGCONT)
    line = told(small_job.end(process))
    records.chmod(0o700)
    assert f"run {records.parent.name} is published, but what is left to do beside it" in line
    assert "Permission denied" in line and "nothing was published" not in line
    assert publication_of(out) and (out / "_SUCCESS").exists()
    again(out, small_job, tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["labelling", "planning"])
def test_an_input_is_deleted_in_the_midst(moment: str, tmp_path: Path, small_job: Job) -> None:
    out, source = tmp_path / "out", small_job.inputs / "1.parquet"
    begin = {"planning": "_plan.json", "labelling": "part-00000"}[moment]
    process = small_job.start(out, "--workers", 1, first=at_step(out, begin, 0, signal.SIGSTOP))
    wait_until_stopped(process)
    content = source.read_bytes()
    source.unlink()
    process.send_signal(signal.SIGCONT)
    run = small_job.end(process)
    line = told(run)
    assert "1.parquet" in line
    assert "No such file or directory" in line and "nothing was published" in line
    assert publication_of(out) is None
    source.write_bytes(content)
    again(out, small_job, tmp_path / "undisturbed")


def told(run: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failed run."""
    assert run.returncode == 1 and run.stdout == "" and "Traceback" not in run.stderr
    line = run.stderr.splitlines()[-1]
    assert line.startswith("glossator: ")
    return line


def again(out: Path, job: Job, undisturbed: Path) -> None:
    """A rerun makes what would always have been made."""
    for folder in (out, undisturbed):
        good(glossator("label", *job.arguments, "--output", folder))
    assert files_of(out) == files_of(undisturbed) != {}
    assert publication_of(out) == publication_of(undisturbed)
    assert not [*out.glob("_runs/*/_records"), *out.rglob("*.tmp")]
