"""Too few threads and too little memory, of a real process: it is done, or ends with a line."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import glossator
from jobs import Job, files_of, publication_of
from labelled_outputs import good

_DROP, _SYS_ADMIN, _SYS_RESOURCE = 24, 21, 24
"""Of Linux: what `prctl` does, and the rights to pass over the limit."""
_NOBODY = 100_000 + os.getpid()
"""A user who runs nothing else, so that the limit is of the job alone."""


def threads(most: int) -> Callable[[], None]:
    """As `ulimit -u` for a job that may read and write what the tests may."""

    def limit() -> None:
        for right in (_SYS_ADMIN, _SYS_RESOURCE):
            assert ctypes.CDLL(None).prctl(_DROP, right, 0, 0, 0) == 0
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        os.setresuid(_NOBODY, 0, 0)

    return limit


def memory(kilobytes: int) -> Callable[[], None]:
    """As `ulimit -v`."""
    limit = kilobytes << 10
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a job as another user")
@pytest.mark.parametrize(
    ("most", "enough"),
    [(5, False), *(pytest.param(n, n > 8, marks=pytest.mark.slow) for n in (1, 2, 3, 8, 16))],
)
def test_too_few_threads(
    most: int, enough: bool, tmp_path: Path, other_bundle: Path, small_job: Job
) -> None:
    line = limited(threads(most), tmp_path, other_bundle, small_job)
    if line is None:
        assert enough or most == 8  # which may do, or not
    else:
        assert not enough and "can't start new thread" in line
        assert "the memory or the number of threads is limited (ulimit -v, -u)" in line


@pytest.mark.parametrize(
    "kilobytes",
    [2_300_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (2_000_000, 3_145_728))],
)
def test_little_address_space(
    kilobytes: int, tmp_path: Path, other_bundle: Path, small_job: Job
) -> None:
    limited(memory(kilobytes), tmp_path, other_bundle, small_job)


def limited(limit: Callable[[], None], folder: Path, other_bundle: Path, job: Job) -> str | None:
    """The line that a job over an earlier publication ends with; None if it is done.

    If no line can be, it may end without one. The earlier publication stays till the new one is
    whole, which has the bytes of a run without limits.
    """
    out, undisturbed = folder / "out", folder / "undisturbed"
    good(glossator("label", *job.arguments, "--model", other_bundle, "--output", out))
    before = publication_of(out)
    began = time.monotonic()
    run = job.run(out, preexec_fn=limit)
    assert time.monotonic() - began < 120
    if run.returncode != 0:
        assert publication_of(out) == before
    for place in (out, undisturbed):
        good(glossator("label", *job.arguments, "--output", place))
    assert files_of(out) == files_of(undisturbed) != {}
    assert publication_of(out) == publication_of(undisturbed) != before
    if run.returncode != 1:
        return None
    assert run.stdout == "" and "Traceback" not in run.stderr
    line: str = run.stderr.splitlines()[-1]
    assert line.startswith("glossator: ")
    return line
