"""Folders whose files are no plain input, and how they are known: outputs of ours, and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from glossator.model.store import is_local, protocols
from glossator.pipeline.inputs.listing import Entries, Entry, entries_of, entry_of, is_hidden

Names = Mapping[str, Entry]
"""The entries of a folder by name."""

CONTENT = {
    "_manifest.json": re.compile(rb'"format":\s*"glossator-output-'),
    "_current.json": re.compile(rb'"format":\s*"glossator-current-'),
}
"""What an output of ours, or a run in it, has by its first bytes."""
_RUNS = "_runs"
_RUN = re.compile(r"[0-9a-f]{16}")
_IN_STAGING = re.compile(rf"(.*/)?{_RUNS}/{_RUN.pattern}(/.*)?")
_REJECTS = "_rejects"
_FIRST_BYTES = 4096
_TABLES = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_METADATA = "metadata"
_OF_ICEBERG = re.compile(r".*\.metadata\.json(\.gz)?")


def is_output(fs: Any, names: Names, entries: Entries) -> bool:
    """Whether a folder with these names in it is an output of ours, published or being written.

    Raises:
        OSError: the store failed.
    """
    for name, content in CONTENT.items():
        if _is(names, name, "file") and content.search(_head(fs, names[name].path)):
            return True
    # before the first publication nothing of ours is visible: what is visible is not ours
    visible = any(entry.kind != "folder" and not is_hidden(name) for name, entry in names.items())
    return (
        not visible
        and _is(names, _RUNS, "folder")
        and any(_RUN.fullmatch(entry.name) for entry in entries(names[_RUNS].path))
    )


def lies_in_output(fs: Any, folder: str) -> bool:
    """Whether a folder is an output of ours or one of the folders that belong to it.

    Of an output that was never published only its runs are known here; see `is_output`.
    """
    if not folder.strip("/"):
        return False
    parent, _, name = folder.rstrip("/").rpartition("/")
    outputs = [folder, parent] if name == _REJECTS else [folder]
    return _IN_STAGING.fullmatch(folder) is not None or any(
        is_output(fs, _probe(fs, output, tuple(CONTENT)), entries_of(fs)) for output in outputs
    )


def table_format(names: Names, entries: Entries) -> str | None:
    """Of which format's table a folder with these names in it is; None if of none."""
    for name, known in _TABLES.items():
        if _is(names, name, "folder"):
            return known
    if _is(names, _METADATA, "folder"):
        inside = entries(names[_METADATA].path)
        if any(_OF_ICEBERG.fullmatch(entry.name) for entry in inside):
            return "Iceberg"
    return None


def table_above(fs: Any, folder: str) -> tuple[str, str] | None:
    """The table in which a folder lies or which it is, and its format; None if in none.

    What may not be seen above the folder is taken for no table.
    """
    if not {"http", "https"}.isdisjoint(protocols(fs)):
        return None  # a web server may answer anything to what is not there
    parts = folder.rstrip("/").split("/")
    for length in range(len(parts), 0, -1):
        place = "/".join(parts[:length])
        if place or is_local(fs):
            names = _probe(fs, place, (*_TABLES, _METADATA))
            found = table_format(names, partial(_if_allowed, entries_of(fs)))
            if found:
                return place or "/", found
    return None


def _probe(fs: Any, folder: str, names: tuple[str, ...]) -> dict[str, Entry]:
    """Those of some names that are in a folder: it may hold very many others."""
    found = {}
    for name in names:
        try:
            entry = entry_of(fs, f"{folder.rstrip('/')}/{name}")
        except PermissionError:
            continue
        if entry is not None:
            found[name] = entry
    return found


def _if_allowed(entries: Entries, folder: str) -> list[Entry]:
    try:
        return entries(folder)
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return []


def _is(names: Names, name: str, kind: str) -> bool:
    return name in names and names[name].kind == kind


def _head(fs: Any, path: str) -> bytes:
    data: bytes = fs.cat_file(path, start=0, end=_FIRST_BYTES)
    return data
