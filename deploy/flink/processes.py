"""Processes that outlive the command that started them, each with all that it starts itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glossator.model.errors import UsageError

_GRACE_SECS = 10.0
"""How long a process may take to end in good order before it is killed."""


@dataclass(frozen=True)
class Group:
    """A process that leads a process group of its own."""

    role: str
    pid: int
    """Of the process, and of its group."""
    mark: str
    """Words of its command line: by them another program that got the number later is told."""


@dataclass(frozen=True)
class Row:
    """A process of this machine, whoever owns it."""

    pid: int
    group: int
    command: str


def table() -> list[Row]:
    """All processes but those that are ending, or have ended and wait to be reaped."""
    columns = ["-o", "pid=", "-o", "pgid=", "-o", "stat=", "-o", "args="]
    try:
        listed = subprocess.run(
            ["ps", "-A", "-ww", *columns], capture_output=True, text=True, check=True, timeout=30
        )
    except FileNotFoundError as error:
        raise UsageError("there is no ps in PATH: install it (Debian: procps)") from error
    rows = []
    for line in listed.stdout.splitlines():
        pid, group, state, *command = line.split(maxsplit=3)
        words = "".join(command)
        # in brackets: the name of what has no command line any more (or of a part of the kernel)
        if not state.startswith("Z") and not words.startswith("["):
            rows.append(Row(int(pid), int(group), words))
    return rows


def launch(
    role: str, command: Sequence[str], mark: str, environment: Mapping[str, str], output: Path
) -> Group:
    """Starts a process in a session of its own; what it prints is added to a file."""
    with output.open("ab") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    return Group(role, process.pid, mark)


def members(group: Group, rows: Iterable[Row]) -> list[int]:
    """What lives of a group, its leader first: its leader's children may be left without it."""
    found = [row for row in rows if row.group == group.pid]
    if any(row.pid == group.pid and group.mark not in row.command for row in found):
        return []
    return sorted((row.pid for row in found), key=lambda pid: (pid != group.pid, pid))


def runs(group: Group, rows: Iterable[Row]) -> bool:
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
