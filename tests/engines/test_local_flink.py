"""`python -m glossator.deploy.flink`: start, status and stop, for real."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_engines import LocalFlink, free_port, local_flink, started_cluster

from glossator.deploy.flink.distribution import _SCRIPTS, VERSION
from glossator.model.cache import cache_folder
from glossator.pipeline.engines.flink import Cluster
from glossator.pipeline.errors import JobError

pytestmark = pytest.mark.flink


def processes(words: object) -> list[str]:
    """The command lines with these words; a cluster's name its folder, but for the pool's."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "stat=", "-o", "args="],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    return [line[1] for line in lines if line[0][0] != "Z" and str(words) in line[-1]]


def alive(pid: int) -> bool:
    """A process that has ended and is not reaped yet is not alive."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()[:1] not in ("", "Z")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """For a cluster beside the shared one, which is stopped even when a test fails."""
    yield tmp_path / "home"
    local_flink("stop", tmp_path / "home")


def test_what_is_started_runs_as_it_was_asked_for(flink_cluster: Any) -> None:
    status = flink_cluster.command("status")
    assert status.returncode == 0, status.stdout
    account = flink_cluster.status()
    roles = ["jobmanager", "taskmanager-1", "taskmanager-2", "worker-pool"]
    assert [process["role"] for process in account["processes"]] == roles
    assert all(alive(process["pid"]) for process in account["processes"])
    overview = flink_cluster.ask("/overview")
    assert (overview["taskmanagers"], overview["slots-total"]) == (2, 4)


def listening(pids: set[int]) -> dict[int, set[str]]:
    """Addresses that processes of this machine listen at, by their port."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(str(descriptor.readlink()))
    found: dict[int, set[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, own, _, state, *more = line.split()
            if state == "0A" and f"socket:[{more[5]}]" in inodes:
                address, _, port = own.rpartition(":")
                found.setdefault(int(port, 16), set()).add(address)
    return found


LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}


@pytest.fixture(scope="module")
def idle_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlink]:
    """One on which no job has run: Beam opens ports of its own in TaskManagers for jobs."""
    with started_cluster(tmp_path_factory.mktemp("idle")) as cluster:
        yield cluster


def test_every_port_of_it_is_on_loopback(idle_cluster: Any) -> None:
    ports = listening(set(idle_cluster.pids.values()))
    for where in (idle_cluster.master, idle_cluster.pool):
        assert int(where.rpartition(":")[2]) in ports
    assert len(ports) > 5  # RPC, blobs, data and metrics, too
    assert set().union(*ports.values()) <= LOOPBACK


def test_no_port_of_flinks_listens_to_those_without_the_key(idle_cluster: Any) -> None:
    """By TLS, which every one of them speaks and which asks for a certificate."""
    pids = idle_cluster.pids
    pids.pop("worker-pool")
    without = ssl.create_default_context(cafile=idle_cluster.conf / "rest-ca.pem")
    holding = ssl.create_default_context(cafile=idle_cluster.conf / "rest-ca.pem")
    holding.load_cert_chain(idle_cluster.conf / "rest-client.pem")
    for port in listening(set(pids.values())):
        with pytest.raises(OSError):
            exchange(without, port)
        exchange(holding, port)


def exchange(context: ssl.SSLContext, port: int) -> None:
    """Shakes hands and sends something: of a certificate that is missing one hears afterwards."""
    # as Flink does: with the last one a client is told of a refusal only when it reads
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("localhost", port), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as talking,
    ):
        talking.sendall(b"GET /overview HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_rest_port_answers_its_owner_and_takes_no_jars(flink_cluster: Any) -> None:
    assert flink_cluster.ask("/overview")["flink-version"] == VERSION
    with pytest.raises(JobError, match="Not Found"):
        flink_cluster.ask("/jars")
    with pytest.raises(JobError, match="--flink_conf_dir"):
        Cluster(flink_cluster.master).slots()


def test_what_it_keeps_is_its_users_alone(flink_cluster: Any) -> None:
    found = [flink_cluster.home, *flink_cluster.home.rglob("*")]
    assert {"config.yaml", "state.json", "worker-pool.out"} <= {path.name for path in found}
    for path in found:
        assert path.lstat().st_mode & 0o077 == 0, path


def test_a_second_start_changes_nothing(flink_cluster: Any) -> None:
    before = flink_cluster.pids
    again = flink_cluster.command("start")
    assert again.returncode == 0, again.stderr
    assert "runs already" in again.stderr
    assert flink_cluster.pids == before


def test_a_start_with_other_settings_is_refused(flink_cluster: Any) -> None:
    before = flink_cluster.pids
    other = flink_cluster.command("start", "--slots", 3)
    assert other.returncode == 2
    assert "--slots 3" in other.stderr
    assert "--slots 2" in other.stderr
    assert flink_cluster.pids == before


@pytest.mark.parametrize("role", ["taskmanager-2", "worker-pool", "jobmanager"])
def test_what_was_killed_is_told_and_started_again(flink_cluster: Any, role: str) -> None:
    before = flink_cluster.pids
    os.kill(before[role], signal.SIGKILL)
    status = flink_cluster.command("status")
    assert status.returncode == 1
    said = {line.split()[0]: line for line in status.stdout.splitlines()}
    assert "has ended" in said[role]
    assert str(flink_cluster.log) in said[role]
    if role != "jobmanager":  # the TaskManagers miss theirs
        assert all("runs" in line for other, line in said.items() if other != role)

    again = flink_cluster.command("start")
    assert again.returncode == 0, again.stderr
    after = flink_cluster.pids
    assert [name for name in after if after[name] != before[name]] == [role]
    assert flink_cluster.command("status").returncode == 0
    assert flink_cluster.ask("/overview")["slots-total"] == 4


def test_stop_leaves_nothing_and_may_be_repeated(flink_cluster: Any, home: Path) -> None:
    """Another cluster beside the first, which it does not touch."""
    others = flink_cluster.pids
    ports = ("--port", free_port(), "--pool-port", free_port())
    started = local_flink("start", home, "--task-managers", 1, *ports)
    assert started.returncode == 0, started.stderr
    account = json.loads(local_flink("status", home, "--json").stdout)
    pids = {process["role"]: process["pid"] for process in account["processes"]}
    assert len(processes(home)) >= 2
    os.kill(pids["jobmanager"], signal.SIGSTOP)  # will not hear that it is asked to end

    stopped = local_flink("stop", home)
    assert stopped.returncode == 0, stopped.stderr
    assert processes(home) == []
    assert not any(alive(pid) for pid in pids.values())
    status = local_flink("status", home)
    assert (status.returncode, status.stdout) == (1, f"nothing runs in {home}\n")
    assert local_flink("stop", home).returncode == 0
    assert flink_cluster.pids == others
    assert flink_cluster.command("status").returncode == 0


@pytest.mark.parametrize("flag", ["--port", "--pool-port"])
def test_a_taken_port_is_named(flink_cluster: Any, home: Path, flag: str) -> None:
    ports = {"--port": free_port(), "--pool-port": free_port()}
    with socket.create_server(("localhost", ports[flag])):
        words = [word for pair in ports.items() for word in pair]
        refused = local_flink("start", home, *words)
    assert refused.returncode == 2
    assert f"port {ports[flag]}" in refused.stderr
    assert flag in refused.stderr
    assert processes(home) == []


def test_a_start_that_fails_shows_why_and_leaves_nothing(
    flink_cluster: Any, home: Path, tmp_path: Path
) -> None:
    """From a cache that somebody tidied up: Flink has lost its jars."""
    cache = tmp_path / "cache"
    kept = cache_folder() / f"flink-{VERSION}"
    for folder in ("bin", "conf"):
        shutil.copytree(kept / folder, cache / "glossator" / kept.name / folder)
    pool_port = free_port()
    ports = ("--port", free_port(), "--pool-port", pool_port)
    other = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    failed = local_flink("start", home, *ports, env=other)
    assert failed.returncode == 1
    assert str(home / "log") in failed.stderr
    assert "jar not found" in failed.stderr
    assert processes(home) == processes(f"pool --port {pool_port}") == []
    assert local_flink("status", home).returncode == 1


def test_without_java_it_says_what_to_install(home: Path, tmp_path: Path) -> None:
    bare = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"} | {"PATH": str(tmp_path)}
    refused = local_flink("start", home, env=bare)
    assert refused.returncode == 2
    assert "openjdk-17-jre-headless" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_java_that_flink_does_not_know_is_refused(home: Path, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_412\"' >&2\n")
    java.chmod(0o755)
    refused = local_flink("start", home, env={**os.environ, "JAVA_HOME": str(tmp_path)})
    assert refused.returncode == 2
    assert "11 or 17" in refused.stderr
    assert str(java) in refused.stderr


def test_another_file_than_the_pinned_one_is_refused(home: Path, tmp_path: Path) -> None:
    """An index whose archive has the right name and other bytes."""
    page = tmp_path / "index" / _SCRIPTS.project
    page.mkdir(parents=True)
    (page / _SCRIPTS.filename).write_bytes(b"not Flink")
    (page / "index.html").write_text(f'<a href="{_SCRIPTS.filename}">{_SCRIPTS.filename}</a>')
    cache = tmp_path / "cache"
    other = {"PIP_INDEX_URL": (tmp_path / "index").as_uri(), "XDG_CACHE_HOME": str(cache)}
    refused = local_flink("start", home, env={**os.environ, **other})
    assert refused.returncode == 2
    assert "sha256" in refused.stderr
    assert _SCRIPTS.filename in refused.stderr
    assert list((cache / "glossator").iterdir()) == []
