"""One job at a time writes an output: by a file that the kernel locks, or by a lease.

The file lies in the folder of the runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from glossator.model.conditional import has_conditional_writes
from glossator.model.errors import UsageError
from glossator.model.store import is_local, open_store, read_bytes
from glossator.pipeline.outputs.current import RUNS
from glossator.pipeline.outputs.layout import LOCK, require_no_links, tidy_runs
from glossator.pipeline.outputs.lease import Lease, acquire

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def sole_writer(
    out: str,
    run_id: str,
    report: Callable[[str], None],
    progress_of: Callable[[str], object] = lambda run_id: None,
) -> Iterator[Lease | None]:
    """Keep other jobs from writing this output while the context is open.

    Args:
        out: the output.
        run_id: what is to be written.
        report: is told of waiting.
        progress_of: as of `lease.acquire`.

    Yields:
        The lease; None on this machine's own file systems, where there is a lock, and on stores
        without conditional writes, where there is nothing.

    Raises:
        UsageError: another process of this machine holds it, or what lies in its place is not ours.
        JobError: another run holds the lease.
    """
    fs, _ = open_store(out)
    if is_local(fs):
        with lock(out):
            yield None
    elif has_conditional_writes(fs):
        lease = acquire(out, run_id, report, progress_of)
        try:
            yield lease
        finally:
            lease.release()
    else:
        yield None


@contextmanager
def lock(out: str) -> Iterator[None]:
    """Keep other processes of this machine from writing an output of it.

    The kernel lets go of the lock however the process ends.

    Raises:
        UsageError: another process holds it, or what lies in its place is not ours.
    """
    fs, root = open_store(out)
    require_no_links(out, fs, root)
    folder, file = _acquire(Path(root, RUNS), out)
    try:
        yield
    finally:
        tidy_runs(fs, root)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(LOCK, dir_fd=folder)  # while it is held: nobody else's is removed
        os.close(folder)
        with contextlib.suppress(OSError):
            Path(root, RUNS).rmdir()
        os.close(file)


def holder_of(out: str) -> str | None:
    """Which process holds the lock of an output of this machine; None if none does.

    By the number in the lock's file: to try the lock would be in the way of who begins just then.
    """
    fs, root = open_store(out)
    try:
        said = read_bytes(fs, f"{root}/{RUNS}/{LOCK}") or b""
        os.kill(int(said), 0)
    except (OSError, UsageError, ValueError, OverflowError) as error:
        if not isinstance(error, PermissionError):
            return None
    return f"process {said.decode()} of this machine"


def _acquire(path: Path, out: str) -> tuple[int, int]:
    """Handles of the folder of the runs and of the lock in it, which is held."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            folder = os.open(path, _FOLDER)
        except FileNotFoundError:  # the last holder tidied up since
            continue
        file = None
        try:
            file = os.open(LOCK, _FILE, 0o666, dir_fd=folder)
            if _hold(file, folder, path / LOCK, out):
                return folder, file
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK, errno.EISDIR):
                _close(folder, file)
                raise
            _close(folder, file)
            raise _not_ours(path / LOCK) from error
        except BaseException:
            _close(folder, file)
            raise
        _close(folder, file)  # its last holder removed it before we had the lock: take the new one


def _close(*handles: int | None) -> None:
    for handle in handles:
        if handle is not None:
            os.close(handle)


def _hold(file: int, folder: int, path: Path, out: str) -> bool:
    """Lock the file and put our process's number into it; False if it is no longer in its place."""
    import fcntl  # not everywhere that this module can be imported

    found = os.fstat(file)
    # a second name would be that of somebody's file; so would be what is no number
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise _not_ours(path)
    said = os.pread(file, 32, 0).decode(errors="replace")
    if not re.fullmatch(r"\d*", said):
        raise _not_ours(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(file, 32, 0).decode(errors="replace")  # it may have come since
        raise UsageError(
            f"{out}: process {said or '?'} is writing this output: wait for it, or stop it",
            parameter="output",
        ) from None
    try:
        there = os.stat(LOCK, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not os.path.samestat(found, there):
        return False
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return True


def _not_ours(path: Path) -> UsageError:
    return UsageError(
        f"{path}: is not a lock of Glossator's: remove it, or name another output",
        parameter="output",
    )
