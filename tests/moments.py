"""Python for a job's process to run before the job, which is stopped or killed at a step by it.

For `Job.start(..., first=...)`. A step is a change of a name below a folder, as Python's audit
events tell of it; what they tell of is not done yet.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

_AT = """
def at_a_step(folder, begin, number, signal_number, log):
    import os, sys
    names = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}
    state = {"begun": False, "count": 0}
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if log else None

    def hook(event, args):
        if event == "open":
            changes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        else:
            changes = event in names
        if not changes or state["count"] > number >= 0:
            return
        named = args[:2] if event in ("os.rename", "os.link") else args[:1]
        paths = [os.fsdecode(a) for a in named if isinstance(a, (str, bytes, os.PathLike))]
        if not any(path.startswith(folder) or not path.startswith("/") for path in paths):
            return
        state["begun"] = state["begun"] or any(begin in path for path in paths)
        if not state["begun"]:
            return
        state["count"] += 1
        if file is not None:
            os.write(file, f"{event} {paths[-1]}\\n".encode())
        if state["count"] > number >= 0:
            os.kill(os.getpid(), signal_number)

    sys.addaudithook(hook)
"""


def at_step(folder: Path, begin: str, number: int, what: signal.Signals) -> str:
    """Sends its process a signal before a step.

    Args:
        folder: where changes are steps.
        begin: what the path of the first step that counts holds.
        number: of the step, from 0.
        what: SIGKILL or SIGSTOP.
    """
    return f"{_AT}\nat_a_step({str(folder)!r}, {begin!r}, {number}, {int(what)}, None)\n"


def steps_to(log: Path, folder: Path, begin: str) -> str:
    """Writes each step into a file, a line for each, and does nothing else."""
    return f"{_AT}\nat_a_step({str(folder)!r}, {begin!r}, -1, 0, {str(log)!r})\n"


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Waits for a process that stops itself; fails if it ends instead."""
    how = os.WSTOPPED | os.WEXITED | os.WNOWAIT
    ended = os.waitid(os.P_PID, process.pid, how)
    assert ended is not None and ended.si_code == os.CLD_STOPPED, "it never came to that step"
