"""A local run opens no door: no socket of the process listens, on any address family."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import wait_for
from users import OTHER, needs_another_user

Wait = Callable[..., None]

LISTENS = "0A"
"""In /proc/net/tcp."""
ACCEPTS = 1 << 16
"""A flag in /proc/net/unix."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sockets are listed in /proc")


def inodes(pid: int) -> set[str]:
    """The sockets that a process has open."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            found.add(match[1])
    return found


def listening(pid: int) -> set[str]:
    """Those of its sockets at which others may call: TCP, and Unix sockets by path or by name."""
    own, found = inodes(pid), set()
    for kind in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in own:
                found.add(f"{kind} {fields[1]}")
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & ACCEPTS and fields[6] in own:
            found.add(f"unix {fields[-1]}")
    return found


def seen(big_job: Any, out: Path, wait_for: Wait, *flags: str) -> set[str]:
    """All that listened at some time while the job labelled, in the process or one it started."""
    found: set[str] = set()
    process = big_job.start(out, *flags)

    def done() -> bool:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (process.pid, *map(int, children)):
            found.update(listening(pid))
        return len(list(out.glob("_runs/*/_records/*.json"))) > 20

    wait_for(done, process)
    run = big_job.end(process)
    assert run.returncode == 0, run.stderr
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_local_run_listens_nowhere(workers: str, tmp_path: Path, big_job: Any) -> None:
    assert seen(big_job, tmp_path / "out", wait_for, f"--workers={workers}") == set()


ENGINES = {
    "Beam's local workers": ("--direct_running_mode=multi_threading",),
    "embedded job server": ("--runner=PortableRunner", "--job_endpoint=embed"),
}
LOOPBACK = (
    "0100007F:",
    "0000000000000000FFFF00000100007F:",
    "00000000000000000000000001000000:",
)
"""As the kernel of a little-endian machine writes 127.0.0.1, once as an IPv6 address, and ::1."""


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_of_beam_in_this_process_listen_on_loopback(
    engine: str, tmp_path: Path, big_job: Any
) -> None:
    found = seen(big_job, tmp_path / "out", wait_for, *ENGINES[engine])
    assert len(found) >= 4
    assert [place for place in found if not place.split()[1].startswith(LOOPBACK)] == []


CALL = """
import os, sys
import grpc
from apache_beam.portability.api import beam_artifact_api_pb2 as api
from apache_beam.portability.api import beam_artifact_api_pb2_grpc as services
from apache_beam.portability.api import beam_runner_api_pb2 as model
file = model.ArtifactFilePayload(path=sys.argv[1]).SerializeToString()
artifact = model.ArtifactInformation(type_urn="beam:artifact:type:file:v1", type_payload=file)
os.setuid(int(sys.argv[2]))
print("ready", flush=True)
for port in input().split():
    stub = services.ArtifactRetrievalServiceStub(grpc.insecure_channel(f"localhost:{port}"))
    try:
        for part in stub.GetArtifact(api.GetArtifactRequest(artifact=artifact), timeout=20):
            print(part.data)
    except grpc.RpcError as error:
        print(error.code().name)
"""


@needs_another_user
@pytest.mark.parametrize(("uid", "gets"), [(0, "b'mine'"), (OTHER, "PERMISSION_DENIED")])
def test_another_user_gets_no_file_from_beams_artifact_service(
    uid: int, gets: str, tmp_path: Path, big_job: Any
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    secret.chmod(0o600)
    caller = subprocess.Popen(
        [sys.executable, "-c", CALL, secret, str(uid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout is not None and caller.stdout.readline() == "ready\n"
    process = big_job.start(tmp_path / "out", "--direct_running_mode=multi_threading")
    wait_for(lambda: any((tmp_path / "out").glob("_runs/*/_records/*.json")), process)
    ports = {str(int(place.rpartition(":")[2], 16)) for place in listening(process.pid)}
    answers = caller.communicate(" ".join(ports) + "\n", timeout=90)[0].split()
    big_job.end(process)
    assert len(answers) == len(ports) and gets in answers
    assert uid == 0 or set(answers) <= {gets, "UNIMPLEMENTED"}
