"""The disk is full: an honest end, nothing lost, and a rerun with more room."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jobs
import pytest
from jobs import files_of, publication_of

Files = Callable[[Path], dict[str, bytes]]
Publication = Callable[[Path], "dict[str, str] | None"]
Undisturbed = tuple[dict[str, bytes], float]


def one_line(run: Any, *words: str) -> None:
    assert run.returncode == 1 and run.stdout == "", run.stderr
    told = [line for line in run.stderr.splitlines() if line.startswith("glossator: ")]
    assert len(told) == 1 and told[0] == run.stderr.splitlines()[-1]
    for word in (*words, "nothing was published", "run it again"):
        assert word in told[0]


def files_of_at_most(count: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))


@pytest.mark.parametrize(
    "most", [5_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 2, 100))]
)
def test_files_may_not_grow(most: int, tmp_path: Path, other_bundle: Path, small_job: Any) -> None:
    """As on a full disk, a write fails: that of the lock's, of a part's magic, of its rows."""
    out = tmp_path / "out"
    assert small_job.run(out, "--model", other_bundle).returncode == 0
    before = publication_of(out)
    one_line(small_job.run(out, preexec_fn=files_of_at_most(most)), "File too large")
    assert publication_of(out) == before
    assert not list(out.rglob("*.tmp"))
    assert small_job.run(out).returncode == 0
    assert publication_of(out) != before
    undisturbed = tmp_path / "undisturbed"
    assert small_job.run(undisturbed).returncode == 0
    assert files_of(out) == files_of(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, with room for one publication of the big job but not for two."""
    with jobs.small_disk(tmp_path / "disk", "16m") as disk:
        yield disk


def test_disk_that_is_full(
    small_disk: Path, other_bundle: Path, big_job: Any, undisturbed: Undisturbed
) -> None:
    out = small_disk / "out"
    run = big_job.run(out, "--model", other_bundle)
    assert run.returncode == 0, run.stderr
    before = publication_of(out)
    used = sum(map(len, files_of(out).values()))
    filler = small_disk / "filler"
    filler.write_bytes(bytes((16 << 20) - used - used // 2))
    one_line(big_job.run(out), "No space left on device")
    assert publication_of(out) == before
    filler.unlink()
    run = big_job.run(out)
    assert run.returncode == 0 and "resuming: " in run.stderr
    assert files_of(out) == undisturbed[0]
