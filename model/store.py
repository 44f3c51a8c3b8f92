"""Files by URI: where they are, how they are listed, and how they appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from glossator.model.errors import UsageError

_RENAMING = {"hdfs", "webhdfs"}
"""Remote stores that show a file while it is written, and rename atomically."""


def open_store(uri: str) -> tuple[Any, str]:
    """The fsspec file system that a URI names, and the path there.

    Raises:
        UsageError: no file system is known by that protocol, or its package is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{uri}: {error}") from error
    return fs, path


def is_local(fs: Any) -> bool:
    """Whether paths of this fsspec file system are paths of this machine."""
    return "file" in protocols(fs)


def absolute_uri(uri: str) -> str:
    """A local path made absolute: workers may stand in another folder. Other URIs as they are."""
    fs, path = open_store(uri)
    return path if is_local(fs) else uri


def protocols(fs: Any) -> tuple[str, ...]:
    """The names that this fsspec file system has in URIs."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


@contextmanager
def atomic_write(fs: Any, target: str) -> Iterator[Path]:
    """A local file to write, which becomes `target` once it is whole, and vanishes on an error.

    What computes may fail half-way, and another attempt at the same may be done already: a
    remote store only ever gets whole files.
    """
    folder, name = PurePosixPath(target).parent, PurePosixPath(target).name
    mark = f"{uuid.uuid4().hex}.tmp"
    if is_local(fs):
        Path(folder).mkdir(parents=True, exist_ok=True)
    temp = Path(folder if is_local(fs) else tempfile.gettempdir(), f".{name}.{mark}")
    try:
        yield temp
        if is_local(fs):
            temp.replace(target)
        elif _renames(fs):
            fs.put_file(str(temp), f"{folder}/.{name}.{mark}")
            move(fs, f"{folder}/.{name}.{mark}", target)
        else:
            fs.put_file(str(temp), target)
    finally:
        temp.unlink(missing_ok=True)


def put_bytes(fs: Any, target: str, data: bytes) -> None:
    """Write a small file at once."""
    with atomic_write(fs, target) as temp:
        temp.write_bytes(data)


def move(fs: Any, source: str, target: str) -> None:
    """Put a file in another's place; object stores, which can't rename, keep the source too."""
    if is_local(fs):
        Path(target).parent.mkdir(exist_ok=True)
        os.replace(source, target)  # noqa: PTH105 - both are strings of fsspec
    elif _renames(fs):
        if fs.exists(target):  # HDFS renames onto nothing
            fs.rm_file(target)
        fs.mv(source, target)
    else:
        fs.cp_file(source, target)


def file_sizes(fs: Any, folder: str) -> dict[str, int]:
    """The files directly in a folder, by name; none if there is no such folder."""
    fs.invalidate_cache()
    try:
        infos = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return {}
    return {
        PurePosixPath(info["name"]).name: info["size"] for info in infos if info["type"] == "file"
    }


def redacted_text(text: str) -> str:
    """A text whose URIs hold no secrets."""
    return text


def _renames(fs: Any) -> bool:
    return bool(_RENAMING.intersection(protocols(fs)))
