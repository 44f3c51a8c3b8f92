"""`kill -9` at twenty moments of labelling and publishing: `poe test-kills` tells of each.

Ten come from outside as the work goes on, at random moments after so many splits; ten at the steps
of publishing, of which an undisturbed run says which there are. Every other one is over an earlier
publication. Each has written something, or it is no kill that counts.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command_lines import glossator
from jobs import FILES, Job, files_of, processes_of, publication_of, wait_for
from labelled_outputs import good
from moments import at_step, steps_to

pytestmark = pytest.mark.slow

Undisturbed = tuple[dict[str, bytes], float]
LABELLING = PUBLISHING = 10
BEGIN = "_records.json"
"""The first name that publishing writes."""
KEEP = "--keep=0s"
"""So that publishing removes a run, too."""


@pytest.fixture(scope="module")
def earlier(
    big_input: Path, other_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Path]:
    """An empty output; and one with a publication, and the one before that."""
    folder = tmp_path_factory.mktemp("earlier")
    (folder / "empty").mkdir()
    job = Job(big_input, other_bundle)
    for top in (3, 5):
        run = job.run(folder / "published", "--top", top)
        assert run.returncode == 0, run.stderr
    return {False: folder / "empty", True: folder / "published"}


@pytest.fixture(scope="module")
def steps(
    big_input: Path,
    bundle: Path,
    earlier: dict[bool, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[bool, list[str]]:
    """What publishing does to the names in an output, over nothing and over a publication."""
    found = {}
    for over, before in earlier.items():
        folder = tmp_path_factory.mktemp("steps")
        out, log = folder / "out", folder / "log"
        shutil.copytree(before, out)
        run = Job(big_input, bundle).run(out, KEEP, first=steps_to(log, out, BEGIN))
        assert run.returncode == 0, run.stderr
        found[over] = log.read_text().replace(f"{out}/", "").splitlines()
    return found


def first_of_each_kind(steps: list[str]) -> list[int]:
    """Numbers of the steps that are unlike those before: 40 parts are removed alike."""
    found: dict[str, int] = {}
    for number, step in enumerate(steps):
        found.setdefault(re.sub(r"part-\d+|[0-9a-f]{12,}", "", step), number)
    return sorted(found.values())


def written(out: Path, runs_before: set[str]) -> int:
    """Bytes of parts and rejects in the folder of the run that is under way."""
    files = [p for name in ("part-*", "_rejects/part-*") for p in out.glob(f"_runs/*/{name}")]
    return sum(p.stat().st_size for p in files if p.relative_to(out).parts[1] not in runs_before)


def undone(out: Path, run: Any) -> None:
    """Whoever looks is told; what is published is whole; and nothing of the process lives on."""
    end = time.monotonic() + 5
    while processes_of(run.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes_of(run.pid) == []
    said = json.loads(good(glossator("status", out, "--json")))
    assert said["problems"] == [] and said["writer"] is None
    if publication_of(out) is not None:
        assert "whole" in good(glossator("verify", out, "--deep"))


def finish(out: Path, job: Job, undisturbed: Undisturbed) -> str:
    run = glossator("label", *job.arguments, "--output", out, KEEP, "--json")
    assert files_of(out) == undisturbed[0], run.stderr
    assert not [*out.glob("_runs/*/_records"), *out.glob("_runs/*/_plan.json")]
    assert not list(out.rglob("*.tmp"))
    state: str = json.loads(good(run))["state"]
    return state


@pytest.mark.parametrize("number", range(LABELLING))
def test_killed_while_it_labels(
    number: int, tmp_path: Path, earlier: dict[bool, Path], big_job: Job, undisturbed: Undisturbed
) -> None:
    out, chance = tmp_path / "out", random.Random(number)
    shutil.copytree(earlier[bool(number % 2)], out)
    before, runs = publication_of(out), {p.name for p in out.glob("_runs/*")}
    splits = 1 + number * (FILES - 4) // (LABELLING - 1)

    def done() -> int:
        return len(list(out.glob("_runs/*/_records/part-*.json")))

    process = big_job.start(out, KEEP)
    wait_for(lambda: done() >= splits, process)
    time.sleep(chance.random() * undisturbed[1] / FILES)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    had, size = done(), written(out, runs)
    assert process.returncode == -signal.SIGKILL and size > 0
    undone(out, process)
    assert publication_of(out) == before
    state = finish(out, big_job, undisturbed)
    assert state == "published"
    _tell(number, f"labelling, {had} of {FILES} splits and {size:,} bytes written", before, state)


@pytest.mark.parametrize("number", range(PUBLISHING))
def test_killed_while_it_publishes(
    number: int,
    tmp_path: Path,
    earlier: dict[bool, Path],
    steps: dict[bool, list[str]],
    big_job: Job,
    undisturbed: Undisturbed,
) -> None:
    over, out = bool(number % 2), tmp_path / "out"
    shutil.copytree(earlier[over], out)
    before, runs = publication_of(out), {p.name for p in out.glob("_runs/*")}
    kinds = first_of_each_kind(steps[over])
    step = kinds[number * (len(kinds) - 1) // (PUBLISHING - 1)]
    process = big_job.start(out, KEEP, first=at_step(out, BEGIN, step, signal.SIGKILL))
    process.communicate(timeout=180)
    size = written(out, runs)
    assert process.returncode == -signal.SIGKILL and size > sum(map(len, undisturbed[0].values()))
    undone(out, process)
    now = publication_of(out)
    switched = now is not None and now.keys() == undisturbed[0].keys()
    assert files_of(out) == undisturbed[0] if switched else now == before
    state = finish(out, big_job, undisturbed)
    assert state == ("unchanged" if switched else "published")
    _tell(LABELLING + number, f"publishing, before {steps[over][step]}", before, state)


def _tell(number: int, moment: str, before: object, rerun: str) -> None:
    over = "over a publication" if before else "over nothing"
    print(f"kill {number + 1}: {moment}, {over}: whole; rerun: {rerun}, the same bytes", flush=True)
