"""A store that fails now and then, or for good: the same labels, or a line and a rerun."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from command_lines import shell
from real_stores import S3
from sample_comments import make_comments, write_comments
from store_proxy import FAULTS, Fault, Proxy, Request

pytestmark = pytest.mark.stores

FILES = 6
EVERY = 10
"""So many requests are one that fails."""
SHORT = {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 1}}}
"""For s3fs: what would else take minutes."""


class Night:
    """A job on S3: input, model and output."""

    def __init__(self, s3: S3, bundle: Path, folder: Path) -> None:
        for i in range(FILES):
            texts = [None, *(f"{text} {i}" for text in make_comments(300, seed=i))]
            write_comments(folder / f"{i}.parquet", texts, first_id=1000 * i)
        self.s3 = s3
        self.flags = ["--input", s3.put(folder, "in"), "--model", s3.put(bundle, "model")]

    def run(self, out: str, **environment: str) -> subprocess.CompletedProcess[str]:
        flags = ["-m", "glossator.pipeline", *self.flags, "--key", "id", "--workers", "2"]
        environment = {**os.environ, **environment}
        return shell(*flags, "--output", f"{self.s3.uri}/{out}", env=environment)

    def labels(self, out: str) -> dict[str, bytes]:
        """Parts and rejects, by their names and those of their folders."""
        files = self.s3.files(out)
        of_parts = [name for name in files if name.rpartition("/")[2].startswith("part-")]
        return {"_rejects/" * ("_rejects/" in n) + n.rpartition("/")[2]: files[n] for n in of_parts}


@pytest.fixture
def night(s3: S3, bundle: Path, tmp_path: Path) -> Night:
    return Night(s3, bundle, tmp_path / "in")


def test_a_store_that_fails_now_and_then(night: Night) -> None:
    """Each kind of fault at every tenth request; all clients try again."""
    undisturbed = night.run("calm")
    assert undisturbed.returncode == 0 and "conditions" not in undisturbed.stderr, (
        undisturbed.stderr
    )
    expected = night.labels("calm")
    assert len(expected) == 2 * FILES
    kinds = itertools.cycle(FAULTS)

    def spoil(_: Request, number: int) -> Fault | None:
        return next(kinds) if number % EVERY == 0 else None

    with Proxy(night.s3.url, spoil) as proxy:
        night.s3.ask(url=proxy.url)
        run = night.run("storm")
    assert run.returncode == 0 and "conditions" not in run.stderr, run.stderr
    assert all(proxy.faults[kind] >= 2 for kind in FAULTS), proxy.faults
    assert night.labels("storm") == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "after"), [("hang", "in/3.parquet"), ("503", "_records/part-00002")]
)
def test_a_store_that_fails_for_good(night: Night, fault: Fault, after: str) -> None:
    """From a moment on: the job ends with a line, and goes on when the store is back."""
    begun: list[float] = []
    asked: Counter[str] = Counter()

    def spoil(request: Request, _: int) -> Fault | None:
        if after in request.path:
            asked[request.path] += 1
            if max(asked.values()) > 1:  # for the first time it was to plan, or to see what is done
                begun.append(time.monotonic())
        return fault if begun else None

    with Proxy(night.s3.url, spoil) as proxy:
        night.s3.ask(url=proxy.url)
        run = night.run("out", FSSPEC_S3=json.dumps(SHORT))
    assert run.returncode == 1 and begun, run.stderr
    assert time.monotonic() - begun[0] < 90
    line = run.stderr.splitlines()[-1]
    assert line.startswith("glossator: ") and "Traceback" not in run.stderr
    assert "nothing was published, run it again to resume" in line
    night.s3.ask()
    again = night.run("out")
    assert again.returncode == 0, again.stderr
    calm = night.run("calm")
    assert calm.returncode == 0 and night.labels("out") == night.labels("calm")
