"""The worker pool: whose workers it ends, and that none outlives it. It needs no Flink."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

DEADLINE_SECS = 60.0


class Runner:
    """What a TaskManager is to a pool: a connection of its own, and workers counted from 1."""

    def __init__(self, address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # else channels share a connection
        self._channel = grpc.insecure_channel(address, options)
        grpc.channel_ready_future(self._channel).result(timeout=DEADLINE_SECS)
        self._pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(self._channel)

    def start(self, control: str) -> None:
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
        request.control_endpoint.url = control
        assert self._pool.StartWorker(request, timeout=DEADLINE_SECS).error == ""

    def stop(self) -> None:
        request = beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1")
        assert self._pool.StopWorker(request, timeout=DEADLINE_SECS).error == ""


class Serving:
    """A pool's process and its workers."""

    def __init__(self, port: int) -> None:
        self.address = f"localhost:{port}"
        command = [sys.executable, "-m", "glossator.deploy.flink.pool", "--port", str(port)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def workers(self) -> dict[int, str]:
        """Those that live, and the control address that each was given."""
        listed = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=", "-o", "pgid=", "-o", "stat=", "-o", "args="],
            capture_output=True,
            text=True,
            check=True,
        )
        found = {}
        for line in listed.stdout.splitlines():
            pid, group, state, *command = line.split(maxsplit=3)
            ours = int(group) == self.process.pid != int(pid) and state[0] != "Z"
            if ours and "work()" in command[0]:  # a process that is ending has no command line
                found[int(pid)] = command[0].split()[-2]
        return found


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def pool(free_port: Callable[[], int]) -> Iterator[Serving]:
    serving = Serving(free_port())
    yield serving
    with contextlib.suppress(ProcessLookupError):
        os.killpg(serving.process.pid, signal.SIGKILL)
    serving.process.communicate()


@pytest.fixture
def nobody(free_port: Callable[[], int]) -> str:
    """A control address where nobody answers: a worker waits for a minute there."""
    return f"localhost:{free_port()}"


def test_one_runners_end_leaves_the_others_worker(
    pool: Serving, free_port: Callable[[], int]
) -> None:
    first, second = (f"localhost:{free_port()}" for _ in range(2))
    runners = {control: Runner(pool.address) for control in (first, second)}
    for control, runner in runners.items():
        runner.start(control)
    assert sorted(pool.workers().values()) == sorted([first, second])

    runners[first].stop()
    assert list(pool.workers().values()) == [second]
    runners[first].stop()
    assert list(pool.workers().values()) == [second]
    runners[second].stop()
    assert pool.workers() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_pool(pool: Serving, nobody: str, number: signal.Signals) -> None:
    runner = Runner(pool.address)
    runner.start(nobody)
    assert len(pool.workers()) == 1
    os.kill(pool.process.pid, number)
    assert pool.process.wait(DEADLINE_SECS) == (-number if number == signal.SIGKILL else 0)
    wait_until(lambda: pool.workers() == {})


def test_the_pool_tells_what_became_of_a_worker(pool: Serving, nobody: str) -> None:
    runner = Runner(pool.address)
    runner.start(nobody)
    (worker,) = pool.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: pool.workers() == {})
    os.kill(pool.process.pid, signal.SIGTERM)
    _, said = pool.process.communicate(timeout=DEADLINE_SECS)
    (line,) = [line for line in said.splitlines() if "ERROR" in line]
    assert line.endswith(f"worker 1-1, pid {worker}, ended with code -9")


def test_two_pools_do_not_share_a_port(pool: Serving) -> None:
    Runner(pool.address)
    other = Serving(int(pool.address.rpartition(":")[2]))
    try:
        _, said = other.process.communicate(timeout=DEADLINE_SECS)
    finally:
        other.process.kill()
    assert other.process.returncode == 2
    assert pool.address.rpartition(":")[2] in said
