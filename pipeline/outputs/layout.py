"""What lies in an output folder, by name; and which of it is ours to change or remove.

Others may have put their files there, and links that lead elsewhere. What is removed carries our
mark: a run's folder its plan, the staging folder a file that says whose it is. Links are never
followed on this machine's own file systems.
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

from glossator.model.errors import UsageError
from glossator.model.store import file_sizes, is_local, put_if_absent, read_bytes, temporary_of
from glossator.model.typed_json import TypedJsonError, from_json, loads
from glossator.pipeline.outputs.manifest import MANIFEST
from glossator.pipeline.outputs.staging import (
    PART_FILE,
    PLAN,
    RECORDS,
    REFUSAL,
    REJECTS,
    RUN_ID,
    WORKERS,
)

STAGING = "_staging"
"""Holds runs until they are whole, each in a folder of its id."""
JOURNAL = "_publishing.json"
SUCCESS = "_SUCCESS"
LOCK = ".lock"
"""In the staging folder."""
MARK = "_glossator.json"
"""In the staging folder: it is ours."""
_MARK_FORMAT = "glossator-staging-1"
_OF_OUTPUT = frozenset({MANIFEST, JOURNAL, SUCCESS})
_OF_RUN = frozenset({PLAN, MANIFEST, REFUSAL, RECORDS, REJECTS, WORKERS})


@dataclass(frozen=True)
class _Mark:
    format: Literal["glossator-staging-1"]
    owner: str


def is_part(name: str) -> bool:
    """Whether a file in an output, or in its rejects, is ours by its name."""
    return re.fullmatch(PART_FILE, name) is not None


def is_unfinished(name: str) -> bool:
    """Whether a file in an output, or in its rejects, is what a killed writer of ours left."""
    final = temporary_of(name)
    return final is not None and (is_part(final) or final in _OF_OUTPUT)


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
    paths = [Path(root, name) for name in (STAGING, REJECTS, *sorted(_OF_OUTPUT))]
    paths += [Path(root, STAGING, MARK)]
    for folder in (Path(root), Path(root, REJECTS)):
        paths += [path for path in _entries(folder) if is_part(path.name)]
    if run_id is not None:
        stage = Path(root, STAGING, run_id)
        paths += [stage, *(stage / name for name in sorted(_OF_RUN)), *_entries(stage)]
    for path in paths:
        if path.is_symlink():
            raise UsageError(
                f"{out}: {path.relative_to(root)} is a symbolic link, which is not followed:"
                " put what it leads to in its place, or name another output",
                parameter="output",
            )


def is_staging(fs: Any, root: str) -> bool:
    """Whether the output has a staging folder that carries our mark, or holds a run of ours.

    Raises:
        UsageError: the mark is not one that is known here.
    """
    folder = f"{root}/{STAGING}"
    return (
        _is_marked(fs, folder)
        or LOCK in staged(fs, root)
        or any(_is_run(fs, f"{folder}/{name}") for name in staged(fs, root))
    )


def mark_staging(out: str, fs: Any, root: str) -> None:
    """Say that the staging folder is ours, unless others had put something there before."""
    if not _is_marked(fs, f"{root}/{STAGING}") and not others_in_staging(fs, root):
        content = json.dumps({"format": _MARK_FORMAT, "owner": "glossator"}) + "\n"
        put_if_absent(f"{out.rstrip('/')}/{STAGING}/{MARK}", content.encode())


def others_in_staging(fs: Any, root: str) -> list[str]:
    """The names of what others put into the staging folder: it is left alone."""
    folder = f"{root}/{STAGING}"
    return sorted(
        name
        for name in staged(fs, root) - {LOCK, MARK}
        if temporary_of(name) != MARK and not _is_run(fs, f"{folder}/{name}")
    )


def clear_staging(fs: Any, root: str) -> None:
    """Remove all runs from staging, and the folder where nothing else is in it.

    The lock stays; it goes when it is released.
    """
    for name in sorted(staged(fs, root)):
        remove_run(fs, root, name)
    tidy_staging(fs, root)


def tidy_staging(fs: Any, root: str) -> None:
    """Remove the staging folder if there is nothing in it but our mark."""
    folder = f"{root}/{STAGING}"
    if not staged(fs, root) - {LOCK, MARK}:
        remove_file(fs, f"{folder}/{MARK}")
    if is_local(fs) and not Path(folder).is_symlink():
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def remove_run(fs: Any, root: str, run_id: str) -> None:
    """Remove a run's staging; what does not carry a run's mark stays.

    The plan, which is the mark, goes last: what is killed half-way can be gone on with.
    """
    folder = f"{root}/{STAGING}/{run_id}"
    if not _is_run(fs, folder):
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
    for folder in (root, f"{root}/{REJECTS}"):
        for name in filter(is_unfinished, file_sizes(fs, folder)):
            remove_file(fs, f"{folder}/{name}")
    stage = f"{root}/{STAGING}/{run_id}"
    for folder in (
        f"{root}/{STAGING}",
        stage,
        *(f"{stage}/{n}" for n in (RECORDS, REJECTS, WORKERS)),
    ):
        for name in filter(temporary_of, file_sizes(fs, folder)):
            remove_file(fs, f"{folder}/{name}")


def remove_file(fs: Any, path: str) -> None:
    """Remove a file, or a link itself; nothing happens where there is none."""
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def staged(fs: Any, root: str) -> set[str]:
    """The names of what lies in the staging folder; nothing if it is a link."""
    folder = f"{root}/{STAGING}"
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


def _is_run(fs: Any, folder: str) -> bool:
    """Whether a folder in staging is that of a run: by all that is in it, or by its plan.

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
