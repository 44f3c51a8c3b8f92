"""A worker pool: starts the Python processes that work for the TaskManagers of this machine.

It serves Beam's EXTERNAL environment as `apache_beam.runners.worker.worker_pool_main` does, with
three differences. A runner numbers its workers from 1 for every job and in every TaskManager, and
Beam's pool knows them by that number alone: where two share it, one's end stops the other's worker.
Beam's pool listens on every network, and whoever reaches it can have it run their code; this one
listens on this machine. And workers end when their pool does, however that comes about.

https://beam.apache.org/documentation/runtime/sdk-harness-config/
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import click
import grpc  # type: ignore[import-untyped]
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from glossator.model.errors import UsageError

PORT = 50000
_GRACE_SECS = 5.0
_LINE = "%(asctime)s %(levelname)s pid %(process)d %(name)s: %(message)s"
_log = logging.getLogger("glossator.pool")


class Pool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Workers by who asked for them: a runner keeps one connection to the pool for each."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def StartWorker(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Starts a process that takes work from the address in the request."""
        url, name = request.control_endpoint.url, request.worker_id
        code = "from glossator.deploy.flink.pool import work; work()"
        # the worker sees the end of this pipe when the pool ends, even when it is killed
        worker = subprocess.Popen([sys.executable, "-c", code, url, name], stdin=subprocess.PIPE)
        self._workers[context.peer(), name] = worker
        _log.info("worker %s for %s started, pid %d", name, url, worker.pid)
        threading.Thread(target=self._see_off, args=(name, worker), daemon=True).start()
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Ends a worker; one whose runner has connected anew since ends by itself, work done."""
        worker = self._workers.pop((context.peer(), request.worker_id), None)
        if worker is not None:
            _end(worker)
        return beam_fn_api_pb2.StopWorkerResponse()

    def _see_off(self, name: str, worker: subprocess.Popen[bytes]) -> None:
        code = worker.wait()
        # negative: of the signal that ended it
        level = logging.INFO if code in (0, -signal.SIGTERM) else logging.ERROR
        _log.log(level, "worker %s, pid %d, ended with code %d", name, worker.pid, code)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(_GRACE_SECS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def work() -> None:
    """What a worker does, in a process of its own: `URL ID` are its arguments."""
    logging.basicConfig(format=_LINE)
    threading.Thread(target=_die_with_pool, daemon=True).start()
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    url, name = sys.argv[1:]
    SdkHarness(url, worker_id=name, data_buffer_time_limit_ms=-1).run()


def _die_with_pool() -> NoReturn:
    while os.read(0, 1):  # not by sys.stdin, whose lock would be held at the end
        pass
    os._exit(1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True)
def serve(port: int) -> None:
    """Start workers on this machine for whoever asks at localhost:PORT, until it is ended."""
    logging.basicConfig(format=_LINE, force=True)  # the command line has set another one
    _log.setLevel(logging.INFO)
    # a runner pings for as long as it keeps a worker; and two pools must not share a port
    options = [
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(ThreadPoolExecutor(), options=options)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(Pool(), server)
    try:
        server.add_insecure_port(f"localhost:{port}")
    except RuntimeError as error:
        raise UsageError(f"--port {port} is taken, or may not be used: {error}") from error
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    _log.info("starts workers at localhost:%d", port)
    ended.wait()
    server.stop(None)


if __name__ == "__main__":
    from glossator.pipeline.cli import main

    main(command=serve)
