"""A run on an object store that is paused or killed while another takes over can't publish."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command_lines import glossator
from jobs import Job, wait_for
from labelled_outputs import good
from real_stores import S3
from store_proxy import Fault, Proxy, Request

pytestmark = [pytest.mark.stores, pytest.mark.slow]

LEASE_SECS = 30.0


class Pausing:
    """A proxy's `spoil`: sends a process a signal as a request comes that holds a word."""

    def __init__(self, method: str, word: str, number: signal.Signals, fault: Fault | None) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.hit = False
        self._method, self._word, self._number, self._fault = method, word, number, fault

    def __call__(self, request: Request, _: int) -> Fault | None:
        asked = request.method == self._method and self._word in request.path
        if self.hit or self.process is None or not asked:
            return None
        self.hit = True
        self.process.send_signal(self._number)
        return self._fault


def status(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(good(glossator("status", out, "--json")))
    return found


def labels(s3: S3, out: str) -> dict[str, bytes]:
    """Parts of the run that is current."""
    files = s3.files(out)
    folder = json.loads(files["_current.json"])["parts"].rpartition("/")[0] if files else ""
    return {n: data for n, data in files.items() if folder and n.startswith(f"{folder}/part-")}


def publish(job: Job, out: str, model: Path) -> str:
    """By a job that nothing happens to; which run it published."""
    run = job.run(out, "--model", model, "--json")
    assert run.returncode == 0, run.stderr
    found: str = status(out)["published"]["run"]
    return found


@pytest.mark.parametrize(("method", "word"), [("PUT", "_records/"), ("PUT", "_manifest.json")])
def test_a_paused_run_that_wakes(
    method: str, word: str, s3: S3, small_job: Job, bundle: Path, other_bundle: Path
) -> None:
    """As it labels, and in the last moment before it would have published."""
    out, calm = f"{s3.uri}/out", f"{s3.uri}/calm"
    spoil = Pausing(method, word, signal.SIGSTOP, None)
    with Proxy(s3.url, spoil) as proxy:
        s3.ask(url=proxy.url)
        spoil.process = paused = small_job.start(out, "--json")
        wait_for(lambda: spoil.hit, paused)
        assert spoil.hit, paused.communicate()
        s3.ask()
        began = time.monotonic()
        other = small_job.run(out, "--model", other_bundle, "--json")
        assert other.returncode == 0, other.stderr
        assert "holds the lease: watching for 30 s whether it lives" in other.stderr
        assert "is dead: taking over" in other.stderr
        assert time.monotonic() - began > LEASE_SECS
        now, parts = status(out)["published"], labels(s3, "out")
        paused.send_signal(signal.SIGCONT)
        run = small_job.end(paused)
    assert run.returncode == 1 and run.stdout == "" and "Traceback" not in run.stderr
    line = run.stderr.splitlines()[-1]
    assert "output over: what is published is that run's" in line.replace("took the", ""), line
    assert "nothing was published" not in line
    assert status(out)["published"] == now and labels(s3, "out") == parts != {}
    assert status(out)["writer"] is None
    assert "whole" in good(glossator("verify", out, "--deep"))
    publish(small_job, out, bundle)  # it may go on now
    publish(small_job, calm, bundle)
    assert by_name(labels(s3, "out")) == by_name(labels(s3, "calm"))


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("_records/", None),
        ("_manifest.json", "reset"),
        ("_current.json", "reset"),
        ("_current.json", "lost"),
    ],
)
def test_killed_at_a_request(
    word: str, fault: Fault | None, s3: S3, small_job: Job, bundle: Path, other_bundle: Path
) -> None:
    """Over a publication; before the store hears of the request, and after it has done it."""
    out, calm = f"{s3.uri}/out", f"{s3.uri}/calm"
    before = publish(small_job, out, other_bundle)
    old = labels(s3, "out")
    spoil = Pausing("PUT", word, signal.SIGKILL, fault)
    with Proxy(s3.url, spoil) as proxy:
        s3.ask(url=proxy.url)
        killed = small_job.start(out)
        if word == "_current.json":  # it is written to take a token, too
            wait_for(lambda: proxy.count("_records.json")["PUT"], killed)
        spoil.process = killed
        killed.communicate(timeout=180)
    assert spoil.hit and killed.returncode == -signal.SIGKILL
    s3.ask()
    switched = fault == "lost"
    now = status(out)
    assert (now["published"]["run"] == before) != switched and now["problems"] == []
    assert switched or labels(s3, "out") == old
    assert "dead if it stays at beat" in now["writer"]
    assert "whole" in good(glossator("verify", out, "--deep"))
    run = small_job.run(out, "--json")
    assert run.returncode == 0 and "is dead: taking over" in run.stderr, run.stderr
    assert json.loads(run.stdout)["state"] == ("unchanged" if switched else "published")
    publish(small_job, calm, bundle)
    assert by_name(labels(s3, "out")) == by_name(labels(s3, "calm")) != {}


def by_name(parts: dict[str, bytes]) -> dict[str, bytes]:
    return {name.rpartition("/")[2]: data for name, data in parts.items()}
