"""`kill -9`: readers see a whole publication or none, and a rerun finishes.

A few moments; `test_twenty_kills.py` has them all.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import files_of, processes_of, publication_of, wait_for

Files = Callable[[Path], dict[str, bytes]]
Publication = Callable[[Path], "dict[str, str] | None"]
Undisturbed = tuple[dict[str, bytes], float]
Wait = Callable[..., None]
Processes = Callable[[int], list[int]]


def kill(process: subprocess.Popen[str], processes_of: Processes) -> None:
    """Kills the job's process alone; whatever else it started has to go by itself, at once."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 5
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(process.pid) == []


def records(out: Path) -> int:
    """Splits that are done."""
    return len(list(out.glob("_runs/*/_records/part-*.json")))


def publishing(out: Path) -> Callable[[], bool]:
    """Whether a run is whole, and its work is not cleared away yet."""
    return lambda: any(
        (plan.parent / "_records.json").exists() for plan in out.glob("_runs/*/_plan.json")
    )


def finish(big_job: Any, out: Path, undisturbed: Undisturbed, files_of: Files) -> dict[str, Any]:
    """The next run ends well, and what it publishes is what it would always have been."""
    run = big_job.run(out, "--json")
    assert run.returncode == 0, run.stderr
    assert files_of(out) == undisturbed[0]
    assert not [*out.glob("_runs/*/_records"), *out.glob("_runs/*/_plan.json")]
    said: dict[str, Any] = json.loads(run.stdout)
    return said


def test_killed_again_and_again(tmp_path: Path, big_job: Any, undisturbed: Undisturbed) -> None:
    """Each run goes on where the one before was killed: twice at work, once as it publishes."""
    out, chance, done = tmp_path / "out", random.Random(1), 0
    for _ in range(2):
        process = big_job.start(out)
        wait_for(lambda: records(out) > done, process)  # noqa: B023 - used before done changes
        time.sleep(chance.random() * undisturbed[1] / 3)
        kill(process, processes_of)
        assert publication_of(out) is None
        assert records(out) > done
        done = records(out)
    process = big_job.start(out)
    assert f"resuming: {done} are done" in process.stderr.readline()
    wait_for(publishing(out), process)
    kill(process, processes_of)
    publication_of(out)
    finish(big_job, out, undisturbed, files_of)


@pytest.mark.parametrize(
    "moment", ["labelling", "publishing", pytest.param("settling", marks=pytest.mark.slow)]
)
def test_killed_over_an_earlier_publication(
    moment: str, tmp_path: Path, other_bundle: Path, big_job: Any, undisturbed: Undisturbed
) -> None:
    out = tmp_path / "out"
    assert big_job.run(out, "--model", other_bundle).returncode == 0
    before = publication_of(out)
    assert before and before.keys().isdisjoint(undisturbed[0])
    pointer = (out / "_current.json").read_bytes()
    process = big_job.start(out)
    moments: dict[str, Callable[[], object]] = {
        "labelling": lambda: records(out),
        "publishing": publishing(out),
        "settling": lambda: (out / "_current.json").read_bytes() != pointer,
    }
    wait_for(moments[moment], process)
    kill(process, processes_of)
    now = publication_of(out)
    switched = (out / "_current.json").read_bytes() != pointer
    assert now is not None and (now.keys() == undisturbed[0].keys() if switched else now == before)
    assert not switched or moment != "labelling"
    said = finish(big_job, out, undisturbed, files_of)
    assert said["state"] == ("unchanged" if switched else "published")
