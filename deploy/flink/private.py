"""Folders and files that are the user's own: nobody else reads them, and no link is followed.

What is found is believed only where it is of the right kind and the user's. A folder that is the
user's alone can't be changed by others, so what lies below it need not be asked twice.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from glossator.model.errors import UsageError


def make_folder(path: Path) -> None:
    """Makes a folder that is the user's alone, or sees that it is one.

    Raises:
        UsageError: it is a link, a file, or another user's.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise UsageError(f"{path} is not a folder of this user's own: name another with --home")
    path.chmod(0o700)


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file that only the user reads and writes; it is made where it is missing.

    Args:
        path: in a folder of the user's own.
        flags: as `os.open` takes them.

    Raises:
        OSError: there is a link in its place, or it can't be opened.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write(path: Path, content: bytes) -> None:
    """Replaces a file by one that only the user reads."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(open_file(partial, os.O_WRONLY | os.O_EXCL), "wb") as file:
        file.write(content)
    partial.replace(path)


def read(path: Path) -> bytes | None:
    """What a file of the user's own holds; None if it is not there.

    Raises:
        UsageError: it is a link, or another user's.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} can't be read ({error.strerror}): delete it") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise UsageError(f"{path} is not a file of this user's own: delete it")
        return file.read()
