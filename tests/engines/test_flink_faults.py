"""A Flink cluster whose processes are killed, that is not there, or whose client is stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import files_of, publication_of, wait_for

Files = Callable[[Path], dict[str, bytes]]
Publication = Callable[[Path], "dict[str, str] | None"]
Undisturbed = tuple[dict[str, bytes], float]
Wait = Callable[..., None]

pytestmark = pytest.mark.flink
LEAVE_SECS = 60.0


@pytest.fixture
def cluster(flink_cluster: Any) -> Iterator[Any]:
    """The cluster, whole again after each test and without jobs."""
    yield flink_cluster
    start_again(flink_cluster)
    assert running(flink_cluster) == []


@pytest.fixture
def flags(cluster: Any, job_server_jar: Path) -> list[str]:
    return [
        "--runner=FlinkRunner",
        f"--flink_master={cluster.master}",
        f"--flink_conf_dir={cluster.conf}",
        f"--flink_job_server_jar={job_server_jar}",
        f"--environment_config={cluster.pool}",
        "--parallelism=2",
    ]


def running(cluster: Any) -> list[str]:
    """The jobs that have not ended."""
    jobs = cluster.ask("/jobs/overview")["jobs"]
    ended = ("FINISHED", "CANCELED", "FAILED")
    return [job["jid"] for job in jobs if job["state"] not in ended]


def start_again(cluster: Any) -> None:
    """Starts again what was killed."""
    started = cluster.command("start")
    assert started.returncode == 0, started.stderr


def begun(out: Path) -> bool:
    return any(out.glob("_runs/*/_records/*.json"))


def finish(run: Any, job: Any, out: Path, flags: list[str]) -> None:
    """A job that was disturbed has published, or failed in a line and is run again."""
    if run.returncode != 0:
        assert run.returncode == 1, run.stderr
        told = [line for line in run.stderr.splitlines() if line.startswith("glossator: ")]
        assert len(told) == 1 and "run it again to resume" in told[0], run.stderr
        again = job.run(out, *flags)
        assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_the_client_cancels_the_job(
    number: signal.Signals,
    tmp_path: Path,
    big_job: Any,
    cluster: Any,
    flags: list[str],
    undisturbed: Undisturbed,
) -> None:
    out = tmp_path / "out"
    process = big_job.start(out, *flags)
    wait_for(lambda: begun(out), process)
    assert len(running(cluster)) == 1
    asked = time.monotonic()
    process.send_signal(number)
    run = big_job.end(process)  # which sees that no job server is left, either
    assert time.monotonic() - asked < LEAVE_SECS
    assert running(cluster) == []
    assert run.returncode == 1 and f"stopped by {number.name}" in run.stderr
    assert publication_of(out) is None

    again = big_job.run(out, *flags)
    assert again.returncode == 0 and "resuming: " in again.stderr, again.stderr
    assert files_of(out) == undisturbed[0]


@pytest.mark.parametrize("delay", [0.5, 4.0, 7.0])
def test_stopping_the_client_while_it_submits(
    delay: float,
    tmp_path: Path,
    big_job: Any,
    cluster: Any,
    flags: list[str],
    undisturbed: Undisturbed,
) -> None:
    out = tmp_path / "out"
    process = big_job.start(out, *flags)
    time.sleep(delay)
    process.terminate()
    assert big_job.end(process).returncode in (1, -signal.SIGTERM)
    time.sleep(1)
    assert running(cluster) == []
    assert big_job.run(out, *flags).returncode == 0
    assert files_of(out) == undisturbed[0]


def test_killed_client_is_followed_by_one_that_waits_for_its_job(
    tmp_path: Path, big_job: Any, cluster: Any, flags: list[str], undisturbed: Undisturbed
) -> None:
    out = tmp_path / "out"
    first = big_job.start(out, *flags)
    wait_for(lambda: begun(out), first)
    (left,) = running(cluster)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = big_job.run(out, *flags)
    assert second.returncode == 0, second.stderr
    assert f"job {left} of an earlier client is labelling this" in second.stderr
    assert files_of(out) == undisturbed[0]


@pytest.mark.parametrize("role", ["taskmanager-1", "taskmanager-2", "worker-pool"])
def test_process_of_the_cluster_is_killed(
    role: str,
    tmp_path: Path,
    big_job: Any,
    cluster: Any,
    flags: list[str],
    undisturbed: Undisturbed,
) -> None:
    out = tmp_path / "out"
    process = big_job.start(out, *flags, "--start-minutes=1", "--stall-minutes=1")
    wait_for(lambda: begun(out), process)
    os.kill(cluster.pids[role], signal.SIGKILL)
    run = big_job.end(process)
    start_again(cluster)
    finish(run, big_job, out, flags)
    assert files_of(out) == undisturbed[0]


def test_worker_is_killed(
    tmp_path: Path, big_job: Any, cluster: Any, flags: list[str], undisturbed: Undisturbed
) -> None:
    out = tmp_path / "out"
    process = big_job.start(out, *flags)
    wait_for(lambda: begun(out), process)
    sign = json.loads(next(out.glob("_runs/*/_workers/*.json")).read_text())
    os.kill(sign["pid"], signal.SIGKILL)
    finish(big_job.end(process), big_job, out, flags)
    assert files_of(out) == undisturbed[0]


def test_workers_that_cannot_start(
    tmp_path: Path, small_job: Any, cluster: Any, flags: list[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        pool = f"localhost:{closed.getsockname()[1]}"
    own = [f"--environment_config={pool}", "--start-minutes=0.5"]
    run = small_job.run(tmp_path / "out", *flags, *own)
    assert run.returncode == 1
    line = next(line for line in run.stderr.splitlines() if line.startswith("glossator: "))
    assert "nothing was published" in line
    assert pool in line and "log" in line
    assert running(cluster) == []
