"""A Delta table, by deltalake."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    Transaction,
    create_table_with_add_actions,
)

from glossator.model.errors import UsageError
from glossator.pipeline.errors import StoreError
from glossator.pipeline.inputs.discover import shown
from glossator.pipeline.outputs.tables.columns import DATE
from glossator.pipeline.outputs.tables.names import TableName
from glossator.pipeline.outputs.tables.table import RUN, RUN_DATE, ConflictError, Held, Rows


class DeltaLabels:
    """The table of a folder, as it was when it was opened; see `table.Table`."""

    def __init__(self, name: TableName) -> None:
        self.name = name
        with _failing(name):
            try:
                self._table: DeltaTable | None = DeltaTable(name.place)
            except TableNotFoundError:
                self._table = None

    @property
    def schema(self) -> pa.Schema | None:
        """Its columns."""
        return None if self._table is None else pa.schema(self._table.schema().to_arrow())

    @property
    def partitions(self) -> list[str]:
        """The columns that it is partitioned by."""
        return [] if self._table is None else list(self._table.metadata().partition_columns)

    def place_of(self, uri: str) -> str:
        """A file's path below the table's folder."""
        return uri.removeprefix(f"{self.name.place}/")

    def require_place(self, out: str, date: str | None) -> None:
        """Refuse an output that is not where a table's own writers would put the partition.

        deltalake reads no files but those below the table's folder, and Polars takes the value of
        a partition from the names of folders: of other names it makes null.
        """
        if "%" in self.name.place:
            raise UsageError(
                f"{self.name}: deltalake does not find a folder with '%' in its name: name another",
                parameter="table",
            )
        place = self.name.place if date is None else f"{self.name.place}/{DATE}={date}"
        if out != place and not out.startswith(f"{place}/"):
            example = f"{self.name.place}/{DATE}={{date}}" if date else self.name.place
            raise UsageError(
                f"{shown(out)}: a Delta table's files lie below its own folder, those of a date in"
                f" one of that name: name the output {shown(example)}, or another table",
                parameter="output",
            )

    def held(self, date: str | None) -> Held | None:
        """What it holds of a date."""
        if self._table is None:
            return None
        with _failing(self.name):
            run = next((one[RUN] for one in self._commits() if one[RUN_DATE] == (date or "")), None)
            return Held(run, frozenset(self._files(date)))

    def replace(self, rows: Rows, schema: pa.Schema) -> None:
        """Names a run's parts in place of what it holds of the date, in one commit."""
        by = [DATE] if rows.date is not None else []
        now = int(time.time() * 1000)
        actions = [
            AddAction(
                path=part.uri,
                size=part.bytes,
                partition_values={DATE: rows.date} if by else {},
                modification_time=now,
                data_change=True,
                stats=json.dumps({"numRecords": part.rows}),
            )
            for part in rows.parts
        ]
        with _failing(self.name, commits=True):
            if self._table is None:
                create_table_with_add_actions(
                    self.name.place,
                    Schema.from_arrow(schema),
                    actions,
                    partition_by=by,
                    commit_properties=_said(rows, 0),
                )
                return
            self._table.create_write_transaction(
                actions,
                "overwrite",
                self._table.schema() if schema == self.schema else Schema.from_arrow(schema),
                by,
                [(DATE, "=", rows.date)] if by else None,
                commit_properties=_said(
                    rows, (self._table.transaction_version(_app(rows.date)) or 0) + 1
                ),
            )

    def named(self) -> set[str]:
        """Its files, and those removed from it that it still keeps for its older versions."""
        if self._table is None:
            return set()
        with _failing(self.name):
            # `vacuum` only lists here, and what lies in the folder without ever having been the
            # table's is not among it
            removed = self._table.vacuum(0, dry_run=True, enforce_retention_duration=False)
            return {*self._files(None), *(set(removed) - set(self._table.vacuum(dry_run=True)))}

    def _files(self, date: str | None) -> Iterator[str]:
        assert self._table is not None
        filters = None if date is None else [(DATE, "=", date)]
        yield from map(self.place_of, self._table.file_uris(filters))

    def _commits(self) -> Iterator[dict[str, Any]]:
        """The commits of ours, the last first."""
        assert self._table is not None
        return (one for one in self._table.history() if RUN in one and RUN_DATE in one)


def _said(rows: Rows, number: int) -> CommitProperties:
    """What a commit says of itself; two of a date that know nothing of each other conflict."""
    return CommitProperties(
        custom_metadata={RUN: rows.run_id, RUN_DATE: rows.date or ""},
        app_transactions=[Transaction(_app(rows.date), number)],
    )


def _app(date: str | None) -> str:
    return f"glossator:{date or ''}"


@contextmanager
def _failing(name: TableName, *, commits: bool = False) -> Iterator[None]:
    """Turns what deltalake raises into errors of ours."""
    try:
        yield
    except TableNotFoundError:
        raise
    except CommitFailedError as error:
        raise ConflictError(f"{name}: {_line(error)}") from error
    except (DeltaError, OSError) as error:
        if commits and "already exists" in str(error):
            raise ConflictError(f"{name}: {_line(error)}") from error
        raise StoreError(f"{name}: {_line(error)}: run it again when that is mended") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
