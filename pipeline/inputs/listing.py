"""What lies in folders, alike for this machine's and for remote stores."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from glossator.model.store import is_local, protocols

_FINGERPRINTS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "generation")
_BROKEN = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Entry(NamedTuple):
    """One name in a folder."""

    name: str
    path: str
    kind: Literal["file", "folder", "broken", "other"]
    """Of what a link leads to; `broken` if that is nothing."""
    size: int = 0
    real: str = ""
    """The path that a link leads to; empty if this is no link, or a remote one."""
    fingerprint: str = ""
    """Changes with the content; empty where only another question to the store would tell."""


Entries = Callable[[str], list[Entry]]
"""Lists a folder, by its path. Raises OSError, never passes over what it may not see."""


def is_hidden(name: str) -> bool:
    """Whether readers of folders pass over a name: `_SUCCESS`, `_rejects`, `.tmp`."""
    return (
        name.startswith(".")
        or (name.startswith("_") and "=" not in name)
        or name.endswith("._COPYING_")  # HDFS is still writing it
    )


def entry_of(fs: Any, path: str) -> Entry | None:
    """What a path names; None if nothing.

    Raises:
        OSError: it can't be seen whether there is anything.
    """
    if is_local(fs):
        name, linked = path.rpartition("/")[2], os.path.islink(path)  # noqa: PTH114
        try:
            return _local_entry(name, path, os.stat(path), linked)  # noqa: PTH116 - speed
        except OSError as error:
            if linked and error.errno in _BROKEN:
                return _broken(name, path)
            if error.errno in (*_BROKEN, errno.ENAMETOOLONG):
                return None
            raise
    try:
        return _remote_entry(fs, path, fs.info(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def entries_of(fs: Any) -> Entries:
    """How the folders of a store are listed, a request each where it is remote."""
    return _local_entries if is_local(fs) else lambda folder: _remote_entries(fs, folder)


def entries_below(fs: Any, folder: str) -> Entries:
    """How a folder and all below it are listed: with one listing where the store has it."""
    if is_local(fs) or not _lists_all_below(fs):
        return entries_of(fs)
    tree: dict[str, dict[str, Entry]] = {folder: {}}
    for path, info in fs.find(folder, detail=True).items():
        if info["type"] != "file" or path.endswith("/") or not path.startswith(folder):
            continue  # an object that stands for a folder
        *parents, _ = path[len(folder) :].strip("/").split("/")
        above = folder
        for parent in parents:
            below = f"{above}/{parent}"
            tree[above].setdefault(parent, Entry(parent, below, "folder"))
            tree.setdefault(below, {})
            above = below
        entry = _remote_entry(fs, path, info)
        tree[above][entry.name] = entry
    return lambda path: list(tree.get(path, {}).values())


def real_path(fs: Any, path: str) -> str:
    """A path without links; remote ones as they are."""
    return os.path.realpath(path) if is_local(fs) else path


def _local_entries(folder: str) -> list[Entry]:
    found = []
    with os.scandir(folder) as listing:
        for entry in listing:
            linked = entry.is_symlink()
            try:
                if not linked and entry.is_dir():
                    found.append(Entry(entry.name, entry.path, "folder"))
                else:
                    found.append(_local_entry(entry.name, entry.path, entry.stat(), linked))
            except OSError as error:
                if error.errno not in _BROKEN:
                    raise
                if linked:  # else it was removed since
                    found.append(_broken(entry.name, entry.path))
    return found


def _local_entry(name: str, path: str, status: os.stat_result, linked: bool) -> Entry:
    real = os.path.realpath(path) if linked else ""
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, path, "folder", real=real)
    if not stat.S_ISREG(status.st_mode):
        return Entry(name, path, "other", real=real)
    # fsspec gives the time as a float, too coarse for two writes in a row
    return Entry(name, path, "file", status.st_size, real, f"mtime_ns:{status.st_mtime_ns}")


def _broken(name: str, path: str) -> Entry:
    return Entry(name, path, "broken", real=os.readlink(path))  # noqa: PTH115 - as it is written


def _remote_entries(fs: Any, folder: str) -> list[Entry]:
    found = []
    for info in fs.ls(folder, detail=True):
        path = info["name"].rstrip("/")
        if path == folder.rstrip("/"):  # an object that stands for the folder itself
            continue
        if info["type"] not in ("file", "directory"):  # a link
            info = {**fs.info(path), "name": path}
            if info["type"] == "directory":  # may lead round and round
                info["type"] = "other"
        found.append(_remote_entry(fs, path, info))
    return found


def _remote_entry(fs: Any, path: str, info: Mapping[str, Any]) -> Entry:
    name = path.rstrip("/").rpartition("/")[2]
    if info["type"] == "directory":
        return Entry(name, path, "folder")
    if info["type"] != "file":
        return Entry(name, path, "other")
    size = info["size"]
    if size is None:  # a web page's links
        size = fs.info(path)["size"]
    if size is None:
        raise OSError(f"{path}: the store does not say how large it is")
    known = next((key for key in _FINGERPRINTS if info.get(key)), None)
    fingerprint = f"{known.lower()}:{info[known]}" if known else ""
    return Entry(name, path, "file", size, "", fingerprint)


def _lists_all_below(fs: Any) -> bool:
    """Whether `find` is one listing. Else it is a walk, which passes over what it may not see."""
    if isinstance(fs, AsyncFileSystem):
        return type(fs)._find is not AsyncFileSystem._find and "http" not in protocols(fs)
    return type(fs).find is not AbstractFileSystem.find
