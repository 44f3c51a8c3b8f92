"""What lies in an output folder, by name; and which of it is ours to change or remove.

Others may have put their files there, and links that lead elsewhere. What is removed carries our
mark: a run's folder its plan or names of ours alone, the folder of the runs a file that says whose
it is. Links are never followed on this machine's own file systems.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from glossator.model.conditional import put_if_absent
from glossator.model.errors import UsageError
from glossator.model.store import file_sizes, is_local, read_bytes, temporary_of
from glossator.model.typed_json import TypedJsonError, from_json, loads
from glossator.pipeline.outputs.current import CURRENT, RUNS
from glossator.pipeline.outputs.manifest import MANIFEST
from glossator.pipeline.outputs.staging import (
    CANARY,
    DIGESTS,
    PACKED,
    PART_FILE,
    PLAN,
    RECORDS,
    REFUSAL,
    REJECTS,
    REPORT,
    RUN_ID,
    TABLE,
    WORKERS,
)

SUCCESS = "_SUCCESS"
"""There from the first publication on, for those who wait for one."""
LEASE = "_lease.json"
"""Who writes an output of an object store."""
LOCK = ".lock"
"""In the folder of the runs: who writes an output of this machine."""
MARK = "_glossator.json"
"""In the folder of the runs: it is ours."""
_MARK_FORMAT = "glossator-runs-1"
_OF_OUTPUT = frozenset({CURRENT, LEASE, SUCCESS})
_OF_WORK = frozenset({PLAN, REFUSAL, RECORDS, WORKERS})
_OF_RUN = _OF_WORK | {CANARY, DIGESTS, MANIFEST, REJECTS, REPORT, PACKED, TABLE}


@dataclass(frozen=True)
class _Mark:
    format: Literal["glossator-runs-1"]
    owner: str


def is_part(name: str) -> bool:
    """Whether a file in a run's folder, or in its rejects, is ours by its name."""
    return re.fullmatch(PART_FILE, name) is not None


def is_unfinished(name: str) -> bool:
    """Whether a file directly in an output is what a killed writer of ours left."""
    return temporary_of(name) in _OF_OUTPUT


def require_no_links(out: str, fs: Any, root: str, run_id: str | None = None) -> None:
    """Refuse links in the place of what we write, replace or remove.

    The output folder itself may be one. Object stores have none.

    Args:
        out: the output, for the message.
        fs: of fsspec.
        root: the output in it.
        run_id: look into the staging of this run, too.

    Raises:
        UsageError: names the link.
    """
    if not is_local(fs):
        return
    paths = [Path(root, name) for name in (RUNS, *sorted(_OF_OUTPUT))]
    paths += [Path(root, RUNS, MARK)]
    if run_id is not None:
        stage = Path(root, RUNS, run_id)
        paths += [stage, *(stage / name for name in sorted(_OF_RUN)), *_entries(stage)]
        paths += [path for path in _entries(stage / REJECTS) if is_part(path.name)]
    for path in paths:
        if path.is_symlink():
            raise UsageError(
                f"{out}: {path.relative_to(root)} is a symbolic link, which is not followed:"
                " put what it leads to in its place, or name another output",
                parameter="output",
            )


def holds_runs(fs: Any, root: str) -> bool:
    """Whether the output has a folder of runs that carries our mark, or holds a run of ours.

    Raises:
        UsageError: the mark is not one that is known here.
    """
    folder = f"{root}/{RUNS}"
    return (
        _is_marked(fs, folder)
        or LOCK in runs(fs, root)
        or any(is_run(fs, f"{folder}/{name}") for name in runs(fs, root))
    )


def mark_runs(out: str, fs: Any, root: str) -> None:
    """Say that the folder of the runs is ours, unless others had put something there before."""
    if not _is_marked(fs, f"{root}/{RUNS}") and not others_among_runs(fs, root):
        content = json.dumps({"format": _MARK_FORMAT, "owner": "glossator"}) + "\n"
        put_if_absent(f"{out.rstrip('/')}/{RUNS}/{MARK}", content.encode())


def others_among_runs(fs: Any, root: str) -> list[str]:
    """The names of what others put beside the runs: it is left alone."""
    folder = f"{root}/{RUNS}"
    return sorted(
        name
        for name in runs(fs, root) - {LOCK, MARK}
        if temporary_of(name) != MARK and not is_run(fs, f"{folder}/{name}")
    )


def tidy_runs(fs: Any, root: str) -> None:
    """Remove the folder of the runs if there is nothing in it but our mark.

    The lock stays; it goes when it is released.
    """
    folder = f"{root}/{RUNS}"
    if not runs(fs, root) - {LOCK, MARK}:
        remove_file(fs, f"{folder}/{MARK}")
    if is_local(fs) and not Path(folder).is_symlink():
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def of_table(fs: Any, root: str, run_id: str) -> bool:
    """Whether a table may name the parts of a run."""
    return TABLE in names(fs, f"{root}/{RUNS}/{run_id}")


def remove_work(fs: Any, root: str, run_id: str) -> None:
    """Remove from a published run's folder what only served to make it."""
    folder = f"{root}/{RUNS}/{run_id}"
    for name in sorted(_OF_WORK & names(fs, folder)):
        with contextlib.suppress(FileNotFoundError):
            fs.rm(f"{folder}/{name}", recursive=True)


def remove_run(fs: Any, root: str, run_id: str) -> None:
    """Remove a run's folder; what does not carry a run's mark stays.

    The plan, which is the mark, goes last: what is killed half-way can be gone on with.
    """
    folder = f"{root}/{RUNS}/{run_id}"
    if not is_run(fs, folder):
        return
    if is_local(fs):
        _remove_local_run(Path(folder))
        return
    files = [path for path in fs.find(folder) if PurePosixPath(path).name != PLAN]
    with contextlib.suppress(FileNotFoundError):
        if files:
            fs.rm(files)
    with contextlib.suppress(FileNotFoundError):
        fs.rm(folder, recursive=True)


def remove_unfinished(fs: Any, root: str, run_id: str) -> None:
    """Remove what killed writers of an output and of a run left; call it under the lock.

    Only on this machine's own file systems: elsewhere, no lock says that all writers are dead.
    """
    if not is_local(fs):
        return
    for name in filter(is_unfinished, file_sizes(fs, root)):
        remove_file(fs, f"{root}/{name}")
    stage = f"{root}/{RUNS}/{run_id}"
    for folder in (
        f"{root}/{RUNS}",
        stage,
        *(f"{stage}/{n}" for n in (DIGESTS, RECORDS, REJECTS, WORKERS)),
    ):
        for name in filter(temporary_of, file_sizes(fs, folder)):
            remove_file(fs, f"{folder}/{name}")


def remove_file(fs: Any, path: str) -> None:
    """Remove a file, or a link itself; nothing happens where there is none."""
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def runs(fs: Any, root: str) -> set[str]:
    """The names of what lies in the folder of the runs; nothing if it is a link."""
    folder = f"{root}/{RUNS}"
    return set() if is_local(fs) and Path(folder).is_symlink() else names(fs, folder)


def names(fs: Any, folder: str) -> set[str]:
    """The names of what lies directly in a folder."""
    if is_local(fs):
        return {path.name for path in _entries(Path(folder))}
    fs.invalidate_cache()
    try:
        paths = [PurePosixPath(path) for path in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return set()
    # an object store may list an empty object that stands for the folder itself
    return {path.name for path in paths if path != PurePosixPath(folder)}


def holds_files(fs: Any, folder: str) -> bool:
    """Whether there is a file below a folder.

    Some stores list folders for a while after all that was in them was removed, and a client may
    name the folder itself where it finds nothing.
    """
    fs.invalidate_cache()
    return any(PurePosixPath(path) != PurePosixPath(folder) for path in fs.find(folder))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_marked(fs: Any, folder: str) -> bool:
    text = read_bytes(fs, f"{folder}/{MARK}")
    if text is None:
        return False
    try:
        from_json(_Mark, loads(text))
    except TypedJsonError as error:
        raise UsageError(
            f"{folder}/{MARK}: does not say that this folder is ours: {error}: it was written by"
            " something else or by another version; choose another output",
            parameter="output",
        ) from error
    return True


def is_run(fs: Any, folder: str) -> bool:
    """Whether a folder is that of a run: by all that is in it, or by its plan.

    A run that was killed as it began, or as it was removed, may have no plan.
    """
    name = PurePosixPath(folder).name
    if re.fullmatch(RUN_ID, name) is None:
        return False
    if is_local(fs) and (Path(folder).is_symlink() or not Path(folder).is_dir()):
        return False
    inside = names(fs, folder)
    if all(entry in _OF_RUN or is_part(entry) or temporary_of(entry) for entry in inside):
        return True
    if PLAN in inside:
        with contextlib.suppress(TypedJsonError, UsageError):
            return loads(read_bytes(fs, f"{folder}/{PLAN}") or b"").get("run_id") == name
    return False


def _remove_local_run(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != PLAN:
            path.unlink(missing_ok=True)
    (folder / PLAN).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:  # an attempt that an engine knows no more of still writes: later
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
