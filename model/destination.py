"""Where training writes: a folder here or in a store, looked at before the work is done."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

from glossator.model.errors import UsageError
from glossator.model.store import atomic_write, file_sizes, is_local, open_store, put_bytes

INDEX = "bundle.json"
"""Written last: without it there is no bundle."""


def check_bundle_folder(uri: str) -> None:
    """Whether a bundle can be written there.

    Raises:
        UsageError: it holds something else than a bundle, or can't be written.
    """
    fs, path = open_store(uri)
    if is_local(fs):
        _check_local(uri, Path(path))
        return
    try:
        names = file_sizes(fs, path)
        if names and INDEX not in names:
            raise _taken(uri)
        probe = f"{path.rstrip('/')}/.{uuid.uuid4().hex}.tmp"
        put_bytes(fs, probe, b"")
        fs.rm_file(probe)
    except UsageError:
        raise
    except Exception as error:  # each store has errors of its own
        why = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{uri} can't be written: {why}", parameter="output") from error


def save_bundle(bundle: Any, uri: str, written: dict[str, bytes] | None = None) -> str:
    """Writes a bundle, its index last; returns its digest.

    Args:
        bundle: a `glossator.model.bundle.Bundle`.
        uri: a folder, here or in a store.
        written: by name, the SHA-256 of the files that this process has put into the store before,
            which are not put there again; those that are put there now are added.
    """
    from glossator.model.bundle import save
    from glossator.model.bundle_index import NGRAMS

    fs, path = open_store(uri)
    if is_local(fs):
        return save(bundle, path)
    with tempfile.TemporaryDirectory() as temp:
        digest = save(bundle, temp)
        # what is replaced is no bundle in the meantime: its index has digests of other files
        files = sorted(Path(temp).iterdir(), key=lambda file: (file.name == INDEX, file.name))
        known = {} if written is None else written
        for file in files:
            content = file.read_bytes()
            sha256 = hashlib.sha256(content).digest()
            if known.get(file.name) != sha256:
                with atomic_write(fs, f"{path.rstrip('/')}/{file.name}") as copy:
                    copy.write_bytes(content)
                known[file.name] = sha256
        if NGRAMS not in {file.name for file in files} and NGRAMS in file_sizes(fs, path):
            fs.rm_file(f"{path.rstrip('/')}/{NGRAMS}")  # of an earlier model
            known.pop(NGRAMS, None)
    return digest


def check_writable(folder: str, parameter: str = "directory") -> None:
    """Whether files can be written in a folder of this machine, which need not be there yet.

    Args:
        folder: its path.
        parameter: what it is called, for the error.

    Raises:
        UsageError: they can't.
    """
    there = Path(folder)
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{folder}: {there} is a file: name a folder", parameter=parameter)
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder} can't be written: no permission in {there}", parameter=parameter
        )


def _check_local(uri: str, folder: Path) -> None:
    check_writable(str(folder), "output")
    if folder.exists() and not Path(folder, INDEX).exists() and any(folder.iterdir()):
        raise _taken(uri)


def _taken(uri: str) -> UsageError:
    return UsageError(f"{uri} holds something else than a bundle: name another", parameter="output")
