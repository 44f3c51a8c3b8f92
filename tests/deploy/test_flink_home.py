"""A local cluster's folder and processes: what is the user's own, and what is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glossator.deploy.flink import private, processes, state
from glossator.deploy.flink.layout import MARK, chosen, lay_out
from glossator.deploy.flink.local import describe, stop_cluster
from glossator.deploy.flink.processes import Group
from glossator.deploy.flink.state import ClusterState
from glossator.model.errors import UsageError
from glossator.pipeline.errors import JobError

SLEEP = [sys.executable, "-c", "import time; time.sleep(300)  # as-if-flink"]
MARKED = "as-if-flink"
OTHER = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    with state.locked(made):
        pass
    return made


@pytest.fixture
def sleeper(home: Path) -> Iterator[Group]:
    """A process in a group of its own, started as a cluster's are."""
    group = processes.launch("jobmanager", SLEEP, MARKED, os.environ, home / "out")
    wait_until(lambda: processes.runs(group, processes.table()))
    yield group
    try:
        os.killpg(group.pid, signal.SIGKILL)
        os.waitpid(group.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(group: Group) -> bool:
    try:
        return os.waitpid(group.pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # reaped already
        return False


def test_folder_and_files_are_the_users_alone(home: Path, sleeper: Group) -> None:
    state.save(home, ClusterState(chosen({}), (sleeper,)))
    for path in (home, home / MARK, home / "state.json", home / "out"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    tmp_path.chmod(0o755)
    with (
        pytest.raises(UsageError, match="holds something else than a cluster"),
        state.locked(tmp_path),
    ):
        pass
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]
    assert not stop_cluster(tmp_path)


@as_root
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, OTHER, OTHER)
    with pytest.raises(UsageError, match="not a folder of this user's own"), state.locked(home):
        pass
    assert list(home.iterdir()) == []


def test_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not a folder of"), state.locked(tmp_path / "home"):
        pass


def test_links_are_not_followed(home: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("dear")
    for name in ("state.json", ".state.json.partial", "out"):
        (home / name).symlink_to(letter)
    with pytest.raises(UsageError, match=r"state\.json can't be read"):
        state.load(home)
    state.save(home, ClusterState(chosen({}), ()))
    with pytest.raises(OSError):
        processes.launch("jobmanager", SLEEP, MARKED, os.environ, home / "out")
    (home / MARK).unlink()
    (home / MARK).symlink_to(letter)
    with pytest.raises(OSError), state.locked(home):
        pass
    assert letter.read_text() == "dear"


@pytest.mark.parametrize("folder", ["conf", "log", "tmp"])
def test_links_to_folders_are_not_followed(home: Path, tmp_path: Path, folder: str) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "letter").write_text("dear")
    (home / folder).symlink_to(kept)
    flink = tmp_path / "flink"
    (flink / "conf").mkdir(parents=True)
    (flink / "conf" / "config.yaml").write_text("env:\n  all: --add-exports=x\n")
    with pytest.raises((UsageError, OSError)):
        lay_out(home, chosen({}), flink)
    assert [path.name for path in kept.iterdir()] == ["letter"]


@as_root
def test_state_of_another_user_is_not_believed(home: Path, sleeper: Group) -> None:
    state.save(home, ClusterState(chosen({}), (sleeper,)))
    os.chown(home / "state.json", OTHER, OTHER)
    with pytest.raises(UsageError, match="not a file of this user's own"):
        stop_cluster(home)
    assert alive(sleeper)


def test_stop_ends_what_was_started(home: Path, sleeper: Group) -> None:
    state.save(home, ClusterState(chosen({}), (sleeper,)))
    assert stop_cluster(home)
    assert not alive(sleeper)


@pytest.mark.parametrize(
    "changed",
    [
        {"began": "another boot 1"},
        {"began": ""},
        {"mark": "another program"},
        {"role": "worker-pool", "mark": "glossator.deploy.flink.pool --port 50000"},
    ],
)
def test_another_process_of_that_number_is_left_alone(
    home: Path, sleeper: Group, changed: dict[str, Any]
) -> None:
    state.save(home, ClusterState(chosen({}), (replace(sleeper, **changed),)))
    assert not stop_cluster(home)
    assert alive(sleeper)


@as_root
def test_another_users_process_is_left_alone(home: Path) -> None:
    other = subprocess.Popen(["sleep", "300"], user=OTHER, start_new_session=True)
    try:
        group = Group("jobmanager", other.pid, "sleep 300", processes.began(other.pid))
        state.save(home, ClusterState(chosen({}), (group,)))
        assert not stop_cluster(home)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept["groups"][0].update(pid=1),
        lambda kept: kept["groups"][0].update(pid=-1),
        lambda kept: kept["groups"][0].update(pid="12"),
        lambda kept: kept["groups"][0].update(role="sshd"),
        lambda kept: kept["groups"][0].pop("began"),
        lambda kept: kept["layout"].update(task_managers=0),
        lambda kept: kept["layout"].update(port="8081"),
        lambda kept: kept.update(groups={}),
        lambda kept: kept.update(more=1),
    ],
)
def test_state_that_is_not_what_was_written_is_refused(
    home: Path, sleeper: Group, change: Callable[[dict[str, Any]], Any]
) -> None:
    state.save(home, ClusterState(chosen({}), (sleeper,)))
    kept = json.loads((home / "state.json").read_text())
    change(kept)
    private.write(home / "state.json", json.dumps(kept).encode())
    for command in (stop_cluster, describe):
        with pytest.raises(JobError, match=r"state\.json .*delete that file"):
            command(home)
    assert alive(sleeper)


def test_commands_need_neither_beam_nor_torch() -> None:
    code = (
        "import sys, glossator.deploy.flink.__main__\n"
        "print([m for m in ('apache_beam', 'torch', 'grpc') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (said.stdout, said.stderr) == ("[]\n", "")
