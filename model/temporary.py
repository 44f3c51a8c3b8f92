"""This process's temporary files: in one folder of its own, which goes with it.

A process that is killed can't tidy up. So the folder's name says whose it is, and the next process
of the same user removes the folders of those that are dead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"glossator-(\d{1,10})-(\d{1,20})-[0-9a-f]{8}")
"""Process id, its start in the clock of `_started`, and a number that nobody can guess."""
_FOLDER_ITSELF = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

_making = threading.RLock()  # a handler of signals may interrupt its holder
_folders: dict[tuple[int, Path], tuple[Path, int]] = {}
"""By process and the folder that it lies in: the folder, and its open handle, which is locked."""


def folder() -> Path:
    """This process's own temporary folder; made on the first call, removed as the process ends.

    Raises:
        OSError: it can't be made.
    """
    # a process that was forked off has its own: it may outlive the other
    with _making:
        above = parent()
        key = (os.getpid(), above)
        if key not in _folders or not _folders[key][0].is_dir():  # a cleaner of /tmp may come by
            _remove_abandoned(above)
            _folders[key] = _make(above)
        return _folders[key][0]


def remove() -> None:
    """Removes this process's temporary folders now; `os._exit` runs nothing that would."""
    with _making:
        for (pid, _), (path, handle) in _folders.items():
            if pid == os.getpid():
                shutil.rmtree(path, ignore_errors=True)
                os.close(handle)
        _folders.clear()


def remove_abandoned() -> None:
    """Removes the folders that processes of this user left when they were killed."""
    with contextlib.suppress(OSError):
        _remove_abandoned(parent())


@contextmanager
def everything() -> Iterator[None]:
    """While it is open, all temporary files of this process and its children go to `folder`.

    For the whole process: libraries make temporary files that they leave when they are killed.
    Where the folder can't be made, they go where they always did, and whoever needs them will say
    what is wrong.
    """
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with contextlib.suppress(OSError):
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder())
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable


def parent() -> Path:
    """Where a file belongs that is to be there after this process: the one of all processes.

    Raises:
        OSError: no such folder can be written to.
    """
    path = Path(tempfile.gettempdir())
    return path.parent if _NAME.fullmatch(path.name) else path


def _make(above: Path) -> tuple[Path, int]:
    while True:
        name = f"glossator-{os.getpid()}-{_started(os.getpid()) or 0}-{secrets.token_hex(4)}"
        path = above / name
        path.mkdir(mode=0o700)
        # another process may take it for abandoned until it is locked: then there is a new one
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path, _FOLDER_ITSELF)
            if _hold(handle) and path.is_dir():
                return path, handle
            os.close(handle)


def _remove_abandoned(above: Path) -> None:
    with contextlib.suppress(OSError):
        for path in above.iterdir():
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    pid, started = map(int, path.name.split("-")[1:3])
    if _lives(pid) and _started(pid) == (started or None):
        return
    handle = os.open(path, _FOLDER_ITSELF)
    try:
        ours = os.fstat(handle).st_uid == os.getuid()
        # its process may live where we can't see it, in a container that shares this folder
        if ours and _hold(handle):
            shutil.rmtree(path)  # which follows no link
    finally:
        os.close(handle)


def _hold(handle: int) -> bool:
    """Locks a folder; the kernel lets go of it however its holder ends."""
    import fcntl  # not everywhere that this module can be imported

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks: the process's number has to do
        return True
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None if it has ended, or nobody says."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


atexit.register(remove)
