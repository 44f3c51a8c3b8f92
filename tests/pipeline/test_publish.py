from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from outputs import NEW, NEW_RUN, OLD, OLD_RUN, expected, manifest, part, stage, tree, visible

from glossator.model.errors import UsageError
from glossator.pipeline.errors import ReconcileError
from glossator.pipeline.outputs import publish as publishing
from glossator.pipeline.outputs.lock import lock
from glossator.pipeline.outputs.publish import (
    check_output,
    publish,
    published,
    recover,
    state,
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with the old run published, the new one staged, and a file of the user's."""
    out = tmp_path / "out"
    publish(str(out), OLD_RUN, stage(str(out), OLD_RUN, OLD))
    (out / "part-of-the-user.parquet").write_bytes(b"mine")
    stage(str(out), NEW_RUN, NEW)
    return out


USERS = {"part-of-the-user.parquet": b"mine"}


def test_publish_over_an_earlier_run(out: Path) -> None:
    assert visible(out) == {**expected(OLD_RUN, OLD), **USERS}
    assert state(str(out), OLD_RUN) == "published"
    assert state(str(out), NEW_RUN) == "resumable"
    assert state(str(out), "c" * 16) == "new"
    publish(str(out), NEW_RUN, manifest(NEW_RUN, NEW))
    assert tree(out) == {**expected(NEW_RUN, NEW), **USERS}
    assert state(str(out), NEW_RUN) == "published"
    assert state(str(out), OLD_RUN) == "new"
    assert published(str(out)) == manifest(NEW_RUN, NEW)


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
            assert steps > 15
            return
        yield steps, copy


def publish_new(out: str) -> None:
    publish(out, NEW_RUN, manifest(NEW_RUN, NEW))


def test_killed_at_every_step_and_recovered(out: Path, tmp_path: Path) -> None:
    after = {**expected(NEW_RUN, NEW), **USERS}
    journalled = 0
    for _, copy in killed_everywhere(out, tmp_path, publish_new):
        if (copy / "_publishing.json").exists():
            journalled += 1
            if (copy / "_SUCCESS").exists():  # a reader that honours it sees one run, whole
                assert visible(copy) in ({**expected(OLD_RUN, OLD), **USERS}, after)
            assert recover(str(copy)) == NEW_RUN
        else:
            untouched = {k: v for k, v in visible(copy).items() if not k.endswith(".tmp")}
            assert untouched in ({**expected(OLD_RUN, OLD), **USERS}, after)
            assert recover(str(copy)) is None
            if untouched != after:
                assert state(str(copy), NEW_RUN) == "resumable"
                publish_new(str(copy))
        assert tree(copy) == after
        assert recover(str(copy)) is None
    assert journalled > 10


def test_killed_again_while_it_recovers(out: Path, tmp_path: Path) -> None:
    after = {**expected(NEW_RUN, NEW), **USERS}
    for steps, copy in killed_everywhere(out, tmp_path, publish_new):
        if steps % 4 or not (copy / "_publishing.json").exists():
            continue
        again = 0
        while in_child(lambda copy=copy: recover(str(copy)), again):  # type: ignore[misc]
            again += 1
        recover(str(copy))
        assert tree(copy) == after


def test_first_publication_killed_has_no_success(tmp_path: Path) -> None:
    first = tmp_path / "first"
    stage(str(first), NEW_RUN, NEW)
    for _, copy in killed_everywhere(first, tmp_path, publish_new):
        assert (published(str(copy)) is None) == (not (copy / "_SUCCESS").exists())
        if (copy / "_SUCCESS").exists():
            assert visible(copy) == expected(NEW_RUN, NEW)
        check_output(str(copy))


def test_run_that_is_not_whole_is_not_published(out: Path) -> None:
    (out / "_staging" / NEW_RUN / part(1, "b")).write_bytes(b"shorter")
    (out / "_staging" / NEW_RUN / part(1, "b")).write_bytes(b"short")
    before = tree(out)
    with pytest.raises(ReconcileError, match=rf"{part(1, 'b')} is not whole in staging"):
        publish_new(str(out))
    assert tree(out) == before


def test_damaged_publication_is_not_published(out: Path) -> None:
    (out / part(2, "a")).unlink()
    assert state(str(out), OLD_RUN) == "new"
    publish(str(out), OLD_RUN, stage(str(out), OLD_RUN, OLD))
    assert tree(out) == {**expected(OLD_RUN, OLD), **USERS}


def test_same_run_published_again_after_a_kill_takes_the_new_files(out: Path) -> None:
    """`_SUCCESS` and the manifest of the run stand there already: they prove nothing."""
    (out / part(2, "a")).write_bytes(b"damage")
    files = stage(str(out), OLD_RUN, OLD)
    journalled = 0
    for _, copy in killed_everywhere(out, out.parent, lambda o: publish(o, OLD_RUN, files)):
        if recover(str(copy)):
            journalled += 1
            assert visible(copy) == {**expected(OLD_RUN, OLD), **USERS}
    assert journalled > 10


def test_lost_file_is_reported_and_not_published(out: Path) -> None:
    publishing.put_bytes(
        fsspec.filesystem("file"), f"{out}/_publishing.json", b'{"run_id": "%s"}' % NEW_RUN.encode()
    )
    text = manifest(NEW_RUN, NEW).to_json()
    (out / "_staging" / NEW_RUN / "_manifest.json").write_text(text)
    (out / "_staging" / NEW_RUN / part(1, "b")).unlink()
    with pytest.raises(ReconcileError, match=r"is lost: remove .*_publishing\.json and run again"):
        recover(str(out))
    assert published(str(out)) is None


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

    for name in ("put_file", "cp_file", "rm_file", "rm"):
        monkeypatch.setattr(kind, name, guarded(getattr(kind, name)))


def test_object_store_that_cannot_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("memory")
    target = "memory://publish/out"
    after = {k: v for k, v in expected(NEW_RUN, NEW).items() if v is not None}
    killed, steps = True, 0
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
        recover(target)
        if state(target, NEW_RUN) != "published":
            publish(target, NEW_RUN, files)
        assert after == {
            name.removeprefix("/publish/out/"): fs.cat_file(name) for name in fs.find("/publish")
        }
        fs.rm("/publish", recursive=True)
    assert steps > 15


def test_output_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    check_output(str(tmp_path / "none"))
    check_output(str(tmp_path))
    (tmp_path / "data.csv").write_text("a,b")
    with pytest.raises(UsageError, match=r"holds files .*\(data\.csv.*name an empty or new folder"):
        check_output(str(tmp_path))
    with pytest.raises(UsageError, match="is a file: name a folder"):
        check_output(str(tmp_path / "data.csv"))
    (tmp_path / "data.csv").unlink()
    (tmp_path / "_staging").mkdir()
    check_output(str(tmp_path))
    (tmp_path / "_staging" / "theirs").mkdir()
    with pytest.raises(UsageError, match=r"holds files .*\(_staging, "):
        check_output(str(tmp_path))
    (tmp_path / "_SUCCESS").touch()  # of another program, over what a killed run of ours left
    (tmp_path / "_staging" / ".lock").touch()
    with pytest.raises(UsageError, match=r"holds files .*\(_SUCCESS, "):
        check_output(str(tmp_path))
    (tmp_path / "_SUCCESS").unlink()
    check_output(str(tmp_path))
    (tmp_path / "_manifest.json").write_text('{"format": "something else"}')
    with pytest.raises(UsageError, match=r"_manifest\.json: its format is 'something else', not"):
        check_output(str(tmp_path))
    (tmp_path / "_manifest.json").write_text(manifest(NEW_RUN, NEW).to_json())
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
    assert (held / "_staging" / ".lock").exists()
    with lock(str(held)):  # the kernel let go of it
        assert (held / "_staging" / ".lock").read_text() == str(os.getpid())
        with pytest.raises(UsageError, match=f"process {os.getpid()} is writing"), lock(str(held)):
            pass
    assert not (held / "_staging").exists()


def test_publish_under_the_lock_leaves_only_the_output(out: Path) -> None:
    with lock(str(out)):
        publish_new(str(out))
        assert (out / "_staging" / ".lock").exists()
    assert tree(out) == {**expected(NEW_RUN, NEW), **USERS}


def test_lock_keeps_what_can_be_resumed(out: Path) -> None:
    with lock(str(out)):
        pass
    assert state(str(out), NEW_RUN) == "resumable"


def test_lock_file_that_was_removed_meanwhile_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder tidies up between our opening of the file and our locking of it."""
    import fcntl

    flock, path, calls = fcntl.flock, tmp_path / "_staging" / ".lock", []

    def slow(file: object, how: int) -> None:
        if not calls:
            path.unlink()
        calls.append(how)
        flock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", slow)
    with lock(str(tmp_path)):
        assert len(calls) == 2 and path.read_text() == str(os.getpid())


def test_lock_elsewhere_does_nothing() -> None:
    with lock("memory://locked/out"), lock("memory://locked/out"):
        assert not fsspec.filesystem("memory").exists("/locked")
