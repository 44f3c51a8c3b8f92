"""A Flink cluster on this machine, to try the job on: `start`, `status` and `stop`.

It is what runs elsewhere, only small: a JobManager, TaskManagers in processes of their own, and a
Beam worker pool, which starts the Python processes that do the work.

https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/deployment/config/
https://beam.apache.org/documentation/runtime/sdk-harness-config/
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from glossator.deploy.flink import distribution, pool, processes
from glossator.deploy.flink.processes import Group
from glossator.model import terminal
from glossator.model.commands import Command
from glossator.model.errors import UsageError
from glossator.model.package_index import cache_folder
from glossator.pipeline.errors import JobError

_START_SECS = 120.0
_SHOWN_LINES = 12
PORT = 8081
_JOBMANAGER, _POOL = "jobmanager", "worker-pool"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Without a proxy: what is asked is on this machine."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What a cluster is like."""

    task_managers: int
    slots: int
    """Of each TaskManager: so many subtasks run in it side by side."""
    port: int
    """Of the JobManager's web address, where jobs are sent, too."""
    pool_port: int
    """Of the worker pool."""
    rpc_port: int
    """By which TaskManagers find the JobManager."""

    def roles(self) -> list[str]:
        """The processes of the cluster."""
        count = range(1, self.task_managers + 1)
        return [_JOBMANAGER, *(f"taskmanager-{i}" for i in count), _POOL]

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
            "blob.service.cleanup.interval": 60,
            "io.tmp.dirs": str(home / "tmp"),
            "env.java.opts.all": java_options,
        }


@dataclass(frozen=True)
class Cluster:
    """What was started, as `state.json` keeps it."""

    settings: Settings
    groups: tuple[Group, ...]


def default_home() -> Path:
    """Where a cluster's settings, logs and state are kept, if nothing else is said."""
    return cache_folder() / "flink"


def start_cluster(home: Path, wanted: dict[str, int | None], report: Report) -> Cluster:
    """Starts a cluster, or what is missing of it; leaves nothing running if that fails.

    Args:
        home: the folder that is the cluster's own.
        wanted: settings by name; None for what is the same to the caller.
        report: is told what takes a while.

    Raises:
        UsageError: something it needs is missing or taken, or it runs with other settings.
        JobError: it does not come up.
    """
    if " " in str(home):
        raise UsageError(f"--home {home}: Flink's scripts refuse a folder with a space in its name")
    java = _java()
    flink = distribution.flink(report)
    with _lock(home):
        known = _load(home)
        rows = processes.table()
        alive = [group for group in known.groups if processes.runs(group, rows)] if known else []
        settings = _same(known.settings, wanted, home) if known and alive else _chosen(wanted)
        missing = [role for role in settings.roles() if role not in {g.role for g in alive}]
        if known:  # a leader may have left children
            processes.end(group for group in known.groups if group not in alive)
        _refuse_taken_ports(settings, missing)
        if not alive:
            _lay_out(home, settings, flink)
        before = _task_managers(settings.port) or {}
        stale = {(role, address) for role, address in before.items() if role in missing}
        said = f"starting {', '.join(missing)}" if missing else "all of it runs already"
        report(f"{said}; logs in {home / 'log'}")
        cluster = Cluster(settings, tuple(alive))
        environment = _environment(home, java)
        try:
            for role in missing:
                group = _launch(role, home, flink, settings, environment)
                cluster = Cluster(settings, (*cluster.groups, group))
                _save(home, cluster)
            _await(home, cluster, stale)
        except BaseException:
            processes.end(group for group in cluster.groups if group.role in missing)
            raise
    return cluster


def stop_cluster(home: Path) -> bool:
    """Ends all of a cluster, workers first; whether there was anything to end."""
    if not home.is_dir():
        return False
    with _lock(home):
        known = _load(home)
        if known is None:
            return False
        rows = processes.table()
        found = any(processes.members(group, rows) for group in known.groups)
        for roles in ((_POOL,), known.settings.roles()[1:-1], (_JOBMANAGER,)):
            processes.end(group for group in known.groups if group.role in roles)
        _state(home).unlink()
        shutil.rmtree(home / "tmp", ignore_errors=True)
    return found


def describe(home: Path) -> dict[str, Any]:
    """The account that `status --json` gives: addresses, and each process with what it lacks."""
    known = _load(home)
    account: dict[str, Any] = {"home": str(home), "log": str(home / "log"), "runs": False}
    if known is None:
        return {**account, "processes": []}
    settings, rows = known.settings, processes.table()
    groups = {group.role: group for group in known.groups}
    registered = _task_managers(settings.port)
    found = []
    for role in settings.roles():
        group = groups.get(role)
        lack = None
        if group is None or not processes.runs(group, rows):
            lack = "has ended"
        elif role == _JOBMANAGER and registered is None:
            lack = f"does not answer at localhost:{settings.port}"
        elif role == _POOL and not _answers(settings.pool_port):
            lack = f"does not answer at localhost:{settings.pool_port}"
        elif role not in (_JOBMANAGER, _POOL) and role not in (registered or {}):
            lack = "is not known to the JobManager"
        log = _log(home, role)
        pid = group.pid if group else None
        found.append({"role": role, "pid": pid, "runs": not lack, "lack": lack, "log": str(log)})
    return {
        **account,
        "runs": all(process["runs"] for process in found),
        **asdict(settings),
        "master": f"localhost:{settings.port}",
        "rest": f"http://localhost:{settings.port}",
        "pool": f"localhost:{settings.pool_port}",
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


def _chosen(wanted: dict[str, int | None]) -> Settings:
    """Settings with our defaults where none are given."""
    given = {name: value for name, value in wanted.items() if value is not None}
    task_managers = given.get("task_managers", 2)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        rpc_port: int = free.getsockname()[1]
    return Settings(
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


def _same(settings: Settings, wanted: dict[str, int | None], home: Path) -> Settings:
    for name, value in wanted.items():
        runs = getattr(settings, name)
        if value not in (None, runs):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} {value}: the cluster in {home} runs with {flag} {runs}: stop it first, "
                "or start another one with another --home"
            )
    return settings


def _refuse_taken_ports(settings: Settings, missing: Sequence[str]) -> None:
    needed = {
        _JOBMANAGER: ("--port", settings.port),
        # the pool would share a port with another one in silence
        _POOL: ("--pool-port", settings.pool_port),
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


def _lay_out(home: Path, settings: Settings, flink: Path) -> None:
    """Writes `conf`, and clears what an earlier cluster left in `tmp`."""
    shutil.rmtree(home / "tmp", ignore_errors=True)
    for folder in ("conf", "log", "tmp"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for logging in (flink / "conf").glob("log4j*.properties"):
        shutil.copyfile(logging, home / "conf" / logging.name)
    # Java 17 must be told what Flink may look into; Flink's own file has the list
    shipped = (flink / "conf" / "config.yaml").read_text()
    java_options = re.search(r"^ +all: (--add-.*)$", shipped, re.MULTILINE)
    if java_options is None:
        raise JobError(f"{flink}/conf/config.yaml has no env.java.opts.all: delete {flink}")
    config = settings.config(home, java_options[1])
    # a value in JSON is a value in YAML
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in config.items()]
    (home / "conf" / "config.yaml").write_text("".join(lines))


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


def _launch(
    role: str, home: Path, flink: Path, settings: Settings, environment: dict[str, str]
) -> Group:
    """Starts one process; Flink's in the foreground, so that its pid is Java's."""
    mark = f"glossator.home={home}"
    output = home / "log" / f"{role}.out"
    own = {"FLINK_IDENT_STRING": role, "FLINK_PID_DIR": str(home / "tmp" / role)}
    if role == _POOL:
        mark = f"{pool.__name__} --port {settings.pool_port}"
        command = [sys.executable, "-m", *mark.split()]
    elif role == _JOBMANAGER:
        command = [f"{flink}/bin/jobmanager.sh", "start-foreground", "-D", mark]
    else:
        command = [f"{flink}/bin/taskmanager.sh", "start-foreground", "-D", mark]
        command += ["-D", f"taskmanager.resource-id={role}"]
    return processes.launch(role, command, mark, {**environment, **own}, output)


def _await(home: Path, cluster: Cluster, stale: set[tuple[str, str]]) -> None:
    """Waits until all of it answers, and every TaskManager has found the JobManager.

    Args:
        home: the cluster's folder.
        cluster: what was started.
        stale: TaskManagers and addresses that the JobManager has not missed yet.
    """
    port, pool_port = cluster.settings.port, cluster.settings.pool_port
    deadline = time.monotonic() + _START_SECS
    while True:
        rows = processes.table()
        for group in cluster.groups:
            if not processes.runs(group, rows):
                raise JobError(f"the {group.role} ended as it began{_last_words(home, group.role)}")
        found = _task_managers(port)
        registered = {
            role for role, address in (found or {}).items() if (role, address) not in stale
        }
        absent = [role for role in cluster.settings.roles()[1:-1] if role not in registered]
        if not absent and _answers(pool_port):
            return
        if time.monotonic() > deadline:
            role = _JOBMANAGER if found is None else (*absent, _POOL)[0]
            raise JobError(
                f"the {role} is not ready after {_START_SECS:.0f} seconds{_last_words(home, role)}"
            )
        time.sleep(0.3)


def _task_managers(port: int) -> dict[str, str] | None:
    """The ids of the TaskManagers that a JobManager knows, and their addresses; None: no answer."""
    try:
        with _DIRECT.open(f"http://localhost:{port}/taskmanagers", timeout=5) as response:
            known = json.load(response)["taskmanagers"]
        return {manager["id"]: manager["path"] for manager in known}
    except (OSError, ValueError, KeyError):
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


def _state(home: Path) -> Path:
    return home / "state.json"


def _load(home: Path) -> Cluster | None:
    try:
        kept = json.loads(_state(home).read_text())
        groups = tuple(Group(**group) for group in kept["groups"])
        return Cluster(Settings(**kept["settings"]), groups)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise JobError(
            f"{_state(home)} is not what was written there ({error!r}): end the cluster's "
            "processes by hand and delete that file"
        ) from error


def _save(home: Path, cluster: Cluster) -> None:
    partial = _state(home).with_suffix(".partial")
    partial.write_text(json.dumps(asdict(cluster), indent=1))
    partial.replace(_state(home))


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    import fcntl  # not everywhere that this module can be imported

    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{home}: another start or stop is at work there: wait until it is done"
            ) from error
        yield


_home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_home,
    metavar="FOLDER",
    help="Where settings, logs and state are kept; by default in the user's cache.",
)
_port = click.IntRange(1, 65535)


@click.command(cls=Command)
@_home
@click.option("--task-managers", type=click.IntRange(min=1), help="How many; by default 2.")
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    help="Of each TaskManager; by default the cores are shared among them.",
)
@click.option("--port", type=_port, help=f"Of the web address; by default {PORT}.")
@click.option("--pool-port", type=_port, help=f"Of the worker pool; by default {pool.PORT}.")
def start(home: Path, **wanted: int | None) -> None:
    """Start a Flink cluster on this machine, or what is missing of it."""
    home = home.expanduser().resolve()
    cluster = start_cluster(home, wanted, lambda line: terminal.echo(line, err=True))
    settings = cluster.settings
    command = [
        "glossator label --input INPUT --output OUTPUT --runner=FlinkRunner",
        f"--flink_master=localhost:{settings.port}",
        f"--flink_version={distribution.VERSION.rpartition('.')[0]}",
    ]
    if settings.pool_port != pool.PORT:
        command.append(f"--environment_config=localhost:{settings.pool_port}")
    terminal.echo(
        f"Flink {distribution.VERSION} runs; TaskManagers: {settings.task_managers}, "
        f"slots: {settings.task_managers * settings.slots}",
        f"  web address  http://localhost:{settings.port}",
        f"  worker pool  localhost:{settings.pool_port}",
        f"  logs         {home / 'log'}",
        "label on it with",
        f"  {' '.join(command)}",
    )


@click.command(cls=Command)
@_home
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON.")
def status(home: Path, as_json: bool) -> None:
    """Say what runs of the cluster; exits with 1 if not all of it does."""
    account = describe(home.expanduser().resolve())
    if as_json:
        terminal.echo_json(account, indent=1)
    elif not account["processes"]:
        terminal.echo(f"nothing runs in {account['home']}")
    for process in () if as_json else account["processes"]:
        said = f"{process['lack']}; see {process['log']}" if process["lack"] else "runs"
        terminal.echo(f"{process['role']:<16} pid {process['pid'] or '-':<8} {said}")
    if not account["runs"]:
        sys.exit(1)


@click.command(cls=Command)
@_home
def stop(home: Path) -> None:
    """Stop the cluster, its worker pool and all workers."""
    home = home.expanduser().resolve()
    found = stop_cluster(home)
    terminal.echo(f"stopped what ran in {home}" if found else f"nothing runs in {home}")
