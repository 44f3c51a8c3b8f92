"""Runs of an output whose parts a table names: a mark in a run's folder keeps it from removal.

The mark is there before the commit, so that no table ever names what may be removed. It goes when
no version that the table keeps names a part of the run any more; then the run is an old one as all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa

from glossator.model.store import file_sizes, open_store, put_bytes, read_bytes, sync
from glossator.model.typed_json import TypedJsonError, dumps, from_json, loads
from glossator.pipeline.errors import JobError, ReconcileError
from glossator.pipeline.inputs.discover import shown
from glossator.pipeline.outputs import layout
from glossator.pipeline.outputs.current import RUNS, require_token
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.publish import missing_files
from glossator.pipeline.outputs.staging import TABLE
from glossator.pipeline.outputs.tables.commit import commit, open_table


def put(table: str, out: str, manifest: Manifest, parts: pa.Schema, token: int | None) -> None:
    """Commit a run, and give the output what the table needs no more.

    Args:
        table: its name.
        out: the output in which the run lies.
        manifest: of the run.
        parts: the schema of its parts.
        token: of the lease, where there is one.

    Raises:
        JobError: another writer was quicker; nothing was committed.
        ReconcileError: a file of the manifest is not whole; nothing was committed.
        FencedError: another run has taken the output over; nothing was committed.
    """
    fs, root = open_store(out)
    require_token(out, manifest.run_id, token)
    folder = f"{root}/{RUNS}/{manifest.run_id}"
    if missing := missing_files(out, manifest):
        raise ReconcileError(f"{out}: {missing[0]} is not whole in staging: run again")
    # what a table names has to be there even if the power fails
    sync(fs, [*(f"{folder}/{part.name}" for part in manifest.parts), folder])
    _mark(fs, folder, {*_tables(fs, folder), shown(table)})
    commit(table, out, manifest, parts, lambda: require_token(out, manifest.run_id, token))
    _release(table, out, manifest.run_id)


def _release(table: str, out: str, run_id: str) -> None:
    """Take the table from the marks of runs that it does not name any more."""
    fs, root = open_store(out)
    others = sorted(layout.runs(fs, root) - {run_id})
    folders = [f"{root}/{RUNS}/{name}" for name in others if layout.of_table(fs, root, name)]
    marked = [folder for folder in folders if shown(table) in _tables(fs, folder)]
    if not marked:
        return
    opened = open_table(table)
    named = opened.named()
    for folder in marked:
        run = f"{out.rstrip('/')}/{RUNS}/{PurePosixPath(folder).name}"
        parts = filter(layout.is_part, file_sizes(fs, folder))
        if named.isdisjoint(opened.place_of(f"{run}/{part}") for part in parts):
            _mark(fs, folder, _tables(fs, folder) - {shown(table)})


@dataclass(frozen=True)
class _Mark:
    """What `_table.json` holds."""

    format: Literal["glossator-table-1"]
    tables: tuple[str, ...]


def _tables(fs: Any, folder: str) -> set[str]:
    """The tables that may name the parts of a run, by its folder."""
    text = read_bytes(fs, f"{folder}/{TABLE}")
    if text is None:
        return set()
    try:
        return set(from_json(_Mark, loads(text)).tables)
    except TypedJsonError as error:
        raise JobError(
            f"{folder}/{TABLE}: is damaged: {error}: write the names of the tables into it, or"
            " remove it if no table names this run"
        ) from error


def _mark(fs: Any, folder: str, tables: set[str]) -> None:
    path = f"{folder}/{TABLE}"
    if not tables:
        layout.remove_file(fs, path)
    elif tables != _tables(fs, folder):
        text = dumps(asdict(_Mark("glossator-table-1", tuple(sorted(tables)))))
        put_bytes(fs, path, text.encode(), durable=True)
