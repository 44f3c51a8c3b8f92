"""A command run to its end, and what it took."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glossator.model.errors import shown
from glossator.pipeline.errors import JobError


@dataclass(frozen=True)
class Took:
    """What a process took."""

    seconds: float
    """From its start to its end."""
    cpu_seconds: float
    """Of processors, its children's included: says more where a machine does other work."""
    peak_bytes: int
    """Of its own memory."""


def timed(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Took:
    """Runs a command.

    Args:
        name: what an error calls it.
        command: its arguments.
        environment: of its own; None for this process's.

    Raises:
        JobError: it failed.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise JobError(f"{name} did not end well: {shown(last)}")
    # Linux says it in KiB, macOS in bytes
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Took(seconds, usage.ru_utime + usage.ru_stime, peak)
