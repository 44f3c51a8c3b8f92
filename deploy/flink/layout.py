"""What a cluster on this machine is like, and the folder that it lives in."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from glossator.deploy.flink import certificates, pool, private
from glossator.model.errors import UsageError
from glossator.model.typed_json import AtLeast
from glossator.pipeline.errors import JobError

PORT = 8081
JOBMANAGER, POOL = "jobmanager", "worker-pool"
MARK = ".glossator-flink"
"""A file that says that a folder is a cluster's; whoever locks it may change the cluster."""
_FOLDERS = ("conf", "log", "tmp")

Port = Annotated[int, AtLeast(1)]


@dataclass(frozen=True)
class ClusterLayout:
    """How many processes there are, how large, and where they listen."""

    task_managers: Annotated[int, AtLeast(1)]
    slots: Annotated[int, AtLeast(1)]
    """Of each TaskManager: so many subtasks run in it side by side."""
    port: Port
    """Of the JobManager's web address, where jobs are sent, too."""
    pool_port: Port
    """Of the worker pool."""
    rpc_port: Port
    """By which TaskManagers find the JobManager."""

    def roles(self) -> list[str]:
        """The processes of the cluster."""
        count = range(1, self.task_managers + 1)
        return [JOBMANAGER, *(f"taskmanager-{i}" for i in count), POOL]

    def config(self, home: Path, java_options: str) -> dict[str, str | int | bool]:
        """Flink's options: sized for a laptop, and heard by this machine alone."""
        return {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": self.rpc_port,
            "jobmanager.bind-host": "localhost",
            "jobmanager.memory.process.size": "1g",
            "taskmanager.host": "localhost",
            "taskmanager.bind-host": "localhost",
            "taskmanager.memory.process.size": "1536m",
            "taskmanager.memory.managed.size": "128m",
            "taskmanager.numberOfTaskSlots": self.slots,
            "cluster.evenly-spread-out-slots": True,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 3,
            "restart-strategy.fixed-delay.delay": "10 s",
            "heartbeat.interval": 3000,
            "rest.address": "localhost",
            "rest.bind-address": "localhost",
            "rest.port": self.port,
            "rest.bind-port": str(self.port),
            # jobs come as graphs from Beam's job server, and never as jars
            "web.submit.enable": False,
            "web.tmpdir": str(home / "tmp"),
            "queryable-state.enable": False,
            "blob.service.cleanup.interval": 60,
            "io.tmp.dirs": str(home / "tmp"),
            "env.java.opts.all": f"{java_options} -Djava.io.tmpdir={home / 'tmp'}",
        }


def chosen(wanted: Mapping[str, int | None]) -> ClusterLayout:
    """A layout with our defaults where none are given."""
    given = {name: value for name, value in wanted.items() if value is not None}
    task_managers = given.get("task_managers", 2)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        rpc_port: int = free.getsockname()[1]
    return ClusterLayout(
        task_managers=task_managers,
        slots=given.get("slots", max(1, _cores() // task_managers)),
        port=given.get("port", PORT),
        pool_port=given.get("pool_port", pool.PORT),
        rpc_port=rpc_port,
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux; in a container not all there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def claim(home: Path) -> None:
    """Makes a folder a cluster's, which only the user enters.

    Raises:
        UsageError: there is something else in it, or it is another user's.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    if home.is_dir() and not (home / MARK).exists() and any(home.iterdir()):
        raise UsageError(f"{home} holds something else than a cluster: name another with --home")
    private.make_folder(home)


def lay_out(home: Path, layout: ClusterLayout, flink: Path) -> None:
    """Writes `conf`, with a key of its own, and clears what an earlier cluster left in `tmp`."""
    clear(home)
    for folder in _FOLDERS:
        private.make_folder(home / folder)
    conf = home / "conf"
    for logging in (flink / "conf").glob("log4j*.properties"):
        private.write(conf / logging.name, logging.read_bytes())
    # Java 17 must be told what Flink may look into; Flink's own file has the list
    shipped = (flink / "conf" / "config.yaml").read_text(encoding="utf-8")
    java_options = re.search(r"^ +all: (--add-.*)$", shipped, re.MULTILINE)
    if java_options is None:
        raise JobError(f"{flink}/conf/config.yaml has no env.java.opts.all: delete {flink}")
    config = {**layout.config(home, java_options[1]), **certificates.make(conf)}
    # a value in JSON is a value in YAML
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in config.items()]
    private.write(conf / "config.yaml", "".join(lines).encode())


def clear(home: Path) -> None:
    """Removes what only a running cluster needs."""
    if not (home / "tmp").is_symlink():
        shutil.rmtree(home / "tmp", ignore_errors=True)
