"""Publishing: one step from one run to the next, and what stays of the last."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from outputs import NEW, NEW_RUN, OLD, OLD_RUN, manifest, part, read, stage, tree

from glossator.model.errors import UsageError
from glossator.pipeline.errors import ReconcileError
from glossator.pipeline.outputs.lock import lock
from glossator.pipeline.outputs.manifest import Version
from glossator.pipeline.outputs.publish import (
    check_output,
    kept_runs,
    publish,
    published,
    settle,
    state,
)

THIRD_RUN = "c" * 16


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with the old run published, the new one staged, and a file of the user's."""
    out = tmp_path / "out"
    publish(str(out), OLD_RUN, stage(str(out), OLD_RUN, OLD))
    (out / "part-of-the-user.parquet").write_bytes(b"mine")
    stage(str(out), NEW_RUN, NEW)
    return out


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_publish_over_an_earlier_run(out: Path) -> None:
    assert read(out) == OLD
    assert state(str(out), OLD_RUN) == "published"
    assert state(str(out), NEW_RUN) == "resumable"
    assert state(str(out), THIRD_RUN) == "new"
    made = publish(str(out), NEW_RUN, manifest(NEW_RUN, NEW))
    assert read(out) == NEW and published(str(out)) == made
    assert state(str(out), NEW_RUN) == "published"
    assert names(out) == {"part-of-the-user.parquet", "_SUCCESS", "_current.json", "_runs"}
    assert not (out / "_runs" / NEW_RUN / "_records").exists()
    (before,) = made.history
    assert (before.run_id, before.rows_labelled) == (OLD_RUN, 0)
    assert replace(made, published="", history=()) == replace(manifest(NEW_RUN, NEW), published="")


def test_what_was_read_before_is_still_there(out: Path) -> None:
    """A reader who has the old run's folder reads on in it while the new one is published."""
    publish_new(str(out))
    folder = out / "_runs" / OLD_RUN
    assert {name: (folder / name).read_bytes() for name in OLD} == OLD


def test_the_run_before_comes_back_without_a_part_being_written(out: Path) -> None:
    files = manifest(OLD_RUN, OLD)
    publish_new(str(out))
    assert state(str(out), OLD_RUN) == "resumable"
    times = {p: p.stat().st_mtime_ns for p in (out / "_runs" / OLD_RUN).rglob("part-*")}
    made = publish(str(out), OLD_RUN, files)
    assert read(out) == OLD and [version.run_id for version in made.history] == [NEW_RUN]
    assert times == {p: p.stat().st_mtime_ns for p in (out / "_runs" / OLD_RUN).rglob("part-*")}


def test_runs_are_kept_for_a_while(tmp_path: Path) -> None:
    out = str(tmp_path)
    for run in "abcd":
        content = {part(0, run): run.encode()}
        publish(out, run * 16, stage(out, run * 16, content), keep_seconds=3600)
    runs = [run * 16 for run in "abcd"]
    assert {path.name for path in (tmp_path / "_runs").glob("????*") if path.is_dir()} == set(runs)
    now = published(out)
    assert now and [version.run_id for version in now.history] == runs[2::-1]
    settle(out, keep_seconds=-1)  # the last one stays in any case
    left = {path.name for path in (tmp_path / "_runs").iterdir() if path.is_dir()}
    assert left == set(runs[2:])


def test_how_long_a_run_is_kept_counts_from_when_it_was_replaced() -> None:
    def at(minute: int) -> str:
        return f"2026-01-01T00:{minute:02}:00Z"

    history = tuple(
        Version(run * 16, at(minute), "m", None, 0, 0)
        for run, minute in (("c", 20), ("b", 5), ("a", 0))
    )
    now = replace(manifest("d" * 16, {}), published=at(30), history=history)
    start = 1767225600.0  # at(0)
    for minute, kept in ((34, "dcba"), (35, "dcb"), (49, "dcb"), (50, "dc"), (90, "dc")):
        found = kept_runs(now, 29 * 60, start + 60 * minute)
        assert found == {run * 16 for run in kept}, minute


def in_child(action: Callable[[], None], steps: int) -> bool:
    """Run in a child that is killed before its `steps`-th change of the file system.

    Gives whether it was killed; False says that it came to its end.
    """
    child = os.fork()
    if child == 0:
        left = steps

        def watch(event: str, args: tuple[object, ...]) -> None:
            nonlocal left
            changes = event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
            if changes or (event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(watch)
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def killed_everywhere(
    out: Path, tmp_path: Path, action: Callable[[str], None]
) -> Iterator[tuple[int, Path]]:
    """Copies of `out` in each of which the action was killed one step later."""
    for steps in range(1000):
        copy = tmp_path / f"copy-{steps}"
        shutil.copytree(out, copy)
        if not in_child(lambda copy=copy: action(str(copy)), steps):  # type: ignore[misc]
            assert steps > 8
            return
        yield steps, copy


def publish_new(out: str) -> None:
    publish(out, NEW_RUN, manifest(NEW_RUN, NEW))


def test_killed_at_every_step_and_run_again(out: Path, tmp_path: Path) -> None:
    """A reader finds one run or the other, whole, at every step; and the next one finishes."""
    found = []
    for _, copy in killed_everywhere(out, tmp_path, publish_new):
        found.append(read(copy))
        assert found[-1] in (OLD, NEW)
        check_output(str(copy))
        if state(str(copy), NEW_RUN) == "published":
            settle(str(copy))
        else:
            publish_new(str(copy))
        assert read(copy) == NEW and (copy / "_SUCCESS").exists()
        assert not (copy / "_runs" / NEW_RUN / "_records").exists()
        assert (copy / "part-of-the-user.parquet").read_bytes() == b"mine"
    switched = found.index(NEW)
    assert OLD not in found[switched:] and NEW not in found[:switched]
    assert switched > 5 and len(found) - switched > 2


def test_killed_while_it_settles(out: Path, tmp_path: Path) -> None:
    """What is of no more use is removed in steps, each of which may be the last."""
    stage(str(out), THIRD_RUN, NEW)
    publish_new(str(out))
    (out / "_SUCCESS").unlink()
    for number, name in enumerate("def0"):
        stage(str(out), name * 16, {part(number, name): b"given up"})
    for _, copy in killed_everywhere(out, tmp_path, settle):
        assert read(copy) == NEW
        settle(str(copy))
        runs = {path.name for path in (copy / "_runs").iterdir() if path.is_dir()}
        assert runs == {OLD_RUN, NEW_RUN} and (copy / "_SUCCESS").exists()


def test_first_publication_killed(tmp_path: Path) -> None:
    first = tmp_path / "first"
    stage(str(first), NEW_RUN, NEW)
    found = []
    for _, copy in killed_everywhere(first, tmp_path, publish_new):
        found.append(read(copy))
        assert (published(str(copy)) is None) == (found[-1] is None)
        if (copy / "_SUCCESS").exists():  # which is only ever there with a publication
            assert found[-1] == NEW
        check_output(str(copy))
    assert None in found and NEW in found


def test_run_that_is_not_whole_is_not_published(out: Path) -> None:
    (out / "_runs" / NEW_RUN / part(1, "b")).write_bytes(b"short")
    before = tree(out)
    with pytest.raises(ReconcileError, match=rf"{part(1, 'b')} is not whole in staging"):
        publish_new(str(out))
    assert tree(out) == before


def test_damaged_publication_is_not_published(out: Path) -> None:
    (out / "_runs" / OLD_RUN / part(2, "a")).unlink()
    assert state(str(out), OLD_RUN) != "published"
    publish(str(out), OLD_RUN, stage(str(out), OLD_RUN, OLD))
    assert read(out) == OLD and state(str(out), OLD_RUN) == "published"


class Killed(BaseException):
    pass


def kill_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no change of the memory store happen after so many."""
    left = [steps]
    kind = type(fsspec.filesystem("memory"))

    def guarded(change: Any) -> Any:
        def change_or_die(*args: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return change(*args, **options)

        return change_or_die

    for name in ("put_file", "pipe_file", "cp_file", "rm_file", "rm"):
        monkeypatch.setattr(kind, name, guarded(getattr(kind, name)))


def read_in_memory(target: str) -> dict[str, bytes]:
    fs = fsspec.filesystem("memory")
    now = published(target)
    assert now is not None
    folder = f"{target.removeprefix('memory:/')}/_runs/{now.run_id}"
    return {file.name: fs.cat_file(f"{folder}/{file.name}") for file in now.files}


def test_object_store_that_cannot_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("memory")
    target = "memory://publish/out"
    killed, steps, seen = True, 0, set()
    while killed:
        publish(target, OLD_RUN, stage(target, OLD_RUN, OLD))
        files = stage(target, NEW_RUN, NEW)
        kill_after(steps, monkeypatch)
        try:
            publish(target, NEW_RUN, files)
            killed = False
        except Killed:
            steps += 1
        monkeypatch.undo()
        found = read_in_memory(target)
        assert found in (OLD, NEW)
        seen.add(found == NEW)
        if state(target, NEW_RUN) != "published":
            publish(target, NEW_RUN, files)
        assert read_in_memory(target) == NEW
        settle(target)
        assert not fs.find(f"/publish/out/_runs/{NEW_RUN}/_records")
        fs.rm("/publish", recursive=True)
    assert steps > 4 and seen == {True, False}


def test_output_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    check_output(str(tmp_path / "none"))
    check_output(str(tmp_path))
    (tmp_path / "data.csv").write_text("a,b")
    with pytest.raises(UsageError, match=r"holds files .*\(data\.csv.*name an empty or new folder"):
        check_output(str(tmp_path))
    with pytest.raises(UsageError, match="is a file: name a folder"):
        check_output(str(tmp_path / "data.csv"))
    (tmp_path / "data.csv").unlink()
    (tmp_path / "_runs").mkdir()
    check_output(str(tmp_path))
    (tmp_path / "_runs" / "theirs").mkdir()
    with pytest.raises(UsageError, match=r"holds files .*\(_runs, "):
        check_output(str(tmp_path))
    (tmp_path / "_SUCCESS").touch()  # of another program, over what a killed run of ours left
    (tmp_path / "_runs" / ".lock").touch()
    with pytest.raises(UsageError, match=r"holds files .*\(_SUCCESS, "):
        check_output(str(tmp_path))
    (tmp_path / "_SUCCESS").unlink()
    check_output(str(tmp_path))
    (tmp_path / "_manifest.json").write_text(manifest(NEW_RUN, NEW).to_json())
    with pytest.raises(UsageError, match=r"an earlier version of Glossator.*: name another folder"):
        check_output(str(tmp_path))


HOLD = """
import sys
from glossator.pipeline.outputs.lock import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_lock_each_other_out(tmp_path: Path) -> None:
    held = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(held)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=f"process {process.pid} is writing"), lock(str(held)):
        pass
    process.kill()
    process.wait()
    assert (held / "_runs" / ".lock").exists()
    with lock(str(held)):  # the kernel let go of it
        assert (held / "_runs" / ".lock").read_text() == str(os.getpid())
        with pytest.raises(UsageError, match=f"process {os.getpid()} is writing"), lock(str(held)):
            pass
    assert not (held / "_runs").exists()


def test_publish_under_the_lock_leaves_only_the_output(out: Path) -> None:
    with lock(str(out)):
        publish_new(str(out))
        assert (out / "_runs" / ".lock").exists()
    assert not (out / "_runs" / ".lock").exists() and read(out) == NEW


def test_lock_keeps_what_can_be_resumed(out: Path) -> None:
    with lock(str(out)):
        pass
    assert state(str(out), NEW_RUN) == "resumable"


def test_lock_file_that_was_removed_meanwhile_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder tidies up between our opening of the file and our locking of it."""
    import fcntl

    flock, path, calls = fcntl.flock, tmp_path / "_runs" / ".lock", []

    def slow(file: object, how: int) -> None:
        if not calls:
            path.unlink()
        calls.append(how)
        flock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", slow)
    with lock(str(tmp_path)):
        assert len(calls) == 2 and path.read_text() == str(os.getpid())
