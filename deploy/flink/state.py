"""What runs of a cluster, as its folder keeps it from one command to the next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from glossator.deploy.flink import private
from glossator.deploy.flink.layout import MARK, ClusterLayout, claim
from glossator.deploy.flink.processes import Group
from glossator.model.errors import UsageError
from glossator.model.typed_json import TypedJsonError, from_json, loads
from glossator.pipeline.errors import JobError

_FILE = "state.json"


@dataclass(frozen=True)
class ClusterState:
    """What was started."""

    layout: ClusterLayout
    groups: tuple[Group, ...]


def load(home: Path) -> ClusterState | None:
    """What is kept in a cluster's folder; None where nothing was started.

    Raises:
        UsageError: the file is a link, or another user's.
        JobError: it holds something else.
    """
    file = home / _FILE
    kept = private.read(file)
    if kept is None:
        return None
    try:
        state = from_json(ClusterState, loads(kept))
    except TypedJsonError as error:
        raise JobError(
            f"{file} is not what was written there ({error}): end the cluster's processes by hand"
            " and delete that file"
        ) from error
    if not {group.role for group in state.groups} <= set(state.layout.roles()):
        raise JobError(f"{file} has processes that are no part of a cluster: delete that file")
    return state


def save(home: Path, state: ClusterState) -> None:
    """Keeps what runs."""
    private.write(home / _FILE, json.dumps(asdict(state), indent=1).encode())


def forget(home: Path) -> None:
    """Nothing runs any more."""
    (home / _FILE).unlink()


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Makes the folder a cluster's, and keeps other commands from changing it meanwhile.

    Raises:
        UsageError: it holds something else, or another command is at work there.
    """
    import fcntl  # not everywhere that this module can be imported

    claim(home)
    with os.fdopen(private.open_file(home / MARK, os.O_RDWR), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{home}: another start or stop is at work there: wait until it is done"
            ) from error
        yield
