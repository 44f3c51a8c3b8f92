"""Which column is the text, which are the keys and of which types, and how a file gives them.

Planning looks at all files (`resolve`); reading asks of each file how its batches become those
columns (`bind`). A key's value is carried exactly or its row is rejected; a file that doesn't fit
is rejected row by row.
"""

from __future__ import annotations

import base64
import difflib
import inspect
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from glossator.model.errors import GlossatorError
from glossator.pipeline.inputs.partitions import partition_scalar, partitions_of
from glossator.pipeline.inputs.values import (
    check_int96,
    exact,
    failing,
    int96_leaves,
    is_extension,
    is_text_or_list,
    keep,
    plain_type,
    raw_text,
    shown,
    without,
)

Path = tuple[str, ...]
"""A column's name, then those of the struct fields below it."""

_MAX_LISTED = 30
_EXTENSIONS = {"arrow_extensions_enabled": True}
"""UUID and JSON stay what they are, with a PyArrow that can."""
if _EXTENSIONS.keys() - inspect.signature(pq.ParquetFile.__init__).parameters.keys():
    _EXTENSIONS = {}


class MisfitError(GlossatorError):
    """A file's columns don't fit those of the run; each of its rows is a reject."""


@dataclass(frozen=True)
class FileColumns:
    """What a file's footer and path say of its columns."""

    uri: str
    rows: int
    schema: pa.Schema | None
    """As it is read, INT96 in microseconds; None where a column's name is not UTF-8."""
    nanoseconds: pa.Schema | None
    """The same with INT96 in nanoseconds."""
    partitions: Mapping[str, str | None]
    """Of Hive, from the path: `date=2026-11-24`; None where it is the null partition."""
    error: str = ""
    """Why there is no schema."""

    @cached_property
    def alike(self) -> Hashable:
        """The same for files of which all is the same that a check looks at."""
        partitions = tuple(self.partitions.items())
        return id(self.schema), id(self.nanoseconds), partitions, self.rows > 0, self.error

    @classmethod
    def of(
        cls,
        uri: str,
        footer: bytes,
        metadata: pq.FileMetaData,
    ) -> FileColumns:
        """Describes a file.

        Args:
            uri: for messages, and for Hive's partitions.
            footer: as `plan.read_footer` gives it.
            metadata: as it was parsed from the footer.
        """
        partitions = partitions_of(uri)
        leaves = [metadata.schema.column(i) for i in range(len(metadata.schema))]
        same = all(leaf.physical_type != "INT96" for leaf in leaves)
        try:
            for leaf in leaves:  # Arrow's own schema, if there is one, may not show a name
                leaf.path.encode()
            schema = _named_enums(_schema(footer, metadata, "us"), leaves)
            nanoseconds = schema if same else _named_enums(_schema(footer, metadata, "ns"), leaves)
        except UnicodeDecodeError as error:
            why = f"a column's name is not UTF-8: {error.object!r}"
            return cls(uri, metadata.num_rows, None, None, partitions, why)
        return cls(uri, metadata.num_rows, schema, nanoseconds, partitions)

    @property
    def known_schema(self) -> pa.Schema:
        """The schema.

        Raises:
            MisfitError: there is none.
        """
        if self.schema is None:
            raise MisfitError(self.error)
        return self.schema


@dataclass(frozen=True)
class Columns:
    """The columns of a run, the same for all of its files."""

    text: str
    """A column, or a struct's field as `column.field`; a column of just that name wins."""
    keys: pa.Schema
    """Of the output: names as they were given, types that all files promote to."""
    nanosecond_keys: tuple[str, ...] = ()
    """Keys of which some INT96 has a fraction of a microsecond: these are read in nanoseconds."""
    verify_int96: bool = False
    """Whether some INT96 of a key may be lost in microseconds: each is read in three units then."""

    def to_json(self) -> dict[str, Any]:
        """For the plan in staging."""
        keys = base64.b64encode(self.keys.serialize()).decode()
        return {**vars(self), "keys": keys, "nanosecond_keys": list(self.nanosecond_keys)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Columns:
        """The inverse of `to_json`."""
        keys = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(content["keys"])))
        nanosecond_keys = tuple(content["nanosecond_keys"])
        return cls(**{**content, "keys": keys, "nanosecond_keys": nanosecond_keys})


@dataclass(frozen=True)
class Reader:
    """How to read a file's batches once."""

    projection: list[str]
    """For `iter_batches(columns=...)`; columns whose names begin alike may come as well."""
    options: dict[str, Any]
    """For `pq.ParquetFile`."""


class Rows(NamedTuple):
    """Rows of a batch in the columns of the run; all arrays are as long as the batch."""

    text: pa.Array
    """large_binary, not validated."""
    keys: list[pa.Array]
    """In the types of `Columns.keys`; null where a value can't be kept."""
    detail: pa.Array
    """string: which key can't be kept and why; null in all other rows. For rejects `key`."""


@dataclass(frozen=True)
class Binding:
    """How one file's batches become the columns of the run."""

    readers: tuple[Reader, ...]
    """One, or three where INT96 has to be verified: batches of all are read side by side."""
    _text: Path
    _keys: tuple[_Key, ...]

    def rows(self, batches: Sequence[pa.RecordBatch]) -> Rows:
        """The columns of a batch, or of a slice of it.

        Args:
            batches: the same rows from each of the readers; `aligned` gives them. Columns may
                be dictionary-encoded whatever the file's schema says.

        Raises:
            pa.ArrowException: the data is not what the footer says.
        """
        why: dict[int, list[str]] = {}
        keys = []
        for key in self._keys:
            column, lost = key.column(batches)
            keys.append(column)
            for row, detail in lost.items():
                why.setdefault(row, []).append(detail)
        text = raw_text(column_at(batches[0], self._text))
        detail = pa.nulls(len(text), pa.string())
        if why:
            details = ["; ".join(why[row]) if row in why else None for row in range(len(text))]
            detail = pa.array(details, pa.string())
        return Rows(text, keys, detail)


@dataclass(frozen=True)
class _Key:
    """Where a key comes from in a file: a column, or the file's path."""

    field: pa.Field
    path: Path
    partition: pa.Scalar | None = None
    int96: bool = False
    """Whether there are INT96 in the column."""
    nanoseconds: bool = False

    def column(self, batches: Sequence[pa.RecordBatch]) -> tuple[pa.Array, dict[int, str]]:
        """The values in the type of the output, and by row why one can't be kept."""
        if self.partition is not None:
            return pa.repeat(self.partition, batches[0].num_rows), {}
        column = column_at(batches[0], self.path)
        if not self.int96 or len(batches) == 1:
            return keep(column, self.field.type, self.field.name)
        units = [column, *(column_at(batch, self.path) for batch in batches[1:])]
        lost = list(failing(len(column), lambda rows: self._holds(units, rows)))
        why = {row: f"{self.field.name}: {shown(column[row])} {_LOST}" for row in lost}
        kept, more = keep(
            without(units[1 if self.nanoseconds else 0], lost), self.field.type, self.field.name
        )
        return kept, {**more, **why}

    def _holds(self, units: Sequence[pa.Array], rows: range) -> bool:
        some = [array.take(pa.array(rows)) for array in units]
        place = 1 if self.nanoseconds else 0
        return all(check_int96(*leaves)[place].all() for leaves in int96_leaves(some))


_LOST = "can't be kept exactly: it is out of the range of its unit, or finer"


def bind(columns: Columns, file: FileColumns) -> Binding:
    """How to read the run's columns from a file.

    Raises:
        MisfitError: the file has not these columns, or not in types that convert.
    """
    text = find_text(file.known_schema, columns.text)
    keys = tuple(_bound(columns, file, field) for field in columns.keys)
    paths = [text, *(key.path for key in keys if key.partition is None)]
    readers = [Reader(projection(paths), reading_options("us"))]
    int96 = [key.path for key in keys if key.int96]
    if columns.verify_int96 and int96:
        readers += [Reader(projection(int96), reading_options(unit)) for unit in ("ns", "s")]
    return Binding(tuple(readers), text, keys)


def int96_keys(binding: Binding) -> dict[str, Path]:
    """The keys in which there are INT96, and where they are in the file."""
    return {key.field.name: key.path for key in binding._keys if key.int96}


def aligned(
    readers: Sequence[Iterator[pa.RecordBatch]],
) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """The same rows from each of the iterators, which may cut them differently."""
    if len(readers) == 1:
        yield from ((batch,) for batch in readers[0])
        return
    held = list(next(zip(*readers, strict=False), ()))
    while held:
        rows = min(batch.num_rows for batch in held)
        yield tuple(batch.slice(0, rows) for batch in held)
        held = [batch.slice(rows) for batch in held]
        for i, reader in enumerate(readers):
            if not held[i].num_rows:
                if (following := next(reader, None)) is None:
                    return
                held[i] = following


def _find(fields: Iterable[pa.Field], name: str) -> list[Path]:
    """The columns of a name; only if there is none, the struct fields that it may be a path to."""
    fields = list(fields)
    exactly: list[Path] = [(field.name,) for field in fields if field.name == name]
    if exactly:
        return exactly
    return [
        (field.name, *below)
        for field in fields
        if name.startswith(f"{field.name}.") and pa.types.is_struct(field.type)
        for below in _find(field.type, name[len(field.name) + 1 :])
    ]


def find_column(schema: pa.Schema, name: str) -> Path:
    """Where a column is, or a struct field by its path; a column of just that name wins.

    Raises:
        MisfitError: there is none, or more than one.
    """
    found = _find(schema, name)
    if len(found) == 1 and schema.names.count(found[0][0]) == 1:
        return found[0]
    if found:
        raise MisfitError(f"{max(2, len(found))} columns {name!r}")
    names = schema.names
    folded = {known.casefold(): known for known in reversed(names)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f"; did you mean {folded[close[0]]!r}?" if close else ""
    has = f"its columns are {listed(names)}" if names else "it has no columns"
    raise MisfitError(f"no column {name!r}; {has}{hint}")


def listed(names: Sequence[str]) -> str:
    """Names for a message, not more than a few of them."""
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def type_at(schema: pa.Schema, path: Path) -> pa.DataType:
    """The type of a column or struct field."""
    field = schema.field(path[0])
    for name in path[1:]:
        field = field.type.field(name)
    return field.type


def find_text(schema: pa.Schema, text: str) -> Path:
    """Where the text is, as `find_column` finds it.

    Raises:
        MisfitError: there is no such column, or it holds no text.
    """
    path = find_column(schema, text)
    kind = type_at(schema, path)
    if not is_text_or_list(kind):
        raise MisfitError(f"column {text!r} is {kind}, not text")
    return path


def key_source(file: FileColumns, key: str) -> Path | None:
    """The column that a key is in a file; None if the file's path says it.

    Raises:
        MisfitError: it is neither.
    """
    try:
        return find_column(file.known_schema, key)
    except MisfitError:
        if key in file.partitions and not _find(file.schema or (), key):
            return None
        raise


def promoted(kind: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds both, as Arrow promotes types of files; None if there is none."""
    if kind == other:
        return kind
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(other) and kind.tz and other.tz:
        other = pa.timestamp(other.unit, kind.tz)  # moments alike, whichever zone shows them
    schemas = [pa.schema([pa.field("key", one)]) for one in (kind, other)]
    try:
        merged = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        storage = [one.storage_type if is_extension(one) else one for one in (kind, other)]
        if storage == [kind, other]:
            return None
        return promoted(*(plain_type(one) for one in storage))
    return plain_type(merged)


def _converts(kind: pa.DataType, plain: pa.DataType, wanted: pa.DataType) -> bool:
    if plain == wanted and not (pa.types.is_nested(kind) or is_extension(kind)):
        return True
    if promoted(wanted, plain) != wanted:
        return False
    try:
        exact(pa.nulls(0, kind), wanted)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True


def _bound(columns: Columns, file: FileColumns, field: pa.Field) -> _Key:
    path = key_source(file, field.name)
    if path is None:
        value = file.partitions[field.name]
        try:
            return _Key(field, (), partition_scalar(value, field.type))
        except pa.ArrowException as error:
            why = f"partition {field.name}={value} is not {field.type}, as it is in other files"
            raise MisfitError(why) from error
    kind = type_at(file.schema, path)
    int96 = kind != type_at(file.nanoseconds, path)
    nanoseconds = int96 and field.name in columns.nanosecond_keys
    if nanoseconds:
        kind = type_at(file.nanoseconds, path)
    plain = plain_type(kind)
    if file.rows and not _converts(kind, plain, field.type):
        raise MisfitError(f"column {field.name!r} is {kind}, but {field.type} in other files")
    return _Key(field, path, int96=int96, nanoseconds=nanoseconds)


def column_at(batch: pa.RecordBatch | pa.Table, path: Path) -> pa.Array:
    """A column or struct field; null where the struct is. Of a table it is chunked."""
    # by name: Parquet gives columns in the file's order, and the text may be a key as well
    column = batch.column(batch.schema.names.index(path[0]))
    return pc.struct_field(column, list(path[1:])) if len(path) > 1 else column


def projection(paths: Iterable[Path]) -> list[str]:
    """Names for `iter_batches`, none of which is within another."""
    distinct = set(paths)
    outer = [path for path in distinct if not any(path[:i] in distinct for i in range(len(path)))]
    return sorted({".".join(path) for path in outer})


def _named_enums(schema: pa.Schema, leaves: Sequence[pq.ColumnSchema]) -> pa.Schema:
    """The schema with ENUM as the strings that Parquet says they are; Arrow has them as bytes."""
    for leaf in leaves:
        if leaf.logical_type.type == "ENUM" and leaf.path in schema.names:
            place = schema.names.index(leaf.path)
            schema = schema.set(place, schema.field(place).with_type(pa.string()))
    return schema


def _schema(footer: bytes, metadata: pq.FileMetaData, unit: str) -> pa.Schema:
    file = pq.ParquetFile(pa.BufferReader(footer), metadata=metadata, **reading_options(unit))
    return file.schema_arrow


def reading_options(unit: str) -> dict[str, Any]:
    """For `pq.ParquetFile`: INT96 in this unit, and the types that have names above plain ones."""
    return {"coerce_int96_timestamp_unit": unit, **_EXTENSIONS}
