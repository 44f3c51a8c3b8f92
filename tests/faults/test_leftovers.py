"""What a killed job leaves, and that the next one removes it, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jobs import files_of, wait_for
from outputs import current

Files = Callable[[Path], dict[str, bytes]]
Undisturbed = tuple[dict[str, bytes], float]
Wait = Callable[..., None]


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    """A folder for temporary files that only this test uses."""
    temp = tmp_path / "temp"
    temp.mkdir()
    return temp


@pytest.fixture
def environment(temp: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temp)}


def kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate(timeout=60)


HOLD = """
import sys, tempfile
from glossator.model import temporary
with temporary.everything():
    temporary.folder().joinpath("file").touch()
    tempfile.mkdtemp(prefix="beam-temp")
    print(temporary.folder(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has temporary files, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        kill(process)


def next_process(environment: dict[str, str]) -> None:
    """One that needs no temporary file itself."""
    code = "from glossator.model import temporary; temporary.remove_abandoned()"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_temporary_files_of_a_killed_job_are_removed_by_the_next(
    tmp_path: Path, temp: Path, environment: dict[str, str], big_job: Any, small_job: Any
) -> None:
    """A job that writes to a remote store has its parts on this machine first."""
    process = big_job.start("memory://killed/out", env=environment)
    wait_for(lambda: any(temp.glob("glossator-*/.part-*.tmp")), process)
    kill(process)
    (left,) = temp.iterdir()
    assert left.name.startswith(f"glossator-{process.pid}-") and list(left.iterdir())
    assert left.stat().st_mode & 0o777 == 0o700
    assert small_job.run(tmp_path / "out", env=environment).returncode == 0
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_job_leaves_no_temporary_file(
    number: signal.Signals, temp: Path, environment: dict[str, str], big_job: Any
) -> None:
    process = big_job.start("memory://stopped/out", env=environment)
    wait_for(lambda: any(temp.glob("glossator-*/.part-*.tmp")), process)
    process.send_signal(number)
    assert big_job.end(process).returncode == 1
    assert list(temp.iterdir()) == []


def test_a_failed_and_a_refused_job_leave_no_temporary_file_but_a_log_that_is_named(
    tmp_path: Path, temp: Path, environment: dict[str, str], small_job: Any
) -> None:
    assert small_job.run(tmp_path / "out", "--text", "none", env=environment).returncode == 2
    assert list(temp.iterdir()) == []
    (small_job.inputs / "bad.parquet").touch()
    assert small_job.run(tmp_path / "out", env=environment).returncode == 3
    assert list(temp.iterdir()) == []
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "_runs").touch()
    run = small_job.run(tmp_path / "blocked", env=environment)
    assert run.returncode in (1, 2)
    assert all(str(path) in run.stderr for path in temp.iterdir())


def test_folders_of_processes_that_live_stay(temp: Path, environment: dict[str, str]) -> None:
    with holder(environment) as (process, folder):
        assert folder.parent == temp
        assert [path.name for path in folder.glob("beam-temp*")]
        next_process(environment)
        assert (folder / "file").exists()
        # in another container that shares the folder, its number may be nobody's
        renamed = folder.with_name(f"glossator-999999999-1-{folder.name.rpartition('-')[2]}")
        folder.rename(renamed)
        next_process(environment)
        assert (renamed / "file").exists()
        kill(process)
        next_process(environment)
    assert list(temp.iterdir()) == []


def test_a_number_that_is_another_process_by_now_does_not_keep_a_folder(
    temp: Path, environment: dict[str, str]
) -> None:
    (temp / f"glossator-{os.getpid()}-1-00000000").mkdir(mode=0o700)
    next_process(environment)
    assert list(temp.iterdir()) == []


def test_what_only_looks_like_ours_stays(
    tmp_path: Path, temp: Path, environment: dict[str, str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    (temp / "glossator-999999999-1-00000000").symlink_to(theirs)
    (temp / "glossator-999999999-1-00000001").touch()
    for name in ("glossator-notes", "glossator-1-2-xyz", "other-999999999-1-00000000"):
        (temp / name).mkdir()
    dead = temp / "glossator-999999999-1-00000002"
    dead.mkdir()
    (dead / "link").symlink_to(theirs)
    before = {path.name for path in temp.iterdir()}
    next_process(environment)
    assert {path.name for path in temp.iterdir()} == before - {dead.name}
    assert (theirs / "file").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_folders_of_other_users_stay(temp: Path, environment: dict[str, str]) -> None:
    other = temp / "glossator-999999999-1-00000000"
    other.mkdir()
    os.chown(other, 12345, 12345)
    next_process(environment)
    assert other.exists()


def test_unfinished_files_of_a_killed_job_are_removed_by_the_next(
    tmp_path: Path, big_job: Any, undisturbed: Undisturbed
) -> None:
    out = tmp_path / "out"
    process = big_job.start(out)
    wait_for(lambda: any(out.glob("_runs/*/_records/*.json")), process)
    kill(process)
    (run,) = (path.parent for path in out.glob("_runs/*/_plan.json"))
    mark = f"{'0' * 32}.tmp"
    ours = [
        *(
            run / folder / f".part-00000-000000000000.parquet.{mark}"
            for folder in (".", "_rejects")
        ),
        run / "_records" / f".part-00000-000000000000.json.{mark}",
        *(out / f".{name}.{mark}" for name in ("_current.json", "_SUCCESS")),
    ]
    for path in ours:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    theirs = [out / f".notes.txt.{mark}", out / ".hidden.tmp"]
    for path in theirs:
        path.touch()
    second = big_job.start(out)
    assert "resuming" in second.stderr.readline()
    wait_for(lambda: not any(path.exists() for path in ours), second)
    assert big_job.end(second).returncode == 0
    assert files_of(out) == undisturbed[0]
    assert not list(out.rglob(f"*{mark}")) or list(out.rglob(f"*{mark}")) == theirs[:1]
    assert all(path.exists() for path in theirs)
    assert not list(out.rglob("_plan.json"))


def test_a_run_that_was_given_up_goes_when_another_is_published(
    tmp_path: Path, other_bundle: Path, small_job: Any, big_job: Any
) -> None:
    """Also where something has taken our mark away."""
    out = tmp_path / "out"
    process = big_job.start(out, "--model", other_bundle)
    wait_for(lambda: any(out.glob("_runs/*/_records/*.json")), process)
    kill(process)
    (mark,) = out.glob("_runs/_glossator.json")
    mark.unlink()
    (given_up,) = (path.parent for path in out.glob("_runs/*/_plan.json"))
    theirs = out / "_runs" / "theirs"
    theirs.mkdir()
    run = small_job.run(out)
    assert run.returncode == 0, run.stderr
    assert f"left alone in {out}/_runs: theirs" in run.stderr
    assert not given_up.exists() and theirs.exists() and current(out).exists()
    shutil.rmtree(theirs)
    assert json.loads(small_job.run(out, "--json").stdout)["state"] == "unchanged"
