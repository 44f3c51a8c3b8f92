"""Processes that outlive the command that started them, each with all that it starts itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from glossator.deploy.flink import private
from glossator.model.errors import UsageError
from glossator.model.typed_json import AtLeast

_GRACE_SECS = 10.0
"""How long a process may take to end in good order before it is killed."""
_WORKER = "glossator.pipeline.engines.worker_pool import work"
"""Words of a worker's command line: it may be left when its pool, which leads its group, ends."""


@dataclass(frozen=True)
class Group:
    """A process that leads a process group of its own.

    A number is given to another process once the first has ended. So a group is known again by
    the words of its leader's command line, when that began, and whose it is.
    """

    role: str
    pid: Annotated[int, AtLeast(2)]
    """Of the process, and of its group."""
    mark: str
    """Words of its command line."""
    began: str
    """When it began, as the system says it (`began`)."""


@dataclass(frozen=True)
class Process:
    """A process of this machine."""

    pid: int
    group: int
    command: str


def table() -> list[Process]:
    """This user's processes, but those that are ending, or have ended and wait to be reaped."""
    columns = ["-o", "pid=", "-o", "pgid=", "-o", "uid=", "-o", "stat=", "-o", "args="]
    found = []
    for line in _ps("-A", "-ww", *columns).splitlines():
        pid, group, uid, state, *command = line.split(maxsplit=4)
        words = "".join(command)
        # in brackets: the name of what has no command line any more (or of a part of the kernel)
        if int(uid) == os.geteuid() and not state.startswith("Z") and not words.startswith("["):
            found.append(Process(int(pid), int(group), words))
    return found


def began(pid: int) -> str:
    """When a process began, in words that no other one of its number has; empty if it is gone."""
    try:  # Linux: in ticks since it was booted, which no setting of the clock changes
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {said.rpartition(')')[2].split()[19]}"
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    return " ".join(_ps("-o", "lstart=", "-p", str(pid)).split())


def _ps(*arguments: str) -> str:
    try:
        listed = subprocess.run(
            ["ps", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise UsageError("there is no ps in PATH: install it (Debian: procps)") from error
    return listed.stdout


def launch(
    role: str,
    command: Sequence[str],
    mark: str,
    environment: Mapping[str, str],
    output: Path,
    umask: int = -1,
) -> Group:
    """Starts a process in a session of its own; what it prints is added to a file.

    Args:
        role: what it is.
        command: the program and its arguments.
        mark: words of its command line.
        environment: of the process.
        output: a file in a folder of the user's own, where the process stands, too.
        umask: of the files it makes; -1 for the caller's.
    """
    with os.fdopen(private.open_file(output, os.O_WRONLY | os.O_APPEND), "ab") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=output.parent,  # Python would import what others put where it stands
            umask=umask,
            start_new_session=True,
        )
    return Group(role, process.pid, mark, began(process.pid))


def members(group: Group, rows: Iterable[Process]) -> list[int]:
    """What lives of a group, its leader first: its leader's children may be left without it."""
    found = [row for row in rows if row.group == group.pid]
    leader = next((row for row in found if row.pid == group.pid), None)
    if leader is None:
        found = [row for row in found if group.mark in row.command or _WORKER in row.command]
    elif group.mark not in leader.command or began(leader.pid) != group.began:
        return []
    return sorted((row.pid for row in found), key=lambda pid: (pid != group.pid, pid))


def runs(group: Group, rows: Iterable[Process]) -> bool:
    """Whether the group's leader lives."""
    return group.pid in members(group, rows)


def end(groups: Iterable[Group]) -> None:
    """Ends groups, children included; kills what does not go when it is asked.

    Raises:
        OSError: some could not even be killed.
    """
    left = list(groups)
    for number in (signal.SIGTERM, signal.SIGKILL):
        rows = table()
        left = [group for group in left if members(group, rows)]
        for group in left:
            _signal(group, number)
        deadline = time.monotonic() + _GRACE_SECS
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            rows = table()
            left = [group for group in left if members(group, rows)]
    if left:
        names = ", ".join(f"{group.role} (pid {group.pid})" for group in left)
        raise TimeoutError(f"{names}: does not end, not even when it is killed")


def _signal(group: Group, number: signal.Signals) -> None:
    try:
        os.killpg(group.pid, number)
    except ProcessLookupError:  # it ended meanwhile
        return
