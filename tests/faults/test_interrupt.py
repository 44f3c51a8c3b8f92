"""A job that is asked to stop, and two that want the same output."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import files_of, publication_of, wait_for

Files = Callable[[Path], dict[str, bytes]]
Publication = Callable[[Path], "dict[str, str] | None"]
Undisturbed = tuple[dict[str, bytes], float]
Wait = Callable[..., None]

AT_ONCE_SECS = 10.0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "engine", ["local", "portable", pytest.param("prism", marks=pytest.mark.prism)]
)
def test_stops_at_once_and_can_be_resumed(
    engine: str,
    number: signal.Signals,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    big_job: Any,
    undisturbed: Undisturbed,
) -> None:
    out, flags = tmp_path / "out", []
    if engine == "portable":
        flags = ["--runner=PortableRunner", "--job_endpoint=embed"]
    if engine == "prism":
        prism = request.getfixturevalue("prism")
        flags = ["--runner=PrismRunner", f"--prism_location={prism}"]
    process = big_job.start(out, *flags)
    wait_for(lambda: any(out.glob("_runs/*/_records/*.json")), process)
    asked = time.monotonic()
    process.send_signal(number)
    run = big_job.end(process)
    assert time.monotonic() - asked < AT_ONCE_SECS
    assert run.returncode == 1 and run.stdout == ""
    told = [line for line in run.stderr.splitlines() if line.startswith("glossator: ")]
    assert len(told) == 1 and f"stopped by {number.name}" in told[0]
    assert "run it again to resume" in told[0] and "Traceback" not in run.stderr
    assert publication_of(out) is None

    again = big_job.run(out)
    assert again.returncode == 0 and "resuming: " in again.stderr
    assert files_of(out) == undisturbed[0]


def test_second_job_on_the_same_output_is_refused(
    tmp_path: Path, big_job: Any, undisturbed: Undisturbed
) -> None:
    out = tmp_path / "out"
    first = big_job.start(out)
    lock = out / "_runs" / ".lock"
    # the file is there before it is locked: its holder's number comes after
    wait_for(lambda: lock.exists() and lock.read_text() == str(first.pid), first)
    first.send_signal(signal.SIGSTOP)  # or it might be done before the second has begun
    try:
        second = big_job.run(out)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 2 and second.stdout == ""
    (line,) = second.stderr.splitlines()
    assert f"process {first.pid} is writing this output" in line and "wait for it" in line
    assert big_job.end(first).returncode == 0
    assert files_of(out) == undisturbed[0]
