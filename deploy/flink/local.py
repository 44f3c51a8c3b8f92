"""A Flink cluster on this machine, to try the job on: `start`, `status` and `stop`.

It is what runs elsewhere, only small: a JobManager, TaskManagers in processes of their own, and a
Beam worker pool, which starts the Python processes that do the work.

https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/deployment/config/
https://beam.apache.org/documentation/runtime/sdk-harness-config/
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glossator.deploy.flink import distribution, layout, pool, processes, state
from glossator.deploy.flink.layout import JOBMANAGER, POOL, ClusterLayout
from glossator.deploy.flink.processes import Group
from glossator.deploy.flink.state import ClusterState
from glossator.model.cache import cache_folder
from glossator.model.errors import UsageError
from glossator.pipeline.engines.flink import Cluster
from glossator.pipeline.errors import JobError

_START_SECS = 120.0
_SHOWN_LINES = 12

Report = Callable[[str], None]


def default_home() -> Path:
    """Where a cluster's settings, logs and state are kept, if nothing else is said."""
    return cache_folder() / "flink"


def start_cluster(
    home: Path,
    wanted: Mapping[str, int | None],
    report: Report,
    pool_flags: Sequence[str] = (),
) -> ClusterState:
    """Starts a cluster, or what is missing of it; leaves nothing running if that fails.

    Args:
        home: the folder that is the cluster's own.
        wanted: parts of its layout by name; None for what is the same to the caller.
        report: is told what takes a while.
        pool_flags: more flags of the worker pool.

    Raises:
        UsageError: something it needs is missing or taken, or it runs with another layout.
        JobError: it does not come up.
    """
    if " " in str(home):
        raise UsageError(f"--home {home}: Flink's scripts refuse a folder with a space in its name")
    java = _java()
    flink = distribution.flink(report)
    with state.locked(home):
        known = state.load(home)
        rows = processes.table()
        alive = [group for group in known.groups if processes.runs(group, rows)] if known else []
        plan = _same(known.layout, wanted, home) if known and alive else layout.chosen(wanted)
        missing = [role for role in plan.roles() if role not in {g.role for g in alive}]
        if known:  # a leader may have left children
            processes.end(group for group in known.groups if group not in alive)
        _refuse_taken_ports(plan, missing)
        if not alive:
            layout.lay_out(home, plan, flink)
        before = _task_managers(home, plan) or {}
        stale = {(role, address) for role, address in before.items() if role in missing}
        said = f"starting {', '.join(missing)}" if missing else "all of it runs already"
        report(f"{said}; logs in {home / 'log'}")
        running = ClusterState(plan, tuple(alive))
        environment = _environment(home, java)
        try:
            for role in missing:
                command, mark = _command(role, home, flink, plan, pool_flags)
                group = _launch(role, command, mark, home, environment)
                running = ClusterState(plan, (*running.groups, group))
                state.save(home, running)
            _await(home, running, stale)
        except BaseException:
            processes.end(group for group in running.groups if group.role in missing)
            raise
    return running


def stop_cluster(home: Path) -> bool:
    """Ends all of a cluster, workers first; whether there was anything to end."""
    if not (home / layout.MARK).exists():
        return False
    with state.locked(home):
        known = state.load(home)
        if known is None:
            return False
        rows = processes.table()
        found = any(processes.members(group, rows) for group in known.groups)
        for roles in ((POOL,), known.layout.roles()[1:-1], (JOBMANAGER,)):
            processes.end(group for group in known.groups if group.role in roles)
        state.forget(home)
        layout.clear(home)
    return found


def describe(home: Path) -> dict[str, Any]:
    """The account that `status --json` gives: addresses, and each process with what it lacks."""
    known = state.load(home)
    account: dict[str, Any] = {"home": str(home), "log": str(home / "log"), "runs": False}
    if known is None:
        return {**account, "processes": []}
    plan, rows = known.layout, processes.table()
    groups = {group.role: group for group in known.groups}
    registered = _task_managers(home, plan)
    found = []
    for role in plan.roles():
        group = groups.get(role)
        lack = None
        if group is None or not processes.runs(group, rows):
            lack = "has ended"
        elif role == JOBMANAGER and registered is None:
            lack = f"does not answer at localhost:{plan.port}"
        elif role == POOL and not _answers(plan.pool_port):
            lack = f"does not answer at localhost:{plan.pool_port}"
        elif role not in (JOBMANAGER, POOL) and role not in (registered or {}):
            lack = "is not known to the JobManager"
        log = _log(home, role)
        pid = group.pid if group else None
        found.append({"role": role, "pid": pid, "runs": not lack, "lack": lack, "log": str(log)})
    return {
        **account,
        "runs": all(process["runs"] for process in found),
        **asdict(plan),
        "master": f"localhost:{plan.port}",
        "rest": f"https://localhost:{plan.port}",
        "conf": str(home / "conf"),
        "pool": f"localhost:{plan.pool_port}",
        "processes": found,
    }


def _java() -> dict[str, str]:
    """The environment that has Flink's scripts find Java, which is tried first."""
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home, "bin", "java")) if home else shutil.which("java")
    remedy = "install Java 17 (Debian: openjdk-17-jre-headless), or name it in JAVA_HOME"
    if program is None:
        raise UsageError(f"Flink needs Java, and there is no java in PATH: {remedy}")
    try:
        said = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=60, check=True
        ).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(
            f"Flink needs Java, and {program} does not run: {error}: {remedy}"
        ) from error
    version = re.search(r'version "(\d+)', said)
    if version is None or version[1] not in ("11", "17"):
        found = version[1] if version else said.partition("\n")[0]
        raise UsageError(
            f"Flink {distribution.VERSION} needs Java 11 or 17, and {program} is {found}: {remedy}"
        )
    return {"JAVA_HOME": home} if home else {}


def _same(plan: ClusterLayout, wanted: Mapping[str, int | None], home: Path) -> ClusterLayout:
    for name, value in wanted.items():
        runs = getattr(plan, name)
        if value not in (None, runs):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} {value}: the cluster in {home} runs with {flag} {runs}: stop it first, "
                "or start another one with another --home"
            )
    return plan


def _refuse_taken_ports(plan: ClusterLayout, missing: Sequence[str]) -> None:
    needed = {
        JOBMANAGER: ("--port", plan.port),
        # the pool would share a port with another one in silence
        POOL: ("--pool-port", plan.pool_port),
    }
    for role, (flag, port) in needed.items():
        if role in missing and _answers(port):
            raise UsageError(
                f"port {port}, for the {role}, is taken by another program: end that, or name a "
                f"free port with {flag}"
            )


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("localhost", port), timeout=5):
            return True
    except OSError:
        return False


def _environment(home: Path, java: dict[str, str]) -> dict[str, str]:
    # another Flink's or Hadoop's variables would lead the scripts astray
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLINK_", "HADOOP_", "HBASE_", "YARN_"))
    }
    return {
        **inherited,
        **java,
        "FLINK_CONF_DIR": str(home / "conf"),
        "FLINK_LOG_DIR": str(home / "log"),
        "JVM_ARGS": "-Dconsole.log.level=OFF",  # the log is a file already
    }


def _command(
    role: str, home: Path, flink: Path, plan: ClusterLayout, pool_flags: Sequence[str]
) -> tuple[list[str], str]:
    """What starts a process, and the words of it by which it is known again."""
    if role == POOL:
        mark = f"{pool.__name__} --port {plan.pool_port}"
        return [sys.executable, "-m", *mark.split(), *pool_flags], mark
    mark = f"glossator.home={home}"
    # in the foreground, so that the number of the process is Java's
    if role == JOBMANAGER:
        return [f"{flink}/bin/jobmanager.sh", "start-foreground", "-D", mark], mark
    command = [f"{flink}/bin/taskmanager.sh", "start-foreground", "-D", mark]
    return [*command, "-D", f"taskmanager.resource-id={role}"], mark


def _launch(
    role: str, command: Sequence[str], mark: str, home: Path, environment: Mapping[str, str]
) -> Group:
    own = {"FLINK_IDENT_STRING": role, "FLINK_PID_DIR": str(home / "tmp" / role)}
    # workers write what is published, and their umask is the user's business
    umask = -1 if role == POOL else 0o077
    output = home / "log" / f"{role}.out"
    return processes.launch(role, command, mark, {**environment, **own}, output, umask)


def _await(home: Path, running: ClusterState, stale: set[tuple[str, str]]) -> None:
    """Waits until all of it answers, and every TaskManager has found the JobManager.

    Args:
        home: the cluster's folder.
        running: what was started.
        stale: TaskManagers and addresses that the JobManager has not missed yet.
    """
    plan = running.layout
    deadline = time.monotonic() + _START_SECS
    while True:
        rows = processes.table()
        for group in running.groups:
            if not processes.runs(group, rows):
                raise JobError(f"the {group.role} ended as it began{_last_words(home, group.role)}")
        found = _task_managers(home, plan)
        registered = {
            role for role, address in (found or {}).items() if (role, address) not in stale
        }
        absent = [role for role in plan.roles()[1:-1] if role not in registered]
        if not absent and _answers(plan.pool_port):
            return
        if time.monotonic() > deadline:
            role = JOBMANAGER if found is None else (*absent, POOL)[0]
            raise JobError(
                f"the {role} is not ready after {_START_SECS:.0f} seconds{_last_words(home, role)}"
            )
        time.sleep(0.3)


def _task_managers(home: Path, plan: ClusterLayout) -> dict[str, str] | None:
    """The ids of the TaskManagers that a JobManager knows, and their addresses; None: no answer."""
    try:
        return Cluster(f"localhost:{plan.port}", str(home / "conf")).task_managers()
    except (OSError, ValueError, KeyError, JobError):
        return None


def _log(home: Path, role: str) -> Path:
    """Where a process writes what it does; what Java itself says is in its `.out`."""
    written = sorted((home / "log").glob(f"flink-{role}-*.log"), key=lambda p: p.stat().st_mtime)
    return written[-1] if written else home / "log" / f"{role}.out"


def _last_words(home: Path, role: str) -> str:
    shown = ""
    for path in dict.fromkeys((home / "log" / f"{role}.out", _log(home, role))):
        if path.exists() and (lines := path.read_text(errors="replace").splitlines()):
            shown += f"\n{path} ends:\n  " + "\n  ".join(lines[-_SHOWN_LINES:])
    return shown or f"; it left no word in {home / 'log'}"
