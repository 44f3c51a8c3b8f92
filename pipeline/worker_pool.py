"""A worker pool: starts the workers that label for an engine on this machine.

It serves Beam's EXTERNAL environment as `apache_beam.runners.worker.worker_pool_main` does, with
four differences:

- Whoever reaches a pool has it run their code. Beam's listens on every network and asks nobody who
  they are; this one listens on loopback and serves the users that it was told, by default its own.
- It connects workers to this machine alone.
- A runner numbers its workers from 1 for every job and in every TaskManager, and Beam's pool knows
  them by that number alone: where two share it, one's end stops the other's worker.
- Workers that are processes end when their pool does, however that comes about.

https://beam.apache.org/documentation/runtime/sdk-harness-config/
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc  # type: ignore[import-untyped]
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.utils.sentinel import Sentinel

from glossator.model.errors import UsageError
from glossator.pipeline import peers

LOG_FORMAT = "%(asctime)s %(levelname)s pid %(process)d %(name)s: %(message)s"
_GRACE_SECS = 5.0
_log = logging.getLogger("glossator.pool")


@dataclass(frozen=True)
class Guard:
    """Whom a pool serves."""

    port: int
    """Where the pool listens."""
    uids: Collection[int] | None
    """Users, by number; None for whoever is on this machine."""

    def refusal(self, peer: str) -> str | None:
        """Why a caller is not served, by gRPC's name for it; None if it is."""
        if self.uids is None:
            return None
        caller = peers.endpoint(peer)
        uid = peers.uid_of(caller, self.port) if caller else None
        if uid is None:
            return f"nobody knows whose connection {peer} is"
        if uid not in self.uids:
            return f"user {uid} may not start workers here, but only {sorted(self.uids)}"
        return None


StartWorker: TypeAlias = Callable[[str, str], Callable[[], None]]
"""Starts a worker for an address and under a name; gives what ends it."""


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Workers by who asked for them: a runner keeps one connection to the pool for each."""

    def __init__(self, guard: Guard, start: StartWorker) -> None:
        self._guard = guard
        self._start = start
        self._ends: dict[tuple[str, str], Callable[[], None]] = {}

    def StartWorker(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Starts a worker that takes work from the address in the request."""
        self._check_caller(context)
        url, name = request.control_endpoint.url, request.worker_id
        host, colon, port = url.rpartition(":")
        if not (colon and port.isdecimal() and peers.is_loopback(host)):
            _log.warning("refused a worker for %r: not an address of this machine", url)
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"workers connect to this machine alone (localhost:PORT), not to {url!r}",
            )
        self._ends[context.peer(), name] = self._start(url, name)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Ends a worker; one whose runner has connected anew since ends by itself, work done."""
        self._check_caller(context)
        end = self._ends.pop((context.peer(), request.worker_id), None)
        if end is not None:
            end()
        return beam_fn_api_pb2.StopWorkerResponse()

    def _check_caller(self, context: grpc.ServicerContext) -> None:
        reason = self._guard.refusal(context.peer())
        if reason is not None:
            _log.warning("refused %s: %s", context.peer(), reason)
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"worker pool: {reason}")


def start_process(url: str, name: str) -> Callable[[], None]:
    """A worker that is a process of its own."""
    code = f"from {__name__} import work; work()"
    # the worker sees the end of this pipe when the pool ends, even when it is killed
    worker = subprocess.Popen([sys.executable, "-c", code, url, name], stdin=subprocess.PIPE)
    _log.info("worker %s for %s started, pid %d", name, url, worker.pid)
    threading.Thread(target=_report_end, args=(name, worker), daemon=True).start()
    return lambda: _end(worker)


def start_thread(url: str, name: str) -> Callable[[], None]:
    """A worker that is a thread of this process, as Beam's LOOPBACK environment has them."""
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    harness = SdkHarness(url, worker_id=name, data_buffer_time_limit_ms=-1)
    threading.Thread(target=harness.run, name=f"run_worker_{name}", daemon=True).start()
    return lambda: harness._responses.put(Sentinel.sentinel)


def _report_end(name: str, worker: subprocess.Popen[bytes]) -> None:
    code = worker.wait()
    # negative: of the signal that ended it
    level = logging.INFO if code in (0, -signal.SIGTERM) else logging.ERROR
    _log.log(level, "worker %s, pid %d, ended with code %d", name, worker.pid, code)


@contextmanager
def guarded_loopback(options: PipelineOptions) -> Iterator[None]:
    """Serves the LOOPBACK environment, where the options ask for it, by a pool of ours.

    Beam's would listen on every network. The engine finds ours as an EXTERNAL environment.
    """
    portable = options.view_as(PortableOptions)
    if portable.environment_type != "LOOPBACK" or not peers.TABLES[0].exists():
        yield
        return
    server, port = start_server(0, {os.getuid()}, start_thread)
    portable.environment_type = "EXTERNAL"
    portable.environment_config = f"localhost:{port}"
    try:
        yield
    finally:
        server.stop(None)


def start_server(
    port: int, uids: Collection[int] | None, start: StartWorker = start_process
) -> tuple[grpc.Server, int]:
    """A running pool, on loopback, and its port.

    Args:
        port: where to listen; 0 for a free one.
        uids: who may have it start workers, as numbers of users; None for all of this machine.
        start: how a worker is started.

    Raises:
        UsageError: the port is taken, or may not be used; or the users can't be told apart here.
    """
    if uids is not None and not peers.TABLES[0].exists():
        raise UsageError(
            "a worker pool runs what it is sent, and can't tell here whose connection is whose"
            f" (there is no {peers.TABLES[0]}): allow any user of this machine, if each of them may"
            " run programs as you",
            parameter="allow_any_local_user",
        )
    # a runner pings for as long as it keeps a worker; and two pools must not share a port
    options = [
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(ThreadPoolExecutor(), options=options)
    try:
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        if peers.has_ipv6():  # both, or somebody else could answer to the other one's `localhost`
            server.add_insecure_port(f"[::1]:{bound}")
    except RuntimeError as error:
        raise UsageError(
            f"port {port} is taken, or may not be used: {error}", parameter="port"
        ) from error
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(
        WorkerPool(Guard(bound, uids), start), server
    )
    server.start()
    return server, bound


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(_GRACE_SECS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def work() -> None:
    """What a worker does, in a process of its own: `URL ID` are its arguments."""
    logging.basicConfig(format=LOG_FORMAT)
    threading.Thread(target=_die_with_pool, daemon=True).start()
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    url, name = sys.argv[1:]
    SdkHarness(url, worker_id=name, data_buffer_time_limit_ms=-1).run()


def _die_with_pool() -> NoReturn:
    while os.read(0, 1):  # not by sys.stdin, whose lock would be held at the end
        pass
    os._exit(1)
