"""Engines to run the job on: a Flink cluster of our own, a job server for it, and Prism."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glossator.pipeline.engines.flink import Cluster

ENGINES = Path(__file__).parents[2] / "shared" / "engines"
"""Where engines may lie, beside the checkout."""
_FLINK = (sys.executable, "-m", "glossator.deploy.flink")
PATIENCE_SECS = 900.0
"""The first start downloads Flink."""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class LocalFlink:
    """A cluster of `python -m glossator.deploy.flink start`."""

    home: Path
    master: str
    """What `--flink_master` takes."""
    conf: Path
    """What `--flink_conf_dir` takes."""
    pool: str
    """What `--environment_config` takes."""
    log: Path

    def command(self, verb: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`start`, `status` or `stop`, of this cluster."""
        return local_flink(verb, self.home, *arguments)

    def ask(self, path: str) -> Any:
        """What Flink's REST interface answers to those who hold the cluster's key."""
        return Cluster(self.master, str(self.conf))._get(path)

    def status(self) -> dict[str, Any]:
        account: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return account

    @property
    def pids(self) -> dict[str, int]:
        """By role: `jobmanager`, `taskmanager-1`, ..., `worker-pool`."""
        return {process["role"]: process["pid"] for process in self.status()["processes"]}


def local_flink(
    verb: str, home: Path, *arguments: object, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_FLINK, verb, "--home", home, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECS,
        check=False,
        **options,
    )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def started_cluster(home: Path) -> Iterator[LocalFlink]:
    """Two TaskManagers of two slots, until the context is left."""
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java: install openjdk-17-jre-headless")
    ports = ("--port", free_port(), "--pool-port", free_port())
    started = local_flink("start", home, "--task-managers", 2, "--slots", 2, *ports)
    if started.returncode == 2 and "cannot find apache" in started.stderr:
        pytest.skip(f"no Flink: {started.stderr.splitlines()[-1]}")
    assert started.returncode == 0, started.stderr
    account = json.loads(local_flink("status", home, "--json").stdout)
    yield LocalFlink(home, account["master"], home / "conf", account["pool"], home / "log")
    stopped = local_flink("stop", home)
    assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="session")
def flink_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlink]:
    """A cluster for all tests. Whoever kills a part of it has to start it again."""
    with started_cluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def job_server_jar() -> Path:
    """Of Beam's Flink job server."""
    return _engine(
        "GLOSSATOR_FLINK_JOB_SERVER_JAR", "beam-flink-*-job-server-*.jar", "Flink job server jar"
    )


@pytest.fixture(scope="session")
def prism() -> Path:
    """Beam's Prism runner."""
    return _engine("GLOSSATOR_PRISM", "prism-*", "Prism")


def _engine(variable: str, pattern: str, name: str) -> Path:
    if given := os.environ.get(variable):
        return Path(given)
    found = sorted(ENGINES.glob(pattern))
    if not found:
        pytest.skip(f"no {name}: set {variable}")
    return found[0]
