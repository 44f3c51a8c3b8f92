"""The worker pool: whom it serves, whose workers it ends, and that none outlives it. No Flink."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from real_engines import free_port
from users import OTHER, needs_another_user

DEADLINE_SECS = 60.0
"""A user who is not this one."""
# all is imported before: the other user may not read this Python's files
ASK_AS = """
import encodings.idna, os, sys
import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
address, uid, call, control = sys.argv[1:]
os.setgroups([])
os.setgid(int(uid))
os.setuid(int(uid))
pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(grpc.insecure_channel(address))
request = getattr(beam_fn_api_pb2, call + "Request")(worker_id="1-1")
if call == "StartWorker":
    request.control_endpoint.url = control
try:
    getattr(pool, call)(request, timeout=30, wait_for_ready=True)
    print("SERVED")
except grpc.RpcError as error:
    print(error.code().name, error.details())
"""
"""A program that calls a pool as another user, and says what became of it."""


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

    def __init__(self, port: int, *flags: str) -> None:
        self.address = f"localhost:{port}"
        command = [sys.executable, "-m", "glossator.deploy.flink.pool", "--port", str(port), *flags]
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

    def end(self) -> str:
        """Ends the pool, and gives its log."""
        os.kill(self.process.pid, signal.SIGTERM)
        _, said = self.process.communicate(timeout=DEADLINE_SECS)
        return said


def ask_as(uid: int, serving: Serving, call: str, control: str = "") -> str:
    """What a pool says to a user: `SERVED`, or why not."""
    asked = subprocess.run(
        [sys.executable, "-c", ASK_AS, serving.address, str(uid), call, control],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECS,
        check=True,
    )
    return asked.stdout.strip()


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> Iterator[Serving]:
    serving = Serving(free_port(), *getattr(request, "param", ()))
    yield serving
    with contextlib.suppress(ProcessLookupError):
        os.killpg(serving.process.pid, signal.SIGKILL)
    serving.process.communicate()


@pytest.fixture
def nobody() -> str:
    """A control address where nobody answers: a worker waits for a minute there."""
    return f"localhost:{free_port()}"


def test_one_runners_end_leaves_the_others_worker(pool: Serving) -> None:
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
    said = pool.end()
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


@needs_another_user
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_another_user_is_refused(pool: Serving, nobody: str, host: str) -> None:
    pool.address = pool.address.replace("localhost", host)
    for call in ("StartWorker", "StopWorker"):
        said = ask_as(OTHER, pool, call, nobody)
        assert said.startswith("PERMISSION_DENIED") and f"user {OTHER} may not" in said
    assert pool.workers() == {}
    refused = [line for line in pool.end().splitlines() if "WARNING" in line and "refused" in line]
    assert len(refused) == 2 and all(f"user {OTHER} " in line for line in refused)


@needs_another_user
@pytest.mark.parametrize(
    "pool", [("--allow-uid", str(OTHER)), ("--allow-any-local-user",)], indirect=True
)
def test_another_user_who_is_allowed_is_served(pool: Serving, nobody: str) -> None:
    assert ask_as(OTHER, pool, "StartWorker", nobody) == "SERVED"
    assert list(pool.workers().values()) == [nobody]
    assert ask_as(0, pool, "StartWorker", nobody) == "SERVED"


@needs_another_user
@pytest.mark.parametrize("pool", [("--allow-uid", "4711")], indirect=True)
def test_who_is_allowed_is_that_user_alone(pool: Serving, nobody: str) -> None:
    assert ask_as(OTHER, pool, "StartWorker", nobody).startswith("PERMISSION_DENIED")
    assert pool.workers() == {}


@pytest.mark.parametrize(
    "control", ["192.0.2.1:80", "example.org:80", "dns:///localhost:80", "unix:/tmp/x", "0.0.0.0:1"]
)
def test_workers_connect_to_this_machine_alone(pool: Serving, control: str) -> None:
    runner = Runner(pool.address)
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
        runner.start(control)
    assert pool.workers() == {}
    assert repr(control) in pool.end()


def test_it_listens_on_this_machine_alone(pool: Serving) -> None:
    Runner(pool.address)
    port = pool.address.rpartition(":")[2]
    heard = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, own, _, state, *_ = line.split()
            if state == "0A" and int(own.rpartition(":")[2], 16) == int(port):
                heard.append(own.rpartition(":")[0])
    assert heard
    assert set(heard) <= {
        "0100007F",
        "0000000000000000FFFF00000100007F",
        "00000000000000000000000001000000",
    }


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_nobody_else_answers_at_its_port(family: socket.AddressFamily) -> None:
    """Whoever has one of the addresses that `localhost` stands for would get its calls."""
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    port = free_port()
    try:
        taken = socket.create_server((address, port), family=family)
    except OSError:
        pytest.skip(f"no {address} here")
    with taken:
        serving = Serving(port)
        try:
            _, said = serving.process.communicate(timeout=DEADLINE_SECS)
        finally:
            serving.process.kill()
    assert serving.process.returncode == 2
    assert f"port {port} is taken" in said
