"""A local run opens no door: no socket of the process listens, on any address family."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in own:
                found.add(f"{kind} {fields[1]}")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
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
        return len(list(out.glob("_staging/*/_records/*.json"))) > 20

    wait_for(done, process)
    run = big_job.end(process)
    assert run.returncode == 0, run.stderr
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_local_run_listens_nowhere(
    workers: str, tmp_path: Path, big_job: Any, wait_for: Wait
) -> None:
    assert seen(big_job, tmp_path / "out", wait_for, f"--workers={workers}") == set()


def test_a_socket_would_be_seen(tmp_path: Path, big_job: Any, wait_for: Wait) -> None:
    """Beam's own local workers listen, for those who ask for them."""
    flags = ("--direct_running_mode=multi_threading",)
    assert len(seen(big_job, tmp_path / "out", wait_for, *flags)) >= 4
