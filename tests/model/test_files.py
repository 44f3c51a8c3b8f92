"""Writing where nothing is, reading without following links, and what killed writers leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from glossator.model.errors import UsageError
from glossator.model.store import (
    atomic_write,
    put_bytes,
    read_bytes,
    temporary_of,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "is a symbolic link"),
        (lambda path: path.symlink_to("/nowhere"), "is a symbolic link"),
        (lambda path: path.mkdir(), "is not a plain file"),
        (os.mkfifo, "is not a plain file"),  # whose reader would wait for ever
    ],
)
def test_only_plain_files_are_read(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "x")
    with pytest.raises(UsageError, match=message):
        read_bytes(fsspec.filesystem("file"), str(tmp_path / "x"))


def test_read_bytes(tmp_path: Path) -> None:
    here, memory = fsspec.filesystem("file"), fsspec.filesystem("memory")
    put_bytes(here, str(tmp_path / "x"), b"content", durable=True)
    assert read_bytes(here, str(tmp_path / "x")) == b"content"
    assert read_bytes(here, str(tmp_path / "none")) is None
    put_bytes(memory, "/read/x", b"content", durable=True)
    assert read_bytes(memory, "/read/x") == b"content" and read_bytes(memory, "/read/y") is None
    memory.rm("/read", recursive=True)


def test_an_unfinished_file_says_what_it_was_to_become(tmp_path: Path) -> None:
    fs = fsspec.filesystem("file")
    with atomic_write(fs, str(tmp_path / "part-1.parquet")) as temp:
        temp.touch()
        assert temporary_of(temp.name) == "part-1.parquet"
    assert temporary_of("part-1.parquet") is None
    assert temporary_of(".hidden.tmp") is None
