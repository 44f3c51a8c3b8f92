"""An Iceberg table, by pyiceberg and the catalog that its own configuration describes."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record

from glossator.model.errors import GlossatorError, UsageError
from glossator.model.store import is_local, open_store
from glossator.pipeline.errors import StoreError
from glossator.pipeline.inputs.discover import shown
from glossator.pipeline.outputs.tables.columns import DATE
from glossator.pipeline.outputs.tables.names import TableName
from glossator.pipeline.outputs.tables.table import (
    RUN,
    RUN_DATE,
    ConflictError,
    Held,
    Part,
    Rows,
)

if TYPE_CHECKING:
    from pyiceberg.table import Table, Transaction

_MAPPING = "schema.name-mapping.default"
"""The table's property that finds the columns of files without Iceberg's ids, which ours are."""
_EPOCH = datetime.date(1970, 1, 1)

logging.getLogger("pyiceberg").setLevel(logging.ERROR)  # a conflict is told by us, where it matters


class IcebergLabels:
    """The table of a catalog, as it was when it was opened; see `table.Table`."""

    def __init__(self, name: TableName) -> None:
        self.name = name
        catalog, _, self._identifier = name.place.partition(".")
        try:
            self._catalog = load_catalog(catalog)
        except Exception as error:  # of whichever library the catalog has
            raise UsageError(
                f"{name}: there is no such catalog: {_line(error)}: describe it as pyiceberg asks"
                " for, e.g. in ~/.pyiceberg.yaml",
                parameter="table",
            ) from error
        with _failing(name):
            try:
                self._table: Table | None = _untried(self._catalog.load_table(self._identifier))
            except NoSuchTableError:
                self._table = None

    @property
    def schema(self) -> pa.Schema | None:
        """Its columns."""
        return None if self._table is None else self._table.schema().as_arrow()

    @property
    def partitions(self) -> list[str]:
        """The columns that it is partitioned by, or what is made of them."""
        if self._table is None:
            return []
        schema = self._table.schema()
        return [
            schema.find_column_name(field.source_id) or field.name
            if isinstance(field.transform, IdentityTransform)
            else f"{field.transform} of {schema.find_column_name(field.source_id)}"
            for field in self._table.spec().fields
        ]

    def place_of(self, uri: str) -> str:
        """A file's URI; that of a local one begins with `file://`."""
        fs, path = open_store(uri)
        return f"file://{path}" if is_local(fs) else uri

    def require_place(self, out: str, date: str | None) -> None:
        """Refuse a place whose name pyiceberg would not find again."""
        if wrong := sorted(set("#?") & set(out)):
            raise UsageError(
                f"{shown(out)}: {wrong[0]} in its name is not read by Iceberg: name another",
                parameter="output",
            )

    def held(self, date: str | None) -> Held | None:
        """What it holds of a date."""
        if self._table is None:
            return None
        with _failing(self.name):
            runs = (said[RUN] for said in self._commits() if said.get(RUN_DATE) == (date or ""))
            return Held(next(runs, None), frozenset(file.file_path for file in self._files(date)))

    def replace(self, rows: Rows, schema: pa.Schema) -> None:
        """Names a run's parts in place of what it holds of the date, in one commit."""
        with _failing(self.name):
            if self._table is None:
                self._create(rows, schema)
                return
            with self._table.transaction() as transaction:
                if schema != self.schema:
                    with transaction.update_schema() as update:
                        update.union_by_name(schema)
                self._put(transaction, rows, self._files(rows.date))

    def named(self) -> set[str]:
        """The files of all snapshots that it has, of its tags and branches too."""
        if self._table is None:
            return set()
        with _failing(self.name):
            io = self._table.io
            manifests = {
                manifest.manifest_path: manifest
                for snapshot in self._table.metadata.snapshots
                for manifest in snapshot.manifests(io)
            }
            return {
                entry.data_file.file_path
                for manifest in manifests.values()
                for entry in manifest.fetch_manifest_entry(io)
            }

    def _create(self, rows: Rows, schema: pa.Schema) -> None:
        namespace = self._identifier.rpartition(".")[0]
        self._catalog.create_namespace_if_not_exists(namespace)
        with self._catalog.create_table_transaction(self._identifier, schema) as transaction:
            if rows.date is not None:
                with transaction.update_spec() as update:
                    update.add_identity(DATE)
            self._put(transaction, rows, [])

    def _put(self, transaction: Transaction, rows: Rows, replaced: list[DataFile]) -> None:
        if _MAPPING not in transaction.table_metadata.properties:
            mapping = transaction.table_metadata.schema().name_mapping
            transaction.set_properties({_MAPPING: mapping.model_dump_json()})
        if not rows.parts and not replaced:
            return
        said = {RUN: rows.run_id, RUN_DATE: rows.date or ""}
        spec = transaction.table_metadata.default_spec_id
        with transaction.update_snapshot(snapshot_properties=said).overwrite() as overwrite:
            for file in replaced:
                overwrite.delete_data_file(file)
            for part in rows.parts:
                overwrite.append_data_file(_data_file(part, rows.date, spec))

    def _files(self, date: str | None) -> list[DataFile]:
        assert self._table is not None
        wanted: BooleanExpression = AlwaysTrue() if date is None else EqualTo(DATE, date)
        return [task.file for task in self._table.scan(row_filter=wanted).plan_files()]

    def _commits(self) -> Iterator[dict[str, str]]:
        """What the commits of ours that led to what it is now say of themselves, the last first."""
        assert self._table is not None
        for snapshot in ancestors_of(self._table.current_snapshot(), self._table.metadata):
            said = snapshot.summary.additional_properties if snapshot.summary else {}
            if RUN in said:
                yield said


def _untried(table: Table) -> Table:
    """The table without pyiceberg's own further tries of a commit, in memory alone.

    Where a table's isolation is `snapshot`, these let two writers of a new partition both in.
    """
    properties = {**table.metadata.properties, "commit.retry.num-retries": "0"}
    table.metadata = table.metadata.model_copy(update={"properties": properties})
    return table


def _data_file(part: Part, date: str | None, spec: int) -> DataFile:
    """A part as a manifest has it; its values are in its own footer, where readers find them.

    The date is the partition's, and not in the file: readers take it from here, as the
    specification says under "column projection".
    """
    day = [] if date is None else [(datetime.date.fromisoformat(date) - _EPOCH).days]
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=part.uri,
        file_format=FileFormat.PARQUET,
        partition=Record(*day),
        record_count=part.rows,
        file_size_in_bytes=part.bytes,
        spec_id=spec,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        lower_bounds={},
        upper_bounds={},
    )


@contextmanager
def _failing(name: TableName) -> Iterator[None]:
    """Turns what pyiceberg, the catalog and its store raise into errors of ours."""
    try:
        yield
    except (NoSuchTableError, GlossatorError):
        raise
    except (CommitFailedException, ValidationException, TableAlreadyExistsError) as error:
        raise ConflictError(f"{name}: {_line(error)}") from error
    except Exception as error:  # each catalog and store has its own
        raise StoreError(f"{name}: {_line(error)}: run it again when that is mended") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
