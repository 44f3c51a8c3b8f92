"""A run into a table, in one commit: its parts are named where they lie, and nothing is copied.

Of the partition of the run's date (without a date, of the whole table) the files are replaced: a
reader of the table sees all of the run that was there, or all of this one.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from glossator.model.errors import UsageError
from glossator.pipeline.errors import JobError
from glossator.pipeline.outputs.current import RUNS
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.tables.columns import DATE, merged, of_table
from glossator.pipeline.outputs.tables.names import parse
from glossator.pipeline.outputs.tables.table import ConflictError, Held, Part, Rows, Table

_TRIES = 10


def open_table(name: str) -> Table:
    """A table as it is now.

    Raises:
        UsageError: this is not the name of a table, the extra is not installed, or there is no
            such catalog.
        StoreError: it can't be reached.
    """
    parsed = parse(name)
    try:
        if parsed.kind == "delta":
            from glossator.pipeline.outputs.tables.delta import DeltaLabels

            return DeltaLabels(parsed)
        from glossator.pipeline.outputs.tables.iceberg import IcebergLabels

        return IcebergLabels(parsed)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{parsed} needs the package {str(error.name).partition('.')[0]}: install the extra"
            " tables",
            parameter="table",
        ) from error


def check(name: str, out: str, date: str | None, parts: pa.Schema, *, empty: bool = False) -> None:
    """Refuse a table into which a run could not be put; writes nothing.

    Args:
        name: of the table.
        out: the output of the run.
        date: of the run.
        parts: the schema of its parts.
        empty: whether it is an empty day, with no file that tells the types of keys.

    Raises:
        UsageError: says why it could not.
        StoreError: it can't be reached.
    """
    table = open_table(name)
    table.require_place(out.rstrip("/"), date)
    _columns(table, date, parts, empty)


def commit(
    name: str, out: str, manifest: Manifest, parts: pa.Schema, still_ours: Callable[[], None]
) -> bool:
    """Make a table hold the rows of a run; a run that it holds already is not committed again.

    Args:
        name: of the table.
        out: the output in which the run's parts lie.
        manifest: of the run.
        parts: the schema of its parts.
        still_ours: raises if the output is not ours any more; called after the table was looked
            at, so that whoever takes the output over and commits makes this commit fail.

    Returns:
        Whether it was committed.

    Raises:
        JobError: another writer was quicker; nothing was committed.
        UsageError: the table has changed so that the run does not fit into it.
        StoreError: it can't be reached.
    """
    date = manifest.options.get("date")
    before: Held | None = None
    for attempt in range(_TRIES):
        table = open_table(name)
        schema = _columns(table, date, parts, not manifest.inputs)
        rows = _rows(table, out, manifest)
        held = table.held(date)
        if held is not None and _holds(held, rows):
            return False
        if attempt and held != before:
            raise JobError(
                f"{table.name}: another writer has replaced {_what(date)} meanwhile: nothing of run"
                f" {rows.run_id} is in it; run it again"
            )
        still_ours()
        try:
            table.replace(rows, schema)
            return True
        except ConflictError:  # maybe another date's commit
            before = held
    raise JobError(f"{table.name}: is changed by others all the time: run it again")


def _holds(held: Held, rows: Rows) -> bool:
    """Whether a run is there, also if its files were merged, or rows removed from them, since."""
    return held.run_id == rows.run_id or held.files == {part.uri for part in rows.parts}


def _rows(table: Table, out: str, manifest: Manifest) -> Rows:
    folder = f"{out.rstrip('/')}/{RUNS}/{manifest.run_id}"
    files = tuple(
        Part(table.place_of(f"{folder}/{part.name}"), part.rows, part.bytes)
        for part in manifest.parts
        if part.rows
    )
    return Rows(manifest.run_id, manifest.options.get("date"), files)


def _columns(table: Table, date: str | None, parts: pa.Schema, empty: bool) -> pa.Schema:
    """The columns that the table is to have.

    Raises:
        UsageError: the parts do not fit into it.
    """
    needed = of_table(parts, date, empty=empty)
    if table.schema is None:
        return needed
    if table.partitions != ([DATE] if date is not None else []):
        by = ", ".join(table.partitions) or "nothing"
        remedy = "give the date" if table.partitions == [DATE] else "name another table"
        raise UsageError(
            f"{table.name} is partitioned by {by}, and a run with{'' if date else 'out'} a date"
            f" needs {DATE if date else 'nothing'}: {remedy}",
            parameter="table",
        )
    return merged(table.schema, needed, table.name)


def _what(date: str | None) -> str:
    return "it" if date is None else f"its partition of {date}"
