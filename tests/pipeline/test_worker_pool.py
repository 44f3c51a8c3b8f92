"""The pool inside the client, which serves Beam's LOOPBACK environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from users import OTHER, needs_another_user

from glossator.model.errors import UsageError
from glossator.pipeline.engines import peers, worker_pool
from glossator.pipeline.engines.worker_pool import guarded_loopback

LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}
ASK = """
import encodings.idna, os, sys
import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
os.setgroups([])
os.setuid(int(sys.argv[2]))
pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(grpc.insecure_channel(sys.argv[1]))
try:
    pool.StartWorker(beam_fn_api_pb2.StartWorkerRequest(worker_id="1"), timeout=30)
except grpc.RpcError as error:
    print(error.code().name)
"""
"""All is imported first: the other user may not read this Python's files."""

pytestmark = pytest.mark.skipif(
    not peers.TABLES[0].exists(), reason="only Linux lists whose a socket is"
)


def options(*flags: str) -> PortableOptions:
    given: PortableOptions = PipelineOptions(list(flags)).view_as(PortableOptions)
    return given


def addresses(port: int) -> set[str]:
    """Where this machine listens at a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, own, _, state, *_ = line.split()
            if state == "0A" and int(own.rpartition(":")[2], 16) == port:
                found.add(own.rpartition(":")[0])
    return found


def test_engine_finds_a_pool_on_loopback_while_the_job_runs() -> None:
    given = options("--environment_type=LOOPBACK")
    with guarded_loopback(given):
        assert given.environment_type == "EXTERNAL"
        host, _, port = given.environment_config.partition(":")
        assert host == "localhost"
        assert addresses(int(port)) and addresses(int(port)) <= LOOPBACK
    assert addresses(int(port)) == set()


def test_it_starts_workers_for_this_user() -> None:
    given = options("--environment_type=LOOPBACK")
    with guarded_loopback(given), grpc.insecure_channel(given.environment_config) as channel:
        pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1")
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):  # known, and asked for nothing
            pool.StartWorker(request, timeout=30)


@needs_another_user
def test_it_refuses_another_user() -> None:
    given = options("--environment_type=LOOPBACK")
    with guarded_loopback(given):
        asked = subprocess.run(
            [sys.executable, "-c", ASK, given.environment_config, str(OTHER)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert asked.stdout == "PERMISSION_DENIED\n"


@pytest.mark.parametrize(
    "flags", [(), ("--environment_type=EXTERNAL", "--environment_config=localhost:1")]
)
def test_other_environments_are_left_alone(flags: tuple[str, ...]) -> None:
    given = options(*flags)
    before = given.get_all_options()
    with guarded_loopback(given):
        assert given.get_all_options() == before


def test_where_users_can_not_be_told_apart_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "TABLES", (tmp_path / "no-such-table",))
    with pytest.raises(UsageError, match="whose connection is whose"):
        worker_pool.start_server(0, {os.getuid()})
    server, port = worker_pool.start_server(0, None)
    server.stop(None)
    assert port > 0
